package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

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

// Run shows the program on a terminal until the user leaves it or the context ends. It
// leaves the terminal as it was, after a panic too. What Remedy was doing has ended when
// it returns.
func Run(ctx context.Context, o Options, in, out *os.File) error {
	screen := &terminal{File: out}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := newApp(ctx, &o, renderer(screen, &o))
	a.desk.out = screen
	p := tea.NewProgram(a, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(screen),
		tea.WithAltScreen(), tea.WithMouseCellMotion(), tea.WithoutSignalHandler())
	_, err := p.Run()
	cause := context.Cause(ctx)
	// Whatever is at work stops, and has ended before the terminal is the caller's again.
	cancel()
	a.desk.working.Wait()
	if errors.Is(err, tea.ErrProgramKilled) && cause != nil && !errors.Is(err, tea.ErrProgramPanic) {
		return cause
	}
	if err != nil {
		return fmt.Errorf("terminal interface: %w", err)
	}
	return nil
}

// renderer knows what the terminal can show.
func renderer(out *terminal, o *Options) *lipgloss.Renderer {
	var opts []termenv.OutputOption
	switch o.Color {
	case "never":
		opts = append(opts, termenv.WithProfile(termenv.Ascii))
	case "always":
		opts = append(opts, termenv.WithProfile(termenv.ANSI256))
	}
	r := lipgloss.NewRenderer(out, opts...)
	if o.Color == "never" {
		r.SetColorProfile(termenv.Ascii)
	}
	switch o.Theme {
	case "light":
		r.SetHasDarkBackground(false)
	case "dark":
		r.SetHasDarkBackground(true)
	}
	return r
}
