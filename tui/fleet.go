package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// fleet reports whether the run is on several clusters, so that every name needs the one
// that it is of.
func (s *Snapshot) fleet() bool { return s.Start != nil && len(s.Start.Clusters) > 0 }

// inCluster is a name with the cluster of a fleet before it; there is none in any other run.
func inCluster(cluster, name string) string {
	if cluster == "" {
		return name
	}
	return cluster + ": " + name
}

// fitted is inCluster for so many cells: of what does not fit the cluster is shortened
// first, for the names below it have to be told apart.
func fitted(cluster, name string, cells int) string {
	room := cells - ansi.StringWidth(report.Clean(name)) - 2
	if cluster == "" || ansi.StringWidth(report.Clean(cluster)) <= room {
		return inCluster(cluster, name)
	}
	return inCluster(clean(cluster, max(6, room)), name)
}

// name is the workload's, with the cluster of a fleet.
func (r *Row) name() string { return inCluster(r.Cluster, r.Ref.Workload.String()) }

// nodeName is what a node is known by: several clusters may have one of its name.
func nodeName(n *scan.Node) string { return inCluster(n.Cluster, n.Name) }

// policyTitle names a policy with its kind, and in a fleet with its cluster. It is clean.
func policyTitle(p *scan.Policy) string {
	return inCluster(report.Clean(p.Cluster), report.PolicyName(p))
}

// unreachedFirst puts first the clusters of a fleet that could not be reached at all.
func unreachedFirst(a, b *scan.Failure) int {
	rank := func(f *scan.Failure) int {
		if f.Cluster != "" && f.Subject == scan.SubjectCluster {
			return 0
		}
		return 1
	}
	return cmp.Compare(rank(a), rank(b))
}

// wholly reports whether all that there is of a cluster was read.
func wholly(run *scan.ClusterRun) bool {
	return run.Start != nil && !run.End.Incomplete && !run.End.Interrupted && run.End.Failures == 0
}

// clusters are those of a fleet with the tally of each: first those that nothing is known
// of, then those that not all is.
func (s *sections) clusters() {
	if !s.snap.fleet() {
		return
	}
	t, runs := s.theme, slices.Clone(s.snap.Clusters)
	rank := func(run *scan.ClusterRun) int {
		switch {
		case run.Start == nil:
			return 0
		case !wholly(run):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(runs, func(a, b *scan.ClusterRun) int { return cmp.Compare(rank(a), rank(b)) })
	whole := 0
	for _, run := range runs {
		if wholly(run) {
			whole++
		}
	}
	s.title("Clusters", t.title, fmt.Sprintf("%d of %d read completely", whole, len(s.snap.Start.Clusters)))
	for _, run := range runs {
		s.cluster(run)
	}
}

// clusterWords is how wide the column of states is.
const clusterWords = len("incomplete") + 2

func (s *sections) cluster(run *scan.ClusterRun) {
	t := s.theme
	word, style := "complete", t.good
	switch {
	case run.Start == nil:
		word, style = "not read", t.errorText
	case !wholly(run):
		word, style = "incomplete", t.doubt
	}
	tail := t.dim.Render("nothing is known")
	if run.Start != nil {
		tally := [5]int{}
		for i, v := range scan.Verdicts() {
			tally[i] = run.End.Verdicts[v]
		}
		tail = drawTally(t, tally, s.width < 56)
	}
	head := " " + style.Render(pad(word, clusterWords))
	if s.width < 56 {
		head = " " + style.Render(pad(word[:1], 2))
	}
	at := &stop{id: "cluster " + run.Name, what: "the cluster", text: report.Clean(run.Name) + ": " + word + ", " + ansi.Strip(tail)}
	if !strings.ContainsAny(run.Name, " \t\r\n,") {
		at.act = gotoMsg{viewWorkloads, keyCluster + ":" + run.Name}
	}
	room := max(8, s.width-ansi.StringWidth(head)-ansi.StringWidth(tail)-3)
	s.add(head+cell(run.Name, room)+" "+tail, at)
}

// fleetEvents tells a part of a fleet cluster by cluster, as a scan of it would, by what
// tells the things of the one of the name and counts its pods.
func (s *Snapshot) fleetEvents(tell func(scan.Event), things func(cluster string) (pods int)) {
	for _, name := range s.Start.Clusters {
		pods := things(name)
		run := scan.ClusterRun{Name: name, End: scan.End{Incomplete: true}}
		if i := slices.IndexFunc(s.Clusters, func(r *scan.ClusterRun) bool { return r.Name == name }); i >= 0 {
			run = *s.Clusters[i]
		}
		run.End.Pods = pods
		tell(scan.Event{Cluster: &run})
	}
	things("")
}
