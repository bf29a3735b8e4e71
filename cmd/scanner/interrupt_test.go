package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// interruptingReader gives a text, and then presses Ctrl-C and waits for what
// follows, as a pipe does whose writer is slow.
type interruptingReader struct {
	text      io.Reader
	interrupt context.CancelFunc
	done      <-chan struct{}
}

func (r *interruptingReader) Read(p []byte) (int, error) {
	n, err := r.text.Read(p)
	if err != io.EOF {
		return n, err
	}
	r.interrupt()
	<-r.done
	return 0, io.EOF
}

// Ctrl-C ends every format properly, and each says that it is not whole.
func TestInterrupted(t *testing.T) {
	schemas := loadSchemas(t)
	for format, check := range map[string]struct{ valid, want string }{
		"table": {"", "INTERRUPTED  the scan was stopped before its end."},
		"json":  {"events", `"interrupted": true`},
		"jsonl": {"events", `"interrupted":true}}` + "\n"},
		"sarif": {"sarif", `"executionSuccessful":false`},
	} {
		t.Run(format, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stdin := &interruptingReader{strings.NewReader(badPod + "---\n"), cancel, t.Context().Done()}
			code, stdout, stderr := invoke(ctx, testDeps(""), stdin, "scan", "-f", "-", "-o", format, "--fail-on", "none", "--allow-incomplete")
			if code != exitInterrupted {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(stdout, check.want) {
				t.Errorf("%q is missing in %s", check.want, stdout)
			}
			if check.valid != "" {
				if err := schemas.validate(check.valid, stdout); err != nil {
					t.Error(err)
				}
			}
			if stderr != "escape-scanner: interrupted: the scan was stopped before its end: the result is not whole\n" {
				t.Errorf("stderr %q", stderr)
			}
		})
	}
}

// A run that is interrupted before it began says no more than that, and leaves no
// files.
func TestInterruptedAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{{"--demo"}, {"--kubeconfig", "testdata/missing"}} {
		dir := t.TempDir()
		code, _, stderr := invoke(ctx, testDeps(dir), nil, append([]string{"scan", "-o", "json=out.json"}, args...)...)
		if code != exitInterrupted {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 && !strings.Contains(stderr, "not whole") {
			t.Errorf("%v: left %v", args, left)
		}
		if strings.Contains(stderr, "context canceled") {
			t.Errorf("%v: %s", args, stderr)
		}
	}
}
