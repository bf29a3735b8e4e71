//go:build unix

package tui

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// stopTime is more than it takes until a process is stopped.
const stopTime = 200 * time.Millisecond

// suspension stops the processes in the foreground, as the terminal would, until a shell
// wakes them.
type suspension struct{}

// Run stops the process. Where no shell has started it the system does not, as there is
// nobody to wake it: then no time is missing afterwards.
func (suspension) Run() error {
	began := time.Now()
	if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	<-time.After(stopTime)
	if time.Since(began) < 2*stopTime {
		return errors.New("not suspended: no shell would resume it")
	}
	return nil
}

// SetStdin implements tea.ExecCommand.
func (suspension) SetStdin(io.Reader) {}

// SetStdout implements tea.ExecCommand.
func (suspension) SetStdout(io.Writer) {}

// SetStderr implements tea.ExecCommand.
func (suspension) SetStderr(io.Writer) {}
