package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// format is a handler under test; the golden file is named after it.
type format struct {
	name string
	make func(io.Writer) scan.Handler
}

func formats() []format {
	table := func(opts TableOptions) func(io.Writer) scan.Handler {
		return func(w io.Writer) scan.Handler { return NewTable(w, opts) }
	}
	return []format{
		{"events.jsonl", NewJSONL},
		{"run.json", NewJSON},
		{"run.sarif", func(w io.Writer) scan.Handler { return NewSARIF(w, sampleSARIF()) }},
		{"table-pipe.txt", table(TableOptions{})},
		{"table-120.txt", table(TableOptions{Width: 120})},
		{"table-80.txt", table(TableOptions{Width: 80})},
		{"table-40.txt", table(TableOptions{Width: 40})},
		{"table-color.txt", table(TableOptions{Width: 100, Color: true})},
	}
}

func sampleSARIF() SARIFOptions {
	return SARIFOptions{
		Rules: scan.Rules(), Version: "v0.1.0",
		InformationURI: "https://github.com/escape-scanner/escape-scanner", Category: "cluster-prod-eu",
	}
}

// write gives events to a handler of a format and returns what it wrote.
func write(t testing.TB, f format, events []scan.Event) []byte {
	t.Helper()
	var out bytes.Buffer
	h := f.make(&out)
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatalf("%s: %v", f.name, err)
		}
	}
	return out.Bytes()
}

func TestGolden(t *testing.T) {
	for _, f := range formats() {
		t.Run(f.name, func(t *testing.T) {
			got := write(t, f, sampleEvents())
			if f.name == "run.sarif" {
				// For people who read the difference.
				var pretty bytes.Buffer
				if err := json.Indent(&pretty, got, "", "  "); err != nil {
					t.Fatal(err)
				}
				got = pretty.Bytes()
			}
			golden := filepath.Join("testdata", f.name)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from its golden file; go test ./report -update writes it anew\n%s", f.name, firstDifference(got, want))
			}
		})
	}
}

func firstDifference(got, want []byte) string {
	g, w := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range min(len(g), len(w)) {
		if !bytes.Equal(g[i], w[i]) {
			return "got:  " + string(g[i]) + "\nwant: " + string(w[i])
		}
	}
	return "one is longer"
}
