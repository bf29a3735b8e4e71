package tui

import (
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Row is one line of the result: a workload (or those of its pods that differ), with its
// verdict and findings, worst first. What findings about other things hang on (policies,
// nodes, exceptions) is a row without a verdict. It is not changed once it is made.
type Row struct {
	Ref scan.RowRef
	// Cluster is that of a fleet, and empty where there is but one.
	Cluster  string
	Verdict  *scan.WorkloadVerdict
	Findings []*scan.Finding
}

// Notice is what a run has to say of itself. Its text is not clean.
type Notice struct {
	Time time.Time
	Text string
}

// Snapshot is everything that a screen is drawn of. It does not change.
type Snapshot struct {
	// Version grows with every event.
	Version uint64
	Start   *scan.Start
	// End is that of the stream, or of a watch's first picture. Pictured is true once
	// there is one: before it, what is not there may still come.
	End      *scan.End
	Pictured bool
	Progress *scan.Progress
	// Over is true once no more events come; Err is why, where that is an error.
	Over bool
	Err  error
	// Rows are in the order of namespace, kind and name.
	Rows     []*Row
	Nodes    []*scan.Node
	Policies []*scan.Policy
	Failures []*scan.Failure
	// Clusters are those of a fleet that all was told of, in its order.
	Clusters []*scan.ClusterRun
	// Alerts and Lost are oldest first; Forgotten count those that were too many to keep.
	Alerts                         []*scan.Alert
	Lost                           []*scan.Lost
	ForgottenAlerts, ForgottenLost int
	// Reported is how often deeds were reported, those that were forgotten too.
	Reported int
	// Minutes are the alerts of the last hour by the minute, oldest first.
	Minutes []int
	Notices []Notice
	// Verdicts and Findings count the rows' (Excepted those that do not count).
	Verdicts map[scan.Verdict]int
	Findings map[scan.Severity]int
	Excepted int
	Pods     int
}

// count fills in what follows from the rest.
func (s *Snapshot) count() {
	s.Verdicts, s.Findings = map[scan.Verdict]int{}, map[scan.Severity]int{}
	for _, r := range s.Rows {
		if r.Verdict != nil {
			s.Verdicts[r.Verdict.Verdict]++
			s.Pods += r.Verdict.Pods
		}
		for _, f := range r.Findings {
			if f.Excepted != nil {
				s.Excepted++
			} else {
				s.Findings[f.Severity]++
			}
		}
	}
}

// Row is the row of the name, nil where there is none.
func (s *Snapshot) Row(ref scan.RowRef) *Row {
	i, ok := slices.BinarySearchFunc(s.Rows, ref, compareRow)
	if !ok {
		return nil
	}
	return s.Rows[i]
}

// Live tells whether what is shown still follows a cluster.
func (s *Snapshot) Live() bool { return s.Start != nil && s.Start.Watch && !s.Over }

// Stale tells whether something of the cluster is not followed at the moment: what is
// shown may not be so any more.
func (s *Snapshot) Stale() bool {
	return slices.ContainsFunc(s.Failures, func(f *scan.Failure) bool { return strings.HasPrefix(f.Subject, "watch of ") })
}

// Incidents are the alerts that are incidents, oldest first.
func (s *Snapshot) Incidents() []*scan.Alert {
	var out []*scan.Alert
	for _, a := range s.Alerts {
		if a.Incident {
			out = append(out, a)
		}
	}
	return out
}

// Selection is a part of a snapshot, for an export. Nil parts are left out.
type Selection struct {
	Rows     []*Row
	Nodes    []*scan.Node
	Policies []*scan.Policy
	Alerts   []*scan.Alert
	Lost     []*scan.Lost
}

// All is everything.
func (s *Snapshot) All() Selection {
	return Selection{Rows: s.Rows, Nodes: s.Nodes, Policies: s.Policies, Alerts: s.Alerts, Lost: s.Lost}
}

// Events tells a part of the snapshot as a scan would, with its start and what could not
// be read, and an End whose counts are the part's. note says in the start what was
// chosen, empty for everything.
func (s *Snapshot) Events(part Selection, note string) []scan.Event {
	start := scan.Start{Schema: scan.SchemaVersion}
	if s.Start != nil {
		start = *s.Start
	}
	start.Watch = false
	if note != "" {
		start.Notes = append(slices.Clip(start.Notes), note)
	}
	var events []scan.Event
	end := scan.End{Interrupted: !s.Pictured}
	tally := scan.NewTally(scan.HandlerFunc(func(e scan.Event) error {
		events = append(events, e)
		return nil
	}))
	// Appending cannot fail.
	tell := func(e scan.Event) { _ = tally.Handle(e) }
	tell(scan.Event{Start: &start})
	if s.fleet() {
		s.fleetEvents(tell, func(cluster string) int {
			pods := s.tell(&part, tell, &cluster)
			end.Pods += pods
			return pods
		})
	} else {
		end.Pods = s.tell(&part, tell, nil)
	}
	for _, a := range part.Alerts {
		tell(scan.Event{Alert: a})
	}
	for _, l := range part.Lost {
		tell(scan.Event{Lost: l})
	}
	if s.End != nil {
		end.Documents, end.Skipped, end.Known = s.End.Documents, s.End.Skipped, s.End.Known
	}
	tell(scan.Event{End: &end})
	return events
}

// tell tells what a part has of a cluster, of all where none is given, and how many pods
// that are.
func (s *Snapshot) tell(part *Selection, tell func(scan.Event), cluster *string) (pods int) {
	of := func(name string) bool { return cluster == nil || name == *cluster }
	for _, n := range part.Nodes {
		if of(n.Cluster) {
			tell(scan.Event{Node: n})
		}
	}
	for _, f := range s.Failures {
		if of(f.Cluster) {
			tell(scan.Event{Failure: f})
		}
	}
	for _, r := range part.Rows {
		if !of(r.Cluster) {
			continue
		}
		for _, f := range r.Findings {
			plain := *f
			plain.Recount = false
			tell(scan.Event{Finding: &plain})
		}
		if r.Verdict != nil {
			plain := *r.Verdict
			plain.Was, plain.Recount = "", false
			pods += plain.Pods
			tell(scan.Event{Verdict: &plain})
		}
	}
	for _, p := range part.Policies {
		if of(p.Cluster) {
			plain := *p
			plain.Recount = false
			tell(scan.Event{Policy: &plain})
		}
	}
	return pods
}

func compareRows(a, b *Row) int { return a.Ref.Compare(b.Ref) }

func compareRow(r *Row, ref scan.RowRef) int { return r.Ref.Compare(ref) }

// verdictRank orders verdicts, worst first; what has none comes last.
func verdictRank(r *Row) int {
	if r.Verdict == nil {
		return len(scan.Verdicts())
	}
	if i := slices.Index(scan.Verdicts(), r.Verdict.Verdict); i >= 0 {
		return i
	}
	return 1 // What is not known of is no better than unknown.
}
