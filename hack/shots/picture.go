package main

import (
	"fmt"
	"html"
	"strings"
)

// The measures of a picture, in pixels. A character of DejaVu Sans Mono is 1233/2048 as
// wide as it is high.
const (
	fontSize   = 14.0
	cellWidth  = fontSize * 1233 / 2048
	cellHeight = 19.0
	baseline   = 14.0
	barHeight  = 36.0
	padding    = 14.0
)

// The terminal's own colours.
const (
	paper = "#14181f"
	ink   = "#dde3ec"
	frame = "#20262f"
)

// colours are those that a cell is drawn with.
func (c *cell) colours() (foreground, background string) {
	foreground, background = c.foreground, c.background
	if foreground == "" {
		foreground = ink
	}
	if c.style.reverse {
		if background == "" {
			background = paper
		}
		return background, foreground
	}
	return foreground, background
}

// picture is a page that shows a terminal in a window, and how large it is. Every
// character stands on a grid, so that lines and bars meet.
func picture(grid [][]cell, title string) (page string, width, height int) {
	width = int(2*padding + float64(len(grid[0]))*cellWidth + 0.999)
	height = int(barHeight + 2*padding + float64(len(grid))*cellHeight)
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html><meta charset="utf-8"><style>html,body{margin:0;background:%s}svg{display:block}`+
		`text{font-family:"DejaVu Sans Mono",monospace;font-size:%gpx;white-space:pre;text-rendering:geometricPrecision}</style>`, paper, fontSize)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" shape-rendering="crispEdges">`, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="%s"/><rect width="%d" height="%g" fill="%s"/>`, width, height, paper, width, barHeight, frame)
	for i, color := range []string{"#ff5f57", "#febc2e", "#28c840"} {
		fmt.Fprintf(&b, `<circle cx="%d" cy="%g" r="6" fill="%s" shape-rendering="auto"/>`, 22+20*i, barHeight/2, color)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%g" text-anchor="middle" fill="#9aa4b2" style="font-size:13px">%s</text>`, width/2, barHeight/2+4.5, html.EscapeString(title))
	for y, row := range grid {
		drawRow(&b, row, barHeight+padding+float64(y)*cellHeight)
	}
	b.WriteString("</svg>")
	return b.String(), width, height
}

// drawRow draws one line: first what lies behind it, then what is alike together.
func drawRow(b *strings.Builder, row []cell, top float64) {
	alike := func(same func(x, y *cell) bool, draw func(from, to int)) {
		for from := 0; from < len(row); {
			to := from + 1
			for to < len(row) && same(&row[from], &row[to]) {
				to++
			}
			draw(from, to)
			from = to
		}
	}
	alike(func(x, y *cell) bool {
		_, one := x.colours()
		_, other := y.colours()
		return one == other
	}, func(from, to int) {
		if _, background := row[from].colours(); background != "" {
			rect(b, left(from), top, float64(to-from)*cellWidth, cellHeight, background, 1)
		}
	})
	alike(func(x, y *cell) bool {
		return x.style == y.style && x.foreground == y.foreground && x.background == y.background && drawn(x.text) == drawn(y.text)
	}, func(from, to int) {
		c := &row[from]
		foreground, _ := c.colours()
		if drawn(c.text) {
			for x := from; x < to; x++ {
				block(b, row[x].text, left(x), top, foreground)
			}
			return
		}
		var text strings.Builder
		for _, c := range row[from:to] {
			text.WriteRune(c.text)
		}
		if strings.TrimSpace(text.String()) != "" {
			fmt.Fprintf(b, `<text x="%.3f" y="%.2f" fill="%s"%s>%s</text>`, left(from), top+baseline, foreground, attributes(c.style), html.EscapeString(text.String()))
		}
	})
}

func left(x int) float64 { return padding + float64(x)*cellWidth }

func attributes(s style) string {
	var text strings.Builder
	for _, a := range []struct {
		on   bool
		text string
	}{
		{s.bold, ` font-weight="bold"`}, {s.dim, ` opacity="0.65"`}, {s.italic, ` font-style="italic"`}, {s.underline, ` text-decoration="underline"`},
	} {
		if a.on {
			text.WriteString(a.text)
		}
	}
	return text.String()
}

func rect(b *strings.Builder, x, y, width, height float64, fill string, opacity float64) {
	fmt.Fprintf(b, `<rect x="%.3f" y="%.3f" width="%.3f" height="%.3f" fill="%s"`, x, y, width, height, fill)
	if opacity < 1 {
		fmt.Fprintf(b, ` fill-opacity="%g"`, opacity)
	}
	b.WriteString("/>")
}

// drawn tells whether a character is drawn and not written: those that must meet.
func drawn(r rune) bool { return r >= '▀' && r <= '▓' || r == '─' || r == '│' }

// block draws a character of lines and blocks.
func block(b *strings.Builder, r rune, x, y float64, fill string) {
	switch {
	case r == '─':
		rect(b, x, y+cellHeight/2-0.5, cellWidth, 1, fill, 1)
	case r == '│':
		rect(b, x+cellWidth/2-0.5, y, 1, cellHeight, fill, 1)
	case r == '▀':
		rect(b, x, y, cellWidth, cellHeight/2, fill, 1)
	case r >= '▁' && r <= '█': // The lower eighths.
		height := cellHeight * float64(r-'▁'+1) / 8
		if r == '█' {
			// As tall as letters, so that bars of two lines stay two.
			rect(b, x, y+2, cellWidth, cellHeight-4, fill, 1)
			return
		}
		rect(b, x, y+cellHeight-height, cellWidth, height, fill, 1)
	case r > '█' && r <= '▏': // The left eighths.
		rect(b, x, y+2, cellWidth*float64('▏'-r+1)/8, cellHeight-4, fill, 1)
	case r == '▐':
		rect(b, x+cellWidth/2, y+2, cellWidth/2, cellHeight-4, fill, 1)
	default: // Three shades.
		rect(b, x, y+2, cellWidth, cellHeight-4, fill, []float64{0.22, 0.42, 0.68}[r-'░'])
	}
}
