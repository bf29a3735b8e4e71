package kube

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/escape-scanner/escape-scanner/scan"
)

// source is where the objects of a feed come from.
type source struct {
	// name is different for sources that give different objects.
	name  string
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// filling is a store to a feed, which knows nothing of what it holds.
type filling interface {
	cache.TransformingStore
	keepObject(runtime.Object) (runtime.Object, error)
	empty()
}

// errNotRead says that the API server was asked and has not answered. It is a timeout.
var errNotRead = fmt.Errorf("the API server has not answered yet: %w", context.DeadlineExceeded)

// errStream has the reflector list page by page instead of by a stream.
var errStream = errors.New("no stream")

// feed keeps a store up to date: one kind in one scope. Its reflector lists and
// watches; the feed looks on from between reflector and server, and knows what was
// read and since when it is not followed.
type feed struct {
	// what and namespace are the subject of errors, as in a scan.
	what, namespace string
	// subject is what Stale calls it.
	subject string
	pace    *pace
	filling filling
	pageOf  int64
	// turned is called when it can be read, or no more, and somebody was told
	// otherwise; moved whenever anything of its state is other than before.
	turned, moved func()
	// missed is called when the server does not know the list.
	missed func()
	// absent stands for the error of that list.
	absent error
	born   time.Time

	mu sync.Mutex
	// aim is the source to follow, nil while there is none; err then says why.
	aim     *source
	changed chan struct{}
	stop    context.CancelFunc
	// read is true where the store holds all that there is, as of some time.
	read bool
	// err is why it was not read, nil as long as nobody knows.
	err error
	// asked is true when somebody was told that it is not read.
	asked bool
	// since is when it was last followed, zero while it is. trouble is what keeps it
	// from being followed, and told what Stale said of that.
	since   time.Time
	trouble error
	told    *scan.Failure
	grace   *time.Timer
	// bookmarks is true where the server is known to say, every minute or so, that
	// there is nothing to say, and mute when the last watch did not.
	bookmarks, mute bool
	// streams counts the streams that did not bring a whole list, in a row.
	streams int

	// calls is held by each list: client-go does not wait for one.
	calls sync.RWMutex
}

// loop follows the source, whichever it is at the time, until ctx ends.
func (f *feed) loop(ctx context.Context) {
	for ctx.Err() == nil {
		run, cancel := context.WithCancel(ctx)
		f.mu.Lock()
		aim, changed := f.aim, f.changed
		f.stop = cancel
		f.mu.Unlock()
		if aim == nil {
			f.filling.empty()
			select {
			case <-changed:
			case <-ctx.Done():
			}
		} else {
			f.follow(run, aim)
		}
		cancel()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.grace != nil {
		f.grace.Stop()
	}
}

// follow follows one source until ctx ends.
func (f *feed) follow(ctx context.Context, aim *source) {
	quiet, backoff := logr.Discard(), f.pace.backoff
	link := &link{feed: f, source: aim}
	r := cache.NewReflectorWithOptions(link, nil, f.filling, cache.ReflectorOptions{
		Name: f.what, Logger: &quiet, Backoff: &backoff, TypeDescription: f.what,
	})
	r.WatchListPageSize = f.pageOf
	r.RunWithContext(ctx)
	link.watches.Wait()
	f.calls.Lock()
	defer f.calls.Unlock()
}

// set has the feed follow another source, or, with nil, none because of err: what it
// held is forgotten then.
func (f *feed) set(aim *source, err error) {
	f.mu.Lock()
	same := f.aim != nil && aim != nil && f.aim.name == aim.name
	if same || aim == nil && f.aim == nil && f.err != nil && err != nil && f.err.Error() == err.Error() {
		f.mu.Unlock()
		return
	}
	tell := false
	if aim == nil {
		tell = f.read || f.asked
		f.read, f.err = false, err
		f.follows()
	} else if f.aim != nil {
		f.strays(nil)
	} else {
		// What there was to say of no source is not true of this one.
		f.err, f.born = nil, time.Now()
	}
	f.aim = aim
	if f.stop != nil {
		f.stop()
	}
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	if tell {
		f.turned()
	}
	f.moved()
}

// state is nil when the store may be read, and else why not.
func (f *feed) state() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read {
		return nil
	}
	f.asked = true
	if f.err == nil {
		return subject(f.what, f.namespace, errNotRead)
	}
	return subject(f.what, f.namespace, f.err)
}

// settled reports whether it is known what there is to read: all, or nothing for a
// reason that waiting does not mend.
func (f *feed) settled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read || lasting(f.err)
}

// tried reports whether it is known what there is to read, for now.
func (f *feed) tried() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read || f.err != nil
}

// refused reports whether the server never let it be read.
func (f *feed) refused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.read && apierrors.IsForbidden(f.err)
}

// lasting reports whether waiting does not mend an error.
func lasting(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || errors.Is(err, scan.ErrNotServed)
}

// filled notes that the store holds everything.
func (f *feed) filled() {
	f.mu.Lock()
	if f.aim == nil {
		// It was told to end a moment ago.
		f.mu.Unlock()
		return
	}
	tell := !f.read && f.asked
	f.read, f.err, f.asked, f.streams = true, nil, false, 0
	f.mu.Unlock()
	if tell {
		f.turned()
	}
	f.moved()
}

// failed notes an error of a list or a watch.
func (f *feed) failed(err error) {
	if apierrors.IsNotFound(err) {
		f.missed()
	}
	f.mu.Lock()
	f.strays(err)
	tell := false
	if !f.read {
		if apierrors.IsNotFound(err) && f.absent != nil {
			err = f.absent
		}
		tell = f.asked && (f.err == nil || reasonOf(f.err) != reasonOf(err))
		if f.err == nil || reasonOf(f.err) != reasonOf(err) {
			f.err = err
		}
	}
	f.mu.Unlock()
	if tell {
		f.turned()
	}
	f.moved()
}

// strayed notes that the watch ended, for whatever reason.
func (f *feed) strayed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.strays(nil)
}

// strays is strayed and failed, under the lock.
func (f *feed) strays(err error) {
	if err != nil && (f.trouble == nil || reasonOf(f.trouble) != reasonOf(err)) {
		f.trouble = plain(err)
	}
	if !f.since.IsZero() {
		return
	}
	f.since = time.Now()
	if f.grace == nil {
		f.grace = time.AfterFunc(f.pace.grace, f.moved)
	} else {
		f.grace.Reset(f.pace.grace)
	}
}

// followed notes that all changes are seen.
func (f *feed) followed() {
	f.mu.Lock()
	f.follows()
	f.mu.Unlock()
	f.moved()
}

func (f *feed) follows() {
	f.since, f.trouble, f.told = time.Time{}, nil, nil
	if f.grace != nil {
		f.grace.Stop()
	}
}

// stale says since when a store that was read is not followed, nil when it is, or was
// a moment ago.
func (f *feed) stale() (*scan.Failure, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.read || f.since.IsZero() || time.Since(f.since) < f.pace.grace {
		return nil, time.Time{}
	}
	err := f.trouble
	if err == nil {
		err = errNotRead
	}
	if f.told == nil || f.told.Reason != reasonOf(err) {
		told := scan.FailureOf(f.subject, f.namespace, err,
			fmt.Sprintf("changes since %s are not seen", f.since.UTC().Format(time.RFC3339)))
		f.told = &told
	}
	told := *f.told
	return &told, f.since
}

// heard notes that a watch brought something.
func (f *feed) heard(bookmark bool) {
	f.mu.Lock()
	f.bookmarks = f.bookmarks || bookmark
	f.mute = false
	strayed := !f.since.IsZero()
	if strayed {
		f.follows()
	}
	f.mu.Unlock()
	if strayed {
		f.moved()
	}
}

// silent notes that a watch said nothing for so long that it is given up. Of a server
// that is known to send bookmarks that is suspicious: the next watch has to bring
// something before it counts.
func (f *feed) silent() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.bookmarks {
		return
	}
	f.mute = true
	f.strays(errSilent)
}

// suspect reports whether a watch that merely stands follows nothing.
func (f *feed) suspect() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mute
}

func reasonOf(err error) scan.FailureReason { return scan.FailureOf("", "", err, "").Reason }

// plain leaves the request out of an error: it is another each time.
func plain(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return plainError{request}
	}
	return err
}

// plainError is an error of a request without the request.
type plainError struct{ of *url.Error }

func (e plainError) Error() string { return e.of.Err.Error() }
func (e plainError) Unwrap() error { return e.of }

// endedAtOnce says that watches are open for no more than a moment, without an error.
// It is one of the network's.
type endedAtOnce struct{}

func (endedAtOnce) Error() string   { return "the watch ends as soon as it is open" }
func (endedAtOnce) Timeout() bool   { return false }
func (endedAtOnce) Temporary() bool { return true }
