package tui

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/scan"
)

// draw implements screen.
func (v *alerts) draw(d *desk, width, height int) []string {
	if width != v.width {
		v.width, v.stale = width, true
	}
	v.arrange(d)
	if v.opened != nil {
		return v.drawOpened(d, width, height)
	}
	lines := v.head(d, width, height)
	if len(v.items) == 0 {
		return append(lines, wrapAt(" ", v.nothing(d), d.theme.dim, width)...)
	}
	left := v.listWidth(width)
	columns := alertColumns(left)
	lines = append(lines, d.theme.dim.Render(pad(columns.header(), left)))
	v.above = len(lines)
	if left == width {
		return append(lines, v.list(d, &columns, left, height-v.above)...)
	}
	// Beside the list stands what the cursor is on.
	side := v.beside(d, width-left-2, height-v.above+1)
	lines = append(lines, v.list(d, &columns, left, height-v.above)...)
	for len(lines) < height {
		lines = append(lines, "")
	}
	for i, line := range side {
		at := v.above - 1 + i
		lines[at] = pad(lines[at], left) + d.theme.dim.Render("│ ") + line
	}
	return lines
}

// listWidth is how wide the list is where the alert stands beside it.
func (v *alerts) listWidth(width int) int {
	if width < alertsWide {
		return width
	}
	return width * 3 / 5
}

// list are the lines of the list that are seen.
func (v *alerts) list(d *desk, columns *alertWidths, width, height int) []string {
	if height != v.lines.height {
		v.lines.fit(v.lines.length, height)
	}
	from, to := v.lines.part()
	lines := make([]string, 0, max(0, to-from))
	var below []string
	belowOf := -1
	for at := from; at < to; at++ {
		i := v.itemOf(at)
		if at == v.begins[i] {
			lines = append(lines, v.line(d, columns, &v.items[i], at == v.lines.cursor, width))
			continue
		}
		if i != belowOf {
			below, belowOf = v.below(d, &v.items[i]), i
		}
		text := ""
		if n := at - v.begins[i] - 1; n < len(below) {
			text = below[n]
		}
		lines = append(lines, marker(d, at == v.lines.cursor)+text)
	}
	return lines
}

// marker stands before the line of the cursor.
func marker(d *desk, here bool) string {
	if here {
		return d.theme.accent.Bold(true).Render("▌")
	}
	return " "
}

// alertWidths are the cells of the columns; 0 leaves one out.
type alertWidths struct {
	class, times, last, stopped   int
	workload, container, resource int
	short                         bool
}

// alertColumns divides so many cells.
func alertColumns(width int) alertWidths {
	c := alertWidths{class: 15, times: 6, last: 4, stopped: 7}
	if width < 60 {
		c = alertWidths{class: 6, times: 4, last: 4, stopped: 1, short: true}
	} else if width < 100 {
		c.class, c.times = 10, 5
	}
	// The marker, the severity and the mark of an incident, blanks, the verdict.
	rest := width - 1 - 2 - 1 - c.class - 1 - c.times - 1 - c.last - 1 - c.stopped - 1 - 2
	switch {
	case rest < 36:
		c.workload = rest
	case rest < 60:
		c.workload = rest * 11 / 20
		c.resource = rest - c.workload - 1
	default:
		c.workload, c.container = rest*9/20, rest*3/20
		c.resource = rest - c.workload - c.container - 2
	}
	return c
}

func (c *alertWidths) header() string {
	words := [...]string{"CLASS", "TIMES", "LAST", "STOPPED"}
	if c.short {
		words = [...]string{"CLASS", "N", "LAST", "S"}
	}
	text := " S! " + cell(words[0], c.class) + " " + right(words[1], c.times) + " " + right(words[2], c.last) + " " +
		cell(words[3], c.stopped) + " V " + cell("WORKLOAD", c.workload)
	if c.container > 0 {
		text += " " + cell("CONTAINER", c.container)
	}
	if c.resource > 0 {
		text += " " + cell("WHAT", c.resource)
	}
	return text
}

// line is one item of the list.
func (v *alerts) line(d *desk, c *alertWidths, it *alertItem, here bool, width int) string {
	if it.lost != nil {
		return v.lostLine(d, it.lost, here, width)
	}
	t, a := d.theme, it.alert
	mark, stopped, stoppedStyle := " ", "no", t.bad
	if a.Incident {
		mark = "!"
	}
	if a.Blocked {
		stopped, stoppedStyle = "yes", t.good
	}
	if c.short {
		stopped = stopped[:1]
	}
	workload := cell(workloadShort(a.Workload, c.workload), c.workload)
	class := cell(classWord(a.Class, c.class), c.class)
	times, last := right(fmt.Sprintf("%d×", a.Count), c.times), right(ago(d.now, a.Last), c.last)
	severity := severityLetter(a.Severity) + mark
	var rest strings.Builder
	if c.container > 0 {
		rest.WriteString(" " + cell(a.Container, c.container))
	}
	if c.resource > 0 {
		rest.WriteString(" " + cell(alertDeed(a, c.resource), c.resource))
	}
	if here {
		plain := severity + " " + class + " " + times + " " + last + " " + cell(stopped, c.stopped) + " " +
			verdictLetter(a.Verdict) + " " + workload + rest.String()
		return marker(d, true) + t.selected.Render(pad(plain, width-1))
	}
	return " " + t.severity(a.Severity).Render(severity) + " " + class + " " + times + " " + t.dim.Render(last) + " " +
		stoppedStyle.Render(cell(stopped, c.stopped)) + " " + t.verdict(a.Verdict).Render(verdictLetter(a.Verdict)) + " " +
		workload + t.dim.Render(rest.String())
}

// lostLine is a gap: it must not pass for quiet.
func (v *alerts) lostLine(d *desk, l *scan.Lost, here bool, width int) string {
	text := "▒▒ EVIDENCE LOST " + lostSpan(d, l)
	if reason := " (" + string(l.Reason) + ")"; len(text)+len(reason) <= width {
		text += reason
	}
	if l.Workload != nil {
		text += " " + l.Workload.String()
	} else {
		text += " " + l.Source
	}
	style := d.theme.errorText
	if here {
		style = d.theme.selected
	}
	return marker(d, here) + style.Render(cell(text, width-1))
}

// lostSpan is the time of a gap, short.
func lostSpan(d *desk, l *scan.Lost) string {
	switch {
	case l.To.IsZero():
		return "since " + clock(d, l.From)
	case l.From.Equal(l.To):
		return "at " + clock(d, l.From)
	}
	return "from " + clock(d, l.From) + " to " + clock(d, l.To)
}

// classWord is a class in so many cells.
func classWord(c scan.AlertClass, cells int) string {
	if len(c) <= cells {
		return string(c)
	}
	switch c {
	case scan.ClassCapability:
		return "caps"
	case scan.ClassTool:
		return "tool"
	case scan.ClassEscape:
		return "escape"
	case scan.ClassChroot, scan.ClassOther:
	}
	return string(c)
}

// workloadShort is a workload's name, without its kind where there is little room.
func workloadShort(w scan.Workload, cells int) string {
	full := w.String()
	if w.Name == "" {
		return "? no pod of the cluster"
	}
	if ansi.StringWidth(full) <= cells {
		return full
	}
	return strings.TrimPrefix(w.Namespace+"/"+w.Name, "/")
}

// alertDeed is what was done, and by what program where that says more and there is room.
func alertDeed(a *scan.Alert, cells int) string {
	process := a.Process
	if a.Resource == "" {
		return process
	}
	if process == "" || a.Resource == process || strings.HasPrefix(a.Resource, process+" ") {
		return a.Resource
	}
	both := a.Resource + " by " + process[strings.LastIndexByte(process, '/')+1:]
	if len(both) > cells {
		return a.Resource
	}
	return both
}

// below is the detail of an item under its line.
func (v *alerts) below(d *desk, it *alertItem) []string {
	const indent = "     "
	lines := drawFacts(d, it.facts(d)[1:], max(v.listWidth(v.width)-len(indent)-2, 8))
	for i, line := range lines {
		lines[i] = indent + line
	}
	return lines
}

// beside is the detail of what the cursor is on.
func (v *alerts) beside(d *desk, width, height int) []string {
	it := v.chosen()
	if it == nil {
		return nil
	}
	lines := drawFacts(d, it.facts(d), width-1)
	if len(lines) > height {
		lines = append(lines[:height-1], d.theme.dim.Render(clean("… enter shows the rest", width-1)))
	}
	for len(lines) < height {
		lines = append(lines, "")
	}
	return lines
}

func (v *alerts) drawOpened(d *desk, width, height int) []string {
	lines := drawFacts(d, v.opened.facts(d), width-2)
	v.page.fit(len(lines), height)
	from, to := v.page.part()
	seen := make([]string, 0, to-from)
	for _, line := range lines[from:to] {
		seen = append(seen, " "+line)
	}
	return seen
}

// head says how much there is, what of it is shown, and what is missing.
func (v *alerts) head(d *desk, width, height int) []string {
	t, s := d.theme, d.snap
	incidents := t.dim
	if v.tally.incidents > 0 {
		incidents = t.errorText
	}
	raised := ""
	if v.tally.times > v.tally.alerts {
		raised = t.dim.Render(fmt.Sprintf(", %d×", v.tally.times))
	}
	pieces := []string{t.title.Render(counted(v.tally.alerts, "alert")) + raised, incidents.Render(counted(v.tally.incidents, "incident"))}
	if n := len(s.Lost); n > 0 {
		pieces = append(pieces, t.errorText.Render("evidence lost "+counted(n+s.ForgottenLost, "time")))
	}
	if s.ForgottenAlerts > 0 {
		pieces = append(pieces, t.doubt.Render(fmt.Sprintf("%d forgotten", s.ForgottenAlerts)))
	}
	lines := flow(width, pieces)
	roomy := height >= 16
	if roomy {
		lines = append(lines, flow(width, v.classes(d))...)
	}
	if v.bar.seen() {
		lines = append(lines, v.bar.draw(d, width, fmt.Sprintf("%d of %d", v.shown, v.tally.alerts)))
	}
	if states := v.states(d); len(states) > 0 {
		lines = append(lines, flow(width, states)...)
	}
	if roomy {
		lines = append(lines, "")
	}
	return lines
}

// classes are the alerts by class, and which class is shown.
func (v *alerts) classes(d *desk) []string {
	t := d.theme
	one := func(word string, n int, chosen bool) string {
		text := fmt.Sprintf("%s %d", word, n)
		switch {
		case chosen:
			return t.selected.Render("[" + text + "]")
		case n == 0:
			return t.dim.Render(text)
		}
		return text
	}
	pieces := []string{one("all", v.tally.alerts, v.filter.class == "")}
	for _, c := range scan.AlertClasses() {
		pieces = append(pieces, one(string(c), v.tally.byClass[c], v.filter.class == c))
	}
	return pieces
}

// states are what is other than usual: what is hidden, what stands still, what is not
// known.
func (v *alerts) states(d *desk) []string {
	t, s := d.theme, d.snap
	var pieces []string
	if l := v.tally.lasts; l != nil {
		text := "evidence is being lost since " + clock(d, l.From) + " (" + clean(string(l.Reason), 30) + ")"
		if v.tally.lasting > 1 {
			text += fmt.Sprintf(" and in %d more places", v.tally.lasting-1)
		}
		pieces = append(pieces, t.errorText.Render(text))
	}
	if v.held != nil {
		pieces = append(pieces, t.note.Bold(true).Render(fmt.Sprintf("paused, %d new", max(0, s.Reported-v.held.Reported))))
	}
	if text := v.filter.String(); text != "" {
		pieces = append(pieces, t.accent.Render("only "+clean(text, max(10, v.width/2)))+t.dim.Render(fmt.Sprintf(" (%d of %d)", v.shown, v.tally.alerts)))
	}
	if len(v.items) > 0 && v.unheard(s) {
		pieces = append(pieces, t.doubt.Render("nobody listens: what is done now is not known"))
	}
	return pieces
}

// unheard is whether alerts are not listened to, as far as that is known.
func (v *alerts) unheard(s *Snapshot) bool { return s.Start != nil && !s.Start.Alerts }

// nothing is why there is no line.
func (v *alerts) nothing(d *desk) string {
	s := d.snap
	switch {
	case v.tally.alerts > 0:
		return "No alert matches (" + v.chosenWords() + "). c shows all again."
	case s.Start == nil && s.Err != nil:
		return "Nothing was heard: the run failed before it began."
	case s.Start == nil:
		return "The run has not begun."
	case v.unheard(s):
		return "Nobody listens to KubeArmor's alerts here: that none is shown does not mean that nothing is done."
	case s.Err != nil:
		return "No alert was heard until the run failed; what came after is not known."
	case s.Live() || !s.Over:
		return "No alert so far. What KubeArmor reports stands here as soon as it comes."
	}
	return "No alert was reported while the run listened."
}

// flow puts pieces in lines, two blanks between them.
func flow(width int, pieces []string) []string {
	var lines []string
	line := ""
	for _, p := range pieces {
		if line != "" && ansi.StringWidth(line)+2+ansi.StringWidth(p) > width {
			lines, line = append(lines, line), ""
		}
		if line == "" {
			line = " " + p
		} else {
			line += "  " + p
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	for i, l := range lines {
		lines[i] = ansi.Truncate(l, width, "…")
	}
	return lines
}
