package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stampFormat is the time in the name of a file that was put aside: names sort by it.
const stampFormat = "20060102T150405.000Z"

// open begins the file. What stands there already is put aside first; it came from
// somebody else, or from an earlier run.
func (f *File) open() error {
	for range 3 {
		// A pipe that nobody reads would not even open.
		if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("log file %s: not a regular file", f.o.Path)
		}
		file, err := os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, f.o.Mode)
		if err != nil {
			return fmt.Errorf("log file %s: %w", f.o.Path, cause(err))
		}
		empty, err := f.fit(file)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		if empty {
			f.file, f.size, f.head, f.born = file, 0, 0, f.o.Now()
			f.headless, f.torn = true, false
			return nil
		}
		err = f.putAside()
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return fmt.Errorf("log file %s: somebody else writes to it", f.o.Path)
}

// fit tells whether the file can be taken as it is: empty, and nobody else writes it.
func (f *File) fit(file *os.File) (empty bool, err error) {
	if err := lock(file); err != nil {
		return false, fmt.Errorf("log file %s: %w", f.o.Path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return false, fmt.Errorf("log file %s: %w", f.o.Path, cause(err))
	}
	return info.Size() == 0, nil
}

// look notices what others did to the file: renamed or removed, a new one is begun in
// its place; emptied, it is begun again.
func (f *File) look() error {
	if f.file == nil {
		return nil
	}
	ours, err := f.file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("log file %s: %w", f.o.Path, cause(err)), f.shut())
	}
	there, err := os.Stat(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(ours, there):
		return f.shut()
	case err != nil:
		return fmt.Errorf("log file %s: %w", f.o.Path, cause(err))
	case ours.Size() == 0 && f.size > 0:
		f.size, f.head, f.torn, f.headless = 0, 0, false, true
	case ours.Size() < f.size:
		// Emptied between the last look and the last line, which now has no header.
		return f.rotate()
	}
	return nil
}

// rotate puts the file aside; put begins the next.
func (f *File) rotate() error {
	if err := f.putAside(); err != nil {
		return err
	}
	f.tidy()
	return f.shut()
}

// shut closes the file.
func (f *File) shut() error {
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	if err != nil {
		return fmt.Errorf("log file %s: %w", f.o.Path, cause(err))
	}
	return nil
}

// putAside renames the file to a name that is free.
func (f *File) putAside() error {
	at := f.o.Now().UTC()
	for {
		name := f.aside(at)
		_, plain := os.Lstat(name)
		_, packed := os.Lstat(name + packedExt)
		if errors.Is(plain, fs.ErrNotExist) && errors.Is(packed, fs.ErrNotExist) {
			if err := os.Rename(f.path, name); err != nil {
				return fmt.Errorf("log file %s: put aside: %w", f.o.Path, linkCause(err))
			}
			return nil
		}
		at = at.Add(time.Millisecond)
	}
}

func linkCause(err error) error {
	if linkErr := (*os.LinkError)(nil); errors.As(err, &linkErr) {
		return linkErr.Err
	}
	return err
}

// aside is the name of the file once it is put aside: events.jsonl becomes
// events-20261122T120000.000Z.jsonl.
func (f *File) aside(at time.Time) string {
	ext := filepath.Ext(f.path)
	return strings.TrimSuffix(f.path, ext) + "-" + at.Format(stampFormat) + ext
}
