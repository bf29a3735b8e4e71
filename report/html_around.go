package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// htmlPolicy is a policy that was found, and whether it bites.
type htmlPolicy struct {
	*scan.Policy
	Place   string
	Reasons []string
}

func (h *htmlReport) htmlPolicies() []htmlPolicy {
	var list []htmlPolicy
	for _, p := range h.policies {
		v := htmlPolicy{Policy: p, Place: cmp.Or(p.Namespace, "-")}
		for _, reason := range p.Reasons {
			v.Reasons = appendNew(v.Reasons, reason)
		}
		list = append(list, v)
	}
	return list
}

// htmlDull is one cause for which policies do not bite, or nodes do not enforce.
type htmlDull struct {
	*scan.Finding
	// Cluster is set in a fleet.
	Cluster                       string
	Rule                          *htmlRule
	Names, Messages, Mends, Marks []string
	Places                        string
	On                            []string
	OnCount                       string
}

func (h *htmlReport) htmlDull(rows []*dullRow, book *ruleBook) []htmlDull {
	var list []htmlDull
	for _, r := range rows {
		v := htmlDull{
			Finding: r.Finding, Cluster: h.cluster(r.Finding.Workload), Rule: book.of(r.Finding.Rule), Names: r.names.list, Messages: r.messages.list, Mends: r.mends.list,
			Places: strings.Join(r.places.list, " "), On: slices.Sorted(slices.Values(r.on.list)),
		}
		if n := len(r.workloads.list); n > 0 {
			v.OnCount = "On " + plural(n, "workload")
		}
		for _, m := range marks(r.Finding) {
			v.Marks = append(v.Marks, m.text)
		}
		r.all(func(f *scan.Finding) { book.cite(f) })
		list = append(list, v)
	}
	return list
}

// htmlNode is a node with the evidence of what its kernel enforces.
type htmlNode struct {
	*scan.Node
	ID     string
	Class  string
	Word   string
	Agent  string
	Facts  string
	Steps  *htmlTurnOn
	Ladder []htmlEvidence
}

// htmlEvidence is one step of the ladder.
type htmlEvidence struct {
	*kernel.Evidence
	Class, Says, Age string
}

type htmlTurnOn struct {
	Head   string
	Steps  []string
	Source htmlLink
}

// htmlNodes are the nodes, those that enforce least first, and how many there are of
// each kind.
func (h *htmlReport) htmlNodes() (nodes []htmlNode, kinds []string) {
	sorted := slices.SortedStableFunc(slices.Values(h.nodes), func(a, b *scan.Node) int {
		return cmp.Compare(enforcementRank(a.Enforcement), enforcementRank(b.Enforcement))
	})
	counts := map[string]int{}
	for i, n := range sorted {
		v := newHTMLNode(n)
		v.ID = fmt.Sprintf("n%d", i+1)
		if counts[v.Word]++; counts[v.Word] == 1 {
			kinds = append(kinds, v.Word)
		}
		nodes = append(nodes, v)
	}
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d× %s", counts[kind], kind)
	}
	return nodes, kinds
}

func newHTMLNode(n *scan.Node) htmlNode {
	v := htmlNode{Node: n, Class: "unknown", Word: "not looked at"}
	var facts []string
	for _, s := range nodeSpans(n) {
		facts = append(facts, s.text)
	}
	v.Facts = strings.Join(facts, " · ")
	e := n.Enforcement
	if e == nil {
		return v
	}
	spans := enforcementSpans(e)
	v.Word, v.Agent, v.Class = spans[0].text, spans[1].text, string(enforcementTone(e))
	for i := range e.Evidence {
		says := htmlEvidence{Evidence: &e.Evidence[i], Says: orUnknown(e.Evidence[i].Says), Class: "unknown", Age: observed(&e.Evidence[i])}
		switch e.Evidence[i].Says {
		case kernel.Yes:
			says.Class = "good"
		case kernel.No:
			says.Class = "bad"
		case kernel.Unknown:
		}
		v.Ladder = append(v.Ladder, says)
	}
	if on := e.TurnOn; on != nil {
		v.Steps = &htmlTurnOn{Head: turnOnHead(on), Steps: on.Steps, Source: linkTo("", on.Source)}
	}
	return v
}

func enforcementTone(e *kernel.Enforcement) Tone {
	switch {
	case e.Capabilities == kernel.Yes && e.Processes == kernel.Yes:
		return ToneGood
	case e.Capabilities == kernel.No && e.Processes == kernel.No:
		return ToneBad
	case e.Capabilities == kernel.No && e.Processes == kernel.Yes:
		return TonePoor
	}
	return ToneUnknown
}
