//go:build !linux

package node

import (
	"context"
	"errors"
	"os"
	"runtime"
)

// system says that there is no kernel here that could be checked.
func system() platform {
	return platform{
		release:  func() (string, error) { return "", errNotLinux },
		hostname: os.Hostname,
		modules:  func() ([]string, error) { return nil, errNotLinux },
		fstype:   func(*os.File) (int64, error) { return 0, errNotLinux },
		load: func(context.Context) attempt {
			return refused("this machine runs %s, and BPF-LSM is a part of Linux", runtime.GOOS)
		},
	}
}

var errNotLinux = errors.New("this machine does not run Linux")
