package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

type alerts struct{}

func newAlerts() *alerts { return &alerts{} }

func (v *alerts) look(*desk)                             {}
func (v *alerts) update(*desk, tea.Msg) tea.Cmd          { return nil }
func (v *alerts) draw(*desk, int, int) []string          { return nil }
func (v *alerts) keys(*desk) []key.Binding               { return nil }
func (v *alerts) typing() bool                           { return false }
func (v *alerts) copied(*desk, bool) (what, text string) { return "", "" }
func (v *alerts) selection(d *desk) (Selection, string)  { return d.snap.All(), "" }
