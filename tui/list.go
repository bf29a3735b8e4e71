package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
)

// list is the cursor and the part that is seen of a list of any length. It holds no
// items: who draws asks it for the part.
type list struct {
	// length is how many lines there are, height how many can be seen.
	length, height int
	// cursor is the line that is chosen, top the first that is seen.
	cursor, top int
}

// fit takes in how many lines there are and can be seen, and keeps the cursor in it.
func (l *list) fit(length, height int) {
	l.length, l.height = length, max(height, 1)
	l.move(l.cursor)
}

// move puts the cursor on a line, or on the nearest there is, and shows it.
func (l *list) move(to int) {
	l.cursor = max(0, min(to, l.length-1))
	l.top = max(0, min(l.top, l.length-l.height))
	switch {
	case l.cursor < l.top:
		l.top = l.cursor
	case l.cursor >= l.top+l.height:
		l.top = l.cursor - l.height + 1
	}
}

// part are the first line that is seen and the one behind the last.
func (l *list) part() (from, to int) { return l.top, min(l.top+l.height, l.length) }

// update moves by a key or the wheel; a click puts the cursor on the line of the view
// less offset, and clicked is true. used is false for what does not move a list.
func (l *list) update(k *KeyMap, msg tea.Msg, offset int) (used, clicked bool) {
	switch msg := msg.(type) {
	case tea.KeyMsg:
		return l.key(k, msg), false
	case tea.MouseMsg:
		switch {
		case msg.Button == tea.MouseButtonWheelUp:
			l.scroll(-3)
		case msg.Button == tea.MouseButtonWheelDown:
			l.scroll(3)
		case msg.Button == tea.MouseButtonLeft && msg.Action == tea.MouseActionPress:
			at := l.top + msg.Y - offset
			if msg.Y < offset || at >= l.length || at >= l.top+l.height {
				return false, false
			}
			l.move(at)
			return true, true
		default:
			return false, false
		}
		return true, false
	}
	return false, false
}

func (l *list) key(k *KeyMap, msg tea.KeyMsg) bool {
	to, ok := k.moved(msg, l.cursor, l.height, l.length)
	if ok {
		l.move(to)
	}
	return ok
}

// moved is where a key leads from a line, among so many of which so many are seen.
func (k *KeyMap) moved(msg tea.KeyMsg, at, height, length int) (to int, ok bool) {
	switch {
	case key.Matches(msg, k.Up):
		return at - 1, true
	case key.Matches(msg, k.Down):
		return at + 1, true
	case key.Matches(msg, k.PageUp):
		return at - height, true
	case key.Matches(msg, k.PageDown):
		return at + height, true
	case key.Matches(msg, k.HalfUp):
		return at - (height+1)/2, true
	case key.Matches(msg, k.HalfDown):
		return at + (height+1)/2, true
	case key.Matches(msg, k.Top):
		return 0, true
	case key.Matches(msg, k.Bottom):
		return length - 1, true
	}
	return at, false
}

// scroll moves what is seen, and the cursor only as far as it must.
func (l *list) scroll(lines int) {
	l.top = max(0, min(l.top+lines, l.length-l.height))
	l.cursor = max(0, min(max(l.cursor, l.top), l.top+l.height-1, l.length-1))
}

// pager is the part that is seen of a text that has no cursor.
type pager struct{ length, height, top int }

// fit takes in how many lines there are and can be seen.
func (p *pager) fit(length, height int) {
	p.length, p.height = length, max(height, 1)
	p.show(p.top)
}

// show puts a line at the top, or as near as there are lines.
func (p *pager) show(top int) { p.top = max(0, min(top, p.length-p.height)) }

// part are the first line that is seen and the one behind the last.
func (p *pager) part() (from, to int) { return p.top, min(p.top+p.height, p.length) }

// update scrolls by a key or the wheel. used is false for what does not scroll.
func (p *pager) update(k *KeyMap, msg tea.Msg) (used bool) {
	switch msg := msg.(type) {
	case tea.KeyMsg:
		to, ok := k.moved(msg, p.top, p.height, p.length)
		if ok {
			p.show(to)
		}
		return ok
	case tea.MouseMsg:
		switch msg.Button {
		case tea.MouseButtonWheelUp:
			p.show(p.top - 3)
		case tea.MouseButtonWheelDown:
			p.show(p.top + 3)
		default:
			return false
		}
		return true
	}
	return false
}
