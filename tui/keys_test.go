package tui

import (
	"context"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/bubbles/key"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Keys that come together are what they are one by one.
func TestKeysThatComeTogether(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, eventsOf(t, auditRun), func(o *Options) {
		o.Export = func(context.Context, string, string, []scan.Event) error { return nil }
	})
	together := func(keys string) { s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(keys)}) }
	together("54")
	if s.view != viewNodes {
		t.Errorf("5 and 4 lead to %s", s.view)
	}
	together("2/nothing-is-called-so?3")
	if s.wants("/nothing-is-called-so?3"); s.view != viewWorkloads || s.over != nil {
		t.Errorf("text of a filter leads to %s, overlay %T", s.view, s.over)
	}
	s.press("enter")
	s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("3q"), Paste: true})
	if s.view != viewWorkloads || s.quit {
		t.Error("what is pasted are keys")
	}
	s.press("?")
	s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("q"), Paste: true})
	s.wants("Everywhere")
	s.press("esc", "e")
	s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("q.txt"), Paste: true})
	if s.over == nil || s.over.(*export).path.Value() != "escape-scanner-workloads.txtq.txt" {
		t.Errorf("a name that is pasted is not taken: %+v", s.over)
	}
	s.press("esc")
	together("1q")
	if s.view != viewOverview || !s.quit {
		t.Errorf("1 and q lead to %s, gone %t", s.view, s.quit)
	}
}

// Every key to which a view reacts stands in its help.
func TestHelpHasEveryKey(t *testing.T) {
	t.Parallel()
	events := map[string][]scan.Event{layersRun: eventsOf(t, layersRun), auditRun: eventsOf(t, auditRun)}
	for name, state := range map[string]struct {
		run  string
		keys []string
	}{
		"overview":           {auditRun, []string{"1", "j"}},
		"workloads":          {layersRun, []string{"2", "j"}},
		"workloads filtered": {layersRun, []string{"2", "/web", "enter", "j"}},
		"workload":           {layersRun, []string{"2", "j", "enter", "j"}},
		"workload's finding": {layersRun, []string{"2", "j", "enter", "n"}},
		"alerts":             {auditRun, []string{"3", "j"}},
		"alerts filtered":    {auditRun, []string{"3", "f", "i", "p"}},
		"alert":              {auditRun, []string{"3", "j", "enter"}},
		"nodes":              {layersRun, []string{"4", "j"}},
		"nodes filtered":     {layersRun, []string{"4", "/node", "enter", "j"}},
		"node":               {layersRun, []string{"4", "j", "enter"}},
		"policies":           {layersRun, []string{"5", "j"}},
		"policies filtered":  {layersRun, []string{"5", "/pod", "enter", "j"}},
		"policy":             {layersRun, []string{"5", "j", "enter", "j"}},
		"form":               {layersRun, []string{"6", "j"}},
		"plan":               {layersRun, []string{"6", "p", "j"}},
		"plan's breaks":      {layersRun, []string{"6", "p", "b", "j"}},
		"plan's summary":     {layersRun, []string{"6", "p", "s", "j"}},
		"form after a plan":  {layersRun, []string{"6", "p", "esc", "j"}},
		"done":               {layersRun, []string{"6", "p", "a", "prod-eu", "enter"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, pressed := range allKeys(newKeyMap()) {
				s := newStage(t, 120, 40, events[state.run], func(o *Options) {
					o.Remedy, o.NoRemedy = &fakeRemedy{}, ""
					o.Copy = func(context.Context, io.Writer, string) error { return nil }
				})
				s.press(state.keys...)
				listed := slices.Concat(s.screens[s.view].keys(s.desk), s.desk.keys.everywhere(), s.desk.keys.inLists())
				before := s.text()
				s.press(pressed)
				if before == s.text() && !s.quit {
					continue
				}
				if !slices.ContainsFunc(listed, func(b key.Binding) bool { return slices.Contains(b.Keys(), pressed) }) {
					t.Errorf("%q does something and does not stand in the help:\n%s", pressed, s.text())
				}
			}
		})
	}
}

// allKeys are the keys of all bindings, each once.
func allKeys(k *KeyMap) []string {
	var all []string
	for _, field := range reflect.ValueOf(*k).Fields() {
		if b, ok := reflect.TypeAssert[key.Binding](field); ok {
			all = append(all, b.Keys()...)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(k string) bool { return k == "ctrl+z" || strings.HasPrefix(k, "mouse") })
}
