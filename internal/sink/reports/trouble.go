package reports

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

// cause is why a report could not be written. Each is told once, however many reports
// it concerns, until it is over.
type cause string

const (
	// going: the namespace is gone or about to go, and its report with it. Nobody has
	// to be told.
	going       cause = "namespace going"
	forbidden   cause = "forbidden"
	quota       cause = "quota"
	invalid     cause = "invalid"
	tooLarge    cause = "too large"
	foreign     cause = "foreign"
	notServed   cause = "not served"
	unreachable cause = "unreachable"
	other       cause = "other"
)

// general is the place of troubles that concern no single report.
var general = place{}

// place is a report of an API.
type place struct {
	api API
	key key
}

// errForeign is that a report of that name is there which is not ours.
var errForeign = errors.New("a report of that name is there, and is not ours: it is left alone")

// causeOf classes an error of the store.
func causeOf(err error) cause {
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, errForeign):
		return foreign
	case errors.Is(err, scan.ErrNotServed), errors.Is(err, errNoAPI):
		return notServed
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), namespaceGone(err):
		return going
	case apierrors.IsRequestEntityTooLargeError(err), strings.Contains(err.Error(), "request is too large"):
		// The second is etcd's, which the API server passes on as it is.
		return tooLarge
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return quota
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return forbidden
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return invalid
	case !errors.As(err, &status), errors.Is(err, context.DeadlineExceeded), status.Status().Code >= http.StatusInternalServerError,
		apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err):
		return unreachable
	}
	return other
}

// namespaceGone tells whether an object was not found because its namespace was not.
func namespaceGone(err error) bool {
	var status apierrors.APIStatus
	return apierrors.IsNotFound(err) && errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
}

// troubles says each cause once when it begins, and once when all are over.
type troubles struct {
	notify func(sink.Notice)
	by     map[cause]map[place]struct{}
}

func newTroubles(notify func(sink.Notice)) *troubles {
	return &troubles{notify: notify, by: map[cause]map[place]struct{}{}}
}

// trouble notes an error at a place.
func (t *troubles) trouble(at place, err error) {
	c := causeOf(err)
	if c == going {
		t.well(at)
		return
	}
	if t.by[c] == nil {
		t.by[c] = map[place]struct{}{}
		t.notify(sink.Notice{Sink: sinkName, Err: err})
	}
	t.by[c][at] = struct{}{}
}

// sinkName is what the sink is called in its notices.
const sinkName = "reports"

// well notes that a place has no trouble any more.
func (t *troubles) well(at place) { t.forget(func(p place) bool { return p == at }) }

// forget notes it of all places that are over.
func (t *troubles) forget(over func(place) bool) {
	before := len(t.by)
	for c, places := range t.by {
		maps.DeleteFunc(places, func(at place, _ struct{}) bool { return over(at) })
		if len(places) == 0 {
			delete(t.by, c)
		}
	}
	if before > 0 && len(t.by) == 0 {
		t.notify(sink.Notice{Sink: sinkName})
	}
}
