package main

import (
	"context"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// probesEvery is how often a watch reads what the node probe says. It says the same for as
// long as a machine is not started anew.
const probesEvery = 5 * time.Minute

// probeKeeper keeps what the node probe said last, for a watch to be answered at once.
type probeKeeper struct {
	namespace string
	now       func() time.Time
	read      func(ctx context.Context, namespace string, now time.Time) (map[string]*kernel.Machine, map[string]string, error)

	mu    sync.Mutex
	known probesKnown
}

// probesKnown is what was read, or why it could not be.
type probesKnown struct {
	reports map[string]*kernel.Machine
	why     map[string]string
	err     error
}

// same tells whether two looks found the same, but for when it was checked.
func (k *probesKnown) same(other *probesKnown) bool {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	return text(k.err) == text(other.err) && maps.Equal(k.why, other.why) &&
		maps.EqualFunc(k.reports, other.reports, func(a, b *kernel.Machine) bool {
			was, is := *a, *b
			was.Time, is.Time = time.Time{}, time.Time{}
			return reflect.DeepEqual(was, is)
		})
}

// probes are those of a watch, none without a keeper.
func (k *probeKeeper) probes() scan.Probes {
	if k == nil {
		return scan.Probes{}
	}
	return scan.Probes{Machines: k.machines}
}

// machines tells what is known of the nodes.
func (k *probeKeeper) machines(_ context.Context, nodes []string) (map[string]*kernel.Machine, map[string]string, error) {
	k.mu.Lock()
	known := k.known
	k.mu.Unlock()
	return known.reports, withoutProbe(nodes, known.reports, known.why, known.err, k.namespace), known.err
}

// look reads what the node probe says now, and tells whether it is other than before.
func (k *probeKeeper) look(ctx context.Context) (other bool) {
	var fresh probesKnown
	fresh.reports, fresh.why, fresh.err = k.read(ctx, k.namespace, k.now())
	if ctx.Err() != nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if fresh.err != nil {
		fresh.reports = stillGood(k.known.reports, k.now())
	}
	other = !fresh.same(&k.known)
	k.known = fresh
	return other
}

// stillGood are the reports that may be believed though no newer ones could be read.
func stillGood(reports map[string]*kernel.Machine, now time.Time) map[string]*kernel.Machine {
	good := maps.Clone(reports)
	maps.DeleteFunc(good, func(_ string, m *kernel.Machine) bool { return kube.TooOld(m, now) })
	return good
}

// follow looks again and again until the context ends, and says so where something is other.
func (k *probeKeeper) follow(ctx context.Context, changed func()) error {
	tick := time.NewTicker(probesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if k.look(ctx) {
			changed()
		}
	}
}
