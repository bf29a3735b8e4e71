package tui

import (
	"cmp"
	"slices"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// maxWorst and maxTold bound the workloads and incidents that an overview may show.
const (
	maxWorst = 8
	maxTold  = 8
)

// tally is what an overview counts of a snapshot.
type tally struct {
	// workloads counts them, unjudged those of which findings are known and no verdict,
	// unlayered those whose layers were not judged.
	workloads, unjudged, unlayered int
	// verdicts counts the workloads by verdict: one that was not told is unknown.
	verdicts map[scan.Verdict]int
	// layers counts, for each layer, the workloads by tone.
	layers [3]map[report.Tone]int
	// worst are the exposed workloads, the worst first.
	worst    []*Row
	nodes    map[nodeState]int
	doubtful int
	bites    map[scan.Bite]int
	// idle are the findings about exceptions.
	idle []*scan.Finding
	// incidents are the worst of all, of those alike the newest.
	incidents    []*scan.Alert
	allIncidents int
	// deeds counts what was done by class, and stopped how much of it was refused.
	deeds          map[scan.AlertClass]int
	total, stopped int
	// missing counts the alerts that are known to be missing, lasting the gaps that are
	// not over.
	missing, lasting int
}

// nodeState is what a node comes to.
type nodeState int

// The states of nodes, best first.
const (
	nodeProven nodeState = iota
	nodeClaimed
	nodePartly
	nodeIdle
	nodeUnknown
	nodeUnjudged
)

func stateOfNode(e *kernel.Enforcement) nodeState {
	if e == nil {
		return nodeUnjudged
	}
	switch c := report.NodeCell(e); {
	case c.Tone == report.ToneGood && e.Grade == kernel.Proven:
		return nodeProven
	case c.Tone == report.ToneGood:
		return nodeClaimed
	case c.Tone == report.TonePoor:
		return nodePartly
	case c.Tone == report.ToneBad:
		return nodeIdle
	}
	return nodeUnknown
}

func newTally(s *Snapshot) *tally {
	t := &tally{verdicts: map[scan.Verdict]int{}, nodes: map[nodeState]int{}, bites: map[scan.Bite]int{}, deeds: map[scan.AlertClass]int{}}
	for i := range t.layers {
		t.layers[i] = map[report.Tone]int{}
	}
	for _, r := range s.Rows {
		t.row(r)
	}
	for _, n := range s.Nodes {
		t.nodes[stateOfNode(n.Enforcement)]++
		if n.Enforcement != nil && len(n.Enforcement.Contradictions) > 0 {
			t.doubtful++
		}
	}
	for _, p := range s.Policies {
		t.bites[biteOf(p)]++
	}
	t.alerts(s)
	return t
}

// biteOf is whether a policy bites; what is not known of is unknown.
func biteOf(p *scan.Policy) scan.Bite {
	switch p.Bites {
	case scan.BitesYes, scan.BitesPartly, scan.BitesNo:
		return p.Bites
	case scan.BitesUnknown:
	}
	return scan.BitesUnknown
}

func (t *tally) row(r *Row) {
	if r.Verdict == nil {
		for _, f := range r.Findings {
			if f.Category == scan.CategoryException {
				t.idle = append(t.idle, f)
			}
		}
		if w := newWorkRow(r, 0); w != nil && !w.exception {
			t.workloads, t.unjudged, t.unlayered = t.workloads+1, t.unjudged+1, t.unlayered+1
			t.verdicts[w.verdict]++
		}
		return
	}
	t.workloads++
	t.verdicts[scan.Verdicts()[verdictRank(r)]]++
	if r.Verdict.Layers == nil {
		t.unlayered++
	} else {
		for i, c := range report.LayerCells(r.Verdict.Layers) {
			t.layers[i][c.Tone]++
		}
	}
	if r.Verdict.Verdict != scan.VerdictExposed {
		return
	}
	at, _ := slices.BinarySearchFunc(t.worst, r, compareExposed)
	if at < maxWorst {
		t.worst = slices.Insert(t.worst, at, r)
		t.worst = t.worst[:min(len(t.worst), maxWorst)]
	}
}

// compareExposed puts first what is worst: by severity, then by how many paths are open.
func compareExposed(a, b *Row) int {
	return cmp.Or(
		cmp.Compare(b.Verdict.Severity.Rank(), a.Verdict.Severity.Rank()),
		cmp.Compare(len(b.Verdict.Paths), len(a.Verdict.Paths)),
		compareRows(a, b))
}

func (t *tally) alerts(s *Snapshot) {
	for _, a := range slices.Backward(s.Alerts) {
		t.deeds[classOf(a)] += a.Count
		t.total += a.Count
		if a.Blocked {
			t.stopped += a.Count
		}
		if a.Incident {
			t.allIncidents++
			// Those of a severity are met the newest first.
			at := len(t.incidents)
			for at > 0 && t.incidents[at-1].Severity.Rank() < a.Severity.Rank() {
				at--
			}
			if at < maxTold {
				t.incidents = slices.Insert(t.incidents, at, a)
				t.incidents = t.incidents[:min(len(t.incidents), maxTold)]
			}
		}
	}
	for _, l := range s.Lost {
		t.missing += l.Alerts
		if l.To.IsZero() {
			t.lasting++
		}
	}
}

func classOf(a *scan.Alert) scan.AlertClass {
	if slices.Contains(scan.AlertClasses(), a.Class) {
		return a.Class
	}
	return scan.ClassOther
}
