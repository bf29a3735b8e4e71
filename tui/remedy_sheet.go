package tui

import (
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

// sheet is a list of things that have lines, and some of them more when they are
// unfolded. Its cursor goes line by line, so that what is long scrolls too. Lines are
// laid out when the width or a fold changes, and styled when they are seen.
type sheet struct {
	list
	items []sheetItem
	lines []sheetLine
	// begins are the lines at which the items begin.
	begins []int
	// width is the one that the lines are laid out for.
	width int
}

// sheetItem is a thing of a sheet. Its lines leave the first cell free.
type sheetItem struct {
	lay         func(width int, open bool) []sheetLine
	folds, open bool
	laid        []sheetLine
}

// sheetLine is a line. With a style its text is clean, without it is drawn already.
type sheetLine struct {
	text  string
	style *lipgloss.Style
	item  int
}

// drawn are lines that are drawn already.
func drawn(texts ...string) []sheetLine {
	lines := make([]sheetLine, len(texts))
	for i, text := range texts {
		lines[i].text = text
	}
	return lines
}

// textItem is text with nothing to unfold.
func textItem(begin, text string, style lipgloss.Style) sheetItem {
	return sheetItem{lay: func(width int, _ bool) []sheetLine { return drawn(wrapAt(begin, text, style, width)...) }}
}

// fill makes other items the sheet's and puts the cursor on a line of one of them.
func (s *sheet) fill(items []sheetItem, at, within int) {
	s.items = items
	if s.width == 0 {
		// Until it is drawn for the first time any size will do.
		s.width, s.height = 80, 20
	}
	s.join()
	s.put(at, within)
}

// fit lays out what is not, and takes in how many lines can be seen.
func (s *sheet) fit(width, height int) {
	s.height = max(height, 1)
	if width != s.width {
		at, within := s.where()
		for i := range s.items {
			s.items[i].laid = nil
		}
		s.width = width
		s.join()
		s.put(at, within)
	}
	s.list.fit(len(s.lines), height)
}

// join makes the lines of all items one list.
func (s *sheet) join() {
	s.lines, s.begins = s.lines[:0], s.begins[:0]
	for i := range s.items {
		item := &s.items[i]
		if item.laid == nil {
			item.laid = item.lay(max(s.width-1, 1), item.open)
			for j := range item.laid {
				item.laid[j].item = i
			}
		}
		s.begins = append(s.begins, len(s.lines))
		s.lines = append(s.lines, item.laid...)
	}
	s.length = len(s.lines)
}

// where is the item that the cursor is on, -1 for none, and on which of its lines.
func (s *sheet) where() (item, within int) {
	if s.cursor >= len(s.lines) {
		return -1, 0
	}
	item = s.lines[s.cursor].item
	return item, s.cursor - s.begins[item]
}

// put puts the cursor on a line of an item.
func (s *sheet) put(item, within int) {
	if item >= 0 && item < len(s.begins) {
		s.length = len(s.lines)
		s.move(s.begins[item] + max(0, min(within, len(s.items[item].laid)-1)))
	}
}

// fold unfolds the item under the cursor or folds it, and tells whether it could.
func (s *sheet) fold(open bool) bool {
	at, _ := s.where()
	if at < 0 || !s.items[at].folds || s.items[at].open == open {
		return false
	}
	s.items[at].open, s.items[at].laid = open, nil
	s.join()
	s.put(at, 0)
	if open {
		s.show(at)
	}
	return true
}

// show scrolls so that as much of an item is seen as fits.
func (s *sheet) show(item int) {
	last := s.begins[item] + len(s.items[item].laid)
	s.top = min(s.begins[item], max(s.top, last-s.height))
}

// foldKey is a key or a click that folds or unfolds.
func (s *sheet) foldKey(k *KeyMap, msg tea.Msg, offset int) bool {
	press, ok := msg.(tea.KeyMsg)
	if !ok {
		_, opened := s.click(k, msg, offset)
		if opened {
			s.toggle()
		}
		return opened
	}
	switch {
	case key.Matches(press, k.Open), key.Matches(press, k.Fold):
		return s.toggle()
	case key.Matches(press, k.Right):
		return s.fold(true)
	case key.Matches(press, k.Left):
		return s.fold(false)
	}
	return s.step(k, press)
}

// step moves by a key. A line up or down passes over lines that say nothing.
func (s *sheet) step(k *KeyMap, press tea.KeyMsg) bool {
	used, _ := s.update(k, press, 0)
	for used && s.cursor > 0 && s.cursor < len(s.lines)-1 && s.lines[s.cursor].text == "" &&
		(key.Matches(press, k.Up) || key.Matches(press, k.Down)) {
		s.update(k, press, 0)
	}
	return used
}

func (s *sheet) toggle() bool {
	at, _ := s.where()
	return at >= 0 && s.fold(!s.items[at].open)
}

// click moves by the mouse. opened is true for a click on what is chosen already.
func (s *sheet) click(k *KeyMap, msg tea.Msg, offset int) (used, opened bool) {
	before, _ := s.where()
	used, clicked := s.update(k, msg, offset)
	after, _ := s.where()
	return used, clicked && before == after
}

// draw draws what is seen, with a mark before the line that is chosen.
func (s *sheet) draw(t *theme, width, height int) []string {
	s.fit(width, height)
	from, to := s.part()
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		line := &s.lines[i]
		text := line.text
		if line.style != nil {
			text = line.style.Render(text)
		}
		if i == s.cursor {
			text = t.selected.Render(pad("›"+ansi.Strip(text), width))
		} else {
			text = " " + text
		}
		out = append(out, text)
	}
	return out
}

// text is all that an item says, unfolded and unbroken.
func (s *sheet) text(item int) string {
	const wide = 1 << 16
	var b strings.Builder
	for _, line := range s.items[item].lay(wide, true) {
		b.WriteString(strings.TrimRight(ansi.Strip(line.text), " ") + "\n")
	}
	return strings.TrimPrefix(strings.TrimRight(b.String(), "\n"), foldMark(true, true))
}

// remedyPage is text that scrolls and has no cursor. Its lines are made once a width.
type remedyPage struct {
	pager
	lines []string
	width int
}

// draw draws what is seen of the text that lay makes.
func (p *remedyPage) draw(width, height int, lay func(width int) []string) []string {
	if p.width != width {
		p.lines, p.width = lay(width), width
	}
	p.fit(len(p.lines), height)
	from, to := p.part()
	return p.lines[from:to]
}

// paragraphs is wrapAt for text that has lines of its own: what was joined of several
// texts. A text of others is one line.
func paragraphs(begin, text string, style lipgloss.Style, cells int) []string {
	var lines []string
	for i, part := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if i > 0 {
			begin = strings.Repeat(" ", ansi.StringWidth(begin))
		}
		lines = append(lines, wrapAt(begin, part, style, cells)...)
	}
	return lines
}
