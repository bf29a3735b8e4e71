package tui

import (
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

// stop is something on a page that can be opened or copied.
type stop struct {
	// id finds it again when the page is made anew.
	id string
	// act is what opening it sends, nil for nothing.
	act tea.Msg
	// what names it, and text is what is copied of it, with fix for what mends it.
	what, text, fix string
}

// pageLine is a drawn line. Its first cell is blank: the cursor's mark stands there.
// Lines of one stop follow each other.
type pageLine struct {
	text string
	stop *stop
}

// pageText is a column that is being written.
type pageText struct {
	lines []pageLine
	width int
}

// add adds a drawn line.
func (w *pageText) add(text string, at *stop) { w.lines = append(w.lines, pageLine{text, at}) }

// wrapped adds text in as many lines as it needs, all of one stop.
func (w *pageText) wrapped(begin, text string, style lipgloss.Style, at *stop) {
	for _, line := range wrapAt(begin, text, style, w.width) {
		w.add(line, at)
	}
}

// joined adds drawn pieces side by side, in as many lines as they need.
func (w *pageText) joined(begin string, at *stop, pieces ...string) {
	line := begin
	for i, p := range pieces {
		switch {
		case i == 0:
			line += p
		case ansi.StringWidth(line)+2+ansi.StringWidth(p) <= w.width:
			line += "  " + p
		default:
			w.add(line, at)
			line = strings.Repeat(" ", ansi.StringWidth(begin)) + p
		}
	}
	w.add(line, at)
}

// column is a part of a page: lines from a place on, so many cells wide.
type column struct {
	lines       []pageLine
	x, y, width int
}

// spot is where a stop is.
type spot struct {
	*stop
	column, line, lines int
}

// page is a text in one or more columns, on which a cursor walks over what can be
// opened. What does not fit scrolls.
type page struct {
	columns             []column
	spots               []spot
	cursor              int
	top, height, length int
	// moved is true once the user has put the cursor somewhere: before, it stands on what
	// comes first.
	moved bool
}

// set takes in what is on the page and how much of it can be seen. The cursor stays
// where it was.
func (p *page) set(height int, columns ...column) {
	at := ""
	if s := p.stop(); s != nil {
		at = s.id
	}
	p.columns, p.spots, p.height, p.length = columns, p.spots[:0], max(height, 1), 0
	for c, col := range columns {
		p.length = max(p.length, col.y+len(col.lines))
		var last *stop
		for i, l := range col.lines {
			switch l.stop {
			case nil:
			case last:
				p.spots[len(p.spots)-1].lines++
			default:
				p.spots = append(p.spots, spot{l.stop, c, col.y + i, 1})
			}
			last = l.stop
		}
	}
	if i := slices.IndexFunc(p.spots, func(s spot) bool { return s.id == at }); i >= 0 {
		p.cursor = i
	}
	if !p.moved {
		p.cursor = 0
	}
	p.cursor = max(0, min(p.cursor, len(p.spots)-1))
	p.scroll(0)
}

// stop is what the cursor stands on, nil for nothing.
func (p *page) stop() *stop {
	if p.cursor < 0 || p.cursor >= len(p.spots) {
		return nil
	}
	return p.spots[p.cursor].stop
}

func (p *page) scroll(lines int) { p.top = max(0, min(p.top+lines, p.length-p.height)) }

// choose puts the cursor on a spot and shows it, at the beginning what stands above it.
func (p *page) choose(i int) {
	if len(p.spots) == 0 {
		return
	}
	p.cursor, p.moved = max(0, min(i, len(p.spots)-1)), true
	s := p.spots[p.cursor]
	switch {
	case p.cursor == 0 && s.line+s.lines <= p.height:
		p.top = 0
	case s.line < p.top:
		p.top = max(0, s.line-1)
	case s.line+s.lines > p.top+p.height:
		p.top = s.line + s.lines - p.height
	}
	p.scroll(0)
}

// update moves by a key or the mouse. opened is true where what the cursor stands on is
// to be opened, used where the message meant something.
func (p *page) update(k *KeyMap, msg tea.Msg) (opened, used bool) {
	switch msg := msg.(type) {
	case tea.KeyMsg:
		if key.Matches(msg, k.Open) {
			return p.stop() != nil, true
		}
		return false, p.key(k, msg)
	case tea.MouseMsg:
		return p.mouse(msg)
	}
	return false, false
}

func (p *page) key(k *KeyMap, msg tea.KeyMsg) bool {
	switch {
	case key.Matches(msg, k.Up):
		p.step(-1)
	case key.Matches(msg, k.Down):
		p.step(1)
	case key.Matches(msg, k.Left):
		return p.aside(-1)
	case key.Matches(msg, k.Right):
		return p.aside(1)
	case key.Matches(msg, k.Top):
		p.choose(0)
		p.top = 0
	case key.Matches(msg, k.Bottom):
		p.choose(len(p.spots) - 1)
		p.scroll(p.length)
	case key.Matches(msg, k.PageUp):
		p.leap(-p.height)
	case key.Matches(msg, k.PageDown):
		p.leap(p.height)
	case key.Matches(msg, k.HalfUp):
		p.leap(-(p.height + 1) / 2)
	case key.Matches(msg, k.HalfDown):
		p.leap((p.height + 1) / 2)
	default:
		return false
	}
	return true
}

// step goes to the next spot, if it can be seen when the page moves by no more than what
// is seen of it; otherwise the page moves.
func (p *page) step(by int) {
	next := p.cursor + by
	if next < 0 || next >= len(p.spots) {
		p.scroll(by)
		return
	}
	line := p.spots[next].line
	if line < p.top-p.height/2 || line >= p.top+p.height+p.height/2 {
		if sameColumn := p.spots[next].column == p.spots[p.cursor].column; sameColumn {
			p.scroll(by)
			return
		}
	}
	p.choose(next)
}

// leap moves the page, and the cursor to what is seen then.
func (p *page) leap(lines int) {
	p.scroll(lines)
	if len(p.spots) == 0 {
		return
	}
	at := p.spots[p.cursor]
	if at.line >= p.top && at.line < p.top+p.height {
		return
	}
	nearest := -1
	for i, s := range p.spots {
		if s.line < p.top || s.line >= p.top+p.height {
			continue
		}
		if nearest < 0 || s.column == at.column && (p.spots[nearest].column != at.column || lines < 0) {
			nearest = i
		}
	}
	if nearest >= 0 {
		p.cursor, p.moved = nearest, true
	}
}

// aside goes to the spot of a column beside that is nearest.
func (p *page) aside(by int) bool {
	if len(p.spots) == 0 {
		return false
	}
	at, nearest, least := p.spots[p.cursor], -1, 0
	for i, s := range p.spots {
		if dx := p.columns[s.column].x - p.columns[at.column].x; dx*by <= 0 {
			continue
		}
		if far := max(s.line-at.line, at.line-s.line); nearest < 0 || far < least {
			nearest, least = i, far
		}
	}
	if nearest < 0 {
		return false
	}
	p.choose(nearest)
	return true
}

func (p *page) mouse(msg tea.MouseMsg) (opened, used bool) {
	switch {
	case msg.Button == tea.MouseButtonWheelUp:
		p.leap(-3)
		return false, true
	case msg.Button == tea.MouseButtonWheelDown:
		p.leap(3)
		return false, true
	case msg.Button != tea.MouseButtonLeft || msg.Action != tea.MouseActionPress:
		return false, false
	}
	line := p.top + msg.Y
	for i, s := range p.spots {
		col := p.columns[s.column]
		if msg.X < col.x || msg.X >= col.x+col.width || line < s.line || line >= s.line+s.lines {
			continue
		}
		opened = i == p.cursor
		p.cursor, p.moved = i, true
		return opened, true
	}
	return false, false
}

// draw draws what is seen of the page, with the cursor where keys go to it.
func (p *page) draw(t *theme, focused bool) []string {
	var at *stop
	if focused {
		at = p.stop()
	}
	var out []string
	for y := p.top; y < min(p.top+p.height, p.length); y++ {
		var b strings.Builder
		cells := 0
		for _, col := range p.columns {
			i := y - col.y
			if i < 0 || i >= len(col.lines) {
				continue
			}
			b.WriteString(strings.Repeat(" ", max(0, col.x-cells)))
			text := ansi.Truncate(col.lines[i].text, col.width, "…")
			if at != nil && col.lines[i].stop == at {
				text = chosen(t, text, col.width, i == 0 || col.lines[i-1].stop != at)
			}
			b.WriteString(text)
			cells = max(cells, col.x) + ansi.StringWidth(text)
		}
		out = append(out, b.String())
	}
	return out
}

// chosen draws a line as the one the cursor stands on: without colours the mark in its
// first cell says so.
func chosen(t *theme, line string, width int, mark bool) string {
	plain := []rune(ansi.Strip(line))
	rest := ""
	if len(plain) > 1 {
		rest = string(plain[1:])
	}
	first := " "
	if mark {
		first = "›"
	}
	return t.key.Render(first) + t.selected.Render(pad(rest, max(0, width-1)))
}
