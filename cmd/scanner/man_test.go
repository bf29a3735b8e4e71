package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commandPaths are the commands that the help shows, each as its words.
func commandPaths(t *testing.T) []string {
	t.Helper()
	root := (&app{deps: testDeps("")}).rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	var paths []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		paths = append(paths, cmd.CommandPath())
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(root)
	if len(paths) < 20 {
		t.Fatalf("only %d commands found: %q", len(paths), paths)
	}
	return paths
}

// writeMan writes the pages and gives the directory.
func writeMan(t *testing.T, environ ...string) string {
	t.Helper()
	dir := t.TempDir()
	d := testDeps(dir)
	d.environ = environ
	if code, _, stderr := invoke(t.Context(), d, nil, "man", "man1"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	return filepath.Join(dir, "man1")
}

func TestManPages(t *testing.T) {
	t.Parallel()
	home, _ := os.UserHomeDir() // Without a home there is none to leak.
	dir := writeMan(t)
	want := map[string]bool{}
	for _, path := range commandPaths(t) {
		name := strings.ReplaceAll(path, " ", "-") + ".1"
		want[name] = true
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, part := range []string{".TH", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", `"Nov 2026" "escape-scanner v1.2.3"`} {
			if !bytes.Contains(page, []byte(part)) {
				t.Errorf("%s: no %s", name, part)
			}
		}
		if len(home) > 1 && bytes.Contains(page, []byte(home)) {
			t.Errorf("%s shows the home directory of who built it", name)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("%s is the page of no command", e.Name())
		}
	}
}

// The same build gives the same pages, whenever they are written.
func TestManPagesDate(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(writeMan(t, "SOURCE_DATE_EPOCH=1000000000"), "escape-scanner.1"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, []byte(`"Sep 2001"`)) {
		t.Errorf("SOURCE_DATE_EPOCH is not in the page:\n%.300s", page)
	}
	d := testDeps(t.TempDir())
	d.environ = []string{"SOURCE_DATE_EPOCH=yesterday"}
	if code, _, stderr := invoke(t.Context(), d, nil, "man", "."); code != exitUsage || !strings.Contains(stderr, `SOURCE_DATE_EPOCH "yesterday"`) {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// A formatter of manual pages takes them without a warning.
func TestManPagesAreFormatted(t *testing.T) {
	t.Parallel()
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	dir := writeMan(t)
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Tutf8", "-ww", "-z"}, pages...)...)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Errorf("%v\n%s", err, stderr.Bytes())
	}
}
