package logfile

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink"
)

const (
	packedExt = ".gz"
	// partExt marks a file that is being compressed; one that was left so is removed.
	partExt = ".part"
)

// errStopped ends what compresses when the file is closed.
var errStopped = errors.New("stopped")

// tidying is the work on files that were put aside. It is done beside the writing, by
// one goroutine at a time, which lives as long as there is something to do.
type tidying struct {
	mu             sync.Mutex
	running, again bool
	stop           chan struct{}
	ended          bool
	done           sync.WaitGroup
}

// tidy removes and compresses, beside the caller.
func (f *File) tidy() {
	t := &f.tidying
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended:
	case t.running:
		t.again = true
	default:
		if t.stop == nil {
			t.stop = make(chan struct{})
		}
		t.running = true
		t.done.Go(f.tidyAll)
	}
}

// end stops the work and waits for it.
func (t *tidying) end() {
	t.mu.Lock()
	if t.stop != nil && !t.ended {
		close(t.stop)
	}
	t.ended = true
	t.mu.Unlock()
	t.done.Wait()
}

func (t *tidying) more() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.again && !t.ended
	t.again = false
	return t.running
}

func (f *File) tidyAll() {
	for {
		if err := f.tidyOnce(); err != nil && !errors.Is(err, errStopped) {
			f.say(sink.Notice{Sink: sinkName, Err: fmt.Errorf("log file %s: old files: %w", f.o.Path, err)})
		}
		if !f.tidying.more() {
			return
		}
	}
}

// tidyOnce looks through what was put aside, the latest first.
func (f *File) tidyOnce() error {
	old, parts, err := f.old()
	if err != nil {
		return err
	}
	var errs []error
	for _, part := range parts {
		errs = append(errs, remove(part))
	}
	for i, o := range old {
		tooMany := f.o.Keep > 0 && i >= f.o.Keep
		tooOld := f.o.KeepFor > 0 && f.o.Now().Sub(o.at) > f.o.KeepFor
		switch {
		case tooMany || tooOld:
			errs = append(errs, remove(o.plain), remove(o.packed))
		case f.o.Compress && o.plain != "":
			errs = append(errs, f.pack(o.plain))
		}
	}
	return errors.Join(errs...)
}

// remove removes a file, unless somebody else did.
func remove(name string) error {
	if name == "" {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// oldFile is one that was put aside: as it was, compressed or, where the work was cut
// short, both.
type oldFile struct {
	at            time.Time
	plain, packed string
}

// old lists what was put aside, the latest first, and what was left half compressed.
// Nothing but names that this package gives is touched.
func (f *File) old() (old []oldFile, parts []string, err error) {
	dir, ext := filepath.Dir(f.path), filepath.Ext(f.path)
	start := strings.TrimSuffix(filepath.Base(f.path), ext) + "-"
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// Nothing is left to look through; that the file is gone too, Write says.
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	by := map[time.Time]*oldFile{}
	for _, e := range entries {
		name, ours := strings.CutPrefix(e.Name(), start)
		if !ours || !e.Type().IsRegular() {
			continue
		}
		name, part := strings.CutSuffix(name, partExt)
		name, packed := strings.CutSuffix(name, packedExt)
		stamp, ours := strings.CutSuffix(name, ext)
		at, err := time.Parse(stampFormat, stamp)
		if !ours || err != nil || part && !packed {
			continue
		}
		full := filepath.Join(dir, e.Name())
		if part {
			parts = append(parts, full)
			continue
		}
		o := by[at]
		if o == nil {
			o = &oldFile{at: at}
			by[at] = o
		}
		if packed {
			o.packed = full
		} else {
			o.plain = full
		}
	}
	for _, o := range by {
		old = append(old, *o)
	}
	slices.SortFunc(old, func(a, b oldFile) int { return b.at.Compare(a.at) })
	return old, parts, nil
}

// pack compresses a file and removes it when that is done. The compressed one has its
// name only once it is complete.
func (f *File) pack(name string) (err error) {
	from, err := os.Open(name)
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	part := name + packedExt + partExt
	to, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	packer := gzip.NewWriter(to)
	_, err = io.Copy(packer, stoppable{from, f.tidying.stop})
	if err := errors.Join(err, packer.Close(), to.Sync(), to.Close()); err != nil {
		return errors.Join(err, remove(part))
	}
	if err := os.Rename(part, name+packedExt); err != nil {
		return errors.Join(err, remove(part))
	}
	return remove(name)
}

// stoppable reads until it is stopped.
type stoppable struct {
	r    io.Reader
	stop <-chan struct{}
}

func (s stoppable) Read(p []byte) (int, error) {
	select {
	case <-s.stop:
		return 0, errStopped
	default:
		return s.r.Read(p)
	}
}
