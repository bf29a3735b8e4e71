package tui

import (
	"testing"

	tea "github.com/charmbracelet/bubbletea"
)

// Keys that come together are what they are one by one.
func TestKeysThatComeTogether(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, eventsOf(t, auditRun), nil)
	together := func(keys string) { s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(keys)}) }
	together("54")
	if s.view != viewNodes {
		t.Errorf("5 and 4 lead to %s", s.view)
	}
	together("2/nothing-is-called-so?3")
	if s.wants("/nothing-is-called-so?3"); s.view != viewWorkloads || s.over != nil {
		t.Errorf("text of a filter leads to %s, overlay %T", s.view, s.over)
	}
	s.press("enter")
	s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3q"), Paste: true})
	if s.view != viewWorkloads || s.quit {
		t.Error("what is pasted are keys")
	}
	together("1q")
	if s.view != viewOverview || !s.quit {
		t.Errorf("1 and q lead to %s, gone %t", s.view, s.quit)
	}
}
