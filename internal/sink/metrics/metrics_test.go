package metrics_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/metrics"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

func noon() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// picture is what a watch of the demo cluster tells first. It is not to be changed.
func picture(t *testing.T) []scan.Event {
	t.Helper()
	events, err := scanned()
	if err != nil {
		t.Fatal(err)
	}
	return events
}

var scanned = sync.OnceValues(func() ([]scan.Event, error) {
	ctx := context.Background()
	cluster, err := snapshot.Load(ctx, demo.Files(), demo.ServerVersion)
	if err != nil {
		return nil, err
	}
	var events []scan.Event
	err = scan.ScanCluster(ctx, cluster, scan.ClusterOptions{
		Start: scan.Start{Time: noon()}, Level: psa.LevelBaseline,
	}, scan.HandlerFunc(func(e scan.Event) error {
		if e.End != nil {
			e = scan.Event{Picture: e.End}
		}
		events = append(events, e)
		return nil
	}))
	return events, err
})

// series are all series of a gatherer by name and labels.
func series(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "escape_scanner_") {
			continue
		}
		for _, s := range f.GetMetric() {
			all[strings.TrimPrefix(f.GetName(), "escape_scanner_")+labelsOf(s)] = valueOf(s)
		}
	}
	return all
}

func labelsOf(s *dto.Metric) string {
	var pairs []string
	for _, l := range s.GetLabel() {
		pairs = append(pairs, l.GetName()+"="+l.GetValue())
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func valueOf(s *dto.Metric) float64 {
	switch {
	case s.Gauge != nil:
		return s.GetGauge().GetValue()
	case s.Counter != nil:
		return s.GetCounter().GetValue()
	default:
		return float64(s.GetHistogram().GetSampleCount())
	}
}

// expected are the gauges of a picture, counted from the picture itself: labels stand
// in the order of the alphabet.
func expected(s *scan.State) map[string]float64 {
	want := map[string]float64{"pods{}": 0}
	for _, ref := range s.Rows() {
		if v := s.Verdict(ref); v != nil {
			want[fmt.Sprintf("workloads{verdict=%s}", v.Verdict)]++
			want["pods{}"] += float64(v.Pods)
		}
		for _, f := range s.Findings(ref) {
			want[fmt.Sprintf("findings{category=%s,excepted=%t,rule=%s,severity=%s}", f.Category, f.Excepted != nil, f.Rule, f.Severity)]++
			if f.Category == scan.CategoryEscape && f.Open {
				want[fmt.Sprintf("open_escape_paths{excepted=%t,guarded=%t,rule=%s,severity=%s}", f.Excepted != nil, f.Guarded, f.Rule, f.Severity)]++
			}
		}
	}
	for _, n := range s.Nodes() {
		grade := string(n.Enforcement.Grade)
		if grade == "" {
			grade = "none"
		}
		want[fmt.Sprintf("nodes{capabilities=%s,grade=%s,processes=%s}", n.Enforcement.Capabilities, grade, n.Enforcement.Processes)]++
	}
	for _, p := range s.Policies() {
		want[fmt.Sprintf("policies{bites=%s,layer=%s}", p.Bites, p.Layer)]++
	}
	for _, f := range s.Failures() {
		want[fmt.Sprintf("unread{reason=%s}", f.Reason)]++
	}
	return want
}

// gauges are the families that a picture decides.
func gauges() []string {
	return []string{"pods", "workloads", "findings", "open_escape_paths", "nodes", "policies", "unread"}
}

// compare holds the gauges against the picture: what is not in it is 0 or absent.
func compare(t *testing.T, m *metrics.Metrics, s *scan.State) {
	t.Helper()
	want := expected(s)
	for name, got := range series(t, m) {
		family, _, _ := strings.Cut(name, "{")
		if slices.Contains(gauges(), family) && got != want[name] {
			t.Errorf("%s is %v, want %v", name, got, want[name])
		}
		delete(want, name)
	}
	for name, n := range want {
		t.Errorf("%s is missing, want %v", name, n)
	}
}

func feed(t *testing.T, h scan.Handler, events ...scan.Event) {
	t.Helper()
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFiguresAreThoseOfThePicture(t *testing.T) {
	t.Parallel()
	m, state := metrics.New(metrics.Options{Now: noon}), scan.NewState()
	events := picture(t)
	feed(t, state, events...)
	feed(t, m, events[:len(events)-1]...)
	for name := range series(t, m) {
		if family, _, _ := strings.Cut(name, "{"); slices.Contains(gauges(), family) || family == "picture_timestamp_seconds" {
			t.Errorf("%s is told before the picture is complete", name)
		}
	}
	feed(t, m, events[len(events)-1])
	compare(t, m, state)
	got := series(t, m)
	if got["picture_timestamp_seconds{}"] != float64(noon().Unix()) {
		t.Errorf("the picture is of %v", got["picture_timestamp_seconds{}"])
	}
	// The demo has what the figures are for, and each rule and verdict has its figure.
	for _, name := range []string{"workloads{verdict=exposed}", "workloads{verdict=sealed}", "policies{bites=no,layer=runtime}"} {
		if got[name] == 0 {
			t.Errorf("%s is 0", name)
		}
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(got)), func(name string) bool {
		return strings.HasPrefix(name, "open_escape_paths{excepted=false,guarded=true,rule=escape-cap-sys-admin,") && got[name] > 0
	}) {
		t.Error("no path is guarded")
	}
	for _, r := range scan.Rules() {
		if _, ok := got[fmt.Sprintf("findings{category=%s,excepted=false,rule=%s,severity=%s}", r.Category, r.ID, r.Severity)]; !ok {
			t.Errorf("rule %s has no figure", r.ID)
		}
	}
	if end := state.End(); got["pods{}"] != float64(end.Pods) {
		t.Errorf("%v pods, and the picture counts %d", got["pods{}"], end.Pods)
	}
}

// Whatever happens, the figures are those of the picture that the stream draws.
func TestFiguresFollowChanges(t *testing.T) {
	t.Parallel()
	events := picture(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			m, state := metrics.New(metrics.Options{}), scan.NewState()
			feed(t, m, events...)
			feed(t, state, events...)
			for range 20 {
				for range 200 {
					e := change(random, events)
					feed(t, m, e)
					feed(t, state, e)
				}
				compare(t, m, state)
			}
			// Who is attached anew is told the picture, and nothing is counted twice.
			feed(t, m, slices.Collect(state.Events())...)
			feed(t, m, scan.Event{Picture: state.End()})
			compare(t, m, state)
		})
	}
}

// change tells something of the picture anew, otherwise, or takes it back, whether or
// not it stands.
func change(random *rand.Rand, events []scan.Event) scan.Event {
	for {
		e := events[random.IntN(len(events))]
		back := random.IntN(2) == 0
		switch {
		case e.Finding != nil && back:
			ref := e.Finding.Ref()
			return scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFinding, Workload: &e.Finding.Workload, Claims: e.Finding.Claims, Finding: &ref}}
		case e.Finding != nil:
			f := *e.Finding
			f.Severity = scan.Severities()[random.IntN(4)]
			f.Guarded, f.Excepted = random.IntN(2) == 0, nil
			if random.IntN(3) == 0 {
				f.Excepted = &scan.Excepted{Reason: "agreed"}
			}
			return scan.Event{Finding: &f}
		case e.Verdict != nil && back:
			return scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &e.Verdict.Workload, Claims: e.Verdict.Claims}}
		case e.Verdict != nil:
			v := *e.Verdict
			v.Verdict, v.Pods = scan.Verdicts()[random.IntN(5)], random.IntN(100)
			return scan.Event{Verdict: &v}
		case e.Node != nil && back:
			return scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedNode, Node: e.Node.Name}}
		case e.Node != nil:
			return e
		case e.Policy != nil && back:
			ref := e.Policy.Ref()
			return scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedPolicy, Policy: &ref}}
		case e.Policy != nil:
			p := *e.Policy
			p.Bites = []scan.Bite{scan.BitesYes, scan.BitesPartly, scan.BitesNo, scan.BitesUnknown}[random.IntN(4)]
			return scan.Event{Policy: &p}
		case e.Start == nil && e.Picture == nil:
			f := scan.Failure{Subject: fmt.Sprint("watch of ", random.IntN(5)), Reason: scan.FailureForbidden, Message: "no"}
			if back {
				ref := f.Ref()
				return scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Failure: &ref}}
			}
			return scan.Event{Failure: &f}
		}
	}
}

// Prometheus' own linter has nothing to say.
func TestLint(t *testing.T) {
	t.Parallel()
	m := full(t)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// full has a series of every name.
func full(t *testing.T) *metrics.Metrics {
	t.Helper()
	m := metrics.New(metrics.Options{Version: "v1", RuleSet: "7", Sources: []string{"relay:32767"}})
	feed(t, m, picture(t)...)
	feed(t, m, scan.Event{Alert: &scan.Alert{ID: "a", Class: scan.ClassChroot, Count: 1}},
		scan.Event{Lost: &scan.Lost{ID: "l", Reason: scan.LostDeaf, From: noon()}})
	m.SetLeader(true)
	m.SetStale(noon())
	m.ObserveUpdate(time.Millisecond)
	m.SetQueue("webhook", 3)
	m.Connected("relay:32767", true)
	m.Connected("elsewhere", true)
	m.Notice(sink.Notice{Sink: "webhook", Err: errors.New("no"), Dropped: 2})
	return m
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	m := full(t)
	m.Connected("another", false)
	m.Notice(sink.Notice{Sink: "webhook", Dropped: 5})
	got := series(t, m)
	for name, want := range map[string]float64{
		"leader{}":                                                1,
		"update_duration_seconds{}":                               1,
		"queue_length{queue=webhook}":                             3,
		"kubearmor_connected{source=relay:32767}":                 1,
		"kubearmor_connected{source=other}":                       0,
		"sink_dropped_events_total{sink=webhook}":                 7,
		"sink_errors_total{sink=webhook}":                         1,
		"sink_failing{sink=webhook}":                              0,
		"events_total{kind=picture}":                              1,
		"events_total{kind=alert}":                                1,
		"alerts_total{blocked=false,class=chroot,incident=false}": 1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %t), want %v", name, v, ok, want)
		}
	}
	m.Connected("another", true)
	if got := series(t, m)["kubearmor_connected{source=other}"]; got != 1 {
		t.Errorf("all others are connected, and other is %v", got)
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	now := noon()
	m := metrics.New(metrics.Options{Now: func() time.Time { return now }})
	stale := func() float64 { return series(t, m)["stale_seconds{}"] }
	if stale() != 0 {
		t.Error("stale before anything is")
	}
	m.SetStale(now)
	now = now.Add(90 * time.Second)
	if stale() != 90 {
		t.Errorf("stale for %v, want 90", stale())
	}
	now = noon().Add(-time.Hour)
	if stale() != 0 {
		t.Errorf("the clock was set back, and it is stale for %v", stale())
	}
	m.SetStale(time.Time{})
	if stale() != 0 {
		t.Error("still stale")
	}
}

// However many names strangers choose, the series are as many as before.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	m := full(t)
	before := slices.Sorted(maps.Keys(series(t, m)))
	for i := range 1000 {
		evil := fmt.Sprintf("evil-%d\"\n\xff", i)
		w := scan.Workload{Namespace: evil, Kind: evil, Name: evil}
		feed(t, m,
			scan.Event{Finding: &scan.Finding{Rule: "hostNamespaces", Category: scan.CategoryPSS, Severity: scan.SeverityHigh, Workload: w, Container: evil, Field: evil}},
			scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Reason: evil}},
			scan.Event{Failure: &scan.Failure{Subject: evil, Reason: scan.FailureForbidden, Message: evil}},
			scan.Event{Alert: &scan.Alert{ID: evil, Class: scan.ClassOther, Workload: w, Count: 1, Process: evil, Policy: evil}},
			scan.Event{Lost: &scan.Lost{ID: evil, Reason: scan.LostThrottled, From: noon(), To: noon(), Source: evil}},
		)
		m.Connected(evil, false)
	}
	known := append(before, "events_total{kind=failure}", "events_total{kind=lost}")
	for _, name := range slices.Sorted(maps.Keys(series(t, m))) {
		if !slices.Contains(known, name) {
			t.Errorf("new series %q", name)
		}
	}
	// What is no value of ours at all is counted, once each, as something else.
	for i := range 1000 {
		odd := fmt.Sprint("odd-", i)
		w := scan.Workload{Name: odd}
		feed(t, m,
			scan.Event{Finding: &scan.Finding{Rule: odd, Category: scan.Category(odd), Severity: scan.Severity(odd), Workload: w, Field: odd}},
			scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.Verdict(odd)}},
			scan.Event{Policy: &scan.Policy{Layer: scan.Layer(odd), Name: odd, Bites: scan.Bite(odd)}},
			scan.Event{Failure: &scan.Failure{Subject: odd, Reason: scan.FailureReason(odd)}},
			scan.Event{Alert: &scan.Alert{ID: odd, Class: scan.AlertClass(odd), Severity: scan.Severity(odd), Incident: true, Count: 1}},
			scan.Event{Lost: &scan.Lost{ID: odd, Reason: scan.LostReason(odd), From: noon()}},
		)
		m.Notice(sink.Notice{Sink: odd})
		m.SetQueue(odd, i)
	}
	got := series(t, m)
	if len(got) > len(known)+150 {
		t.Errorf("%d series, and there were %d", len(got), len(known))
	}
	for name, want := range map[string]float64{
		"findings{category=other,excepted=false,rule=other,severity=other}": 1000,
		"workloads{verdict=other}":                              1000,
		"policies{bites=other,layer=other}":                     1000,
		"unread{reason=other}":                                  1000,
		"alerts_total{blocked=false,class=other,incident=true}": 1000,
		"incidents_total{severity=other}":                       1000,
		"evidence_gaps_open{reason=other}":                      1000,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// It is scraped while it is fed, and what is read is of one moment.
func TestScrapeWhileItIsFed(t *testing.T) {
	t.Parallel()
	events := picture(t)
	m := metrics.New(metrics.Options{})
	feed(t, m, events...)
	rows := 0
	for _, e := range events {
		if e.Verdict != nil {
			rows++
		}
	}
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	stop := make(chan struct{})
	var scraping sync.WaitGroup
	for range 3 {
		scraping.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				total := 0.0
				for name, n := range series(t, m) {
					if strings.HasPrefix(name, "workloads{") {
						total += n
					}
				}
				// Every picture that is told here has all of the demo's rows.
				if total != float64(rows) {
					t.Errorf("a scrape saw %v workloads, want %v", total, rows)
					return
				}
			}
		})
	}
	for range 20 {
		feed(t, m, events...)
		m.SetLeader(true)
		m.ObserveUpdate(time.Second)
		m.Connected("a", true)
	}
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	scraping.Wait()
	if problems, err := promlint.New(bytes.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("the text: %v, %v", problems, err)
	}
	if !bytes.Contains(text, []byte(`escape_scanner_workloads{verdict="sealed"} `)) {
		t.Errorf("no verdicts in the text:\n%s", text)
	}
}
