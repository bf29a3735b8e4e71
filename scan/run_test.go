package scan

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
)

func debugger() corev1.EphemeralContainer {
	return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debugger", Image: "registry.example.com/debug:1.0", SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
	}}
}

func TestStreamOfACluster(t *testing.T) {
	m := web()
	m.nodes = []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "b"}}, {ObjectMeta: metav1.ObjectMeta{Name: "a"}}}
	m.runs(1, "lab", "breaker", "", "", privileged())
	r := scanned(t, m)
	var order []string
	for _, e := range r.events {
		switch {
		case e.Start != nil:
			order = append(order, "start "+e.Start.ServerVersion+" "+e.Start.PSSVersion+" "+e.Start.Level)
		case e.Node != nil:
			order = append(order, "node "+e.Node.Name)
		case e.Finding != nil:
			order = append(order, "finding "+e.Finding.Rule)
		case e.Verdict != nil:
			order = append(order, "verdict "+e.Verdict.Workload.Name)
		case e.End != nil:
			order = append(order, "end")
		}
	}
	wantLines(t, order, "start v1.36.3 v1.36 baseline", "node a", "node b",
		"finding escape-privileged", "finding privileged", "verdict breaker-0", "verdict web", "end")
	end := r.end(t)
	if end.Pods != 3 || end.Workloads != 2 || end.Incomplete || end.Interrupted {
		t.Errorf("end is %+v", end)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	for name, test := range map[string]struct {
		change     func(*memory)
		namespaces []string
		verdicts   []string
		failures   []string
	}{
		"all pods at once": {
			func(m *memory) { m.podsErr = map[string]error{"": forbidden("pods")} }, nil,
			[]string{"lab/Pod/breaker-0 exposed 1", "shop/Deployment/web closed 2"}, nil,
		},
		"pods of one namespace": {
			func(m *memory) { m.podsErr = map[string]error{"": forbidden("pods"), "shop": forbidden("pods")} }, nil,
			[]string{"shop/Namespace/shop unknown 0", "lab/Pod/breaker-0 exposed 1"},
			[]string{"pods shop: forbidden"},
		},
		"all pods, and namespaces": {
			func(m *memory) {
				m.podsErr, m.namespaces, m.namespacesErr = map[string]error{"": forbidden("pods")}, nil, forbidden("namespaces")
			}, nil,
			nil, []string{"namespaces: forbidden", "pods: forbidden"},
		},
		"the second page": {
			func(m *memory) { m.pageSize, m.podsBefore, m.podsErr = 2, 1, map[string]error{"": errors.New("cut")} }, nil,
			// What was seen is not closed: what was not seen may look otherwise.
			[]string{"shop/Deployment/web unknown 2"}, []string{"pods: read error"},
		},
		"the second page, forbidden": {
			func(m *memory) { m.pageSize, m.podsBefore, m.podsErr = 2, 1, map[string]error{"": forbidden("pods")} }, nil,
			[]string{"shop/Deployment/web unknown 2"}, []string{"pods: forbidden"},
		},
		"nodes": {
			func(m *memory) { m.nodesErr = forbidden("nodes") }, nil,
			[]string{"lab/Pod/breaker-0 exposed 1", "shop/Deployment/web closed 2"}, []string{"nodes: forbidden"},
		},
		"server version": {
			func(m *memory) { m.version, m.versionErr = "", forbidden("version") }, nil,
			[]string{"lab/Pod/breaker-0 exposed 1", "shop/Deployment/web closed 2"}, []string{"server version: forbidden"},
		},
		"a namespace that was named": {
			func(m *memory) { m.podsErr = map[string]error{"shop": apierrors.NewTimeoutError("slow", 1)} }, []string{"shop", "lab"},
			[]string{"shop/Namespace/shop unknown 0", "lab/Pod/breaker-0 exposed 1"}, []string{"pods shop: timeout"},
		},
		"a namespace that does not exist": {
			func(*memory) {}, []string{"shpo"}, nil, []string{"namespace shpo shpo: not found"},
		},
		"whether a namespace exists": {
			func(m *memory) { m.namespaces, m.namespacesErr = nil, forbidden("namespaces") }, []string{"shpo"},
			nil, []string{"namespace shpo shpo: forbidden", "namespaces: forbidden"},
		},
		"runtime classes that no pod names": {
			func(m *memory) { m.runtimeErr = forbidden("runtimeclasses") }, nil,
			[]string{"lab/Pod/breaker-0 exposed 1", "shop/Deployment/web closed 2"}, nil,
		},
		"runtime classes": {
			func(m *memory) {
				m.runtimeErr = forbidden("runtimeclasses")
				m.pods[2].Spec.RuntimeClassName = new("gvisor")
			}, nil,
			[]string{"lab/Pod/breaker-0 unknown 1", "shop/Deployment/web closed 2"}, []string{"runtime classes: forbidden"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := web()
			m.runs(1, "lab", "breaker", "", "", privileged())
			test.change(m)
			r := scanned(t, m, test.namespaces...)
			wantLines(t, r.verdicts(), test.verdicts...)
			wantLines(t, r.failures(), test.failures...)
			end := r.end(t)
			if end.Incomplete != (len(test.failures) > 0) || end.Failures != len(test.failures) {
				t.Errorf("end says incomplete %v and %d failures", end.Incomplete, end.Failures)
			}
		})
	}
}

func TestPodsCountOnceAfterAFallback(t *testing.T) {
	m := web()
	m.podsErr = map[string]error{"": forbidden("pods")}
	if end := scanned(t, m).end(t); end.Pods != 2 || end.Incomplete {
		t.Errorf("end is %+v", end)
	}
}

func TestEmptyNamespaceThatExists(t *testing.T) {
	m := web()
	r := scanned(t, m, "lab")
	wantLines(t, r.verdicts())
	wantLines(t, r.failures())
}

func TestSandboxIsKnownByItsHandler(t *testing.T) {
	m := web()
	m.runtimeClasses = map[string]string{"fast": "runsc"}
	m.runs(1, "lab", "boxed", "", "", privileged())
	m.pods[2].Spec.RuntimeClassName = new("fast")
	wantLines(t, scanned(t, m).verdicts(), "lab/Pod/boxed-0 closed 1", "shop/Deployment/web closed 2")
}

// TestSameEventsWhateverTheOrder shuffles the pods over the pages.
func TestSameEventsWhateverTheOrder(t *testing.T) {
	m := web()
	m.has("shop", "ReplicaSet/web-2b", "Deployment/web", "2b")
	m.runs(4, "shop", "web-2b", "ReplicaSet/web-2b", "2b", privileged())
	m.runs(2, "shop", "forged", "ReplicaSet/web-1a", "1a", privileged())
	m.runs(5, "lab", "alone", "", "", privileged())
	m.runs(3, "lab", "orphan", "Job/gone", "", plain())
	m.runs(2, "lab", "unread", "Rollout/x", "", plain())
	m.ownersErr = map[string]error{"Rollout": forbidden("rollouts")}
	want := scanned(t, m).jsonLines(t)
	for seed := range uint64(20) {
		rand.New(rand.NewPCG(seed, seed)).Shuffle(len(m.pods), func(i, j int) { m.pods[i], m.pods[j] = m.pods[j], m.pods[i] })
		if got := scanned(t, m).jsonLines(t); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	for name, arrange := range map[string]func(m *memory, stop func()){
		"before a page": func(m *memory, stop func()) {
			m.onPage = func(n int) {
				if n == 1 {
					stop()
				}
			}
		},
		"while owners are listed": func(m *memory, stop func()) { m.onOwners = stop },
	} {
		t.Run(name, func(t *testing.T) {
			m := web()
			m.pageSize = 1
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			arrange(m, stop)
			r := &recorder{}
			opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}
			if err := ScanCluster(ctx, m, opts, NewTally(r)); err != nil {
				t.Fatal(err)
			}
			end := r.end(t)
			if !end.Interrupted || !end.Incomplete {
				t.Errorf("end is %+v", end)
			}
			wantLines(t, r.verdicts())
			if !strings.Contains(strings.Join(r.failures(), "\n"), "scan: interrupted") {
				t.Errorf("failures are %q", r.failures())
			}
		})
	}
}

// TestHandlerErrorStops fails each event in turn: the scan ends with that error and
// hands out nothing more.
func TestHandlerErrorStops(t *testing.T) {
	m := web()
	m.nodes = []corev1.Node{{}}
	m.nodesErr = errors.New("half of them")
	m.runs(1, "lab", "breaker", "", "", privileged())
	whole := scanned(t, m).events
	full := errors.New("disk full")
	for at := range whole {
		n := 0
		err := ScanCluster(t.Context(), m, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, HandlerFunc(func(Event) error {
			n++
			if n == at+1 {
				return full
			}
			return nil
		}))
		if !errors.Is(err, full) {
			t.Errorf("event %d: error is %v", at, err)
		}
		if n != at+1 {
			t.Errorf("event %d: %d more were sent after the error", at, n-at-1)
		}
	}
}

func TestNoScanWithoutServer(t *testing.T) {
	r := &recorder{}
	m := &memory{versionErr: errors.New("connection refused")}
	if err := ScanCluster(t.Context(), m, ClusterOptions{Level: psa.LevelBaseline}, r); err == nil || len(r.events) > 0 {
		t.Errorf("error is %v, %d events", err, len(r.events))
	}
	m = &memory{version: "v1.36.3"}
	if err := ScanCluster(t.Context(), m, ClusterOptions{Level: psa.LevelPrivileged}, r); err == nil {
		t.Error("level privileged judges nothing, and is accepted")
	}
	if err := ScanCluster(t.Context(), m, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: "1.30"}, r); err == nil {
		t.Error("version 1.30 is accepted without its v")
	}
}

func TestFailuresOfTheCallerAreReported(t *testing.T) {
	r := &recorder{}
	opts := ClusterOptions{Level: psa.LevelBaseline, Failures: []Failure{{Subject: "deploy.yaml", Reason: FailureInvalid}}}
	if err := ScanCluster(t.Context(), web(), opts, NewTally(r)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, r.failures(), "deploy.yaml: invalid")
	if !r.end(t).Incomplete {
		t.Error("the run says that it is complete")
	}
}
