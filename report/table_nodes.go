package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// nodeKind is what nodes on one line have in common, and what is said of them.
type nodeKind struct {
	cluster       string
	spans         []span
	names         []string
	reasons       distinct
	contradicting distinct
	turnOn        *kernel.TurnOn
}

// nodeList writes the nodes, those alike on one line.
func (t *table) nodeList() {
	kinds := map[string]*nodeKind{}
	for _, n := range t.nodes {
		spans := nodeSpans(n)
		var turnOn *kernel.TurnOn
		e := n.Enforcement
		if e != nil {
			spans = append(spans, enforcementSpans(e)...)
			turnOn = e.TurnOn
			if t.width == 0 {
				spans = append(spans, pipeNodeSpans(e)...)
			}
		}
		key := key(fmt.Sprint(enforcementRank(e)), t.ofFleet(n.Cluster), fmt.Sprint(spans, turnOnText(turnOn)))
		k := kinds[key]
		if k == nil {
			k = &nodeKind{cluster: n.Cluster, spans: spans, turnOn: turnOn}
			kinds[key] = k
		}
		k.names = append(k.names, Clean(n.Name))
		if e == nil {
			continue
		}
		if e.Capabilities != kernel.Yes || e.Processes != kernel.Yes {
			k.reasons.add(Clean(e.Reason))
		}
		for _, c := range e.Contradictions {
			k.contradicting.add(Clean(n.Name) + ": " + Clean(c))
		}
	}
	t.section("", len(kinds))
	for _, key := range slices.Sorted(maps.Keys(kinds)) {
		t.nodeKind(kinds[key])
	}
}

func (t *table) nodeKind(k *nodeKind) {
	spans := append([]span{
		{text: "NODES", style: bold, pad: len("VERDICTS")},
		t.clusterSpan(k.cluster),
		{text: fmt.Sprint(len(k.names))},
	}, k.spans...)
	t.row(0, summaryHang, append(spans, span{text: t.few(k.names, ", ", maxListed), style: dim})...)
	if t.width == 0 {
		return
	}
	t.lines(k.reasons.list, "", dim)
	t.lines(k.contradicting.list, "contradiction: ", yellow)
	if k.turnOn != nil {
		turnOnRows(&t.layout, t.hang(), k.turnOn)
	}
}

// turnOnRows writes how to switch BPF-LSM on, a line each step, so that commands can
// be copied.
func turnOnRows(l *layout, indent int, on *kernel.TurnOn) {
	l.row(indent, indent+2, span{text: turnOnHead(on) + ":"})
	for _, s := range append(slices.Clone(on.Steps), labelled("source:", on.Source)) {
		if s != "" {
			l.row(indent+2, indent+4, span{text: Clean(s)})
		}
	}
}

// turnOnHead is what a way is for.
func turnOnHead(on *kernel.TurnOn) string {
	text := "to turn BPF-LSM on"
	if !on.Possible {
		text = "BPF-LSM cannot be turned on"
	}
	return text + suffixed(" (", Clean(on.System), ")")
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

// enforcementRank puts first the nodes that enforce least.
func enforcementRank(e *kernel.Enforcement) int {
	if e == nil {
		return 0
	}
	rank := 0
	for _, a := range []kernel.Answer{e.Capabilities, e.Processes} {
		switch a {
		case kernel.No:
		case kernel.Yes:
			rank += 2
		case kernel.Unknown:
			rank++
		}
	}
	return rank
}

// enforcementSpans say in a few words what a node enforces, how well that is
// founded, and whether KubeArmor runs there.
func enforcementSpans(e *kernel.Enforcement) []span {
	s := span{style: doubtful}
	switch {
	case e.Capabilities == kernel.Yes && e.Processes == kernel.Yes:
		s = span{text: "enforces", style: green}
	case e.Capabilities == kernel.No && e.Processes == kernel.No:
		s = span{text: "does not enforce", style: red}
	case e.Capabilities == kernel.No && e.Processes == kernel.Yes:
		s = span{text: "enforces processes, not capabilities", style: yellow}
	case e.Capabilities == e.Processes:
		s.text = "enforcement unknown"
	default:
		s.text = fmt.Sprintf("capabilities %s, processes %s", orUnknown(e.Capabilities), orUnknown(e.Processes))
	}
	if founded := joined(", ", Clean(e.Enforcer), Clean(string(e.Grade))); founded != "" {
		s.text += " (" + founded + ")"
	}
	agent := span{}
	switch e.Agent {
	case kernel.Yes:
		agent.text = "KubeArmor ready"
	case kernel.No:
		agent = span{text: "no KubeArmor ready", style: red}
	case kernel.Unknown:
		agent = span{text: "KubeArmor unknown", style: doubtful}
	}
	return []span{s, agent}
}

// longestKind is how much is shown of a kind of nodes, in which the enforcer's name is
// the node's own word.
const longestKind = 60

// nodeSummary counts nodes by what they enforce, in one line.
func nodeSummary(l *layout, nodes []*scan.Node) {
	if len(nodes) == 0 {
		return
	}
	counts := map[string]int{}
	var kinds []span
	for _, n := range nodes {
		kind := span{text: "not looked at"}
		if n.Enforcement != nil {
			kind = enforcementSpans(n.Enforcement)[0]
		}
		if counts[kind.text] == 0 {
			kinds = append(kinds, kind)
		}
		counts[kind.text]++
	}
	spans := []span{{text: "NODES", style: bold, pad: len("VERDICTS")}, {text: fmt.Sprint(len(nodes))}}
	for _, kind := range kinds {
		kind.text = fmt.Sprintf("%d× %s", counts[kind.text], shorten(kind.text, longestKind))
		spans = append(spans, kind)
	}
	l.row(0, summaryHang, spans...)
}

// pipeNodeSpans is the rest of what is known of a node, on its line.
func pipeNodeSpans(e *kernel.Enforcement) []span {
	contradictions := make([]string, len(e.Contradictions))
	for i, c := range e.Contradictions {
		contradictions[i] = Clean(c)
	}
	return []span{
		{text: Clean(e.Reason)},
		{text: labelled("contradiction:", strings.Join(contradictions, "; "))},
		{text: turnOnText(e.TurnOn)},
	}
}

// turnOnText is how to switch BPF-LSM on, in one line.
func turnOnText(on *kernel.TurnOn) string {
	if on == nil {
		return ""
	}
	steps := make([]string, len(on.Steps))
	for i, s := range on.Steps {
		steps[i] = strings.TrimRight(Clean(s), ". ")
	}
	return joined(": ", turnOnHead(on), strings.Join(steps, "; ")) + suffixed(" [", Clean(on.Source), "]")
}

// suffixed is text between two others, or nothing when there is none.
func suffixed(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}

// joined joins the texts that are not empty.
func joined(separator string, texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), separator)
}

func orUnknown(a kernel.Answer) string {
	if a == "" {
		return string(kernel.Unknown)
	}
	return Clean(string(a))
}
