package report

import (
	"errors"
	"fmt"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// finish is called where the stream stops.
func (p *replayer) finish() error {
	switch {
	case !p.started:
		return errors.New("empty: want a saved run, as written by -o jsonl or -o json")
	case !p.ended && p.watch:
		return p.cut()
	case !p.ended:
		return errors.New("no end event after this: the file is truncated")
	}
	return nil
}

// cut ends the stream of a watch that has no end.
func (p *replayer) cut() error {
	until := "its beginning"
	if !p.last.IsZero() {
		until = p.last.UTC().Format(time.RFC3339)
	}
	message, affects := "the watch has no end in this file: it was killed, or goes on", "what changed after "+until
	if !p.pictured {
		message, affects = "the watch was cut before its first picture was complete", "everything that it had not told yet"
	}
	failure := scan.Failure{Subject: "events of the watch", Reason: scan.FailureInterrupted, Message: message, Affects: affects}
	// Whoever only counts failures must not take it for whole either.
	end := scan.End{Incomplete: true, Interrupted: true}
	for _, e := range []scan.Event{{Time: p.last, Failure: &failure}, {Time: p.last, End: &end}} {
		if err := p.give(e); err != nil {
			return err
		}
	}
	return nil
}

// give checks the order of events and passes one on.
func (p *replayer) give(e scan.Event) error {
	if err := p.checkOrder(e); err != nil {
		return err
	}
	if err := firstError(checkEvent(e), p.checkShard(e)); err != nil {
		return err
	}
	if e.Start != nil {
		fleet, err := newReplayedFleet(e.Start)
		if err != nil {
			return err
		}
		p.watch, p.pictured, p.last, p.fleet = e.Start.Watch, false, e.Start.Time, fleet
	}
	if e.Cluster != nil {
		p.fleet.closed++
	}
	p.started, p.ended = true, e.End != nil
	p.pictured = p.pictured || e.Picture != nil
	if !e.Time.IsZero() {
		p.last = e.Time
	}
	if err := p.h.Handle(e); err != nil {
		return handlerError{err}
	}
	return nil
}

// checkOrder refuses what cannot follow what came before.
func (p *replayer) checkOrder(e scan.Event) error {
	again := p.watch && e.Start != nil && e.Start.Watch
	switch {
	case !p.started && e.Start == nil:
		return errors.New("no start event: want a saved run, as written by -o jsonl or -o json")
	case again:
		return nil
	case p.ended:
		return errors.New("something after the end event: want one run a file")
	case p.started && e.Start != nil:
		return errors.New("a second start event: want one run a file")
	case e.Picture != nil && p.pictured:
		return errors.New("a second picture event: want one after each start")
	case !p.watch && (e.Picture != nil || e.Resolved != nil):
		kind, _ := kindOf(e)
		return fmt.Errorf("%s: only a watch has such events, and the start says that this is none", kind)
	case p.fleet != nil:
		return p.fleet.check(e)
	case e.Cluster != nil:
		return errors.New("cluster: only a fleet has such events, and the start says that this is none")
	}
	return nil
}
