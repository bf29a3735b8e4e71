//go:build unix

package tui

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// wakeTime is how long it is waited for the end of a stop that did not come.
const wakeTime = 500 * time.Millisecond

// suspension stops the processes in the foreground, as the terminal would, until a shell
// wakes them.
type suspension struct{}

// Run stops the process. Where no shell has started it the system does not, and there is
// nobody to wake it.
func (suspension) Run() error {
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCONT)
	defer signal.Stop(woken)
	if err := syscall.Kill(0, syscall.SIGTSTP); err != nil {
		return fmt.Errorf("suspend: %w", err)
	}
	select {
	case <-woken:
		return nil
	case <-time.After(wakeTime):
		return errors.New("cannot suspend: no shell would resume it")
	}
}

// SetStdin implements tea.ExecCommand.
func (suspension) SetStdin(io.Reader) {}

// SetStdout implements tea.ExecCommand.
func (suspension) SetStdout(io.Writer) {}

// SetStderr implements tea.ExecCommand.
func (suspension) SetStderr(io.Writer) {}
