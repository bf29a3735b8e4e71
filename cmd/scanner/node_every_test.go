package main

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// stopAfter calls stop when so many lines were written.
type stopAfter struct {
	lines int
	stop  func()

	mu   sync.Mutex
	text bytes.Buffer
}

func (s *stopAfter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	if s.lines -= bytes.Count(p, []byte("\n")); s.lines <= 0 {
		s.stop()
	}
	return len(p), nil
}

// The node probe reports at once and again, a line each, and ends well when it is stopped.
func TestNodeEvery(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out := &stopAfter{lines: 2, stop: cancel}
	var stderr bytes.Buffer
	code := run(ctx, []string{"node", "--every", "1s", "--load=false", "--name", "n1"}, nil, out, &stderr, testDeps(t.TempDir()))
	lines := bytes.Split(bytes.TrimSpace(out.text.Bytes()), []byte("\n"))
	if code != exitOK || len(lines) != 2 || stderr.Len() > 0 {
		t.Fatalf("exit %d, %d lines: %s", code, len(lines), stderr.String())
	}
	for _, line := range lines {
		var m kernel.Machine
		if err := json.Unmarshal(line, &m); err != nil || m.Node != "n1" || m.EverySeconds != 1 || m.Conclusion == "" {
			t.Errorf("have %s (%v)", line, err)
		}
	}
}
