package main

import (
	"errors"
	"fmt"
	"sync"

	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/scan"
)

// attendance keeps where somebody listened for a while, and what was not heard there.
type attendance struct {
	places []source.Target

	mu        sync.Mutex
	connected map[string]bool
	errs      map[string]error
	// missed are the gaps by their IDs, each as it was told last, in the order of ids.
	missed map[string]scan.Lost
	ids    []string
}

func newAttendance(places []source.Target) *attendance {
	return &attendance{places: places, connected: map[string]bool{}, errs: map[string]error{}, missed: map[string]scan.Lost{}}
}

// state is a Listener's.
func (t *attendance) state(address string, connected bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if connected {
		t.connected[address] = true
		return
	}
	t.errs[address] = err
}

// lost is a Listener's.
func (t *attendance) lost(l scan.Lost) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.missed[l.ID]; !known {
		t.ids = append(t.ids, l.ID)
	}
	t.missed[l.ID] = l
}

// anybody reports whether there was a place where somebody could listen.
func (t *attendance) anybody() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.connected) > 0
}

// refused is why nobody can listen anywhere, nil as long as somebody may.
func (t *attendance) refused() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.connected) > 0 || len(t.errs) < len(t.places) {
		return nil
	}
	var errs []error
	for _, p := range t.places {
		errs = append(errs, t.errs[p.Address])
	}
	return errors.Join(errs...)
}

// unheard are the places that were never listened to.
func (t *attendance) unheard(affects string) []scan.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	var failures []scan.Failure
	for _, p := range t.places {
		if t.connected[p.Address] {
			continue
		}
		f := scan.Failure{Subject: "alerts of " + p.Address, Reason: scan.FailureUnreachable, Message: "KubeArmor did not answer", Affects: affects}
		if err := t.errs[p.Address]; err != nil {
			f.Message = err.Error()
			if errors.Is(err, kube.ErrNoRelay) {
				f.Reason = scan.FailureNotFound
			}
		}
		failures = append(failures, f)
	}
	return failures
}

// gaps are what was missed where somebody listened, a failure for each kind of gap.
func (t *attendance) gaps(affects string) []scan.Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	var failures []scan.Failure
	for _, p := range t.places {
		if !t.connected[p.Address] {
			continue
		}
		for _, kind := range []struct {
			lost   scan.LostReason
			reason scan.FailureReason
		}{{scan.LostDeaf, scan.FailureUnreachable}, {scan.LostDropped, scan.FailureTooLarge}, {scan.LostUnreadable, scan.FailureInvalid}} {
			times, alerts, last := 0, 0, ""
			for _, id := range t.ids {
				if l := t.missed[id]; l.Source == p.Address && l.Reason == kind.lost {
					times, alerts, last = times+1, alerts+l.Alerts, l.Message
				}
			}
			if times == 0 {
				continue
			}
			what := fmt.Sprintf("%s %s", kind.lost, counted(times, "time"))
			if alerts > 0 {
				what = fmt.Sprintf("%s %s", counted(alerts, "alert"), kind.lost)
			}
			failures = append(failures, scan.Failure{
				Subject: "alerts of " + p.Address, Reason: kind.reason, Affects: affects, Message: what + ", last: " + last,
			})
		}
	}
	return failures
}
