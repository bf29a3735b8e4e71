package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/escape-scanner/escape-scanner/scan"
)

// MirrorOptions say what a Mirror follows.
type MirrorOptions struct {
	// Namespaces limits the pods; none means all.
	Namespaces []string
	// SyncTimeout bounds Sync; 0 means DefaultSyncTimeout.
	SyncTimeout time.Duration
}

// DefaultSyncTimeout is how long the first reading may take when nothing else is said.
const DefaultSyncTimeout = 2 * time.Minute

// pace is how fast a Mirror does what. Only tests have another than defaultPace.
type pace struct {
	// grace is how long a kind may be not followed before that is worth a word.
	grace time.Duration
	// request bounds a list of one page and the beginning of a watch.
	request time.Duration
	// stands is how long a watch must be open that brings nothing to count.
	stands time.Duration
	// silence is how long a watch may bring nothing, not even a bookmark.
	silence time.Duration
	// served is how often the server is asked what it serves.
	served time.Duration
	// doubt is how soon it is asked again when it does not name what it served before.
	doubt time.Duration
	// owners is how often an owner is asked for that cannot be watched.
	owners time.Duration
	// first is how long the first question for something waits until it is read.
	first time.Duration
	// backoff is between two attempts of one kind.
	backoff wait.Backoff
}

func defaultPace(request time.Duration) pace {
	return pace{
		grace: 10 * time.Second, request: request, stands: time.Second, silence: 3 * time.Minute,
		served: 30 * time.Second, doubt: 5 * time.Second, owners: time.Minute, first: 5 * time.Second,
		backoff: wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 15 * time.Second},
	}
}

// Mirror holds in memory what a scan reads of a cluster, and follows it by watches. Its
// methods answer with what is known now, without asking the server; only the first
// question for something that nobody asked for before waits a moment. What they give
// is shared and not to be changed.
//
// It lists and watches, and writes nothing: pods, namespaces, nodes,
// persistentvolumes, runtimeclasses of node.k8s.io, the kinds of scan.ObjectKinds and
// those that policies name for their parameters (never secrets), and the metadata of
// replicationcontrollers, of deployments, replicasets, statefulsets and daemonsets of
// apps, and of jobs and cronjobs of batch. Of other kinds that own pods it lists and
// watches the metadata where it may, and gets the one object where it may only that.
//
// What was read stays as it is when the server goes away, a right is lost or a token
// expires; Stale says since when it is not followed. Only a list that the server gave
// to its end, a watch, or, for a kind as a whole, discovery that was answered twice, makes
// something gone.
type Mirror struct {
	// cluster is this Mirror's own: it forgets what is served when the Mirror wants to
	// know anew.
	cluster *Cluster
	clients clients
	opts    MirrorOptions
	pace    pace
	pods    podCutter
	single  singles

	// poked wakes Run's loop, and ready whoever takes changes. looking has the server
	// asked where a new kind is, missing what it serves at all.
	poked, looking, missing, ready chan struct{}

	mu sync.Mutex
	// progress is closed and made anew whenever a feed has got somewhere.
	progress chan struct{}
	feeds    map[feedKey]*entry
	// namespaces are those that were there when it was last looked.
	namespaces map[string]bool
	changes    changeSet
	version    string
	// contacted is true after the first answer, or error, of the server.
	contacted bool
	contact   error
}

// clients are those of the watches: a timeout of whole requests, which other clients
// have, would end each watch.
type clients struct {
	typed    kubernetes.Interface
	metadata metadata.Interface
	dynamic  dynamic.Interface
}

// changeSet is scan.Changes while it grows.
type changeSet struct {
	pods   map[scan.PodName]struct{}
	owners map[scan.OwnerName]struct{}
	kinds  map[schema.GroupVersionKind]struct{}
	rest   scan.Changes
}

var _ scan.Mirror = (*Mirror)(nil)

// Mirror makes a Mirror of the cluster. It is empty until Run runs.
func (c *Cluster) Mirror(opts MirrorOptions) *Mirror {
	if opts.SyncTimeout <= 0 {
		opts.SyncTimeout = DefaultSyncTimeout
	}
	opts.Namespaces = slices.Compact(slices.Sorted(slices.Values(opts.Namespaces)))
	own := *c
	own.kinds = newKinds(c.client.Discovery())
	m := &Mirror{
		cluster: &own, opts: opts, pace: defaultPace(c.config.Timeout),
		poked: make(chan struct{}, 1), looking: make(chan struct{}, 1), missing: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		progress: make(chan struct{}), feeds: map[feedKey]*entry{},
	}
	m.clients, m.contact = connect(c.config)
	return m
}

func connect(config *rest.Config) (c clients, err error) {
	config = rest.CopyConfig(config)
	config.Timeout = 0
	if c.typed, err = kubernetes.NewForConfig(config); err == nil {
		c.metadata, err = metadata.NewForConfig(config)
	}
	if err == nil {
		c.dynamic, err = dynamic.NewForConfig(config)
	}
	return c, subject("cluster "+config.Host, "", err)
}

// Run follows the cluster until ctx ends, and leaves nothing behind. The error is one
// with which nothing could begin: no server, or one that does not know who asks.
func (m *Mirror) Run(ctx context.Context) error {
	// What client-go would log is told by Stale and by errors.
	ctx = klog.NewContext(ctx, logr.Discard())
	err := m.firstContact(ctx)
	m.mu.Lock()
	m.contacted, m.contact = true, err
	m.mu.Unlock()
	m.moved()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	defer loops.Wait()
	defer cancel()
	m.wantAll()
	loops.Go(func() { m.lookOut(ctx) })
	loops.Go(func() { m.keepSingles(ctx) })
	loops.Go(func() { m.keepDoubts(ctx) })
	for {
		m.arrange()
		m.leaveNamespaces()
		m.startFeeds(ctx, &loops)
		select {
		case <-m.poked:
		case <-ctx.Done():
			return nil
		}
	}
}

// firstContact asks the server for its version. Who may not know it goes on without.
func (m *Mirror) firstContact(ctx context.Context) error {
	if m.contact != nil {
		return m.contact
	}
	ctx, cancel := context.WithTimeout(ctx, min(m.opts.SyncTimeout, m.pace.request))
	defer cancel()
	version, err := m.cluster.ServerVersion(ctx)
	if err != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("server version: %w", err)
	}
	m.mu.Lock()
	m.version = version
	m.mu.Unlock()
	return nil
}

// Sync returns when everything is read, or known to be unreadable for a reason that
// waiting does not mend: forbidden, or not served. After SyncTimeout it returns with
// what there is by then, of which the methods give errors. Its error says that
// nothing at all could be read: where no server answers, that is told at once.
func (m *Mirror) Sync(ctx context.Context) error {
	timeout := time.NewTimer(m.opts.SyncTimeout)
	defer timeout.Stop()
	for {
		m.mu.Lock()
		progress, contacted, contact := m.progress, m.contacted, m.contact
		m.mu.Unlock()
		if contacted && contact != nil {
			return contact
		}
		if contacted {
			// Which namespaces there are may have been read a moment ago.
			m.arrange()
			if m.settled() {
				return nil
			}
		}
		select {
		case <-progress:
		case <-timeout.C:
			return m.nothing()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settled reports whether all feeds know what there is to read.
func (m *Mirror) settled() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.feeds {
		if !r.feed.settled() {
			return false
		}
	}
	return len(m.feeds) > 0
}

// nothing is an error when nothing could be read.
func (m *Mirror) nothing() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.feeds {
		if r.feed.settled() {
			return nil
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.feeds), compareKeys) {
		if err := m.feeds[key].feed.state(); err != nil {
			return err
		}
	}
	return errNotRead
}

// Ready is signalled when there are changes to take, and when Stale says something
// else than before.
func (m *Mirror) Ready() <-chan struct{} { return m.ready }

// Take gives what changed since it was last called.
func (m *Mirror) Take() scan.Changes {
	m.mu.Lock()
	set := m.changes
	m.changes = changeSet{}
	m.mu.Unlock()
	out := set.rest
	out.Pods = slices.Collect(maps.Keys(set.pods))
	out.Owners = slices.Collect(maps.Keys(set.owners))
	out.OwnerKinds = slices.Collect(maps.Keys(set.kinds))
	return out
}

// change notes a change and wakes who takes it.
func (m *Mirror) change(note func(*changeSet)) {
	m.mu.Lock()
	note(&m.changes)
	m.mu.Unlock()
	wake(m.ready)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// moved tells all who wait that something may be other than it was.
func (m *Mirror) moved() {
	m.mu.Lock()
	close(m.progress)
	m.progress = make(chan struct{})
	m.mu.Unlock()
	wake(m.poked)
	wake(m.ready)
}

// Stale tells, for each kind that was read and has not been followed for ten seconds
// or more, why not: one failure each, which stays the same until it is followed again
// or another reason comes up.
func (m *Mirror) Stale() []scan.Failure {
	var list []scan.Failure
	for _, f := range m.sortedFeeds() {
		if failure, _ := f.stale(); failure != nil {
			list = append(list, *failure)
		}
	}
	return list
}

// StaleSince is the oldest time since which something is not followed, zero when all
// is.
func (m *Mirror) StaleSince() time.Time {
	var oldest time.Time
	for _, f := range m.sortedFeeds() {
		if _, since := f.stale(); !since.IsZero() && (oldest.IsZero() || since.Before(oldest)) {
			oldest = since
		}
	}
	return oldest
}

func (m *Mirror) sortedFeeds() []*feed {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []*feed
	for _, key := range slices.SortedFunc(maps.Keys(m.feeds), compareKeys) {
		list = append(list, m.feeds[key].feed)
	}
	return list
}

// Pod is a pod as it is known now, nil when there is none.
func (m *Mirror) Pod(namespace, name string) *corev1.Pod {
	for _, scope := range []string{"", namespace} {
		m.mu.Lock()
		r := m.feeds[feedKey{role: rolePods, namespace: scope}]
		m.mu.Unlock()
		if r == nil {
			continue
		}
		if k := stockOf[pod](r).get(namespace, name); k != nil {
			return k.value.whole(namespace, name)
		}
	}
	return nil
}
