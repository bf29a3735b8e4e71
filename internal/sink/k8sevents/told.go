package k8sevents

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/scan"
)

// mostTold is how many Events are remembered, to count up one instead of making another;
// the oldest is forgotten first.
const mostTold = 4096

// eventKey is what two Events must have in common to be one that happened twice.
type eventKey struct {
	object       corev1.ObjectReference
	reason, text string
}

// toldEvent is an Event that was made, and how often it was said to have happened.
type toldEvent struct {
	name  string
	count int
}

// told are the Events that were made.
type told struct {
	by    map[eventKey]toldEvent
	order []eventKey
	// baseline is how often an alert was reported before the picture, and once those notes
	// are told that are told once.
	baseline map[noteID]int
	ids      []noteID
}

func newTold() told { return told{by: map[eventKey]toldEvent{}, baseline: map[noteID]int{}} }

// before notes what was told before there was anybody to tell.
func (t *told) before(id noteID, count int) {
	if _, known := t.baseline[id]; !known {
		if len(t.ids) == mostTold {
			delete(t.baseline, t.ids[0])
			t.ids = t.ids[1:]
		}
		t.ids = append(t.ids, id)
	}
	t.baseline[id] = count
}

func (t *told) has(id noteID) bool {
	_, ok := t.baseline[id]
	return ok
}

func (t *told) put(id noteID, key eventKey, e toldEvent) {
	if id.what == aboutLost {
		t.before(id, 1)
	}
	if _, known := t.by[key]; !known {
		if len(t.order) == mostTold {
			delete(t.by, t.order[0])
			t.order = t.order[1:]
		}
		t.order = append(t.order, key)
	}
	t.by[key] = e
}

// mostUIDs is how many UIDs are kept, and uidFor for how long; that there is none is
// believed for a shorter time.
const (
	mostUIDs = 4096
	uidFor   = 10 * time.Minute
	noUIDFor = time.Minute
)

// uids keeps the UIDs of objects for a while.
type uids struct{ by map[scan.Workload]knownUID }

type knownUID struct {
	uid   types.UID
	until time.Time
}

func newUIDs() uids { return uids{map[scan.Workload]knownUID{}} }

func (u *uids) get(w scan.Workload, now time.Time) (types.UID, bool) {
	k, ok := u.by[w]
	return k.uid, ok && now.Before(k.until)
}

func (u *uids) put(w scan.Workload, uid types.UID, found bool, now time.Time) {
	if len(u.by) >= mostUIDs {
		clear(u.by)
	}
	k := knownUID{uid, now.Add(uidFor)}
	if !found {
		k = knownUID{"", now.Add(noUIDFor)}
	}
	u.by[w] = k
}

func (u *uids) forget(w *scan.Workload) { delete(u.by, *w) }
