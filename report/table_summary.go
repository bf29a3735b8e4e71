package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// summaryHang is where the lines of the summary go on: behind their first word.
const summaryHang = len("VERDICTS") + gap

// summary says how it ended, and again if it did not end well.
func (t *table) summary(end *scan.End, groups []*group) {
	t.newline()
	t.row(0, summaryHang, t.scannedSpans(end)...)
	t.row(0, summaryHang, verdictCounts(end.Verdicts)...)
	if t.columned && t.width > 0 {
		t.legend()
	}
	ways := t.waysOut()
	t.policyCount()
	t.row(0, summaryHang, findingSpans(end)...)
	t.alertCount()
	if s := t.start; s != nil {
		t.row(0, summaryHang,
			span{text: "JUDGED", style: bold, pad: len("VERDICTS")},
			span{text: Clean(strings.TrimSpace("by Pod Security Standards " + s.Level + " " + s.PSSVersion))},
			span{text: Clean(labelled("rule set", s.RuleSet))})
	}
	t.explainLine(ways, groups)
	switch {
	case end.Incomplete || end.Interrupted || end.Failures > 0:
		t.row(0, 2, incompleteSpans(end)...)
	case end.Workloads == 0:
		t.row(0, 2, span{text: "NOTHING JUDGED", style: doubtful}, span{text: "no workload was found."})
	case end.Verdicts[scan.VerdictClosed]+end.Verdicts[scan.VerdictSealed] == end.Workloads:
		t.row(0, 2, span{text: "No way out to the host was found in any workload's spec.", style: green})
	case end.Verdicts[scan.VerdictClosed]+end.Verdicts[scan.VerdictSealed]+end.Verdicts[scan.VerdictGuarded] == end.Workloads:
		t.row(0, 2, span{text: "Every way out that a spec leaves open is stopped at run time.", style: green})
	}
}

// verdictCounts is the line of the verdicts, its title first.
func verdictCounts(counts map[scan.Verdict]int) []span {
	spans := []span{{text: "VERDICTS", style: bold, pad: len("VERDICTS")}}
	for _, v := range scan.Verdicts() {
		s := span{text: fmt.Sprintf("%d %s", counts[v], v)}
		if counts[v] > 0 {
			s.style = verdictSpan(v).style
		}
		spans = append(spans, s)
	}
	return spans
}

// waysOut counts the workloads in which each escape path is open, the worst and
// most frequent first. It returns their rules in this order.
func (t *table) waysOut() []string {
	workloads := map[string]map[scan.Workload]bool{}
	guarded := map[string]map[scan.Workload]bool{}
	severities := map[string]scan.Severity{}
	for w, g := range t.groups {
		for _, v := range g.verdicts {
			for _, id := range v.Paths {
				if workloads[id] == nil {
					workloads[id] = map[scan.Workload]bool{}
				}
				workloads[id][w] = true
			}
		}
		for _, id := range g.guarded() {
			if guarded[id] == nil {
				guarded[id] = map[scan.Workload]bool{}
			}
			guarded[id][w] = true
		}
		for _, f := range g.findings {
			if f.Open && f.Severity.Rank() > severities[f.Rule].Rank() {
				severities[f.Rule] = f.Severity
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(workloads), func(a, b string) int {
		return cmp.Or(
			cmp.Compare(severities[b].Rank(), severities[a].Rank()),
			cmp.Compare(len(workloads[b]), len(workloads[a])),
			cmp.Compare(a, b))
	})
	spans := []span{{text: "WAYS OUT", style: bold}}
	for i, id := range ids {
		if t.width > 0 && i == maxListed {
			spans = append(spans, span{text: fmt.Sprintf("and %d more kinds", len(ids)-i)})
			break
		}
		s := span{text: fmt.Sprintf("%d %s", len(workloads[id]), Clean(id)), style: severityStyle(severities[id])}
		if n := len(guarded[id]); n > 0 {
			s.text += fmt.Sprintf(" (%d guarded)", n)
		}
		spans = append(spans, s)
	}
	if len(ids) > 0 {
		t.row(0, summaryHang, spans...)
	}
	return ids
}

// guarded are the paths of a workload that are stopped wherever they are open.
func (g *group) guarded() []string {
	if !slices.ContainsFunc(g.verdicts, func(v *scan.WorkloadVerdict) bool { return v.Layers != nil }) {
		return nil
	}
	states := map[string]bool{}
	for _, v := range g.verdicts {
		if v.Layers == nil {
			// What is open here was not held against the layers.
			for _, id := range v.Paths {
				states[id] = false
			}
			continue
		}
		for i := range v.Layers.Paths {
			p := &v.Layers.Paths[i]
			stopped, seen := states[p.Path]
			states[p.Path] = p.State == scan.PathStopped && (stopped || !seen)
		}
	}
	maps.DeleteFunc(states, func(_ string, stopped bool) bool { return !stopped })
	return slices.Sorted(maps.Keys(states))
}

// explainLine names the commands that say more: of the worst rule and, where the
// layers were judged, of the worst workload.
func (t *table) explainLine(ways []string, groups []*group) {
	if t.width == 0 || len(ways) == 0 || t.start == nil || t.start.Tool == "" {
		return
	}
	tool := Clean(t.start.Tool)
	spans := []span{
		{text: "EXPLAIN", style: bold, pad: len("VERDICTS")},
		{text: tool + " rules explain " + Clean(ways[0])},
	}
	// A name is pasted into a shell by who reads this: only harmless ones are shown.
	if name := groups[0].workload.String(); t.columned && shellSafe(name) {
		spans = append(spans, span{text: tool + " scan --explain " + name})
	}
	t.row(0, summaryHang, spans...)
}

// shellSafe reports whether a shell takes s as one plain word.
func shellSafe(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._/", r)
	})
}

func (t *table) scannedSpans(end *scan.End) []span {
	spans := []span{
		{text: "SCANNED", style: bold, pad: len("VERDICTS")},
		{text: plural(end.Workloads, "workload")},
	}
	if end.Pods > 0 {
		spans = append(spans, span{text: plural(end.Pods, "pod")})
	}
	if end.Documents > 0 {
		spans = append(spans, span{text: plural(end.Documents, "document")})
	}
	if end.Skipped > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%s without pods skipped", plural(end.Skipped, "document"))})
	}
	if len(t.nodes) > 0 {
		spans = append(spans, span{text: plural(len(t.nodes), "node")})
	}
	return spans
}

func findingSpans(end *scan.End) []span {
	spans := []span{{text: "FINDINGS", style: bold, pad: len("VERDICTS")}}
	for _, sev := range scan.Severities() {
		s := span{text: fmt.Sprintf("%d %s", end.Findings[sev], sev)}
		if end.Findings[sev] > 0 {
			s.style = severityStyle(sev)
		}
		spans = append(spans, s)
	}
	if end.Excepted > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%d excepted", end.Excepted)})
	}
	if end.Known > 0 {
		spans = append(spans, span{text: fmt.Sprintf("%d known from the baseline", end.Known)})
	}
	return spans
}
