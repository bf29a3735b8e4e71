package scan

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
)

// mirrored is a cluster in memory that is a Mirror: lists are in the order of an API
// server, and a pod that changes is another one.
type mirrored struct {
	*memory
	byName  map[PodName]*corev1.Pod
	volumes map[Claim]string
	volErr  error
	// only are the namespaces of the run, none for all.
	only []string
}

func mirror(m *memory) *mirrored {
	all := &mirrored{memory: m}
	all.index()
	return all
}

// index is called after pods changed.
func (m *mirrored) index() {
	slices.SortStableFunc(m.pods, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	m.byName = make(map[PodName]*corev1.Pod, len(m.pods))
	for i := range m.pods {
		m.byName[PodName{m.pods[i].Namespace, m.pods[i].Name}] = m.pods[i].DeepCopy()
	}
}

// Pod implements Mirror: a pod that no list shows is not there.
func (m *mirrored) Pod(namespace, name string) *corev1.Pod {
	if m.podsErr[namespace] != nil && (len(m.only) > 0 || m.podsErr[""] != nil) {
		return nil
	}
	if len(m.only) == 0 && m.podsErr[""] != nil && !slices.ContainsFunc(m.namespaces, func(n corev1.Namespace) bool { return n.Name == namespace }) {
		return nil
	}
	return m.byName[PodName{namespace, name}]
}

// HostVolumes implements Cluster.
func (m *mirrored) HostVolumes(context.Context) (map[Claim]string, error) {
	return m.volumes, m.volErr
}

// watching is a tracker of a cluster with the picture that its stream draws.
type watching struct {
	t       testing.TB
	m       *mirrored
	now     time.Time
	opts    ClusterOptions
	tracker *Tracker
	state   *State
	// events are those since the last call.
	events []Event
	except []Exception
}

func watch(t testing.TB, m *mirrored, opts ClusterOptions, exceptions ...Exception) *watching {
	t.Helper()
	w := &watching{t: t, m: m, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), opts: opts, state: NewState(), except: exceptions}
	w.opts.Level, w.opts.PSSVersion = psa.LevelBaseline, PSSServer
	w.opts.Start.Time = w.now
	w.tracker = NewTracker(m, TrackerOptions{Cluster: w.opts, Exceptions: exceptions, Now: func() time.Time { return w.now }})
	if err := w.tracker.Begin(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	return w
}

// Handle implements Handler.
func (w *watching) Handle(e Event) error {
	if !e.Time.Equal(w.now) {
		w.t.Errorf("event of %v at %v", e.Time, w.now)
	}
	w.events = append(w.events, e)
	return w.state.Handle(e)
}

// update tells the tracker of changes until it has done all there is to do now.
func (w *watching) update(c Changes) []Event {
	w.t.Helper()
	w.events = nil
	for steps := 0; ; steps++ {
		more, err := w.tracker.Update(w.t.Context(), c, w)
		if err != nil {
			w.t.Fatal(err)
		}
		if !more {
			return w.events
		}
		if steps > 10_000 {
			w.t.Fatal("an update never ends")
		}
		c = Changes{}
	}
}

// settle lets time pass, as long as the tracker has something to tell.
func (w *watching) settle() []Event {
	w.t.Helper()
	var all []Event
	for range 20 {
		w.now = w.now.Add(11 * time.Second)
		all = append(all, w.update(Changes{})...)
		next := w.tracker.NextAt()
		if next.IsZero() || next.Sub(w.now) > 11*time.Second {
			return all
		}
	}
	w.t.Fatal("it never settles")
	return nil
}

// check compares the picture with that of a new scan.
func (w *watching) check(what string) {
	w.t.Helper()
	fresh := NewState()
	opts := w.opts
	opts.Start.Time = w.now
	if err := ScanCluster(w.t.Context(), w.m, opts, Except(w.except, w.now, NewTally(fresh))); err != nil {
		w.t.Fatal(err)
	}
	got, want := pictureLines(w.t, w.state), pictureLines(w.t, fresh)
	if slices.Equal(got, want) {
		return
	}
	without := func(lines, others []string) []string {
		return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return slices.Contains(others, line) })
	}
	told, should := without(got, want), without(want, got)
	var b strings.Builder
	for i := range max(len(told), len(should)) {
		var x, y string
		if i < len(told) {
			x = told[i]
		}
		if i < len(should) {
			y = should[i]
		}
		from := 0
		for from < min(len(x), len(y)) && x[from] == y[from] {
			from++
		}
		fmt.Fprintf(&b, "\n  %.120s\n    - told   …%.300s\n    + should …%.300s", cmp.Or(x, y), x[min(len(x), max(0, from-80)):], y[min(len(y), max(0, from-80)):])
	}
	w.t.Fatalf("%s: the picture is not that of a scan:%s", what, b.String())
}

// pictureLines are the events that draw a picture, without what may differ.
func pictureLines(t testing.TB, s *State) []string {
	t.Helper()
	var lines []string
	for e := range s.Events() {
		if e.Start != nil {
			continue
		}
		if e.Node != nil {
			plain := ageless(e.Node)
			e.Node = &plain
		}
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(raw))
	}
	slices.Sort(lines)
	return lines
}

// short is an event in a few words.
func short(e Event) string {
	switch {
	case e.Resolved != nil && e.Resolved.Finding != nil:
		return "resolved " + e.Resolved.Finding.Rule + " " + e.Resolved.Workload.String()
	case e.Resolved != nil && e.Resolved.Workload != nil:
		return "resolved " + e.Resolved.Workload.String() + ": " + e.Resolved.Reason
	case e.Resolved != nil:
		return "resolved " + string(e.Resolved.What) + ": " + e.Resolved.Reason
	case e.Finding != nil:
		return fmt.Sprintf("finding %s %s %d%s", e.Finding.Rule, e.Finding.Workload, e.Finding.Pods, again(e.Finding.Recount))
	case e.Verdict != nil:
		return fmt.Sprintf("verdict %s %s %d%s", e.Verdict.Workload, e.Verdict.Verdict, e.Verdict.Pods, again(e.Verdict.Recount))
	case e.Policy != nil:
		return fmt.Sprintf("policy %s %s %d%s", e.Policy.Name, e.Policy.Bites, e.Policy.Workloads, again(e.Policy.Recount))
	case e.Node != nil:
		return "node " + e.Node.Name
	case e.Failure != nil:
		return "failure " + e.Failure.Subject + " " + e.Failure.Namespace
	}
	return "other"
}

func again(recount bool) string {
	if recount {
		return " recount"
	}
	return ""
}

func shorts(events []Event) []string {
	var lines []string
	for _, e := range events {
		lines = append(lines, short(e))
	}
	return lines
}

// TestBeginTellsAScan: the first picture is the stream of a scan, event by event.
func TestBeginTellsAScan(t *testing.T) {
	t.Parallel()
	m := mirror(layered())
	m.runs(3, "lab", "breaker", "", "", privileged())
	m.podsErr = map[string]error{"": forbidden("pods"), "lab": forbidden("pods")}
	m.index()
	w := watch(t, m, ClusterOptions{})
	w.check("begin")
	scanned := &recorder{}
	opts := w.opts
	if err := ScanCluster(t.Context(), m, opts, NewTally(scanned)); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, e := range scanned.events {
		if e.End == nil && e.Start == nil && e.Progress == nil {
			want = append(want, short(e))
		}
	}
	for _, e := range w.events {
		if e.Picture == nil && e.Start == nil && e.Progress == nil {
			got = append(got, short(e))
		}
	}
	wantLines(t, got, want...)
	picture, end := w.events[len(w.events)-1].Picture, scanned.end(t)
	if picture == nil || fmt.Sprint(*picture) != fmt.Sprint(*end) {
		t.Errorf("picture is %+v, the end of a scan %+v", picture, end)
	}
	if !w.events[0].Start.Watch {
		t.Error("the start does not say that it is of a watch")
	}
}

// TestRolloutIsOneChange: 500 pods of one spec, which come one after the other, are one
// change, and so is the last of the old ones.
func TestRolloutIsOneChange(t *testing.T) {
	t.Parallel()
	m := mirror(web())
	m.runs(500, "shop", "web-2b", "ReplicaSet/web-2b", "2b", privileged())
	m.has("shop", "ReplicaSet/web-2b", "Deployment/web", "2b")
	m.index()
	rollout := m.byName
	m.pods = m.pods[:2]
	m.index()
	w := watch(t, m, ClusterOptions{})
	var all []Event
	for i := range 500 {
		name := PodName{"shop", fmt.Sprintf("web-2b-%d", i)}
		m.byName[name] = rollout[name]
		m.pods = append(m.pods, *rollout[name])
		w.now = w.now.Add(50 * time.Millisecond)
		all = append(all, w.update(Changes{Pods: []PodName{name}})...)
	}
	wantLines(t, shorts(all),
		"finding escape-privileged shop/Deployment/web 1", "finding privileged shop/Deployment/web 1", "verdict shop/Deployment/web exposed 3")
	wantLines(t, shorts(w.settle()), "finding escape-privileged shop/Deployment/web 500 recount", "finding privileged shop/Deployment/web 500 recount", "verdict shop/Deployment/web exposed 502 recount")
	m.pods = m.pods[2:]
	m.index()
	wantLines(t, shorts(w.update(Changes{Pods: []PodName{{"shop", "web-1a-0"}, {"shop", "web-1a-1"}}})), "verdict shop/Deployment/web exposed 500")
	w.check("after the rollout")
}
