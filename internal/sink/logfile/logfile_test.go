package logfile_test

import (
	"bytes"
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
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/logfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// notices are what was told.
type notices struct {
	mu  sync.Mutex
	all []sink.Notice
}

func (n *notices) take(of sink.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, of)
}

func (n *notices) told() []sink.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.all)
}

func open(t *testing.T, o logfile.Options) *logfile.File {
	t.Helper()
	f, err := logfile.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func write(t *testing.T, f *logfile.File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := io.WriteString(f, line+"\n"); err != nil || n != len(line)+1 {
			t.Fatalf("wrote %d: %v", n, err)
		}
	}
}

// read is the text of each file of a directory, by name; those that were compressed,
// too.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(e.Name(), ".gz") {
			r, err := gzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				t.Fatalf("%s: %v", e.Name(), err)
			}
			if raw, err = io.ReadAll(r); err != nil {
				t.Fatalf("%s: %v", e.Name(), err)
			}
		}
		texts[e.Name()] = string(raw)
	}
	return texts
}

// lines are those of all files, the oldest file first and the one in use last.
func lines(t *testing.T, dir, current string) (all []string) {
	t.Helper()
	texts := read(t, dir)
	var names []string
	for name := range texts {
		if name != current {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range append(names, current) {
		text := texts[name]
		if text != "" && !strings.HasSuffix(text, "\n") {
			t.Errorf("%s ends in half a line: %q", name, text)
		}
		all = append(all, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	return all
}

// All lines are there, whole and in their order, and each file after the first begins
// with its header.
func TestRotation(t *testing.T) {
	t.Parallel()
	for name, compress := range map[string]bool{"plain": false, "compressed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, c := t.TempDir(), newClock()
			headers := 0
			f := open(t, logfile.Options{
				Path: filepath.Join(dir, "events.jsonl"), Size: 1000, Keep: -1, Compress: compress, Now: c.now,
				Header: func() []byte { headers++; return []byte("header 1\nheader 2\n") },
			})
			var want []string
			for i := range 500 {
				line := fmt.Sprintf("line %d %s", i, strings.Repeat("x", i%150))
				want = append(want, line)
				write(t, f, line)
				c.step(time.Millisecond)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if headers == 0 {
				t.Error("no file was begun")
			}
			var got []string
			for _, line := range lines(t, dir, "events.jsonl") {
				if !strings.HasPrefix(line, "header") {
					got = append(got, line)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d lines, want %d", len(got), len(want))
			}
			without := 0
			for name, text := range read(t, dir) {
				if len(strings.TrimPrefix(text, "header 1\nheader 2\n")) > 1000 {
					t.Errorf("%s has %d bytes", name, len(text))
				}
				if !strings.HasPrefix(text, "header 1\nheader 2\n") {
					without++
				}
			}
			if without != 1 {
				t.Errorf("%d files have no header, want only the first", without)
			}
		})
	}
}

// What is put aside is compressed in the end: nothing is waited for but Close.
func TestCompression(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	path := filepath.Join(dir, "events.jsonl")
	// Left behind by a run that was killed: one plain, and one half compressed.
	for name, text := range map[string]string{
		"events-20261120T000000.000Z.jsonl":         "old\n",
		"events-20261119T000000.000Z.jsonl":         "older\n",
		"events-20261119T000000.000Z.jsonl.gz.part": "half of i",
		"events-latest.jsonl":                       "somebody else's\n",
		"other-20261120T000000.000Z.jsonl":          "somebody else's\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, logfile.Options{Path: path, Compress: true, Now: c.now})
	logfile.Tidied(f)
	want := map[string]string{
		"events.jsonl":                         "",
		"events-20261120T000000.000Z.jsonl.gz": "old\n",
		"events-20261119T000000.000Z.jsonl.gz": "older\n",
		"events-latest.jsonl":                  "somebody else's\n",
		"other-20261120T000000.000Z.jsonl":     "somebody else's\n",
	}
	got := read(t, dir)
	for name, text := range want {
		if is, ok := got[name]; !ok || is != text {
			t.Errorf("%s is %q (there: %t), want %q", name, is, ok, text)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is left", name)
	}
	info, err := os.Stat(filepath.Join(dir, "events-20261120T000000.000Z.jsonl.gz"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the compressed file: %v, %v", info, err)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	f := open(t, logfile.Options{Path: filepath.Join(dir, "events"), Age: time.Hour, Keep: 3, KeepFor: 150 * time.Minute, Now: c.now})
	for i := range 10 {
		write(t, f, fmt.Sprint("hour ", i))
		c.step(time.Hour)
	}
	write(t, f, "hour 10")
	logfile.Tidied(f)
	if got, want := lines(t, dir, "events"), []string{"hour 7", "hour 8", "hour 9", "hour 10"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	c.step(5 * time.Hour)
	write(t, f, "hour 15")
	logfile.Tidied(f)
	if got, want := lines(t, dir, "events"), []string{"hour 10", "hour 15"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

// A header that is larger than a file may be does not put every line in a file of its
// own.
func TestLargeHeader(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	f := open(t, logfile.Options{
		Path: filepath.Join(dir, "events"), Size: 100, Keep: -1, Now: c.now,
		Header: func() []byte { return []byte(strings.Repeat("h", 499) + "\n") },
	})
	for range 40 {
		write(t, f, strings.Repeat("x", 9))
		c.step(time.Millisecond)
	}
	write(t, f, strings.Repeat("long", 100))
	if got := len(read(t, dir)); got != 5 {
		t.Errorf("%d files, want 5", got)
	}
}

// What stood in the file is put aside when it is opened, not written on.
func TestOpenPutsAside(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), newClock()
	real := filepath.Join(dir, "events.jsonl")
	if err := os.WriteFile(real, []byte("an earlier run, cut sho"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	f := open(t, logfile.Options{Path: link, Now: c.now, Header: func() []byte { return []byte("header\n") }})
	write(t, f, "this run")
	got := read(t, dir)
	if got["events-20261122T120000.000Z.jsonl"] != "an earlier run, cut sho" || got["events.jsonl"] != "this run\n" || len(got) != 2 {
		t.Errorf("files: %q", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("the link: %v, %v", info, err)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

// Two that write to one file would put it aside under each other's hands.
func TestOneWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events")
	f := open(t, logfile.Options{Path: path})
	write(t, f, "mine")
	if _, err := logfile.Open(logfile.Options{Path: path}); err == nil || !strings.Contains(err.Error(), "another program writes to it") {
		t.Errorf("got %v", err)
	}
	write(t, f, "mine still")
	if got := read(t, filepath.Dir(path)); got["events"] != "mine\nmine still\n" || len(got) != 1 {
		t.Errorf("files: %q", got)
	}
}

func TestCannotOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{
		"":                                  "log file: no name",
		dir:                                 "not a regular file",
		os.DevNull:                          "not a regular file",
		filepath.Join(dir, "no", "such"):    "no such file or directory",
		filepath.Join(os.DevNull, "beyond"): "not a directory",
	} {
		if f, err := logfile.Open(logfile.Options{Path: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v, want %q", path, f, err, want)
		}
	}
}

// What the tools do that rotate logs is noticed at the next line, which is not lost.
func TestRotatedBySomebodyElse(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		act  func(path string) error
		want map[string]string
	}{
		"renamed": {
			func(path string) error { return os.Rename(path, path+".1") },
			map[string]string{"events.1": "first\n", "events": "header\nsecond\nthird\n"},
		},
		"renamed and created": {
			func(path string) error {
				return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o600))
			},
			map[string]string{"events.1": "first\n", "events": "header\nsecond\nthird\n"},
		},
		"renamed and written to": {
			func(path string) error {
				return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, []byte("theirs\n"), 0o600))
			},
			map[string]string{"events.1": "first\n", "events-20261122T120000.000Z": "theirs\n", "events": "header\nsecond\nthird\n"},
		},
		"removed": {
			os.Remove,
			map[string]string{"events": "header\nsecond\nthird\n"},
		},
		"copied and emptied": {
			func(path string) error { return os.Truncate(path, 0) },
			map[string]string{"events": "header\nsecond\nthird\n"},
		},
		"emptied before a line that was on its way": {
			func(path string) error { return os.Truncate(path, 2) },
			map[string]string{"events-20261122T120000.000Z": "fi", "events": "header\nsecond\nthird\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, c, n := t.TempDir(), newClock(), &notices{}
			path := filepath.Join(dir, "events")
			f := open(t, logfile.Options{Path: path, Now: c.now, Notify: n.take, Header: func() []byte { return []byte("header\n") }})
			write(t, f, "first")
			if err := test.act(path); err != nil {
				t.Fatal(err)
			}
			write(t, f, "second", "third")
			got := read(t, dir)
			for name, text := range test.want {
				if got[name] != text {
					t.Errorf("%s is %q, want %q", name, got[name], text)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("files: %q", got)
			}
			if told := n.told(); len(told) > 0 {
				t.Errorf("told %v", told)
			}
		})
	}
}

// A directory that is gone is trouble: said once, what is lost is counted, and it is
// tried again.
func TestTrouble(t *testing.T) {
	t.Parallel()
	dir, c, n := filepath.Join(t.TempDir(), "logs"), newClock(), &notices{}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, logfile.Options{Path: filepath.Join(dir, "events"), Now: c.now, Notify: n.take, Header: func() []byte { return []byte("header\n") }})
	write(t, f, "first")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	// Looking for old files where there is no directory is no trouble of its own.
	logfile.Tidy(f)
	logfile.Tidied(f)
	for range 105 {
		write(t, f, "lost")
		c.step(100 * time.Millisecond)
	}
	told := n.told()
	if len(told) != 2 || told[0].Err == nil || !strings.Contains(told[0].Err.Error(), "no such file") || told[0].Dropped != 1 || told[1].Dropped != 100 || told[1].Err == nil {
		t.Errorf("told %+v", told)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.step(time.Second)
	write(t, f, "there again")
	if got := read(t, dir)["events"]; got != "header\nthere again\n" {
		t.Errorf("the file is %q", got)
	}
	told = n.told()
	if last := told[len(told)-1]; len(told) != 3 || last.Err != nil || last.Dropped != 4 {
		t.Errorf("told %+v", told)
	}
	// A clock that is set back does not keep it from trying.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	write(t, f, "lost")
	c.step(-24 * time.Hour)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, f, "there")
	if got := read(t, dir)["events"]; got != "header\nthere\n" {
		t.Errorf("the file is %q", got)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	dir, n := t.TempDir(), &notices{}
	f := open(t, logfile.Options{Path: filepath.Join(dir, "events"), Size: 10, Compress: true, Notify: n.take})
	var writing sync.WaitGroup
	for i := range 4 {
		writing.Go(func() {
			for range 100 {
				if _, err := fmt.Fprintf(f, "writer %d\n", i); err != nil && !errors.Is(err, fs.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	writing.Wait()
	if _, err := f.Write([]byte("late\n")); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if told := n.told(); len(told) > 0 {
		t.Errorf("told %v", told)
	}
}
