package k8sevents

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	// maxNote is what the API takes of a text, in bytes.
	maxNote = 1024
	// maxInstance is what it takes of the reporter's name.
	maxInstance = 128
	// writeTimeout is how long one Event may take, with the look at its object.
	writeTimeout = 10 * time.Second
	// lastWords is how long more is told of what waits when the run ends, and lastAnswer how
	// long the API server has to answer to that. Another leader begins soon after.
	lastWords  = 1 * time.Second
	lastAnswer = 2 * time.Second
)

// errTooMany is that there was more to tell than may be told.
var errTooMany = errors.New("more happened than is told by Kubernetes Events: the least severe was left out")

// errNotTaken is that Events are not taken; why was told when that began.
var errNotTaken = errors.New("the API server does not take Events")

// Run tells what is to be told until the context ends, and then for a few seconds what
// still waits, as far as the limits go. What is left of that counts as left out.
func (s *Sink) Run(ctx context.Context) error {
	r := &runner{Sink: s, pause: s.opts.Retry, hidden: map[string]bool{}}
	// What is under way when the run ends is finished, or not even we know what was told.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { cancelAfter(work, lastAnswer, cancel) })()
	for ctx.Err() == nil {
		wait := r.step(work, time.Now())
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.wake:
		}
		timer.Stop()
	}
	s.mu.Lock()
	s.waits.hurry()
	s.mu.Unlock()
	for end := time.Now().Add(lastWords); time.Now().Before(end) && r.step(work, time.Now()) == 0; {
		// One more was told.
	}
	r.giveUp()
	return nil
}

func cancelAfter(ctx context.Context, d time.Duration, cancel func()) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
		cancel()
	}
}

// giveUp counts what still waits among what was left out, and says so.
func (r *runner) giveUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dropped := r.waits.dropped + r.waits.len(); dropped > 0 {
		r.waits.dropped = 0
		r.opts.Notify(sink.Notice{Sink: sinkName, Err: r.whyDropped(), Dropped: dropped})
	}
}

// runner is the state of a run.
type runner struct {
	*Sink
	pause  time.Duration
	resume time.Time
	// failing is true from an Event that was not taken to one that was.
	failing  bool
	lastTold time.Time
	dropping bool
	// hidden are the kinds of objects whose UIDs may not be read, which was told.
	hidden map[string]bool
}

// step tells one thing, and returns zero, or how long there is nothing to tell.
func (r *runner) step(ctx context.Context, now time.Time) time.Duration {
	next := r.tellDropped(now)
	if wait := r.resume.Sub(now); wait > 0 {
		return min(wait, next)
	}
	r.mu.Lock()
	n, wait := r.waits.take(now)
	r.mu.Unlock()
	if n == nil {
		return min(wait, next)
	}
	timed, cancel := context.WithTimeout(ctx, writeTimeout)
	err := r.write(timed, n, now)
	cancel()
	r.outcome(err, now)
	return 0
}

// tellDropped says how many were left out, and when that is over. It returns when it is
// to be called again.
func (r *runner) tellDropped(now time.Time) time.Duration {
	const long = time.Hour
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waits.dropped == 0 && !r.dropping {
		return long
	}
	if wait := r.lastTold.Add(r.opts.Tell).Sub(now); wait > 0 {
		return wait
	}
	r.lastTold = now
	dropped := r.waits.dropped
	r.waits.dropped, r.dropping = 0, dropped > 0
	n := sink.Notice{Sink: sinkName, Dropped: dropped}
	if dropped > 0 {
		n.Err = r.whyDropped()
	}
	r.opts.Notify(n)
	return r.opts.Tell
}

// whyDropped is why Events are left out.
func (r *runner) whyDropped() error {
	if r.failing {
		return errNotTaken
	}
	return errTooMany
}

// sinkName is what the sink is called in its notices.
const sinkName = "events"

// outcome goes by what became of an Event. An Event that failed is not told again: the
// next thing that happens is, and reports hold the state.
func (r *runner) outcome(err error, now time.Time) {
	if err == nil {
		r.pause = r.opts.Retry
		if r.failing {
			r.failing = false
			r.opts.Notify(sink.Notice{Sink: sinkName})
		}
		return
	}
	r.mu.Lock()
	r.waits.dropped++
	r.mu.Unlock()
	if !r.failing {
		r.failing = true
		r.opts.Notify(sink.Notice{Sink: sinkName, Err: err})
	}
	if general(err) {
		r.resume = now.Add(r.pause)
		r.pause = min(2*r.pause, 60*r.opts.Retry)
	}
}

// general tells whether an error concerns all Events, and not one.
func general(err error) bool {
	return unsure(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsTooManyRequests(err)
}

// unsure tells whether an error leaves open what became of a write.
func unsure(err error) bool {
	if err == nil {
		return false
	}
	var status apierrors.APIStatus
	return !errors.As(err, &status) || status.Status().Code >= http.StatusInternalServerError || apierrors.IsTimeout(err)
}

// write tells one thing, by a new Event or by counting up one that told the same.
func (r *runner) write(ctx context.Context, n *note, now time.Time) error {
	object := sink.Object(n.id.row.Workload)
	if object == nil {
		return nil
	}
	namespace := cmp.Or(object.Namespace, metav1.NamespaceDefault)
	if len(validation.IsDNS1123Label(namespace)) > 0 || object.Name == "" {
		// KubeArmor names the namespace of pods that nobody knows.
		return nil
	}
	// What has the same name and another UID is another object.
	object.UID = r.uid(ctx, n.id.row.Workload, object, now)
	w := n.words()
	key := eventKey{*object, w.reason, w.note}
	if n.alert != nil || n.lost != nil {
		key.text = n.id.id
	}
	r.mu.Lock()
	e, repeated := r.told.by.Get(key)
	count := e.count + 1
	if n.alert != nil {
		base, _ := r.told.baseline.Get(n.id)
		count = n.alert.Count - base
	}
	r.mu.Unlock()
	if repeated && count <= e.count {
		return nil
	}
	e.count = count
	if repeated {
		err := r.opts.Writer.RepeatEvent(ctx, namespace, e.name, series(count, now))
		if !apierrors.IsNotFound(err) {
			if err == nil || unsure(err) {
				r.remember(n.id, key, e)
			}
			return gone(err)
		}
		// It was kept for its time.
	}
	event := r.event(object, namespace, n, w, count, now)
	e.name = event.Name
	err := r.opts.Writer.CreateEvent(ctx, event)
	if err == nil || apierrors.IsAlreadyExists(err) {
		r.remember(n.id, key, e)
		return nil
	}
	if unsure(err) && n.lost == nil {
		// It may have been made. If not, to count it up finds nothing, and makes it. A gap
		// is counted up by nobody: it is rather told twice.
		r.remember(n.id, key, e)
	}
	return gone(err)
}

// gone takes an error as none that comes of the namespace having gone: nobody is left to
// be told.
func gone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return err
}

func (r *runner) remember(id noteID, key eventKey, e toldEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told.put(id, key, e)
}

// series is how often something happened; the API counts from two.
func series(count int, now time.Time) eventsv1.EventSeries {
	return eventsv1.EventSeries{Count: int32(min(max(count, 2), 1<<30)), LastObservedTime: metav1.NewMicroTime(now)} //nolint:gosec // It is in bounds.
}

// event is an Event about an object.
func (r *runner) event(object *corev1.ObjectReference, namespace string, n *note, w words, count int, now time.Time) *eventsv1.Event {
	kind := corev1.EventTypeNormal
	if w.warning {
		kind = corev1.EventTypeWarning
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00%s\x00%s\x00%d\x00%d", r.opts.Instance, n.id.row.Workload, n.id.row.Claims, w.reason, w.note, n.id.id, r.begun.UnixNano(), now.UnixNano())
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: eventName(object.Name) + "." + hex.EncodeToString(h.Sum(nil)[:8])},
		EventTime:  metav1.NewMicroTime(now), ReportingController: Controller, ReportingInstance: sink.Text(r.opts.Instance, maxInstance),
		Type: kind, Reason: w.reason, Action: w.action, Note: sink.Text(w.note, maxNote), Regarding: *object,
	}
	if n.alert != nil && n.alert.Pod != "" && object.Kind != "Pod" {
		e.Related = &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: n.alert.Pod}
	}
	if count > 1 {
		s := series(count, now)
		e.Series = &s
	}
	return e
}

// eventName is the beginning of an Event's name, as others have it, as far as it is valid
// in one.
func eventName(object string) string {
	object = strings.Trim(object[:min(len(object), 200)], "-.")
	if len(validation.IsDNS1123Subdomain(object)) > 0 {
		return Controller
	}
	return object
}

// mayRead says that the UIDs of a kind may not be read, once, and when that is over.
func (r *runner) mayRead(kind string, err error) {
	switch forbidden := apierrors.IsForbidden(err); {
	case forbidden && !r.hidden[kind]:
		r.hidden[kind] = true
		r.opts.Notify(sink.Notice{Sink: sinkName, Err: fmt.Errorf("without its UID kubectl describe shows no Events of a %s: %w", kind, err)})
	case err == nil && r.hidden[kind]:
		if delete(r.hidden, kind); len(r.hidden) == 0 && !r.failing {
			r.opts.Notify(sink.Notice{Sink: sinkName})
		}
	}
}

// uid finds the UID of an object, as far as there is one. kubectl looks for the Events of
// a node under its name.
func (r *runner) uid(ctx context.Context, w scan.Workload, object *corev1.ObjectReference, now time.Time) types.UID {
	switch {
	case object.Kind == "Node":
		return types.UID(object.Name)
	case object.APIVersion == "":
		return ""
	}
	r.mu.Lock()
	uid, known := r.uids.get(w, now)
	r.mu.Unlock()
	if known {
		return uid
	}
	// Without it the Event is told all the same: by name.
	uid, err := r.opts.Writer.UID(ctx, object)
	r.mayRead(object.Kind, err)
	if ctx.Err() == nil {
		r.mu.Lock()
		r.uids.put(w, uid, err == nil, now)
		r.mu.Unlock()
	}
	return uid
}
