package tui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

// heard is the beginning of a watch that listens.
func heard() []scan.Event {
	return []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion, Watch: true, Alerts: true, Level: "baseline", PSSVersion: "v1.36"}}}
}

// alertNamed is an alert of so many seconds ago.
func alertNamed(id string, class scan.AlertClass, workload string, seconds int) *scan.Alert {
	last := testTime.Add(-time.Duration(seconds) * time.Second)
	return &scan.Alert{
		ID: id, Class: class, Severity: scan.SeverityLow, Reason: "it was done", Verdict: scan.VerdictExposed,
		Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: workload}, Container: "app",
		Resource: "/usr/bin/" + id, Process: "/bin/" + id, Policy: "p-" + id, Count: 1, First: last, Last: last,
	}
}

// manyAlerts are a watch in which so many alerts were heard, one a second, the last one
// second ago.
func manyAlerts(n int) []scan.Event {
	events := heard()
	for i := range n {
		a := alertNamed(fmt.Sprintf("a%03d", i), scan.AlertClasses()[i%5], fmt.Sprintf("app-%d", i%12), n-i)
		a.Incident, a.Blocked = i%4 == 0, i%3 == 0
		events = append(events, scan.Event{Alert: a})
	}
	return events
}

// watching makes the run of a stage one that goes on.
func watching(events []scan.Event) func(*Options) {
	return func(o *Options) {
		o.Feed = NewFeed(o.Now)
		for _, e := range events {
			_ = o.Feed.Handle(e)
		}
	}
}

func alertsOf(s *stage) *alerts {
	v, ok := s.screens[viewAlerts].(*alerts)
	if !ok {
		s.t.Fatal("the view of alerts is another")
	}
	return v
}

func chosenAlert(s *stage) string {
	s.text()
	it := alertsOf(s).chosen()
	switch {
	case it == nil:
		return ""
	case it.lost != nil:
		return it.lost.ID
	}
	return it.alert.ID
}

func TestAlertsGolden(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		t.Run(size.name, func(t *testing.T) {
			t.Parallel()
			golden := func(s *stage, state string) {
				t.Helper()
				s.golden("alerts-" + state + "-" + size.name)
			}
			s := newStage(t, size.width, size.height, eventsOf(t, auditRun), nil)
			s.press("3")
			golden(s, "list")
			s.press(" ")
			golden(s, "unfolded")
			s.press(" ", "enter")
			golden(s, "opened")
			s.press("esc", "G")
			golden(s, "hostile")
			s.press("enter")
			golden(s, "lost")

			many := newStage(t, size.width, size.height, nil, watching(manyAlerts(60)))
			many.press("3", "f", "f", "i")
			golden(many, "filtered")
			many.press("c", "p", "j", "j")
			more := manyAlerts(60)
			many.feed(append(more[1:20], scan.Event{Alert: alertNamed("new", scan.ClassEscape, "late", 0)},
				scan.Event{Lost: &scan.Lost{ID: "l", Reason: scan.LostDeaf, From: testTime.Add(-time.Minute), Source: "node-1:32767", Message: "the connection was lost"}})...)
			golden(many, "paused")

			empty := newStage(t, size.width, size.height, nil, watching(heard()))
			empty.press("3")
			golden(empty, "none")
			deaf := newStage(t, size.width, size.height, eventsOf(t, plainRun), nil)
			deaf.press("3")
			golden(deaf, "unheard")
		})
	}
}

// What changed last comes first, and gaps stand among the alerts where they ended.
func TestAlertsOrder(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, nil, watching(append(heard(),
		scan.Event{Alert: alertNamed("old", scan.ClassOther, "a", 60)},
		scan.Event{Alert: alertNamed("new", scan.ClassOther, "a", 10)},
		scan.Event{Lost: &scan.Lost{ID: "gap", Reason: scan.LostThrottled, From: testTime.Add(-time.Hour), To: testTime.Add(-30 * time.Second)}},
		scan.Event{Alert: alertNamed("same", scan.ClassOther, "a", 10)},
	)))
	s.press("3")
	s.text()
	var order []string
	for _, it := range alertsOf(s).items {
		order = append(order, fmt.Sprint(it.id()))
	}
	if want := []string{"{false same}", "{false new}", "{true gap}", "{false old}"}; !slices.Equal(order, want) {
		t.Errorf("have %q, want %q", order, want)
	}
	s.wants("EVIDENCE LOST from 09:35:00 to 10:34:30 (throttled)")
}

func TestAlertsCursorStays(t *testing.T) {
	t.Parallel()
	s := newStage(t, 80, 24, nil, watching(manyAlerts(60)))
	s.press("3")
	if got := chosenAlert(s); got != "a059" {
		t.Fatalf("the cursor is on %q, not on the newest", got)
	}
	// On the first line it stays on the newest.
	s.feed(scan.Event{Alert: alertNamed("n1", scan.ClassOther, "late", 0)})
	if got := chosenAlert(s); got != "n1" {
		t.Errorf("the cursor does not follow: it is on %q", got)
	}
	s.press("j", "j", "j")
	on, at := chosenAlert(s), alertsOf(s).lines
	for i := range 20 {
		s.feed(scan.Event{Alert: alertNamed(fmt.Sprintf("m%d", i), scan.ClassOther, "late", 0)})
		if got := chosenAlert(s); got != on {
			t.Fatalf("the cursor was on %q and is on %q", on, got)
		}
	}
	if l := alertsOf(s).lines; l.cursor-l.top != at.cursor-at.top {
		t.Errorf("the alert stood in line %d of the screen and stands in %d", at.cursor-at.top, l.cursor-l.top)
	}
	// What it is on is told again, and goes up.
	again := alertNamed(on, scan.ClassOther, "late", 0)
	again.Count = 7
	s.feed(scan.Event{Alert: again})
	if got := chosenAlert(s); got != on {
		t.Errorf("the cursor was on %q and is on %q", on, got)
	}
	s.press("g")
	s.feed(scan.Event{Alert: alertNamed("last", scan.ClassOther, "late", -1)})
	if got := chosenAlert(s); got != "last" {
		t.Errorf("after g the cursor does not follow: %q", got)
	}
}

func TestAlertsKeys(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, nil, watching(manyAlerts(60)))
	v := alertsOf(s)
	s.press("3")
	s.text()

	// f goes round the classes.
	for _, c := range append(scan.AlertClasses(), "") {
		s.press("f")
		s.text()
		if v.filter.class != c {
			t.Errorf("the class is %q, want %q", v.filter.class, c)
		}
		for _, it := range v.items {
			if c != "" && it.alert.Class != c {
				t.Errorf("%s is shown under %s", it.alert.Class, c)
			}
		}
	}
	s.press("i")
	s.text()
	if v.shown != 15 {
		t.Errorf("%d incidents are shown, there are 15", v.shown)
	}
	s.press("c")
	s.text()
	if v.shown != 60 {
		t.Errorf("after c %d are shown", v.shown)
	}

	// The text holds while it is typed.
	s.press("/", "app-11 class:dep")
	s.text()
	if !v.typing() || v.shown != 1 {
		t.Errorf("typing %v, %d shown", v.typing(), v.shown)
	}
	s.press("enter")
	if v.typing() || v.bar.text != "app-11 class:dep" {
		t.Errorf("after enter: typing %v, %q", v.typing(), v.bar.text)
	}
	part, note := v.selection(s.desk)
	if len(part.Alerts) != 1 || part.Alerts[0].Workload.Name != "app-11" || !strings.Contains(note, "app-11 class:dep") {
		t.Errorf("an export has %d alerts, %q", len(part.Alerts), note)
	}
	s.press("esc")
	s.text()
	if v.shown != 60 || v.bar.text != "" {
		t.Errorf("after esc: %d shown, %q", v.shown, v.bar.text)
	}
	for text, want := range map[string]int{"verdict:exposed": 60, "verdict:sealed": 0, "/usr/bin/a007": 1, "P-A007": 1, "!app-11": 55, "ns:shop": 60} {
		s.press("/", text, "enter")
		s.text()
		if v.shown != want {
			t.Errorf("%s: %d shown, want %d", text, v.shown, want)
		}
		s.press("c")
	}

	// Folds.
	s.press(" ")
	s.wants("process    /bin/a059")
	if v.lines.length <= 60 || !v.unfolded[itemID{id: "a059"}] {
		t.Errorf("space unfolds nothing: %d lines", v.lines.length)
	}
	s.press("j", "j", "left")
	s.text()
	if v.lines.length != 60 || v.lines.cursor != 0 {
		t.Errorf("left folds nothing: %d lines, cursor %d", v.lines.length, v.lines.cursor)
	}
	s.press("right", " ")
	s.text()
	if v.lines.length != 60 {
		t.Errorf("right and space: %d lines", v.lines.length)
	}

	// One alone.
	s.press("enter")
	if v.opened == nil || v.opened.alert.ID != "a059" {
		t.Fatalf("enter opens %v", v.opened)
	}
	s.press("n")
	if v.opened.alert.ID != "a058" {
		t.Errorf("n leads to %s", v.opened.alert.ID)
	}
	s.press("N", "N")
	if v.opened.alert.ID != "a059" {
		t.Errorf("N leads to %s", v.opened.alert.ID)
	}
	s.press("esc")
	if v.opened != nil || chosenAlert(s) != "a059" {
		t.Error("esc does not lead back to where it was")
	}
}

func TestAlertsPause(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, nil, watching(manyAlerts(10)))
	v := alertsOf(s)
	s.press("3", "p")
	more := alertNamed("a000", scan.ClassOther, "app-0", 0)
	more.Count = 131
	s.feed(scan.Event{Alert: more}, scan.Event{Alert: alertNamed("new", scan.ClassOther, "x", 0)}, scan.Event{Alert: alertNamed("newer", scan.ClassOther, "x", 0)})
	s.wants("paused, 132 new", "12 alerts")
	if v.shown != 10 || v.items[0].alert.ID != "a009" {
		t.Errorf("the list does not stand still: %d, %s", v.shown, v.items[0].alert.ID)
	}
	s.press("p")
	s.text()
	if v.held != nil || v.shown != 12 || v.items[0].alert.ID != "newer" {
		t.Errorf("the list does not go on: %d, %s", v.shown, v.items[0].alert.ID)
	}
}

func TestAlertsOpenWorkload(t *testing.T) {
	t.Parallel()
	w := scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "app-1"}
	events := append(heard(), scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictSealed, Reason: "everything is closed"}},
		scan.Event{Alert: alertNamed("a", scan.ClassOther, "app-1", 5)}, scan.Event{Alert: alertNamed("b", scan.ClassOther, "gone", 9)},
		scan.Event{Picture: &scan.End{Workloads: 1}})
	s := newStage(t, 120, 40, nil, watching(events))
	s.press("3", "enter")
	s.wants("exposed at the time", "sealed now: everything is closed")
	s.press("w")
	if s.view != viewWorkloads {
		t.Errorf("w leads to %s", s.view)
	}
	s.press("3", "n", "w")
	if s.view != viewAlerts {
		t.Errorf("w of a workload that is gone leads to %s", s.view)
	}
	s.wants("shop/Deployment/gone is not in the picture", "not known now")
}

func TestAlertsGoto(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, nil, watching(manyAlerts(60)))
	v := alertsOf(s)
	s.send(gotoMsg{view: viewAlerts, filter: "shop/Deployment/app-1"})
	s.wants("only of shop/Deployment/app-1 (5 of 60)")
	for _, it := range v.items {
		if it.alert.Workload.Name != "app-1" {
			t.Errorf("%s is shown", it.alert.Workload.Name)
		}
	}
	s.send(gotoMsg{view: viewAlerts, filter: "class:chroot"})
	s.text()
	if v.shown != 12 || v.filter.workload != "" {
		t.Errorf("%d are shown", v.shown)
	}
	s.send(gotoMsg{view: viewAlerts})
	s.text()
	if v.shown != 12 {
		t.Errorf("without a filter %d are shown", v.shown)
	}
}

func TestAlertsMouse(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, nil, watching(manyAlerts(60)))
	v := alertsOf(s)
	s.press("3")
	s.text()
	click := func(x, y int) {
		s.send(tea.MouseMsg{X: x, Y: y + s.headHeight(), Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
		s.text()
	}
	click(5, v.above+3)
	if got := chosenAlert(s); got != "a056" || v.opened != nil {
		t.Errorf("a click chooses %s", got)
	}
	click(100, v.above+5)
	if got := chosenAlert(s); got != "a056" {
		t.Errorf("a click beside the list chooses %s", got)
	}
	s.send(tea.MouseMsg{X: 5, Y: 20, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
	s.text()
	if v.lines.top != 3 {
		t.Errorf("the wheel leads to line %d", v.lines.top)
	}
	click(5, v.above)
	click(5, v.above)
	if v.opened == nil || v.opened.alert.ID != "a056" {
		t.Error("a second click does not open")
	}
}

// Any key in any state at any size draws what fits, and none of the hostile text.
func TestAlertsResize(t *testing.T) {
	t.Parallel()
	for _, events := range [][]scan.Event{nil, heard(), eventsOf(t, auditRun), manyAlerts(200)} {
		s := newStage(t, 120, 40, nil, watching(events))
		s.press("3")
		for _, keys := range [][]string{nil, {" "}, {"G", " "}, {"enter"}, {"G"}, {"esc"}, {"/", "a"}, {"enter"}, {"p"}, {"i", "f"}, {"c", "end", "enter"}} {
			s.press(keys...)
			for _, size := range [][2]int{{40, 12}, {109, 15}, {110, 16}, {300, 80}, {80, 24}, {41, 40}} {
				s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
				if seen := s.text(); strings.ContainsAny(seen, "\x1b\u202e\u200b\x07") {
					t.Errorf("hostile text at %v:\n%q", size, seen)
				}
			}
		}
	}
}

func TestAlertsCopied(t *testing.T) {
	t.Parallel()
	s := newStage(t, 120, 40, eventsOf(t, auditRun), nil)
	s.press("3")
	what, text := alertsOf(s).copied(s.desk, false)
	if what != "the alert" || !strings.Contains(text, "workload: shop/Deployment/app-00\n") || !strings.Contains(text, "resource: CAP_SYS_ADMIN\n") {
		t.Errorf("%s: %s", what, text)
	}
	s.press("G")
	s.text()
	if what, text = alertsOf(s).copied(s.desk, false); what != "the gap" || strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("%s: %q", what, text)
	}
	if _, text = alertsOf(s).copied(s.desk, true); text != "" {
		t.Errorf("a gap has a fix: %q", text)
	}
	w := scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "app-1"}
	a := alertNamed("a", scan.ClassCapability, "app-1", 1)
	a.Paths = []string{"escape-privileged"}
	s = newStage(t, 120, 40, nil, watching(append(heard(), scan.Event{Alert: a},
		scan.Event{Finding: &scan.Finding{Rule: "escape-privileged", Workload: w, Open: true, Field: "spec.privileged", Fix: &scan.Fix{Op: scan.FixSet, Value: []byte("false")}}},
		scan.Event{Finding: &scan.Finding{Rule: "other", Workload: w, Field: "spec.other", Fix: &scan.Fix{Op: scan.FixRemove}}},
		scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Reason: "open"}})))
	s.press("3")
	s.wants("escape-privileged", "(open now)")
	if what, text = alertsOf(s).copied(s.desk, true); what != "the fixes" || text != "spec.privileged: false\n" {
		t.Errorf("%s: %q", what, text)
	}
}

func TestAlertsOfAFailedRun(t *testing.T) {
	t.Parallel()
	s := newStage(t, 80, 24, nil, watching(heard()))
	s.press("3")
	s.wants("No alert so far")
	s.desk.opts.Feed.Close(errors.New("the connection broke"))
	s.feed()
	s.wants("what came after is not known", "the connection broke")
}
