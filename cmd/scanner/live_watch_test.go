package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// watched is a watch in a process of its own, and what it has told so far.
type watched struct {
	testing.TB
	cmd    *exec.Cmd
	stderr kubetest.Buffer
	// over is closed once the program has ended, with err.
	over chan struct{}
	err  error

	mu      sync.Mutex
	changed *sync.Cond
	lines   bytes.Buffer
	state   *scan.State
	picture bool
	closed  bool
	// told are the hooks for each event.
	told []func(scan.Event, time.Time)
}

// startWatch starts a watch of the cluster with events on its standard output.
func startWatch(tb testing.TB, config *rest.Config, args ...string) *watched {
	tb.Helper()
	w := &watched{TB: tb, state: scan.NewState(), over: make(chan struct{})}
	w.changed = sync.NewCond(&w.mu)
	args = append([]string{"watch", "--kubeconfig", kubetest.Kubeconfig(tb, config), "-o", "jsonl"}, args...)
	w.cmd = exec.CommandContext(tb.Context(), os.Args[0], args...)
	w.cmd.Env = []string{asProgram + "=1", "HOME=" + tb.TempDir(), "GOTRACEBACK=all"}
	w.cmd.Stderr = &w.stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go w.read(out)
	tb.Cleanup(func() {
		select {
		case <-w.over:
		default:
			_ = w.cmd.Process.Kill()
			tb.Logf("the watch was killed: %v", w.wait())
		}
		if tb.Failed() {
			tb.Logf("the watch said:\n%s", w.said())
		}
	})
	return w
}

func (w *watched) said() string {
	return w.stderr.String()
}

// read takes in what the watch tells, as long as it tells.
func (w *watched) read(out io.Reader) {
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		at := time.Now()
		if len(line) > 0 {
			w.take(line, at)
		}
		if err != nil {
			break
		}
	}
	w.mu.Lock()
	w.closed = true
	w.changed.Broadcast()
	w.mu.Unlock()
	w.err = w.cmd.Wait()
	close(w.over)
}

// wait waits for the end of the program and gives its error.
func (w *watched) wait() error {
	<-w.over
	return w.err
}

func (w *watched) take(line []byte, at time.Time) {
	var e scan.Event
	if err := json.Unmarshal(line, &e); err != nil {
		w.Errorf("the watch wrote %q: %v", line, err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines.Write(line)
	_ = w.state.Handle(e)
	w.picture = w.picture || e.Picture != nil
	for _, f := range w.told {
		f(e, at)
	}
	w.changed.Broadcast()
}

// until waits until what was told satisfies the condition.
func (w *watched) until(what string, ok func(*scan.State) bool) {
	w.Helper()
	expire := time.AfterFunc(2*time.Minute, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.closed = true
		w.changed.Broadcast()
	})
	defer expire.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ok(w.state) {
		if w.closed {
			w.Fatalf("the watch never told: %s", what)
		}
		w.changed.Wait()
	}
}

// untilPicture waits for the first picture.
func (w *watched) untilPicture() {
	w.Helper()
	w.until("the first picture", func(*scan.State) bool { return w.picture })
}

// stop ends the watch as a cluster does, and gives its exit code.
func (w *watched) stop() int {
	w.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.Fatal(err)
	}
	if err := w.wait(); err != nil {
		w.Logf("the watch ended with: %v", err)
	}
	return w.cmd.ProcessState.ExitCode()
}

// pictureOf are the lines of a picture: what is there, but for what tells the time.
func pictureOf(events func(func(scan.Event) bool)) []string {
	var lines []string
	for e := range events {
		if e.Start != nil || e.Alert != nil || e.Lost != nil {
			continue
		}
		if e.Node != nil && e.Node.Enforcement != nil {
			node := *e.Node
			enforcement := *node.Enforcement
			enforcement.Evidence = slices.Clone(enforcement.Evidence)
			for i := range enforcement.Evidence {
				enforcement.Evidence[i].AgeSeconds = 0
				if !strings.HasPrefix(enforcement.Evidence[i].Source, "node label") {
					// It was seen at the time of the reading.
					enforcement.Evidence[i].Observed = nil
				}
			}
			node.Enforcement, e.Node = &enforcement, &node
		}
		text, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		lines = append(lines, string(text))
	}
	return lines
}

// now is the picture that the watch has told so far.
func (w *watched) now() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return pictureOf(w.state.Events())
}

// scanned is what a scan says now.
func scanned(tb testing.TB, config *rest.Config, args ...string) []string {
	tb.Helper()
	args = append([]string{"scan", "--kubeconfig", kubetest.Kubeconfig(tb, config), "-o", "jsonl", "--fail-on", "none", "--allow-incomplete"}, args...)
	code, stdout, stderr := invoke(tb.Context(), testDeps(tb.TempDir()), strings.NewReader(""), args...)
	if code != exitOK {
		tb.Fatalf("scan ends with %d: %s", code, stderr)
	}
	state := scan.NewState()
	if err := report.Replay(strings.NewReader(stdout), state); err != nil {
		tb.Fatal(err)
	}
	return pictureOf(state.Events())
}

// untilEqual waits until the watch says exactly what a scan says.
func (w *watched) untilEqual(config *rest.Config, args ...string) {
	w.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for ; ; <-again.C {
		told, fresh := w.now(), scanned(w, config, args...)
		if slices.Equal(told, fresh) {
			return
		}
		if time.Now().After(deadline) {
			diff, _ := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{A: withEnds(told), B: withEnds(fresh), FromFile: "watch", ToFile: "scan"})
			if len(diff) > 20_000 {
				diff = diff[:20_000] + "…"
			}
			w.Fatalf("the watch never says what a scan says:\n%s", diff)
		}
	}
}

func withEnds(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l + "\n"
	}
	return out
}

// peakRSS is the most memory that the process has had, in MiB.
func (w *watched) peakRSS() float64 {
	w.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	w.Fatal("the kernel does not say how much memory the process had")
	return 0
}

// percentile is the value below which so much of the list lies.
func percentile(list []time.Duration, share float64) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// replayable reads back what the watch wrote, as --from does.
func replayable(w *watched) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return report.Replay(bytes.NewReader(w.lines.Bytes()), scan.NewState())
}

// sortedKeys are the keys of a map, for messages.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
