//go:build linux || darwin

package logfile_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink/logfile"
)

// inside tells the child process of the test below where to write.
const inside = "LOGFILE_TEST_DIR"

// A disk that is full is stood for by the limit on the size of files: the system
// writes as much of a line as fits, and then nothing. The limit is of a process, so the
// test has one of its own.
func TestFull(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(inside); dir != "" {
		fillUp(t, dir)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestFull$")
	child.Env = append(os.Environ(), inside+"="+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func limit(t *testing.T, bytes uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = min(bytes, l.Max)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		t.Fatal(err)
	}
}

func fillUp(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	c, n := newClock(), &notices{}
	header := "header\n"
	f := open(t, logfile.Options{Path: filepath.Join(dir, "events"), Now: c.now, Notify: n.take, Header: func() []byte { return []byte(header) }})
	limit(t, 100)
	for i := range 12 {
		write(t, f, fmt.Sprintf("line %d of 15 byte", i))
	}
	// 19 bytes a line: five are whole, and nothing is left of the sixth.
	text := read(t, dir)["events"]
	if strings.Count(text, "\n") != 5 || !strings.HasSuffix(text, "line 4 of 15 byte\n") {
		t.Fatalf("the full file is %q", text)
	}
	told := n.told()
	if len(told) != 1 || told[0].Err == nil || !strings.Contains(told[0].Err.Error(), "file too large") || told[0].Dropped != 1 {
		t.Fatalf("told %+v", told)
	}
	// There is room again, and lines are missing: what comes next begins with the picture.
	c.step(time.Second)
	write(t, f, "line 12")
	if got := read(t, dir); got["events"] != "header\nline 12\n" || got["events-20261122T120001.000Z"] != text {
		t.Fatalf("files: %q", got)
	}
	if told = n.told(); len(told) != 2 || told[1].Err != nil || told[1].Dropped != 6 {
		t.Fatalf("told %+v", told)
	}
	// Not even the picture fits: nothing is written without it.
	limit(t, 8)
	header = "a picture that does not fit\n"
	for i := range 5 {
		write(t, f, fmt.Sprint("lost ", i))
		c.step(2 * time.Second)
	}
	if got := read(t, dir); got["events"] != "" || got["events-20261122T120003.000Z"] != "header\nline 12\n" {
		t.Fatalf("files: %q", got)
	}
	limit(t, 1<<40)
	write(t, f, "found")
	if got := read(t, dir); got["events"] != header+"found\n" || len(got) != 3 {
		t.Fatalf("files: %q", got)
	}
	dropped := 0
	for _, one := range n.told() {
		dropped += one.Dropped
	}
	if dropped != 7+5 {
		t.Errorf("%d lines are said to be lost, want 12", dropped)
	}
}
