package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// twoColumns is the width from which the overview has two columns.
const twoColumns = 100

// overview is what the whole run comes to, on a page: what could not be read, verdicts,
// alerts, layers, nodes, policies. The cursor walks over what can be opened.
type overview struct {
	page page
	// tally is of the snapshot that is shown, nil where it is to be counted anew.
	tally *tally
	// open are the things that are unfolded, by their stops.
	open          map[string]bool
	width, height int
}

func newOverview() *overview { return &overview{open: map[string]bool{}} }

// foldMsg folds or unfolds what is under the cursor. It does not leave the view.
type foldMsg struct{ id string }

func (v *overview) look(*desk) { v.tally = nil }

func (v *overview) update(d *desk, msg tea.Msg) tea.Cmd {
	switch msg.(type) {
	case tea.KeyMsg, tea.MouseMsg:
		v.lay(d)
		if opened, _ := v.page.update(d.keys, msg); opened {
			return v.enter()
		}
	}
	return nil
}

func (v *overview) enter() tea.Cmd {
	s := v.page.stop()
	if s == nil || s.act == nil {
		return nil
	}
	if fold, ok := s.act.(foldMsg); ok {
		v.open[fold.id] = !v.open[fold.id]
		return nil
	}
	return tell(s.act)
}

func (v *overview) draw(d *desk, width, height int) []string {
	v.width, v.height = width, height
	v.lay(d)
	return v.page.draw(d.theme, true)
}

// lay puts the sections on the page, as many side by side as there is room for.
func (v *overview) lay(d *desk) {
	if v.tally == nil {
		v.tally = newTally(d.snap)
	}
	if v.width == 0 {
		return // Nobody has looked yet.
	}
	if v.width < twoColumns {
		s := v.sections(d, v.width)
		s.state()
		s.failures()
		s.clusters()
		s.verdicts()
		s.alerts()
		s.worst()
		s.layers()
		s.findings()
		s.nodes()
		s.policies()
		s.exceptions()
		v.page.set(v.height, column{lines: s.lines, width: v.width})
		return
	}
	const gap = 2
	left := (v.width - gap) / 2
	head, one, two := v.sections(d, v.width), v.sections(d, left), v.sections(d, v.width-gap-left)
	head.state()
	head.failures()
	head.clusters()
	if len(head.lines) > 0 {
		head.lines = append(head.lines, pageLine{})
	}
	one.verdicts()
	one.worst()
	one.layers()
	one.findings()
	two.alerts()
	two.nodes()
	two.policies()
	two.exceptions()
	y := len(head.lines)
	v.page.set(v.height, column{lines: head.lines, width: v.width},
		column{lines: one.lines, y: y, width: left}, column{lines: two.lines, x: left + gap, y: y, width: v.width - gap - left})
}

func (v *overview) sections(d *desk, width int) *sections {
	return &sections{desk: d, tally: v.tally, open: v.open, pageText: pageText{width: width}, tight: v.height < 16, wide: v.width >= twoColumns}
}

func (v *overview) keys(d *desk) []key.Binding {
	k := d.keys
	keys := []key.Binding{k.Open, k.Down, k.Up}
	if v.width >= twoColumns {
		keys = append(keys, k.Left, k.Right)
	}
	return append(keys, k.Copy, k.Export)
}

func (v *overview) typing() bool { return false }

func (v *overview) copied(d *desk, fix bool) (what, text string) {
	v.lay(d)
	s := v.page.stop()
	switch {
	case s == nil:
		return "", ""
	case fix:
		return "the fix of " + s.what, s.fix
	}
	return s.what, s.text
}

func (v *overview) selection(d *desk) (Selection, string) { return d.snap.All(), "" }
