package scan_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// demoEvents is what a scan of the demo cluster says, but for its progress and end.
func demoEvents(t *testing.T) []scan.Event {
	t.Helper()
	cluster, err := snapshot.Load(t.Context(), demo.Files(), demo.ServerVersion)
	if err != nil {
		t.Fatal(err)
	}
	var events []scan.Event
	err = scan.ScanCluster(t.Context(), cluster, scan.ClusterOptions{Level: psa.LevelBaseline}, scan.HandlerFunc(func(e scan.Event) error {
		if e.Progress == nil && e.End == nil {
			events = append(events, e)
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// folded is the state that a stream leads to.
func folded(events []scan.Event) *scan.State {
	s := scan.NewState()
	for _, e := range events {
		// A State never fails.
		_ = s.Handle(e)
	}
	return s
}

func lines(t *testing.T, events []scan.Event) []string {
	t.Helper()
	list := make([]string, len(events))
	for i, e := range events {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = string(raw)
	}
	return list
}

func sameLines(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d events, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("event %d is\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
}

// ofThings reports whether an event is a finding about a policy, a node or a
// namespace, of which a scan promises no order, and not about pods that show it.
func ofThings(e scan.Event) bool {
	return e.Finding != nil && e.Finding.Pods == 0 && (e.Finding.Category == scan.CategoryPolicy || e.Finding.Category == scan.CategoryKernel)
}

// The state tells what the scan told, in its order.
func TestStateTellsWhatAScanTold(t *testing.T) {
	t.Parallel()
	events := demoEvents(t)
	if len(events) < 300 {
		t.Fatalf("only %d events of the demo cluster", len(events))
	}
	told := slices.Collect(folded(events).Events())
	split := func(events []scan.Event) (ordered, things []string) {
		for i, line := range lines(t, events) {
			if ofThings(events[i]) {
				things = append(things, line)
			} else {
				ordered = append(ordered, line)
			}
		}
		slices.Sort(things)
		return ordered, things
	}
	gotOrdered, gotThings := split(told)
	wantOrdered, wantThings := split(events)
	sameLines(t, gotOrdered, wantOrdered)
	sameLines(t, gotThings, wantThings)
	if len(wantThings) == 0 {
		t.Error("nothing about policies themselves: the demo cluster has that")
	}
	sameLines(t, lines(t, slices.Collect(folded(told).Events())), lines(t, told))
}

// What is taken back and told again, in any order, leaves the picture as it was.
func TestStateForgetsWhatIsTakenBack(t *testing.T) {
	t.Parallel()
	events := demoEvents(t)
	want := lines(t, slices.Collect(folded(events).Events()))
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := folded(events)
		var again []scan.Event
		for _, e := range events {
			if r := takeBack(e, random); r != nil {
				_ = s.Handle(scan.Event{Resolved: r})
				again = append(again, e)
			}
		}
		if got := len(slices.Collect(s.Events())); got >= len(want)-len(again)/2 {
			t.Fatalf("%d of %d events are left after %d were taken back", got, len(want), len(again))
		}
		random.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		for _, e := range again {
			_ = s.Handle(e)
		}
		for _, e := range events {
			// A workload took findings with it that were not taken back by name.
			if e.Finding != nil {
				_ = s.Handle(e)
			}
		}
		sameLines(t, lines(t, slices.Collect(s.Events())), want)
	}
}

// takeBack is what takes an event back, nil for one in two.
func takeBack(e scan.Event, random *rand.Rand) *scan.Resolved {
	if random.IntN(2) == 0 {
		return nil
	}
	switch {
	case e.Finding != nil:
		ref := e.Finding.Ref()
		return &scan.Resolved{What: scan.ResolvedFinding, Workload: &e.Finding.Workload, Claims: e.Finding.Claims, Finding: &ref}
	case e.Verdict != nil:
		return &scan.Resolved{What: scan.ResolvedWorkload, Workload: &e.Verdict.Workload, Claims: e.Verdict.Claims}
	case e.Node != nil:
		return &scan.Resolved{What: scan.ResolvedNode, Node: e.Node.Name}
	case e.Policy != nil:
		ref := e.Policy.Ref()
		return &scan.Resolved{What: scan.ResolvedPolicy, Policy: &ref}
	case e.Failure != nil:
		ref := e.Failure.Ref()
		return &scan.Resolved{What: scan.ResolvedFailure, Failure: &ref}
	}
	return nil
}

func workload(namespace, kind, name string) scan.Workload {
	return scan.Workload{Namespace: namespace, Kind: kind, Name: name}
}

func TestStateResolves(t *testing.T) {
	t.Parallel()
	w, other := workload("shop", "Deployment", "cart"), workload("shop", "Deployment", "till")
	finding := func(w scan.Workload, rule, claims string) *scan.Finding {
		return &scan.Finding{Rule: rule, Severity: scan.SeverityHigh, Workload: w, Claims: claims, Now: []byte("null")}
	}
	verdict := func(w scan.Workload, claims string) *scan.WorkloadVerdict {
		return &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Claims: claims}
	}
	policy := workload("shop", "KubeArmorPolicy", "p")
	begin := []scan.Event{
		{Start: &scan.Start{Watch: true}},
		{Node: &scan.Node{Name: "n1"}}, {Failure: &scan.Failure{Subject: "pods", Message: "forbidden"}},
		{Finding: finding(w, "a", "")}, {Finding: finding(w, "b", "")}, {Verdict: verdict(w, "")},
		{Finding: finding(w, "a", "x")}, {Verdict: verdict(w, "x")},
		{Finding: finding(other, "a", "")}, {Verdict: verdict(other, "")},
		{Finding: finding(policy, "policy-selects-nothing", "")},
		{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: "shop", Name: "p", Bites: scan.BitesNo}},
	}
	ref := func(f *scan.Finding) *scan.FindingRef { r := f.Ref(); return &r }
	for name, tc := range map[string]struct {
		resolved scan.Resolved
		// gone are the events of begin that the picture has no more.
		gone []int
	}{
		"a finding":                         {scan.Resolved{What: scan.ResolvedFinding, Workload: &w, Finding: ref(finding(w, "a", ""))}, []int{3}},
		"a finding of pods that differ":     {scan.Resolved{What: scan.ResolvedFinding, Workload: &w, Claims: "x", Finding: ref(finding(w, "a", ""))}, []int{6}},
		"the last finding of a policy":      {scan.Resolved{What: scan.ResolvedFinding, Workload: &policy, Finding: ref(finding(policy, "policy-selects-nothing", ""))}, []int{10}},
		"a workload with all its findings":  {scan.Resolved{What: scan.ResolvedWorkload, Workload: &w}, []int{3, 4, 5}},
		"pods that differ":                  {scan.Resolved{What: scan.ResolvedWorkload, Workload: &w, Claims: "x"}, []int{6, 7}},
		"a node":                            {scan.Resolved{What: scan.ResolvedNode, Node: "n1"}, []int{1}},
		"a policy":                          {scan.Resolved{What: scan.ResolvedPolicy, Policy: &scan.PolicyRef{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: "shop", Name: "p"}}, []int{11}},
		"a failure":                         {scan.Resolved{What: scan.ResolvedFailure, Failure: &scan.FailureRef{Subject: "pods", Message: "forbidden"}}, []int{2}},
		"a failure of another message":      {scan.Resolved{What: scan.ResolvedFailure, Failure: &scan.FailureRef{Subject: "pods", Message: "timeout"}}, nil},
		"a finding that was not told":       {scan.Resolved{What: scan.ResolvedFinding, Workload: &w, Finding: ref(finding(w, "c", ""))}, nil},
		"a workload that was not told":      {scan.Resolved{What: scan.ResolvedWorkload, Workload: &policy, Claims: "y"}, nil},
		"a finding without a workload":      {scan.Resolved{What: scan.ResolvedFinding, Finding: ref(finding(w, "a", ""))}, nil},
		"a workload without a name":         {scan.Resolved{What: scan.ResolvedWorkload}, nil},
		"a policy and a failure of no name": {scan.Resolved{What: scan.ResolvedPolicy}, nil},
		"a kind of a later version":         {scan.Resolved{What: "mood", Workload: &w}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := folded(begin)
			_ = s.Handle(scan.Event{Resolved: &tc.resolved})
			var want []scan.Event
			for i, e := range begin {
				if !slices.Contains(tc.gone, i) {
					want = append(want, e)
				}
			}
			sameLines(t, lines(t, slices.Collect(s.Events())), lines(t, slices.Collect(folded(want).Events())))
			if got := len(slices.Collect(s.Events())); got != len(want) {
				t.Errorf("%d events are left, want %d", got, len(want))
			}
		})
	}
}

func TestStateLooksUp(t *testing.T) {
	t.Parallel()
	w := workload("shop", "Deployment", "cart")
	low := &scan.Finding{Rule: "low", Severity: scan.SeverityLow, Workload: w, Claims: "x"}
	high := &scan.Finding{Rule: "high", Severity: scan.SeverityHigh, Workload: w, Claims: "x"}
	v := &scan.WorkloadVerdict{Workload: w, Claims: "x", Verdict: scan.VerdictExposed}
	n, p, f := &scan.Node{Name: "n"}, &scan.Policy{Kind: "K", Name: "p"}, &scan.Failure{Subject: "pods"}
	s := folded([]scan.Event{{Finding: low}, {Finding: high}, {Verdict: v}, {Node: n}, {Policy: p}, {Failure: f}})
	ref := scan.RowRef{Workload: w, Claims: "x"}
	if got := s.Findings(ref); len(got) != 2 || got[0] != high || got[1] != low {
		t.Errorf("findings %v", got)
	}
	if s.Finding(ref, low.Fingerprint()) != low || s.Verdict(ref) != v || s.Node(scan.NodeRef{Name: "n"}) != n || s.Policy(p.Ref()) != p || s.Failure(f.Ref()) != f {
		t.Error("what was told is not found by its name")
	}
	other := scan.RowRef{Workload: w}
	if s.Finding(other, low.Fingerprint()) != nil || s.Verdict(other) != nil || s.Findings(other) != nil || s.Node(scan.NodeRef{Name: "m"}) != nil ||
		s.Policy(scan.PolicyRef{Name: "p"}) != nil || s.Failure(scan.FailureRef{}) != nil {
		t.Error("something is found that was not told")
	}
	if got := s.Rows(); !slices.Equal(got, []scan.RowRef{ref}) {
		t.Errorf("rows %v", got)
	}
}

// Namespaces that could not be read come before the workloads, and what has no verdict
// behind them.
func TestStateRowsAreInTheOrderOfAScan(t *testing.T) {
	t.Parallel()
	unread := &scan.WorkloadVerdict{Workload: workload("zeta", "Namespace", "zeta"), Verdict: scan.VerdictUnknown}
	verdict := func(namespace, kind, name, claims string) scan.Event {
		return scan.Event{Verdict: &scan.WorkloadVerdict{Workload: workload(namespace, kind, name), Claims: claims, Verdict: scan.VerdictClosed}}
	}
	want := []scan.Event{
		{Verdict: unread},
		verdict("a", "Deployment", "x", ""), verdict("a", "Deployment", "x", "claims"), verdict("a", "Pod", "b", ""), verdict("b", "DaemonSet", "a", ""),
		{Finding: &scan.Finding{Rule: "r", Workload: workload("a", "KubeArmorPolicy", "p"), Now: []byte("null")}},
	}
	for seed := range uint64(10) {
		events := slices.Clone(want)
		rand.New(rand.NewPCG(seed, 2)).Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		sameLines(t, lines(t, slices.Collect(folded(events).Events())), lines(t, want))
	}
}

func TestStateBeginsAnew(t *testing.T) {
	t.Parallel()
	s := folded([]scan.Event{
		{Start: &scan.Start{Cluster: "old"}}, {Node: &scan.Node{Name: "n"}}, {Alert: &scan.Alert{ID: "a"}}, {Picture: &scan.End{Pods: 3}},
		{Start: &scan.Start{Cluster: "new"}},
	})
	if got := slices.Collect(s.Events()); len(got) != 1 || got[0].Start.Cluster != "new" || s.Start().Cluster != "new" || s.End() != nil {
		t.Errorf("%d events are left of another stream", len(got)-1)
	}
	_ = s.Handle(scan.Event{Picture: &scan.End{Pods: 4}})
	_ = s.Handle(scan.Event{End: &scan.End{Pods: 5}})
	if s.End().Pods != 5 {
		t.Errorf("end %+v", s.End())
	}
}

// Marks of change are for those who saw what was before; the events of the stream keep
// them.
func TestStateTakesMarksOff(t *testing.T) {
	t.Parallel()
	w := workload("shop", "Deployment", "cart")
	v := &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Was: scan.VerdictClosed, Recount: true}
	f := &scan.Finding{Rule: "r", Workload: w, Recount: true, Now: []byte("null")}
	p := &scan.Policy{Kind: "K", Name: "p", Recount: true}
	for e := range folded([]scan.Event{{Finding: f}, {Verdict: v}, {Policy: p}}).Events() {
		if e.Verdict != nil && (e.Verdict.Was != "" || e.Verdict.Recount) || e.Finding != nil && e.Finding.Recount || e.Policy != nil && e.Policy.Recount {
			t.Errorf("a mark is left: %+v", e)
		}
	}
	if v.Was != scan.VerdictClosed || !v.Recount || !f.Recount || !p.Recount {
		t.Error("the events themselves were changed")
	}
}

// A cluster that raises alerts without end does not fill the memory: the oldest go.
func TestStateBoundsAlerts(t *testing.T) {
	t.Parallel()
	s := scan.NewState()
	const n = 25_000
	for i := range n {
		id := fmt.Sprint(i)
		_ = s.Handle(scan.Event{Alert: &scan.Alert{ID: id, Count: 1}})
		_ = s.Handle(scan.Event{Lost: &scan.Lost{ID: id, From: time.Unix(int64(i), 0)}})
		// The first is told again and again, and is not younger for it.
		_ = s.Handle(scan.Event{Alert: &scan.Alert{ID: fmt.Sprint(max(0, i-3)), Count: 2}})
	}
	alerts, lost := slices.Collect(s.Alerts()), slices.Collect(s.Lost())
	if len(alerts) != 10_000 || alerts[0].ID != fmt.Sprint(n-10_000) || alerts[len(alerts)-1].ID != fmt.Sprint(n-1) {
		t.Errorf("%d alerts from %s to %s", len(alerts), alerts[0].ID, alerts[len(alerts)-1].ID)
	}
	if alerts[0].Count != 2 {
		t.Error("the newer count is not the one that is kept")
	}
	if a, l := s.Forgotten(); a != n-10_000 || l != n-1_000 {
		t.Errorf("%d alerts and %d gaps are said to be forgotten", a, l)
	}
	if len(lost) != 1_000 || lost[0].ID != fmt.Sprint(n-1_000) {
		t.Errorf("%d gaps from %s", len(lost), lost[0].ID)
	}
}

// Noise drives no incident out of the picture, also none that was found to be one later.
func TestStateKeepsIncidents(t *testing.T) {
	t.Parallel()
	s := scan.NewState()
	tell := func(id string, incident bool) {
		_ = s.Handle(scan.Event{Alert: &scan.Alert{ID: id, Count: 1, Incident: incident}})
	}
	tell("first", true)
	tell("later", false)
	tell("later", true)
	const n = 30_000
	for i := range n {
		tell(fmt.Sprint(i), false)
	}
	alerts := slices.Collect(s.Alerts())
	if len(alerts) != 10_000 || alerts[0].ID != "first" || alerts[1].ID != "later" || alerts[2].ID != fmt.Sprint(n-9_998) {
		t.Errorf("%d alerts: %s, %s, %s and so on", len(alerts), alerts[0].ID, alerts[1].ID, alerts[2].ID)
	}
	for i := range n {
		tell(fmt.Sprint("incident ", i), true)
	}
	alerts = slices.Collect(s.Alerts())
	if len(alerts) != 10_000 || alerts[0].ID != fmt.Sprint("incident ", n-10_000) {
		t.Errorf("%d alerts from %s", len(alerts), alerts[0].ID)
	}
	if a, _ := s.Forgotten(); a != 2*n+2-10_000 {
		t.Errorf("%d are said to be forgotten", a)
	}
}

// Whoever stops listening in the middle stops the telling.
func TestStateEventsCanBeLeft(t *testing.T) {
	t.Parallel()
	w := workload("a", "Pod", "b")
	s := folded([]scan.Event{
		{Start: &scan.Start{}}, {Node: &scan.Node{}}, {Failure: &scan.Failure{}}, {Finding: &scan.Finding{Workload: w}},
		{Verdict: &scan.WorkloadVerdict{Workload: w}}, {Policy: &scan.Policy{}}, {Alert: &scan.Alert{}}, {Lost: &scan.Lost{}},
	})
	for n := range 9 {
		told := 0
		for range s.Events() {
			if told == n {
				break
			}
			told++
		}
		if told != min(n, 8) {
			t.Errorf("%d events, want %d", told, n)
		}
	}
}
