package tui

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sizes are those that every view has golden files of.
var sizes = []struct {
	name          string
	width, height int
}{{"120x40", 120, 40}, {"80x24", 80, 24}, {"40x12", 40, 12}}

// testTime is when tests look.
var testTime = time.Date(2026, 11, 22, 10, 35, 0, 0, time.UTC)

// The runs that tests look at: events that the renderers of report are tested with. The
// audit has alerts, the layers every verdict.
const (
	layersRun = "layers-events.jsonl"
	auditRun  = "audit-events.jsonl"
	plainRun  = "events.jsonl"
	fleetRun  = "fleet-events.jsonl"
)

// eventsOf are the events of a run.
func eventsOf(t testing.TB, name string) []scan.Event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "report", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var events []scan.Event
	err = report.Replay(bytes.NewReader(text), scan.HandlerFunc(func(e scan.Event) error {
		events = append(events, e)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// stage is a program under test: its commands are run where they are made, so that it
// has come to rest when a method returns.
type stage struct {
	t testing.TB
	*app
	quit bool
}

// newStage is the program at a size, with the events of a run. change may change options.
func newStage(t testing.TB, width, height int, events []scan.Event, change func(*Options)) *stage {
	t.Helper()
	now := func() time.Time { return testTime }
	feed := NewFeed(now)
	for _, e := range events {
		_ = feed.Handle(e)
	}
	feed.Close(nil)
	o := &Options{
		Source: "prod-eu", Feed: feed, Rules: scan.Rules(), Now: now, NoRemedy: "there is no cluster here",
		Formats: []string{"table", "json", "jsonl", "sarif", "html"},
	}
	if change != nil {
		change(o)
	}
	r := lipgloss.NewRenderer(io.Discard, termenv.WithProfile(termenv.Ascii))
	r.SetHasDarkBackground(true)
	s := &stage{t: t, app: newApp(t.Context(), o, r)}
	s.send(tea.WindowSizeMsg{Width: width, Height: height})
	return s
}

// send gives the program a message, and all that comes of it.
func (s *stage) send(msg tea.Msg) {
	s.t.Helper()
	switch msg := msg.(type) {
	case nil:
		return
	case tea.QuitMsg:
		s.quit = true
		return
	case tea.BatchMsg:
		for _, cmd := range msg {
			s.do(cmd)
		}
		return
	case tickMsg:
		// The command for the next one would wait too.
		s.desk.now = time.Time(msg)
		return
	case snapMsg:
		// The command that waits for the next one would wait.
		s.desk.snap, s.desk.now = msg.snap, s.desk.opts.now()
		for _, screen := range s.screens {
			screen.look(s.desk)
		}
		return
	}
	_, cmd := s.Update(msg)
	s.do(cmd)
}

func (s *stage) do(cmd tea.Cmd) {
	s.t.Helper()
	if cmd != nil {
		s.send(cmd())
	}
}

// press presses keys, as tea names them ("enter", "ctrl+d", "j"); what is longer than a
// name and none is typed letter by letter.
func (s *stage) press(keys ...string) {
	s.t.Helper()
	for _, k := range keys {
		if msg, ok := keyNamed(k); ok {
			s.send(msg)
			continue
		}
		for _, r := range k {
			s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
		}
	}
}

// keyNamed is the key of a name.
func keyNamed(name string) (tea.KeyMsg, bool) {
	if name == " " {
		return tea.KeyMsg{Type: tea.KeySpace, Runes: []rune{' '}}, true
	}
	for t := tea.KeyType(-100); t < 128; t++ {
		if msg := (tea.KeyMsg{Type: t}); t != tea.KeyRunes && msg.String() == name {
			return msg, true
		}
	}
	return tea.KeyMsg{}, false
}

// feed gives the program more events.
func (s *stage) feed(events ...scan.Event) {
	s.t.Helper()
	for _, e := range events {
		_ = s.desk.opts.Feed.Handle(e)
	}
	s.send(snapMsg{snap: s.desk.opts.Feed.Snapshot()})
}

// text is what is seen, without colours.
func (s *stage) text() string {
	s.t.Helper()
	lines := strings.Split(s.View(), "\n")
	if len(lines) != s.height {
		s.t.Errorf("%d lines at %d×%d", len(lines), s.width, s.height)
	}
	for i, line := range lines {
		if w := ansi.StringWidth(line); w > s.width {
			s.t.Errorf("line %d is %d cells wide at %d×%d: %q", i, w, s.width, s.height, line)
		}
		lines[i] = strings.TrimRight(ansi.Strip(line), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// wants fails unless all texts are seen.
func (s *stage) wants(texts ...string) {
	s.t.Helper()
	seen := s.text()
	for _, text := range texts {
		if !strings.Contains(seen, text) {
			s.t.Errorf("%q is not seen in\n%s", text, seen)
		}
	}
}

// golden compares what is seen with a file of testdata.
func (s *stage) golden(name string) {
	s.t.Helper()
	path, got := filepath.Join("testdata", name+".txt"), s.text()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if got != string(want) {
		s.t.Errorf("%s differs: have\n%s\nwant\n%s", path, got, want)
	}
}
