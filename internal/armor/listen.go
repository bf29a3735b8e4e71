package armor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/pause"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// firstWait and longestWait bound what is waited before the next try to connect.
	firstWait   = 500 * time.Millisecond
	longestWait = 30 * time.Second
	// steadyTime is how long a connection has to hold for the waiting to begin anew.
	steadyTime = 30 * time.Second
	// startTime is how long the first try may take before the time is told to be missing.
	startTime = 5 * time.Second
	// maxReasons bounds how many reasons are told why a target cannot be reached, until
	// it can.
	maxReasons = 16
)

// Listener is told what is heard. Its functions are called one at a time, whatever the
// number of targets; nil ones are left out. They should be quick, but nothing is lost by
// a moment: what comes meanwhile waits, and what has no room to wait is counted.
type Listener struct {
	// Alert is an alert, in the order in which its source told them.
	Alert func(armor.Alert)
	// Lost is a gap: not connected, dropped (more than Alert could take in) or
	// unreadable. It is told when it begins, again while its count grows, and with To
	// when it is over, each time with the same ID.
	Lost func(scan.Lost)
	// State says that a target is listened to, or why it is not: once for each reason.
	State func(address string, connected bool, err error)
	// Raw is each alert as a line of a recording, without the end of the line. It is good
	// until Raw returns.
	Raw func(line []byte)
}

// Listen listens to all targets until the context ends, and connects again to each as
// often as it takes, but ever more rarely to one that does not hold. It returns the
// context's error, with everything told that was received, and nothing of it left.
// Every alert that was received is visited, or counted as dropped or unreadable.
func Listen(ctx context.Context, targets []Target, l Listener) error {
	if err := checkTargets(targets); err != nil {
		return err
	}
	// gRPC tells the other side of a deadline, which then ends the stream by its own clock:
	// a moment too soon, as if the connection had broken.
	listening, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	var telling sync.Mutex
	var all sync.WaitGroup
	for _, target := range targets {
		e := &ear{target: target, listener: l, telling: &telling, queue: newQueue()}
		all.Go(func() { e.connect(listening) })
		all.Go(e.visit)
	}
	all.Wait()
	return context.Cause(ctx)
}

func checkTargets(targets []Target) error {
	if len(targets) == 0 {
		return errors.New("listen to KubeArmor: no address")
	}
	seen := map[string]bool{}
	for _, t := range targets {
		switch {
		case t.Address == "":
			return errors.New("listen to KubeArmor: an empty address")
		case seen[t.Address]:
			return fmt.Errorf("listen to KubeArmor: %s is named twice", t.Address)
		}
		seen[t.Address] = true
	}
	return nil
}

// ear listens to one target: connect connects and receives, visit tells.
type ear struct {
	target   Target
	listener Listener
	telling  *sync.Mutex
	queue    *queue

	mu        sync.Mutex
	connected bool
	// gap is the time of not being connected, nil where none is told; reasons are those
	// that were told since it began.
	gap     *scan.Lost
	reasons map[string]bool
}

// connect keeps the target connected until the context ends.
func (e *ear) connect(ctx context.Context) {
	defer e.queue.close()
	began := time.Now()
	since, wait := began, firstWait
	late := time.AfterFunc(startTime, func() { e.late(began) })
	defer late.Stop()
	for ctx.Err() == nil {
		var up time.Time
		heard, err := runSession(ctx, e.target, hooks{
			take: e.queue.push,
			connected: func(since time.Time) {
				up = since
				e.up(since)
			},
			tooLong: e.queue.unread,
		})
		if ctx.Err() != nil {
			break
		}
		if !up.IsZero() {
			since = heard
			if time.Since(up) >= steadyTime {
				wait = firstWait
			}
		}
		e.down(since, fmt.Errorf("KubeArmor at %s: %w", e.target.Address, err))
		// Half of the wait is chance, so that many who lost the same do not return as one.
		if pause.For(ctx, wait/2+rand.N(wait/2)) != nil {
			break
		}
		wait = min(2*wait, longestWait)
	}
	e.stop(time.Now())
}

// late opens the gap when the first connection is long in coming.
func (e *ear) late(since time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.connected && e.gap == nil {
		e.openGap(since, fmt.Sprintf("KubeArmor at %s: it has not answered yet", e.target.Address))
	}
}

// down notes that the target is not connected, and since when.
func (e *ear) down(since time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.connected = false
	if e.gap == nil {
		e.openGap(since, err.Error())
	}
	why := reasonOf(err)
	if e.reasons[why] || len(e.reasons) >= maxReasons {
		return
	}
	e.reasons[why] = true
	e.tellState(false, err)
}

func (e *ear) openGap(since time.Time, message string) {
	lost := newLost(scan.LostDeaf, e.target.Address, since, message)
	e.gap, e.reasons = &lost, map[string]bool{}
	e.tellLost(lost)
}

// up notes that the target is connected.
func (e *ear) up(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.connected = true
	if e.gap != nil {
		lost := *e.gap
		lost.To = at.UTC()
		lost.Message += "; back after " + deafFor(lost)
		e.gap = nil
		e.tellLost(lost)
	}
	e.tellState(true, nil)
}

// stop closes what is open.
func (e *ear) stop(at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gap != nil {
		lost := *e.gap
		lost.To = at.UTC()
		e.gap = nil
		e.tellLost(lost)
	}
	e.connected = true // Nobody is late any more.
}

// reasonOf is an error without the ports of this side, which are others each time.
func reasonOf(err error) string {
	words := strings.Fields(err.Error())
	for i, word := range words {
		if _, to, ok := strings.Cut(word, "->"); ok {
			words[i] = to
		}
	}
	return strings.Join(words, " ")
}

func deafFor(lost scan.Lost) string {
	if d := lost.To.Sub(lost.From); d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return lost.To.Sub(lost.From).Round(time.Second).String()
}

func (e *ear) tellLost(lost scan.Lost) {
	if tell := e.listener.Lost; tell != nil {
		e.queue.then(func() { tell(lost) })
	}
}

func (e *ear) tellState(connected bool, err error) {
	if tell := e.listener.State; tell != nil {
		e.queue.then(func() { tell(e.target.Address, connected, err) })
	}
}
