package tui

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
)

// clean makes text harmless and cuts it to so many cells. Everything that did not come
// out of this program passes through it, or through report.Clean, before it is drawn.
func clean(s string, cells int) string { return report.Shorten(s, cells) }

// cell is clean text in exactly so many cells.
func cell(s string, cells int) string { return pad(clean(s, cells), cells) }

// pad fills drawn text up with blanks; what is longer is cut.
func pad(s string, cells int) string {
	w := ansi.StringWidth(s)
	if w > cells {
		return ansi.Truncate(s, max(cells, 0), "")
	}
	return s + strings.Repeat(" ", cells-w)
}

// right is clean text at the right end of so many cells.
func right(s string, cells int) string {
	s = clean(s, cells)
	return strings.Repeat(" ", max(0, cells-ansi.StringWidth(s))) + s
}

// wrap breaks text into lines of so many cells, cleaned.
func wrap(s string, cells int) []string {
	return strings.Split(ansi.Wrap(report.Clean(s), max(cells, 1), "-/"), "\n")
}

// wrapAt is wrap with a beginning before the first line, and as many blanks before the
// others. The beginning is drawn already.
func wrapAt(begin, s string, style lipgloss.Style, cells int) []string {
	indent := ansi.StringWidth(begin)
	lines := wrap(s, cells-indent)
	for i, line := range lines {
		if i > 0 {
			begin = strings.Repeat(" ", indent)
		}
		lines[i] = begin + style.Render(line)
	}
	return lines
}

// counted is a number with its word: "1 pod", "2 pods".
func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if stem, ok := strings.CutSuffix(word, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// ago is how long something is past, in one unit.
func ago(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case then.IsZero():
		return "-"
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// joinFit joins pieces with two blanks as long as they fit; the rest is left out.
func joinFit(cells int, pieces ...string) string {
	var b strings.Builder
	used := 0
	for _, p := range pieces {
		w := ansi.StringWidth(p)
		if used > 0 {
			w += 2
		}
		if p == "" || used+w > cells {
			continue
		}
		if used > 0 {
			b.WriteString("  ")
		}
		b.WriteString(p)
		used += w
	}
	return b.String()
}
