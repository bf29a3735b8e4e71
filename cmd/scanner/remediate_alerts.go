package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// maxAlertKinds bounds how many different alerts are kept. Nodes choose their texts.
	maxAlertKinds = 100_000
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

func (k *alertKeeper) take(a armor.Alert) {
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
func (a *app) listen(ctx context.Context, f *planFlags, p *patient, s *sight, cfg *config.Config, line *liveLine) error {
	keeper := &alertKeeper{}
	var failures []scan.Failure
	var err error
	switch {
	case f.alerts != "":
		failures, err = a.readAlerts(ctx, f.alerts, keeper)
	case f.observe > 0:
		var places []source.Target
		if places, err = a.kubeArmorTargets(ctx, p.live, &cfg.Watch); err == nil {
			failures, err = a.observe(ctx, places, f.observe, keeper, line)
		}
	}
	if err != nil {
		return err
	}
	s.alerts = keeper.alerts
	s.failures = append(append(s.failures, failures...), keeper.failures()...)
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
	err := source.ReadRecording(ctx, in, func(alert armor.Alert) error {
		keeper.take(alert)
		return nil
	})
	var bad *source.BadLinesError
	switch {
	case errors.As(err, &bad) && len(keeper.alerts) > 0:
		return []scan.Failure{{Subject: "alerts of " + name, Reason: scan.FailureInvalid, Message: bad.Error(), Affects: unseenBreaks}}, nil
	case err != nil:
		return nil, fmt.Errorf("alerts %s: %w", name, err)
	}
	return nil, nil
}

// observe listens for a while. What could not be heard of it is told as failures.
func (a *app) observe(ctx context.Context, places []source.Target, window time.Duration, keeper *alertKeeper, line *liveLine) ([]scan.Failure, error) {
	limited, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	if line.w == nil {
		fmt.Fprintf(a.stderr, "escape-scanner: listening to KubeArmor for %s\n", window)
	}
	heard := newAttendance(places)
	var mu sync.Mutex
	end := time.Now().Add(window)
	stop := everySecond(func() {
		mu.Lock()
		defer mu.Unlock()
		line.say(fmt.Sprintf("listening to KubeArmor for %s more: %s", time.Until(end).Round(time.Second), counted(keeper.raised, "alert")))
	})
	err := source.Listen(limited, places, source.Listener{
		Alert: func(alert armor.Alert) {
			mu.Lock()
			defer mu.Unlock()
			keeper.take(alert)
		},
		Lost: heard.lost,
		State: func(address string, connected bool, err error) {
			heard.state(address, connected, err)
			if heard.refused() != nil {
				cancel() // Who cannot even begin is not kept waiting for the end.
			}
		},
	})
	stop()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() == nil:
		return nil, fmt.Errorf("observe: %w", err)
	case !heard.anybody():
		if err = heard.refused(); errors.Is(err, kube.ErrNoRelay) {
			return nil, fmt.Errorf("observe: %w (--%s ADDRESS says where else to listen)", err, config.KeyKubeArmor)
		} else if err != nil {
			return nil, fmt.Errorf("observe: %w", err)
		}
		return nil, fmt.Errorf("observe: KubeArmor did not answer within %s", window)
	}
	return append(heard.unheard(unseenBreaks), heard.gaps(unseenBreaks)...), nil
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
