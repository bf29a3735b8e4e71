package alerts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

func TestThresholds(t *testing.T) {
	t.Parallel()
	w := recordedWorld(t)
	f, s := alerts.NewFolder(alerts.Options{}), newSink()
	all := read(t, "burst")
	for _, a := range all {
		f.Add(a.Alert, a.received)
	}
	now := all[len(all)-1].received
	must(t, f.Flush(now, w.place, s.emit))
	if got := only(t, s); got.Count != 11 || !got.Incident {
		t.Errorf("got %+v", got)
	}
	if len(s.lost) != 1 {
		t.Fatalf("%d gaps", len(s.lost))
	}
	for id, l := range s.lost {
		if l.Reason != scan.LostThrottled || !l.To.Equal(l.From.Add(30*time.Second)) || l.Pod != "priv-57758cccc8-n7qxj" || l.Container != "web" ||
			l.Node != "node1" || l.Workload == nil || l.Workload.String() != "shop/Deployment/priv" || l.ID != id || l.Message == "" {
			t.Errorf("gap %+v", l)
		}
	}
	if c := sums(t, f, s); c.Raised != 11 || c.Thresholds != 1 {
		t.Errorf("counts %+v", c)
	}
	// A container that stays too loud has one gap that grows.
	threshold := armor.Alert{Node: "node1", Namespace: "shop", Pod: "p", Container: "web", Type: "SystemEvent", Operation: "AlertThreshold", Result: "Passed"}
	f, s = alerts.NewFolder(alerts.Options{}), newSink()
	for i := range 10 {
		when := noon.Add(time.Duration(i) * 31 * time.Second)
		f.Add(at(threshold, when), when)
		must(t, f.Flush(when, nil, s.emit))
	}
	other := threshold
	other.Container = "other"
	f.Add(at(other, noon), noon)
	// Hours later it is another gap.
	f.Add(at(threshold, noon.Add(3*time.Hour)), noon.Add(3*time.Hour))
	must(t, f.Close(noon.Add(3*time.Hour), nil, s.emit))
	if len(s.lost) != 3 {
		t.Fatalf("%d gaps: %+v", len(s.lost), s.lost)
	}
	if l := s.lost[s.order[0]]; !l.From.Equal(noon) || !l.To.Equal(noon.Add(9*31*time.Second+30*time.Second)) {
		t.Errorf("gap %+v", l)
	}
}

func TestGapsPassThrough(t *testing.T) {
	t.Parallel()
	f, s := alerts.NewFolder(alerts.Options{}), newSink()
	deaf := scan.Lost{Reason: scan.LostDeaf, From: noon, Source: "relay:32767", Message: "the connection broke"}
	f.Lost(deaf)
	must(t, f.Flush(noon, nil, s.emit))
	elsewhere := deaf
	elsewhere.Source = "relay2:32767"
	f.Lost(elsewhere)
	deaf.To = noon.Add(time.Second)
	f.Lost(deaf)
	must(t, f.Flush(noon.Add(time.Second), nil, s.emit))
	if len(s.lost) != 2 {
		t.Fatalf("%d gaps", len(s.lost))
	}
	if l := s.lost[s.order[0]]; !l.To.Equal(deaf.To) {
		t.Errorf("the end was not told: %+v", l)
	}
	if l := s.lost[s.order[1]]; !l.To.IsZero() || l.Source != "relay2:32767" {
		t.Errorf("gap %+v", l)
	}
	// The next break is another gap.
	deaf.From, deaf.To = noon.Add(2*time.Second), time.Time{}
	f.Lost(deaf)
	// Garbage is one gap with a count, however much there is.
	for i := range 10_000 {
		when := noon.Add(time.Duration(i) * time.Millisecond)
		f.Lost(scan.Lost{Reason: scan.LostUnreadable, From: when, To: when, Source: "relay:32767", Alerts: 1, Message: "garbage"})
	}
	must(t, f.Close(noon.Add(10*time.Second), nil, s.emit))
	if len(s.lost) != 4 || s.missing() != 10_000 {
		t.Errorf("%d gaps with %d alerts: %+v", len(s.lost), s.missing(), s.lost)
	}
	// Gaps without end are bounded, and none is forgotten.
	f, s = alerts.NewFolder(alerts.Options{}), newSink()
	for i := range 5000 {
		f.Lost(scan.Lost{Reason: scan.LostUnreadable, From: noon, To: noon, Source: fmt.Sprint(i), Alerts: 1})
	}
	must(t, f.Close(noon, nil, s.emit))
	if len(s.lost) > 1001 || s.missing() != 5000 {
		t.Errorf("%d gaps with %d alerts", len(s.lost), s.missing())
	}
}

// A gap of a stream is told with its whole count each time: that of the last is the true
// one, also where there are too many other gaps.
func TestGapsAreNotCountedTwice(t *testing.T) {
	t.Parallel()
	for name, others := range map[string]int{"alone": 0, "among too many": 2000} {
		f, s := alerts.NewFolder(alerts.Options{}), newSink()
		for i := range others {
			f.Lost(scan.Lost{Reason: scan.LostDropped, From: noon, To: noon, Source: fmt.Sprint(i)})
		}
		l := scan.Lost{ID: "dropped/relay:32767/1", Reason: scan.LostDropped, From: noon, Source: "relay:32767", Message: "a flood"}
		now := noon
		for range 30 {
			l.Alerts += 100
			now = now.Add(time.Second)
			f.Lost(l)
			must(t, f.Flush(now, nil, s.emit))
		}
		l.To = now
		f.Lost(l)
		must(t, f.Close(now, nil, s.emit))
		if got := s.lost[l.ID]; got == nil || got.Alerts != 3000 || !got.To.Equal(now) || s.missing() != 3000 {
			t.Errorf("%s: %+v, %d alerts are missing", name, got, s.missing())
		}
	}
}
