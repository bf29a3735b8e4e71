package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// nodes are the nodes, those that enforce least first, and the evidence for one of them:
// beside the list where there is room, else in its place.
type nodes struct {
	browsed[scan.Node, string]
	ladder page
}

func newNodes() *nodes { return &nodes{browsed: browsed[scan.Node, string]{stale: true}} }

func (v *nodes) look(*desk) { v.stale = true }

// choose makes the list anew, and keeps the cursor on its node.
func (v *nodes) choose(d *desk) {
	if !v.stale {
		return
	}
	v.stale = false
	v.shown = v.shown[:0:0]
	for _, n := range d.snap.Nodes {
		if v.bar.filter.empty() || v.bar.filter.matches(&filtered{workload: scan.Workload{Cluster: n.Cluster, Kind: "Node", Name: n.Name}, text: nodeSearch(n)}) {
			v.shown = append(v.shown, n)
		}
	}
	slices.SortStableFunc(v.shown, report.CompareNodes)
	v.longest = 0
	for _, n := range v.shown {
		v.longest = max(v.longest, ansi.StringWidth(report.Clean(nodeName(n))))
	}
	v.settle(nodeName)
	v.follow()
}

// nodeSearch is what plain words of the filter are looked for in.
func nodeSearch(n *scan.Node) string {
	enforces, agent := report.NodeWords(n.Enforcement)
	return strings.ToLower(strings.Join([]string{nodeName(n), n.OSImage, n.KernelVersion, n.Architecture, enforces, agent}, " "))
}

// follow remembers the node the cursor stands on.
func (v *nodes) follow() {
	name := ""
	if n := v.current(); n != nil {
		name = nodeName(n)
	}
	if name != v.at {
		v.at, v.ladder = name, page{}
	}
}

// split is how many cells of a wide terminal the list has; 0 where it has all of them.
func (v *nodes) split() int {
	if v.width < twoColumns {
		return 0
	}
	return max(54, v.width-80)
}

func (v *nodes) update(d *desk, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case gotoMsg:
		v.inside = false
		v.refilter(d, msg.filter)
	case tea.KeyMsg:
		v.choose(d)
		return v.key(d, msg)
	case tea.MouseMsg:
		v.choose(d)
		v.mouse(d, msg)
	}
	return nil
}

func (v *nodes) refilter(d *desk, text string) {
	v.stale = v.bar.set(text) || v.stale
	v.choose(d)
}

func (v *nodes) key(d *desk, msg tea.KeyMsg) tea.Cmd {
	k := d.keys
	used, cmd := v.typed(d, msg)
	v.choose(d)
	if used {
		return cmd
	}
	switch {
	case v.inside && key.Matches(msg, k.Back, k.Left):
		v.inside = false
	case v.inside:
		v.lay(d)
		v.ladder.update(k, msg)
	case key.Matches(msg, k.Open, k.Right):
		v.open()
	case key.Matches(msg, k.Filter):
		v.bar.start(d)
	case key.Matches(msg, k.Clear, k.Back):
		v.refilter(d, "")
	default:
		v.step(k, msg)
		v.follow()
	}
	return nil
}

func (v *nodes) mouse(d *desk, msg tea.MouseMsg) {
	wide := v.split()
	switch {
	case wide > 0 && msg.X > wide:
		v.lay(d)
		msg.X -= wide + 1
		v.ladder.update(d.keys, msg)
		v.moved = true
		v.inside = v.current() != nil && (v.inside || msg.Button == tea.MouseButtonLeft && msg.Action == tea.MouseActionPress)
	case wide == 0 && v.inside:
		v.lay(d)
		v.ladder.update(d.keys, msg)
	default:
		before := v.list.cursor
		clicked := v.step(d.keys, msg)
		v.follow()
		if clicked {
			v.inside = v.list.cursor == before
		}
	}
}

func (v *nodes) draw(d *desk, width, height int) []string {
	v.room(width, height)
	v.choose(d)
	v.list.fit(len(v.shown), max(1, height-v.above()))
	v.lay(d)
	wide := v.split()
	if wide == 0 {
		if v.inside {
			return v.ladder.draw(d.theme, true)
		}
		return v.drawList(d, width)
	}
	left, right := v.drawList(d, wide), v.ladder.draw(d.theme, v.inside)
	lines := make([]string, height)
	for i := range lines {
		text, beside := "", ""
		if i < len(left) {
			text = left[i]
		}
		if i < len(right) {
			beside = right[i]
		}
		lines[i] = pad(text, wide) + d.theme.dim.Render("│") + beside
	}
	return lines
}

// lay puts the evidence of the node on its page.
func (v *nodes) lay(d *desk) {
	if v.width == 0 {
		return
	}
	cells := v.width
	if wide := v.split(); wide > 0 {
		cells -= wide + 1
	}
	var lines []pageLine
	if n := v.current(); n != nil {
		l := ladder{desk: d, pageText: pageText{width: cells}}
		l.node(n)
		lines = l.lines
	}
	v.ladder.set(v.height, column{lines: lines, width: cells})
}

// nodeColumns are the cells of the columns of the list; 0 leaves one out.
type nodeColumns struct{ name, answers, by, grade, kernel, image int }

func newNodeColumns(width, longest int) nodeColumns {
	c := nodeColumns{answers: 4, by: 9, grade: 8}
	if width < 50 {
		c.answers, c.by = 2, 0
	}
	// The mark, two answers, the enforcer and its grade, and the contradictions.
	room := width - 1 - 2*c.answers - c.by - c.grade - 3
	c.name = room
	if width >= 76 {
		c.name = max(12, min(longest+1, room-28))
		c.kernel = min(30, (room-c.name)/2)
		c.image = room - c.name - c.kernel
	}
	return c
}

func (v *nodes) drawList(d *desk, width int) []string {
	t := d.theme
	var lines []string
	if v.bar.seen() {
		lines = append(lines, v.bar.draw(d, width, fmt.Sprintf("%d of %d", len(v.shown), len(d.snap.Nodes))))
	}
	c := newNodeColumns(width, v.longest)
	head := " " + cell("NODE", c.name) + pad("CAP"[:c.answers-1], c.answers) + pad("PRO"[:c.answers-1], c.answers)
	if c.by > 0 {
		head += pad("BY", c.by)
	}
	head += pad("GRADE", c.grade) + "!  "
	if c.kernel > 0 {
		head += pad("KERNEL", c.kernel) + pad("OS IMAGE", c.image)
	}
	lines = append(lines, t.dim.Render(pad(head, width)))
	if len(v.shown) == 0 {
		return append(lines, v.nothing(d, width)...)
	}
	from, to := v.list.part()
	for i := from; i < to; i++ {
		line := v.drawNode(d, &c, v.shown[i])
		if i == v.list.cursor {
			line = chosen(t, line, width, !v.inside || v.split() > 0)
		}
		lines = append(lines, line)
	}
	return lines
}

// nothing says why there is nothing in the list.
func (v *nodes) nothing(d *desk, width int) []string {
	text := "No node is known."
	switch {
	case len(d.snap.Nodes) > 0:
		text = "No node matches the filter."
	case d.snap.Start == nil || !d.snap.Pictured && !d.snap.Over:
		text = "No node was read yet."
	case slices.ContainsFunc(d.snap.Failures, func(f *scan.Failure) bool { return strings.Contains(f.Subject, "node") }):
		text = "Nodes could not be read: what they enforce is unknown."
	}
	return wrapAt(" ", text, d.theme.dim, width)
}

func (v *nodes) drawNode(d *desk, c *nodeColumns, n *scan.Node) string {
	t := d.theme
	e := n.Enforcement
	if e == nil {
		e = &kernel.Enforcement{}
	}
	var b strings.Builder
	b.WriteString(" " + cell(fitted(n.Cluster, n.Name, c.name-1), c.name-1) + " ")
	for _, a := range []kernel.Answer{e.Capabilities, e.Processes} {
		word, style := answerWord(t, a)
		b.WriteString(style.Render(pad(word[:min(len(word), c.answers-1)], c.answers)))
	}
	if c.by > 0 {
		by := e.Enforcer
		if by == "" {
			by = "?"
		}
		b.WriteString(cell(by, c.by-1) + " ")
	}
	grade := string(e.Grade)
	if grade == "" {
		grade = "?"
	}
	b.WriteString(cell(grade, c.grade-1) + " ")
	contradictions := "   "
	if k := len(e.Contradictions); k > 0 {
		contradictions = t.errorText.Render(pad(fmt.Sprint(k), 3))
	}
	b.WriteString(contradictions)
	if c.kernel > 0 {
		b.WriteString(t.dim.Render(cell(n.KernelVersion, c.kernel-1) + " " + cell(n.OSImage, c.image-1)))
	}
	return b.String()
}

func (v *nodes) keys(d *desk) []key.Binding {
	k := d.keys
	if v.bar.open {
		return v.bar.keys(d)
	}
	keys := []key.Binding{k.Open, k.Filter}
	switch {
	case v.inside:
		keys = []key.Binding{k.Back, k.Down, k.Up}
	case v.bar.text != "":
		keys = append(keys, k.Clear)
	}
	keys = append(keys, k.Copy)
	if n := v.current(); n != nil && n.Enforcement != nil && n.Enforcement.TurnOn != nil {
		keys = append(keys, k.CopyFix)
	}
	return append(keys, k.Export)
}

func (v *nodes) copied(d *desk, fix bool) (what, text string) {
	v.choose(d)
	n := v.current()
	switch {
	case n == nil:
		return "", ""
	case fix:
		if n.Enforcement == nil || n.Enforcement.TurnOn == nil {
			return "", ""
		}
		return "how to turn BPF-LSM on", turnOnText(n.Enforcement.TurnOn)
	case v.inside:
		v.lay(d)
		if s := v.ladder.stop(); s != nil {
			return s.what, s.text
		}
	}
	l := ladder{desk: d, pageText: pageText{width: 100}}
	l.node(n)
	var b strings.Builder
	for _, line := range l.lines {
		b.WriteString(strings.TrimRight(strings.TrimPrefix(ansi.Strip(line.text), " "), " ") + "\n")
	}
	return "the node", b.String()
}

// selection is what the list shows, or the one node that is read.
func (v *nodes) selection(d *desk) (Selection, string) {
	v.choose(d)
	if n := v.current(); v.inside && n != nil {
		return Selection{Nodes: []*scan.Node{n}}, "only node " + nodeName(n)
	}
	return Selection{Nodes: v.shown}, partNote("nodes", v.bar.note())
}

// partNote says of what a view's selection is a part.
func partNote(what, filter string) string {
	if filter == "" {
		return what + " only"
	}
	return what + " only, " + filter
}
