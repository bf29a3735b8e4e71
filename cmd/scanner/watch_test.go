package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pmezard/go-difflib/difflib"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// hookedWriter calls a function when it has been given a text, once.
type hookedWriter struct {
	mu   sync.Mutex
	got  bytes.Buffer
	text string
	call func()
}

func (h *hookedWriter) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.got.Write(p)
	if h.call != nil && strings.Contains(h.got.String(), h.text) {
		h.call()
		h.call = nil
	}
	return n, err
}

// silentServer is the kubeconfig of an API server that takes connections and says
// nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: slow,
clusters: [{name: slow, cluster: {server: "http://%s"}}], users: [{name: me, user: {}}],
contexts: [{name: slow, context: {cluster: slow, user: me}}]}`, server.Addr())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Who waits for a slow cluster sees that it is waited for, and who stops it then learns
// that there is no picture.
func TestWatchStoppedBeforeItsPicture(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d := testDeps(t.TempDir())
	d.terminalWidth = func(io.Writer) (int, bool) { return 60, true }
	stderr := &hookedWriter{text: "reading the cluster", call: cancel}
	var stdout bytes.Buffer
	code := run(ctx, []string{"watch", "--kubeconfig", silentServer(t)}, strings.NewReader(""), &stdout, stderr, d)
	if code != exitInterrupted || stdout.Len() > 0 {
		t.Errorf("it ends with %d and writes %q", code, &stdout)
	}
	want := "\rreading the cluster\x1b[K" + "\r\x1b[K\r" +
		"escape-scanner: interrupted: the watch was stopped before its first picture was complete\n"
	if got := stderr.got.String(); got != want {
		t.Errorf("stderr is %q, want %q", got, want)
	}
}

// Nothing is written into the line that says how far it has come, and with the picture
// it is gone for good.
func TestBeginning(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := &beginning{w: &out, line: &liveLine{w: &out, width: 40}}
	b.draw(0)
	fmt.Fprintln(b, "a note")
	if err := b.Handle(scan.Event{Progress: &scan.Progress{Pods: 1200}}); err != nil {
		t.Fatal(err)
	}
	b.draw(2 * time.Second)
	if err := b.Handle(scan.Event{Picture: &scan.End{}}); err != nil {
		t.Fatal(err)
	}
	b.draw(3 * time.Second)
	want := "\rreading the cluster\x1b[K" + "\r\x1b[K\r" + "a note\n" + "\rjudging 1200 pods, 2 s\x1b[K" + "\r\x1b[K\r"
	if out.String() != want {
		t.Errorf("wrote %q, want %q", &out, want)
	}
}

// fullDisk is a file on a disk that is full.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}

// What cannot be written is no trouble with the cluster.
func TestWatchOnAFullDisk(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"watch", "--demo", "-n", "ci", "--pace", "0"}, strings.NewReader(""), fullDisk{}, &stderr, testDeps(t.TempDir()))
	if want := "escape-scanner: error: write /dev/stdout: no space left on device\n"; code != exitUsage || stderr.String() != want {
		t.Errorf("it ends with %d and %q, want %q", code, &stderr, want)
	}
}

// What a watch has told, folded, is what a scan tells, to the last field.
func TestWatchOfTheDemoIsItsScan(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"-n", "ci,nowhere", "--level", "restricted"}, {"-n", "ci", "-l", "app.kubernetes.io/name=runner"}, {"-n", "ci", "-l", "app=nothing"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			watched := foldedRun(t, append([]string{"watch", "--demo", "--pace", "0", "-o", "jsonl"}, flags...)...)
			scanned := foldedRun(t, append([]string{"scan", "--demo", "-o", "jsonl", "--fail-on", "none", "--allow-incomplete"}, flags...)...)
			if watched == scanned {
				return
			}
			diff, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
				A: difflib.SplitLines(watched), B: difflib.SplitLines(scanned), FromFile: "watch", ToFile: "scan",
			})
			t.Errorf("a watch does not say what a scan says (%v):\n%.5000s", err, diff)
		})
	}
}

// foldedRun is the picture at the end of what a run writes, without its start and its
// alerts.
func foldedRun(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), testDeps(t.TempDir()), strings.NewReader(""), args...)
	if code != exitOK {
		t.Fatalf("%s ends with %d: %s", args, code, stderr)
	}
	state := scan.NewState()
	if err := report.Replay(strings.NewReader(stdout), state); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	lines := report.NewJSONL(&out)
	for e := range state.Events() {
		if e.Start == nil && e.Alert == nil && e.Lost == nil {
			if err := lines.Handle(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out.String()
}

// An output that takes nothing does not keep a watch that is stopped from ending.
func TestBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		stuck := make(chan struct{})
		began := time.Now()
		time.AfterFunc(time.Hour, cancel)
		err := bounded(ctx, time.Minute, func() error { <-stuck; return nil })
		if took := time.Since(began); !errors.Is(err, errStuck) || took != time.Hour+time.Minute {
			t.Errorf("after %s it ends with %v", took, err)
		}
		close(stuck)
		if err := bounded(ctx, time.Minute, func() error { return io.EOF }); !errors.Is(err, io.EOF) {
			t.Errorf("what ends in time ends with %v", err)
		}
	})
}
