package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// policySaid is what a run says of one policy.
type policySaid struct {
	causes []*policyCause
	rows   []*Row
}

// policyCause is one thing that is said: why it does not bite, what would make it, and
// where that was seen.
type policyCause struct {
	rule, message, mend string
	severity            scan.Severity
	excepted            bool
	rows                []*Row
	has                 map[*Row]bool
}

func (c *policyCause) seen(r *Row) {
	if r.Verdict == nil || c.has[r] {
		return
	}
	if c.has == nil {
		c.has = map[*Row]bool{}
	}
	c.has[r] = true
	c.rows = append(c.rows, r)
}

// gather finds what is said of the policy the cursor stands on: the findings that name
// it, and why it has no effect on workloads that it selects.
func (v *policies) gather(d *desk) *policySaid {
	if v.said != nil {
		return v.said
	}
	v.said = &policySaid{}
	p := v.current()
	if p == nil {
		return v.said
	}
	by := map[string]*policyCause{}
	of := func(c policyCause) *policyCause {
		k := c.rule + "\x00" + c.message + "\x00" + c.mend
		if by[k] == nil {
			by[k] = &c
			v.said.causes = append(v.said.causes, &c)
		}
		return by[k]
	}
	for _, r := range d.snap.Rows {
		named := false
		for _, f := range r.Findings {
			if !report.SpeaksOf(f, p) {
				continue
			}
			named = true
			of(policyCause{rule: f.Rule, message: f.Message, mend: f.Mend, severity: f.Severity, excepted: f.Excepted != nil}).seen(r)
		}
		for _, dull := range report.DullOn(r.Verdict, p) {
			named = true
			c := v.said.mended(dull)
			if c == nil {
				c = of(policyCause{rule: dull.Cause, message: dull.Reason, mend: dull.Mend})
			}
			c.seen(r)
		}
		if named {
			v.said.rows = append(v.said.rows, r)
		}
	}
	slices.SortStableFunc(v.said.causes, func(a, b *policyCause) int {
		return cmp.Or(cmp.Compare(b.severity.Rank(), a.severity.Rank()), cmp.Compare(a.rule, b.rule))
	})
	return v.said
}

// mended is the cause that a finding has told already: its rule ends in it.
func (s *policySaid) mended(dull report.Dull) *policyCause {
	for _, c := range s.causes {
		if c.mend == dull.Mend && (c.rule == dull.Cause || strings.HasSuffix(c.rule, "-"+dull.Cause)) {
			return c
		}
	}
	return nil
}

// lay puts the policy on its page.
func (v *policies) lay(d *desk) {
	v.choose(d)
	p := v.current()
	if v.width == 0 || p == nil {
		return
	}
	// Lines that are too long are hard to read.
	width := min(v.width, 110)
	l := policyPage{desk: d, pageText: pageText{width: width}}
	l.policy(p, v.gather(d))
	v.detail.set(v.height, column{lines: l.lines, width: width})
}

// policyPage writes one policy.
type policyPage struct {
	*desk
	pageText
}

func (l *policyPage) policy(p *scan.Policy, said *policySaid) {
	t := l.theme
	l.wrapped(" ", policyTitle(p), t.title, nil)
	word, style := biteWord(t, p)
	l.add(" "+style.Bold(true).Render("bites: "+word), nil)
	selects := counted(p.Workloads, "workload") + ", " + counted(p.Pods, "pod")
	if p.Workloads == 0 && p.Pods == 0 {
		selects = "nothing"
	}
	for _, f := range []struct{ name, text string }{{"layer", string(p.Layer)}, {"action", p.Action}, {"selects", selects}} {
		if f.text != "" {
			l.wrapped(" "+t.dim.Render(pad(f.name, 9)), f.text, t.plain, nil)
		}
	}
	if len(p.Reasons) > 0 {
		l.add("", nil)
		l.add(" "+t.title.Render(reasonsTitle(p)), nil)
		for i, r := range p.Reasons {
			l.wrapped(" - ", r, t.plain, &stop{id: fmt.Sprint("reason ", i), what: "the reason", text: policyTitle(p) + ": " + report.Clean(r), fix: mends(said)})
		}
	}
	l.findings(said)
}

func reasonsTitle(p *scan.Policy) string {
	switch biteOf(p) {
	case scan.BitesNo:
		return "Why it does not bite"
	case scan.BitesPartly:
		return "Why it does not bite everywhere"
	case scan.BitesYes:
		return "What is said of it"
	case scan.BitesUnknown:
	}
	return "Why that is not known"
}

// findings are the causes, each with its mend and the workloads.
func (l *policyPage) findings(said *policySaid) {
	t := l.theme
	l.add("", nil)
	if len(said.causes) == 0 {
		l.add(" "+t.dim.Render("No finding speaks of it."), nil)
		return
	}
	l.add(" "+t.title.Render("Findings that speak of it"), nil)
	for i, c := range said.causes {
		if i > 0 {
			l.add("", nil)
		}
		l.cause(i, c)
	}
}

func (l *policyPage) cause(i int, c *policyCause) {
	t := l.theme
	at := &stop{id: fmt.Sprint("cause ", i), what: "the finding", text: c.text(), fix: report.Clean(c.mend)}
	severity := strings.ToUpper(report.Clean(string(c.severity)))
	if severity == "" {
		severity = "-"
	}
	style := t.severity(c.severity)
	if c.excepted {
		style = t.dim
		severity += " (excepted)"
	}
	l.wrapped(" "+style.Render(pad(severity, 8))+"  ", c.rule, t.bold, at)
	l.wrapped("   ", c.message, t.plain, at)
	if c.mend != "" {
		l.wrapped("   "+t.good.Render("mend")+"  ", c.mend, t.good, at)
	}
	if len(c.rows) > 0 {
		l.add("   "+t.dim.Render("on "+counted(len(c.rows), "workload")), nil)
	}
	cells := 0
	for _, r := range c.rows {
		cells = max(cells, ansi.StringWidth(report.Clean(r.name())))
	}
	for _, r := range c.rows {
		name := r.name()
		l.add("     "+cell(name, min(l.width-18, cells))+"  "+verdictShort(t, r), &stop{
			id: fmt.Sprint("cause ", i, " ", name, " ", r.Ref.Claims), act: openMsg{r.Ref}, what: "the workload",
			text: report.Clean(name), fix: report.Clean(c.mend),
		})
	}
}

func verdictShort(t *theme, r *Row) string {
	v := r.Verdict.Verdict
	return t.verdict(v).Render(verdictLetter(v) + " " + clean(string(v), 8))
}

func (c *policyCause) text() string {
	lines := []string{report.Clean(c.rule) + ": " + report.Clean(c.message)}
	if c.mend != "" {
		lines = append(lines, "mend: "+report.Clean(c.mend))
	}
	for _, r := range c.rows {
		lines = append(lines, "- "+report.Clean(r.name()))
	}
	return strings.Join(lines, "\n")
}

// mends are what would make the policy bite, each once.
func mends(said *policySaid) string {
	var list []string
	for _, c := range said.causes {
		if m := report.Clean(c.mend); m != "" && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return strings.Join(list, "\n")
}

func (v *policies) copied(d *desk, fix bool) (what, text string) {
	v.choose(d)
	p := v.current()
	if p == nil {
		return "", ""
	}
	said := v.gather(d)
	if v.inside {
		v.lay(d)
		if s := v.detail.stop(); s != nil {
			if fix {
				return "the mend", s.fix
			}
			return s.what, s.text
		}
	}
	if fix {
		return "the mends", mends(said)
	}
	lines := []string{policyTitle(p) + ": bites " + report.Clean(string(biteOf(p)))}
	for _, r := range p.Reasons {
		lines = append(lines, "- "+report.Clean(r))
	}
	for _, c := range said.causes {
		lines = append(lines, "", c.text())
	}
	return "the policy", strings.Join(lines, "\n")
}
