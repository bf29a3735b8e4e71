package scan

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Comparable says why two runs cannot be compared, nil where they can: of a fleet each
// cluster is compared with that of its name.
func Comparable(old, new *DiffSide) error {
	if old.clusters == nil && new.clusters == nil {
		return nil
	}
	for _, side := range []*DiffSide{old, new} {
		if side.Start().Source == SourceManifests {
			return errors.New("one of the runs is of a fleet and the other of manifests: compare with a run of its clusters, or of one of them")
		}
	}
	before, after := old.clusterNames(), new.clusterNames()
	if !slices.ContainsFunc(after, func(name string) bool { return slices.Contains(before, name) }) {
		return fmt.Errorf("the runs have no cluster in common: the old one is of %s, the new one of %s", strings.Join(before, ", "), strings.Join(after, ", "))
	}
	return nil
}

// clusterNames are the clusters of a fleet in their order, or the one of another run.
func (s *DiffSide) clusterNames() []string {
	if s.clusters == nil {
		return []string{s.Start().Cluster}
	}
	return s.Start().Clusters
}

// beginFleet prepares the picture of a fleet: each of its clusters has one of its own.
func (s *DiffSide) beginFleet(names []string) {
	s.clusters = make(map[string]*DiffSide, len(names))
	for _, name := range names {
		s.clusters[name] = NewDiffSide()
	}
}

// member is the picture of the cluster that the event is of, nil for what is of the run.
func (s *DiffSide) member(e Event) *DiffSide {
	switch {
	case e.Node != nil:
		return s.clusters[e.Node.Cluster]
	case e.Policy != nil:
		return s.clusters[e.Policy.Cluster]
	case e.Failure != nil:
		return s.clusters[e.Failure.Cluster]
	case e.Finding != nil:
		return s.clusters[e.Finding.Workload.Cluster]
	case e.Verdict != nil:
		return s.clusters[e.Verdict.Workload.Cluster]
	}
	return nil
}

// closeCluster ends the picture of a cluster.
func (s *DiffSide) closeCluster(run *ClusterRun) {
	m := s.clusters[run.Name]
	if m == nil {
		return
	}
	m.state.start = run.Start
	if run.Start == nil {
		m.absent = "could not read cluster " + run.Name
		for _, f := range m.state.failures {
			m.absent += fmt.Sprintf(" (%s)", f.Reason)
			break
		}
	}
	// It never fails.
	_ = m.Handle(Event{End: &run.End})
}

// asFleet is the picture of a run on one cluster as that of a fleet of one.
func (s *DiffSide) asFleet() *DiffSide {
	if s.clusters != nil {
		return s
	}
	whole, one := NewDiffSide(), *s
	*whole.state = *s.state
	whole.clusters = map[string]*DiffSide{s.Start().Cluster: &one}
	one.rows = maps.Clone(s.rows)
	for ref, row := range s.rows {
		if ref.Workload.Kind == exceptionKind {
			// An exception is of no cluster.
			whole.rows[ref] = row
			delete(one.rows, ref)
		}
	}
	return whole
}

// cluster is the picture of a cluster, in which nothing is known of one that the run does
// not have.
func (s *DiffSide) cluster(name string) *DiffSide {
	if m := s.clusters[name]; m != nil {
		return m
	}
	m := NewDiffSide()
	m.absent = "did not look at cluster " + name
	return m
}

// unvisited says that a run of a fleet did not look at a cluster that the other has.
func (s *DiffSide) unvisited(other *DiffSide) string {
	if s.clusters == nil {
		return ""
	}
	for _, name := range other.clusterNames() {
		if s.clusters[name] == nil {
			return "did not look at cluster " + name
		}
	}
	return ""
}

// compareFleets compares each cluster with that of its name, and then what is of none.
func compareFleets(old, new *DiffSide) *Diff {
	d := &Diff{Old: old.asFleet(), New: new.asFleet(), Differences: differences(old, new)}
	names := slices.Clone(new.clusterNames())
	for _, name := range old.clusterNames() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		one := Compare(d.Old.cluster(name), d.New.cluster(name))
		d.join(one)
		if one.Old.absent == "" && one.New.absent == "" {
			d.Differences = append(d.Differences, ofCluster(name, one.Differences)...)
		}
	}
	for _, ref := range d.refs() {
		d.compareRow(ref)
	}
	d.sort()
	return d
}

// ofCluster are those of the differences that a cluster has for itself.
func ofCluster(name string, list []Difference) []Difference {
	var own []Difference
	for _, d := range list {
		if d.What == differentServer || d.What == differentPSS {
			d.What += " of " + name
			own = append(own, d)
		}
	}
	return own
}

// join adds what is other in one cluster.
func (d *Diff) join(one *Diff) {
	d.Opened = append(d.Opened, one.Opened...)
	d.Closed = append(d.Closed, one.Closed...)
	d.Excepted = append(d.Excepted, one.Excepted...)
	d.Unexcepted = append(d.Unexcepted, one.Unexcepted...)
	d.Severities = append(d.Severities, one.Severities...)
	d.Verdicts = append(d.Verdicts, one.Verdicts...)
	d.Came = append(d.Came, one.Came...)
	d.Went = append(d.Went, one.Went...)
	d.Policies = append(d.Policies, one.Policies...)
	d.Nodes = append(d.Nodes, one.Nodes...)
	d.Unread = append(d.Unread, one.Unread...)
	d.Readable = append(d.Readable, one.Readable...)
	n, m := &d.NotKnown, &one.NotKnown
	n.Findings = append(n.Findings, m.Findings...)
	n.Workloads = append(n.Workloads, m.Workloads...)
	n.Policies = append(n.Policies, m.Policies...)
	n.Nodes = append(n.Nodes, m.Nodes...)
	n.Failures = append(n.Failures, m.Failures...)
}
