package report

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

func BenchmarkFormats(b *testing.B) {
	const findings = 50_000
	events := manyFindings(findings)
	for _, f := range []format{
		{"jsonl", NewJSONL},
		{"json", NewJSON},
		{"sarif", func(w io.Writer) scan.Handler { return NewSARIF(w, SARIFOptions{}) }},
		{"table", func(w io.Writer) scan.Handler { return NewTable(w, TableOptions{Width: 120}) }},
	} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h := f.make(io.Discard)
				for _, e := range events {
					if err := h.Handle(e); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/findings, "µs/finding")
		})
	}
}

// BenchmarkLayers is of runs in which each workload has a path, its layers and a
// policy that does not bite there.
func BenchmarkLayers(b *testing.B) {
	const workloads = 10_000
	events := manyLayers(workloads)
	for _, f := range []format{
		{"jsonl", NewJSONL},
		{"sarif", func(w io.Writer) scan.Handler { return NewSARIF(w, SARIFOptions{}) }},
		{"table", func(w io.Writer) scan.Handler { return NewTable(w, TableOptions{Width: 120}) }},
		{"explain", func(w io.Writer) scan.Handler { return NewExplain(w, "ns-1/Deployment/app-1", 120) }},
	} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h := f.make(io.Discard)
				for _, e := range events {
					if err := h.Handle(e); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/workloads, "µs/workload")
		})
	}
}

// manyLayers repeats the workload of the sample that has the most to say.
func manyLayers(n int) []scan.Event {
	events := []scan.Event{{Start: &scan.Start{Schema: 1, Tool: "escape-scanner"}}}
	for i := range n {
		w := scan.Workload{Namespace: fmt.Sprintf("ns-%d", i%50), Kind: "Deployment", Name: fmt.Sprintf("app-%d", i)}
		for _, e := range layeredReport() {
			if e.Finding != nil {
				e.Finding.Workload = w
			}
			if e.Verdict != nil {
				e.Verdict.Workload = w
				e.Verdict.Layers.Runtime.Toothless[0].Mend = fmt.Sprintf("do the work of prepare-%d elsewhere", i)
			}
			events = append(events, e)
		}
	}
	events = append(events, layeredFindings()...)
	return append(events, scan.Event{End: &scan.End{Workloads: n}})
}

func BenchmarkReplay(b *testing.B) {
	saved := write(b, format{"jsonl", NewJSONL}, manyFindings(50_000))
	b.SetBytes(int64(len(saved)))
	for b.Loop() {
		if err := Replay(bytes.NewReader(saved), discard()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatchLog is a storm: batches of twenty workloads each of which changes its
// verdict and a finding.
func BenchmarkWatchLog(b *testing.B) {
	const rows = 10_000
	picture := []scan.Event{{Start: &scan.Start{Watch: true}}}
	for i := range rows {
		picture = append(picture, scan.Event{Verdict: watchVerdict(fmt.Sprint("app-", i), "", scan.VerdictClosed)})
	}
	h := NewWatchText(io.Discard, WatchTextOptions{Width: 100})
	for _, e := range append(picture, scan.Event{Picture: &scan.End{}}) {
		if err := h.Handle(e); err != nil {
			b.Fatal(err)
		}
	}
	now, i := sampleTime(), 0
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100 * time.Millisecond)
		for range 20 {
			name, verdict := fmt.Sprint("app-", i%rows), scan.VerdictExposed
			if i/rows%2 == 1 {
				verdict = scan.VerdictClosed
			}
			i++
			for _, e := range []scan.Event{{Time: now, Finding: watchFinding(name, fmt.Sprint("rule-", i%3), scan.SeverityHigh)}, {Time: now, Verdict: watchVerdict(name, "", verdict)}} {
				if err := h.Handle(e); err != nil {
					b.Fatal(err)
				}
			}
		}
		if err := h.Flush(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/20, "µs/workload")
}
