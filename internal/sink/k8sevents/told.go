package k8sevents

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/sink"
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
	by *sink.Memory[eventKey, toldEvent]
	// baseline is how often an alert was reported before the picture, and once those notes
	// are told that are told once.
	baseline *sink.Memory[noteID, int]
}

func newTold() told {
	return told{sink.NewMemory[eventKey, toldEvent](mostTold), sink.NewMemory[noteID, int](mostTold)}
}

// before notes what was told before there was anybody to tell.
func (t *told) before(id noteID, count int) { t.baseline.Put(id, count) }

func (t *told) has(id noteID) bool {
	_, ok := t.baseline.Get(id)
	return ok
}

func (t *told) put(id noteID, key eventKey, e toldEvent) {
	if id.what == aboutLost {
		t.before(id, 1)
	}
	t.by.Put(key, e)
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
