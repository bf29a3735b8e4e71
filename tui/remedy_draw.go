package tui

import (
	"fmt"
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/report"
)

func (v *remedyView) draw(d *desk, width, height int) []string {
	v.above = 0
	switch v.stage {
	case remedyForm:
		return v.drawForm(d, width, height)
	case remedyPlanning:
		return v.drawPlanning(d, width, height)
	case remedyPlanned:
		return v.drawPlan(d, width, height)
	case remedyConfirming:
		return v.drawConfirm(d, width, height)
	case remedyApplying:
		return v.drawApplying(d, width, height)
	case remedyDone:
		return v.drawResult(d, width, height)
	case remedyFailed:
	}
	t, f := d.theme, v.failed
	title := t.errorText.Render("✗ " + f.title)
	if f.idle {
		title = t.title.Render("= " + f.title)
	}
	lines := []string{"", " " + title, ""}
	if height < 14 {
		lines = lines[1:2]
	}
	return append(lines, f.page.draw(width, max(1, height-len(lines)), func(width int) []string {
		// What others say stands behind a line, so that it is not taken for our own.
		lines := paragraphs("", f.text, t.plain, width-3)
		for i := range lines {
			lines[i] = " " + t.dim.Render("│") + " " + lines[i]
		}
		return append(lines, wrapAt(" ", "Nothing was changed.", t.bold, width)...)
	})...)
}

func (v *remedyView) drawPlanning(d *desk, width, height int) []string {
	t, p := d.theme, v.planning
	what := fmt.Sprintf("%s, %s, %s", p.ask.Level, p.ask.Action, p.ask.scopeText())
	if p.rollback {
		what = "a rollback of the set"
	}
	lines := []string{" " + t.title.Render("planning … "+seconds(d, p.since))}
	if height >= 14 {
		lines = append([]string{""}, append(lines, "")...)
	}
	lines = append(lines, wrapAt(" ", what, t.plain, width)...)
	return append(lines, wrapAt(" ", "The cluster is read, and asked by dry runs. Nothing is changed. x cancels.", t.dim, width)...)
}

func (v *remedyView) drawConfirm(d *desk, width, height int) []string {
	t, p := d.theme, v.plan
	roomy := height >= 14
	verb := "Apply to "
	if p.rollback {
		verb = "Roll back in "
	}
	lines := []string{" " + t.title.Render(clean(verb+p.cluster(), width-2))}
	lines = append(lines, wrapAt(" "+t.dim.Render("changes    "), p.todo(), t.plain, width)...)
	if p.View.Preview != nil && roomy {
		lines = append(lines, wrapAt(" "+t.dim.Render("workloads  "), report.OutcomeCounts(p.View.Preview), t.plain, width)...)
	}
	if roomy {
		lines = append([]string{""}, append(lines, "")...)
	}
	v.confirm.Width = max(1, width-5)
	ask := wrapAt(" Type ", report.Clean(p.Word)+" and press enter. esc changes nothing.", t.accent, width)
	answer := []string{" " + v.confirm.View()}
	if v.refused != "" {
		answer = append(answer, wrapAt(" "+t.errorText.Render("✗ "), v.refused, t.errorText, width)...)
	}
	// The question and what was typed are always seen.
	if over := len(lines) + len(ask) + len(answer) - height; over > 0 {
		lines = lines[min(over, len(lines)):]
	}
	return slices.Concat(lines, ask, answer)
}

func (v *remedyView) drawApplying(d *desk, width, height int) []string {
	t, a := d.theme, v.applying
	a.mu.Lock()
	lines, done, total, forgotten := slices.Clone(a.lines), a.done, a.total, a.forgotten
	a.mu.Unlock()
	what := "applying to "
	if a.plan.rollback {
		what = "rolling back in "
	}
	title := t.title.Render(clean(what+a.plan.cluster()+" … "+seconds(d, a.since), width-2))
	how := t.dim.Render("x stops between two changes")
	switch {
	case a.stopping:
		how = t.poor.Render("stopping between two changes …")
	case a.between(done):
		how = t.dim.Render("waiting for what can be verified; x stops")
	}
	cells := max(10, min(40, width-20))
	gauge := " " + t.accent.Render(pad(bar(done, total, cells), cells)) + "▏" + fmt.Sprintf("%d/%d", done, total)
	if total == 0 {
		gauge = " " + t.dim.Render("nothing was made yet")
	}
	head := []string{" " + title, gauge, " " + how}
	if height >= 14 {
		head = []string{"", " " + title, "", gauge, " " + how, ""}
	}
	a.wrap(t, lines, forgotten, width)
	a.page.fit(len(a.shown), max(1, height-len(head)))
	if a.follow {
		a.page.show(len(a.shown))
	}
	from, to := a.page.part()
	return append(head, a.shown[from:to]...)
}

// between tells whether all changes of a stage are made, so that they are verified now.
func (a *applying) between(done int) bool {
	changes := a.plan.View.Plan.Changes
	if done < 1 || done > len(changes) {
		return false
	}
	return done == len(changes) || changes[done].Stage != changes[done-1].Stage
}

// wrap breaks lines of progress that are not yet, or not for this width.
func (a *applying) wrap(t *theme, lines []string, forgotten, width int) {
	if width != a.shownWidth || forgotten != a.shownForgotten {
		a.shown, a.shownLines, a.shownWidth, a.shownForgotten = nil, 0, width, forgotten
		if forgotten > 0 {
			a.shown = append(a.shown, " "+t.dim.Render(clean(fmt.Sprintf("(%d lines before)", forgotten), width-2)))
		}
	}
	for _, line := range lines[a.shownLines:] {
		wrapped := wrap(line, width-4)
		for i, text := range wrapped {
			indent := " "
			if i > 0 {
				indent = "   "
			}
			a.shown = append(a.shown, indent+text)
		}
	}
	a.shownLines = len(lines)
}

// seconds is how long something takes already.
func seconds(d *desk, since time.Time) string {
	return fmt.Sprintf("%ds", int(d.now.Sub(since).Seconds()))
}
