package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ladder writes what is known of a node's kernel, the strongest evidence first.
type ladder struct {
	*desk
	pageText
}

func (l *ladder) title(text string, style lipgloss.Style) {
	l.add("", nil)
	l.add(" "+style.Bold(true).Render(text), nil)
}

func (l *ladder) node(n *scan.Node) {
	t, e := l.theme, n.Enforcement
	l.wrapped(" ", nodeName(n), t.title, nil)
	enforces, agent := report.NodeWords(e)
	tone := t.tone(report.NodeCell(e).Tone)
	l.wrapped(" ", enforces, tone.Bold(true), nil)
	if e == nil {
		l.facts(n)
		return
	}
	if agent != "" {
		style := t.doubt
		switch e.Agent {
		case kernel.Yes:
			style = t.plain
		case kernel.No:
			style = t.bad
		case kernel.Unknown:
		}
		l.wrapped(" ", agent, style, nil)
	}
	l.add("", nil)
	l.wrapped(" ", e.Reason, t.plain, &stop{id: "reason", what: "the reason", text: report.Clean(nodeName(n)) + ": " + enforces + ". " + report.Clean(e.Reason)})
	l.contradictions(e)
	l.evidence(e)
	l.turnOn(e.TurnOn)
	l.facts(n)
}

// facts are what the API server says of the node.
func (l *ladder) facts(n *scan.Node) {
	l.add("", nil)
	for _, f := range []struct{ name, text string }{
		{"OS image", n.OSImage}, {"kernel", n.KernelVersion}, {"architecture", n.Architecture},
		{"runtime", n.ContainerRuntime}, {"kubelet", n.KubeletVersion},
	} {
		if f.text != "" {
			l.wrapped(" "+l.theme.dim.Render(pad(f.name, 13)), f.text, l.theme.dim, nil)
		}
	}
}

func (l *ladder) contradictions(e *kernel.Enforcement) {
	t := l.theme
	if len(e.Contradictions) == 0 {
		return
	}
	l.title(fmt.Sprintf("! Contradictions: %d", len(e.Contradictions)), t.errorText)
	for i, c := range e.Contradictions {
		l.wrapped(" "+t.errorText.Render("!")+" ", c, t.errorText, &stop{id: fmt.Sprint("contradiction ", i), what: "the contradiction", text: report.Clean(c)})
	}
}

// evidence are the rungs: proven, claimed, hinted.
func (l *ladder) evidence(e *kernel.Enforcement) {
	t := l.theme
	l.title("Evidence, the strongest first", t.title)
	if len(e.Evidence) == 0 {
		l.add(" "+t.doubt.Render("? no evidence was found"), nil)
		return
	}
	pieces := slices.Clone(e.Evidence)
	slices.SortStableFunc(pieces, func(a, b kernel.Evidence) int {
		decides := func(e kernel.Evidence) int {
			if e.Decides {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Grade.Rank(), a.Grade.Rank()), cmp.Compare(decides(a), decides(b)))
	})
	for i := range pieces {
		l.rung(i, &pieces[i])
	}
}

// rung is one piece of evidence.
func (l *ladder) rung(i int, e *kernel.Evidence) {
	t := l.theme
	at := &stop{id: fmt.Sprint("evidence ", i), what: "the evidence", text: evidenceText(e)}
	word, style := answerWord(t, e.Says)
	if word == "?" {
		word = string(kernel.Unknown)
	}
	grade := strings.ToUpper(report.Clean(string(e.Grade)))
	if e.Grade.Rank() == 0 {
		grade = "?"
	}
	indent := "   "
	head := " " + gradeStyle(t, e.Grade).Render(cell(grade, 9)) + style.Render(cell("says "+word, 13))
	if e.Decides {
		head += t.accent.Bold(true).Render("◂ decides")
	}
	if l.width >= 60 {
		indent = strings.Repeat(" ", 10)
	}
	l.add(head, at)
	source, value := report.Clean(e.Source), report.Clean(e.Value)
	switch {
	case value == "":
		l.wrapped(indent, source, t.plain, at)
	case len(indent)+ansi.StringWidth(source)+3+ansi.StringWidth(value) <= l.width:
		l.add(indent+source+t.dim.Render(" = ")+t.accent.Render(value), at)
	default:
		l.wrapped(indent, source, t.plain, at)
		l.wrapped(indent+t.dim.Render("= "), value, t.accent, at)
	}
	l.wrapped(indent, e.Meaning, t.plain, at)
	l.wrapped(indent, report.Observed(e), t.dim, at)
}

func evidenceText(e *kernel.Evidence) string {
	word := report.Clean(string(e.Says))
	if word == "" {
		word = string(kernel.Unknown)
	}
	text := fmt.Sprintf("%s, says %s", report.Clean(string(e.Grade)), word)
	if e.Decides {
		text += ", decides"
	}
	text += ": " + report.Clean(e.Source)
	if e.Value != "" {
		text += " = " + report.Clean(e.Value)
	}
	return text + ": " + report.Clean(e.Meaning) + " (" + report.Observed(e) + ")"
}

// gradeStyle is the style of a grade: what is only hinted is dim.
func gradeStyle(t *theme, g kernel.Grade) lipgloss.Style {
	switch g {
	case kernel.Proven:
		return t.bold
	case kernel.Claimed:
		return t.plain
	case kernel.Hinted:
	}
	return t.dim
}

// answerWord is an answer and its style; what is not known is a question mark.
func answerWord(t *theme, a kernel.Answer) (string, lipgloss.Style) {
	switch a {
	case kernel.Yes:
		return "yes", t.good
	case kernel.No:
		return "no", t.bad
	case kernel.Unknown:
	}
	return "?", t.doubt
}

// turnOn are the steps that switch BPF-LSM on.
func (l *ladder) turnOn(on *kernel.TurnOn) {
	if on == nil {
		return
	}
	t := l.theme
	head := report.TurnOnHead(on)
	l.add("", nil)
	for _, line := range wrapAt(" ", strings.ToUpper(head[:1])+head[1:], t.title, l.width) {
		l.add(line, nil)
	}
	for i, step := range on.Steps {
		begin := " " + t.accent.Render(fmt.Sprintf("%d.", i+1)) + " "
		if !on.Possible {
			begin = " - "
		}
		l.wrapped(begin, step, t.plain, &stop{id: fmt.Sprint("step ", i), what: "the step", text: report.Clean(step)})
	}
	if on.Source != "" {
		begin := strings.Repeat(" ", min(4, ansi.StringWidth(" 1. ")))
		l.wrapped(begin, on.Source, t.dim, &stop{id: "source", what: "the source", text: report.Clean(on.Source)})
	}
}

// turnOnText are the steps, to be pasted.
func turnOnText(on *kernel.TurnOn) string {
	lines := []string{report.TurnOnHead(on) + ":"}
	for i, step := range on.Steps {
		lines = append(lines, fmt.Sprintf("%d. %s", i+1, report.Clean(step)))
	}
	if on.Source != "" {
		lines = append(lines, "("+report.Clean(on.Source)+")")
	}
	return strings.Join(lines, "\n") + "\n"
}
