package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// remedyResult is what came of carrying a plan out.
type remedyResult struct {
	plan    *remedyPlan
	result  *remediate.Result
	err     error
	stopped bool
	took    time.Duration
	page    remedyPage
}

func newRemedyResult(msg appliedMsg, now time.Time) *remedyResult {
	r := &remedyResult{
		plan: msg.of.plan, result: msg.result, err: msg.err, took: now.Sub(msg.of.since),
		stopped: msg.of.stopping || errors.Is(msg.err, context.Canceled),
	}
	if r.result == nil {
		r.result = &remediate.Result{}
	}
	if r.err == nil {
		// It had ended before it could be stopped.
		r.stopped = false
	}
	return r
}

// head is what it comes to in two words.
func (r *remedyResult) head() string {
	what := "Applied to "
	if r.plan.rollback {
		what = "Rolled back in "
	}
	switch {
	case r.stopped:
		what = "STOPPED in "
	case r.err != nil:
		what = "FAILED in "
	case r.result.Left > 0:
		what = "NOT ALL DONE in "
	}
	return what + r.plan.cluster()
}

// counts is what was done.
func (r *remedyResult) counts() string {
	text := report.ChangesDone(r.result.Changes)
	if text == "" {
		text = "nothing"
	}
	made := remediate.Plan{Changes: r.result.Changes}
	if n := len(made.Blocked()); n > 0 {
		text += fmt.Sprintf(", %d BLOCKED", n)
	}
	if r.result.Left > 0 {
		text += ", " + counted(r.result.Left, "change") + " not made"
	}
	return text
}

// line is the result in one line.
func (r *remedyResult) line() string { return r.head() + ": " + r.counts() + ". s shows it." }

// lay makes the lines of the whole result.
func (r *remedyResult) lay(t *theme) func(width int) []string {
	return func(width int) []string {
		var lines []string
		row := func(begin, text string, s lipgloss.Style) {
			if text != "" {
				lines = append(lines, wrapAt(begin, text, s, width)...)
			}
		}
		label := func(text string) string { return " " + t.dim.Render(pad(text, 9)) }
		title := func(text string) { lines = append(lines, "", " "+t.title.Render(text)) }
		row(label("done"), r.counts(), t.bold)
		row(label("checks"), report.CheckCounts(r.result.Checks), t.plain)
		switch {
		case r.stopped && errors.Is(r.err, context.Canceled):
			row(label("why"), "it was asked to stop", t.poor)
		case r.err != nil:
			lines = append(lines, paragraphs(label("why"), r.err.Error(), t.errorText, width)...)
		}
		r.wayBack(t, row, label)
		if len(r.result.Checks) > 0 {
			title("Checks")
		}
		for i := range r.result.Checks {
			c := &r.result.Checks[i]
			word, tone := report.CheckWord(c)
			row(" "+t.tone(tone).Bold(true).Render(pad(word, 9)), c.Subject, t.bold)
			row(strings.Repeat(" ", 10), c.Message, t.dim)
		}
		if len(r.result.Changes) > 0 {
			title("Change by change")
		}
		for i := range r.result.Changes {
			c := &r.result.Changes[i]
			_, tone := report.ChangeWord(c)
			style := t.dim
			if tone != "" {
				style = t.tone(tone)
			}
			row(" "+style.Render(pad(report.ChangeDone(c), 11)), stageOf(c)+c.Object.String(), t.plain)
			if b := c.Block; b != nil {
				row("    ", "by "+string(b.By)+": "+b.Message, t.bad)
				if b.Mend != "" {
					row("    "+t.accent.Render("mend: "), b.Mend, t.plain)
				}
			}
		}
		if left := r.left(); len(left) > 0 {
			title("Not come to")
			for _, c := range left {
				row(" "+t.poor.Render(pad("not made", 11)), stageOf(c)+c.Object.String(), t.plain)
			}
		}
		return lines
	}
}

// wayBack says how to get back, or on.
func (r *remedyResult) wayBack(t *theme, row func(string, string, lipgloss.Style), label func(string) string) {
	switch {
	case r.plan.rollback && r.err == nil && r.result.Left == 0:
		row(label("next"), "what was before the set is back. p plans the set again.", t.plain)
	case r.plan.rollback:
		row(label("next"), "r plans the rest of the rollback. What is put back already stays so.", t.plain)
	case r.err != nil || r.result.Left > 0:
		row(label("next"), "p plans what is left, r plans a rollback: it puts back what was before.", t.plain)
	default:
		row(label("way back"), "r plans a rollback: it puts back what was before.", t.plain)
	}
}

func stageOf(c *remediate.Change) string {
	if c.Stage == "" {
		return ""
	}
	return string(c.Stage) + "  "
}

// left are the changes of the plan that were not come to.
func (r *remedyResult) left() []*remediate.Change {
	type place struct {
		stage  remediate.Stage
		object remediate.Ref
	}
	seen := map[place]int{}
	for i := range r.result.Changes {
		c := &r.result.Changes[i]
		seen[place{c.Stage, c.Object}]++
	}
	var left []*remediate.Change
	for i := range r.plan.View.Plan.Changes {
		c := &r.plan.View.Plan.Changes[i]
		at := place{c.Stage, c.Object}
		if seen[at] > 0 {
			seen[at]--
		} else if c.Action != remediate.Unchanged {
			left = append(left, c)
		}
	}
	return left
}

// text is the result for a ticket.
func (r *remedyResult) text() string {
	view := r.plan.View
	view.Result, view.Next = r.result, nil
	var b bytes.Buffer
	b.WriteString(report.Clean(r.head()) + "\n")
	if r.err != nil {
		for line := range strings.SplitSeq(r.err.Error(), "\n") {
			b.WriteString(report.Clean(line) + "\n")
		}
	}
	// Writing to memory cannot fail.
	_ = report.WriteResult(&b, &view, report.PlanOptions{Diffs: report.DiffsNone})
	return strings.TrimRight(b.String(), "\n")
}

func (v *remedyView) drawResult(d *desk, width, height int) []string {
	t, r := d.theme, v.result
	style, sign := t.good, "✓ "
	answered := func(a kernel.Answer) bool {
		return slices.ContainsFunc(r.result.Checks, func(c remediate.Check) bool { return c.Answer == a })
	}
	switch {
	case r.err != nil || r.result.Left > 0 || answered(kernel.No):
		style, sign = t.errorText, "✗ "
	case answered(kernel.Unknown):
		style, sign = t.doubt, "? "
	}
	lines := []string{" " + style.Bold(true).Render(clean(sign+r.head(), width-2)), ""}
	if height >= 14 {
		lines = append([]string{""}, lines...)
	} else {
		lines = lines[:1]
	}
	v.above = len(lines)
	return append(lines, r.page.draw(width, max(1, height-len(lines)), r.lay(t))...)
}
