package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// errSilent says that a watch was open and said nothing, not even that there is
// nothing to say. It is a timeout.
var errSilent = fmt.Errorf("the watch says nothing: %w", context.DeadlineExceeded)

// watched is a watch that the feed looks on at.
type watched struct {
	feed   *feed
	inner  watch.Interface
	stream bool
	cancel context.CancelCauseFunc

	out  chan watch.Event
	done chan struct{}
	once sync.Once
}

func newWatched(f *feed, inner watch.Interface, stream bool, cancel context.CancelCauseFunc) *watched {
	return &watched{feed: f, inner: inner, stream: stream, cancel: cancel, out: make(chan watch.Event), done: make(chan struct{})}
}

// ResultChan gives the events.
func (w *watched) ResultChan() <-chan watch.Event { return w.out }

// Stop ends the watch.
func (w *watched) Stop() { w.once.Do(func() { close(w.done) }) }

// pass passes the events on until the watch ends. A watch that ends at once, again and
// again, follows nothing: it has to stand for a moment, or bring something.
func (w *watched) pass() {
	defer w.cancel(nil)
	defer close(w.out)
	defer w.feed.strayed()
	defer w.inner.Stop()
	stands := time.NewTimer(w.feed.pace.stands)
	defer stands.Stop()
	silence := time.NewTimer(w.feed.pace.silence)
	defer silence.Stop()
	whole, stood := !w.stream, false
	for {
		select {
		case <-w.done:
			return
		case <-stands.C:
			stood = true
			if whole && !w.feed.suspect() {
				w.feed.followed()
			}
		case <-silence.C:
			w.feed.silent()
			return
		case e, open := <-w.inner.ResultChan():
			if !open {
				if !stood && !w.stream {
					w.feed.failed(endedAtOnce{})
				}
				return
			}
			stood = true
			whole = whole || endsStream(e)
			w.heard(e, whole)
			silence.Reset(w.feed.pace.silence)
			select {
			case w.out <- e:
			case <-w.done:
				return
			}
		}
	}
}

// heard notes what an event says of the watch itself.
func (w *watched) heard(e watch.Event, whole bool) {
	if e.Type == watch.Error {
		err := apierrors.FromObject(e.Object)
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			w.feed.failed(err)
		}
		return
	}
	if whole {
		w.feed.heard(e.Type == watch.Bookmark)
	}
}

// endsStream reports whether an event ends the list that a stream begins with.
func endsStream(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	m, err := meta.Accessor(e.Object)
	return err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}
