package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

type nodes struct{}

func newNodes() *nodes { return &nodes{} }

func (v *nodes) look(*desk)                             {}
func (v *nodes) update(*desk, tea.Msg) tea.Cmd          { return nil }
func (v *nodes) draw(*desk, int, int) []string          { return nil }
func (v *nodes) keys(*desk) []key.Binding               { return nil }
func (v *nodes) typing() bool                           { return false }
func (v *nodes) copied(*desk, bool) (what, text string) { return "", "" }
func (v *nodes) selection(d *desk) (Selection, string)  { return d.snap.All(), "" }
