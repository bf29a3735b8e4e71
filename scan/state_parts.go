package scan

// turns gives the turn of each cluster of a fleet, and the last to what is of none. In any
// other stream all have the same.
func (s *State) turns() func(cluster string) int {
	if s.start == nil || s.start.Source != SourceFleet {
		return func(string) int { return 0 }
	}
	turns := make(map[string]int, len(s.start.Clusters))
	for i, name := range s.start.Clusters {
		turns[name] = i
	}
	return func(cluster string) int {
		if i, ok := turns[cluster]; ok {
			return i
		}
		return len(turns)
	}
}

// statePart is what a picture tells of one cluster: all, but for a fleet.
type statePart struct {
	state    *State
	nodes    []*Node
	failures []*Failure
	rows     []RowRef
	policies []*Policy
	run      *ClusterRun
}

// parts are the clusters of a fleet in their order, and at last what is of none.
func (s *State) parts() []statePart {
	turn := s.turns()
	// No cluster is without a name.
	parts := make([]statePart, turn("")+1)
	for i := range parts {
		parts[i].state = s
	}
	for _, n := range s.Nodes() {
		p := &parts[turn(n.Cluster)]
		p.nodes = append(p.nodes, n)
	}
	for _, f := range s.Failures() {
		p := &parts[turn(f.Cluster)]
		p.failures = append(p.failures, f)
	}
	for _, ref := range s.Rows() {
		p := &parts[turn(ref.Workload.Cluster)]
		p.rows = append(p.rows, ref)
	}
	for _, policy := range s.Policies() {
		p := &parts[turn(policy.Cluster)]
		p.policies = append(p.policies, policy)
	}
	for _, run := range s.clusters {
		parts[turn(run.Name)].run = run
	}
	return parts
}

// tell tells the part as a scan would.
func (p *statePart) tell(yield func(Event) bool) bool {
	for _, n := range p.nodes {
		if !yield(Event{Node: n}) {
			return false
		}
	}
	for _, f := range p.failures {
		if !yield(Event{Failure: f}) {
			return false
		}
	}
	for _, ref := range p.rows {
		if !p.tellRow(ref, yield) {
			return false
		}
	}
	for _, policy := range p.policies {
		plain := *policy
		plain.Recount = false
		if !yield(Event{Policy: &plain}) {
			return false
		}
	}
	return p.run == nil || yield(Event{Cluster: p.run})
}

func (p *statePart) tellRow(ref RowRef, yield func(Event) bool) bool {
	for _, f := range p.state.Findings(ref) {
		plain := *f
		plain.Recount = false
		if !yield(Event{Finding: &plain}) {
			return false
		}
	}
	v := p.state.Verdict(ref)
	if v == nil {
		return true
	}
	plain := *v
	plain.Was, plain.Recount = "", false
	return yield(Event{Verdict: &plain})
}
