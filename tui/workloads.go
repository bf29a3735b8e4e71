package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

type workloads struct{}

func newWorkloads() *workloads { return &workloads{} }

func (v *workloads) look(*desk)                             {}
func (v *workloads) update(*desk, tea.Msg) tea.Cmd          { return nil }
func (v *workloads) draw(*desk, int, int) []string          { return nil }
func (v *workloads) keys(*desk) []key.Binding               { return nil }
func (v *workloads) typing() bool                           { return false }
func (v *workloads) copied(*desk, bool) (what, text string) { return "", "" }
func (v *workloads) selection(d *desk) (Selection, string)  { return d.snap.All(), "" }
