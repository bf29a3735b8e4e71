package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// DefaultLimit is the largest document that is read, in bytes. The API server
// takes objects of 3 MiB.
const DefaultLimit = 32 << 20

// Stdin is the path that stands for standard input.
const Stdin = "-"

// stdinName is what standard input is called in places.
const stdinName = "stdin"

// Inputs says what is read.
type Inputs struct {
	// Paths are files, directories and "-" for Stdin, read in this order.
	Paths []string
	// Stdin is what the path "-" reads.
	Stdin io.Reader
	// Files is where files are read; nil is the machine's own file system.
	Files FileSystem
	// Limit is the largest document, or item of a List, in bytes. 0 means
	// DefaultLimit.
	Limit int
	// Workers is how many documents are judged at the same time. 0 means as many
	// as there are processors.
	Workers int

	// held are the texts of those paths that can be read only once; see Hold.
	held map[string]*heldText
}

// FileSystem is what reading manifests needs of a file system.
type FileSystem interface {
	Open(name string) (io.ReadCloser, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	// Stat follows symbolic links.
	Stat(name string) (fs.FileInfo, error)
	// RealPath is the path with all symbolic links followed.
	RealPath(name string) (string, error)
}

// OS is the file system of this machine.
type OS struct{}

// Open opens a file for reading.
func (OS) Open(name string) (io.ReadCloser, error) { return os.Open(name) }

// ReadDir lists a directory, sorted by name.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Stat describes a file.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// RealPath follows all symbolic links of a path.
func (OS) RealPath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// source is one file to be read.
type source struct {
	// name is the path for people.
	name string
	// named is true when the user named it, so that it has to hold manifests.
	named bool
	// stdin is true for standard input.
	stdin bool
	// blocking is true when reading may wait for somebody.
	blocking bool
}

// check finds paths that do not exist before anything is read.
func (in *Inputs) check() error {
	if len(in.Paths) == 0 {
		return errors.New("manifests: no file, directory or - was named")
	}
	for _, p := range in.Paths {
		if in.held[p] != nil {
			continue
		}
		if p == Stdin {
			if in.Stdin == nil {
				return errors.New("manifests: there is no standard input to read")
			}
			continue
		}
		if _, err := in.Files.Stat(p); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("manifests: %w", err)
		}
	}
	return nil
}

// withDefaults fills in what was left open.
func (in Inputs) withDefaults(processors int) Inputs {
	if in.Files == nil {
		in.Files = OS{}
	}
	if in.Limit <= 0 {
		in.Limit = DefaultLimit
	}
	if in.Workers <= 0 {
		in.Workers = processors
	}
	return in
}

// read hands out the chunks of all inputs.
func (in *Inputs) read(ctx context.Context, out func(*chunk) error) error {
	pass := reading{ctx: ctx, in: in, failed: out, text: func(src source, r io.Reader) error {
		return split(ctx, src, r, in.Limit, out)
	}}
	return pass.all()
}

// reading is one pass over the inputs.
type reading struct {
	ctx context.Context
	in  *Inputs
	// text takes the text of each file, failed a file that could not be opened.
	text   func(source, io.Reader) error
	failed func(*chunk) error
}

func (p *reading) all() error {
	for _, path := range p.in.Paths {
		if err := p.path(path); err != nil {
			return err
		}
	}
	return nil
}

func (p *reading) path(path string) error {
	if held := p.in.held[path]; held != nil {
		return p.text(source{name: heldName(path), named: !held.found}, held.open())
	}
	if path == Stdin {
		return p.text(source{name: stdinName, named: true, stdin: true}, newWaitingReader(p.ctx, p.in.Stdin))
	}
	info, err := p.in.Files.Stat(path)
	if err != nil {
		return p.failed(unreadable(path, err))
	}
	if !info.IsDir() {
		return p.file(source{name: path, named: true, blocking: !info.Mode().IsRegular()})
	}
	w := walk{reading: p, seen: make(map[string]struct{})}
	return w.dir(path, "")
}

func (p *reading) file(src source) error {
	f, err := p.in.Files.Open(src.name)
	if err != nil {
		return p.failed(unreadable(src.name, err))
	}
	defer f.Close()
	var r io.Reader = f
	if src.blocking {
		r = newWaitingReader(p.ctx, f)
	}
	return p.text(src, r)
}

// unreadable is the failure of a file or directory as a whole.
func unreadable(path string, err error) *chunk {
	// The path is the failure's subject: the message need not repeat it.
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return &chunk{file: path, failure: &scan.Failure{
		Subject: path,
		Reason:  readReason(err),
		Message: err.Error(),
		Affects: "the pods that it may hold",
	}}
}

// walk goes through one directory and what is below it.
type walk struct {
	*reading
	// seen are the real paths of the directories and files that were read.
	seen map[string]struct{}
}

// dir reads a directory. Real is its real path, if known.
func (w *walk) dir(path, real string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	real, fresh, err := w.enter(path, real)
	if err != nil {
		return w.failed(unreadable(path, err))
	}
	if !fresh {
		return nil
	}
	entries, err := w.in.Files.ReadDir(path)
	if err != nil {
		if err := w.failed(unreadable(path, err)); err != nil {
			return err
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := w.entry(filepath.Join(path, e.Name()), filepath.Join(real, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

// enter notes a directory or file, and tells whether it is met for the first time.
func (w *walk) enter(path, real string) (string, bool, error) {
	if real == "" {
		var err error
		if real, err = w.in.Files.RealPath(path); err != nil {
			return "", false, err
		}
	}
	if _, ok := w.seen[real]; ok {
		return real, false, nil
	}
	w.seen[real] = struct{}{}
	return real, true, nil
}

// entry reads one entry of a directory.
func (w *walk) entry(path, real string, e fs.DirEntry) error {
	mode := e.Type()
	manifest := isManifestName(e.Name())
	if mode&fs.ModeSymlink != 0 {
		real = ""
		info, err := w.in.Files.Stat(path)
		if err != nil {
			// A dangling link, or links in a circle. Without the name of a
			// manifest nobody can tell what it should have led to.
			if !manifest {
				return nil
			}
			return w.failed(unreadable(path, err))
		}
		mode = info.Mode().Type()
	}
	switch {
	case mode.IsDir():
		if strings.HasPrefix(e.Name(), ".") {
			return nil
		}
		return w.dir(path, real)
	case !manifest:
		return nil
	case !mode.IsRegular():
		return w.failed(unreadable(path, errors.New("is not a regular file")))
	}
	_, fresh, err := w.enter(path, real)
	if err != nil {
		return w.failed(unreadable(path, err))
	}
	if !fresh {
		return nil
	}
	return w.file(source{name: path})
}

func isManifestName(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// waitingReader reads from something that may wait for input for ever, and gives
// up when its context ends. The read that is under way then is left behind: there
// is no way to call it off.
type waitingReader struct {
	ctx context.Context
	// wants asks for a block, blocks answers. There is one buffer: it is not asked
	// for again before what is in it was used up.
	wants  chan struct{}
	blocks chan block
	rest   []byte
	err    error
}

type block struct {
	data []byte
	err  error
}

func newWaitingReader(ctx context.Context, r io.Reader) *waitingReader {
	w := &waitingReader{ctx: ctx, wants: make(chan struct{}), blocks: make(chan block)}
	go func() {
		data := make([]byte, readSize)
		for {
			select {
			case <-w.wants:
			case <-ctx.Done():
				return
			}
			n, err := r.Read(data)
			select {
			case w.blocks <- block{data[:n], err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

// Read reads, or returns the context's error.
func (w *waitingReader) Read(p []byte) (int, error) {
	for len(w.rest) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		select {
		case w.wants <- struct{}{}:
		case <-w.ctx.Done():
			return 0, w.ctx.Err()
		}
		select {
		case b := <-w.blocks:
			w.rest, w.err = b.data, b.err
		case <-w.ctx.Done():
			return 0, w.ctx.Err()
		}
	}
	n := copy(p, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}
