package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

type policies struct{}

func newPolicies() *policies { return &policies{} }

func (v *policies) look(*desk)                             {}
func (v *policies) update(*desk, tea.Msg) tea.Cmd          { return nil }
func (v *policies) draw(*desk, int, int) []string          { return nil }
func (v *policies) keys(*desk) []key.Binding               { return nil }
func (v *policies) typing() bool                           { return false }
func (v *policies) copied(*desk, bool) (what, text string) { return "", "" }
func (v *policies) selection(d *desk) (Selection, string)  { return d.snap.All(), "" }
