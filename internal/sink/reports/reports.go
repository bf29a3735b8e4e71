// Package reports keeps what a watch knows in the cluster itself: one report for each
// workload, in the API for such reports that the cluster serves.
package reports

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/pause"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Source is what a report names as its maker, and ManagedBy the label of the same value
// by which ours are found. What lacks either is never touched.
const (
	Source    = "escape-scanner"
	ManagedBy = "app.kubernetes.io/managed-by"
)

// Store is where reports are kept. Errors are those of the API server, or
// scan.ErrNotServed where it does not serve the kind.
type Store interface {
	// Serves tells whether a kind is served in this very version, now.
	Serves(ctx context.Context, kind schema.GroupVersionKind) (bool, error)
	// List calls visit with each object of a kind that a label selector matches, in a
	// namespace or, when that is empty, in all.
	List(ctx context.Context, kind schema.GroupVersionKind, namespace, selector string, visit func(*unstructured.Unstructured) error) error
	// Get reads one object.
	Get(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error)
	// Create makes an object that must not exist, Update replaces one at the
	// resourceVersion that it carries. Both return it as it is kept.
	Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
	Update(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error)
	// Delete deletes an object if it still is the one that was read: the UID is its own.
	Delete(ctx context.Context, object *unstructured.Unstructured) error
}

// Options say where reports are kept and how busily. Zero values are the defaults.
type Options struct {
	Store Store
	// API is the API to write; APIAuto (the default) takes the one that is served.
	API API
	// Settle is how long after its first change a report is written, so that changes
	// which come together are one write (2 s), and Every how long after that the next
	// change of the same report waits (5 s).
	Settle, Every time.Duration
	// QPS is how many writes a second are made, and Parallel how many at once (20, 4).
	QPS      float64
	Parallel int
	// Reread is how often all reports are read again, to repair what others did to them
	// and to see whether the cluster serves another API by now (1 h).
	Reread time.Duration
	// MaxBytes bounds a report as JSON (512 KiB): etcd takes 1.5 MiB at most.
	MaxBytes int
	// Retry is the first pause after an error; each further one is twice as long, up to
	// 60 times as much (5 s).
	Retry time.Duration
	// Notify is told of troubles and of their end. It is called from one goroutine.
	Notify func(sink.Notice)
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	def(&o.Settle, 2*time.Second)
	def(&o.Every, 5*time.Second)
	def(&o.Reread, time.Hour)
	def(&o.Retry, 5*time.Second)
	if o.API == "" {
		o.API = APIAuto
	}
	if o.QPS <= 0 {
		o.QPS = 20
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 512 << 10
	}
	if o.Notify == nil {
		o.Notify = func(sink.Notice) {}
	}
	return o
}

// Sink keeps the reports of a watch. What is in the cluster is compared with what should
// be there, so that it does not matter what was written before, nor by whom of ours.
type Sink struct {
	opts  Options
	notes *troubles
	wake  chan struct{}

	mu       sync.Mutex
	state    *scan.State
	pictured bool
	dirty    map[subject]struct{}
	// freed is true where something can be read that could not: what was kept for the
	// sake of it may be stale.
	freed bool
}

var _ sink.Runner = (*Sink)(nil)

// New is a sink that writes nothing before Run.
func New(o Options) *Sink {
	o = o.withDefaults()
	return &Sink{
		opts: o, notes: newTroubles(o.Notify), wake: make(chan struct{}, 1),
		state: scan.NewState(), dirty: map[subject]struct{}{},
	}
}

// subject is what a report is about: a row of the result, or (with failures set) what
// could not be read.
type subject struct {
	row      scan.RowRef
	failures bool
}

// Handle takes in an event. It neither waits nor fails.
func (s *Sink) Handle(e scan.Event) error {
	if e.Alert != nil || e.Lost != nil {
		// Reports tell of the state that the cluster is in, not of what was done in it.
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.state.Handle(e)
	switch {
	case e.Start != nil:
		s.pictured = false
	case e.Picture != nil:
		s.pictured = true
	case e.Finding != nil && !e.Finding.Recount:
		s.dirty[subject{row: scan.RowRef{Workload: e.Finding.Workload, Claims: e.Finding.Claims}}] = struct{}{}
	case e.Verdict != nil && !e.Verdict.Recount:
		s.dirty[subject{row: scan.RowRef{Workload: e.Verdict.Workload, Claims: e.Verdict.Claims}}] = struct{}{}
	case e.Failure != nil:
		s.dirty[subject{failures: true}] = struct{}{}
	case e.Resolved != nil:
		s.resolved(e.Resolved)
	default:
		return nil
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *Sink) resolved(r *scan.Resolved) {
	switch {
	case r.What == scan.ResolvedFailure:
		s.dirty[subject{failures: true}] = struct{}{}
		s.freed = true
	case r.Workload != nil:
		s.dirty[subject{row: scan.RowRef{Workload: *r.Workload, Claims: r.Claims}}] = struct{}{}
	}
}

// changes are the subjects that changed since the last call, once there is a picture;
// ready is false before that.
func (s *Sink) changes() (dirty map[subject]struct{}, freed, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pictured {
		return nil, false, false
	}
	dirty, freed = s.dirty, s.freed
	s.dirty, s.freed = map[subject]struct{}{}, false
	return dirty, freed, true
}

// all are all subjects there are, and forgets which of them changed.
func (s *Sink) all() []subject {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty, s.freed = map[subject]struct{}{}, false
	subjects := []subject{{failures: true}}
	for _, row := range s.state.Rows() {
		subjects = append(subjects, subject{row: row})
	}
	return subjects
}

// start is what the watch said of itself.
func (s *Sink) start() scan.Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	if start := s.state.Start(); start != nil {
		return *start
	}
	return scan.Start{}
}

// Run writes reports until the context ends. What is not written by then is written by
// whoever runs next.
func (s *Sink) Run(ctx context.Context) error {
	if err := s.opts.API.valid(); err != nil {
		return err
	}
	next := s.opts.Retry
	for {
		wait, err := s.session(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			next = s.opts.Retry
		default:
			s.notes.trouble(general, err)
			wait, next = next, min(2*next, 60*s.opts.Retry)
		}
		if pause.For(ctx, wait) != nil {
			return nil
		}
	}
}
