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
	for _, n := range t.nodes {
		var parts []string
		for _, part := range []string{
			n.OSImage, labelled("kernel", n.KernelVersion), n.Architecture,
			n.ContainerRuntime, labelled("kubelet", n.KubeletVersion),
		} {
			if part != "" {
				parts = append(parts, Clean(part))
			}
		}
		kind := cmp.Or(strings.Join(parts, "  "), "nothing known")
		names[kind] = append(names[kind], Clean(n.Name))
	}
	t.section("", len(names))
	for _, kind := range slices.Sorted(maps.Keys(names)) {
		list := names[kind]
		more := ""
		if t.width > 0 && len(list) > maxListed {
			more = fmt.Sprintf(" and %d more", len(list)-maxListed)
			list = list[:maxListed]
		}
		t.row(0, 2,
			span{text: "NODES", style: bold},
			span{text: fmt.Sprint(len(names[kind]))},
			span{text: kind},
			span{text: strings.Join(list, ", ") + more, style: dim})
	}
}

// summary says how it ended, and again if it did not end well.
func (t *table) summary(end *scan.End) {
	t.newline()
	t.row(0, 2, t.scannedSpans(end)...)
	verdicts := []span{{text: "VERDICTS", style: bold}}
	for _, v := range scan.Verdicts() {
		s := span{text: fmt.Sprintf("%d %s", end.Verdicts[v], v)}
		if end.Verdicts[v] > 0 {
			s.style = verdictSpan(v).style
		}
		verdicts = append(verdicts, s)
	}
	t.row(0, 2, verdicts...)
	t.row(0, 2, findingSpans(end)...)
	if s := t.start; s != nil {
		t.row(0, 2,
			span{text: "JUDGED", style: bold},
			span{text: Clean(strings.TrimSpace("by Pod Security Standards " + s.Level + " " + s.PSSVersion))},
			span{text: Clean(labelled("rule set", s.RuleSet))})
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

func (t *table) scannedSpans(end *scan.End) []span {
	spans := []span{
		{text: "SCANNED", style: bold},
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
	spans := []span{{text: "FINDINGS", style: bold}}
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
