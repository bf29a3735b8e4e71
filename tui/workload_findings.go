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
)

// matrix is each open path of each container against the layers, and below it why the
// layers do what they do to the path that was chosen.
func (x *oneText) matrix() {
	if x.row.Verdict == nil || x.row.Verdict.Layers == nil || len(x.row.Verdict.Layers.Paths) == 0 {
		return
	}
	paths := x.row.Verdict.Layers.Paths
	c := newMatrixColumns(x.width)
	x.line("")
	x.line(c.heads(x.t))
	first := len(x.items)
	for i := range paths {
		p := &paths[i]
		x.item(oneItem{kind: itemPath, name: "path/" + p.Path + "/" + p.Container, path: p, plain: pathText(x.heading(), p)}, func() {
			x.line(c.row(x.t, p))
		})
	}
	chosen := first
	for i := first; i < len(x.items); i++ {
		if x.items[i].name == x.path {
			chosen = i
		}
	}
	x.reasons(x.items[chosen].path, len(paths) > 1)
	for i := first; i < len(x.items); i++ {
		x.items[i].reach = len(x.lines)
	}
}

// matrixColumns is where things stand in the matrix.
type matrixColumns struct {
	words, letters  bool
	path, container int
	cells           [3]int
}

func newMatrixColumns(width int) matrixColumns {
	c := matrixColumns{words: width >= wordsWidth, letters: width < lettersWidth}
	switch {
	case c.letters:
		c.container, c.cells = 9, [3]int{1, 1, 1}
		c.path = width - 1 - 2 - c.container - 3 - 2
	case c.words:
		c.container, c.cells = 17, [3]int{16, 16, 25}
		c.path = width - 1 - 11 - c.container - 57
	default:
		c.container, c.cells = 12, [3]int{10, 10, 10}
		c.path = width - 1 - 11 - c.container - 30
	}
	return c
}

func (c *matrixColumns) heads(t *theme) string {
	if c.letters {
		return " " + t.title.Render(pad("Escape paths", c.path+2)) + t.dim.Render(pad("IN", c.container)+" ARK")
	}
	names := [3]string{"ADM", "RUN", "KRN"}
	if c.words {
		names = [3]string{"ADMISSION", "RUNTIME", "KERNEL"}
	}
	heads := pad("CONTAINER", c.container)
	return " " + t.title.Render(pad("Escape paths", c.path+11)) +
		t.dim.Render(heads+pad(names[0], c.cells[0])+pad(names[1], c.cells[1])+names[2])
}

func (c *matrixColumns) row(t *theme, p *scan.PathLayers) string {
	name := p.Container
	if name == "" {
		name = "-"
	}
	style, mark := pathTone(t, p.State)
	var line strings.Builder
	if c.letters {
		line.WriteString(" " + style.Render(mark) + " " + cell(p.Path, c.path-1) + " " + cell(name, c.container-1) + "  ")
		for _, l := range []*scan.Cell{&p.Admission, &p.Runtime, &p.Kernel} {
			tone := stopsTone(l.Answer)
			line.WriteString(t.tone(tone).Render(toneMark(tone)))
		}
		return line.String()
	}
	line.WriteString(" " + style.Render(cell(mark+" "+string(p.State), 10)) + " " + cell(p.Path, c.path-1) + " " + cell(name, c.container-1) + " ")
	for i, l := range []*scan.Cell{&p.Admission, &p.Runtime, &p.Kernel} {
		tone := stopsTone(l.Answer)
		text := toneMark(tone) + " " + stopsWord(l.Answer, c.words)
		if c.words && l.Grade != "" {
			text += " (" + string(l.Grade) + ")"
		}
		line.WriteString(t.tone(tone).Render(cell(text, c.cells[i]-1)) + " ")
	}
	return line.String()
}

// reasons say of a path why each layer does what it does, and by whom.
func (x *oneText) reasons(p *scan.PathLayers, named bool) {
	style, mark := pathTone(x.t, p.State)
	what := cmp.Or(p.Reason, "no reason is known")
	if named {
		what = p.Path + " is " + string(p.State) + ": " + what
	}
	x.say("   "+style.Render(mark)+" ", what, x.t.plain)
	for _, l := range []struct {
		name, short string
		cell        *scan.Cell
	}{{"admission", "adm", &p.Admission}, {"runtime", "run", &p.Runtime}, {"kernel", "krn", &p.Kernel}} {
		tone := stopsTone(l.cell.Answer)
		mark := x.t.tone(tone).Render(toneMark(tone))
		begin := "   " + x.t.dim.Render(pad(l.name, 10)) + mark + " "
		if x.width < lettersWidth {
			begin = "   " + x.t.dim.Render(l.short) + " " + mark + " "
		}
		x.say(begin, cellText(l.cell), x.t.plain)
	}
}

// cellText is a cell in one sentence.
func cellText(c *scan.Cell) string {
	text := stopsWord(c.Answer, true)
	if c.Grade != "" {
		text += " (" + string(c.Grade) + ")"
	}
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	if len(c.By) > 0 {
		text += ", by " + strings.Join(c.By, ", ")
	}
	return text
}

// pathText is a row of the matrix for people to paste.
func pathText(heading string, p *scan.PathLayers) string {
	where := ""
	if p.Container != "" {
		where = " in container " + p.Container
	}
	lines := []string{
		p.Path + where + " is " + string(p.State) + ": " + p.Reason,
		"admission " + cellText(&p.Admission), "runtime " + cellText(&p.Runtime), "kernel " + cellText(&p.Kernel),
	}
	for i := range lines {
		lines[i] = report.Clean(lines[i])
	}
	return heading + "\n" + strings.Join(lines, "\n")
}

func stopsTone(s scan.Stops) report.Tone {
	switch s {
	case scan.StopsYes:
		return report.ToneGood
	case scan.StopsNo:
		return report.ToneBad
	case scan.StopsUnknown:
	}
	return report.ToneUnknown
}

// stopsWord is the answer of a cell, which is never blank.
func stopsWord(s scan.Stops, whole bool) string {
	switch {
	case s == scan.StopsNo && !whole:
		return "open"
	case s == "":
		return string(scan.StopsUnknown)
	}
	return string(s)
}

func pathTone(t *theme, s scan.PathState) (style lipgloss.Style, mark string) {
	switch s {
	case scan.PathOpen:
		return t.bad, "✗"
	case scan.PathStopped:
		return t.good, "✓"
	case scan.PathUnknown:
	}
	return t.doubt, "?"
}

// findings are in groups: what opens a path, what the standards refuse, what does not
// bite, and the rest.
func (x *oneText) findings() {
	groups := []struct {
		title      string
		categories []scan.Category
	}{
		{"Escape path findings", []scan.Category{scan.CategoryEscape}},
		{"Pod Security Standards", []scan.Category{scan.CategoryPSS}},
		{"Policies that do not bite", []scan.Category{scan.CategoryPolicy}},
		{"Other findings", nil},
	}
	told := []scan.Category{scan.CategoryEscape, scan.CategoryPSS, scan.CategoryPolicy}
	any := false
	for _, g := range groups {
		list := slices.DeleteFunc(slices.Clone(x.row.Findings), func(f *scan.Finding) bool {
			if g.categories == nil {
				return slices.Contains(told, f.Category)
			}
			return !slices.Contains(g.categories, f.Category)
		})
		standards := slices.Contains(g.categories, scan.CategoryPSS) && x.row.Verdict != nil
		if len(list) == 0 && !standards {
			continue
		}
		any = any || len(list) > 0
		title := g.title
		if len(list) > 0 {
			title += " " + fmt.Sprint(len(list))
		}
		x.section(title)
		if standards {
			for _, text := range x.parts.Standards {
				x.line(" " + x.t.dim.Render(text))
			}
		}
		for _, f := range list {
			x.finding(f)
		}
	}
	if !any {
		x.section("Findings")
		x.say(" ", "None.", x.t.dim)
	}
}

func (x *oneText) finding(f *scan.Finding) {
	name := strings.Join([]string{"finding", f.Rule, f.Container, f.Field, f.Item}, "/")
	x.item(oneItem{kind: itemFinding, name: name, finding: f, plain: findingText(x.heading(), f)}, func() {
		x.findingHead(f, x.open[name])
		for _, line := range report.FindingLines(f, x.width-1) {
			style := x.t.dim
			if strings.HasPrefix(strings.TrimLeft(line, " "), "fix: ") {
				style = x.t.good
			}
			x.line(style.Render(line))
		}
		if len(f.Policies) > 0 {
			x.say("    "+x.t.dim.Render("policies: "), strings.Join(f.Policies, ", "), x.t.dim)
		}
		if f.Mend != "" {
			x.say("    "+x.t.good.Render("mend: "), f.Mend, x.t.good)
		}
		if x.open[name] {
			x.rule(f.Rule)
		}
	})
}

// findingHead is the first line of a finding, and more where there is little room.
func (x *oneText) findingHead(f *scan.Finding, open bool) {
	fold := "▸ "
	if open {
		fold = "▾ "
	}
	sev := strings.ToUpper(string(f.Severity))
	if x.width < lettersWidth {
		sev = severityLetter(f.Severity)
	} else {
		sev = pad(clean(sev, 8), 8) + " "
	}
	state := ""
	switch {
	case f.Excepted != nil:
		state = "excepted"
	case f.Guarded:
		state = "guarded"
	case f.Open:
		state = "open"
	}
	where := ""
	if f.Container != "" {
		where = "in " + f.Container
		if f.ContainerKind != "" && f.ContainerKind != scan.KindContainer {
			where += " (" + string(f.ContainerKind) + ")"
		}
	}
	line := " " + fold + x.t.severity(f.Severity).Render(sev) + " "
	line += x.t.bold.Render(clean(f.Rule, max(8, x.width-ansi.StringWidth(line)-1)))
	rest := []string{clean(where, x.width-5), state, clean(f.Title, x.width-5)}
	for i, text := range rest {
		if text == "" {
			continue
		}
		if ansi.StringWidth(line)+2+ansi.StringWidth(text) >= x.width {
			x.line(line)
			line = "   "
			if i == len(rest)-1 {
				x.say("    ", f.Title, x.t.dim)
				return
			}
		}
		line += "  " + x.t.dim.Render(text)
	}
	x.line(line)
}

// rule is the record of a rule: what it means, how it is used and how to mend it.
func (x *oneText) rule(id string) {
	at := slices.IndexFunc(x.d.opts.Rules, func(r scan.Rule) bool { return r.ID == id })
	if at < 0 {
		x.say("      ", "This program has no rule of that name: the run was made by another version.", x.t.doubt)
		return
	}
	for _, line := range report.RuleLines(x.d.opts.Rules[at], x.width-8) {
		x.line(strings.TrimRight("      "+x.t.plain.Render(line), " "))
	}
	x.line("")
}

// findingText is a finding for people to paste.
func findingText(heading string, f *scan.Finding) string {
	lines := []string{heading, report.Clean(f.Rule + ": " + f.Title + " (" + string(f.Severity) + ")")}
	if f.Container != "" {
		lines = append(lines, report.Clean("container "+f.Container))
	}
	for _, l := range report.FindingLines(f, 0) {
		lines = append(lines, strings.TrimSpace(l))
	}
	if f.Mend != "" {
		lines = append(lines, "mend: "+report.Clean(f.Mend))
	}
	return strings.Join(lines, "\n")
}
