package report

import (
	"strings"
)

// htmlCluster is the row of one cluster of a fleet.
type htmlCluster struct {
	Name string
	// State is how its run ended, Class that in colours, and Why what is missing.
	State, Class, Why string
	// Read is false where nothing is known of the cluster.
	Read               bool
	Verdicts, Severity htmlChart
	Nodes              int
	Version            string
}

// htmlClusters are the clusters of a fleet, those that not all is known of first.
func (h *htmlReport) htmlClusters() []htmlCluster {
	var list []htmlCluster
	for _, run := range h.ranked() {
		c := htmlCluster{
			Name: run.Name, State: strings.ToLower(runState(run)), Class: string(ToneGood), Why: h.runReason(run), Read: run.Start != nil,
			Verdicts: verdictChart(run.End.Verdicts), Severity: severityChart(run.End.Findings), Nodes: h.nodesOf(run.Name),
		}
		if run.Start == nil || incomplete(&run.End) {
			c.Class = string(ToneBad)
		}
		if run.Start != nil {
			c.Version = run.Start.ServerVersion
		}
		list = append(list, c)
	}
	return list
}
