package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// NewProgress returns a handler that keeps one line on a terminal saying how far
// the scan has come. Any other event wipes the line, so that what is written
// next begins on a clean one: put it before the handlers that write.
func NewProgress(w io.Writer) scan.Handler {
	return &progress{w: w}
}

type progress struct {
	w     io.Writer
	drawn string
}

func (p *progress) Handle(e scan.Event) error {
	line := ""
	if e.Progress != nil {
		line = progressLine(e.Progress)
	}
	if line == p.drawn {
		return nil
	}
	out := "\r" + line
	if left := len(p.drawn) - len(line); left > 0 {
		out += strings.Repeat(" ", left) + strings.Repeat("\b", left)
	}
	if line == "" {
		out = "\r" + strings.Repeat(" ", len(p.drawn)) + "\r"
	}
	p.drawn = line
	if _, err := io.WriteString(p.w, out); err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	return nil
}

// progressLine is ASCII and shorter than the narrowest terminal.
func progressLine(p *scan.Progress) string {
	parts := []string{fmt.Sprintf("%d pods", p.Pods)}
	if p.Documents > 0 {
		parts[0] = fmt.Sprintf("%d documents", p.Documents)
	}
	if p.Remaining > 0 {
		parts = append(parts, fmt.Sprintf("about %d left", p.Remaining))
	} else if p.Workloads > 0 {
		parts = append(parts, fmt.Sprintf("%d workloads", p.Workloads))
	}
	return strings.Join(parts, ", ")
}
