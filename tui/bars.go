package tui

import (
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// bar is so much of a whole as a bar, the whole being so many cells. What is not nothing
// is seen.
func bar(n, whole, cells int) string {
	if n <= 0 || whole <= 0 || cells <= 0 {
		return ""
	}
	const parts = " ▏▎▍▌▋▊▉"
	eighths := max(1, min(n, whole)*cells*8/whole)
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune(parts)[rest])
	}
	return text
}

// stacked is one part of a bar of several. Its glyph is its own, so that it can be told
// from its neighbours without colours.
type stacked struct {
	n     int
	glyph string
	style lipgloss.Style
	word  string
}

// stack draws parts side by side in so many cells, in proportion. What is not nothing has
// a cell at least, as long as there are cells enough.
func stack(parts []stacked, cells int) string {
	var b strings.Builder
	for i, n := range shares(parts, cells) {
		if n > 0 {
			b.WriteString(parts[i].style.Render(strings.Repeat(parts[i].glyph, n)))
		}
	}
	return b.String()
}

// shares are the cells of each part.
func shares(parts []stacked, cells int) []int {
	whole, some := 0, 0
	for _, p := range parts {
		if p.n > 0 {
			whole += p.n
			some++
		}
	}
	out := make([]int, len(parts))
	if whole == 0 || cells < some {
		return out
	}
	left := cells - some
	given := 0
	for i, p := range parts {
		if p.n > 0 {
			out[i] = 1 + left*p.n/whole
			given += out[i]
		}
	}
	// What rounding left goes where most is.
	for ; given < cells; given++ {
		most := -1
		for i, p := range parts {
			if p.n > 0 && (most < 0 || p.n*out[most] > parts[most].n*out[i]) {
				most = i
			}
		}
		out[most]++
	}
	return out
}

// folded folds counts into so many cells, the latest in the last: cells that stand for
// several have their sum, and the oldest may stand for fewer.
func folded(counts []int, cells int) []int {
	if cells <= 0 || len(counts) == 0 {
		return nil
	}
	each := (len(counts) + cells - 1) / cells
	out := make([]int, (len(counts)+each-1)/each)
	for i, n := range counts {
		back := (len(counts) - 1 - i) / each
		out[len(out)-1-back] += n
	}
	return out
}

// sparkline draws counts as columns of so many rows, the upper row first. What is not
// nothing is seen, and nothing is a blank.
func sparkline(counts []int, rows int) []string {
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	levels := []rune(" ▁▂▃▄▅▆▇█")
	lines := make([]string, rows)
	for row := range rows {
		var b strings.Builder
		floor := (rows - 1 - row) * 8
		for _, n := range counts {
			height := 0
			if n > 0 {
				height = max(1, n*rows*8/most)
			}
			b.WriteRune(levels[max(0, min(8, height-floor))])
		}
		lines[row] = b.String()
	}
	return lines
}
