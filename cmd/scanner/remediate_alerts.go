package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// maxAlertKinds bounds how many different alerts are kept. Nodes choose their texts.
	maxAlertKinds = 100_000
	// reconnectAfter is how long it takes to ask again for alerts after a break.
	reconnectAfter = 2 * time.Second
	// unseenBreaks is what is not known when alerts are missing.
	unseenBreaks = "what workloads do that the set would stop"
)

// alertKeeper keeps every alert once, whenever and however often it was raised.
type alertKeeper struct {
	seen    map[string]bool
	alerts  []armor.Alert
	raised  int
	dropped int
}

func (k *alertKeeper) take(a armor.Alert) error {
	k.raised++
	key := strings.Join([]string{
		a.Node, a.Namespace, a.Pod, a.Container, a.OwnerKind, a.OwnerName, a.Type, a.Operation,
		a.Policy, a.Action, a.Result, a.Enforcer, a.Resource, a.Process, a.Parent,
	}, "\x00")
	switch {
	case k.seen[key]:
	case len(k.alerts) == maxAlertKinds:
		k.dropped++
	default:
		if k.seen == nil {
			k.seen = map[string]bool{}
		}
		k.seen[key] = true
		k.alerts = append(k.alerts, a)
	}
	return nil
}

// failures say what the alerts that were kept do not tell.
func (k *alertKeeper) failures() []scan.Failure {
	if k.dropped == 0 {
		return nil
	}
	return []scan.Failure{{Subject: "alerts", Reason: scan.FailureTooLarge, Affects: unseenBreaks,
		Message: fmt.Sprintf("%d were left out: there are more than %d different ones", k.dropped, maxAlertKinds)}}
}

// listen takes in the alerts that the flags ask for.
func (a *app) listen(ctx context.Context, f *planFlags, p *patient, s *sight, line *liveLine) error {
	keeper := &alertKeeper{}
	switch {
	case f.alerts != "":
		failures, err := a.readAlerts(ctx, f.alerts, keeper)
		if err != nil {
			return err
		}
		s.failures = append(s.failures, failures...)
	case f.observe > 0:
		target := source.Target{Address: f.kubearmor}
		if f.kubearmor == "" {
			relay, err := p.live.Relay(ctx)
			if err != nil {
				return fmt.Errorf("observe: %w (--kubearmor ADDRESS says where else to listen)", err)
			}
			target = source.Target{Address: relay.Address, Dial: relay.Dial}
		}
		failures, err := a.observe(ctx, target, f.observe, keeper, line)
		if err != nil {
			return err
		}
		s.failures = append(s.failures, failures...)
	}
	s.alerts = keeper.alerts
	s.failures = append(s.failures, keeper.failures()...)
	return nil
}

// readAlerts reads a recording. Lines that are no alerts make the plan incomplete.
func (a *app) readAlerts(ctx context.Context, name string, keeper *alertKeeper) ([]scan.Failure, error) {
	in := a.stdin
	if name != "-" {
		file, err := a.open(name)
		if err != nil {
			return nil, fmt.Errorf("alerts: %w", err)
		}
		defer file.Close()
		in = io.Reader(file)
	}
	err := source.ReadRecording(ctx, in, keeper.take)
	var bad *source.BadLinesError
	switch {
	case errors.As(err, &bad) && len(keeper.alerts) > 0:
		return []scan.Failure{{Subject: "alerts of " + name, Reason: scan.FailureInvalid, Message: bad.Error(), Affects: unseenBreaks}}, nil
	case err != nil:
		return nil, fmt.Errorf("alerts %s: %w", name, err)
	}
	return nil, nil
}

// observe listens for a while, and again after every break. What was raised in between
// is lost.
func (a *app) observe(ctx context.Context, target source.Target, window time.Duration, keeper *alertKeeper, line *liveLine) ([]scan.Failure, error) {
	limited, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	if line.w == nil {
		fmt.Fprintf(a.stderr, "escape-scanner: listening to KubeArmor for %s\n", window)
	}
	connected, breaks := false, 0
	target.Connected = func() { connected = true }
	var mu sync.Mutex
	take := func(alert armor.Alert) error {
		mu.Lock()
		defer mu.Unlock()
		return keeper.take(alert)
	}
	end := time.Now().Add(window)
	stop := everySecond(func() {
		mu.Lock()
		defer mu.Unlock()
		line.say(fmt.Sprintf("listening to KubeArmor for %s more: %s", time.Until(end).Round(time.Second), counted(keeper.raised, "alert")))
	})
	defer stop()
	var last error
	for limited.Err() == nil {
		err := source.Watch(limited, target, take)
		if limited.Err() != nil {
			break
		}
		if last = err; !connected {
			// Who cannot even begin is not kept waiting for the end.
			return nil, fmt.Errorf("observe: %w", err)
		}
		breaks++
		pause(limited, reconnectAfter)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case !connected:
		return nil, fmt.Errorf("observe: KubeArmor did not answer within %s", window)
	case breaks == 0:
		return nil, nil
	}
	return []scan.Failure{{Subject: "alerts", Reason: scan.FailureUnreachable, Affects: unseenBreaks,
		Message: fmt.Sprintf("the connection to KubeArmor broke (%s), last with: %v", counted(breaks, "time"), last)}}, nil
}

// everySecond does something now and every second until it is stopped. Once stop has
// returned it does it no more.
func everySecond(do func()) (stop func()) {
	do()
	ticker := time.NewTicker(time.Second)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				do()
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
	}
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	}
}
