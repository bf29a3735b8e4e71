package tui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// help lies over a view and says what its keys do.
type help struct {
	here []key.Binding
	text pager
}

func newHelp(here []key.Binding) *help { return &help{here: here} }

func (h *help) keys(d *desk) []key.Binding {
	return []key.Binding{d.keys.Down, d.keys.Up, d.keys.Back}
}

func (h *help) update(d *desk, msg tea.Msg) (done bool, cmd tea.Cmd) {
	if h.text.update(d.keys, msg) {
		return false, nil
	}
	_, pressed := msg.(tea.KeyMsg)
	return pressed, nil
}

func (h *help) draw(d *desk, width, height int) []string {
	lines := h.section(d, "Here", h.here, width)
	lines = append(lines, h.section(d, "Everywhere", d.keys.everywhere(), width)...)
	lines = append(lines, h.section(d, "In lists", d.keys.inLists(), width)...)
	lines = append(lines, "")
	lines = append(lines, wrapAt(" ", "The mouse wheel scrolls, a click chooses, a second one opens.", d.theme.dim, width)...)
	lines = append(lines, wrapAt(" ", "Verdicts: E exposed, ? unknown, G guarded, C closed, S sealed.", d.theme.dim, width)...)
	h.text.fit(len(lines), height)
	from, to := h.text.part()
	return lines[from:to]
}

// section are the keys in as many columns as fit.
func (h *help) section(d *desk, title string, bindings []key.Binding, width int) []string {
	const keyCells, column = 9, 36
	columns := max(1, width/column)
	lines := []string{"", " " + d.theme.title.Render(title)}
	rows := (len(bindings) + columns - 1) / columns
	for row := range rows {
		var line strings.Builder
		line.WriteString(" ")
		for c := range columns {
			if i := c*rows + row; i < len(bindings) {
				b := bindings[i].Help()
				line.WriteString(pad(pad(d.theme.key.Render(b.Key), keyCells)+" "+b.Desc, column-1) + " ")
			}
		}
		lines = append(lines, strings.TrimRight(ansi.Truncate(line.String(), width, ""), " "))
	}
	return lines
}

// messages lies over a view and shows what the run had to say of itself.
type messages struct{ text pager }

func newMessages() *messages { return &messages{} }

func (m *messages) keys(d *desk) []key.Binding {
	return []key.Binding{d.keys.Down, d.keys.Up, d.keys.Back}
}

func (m *messages) update(d *desk, msg tea.Msg) (done bool, cmd tea.Cmd) {
	if m.text.update(d.keys, msg) {
		return false, nil
	}
	_, pressed := msg.(tea.KeyMsg)
	return pressed, nil
}

func (m *messages) draw(d *desk, width, height int) []string {
	var lines []string
	if err := d.snap.Err; err != nil {
		lines = append(lines, wrapAt(" ", err.Error(), d.theme.errorText, width)...)
	}
	for _, n := range slices.Backward(d.snap.Notices) {
		lines = append(lines, wrapAt(" "+d.theme.dim.Render(n.Time.UTC().Format("15:04:05"))+"  ", n.Text, d.theme.plain, width)...)
	}
	if len(lines) == 0 {
		lines = []string{d.theme.dim.Render(" The run has had nothing to say of itself.")}
	}
	m.text.fit(len(lines), height-1)
	from, to := m.text.part()
	return append([]string{" " + d.theme.title.Render("Messages, newest first (UTC)")}, lines[from:to]...)
}
