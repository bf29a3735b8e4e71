package watch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/watch"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
)

// posture tells a verdict for each pod that is said to have changed, a few at a time.
type posture struct {
	most       int
	todo       []string
	exceptions int
	stale      []scan.Failure
	next       time.Time
	fail       error
}

func (p *posture) Begin(_ context.Context, next scan.Handler) error {
	return errors.Join(
		next.Handle(scan.Event{Start: &scan.Start{Watch: true}}),
		p.tell("first", next),
		next.Handle(scan.Event{Picture: &scan.End{Pods: 1, Workloads: 1}}),
	)
}

func (p *posture) tell(name string, next scan.Handler) error {
	return next.Handle(scan.Event{Verdict: &scan.WorkloadVerdict{
		Workload: scan.Workload{Kind: "Pod", Name: name}, Verdict: scan.VerdictClosed, Pods: 1,
	}})
}

func (p *posture) Update(_ context.Context, c scan.Changes, next scan.Handler) (bool, error) {
	p.next = time.Time{}
	var fresh []string
	for _, pod := range c.Pods {
		fresh = append(fresh, pod.Name)
	}
	p.todo = slices.Concat(fresh, p.todo)
	n := min(p.most, len(p.todo))
	for _, name := range p.todo[:n] {
		if err := p.tell(name, next); err != nil {
			return false, err
		}
	}
	p.todo = p.todo[n:]
	for i := range p.stale {
		if err := next.Handle(scan.Event{Failure: &p.stale[i]}); err != nil {
			return false, err
		}
	}
	p.stale = nil
	return len(p.todo) > 0, p.fail
}

func (p *posture) SetExceptions(list []scan.Exception)     { p.exceptions = len(list) }
func (p *posture) SetStale(failures []scan.Failure)        { p.stale = failures }
func (p *posture) Place(string, string) (scan.Place, bool) { return scan.Place{}, false }
func (p *posture) NextAt() time.Time                       { return p.next }
func (p *posture) End(next scan.Handler) error             { return next.Handle(scan.Event{End: &scan.End{}}) }

// feed is a cluster that changes when the test says so.
type feed struct {
	ready chan struct{}
	mu    sync.Mutex
	pods  []scan.PodName
	stale []scan.Failure
}

func newFeed() *feed { return &feed{ready: make(chan struct{}, 1)} }

func (f *feed) change(names ...string) {
	f.mu.Lock()
	for _, name := range names {
		f.pods = append(f.pods, scan.PodName{Namespace: "a", Name: name})
	}
	f.mu.Unlock()
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

func (f *feed) Ready() <-chan struct{} { return f.ready }

func (f *feed) Take() scan.Changes {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := scan.Changes{Pods: f.pods}
	f.pods = nil
	return c
}

func (f *feed) Stale() []scan.Failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stale
}

// story notes what a handler is told, a line an event.
type story struct {
	mu      sync.Mutex
	lines   []string
	flushes int
	fail    error
}

func (s *story) Handle(e scan.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Time.IsZero() {
		s.lines = append(s.lines, "an event without a time")
	}
	switch {
	case e.Start != nil:
		s.lines = append(s.lines, "start")
	case e.Verdict != nil:
		s.lines = append(s.lines, "verdict "+e.Verdict.Workload.Name)
	case e.Picture != nil:
		s.lines = append(s.lines, fmt.Sprintf("picture of %d pods, %d workloads", e.Picture.Pods, e.Picture.Workloads))
	case e.Failure != nil:
		s.lines = append(s.lines, "failure "+e.Failure.Subject)
	case e.Alert != nil:
		s.lines = append(s.lines, "alert "+e.Alert.ID)
	case e.End != nil:
		s.lines = append(s.lines, "end")
	}
	return s.fail
}

func (s *story) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushes++
	return nil
}

func (s *story) want(t *testing.T, lines ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.lines, lines) {
		t.Errorf("told\n\t%s\nwant\n\t%s", strings.Join(s.lines, "\n\t"), strings.Join(lines, "\n\t"))
	}
}

// start runs a loop in the bubble of a test, and gives the way to end it.
func start(t *testing.T, o watch.Options) (l *watch.Loop, end func() error) {
	t.Helper()
	o.Now = time.Now
	l = watch.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	synctest.Wait()
	return l, func() error {
		cancel()
		return <-done
	}
}

func TestBurstIsOneBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told, turns := newFeed(), &story{}, 0
		_, end := start(t, watch.Options{Posture: &posture{most: 100}, Feed: f, Handler: told, Observe: func(watch.Turn) { turns++ }})
		f.change("a")
		f.change("b", "c")
		<-time.After(time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a", "verdict b", "verdict c", "end")
		if turns != 1 {
			t.Errorf("judged in %d turns", turns)
		}
		if told.flushes == 0 {
			t.Error("never flushed")
		}
	})
}

// What is left of an earlier change gives way to what is new.
func TestNewComesBeforeBacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told := newFeed(), &story{}
		o := watch.Options{Posture: &posture{most: 1}, Feed: f, Handler: told}
		first := true
		o.Observe = func(watch.Turn) {
			if first {
				first = false
				f.change("new")
			}
		}
		_, end := start(t, o)
		f.change("a", "b", "c")
		<-time.After(time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a", "verdict new", "verdict b", "verdict c", "end")
	})
}

func TestWhoComesLaterIsToldThePicture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told, late, broken := newFeed(), &story{}, &story{}, &story{fail: errors.New("full")}
		l, end := start(t, watch.Options{Posture: &posture{most: 100}, Feed: f, Handler: told})
		f.change("a")
		<-time.After(time.Second)
		detach := l.Attach(late, func(err error) { t.Errorf("failed: %v", err) })
		var failed []error
		l.Attach(broken, func(err error) { failed = append(failed, err) })
		<-time.After(time.Second)
		f.change("b")
		<-time.After(time.Second)
		detach()
		f.change("c")
		<-time.After(time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		late.want(t, "start", "verdict a", "verdict first", "picture of 2 pods, 2 workloads", "verdict b")
		broken.want(t, "start")
		if len(failed) != 1 {
			t.Errorf("the broken one failed with %v", failed)
		}
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a", "verdict b", "verdict c", "end")
	})
}

func TestStaleAndExceptionsReachThePosture(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told, p := newFeed(), &story{}, &posture{most: 100}
		l, end := start(t, watch.Options{Posture: p, Feed: f, Handler: told})
		f.mu.Lock()
		f.stale = []scan.Failure{{Subject: "watch of pods"}}
		f.mu.Unlock()
		l.SetExceptions(make([]scan.Exception, 3))
		<-time.After(3 * time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "failure watch of pods", "end")
		if p.exceptions != 3 {
			t.Errorf("%d exceptions are in force", p.exceptions)
		}
	})
}

// The posture is asked again at the time that it names.
func TestNextAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		want := time.Now().Add(time.Hour)
		p := &posture{most: 1, next: want}
		var at []time.Time
		_, end := start(t, watch.Options{Posture: p, Handler: &story{}, Observe: func(watch.Turn) { at = append(at, time.Now()) }})
		<-time.After(2 * time.Hour)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if len(at) != 1 || !at[0].Equal(want) {
			t.Errorf("asked at %v, want %v", at, want)
		}
	})
}

// folder tells one alert at its first flush, and one at the end.
type folder struct{ flushes int }

func (a *folder) Flush(_ time.Time, _ alerts.Places, emit func(scan.Event) error) error {
	if a.flushes++; a.flushes > 1 {
		return nil
	}
	return emit(scan.Event{Alert: &scan.Alert{ID: "1"}})
}

func (a *folder) Close(_ time.Time, _ alerts.Places, emit func(scan.Event) error) error {
	return emit(scan.Event{Alert: &scan.Alert{ID: "last"}})
}

// A recording that is over ends the watch, with all that was heard.
func TestDoneEndsWithWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told, over := &story{}, make(chan struct{})
		l := watch.New(watch.Options{Posture: &posture{}, Alerts: &folder{}, Handler: told, Now: time.Now, Done: over})
		go func() {
			<-time.After(time.Second)
			close(over)
		}()
		if err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "alert 1", "alert last", "end")
	})
}

func TestErrorsEndTheLoop(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left")
	for name, o := range map[string]watch.Options{
		"of the handler": {Posture: &posture{most: 1}, Handler: &story{fail: full}},
		"of the posture": {Posture: &posture{most: 1, fail: full}, Handler: &story{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				o.Feed, o.Now = f, time.Now
				f.change("a")
				if err := watch.New(o).Run(t.Context()); !errors.Is(err, full) {
					t.Errorf("the error is %v", err)
				}
			})
		})
	}
}

// It is alive as long as it moves, and stands still where a handler does.
func TestAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, end := start(t, watch.Options{Posture: &posture{most: 1}, Handler: &story{}})
		<-time.After(time.Hour)
		synctest.Wait()
		if still := time.Since(l.Alive()); still > time.Second {
			t.Errorf("it last moved %s ago", still)
		}
		if !l.Pictured() {
			t.Error("the picture is there")
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	})
}

// Who detaches a handler waits for the call that is under way: after that another may write.
func TestDetachWaits(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	l := watch.New(watch.Options{Posture: &posture{most: 100}, Handler: &story{}, Now: time.Now})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	calls, returned := 0, false
	detach := l.Attach(scan.HandlerFunc(func(scan.Event) error {
		if calls++; calls == 1 {
			close(entered)
			<-release
			returned = true
		}
		return nil
	}), func(err error) { t.Errorf("failed: %v", err) })
	<-entered
	go close(release)
	detach()
	if !returned {
		t.Error("it is detached while it is called")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
