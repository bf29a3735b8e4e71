package tui

import (
	"strings"

	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"
)

// filterBar is the line in which a filter is typed. What is typed holds at once, as long
// as it can be read; else it says why, and the terms that can be read go on.
type filterBar struct {
	more []filterKey
	// text is what was typed, filter what holds of it, failed why not all does.
	text   string
	filter filter
	failed string
	// open is true while keys are text.
	open  bool
	input textinput.Model
	// before is what was typed when it was opened, which esc brings back.
	before string
}

// start lets the user type.
func (b *filterBar) start(d *desk) {
	b.input = newInput(d, "/")
	b.input.SetValue(b.text)
	b.input.CursorEnd()
	b.open, b.before = true, b.text
}

// set takes another text, as of another view. changed tells whether another filter holds.
func (b *filterBar) set(text string) (changed bool) {
	if text == b.text {
		return false
	}
	var err error
	b.text, b.failed = text, ""
	if b.filter, err = parseFilter(text, b.more...); err != nil {
		b.failed = err.Error()
	}
	return true
}

// update takes in a key while it is open. used is false for keys that move a list.
func (b *filterBar) update(d *desk, msg tea.Msg) (used, changed bool, cmd tea.Cmd) {
	k, ok := msg.(tea.KeyMsg)
	if !ok {
		b.input, cmd = b.input.Update(msg)
		return false, false, cmd
	}
	switch k.Type { //nolint:exhaustive // The others are text, or change it.
	case tea.KeyUp, tea.KeyDown, tea.KeyPgUp, tea.KeyPgDown:
		return false, false, nil
	}
	switch {
	case key.Matches(k, d.keys.Accept):
		b.open = false
		return true, false, nil
	case key.Matches(k, d.keys.Cancel):
		b.open = false
		return true, b.set(b.before), nil
	}
	b.input, cmd = b.input.Update(msg)
	return true, b.set(b.input.Value()), cmd
}

// seen tells whether there is anything to draw.
func (b *filterBar) seen() bool { return b.open || b.text != "" }

// draw is one line: the filter, or why it cannot be read, and at the right how many match.
func (b *filterBar) draw(d *desk, width int, count string) string {
	room := width - 3 - ansi.StringWidth(count)
	if b.failed != "" {
		// Both are seen, and where there is little room the end of what is typed.
		count, room = "", max(14, width-4-ansi.StringWidth(b.failed))
	}
	var line string
	if b.open {
		b.input.Width = max(4, min(room-3, max(ansi.StringWidth(b.input.Value()), 13)))
		// The part that is seen is chosen anew where the room is another.
		b.input.SetCursor(b.input.Position())
		line = " " + b.input.View()
	} else {
		line = " " + d.theme.accent.Render("/"+clean(b.text, max(1, room-2)))
	}
	if b.failed != "" {
		line += "  "
		return line + d.theme.errorText.Render(clean(b.failed, width-1-ansi.StringWidth(line)))
	}
	return pad(line, width-1-ansi.StringWidth(count)) + d.theme.dim.Render(count) + " "
}

// keys are those that mean something while it is open.
func (b *filterBar) keys(d *desk) []key.Binding {
	accept, leave := d.keys.Accept, d.keys.Cancel
	accept.SetHelp("enter", "keep")
	leave.SetHelp("esc", "as before")
	return []key.Binding{accept, leave}
}

// note says what was chosen, by the terms that could be read; empty for everything.
func (b *filterBar) note() string {
	if b.filter.empty() {
		return ""
	}
	words := make([]string, len(b.filter.terms))
	for i := range b.filter.terms {
		words[i] = b.filter.terms[i].word
	}
	return "only what matches " + strings.Join(words, " ")
}
