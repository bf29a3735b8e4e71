package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	psa "k8s.io/pod-security-admission/api"
)

// Member is one cluster of a fleet.
type Member struct {
	// Name is the cluster's, which no other of the fleet has, and which its workloads
	// carry.
	Name string
	// Scan sends the run on the cluster to next, as ScanCluster does. Its error is why
	// there is no such run, or why it has no end.
	Scan func(ctx context.Context, next Handler) error
}

// FleetOptions say how a fleet is scanned.
type FleetOptions struct {
	// Start holds what only the caller knows of the run (tool, version, time, namespaces,
	// selector, notes); the scan fills in the rest.
	Start Start
	// Level and PSSVersion are as the user gives them: each cluster tells its own version
	// of the Pod Security Standards.
	Level      psa.Level
	PSSVersion string
	// Parallel is how many clusters are scanned at a time, at least one.
	Parallel int
}

// ScanFleet scans clusters side by side and sends one run of all of them. Whichever is
// done first, it tells of one after the other in the order of members, and so the same
// clusters give the same stream: of the first that is not done it tells while it is
// scanned, what the others found is kept until it is their turn. Progress counts all of
// them.
//
// A cluster that cannot be scanned becomes a Failure and does not stop the others. The
// error is about the options, or the handler's.
func ScanFleet(ctx context.Context, opts FleetOptions, members []Member, next Handler) error {
	start, err := opts.begin(members)
	if err != nil {
		return err
	}
	f := newFleet(members, next)
	if err := f.send(Event{Start: &start}); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var begun atomic.Int64
	var wg sync.WaitGroup
	for range min(max(opts.Parallel, 1), len(members)) {
		wg.Go(func() {
			for i := int(begun.Add(1)) - 1; i < len(members); i = int(begun.Add(1)) - 1 {
				err := running.Err()
				if err == nil {
					err = members[i].Scan(running, f.members[i])
				}
				if f.finish(f.members[i], err) != nil {
					stop()
				}
			}
		})
	}
	wg.Wait()
	return f.end()
}

// begin makes the Start of the whole.
func (o *FleetOptions) begin(members []Member) (Start, error) {
	start := o.Start
	start.Source, start.Clusters = SourceFleet, make([]string, len(members))
	for i := range members {
		name := members[i].Name
		switch {
		case name == "":
			return start, errors.New("fleet: a cluster without a name")
		case slices.Contains(start.Clusters[:i], name):
			return start, fmt.Errorf("fleet: two clusters named %q", name)
		}
		start.Clusters[i] = name
	}
	asked := o.PSSVersion
	if asked == "" {
		asked = PSSServer
	}
	if asked != PSSServer {
		version, notes, err := ResolvePSS(asked, "")
		if err != nil {
			return start, err
		}
		asked, start.Notes = version.String(), slices.Concat(start.Notes, notes)
	}
	start.Schema, start.RuleSet = SchemaVersion, RuleSetVersion
	start.Level, start.PSSVersion = string(o.Level), asked
	return start, nil
}

// fleet joins the streams of its members to one.
type fleet struct {
	members []*fleetMember

	mu   sync.Mutex
	next Handler
	// turn is the first of the members that is not done.
	turn int
	// err is why nothing can be sent any more.
	err error
}

// fleetMember is the Handler of one cluster, used by one goroutine.
type fleetMember struct {
	fleet    *fleet
	name     string
	start    *Start
	ended    *End
	progress Progress
	kept     []Event
	done     bool
}

func newFleet(members []Member, next Handler) *fleet {
	f := &fleet{next: next, members: make([]*fleetMember, len(members))}
	for i := range members {
		f.members[i] = &fleetMember{fleet: f, name: members[i].Name}
	}
	return f
}

func (f *fleet) send(e Event) error {
	if f.err == nil {
		if err := f.next.Handle(e); err != nil {
			f.err = fmt.Errorf("%w: %w", errHandler, err)
		}
	}
	return f.err
}

// Handle takes in what is told of the cluster.
func (m *fleetMember) Handle(e Event) error {
	f := m.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.err != nil:
		return f.err
	case e.Start != nil:
		m.start = e.Start
		return nil
	case e.End != nil:
		m.ended = e.End
		return nil
	case e.Progress != nil:
		m.progress = *e.Progress
		return f.sendProgress()
	}
	e, err := m.own(e)
	if err != nil {
		f.err = err
		return err
	}
	return f.tell(m, e)
}

// own is the event as one of the cluster.
func (m *fleetMember) own(e Event) (Event, error) {
	var w *Workload
	switch {
	case e.Node != nil:
		n := *e.Node
		n.Cluster, e.Node = m.name, &n
		return e, nil
	case e.Policy != nil:
		p := *e.Policy
		p.Cluster, e.Policy = m.name, &p
		return e, nil
	case e.Failure != nil:
		failure := *e.Failure
		failure.Cluster, e.Failure = m.name, &failure
		return e, nil
	case e.Finding != nil:
		w = &e.Finding.Workload
	case e.Verdict != nil:
		w = &e.Verdict.Workload
	default:
		return e, fmt.Errorf("fleet: cluster %s: an event that no scan of a cluster has", m.name)
	}
	if w.Cluster != m.name {
		return e, fmt.Errorf("fleet: cluster %s: %s is of cluster %q", m.name, w, w.Cluster)
	}
	return e, nil
}

// tell sends an event of the member, or keeps it until its turn.
func (f *fleet) tell(m *fleetMember, e Event) error {
	if f.turn < len(f.members) && f.members[f.turn] == m {
		return f.send(e)
	}
	m.kept = append(m.kept, e)
	return nil
}

func (f *fleet) sendProgress() error {
	var sum Progress
	for _, m := range f.members {
		sum.Pods += m.progress.Pods
		sum.Documents += m.progress.Documents
		sum.Workloads += m.progress.Workloads
		sum.Remaining += m.progress.Remaining
	}
	return f.send(Event{Progress: &sum})
}

// finish closes the member, whose scan ended with err, and gives the next its turn.
func (f *fleet) finish(m *fleetMember, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if m.done = true; m.ended == nil {
		failure := m.failure(err)
		m.ended = &End{Pods: m.progress.Pods, Incomplete: true, Interrupted: failure.Reason == FailureInterrupted}
		if err := f.tell(m, Event{Failure: failure}); err != nil {
			return err
		}
	}
	if err := f.tell(m, Event{Cluster: &ClusterRun{Name: m.name, Start: m.start, End: *m.ended}}); err != nil {
		return err
	}
	for f.turn < len(f.members) && f.members[f.turn].done {
		f.turn++
		if f.turn == len(f.members) {
			break
		}
		next := f.members[f.turn]
		for _, e := range next.kept {
			if err := f.send(e); err != nil {
				return err
			}
		}
		next.kept = nil
	}
	return nil
}

// SubjectCluster is the subject of the failure to scan a cluster of a fleet.
const SubjectCluster = "cluster"

// failure is that the cluster could not be scanned, or not to its end.
func (m *fleetMember) failure(err error) *Failure {
	affects := "everything in it"
	if m.start != nil {
		affects = "what was not told of it before"
	}
	if err == nil {
		err = errors.New("the scan came to no end")
	}
	failure := FailureOf(SubjectCluster, "", err, affects)
	if failure.Reason == FailureInterrupted && m.start == nil {
		failure.Message = "the scan was interrupted before this cluster was begun"
	}
	failure.Cluster = m.name
	return &failure
}

// end closes the stream. Counts of what passed are a Tally's.
func (f *fleet) end() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var end End
	for _, m := range f.members {
		if m.ended == nil {
			continue
		}
		end.Pods += m.ended.Pods
		end.Documents += m.ended.Documents
		end.Skipped += m.ended.Skipped
		end.Known += m.ended.Known
		end.Incomplete = end.Incomplete || m.ended.Incomplete
		end.Interrupted = end.Interrupted || m.ended.Interrupted
	}
	return f.send(Event{End: &end})
}
