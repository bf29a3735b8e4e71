package tui

import (
	"github.com/charmbracelet/bubbles/cursor"
	"github.com/charmbracelet/bubbles/textinput"
)

// newInput is a field for one line of text, in which keys are written at once. Its cursor
// does not blink: nothing moves on the screen but what happens in the cluster.
func newInput(d *desk, prompt string) textinput.Model {
	in := textinput.New()
	in.Prompt, in.CharLimit = prompt, 4096
	in.PromptStyle, in.TextStyle, in.PlaceholderStyle = d.theme.accent, d.theme.plain, d.theme.dim
	in.Cursor.Style = d.theme.selected
	in.Cursor.SetMode(cursor.CursorStatic)
	in.Focus()
	return in
}
