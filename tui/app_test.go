package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

func TestViewsAreReached(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, eventsOf(t, auditRun), nil)
	for v := range viewCount {
		s.press(string(rune('1' + v)))
		if s.view != v {
			t.Errorf("key %d leads to %s", v+1, s.view)
		}
	}
	s.press("tab")
	if s.view != viewOverview {
		t.Errorf("after the last comes %s", s.view)
	}
	s.press("shift+tab")
	if s.view != viewRemediate {
		t.Errorf("before the first comes %s", s.view)
	}
	for _, tab := range s.tabs() {
		s.send(tea.MouseMsg{X: tab.from, Y: 1, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
		if s.view != tab.view {
			t.Errorf("a click on %s leads to %s", tab.view, s.view)
		}
	}
	s.press("q")
	if !s.quit {
		t.Error("q does not quit")
	}
}

func TestTooSmall(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{39, 12}, {40, 11}, {1, 1}, {5, 3}} {
		s := newStage(t, size[0], size[1], eventsOf(t, auditRun), nil)
		if size[0] == 39 {
			s.wants("39×12 is too small: 40×12 is needed")
		}
		s.press("6")
		s.send(tea.MouseMsg{Y: 0, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
		s.send(tea.WindowSizeMsg{Width: 40, Height: 12})
		if s.view != viewOverview {
			t.Errorf("at %v keys did something that was not seen", size)
		}
		s.text()
		s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		if s.press("q"); !s.quit {
			t.Errorf("at %v q does not quit", size)
		}
	}
}

// A question that cannot be seen is not answered.
func TestTooSmallForAQuestion(t *testing.T) {
	t.Parallel()
	made := 0
	s := newStage(t, 80, 24, eventsOf(t, layersRun), func(o *Options) {
		o.Export = func(context.Context, string, string, []scan.Event) error {
			made++
			return nil
		}
	})
	s.press("e")
	s.send(tea.WindowSizeMsg{Width: 30, Height: 5})
	s.press("enter")
	s.send(tea.WindowSizeMsg{Width: 80, Height: 24})
	if made != 0 {
		t.Error("it was answered")
	}
	s.wants("Export this view")
}

// Every view is drawn at every size, in the middle of everything, exactly as large as
// there is room.
func TestResizing(t *testing.T) {
	t.Parallel()
	for _, run := range []string{layersRun, auditRun, plainRun} {
		s := newStage(t, 120, 40, eventsOf(t, run), nil)
		for v := range viewCount {
			s.press(string(rune('1'+v)), "j", "enter")
			for _, size := range [][2]int{{40, 12}, {41, 13}, {79, 15}, {80, 16}, {200, 12}, {60, 60}, {300, 100}, {120, 40}} {
				s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
				s.text()
			}
			s.press("esc")
		}
	}
}

func TestOverlays(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		s := newStage(t, size.width, size.height, eventsOf(t, auditRun), func(o *Options) {
			o.Export = func(context.Context, string, string, []scan.Event) error { return nil }
		})
		s.press("?")
		s.golden("help-" + size.name)
		s.press("G")
		s.wants("S sealed.")
		s.press("g", "esc")
		if s.over != nil {
			t.Error("esc does not close the help")
		}
		s.desk.opts.Feed.Say("warning: not listening to KubeArmor: \x1b[31mrefused\x1b[0m")
		s.send(snapMsg{snap: s.desk.opts.Feed.Snapshot()})
		s.press("m")
		s.golden("messages-" + size.name)
		s.press("m")
		s.press("2", "e")
		s.golden("export-" + size.name)
		s.wants("tab format  enter accept  esc cancel")
		s.press("esc")
		if s.over != nil {
			t.Error("esc does not close the export")
		}
	}
}

// What is exported is what the view shows, in the format and to the file that were
// chosen; an error stands where the question does.
func TestExport(t *testing.T) {
	t.Parallel()
	type export struct {
		format, path string
		events       []scan.Event
	}
	var made []export
	var failure error
	s := newStage(t, 80, 24, eventsOf(t, layersRun), func(o *Options) {
		o.Export = func(_ context.Context, format, path string, events []scan.Event) error {
			if failure == nil {
				made = append(made, export{format, path, events})
			}
			return failure
		}
	})
	s.press("1", "e", "enter")
	if len(made) != 1 || made[0].format != "table" || made[0].path != "escape-scanner-overview.txt" {
		t.Fatalf("made %+v", made)
	}
	s.wants("written: escape-scanner-overview.txt")
	got := scan.NewState()
	for _, e := range made[0].events {
		_ = got.Handle(e)
	}
	want := scan.NewState()
	tally := scan.NewTally(want)
	for _, e := range eventsOf(t, layersRun) {
		_ = tally.Handle(e)
	}
	if !slices.Equal(got.Rows(), want.Rows()) || len(got.Nodes()) != len(want.Nodes()) || len(got.Policies()) != len(want.Policies()) || len(got.Failures()) != len(want.Failures()) {
		t.Error("an export of everything is not everything")
	}
	if g, w := got.End(), want.End(); fmt.Sprint(g.Verdicts, g.Findings, g.Incomplete) != fmt.Sprint(w.Verdicts, w.Findings, w.Incomplete) {
		t.Errorf("it ends with %+v, want %+v", g, w)
	}

	failure = errors.New("open escape-scanner-overview.json: file exists\x1b[2J")
	s.press("e", "tab", "enter")
	s.wants("[json]", "escape-scanner-overview.json", "file exists")
	failure = nil
	s.press("ctrl+u", "own.json", "shift+tab", "tab", "enter")
	if last := made[len(made)-1]; last.format != "json" || last.path != "own.json" {
		t.Errorf("made %s as %s", last.path, last.format)
	}
	s.press("e", "ctrl+u", "enter")
	s.wants("a name is wanted")
	// Letters are text here, and lead nowhere.
	s.press("q", "3", "?")
	s.wants("q3?")
	s.press("esc")
	if s.quit || s.view != viewOverview {
		t.Error("text did something")
	}
	made = nil
	s.press("2", "/", "closed", "enter", "e", "enter")
	if len(made) != 1 || made[0].events[0].Start == nil || !slices.ContainsFunc(made[0].events[0].Start.Notes, func(n string) bool { return strings.Contains(n, "closed") }) {
		t.Error("an export of a part does not say that it is one")
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	var copied []string
	var failure error
	s := newStage(t, 120, 40, eventsOf(t, layersRun), func(o *Options) {
		o.Copy = func(_ context.Context, _ io.Writer, text string) error {
			copied = append(copied, text)
			return failure
		}
	})
	s.press("2", "j", "y")
	if len(copied) != 1 || copied[0] == "" || strings.ContainsRune(copied[0], '\x1b') {
		t.Errorf("copied %q", copied)
	}
	s.wants("copied ")
	failure = errors.New("no clipboard")
	s.press("y")
	s.wants("copy: no clipboard")
	// A message goes with its time.
	s.send(tickMsg(testTime.Add(flashTime + time.Second)))
	if strings.Contains(s.text(), "no clipboard") {
		t.Error("a message stays for ever")
	}
}

// While changes are made nobody leaves by accident, and who leaves at once waits for what
// is under way.
func TestLeavingWhileBusy(t *testing.T) {
	t.Parallel()
	s := newStage(t, 80, 24, eventsOf(t, layersRun), nil)
	stopped := 0
	s.desk.busy = func() { stopped++ }
	s.press("q")
	s.wants("changes are being made")
	if s.quit || stopped != 0 {
		t.Fatal("q leaves")
	}
	s.press("ctrl+c")
	if s.quit || stopped != 1 {
		t.Fatalf("ctrl+c: gone %t, stopped %d times", s.quit, stopped)
	}
	s.send(idleMsg{})
	if !s.quit {
		t.Error("it does not leave once it may")
	}
}

// The head says whether what is seen moves, and is whole.
func TestStateOfTheRun(t *testing.T) {
	t.Parallel()
	s := newStage(t, 80, 24, nil, func(o *Options) { o.Feed = NewFeed(o.Now) })
	feed := s.desk.opts.Feed
	s.wants("… reading")
	start := scan.Start{Schema: scan.SchemaVersion, Watch: true, Level: "baseline", PSSVersion: "v1.36"}
	s.feed(scan.Event{Start: &start})
	s.wants("… reading")
	s.feed(scan.Event{Picture: &scan.End{}})
	s.wants("● live")
	s.feed(scan.Event{Failure: &scan.Failure{Subject: "nodes", Reason: scan.FailureForbidden, Message: "no"}})
	s.wants("? 1 unread", "● live")
	s.feed(scan.Event{Failure: &scan.Failure{Subject: "watch of pods", Reason: scan.FailureUnreachable, Message: "no"}})
	s.wants("? 2 unread", "? stale")
	feed.Close(errors.New("cluster prod: connection refused\x1b[2J"))
	s.send(snapMsg{snap: feed.Snapshot()})
	s.wants("✗ stopped", "cluster prod: connection refused")
}
