package reports

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/pause"
)

// onceTries is how often a report of a run that is over is tried where the API server is in
// trouble.
const onceTries = 5

// Check tells before there is anything to write which API it will be written to.
func (s *Sink) Check(ctx context.Context) (API, error) {
	if err := s.opts.API.valid(); err != nil {
		return "", err
	}
	api, _, err := s.choose(ctx)
	return api, err
}

// Once writes the reports of a run that was told to the end, and removes those that are
// stale, as Run does in a watch. Of a run that was interrupted nothing is written: what it
// did not come to is not gone. The error counts the reports that could not be written, with
// the first reason of each kind.
func (s *Sink) Once(ctx context.Context) error {
	s.mu.Lock()
	end := s.state.End()
	s.mu.Unlock()
	if end == nil || end.Interrupted {
		return errors.New("not written, for the run was interrupted")
	}
	e, err := s.beginOnce(ctx)
	if err != nil {
		return err
	}
	total := len(e.queue)
	failed, err := e.drain(ctx)
	switch {
	case err != nil:
		return err
	case len(failed) > 0:
		return fmt.Errorf("%d of %d could not be written: %w", len(failed), total, failed[0])
	}
	return nil
}

// beginOnce is begin, tried again where the API server is in trouble.
func (s *Sink) beginOnce(ctx context.Context) (*session, error) {
	wait := s.opts.Retry
	for tries := 1; ; tries++ {
		e, err := s.begin(ctx)
		if err == nil || causeOf(err) != unreachable || tries == onceTries || pause.For(ctx, wait) != nil {
			return e, err
		}
		wait *= 2
	}
}

// drain works on what is due until nothing is left, and gives the errors of what was given
// up, those of a new kind first.
func (e *session) drain(ctx context.Context) (failed []error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for ; e.inFlight > 0; e.inFlight-- {
			<-e.done
		}
	}()
	seen := map[cause]bool{}
	for len(e.queue) > 0 || e.inFlight > 0 {
		timer := time.NewTimer(e.begin(ctx, time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		case o := <-e.done:
			timer.Stop()
			e.inFlight--
			if err := e.finished(o, time.Now()); err != nil {
				return nil, err
			}
			c, given := e.givenUp(o)
			switch {
			case !given || c == going:
			case seen[c]:
				failed = append(failed, o.err)
			default:
				seen[c] = true
				failed = slices.Insert(failed, len(seen)-1, o.err)
			}
		}
	}
	return failed, nil
}

// givenUp takes an item out of the queue whose error will not pass soon.
func (e *session) givenUp(o outcome) (cause, bool) {
	if o.err == nil || o.item.index < 0 || o.item.tries == 0 {
		return "", false
	}
	c := causeOf(o.err)
	if c == unreachable && o.item.tries < onceTries {
		return c, false
	}
	heap.Remove(&e.queue, o.item.index)
	return c, true
}
