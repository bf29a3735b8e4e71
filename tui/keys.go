package tui

import (
	"github.com/charmbracelet/bubbles/key"
)

// KeyMap has every key of the program. Each view uses those that mean something there.
type KeyMap struct {
	// Everywhere.
	Quit, ForceQuit, Help, Suspend    key.Binding
	Overview, Workloads, Alerts       key.Binding
	Nodes, Policies, Remediate        key.Binding
	NextView, PrevView                key.Binding
	Copy, CopyFix, Export, Messages   key.Binding
	Up, Down, PageUp, PageDown        key.Binding
	HalfUp, HalfDown, Top, Bottom     key.Binding
	Left, Right, Open, Back, Fold     key.Binding
	Filter, Clear, Sort, Reverse      key.Binding
	Group, Class, Incidents, Pause    key.Binding
	Goto, NextItem, PrevItem, Verdict key.Binding
	ItsAlerts                         key.Binding
	// Of the view that remediates.
	Plan, Apply, Rollback, Stop, Choose, Diff, Preview, Summary, Tolerate key.Binding
	// In a field or a question.
	Accept, Cancel, Format, FormatBack key.Binding
}

// newKeyMap is the one place where keys are said.
func newKeyMap() *KeyMap {
	bind := func(keys, name, help string, more ...string) key.Binding {
		return key.NewBinding(key.WithKeys(append([]string{keys}, more...)...), key.WithHelp(name, help))
	}
	return &KeyMap{
		Quit:      bind("q", "q", "quit"),
		ForceQuit: bind("ctrl+c", "ctrl+c", "quit at once"),
		Help:      bind("?", "?", "help"),
		Suspend:   bind("ctrl+z", "ctrl+z", "suspend"),
		Overview:  bind("1", "1", "overview"),
		Workloads: bind("2", "2", "workloads"),
		Alerts:    bind("3", "3", "alerts"),
		Nodes:     bind("4", "4", "nodes"),
		Policies:  bind("5", "5", "policies"),
		Remediate: bind("6", "6", "remediate"),
		NextView:  bind("tab", "tab", "next view"),
		PrevView:  bind("shift+tab", "shift+tab", "view before"),
		Copy:      bind("y", "y", "copy"),
		CopyFix:   bind("Y", "Y", "copy the fix"),
		Export:    bind("e", "e", "export this view"),
		Messages:  bind("m", "m", "messages"),
		Up:        bind("up", "↑/k", "up", "k"),
		Down:      bind("down", "↓/j", "down", "j"),
		PageUp:    bind("pgup", "pgup", "page up", "ctrl+b"),
		PageDown:  bind("pgdown", "pgdn", "page down", "ctrl+f"),
		HalfUp:    bind("ctrl+u", "ctrl+u", "half a page up"),
		HalfDown:  bind("ctrl+d", "ctrl+d", "half a page down"),
		Top:       bind("home", "g", "to the top", "g"),
		Bottom:    bind("end", "G", "to the end", "G"),
		Left:      bind("left", "←/h", "left", "h"),
		Right:     bind("right", "→/l", "right", "l"),
		Open:      bind("enter", "enter", "open"),
		Back:      bind("esc", "esc", "back", "backspace"),
		Fold:      bind(" ", "space", "fold or unfold"),
		Filter:    bind("/", "/", "filter"),
		Clear:     bind("c", "c", "clear the filter"),
		Sort:      bind("s", "s", "sort by the next column"),
		Reverse:   bind("S", "S", "the other way round"),
		Group:     bind("o", "o", "group by namespace"),
		Class:     bind("f", "f", "next class"),
		Incidents: bind("i", "i", "incidents only"),
		Pause:     bind("p", "p", "pause"),
		Goto:      bind("w", "w", "to the workload"),
		NextItem:  bind("n", "n", "next finding"),
		PrevItem:  bind("N", "N", "finding before"),
		Verdict:   bind("v", "v", "next verdict"),
		ItsAlerts: bind("a", "a", "its alerts"),
		Plan:      bind("p", "p", "plan"),
		Apply:     bind("a", "a", "apply"),
		Rollback:  bind("r", "r", "plan a rollback"),
		Stop:      bind("x", "x", "stop"),
		Choose:    bind(" ", "space", "change"),
		Diff:      bind("d", "d", "changes"),
		Preview:   bind("b", "b", "what breaks"),
		Summary:   bind("s", "s", "summary"),
		Tolerate:  bind("t", "t", "accept that it breaks"),
		Accept:    bind("enter", "enter", "accept"),
		Cancel:    bind("esc", "esc", "cancel"),
		Format:    bind("tab", "tab", "format"),

		FormatBack: bind("shift+tab", "shift+tab", "format before"),
	}
}

// everywhere are the keys that mean the same in all views.
func (k *KeyMap) everywhere() []key.Binding {
	return []key.Binding{
		k.Overview, k.Workloads, k.Alerts, k.Nodes, k.Policies, k.Remediate, k.NextView, k.PrevView,
		k.Copy, k.CopyFix, k.Export, k.Messages, k.Help, k.Suspend, k.Quit, k.ForceQuit,
	}
}

// inLists are the keys that move in what has lines.
func (k *KeyMap) inLists() []key.Binding {
	return []key.Binding{
		k.Up, k.Down, k.PageUp, k.PageDown, k.HalfUp, k.HalfDown, k.Top, k.Bottom, k.Left, k.Right, k.Open, k.Back,
	}
}
