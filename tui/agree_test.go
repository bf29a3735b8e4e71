package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/scan"
)

// The overview and the list of workloads count the same, also where a run was cut off
// between the findings of a workload and its verdict.
func TestViewsCountTheSame(t *testing.T) {
	t.Parallel()
	runs := map[string][]scan.Event{}
	for _, name := range []string{layersRun, auditRun, plainRun} {
		runs[name] = eventsOf(t, name)
		for i, e := range runs[name] {
			if e.Finding != nil && e.Finding.Category == scan.CategoryEscape {
				runs[name+" cut off"] = runs[name][:i+1]
				break
			}
		}
	}
	for name, events := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 120, 40, events, func(o *Options) { _ = o.Feed.Handle(scan.Event{Picture: &scan.End{}}) })
			s.press("1")
			overview := s.text()
			s.press("2")
			list := s.text()
			total, pieces := 0, []string{}
			for _, v := range scan.Verdicts() {
				line := regexp.MustCompile(`(?m)^[ ›]` + regexp.QuoteMeta(verdictLetter(v)+" "+string(v)) + ` +(\d+)`).FindStringSubmatch(overview)
				if line == nil {
					t.Fatalf("no line of %s in\n%s", v, overview)
				}
				var n int
				if _, err := fmt.Sscan(line[1], &n); err != nil {
					t.Fatal(err)
				}
				total += n
				pieces = append(pieces, fmt.Sprintf("%s %d", verdictLetter(v), n))
			}
			want := counted(total, "workload") + "   " + strings.Join(pieces, "  ")
			if !strings.Contains(list, want) {
				t.Errorf("the overview counts %q, and the list is\n%s", want, list)
			}
			if !strings.Contains(overview, "Verdicts  "+counted(total, "workload")) {
				t.Errorf("the overview does not speak of %s:\n%s", counted(total, "workload"), overview)
			}
		})
	}
}

// Why a run stopped stands at the foot beside the keys that lead on, and in full in the
// messages; while a filter is typed its keys stand there. What has no room at the foot is
// in the messages too.
func TestErrorsAtTheFoot(t *testing.T) {
	t.Parallel()
	why := "watch: the API server went away: " + strings.Repeat("no route to host ", 12) + "at last"
	for _, size := range sizes {
		s := newStage(t, size.width, size.height, eventsOf(t, layersRun), func(o *Options) {
			o.Feed.Close(errors.New(why))
			o.Copy = func(context.Context, io.Writer, string) error { return errors.New(why + " for the copy") }
		})
		foot := func() string { return s.text()[strings.LastIndex(strings.TrimSuffix(s.text(), "\n"), "\n")+1:] }
		s.press("2")
		for _, want := range []string{" watch: the API", "m messages", "q quit"} {
			if !strings.Contains(foot(), want) {
				t.Errorf("at %s the foot has no %q: %s", size.name, want, foot())
			}
		}
		if s.press("/"); !strings.Contains(foot(), "enter keep") {
			t.Errorf("at %s a filter is typed and the foot is %s", size.name, foot())
		}
		s.press("esc", "y")
		s.send(snapMsg{snap: s.desk.opts.Feed.Snapshot()})
		s.press("m")
		unbroken := func() string { return strings.Join(strings.Fields(s.text()), " ") }
		if seen := unbroken(); !strings.Contains(seen, why) {
			t.Errorf("at %s the messages do not say why it stopped: %s", size.name, seen)
		}
		if s.press("G"); !strings.Contains(unbroken(), "at last for the copy") {
			t.Errorf("at %s the messages do not say why nothing was copied: %s", size.name, unbroken())
		}
	}
}

// What is exported is what is seen: one thing where one is opened, and it is counted.
func TestExportOfOne(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		run, want string
		keys      []string
	}{
		"node":     {layersRun, "only node node-3 (1 node)", []string{"4", "/node-3", "enter", "enter"}},
		"nodes":    {layersRun, "nodes only (6 nodes)", []string{"4"}},
		"alert":    {auditRun, "only one alert (1 alert)", []string{"3", "enter"}},
		"gap":      {auditRun, "only one gap in the alerts (1 gap)", []string{"3", "j", "enter"}},
		"alerts":   {auditRun, "alerts (7 alerts, 3 gaps)", []string{"3"}},
		"policy":   {layersRun, "(1 workload, 1 policy)", []string{"5", "enter"}},
		"unjudged": {plainRun, "(3 workloads)", []string{"2", "/verdict:unknown", "enter"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, 120, 40, eventsOf(t, test.run), func(o *Options) {
				o.Export = func(context.Context, string, string, []scan.Event) error { return nil }
			})
			s.press(test.keys...)
			s.text()
			s.press("e")
			s.wants(test.want)
		})
	}
}

// The alerts of a workload are found by its name as it is, and not as it is drawn.
func TestAlertsOfHostileName(t *testing.T) {
	t.Parallel()
	events := eventsOf(t, auditRun)
	at := slices.IndexFunc(events, func(e scan.Event) bool { return e.Alert != nil && strings.Contains(e.Alert.Workload.Name, "\x1b") })
	if at < 0 {
		t.Fatal("no alert of such a workload")
	}
	for _, size := range sizes {
		s := newStage(t, size.width, size.height, events, nil)
		s.send(openMsg{scan.RowRef{Workload: events[at].Alert.Workload, Claims: events[at].Alert.Claims}})
		s.text()
		s.press("a")
		s.text()
		if s.view != viewAlerts || s.screens[viewAlerts].(*alerts).shown != 1 {
			t.Errorf("at %s its alerts are not shown:\n%s", size.name, s.text())
		}
		if seen := s.View(); strings.ContainsAny(ansi.Strip(seen), "\x1b\u202e") {
			t.Errorf("raw text: %q", seen)
		}
	}
}

// No workload is no good news where not all was read.
func TestNoWorkloadIsFound(t *testing.T) {
	t.Parallel()
	run := []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion}}}
	for want, more := range map[string][]scan.Event{
		"No workload was found.": nil,
		"No workload was found, and 1 thing could not be read: 1 shows what.": {{Failure: &scan.Failure{Subject: "deploy.yaml", Reason: scan.FailureInvalid}}},
	} {
		events := slices.Concat(run, more, []scan.Event{{End: &scan.End{}}})
		s := newStage(t, 80, 24, events, nil)
		s.press("2")
		s.wants(want)
	}
}

// What enter opens is seen, also after the wheel was turned.
func TestWheelTakesTheCursorAlong(t *testing.T) {
	t.Parallel()
	for view, run := range map[string]string{"1": layersRun, "2": layersRun, "4": layersRun, "5": layersRun, "3": auditRun} {
		for _, more := range [][]string{nil, {"enter"}} {
			s := newStage(t, 60, 12, eventsOf(t, run), nil)
			s.press(append([]string{view, "j"}, more...)...)
			s.text()
			for range 5 {
				s.send(tea.MouseMsg{X: 3, Y: 6, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
				if view == "3" && more != nil {
					continue // A text without a cursor.
				}
				if seen := s.text(); !strings.Contains(seen, "›") && !strings.Contains(seen, "▌") {
					t.Errorf("view %s %q: the cursor is not seen\n%s", view, more, seen)
				}
			}
		}
	}
}

// A policy that does nothing has no empty cell.
func TestPolicyWithoutAnAction(t *testing.T) {
	t.Parallel()
	events := []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion}}, {Policy: &scan.Policy{Kind: "Policy", Namespace: "shop", Name: "idle", Bites: scan.BitesNo, Layer: scan.LayerAdmission}}, {End: &scan.End{}}}
	s := newStage(t, 120, 40, events, nil)
	s.press("5")
	if seen := s.text(); !regexp.MustCompile(`shop/idle +- +0`).MatchString(seen) {
		t.Errorf("its action is not told:\n%s", seen)
	}
}

// Of a workload whose verdict is unknown no number says that no path is open.
func TestUnknownHasNoNumber(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		s := newStage(t, size.width, size.height, eventsOf(t, plainRun), nil)
		s.press("2", "/verdict:unknown ledger", "enter")
		line := regexp.MustCompile(`(?m)^.*/ledger +(\S+) +\d+$`).FindStringSubmatch(s.text())
		if line == nil || line[1] != "?" {
			t.Errorf("at %s the paths are %q:\n%s", size.name, line, s.text())
		}
	}
}
