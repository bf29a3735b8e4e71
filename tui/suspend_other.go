//go:build !unix

package tui

import (
	"errors"
	"io"
)

// suspension is what this system does not have.
type suspension struct{}

// Run says so.
func (suspension) Run() error { return errors.New("cannot suspend on this system") }

// SetStdin implements tea.ExecCommand.
func (suspension) SetStdin(io.Reader) {}

// SetStdout implements tea.ExecCommand.
func (suspension) SetStdout(io.Writer) {}

// SetStderr implements tea.ExecCommand.
func (suspension) SetStderr(io.Writer) {}
