package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

type remedyView struct{}

func newRemediate() *remedyView { return &remedyView{} }

func (v *remedyView) look(*desk)                             {}
func (v *remedyView) update(*desk, tea.Msg) tea.Cmd          { return nil }
func (v *remedyView) draw(*desk, int, int) []string          { return nil }
func (v *remedyView) keys(*desk) []key.Binding               { return nil }
func (v *remedyView) typing() bool                           { return false }
func (v *remedyView) copied(*desk, bool) (what, text string) { return "", "" }
func (v *remedyView) selection(d *desk) (Selection, string)  { return d.snap.All(), "" }
