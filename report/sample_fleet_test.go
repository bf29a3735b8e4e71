package report

import (
	"slices"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// fleetMember is a run that becomes one cluster's part of a fleet.
type fleetMember struct {
	name string
	// events are those of a run on one cluster, nil for one that could not be reached.
	events []scan.Event
}

// fleetOf composes the stream of a fleet of runs on one cluster each, with what is of no
// cluster behind the clusters.
func fleetOf(t testing.TB, members []fleetMember, loose ...scan.Event) []scan.Event {
	t.Helper()
	start := scan.Start{
		Schema: scan.SchemaVersion, Tool: "escape-scanner", Version: "v0.3.0", RuleSet: "2",
		Time: sampleTime(), Source: scan.SourceFleet, Level: "baseline", PSSVersion: "latest",
	}
	var total scan.End
	var told []scan.Event
	for _, m := range members {
		start.Clusters = append(start.Clusters, m.name)
		if m.events == nil {
			told = append(told,
				scan.Event{Failure: &scan.Failure{
					Cluster: m.name, Subject: scan.SubjectCluster, Reason: scan.FailureUnreachable,
					Message: "dial tcp 10.0.0.1:6443: connect: connection refused", Affects: "everything in it",
				}},
				scan.Event{Cluster: &scan.ClusterRun{Name: m.name, End: scan.End{Incomplete: true}}})
			total.Incomplete = true
			continue
		}
		run := &scan.ClusterRun{Name: m.name}
		for _, e := range m.events {
			switch {
			case e.Start != nil:
				own := *e.Start
				own.Cluster = m.name
				run.Start = &own
			case e.End != nil:
				run.End = *e.End
				total.Pods, total.Documents = total.Pods+e.End.Pods, total.Documents+e.End.Documents
				total.Incomplete = total.Incomplete || e.End.Incomplete
			case e.Progress != nil:
			default:
				told = append(told, ofCluster(e, m.name))
			}
		}
		told = append(told, scan.Event{Cluster: run})
	}
	events := append([]scan.Event{{Start: &start}}, told...)
	events = append(append(events, loose...), scan.Event{End: &total})
	return tallied(t, events)
}

// ofCluster is an event as a fleet tells it of a cluster.
func ofCluster(e scan.Event, name string) scan.Event {
	switch {
	case e.Node != nil:
		n := *e.Node
		n.Cluster, e.Node = name, &n
	case e.Policy != nil:
		p := *e.Policy
		p.Cluster, e.Policy = name, &p
	case e.Failure != nil:
		f := *e.Failure
		f.Cluster, e.Failure = name, &f
	case e.Finding != nil:
		f := *e.Finding
		f.Workload.Cluster, e.Finding = name, &f
	case e.Verdict != nil:
		v := *e.Verdict
		v.Workload.Cluster, e.Verdict = name, &v
	}
	return e
}

// tallied are the events with the counts that they add up to.
func tallied(t testing.TB, events []scan.Event) []scan.Event {
	t.Helper()
	var counted []scan.Event
	tally := scan.NewTally(scan.HandlerFunc(func(e scan.Event) error {
		counted = append(counted, e)
		return nil
	}))
	for _, e := range events {
		if err := tally.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return counted
}

// fleetEvents is a fleet of a cluster of which all is known, one like it in which nothing
// could be forbidden, one that could not be reached and one with an enemy's name.
func fleetEvents(t testing.TB) []scan.Event {
	t.Helper()
	whole := func(events []scan.Event) []scan.Event {
		events = slices.DeleteFunc(slices.Clone(events), func(e scan.Event) bool { return e.Failure != nil })
		end := *events[len(events)-1].End
		end.Incomplete, end.Failures = false, 0
		events[len(events)-1] = scan.Event{End: &end}
		return events
	}
	quiet := append([]scan.Event{{Start: &scan.Start{Schema: 1, Source: scan.SourceCluster, ServerVersion: "v1.35.1", Level: "baseline", PSSVersion: "v1.35"}}}, sampleClosed()...)
	quiet = append(quiet, scan.Event{End: &scan.End{Pods: 48}})
	loose := slices.DeleteFunc(slices.Clone(sampleEvents()), func(e scan.Event) bool {
		return e.Finding == nil || e.Finding.Category != scan.CategoryException
	})
	return fleetOf(t, []fleetMember{
		{"prod-eu", whole(layeredEvents())},
		{"prod-us", layeredEvents()},
		{"staging", nil},
		{"edge-of-the-world-with-a-long-name", quiet},
		{evil, append([]scan.Event{{Start: &scan.Start{Schema: 1, Source: scan.SourceCluster}}}, append(sampleAgent(), scan.Event{End: &scan.End{Pods: 3}})...)},
	}, loose...)
}
