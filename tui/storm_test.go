package tui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
	"go.uber.org/goleak"

	"github.com/escape-scanner/escape-scanner/scan"
)

// storm makes events about so many workloads: everything that a watch tells, in a mix, the
// same for the same seed.
type storm struct {
	random    *rand.Rand
	workloads []scan.Workload
	// deeds are how often each alert was done.
	deeds []int
	seq   int
	now   time.Time
}

func newStorm(workloads int) *storm {
	s := &storm{random: rand.New(rand.NewPCG(6, 7)), now: testTime}
	for i := range workloads {
		s.workloads = append(s.workloads, scan.Workload{
			Cluster: "prod-eu", Namespace: fmt.Sprintf("team-%03d", i%200), Kind: "Deployment", Name: fmt.Sprintf("service-%05d", i),
		})
	}
	return s
}

// picture is what the storm begins with: every workload has a verdict and three findings.
func (s *storm) picture() []scan.Event {
	events := []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion, Watch: true, Alerts: true, Level: "baseline", PSSVersion: "v1.36"}}}
	for i := range 100 {
		events = append(events, scan.Event{Node: &scan.Node{Name: fmt.Sprintf("node-%03d", i)}})
	}
	for i := range 500 {
		events = append(events, scan.Event{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: fmt.Sprintf("team-%03d", i%200), Name: fmt.Sprintf("p-%d", i), Bites: scan.BitesYes}})
	}
	for i := range s.workloads {
		for n := range 3 {
			events = append(events, scan.Event{Finding: s.finding(i, n)})
		}
		events = append(events, scan.Event{Verdict: s.verdict(i)})
	}
	return append(events, scan.Event{Picture: &scan.End{Workloads: len(s.workloads)}})
}

func (s *storm) finding(workload, n int) *scan.Finding {
	return &scan.Finding{
		Rule: fmt.Sprintf("escape-%d", n), Category: scan.CategoryEscape, Title: "a way out", Severity: scan.Severities()[n%4], Open: true,
		Workload: s.workloads[workload], Container: "app", Field: "spec.containers[0].securityContext.privileged",
		Message: fmt.Sprintf("event %d", s.seq), Pods: 1 + s.random.IntN(9),
	}
}

func (s *storm) verdict(workload int) *scan.WorkloadVerdict {
	return &scan.WorkloadVerdict{
		Workload: s.workloads[workload], Verdict: scan.Verdicts()[s.random.IntN(5)], Reason: fmt.Sprintf("event %d", s.seq), Pods: 3,
		Layers: &scan.Layers{},
	}
}

// next is one more event.
func (s *storm) next() scan.Event {
	s.seq++
	s.now = s.now.Add(50 * time.Microsecond)
	i := s.random.IntN(len(s.workloads))
	e := scan.Event{Time: s.now}
	switch n := s.random.IntN(100); {
	case n < 35:
		e.Verdict = s.verdict(i)
	case n < 60:
		e.Finding = s.finding(i, s.random.IntN(4))
	case n < 68:
		w := s.workloads[i]
		e.Resolved = &scan.Resolved{What: scan.ResolvedFinding, Workload: &w, Finding: &scan.FindingRef{Fingerprint: s.finding(i, s.random.IntN(4)).Fingerprint()}}
	case n < 70:
		w := s.workloads[i]
		e.Resolved = &scan.Resolved{What: scan.ResolvedWorkload, Workload: &w}
	case n < 99:
		e.Alert = s.alert(i)
	default:
		e.Lost = &scan.Lost{ID: fmt.Sprintf("lost-%d", s.seq), Reason: scan.LostThrottled, From: s.now.Add(-time.Second), To: s.now, Message: "throttled"}
	}
	return e
}

// alert is a new deed, or one of before once more.
func (s *storm) alert(workload int) *scan.Alert {
	id := len(s.deeds)
	if id > 0 && s.random.IntN(2) == 0 {
		id = max(0, id-1-s.random.IntN(500))
		s.deeds[id]++
	} else {
		s.deeds = append(s.deeds, 1)
	}
	return &scan.Alert{
		ID: fmt.Sprintf("alert-%d", id), Class: scan.AlertClasses()[id%5], Incident: id%50 == 0, Severity: scan.Severities()[id%4],
		Reason: "it was done", Workload: s.workloads[workload], Verdict: scan.VerdictExposed, Container: "app", Resource: "/usr/bin/curl https://example.com",
		Process: "/usr/bin/curl", Count: s.deeds[id], First: s.now, Last: s.now,
	}
}

// A storm is kept as a picture: of workloads nothing is lost, and of alerts as much as is
// said to be.
func TestStormIsThePicture(t *testing.T) {
	t.Parallel()
	s, feed, want := newStorm(500), NewFeed(func() time.Time { return testTime }), scan.NewState()
	handle := func(e scan.Event) {
		_ = feed.Handle(e)
		_ = want.Handle(e)
	}
	for _, e := range s.picture() {
		handle(e)
	}
	reported := 0
	for i := range 60_000 {
		e := s.next()
		if e.Alert != nil {
			reported++
		}
		handle(e)
		if i%7_001 == 0 {
			sameAs(t, feed.Snapshot(), want)
		}
	}
	snap := feed.Snapshot()
	sameAs(t, snap, want)
	if snap.Reported != reported {
		t.Errorf("%d were reported, not %d", reported, snap.Reported)
	}
	if len(snap.Alerts) > 10_000 || snap.ForgottenAlerts+len(snap.Alerts) != len(s.deeds) {
		t.Errorf("%d alerts are kept and %d forgotten of %d", len(snap.Alerts), snap.ForgottenAlerts, len(s.deeds))
	}
	if snap.Version != uint64(60_000+len(s.picture())) {
		t.Errorf("%d events were taken in", snap.Version)
	}
	if n := len(feed.counts) + len(feed.before); n > 2*maxCounted {
		t.Errorf("the counts of %d alerts are remembered", n)
	}
	if n := len(feed.minutes.by); n > 2*sparkMinutes+1 {
		t.Errorf("%d minutes are remembered", n)
	}
	again := feed.Snapshot()
	sameAs(t, again, want)
	if again.Version != snap.Version || len(again.Rows) > 0 && &again.Rows[0] != &snap.Rows[0] {
		t.Error("a picture without new events is made anew")
	}
}

// sameAs fails unless a snapshot has what a state has.
func sameAs(t *testing.T, s *Snapshot, want *scan.State) {
	t.Helper()
	refs := slices.SortedFunc(slices.Values(want.Rows()), scan.RowRef.Compare)
	if len(s.Rows) != len(refs) {
		t.Fatalf("%d rows, want %d", len(s.Rows), len(refs))
	}
	verdicts, findings := map[scan.Verdict]int{}, map[scan.Severity]int{}
	for i, row := range s.Rows {
		if row.Ref != refs[i] || row.Verdict != want.Verdict(refs[i]) || !slices.Equal(row.Findings, want.Findings(refs[i])) {
			t.Fatalf("row %v is other than %v", row, refs[i])
		}
		if s.Row(refs[i]) != row {
			t.Fatalf("%v is not found", refs[i])
		}
		if row.Verdict != nil {
			verdicts[row.Verdict.Verdict]++
		}
		for _, f := range row.Findings {
			findings[f.Severity]++
		}
	}
	if !maps.Equal(verdicts, s.Verdicts) || !maps.Equal(findings, s.Findings) {
		t.Errorf("counted %v and %v, there are %v and %v", s.Verdicts, s.Findings, verdicts, findings)
	}
	alerts, lost := want.Forgotten()
	if !slices.Equal(s.Alerts, slices.Collect(want.Alerts())) || s.ForgottenAlerts != alerts {
		t.Errorf("the alerts are others")
	}
	if !slices.Equal(s.Lost, slices.Collect(want.Lost())) || s.ForgottenLost != lost {
		t.Errorf("the gaps are others")
	}
	if !slices.Equal(s.Nodes, want.Nodes()) || !slices.Equal(s.Policies, want.Policies()) || !slices.Equal(s.Failures, want.Failures()) {
		t.Errorf("nodes, policies or failures are others")
	}
}

// Who reads pictures and who tells events do not disturb each other, and a picture does
// not change once it is taken.
func TestFeedConcurrently(t *testing.T) {
	t.Parallel()
	s, feed := newStorm(200), NewFeed(time.Now)
	for _, e := range s.picture() {
		_ = feed.Handle(e)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			last := uint64(0)
			for {
				snap := feed.Snapshot()
				if snap.Version < last {
					t.Errorf("version %d comes after %d", snap.Version, last)
				}
				last = snap.Version
				before := slices.Clone(snap.Rows)
				count := 0
				for _, a := range snap.Alerts {
					count += a.Count
				}
				if count > snap.Reported && snap.Reported > 0 {
					t.Errorf("%d alerts of %d", count, snap.Reported)
				}
				feed.Say("a message")
				select {
				case <-done:
					if !slices.Equal(before, snap.Rows) {
						t.Error("a picture was changed")
					}
					return
				default:
				}
			}
		})
	}
	for range 20_000 {
		_ = feed.Handle(s.next())
	}
	close(done)
	readers.Wait()
	if n := len(feed.Snapshot().Notices); n != maxNotices {
		t.Errorf("%d messages are kept", n)
	}
}

// counting is a program that also shows how many keys it has taken in.
type counting struct {
	*app
	keys int
}

func (c *counting) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if k, ok := msg.(tea.KeyMsg); ok {
		// Keys that came together are one message.
		c.keys += max(1, len(k.Runes))
		if k.Alt {
			c.keys++
		}
	}
	_, cmd := c.app.Update(msg)
	return c, cmd
}

func (c *counting) View() string {
	view := c.app.View()
	if at := bytes.LastIndexByte([]byte(view), '\n'); at >= 0 {
		view = view[:at]
	}
	return view + "\n(key " + strconv.Itoa(c.keys) + ")"
}

// seen is a terminal that knows when which key was first answered.
type seen struct {
	mu     sync.Mutex
	at     map[int]time.Time
	frames int
	bytes  int
}

func (s *seen) Write(p []byte) (int, error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames++
	s.bytes += len(p)
	if at := bytes.LastIndex(p, []byte("(key ")); at >= 0 {
		digits, _, _ := bytes.Cut(p[at+len("(key "):], []byte(")"))
		if n, err := strconv.Atoi(string(digits)); err == nil {
			for k := n; k > 0 && s.at[k].IsZero(); k-- {
				s.at[k] = now
			}
		}
	}
	return len(p), nil
}

// answered reports whether so many keys were answered.
func (s *seen) answered(keys int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.at[keys].IsZero()
}

// stormKeys are pressed in turn: they go through all views, scroll, sort, filter and open.
var stormKeys = []string{
	"2", "j", "\x04", "G", "g", "s", "S", "s", "o", "o", "/", "s", "0", "0", "7", "\r", "j", "\r", "j", "\x1b", "c",
	"3", "j", "\x04", "G", "f", "i", " ", "j", "c", "p", "j", "p", "\r", "n", "\x1b", "/", "c", "u", "\r", "c",
	"1", "j", "4", "j", "\x04", "5", "j", "G", "6", "?", "\x1b", "\t",
}

// BenchmarkStorm presses a key every 50 ms while 20,000 events a second come in about
// 10,000 workloads: how long until the frame is written that answers it?
func BenchmarkStorm(b *testing.B) {
	const workloads, rate, keys, pause = 10_000, 20_000, 200, 50 * time.Millisecond
	var took []time.Duration
	var events, frames int
	var lasted time.Duration
	var heap uint64
	var late time.Duration
	for b.Loop() {
		r := runStorm(b, workloads, rate, keys, pause)
		took, events, frames, lasted = append(took, r.took...), events+r.events, frames+r.frames, lasted+r.lasted
		heap, late = max(heap, r.heap), max(late, r.late)
	}
	slices.Sort(took)
	ms := func(part float64) float64 {
		return float64(took[min(int(part*float64(len(took))), len(took)-1)].Microseconds()) / 1000
	}
	b.ReportMetric(ms(0.5), "p50-ms")
	b.ReportMetric(ms(0.99), "p99-ms")
	b.ReportMetric(ms(1), "max-ms")
	b.ReportMetric(float64(events)/lasted.Seconds(), "events/s")
	b.ReportMetric(float64(frames)/lasted.Seconds(), "frames/s")
	b.ReportMetric(float64(heap)/(1<<20), "heap-MB")
	// What a goroutine that only sleeps was late at the worst: no key is answered sooner
	// than the machine gives the program its turn.
	b.ReportMetric(float64(late.Microseconds())/1000, "idle-late-ms")
	b.ReportMetric(0, "ns/op")
}

// stormed is what came of a storm.
type stormed struct {
	took           []time.Duration
	events, frames int
	lasted         time.Duration
	heap           uint64
	late           time.Duration
}

func runStorm(tb testing.TB, workloads, rate, keys int, pause time.Duration) stormed {
	tb.Helper()
	s, feed := newStorm(workloads), NewFeed(time.Now)
	begin := s.picture()
	for _, e := range begin {
		_ = feed.Handle(e)
	}
	renderer := lipgloss.NewRenderer(io.Discard)
	renderer.SetColorProfile(termenv.TrueColor)
	renderer.SetHasDarkBackground(true)
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	in, press, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _, _ = in.Close(), press.Close() }()
	screen := &seen{at: map[int]time.Time{}}
	o := &Options{Source: "storm", Feed: feed, Rules: scan.Rules(), NoRemedy: "there is no cluster here"}
	program := tea.NewProgram(&counting{app: newApp(ctx, o, renderer)}, tea.WithInput(in), tea.WithOutput(screen), tea.WithAltScreen(), tea.WithoutSignalHandler(), tea.WithContext(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if _, err := program.Run(); err != nil && !errors.Is(err, tea.ErrProgramKilled) {
			tb.Errorf("the program: %v", err)
		}
	})
	program.Send(tea.WindowSizeMsg{Width: 160, Height: 50})

	sent, over := 0, make(chan struct{})
	began := time.Now()
	running.Go(func() { sent = s.blow(feed, rate, over) })
	var heap uint64
	var late time.Duration
	running.Go(func() { heap = heapPeak(over) })
	running.Go(func() { late = lateness(over) })
	var pressed []time.Time
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	for i := range keys {
		<-ticks.C
		pressed = append(pressed, time.Now())
		if _, err := io.WriteString(press, stormKeys[i%len(stormKeys)]); err != nil {
			tb.Fatal(err)
		}
	}
	close(over)
	result := stormed{lasted: time.Since(began)}
	for deadline := time.Now().Add(2 * time.Minute); !screen.answered(keys) && time.Now().Before(deadline); {
		<-ticks.C
	}
	program.Quit()
	running.Wait()
	result.events, result.heap, result.frames, result.late = sent, heap, screen.frames, late
	if got := feed.Snapshot().Version; got != uint64(sent+len(begin)) {
		tb.Errorf("%d of %d events were taken in", got, sent+len(begin))
	}
	for i, at := range pressed {
		answered := screen.at[i+1]
		if answered.IsZero() {
			tb.Fatalf("key %d, %q, was never answered", i, stormKeys[i%len(stormKeys)])
		}
		result.took = append(result.took, answered.Sub(at))
	}
	return result
}

// blow tells events at a rate until it is over, and says how many.
func (s *storm) blow(feed *Feed, rate int, over <-chan struct{}) int {
	began, sent := time.Now(), 0
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for {
		select {
		case <-over:
			return sent
		case <-ticks.C:
		}
		for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
			_ = feed.Handle(s.next())
		}
	}
}

// heapPeak is the most that the heap held until it was over.
func heapPeak(over <-chan struct{}) uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	peak := uint64(0)
	for {
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64())
		select {
		case <-over:
			return peak
		case <-ticks.C:
		}
	}
}

// lateness is by how much a sleep of 2 ms was too long at the worst, until it was over.
func lateness(over <-chan struct{}) time.Duration {
	const nap = 2 * time.Millisecond
	worst := time.Duration(0)
	for {
		began := time.Now()
		select {
		case <-over:
			return worst
		case <-time.After(nap):
			worst = max(worst, time.Since(began)-nap)
		}
	}
}

// A short storm in a real program: every key is answered, every event taken in, and
// nothing left behind. How fast is the benchmark's.
func TestStormIsAnswered(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	runStorm(t, 300, 5_000, len(stormKeys), 10*time.Millisecond)
	// The clock's last tick is waited for, whoever quits; each look waits a little.
	left := goleak.Find(ignore)
	for deadline := time.Now().Add(time.Minute); left != nil && time.Now().Before(deadline); {
		left = goleak.Find(ignore)
	}
	if left != nil {
		t.Error(left)
	}
}
