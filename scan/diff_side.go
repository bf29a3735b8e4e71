package scan

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// DiffSide is one of the two pictures that are compared. It is a Handler of a run without
// changes (of a watch: what report.Picture makes of it), and not safe for concurrent use.
//
// Beside a State it keeps findings that have one fingerprint apart, and of two documents
// that declare one workload the worse verdict: the second of them must not hide the first.
type DiffSide struct {
	// state has no rows: they are below, under names without a cluster.
	state *State
	rows  map[RowRef]*diffRow
	// unread are the namespaces whose pods could not be read.
	unread map[string]bool
	// clusters are the pictures of the clusters of a fleet, nil for any other run. What is
	// of no cluster is beside them, and all failures are.
	clusters map[string]*DiffSide
	// absent is why nothing is known of this cluster of a fleet.
	absent string
}

// diffRow is what was told of one row.
type diffRow struct {
	verdict  *WorkloadVerdict
	findings map[string][]*Finding
}

// NewDiffSide is a picture of nothing.
func NewDiffSide() *DiffSide {
	return &DiffSide{state: NewState(), rows: map[RowRef]*diffRow{}, unread: map[string]bool{}}
}

// DiffSideOf is the picture that a State has.
func DiffSideOf(s *State) *DiffSide {
	side := NewDiffSide()
	for e := range s.Events() {
		// It never fails.
		_ = side.Handle(e)
	}
	if end := s.End(); end != nil {
		_ = side.Handle(Event{End: end})
	}
	return side
}

// Start is that of the run, an empty one before it.
func (s *DiffSide) Start() *Start {
	if start := s.state.Start(); start != nil {
		return start
	}
	return &Start{}
}

// End is that of the run, nil before it.
func (s *DiffSide) End() *End { return s.state.End() }

// Failures are what the run could not read.
func (s *DiffSide) Failures() []*Failure { return s.state.Failures() }

// Incomplete reports whether something is missing in the run.
func (s *DiffSide) Incomplete() bool {
	end := s.End()
	return end == nil || end.Incomplete || end.Interrupted || len(s.state.failures) > 0
}

// nameless is the name of a row by which runs are compared: they may name the cluster
// differently.
func nameless(w Workload, claims string) RowRef {
	w.Cluster = ""
	return RowRef{w, claims}
}

// policyName is the name of a policy by which runs are compared.
func policyName(p *Policy) PolicyRef {
	ref := p.Ref()
	ref.Cluster = ""
	return ref
}

// Handle takes in an event. It never fails.
func (s *DiffSide) Handle(e Event) error {
	if m := s.member(e); m != nil {
		if e.Failure != nil {
			s.state.failures[e.Failure.Ref()] = e.Failure
		}
		return m.Handle(e)
	}
	switch {
	case e.Start != nil:
		*s = *NewDiffSide()
		if e.Start.Source == SourceFleet {
			s.beginFleet(e.Start.Clusters)
		}
		return s.state.Handle(e)
	case e.Cluster != nil:
		s.closeCluster(e.Cluster)
	case e.Node != nil:
		s.state.nodes[NodeRef{Name: e.Node.Name}] = e.Node
	case e.Policy != nil:
		s.state.policies[policyName(e.Policy)] = e.Policy
	case e.Finding != nil:
		row := s.row(nameless(e.Finding.Workload, e.Finding.Claims))
		print := e.Finding.Fingerprint()
		row.findings[print] = append(row.findings[print], e.Finding)
	case e.Verdict != nil:
		v := e.Verdict
		if v.Workload.Kind == "Namespace" && v.Workload.Name == v.Workload.Namespace {
			// It stands for workloads that were not seen, and is none.
			s.unread[v.Workload.Namespace] = true
			return nil
		}
		row := s.row(nameless(v.Workload, v.Claims))
		if row.verdict == nil || worseVerdict(v, row.verdict) {
			row.verdict = v
		}
	case e.Alert != nil, e.Lost != nil, e.Progress != nil:
	case e.End != nil:
		s.settle()
		return s.state.Handle(e)
	default:
		return s.state.Handle(e)
	}
	return nil
}

func (s *DiffSide) row(ref RowRef) *diffRow {
	r := s.rows[ref]
	if r == nil {
		r = &diffRow{findings: map[string][]*Finding{}}
		s.rows[ref] = r
	}
	return r
}

// settle puts findings with one fingerprint into an order that is the same in every run:
// the first of one run is compared with the first of the other.
func (s *DiffSide) settle() {
	for _, r := range s.rows {
		for _, list := range r.findings {
			if len(list) > 1 {
				slices.SortStableFunc(list, compareAlike)
			}
		}
	}
}

func worseVerdict(a, b *WorkloadVerdict) bool {
	return cmp.Or(cmp.Compare(slices.Index(Verdicts(), a.Verdict), slices.Index(Verdicts(), b.Verdict)),
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank())) < 0
}

func compareAlike(a, b *Finding) int {
	return cmp.Or(compareFindings(*a, *b), compareDigits(a.Field, b.Field), compareLocations(a.Location, b.Location),
		cmp.Compare(string(a.Now), string(b.Now)))
}

// compareDigits lets containers[10] follow containers[9].
func compareDigits(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

func compareLocations(a, b *Location) int {
	var none Location
	a, b = cmp.Or(a, &none), cmp.Or(b, &none)
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
}

// excepted reports whether ways out are open and exceptions cover all of them.
func (r *diffRow) excepted() bool {
	open := 0
	for _, list := range r.findings {
		for _, f := range list {
			if f.Open && !f.Guarded {
				if f.Excepted == nil {
					return false
				}
				open++
			}
		}
	}
	return open > 0
}

// Differences that each cluster of a fleet has for itself.
const (
	differentServer = "server version"
	differentPSS    = "version of the Pod Security Standards"
)

// differences are what is other about the runs themselves.
func differences(old, new *DiffSide) []Difference {
	was, now := old.Start(), new.Start()
	name := "cluster"
	switch {
	case was.Source == SourceManifests && now.Source == SourceManifests:
		name = "manifests"
	case was.Source == SourceFleet || now.Source == SourceFleet:
		name = "clusters"
	}
	var list []Difference
	for _, d := range []Difference{
		{"source", string(was.Source), string(now.Source)},
		{name, strings.Join(old.clusterNames(), ", "), strings.Join(new.clusterNames(), ", ")},
		{differentServer, was.ServerVersion, now.ServerVersion},
		{"rule set", was.RuleSet, now.RuleSet},
		{"level", was.Level, now.Level},
		{differentPSS, was.PSSVersion, now.PSSVersion},
		{"version of the tool", was.Version, now.Version},
		{"namespaces", scopeText(was), scopeText(now)},
		{"selector", was.Selector, now.Selector},
		{"findings left out by a baseline", leftOut(old), leftOut(new)},
	} {
		if (was.Source == SourceFleet) != (now.Source == SourceFleet) && (d.What == differentServer || d.What == differentPSS) {
			// A fleet tells them of each cluster.
			continue
		}
		if d.Old != d.New {
			list = append(list, d)
		}
	}
	return list
}

// scopeText names the namespaces of a run in an order of their own.
func scopeText(s *Start) string {
	names := slices.Clone(s.Namespaces)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

func leftOut(s *DiffSide) string {
	if end := s.End(); end != nil && end.Known > 0 {
		return strconv.Itoa(end.Known)
	}
	return ""
}

// Swapped reports whether the old run is the later one.
func (d *Diff) Swapped() bool {
	was, now := d.Old.Start(), d.New.Start()
	return now.Time.Before(was.Time)
}
