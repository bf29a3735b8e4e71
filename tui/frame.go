package tui

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/x/ansi"
)

// tab is a view's name in the head, from a column to the one behind its last.
type tab struct {
	view     viewID
	text     string
	from, to int
}

// tabs are the names of the views as they stand in the head. Where there is no room only
// the one that is seen has more than its number.
func (a *app) tabs() []tab {
	names := func(v viewID) string { return fmt.Sprintf(" %d %s ", v+1, v) }
	total := 0
	for v := range viewCount {
		total += len(names(v))
	}
	var tabs []tab
	x := 0
	for v := range viewCount {
		text := names(v)
		if total > a.width && v != a.view {
			text = fmt.Sprintf(" %d ", v+1)
		}
		tabs = append(tabs, tab{view: v, text: text, from: x, to: x + len(text)})
		x += len(text)
	}
	return tabs
}

// head are the lines above the view.
func (a *app) head() []string {
	t := a.desk.theme
	var names strings.Builder
	for _, tab := range a.tabs() {
		if tab.view == a.view {
			names.WriteString(t.selected.Bold(true).Render(tab.text))
		} else {
			names.WriteString(t.bar.Render(tab.text))
		}
	}
	line := names.String() + t.bar.Render(strings.Repeat(" ", max(0, a.width-ansi.StringWidth(names.String()))))
	if !a.roomy() {
		state := a.state()
		room := a.width - ansi.StringWidth(names.String()) - 1
		return []string{names.String() + t.bar.Render(strings.Repeat(" ", max(0, room-ansi.StringWidth(state)+1))) + pad(state, min(room, ansi.StringWidth(state)))}
	}
	title := " " + t.title.Render("escape-scanner") + "  " + t.dim.Render(clean(a.desk.opts.Source, max(8, a.width/3)))
	if s := a.desk.snap.Start; s != nil && a.width >= 80 {
		title += t.dim.Render(clean(fmt.Sprintf("  Pod Security %s %s", s.Level, s.PSSVersion), 40))
	}
	state := a.state() + " "
	room := a.width - ansi.StringWidth(state)
	title = pad(title, room)
	return []string{title + state, line, t.dim.Render(strings.Repeat("─", a.width))}
}

// state says whether what is seen moves, and whether it is whole. It is drawn.
func (a *app) state() string {
	t, s := a.desk.theme, a.desk.snap
	var words string
	switch {
	case s.Err != nil:
		words = t.errorText.Render("✗ stopped")
	case s.Start == nil || !s.Pictured && !s.Over:
		words = t.accent.Render("… reading")
	case s.Live() && s.Stale():
		words = t.doubt.Bold(true).Render("? stale")
	case s.Live():
		words = t.good.Render("● live")
	default:
		words = t.dim.Render("■ still")
	}
	if len(s.Failures) > 0 {
		words = t.doubt.Bold(true).Render(fmt.Sprintf("? %d unread", len(s.Failures))) + "  " + words
	}
	return words
}

// foot is the line below the view: a message, or the keys.
func (a *app) foot() string {
	d := a.desk
	if a.flash.text != "" && d.now.Before(a.flashEnd) {
		style := d.theme.note
		if a.flash.isErr {
			style = d.theme.errorText
		}
		return style.Render(clean(" "+a.flash.text, a.width))
	}
	if a.over == nil && d.snap.Err != nil && !a.screens[a.view].typing() {
		ways := []key.Binding{d.keys.Messages, d.keys.Quit}
		if a.width >= 60 {
			ways = []key.Binding{d.keys.Messages, d.keys.Help, d.keys.Quit}
		}
		last := hints(d, ways, a.width-1)
		room := a.width - ansi.StringWidth(last) - 2
		return pad(d.theme.errorText.Render(clean(" "+d.snap.Err.Error(), room)), room) + " " + last
	}
	bindings := append(a.screens[a.view].keys(d), d.keys.Help, d.keys.Quit)
	if a.over != nil {
		bindings = a.over.keys(d)
	} else if a.screens[a.view].typing() {
		bindings = a.screens[a.view].keys(d)
	}
	return " " + hints(d, bindings, a.width-1)
}

// hints are keys with what they do, as many as fit; the last two always.
func hints(d *desk, bindings []key.Binding, cells int) string {
	texts := make([]string, len(bindings))
	for i, b := range bindings {
		texts[i] = d.theme.key.Render(b.Help().Key) + " " + d.theme.dim.Render(b.Help().Desc)
	}
	n := max(0, len(texts)-2)
	last := joinFit(cells, texts[n:]...)
	if first := joinFit(cells-ansi.StringWidth(last)-2, texts[:n]...); first != "" {
		return first + "  " + last
	}
	return last
}

// terminal is where a copy may write to: the program's own output, of which nothing else
// is written at the same time.
func (d *desk) terminal() io.Writer {
	if d.out == nil {
		return io.Discard
	}
	return d.out
}
