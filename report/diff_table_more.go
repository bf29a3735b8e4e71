package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// workloads writes those that only one of the runs has.
func (t *diffText) workloads(word, title string, list []scan.Pair[scan.WorkloadVerdict]) {
	t.title(title, len(list))
	var doubts distinct
	defer func() { t.doubts(&doubts) }()
	for i := range list {
		p := &list[i]
		v := p.Either()
		doubts.add(p.Doubt)
		if t.width > 0 && i >= maxListed && (word == "WENT" || verdictRank(v.Verdict) > verdictRank(scan.VerdictGuarded)) {
			t.more(len(list)-i, "workload")
			return
		}
		verdict := verdictSpan(v.Verdict)
		if word == "WENT" {
			verdict.style = dim
		}
		spans := []span{verdict, {text: Clean(v.Workload.String()), style: bold}, claimSpan(v.Claims)}
		if v.Severity != "" {
			spans = append(spans, span{text: Clean(string(v.Severity)), style: severityStyle(v.Severity)})
		}
		if t.width == 0 {
			spans = append(spans, span{text: Clean(v.Reason)})
		}
		t.line(span{text: word}, append(spans, t.doubt(p.Doubt))...)
	}
}

// doubt says in a pipe why something may be no change, and marks it on a
// terminal, where doubts says why of all that are marked.
func (t *diffText) doubt(doubt string) span {
	switch {
	case doubt == "":
		return span{}
	case t.width > 0:
		return span{text: doubtMark, style: doubtful}
	}
	return span{text: Clean(diffDoubt(doubt)), style: doubtful}
}

func (t *diffText) doubts(why *distinct) {
	if t.width == 0 {
		return
	}
	for _, doubt := range why.list {
		t.row(2, 4, span{text: doubtMark + ":", style: doubtful}, span{text: Clean(doubt), style: doubtful})
	}
}

// policies writes those that came, went, began or ceased to bite.
func (t *diffText) policies() {
	list := t.c.Diff.Policies
	t.title("POLICIES", len(list))
	for i := range list {
		p := &list[i]
		policy := p.Either()
		spans := []span{{text: diffPolicyTurn(p), style: biteStyle(policy.Bites), pad: len("ceased to bite")},
			{text: Clean(diffPolicyName(policy)), style: bold}, {text: Clean(string(policy.Layer))}, {text: "bites: " + Clean(string(policy.Bites)), style: biteStyle(policy.Bites)}}
		if p.Was != nil && p.Now != nil {
			spans = append(spans, span{text: "was " + Clean(string(p.Was.Bites))})
		}
		reasons := span{text: Clean(strings.Join(policy.Reasons, "; ")), style: dim}
		if p.Now == nil {
			spans[0].style, reasons.text = dim, ""
		}
		doubt := span{text: Clean(diffDoubt(p.Doubt)), style: doubtful}
		if t.width == 0 {
			t.line(span{text: "POLICY"}, append(spans, reasons, doubt)...)
			continue
		}
		t.line(span{}, spans...)
		for _, s := range []span{reasons, doubt} {
			if s.text != "" {
				t.below(4, s)
			}
		}
	}
}

// nodes writes those that came, went, or enforce otherwise.
func (t *diffText) nodes() {
	list := t.c.Diff.Nodes
	t.title("NODES", len(list))
	var doubts distinct
	for i := range list {
		p := &list[i]
		n := p.Either()
		spans := []span{{text: diffBecame(p), pad: len(wordOther)}, {text: Clean(n.Name), style: bold}}
		if n.Enforcement != nil {
			spans = append(spans, enforcementSpans(n.Enforcement)...)
		} else {
			spans = append(spans, span{text: diffEnforcementText(n)})
		}
		if p.Was != nil && p.Now != nil {
			spans = append(spans, span{text: "was: " + diffEnforcementText(p.Was)})
		}
		if n.Enforcement != nil && p.Now != nil {
			spans = append(spans, span{text: Clean(n.Enforcement.Reason), style: dim})
		}
		doubts.add(p.Doubt)
		t.line(span{text: "NODE"}, append(spans, t.doubt(p.Doubt))...)
	}
	t.doubts(&doubts)
}

// unknownThing is something of which it is not known whether it is gone.
type unknownThing struct {
	kind, name, doubt string
	// spans are the rest of its line in a pipe.
	spans []span
}

// unknownThings are all of that kind, in the order in which they are told.
func (c *Comparison) unknownThings() []unknownThing {
	n := &c.Diff.NotKnown
	var list []unknownThing
	for i := range n.Workloads {
		v := n.Workloads[i].Was
		list = append(list, unknownThing{"workload", Clean(v.Workload.String()), n.Workloads[i].Doubt,
			[]span{{text: "was " + Clean(string(v.Verdict))}}})
	}
	for i := range n.Findings {
		f := n.Findings[i].Was
		list = append(list, unknownThing{"finding", Clean(f.Workload.String()), n.Findings[i].Doubt,
			[]span{severitySpan(f.Severity), {text: Clean(f.Rule), style: bold}, {text: containerName(f)}, {text: Clean(f.Field)}}})
	}
	for i := range n.Policies {
		list = append(list, unknownThing{"policy", Clean(diffPolicyName(n.Policies[i].Was)), n.Policies[i].Doubt, nil})
	}
	for i := range n.Nodes {
		list = append(list, unknownThing{"node", Clean(n.Nodes[i].Was.Name), n.Nodes[i].Doubt, nil})
	}
	for i := range n.Failures {
		f := n.Failures[i].Was
		list = append(list, unknownThing{"thing not read", Clean(subject(f)), n.Failures[i].Doubt, []span{{text: Clean(f.Message)}}})
	}
	return list
}

// notKnown writes what is not there any more and may only not have been seen. On a
// terminal what shares a reason is one entry.
func (t *diffText) notKnown() {
	list := t.c.unknownThings()
	if t.width == 0 {
		for _, u := range list {
			spans := append([]span{{text: u.kind}, {text: u.name, style: bold}}, u.spans...)
			t.line(span{text: "NOT-KNOWN", style: doubtful}, append(spans, span{text: Clean(u.doubt)})...)
		}
		return
	}
	t.title("NOT KNOWN: NOT THERE ANY MORE, OR NOT SEEN", len(list))
	for _, g := range groupUnknown(list) {
		t.row(2, 4, span{text: Clean(g.doubt), style: doubtful})
		for _, kind := range g.kinds {
			names := g.names[kind].list
			rest := ""
			if len(names) > maxListed {
				rest = fmt.Sprintf(" and %d more", len(names)-maxListed)
				names = names[:maxListed]
			}
			t.below(4, span{text: pluralKind(g.counts[kind], kind)}, span{text: strings.Join(names, ", ") + rest, style: dim})
		}
	}
}

// unknownGroup is what is not known for one reason.
type unknownGroup struct {
	doubt  string
	kinds  []string
	counts map[string]int
	names  map[string]*distinct
}

func groupUnknown(list []unknownThing) []*unknownGroup {
	var groups []*unknownGroup
	at := map[string]*unknownGroup{}
	for _, u := range list {
		g := at[u.doubt]
		if g == nil {
			g = &unknownGroup{doubt: u.doubt, counts: map[string]int{}, names: map[string]*distinct{}}
			at[u.doubt] = g
			groups = append(groups, g)
		}
		if g.names[u.kind] == nil {
			g.kinds = append(g.kinds, u.kind)
			g.names[u.kind] = &distinct{}
		}
		g.counts[u.kind]++
		g.names[u.kind].add(u.name)
	}
	return groups
}

// pluralKind counts things by their kind.
func pluralKind(n int, kind string) string {
	switch {
	case n == 1:
		return "1 " + kind
	case kind == "policy":
		return fmt.Sprintf("%d policies", n)
	case kind == "thing not read":
		return fmt.Sprintf("%d things not read", n)
	case kind == "finding":
		return fmt.Sprintf("%d findings of", n)
	}
	return plural(n, kind)
}

// summary writes the tallies of both runs, and what changed, in a few words.
func (t *diffText) summary() {
	if t.width > 0 {
		t.newline()
		t.row(0, 2, span{text: "TALLY", style: bold, pad: 20}, span{text: "OLD", style: bold, pad: 7}, span{text: "NEW", style: bold, pad: 7}, span{text: "CHANGE", style: bold})
	}
	for _, c := range t.c.counts() {
		if t.width > 0 && c.old == 0 && c.new == 0 {
			continue
		}
		name := strings.TrimSpace(c.group + " " + c.name)
		spans := []span{{text: name, pad: 20}, {text: fmt.Sprint(c.old), pad: 7}, {text: fmt.Sprint(c.new), pad: 7}, {text: c.change(), style: bold}}
		if t.width == 0 {
			t.row(0, 0, append([]span{{text: "TALLY"}}, spans...)...)
			continue
		}
		t.row(2, 4, append([]span{{text: name, pad: 18}}, spans[1:]...)...)
	}
	if t.width > 0 {
		t.newline()
	}
	if t.c.Diff.Empty() {
		t.row(0, 2, t.nothing()...)
		return
	}
	spans := []span{{text: "CHANGES", style: bold}}
	for _, tally := range t.c.tallies() {
		if tally.n > 0 {
			spans = append(spans, span{text: tally.text(), style: tally.style})
		}
	}
	t.row(0, 2, spans...)
}

// nothing says that nothing changed, and no more than that is known.
func (t *diffText) nothing() []span {
	sides := t.c.sides()
	if slices.ContainsFunc(sides[:], func(s diffSide) bool { return s.Incomplete() }) {
		return []span{{text: "Nothing changed in what was read.", style: doubtful}, {text: "Not all was: see above."}}
	}
	return []span{{text: "Nothing changed.", style: green}}
}
