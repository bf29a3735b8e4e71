//go:build !linux

package deploytest

import (
	"errors"
	"os/exec"
)

// sandbox is a container as a node makes it. Only Linux has them.
type sandbox struct {
	Root            string
	Mounts          []sandboxMount
	Path            string
	Args, Env       []string
	UID             int
	Hostname        string
	NoNewPrivileges bool
}

type sandboxMount struct {
	Source, Target string
	ReadOnly       bool
}

func (*sandbox) command() (*exec.Cmd, error) {
	return nil, errors.New("only Linux has mount namespaces")
}

func enterSandbox() error { return nil }
