package tui

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// oneText is the text of a workload in the making.
type oneText struct {
	*workload
	d     *desk
	t     *theme
	width int
	lines []string
	items []oneItem
	names map[string]bool
	// parts are what report says of the workload.
	parts report.ExplainedParts
}

// layOut makes the text anew, where that is needed.
func (v *workload) layOut(d *desk, width int) {
	path := v.path
	if at := v.cursor(); at >= 0 && v.items[at].kind == itemPath {
		path = v.items[at].name
	}
	if !v.stale && width == v.width && path == v.path {
		return
	}
	v.stale, v.width, v.path = false, width, path
	x := &oneText{workload: v, d: d, t: d.theme, width: width, names: map[string]bool{}}
	if v.row == nil {
		x.line("")
		x.say(" ", "Nothing is known of this workload in this run: it has no verdict and no finding.", x.t.dim)
	} else {
		x.parts = x.explained()
		x.judgement()
		x.matrix()
		x.findings()
		x.layers()
	}
	x.alerts()
	v.lines, v.items = x.lines, x.items
	if at := v.cursor(); at >= 0 {
		v.at = v.items[at].name
	}
	v.page.fit(len(v.lines), v.page.height)
}

// draw draws the part of the text that is seen, below its title.
func (v *workload) draw(d *desk, width, height int) []string {
	v.layOut(d, width)
	lines := v.titleLines(d, width)
	v.head = len(lines)
	v.page.fit(len(v.lines), height-v.head)
	at := v.cursor()
	from, to := v.page.part()
	for i := from; i < to; i++ {
		line := v.lines[i]
		if at >= 0 && i == v.items[at].from {
			line = cursorLine(d.theme, ansi.Strip(line), width)
		}
		lines = append(lines, line)
	}
	return lines
}

// titleLines name the workload and its verdict, and say when it is gone.
func (v *workload) titleLines(d *desk, width int) []string {
	t := d.theme
	narrow := width < lettersWidth
	line, tail := " "+t.doubt.Render("? no verdict"), ""
	if narrow {
		line = " " + t.doubt.Render("?")
	}
	if v.row != nil && v.row.Verdict != nil {
		w := v.row.Verdict
		line = " " + t.verdict(w.Verdict).Render(verdictLetter(w.Verdict)+" "+clean(string(w.Verdict), 12))
		if narrow {
			line = " " + t.verdict(w.Verdict).Render(verdictLetter(w.Verdict))
		}
		if w.Severity != "" {
			tail = t.severity(w.Severity).Render(clean(string(w.Severity), 12)) + "  "
		}
		tail += t.dim.Render(counted(w.Pods, "pod"))
	}
	room := width - ansi.StringWidth(line) - 3
	name := report.Clean(v.name())
	if narrow {
		name = report.Clean(shortKind(v.ref.Workload))
		if v.row != nil {
			name = report.Clean(inCluster(v.row.Cluster, shortKind(v.ref.Workload)))
		}
	}
	if left := room - ansi.StringWidth(tail) - 2; ansi.StringWidth(name) <= left {
		line = pad(line+"  "+t.title.Render(name), width-1-ansi.StringWidth(tail)) + tail
	} else {
		line += "  " + t.title.Render(clean(name, room))
	}
	lines := []string{line}
	if !v.gone.IsZero() {
		text := "Gone since " + v.gone.Format("15:04:05") + ": this is what was known of it."
		lines = append(lines, wrapAt(" ", text, t.errorText, width)...)
	}
	return lines
}

func (x *oneText) line(text string) { x.lines = append(x.lines, text) }

// say adds a paragraph. The beginning is drawn already.
func (x *oneText) say(begin, text string, style lipgloss.Style) {
	x.lines = append(x.lines, wrapAt(begin, text, style, x.width-1)...)
}

// section begins a part.
func (x *oneText) section(title string) {
	x.line("")
	x.line(" " + x.t.title.Render(title))
}

// item adds what the cursor can stand on.
func (x *oneText) item(it oneItem, write func()) {
	for n := 2; x.names[it.name]; n++ {
		// Two that are alike in everything are told apart by their place.
		it.name += fmt.Sprintf("#%d", n)
	}
	x.names[it.name] = true
	it.from = len(x.lines)
	write()
	it.to = len(x.lines)
	it.reach = it.to
	if it.plain == "" {
		it.plain = x.heading() + "\n" + plainText(x.lines[it.from:it.to])
	}
	x.items = append(x.items, it)
}

// plainText is drawn text without its styles and marks.
func plainText(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimRight(strings.NewReplacer("▸ ", "", "▾ ", "").Replace(ansi.Strip(l)), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// judgement is the verdict's sentence and what belongs to it.
func (x *oneText) judgement() {
	w := x.row.Verdict
	if w == nil {
		x.say(" ", "No verdict has come for it: nothing good may be taken from what follows.", x.t.doubt)
		return
	}
	reason := w.Reason
	if reason == "" {
		reason = "no reason is known"
	}
	x.say(" ", reason, x.t.plain)
	if w.Was != "" && w.Was != w.Verdict {
		x.say(" ", "before, it was "+string(w.Was), x.t.dim)
	}
	if w.Claims != "" {
		x.say(" ", claimMark+" claims to belong to "+w.Claims+", which was not followed", x.t.doubt)
	}
	if l := w.Location; l != nil && l.File != "" {
		x.say(" ", fmt.Sprintf("declared at %s:%d", l.File, l.Line), x.t.dim)
	}
}

// explained is what report says of the workload, in lines that fit below a heading.
func (x *oneText) explained() report.ExplainedParts {
	s := x.d.snap
	in := report.Explained{Workload: x.ref.Workload, Start: s.Start, Findings: x.row.Findings, Policies: s.Policies, Nodes: s.Nodes}
	for _, f := range s.Failures {
		if f.Namespace == "" || f.Namespace == x.ref.Workload.Namespace {
			in.Failures = append(in.Failures, f)
		}
	}
	in.Incomplete = s.End != nil && (s.End.Incomplete || s.End.Interrupted) || s.Over && !s.Pictured
	if x.row.Verdict != nil {
		in.Verdicts = []*scan.WorkloadVerdict{x.row.Verdict}
	}
	return report.ExplainParts(in, x.width-3)
}

// indented adds lines of a report below a heading.
func (x *oneText) indented(lines []string) {
	for _, l := range lines {
		x.line("  " + x.t.plain.Render(l))
	}
}

// layers is what each layer says as a whole, what could not be read, and what would help.
func (x *oneText) layers() {
	w := x.row.Verdict
	if w == nil {
		return
	}
	parts := x.parts
	x.section("Layers")
	if w.Layers == nil {
		x.say(" ", "Only the spec was judged in this run: what admission, runtime policies and the nodes' kernels do is not known.", x.t.doubt)
	} else {
		l := w.Layers
		cells := report.LayerCells(l)
		for i, layer := range []struct {
			name, reason string
			lines        []string
		}{
			{"Admission", admissionReason(l), parts.Admission},
			{"Runtime", l.Runtime.Reason, parts.Runtime},
			{"Kernel", l.Kernel.Reason, parts.Kernel},
		} {
			name := "layer/" + layer.name
			x.item(oneItem{kind: itemLayer, name: name, plain: x.heading() + "\n" + layer.name + "\n" + strings.Join(layer.lines, "\n")}, func() {
				fold := "▸ "
				if x.open[name] {
					fold = "▾ "
				}
				text := cells[i].Text
				if layer.reason != "" && !x.open[name] {
					text += ": " + layer.reason
				}
				begin := " " + fold + x.t.bold.Render(pad(layer.name, 11))
				if x.width < lettersWidth {
					begin = " " + fold + x.t.bold.Render(cells[i].Short+" ")
				}
				lines := wrapAt(begin+x.t.tone(cells[i].Tone).Render(toneMark(cells[i].Tone)+" "), text, x.t.plain, x.width-1)
				x.lines = append(x.lines, lines...)
				if x.open[name] {
					x.indented(layer.lines)
				}
			})
		}
	}
	if len(parts.Unread) > 0 {
		x.part("Not read", parts.Unread)
	}
	if len(parts.Better) > 0 {
		x.part("What would make it better", parts.Better)
	}
}

// part is a section that the cursor can stand on.
func (x *oneText) part(title string, lines []string) {
	x.line("")
	x.item(oneItem{kind: itemText, name: title}, func() {
		x.line(" " + x.t.title.Render(title))
		x.indented(lines)
	})
}

// admissionReason is why admission answers as it does. Of a workload without an open path
// it was asked whether one would be let in.
func admissionReason(l *scan.Layers) string {
	if len(l.Paths) > 0 {
		return l.Admission.Reason
	}
	return l.ReopenReason
}

// alerts counts the alerts of the workload, and shows the newest.
func (x *oneText) alerts() {
	mine := x.alertsOf(x.d.snap)
	if len(mine) == 0 {
		x.section("Alerts")
		text := "None was told of."
		if s := x.d.snap.Start; s == nil || !s.Alerts {
			text = "None is known. Alerts were not listened to in this run, so that says nothing."
		}
		x.say(" ", text, x.t.dim)
		return
	}
	count, incidents := 0, 0
	last := mine[0].Last
	for _, a := range mine {
		count += a.Count
		if a.Incident {
			incidents++
		}
		if a.Last.After(last) {
			last = a.Last
		}
	}
	x.line("")
	x.item(oneItem{kind: itemAlerts, name: "alerts"}, func() {
		x.line(" " + x.t.title.Render("Alerts"))
		text := counted(count, "alert")
		if len(mine) != count {
			text += " in " + counted(len(mine), "fold")
		}
		text += ", last " + last.UTC().Format("15:04:05") + " (" + ago(x.d.now, last) + ")"
		if incidents > 0 {
			text += ", " + counted(incidents, "incident")
		}
		style := x.t.plain
		if incidents > 0 {
			style = x.t.bad
		}
		x.say(" ", text, style)
		const most = 5
		for i := len(mine) - 1; i >= max(0, len(mine)-most); i-- {
			a := mine[i]
			mark, style := " ", x.t.dim
			if a.Incident {
				mark, style = "!", x.t.bad
			}
			stopped := "not blocked"
			if a.Blocked {
				stopped = "blocked"
			}
			what := fmt.Sprintf("%s ×%d  %s, %s", a.Last.UTC().Format("15:04:05"), a.Count, a.Class, stopped)
			if a.Resource != "" {
				what += ": " + a.Resource
			}
			x.line("   " + style.Render(mark+" "+clean(what, x.width-6)))
		}
		if n := len(mine) - most; n > 0 {
			x.line("   " + x.t.dim.Render(fmt.Sprintf("  and %d older", n)))
		}
	})
}
