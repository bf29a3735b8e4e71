// Package logfile writes a stream of lines to a file that does not grow for ever.
//
// The file is put aside under a name with the time in it when it is large or old
// enough, and a new one is begun. Each file can be read alone: behind the first it
// begins with the picture as it is (Options.Header). A file that somebody else renamed,
// removed or emptied is noticed, so that the usual tools that rotate logs need no
// signal.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink"
)

const (
	defaultSize = 100 << 20
	defaultKeep = 5
	defaultMode = 0o600
	// tryEvery is how long a file that could not be written is left alone, and
	// sayEvery how often it is said what was dropped meanwhile.
	tryEvery = time.Second
	sayEvery = 10 * time.Second
)

// Options say where and how much.
type Options struct {
	// Path is the file. It is created with Mode (0600 where it is 0) in a directory that
	// there is. What already stands in it is put aside first.
	Path string
	Mode fs.FileMode
	// Size is how large a file may become, in bytes behind its header: 100 MiB where it
	// is 0, any where it is negative. Age is how old; any where it is 0.
	Size int64
	Age  time.Duration
	// Keep is how many of those put aside are kept: 5 where it is 0, all where it is
	// negative. KeepFor removes what was put aside longer ago, where it is not 0.
	Keep    int
	KeepFor time.Duration
	// Compress has what is put aside compressed, by gzip.
	Compress bool
	// Header is what a file that is begun later than the first starts with, whole lines:
	// the picture as it is. It is called from Write. Nil for none.
	Header func() []byte
	// Notify is told of trouble, and when it is over, from any goroutine; it must not write
	// to the file. Nil for nobody.
	Notify func(sink.Notice)
	// Now is the clock, time.Now where it is nil.
	Now func() time.Time
}

// File is written to line by line. It is safe for concurrent use.
type File struct {
	o    Options
	path string

	mu     sync.Mutex
	file   *os.File
	closed bool
	// size is the file's, of which head is the header's; born is when it was begun.
	size, head int64
	born       time.Time
	// headless says that the header is still to be written, and torn that the file ends
	// in half a line.
	headless, torn bool
	trouble        trouble
	// stuck is why a file that has had enough could not be put aside.
	stuck      error
	nextRotate time.Time

	tidying tidying
}

// trouble is what went wrong since the file was last written to.
type trouble struct {
	err             error
	dropped         int
	nextTry, nextTo time.Time
}

// Open creates the file, having put aside what stood there.
func Open(o Options) (*File, error) {
	if o.Mode == 0 {
		o.Mode = defaultMode
	}
	if o.Size == 0 {
		o.Size = defaultSize
	}
	if o.Keep == 0 {
		o.Keep = defaultKeep
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	path, err := resolve(o.Path)
	if err != nil {
		return nil, err
	}
	f := &File{o: o, path: path}
	if err := f.open(); err != nil {
		return nil, err
	}
	f.headless = false
	f.tidy()
	return f, nil
}

// resolve follows links, so that the file and not the link to it is put aside.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("log file: no name")
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case err == nil:
		return filepath.Abs(real)
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("log file: %w", err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("log file %s: %w", path, err)
	}
	return filepath.Abs(filepath.Join(dir, filepath.Base(path)))
}

// Write writes one or more whole lines. A line is either written whole or not at all:
// what cannot be written is dropped, counted and told to Notify, and after that the
// file is begun anew with its header. So it fails only when the file is closed.
func (f *File) Write(lines []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, fmt.Errorf("log file %s: %w", f.o.Path, fs.ErrClosed)
	}
	now := f.o.Now()
	if f.trouble.err != nil && now.Before(f.trouble.nextTry) && !f.trouble.nextTry.After(now.Add(tryEvery)) {
		f.drop(now, nil)
		return len(lines), nil
	}
	if err := f.put(lines, now); err != nil {
		f.drop(now, err)
		return len(lines), nil
	}
	f.well()
	return len(lines), nil
}

// Close writes nothing more. It ends what compresses, too, and says what is unsaid.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	if f.trouble.dropped > 0 {
		f.say(sink.Notice{Sink: sinkName, Err: f.trouble.err, Dropped: f.trouble.dropped})
	}
	f.tidying.end()
	return f.shut()
}

// put writes lines to the file, to a new one where that is due.
func (f *File) put(lines []byte, now time.Time) error {
	if err := f.look(); err != nil {
		return err
	}
	// After trouble something is missing in the file. The next begins with all of it.
	if f.file != nil && f.trouble.err != nil && f.size > 0 {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	f.rotateWhenDue(int64(len(lines)), now)
	if f.file == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.headless {
		head := f.header()
		if err := f.append(head); err != nil {
			return err
		}
		f.head, f.headless = int64(len(head)), false
	}
	return f.append(lines)
}

func (f *File) header() []byte {
	if f.o.Header == nil {
		return nil
	}
	return f.o.Header()
}

// rotateWhenDue begins the next file when this one has had enough. Where that cannot
// be done the lines go where they went: better a file too large than lines lost.
func (f *File) rotateWhenDue(more int64, now time.Time) {
	if f.file == nil || !f.due(more, now) || f.stuck != nil && now.Before(f.nextRotate) {
		return
	}
	err := f.rotate()
	if (err == nil) != (f.stuck == nil) {
		f.say(sink.Notice{Sink: sinkName, Err: err})
	}
	f.stuck, f.nextRotate = err, now.Add(tryEvery)
}

// due tells whether the file has had enough. Each file takes something behind its
// header, however small it is to be.
func (f *File) due(more int64, now time.Time) bool {
	if f.headless || f.size == f.head {
		return false
	}
	large := f.o.Size > 0 && f.size-f.head+more > f.o.Size
	return large || f.o.Age > 0 && now.Sub(f.born) >= f.o.Age
}

// append writes all of a text or, as far as the system lets it, nothing of it.
func (f *File) append(text []byte) error {
	if f.torn {
		text = append([]byte{'\n'}, text...)
	}
	n, err := f.file.Write(text)
	if err == nil {
		f.size += int64(n)
		f.torn = false
		return nil
	}
	if n > 0 {
		if cut := f.file.Truncate(f.size); cut != nil {
			f.size += int64(n)
			f.torn = true
		}
	}
	return fmt.Errorf("log file %s: %w", f.o.Path, cause(err))
}

// cause is an error without the name that the caller puts before it.
func cause(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

const sinkName = "log file"

func (f *File) say(n sink.Notice) {
	if f.o.Notify != nil {
		f.o.Notify(n)
	}
}

// drop counts lines that were not written. An error is said once, and again when it
// is another.
func (f *File) drop(now time.Time, err error) {
	t := &f.trouble
	t.dropped++
	if err != nil {
		t.nextTry = now.Add(tryEvery)
	}
	another := err != nil && (t.err == nil || t.err.Error() != err.Error())
	if err != nil {
		t.err = err
	}
	if another || !now.Before(t.nextTo) {
		f.say(sink.Notice{Sink: sinkName, Err: t.err, Dropped: t.dropped})
		t.dropped, t.nextTo = 0, now.Add(sayEvery)
	}
}

// well ends trouble.
func (f *File) well() {
	if f.trouble.err != nil {
		f.say(sink.Notice{Sink: sinkName, Dropped: f.trouble.dropped})
		f.trouble = trouble{}
	}
}
