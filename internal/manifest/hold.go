package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// heldInMemory is how much of a text that can be read only once is kept in memory;
// the rest goes to a temporary file.
const heldInMemory = 8 << 20

// heldText is a text that was read and is kept, to be read again.
type heldText struct {
	head []byte
	tail *os.File
	size int64
	// found is set where the file was found in a directory, not named.
	found bool
	// err is how reading it ended, nil for its end.
	err error
}

// Hold reads what of the inputs can be read only once (standard input, pipes), so
// that the inputs it returns can be read as often as wanted. release gives up what
// they hold; it is never nil.
func Hold(ctx context.Context, in Inputs) (held Inputs, release func() error, err error) {
	in = in.withDefaults(in.Workers)
	texts := map[string]*heldText{}
	release = func() error {
		var errs []error
		for _, t := range texts {
			errs = append(errs, t.drop())
		}
		return errors.Join(errs...)
	}
	if err := in.check(); err != nil {
		return in, release, err
	}
	paths := in.Paths
	in.Paths = nil
	for _, path := range paths {
		if texts[path] != nil {
			continue // There is nothing more to read of it.
		}
		in.Paths = append(in.Paths, path)
		r, ok := in.once(path)
		if !ok {
			continue
		}
		t := &heldText{}
		texts[path] = t
		err := t.fill(newWaitingReader(ctx, r))
		if closer, ok := r.(io.Closer); ok && path != Stdin {
			err = errors.Join(err, closer.Close())
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return in, release, fmt.Errorf("%s: %w", heldName(path), err)
		}
	}
	in.held = texts
	return in, release, nil
}

// once opens a path that can be read only once. What cannot be opened is left to
// whoever reads the inputs.
func (in *Inputs) once(path string) (io.Reader, bool) {
	if path == Stdin {
		return in.Stdin, true
	}
	info, err := in.Files.Stat(path)
	if err != nil || info.IsDir() || info.Mode().IsRegular() {
		return nil, false
	}
	f, err := in.Files.Open(path)
	return f, err == nil
}

func heldName(path string) string {
	if path == Stdin {
		return stdinName
	}
	return path
}

// fill takes in all of r. The error is one of keeping it: one of r is kept with the
// text, and met again by whoever reads it.
func (t *heldText) fill(r io.Reader) error {
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		if kept := t.add(buf[:n]); kept != nil {
			return kept
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			t.err = err
			return nil
		}
	}
}

func (t *heldText) add(text []byte) error {
	if t.tail == nil && len(t.head)+len(text) <= heldInMemory {
		t.head = append(t.head, text...)
		return nil
	}
	if t.tail == nil {
		tail, err := os.CreateTemp("", "escape-scanner-*")
		if err != nil {
			return err
		}
		t.tail = tail
		t.head = slices.Clip(t.head)
		// Where an open file can be removed, nothing is left behind however the run
		// ends; elsewhere drop removes it.
		_ = os.Remove(tail.Name())
	}
	n, err := t.tail.Write(text)
	t.size += int64(n)
	return err
}

// open reads the text from its beginning.
func (t *heldText) open() io.Reader {
	parts := []io.Reader{bytes.NewReader(t.head)}
	if t.tail != nil {
		parts = append(parts, io.NewSectionReader(t.tail, 0, t.size))
	}
	if t.err != nil {
		parts = append(parts, failingReader{t.err})
	}
	return io.MultiReader(parts...)
}

func (t *heldText) drop() error {
	if t.tail == nil {
		return nil
	}
	err := t.tail.Close()
	_ = os.Remove(t.tail.Name())
	t.tail = nil
	return err
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
