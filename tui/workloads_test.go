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

// workloadsStage is the list of workloads of a run.
func workloadsStage(t testing.TB, width, height int, events []scan.Event) (*stage, *workloads) {
	t.Helper()
	s := newStage(t, width, height, events, nil)
	s.press("2")
	v, ok := s.screens[viewWorkloads].(*workloads)
	if !ok {
		t.Fatal("no list of workloads")
	}
	s.View()
	return s, v
}

// rowNames are the names of the lines, a group as [name].
func (v *workloads) rowNames() []string {
	var names []string
	for i := range v.table.lines {
		if l := &v.table.lines[i]; l.row == nil {
			names = append(names, "["+l.group.name+"]")
		} else {
			names = append(names, l.row.workload.Name)
		}
	}
	return names
}

func (v *workloads) under() string { return v.rowNames()[v.list.cursor] }

// verdictOf is a verdict on a workload of three parts.
func verdictOf(name string, verdict scan.Verdict, pods int, paths ...string) *scan.WorkloadVerdict {
	ns, rest, _ := strings.Cut(name, "/")
	kind, name, _ := strings.Cut(rest, "/")
	w := &scan.WorkloadVerdict{
		Workload: scan.Workload{Cluster: "prod-eu", Namespace: ns, Kind: kind, Name: name},
		Verdict:  verdict, Reason: "because", Pods: pods, Paths: paths,
	}
	if len(paths) > 0 {
		w.Severity = scan.SeverityHigh
	}
	return w
}

// watched is a run of a watch whose first picture has come.
func watched(verdicts ...*scan.WorkloadVerdict) []scan.Event {
	events := []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion, Level: "baseline", PSSVersion: "v1.36", Watch: true}}}
	for _, w := range verdicts {
		events = append(events, scan.Event{Verdict: w})
	}
	return append(events, scan.Event{Picture: &scan.End{}})
}

func shop() []*scan.WorkloadVerdict {
	return []*scan.WorkloadVerdict{
		verdictOf("shop/Deployment/cart", scan.VerdictClosed, 9),
		verdictOf("shop/Deployment/pay", scan.VerdictExposed, 2, "escape-host-root"),
		verdictOf("web/Deployment/site", scan.VerdictExposed, 5, "escape-host-root", "escape-privileged"),
		verdictOf("web/Deployment/blog", scan.VerdictSealed, 1),
		verdictOf("api/StatefulSet/db", scan.VerdictUnknown, 3, "escape-privileged"),
	}
}

func TestWorkloadsGoldens(t *testing.T) {
	t.Parallel()
	claiming := verdictOf("shop/Pod/loose", scan.VerdictExposed, 1, "escape-privileged")
	claiming.Claims = "ReplicaSet/cart"
	for _, size := range sizes {
		open := func(run string) *stage {
			s, _ := workloadsStage(t, size.width, size.height, eventsOf(t, run))
			return s
		}
		open(layersRun).golden("workloads-layers-" + size.name)
		open(plainRun).golden("workloads-plain-" + size.name)
		s := open(layersRun)
		s.press("/", "ns:web !site-0")
		s.golden("workloads-typing-" + size.name)
		s.press("enter", "o", "s", "s", "S")
		s.golden("workloads-filtered-" + size.name)
		s.press("/", " colour:red")
		s.golden("workloads-wrong-filter-" + size.name)
		s.press("esc", "c", "/", "nowhere", "enter")
		s.golden("workloads-no-match-" + size.name)
		s = open(plainRun)
		s.press("G")
		s.golden("workloads-end-" + size.name)
		s, _ = workloadsStage(t, size.width, size.height, nil)
		s.golden("workloads-nothing-" + size.name)
		s, _ = workloadsStage(t, size.width, size.height, watched(append(shop(), claiming)...))
		worse, came := verdictOf("web/Deployment/blog", scan.VerdictExposed, 1, "escape-privileged"), verdictOf("web/Deployment/new", scan.VerdictClosed, 1)
		worse.Was = scan.VerdictSealed
		s.feed(scan.Event{Verdict: worse}, scan.Event{Verdict: came})
		s.golden("workloads-changed-" + size.name)
	}
}

func TestWorkloadsAreSorted(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, watched(shop()...))
	s.press("o")
	for _, want := range []struct{ key, order string }{
		{"", "pay site db cart blog"},
		{"S", "blog cart db pay site"},
		{"S", "pay site db cart blog"},
		{"s", "pay site db cart blog"},
		{"s", "db cart pay blog site"},
		{"s", "site db pay cart blog"},
		{"s", "cart site db pay blog"},
		{"s", "pay site db cart blog"},
	} {
		if want.key != "" {
			s.press(want.key)
		}
		s.View()
		if got := strings.Join(v.rowNames(), " "); got != want.order {
			t.Errorf("by %s after %q: %s, want %s", v.order, want.key, got, want.order)
		}
	}
	s.press("o")
	s.View()
	if got := strings.Join(v.rowNames(), " "); got != "[shop] pay cart [web] site blog [api] db" {
		t.Errorf("grouped: %s", got)
	}
}

func TestWorkloadsFold(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, watched(shop()...))
	for _, step := range []struct{ key, lines, under string }{
		{"j", "[shop] pay cart [web] site blog [api] db", "pay"},
		{" ", "[shop] [web] site blog [api] db", "[shop]"},
		{"right", "[shop] pay cart [web] site blog [api] db", "[shop]"},
		{"left", "[shop] [web] site blog [api] db", "[shop]"},
		{"enter", "[shop] pay cart [web] site blog [api] db", "[shop]"},
		{"G", "[shop] pay cart [web] site blog [api] db", "db"},
		{"h", "[shop] pay cart [web] site blog [api]", "[api]"},
	} {
		s.press(step.key)
		s.View()
		if got := strings.Join(v.rowNames(), " "); got != step.lines || v.under() != step.under {
			t.Errorf("after %q: %s at %s, want %s at %s", step.key, got, v.under(), step.lines, step.under)
		}
	}
}

func TestWorkloadsAreChosen(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, watched(shop()...))
	s.press("o", "G")
	s.press("/", "ns:web")
	if !v.typing() {
		t.Error("keys are no text")
	}
	s.wants("2 of 5")
	s.press(" !verdict:se")
	s.wants("1 of 5")
	if got := strings.Join(v.rowNames(), " "); got != "site" {
		t.Errorf("chosen: %s", got)
	}
	part, note := v.selection(s.desk)
	if len(part.Rows) != 1 || part.Rows[0].Ref.Workload.Name != "site" || note != "only what matches ns:web !verdict:se" {
		t.Errorf("exported: %+v, %s", part, note)
	}
	s.press(" bad:x")
	s.wants(`no key "bad"`)
	if len(v.table.rows) != 1 {
		t.Error("a filter that cannot be read has an effect")
	}
	s.press("esc")
	if v.typing() {
		t.Error("esc does not leave")
	}
	s.press("c")
	s.View()
	if len(v.table.rows) != 5 || v.bar.seen() {
		t.Errorf("c leaves %d rows", len(v.table.rows))
	}
	if part, note := v.selection(s.desk); len(part.Rows) != 5 || note != "" {
		t.Errorf("everything is %+v, %q", part, note)
	}
	for _, want := range []string{"pay site", "db", "", "cart", "blog", "pay site db cart blog"} {
		s.press("v")
		s.View()
		if got := strings.Join(v.rowNames(), " "); got != want {
			t.Errorf("v to %q: %s, want %s", v.bar.text, got, want)
		}
	}
}

// TestWorkloadsMoveWhileTyping: arrows move the list, letters are text.
func TestWorkloadsMoveWhileTyping(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, watched(shop()...))
	s.press("o", "/", "down", "down")
	if v.list.cursor != 2 || v.bar.text != "" {
		t.Errorf("at %d with %q", v.list.cursor, v.bar.text)
	}
	s.press("j", "q", "2")
	if v.bar.text != "jq2" || s.quit {
		t.Errorf("typed %q", v.bar.text)
	}
}

// TestWorkloadsCursorStays: on its row, wherever the row goes.
func TestWorkloadsCursorStays(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 80, 24, watched(shop()...))
	s.press("o", "j")
	if v.under() != "site" {
		t.Fatal(v.under())
	}
	var more []scan.Event
	for i := range 40 {
		more = append(more, scan.Event{Verdict: verdictOf(fmt.Sprintf("aaa/Pod/p%02d", i), scan.VerdictExposed, 1, "escape-privileged")})
	}
	s.feed(more...)
	s.View()
	if v.under() != "site" || v.list.cursor != 41 {
		t.Errorf("after new rows at %s, %d", v.under(), v.list.cursor)
	}
	s.wants("›E exposed  high        web/deploy/site")
	s.press("s", "s", "S", "o")
	s.View()
	if v.under() != "site" {
		t.Errorf("after another order at %s", v.under())
	}
	gone := scan.Workload{Cluster: "prod-eu", Namespace: "web", Kind: "Deployment", Name: "site"}
	at := v.list.cursor
	s.feed(scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &gone, Reason: "the workload is gone"}})
	s.View()
	if v.list.cursor != min(at, len(v.table.lines)-1) {
		t.Errorf("after its row went at %d, was at %d", v.list.cursor, at)
	}
	// Before anybody moved, the first line is the first line.
	s, v = workloadsStage(t, 80, 24, watched(shop()...))
	s.feed(more...)
	s.View()
	if v.list.cursor != 0 {
		t.Errorf("unmoved at %d", v.list.cursor)
	}
}

func TestWorkloadsMarkChanges(t *testing.T) {
	t.Parallel()
	now := testTime
	s := newStage(t, 120, 40, watched(shop()...), func(o *Options) { o.Now = func() time.Time { return now } })
	s.press("2", "o")
	s.feed(scan.Event{Verdict: verdictOf("shop/Deployment/cart", scan.VerdictExposed, 9, "escape-privileged")},
		scan.Event{Verdict: verdictOf("shop/Deployment/pay", scan.VerdictExposed, 3, "escape-host-root")},
		scan.Event{Verdict: verdictOf("zoo/Pod/new", scan.VerdictClosed, 1)})
	s.wants("* shop/Deployment/cart", "  shop/Deployment/pay", "+ zoo/Pod/new", "* changed", "+ new")
	now = now.Add(freshFor)
	s.desk.now = now // A tick would be followed by others, without end.
	if text := s.text(); strings.Contains(text, "* shop") || strings.Contains(text, "+ zoo") {
		t.Errorf("still marked:\n%s", text)
	}
	s.feed(scan.Event{Verdict: verdictOf("zoo/Pod/new", scan.VerdictClosed, 2)})
	if text := s.text(); strings.Contains(text, "changed") || strings.Contains(text, "+") {
		t.Errorf("still explained:\n%s", text)
	}
}

func TestWorkloadsMouse(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 80, 24, eventsOf(t, layersRun))
	click := func(y int) {
		s.send(tea.MouseMsg{X: 4, Y: s.headHeight() + y, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
	}
	s.send(tea.MouseMsg{X: 4, Y: 10, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
	if v.list.top != 3 || v.list.cursor != 3 {
		t.Errorf("the wheel leads to %d at %d", v.list.top, v.list.cursor)
	}
	s.View()
	click(v.head + 2)
	if v.list.cursor != 5 || v.one != nil {
		t.Errorf("a click leads to %d", v.list.cursor)
	}
	click(v.head + 2)
	if v.one == nil {
		t.Error("a second click does not open")
	}
	s.press("esc", "g")
	s.View()
	click(v.head)
	s.View()
	if under := v.under(); under != "[batch]" || !v.folded["batch"] {
		t.Errorf("a second click on %s does not fold it", under)
	}
	click(0) // The title is no row.
	if v.list.cursor != 0 || v.one != nil {
		t.Error("a click on the title does something")
	}
}

func TestWorkloadsGoto(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, eventsOf(t, layersRun))
	s.press("j", "enter")
	s.send(gotoMsg{view: viewWorkloads, filter: "verdict:sealed"})
	s.wants("3 of 18", "site-12")
	if v.one != nil {
		t.Error("one workload is still shown")
	}
	s.send(gotoMsg{view: viewWorkloads, filter: "sealed:yes"})
	s.wants(`no key "sealed"`)
}

func TestWorkloadsCopy(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, eventsOf(t, layersRun))
	if what, text := v.copied(s.desk, false); what != "1 row" || !strings.HasPrefix(text, "batch/CronJob/report: exposed, critical: ") {
		t.Errorf("%s: %s", what, text)
	}
	if _, text := v.copied(s.desk, true); text != "" {
		t.Errorf("the fix of a group: %s", text)
	}
	s.press("j")
	what, text := v.copied(s.desk, false)
	if what != "the workload" || !strings.HasSuffix(text, "(open: escape-cap-sys-admin)") {
		t.Errorf("%s: %s", what, text)
	}
	if what, text = v.copied(s.desk, true); what != "2 fixes" || strings.Count(text, "---") != 1 {
		t.Errorf("%s: %s", what, text)
	}
	s.press("/", "nowhere", "enter")
	if what, _ := v.copied(s.desk, false); what != "" {
		t.Errorf("nothing is copied as %s", what)
	}
}

// TestWorkloadsOfEveryRun: nothing that comes, and no size, is too much.
func TestWorkloadsOfEveryRun(t *testing.T) {
	t.Parallel()
	start := scan.Event{Start: &scan.Start{Schema: scan.SchemaVersion, Watch: true}}
	finding := scan.Event{Finding: &scan.Finding{Rule: "escape-privileged", Category: scan.CategoryEscape, Severity: scan.SeverityCritical, Workload: shop()[0].Workload}}
	for name, test := range map[string]struct {
		events []scan.Event
		err    error
		wants  []string
	}{
		"nothing":    {nil, nil, []string{"The run ended before a workload was judged."}},
		"reading":    {[]scan.Event{start, finding}, nil, []string{"? unjudged critical", "Deployment/cart"}},
		"failed":     {[]scan.Event{start}, errors.New("the file \x1b[31mends early"), []string{"before a workload was judged", `\x1b[31mends early`}},
		"no one":     {append(watched(), scan.Event{End: &scan.End{}}), nil, []string{"No workload was found."}},
		"exceptions": {eventsOf(t, plainRun), nil, []string{"exceptions that do not work"}},
	} {
		feed := NewFeed(func() time.Time { return testTime })
		for _, e := range test.events {
			_ = feed.Handle(e)
		}
		feed.Close(test.err)
		s := newStage(t, 120, 40, nil, func(o *Options) { o.Feed = feed })
		s.press("2")
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.wants(test.wants...)
			for _, keys := range [][]string{{"j", "k", "G", "g", "enter", "esc"}, {"/", "x"}, {"esc", "o", "s", "S", "v", "c", " ", "y", "Y"}} {
				s.press(keys...)
				for _, size := range [][2]int{{40, 12}, {41, 13}, {63, 20}, {64, 16}, {111, 30}, {112, 30}, {300, 90}, {120, 40}} {
					s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
					s.text()
				}
			}
		})
	}
	s := newStage(t, 80, 24, nil, func(o *Options) { o.Feed = NewFeed(func() time.Time { return testTime }) })
	s.press("2")
	s.wants("still reading")
}

// TestWorkloadsHostileNames: what is drawn of them is text.
func TestWorkloadsHostileNames(t *testing.T) {
	t.Parallel()
	for _, run := range []string{layersRun, plainRun} {
		for _, size := range sizes {
			s, v := workloadsStage(t, size.width, size.height, eventsOf(t, run))
			for range v.table.lines {
				s.text()
				if strings.ContainsAny(s.View(), "\x07\u202e\u200b\r") || strings.Contains(s.View(), "\x1b]0") {
					t.Fatal("raw text is drawn")
				}
				if v.line().row != nil {
					s.press("enter", "G")
					s.text()
					if strings.ContainsAny(s.View(), "\x07\u202e\u200b\r") {
						t.Fatalf("raw text of %q is drawn", v.one.ref.Workload.Name)
					}
					s.press("esc")
				}
				s.press("j")
			}
		}
	}
}

// runOfMany are the events of a run of n workloads in a hundred namespaces.
func runOfMany(t testing.TB, n int) []scan.Event {
	var like []*scan.WorkloadVerdict
	for _, e := range eventsOf(t, layersRun) {
		if e.Verdict != nil {
			like = append(like, e.Verdict)
		}
	}
	events := watched()
	end := events[len(events)-1]
	events = events[:len(events)-1]
	for i := range n {
		w := *like[i%len(like)]
		w.Workload = scan.Workload{Cluster: "prod-eu", Namespace: fmt.Sprintf("team-%02d", i%100), Kind: "Deployment", Name: fmt.Sprintf("service-%05d", i)}
		events = append(events, scan.Event{Verdict: &w})
		for _, path := range w.Paths {
			events = append(events, scan.Event{Finding: &scan.Finding{Rule: path, Category: scan.CategoryEscape, Severity: scan.SeverityHigh, Workload: w.Workload, Open: true}})
		}
	}
	return append(events, end)
}

func TestTenThousandWorkloads(t *testing.T) {
	t.Parallel()
	s, v := workloadsStage(t, 120, 40, runOfMany(t, 10_000))
	if len(v.table.lines) != 10_100 {
		t.Errorf("%d lines", len(v.table.lines))
	}
	s.press("G")
	s.wants("10000 workloads")
	if v.list.cursor != 10_099 {
		t.Errorf("the end is at %d", v.list.cursor)
	}
	s.press("/", "service-0999")
	s.wants("10 of 10000")
	if !slices.Contains(v.rowNames(), "service-09995") {
		t.Error("a row is missing")
	}
}

// BenchmarkScroll is a key and the picture after it, among 10,000 workloads.
func BenchmarkScroll(b *testing.B) {
	s, v := workloadsStage(b, 120, 40, runOfMany(b, 10_000))
	down := tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{'j'}}
	for b.Loop() {
		s.Update(down)
		s.View()
		if v.list.cursor == v.list.length-1 {
			s.press("g")
		}
	}
}

// BenchmarkWorkloadsLook is a new snapshot of 10,000 workloads, and the list of it drawn.
func BenchmarkWorkloadsLook(b *testing.B) {
	s, v := workloadsStage(b, 120, 40, runOfMany(b, 10_000))
	for b.Loop() {
		v.look(s.desk)
		s.View()
	}
}

// BenchmarkWorkloadsFilter is a letter typed into the filter of 10,000 workloads.
func BenchmarkWorkloadsFilter(b *testing.B) {
	s, v := workloadsStage(b, 120, 40, runOfMany(b, 10_000))
	s.press("/")
	letters, i := []string{"verdict:exposed 9", "verdict:exposed 99"}, 0
	for b.Loop() {
		v.choose(letters[i%2])
		i++
		s.View()
	}
}
