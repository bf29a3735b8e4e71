package metrics_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink/metrics"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Every event about a deed has its count up to then; what is counted are the alerts.
func TestAlertsAreCountedOnce(t *testing.T) {
	t.Parallel()
	m, state := metrics.New(metrics.Options{}), scan.NewState()
	raised := 0
	for round := range 5 {
		for i := range 300 {
			more := i%7 + round
			e := scan.Event{Alert: &scan.Alert{ID: fmt.Sprint(i), Class: scan.ClassCapability, Severity: scan.SeverityHigh, Incident: i%3 == 0, Blocked: true, Count: more + 1}}
			raised = 0
			feed(t, m, e)
			feed(t, state, e)
		}
		// It is told again, whole, to who is attached anew.
		feed(t, m, scan.Event{Start: &scan.Start{}})
		for a := range state.Alerts() {
			raised += a.Count
			feed(t, m, scan.Event{Alert: a})
		}
		feed(t, m, scan.Event{Picture: &scan.End{}})
		got := series(t, m)
		incidents := got["alerts_total{blocked=true,class=capability,incident=true}"]
		if all := incidents + got["alerts_total{blocked=true,class=capability,incident=false}"]; all != float64(raised) {
			t.Fatalf("round %d: %v alerts, want %d", round, all, raised)
		}
		if incidents == 0 || got["incidents_total{severity=high}"] != 100 {
			t.Errorf("%v alerts of incidents, %v incidents, want 100", incidents, got["incidents_total{severity=high}"])
		}
	}
}

// A deed that turns out to be an incident is one from then on, and one incident.
func TestADeedBecomesAnIncident(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Options{})
	tell := func(incident bool, count int) {
		feed(t, m, scan.Event{Alert: &scan.Alert{ID: "a", Class: scan.ClassTool, Severity: scan.SeverityCritical, Incident: incident, Count: count}})
	}
	if got, ok := series(t, m)["incidents_total{severity=critical}"]; !ok || got != 0 {
		t.Error("there is no 0 for the first to be a rise from")
	}
	tell(false, 5)
	tell(true, 6)
	tell(true, 8)
	got := series(t, m)
	if got["alerts_total{blocked=false,class=deployment tool,incident=false}"] != 5 || got["alerts_total{blocked=false,class=deployment tool,incident=true}"] != 3 {
		t.Errorf("counted as %v", got)
	}
	if got["incidents_total{severity=critical}"] != 1 {
		t.Errorf("%v incidents, want 1", got["incidents_total{severity=critical}"])
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	now := noon()
	m := metrics.New(metrics.Options{Now: func() time.Time { return now }})
	tell := func(id string, reason scan.LostReason, to time.Time, alerts int) {
		feed(t, m, scan.Event{Lost: &scan.Lost{ID: id, Reason: reason, From: noon(), To: to, Alerts: alerts}})
	}
	expect := func(reason scan.LostReason, gaps, open, seconds, alerts float64) {
		t.Helper()
		got := series(t, m)
		for name, want := range map[string]float64{
			"evidence_gaps_total": gaps, "evidence_gaps_open": open,
			"evidence_gap_seconds_total": seconds, "evidence_lost_alerts_total": alerts,
		} {
			if is := got[fmt.Sprintf("%s{reason=%s}", name, reason)]; is != want {
				t.Errorf("%s of %s is %v, want %v", name, reason, is, want)
			}
		}
	}
	expect(scan.LostDeaf, 0, 0, 0, 0)
	tell("a", scan.LostDeaf, time.Time{}, 0)
	tell("b", scan.LostDropped, noon().Add(2*time.Second), 70)
	now = now.Add(30 * time.Second)
	expect(scan.LostDeaf, 1, 1, 30, 0)
	expect(scan.LostDropped, 1, 0, 2, 70)
	// A counter does not fall, not when the clock is set back, and not when the gap
	// turns out to have been shorter.
	now = noon()
	expect(scan.LostDeaf, 1, 1, 30, 0)
	now = noon().Add(time.Minute)
	tell("a", scan.LostDeaf, noon().Add(20*time.Second), 0)
	expect(scan.LostDeaf, 1, 0, 30, 0)
	// Told again as it was, it is the same.
	tell("a", scan.LostDeaf, noon().Add(20*time.Second), 0)
	tell("b", scan.LostDropped, noon().Add(5*time.Second), 100)
	expect(scan.LostDeaf, 1, 0, 30, 0)
	expect(scan.LostDropped, 1, 0, 5, 100)
}

// Nodes raise as many as they like: memory has a bound, and the count is true.
func TestManyAlerts(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Options{})
	for i := range 60_000 {
		feed(t, m, scan.Event{Alert: &scan.Alert{ID: fmt.Sprint(i), Class: scan.ClassEscape, Count: 2}})
	}
	if got := series(t, m)["alerts_total{blocked=false,class=other escape,incident=false}"]; got != 120_000 {
		t.Errorf("%v alerts", got)
	}
	if kept := metrics.Remembered(m); kept > 25_000 {
		t.Errorf("%d are remembered", kept)
	}
}
