package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
)

// The demo is the first thing that anybody sees: what it looks like is looked at
// whenever it changes. go test ./cmd/scanner -update writes the golden files anew.
func TestDemoLooksAs(t *testing.T) {
	for name, width := range map[string]int{"pipe": 0, "120": 120, "80": 80, "40": 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := testDeps("")
			d.environ = []string{"NO_COLOR=1"}
			d.terminalWidth = func(io.Writer) (int, bool) { return width, width > 0 }
			code, got, stderr := invoke(t.Context(), d, nil, "scan", "--demo", "--fail-on", "none")
			if code != exitOK || strings.Trim(stderr, "\r\b 0123456789pods") != "" {
				t.Fatalf("exit code %d, stderr %q", code, stderr)
			}
			for line := range strings.Lines(got) {
				if width > 0 && uniseg.StringWidth(strings.TrimSuffix(line, "\n")) > width {
					t.Errorf("wider than %d: %q", width, line)
				}
			}
			golden := filepath.Join("testdata", "demo-"+name+".txt")
			if *updateScripts {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got == string(want) {
				return
			}
			a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
			for i := range a {
				if i == len(b) || a[i] != b[i] {
					t.Fatalf("line %d differs from %s; go test ./cmd/scanner -update writes it anew\ngot  %s\nwant %s", i+1, golden, a[i], strings.Join(b[i:min(i+1, len(b))], ""))
				}
			}
			t.Errorf("%s goes on with\n%s", golden, strings.Join(b[len(a):], "\n"))
		})
	}
}
