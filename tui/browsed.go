package tui

import (
	"slices"

	tea "github.com/charmbracelet/bubbletea"
)

// browsed is a list of things of a picture, with a filter, of which one may be opened. K
// is what a thing is known by from one picture to the next.
type browsed[T any, K comparable] struct {
	list list
	bar  filterBar
	// shown are the things that the filter lets through; stale is true where they are to
	// be chosen anew, longest how many cells their names take.
	shown   []*T
	stale   bool
	longest int
	// at is what the cursor stands on, inside whether keys go to that alone.
	at     K
	inside bool
	// moved is true once the user has put the cursor somewhere: before, it stands on what
	// comes first.
	moved         bool
	width, height int
}

// current is the thing the cursor stands on, nil for none.
func (b *browsed[T, K]) current() *T {
	if b.list.cursor < 0 || b.list.cursor >= len(b.shown) {
		return nil
	}
	return b.shown[b.list.cursor]
}

// settle keeps the cursor on its thing in a list that was made anew.
func (b *browsed[T, K]) settle(key func(*T) K) {
	b.list.fit(len(b.shown), b.list.height)
	i := slices.IndexFunc(b.shown, func(t *T) bool { return key(t) == b.at })
	switch {
	case !b.moved:
		b.list.move(0)
	case i >= 0:
		b.list.move(i)
	default:
		b.inside = false
	}
}

// open opens what the cursor stands on.
func (b *browsed[T, K]) open() {
	b.inside = b.current() != nil
	b.moved = b.inside
}

// step moves the cursor by a key, or by the mouse in the list.
func (b *browsed[T, K]) step(k *KeyMap, msg tea.Msg) (clicked bool) {
	used, clicked := b.list.update(k, msg, b.above())
	b.moved = b.moved || used
	return clicked
}

// typed is a key while a filter is typed. used is false where it means something else.
func (b *browsed[T, K]) typed(d *desk, msg tea.KeyMsg) (used bool, cmd tea.Cmd) {
	if !b.bar.open {
		return false, nil
	}
	used, changed, cmd := b.bar.update(d, msg)
	b.stale = b.stale || changed
	return used, cmd
}

// above is how many lines stand above the list: the filter and the head.
func (b *browsed[T, K]) above() int {
	if b.bar.seen() {
		return 2
	}
	return 1
}

// room takes in how much there is to draw in.
func (b *browsed[T, K]) room(width, height int) {
	b.width, b.height = width, height
	b.list.height = max(1, height-b.above())
}

// typing implements screen.
func (b *browsed[T, K]) typing() bool { return b.bar.open }
