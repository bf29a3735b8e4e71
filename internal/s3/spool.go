package s3

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// maxBuffered is what a spool keeps in memory before it takes a file, and maxMemory
	// what it keeps there where it can have none.
	maxBuffered = 4 << 20
	maxMemory   = 64 << 20
)

// Spool keeps what is written until it can be put: an object has to be whole before its
// first byte is sent.
type Spool struct {
	dir    string
	memory []byte
	file   *os.File
	// noFile is why there is no file.
	noFile error
	size   int64
}

// NewSpool is an empty spool, whose file would be in this directory.
func NewSpool(dir string) *Spool { return &Spool{dir: dir} }

// Write keeps p.
func (s *Spool) Write(p []byte) (int, error) {
	if s.file == nil && s.noFile == nil && len(s.memory)+len(p) > maxBuffered {
		if err := s.toFile(); err != nil {
			return 0, err
		}
	}
	if s.file != nil {
		n, err := s.file.Write(p)
		s.size += int64(n)
		return n, err
	}
	if len(s.memory)+len(p) > maxMemory {
		return 0, fmt.Errorf("more than %d MiB are not kept in memory, and a file for them cannot be made: mount a directory that can be written to on /tmp, or name one in TMPDIR: %w",
			maxMemory>>20, s.noFile)
	}
	s.memory = append(s.memory, p...)
	s.size += int64(len(p))
	return len(p), nil
}

// toFile moves what there is to a file, if one can be made.
func (s *Spool) toFile() error {
	f, err := os.CreateTemp(s.dir, "escape-scanner-*")
	if err != nil {
		s.noFile = err
		return nil
	}
	// Without a name it is gone with the program, however that ends. Where a file that is
	// open cannot be taken away, Close does it.
	_ = os.Remove(f.Name())
	s.file = f
	if _, err := f.Write(s.memory); err != nil {
		return err
	}
	s.memory = nil
	return nil
}

// Size is how many bytes were written.
func (s *Spool) Size() int64 { return s.size }

// ReadAt reads what was written.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case s.file != nil:
		return s.file.ReadAt(p, off)
	case off >= int64(len(s.memory)):
		return 0, io.EOF
	}
	n := copy(p, s.memory[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close lets go of what was kept.
func (s *Spool) Close() error {
	s.memory = nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if removed := os.Remove(s.file.Name()); removed != nil && !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}
