// Package k8sevents tells of what changes, and of attacks, by Kubernetes Events on the
// workloads concerned, where kubectl describe shows them.
package k8sevents

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Controller is what our Events name as their reporter.
const Controller = "escape-scanner"

// Writer writes Events. Errors are those of the API server.
type Writer interface {
	// UID finds the UID of an object: kubectl shows the Events with that UID alone.
	UID(ctx context.Context, object *corev1.ObjectReference) (types.UID, error)
	// CreateEvent makes an Event that must not exist.
	CreateEvent(ctx context.Context, event *eventsv1.Event) error
	// RepeatEvent says that an Event that exists happened so often by now.
	RepeatEvent(ctx context.Context, namespace, name string, series eventsv1.EventSeries) error
}

// Options say what is told and how busily. Zero values are the defaults.
type Options struct {
	Writer Writer
	// Instance names this process among those of our kind: the pod's name.
	Instance string
	// Severity is that from which on new findings are told (high).
	Severity scan.Severity
	// Settle is how long a change of posture waits for others of the same workload (2 s).
	Settle time.Duration
	// QPS and Burst bound all Events, and Each is how often one workload may have one, once
	// it had EachBurst of them (5 a second, 25; 10 s, 5).
	QPS       float64
	Burst     int
	Each      time.Duration
	EachBurst int
	// Most is how many may wait, and MostEach how many of one workload (1000, 10). What
	// is more is left out, the least severe first, and counted.
	Most, MostEach int
	// Tell is how often at most it is told what was left out (30 s).
	Tell time.Duration
	// Retry is the first pause after an error that concerns all Events (1 s); each further
	// one is twice as long, up to 60 times as much.
	Retry time.Duration
	// Notify is told of troubles and of their end. It is called from one goroutine.
	Notify func(sink.Notice)
}

func (o Options) withDefaults() Options {
	durations(map[*time.Duration]time.Duration{
		&o.Settle: 2 * time.Second, &o.Each: 10 * time.Second, &o.Tell: 30 * time.Second, &o.Retry: time.Second,
	})
	for value, def := range map[*int]int{&o.Burst: 25, &o.EachBurst: 5, &o.Most: 1000, &o.MostEach: 10} {
		if *value <= 0 {
			*value = def
		}
	}
	if o.QPS <= 0 {
		o.QPS = 5
	}
	if o.Severity == "" {
		o.Severity = scan.SeverityHigh
	}
	if o.Instance == "" {
		o.Instance = Controller
	}
	if o.Notify == nil {
		o.Notify = func(sink.Notice) {}
	}
	return o
}

func durations(defaults map[*time.Duration]time.Duration) {
	for value, def := range defaults {
		if *value <= 0 {
			*value = def
		}
	}
}

// Sink tells of changes by Events.
type Sink struct {
	opts Options
	wake chan struct{}
	// begun makes the names of the Events of one run different from those of another.
	begun time.Time

	mu       sync.Mutex
	pictured bool
	// known are the findings of each row by their fingerprints, with what they count.
	known map[scan.RowRef]map[string]scan.Severity
	waits waiting
	told  told
	uids  uids
}

var _ sink.Runner = (*Sink)(nil)

// New is a sink that tells nothing before Run, nor of the picture that it begins with.
func New(o Options) *Sink {
	o = o.withDefaults()
	return &Sink{
		opts: o, wake: make(chan struct{}, 1), begun: time.Now(), known: map[scan.RowRef]map[string]scan.Severity{},
		waits: newWaiting(o), told: newTold(), uids: newUIDs(),
	}
}

// Handle takes in an event. It neither waits nor fails.
func (s *Sink) Handle(e scan.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case e.Start != nil:
		s.pictured, s.known = false, map[scan.RowRef]map[string]scan.Severity{}
	case e.Picture != nil:
		s.pictured = true
	case e.Finding != nil:
		s.finding(e.Finding, now)
	case e.Verdict != nil:
		s.verdict(e.Verdict, now)
	case e.Resolved != nil:
		s.resolved(e.Resolved)
	case e.Alert != nil:
		s.alert(e.Alert, now)
	case e.Lost != nil:
		s.lost(e.Lost, now)
	}
	if s.waits.len() > 0 || s.waits.dropped > 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// finding notes a finding, and has it told where it is new and severe.
func (s *Sink) finding(f *scan.Finding, now time.Time) {
	ref := scan.RowRef{Workload: f.Workload, Claims: f.Claims}
	row := s.known[ref]
	if row == nil {
		row = map[string]scan.Severity{}
		s.known[ref] = row
	}
	counts := f.Severity
	if f.Excepted != nil || f.Guarded {
		counts = ""
	}
	id := f.Fingerprint()
	before, known := row[id]
	row[id] = counts
	if !s.pictured || f.Recount || counts.Rank() < s.opts.Severity.Rank() || known && before.Rank() >= s.opts.Severity.Rank() {
		return
	}
	n := s.waits.note(noteID{ref, aboutFindings, ""}, f.Severity, now, s.opts.Settle)
	if n != nil {
		n.add(f)
	}
}

// verdict has a verdict told that is another than before.
func (s *Sink) verdict(v *scan.WorkloadVerdict, now time.Time) {
	if !s.pictured || v.Recount || v.Was == "" {
		return
	}
	id := noteID{scan.RowRef{Workload: v.Workload, Claims: v.Claims}, aboutVerdict, ""}
	if v.Was == v.Verdict && !s.waits.has(id) {
		return
	}
	if n := s.waits.note(id, v.Severity, now, s.opts.Settle); n != nil {
		if n.was == "" {
			n.was = v.Was
		}
		n.verdict = v
		if n.was == v.Verdict {
			// There and back again.
			s.waits.remove(id)
		}
	}
}

// resolved forgets what is gone.
func (s *Sink) resolved(r *scan.Resolved) {
	if r.Workload == nil {
		return
	}
	ref := scan.RowRef{Workload: *r.Workload, Claims: r.Claims}
	switch {
	case r.What == scan.ResolvedWorkload:
		delete(s.known, ref)
		s.waits.remove(noteID{ref, aboutFindings, ""})
		s.waits.remove(noteID{ref, aboutVerdict, ""})
		s.uids.forget(r.Workload)
	case r.Finding != nil:
		delete(s.known[ref], r.Finding.Fingerprint)
		if len(s.known[ref]) == 0 {
			delete(s.known, ref)
		}
	}
}

// alert has an incident told. What was told before the picture was told by another.
func (s *Sink) alert(a *scan.Alert, now time.Time) {
	if !a.Incident {
		return
	}
	id := noteID{scan.RowRef{Workload: a.Workload, Claims: a.Claims}, aboutAlert, a.ID}
	if !s.pictured {
		s.told.before(id, a.Count)
		return
	}
	if n := s.waits.note(id, a.Severity, now, 0); n != nil {
		n.alert = a
	}
}

// lost has a gap told, once, of the workload or node whose alerts are missing. One that
// concerns all of them is about no object.
func (s *Sink) lost(l *scan.Lost, now time.Time) {
	var w scan.Workload
	switch {
	case l.Workload != nil:
		w = *l.Workload
	case l.Node != "":
		w = scan.Workload{Kind: "Node", Name: l.Node}
	default:
		return
	}
	id := noteID{scan.RowRef{Workload: w}, aboutLost, l.ID}
	if !s.pictured {
		s.told.before(id, 1)
		return
	}
	if s.told.has(id) {
		return
	}
	if n := s.waits.note(id, scan.SeverityMedium, now, 0); n != nil {
		n.lost = l
	}
}
