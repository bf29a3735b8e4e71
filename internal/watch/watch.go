// Package watch is the loop of continuous mode: it takes what changed in the cluster to
// the tracker, what was reported to the folder of alerts, and what both tell to the
// sinks. It decides nothing.
package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
)

// Feed tells that the cluster is other than it was. kube.Mirror is one.
type Feed interface {
	// Ready is signalled when there is something to take.
	Ready() <-chan struct{}
	// Take gives what changed since the last time.
	Take() scan.Changes
	// Stale is what is not followed now.
	Stale() []scan.Failure
}

// Posture keeps the picture. scan.Tracker is one.
type Posture interface {
	Begin(ctx context.Context, next scan.Handler) error
	Update(ctx context.Context, c scan.Changes, next scan.Handler) (more bool, err error)
	SetExceptions(list []scan.Exception)
	SetStale(failures []scan.Failure)
	Place(namespace, pod string) (scan.Place, bool)
	NextAt() time.Time
	End(next scan.Handler) error
}

// Alerts folds what KubeArmor reports. alerts.Folder is one.
type Alerts interface {
	Flush(now time.Time, place alerts.Places, emit func(scan.Event) error) error
	Close(now time.Time, place alerts.Places, emit func(scan.Event) error) error
}

// Flusher is a handler that writes at the end of a batch.
type Flusher interface{ Flush() error }

// Turn is what one update took, for measurements.
type Turn struct {
	Changes  scan.Changes
	Duration time.Duration
	Events   int
}

// Options are what a Loop works with.
type Options struct {
	Posture Posture
	// Feed is nil for a cluster that does not change.
	Feed Feed
	// Alerts is nil where nobody listens.
	Alerts Alerts
	// Handler gets every event. An error of it ends the loop.
	Handler scan.Handler
	// Now is the clock.
	Now func() time.Time
	// Window is how long changes are collected before they are judged; 0 means 100 ms.
	Window time.Duration
	// AlertsEvery is how often alerts are told; 0 means 200 ms.
	AlertsEvery time.Duration
	// Done, where it is not nil, ends the loop when it is closed: a recording is over.
	Done <-chan struct{}
	// Observe, where it is not nil, is called after every update.
	Observe func(Turn)
}

// Loop is one watch.
type Loop struct {
	Options
	state *scan.State

	mu       sync.Mutex
	attached []*attachment
	// exceptions are those that wait to be put in force, nil for none.
	exceptions *[]scan.Exception
	// around is true where what stands around the pods may be other, beside the feed.
	around bool
	nudge  chan struct{}

	alive    atomic.Int64
	pictured atomic.Bool
	// batch is the time that the events of this turn carry.
	batch  time.Time
	events int
	stale  []scan.Failure
	// more is true while the posture has something left to judge, and updated is when it
	// last judged.
	more    bool
	updated time.Time
}

// attachment is a handler that came later. It lives in the loop's goroutine, but for
// its first and last moment.
type attachment struct {
	handler scan.Handler
	failed  func(error)
	begun   bool
	gone    bool
	// busy is held while the handler is called: who detaches waits for that.
	busy sync.Mutex
}

// call calls the handler, unless it has left.
func (a *attachment) call(l *Loop, f func(scan.Handler) error) {
	if err := a.callBusy(l, f); err != nil {
		l.mu.Lock()
		a.gone = true
		l.mu.Unlock()
		a.failed(err)
	}
}

func (a *attachment) callBusy(l *Loop, f func(scan.Handler) error) error {
	a.busy.Lock()
	defer a.busy.Unlock()
	l.mu.Lock()
	gone := a.gone
	l.mu.Unlock()
	if gone {
		return nil
	}
	return f(a.handler)
}

// New makes a loop. It is run once.
func New(o Options) *Loop {
	if o.Window <= 0 {
		o.Window = 100 * time.Millisecond
	}
	if o.AlertsEvery <= 0 {
		o.AlertsEvery = 200 * time.Millisecond
	}
	return &Loop{Options: o, state: scan.NewState(), nudge: make(chan struct{}, 1)}
}

// Alive is when the loop last moved, zero before it runs. It does so at least every
// second, unless it waits for a handler.
func (l *Loop) Alive() time.Time {
	if at := l.alive.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Pictured reports whether the first picture is complete.
func (l *Loop) Pictured() bool { return l.pictured.Load() }

// Attach gives a handler the picture as it is, as soon as there is one, and from then
// on every event, until detach is called. An error of such a handler detaches it, and
// is given to failed. Once detach has returned the handler is not called any more.
func (l *Loop) Attach(h scan.Handler, failed func(error)) (detach func()) {
	a := &attachment{handler: h, failed: failed}
	l.mu.Lock()
	l.attached = append(l.attached, a)
	l.mu.Unlock()
	l.wake()
	return func() {
		l.mu.Lock()
		a.gone = true
		l.mu.Unlock()
		a.busy.Lock()
		defer a.busy.Unlock()
	}
}

// SetExceptions puts other exceptions in force.
func (l *Loop) SetExceptions(list []scan.Exception) {
	l.mu.Lock()
	l.exceptions = &list
	l.mu.Unlock()
	l.wake()
}

// LookAround has what stands around the pods read again: what is known of the nodes may be
// other, which the feed does not tell.
func (l *Loop) LookAround() {
	l.mu.Lock()
	l.around = true
	l.mu.Unlock()
	l.wake()
}

func (l *Loop) wake() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}

func (l *Loop) beat() { l.alive.Store(l.Now().UnixNano()) }

// Run tells the picture and then what changes, until the context ends or Done is
// closed. The stream ends with an End event in both cases, and the error is nil; other
// errors are those of the posture and of the handler.
func (l *Loop) Run(ctx context.Context) error {
	l.beat()
	l.batch = l.Now()
	if err := l.Posture.Begin(ctx, l.handler()); err != nil {
		return err
	}
	if ctx.Err() == nil {
		l.pictured.Store(true)
	}
	if err := l.endBatch(); err != nil {
		return err
	}
	if err := l.follow(ctx); err != nil {
		return err
	}
	l.batch = l.Now()
	return errors.Join(l.flushAlerts(true), l.Posture.End(l.handler()), l.endBatch())
}

// follow goes on until the context ends or there is nothing more to come.
func (l *Loop) follow(ctx context.Context) error {
	ready := (<-chan struct{})(nil)
	if l.Feed != nil {
		ready = l.Feed.Ready()
	}
	window := newTimer()
	defer window.Stop()
	next := newTimer()
	defer next.Stop()
	heard := time.NewTicker(l.AlertsEvery)
	defer heard.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		l.arm(next)
		l.beat()
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-l.Done:
			return nil
		case <-ready:
			// A burst is one batch: its first change opens the window.
			window.Reset(l.Window)
			ready = nil
		case <-window.C:
			ready = l.Feed.Ready()
			if c := l.Feed.Take(); !c.Empty() {
				err = l.update(ctx, c)
			}
		case <-next.C:
			// What is new comes before what is left.
			err = l.update(ctx, l.take())
		case <-l.nudge:
			err = l.nudged(ctx)
		case <-heard.C:
			l.batch = l.Now()
			err = errors.Join(l.flushAlerts(false), l.endBatch())
		case <-second.C:
			err = l.lookStale(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// newTimer is a timer that is not running.
func newTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// arm sets the timer to when the posture is to be asked without a change: at once, when
// it has more to judge, but beside all else that the loop has to do. Otherwise it is not
// asked more often than changes would ask it.
func (l *Loop) arm(next *time.Timer) {
	if l.more {
		next.Reset(0)
		return
	}
	at := l.Posture.NextAt()
	if at.IsZero() {
		next.Stop()
		return
	}
	next.Reset(max(at.Sub(l.Now()), l.Window-time.Since(l.updated), 0))
}

// take is what changed, where something can.
func (l *Loop) take() scan.Changes {
	if l.Feed == nil {
		return scan.Changes{}
	}
	return l.Feed.Take()
}

// update judges what changed, as much of it as the posture does in one turn.
func (l *Loop) update(ctx context.Context, c scan.Changes) (err error) {
	began := time.Now()
	l.batch, l.events = l.Now(), 0
	if l.more, err = l.Posture.Update(ctx, c, l.handler()); err != nil {
		return err
	}
	if err := l.endBatch(); err != nil {
		return err
	}
	l.updated = time.Now()
	if l.Observe != nil {
		l.Observe(Turn{Changes: c, Duration: l.updated.Sub(began), Events: l.events})
	}
	return nil
}

// nudged does what was asked for from outside.
func (l *Loop) nudged(ctx context.Context) error {
	l.mu.Lock()
	exceptions, around := l.exceptions, l.around
	l.exceptions, l.around = nil, false
	l.mu.Unlock()
	if exceptions != nil {
		l.Posture.SetExceptions(*exceptions)
	}
	if exceptions != nil || around {
		if err := l.update(ctx, scan.Changes{Around: around}); err != nil {
			return err
		}
	}
	l.attach()
	return nil
}

// attach gives the picture to those who are new.
func (l *Loop) attach() {
	l.mu.Lock()
	list := slices.Clone(l.attached)
	l.mu.Unlock()
	for _, a := range list {
		if !a.begun {
			a.begun = true
			a.call(l, l.Tell)
		}
	}
}

// Tell tells the picture as it is, as to one who is new. It is for handlers: it may be
// called only while the loop calls one.
func (l *Loop) Tell(h scan.Handler) error {
	now := l.Now().UTC()
	tally := scan.NewTally(scan.HandlerFunc(func(e scan.Event) error {
		e.Time, e.Picture, e.End = now, e.End, nil
		return h.Handle(e)
	}))
	for e := range l.state.Events() {
		if err := tally.Handle(e); err != nil {
			return err
		}
	}
	return tally.Handle(scan.Event{End: &scan.End{Pods: l.state.Pods()}})
}

// lookStale takes in what is not followed.
func (l *Loop) lookStale(ctx context.Context) error {
	if l.Feed == nil {
		return nil
	}
	stale := l.Feed.Stale()
	if slices.Equal(stale, l.stale) {
		return nil
	}
	l.stale = stale
	l.Posture.SetStale(stale)
	return l.update(ctx, scan.Changes{})
}

func (l *Loop) flushAlerts(last bool) error {
	if l.Alerts == nil {
		return nil
	}
	emit := l.handler().Handle
	if last {
		return l.Alerts.Close(l.Now(), l.Posture.Place, emit)
	}
	return l.Alerts.Flush(l.Now(), l.Posture.Place, emit)
}

// handler gives each event its time and passes it to everybody.
func (l *Loop) handler() scan.Handler {
	return scan.HandlerFunc(func(e scan.Event) error {
		e.Time = l.batch.UTC()
		l.events++
		l.beat()
		// A State never fails.
		_ = l.state.Handle(e)
		if err := l.Handler.Handle(e); err != nil {
			return err
		}
		for _, a := range l.listeners() {
			a.call(l, func(h scan.Handler) error { return h.Handle(e) })
		}
		return nil
	})
}

// listeners are those who know the picture and have not left.
func (l *Loop) listeners() []*attachment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*attachment
	for _, a := range l.attached {
		if a.begun && !a.gone {
			list = append(list, a)
		}
	}
	return list
}

// endBatch lets those write who wait for the end of a batch, and forgets those who
// left.
func (l *Loop) endBatch() error {
	for _, a := range l.listeners() {
		a.call(l, flush)
	}
	l.mu.Lock()
	l.attached = slices.DeleteFunc(l.attached, func(a *attachment) bool { return a.gone })
	l.mu.Unlock()
	return flush(l.Handler)
}

func flush(h scan.Handler) error {
	if f, ok := h.(Flusher); ok {
		return f.Flush()
	}
	return nil
}
