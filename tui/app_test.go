package tui

import (
	"testing"

	tea "github.com/charmbracelet/bubbletea"
)

func TestViewsAreReached(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, eventsOf(t, auditRun), nil)
	for v := range viewCount {
		s.press(string(rune('1' + v)))
		if s.view != v {
			t.Errorf("key %d leads to %s", v+1, s.view)
		}
	}
	s.press("tab")
	if s.view != viewOverview {
		t.Errorf("after the last comes %s", s.view)
	}
	s.press("shift+tab")
	if s.view != viewRemediate {
		t.Errorf("before the first comes %s", s.view)
	}
	for _, tab := range s.tabs() {
		s.send(tea.MouseMsg{X: tab.from, Y: 1, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
		if s.view != tab.view {
			t.Errorf("a click on %s leads to %s", tab.view, s.view)
		}
	}
	s.press("?")
	s.wants("Everywhere", "In lists")
	s.press("esc", "q")
	if !s.quit {
		t.Error("q does not quit")
	}
}

func TestTooSmall(t *testing.T) {
	t.Parallel()
	s := newStage(t, 39, 12, eventsOf(t, auditRun), nil)
	s.wants("39×12 is too small: 40×12 is needed")
	s.press("6")
	s.send(tea.WindowSizeMsg{Width: 40, Height: 12})
	if s.view != viewOverview {
		t.Error("keys did something that was not seen")
	}
	s.text()
}
