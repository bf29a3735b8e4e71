package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"github.com/escape-scanner/escape-scanner/tui/hush"
)

var _ = hush.End()

// terminal is an output that several may write to, each write as a whole.
type terminal struct {
	*os.File
	mu sync.Mutex
}

// Write implements io.Writer.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.File.Write(p)
}

// Run shows the program on a terminal until the user leaves it or the context ends, and
// returns then why it ended. It leaves the terminal as it was, after a panic too: that is
// a PanicError. What Remedy was doing has ended when it returns.
func Run(ctx context.Context, o Options, in, out *os.File) error {
	if os.Getenv("TERM") == "dumb" {
		return errors.New("terminal interface: this terminal cannot move its cursor (TERM is dumb)")
	}
	screen := &terminal{File: out}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, colours := renderer(out, &o)
	g := &guard{start: func() *app {
		a := newApp(ctx, &o, r)
		a.desk.out = screen
		if !colours {
			a.desk.theme.uncolour()
		}
		return a
	}}
	if err := g.begin(); err != nil {
		return fmt.Errorf("terminal interface: %w", err)
	}
	p := tea.NewProgram(g, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(screen), tea.WithFilter(suspends),
		tea.WithAltScreen(), tea.WithMouseCellMotion(), tea.WithoutSignalHandler())
	g.stop = p.Quit
	_, err := p.Run()
	cause := context.Cause(ctx)
	// Whatever is at work stops, plans in the making too, and has ended before the terminal
	// is the caller's again.
	cancel()
	g.app.desk.working.Wait()
	switch {
	case g.failed != nil:
		return fmt.Errorf("terminal interface: %w", g.failed)
	case errors.Is(err, tea.ErrProgramKilled) && cause != nil && !errors.Is(err, tea.ErrProgramPanic):
		return cause
	case err != nil:
		return fmt.Errorf("terminal interface: %w", err)
	}
	return nil
}

// renderer knows what the terminal can show. Without colours it still can show bold and
// reverse: that is what they tell apart then.
func renderer(out *os.File, o *Options) (r *lipgloss.Renderer, colours bool) {
	// Who calls knows that it is a terminal.
	r = lipgloss.NewRenderer(out, termenv.WithTTY(true))
	profile := r.Output().ColorProfile()
	if profile == termenv.Ascii {
		// Only monochrome terminals have fewer, and this says it of many others too.
		profile = termenv.ANSI
	}
	colours = o.Color == "always" || o.Color != "never" && os.Getenv("NO_COLOR") == "" && !strings.HasPrefix(os.Getenv("TERM"), "vt")
	r.SetColorProfile(profile)
	switch o.Theme {
	case "light":
		r.SetHasDarkBackground(false)
	case "dark":
		r.SetHasDarkBackground(true)
	default:
		// The terminal is asked now, before keys are read: its answer is none.
		r.SetHasDarkBackground(!colours || r.HasDarkBackground())
	}
	return r, colours
}

// suspends takes the place of how bubbletea suspends a program: that waits for ever where
// no shell would wake it, as in a container or under ssh with a command.
func suspends(_ tea.Model, msg tea.Msg) tea.Msg {
	if _, ok := msg.(tea.SuspendMsg); !ok {
		return msg
	}
	return tea.Exec(suspension{}, func(err error) tea.Msg { return resumedMsg{err} })()
}

// resumedMsg says that the terminal is the program's again, and why it was not suspended,
// where it could not be.
type resumedMsg struct{ err error }
