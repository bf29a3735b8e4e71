package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

type overview struct{}

func newOverview() *overview { return &overview{} }

func (v *overview) look(*desk)                             {}
func (v *overview) update(*desk, tea.Msg) tea.Cmd          { return nil }
func (v *overview) draw(*desk, int, int) []string          { return nil }
func (v *overview) keys(*desk) []key.Binding               { return nil }
func (v *overview) typing() bool                           { return false }
func (v *overview) copied(*desk, bool) (what, text string) { return "", "" }
func (v *overview) selection(d *desk) (Selection, string)  { return d.snap.All(), "" }
