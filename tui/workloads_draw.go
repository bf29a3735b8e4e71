package tui

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// workColumns is where things stand in a line of the list.
type workColumns struct {
	width int
	// words is true where layers are said in words, letters where even verdicts are not.
	words, letters bool
	// layered is false where no layers were judged: then they have no columns.
	layered bool
	// name is how many cells the workload has.
	name int
}

// What the columns take, with the blanks behind them.
const (
	verdictCells, severityCells = 11, 10
	admCells, runCells          = 11, 21
	krnCells                    = 16
	markCells, layerMarkCells   = 2, 5
	pathsCells, podsCells       = 7, 6
	narrowPaths, narrowPods     = 4, 5
	groupCells                  = 18
	wordsWidth, lettersWidth    = 112, 64
)

func newWorkColumns(width int, layered bool) workColumns {
	c := workColumns{width: width, words: width >= wordsWidth, letters: width < lettersWidth, layered: layered}
	taken := 1 + verdictCells + severityCells + markCells + pathsCells + podsCells + 1
	switch {
	case c.letters:
		taken = 1 + 2 + 2 + markCells + narrowPaths + narrowPods + 1
		if layered {
			taken += 4
		}
	case layered && c.words:
		taken += admCells + runCells + krnCells
	case layered:
		taken += 3 * layerMarkCells
	}
	c.name = max(8, width-taken)
	return c
}

// draw draws the list, or the workload that is open.
func (v *workloads) draw(d *desk, width, height int) []string {
	if v.one != nil {
		return v.one.draw(d, width, height)
	}
	v.settle(d)
	c := newWorkColumns(width, v.table.layered)
	lines := []string{v.titleLine(d, &c)}
	if v.bar.seen() {
		lines = append(lines, v.bar.draw(d, width, fmt.Sprintf("%d of %d", v.table.matched, v.table.total)))
	}
	if why := v.emptiness(d); why != "" {
		lines = append(lines, "")
		return append(lines, wrapAt(" ", why, d.theme.dim, width)...)
	}
	lines = append(lines, v.columnHeads(d, &c))
	v.head = len(lines)
	legend := v.legend(d, &c)
	room := height - v.head
	if legend != "" {
		room--
	}
	v.list.fit(len(v.table.lines), room)
	from, to := v.list.part()
	for i := from; i < to; i++ {
		lines = append(lines, v.drawLine(d, &c, &v.table.lines[i], i == v.list.cursor))
	}
	if legend != "" {
		for len(lines) < height-1 {
			lines = append(lines, "")
		}
		lines = append(lines, legend)
	}
	return lines
}

// emptiness is why there is nothing to list, empty where there is.
func (v *workloads) emptiness(d *desk) string {
	s := d.snap
	switch {
	case len(v.table.lines) > 0:
		return ""
	case len(v.table.all) > 0:
		return "No workload matches the filter. " + d.keys.Clear.Help().Key + " clears it."
	case s.Err != nil:
		return "The run stopped before a workload was judged: " + s.Err.Error()
	case s.Over && !s.Pictured:
		return "The run ended before a workload was judged."
	case !s.Pictured:
		return "No workload yet: the run is still reading."
	}
	if len(s.Failures) > 0 {
		return "No workload was found, and " + counted(len(s.Failures), "thing") + " could not be read: 1 shows what."
	}
	return "No workload was found."
}

// titleLine counts the workloads by verdict.
func (v *workloads) titleLine(d *desk, c *workColumns) string {
	t := d.theme
	count := counted(v.table.total, "workload")
	if v.table.matched != v.table.total {
		count = fmt.Sprintf("%d of %s", v.table.matched, count)
	}
	gap := "   "
	if c.letters {
		gap = "  "
		if ansi.StringWidth(count+drawTally(t, v.table.tally, false)) > c.width-4 {
			count = fmt.Sprint(v.table.matched)
		}
	}
	tally := v.table.tally
	line := " " + t.title.Render(count)
	if v.table.total > 0 {
		line += gap + drawTally(t, tally, false)
	}
	how := "by " + v.order.String()
	if v.reverse {
		how += ", reversed"
	}
	if !v.flat {
		how += ", in namespaces"
	}
	if !v.table.layered && v.table.total > 0 {
		how = "layers not judged   " + how
	}
	if room := c.width - ansi.StringWidth(line) - 3; room >= ansi.StringWidth(how) {
		line = pad(line, c.width-1-ansi.StringWidth(how)) + t.dim.Render(how)
	} else if !v.table.layered && v.table.total > 0 && room >= 17 {
		line = pad(line, c.width-18) + t.dim.Render("layers not judged")
	}
	return line
}

// drawTally are counts by verdict; without zeros only those that there are.
func drawTally(t *theme, tally [5]int, skip bool) string {
	var pieces []string
	for i, verdict := range scan.Verdicts() {
		if tally[i] > 0 || !skip {
			style := t.verdict(verdict)
			if tally[i] == 0 {
				style = t.dim
			}
			pieces = append(pieces, style.Render(fmt.Sprintf("%s %d", verdictLetter(verdict), tally[i])))
		}
	}
	return strings.Join(pieces, "  ")
}

// columnHeads names the columns, and shows by which the rows are sorted.
func (v *workloads) columnHeads(d *desk, c *workColumns) string {
	arrow := "↓"
	if v.reverse {
		arrow = "↑"
	}
	head := func(order workOrder, name string) string {
		if v.order == order {
			return name + arrow
		}
		return name
	}
	var b strings.Builder
	b.WriteString(" ")
	if c.letters {
		b.WriteString(pad(head(byVerdict, "V"), 2) + pad(head(bySeverity, "S"), 2))
		if c.layered {
			b.WriteString("ARK ")
		}
		b.WriteString("  " + pad(head(byName, "WORKLOAD"), c.name-1) + right(head(byPaths, "WAYS"), narrowPaths+1) + right(head(byPods, "PODS"), narrowPods))
		return d.theme.dim.Render(b.String())
	}
	b.WriteString(pad(head(byVerdict, "VERDICT"), verdictCells) + pad(head(bySeverity, "SEVERITY"), severityCells))
	if c.layered {
		cells := [3]int{layerMarkCells, layerMarkCells, layerMarkCells}
		names := [3]string{"ADM", "RUN", "KRN"}
		if c.words {
			cells, names = [3]int{admCells, runCells, krnCells}, [3]string{"ADMISSION", "RUNTIME", "KERNEL"}
		}
		for i := range names {
			b.WriteString(pad(names[i], cells[i]))
		}
	}
	b.WriteString("  " + pad(head(byName, "WORKLOAD"), c.name) + right(head(byPaths, "PATHS"), pathsCells) + right(head(byPods, "PODS"), podsCells))
	return d.theme.dim.Render(b.String())
}

// legend says what the marks mean that are seen, where words do not.
func (v *workloads) legend(d *desk, c *workColumns) string {
	t := d.theme
	var pieces []string
	if c.layered && !c.words {
		for _, p := range []struct {
			tone report.Tone
			text string
		}{{report.ToneGood, "stops"}, {report.TonePoor, "partly"}, {report.ToneBad, "open"}, {report.ToneUnknown, "unknown"}} {
			pieces = append(pieces, t.tone(p.tone).Render(toneMark(p.tone))+t.dim.Render(" "+p.text))
		}
	}
	changed, came := false, false
	for _, change := range v.changes {
		changed, came = changed || !change.new, came || change.new
	}
	if changed {
		pieces = append(pieces, t.accent.Render("*")+t.dim.Render(" changed"))
	}
	if came {
		pieces = append(pieces, t.accent.Render("+")+t.dim.Render(" new"))
	}
	if v.table.claims {
		pieces = append(pieces, t.doubt.Render(claimMark)+t.dim.Render(" claims an owner"))
	}
	if len(pieces) == 0 {
		return ""
	}
	return " " + joinFit(c.width-1, pieces...)
}

// toneMark stands for a layer's answer where there is no room for its words.
func toneMark(tone report.Tone) string {
	switch tone {
	case report.ToneGood:
		return "✓"
	case report.TonePoor:
		return "~"
	case report.ToneBad:
		return "✗"
	case report.ToneUnknown:
	}
	return "?"
}

// claimMark stands behind rows that claim an owner which was not followed.
const claimMark = "‡"

// brush paints, or not on the line of the cursor, which has a style of its own.
type brush struct{ plain bool }

func (b brush) paint(style lipgloss.Style, text string) string {
	if b.plain {
		return text
	}
	return style.Render(text)
}

// cursorLine is the line under the cursor. The mark is there for terminals without
// colours.
func cursorLine(t *theme, text string, width int) string {
	return t.selected.Render(pad("›"+strings.TrimPrefix(text, " "), width))
}

func (v *workloads) drawLine(d *desk, c *workColumns, l *workLine, selected bool) string {
	b := brush{plain: selected}
	var text string
	switch {
	case l.row == nil:
		text = v.drawGroup(d, c, l.group, b)
	case l.row.exception:
		text = v.drawException(d, c, l.row, b)
	default:
		text = v.drawRow(d, c, l.row, l.group != nil, b)
	}
	if selected {
		return cursorLine(d.theme, text, c.width)
	}
	return text
}

func (v *workloads) drawGroup(d *desk, c *workColumns, g *workGroup, b brush) string {
	t, fold := d.theme, "▾ "
	if v.folded[g.name] {
		fold = "▸ "
	}
	name := g.name
	if name == "" {
		name = "(no namespace)"
	}
	count := counted(len(g.rows), "workload")
	if g.exceptions {
		count = fmt.Sprint(len(g.rows))
	}
	tail := b.paint(t.dim, pad(count, 14))
	if c.letters {
		tail = ""
	}
	if !g.exceptions {
		tally := drawTally(t, g.tally, true)
		if b.plain {
			tally = ansi.Strip(tally)
		}
		tail = strings.TrimLeft(tail+"  "+tally, " ")
	}
	room := max(8, c.width-ansi.StringWidth(tail)-6)
	if first := g.rows[0]; first.Cluster != "" && !g.exceptions {
		name = fitted(first.Cluster, cmp.Or(first.workload.Namespace, "(no namespace)"), room)
	}
	name = clean(name, room)
	return " " + fold + b.paint(t.bold, name) + strings.Repeat(" ", max(0, min(room, groupCells)-ansi.StringWidth(name))) + "  " + tail
}

func (v *workloads) drawException(d *desk, c *workColumns, w *workRow, b brush) string {
	f := w.Findings[0]
	text := w.workload.Name + ": " + f.Message
	sev := d.theme.severity(f.Severity)
	if c.letters {
		return "   " + b.paint(sev, severityLetter(f.Severity)) + " " + clean(text, c.width-6)
	}
	return " " + strings.Repeat(" ", verdictCells) + b.paint(sev, cell(string(f.Severity), severityCells)) + clean(text, c.width-verdictCells-severityCells-2)
}

func (v *workloads) drawRow(d *desk, c *workColumns, w *workRow, grouped bool, b brush) string {
	t := d.theme
	var s strings.Builder
	s.WriteString(" ")
	letter, sev := verdictLetter(w.verdict), w.severity
	if c.letters {
		s.WriteString(b.paint(t.verdict(w.verdict), letter) + " " + b.paint(t.severity(sev), severityLetter(sev)) + " ")
	} else {
		word := string(w.verdict)
		if w.Verdict == nil {
			word = "unjudged"
		}
		s.WriteString(b.paint(t.verdict(w.verdict), cell(letter+" "+word, verdictCells-1)) + " ")
		if sev == "" {
			sev = "-"
		}
		s.WriteString(b.paint(t.severity(w.severity), cell(string(sev), severityCells-1)) + " ")
	}
	v.drawLayers(d, c, w, b, &s)
	s.WriteString(v.drawMark(d, c, w, b))
	name := w.workload.String()
	if c.letters || !grouped && !c.words {
		name = shortKind(w.workload)
	}
	if grouped {
		_, name, _ = strings.Cut(name, "/")
	} else {
		name = fitted(w.Cluster, name, c.name)
	}
	s.WriteString(drawName(t, name, w.Ref.Claims, c.name, b))
	paths, pods := pathsCells, podsCells
	if c.letters {
		paths, pods = narrowPaths, narrowPods
	}
	open, count := fmt.Sprint(w.open), fmt.Sprint(w.pods)
	openStyle := t.plain
	switch {
	case w.Verdict == nil:
		open, count = "?", "?"
	case w.open == 0 && w.verdict == scan.VerdictUnknown:
		// None is known of, which is not none.
		open = "?"
	case w.open == 0:
		openStyle = t.dim
	}
	s.WriteString(b.paint(openStyle, right(open, paths)) + b.paint(t.dim, right(count, pods)))
	return s.String()
}

// drawLayers are the three layers, in words or as marks.
func (v *workloads) drawLayers(d *desk, c *workColumns, w *workRow, b brush, s *strings.Builder) {
	if !c.layered {
		return
	}
	unjudged := report.LayerCell{Text: "not judged", Tone: report.ToneUnknown}
	cells := [3]report.LayerCell{unjudged, unjudged, unjudged}
	if w.Verdict != nil && w.Verdict.Layers != nil {
		cells = report.LayerCells(w.Verdict.Layers)
	}
	for i, width := range [3]int{admCells, runCells, krnCells} {
		style := d.theme.tone(cells[i].Tone)
		switch {
		case c.words:
			s.WriteString(b.paint(style, cell(cells[i].Text, width-1)) + " ")
		case c.letters:
			s.WriteString(b.paint(style, toneMark(cells[i].Tone)))
		default:
			s.WriteString(b.paint(style, pad(" "+toneMark(cells[i].Tone), layerMarkCells)))
		}
	}
	if c.letters {
		s.WriteString(" ")
	}
}

// drawMark says that a row is new or its verdict another, for some time.
func (v *workloads) drawMark(d *desk, c *workColumns, w *workRow, b brush) string {
	change, ok := v.changes[w.Ref]
	if !ok || d.now.Sub(change.at) >= freshFor {
		return strings.Repeat(" ", markCells)
	}
	mark := "*"
	if change.new {
		mark = "+"
	}
	return pad(b.paint(d.theme.accent, mark), markCells)
}

// drawName is the name in so many cells, with the owner that it claims.
func drawName(t *theme, name, claims string, cells int, b brush) string {
	if claims == "" {
		return cell(name, cells)
	}
	short := clean(name, cells-2)
	tail := " " + claimMark
	if room := cells - ansi.StringWidth(short) - 3; room >= 12 {
		tail = " " + claimMark + " " + clean(claims, room-1)
	}
	return pad(short+b.paint(t.doubt, tail), cells)
}

// shortKind is the name with the kind as kubectl shortens it.
func shortKind(w scan.Workload) string {
	short := map[string]string{
		"Deployment": "deploy", "DaemonSet": "ds", "StatefulSet": "sts", "ReplicaSet": "rs", "ReplicationController": "rc",
		"CronJob": "cj", "Job": "job", "Pod": "pod",
	}[w.Kind]
	if short != "" {
		w.Kind = short
	}
	return w.String()
}
