package tui

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/report"
)

// PanicError is a bug of the program: it stopped, and the terminal is as it was.
type PanicError struct {
	// Value is what was panicked with, Stack where, the innermost call first.
	Value any
	Stack []string
}

// Error implements error.
func (e *PanicError) Error() string {
	return fmt.Sprintf("this is a bug: %s (in %s)", report.Clean(fmt.Sprint(e.Value)), strings.Join(e.Stack, ", called by "))
}

// guard is the program, of which no panic gets out: bubbletea would write it on the screen
// that goes.
type guard struct {
	start  func() *app
	app    *app
	failed *PanicError
	// stop ends the program from outside.
	stop func()
}

var _ tea.Model = (*guard)(nil)

// panicMsg says that a command panicked.
type panicMsg struct{ err *PanicError }

// begin makes the program.
func (g *guard) begin() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	g.app = g.start()
	return nil
}

// newPanicError is what was recovered, with where it was raised.
func newPanicError(v any) *PanicError {
	const most = 6
	e := &PanicError{Value: v}
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	raised := false
	for len(e.Stack) < most {
		frame, more := frames.Next()
		switch {
		case frame.Function == "runtime.gopanic":
			raised = true
		case raised && !strings.HasPrefix(frame.Function, "runtime."):
			name := frame.Function[strings.LastIndexByte(frame.Function, '/')+1:]
			e.Stack = append(e.Stack, fmt.Sprintf("%s, %s:%d", name, filepath.Base(frame.File), frame.Line))
		}
		if !more {
			break
		}
	}
	return e
}

// Init implements tea.Model.
func (g *guard) Init() (cmd tea.Cmd) {
	defer g.leave(&cmd)
	return guarded(g.app.Init())
}

// Update implements tea.Model.
func (g *guard) Update(msg tea.Msg) (model tea.Model, cmd tea.Cmd) {
	defer g.leave(&cmd)
	switch msg := msg.(type) {
	case panicMsg:
		g.failed = msg.err
		return g, nil
	case resumedMsg:
		// Bubbletea takes the mouse back, and forgets it.
		if msg.err != nil {
			return g, tea.Batch(tea.EnableMouseCellMotion, fail(msg.err))
		}
		return g, tea.EnableMouseCellMotion
	}
	_, cmd = g.app.Update(msg)
	return g, guarded(cmd)
}

// leave catches a panic, and ends the program after one.
func (g *guard) leave(cmd *tea.Cmd) {
	if v := recover(); v != nil && g.failed == nil {
		g.failed = newPanicError(v)
	}
	if g.failed != nil {
		*cmd = tea.Quit
	}
}

// View implements tea.Model.
func (g *guard) View() string {
	if g.failed != nil {
		return ""
	}
	defer func() {
		if v := recover(); v != nil {
			g.failed = newPanicError(v)
			// It waits until the program takes it.
			go g.stop()
		}
	}()
	return g.app.View()
}

// guarded is a command, and all that come of it, whose panic is a message.
func guarded(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() (msg tea.Msg) {
		defer func() {
			if v := recover(); v != nil {
				msg = panicMsg{newPanicError(v)}
			}
		}()
		msg = cmd()
		if batch, ok := msg.(tea.BatchMsg); ok {
			for i, one := range batch {
				batch[i] = guarded(one)
			}
		}
		return msg
	}
}
