package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// link stands between a reflector and the server, and tells the feed what passes.
type link struct {
	feed    *feed
	source  *source
	watches sync.WaitGroup
}

var _ cache.ListerWatcherWithContext = (*link)(nil)

// List is there for client-go's interface, whose method with a context it calls.
func (l *link) List(metav1.ListOptions) (runtime.Object, error) { return nil, errStream }

// Watch is there for client-go's interface, whose method with a context it calls.
func (l *link) Watch(metav1.ListOptions) (watch.Interface, error) { return nil, errStream }

// ListWithContext asks for one page and keeps of it what the store would.
func (l *link) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	f := l.feed
	f.calls.RLock()
	defer f.calls.RUnlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The newest, page by page. With a version the server would give either all at once
	// or, to who wants pages, what was at that version.
	o.ResourceVersion, o.ResourceVersionMatch = "", ""
	page, err := l.page(ctx, o)
	if err != nil && ctx.Err() == nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		f.failed(err)
	}
	return page, err
}

func (l *link) page(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, l.feed.pace.request)
	defer cancel()
	list, err := l.source.list(ctx, o)
	if err != nil {
		return nil, err
	}
	m, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	kept := &metainternalversion.List{}
	kept.ResourceVersion, kept.Continue, kept.RemainingItemCount = m.GetResourceVersion(), m.GetContinue(), m.GetRemainingItemCount()
	err = meta.EachListItemWithAlloc(list, func(object runtime.Object) error {
		k, err := l.feed.filling.keepObject(object)
		kept.Items = append(kept.Items, k)
		return err
	})
	return kept, err
}

// WatchWithContext begins a watch, or a stream that begins with a whole list.
func (l *link) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	f := l.feed
	stream := o.SendInitialEvents != nil && *o.SendInitialEvents
	if stream && !f.mayStream() {
		return nil, errStream
	}
	if !stream {
		f.strayed()
	}
	// The server answers at once, before there is anything to tell.
	opening, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(f.pace.request, func() { cancel(context.DeadlineExceeded) })
	inner, err := l.source.watch(opening, o)
	if !timer.Stop() && err == nil {
		inner.Stop()
		err = context.DeadlineExceeded
	}
	if err == nil {
		w := newWatched(f, inner, stream, cancel)
		l.watches.Go(w.pass)
		return w, nil
	}
	if cause := context.Cause(opening); cause != nil && ctx.Err() == nil {
		err = fmt.Errorf("the API server does not answer: %w", cause)
	}
	cancel(nil)
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return nil, err
	}
	if !stream {
		f.failed(err)
		return nil, err
	}
	// What a list gets is the better answer: not every server streams. And before it
	// tries to stream again, client-go would wait whatever its context says.
	if utilnet.IsConnectionRefused(err) || apierrors.IsTooManyRequests(err) {
		return nil, errStream
	}
	return nil, err
}

// maxStreams is how many streams in a row may break off before the list is asked for
// page by page.
const maxStreams = 3

func (f *feed) mayStream() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams++
	if f.streams <= maxStreams {
		return true
	}
	f.streams = 0
	return false
}
