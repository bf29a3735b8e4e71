package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// watchLog is what the log of a watch says of a story, flushed after each batch.
func watchLog(t testing.TB, opts WatchTextOptions, s *story) string {
	t.Helper()
	var out bytes.Buffer
	h := NewWatchText(&out, opts)
	for i, e := range s.events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
		if s.batches[i+1] {
			if err := h.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out.String()
}

// newStory is a watch whose first picture has the events in it.
func newStory(picture ...scan.Event) *story {
	s := &story{now: sampleTime(), batches: map[int]bool{}}
	start := scan.Start{Schema: 1, Tool: "escape-scanner", Time: s.now, Cluster: "prod-eu", Watch: true}
	s.at(0, append(append([]scan.Event{{Start: &start}}, picture...), scan.Event{Picture: &scan.End{}})...)
	return s
}

// news is what a log says of a story after its first picture.
func news(t *testing.T, s *story) string {
	t.Helper()
	_, after, _ := strings.Cut(watchLog(t, WatchTextOptions{}, s), "WATCHING  what changes follows\n")
	return after
}

func TestWatchLogKeepsTheWidth(t *testing.T) {
	t.Parallel()
	s := watchStory()
	for _, width := range []int{1, 20, 37, 40, 80, 120, 200} {
		for _, color := range []bool{false, true} {
			for _, all := range []bool{false, true} {
				text := watchLog(t, WatchTextOptions{Width: width, Color: color, AllAlerts: all}, s)
				checkLines(t, text, max(width, narrowest))
				if plain := sgr.ReplaceAllString(text, ""); color && plain != watchLog(t, WatchTextOptions{Width: width, AllAlerts: all}, s) {
					t.Errorf("width %d: the text differs with colours", width)
				}
			}
		}
	}
}

func FuzzWatchLog(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, text string) {
		s := newStory(hostileEvents(text)[1:]...)
		s.at(time.Second, hostileEvents(text + "x")[1:]...)
		s.at(time.Second, layeredHostile(text)...)
		s.at(time.Minute, scan.Event{End: &scan.End{}})
		for _, width := range []int{0, 40, 100} {
			out := watchLog(t, WatchTextOptions{Width: width, Color: true, AllAlerts: true}, s)
			if r, bad := harmful(sgr.ReplaceAllString(out, "")); bad {
				t.Errorf("width %d lets %U through", width, r)
			}
			if width > 0 {
				checkLines(t, out, width)
			}
		}
		for line := range strings.Lines(watchLog(t, WatchTextOptions{}, s)) {
			// Whatever a name is, it begins no line.
			if !regexp.MustCompile(`^(\S| {2})`).MatchString(line) {
				t.Errorf("a line of nobody: %q", line)
			}
		}
	})
}

// What is as it was before is not told, and what is told again is told once.
func TestWatchLogTellsChanges(t *testing.T) {
	t.Parallel()
	w := sampleWorkload("shop", "Deployment", "cart")
	verdict := func(v scan.Verdict) scan.Event { return scan.Event{Verdict: watchVerdict("cart", "", v)} }
	finding := func(severity scan.Severity, change func(*scan.Finding)) scan.Event {
		f := watchFinding("cart", "escape-nsenter", severity)
		if change != nil {
			change(f)
		}
		return scan.Event{Finding: f}
	}
	ref := finding(scan.SeverityHigh, nil).Finding.Ref()
	noFinding := scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFinding, Workload: &w, Finding: &ref, Reason: "its pods have it no more"}}
	noWorkload := scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &w, Reason: "the workload is gone"}}
	failure := &scan.Failure{Subject: "watch of pods", Reason: scan.FailureUnreachable, Message: "refused"}
	failureRef := failure.Ref()
	readable := scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Failure: &failureRef, Reason: "it is followed again"}}
	policy := func(bites scan.Bite, pods int) scan.Event {
		return scan.Event{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: "shop", Name: "p", Bites: bites, Pods: pods}}
	}
	picture := []scan.Event{finding(scan.SeverityHigh, nil), verdict(scan.VerdictExposed), policy(scan.BitesYes, 1), {Node: &scan.Node{Name: "n"}}}
	for name, tc := range map[string]struct {
		events []scan.Event
		want   []string
	}{
		"the same once more":                         {picture, nil},
		"gone and there again":                       {append([]scan.Event{noWorkload}, picture...), nil},
		"a finding that came back":                   {[]scan.Event{noFinding, finding(scan.SeverityHigh, nil)}, nil},
		"a failure of a moment":                      {[]scan.Event{{Failure: failure}, readable}, nil},
		"what was not there is taken back":           {[]scan.Event{readable, {Resolved: &scan.Resolved{What: scan.ResolvedNode, Node: "nobody"}}}, nil},
		"other pods, and the counts are not settled": {[]scan.Event{policy(scan.BitesYes, 9), finding(scan.SeverityHigh, func(f *scan.Finding) { f.Pods = 9 })}, nil},
		"a recount":                                  {[]scan.Event{{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Recount: true, Pods: 7, Reason: "r"}}}, nil},
		"gone":                                       {[]scan.Event{noWorkload}, []string{"GONE     shop/Deployment/cart  was exposed  the workload is gone"}},
		"another verdict":                            {[]scan.Event{noFinding, verdict(scan.VerdictClosed)}, []string{"CLOSED   shop/Deployment/cart  was exposed", "GONE     HIGH      escape-nsenter  shop/Deployment/cart"}},
		"a weight":                                   {[]scan.Event{finding(scan.SeverityLow, nil)}, []string{"EXPOSED  shop/Deployment/cart  still", "CHANGED  LOW       escape-nsenter", "was high"}},
		"an exception":                               {[]scan.Event{finding(scan.SeverityHigh, func(f *scan.Finding) { f.Excepted = &scan.Excepted{Reason: "ours"} })}, []string{"still", "CHANGED  HIGH", "excepted: ours"}},
		"a failure":                                  {[]scan.Event{{Failure: failure}}, []string{"NOT READ  watch of pods  unreachable:  refused"}},
		"a policy":                                   {[]scan.Event{policy(scan.BitesNo, 1)}, []string{"POLICY   shop/KubeArmorPolicy/p  does not bite  before: bites"}},
		"a node":                                     {[]scan.Event{{Resolved: &scan.Resolved{What: scan.ResolvedNode, Node: "n", Reason: "the node is gone"}}}, []string{"NODE     n  gone  the node is gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStory(picture...)
			s.at(time.Second, tc.events...)
			got := news(t, s)
			if len(tc.want) == 0 && got != "" {
				t.Errorf("nothing changed, and it says\n%s", got)
			}
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
		})
	}
}

func TestWatchLogExceptedNoMore(t *testing.T) {
	t.Parallel()
	f := watchFinding("cart", "escape-nsenter", scan.SeverityHigh)
	excepted := *f
	excepted.Excepted = &scan.Excepted{Reason: "ours"}
	s := newStory(scan.Event{Finding: &excepted}, scan.Event{Verdict: watchVerdict("cart", "", scan.VerdictExposed)})
	s.at(time.Second, scan.Event{Finding: f})
	if got := news(t, s); !strings.Contains(got, "excepted no more") {
		t.Errorf("an exception that ended is not told:\n%s", got)
	}
}

var moreWorkloads = regexp.MustCompile(`and (\d+) more workloads?:`)

// counted is how many workloads a log lists, and how many more it counts.
func counted(t *testing.T, text string) (listed, more int) {
	t.Helper()
	for _, m := range moreWorkloads.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		more += n
	}
	return strings.Count(text, "  EXPOSED  shop/"), more
}

// A storm is a few lines, and no workload of it is lost from the count.
func TestWatchLogCountsStorms(t *testing.T) {
	t.Parallel()
	name := func(i int) scan.Event {
		return scan.Event{Verdict: watchVerdict(fmt.Sprintf("app-%05d", i), "", scan.VerdictExposed)}
	}
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		s := newStory()
		var all []scan.Event
		for i := range 5_000 {
			all = append(all, name(i))
		}
		s.at(time.Second, all...)
		s.at(3 * time.Second)
		s.at(time.Second, scan.Event{End: &scan.End{}})
		text := news(t, s)
		if listed, more := counted(t, text); listed != defaultBurst || more != 5_000-defaultBurst {
			t.Errorf("%d listed and %d more, of 5000", listed, more)
		}
		if lines := strings.Count(text, "\n"); lines > defaultBurst+3 {
			t.Errorf("%d lines", lines)
		}
	})
	t.Run("for a minute", func(t *testing.T) {
		t.Parallel()
		s := newStory()
		const batches = 600
		for i := range batches {
			var events []scan.Event
			for k := range 20 {
				events = append(events, name(20*i+k))
			}
			s.at(100*time.Millisecond, events...)
		}
		s.at(time.Second, scan.Event{End: &scan.End{}})
		text := news(t, s)
		if listed, more := counted(t, text); listed+more != 20*batches || listed < 200 || listed > 350 {
			t.Errorf("%d listed and %d more, of %d", listed, more, 20*batches)
		}
	})
}

// What got worse is listed before what got better.
func TestWatchLogWorstFirst(t *testing.T) {
	t.Parallel()
	was := func(name string, v scan.Verdict) scan.Event { return scan.Event{Verdict: watchVerdict(name, "", v)} }
	s := newStory(was("a", scan.VerdictExposed), was("b", scan.VerdictClosed), was("c", scan.VerdictClosed), was("d", scan.VerdictClosed))
	gone := sampleWorkload("shop", "Deployment", "d")
	s.at(time.Second, was("a", scan.VerdictClosed), was("b", scan.VerdictUnknown), was("c", scan.VerdictExposed),
		scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &gone, Reason: "r"}})
	last := -1
	text := news(t, s)
	for _, want := range []string{"EXPOSED  shop/Deployment/c", "UNKNOWN  shop/Deployment/b", "CLOSED   shop/Deployment/a", "GONE     shop/Deployment/d"} {
		at := strings.Index(text, want)
		if at <= last {
			t.Errorf("%q is missing or out of order in\n%s", want, text)
		}
		last = at
	}
}

// Incidents without end are a few lines a minute, and each is counted once.
func TestWatchLogCountsIncidents(t *testing.T) {
	t.Parallel()
	s := newStory()
	const n = 30_000
	for i := range n / 100 {
		var events []scan.Event
		for k := range 100 {
			events = append(events, scan.Event{Alert: watchAlert(fmt.Sprint(100*i + k))})
		}
		s.at(400*time.Millisecond, events...)
	}
	s.at(time.Second, scan.Event{End: &scan.End{}})
	text := news(t, s)
	more := 0
	for _, m := range regexp.MustCompile(`and (\d+) more incidents, not listed`).FindAllStringSubmatch(text, -1) {
		k, _ := strconv.Atoi(m[1])
		more += k
	}
	listed := strings.Count(text, "  INCIDENT  CRITICAL  ")
	if listed+more != n || listed > 3*defaultBurst {
		t.Errorf("%d listed and %d more, of %d", listed, more, n)
	}
	h := NewWatchText(io.Discard, WatchTextOptions{})
	for i, e := range s.events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
		if kept := len(h.heard.counts) + len(h.heard.before); kept > rememberedAlerts {
			t.Fatalf("after %d events %d alerts are remembered", i, kept)
		}
	}
}

// What is found to be an incident later, when its pod is known, is listed then, and no
// number of lesser incidents keeps a worse one from being listed.
func TestWatchLogHidesNoIncident(t *testing.T) {
	t.Parallel()
	s := newStory()
	early := watchAlert("early")
	early.Incident, early.Severity, early.Verdict = false, scan.SeverityMedium, ""
	s.at(time.Second, scan.Event{Alert: early})
	s.at(time.Second, scan.Event{Alert: watchAlert("early")})
	s.at(time.Second, scan.Event{Alert: watchAlert("early")})
	if text := news(t, s); strings.Count(text, "  INCIDENT  CRITICAL  ") != 1 {
		t.Errorf("an alert that turned out to be an incident:\n%s", text)
	}
	s = newStory()
	for i := range 10 * defaultBurst {
		lesser := watchAlert(fmt.Sprint(i))
		lesser.Severity = scan.SeverityMedium
		s.at(time.Millisecond, scan.Event{Alert: lesser})
	}
	s.at(time.Millisecond, scan.Event{Alert: watchAlert("the real one")})
	if text := news(t, s); strings.Count(text, "  INCIDENT  CRITICAL  ") != 1 {
		t.Errorf("among lesser ones:\n%s", text)
	}
}

// Alerts that are no incidents are counted once a minute, by how often they were done;
// with AllAlerts they are listed too. An incident that goes on has one line a minute.
func TestWatchLogCountsAlerts(t *testing.T) {
	t.Parallel()
	note := func(id string, count int) scan.Event {
		a := watchAlert(id)
		a.Incident, a.Blocked, a.Class, a.Severity, a.Count = false, true, scan.ClassTool, scan.SeverityLow, count
		return scan.Event{Alert: a}
	}
	again := *watchAlert("i")
	again.Count = 40
	s := newStory()
	s.at(time.Second, note("n", 2), scan.Event{Alert: watchAlert("i")})
	s.at(10*time.Second, note("n", 30), note("m", 5), scan.Event{Alert: &again})
	s.at(time.Minute, note("n", 31))
	s.at(time.Second, scan.Event{End: &scan.End{}})
	text := news(t, s)
	for want, n := range map[string]int{
		"ALERTS    35 in a minute that are no incidents, 35 of them stopped:  35 deployment tool": 1,
		"ALERTS    1 that are no incidents, 1 of them stopped:  1 deployment tool":                1,
		"INCIDENT  CRITICAL  capability  not stopped  shop/Deployment/app-00  EXPOSED":            1,
		"GOES ON   CRITICAL  capability  not stopped  shop/Deployment/app-00  EXPOSED  40 times":  1,
		"ALERT     LOW": 0,
	} {
		if got := strings.Count(text, want); got != n {
			t.Errorf("%q stands there %d times, want %d:\n%s", want, got, n, text)
		}
	}
	if all := watchLog(t, WatchTextOptions{AllAlerts: true}, s); strings.Count(all, "ALERT     LOW") != 2 {
		t.Errorf("not each alert is listed once:\n%s", all)
	}
}

// The clock of the caller ends a minute and a burst in which nothing more comes.
func TestWatchLogFollowsTheClock(t *testing.T) {
	t.Parallel()
	now := sampleTime()
	var out bytes.Buffer
	h := NewWatchText(&out, WatchTextOptions{Width: 100, Burst: 1, Now: func() time.Time { return now }})
	told := func(e ...scan.Event) string {
		t.Helper()
		out.Reset()
		for _, e := range e {
			e.Time = now
			if err := h.Handle(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Flush(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	told(newStory().events...)
	a := watchAlert("n")
	a.Incident = false
	text := told(scan.Event{Alert: a}, scan.Event{Verdict: watchVerdict("a", "", scan.VerdictExposed)}, scan.Event{Verdict: watchVerdict("b", "", scan.VerdictExposed)})
	if !strings.Contains(text, "shop/Deployment/a") || strings.Contains(text, "more workload") || strings.Contains(text, "ALERTS") {
		t.Errorf("at once:\n%s", text)
	}
	now = now.Add(burstWindow)
	if text := told(); !strings.Contains(text, "and 1 more workload:  1 new and exposed") {
		t.Errorf("after the burst:\n%s", text)
	}
	now = now.Add(time.Minute)
	if text := told(); !strings.Contains(text, "ALERTS    1 in a minute") {
		t.Errorf("after the minute:\n%s", text)
	}
	now = now.Add(24 * time.Hour)
	if text := told(scan.Event{Verdict: watchVerdict("c", "", scan.VerdictClosed)}); !strings.HasPrefix(text, "2026-11-23\n10:31:02  CLOSED") {
		t.Errorf("the next day:\n%s", text)
	}
	if text := told(); text != "" {
		t.Errorf("out of nothing:\n%s", text)
	}
	// A clock that is put back holds nothing up.
	now = now.Add(-48 * time.Hour)
	text = told(scan.Event{Verdict: watchVerdict("d", "", scan.VerdictClosed)}, scan.Event{Verdict: watchVerdict("e", "", scan.VerdictClosed)}, scan.Event{Alert: a})
	if !strings.HasPrefix(text, "2026-11-21\n10:31:02  CLOSED") {
		t.Errorf("two days before:\n%s", text)
	}
	now = now.Add(time.Minute)
	if text := told(); !strings.Contains(text, "and 1 more workload:  1 new and closed") {
		t.Errorf("a minute later:\n%s", text)
	}
}

// Without anybody who flushes, time itself ends a batch.
func TestWatchLogNeedsNoFlush(t *testing.T) {
	t.Parallel()
	s := newStory()
	s.at(time.Second, scan.Event{Verdict: watchVerdict("a", "", scan.VerdictExposed)})
	s.at(3*time.Second, scan.Event{Verdict: watchVerdict("b", "", scan.VerdictExposed)})
	f := format{"log", func(w io.Writer) scan.Handler { return NewWatchText(w, WatchTextOptions{}) }}
	if text := string(write(t, f, s.events)); !strings.Contains(text, "shop/Deployment/a") {
		t.Errorf("the first batch is not written when the second comes:\n%s", text)
	}
	// A scan is a picture and an end.
	text := string(write(t, f, layeredEvents()))
	if !strings.Contains(text, "VERDICTS  3 exposed") || !strings.Contains(text, "END  the watch is over") {
		t.Errorf("of a scan it says\n%s", text)
	}
}

// A stream that begins again is a new picture, and not thousands of changes.
func TestWatchLogBeginsAgain(t *testing.T) {
	t.Parallel()
	s := newStory(scan.Event{Verdict: watchVerdict("a", "", scan.VerdictExposed)})
	s.at(time.Second, newStory(scan.Event{Verdict: watchVerdict("b", "", scan.VerdictClosed)}).events...)
	s.at(time.Second, scan.Event{End: &scan.End{Interrupted: true}})
	text := watchLog(t, WatchTextOptions{}, s)
	if strings.Count(text, "WATCHING") != 2 || strings.Contains(text, "shop/") || !strings.Contains(text, "1 exposed") ||
		!strings.Contains(text, "the watch was cut short: what came after this is not known  0 exposed  0 unknown  0 guarded  1 closed") {
		t.Errorf("%s", text)
	}
}

func TestWatchLogSaysWhatItCouldNotWrite(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	h := NewWatchText(failing{full}, WatchTextOptions{})
	s := newStory()
	if err := h.Handle(s.events[0]); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	h = NewWatchText(io.Discard, WatchTextOptions{})
	for _, e := range s.events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	h.w = failing{full}
	if err := h.Handle(scan.Event{Node: &scan.Node{Name: "n"}}); err != nil {
		t.Errorf("nothing is written yet, and %v", err)
	}
	if err := Tee(NewJSONL(io.Discard), h).(interface{ Flush() error }).Flush(); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// However long a batch takes, a workload and its findings are one change.
func TestWatchLogTearsNoBatch(t *testing.T) {
	t.Parallel()
	now := sampleTime()
	var out bytes.Buffer
	h := NewWatchText(&out, WatchTextOptions{Burst: 1, Now: func() time.Time { return now }})
	s := newStory(scan.Event{Verdict: watchVerdict("b", "", scan.VerdictClosed)})
	s.at(time.Second,
		scan.Event{Verdict: watchVerdict("a", "", scan.VerdictExposed)}, scan.Event{Finding: watchFinding("b", "escape-nsenter", scan.SeverityHigh)},
		scan.Event{Finding: watchFinding("b", "escape-privileged", scan.SeverityHigh)}, scan.Event{Verdict: watchVerdict("b", "", scan.VerdictExposed)})
	for _, e := range s.events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
		now = now.Add(5 * time.Second)
	}
	if err := h.Flush(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if !strings.Contains(text, "EXPOSED  shop/Deployment/a  new") || strings.Count(text, "more workload") != 1 || !strings.Contains(text, "and 1 more workload:  1 exposed, before closed") {
		t.Errorf("%s", text)
	}
}

// What is other about a verdict that stays is its reason, also where it says nothing bad.
func TestWatchLogSaysWhyAVerdictStays(t *testing.T) {
	t.Parallel()
	closed := func(reason string) scan.Event {
		v := watchVerdict("cart", "", scan.VerdictClosed)
		v.Reason = reason
		return scan.Event{Verdict: v}
	}
	s := newStory(closed("admission keeps it shut"))
	s.at(time.Second, closed("admission lets 28 ways out in"))
	_, after, _ := strings.Cut(watchLog(t, WatchTextOptions{Width: 100}, s), "WATCHING")
	if !strings.Contains(after, "still") || !strings.Contains(after, "admission lets 28 ways out in") {
		t.Errorf("nothing says what changed:\n%s", after)
	}
}
