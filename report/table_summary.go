package report

import (
	"fmt"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// summaryHang is where the lines of the summary go on: behind their first word.
const summaryHang = len("VERDICTS") + gap

// summary says how it ended, and again if it did not end well.
func (t *table) summary(end *scan.End, groups []*group) {
	t.clusterList()
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

// waysOut writes the escape paths that are open, and returns their rules in this order.
func (t *table) waysOut() []string {
	ways := t.ways()
	spans := []span{{text: "WAYS OUT", style: bold}}
	ids := make([]string, len(ways))
	for i, way := range ways {
		ids[i] = way.rule
	}
	for i, way := range ways {
		if t.width > 0 && i == maxListed {
			spans = append(spans, span{text: fmt.Sprintf("and %d more kinds", len(ways)-i)})
			break
		}
		s := span{text: fmt.Sprintf("%d %s", way.workloads, Clean(way.rule)), style: severityStyle(way.severity)}
		if way.guarded > 0 {
			s.text += fmt.Sprintf(" (%d guarded)", way.guarded)
		}
		spans = append(spans, s)
	}
	if len(ids) > 0 {
		t.row(0, summaryHang, spans...)
	}
	return ids
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
	if name := groups[0].workload.String(); t.columned && !t.fleet() && shellSafe(name) {
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
	if t.fleet() {
		unread, _ := t.notWhole()
		spans = append(spans, span{text: fmt.Sprintf("%d of %s", len(t.clusters)-unread, plural(len(t.clusters), "cluster"))})
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
