package report

import (
	"bytes"
	"io"
	"testing"

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

func BenchmarkReplay(b *testing.B) {
	saved := write(b, format{"jsonl", NewJSONL}, manyFindings(50_000))
	b.SetBytes(int64(len(saved)))
	for b.Loop() {
		if err := Replay(bytes.NewReader(saved), discard()); err != nil {
			b.Fatal(err)
		}
	}
}
