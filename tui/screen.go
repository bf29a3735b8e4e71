package tui

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

// screen is one view between the head and the foot of the program. Its methods run in
// the one goroutine of the program and wait for nothing: what takes time is a tea.Cmd.
type screen interface {
	// look takes in a new snapshot, which is d.snap.
	look(d *desk)
	// update takes in a key, a mouse event in the view's own coordinates, or what a
	// command of the view brought.
	update(d *desk, msg tea.Msg) tea.Cmd
	// draw draws the view into so many cells. What is larger is cut off, and what is
	// smaller filled up. It also tells the view how large it is.
	draw(d *desk, width, height int) []string
	// keys are those that mean something now, the most useful first.
	keys(d *desk) []key.Binding
	// typing is true while keys are text: then only ctrl+c is not the view's.
	typing() bool
	// copied is what y copies and what it is called, empty for nothing. With fix it is
	// what Y copies.
	copied(d *desk, fix bool) (what, text string)
	// selection is what e exports, with a note of what was chosen, empty for everything.
	selection(d *desk) (Selection, string)
}

// desk is what all views share.
type desk struct {
	// ctx ends with the program: commands that take time are given it.
	ctx  context.Context //nolint:containedctx // It is the program's, as the desk is.
	opts *Options
	// out is the terminal, nil in tests.
	out   io.Writer
	snap  *Snapshot
	theme *theme
	keys  *KeyMap
	// now is the time of the last tick.
	now time.Time
	// busy is what may not be interrupted by leaving, nil for nothing: calling it asks it
	// to stop, and it says doneMsg when it has.
	busy func()
	// working are the commands that the end of the program waits for.
	working sync.WaitGroup
}

// viewID names a view of the head.
type viewID int

// The views, in the order of their keys.
const (
	viewOverview viewID = iota
	viewWorkloads
	viewAlerts
	viewNodes
	viewPolicies
	viewRemediate
	viewCount
)

func (v viewID) String() string {
	return [...]string{"Overview", "Workloads", "Alerts", "Nodes", "Policies", "Remediate"}[v]
}

// The messages by which views speak to the program. Any view may send them by a command.
type (
	// gotoMsg shows a view; with a verdict, a namespace or a text of the workloads' filter
	// those that match it.
	gotoMsg struct {
		view   viewID
		filter string
	}
	// openMsg shows one workload.
	openMsg struct{ ref scan.RowRef }
	// flashMsg is said in the foot until the next key, or for some seconds.
	flashMsg struct {
		text  string
		isErr bool
	}
	// idleMsg says that what desk.busy was about has ended.
	idleMsg struct{}
)

// tell is the command that sends a message.
func tell(msg tea.Msg) tea.Cmd { return func() tea.Msg { return msg } }

// fail says an error in the foot.
func fail(err error) tea.Cmd { return tell(flashMsg{text: err.Error(), isErr: true}) }
