package report

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// collected gives events to a stage and returns what comes out of it.
func collected(t *testing.T, events []scan.Event, stage func(scan.Handler) scan.Handler) []scan.Event {
	t.Helper()
	var out []scan.Event
	h := stage(scan.HandlerFunc(func(e scan.Event) error {
		out = append(out, e)
		return nil
	}))
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestPictureLetsAScanPass(t *testing.T) {
	t.Parallel()
	for name, events := range samples(t) {
		got := collected(t, events, Picture)
		if len(got) != len(events) {
			t.Fatalf("%q: %d events of %d", name, len(got), len(events))
		}
		for i := range got {
			if got[i] != events[i] {
				t.Errorf("%q: event %d is another one", name, i)
			}
		}
	}
}

// A watch becomes what a scan of the same cluster would tell: the state as it was at
// the end, no change, and counts that are those of the state.
func TestPictureIsThatOfTheEnd(t *testing.T) {
	t.Parallel()
	got := collected(t, watchEvents(), Picture)
	verdicts, findings, excepted, pods := map[scan.Verdict]int{}, map[scan.Severity]int{}, 0, 0
	for i, e := range got {
		switch {
		case !e.Time.IsZero() || e.Resolved != nil || e.Picture != nil:
			t.Errorf("event %d is one of a watch: %+v", i, e)
		case e.Verdict != nil:
			verdicts[e.Verdict.Verdict]++
			pods += e.Verdict.Pods
			if strings.HasSuffix(e.Verdict.Workload.Name, "cart") || e.Verdict.Was != "" {
				t.Errorf("a verdict that is gone, or tells of before: %+v", e.Verdict)
			}
		case e.Finding != nil && e.Finding.Excepted != nil:
			excepted++
		case e.Finding != nil:
			findings[e.Finding.Severity]++
		case e.Node != nil && e.Node.Name == "node-5":
			t.Error("a node that is gone")
		}
	}
	start, end := got[0].Start, got[len(got)-1].End
	if start == nil || end == nil {
		t.Fatal("no start, or no end")
	}
	if start.Watch || len(start.Notes) != 1 || start.Notes[0] != "state of a watch at 2026-11-22T11:06:19Z, which began at 2026-11-22T10:30:00Z" {
		t.Errorf("start %+v", start)
	}
	for v, n := range end.Verdicts {
		if n != verdicts[v] {
			t.Errorf("%d are %s, and the end says %d", verdicts[v], v, n)
		}
	}
	for s, n := range end.Findings {
		if n != findings[s] {
			t.Errorf("%d findings are %s, and the end says %d", findings[s], s, n)
		}
	}
	if end.Excepted != excepted || end.Failures != 1 || !end.Incomplete || end.Interrupted || end.Pods != 60 {
		t.Errorf("end %+v", end)
	}
	// It is a scan now.
	again := collected(t, got, Picture)
	if a, b := write(t, format{"jsonl", NewJSONL}, got), write(t, format{"jsonl", NewJSONL}, again); !bytes.Equal(a, b) {
		t.Error("a picture of the picture is another one")
	}
	for _, e := range watchEvents() {
		if e.Start != nil && (!e.Start.Watch || len(e.Start.Notes) > 0) {
			t.Error("the events of the watch were changed")
		}
	}
}

// What a watch wrote is read back as it was, into itself and into every format.
func TestReplayOfAWatch(t *testing.T) {
	t.Parallel()
	saved := write(t, format{"jsonl", NewJSONL}, watchEvents())
	if got := replay(t, format{"jsonl", NewJSONL}, saved); !bytes.Equal(got, saved) {
		t.Error(firstDifference(got, saved))
	}
	for _, f := range formats() {
		f := format{f.name, func(w io.Writer) scan.Handler { return Picture(f.make(w)) }}
		if got, live := replay(t, f, saved), write(t, f, watchEvents()); !bytes.Equal(got, live) {
			t.Errorf("%s: %s", f.name, firstDifference(got, live))
		}
	}
	log := format{"log", func(w io.Writer) scan.Handler { return NewWatchText(w, WatchTextOptions{Width: 80}) }}
	if got, live := replay(t, log, saved), write(t, log, watchEvents()); !bytes.Equal(got, live) {
		t.Error(firstDifference(got, live))
	}
	document := format{"json", func(w io.Writer) scan.Handler { return Picture(NewJSON(w)) }}
	json := write(t, document, watchEvents())
	if got := replay(t, format{"json", NewJSON}, json); !bytes.Equal(got, json) {
		t.Error(firstDifference(got, json))
	}
}

// Wherever a watch was killed, its file is read as far as it goes, and never as whole.
func TestReplayOfAWatchThatWasKilled(t *testing.T) {
	t.Parallel()
	small := newStory(layeredCheckout()...)
	small.posture()
	saved := write(t, format{"jsonl", NewJSONL}, small.events)
	first := bytes.IndexByte(saved, '\n') + 1
	pictured := bytes.Index(saved, []byte(`"picture"`))
	for n := first; n < len(saved); n += 101 {
		var end *scan.End
		var failure *scan.Failure
		h := Picture(scan.HandlerFunc(func(e scan.Event) error {
			if e.End != nil {
				end = e.End
			}
			if e.Failure != nil && e.Failure.Reason == scan.FailureInterrupted {
				failure = e.Failure
			}
			return nil
		}))
		if err := Replay(bytes.NewReader(saved[:n]), h); err != nil {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
		if end == nil || !end.Interrupted || !end.Incomplete || failure == nil {
			t.Fatalf("the first %d bytes pass for whole: %+v", n, end)
		}
		if early := strings.Contains(failure.Message, "before its first picture"); early != (n <= pictured) && (n < pictured || n > pictured+500) {
			t.Errorf("the first %d bytes: %s", n, failure.Message)
		}
	}
	var out bytes.Buffer
	if err := Replay(bytes.NewReader(saved), Picture(NewTable(&out, TableOptions{}))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"INTERRUPTED", "NOT READ  events of the watch  interrupted:  the watch has no end in this file: it was killed, or goes on  affects: what changed after 2026-11-22T10:31:54Z",
		"note:  state of a watch at 2026-11-22T10:31:54Z",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// A file in which a watch was started again is the later watch.
func TestReplayOfAWatchThatWasStartedAgain(t *testing.T) {
	t.Parallel()
	first := newStory(layeredCheckout()...)
	second := newStory(layeredReport()...)
	second.posture()
	saved := write(t, format{"jsonl", NewJSONL}, append(first.events, second.events...))
	alone := write(t, format{"jsonl", NewJSONL}, second.events)
	table := format{"table", func(w io.Writer) scan.Handler { return Picture(NewTable(w, TableOptions{Width: 80})) }}
	if got, want := replay(t, table, saved), replay(t, table, alone); !bytes.Equal(got, want) {
		t.Error(firstDifference(got, want))
	}
}

func TestReadFindingsOfAWatch(t *testing.T) {
	t.Parallel()
	s := watchStory()
	want := map[string]bool{}
	for _, e := range collected(t, s.events, Picture) {
		if e.Finding != nil {
			want[e.Finding.Fingerprint()] = true
		}
	}
	saved := write(t, format{"jsonl", NewJSONL}, s.events)
	cut := saved[:bytes.LastIndex(bytes.TrimSpace(saved), []byte("\n"))]
	for name, in := range map[string][]byte{"whole": saved, "killed": cut} {
		_, findings, err := ReadFindings(bytes.NewReader(in))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := map[string]bool{}
		for i := range findings {
			got[findings[i].Fingerprint()] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %d findings, want the %d of the end", name, len(got), len(want))
		}
	}
	early := saved[:bytes.Index(saved, []byte(`"picture"`))]
	if _, findings, err := ReadFindings(bytes.NewReader(early)); err == nil || findings != nil || !strings.Contains(err.Error(), "first picture") {
		t.Errorf("half a picture gives %d findings and %v", len(findings), err)
	}
}

// A fold that is told again is one alert, with the newer count.
func TestAlertsAreKeptOnce(t *testing.T) {
	t.Parallel()
	again := *watchAlert("a")
	again.Count = 9
	open := scan.Lost{ID: "l", Reason: scan.LostDeaf, From: sampleTime()}
	closed := open
	closed.To = sampleTime()
	events := []scan.Event{
		{Start: &scan.Start{Schema: 1}}, {Alert: watchAlert("a")}, {Lost: &open}, {Alert: watchAlert("b")}, {Alert: &again}, {Lost: &closed}, {End: &scan.End{}},
	}
	var doc struct {
		Alerts []scan.Alert
		Lost   []scan.Lost
	}
	if err := json.Unmarshal(write(t, format{"json", NewJSON}, events), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Alerts) != 2 || doc.Alerts[0].ID != "a" || doc.Alerts[0].Count != 9 || len(doc.Lost) != 1 || doc.Lost[0].To.IsZero() {
		t.Errorf("%+v", doc)
	}
	table := tableText(t, TableOptions{}, events)
	if strings.Count(table, "INCIDENT  ") != 2 || strings.Count(table, "EVIDENCE LOST") != 1 || !strings.Contains(table, "9 times") {
		t.Errorf("%s", table)
	}
}

// On a terminal the table lists some incidents and counts the rest.
func TestTableCountsIncidents(t *testing.T) {
	t.Parallel()
	events := []scan.Event{{Start: &scan.Start{Schema: 1}}}
	for _, e := range watchEvents() {
		if e.Alert != nil && strings.HasPrefix(e.Alert.ID, "flood-") {
			events = append(events, e)
		}
	}
	text := tableText(t, TableOptions{Width: 100}, append(events, scan.Event{End: &scan.End{}}))
	if strings.Count(text, "INCIDENT  ") != 2*maxListed || !strings.Contains(text, "and 10 more incidents\n") || !strings.Contains(text, "ALERTS    30 incidents  0 other alerts") {
		t.Errorf("%s", text)
	}
}

// What the picture had no room for is said.
func TestPictureSaysWhatItLeftOut(t *testing.T) {
	t.Parallel()
	events := newStory().events
	for i := range 10_050 {
		events = append(events, scan.Event{Alert: &scan.Alert{ID: strconv.Itoa(i)}})
	}
	got := collected(t, append(events, scan.Event{End: &scan.End{}}), Picture)
	if notes := got[0].Start.Notes; len(notes) != 2 || !strings.HasPrefix(notes[1], "the oldest 50 alerts and 0 times") {
		t.Errorf("notes %q", notes)
	}
}
