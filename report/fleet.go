package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// isFleet reports whether a run is on several clusters, so that everything has to say of
// which one it is.
func isFleet(s *scan.Start) bool { return s != nil && len(s.Clusters) > 0 }

// fleet reports whether the run is on several clusters.
func (c *gathered) fleet() bool { return isFleet(c.start) }

// cluster is the cluster that a workload, or what is named like one, is of. It is empty
// outside a fleet, where there is but one.
func (c *gathered) cluster(w scan.Workload) string { return c.ofFleet(w.Cluster) }

// ofFleet is the name of a cluster in a fleet, and empty in any other run.
func (c *gathered) ofFleet(name string) string {
	if !c.fleet() {
		return ""
	}
	return name
}

// compareRuns puts first the clusters that nothing is known of, then those that not all is
// known of, then those with the worst verdicts. The order of the fleet decides the rest.
func compareRuns(a, b *scan.ClusterRun) int {
	if c := cmp.Or(
		compareBools(b.Start == nil, a.Start == nil),
		compareBools(incomplete(&b.End), incomplete(&a.End)),
	); c != 0 {
		return c
	}
	for _, v := range scan.Verdicts()[:2] {
		if c := cmp.Compare(b.End.Verdicts[v], a.End.Verdicts[v]); c != 0 {
			return c
		}
	}
	return 0
}

// incomplete reports whether something is missing from what an End counts.
func incomplete(end *scan.End) bool { return end.Incomplete || end.Interrupted || end.Failures > 0 }

// ranked are the clusters of the fleet, those that not all is known of first.
func (c *gathered) ranked() []*scan.ClusterRun {
	place := func(run *scan.ClusterRun) int { return slices.Index(c.start.Clusters, run.Name) }
	return slices.SortedFunc(slices.Values(c.clusters), func(a, b *scan.ClusterRun) int {
		return cmp.Or(compareRuns(a, b), cmp.Compare(place(a), place(b)))
	})
}

// runState says in a word or two how the run on a cluster ended.
func runState(run *scan.ClusterRun) string {
	switch {
	case run.Start == nil:
		return "NOT READ"
	case run.End.Interrupted:
		return "INTERRUPTED"
	case incomplete(&run.End):
		return "INCOMPLETE"
	}
	return "complete"
}

// runReason says why a cluster's run is not complete: the first of what could not be read.
func (c *gathered) runReason(run *scan.ClusterRun) string {
	var why []string
	for _, f := range c.failures {
		if f.Cluster != run.Name {
			continue
		}
		text := subject(f) + " " + string(f.Reason)
		if f.Subject == scan.SubjectCluster {
			text = string(f.Reason)
		}
		why = appendNew(why, text)
	}
	const most = 2
	if more := len(why) - most; more > 0 {
		why = append(why[:most:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(why, ", ")
}

// nodesOf counts the nodes of a cluster.
func (c *gathered) nodesOf(cluster string) int {
	n := 0
	for _, node := range c.nodes {
		if node.Cluster == cluster {
			n++
		}
	}
	return n
}

// notWhole counts the clusters that nothing is known of, and those that not all is.
func (c *gathered) notWhole() (unread, partly int) {
	for _, run := range c.clusters {
		switch {
		case run.Start == nil:
			unread++
		case incomplete(&run.End):
			partly++
		}
	}
	return unread, partly
}
