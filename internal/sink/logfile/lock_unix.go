//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package logfile

import (
	"errors"
	"os"
	"syscall"
)

// lock keeps other scanners from the file: two that put it aside under each other's
// hands would lose lines. A file system without locks does without.
func lock(file *os.File) error {
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another program writes to it")
	}
	return nil
}
