package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// hostile is text that would like to act on a terminal.
const hostile = "evil\x1b[31m\x1b]0;title\a\r\n\u202edrow\u2066\u200b日本<script>"

// withFeed gives a program a feed that is not over, or that ended with an error.
func withFeed(events []scan.Event, over bool, err error) func(*Options) {
	return func(o *Options) {
		o.Feed = NewFeed(o.Now)
		for _, e := range events {
			_ = o.Feed.Handle(e)
		}
		if over {
			o.Feed.Close(err)
		}
	}
}

// seeing is a stage that shows a view, drawn once.
func seeing(t *testing.T, view viewID, width, height int, events []scan.Event, change func(*Options)) *stage {
	t.Helper()
	s := newStage(t, width, height, events, change)
	s.view = view
	s.text()
	return s
}

// asks gives the view a key, and returns what it asks the program for.
func (s *stage) asks(name string) tea.Msg {
	s.t.Helper()
	msg, ok := keyNamed(name)
	if !ok {
		msg = tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(name)}
	}
	cmd := s.screens[s.view].update(s.desk, msg)
	s.text()
	if cmd == nil {
		return nil
	}
	return cmd()
}

// clicks presses the left button on a cell of the view.
func (s *stage) clicks(x, y int) {
	s.t.Helper()
	s.send(tea.MouseMsg{X: x, Y: y + s.headHeight(), Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
	s.text()
}

func (s *stage) wheels(x, y int, button tea.MouseButton) {
	s.t.Helper()
	s.send(tea.MouseMsg{X: x, Y: y + s.headHeight(), Button: button, Action: tea.MouseActionPress})
	s.text()
}

// lineOf is the line of the view that has the text.
func (s *stage) lineOf(text string) int {
	s.t.Helper()
	for i, line := range strings.Split(s.text(), "\n") {
		if strings.Contains(line, text) {
			return i - s.headHeight()
		}
	}
	s.t.Fatalf("%q is not seen in\n%s", text, s.text())
	return 0
}

// copies is what y, or Y, copies of the view.
func (s *stage) copies(key string) string {
	s.t.Helper()
	copied := ""
	s.desk.opts.Copy = func(_ context.Context, _ io.Writer, text string) error {
		copied = text
		return nil
	}
	s.press(key)
	return copied
}

// resizes draws the view at many sizes.
func (s *stage) resizes() {
	s.t.Helper()
	was := [2]int{s.width, s.height}
	for _, width := range []int{minWidth, 57, 80, twoColumns - 1, twoColumns, 168} {
		for _, height := range []int{minHeight, 15, 16, 24, 51} {
			s.send(tea.WindowSizeMsg{Width: width, Height: height})
			lines := s.screens[s.view].draw(s.desk, width, s.bodyHeight())
			if len(lines) > s.bodyHeight() {
				s.t.Errorf("%d lines at %d×%d", len(lines), width, height)
			}
			for _, line := range lines {
				if w := ansi.StringWidth(line); w > width {
					s.t.Errorf("%d cells at %d×%d: %q", w, width, height, ansi.Strip(line))
				}
			}
		}
	}
	s.send(tea.WindowSizeMsg{Width: was[0], Height: was[1]})
	s.text()
}

// harmless fails where something that was not cleaned is seen.
func (s *stage) harmless() {
	s.t.Helper()
	for _, r := range ansi.Strip(s.View()) {
		if r < ' ' && r != '\n' || r == '\u202e' || r == '\u2066' || r == '\u200b' {
			s.t.Errorf("%q is on the screen", r)
		}
	}
	if strings.Contains(s.View(), "\x1b]0;") {
		s.t.Error("an escape sequence of a name is on the screen")
	}
}

// readingEvents are those of a run that is not done.
func readingEvents(t *testing.T) []scan.Event {
	t.Helper()
	events := eventsOf(t, plainRun)
	events = events[:len(events)/2]
	return append(events, scan.Event{Progress: &scan.Progress{Pods: 500, Workloads: 40, Remaining: 1200}})
}

// unreadEvents are those of a run of which much could not be read.
func unreadEvents(t *testing.T) []scan.Event {
	t.Helper()
	events := eventsOf(t, layersRun)
	end := events[len(events)-1]
	events = events[: len(events)-1 : len(events)-1]
	for i := range 9 {
		events = append(events, scan.Event{Failure: &scan.Failure{
			Subject: "pods", Namespace: fmt.Sprintf("team-%d", i), Reason: scan.FailureForbidden,
			Message: `pods is forbidden: User "ci" cannot list resource "pods"`, Affects: fmt.Sprintf("verdicts of all workloads in team-%d", i),
		}})
	}
	events = append(events, scan.Event{Failure: &scan.Failure{Subject: hostile, Reason: scan.FailureReason(hostile), Message: hostile, Affects: hostile}})
	return append(events, end)
}

// watchEvents are those of a watch with an hour of alerts.
func watchEvents(t *testing.T) []scan.Event {
	t.Helper()
	events := eventsOf(t, layersRun)
	start := *events[0].Start
	start.Watch, start.Alerts = true, true
	events[0].Start = &start
	events[len(events)-1] = scan.Event{Picture: events[len(events)-1].End}
	exposed := scan.Workload{Cluster: "prod-eu", Namespace: "kube-system", Kind: "DaemonSet", Name: "node-agent"}
	for i := range 60 {
		at := testTime.Add(-time.Duration(i) * time.Minute)
		events = append(events, scan.Event{Time: at, Alert: &scan.Alert{
			ID: fmt.Sprint("a", i), Class: scan.AlertClasses()[i%5], Severity: scan.SeverityLow, Reason: "it was stopped",
			Blocked: true, Workload: exposed, Count: 1 + i*i%17, First: at, Last: at,
		}})
	}
	for i, sev := range []scan.Severity{scan.SeverityHigh, scan.SeverityCritical} {
		events = append(events, scan.Event{Time: testTime, Alert: &scan.Alert{
			ID: fmt.Sprint("i", i), Class: scan.ClassEscape, Incident: true, Severity: sev,
			Reason:   "nsenter was run, a step of escape-nsenter, which kube-system/DaemonSet/node-agent leaves open",
			Workload: exposed, Count: 3, First: testTime, Last: testTime,
		}})
	}
	return events
}

// exceptedEvents are those of a run with exceptions that do nothing.
func exceptedEvents(t *testing.T) []scan.Event {
	t.Helper()
	events := eventsOf(t, layersRun)
	for i, rule := range []string{"exception-expired", "exception-unused"} {
		events = append(events, scan.Event{Finding: &scan.Finding{
			Rule: rule, Category: scan.CategoryException, Severity: scan.SeverityMedium, Field: fmt.Sprintf("exceptions[%d]", i),
			Workload: scan.Workload{Kind: "Exception", Name: fmt.Sprintf("rule privileged, namespace old-%d", i)}, Message: "the exception does nothing: " + rule,
		}})
	}
	return events
}

func TestOverviewGoldens(t *testing.T) {
	t.Parallel()
	still := func(events []scan.Event) func(*Options) { return withFeed(events, true, nil) }
	for name, change := range map[string]func(*Options){
		"layers":   still(eventsOf(t, layersRun)),
		"audit":    still(eventsOf(t, auditRun)),
		"plain":    still(eventsOf(t, plainRun)),
		"waiting":  withFeed(nil, false, nil),
		"nothing":  still(nil),
		"reading":  withFeed(readingEvents(t), false, nil),
		"stopped":  withFeed(readingEvents(t), true, errors.New("read pods: connection refused")),
		"unread":   still(unreadEvents(t)),
		"live":     withFeed(watchEvents(t), false, nil),
		"excepted": still(exceptedEvents(t)),
	} {
		for _, size := range sizes {
			s := seeing(t, viewOverview, size.width, size.height, nil, change)
			s.golden("overview-" + name + "-" + size.name)
			s.harmless()
		}
	}
}

func TestOverviewKeys(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewOverview, 120, 40, nil, withFeed(watchEvents(t), false, nil))
	v := s.screens[viewOverview].(*overview)
	at := func() string {
		if v.page.stop() == nil {
			return ""
		}
		return v.page.stop().id
	}
	first := fmt.Sprint("failure ", scan.FailureRef{
		Subject: "PolicyException.kyverno.io", Message: `policyexceptions.kyverno.io is forbidden: User "ci" cannot list resource "policyexceptions"`,
	})
	for _, step := range []struct{ key, want string }{
		{"down", "verdict exposed"}, {"j", "verdict unknown"}, {"up", "verdict exposed"}, {"k", first}, {"up", first},
		{"end", "policies"}, {"home", first}, {"G", "policies"}, {"g", first},
		{"down", "verdict exposed"}, {"right", "incident i1"}, {"left", "verdict closed"}, {"l", "incident i1"}, {"h", "verdict closed"},
		{"left", "verdict closed"}, {"ctrl+u", "verdict closed"},
	} {
		s.asks(step.key)
		if at() != step.want {
			t.Errorf("%s leads to %q, want %q", step.key, at(), step.want)
		}
	}
	if got := s.asks("enter"); got != (gotoMsg{viewWorkloads, "verdict:closed"}) {
		t.Errorf("enter on a verdict asks for %v", got)
	}
	for _, want := range []struct {
		id  string
		msg tea.Msg
	}{
		{"severity critical", gotoMsg{viewWorkloads, "sev:critical"}},
		{"nodes", gotoMsg{view: viewNodes}},
		{"policies", gotoMsg{view: viewPolicies}},
		{"alerts", gotoMsg{view: viewAlerts}},
		{"row kube-system/DaemonSet/node-agent ", openMsg{scan.RowRef{Workload: scan.Workload{Cluster: "prod-eu", Namespace: "kube-system", Kind: "DaemonSet", Name: "node-agent"}}}},
		{"incident i1", openMsg{scan.RowRef{Workload: scan.Workload{Cluster: "prod-eu", Namespace: "kube-system", Kind: "DaemonSet", Name: "node-agent"}}}},
	} {
		found := false
		for i, spot := range v.page.spots {
			if spot.id == want.id {
				v.page.cursor, found = i, true
			}
		}
		if got := s.asks("enter"); !found || got != want.msg {
			t.Errorf("enter on %q (%v) asks for %v, want %v", want.id, found, got, want.msg)
		}
	}
}

func TestOverviewScrolls(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewOverview, 40, 12, eventsOf(t, layersRun), nil)
	v := s.screens[viewOverview].(*overview)
	for _, step := range []struct {
		key   string
		wants func(before, after int) bool
	}{
		{"pgdown", func(b, a int) bool { return a == b+v.page.height }},
		{"pgup", func(_, a int) bool { return a == 0 }},
		{"ctrl+d", func(b, a int) bool { return a == b+v.page.height/2 }},
		{"ctrl+u", func(_, a int) bool { return a == 0 }},
		{"end", func(_, a int) bool { return a == v.page.length-v.page.height }},
		{"home", func(_, a int) bool { return a == 0 }},
	} {
		before := v.page.top
		s.asks(step.key)
		if !step.wants(before, v.page.top) {
			t.Errorf("%s goes from line %d to %d of %d", step.key, before, v.page.top, v.page.length)
		}
		if spot := v.page.spots[v.page.cursor]; spot.line < v.page.top || spot.line >= v.page.top+v.page.height {
			t.Errorf("after %s the cursor is out of sight", step.key)
		}
	}
	// Every line is reached by going down.
	seen := map[int]bool{}
	for range 200 {
		for y := v.page.top; y < v.page.top+v.page.height; y++ {
			seen[y] = true
		}
		s.asks("down")
	}
	if len(seen) < v.page.length {
		t.Errorf("%d of %d lines are seen on the way down", len(seen), v.page.length)
	}
	s.wheels(1, 1, tea.MouseButtonWheelUp)
	if v.page.top != v.page.length-v.page.height-3 {
		t.Errorf("the wheel leads to line %d of %d", v.page.top, v.page.length)
	}
	s.wheels(1, 1, tea.MouseButtonWheelDown)
	if v.page.top != v.page.length-v.page.height {
		t.Errorf("the wheel leads back to line %d of %d", v.page.top, v.page.length)
	}
}

func TestOverviewMouse(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewOverview, 120, 40, eventsOf(t, layersRun), nil)
	y := s.lineOf("G guarded")
	s.clicks(4, y)
	if s.view != viewOverview {
		t.Fatal("one click opens")
	}
	s.wants("›G guarded")
	s.clicks(4, y)
	if s.view != viewWorkloads {
		t.Errorf("a second click leads to %s", s.view)
	}
	s.view = viewOverview
	s.clicks(100, s.lineOf("enforcing"))
	s.wants("›enforcing")
}

func TestOverviewFailuresUnfold(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewOverview, 80, 24, unreadEvents(t), nil)
	s.wants("? 11 could not be read", "and 8 more", "affects what admission refuses")
	s.press("enter")
	s.wants("cannot list resource")
	s.press("enter")
	if strings.Contains(s.text(), "cannot list resource") {
		t.Error("a failure is not folded again")
	}
	s.press("j", "j", "j")
	s.wants("›  and 8 more")
	s.press("enter")
	s.wants("pods in team-8")
	if strings.Contains(s.text(), "more") {
		t.Error("not all failures are shown")
	}
	s.harmless()
	s.resizes()
}

func TestOverviewCopies(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewOverview, 120, 40, unreadEvents(t), nil)
	want := "PolicyException.kyverno.io could not be read (forbidden): policyexceptions.kyverno.io is forbidden: User \"ci\" cannot list resource \"policyexceptions\"\naffects what admission refuses"
	if got := s.copies("y"); got != want {
		t.Errorf("y copies %q", got)
	}
	if got := s.copies("Y"); got != "" {
		t.Errorf("Y copies %q of what has no fix", got)
	}
	s.clicks(4, s.lineOf("node-agent"))
	if got := s.copies("y"); !strings.HasPrefix(got, "kube-system/DaemonSet/node-agent: exposed (critical)\n") {
		t.Errorf("y copies %q of a workload", got)
	}
	part, note := s.screens[viewOverview].selection(s.desk)
	if len(part.Nodes) != 6 || len(part.Policies) != 6 || note != "" {
		t.Errorf("e exports %d nodes, %d policies, %q", len(part.Nodes), len(part.Policies), note)
	}
}

// TestOverviewFollows: what changes in the cluster leaves the cursor on what it was on.
func TestOverviewFollows(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewOverview, 80, 24, nil, withFeed(watchEvents(t), false, nil))
	s.clicks(4, s.lineOf("C closed"))
	s.wants("›C closed      10")
	s.feed(scan.Event{Failure: &scan.Failure{Subject: "watch of pods", Reason: scan.FailureUnreachable, Message: "refused"}},
		scan.Event{Verdict: &scan.WorkloadVerdict{Workload: scan.Workload{Namespace: "new", Kind: "Pod", Name: "one"}, Verdict: scan.VerdictClosed, Reason: "closed"}})
	s.wants("›C closed      11", "watch of pods")
	s.feed(scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Failure: &scan.FailureRef{Subject: "watch of pods", Message: "refused"}}})
	s.wants("›C closed      11")
	if strings.Contains(s.text(), "watch of pods") {
		t.Error("what can be read again is still shown")
	}
}

func TestOverviewResizes(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Options){
		withFeed(nil, false, nil), withFeed(readingEvents(t), true, errors.New(hostile)),
		withFeed(watchEvents(t), false, nil), withFeed(eventsOf(t, auditRun), true, nil), withFeed(exceptedEvents(t), true, nil),
	} {
		s := seeing(t, viewOverview, 80, 24, nil, change)
		s.press("end")
		s.resizes()
		s.harmless()
	}
}

// TestOverviewUnheard: silence is only told where somebody listened.
func TestOverviewUnheard(t *testing.T) {
	t.Parallel()
	start := scan.Start{Schema: scan.SchemaVersion, Level: "baseline"}
	seeing(t, viewOverview, 80, 24, []scan.Event{{Start: &start}, {End: &scan.End{}}}, nil).wants("not listened to: that there are none says nothing")
	start.Alerts = true
	seeing(t, viewOverview, 80, 24, []scan.Event{{Start: &start}, {End: &scan.End{}}}, nil).wants("0 incidents  no alert was reported")
}

func TestStateOfNode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		e    *kernel.Enforcement
		want nodeState
	}{
		{nil, nodeUnjudged},
		{&kernel.Enforcement{}, nodeUnknown},
		{&kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Proven}, nodeProven},
		{&kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Claimed}, nodeClaimed},
		{&kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Hinted}, nodeUnknown},
		{&kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes}, nodeUnknown},
		{&kernel.Enforcement{Capabilities: kernel.No, Processes: kernel.Yes, Grade: kernel.Proven}, nodePartly},
		{&kernel.Enforcement{Capabilities: kernel.No, Processes: kernel.No, Grade: kernel.Proven}, nodeIdle},
		{&kernel.Enforcement{Capabilities: kernel.No, Processes: kernel.Unknown}, nodeIdle},
		{&kernel.Enforcement{Capabilities: kernel.Unknown, Processes: kernel.Yes, Grade: kernel.Proven}, nodeUnknown},
	} {
		if got := stateOfNode(c.e); got != c.want {
			t.Errorf("%+v is %d, want %d", c.e, got, c.want)
		}
	}
}

// TestCursorWaits: until somebody moves it, the cursor stands on what comes first, also
// where that comes later.
func TestCursorWaits(t *testing.T) {
	t.Parallel()
	for view, want := range map[viewID]string{viewOverview: "›  PolicyException", viewNodes: "›node-4", viewPolicies: "›NO       ADM ClusterPolicy"} {
		s := seeing(t, view, 80, 24, nil, withFeed(nil, false, nil))
		for _, e := range eventsOf(t, layersRun) {
			s.feed(e)
			s.text()
		}
		s.wants(want)
	}
}

// TestOverviewIncomplete: a run that did not come to its end says so first.
func TestOverviewIncomplete(t *testing.T) {
	t.Parallel()
	start := scan.Event{Start: &scan.Start{Schema: scan.SchemaVersion, Level: "baseline"}}
	for want, change := range map[string]func(*Options){
		"✗ interrupted  not all was read":                   withFeed([]scan.Event{start, {End: &scan.End{Interrupted: true}}}, true, nil),
		"✗ cut short  the run ended before all was read":    withFeed([]scan.Event{start}, true, nil),
		"✗ stopped  no route to host; below is what was":    withFeed([]scan.Event{start}, true, errors.New("no route to host")),
		"… reading  7 documents so far  1 workload":         withFeed([]scan.Event{start, {Progress: &scan.Progress{Documents: 7, Workloads: 1}}}, false, nil),
		"… reading  1 pod so far  about 3 to come  █████··": withFeed([]scan.Event{start, {Progress: &scan.Progress{Pods: 1, Remaining: 3}}}, false, nil),
	} {
		s := seeing(t, viewOverview, 80, 24, nil, change)
		s.wants(want)
		if s.lineOf(want) != 0 {
			t.Errorf("%q does not stand first", want)
		}
	}
}

func BenchmarkOverview(b *testing.B) {
	var events []scan.Event
	for _, e := range eventsOf(b, layersRun) {
		if e.Verdict == nil {
			events = append(events, e)
			continue
		}
		for i := range 600 {
			v := *e.Verdict
			v.Workload.Name = fmt.Sprintf("%s-%d", v.Workload.Name, i)
			events = append(events, scan.Event{Verdict: &v})
		}
	}
	s := newStage(b, 120, 40, events, nil)
	b.Run("picture", func(b *testing.B) {
		for b.Loop() {
			s.screens[viewOverview].look(s.desk)
			s.screens[viewOverview].draw(s.desk, 120, 36)
		}
	})
	b.Run("draw", func(b *testing.B) {
		for b.Loop() {
			s.screens[viewOverview].draw(s.desk, 120, 36)
		}
	})
}
