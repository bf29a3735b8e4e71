package watch_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/watch"
	"github.com/escape-scanner/escape-scanner/scan"
)

// endless never has judged everything.
type endless struct{ posture }

func (p *endless) Update(ctx context.Context, c scan.Changes, next scan.Handler) (bool, error) {
	<-time.After(time.Millisecond)
	_, err := p.posture.Update(ctx, c, next)
	return true, err
}

// Who has more to judge than it ever gets through serves those who come, hears what is
// not followed, and ends when it is to.
func TestBacklogStarvesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told, late, over := newFeed(), &story{}, &story{}, make(chan struct{})
		p := &endless{posture{most: 1}}
		l := watch.New(watch.Options{Posture: p, Feed: f, Handler: told, Now: time.Now, Done: over})
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		f.change("a")
		<-time.After(time.Second)
		l.Attach(late, func(err error) { t.Errorf("failed: %v", err) })
		l.SetExceptions(make([]scan.Exception, 2))
		<-time.After(500 * time.Millisecond)
		f.mu.Lock()
		f.stale = []scan.Failure{{Subject: "watch of pods"}}
		f.mu.Unlock()
		<-time.After(2 * time.Second)
		f.change("b")
		<-time.After(time.Second)
		close(over)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		story := []string{"failure watch of pods", "verdict b", "end"}
		told.want(t, append([]string{"start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a"}, story...)...)
		late.want(t, append([]string{"start", "verdict a", "verdict first", "picture of 2 pods, 2 workloads"}, story...)...)
		if p.exceptions != 2 {
			t.Errorf("%d exceptions are in force", p.exceptions)
		}
	})
}

// hasty wants to be asked again at a time that has passed.
type hasty struct{ posture }

func (p *hasty) NextAt() time.Time { return time.Now().Add(-time.Hour) }

// A posture that wants to be asked at once, always, is asked as often as a change would.
func TestNextAtThatHasPassedIsNoHotLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := 0
		_, end := start(t, watch.Options{Posture: &hasty{}, Handler: &story{}, Observe: func(watch.Turn) { turns++ }})
		<-time.After(10 * time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if turns < 50 || turns > 101 {
			t.Errorf("asked %d times in 10 s", turns)
		}
	})
}

// Who leaves before the picture was told is told nothing.
func TestWhoLeavesBeforeThePictureIsToldNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &held{release: make(chan struct{})}
		gone, stays := &story{}, &story{}
		l, end := start(t, watch.Options{Posture: p, Handler: &story{}})
		failed := func(err error) { t.Errorf("failed: %v", err) }
		l.Attach(gone, failed)()
		l.Attach(stays, failed)
		if l.Pictured() {
			t.Error("there is no picture yet")
		}
		close(p.release)
		<-time.After(time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		gone.want(t)
		stays.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "end")
	})
}

// held begins when it is released, or ends with its context.
type held struct {
	posture
	release chan struct{}
}

func (p *held) Begin(ctx context.Context, next scan.Handler) error {
	select {
	case <-p.release:
		return p.posture.Begin(ctx, next)
	case <-ctx.Done():
		return errors.Join(next.Handle(scan.Event{Start: &scan.Start{Watch: true}}), ctx.Err())
	}
}

// A watch that is stopped while it begins ends, without a picture.
func TestStoppedWhileItBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		told := &story{}
		l, end := start(t, watch.Options{Posture: &held{}, Handler: told})
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Errorf("the error is %v", err)
		}
		if l.Pictured() {
			t.Error("there is no picture")
		}
	})
}

// breaking breaks in the middle of what it is told.
type breaking struct{ story }

func (b *breaking) Handle(e scan.Event) error {
	if e.Verdict != nil && e.Verdict.Workload.Name == "b" {
		return errors.New("closed")
	}
	return b.story.Handle(e)
}

// One who breaks in the middle of a batch is told no more of it, once is said why, and
// the others miss nothing.
func TestWhoBreaksInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told, broken := newFeed(), &story{}, &breaking{}
		l, end := start(t, watch.Options{Posture: &posture{most: 100}, Feed: f, Handler: told})
		var failed []error
		l.Attach(broken, func(err error) { failed = append(failed, err) })
		<-time.After(time.Second)
		f.change("a", "b", "c")
		<-time.After(time.Second)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if len(failed) != 1 {
			t.Errorf("failed with %v", failed)
		}
		broken.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a")
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a", "verdict b", "verdict c", "end")
	})
}

// Those who come and go while much happens are told a whole picture or nothing, and
// nothing once they are gone.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		l, end := start(t, watch.Options{Posture: &posture{most: 3}, Feed: f, Handler: &story{}})
		var visits sync.WaitGroup
		for i := range 8 {
			visits.Go(func() {
				for round := range 20 {
					visitor := &story{}
					detach := l.Attach(visitor, func(err error) { t.Errorf("failed: %v", err) })
					f.change("a", "b", "c", "d")
					<-time.After(time.Duration(i*round) * 7 * time.Millisecond)
					detach()
					visitor.mu.Lock()
					if len(visitor.lines) > 0 && (visitor.lines[0] != "start" || !slices.ContainsFunc(visitor.lines, isPicture)) {
						t.Errorf("a visitor was told %q", visitor.lines)
					}
					visitor.mu.Unlock()
				}
			})
		}
		visits.Wait()
		if err := end(); err != nil {
			t.Fatal(err)
		}
	})
}

func isPicture(line string) bool { return len(line) > 7 && line[:7] == "picture" }

// A clock that is put back, however far, stops nothing.
func TestClockPutBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, told := newFeed(), &story{}
		var mu sync.Mutex
		back := time.Duration(0)
		l := watch.New(watch.Options{Posture: &posture{most: 100}, Feed: f, Handler: told, Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Round(0).Add(-back)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		<-time.After(time.Second)
		mu.Lock()
		back = 48 * time.Hour
		mu.Unlock()
		f.change("a")
		<-time.After(time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		told.want(t, "start", "verdict first", "picture of 1 pods, 1 workloads", "verdict a", "end")
	})
}
