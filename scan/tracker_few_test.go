package scan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// quiet is a cluster with a bit of everything, and whoever watches it.
func quiet(t testing.TB, exceptions ...Exception) *watching {
	t.Helper()
	m := mirror(layered())
	m.namespaces = append(m.namespaces, namespace("ops"))
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "guard", adding("SYS_ADMIN"))
	m.on("n2", "guard2", adding("SYS_ADMIN"))
	m.runs(1, "ops", "alone", "", "", privileged())
	m.inCEL("registry", "pods", "object.spec.containers.all(c, c.image.startsWith('registry.example.com/'))")
	for i := range m.pods {
		m.pods[i].ResourceVersion = "1"
	}
	m.index()
	return watch(t, m, ClusterOptions{}, exceptions...)
}

// all are changes that name everything.
func (w *watching) all() Changes {
	c := Changes{Around: true, Facts: true, AllPods: true}
	for name := range w.m.byName {
		c.Pods = append(c.Pods, name)
	}
	for kind, owners := range w.m.owners {
		c.OwnerKinds = append(c.OwnerKinds, kind)
		for _, o := range owners {
			c.Owners = append(c.Owners, OwnerName{kind, o.Namespace, o.Name})
		}
	}
	return c
}

func TestNothingIsToldWhereNothingChanged(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	for _, what := range []string{"at once", "later"} {
		wantLines(t, shorts(w.update(w.all())))
		for i := range w.m.pods {
			// Its status changed, in what nobody reads.
			w.m.pods[i].ResourceVersion += "1"
		}
		for i := range w.m.nodes {
			w.m.nodes[i].ResourceVersion += "1"
			w.m.nodes[i].Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.NewTime(w.now)}}
		}
		w.m.index()
		wantLines(t, shorts(w.update(w.all())))
		w.now = w.now.Add(time.Hour)
		wantLines(t, shorts(w.update(w.all())))
		w.tracker.updateAround(t.Context())
		if n := len(w.tracker.dirty); n > 0 {
			t.Errorf("%s: %d rows are judged again though nothing changed around them", what, n)
		}
		w.now = w.now.Add(wholeEvery)
		wantLines(t, shorts(w.update(Changes{})))
		if next := w.tracker.NextAt(); !next.IsZero() {
			t.Errorf("%s: it wants to be called at %v", what, next)
		}
	}
	w.check("after nothing")
}

// TestOnlyWhatIsTouched: each change is told of what it touches, and no more.
func TestOnlyWhatIsTouched(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(m *mirrored) Changes
		want   []string
	}{
		"a pod goes": {func(m *mirrored) Changes {
			m.pods = slices.DeleteFunc(m.pods, func(p corev1.Pod) bool { return p.Namespace == "ops" })
			return Changes{Pods: []PodName{{"ops", "alone-0"}}}
		}, []string{"resolved ops/Pod/alone-0: the workload is gone"}},
		"a pod is mended": {func(m *mirrored) Changes {
			at := slices.IndexFunc(m.pods, func(p corev1.Pod) bool { return p.Namespace == "ops" })
			m.pods[at].Spec, m.pods[at].ResourceVersion = plain(), "2"
			return Changes{Pods: []PodName{{"ops", "alone-0"}}}
		}, []string{"resolved escape-privileged ops/Pod/alone-0", "resolved privileged ops/Pod/alone-0", "verdict ops/Pod/alone-0 closed 1"}},
		"a namespace": {func(m *mirrored) Changes {
			m.namespaces = slices.Clone(m.namespaces)
			m.namespaces[len(m.namespaces)-1].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
			return Changes{Around: true}
		}, []string{"verdict ops/Pod/alone-0 exposed 1"}},
		"a policy of KubeArmor": {func(m *mirrored) Changes {
			m.blocks("ops", "{}", "sys_module")
			return Changes{Around: true}
		}, []string{"verdict ops/Pod/alone-0 exposed 1", "policy caps yes 1"}},
		"an owner": {func(m *mirrored) Changes {
			m.owners[kindOf("Deployment")] = nil
			return Changes{Owners: []OwnerName{{kindOf("Deployment"), "shop", "web"}}}
		}, []string{"resolved shop/Deployment/web: its pods stand in another row now", "verdict shop/ReplicaSet/web-1a closed 2"}},
		"a node": {func(m *mirrored) Changes {
			m.nodes = slices.Clone(m.nodes)
			m.nodes[1].Labels = map[string]string{"kubearmor.io/enforcer": "apparmor"}
			return Changes{Around: true}
		}, []string{"node n2"}},
		"pods cannot be read": {func(m *mirrored) Changes {
			m.podsErr = map[string]error{"": forbidden("pods"), "ops": forbidden("pods")}
			return Changes{AllPods: true}
		}, []string{"failure pods ops", "verdict ops/Namespace/ops unknown 0", "resolved ops/Pod/alone-0: it can be read no more"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quiet(t)
			c := test.change(w.m)
			w.m.index()
			w.now = w.now.Add(wholeEvery)
			got := shorts(w.update(c))
			for _, want := range test.want {
				if !slices.Contains(got, want) {
					t.Errorf("%q is not among\n  %s", want, strings.Join(got, "\n  "))
				}
			}
			for _, line := range got {
				if name != "pods cannot be read" && name != "a node" && strings.Contains(line, "web") != strings.Contains(strings.Join(test.want, " "), "web") {
					t.Errorf("told of what was not touched: %s", line)
				}
			}
			w.settle()
			w.check("after it")
		})
	}
}

// TestBudget: when everybody is concerned, each step does a little, and the end is the
// same.
func TestBudget(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	for i := range 40 {
		w.m.runs(1, "lab", fmt.Sprintf("app-%d", i), "", "", plain())
	}
	w.m.index()
	w.update(Changes{AllPods: true})
	w.tracker.opts.Budget = 3
	w.m.inCEL("own", "pods", noPath("false"))
	steps, c := 0, Changes{Around: true}
	for {
		w.events = nil
		more, err := w.tracker.Update(t.Context(), c, w)
		if err != nil {
			t.Fatal(err)
		}
		steps, c = steps+1, Changes{}
		verdicts := 0
		for _, e := range w.events {
			verdicts += count(e.Verdict != nil)
		}
		if verdicts > 4 {
			t.Errorf("a step told %d verdicts", verdicts)
		}
		if !more {
			break
		}
	}
	if steps < 10 {
		t.Errorf("%d steps", steps)
	}
	w.settle()
	w.check("after the last step")
}

// TestFreshPodsGoFirst: a pod that changes does not wait for all others.
func TestFreshPodsGoFirst(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	w.tracker.opts.Budget = 1
	w.m.inCEL("own", "pods", noPath("false"))
	w.m.runs(1, "zoo", "last", "", "", privileged())
	w.m.index()
	w.events = nil
	if more, err := w.tracker.Update(t.Context(), Changes{Around: true, Pods: []PodName{{"zoo", "last-0"}}}, w); err != nil || !more {
		t.Fatal(more, err)
	}
	if got := shorts(w.events); !slices.Contains(got, "verdict zoo/Pod/last-0 exposed 1") {
		t.Errorf("told %q", got)
	}
}

func TestExceptionsOfAWatch(t *testing.T) {
	t.Parallel()
	covers := Exception{Rule: "escape-privileged", Namespace: "ops", Reason: "known", Expires: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	w := quiet(t, covers)
	w.check("at first")
	end := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	if next := w.tracker.NextAt(); !next.Equal(end) {
		t.Errorf("next is %v", next)
	}
	w.now = end
	wantLines(t, shorts(w.update(Changes{})), "finding escape-privileged ops/Pod/alone-0 1", "finding exception-expired -/Exception/"+covers.String()+" 0")
	w.check("when its day is over")
	w.now = end.Add(-time.Hour)
	w.update(Changes{})
	w.settle()
	w.check("when the clock was put back")
	unused := Exception{Rule: "escape-nsenter", Reason: "no more"}
	w.except = []Exception{unused}
	w.tracker.SetExceptions(w.except)
	w.update(Changes{})
	w.settle()
	w.check("with other ones")
}

func TestStale(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	stale := Failure{Subject: "watch of pods", Reason: FailureUnreachable, Message: "connection refused", Affects: "changes since 12:03:04Z are not seen"}
	w.tracker.SetStale([]Failure{stale})
	wantLines(t, shorts(w.update(Changes{})), "failure watch of pods ")
	wantLines(t, shorts(w.update(Changes{})))
	w.tracker.SetStale(nil)
	wantLines(t, shorts(w.update(Changes{})), "resolved failure: can be read now")
	w.check("when it is followed again")
}

// The rules of a watch are those of the server that it began with: it says so when that
// is of another version, and no more when it is as it was.
func TestServerVersionOfAWatch(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	was := w.m.version
	for _, step := range []struct{ version, want string }{
		{"v1.36.9", ""},
		{"v1.37.0", "failure server version "},
		{"v1.37.2", ""},
		{was, "resolved failure: can be read now"},
	} {
		w.m.version = step.version
		got := strings.Join(shorts(w.update(Changes{Around: true})), ", ")
		if got != step.want {
			t.Errorf("with a server of %s it tells %q, want %q", step.version, got, step.want)
		}
		for _, f := range w.state.Failures() {
			if want := "those of v1.36 are applied until the watch is started again"; !strings.HasSuffix(f.Affects, want) {
				t.Errorf("%q does not say that %s", f.Affects, want)
			}
		}
	}
	w.check("the server is of the first version again")
}

func TestPlace(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	place, ok := w.tracker.Place("ops", "alone-0")
	if !ok || place.Workload.String() != "ops/Pod/alone-0" || place.Verdict.Verdict != VerdictExposed || len(place.Findings) != 2 || place.Pod == nil {
		t.Errorf("place is %+v, %v", place, ok)
	}
	if place, ok := w.tracker.Place("shop", "web-1a-1"); !ok || place.Workload.String() != "shop/Deployment/web" {
		t.Errorf("place is %+v, %v", place, ok)
	}
	if _, ok := w.tracker.Place("ops", "nobody"); ok {
		t.Error("a pod that never was has a place")
	}
	w.m.pods = slices.DeleteFunc(w.m.pods, func(p corev1.Pod) bool { return p.Namespace == "ops" })
	w.m.index()
	w.update(Changes{Pods: []PodName{{"ops", "alone-0"}}})
	if place, ok := w.tracker.Place("ops", "alone-0"); !ok || place.Verdict.Verdict != VerdictExposed || len(place.Findings) != 2 || place.Pod != nil {
		t.Errorf("a pod that went has the place %+v, %v", place, ok)
	}
	w.now = w.now.Add(goneFor + time.Second)
	if _, ok := w.tracker.Place("ops", "alone-0"); ok {
		t.Error("a pod is remembered for ever")
	}
}

func TestGonePodsAreBounded(t *testing.T) {
	t.Parallel()
	g := newGonePods()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i := range 3 * maxGone {
		g.add(PodName{"shop", fmt.Sprint(i)}, &trackedRow{}, at.Add(time.Duration(i)*time.Millisecond))
	}
	if len(g.by) != maxGone || len(g.order) > 2*maxGone+2 {
		t.Errorf("%d are remembered, in a list of %d", len(g.by), len(g.order))
	}
}

// TestNothingGrows changes a cluster of constant size many times: what the tracker holds
// stays of that size.
func TestNothingGrows(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	m := w.m
	m.objects[kindVAP], m.objects[kindVAPBinding] = nil, nil
	w.update(Changes{Around: true})
	for i := range 10_000 {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: fmt.Sprintf("run-%d", i%50), ResourceVersion: fmt.Sprint("r", i), Labels: map[string]string{"app": fmt.Sprint(i)}}, Spec: plain()}
		pod.Spec.Containers[0].Image = fmt.Sprintf("registry.example.com/app:%d", i)
		pod.Spec.NodeName = fmt.Sprintf("node-%d", i)
		pod.OwnerReferences = []metav1.OwnerReference{*controller(fmt.Sprintf("Job/run-%d", i))}
		m.byName[PodName{"ops", pod.Name}] = pod
		c := Changes{Pods: []PodName{{"ops", pod.Name}}}
		if i%100 == 0 {
			m.objects[kindKSP] = []string{fmt.Sprintf(`{"kind":"KubeArmorPolicy","metadata":{"namespace":"ops","name":"p"},"spec":{"selector":{"matchLabels":{"app":"x%d"}},"capabilities":{"matchCapabilities":[{"capability":"chown"}]},"action":"Block"}}`, i)}
			c.Around = true
		}
		w.now = w.now.Add(time.Second)
		w.update(c)
	}
	tr, c := w.tracker, w.tracker.judge
	for what, n := range map[string]int{
		"pods": len(tr.pods), "groups": len(tr.groups), "cohorts": len(tr.cohorts), "rows": len(tr.rows), "digests": len(tr.digests), "idle": len(tr.idle),
		"judged": len(c.judged), "coverages": len(c.covers.by), "stances": len(c.covers.stances), "owners": len(tr.owners), "failing": len(tr.failing),
		"strange nodes": len(c.around.strange), "classes": len(tr.classes), "unjoined": len(tr.unjoined), "dirty": len(tr.dirty), "counting": len(tr.counting),
		"policies": len(tr.decoded.armor.now) + len(tr.decoded.armor.before), "told": len(tr.told.findings) + len(tr.told.policies),
		"decided": len(c.door.in("ops").by) + len(c.door.in("ops").reopenBy) + len(c.door.in("ops").ruled),
	} {
		if n > 500 {
			t.Errorf("%d %s of %d pods", n, what, len(tr.pods))
		}
	}
	if n := len(c.layers.cache) + len(c.layers.alike); n > 10_000+8*len(tr.groups) {
		t.Errorf("%d answers of layers are kept", n)
	}
	if n := len(tr.gone.by); n > maxGone {
		t.Errorf("%d pods are remembered", n)
	}
}

// TestCrowdedNodeOfAWatch: one container more than are enforced is told of the node and
// of those who run there, and the next one is not.
func TestCrowdedNodeOfAWatch(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	filler := func(n int) Changes {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: "filler", ResourceVersion: fmt.Sprint(n)}, Spec: plain()}
		pod.Spec.NodeName = "n1"
		for range n {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
		}
		w.m.pods = append(slices.DeleteFunc(w.m.pods, func(p corev1.Pod) bool { return p.Name == "filler" }), *pod)
		w.m.index()
		w.now = w.now.Add(wholeEvery)
		return Changes{Pods: []PodName{{"lab", "filler"}}}
	}
	w.update(filler(armor.MaxContainersPerNode))
	w.settle()
	if got := w.update(filler(armor.MaxContainersPerNode + 1)); !slices.Contains(shorts(got), "finding policy-too-many-containers -/Node/n1 0") {
		t.Errorf("told %q", shorts(got))
	}
	w.settle()
	w.check("crowded")
	wantLines(t, shorts(w.update(filler(armor.MaxContainersPerNode+9))))
	w.update(filler(1))
	w.settle()
	w.check("with room again")
}

func TestEndCounts(t *testing.T) {
	t.Parallel()
	w := quiet(t)
	w.events = nil
	if err := w.tracker.End(w); err != nil {
		t.Fatal(err)
	}
	end := w.events[0].End
	if end == nil || end.Workloads != 5 || end.Pods != 7 || end.Verdicts[VerdictGuarded] != 1 || end.Incomplete {
		t.Errorf("end is %+v", end)
	}
}
