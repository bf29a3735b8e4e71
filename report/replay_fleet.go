package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan"
)

// replayedFleet is how far the stream of a fleet has come: how many of its clusters are
// closed. There is none in any other stream.
type replayedFleet struct {
	names  []string
	closed int
	// held are, of the json form, the records of each cluster, loose those of none, and
	// runs what closes the clusters: the arrays have them apart.
	held  map[string][]scan.Event
	loose []scan.Event
	runs  []*scan.ClusterRun
}

// newReplayedFleet reads the clusters that a start names.
func newReplayedFleet(s *scan.Start) (*replayedFleet, error) {
	switch {
	case s.Source != scan.SourceFleet && len(s.Clusters) == 0:
		return nil, nil
	case s.Source != scan.SourceFleet:
		return nil, fmt.Errorf("start: clusters: only a fleet has them, and the source is %q", Clean(string(s.Source)))
	case len(s.Clusters) == 0:
		return nil, errors.New("start: a fleet of no clusters")
	case s.Watch:
		return nil, errors.New("start: a fleet is not watched")
	}
	for i, name := range s.Clusters {
		switch {
		case name == "":
			return nil, errors.New("start: clusters: a cluster without a name")
		case slices.Contains(s.Clusters[:i], name):
			return nil, fmt.Errorf("start: clusters: %q stands there twice", Clean(name))
		}
	}
	return &replayedFleet{names: s.Clusters, held: map[string][]scan.Event{}}, nil
}

// check refuses what cannot follow what was told of the fleet: every cluster has its
// turn, in the order of the start, and all that is told of it stands together.
func (f *replayedFleet) check(e scan.Event) error {
	switch {
	case e.Cluster != nil:
		return f.checkRun(e.Cluster)
	case e.End != nil && f.closed < len(f.names):
		return fmt.Errorf("end: no cluster event of %q before it: the fleet is not whole", Clean(f.names[f.closed]))
	}
	name, ok := clusterOf(e)
	kind, _ := kindOf(e)
	switch {
	case !ok:
		return nil
	case name == "" && f.closed < len(f.names):
		return fmt.Errorf("%s: of no cluster, before all clusters of the fleet were told of", kind)
	case name != "" && (f.closed == len(f.names) || name != f.names[f.closed]):
		return fmt.Errorf("%s: of cluster %q, which %s", kind, Clean(name), f.notNow(name))
	}
	return nil
}

// checkRun refuses the event of a cluster that is not the one told of.
func (f *replayedFleet) checkRun(run *scan.ClusterRun) error {
	switch {
	case f.closed == len(f.names) || run.Name != f.names[f.closed]:
		return fmt.Errorf("cluster %q: it %s", Clean(run.Name), f.notNow(run.Name))
	case run.Start == nil && !run.End.Incomplete:
		return fmt.Errorf("cluster %q: no run could begin there, and the end calls it complete", Clean(run.Name))
	case run.Start != nil:
		if err := checkEvent(scan.Event{Start: run.Start}); err != nil {
			return fmt.Errorf("cluster %q: %w", Clean(run.Name), err)
		}
	}
	return nil
}

// notNow says of a cluster why this is not its turn.
func (f *replayedFleet) notNow(name string) string {
	switch at := slices.Index(f.names, name); {
	case at < 0:
		return "is not one of the fleet's"
	case at < f.closed:
		return "was closed before"
	}
	return fmt.Sprintf("comes after %q", Clean(f.names[f.closed]))
}

// clusterOf is the cluster that a record is of; ok is false for what is of the run.
func clusterOf(e scan.Event) (name string, ok bool) {
	switch {
	case e.Node != nil:
		return e.Node.Cluster, true
	case e.Policy != nil:
		return e.Policy.Cluster, true
	case e.Finding != nil:
		return e.Finding.Workload.Cluster, true
	case e.Verdict != nil:
		return e.Verdict.Workload.Cluster, true
	case e.Failure != nil:
		return e.Failure.Cluster, true
	case e.Alert != nil:
		return e.Alert.Workload.Cluster, true
	case e.Lost != nil && e.Lost.Workload != nil:
		return e.Lost.Workload.Cluster, true
	}
	return "", false
}

// hold keeps a record of the json form until its cluster has its turn.
func (f *replayedFleet) hold(e scan.Event) error {
	if e.Cluster != nil {
		f.runs = append(f.runs, e.Cluster)
		return nil
	}
	name, _ := clusterOf(e)
	if name == "" {
		f.loose = append(f.loose, e)
		return nil
	}
	if !slices.Contains(f.names, name) {
		kind, _ := kindOf(e)
		return fmt.Errorf("%s: of cluster %q, which is not one of the fleet's", kind, Clean(name))
	}
	f.held[name] = append(f.held[name], e)
	return nil
}

// tell gives what was held in the order of a stream: cluster by cluster.
func (f *replayedFleet) tell(give func(scan.Event) error) error {
	for _, run := range f.runs {
		for _, e := range f.held[run.Name] {
			if err := give(e); err != nil {
				return err
			}
		}
		delete(f.held, run.Name)
		if err := give(scan.Event{Cluster: run}); err != nil {
			return err
		}
	}
	for _, e := range f.loose {
		if err := give(e); err != nil {
			return err
		}
	}
	f.runs, f.loose = nil, nil
	return nil
}

// record takes one record of an array of the json form. Those of a fleet wait for the
// end.
func (p *replayer) record(e scan.Event) error {
	if p.fleet == nil || p.ended {
		return p.give(e)
	}
	if err := checkEvent(e); err != nil {
		return err
	}
	return p.fleet.hold(e)
}

// end closes the json form.
func (p *replayer) end(dec *json.Decoder) error {
	e, err := decodeKind(dec, "end")
	if err != nil {
		return err
	}
	if p.fleet != nil && !p.ended {
		if err := p.fleet.tell(p.give); err != nil {
			return err
		}
	}
	return p.give(e)
}
