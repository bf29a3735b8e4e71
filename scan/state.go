package scan

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// maxStateAlerts and maxStateLost bound what a State keeps of alerts: nodes raise as
// many as they like. The oldest go first, and incidents only when there is nothing else.
const (
	maxStateAlerts = 10_000
	maxStateLost   = 1_000
)

// State is the picture that a stream of events has drawn so far: what was told and not
// taken back. It is a Handler, and not safe for concurrent use. What it holds it shares
// with the events.
type State struct {
	start    *Start
	end      *End
	clusters []*ClusterRun
	nodes    map[NodeRef]*Node
	policies map[PolicyRef]*Policy
	rows     map[RowRef]*stateRow
	failures map[FailureRef]*Failure
	alerts   recent[*Alert]
	lost     recent[*Lost]
}

// stateRow is what was told of one row.
type stateRow struct {
	verdict  *WorkloadVerdict
	findings map[string]*Finding
}

// NewState is a picture of nothing.
func NewState() *State {
	return &State{
		nodes: map[NodeRef]*Node{}, policies: map[PolicyRef]*Policy{},
		rows: map[RowRef]*stateRow{}, failures: map[FailureRef]*Failure{},
		alerts: newRecent(maxStateAlerts, func(a *Alert) bool { return a.Incident }), lost: newRecent[*Lost](maxStateLost, nil),
	}
}

// Handle takes in an event. It never fails.
func (s *State) Handle(e Event) error {
	switch {
	case e.Start != nil:
		*s = *NewState()
		s.start = e.Start
	case e.Node != nil:
		s.nodes[e.Node.Ref()] = e.Node
	case e.Policy != nil:
		s.policies[e.Policy.Ref()] = e.Policy
	case e.Finding != nil:
		s.row(RowRef{e.Finding.Workload, e.Finding.Claims}).findings[e.Finding.Fingerprint()] = e.Finding
	case e.Verdict != nil:
		s.row(RowRef{e.Verdict.Workload, e.Verdict.Claims}).verdict = e.Verdict
	case e.Failure != nil:
		s.failures[e.Failure.Ref()] = e.Failure
	case e.Resolved != nil:
		s.resolve(e.Resolved)
	case e.Alert != nil:
		s.alerts.put(e.Alert.ID, e.Alert)
	case e.Lost != nil:
		s.lost.put(e.Lost.ID, e.Lost)
	case e.Cluster != nil:
		s.clusters = append(s.clusters, e.Cluster)
	case e.Picture != nil:
		s.end = e.Picture
	case e.End != nil:
		s.end = e.End
	}
	return nil
}

func (s *State) row(ref RowRef) *stateRow {
	r := s.rows[ref]
	if r == nil {
		r = &stateRow{findings: map[string]*Finding{}}
		s.rows[ref] = r
	}
	return r
}

func (s *State) resolve(r *Resolved) {
	switch r.What {
	case ResolvedFinding:
		if r.Workload == nil || r.Finding == nil {
			return
		}
		ref := RowRef{*r.Workload, r.Claims}
		if row := s.rows[ref]; row != nil {
			delete(row.findings, r.Finding.Fingerprint)
			if row.verdict == nil && len(row.findings) == 0 {
				delete(s.rows, ref)
			}
		}
	case ResolvedWorkload:
		if r.Workload != nil {
			delete(s.rows, RowRef{*r.Workload, r.Claims})
		}
	case ResolvedNode:
		delete(s.nodes, NodeRef{Name: r.Node})
	case ResolvedPolicy:
		if r.Policy != nil {
			delete(s.policies, *r.Policy)
		}
	case ResolvedFailure:
		if r.Failure != nil {
			delete(s.failures, *r.Failure)
		}
	}
}

// Start is that of the stream, nil before it.
func (s *State) Start() *Start { return s.start }

// Clusters are the clusters of a fleet that were closed, in their order.
func (s *State) Clusters() []*ClusterRun { return slices.Clone(s.clusters) }

// End is the last that was said of the whole: the picture's, or the stream's.
func (s *State) End() *End { return s.end }

// Verdict is the verdict on a row, nil where there is none.
func (s *State) Verdict(ref RowRef) *WorkloadVerdict {
	if r := s.rows[ref]; r != nil {
		return r.verdict
	}
	return nil
}

// Findings are those of a row, worst first.
func (s *State) Findings(ref RowRef) []*Finding {
	r := s.rows[ref]
	if r == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(r.findings), func(a, b *Finding) int { return compareFindings(*a, *b) })
}

// Finding is the finding of a row with the fingerprint, nil where there is none.
func (s *State) Finding(ref RowRef, fingerprint string) *Finding {
	if r := s.rows[ref]; r != nil {
		return r.findings[fingerprint]
	}
	return nil
}

// Node is the node of the name, nil where there is none.
func (s *State) Node(ref NodeRef) *Node { return s.nodes[ref] }

// Policy is the policy of the name, nil where there is none.
func (s *State) Policy(ref PolicyRef) *Policy { return s.policies[ref] }

// Failure is what could not be read by that name, nil where there is none.
func (s *State) Failure(ref FailureRef) *Failure { return s.failures[ref] }

// Rows are the names of all rows, in the order of a scan: namespaces whose pods could not
// be read, then the workloads, then what has findings and no verdict. Of a fleet it is so
// cluster by cluster, with what is of none at the end.
func (s *State) Rows() []RowRef {
	turn := s.turns()
	return slices.SortedFunc(maps.Keys(s.rows), func(a, b RowRef) int {
		return cmp.Or(turn(a.Workload.Cluster)-turn(b.Workload.Cluster), s.rank(a)-s.rank(b), a.Compare(b))
	})
}

func (s *State) rank(ref RowRef) int {
	switch w := ref.Workload; {
	case s.rows[ref].verdict == nil:
		return 2
	case w.Kind == "Namespace" && w.Name == w.Namespace:
		return 0
	}
	return 1
}

// Compare orders names of rows by cluster, namespace, kind and name.
func (a RowRef) Compare(b RowRef) int {
	return cmp.Or(a.Workload.Compare(b.Workload), cmp.Compare(a.Claims, b.Claims))
}

// Pods are how many pods the rows have together.
func (s *State) Pods() int {
	pods := 0
	for _, r := range s.rows {
		if r.verdict != nil {
			pods += r.verdict.Pods
		}
	}
	return pods
}

// Nodes are the nodes in the order of their names.
func (s *State) Nodes() []*Node {
	return slices.SortedFunc(maps.Values(s.nodes), func(a, b *Node) int { return a.Ref().Compare(b.Ref()) })
}

// Policies are the policies in the order of a scan.
func (s *State) Policies() []*Policy {
	return slices.SortedFunc(maps.Values(s.policies), func(a, b *Policy) int { return a.Ref().Compare(b.Ref()) })
}

// Failures are what could not be read, in the order of a scan.
func (s *State) Failures() []*Failure {
	return slices.SortedFunc(maps.Values(s.failures), func(a, b *Failure) int { return a.Ref().Compare(b.Ref()) })
}

// Alerts are the latest, oldest first, with incidents of before.
func (s *State) Alerts() iter.Seq[*Alert] { return s.alerts.all() }

// Lost are the latest gaps, oldest first.
func (s *State) Lost() iter.Seq[*Lost] { return s.lost.all() }

// Forgotten are how many alerts and gaps were too many to be kept.
func (s *State) Forgotten() (alerts, lost int) { return s.alerts.forgotten, s.lost.forgotten }

// Events tells the picture as a scan would: to one who comes later, or to a format
// that knows no changes. There is no End, and no Start where none was told. Marks of
// change are taken off.
func (s *State) Events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		if s.start != nil && !yield(Event{Start: s.start}) {
			return
		}
		parts := s.parts()
		for i := range parts {
			if !parts[i].tell(yield) {
				return
			}
		}
		for a := range s.Alerts() {
			if !yield(Event{Alert: a}) {
				return
			}
		}
		for l := range s.Lost() {
			if !yield(Event{Lost: l}) {
				return
			}
		}
	}
}

// recent keeps the latest of things that have names. Putting one again keeps its
// place.
type recent[T any] struct {
	most int
	// grave tells what goes only when there is nothing else; nil for nothing.
	grave func(T) bool
	by    map[string]*recentThing[T]
	// others and graves are the names in their order. One that became grave is in both.
	others, graves []string
	places         uint64
	// forgotten counts those that went.
	forgotten int
}

// recentThing is one of them, with its place.
type recentThing[T any] struct {
	thing T
	place uint64
	grave bool
}

func newRecent[T any](most int, grave func(T) bool) recent[T] {
	return recent[T]{most: most, grave: grave, by: map[string]*recentThing[T]{}}
}

func (r *recent[T]) put(id string, t T) {
	grave := r.grave != nil && r.grave(t)
	had := r.by[id]
	if had == nil {
		if len(r.by) == r.most {
			r.forget()
		}
		r.places++
		had = &recentThing[T]{place: r.places}
		r.by[id] = had
		if !grave {
			r.others = append(r.others, id)
		}
	}
	had.thing = t
	if grave && !had.grave {
		had.grave = true
		r.graves = append(r.graves, id)
	}
}

// forget makes room for one.
func (r *recent[T]) forget() {
	r.forgotten++
	for len(r.others) > 0 {
		id := r.others[0]
		r.others = r.others[1:]
		if had := r.by[id]; had != nil && !had.grave {
			delete(r.by, id)
			return
		}
	}
	delete(r.by, r.graves[0])
	r.graves = r.graves[1:]
}

func (r *recent[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		things := slices.SortedFunc(maps.Values(r.by), func(a, b *recentThing[T]) int { return cmp.Compare(a.place, b.place) })
		for _, t := range things {
			if !yield(t.thing) {
				return
			}
		}
	}
}
