package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
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
		{"body.html", htmlFormat().make},
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

// samples are the runs that golden files are of, by the beginnings of their names:
// one in which only specs were judged, one with the layers, one with alerts, and a fleet.
func samples(t testing.TB) map[string][]scan.Event {
	return map[string][]scan.Event{"": sampleEvents(), "layers-": layeredEvents(), "audit-": auditEvents(), "fleet-": fleetEvents(t)}
}

// explained are the workloads of which golden files have the reasoning, by the names
// of the files.
func explanations() map[string]string {
	return map[string]string{
		"explain-exposed": "kube-system/daemonset/node-agent",
		"explain-partly":  "batch/CronJob/report",
		"explain-guarded": "shop/Deployment/checkout",
		"explain-unknown": "payments/Deployment/ledger",
		"explain-closed":  "web/Deployment/site-00",
		"explain-sealed":  "web/Deployment/site-10",
		"explain-evil":    "team-a/Pod/" + evil,
	}
}

func TestGolden(t *testing.T) {
	for prefix, events := range samples(t) {
		for _, f := range formats() {
			t.Run(prefix+f.name, func(t *testing.T) {
				compareGolden(t, prefix+f.name, readable(t, f.name, write(t, f, events)))
			})
		}
	}
	for name, workload := range explanations() {
		for _, width := range []int{0, 40, 100} {
			file := fmt.Sprintf("%s-%d.txt", name, width)
			t.Run(file, func(t *testing.T) {
				compareGolden(t, file, write(t, explains(workload, width), layeredEvents()))
			})
		}
	}
}

// readable is output for people who read the difference.
func readable(t *testing.T, name string, out []byte) []byte {
	t.Helper()
	switch name {
	case "run.sarif":
	case "body.html":
		// The head and the foot are the same in all of them.
		_, body, _ := bytes.Cut(out, []byte("<body>\n"))
		body, _, _ = bytes.Cut(body, []byte("\n<script>"))
		return append(body, '\n')
	default:
		return out
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, out, "", "  "); err != nil {
		t.Fatal(err)
	}
	return pretty.Bytes()
}

// explains is the reasoning about a workload as a format.
func explains(workload string, width int) format {
	return format{"explain", func(w io.Writer) scan.Handler { return NewExplain(w, workload, width) }}
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	golden := filepath.Join("testdata", name)
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
		t.Errorf("%s differs from its golden file; go test ./report -update writes it anew\n%s", name, firstDifference(got, want))
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
