package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// cell is one character of a terminal. Colours are as CSS writes them, empty for the
// terminal's own.
type cell struct {
	text       rune
	style      style
	foreground string
	background string
}

// style is how a character is drawn.
type style struct{ bold, dim, italic, underline, reverse bool }

// sequence is a sequence that changes how is drawn: the only ones that tmux writes.
var sequence = regexp.MustCompile(`\x1b\[([\d;:]*)m|\x1b\([A-Z0-9]|[\x0e\x0f]`)

// plain is a screen without its sequences.
func plain(screen string) string { return sequence.ReplaceAllString(screen, "") }

// parse reads a screen of tmux into its cells.
func parse(screen string, columns, rows int) [][]cell {
	grid := make([][]cell, rows)
	pen := cell{}
	lines := strings.Split(screen, "\n")
	for y := range grid {
		grid[y] = make([]cell, columns)
		for x := range grid[y] {
			grid[y][x].text = ' '
		}
		if y >= len(lines) {
			continue
		}
		x, at := 0, 0
		line := lines[y]
		put := func(text string) {
			for _, r := range text {
				if x < columns {
					grid[y][x] = pen
					grid[y][x].text = r
				}
				x++
			}
		}
		for _, found := range sequence.FindAllStringSubmatchIndex(line, -1) {
			put(line[at:found[0]])
			at = found[1]
			if found[2] >= 0 {
				pen.change(line[found[2]:found[3]])
			}
		}
		put(line[at:])
	}
	return grid
}

// change takes in the numbers of a sequence.
func (c *cell) change(numbers string) {
	parts := strings.FieldsFunc(numbers, func(r rune) bool { return r == ';' || r == ':' })
	if len(parts) == 0 {
		parts = []string{"0"}
	}
	for i := 0; i < len(parts); i++ {
		n, _ := strconv.Atoi(parts[i])
		switch {
		case n == 0:
			*c = cell{}
		case n == 1:
			c.style.bold = true
		case n == 2:
			c.style.dim = true
		case n == 3:
			c.style.italic = true
		case n == 4:
			c.style.underline = true
		case n == 7:
			c.style.reverse = true
		case n == 22:
			c.style.bold, c.style.dim = false, false
		case n == 27:
			c.style.reverse = false
		case n >= 30 && n <= 37:
			c.foreground = indexed(n - 30)
		case n >= 90 && n <= 97:
			c.foreground = indexed(n - 90 + 8)
		case n >= 40 && n <= 47:
			c.background = indexed(n - 40)
		case n >= 100 && n <= 107:
			c.background = indexed(n - 100 + 8)
		case n == 39:
			c.foreground = ""
		case n == 49:
			c.background = ""
		case n == 38 || n == 48:
			color, used := extended(parts[i+1:])
			i += used
			if n == 38 {
				c.foreground = color
			} else {
				c.background = color
			}
		}
	}
}

// extended reads one of 256 colours, or one of all, and how many numbers it took.
func extended(parts []string) (color string, used int) {
	number := func(i int) int {
		if i >= len(parts) {
			return 0
		}
		n, _ := strconv.Atoi(parts[i])
		return n
	}
	switch number(0) {
	case 5:
		return indexed(number(1)), 2
	case 2:
		return fmt.Sprintf("#%02x%02x%02x", number(1), number(2), number(3)), 4
	}
	return "", len(parts)
}

// indexed is one of 256 colours.
func indexed(n int) string {
	basic := []string{
		"#3b4252", "#ff7b72", "#57d38c", "#e3b341", "#6cb6ff", "#d2a8ff", "#76e3ea", "#d8dee9",
		"#6e7681", "#ffa198", "#7ee2a8", "#f0c674", "#91cbff", "#e2c5ff", "#a5f0f5", "#ffffff",
	}
	switch {
	case n < len(basic):
		return basic[n]
	case n >= 232:
		grey := 8 + 10*(n-232)
		return fmt.Sprintf("#%02x%02x%02x", grey, grey, grey)
	}
	level := func(n int) int {
		if n == 0 {
			return 0
		}
		return 55 + 40*n
	}
	n -= 16
	return fmt.Sprintf("#%02x%02x%02x", level(n/36), level(n/6%6), level(n%6))
}
