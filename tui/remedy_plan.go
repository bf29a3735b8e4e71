package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/report"
)

// remedyPane is a side of a plan.
type remedyPane int

// The panes, in the order of their names.
const (
	paneChanges remedyPane = iota
	paneBreaks
	paneSummary
	paneCount
)

// remedyPlan is a plan that is looked at.
type remedyPlan struct {
	*RemedyPlan
	ask      RemedyAsk
	rollback bool
	made     time.Time
	pane     remedyPane
	changes  sheet
	breaks   sheet
	summary  remedyPage
	// changed and broken are what the items of the sheets are about, nil for titles.
	changed []*remediate.Change
	broken  []*preview.Workload
}

// newRemedyPlan makes a plan ready to be looked at. It is called outside of the program's
// goroutine: differences of large objects take their time.
func newRemedyPlan(made *RemedyPlan, of *planning, t *theme) *remedyPlan {
	p := &remedyPlan{RemedyPlan: made, ask: of.ask, rollback: of.rollback}
	p.layChanges(t)
	p.layBreaks(t)
	return p
}

// title says what is planned, and where.
func (p *remedyPlan) title() string {
	if p.rollback {
		return "Rollback of " + p.View.Plan.Set + " in " + p.cluster()
	}
	parts := ""
	if len(p.ask.Only) > 0 {
		parts = "admission only, "
	}
	return fmt.Sprintf("Plan for %s: %s, %s, %s%s", p.cluster(), p.ask.Level, p.ask.Action, parts, p.ask.scopeText())
}

func (p *remedyPlan) cluster() string {
	if p.View.Cluster == "" {
		return "the cluster"
	}
	return p.View.Cluster
}

// todo is what the plan comes to, in short. blocked and breaks are empty where there is
// nothing of the kind.
func (p *remedyPlan) todo() string {
	text := report.ChangesToDo(p.View.Plan.Changes)
	if text == "" {
		text = "nothing to do"
	}
	if n := len(p.View.Plan.Blocked()); n > 0 {
		text += fmt.Sprintf(", %d BLOCKED", n)
	}
	return text
}

// obstacle says why the plan may not be carried out, empty where it may.
func (p *remedyPlan) obstacle() string {
	switch {
	case p.Refused != "":
		return p.Refused
	case p.Idle:
		return "there is nothing to do: all is as the plan would have it"
	case p.Word == "":
		return "the plan has no word to confirm it with"
	}
	return ""
}

// layChanges makes a line of each change, with its difference below it.
func (p *remedyPlan) layChanges(t *theme) {
	whys, said := report.Whys(&p.View), map[remediate.Ref]bool{}
	var items []sheetItem
	add := func(c *remediate.Change, item sheetItem) {
		p.changed, items = append(p.changed, c), append(items, item)
	}
	var stage remediate.Stage
	for i := range p.View.Plan.Changes {
		c := &p.View.Plan.Changes[i]
		if i == 0 || c.Stage != stage {
			if i > 0 {
				add(nil, blankItem())
			}
			stage = c.Stage
			add(nil, textItem("", report.StageTitle(stage), t.title))
		}
		var why []string
		if !said[c.Object] {
			why, said[c.Object] = whys[c.Object], true
		}
		add(c, changeItem(t, c, why))
	}
	if len(items) == 0 {
		add(nil, textItem("", "There is nothing to do.", t.dim))
	}
	at := 0
	if len(items) > 1 {
		at = 1
	}
	p.changes.fill(items, at, 0)
}

// changeItem is one change. What is blocked says why at once.
func changeItem(t *theme, c *remediate.Change, whys []string) sheetItem {
	var diff []remediate.Line
	if c.Action != remediate.Unchanged && c.Action != remediate.Blocked {
		diff = remediate.Diff(c.Before, c.After)
	}
	word, tone := report.ChangeWord(c)
	style := t.dim
	if tone != "" {
		style = t.tone(tone)
	}
	lay := func(width int, open bool) []sheetLine {
		head := foldMark(len(diff)+len(whys) > 0, open) + style.Render(pad(word, 12))
		name := report.Clean(c.Object.String()) + "  " + string(c.Part)
		lines := drawn(wrapAt(head, name, t.bold, width)...)
		add := func(begin, text string, s lipgloss.Style) {
			lines = append(lines, drawn(wrapAt("    "+begin, text, s, width)...)...)
		}
		if b := c.Block; b != nil {
			add("", "by "+string(b.By)+": "+b.Message, t.bad)
			if b.Mend != "" {
				add(t.accent.Render("mend: "), b.Mend, t.plain)
			}
		}
		for _, w := range c.Warnings {
			add("", "warning of the API server: "+w, t.poor)
		}
		for _, n := range c.Notes {
			add("", "note: "+n, t.plain)
		}
		if !open {
			return lines
		}
		for _, why := range whys {
			add("", why, t.dim)
		}
		return append(lines, diffLines(t, diff, width)...)
	}
	return sheetItem{folds: len(diff)+len(whys) > 0, lay: lay}
}

// foldMark says whether there is more below a line.
func foldMark(folds, open bool) string {
	switch {
	case !folds:
		return "  "
	case open:
		return "▾ "
	}
	return "▸ "
}

// diffLines are lines of a difference, each with its sign. They are YAML: their blanks
// stay, and they are broken anywhere.
func diffLines(t *theme, diff []remediate.Line, width int) []sheetLine {
	room := max(width-4, 8)
	lines := make([]sheetLine, 0, len(diff))
	for i := range diff {
		style := &t.plain
		switch diff[i].Op {
		case '+':
			style = &t.added
		case '-':
			style = &t.removed
		case '@':
			style = &t.hunk
		}
		sign, text := "  "+string(rune(diff[i].Op))+" ", report.Clean(diff[i].Text)
		if diff[i].Op == '@' {
			sign = "  @"
		}
		if len(text) > room {
			text = ansi.Hardwrap(text, room, true)
		}
		for piece := range strings.SplitSeq(text, "\n") {
			lines = append(lines, sheetLine{text: sign + piece, style: style})
		}
	}
	return lines
}

// layBreaks makes a line of each workload, with its effects below it.
func (p *remedyPlan) layBreaks(t *theme) {
	var items []sheetItem
	add := func(w *preview.Workload, item sheetItem) {
		p.broken, items = append(p.broken, w), append(items, item)
	}
	judged := p.View.Preview
	if judged == nil {
		text := "What would break was not judged."
		if p.rollback {
			text = "A rollback puts back what was before. What that does to workloads is not judged."
		}
		add(nil, textItem("", text, t.dim))
		p.breaks.fill(items, 0, 0)
		return
	}
	if n := len(judged.Failures); n > 0 {
		add(nil, textItem(t.errorText.Render("INCOMPLETE  "), counted(n, "thing")+" could not be read. What is not listed here is not proven safe.", t.plain))
		for i := range judged.Failures {
			add(nil, textItem("  ", report.UnreadText(&judged.Failures[i]), t.doubt))
		}
		add(nil, blankItem())
	}
	add(nil, textItem(t.title.Render("workloads  "), report.OutcomeCounts(judged), t.plain))
	at := -1
	for _, outcome := range preview.Outcomes() {
		first := true
		for i := range judged.Workloads {
			w := &judged.Workloads[i]
			if w.Outcome != outcome {
				continue
			}
			if first {
				add(nil, blankItem())
				style := t.tone(report.OutcomeTone(outcome)).Bold(true)
				title := fmt.Sprintf("%s  %s  ", strings.ToUpper(string(outcome)), counted(judged.Counts[outcome], "workload"))
				add(nil, textItem(style.Render(title), report.OutcomeMeans(outcome), t.dim))
				first = false
			}
			if at < 0 {
				at = len(items)
			}
			add(w, affectedItem(t, w))
		}
	}
	if len(judged.Workloads) == 0 {
		add(nil, textItem("", "No workload is in scope.", t.dim))
	}
	p.breaks.fill(items, max(at, 0), 0)
	if len(judged.Failures) > 0 {
		// What is missing comes first.
		p.breaks.move(0)
	}
}

// affectedItem is one workload with everything that would happen to it.
func affectedItem(t *theme, w *preview.Workload) sheetItem {
	groups := effectsOf(w)
	lay := func(width int, open bool) []sheetLine {
		mark := foldMark(len(groups) > 0, open)
		// Its name is shown as a whole, and beside it what there is room for.
		var more []string
		if w.Pods > 0 {
			more = append(more, counted(w.Pods, "pod"))
		}
		if w.Accepted != "" && w.Outcome == preview.Breaks {
			more = append(more, "accepted")
		}
		name := wrapAt(mark, w.Workload.String(), t.bold, width)
		last := len(name) - 1
		rest := strings.Join(more, ", ")
		if !open && len(groups) > 0 {
			rest = strings.TrimPrefix(rest+"  "+groups[0].What, "  ")
			if n := len(groups) - 1; n > 0 {
				rest += fmt.Sprintf(" (and %d more)", n)
			}
		}
		room := width - ansi.StringWidth(name[last]) - 2
		if rest != "" && room >= 12 {
			name[last] += "  " + t.dim.Render(clean(rest, room))
		}
		lines := drawn(name...)
		if !open {
			return lines
		}
		if w.Accepted != "" && w.Outcome == preview.Breaks {
			lines = append(lines, drawn(wrapAt("    "+t.good.Render("accepted: "), w.Accepted, t.plain, width)...)...)
		}
		for i := range groups {
			lines = append(lines, drawn(effectLines(t, &groups[i], width)...)...)
		}
		return lines
	}
	return sheetItem{folds: len(groups) > 0, lay: lay}
}

// effectsOf are the effects on a workload, the worst first.
func effectsOf(w *preview.Workload) []report.EffectGroup {
	groups, worst := report.GroupEffects(w.Effects), preview.Outcomes()
	slices.SortStableFunc(groups, func(a, b report.EffectGroup) int {
		return cmp.Compare(slices.Index(worst, a.Outcome), slices.Index(worst, b.Outcome))
	})
	return groups
}

// effectLines say what happens, where, why, and what would avoid it.
func effectLines(t *theme, g *report.EffectGroup, width int) []string {
	style := t.tone(report.OutcomeTone(g.Outcome))
	begin := "    " + style.Render(pad(string(g.Outcome), len(preview.NotCovered))) + " "
	lines := wrapAt(begin, report.EffectSubject(g.Effect)+": "+g.What, t.plain, width)
	add := func(label string, texts []string) {
		for _, text := range texts {
			lines = append(lines, wrapAt("      "+t.dim.Render(label), text, t.dim, width)...)
		}
	}
	if len(g.Places) > 0 {
		add("at    ", []string{strings.Join(g.Places, ", ")})
	}
	add("why   ", g.Whys)
	add("mend  ", g.Mends)
	return lines
}

// laySummary says all that there is to know of a plan beside its changes.
func (p *remedyPlan) laySummary(t *theme, now time.Time) func(width int) []string {
	return func(width int) []string {
		var lines []string
		row := func(label, text string, s lipgloss.Style) {
			if text != "" {
				lines = append(lines, wrapAt(" "+t.dim.Render(pad(label, 11)), text, s, width)...)
			}
		}
		view := &p.View
		if p.Refused != "" {
			lines = append(paragraphs(" "+t.dim.Render(pad("refused", 11)), p.Refused, t.errorText, width), "")
		}
		row("unfinished", view.Plan.Unfinished, t.poor)
		row("cluster", joinFit(1<<16, report.Clean(p.cluster()), report.Clean(view.ServerVersion)), t.plain)
		row("changes", p.todo(), t.plain)
		if view.Preview != nil {
			row("workloads", report.OutcomeCounts(view.Preview), t.plain)
			if n := len(view.Preview.Failures); n > 0 {
				row("not read", counted(n, "thing")+": what would break is not known as a whole", t.doubt)
			}
		}
		row("set", view.Plan.Set, t.plain)
		if s := view.Set; s != nil {
			row("", strings.Join(report.OptionTexts(&s.Options), ", "), t.dim)
			row("admission", joinFit(1<<16, report.Clean(string(s.Options.Admission)), report.Clean(view.Admission)), t.plain)
			for _, note := range s.Notes {
				row("note", note, t.plain)
			}
			if n := len(s.Spared); n > 0 {
				row("spared", counted(n, "workload")+" in part: the set protects nothing there", t.plain)
			}
		}
		for _, note := range view.Plan.Notes {
			row("note", note, t.plain)
		}
		lines = append(lines, "")
		row("command", p.Command, t.accent)
		for _, next := range view.Next {
			row("next", next, t.plain)
		}
		return lines
	}
}

// drawPlan draws the pane that is chosen below what the plan comes to.
func (v *remedyView) drawPlan(d *desk, width, height int) []string {
	t, p := d.theme, v.plan
	var lines []string
	if height >= 14 {
		age := ""
		if s := ago(d.now, p.made); s != "now" {
			age = "planned " + s + " ago "
		}
		title := " " + t.title.Render(clean(p.title(), width-2-len(age)))
		lines = append(lines, "", pad(title, width-len(age))+t.dim.Render(age))
	}
	v.namesAt = len(lines)
	lines = append(lines, p.names(t), p.verdict(t, width))
	if height >= 14 {
		lines = append(lines, "")
	}
	v.above = len(lines)
	room := max(1, height-len(lines))
	switch p.pane {
	case paneChanges:
		return append(lines, p.changes.draw(t, width, room)...)
	case paneBreaks:
		return append(lines, p.breaks.draw(t, width, room)...)
	case paneSummary, paneCount:
	}
	return append(lines, p.summary.draw(width, room, p.laySummary(t, d.now))...)
}

// names are the panes' names, the one that is seen in brackets.
func (p *remedyPlan) names(t *theme) string {
	var b strings.Builder
	b.WriteString(" ")
	for i, name := range paneNames() {
		if remedyPane(i) == p.pane {
			b.WriteString(t.selected.Render("[" + name + "]"))
		} else {
			b.WriteString(" " + t.key.Render(name[:1]) + name[1:] + " ")
		}
	}
	return b.String()
}

// paneUnder is the pane whose name a column belongs to.
func paneUnder(x int) (remedyPane, bool) {
	from := 1
	for i, name := range paneNames() {
		to := from + len(name) + 2
		if x >= from && x < to {
			return remedyPane(i), true
		}
		from = to
	}
	return 0, false
}

// paneNames are the names of the panes with their keys.
func paneNames() [paneCount]string {
	return [paneCount]string{"d changes", "b what breaks", "s summary"}
}

// verdict says in one line whether the plan may be carried out, and what it comes to.
func (p *remedyPlan) verdict(t *theme, width int) string {
	switch why := p.obstacle(); {
	case p.Refused == "" && p.Idle:
		return " " + t.dim.Render(clean("= "+why, width-2))
	case why != "":
		why, _, _ = strings.Cut(why, "\n")
		return " " + t.errorText.Render("✗ ") + t.bad.Render(clean(why, width-4))
	}
	text := ansi.Truncate(t.good.Render("✓ ")+"a applies: "+p.todo(), width-2, "…")
	broken := ""
	if j := p.View.Preview; j != nil {
		broken = t.dim.Render(fmt.Sprintf("workloads: %d breaks, %d may break", j.Counts[preview.Breaks], j.Counts[preview.MayBreak]))
	}
	return " " + joinFit(width-2, text, broken)
}
