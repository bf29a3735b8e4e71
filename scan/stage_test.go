package scan

import "testing"

func TestNewOnlyCountsDuplicates(t *testing.T) {
	f, other := sampleFinding(), sampleFinding()
	other.Container = "other"
	known := NewKnown(&Start{}, []Finding{*f, *f})
	for range 2 {
		// What is known belongs to the caller: a second run must find it as it was.
		r := &recorder{}
		stage := NewOnly(known, NewTally(r))
		for _, e := range []Event{{Finding: f}, {Finding: other}, {Finding: f}, {Finding: f}, {Verdict: &WorkloadVerdict{}}, {End: &End{Known: 1}}} {
			if err := stage.Handle(e); err != nil {
				t.Fatal(err)
			}
		}
		if len(r.events) != 4 || r.events[0].Finding != other || r.events[1].Finding != f {
			t.Errorf("%d events passed, want the other finding, the third of a kind, the verdict and the end", len(r.events))
		}
		if end := r.end(t); end.Known != 3 || end.Findings[SeverityCritical] != 2 {
			t.Errorf("end %+v", end)
		}
	}
}

// A finding of one cluster of a fleet does not hide that of another, and what a run on one
// cluster had is known in each.
func TestNewOnlyInAFleet(t *testing.T) {
	in := func(cluster string) *Finding {
		f := sampleFinding()
		f.Workload.Cluster = cluster
		return f
	}
	fleet := &Start{Source: SourceFleet, Clusters: []string{"a", "b"}}
	for name, test := range map[string]struct {
		known    *Known
		passed   []string
		inA, inB int
	}{
		"of the fleet":        {NewKnown(fleet, []Finding{*in("a")}), []string{"a", "b", "b"}, 1, 0},
		"of the other one":    {NewKnown(fleet, []Finding{*in("c"), *in("b"), *in("b"), *in("b")}), []string{"a", "a"}, 0, 2},
		"of a single cluster": {NewKnown(&Start{Source: SourceCluster, Cluster: "a"}, []Finding{*in("a")}), []string{"a", "b"}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			tally := NewTally(r)
			stage := NewOnly(test.known, tally)
			for _, e := range []Event{
				{Start: fleet}, {Finding: in("a")}, {Finding: in("a")}, {Cluster: &ClusterRun{Name: "a"}},
				{Finding: in("b")}, {Finding: in("b")}, {Cluster: &ClusterRun{Name: "b"}}, {End: &End{}},
			} {
				if err := stage.Handle(e); err != nil {
					t.Fatal(err)
				}
			}
			var passed []string
			for _, e := range r.events {
				if e.Finding != nil {
					passed = append(passed, e.Finding.Workload.Cluster)
				}
			}
			wantLines(t, passed, test.passed...)
			runs := tally.Clusters()
			if len(runs) != 2 || runs[0].End.Known != test.inA || runs[1].End.Known != test.inB || tally.End().Known != test.inA+test.inB {
				t.Errorf("known are counted as %+v, together %d", runs, tally.End().Known)
			}
		})
	}
}

func TestTally(t *testing.T) {
	excepted := sampleFinding()
	excepted.Excepted = &Excepted{Reason: "known"}
	low := sampleFinding()
	low.Severity = SeverityLow
	r := &recorder{}
	tally := NewTally(r)
	if tally.End() != nil {
		t.Error("there is an end before the end")
	}
	sent := &End{Pods: 9}
	for _, e := range []Event{
		{Start: &Start{}}, {Finding: low}, {Finding: low}, {Finding: excepted}, {Progress: &Progress{}},
		{Verdict: &WorkloadVerdict{Verdict: VerdictExposed}}, {Verdict: &WorkloadVerdict{Verdict: VerdictClosed}},
		{Failure: &Failure{}}, {End: sent},
	} {
		if err := tally.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	end := tally.End()
	if end != r.end(t) || len(r.events) != 9 {
		t.Error("not all events passed")
	}
	if end.Pods != 9 || end.Workloads != 2 || end.Findings[SeverityLow] != 2 || end.Findings[SeverityCritical] != 0 || end.Excepted != 1 ||
		end.Failures != 1 || !end.Incomplete || end.Verdicts[VerdictExposed] != 1 {
		t.Errorf("end %+v", end)
	}
	if sent.Findings != nil {
		t.Error("the end that was handed in is changed")
	}
	for gate, want := range map[Severity]bool{SeverityCritical: false, SeverityHigh: false, SeverityMedium: false, SeverityLow: true, SeverityNone: false} {
		if end.AtLeast(gate) > 0 != want {
			t.Errorf("gate %s is %v", gate, !want)
		}
	}
}

func TestInterruptedIsIncomplete(t *testing.T) {
	tally := NewTally(&recorder{})
	if err := tally.Handle(Event{End: &End{Interrupted: true}}); err != nil {
		t.Fatal(err)
	}
	if !tally.End().Incomplete {
		t.Error("an interrupted run is complete")
	}
}
