package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// WriteDiff writes a comparison for people: what makes it doubtful, what could not be
// read, what became worse, what became better, and the tallies of both runs. In a pipe
// every line begins with what happened and names what it happened to.
func WriteDiff(w io.Writer, c *Comparison, opts TableOptions) error {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, narrowest)
	}
	t := &diffText{layout: layout{width: opts.Width, color: opts.Color}, c: c}
	t.heads()
	t.unread()
	t.verdicts()
	d := c.Diff
	t.findings("OPENED", "WHAT OPENED", red, d.Opened)
	t.findings("UNEXCEPTED", "WHAT NO EXCEPTION COVERS ANY MORE", red, d.Unexcepted)
	t.findings("SEVERITY", "WHAT IS OF ANOTHER SEVERITY", yellow, d.Severities)
	t.findings("EXCEPTED", "WHAT AN EXCEPTION COVERS NOW", yellow, d.Excepted)
	t.closed()
	t.workloads("CAME", "WORKLOADS THAT CAME", d.Came)
	t.workloads("WENT", "WORKLOADS THAT WENT", d.Went)
	t.policies()
	t.nodes()
	t.notKnown()
	t.summary()
	if _, err := w.Write(t.out.Bytes()); err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	return nil
}

// diffText writes a comparison as text.
type diffText struct {
	layout
	c *Comparison
}

// heads say what is compared, and what makes the comparison doubtful.
func (t *diffText) heads() {
	t.row(0, 2, span{text: Clean(strings.TrimSpace(t.c.Tool + " " + t.c.Version)), style: bold}, span{text: "diff"})
	for _, side := range t.c.sides() {
		s := side.Start()
		t.row(0, 5, span{text: strings.ToUpper(side.word), style: bold},
			span{text: Clean(side.file), style: bold},
			span{text: Clean(strings.TrimSpace(string(s.Source) + suffixed(" ", s.Cluster, "")))},
			span{text: s.Time.UTC().Format(time.RFC3339)},
			span{text: Clean(labelled("Kubernetes", s.ServerVersion))},
			span{text: Clean(labelled("Pod Security Standards", strings.TrimSpace(s.Level+" "+s.PSSVersion)))},
			span{text: Clean(labelled("namespaces", strings.Join(s.Namespaces, ", ")))},
			span{text: Clean(labelled("selector", s.Selector))})
	}
	for _, note := range t.c.notes() {
		t.row(0, 2, span{text: "note:", style: bold}, span{text: Clean(note)})
	}
}

// title begins a part of the text; a pipe has none.
func (t *diffText) title(title string, n int) {
	if n == 0 || t.width == 0 {
		return
	}
	t.newline()
	t.row(0, 2, span{text: title, style: bold}, span{text: fmt.Sprint(n), style: dim})
}

// line writes what happened. On a terminal the title has said it.
func (t *diffText) line(word span, spans ...span) {
	if t.width == 0 {
		t.row(0, 0, append([]span{word}, spans...)...)
		return
	}
	t.row(2, 4, spans...)
}

// below writes a further line about the same on a terminal.
func (t *diffText) below(indent int, spans ...span) {
	t.row(indent, indent+2, spans...)
}

// more says how many are not listed on a terminal.
func (t *diffText) more(n int, what string) {
	t.row(2, 4, span{text: "and " + plural(n, "more "+what), style: bold})
}

// unread says what is missing in which run, and what is missing no more.
func (t *diffText) unread() {
	for _, side := range t.c.sides() {
		if side.Incomplete() {
			if t.width > 0 {
				t.newline()
			}
			t.row(0, 2, append([]span{{text: strings.ToUpper(side.word) + " RUN", style: bold}}, incompleteSpans(endOf(side.DiffSide))...)...)
		}
	}
	d := t.c.Diff
	for _, part := range []struct {
		word, title string
		style       style
		list        []*scan.Failure
	}{
		{"UNREAD", "COULD BE READ BEFORE, AND NOT NOW", alarm, d.Unread},
		{"READABLE", "COULD NOT BE READ BEFORE, AND CAN NOW", green, d.Readable},
	} {
		t.title(part.title, len(part.list))
		for i, f := range part.list {
			if t.width > 0 && i == 2*maxListed {
				t.more(len(part.list)-i, "thing")
				break
			}
			t.line(span{text: part.word, style: part.style}, unreadSpans(f)[1:]...)
		}
	}
}

// verdicts writes the workloads whose verdict is another, the worst first.
func (t *diffText) verdicts() {
	list := t.c.Diff.Verdicts
	t.title("VERDICTS THAT CHANGED", len(list))
	for i := range list {
		p := &list[i]
		turn := turnSpan(p.Turn)
		spans := []span{verdictSpan(p.Now.Verdict), {text: Clean(p.Now.Workload.String()), style: bold},
			{text: "was " + Clean(string(p.Was.Verdict))}, turn}
		if p.Now.Severity != "" {
			spans = append(spans, span{text: Clean(string(p.Now.Severity)), style: severityStyle(p.Now.Severity)})
		}
		spans = append(spans, claimSpan(p.Now.Claims))
		if p.Excepted {
			spans = append(spans, span{text: "all its ways out are excepted", style: yellow})
		}
		reason, doubt := span{text: Clean(p.Now.Reason), style: dim}, span{text: Clean(diffDoubt(p.Doubt)), style: doubtful}
		if t.width == 0 {
			t.line(span{text: "VERDICT", style: turn.style}, append(spans, reason, doubt)...)
			continue
		}
		t.line(span{}, spans...)
		t.below(4, reason)
		if p.Doubt != "" {
			t.below(4, doubt)
		}
	}
}

func turnSpan(turn scan.Turn) span {
	switch turn {
	case scan.TurnWorse:
		return span{text: "worse", style: alarm}
	case scan.TurnBetter:
		return span{text: "better", style: green}
	case scan.TurnUnknown:
	}
	return span{text: "not known any more", style: doubtful}
}

func claimSpan(claims string) span {
	return span{text: labelled("claims", Clean(claims)), style: doubtful}
}

// findings writes findings, on a terminal under their workloads.
func (t *diffText) findings(word, title string, s style, list []scan.FindingPair) {
	t.title(title, len(list))
	if t.width == 0 {
		for i := range list {
			p := &list[i]
			spans := append(t.findingSpans(findingRow{Finding: p.Either(), elements: 1}, columns{}), t.pairSpans(word, p)...)
			t.line(span{text: word, style: s}, append(spans, messageSpan(p.Either()), t.doubt(p.Doubt))...)
		}
		return
	}
	var doubts distinct
	for _, g := range groupPairs(list, func(p *scan.FindingPair) string { return t.pairText(word, p) }) {
		doubts.add(g.pairs[0].Doubt)
		t.findingGroup(word, g)
	}
	t.doubts(&doubts)
}

// findingGroup writes what happened to findings of one workload.
func (t *diffText) findingGroup(word string, g *pairGroup) {
	first := g.pairs[0]
	f := first.Either()
	head := []span{{text: Clean(f.Workload.String()), style: bold}, claimSpan(f.Claims)}
	if first.With && first.Was == nil {
		head = append(head, span{text: "the workload is new"})
	}
	t.row(2, 4, append(append(head, t.pairSpans(word, first)...), t.doubt(first.Doubt))...)
	rows := foldFindings(g.findings(), true)
	cols := diffColumns(rows, t.width)
	for _, r := range rows {
		t.row(4, 6, t.findingSpans(r, cols)...)
	}
}

// diffColumns are the least widths of the columns of one workload.
func diffColumns(rows []findingRow, width int) columns {
	t := table{layout: layout{width: width}}
	return t.columns(rows)
}

// findingSpans are a finding, or those that were joined to it.
func (t *diffText) findingSpans(r findingRow, cols columns) []span {
	severity := severitySpan(r.Severity)
	if r.Excepted != nil {
		severity.style = dim
	}
	spans := []span{severity, {text: r.rule(), style: bold, pad: cols.rule}}
	container := r.containers()
	if t.width == 0 {
		spans = append(spans, span{text: Clean(r.Workload.String())}, claimSpan(r.Claims))
		if container == "" {
			container = "-"
		}
	}
	spans = append(spans, span{text: container, pad: cols.container})
	if r.Field != "" {
		spans = append(spans, span{text: r.field(t.width > 0)}, span{text: t.change(r), style: bold})
	}
	return append(append(spans, span{text: r.further(), style: dim}, span{text: r.places(), style: dim}), marks(r.Finding)...)
}

// pairSpans say of a finding what is other about it.
func (t *diffText) pairSpans(word string, p *scan.FindingPair) []span {
	s := span{text: t.pairText(word, p)}
	if word == "SEVERITY" && p.Now.Severity.Rank() > p.Was.Severity.Rank() {
		s.style = red
	}
	return []span{s}
}

func (t *diffText) pairText(word string, p *scan.FindingPair) string {
	switch word {
	case "SEVERITY":
		return "was " + Clean(string(p.Was.Severity))
	case "UNEXCEPTED":
		return labelled("was excepted:", Clean(diffExceptedText(p.Was.Excepted)))
	}
	return ""
}

func messageSpan(f *scan.Finding) span {
	if !says(f) {
		return span{}
	}
	return span{text: Clean(f.Message), style: dim}
}

// pairGroup are findings that stand under one head.
type pairGroup struct{ pairs []*scan.FindingPair }

func (g *pairGroup) findings() []*scan.Finding {
	list := make([]*scan.Finding, len(g.pairs))
	for i, p := range g.pairs {
		list[i] = p.Either()
	}
	return list
}

// groupPairs puts findings under their workloads; what is said of them at the head is the
// same for all of a group.
func groupPairs(list []scan.FindingPair, said func(*scan.FindingPair) string) []*pairGroup {
	var groups []*pairGroup
	at := map[string]*pairGroup{}
	for i := range list {
		p := &list[i]
		f := p.Either()
		k := key(f.Workload.String(), f.Claims, p.Doubt, said(p), fmt.Sprint(p.With))
		g := at[k]
		if g == nil {
			g = &pairGroup{}
			at[k] = g
			groups = append(groups, g)
		}
		g.pairs = append(g.pairs, p)
	}
	return groups
}

// closed writes the findings that are gone. On a terminal those that went with their
// workloads are only counted.
func (t *diffText) closed() {
	list := t.c.Diff.Closed
	if t.width == 0 {
		t.findings("CLOSED", "", green, list)
		return
	}
	var alone []scan.FindingPair
	for _, p := range list {
		if !p.With {
			alone = append(alone, p)
		}
	}
	t.title("WHAT CLOSED", len(list))
	for _, g := range groupPairs(alone, func(*scan.FindingPair) string { return "" }) {
		t.findingGroup("CLOSED", g)
	}
	if n := len(list) - len(alone); n > 0 {
		t.row(2, 4, span{text: plural(n, "finding") + " went with the workloads"})
	}
}
