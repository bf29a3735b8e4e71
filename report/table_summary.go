package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// nodeList writes the nodes, those alike on one line.
func (t *table) nodeList() {
	names := map[string][]string{}
	kinds := map[string][]span{}
	for _, n := range t.nodes {
		spans := nodeSpans(n)
		key := fmt.Sprint(spans)
		kinds[key] = spans
		names[key] = append(names[key], Clean(n.Name))
	}
	t.section("", len(names))
	for _, key := range slices.Sorted(maps.Keys(names)) {
		list := names[key]
		more := ""
		if t.width > 0 && len(list) > maxListed {
			more = fmt.Sprintf(" and %d more", len(list)-maxListed)
			list = list[:maxListed]
		}
		spans := append([]span{
			{text: "NODES", style: bold, pad: len("VERDICTS")},
			{text: fmt.Sprint(len(names[key]))},
		}, kinds[key]...)
		t.row(0, summaryHang, append(spans, span{text: strings.Join(list, ", ") + more, style: dim})...)
	}
}

// nodeSpans is what a node shares with others like it.
func nodeSpans(n *scan.Node) []span {
	var spans []span
	for _, text := range []string{
		n.OSImage, labelled("kernel", n.KernelVersion), n.Architecture,
		n.ContainerRuntime, labelled("kubelet", n.KubeletVersion),
	} {
		if text != "" {
			spans = append(spans, span{text: Clean(text)})
		}
	}
	return spans
}

// summaryHang is where the lines of the summary go on: behind their first word.
const summaryHang = len("VERDICTS") + gap

// summary says how it ended, and again if it did not end well.
func (t *table) summary(end *scan.End) {
	t.newline()
	t.row(0, summaryHang, t.scannedSpans(end)...)
	verdicts := []span{{text: "VERDICTS", style: bold, pad: len("VERDICTS")}}
	for _, v := range scan.Verdicts() {
		s := span{text: fmt.Sprintf("%d %s", end.Verdicts[v], v)}
		if end.Verdicts[v] > 0 {
			s.style = verdictSpan(v).style
		}
		verdicts = append(verdicts, s)
	}
	t.row(0, summaryHang, verdicts...)
	ways := t.waysOut()
	t.row(0, summaryHang, findingSpans(end)...)
	if s := t.start; s != nil {
		t.row(0, summaryHang,
			span{text: "JUDGED", style: bold, pad: len("VERDICTS")},
			span{text: Clean(strings.TrimSpace("by Pod Security Standards " + s.Level + " " + s.PSSVersion))},
			span{text: Clean(labelled("rule set", s.RuleSet))})
	}
	if s := t.start; t.width > 0 && len(ways) > 0 && s != nil && s.Tool != "" {
		t.row(0, summaryHang,
			span{text: "EXPLAIN", style: bold, pad: len("VERDICTS")},
			span{text: Clean(s.Tool + " rules explain " + ways[0])})
	}
	switch {
	case end.Incomplete || end.Interrupted || end.Failures > 0:
		t.row(0, 2, incompleteSpans(end)...)
	case end.Workloads == 0:
		t.row(0, 2, span{text: "NOTHING JUDGED", style: doubtful}, span{text: "no workload was found."})
	case end.Verdicts[scan.VerdictClosed] == end.Workloads:
		t.row(0, 2, span{text: "No way out to the host was found in any workload's spec.", style: green})
	}
}

// waysOut counts the workloads in which each escape path is open, the worst and
// most frequent first. It returns their rules in this order.
func (t *table) waysOut() []string {
	workloads := map[string]map[scan.Workload]bool{}
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
		spans = append(spans, span{text: fmt.Sprintf("%d %s", len(workloads[id]), Clean(id)), style: severityStyle(severities[id])})
	}
	if len(ids) > 0 {
		t.row(0, summaryHang, spans...)
	}
	return ids
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
