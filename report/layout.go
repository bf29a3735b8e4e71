package report

import (
	"bytes"
	"strings"
)

// style is what goes between ESC [ and m.
type style string

const (
	plain    style = ""
	bold     style = "1"
	dim      style = "2"
	red      style = "31"
	green    style = "32"
	yellow   style = "33"
	cyan     style = "36"
	alarm    style = "1;31"
	doubtful style = "1;35"
)

// span is a piece of a line. Its text is clean.
type span struct {
	text  string
	style style
	// pad is the least number of cells it takes when another span follows.
	pad int
}

// layout writes spans as lines that fit a width.
type layout struct {
	out   bytes.Buffer
	width int
	color bool
}

// narrowest is the width below which lines are not made shorter.
const narrowest = 20

// gap is the number of blanks between two spans.
const gap = 2

// row writes spans from left to right. On a terminal a span that does not fit is
// put on a new line, which begins at hang, and broken only when it does not fit
// there either; without a width all stand on one line.
func (l *layout) row(indent, hang int, spans ...span) {
	if l.width > 0 {
		indent, hang = min(indent, l.width/4), min(hang, l.width/4)
	}
	col, blanks, start := 0, indent, indent
	for _, s := range spans {
		if s.text = strings.Trim(s.text, " "); s.text == "" {
			continue
		}
		w := width(s.text)
		if l.width > 0 && col > start && !l.goesOn(col+blanks, hang, w) {
			l.newline()
			col, blanks, start = 0, hang, hang
		}
		for text := s.text; text != ""; {
			head := text
			if l.width > 0 {
				head, text = cut(text, l.width-col-blanks)
			} else {
				text = ""
			}
			l.blanks(blanks)
			l.paint(head, s.style)
			col += blanks + width(head)
			if text != "" {
				l.newline()
				col, blanks, start = 0, hang, hang
			}
		}
		blanks = gap + max(0, s.pad-w)
	}
	l.newline()
}

// goesOn reports whether a span w cells wide should begin at col: it fits, or it
// would have to be broken in a new line as well and much of it fits here.
func (l *layout) goesOn(col, hang, w int) bool {
	return col+w <= l.width || hang+w > l.width && l.width-col >= narrowest
}

// paint writes text in a style, if there are colours.
func (l *layout) paint(text string, s style) {
	if !l.color || s == plain {
		l.out.WriteString(text)
		return
	}
	l.out.WriteString("\x1b[" + string(s) + "m" + text + "\x1b[0m")
}

func (l *layout) newline() { l.out.WriteByte('\n') }

func (l *layout) blanks(n int) { l.out.WriteString(strings.Repeat(" ", n)) }
