package main

import (
	"fmt"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan"
)

// mostToldClusters bounds how many clusters stderr hears of; the output names all.
const mostToldClusters = 20

// clusterTroubles is the stage that remembers why clusters of a fleet could not be
// scanned.
type clusterTroubles struct {
	next scan.Handler
	why  map[string]*scan.Failure
}

func newClusterTroubles(next scan.Handler) *clusterTroubles {
	return &clusterTroubles{next: next, why: map[string]*scan.Failure{}}
}

// Handle passes the event on.
func (t *clusterTroubles) Handle(e scan.Event) error {
	if f := e.Failure; f != nil && f.Cluster != "" && f.Subject == scan.SubjectCluster {
		t.why[f.Cluster] = f
	}
	return t.next.Handle(e)
}

// concludeFleet says on stderr which clusters of a fleet are incomplete. It is an error
// when no scan could begin on any of them.
func (a *app) concludeFleet(runs []scan.ClusterRun, troubles *clusterTroubles) error {
	begun, told, more := 0, 0, 0
	for i := range runs {
		run := &runs[i]
		if run.Start != nil {
			begun++
		}
		text := ""
		why := troubles.why[run.Name]
		switch {
		case run.End.Interrupted && run.Start == nil:
			text = "was not begun"
		case run.End.Interrupted:
			text = "was stopped before its end"
		case why != nil && run.Start == nil:
			text = fmt.Sprintf("could not be scanned: %s (%s)", why.Message, why.Reason)
		case run.End.Incomplete:
			text = counted(run.End.Failures, "thing") + " could not be read"
		default:
			continue
		}
		if told++; told > mostToldClusters && run.Start != nil {
			more++
			continue
		}
		a.complain("incomplete", "cluster "+run.Name+": "+text)
	}
	if more > 0 {
		a.complain("incomplete", fmt.Sprintf("and %s more, which the output names", counted(more, "cluster")))
	}
	if len(runs) == 0 || begun > 0 || slices.ContainsFunc(runs, func(run scan.ClusterRun) bool { return run.End.Interrupted }) {
		return nil
	}
	a.complain("incomplete", fmt.Sprintf("no cluster could be scanned: nothing was judged (exit code %d)", exitIncomplete))
	return &exitError{code: exitIncomplete}
}
