package kube

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/escape-scanner/escape-scanner/scan"
)

// lookOut asks the server again and again what it serves, and which version it is.
func (m *Mirror) lookOut(ctx context.Context) {
	fresh := true
	for ctx.Err() == nil {
		if fresh {
			m.cluster.kinds.forget(ctx)
			m.askVersion(ctx)
		}
		doubts := false
		for _, key := range m.servedKeys() {
			r := m.have(key)
			if fresh || !r.feed.aimed() {
				m.look(ctx, key, r)
			}
			doubts = doubts || r.absent == 1 && r.feed.hasRead()
		}
		pause := m.pace.served
		if doubts {
			pause = m.pace.doubt
		}
		timer := time.NewTimer(wait.Jitter(pause, 0.2))
		select {
		case <-timer.C:
			fresh = true
		case <-m.missing:
			fresh = true
		case <-m.looking:
			fresh = false
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// look asks how a kind is served, and has its feed follow it there.
func (m *Mirror) look(ctx context.Context, key feedKey, r *entry) {
	mapping, err := m.cluster.mapping(ctx, key.kind)
	switch {
	case ctx.Err() != nil:
	case err == nil:
		r.absent = 0
		r.feed.set(m.from(key, mapping), nil)
	case !apierrors.IsNotFound(err):
		r.absent = 0
		r.feed.unknown(err)
	default:
		// While a server starts it does not know yet all that it serves. A kind that
		// was followed has to be gone twice, and nobody must be following it.
		r.absent++
		if r.absent < 2 && r.feed.hasRead() || !r.feed.lost() {
			return
		}
		if key.role == roleObjects {
			err = scan.ErrNotServed
		}
		r.feed.set(nil, err)
	}
}

// askVersion asks for the server's version again: it may be upgraded at any time.
func (m *Mirror) askVersion(ctx context.Context) {
	version, err := m.cluster.ServerVersion(ctx)
	if err != nil {
		return
	}
	m.mu.Lock()
	changed := m.version != version
	m.version = version
	m.mu.Unlock()
	if changed {
		m.change(func(c *changeSet) { c.rest.Around = true })
	}
}

// aimed reports whether the feed knows where its objects are, or that there are none.
func (f *feed) aimed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.aim != nil || f.err != nil
}

func (f *feed) hasRead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read
}

// lost reports whether nobody follows the objects at the moment.
func (f *feed) lost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.read || !f.since.IsZero()
}

// unknown notes that the server could not be asked where the objects are.
func (f *feed) unknown(err error) {
	f.mu.Lock()
	aimed := f.aim != nil
	f.mu.Unlock()
	// What is followed already shows by itself whether it still can be.
	if !aimed {
		f.failed(err)
	}
}

// asSince is when the feed began to look for what it is to follow.
func (f *feed) asSince() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.born
}
