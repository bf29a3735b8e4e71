package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that is open already, such as /dev/stdout, is written in place, whatever
// is at its other end: a pipe, or a regular file into which the shell redirects.
func TestOutputToAnOpenFile(t *testing.T) {
	if _, err := os.Stat("/dev/fd/0"); err != nil {
		t.Skip("this system has no /dev/fd")
	}
	scanTo := func(f *os.File) {
		t.Helper()
		code, _, stderr := invoke(t.Context(), testDeps(""), strings.NewReader(badPod),
			"scan", "-f", "-", "-o", fmt.Sprintf("jsonl=/dev/fd/%d", f.Fd()))
		if code != exitFindings {
			t.Fatalf("exit code %d, %s", code, stderr)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	scanTo(w)
	_ = w.Close()
	if out, err := io.ReadAll(r); err != nil || !strings.Contains(string(out), `{"end":`) {
		t.Errorf("the pipe has %q, %v", out, err)
	}

	path := filepath.Join(t.TempDir(), "redirected")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, "written before\n"); err != nil {
		t.Fatal(err)
	}
	scanTo(f)
	out, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(out), "written before\n{\"start\":") || !strings.Contains(string(out), `{"end":`) {
		t.Errorf("the file has %q, %v", out, err)
	}
}
