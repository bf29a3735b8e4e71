package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// widestCluster is how much room the column of clusters takes at most for longer names to
// stand below each other.
const widestCluster = 24

// clusterSpan is the column of clusters. It is empty where there is but one.
func (t *table) clusterSpan(name string) span {
	return span{text: Clean(t.ofFleet(name)), style: cyan, pad: t.clusterPad}
}

// columnClusters finds how wide the column of clusters is. On a narrow terminal nothing
// stands below each other.
func (t *table) columnClusters() {
	if !t.fleet() || t.width > 0 && t.width < 80 {
		return
	}
	for _, name := range t.start.Clusters {
		t.clusterPad = max(t.clusterPad, min(width(Clean(name)), widestCluster))
	}
}

// notWholeText counts the clusters that are not fully known, empty where all are.
func (c *gathered) notWholeText() string {
	unread, partly := c.notWhole()
	var texts []string
	if unread > 0 {
		texts = append(texts, fmt.Sprintf("%d of %d could not be read at all", unread, len(c.clusters)))
	}
	if partly > 0 {
		texts = append(texts, fmt.Sprintf("%d of %d not completely", partly, len(c.clusters)))
	}
	return strings.Join(texts, ", ")
}

// clusterList writes the tally of each cluster of a fleet, those that not all is known of
// first.
func (t *table) clusterList() {
	title := "CLUSTERS"
	if t.width == 0 {
		title = ""
	}
	t.section(title, len(t.clusters))
	for _, run := range t.ranked() {
		t.clusterRow(run)
	}
}

func (t *table) clusterRow(run *scan.ClusterRun) {
	state := span{text: runState(run), style: green, pad: len("INTERRUPTED")}
	if run.Start == nil || incomplete(&run.End) {
		state.style = alarm
	}
	spans := []span{state, t.clusterSpan(run.Name)}
	spans[1].style = bold
	if t.width == 0 {
		spans = append([]span{{text: "CLUSTER", pad: len("VERDICTS")}}, spans...)
	}
	spans = append(spans, span{text: Clean(t.runReason(run)), style: doubtful})
	if run.Start != nil {
		spans = append(spans, t.runCounts(run)...)
	}
	t.row(t.indent(), t.indent()+2, spans...)
}

// runCounts are the figures of a cluster: its workloads by verdict, its findings by
// severity, and its nodes.
func (t *table) runCounts(run *scan.ClusterRun) []span {
	end := &run.End
	spans := []span{{text: plural(end.Workloads, "workload") + ":"}}
	for _, v := range scan.Verdicts() {
		if n := end.Verdicts[v]; n > 0 {
			spans = append(spans, span{text: fmt.Sprintf("%d %s", n, v), style: verdictSpan(v).style})
		}
	}
	found := len(spans)
	for _, s := range scan.Severities() {
		if n := end.Findings[s]; n > 0 {
			spans = append(spans, span{text: fmt.Sprintf("%d %s", n, s), style: severityStyle(s)})
		}
	}
	if found == len(spans) {
		spans = append(spans, span{text: "no findings"})
	} else {
		spans[found].text = "findings: " + spans[found].text
	}
	spans = append(spans, span{text: plural(t.nodesOf(run.Name), "node")})
	return append(spans, span{text: Clean(labelled("Kubernetes", run.Start.ServerVersion)), style: dim})
}
