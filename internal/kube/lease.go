package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// LeaseOptions say which Lease decides who leads. Zero durations are the defaults.
type LeaseOptions struct {
	Namespace, Name string
	// Identity is that of the candidate: no two may have the same.
	Identity string
	// Duration is how long the others wait after the last renewal that they saw before
	// they take over (15 s), Renew how long a leader tries to renew before it gives up
	// (10 s), and Retry the pause between tries (2 s). Nobody's clock is compared with
	// another's: only that they run at about the same speed is taken for granted.
	Duration, Renew, Retry time.Duration
	// Changed is told when the candidate begins or ceases to lead, and when another leader
	// is seen. It is not called concurrently.
	Changed func(Leadership)
	// Failed is told of errors with the Lease, once as long as they have the same reason,
	// and of nil when it works again. It is not called concurrently.
	Failed func(error)
}

// Leadership is who leads, as far as a candidate knows.
type Leadership struct {
	// Leading is true where it is the candidate itself.
	Leading bool
	// Leader is the identity of who holds the Lease, empty as long as nobody is known to.
	Leader string
}

func (o LeaseOptions) withDefaults() LeaseOptions {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&o.Duration, 15 * time.Second}, {&o.Renew, 10 * time.Second}, {&o.Retry, 2 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.Changed == nil {
		o.Changed = func(Leadership) {}
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return o
}

// valid refuses what could let two lead at a time.
func (o LeaseOptions) valid() error {
	switch {
	case o.Namespace == "" || o.Name == "" || o.Identity == "":
		return errors.New("namespace, name and identity are needed")
	case o.Duration%time.Second != 0:
		return fmt.Errorf("duration %s: want whole seconds, as a Lease counts them", o.Duration)
	case o.Duration <= o.Renew+o.Retry:
		return fmt.Errorf("duration %s: want more than %s, or another leads before this one knows that it lost", o.Duration, o.Renew+o.Retry)
	}
	return nil
}

// Lead calls lead whenever the candidate wins the Lease, with a context that ends when it
// loses it, and goes on trying until ctx ends. It waits for lead to return before it
// tries again, and before it gives the Lease free at the end: no two candidates lead at
// a time as long as lead returns soon after its context ends. When lead returns by
// itself, the Lease is given free too and tried for anew. The error is one of the
// options.
//
// A leader that cannot reach the API server for as long as Renew ceases to lead, before
// another can begin.
func (c *Cluster) Lead(ctx context.Context, o LeaseOptions, lead func(context.Context)) error {
	o = o.withDefaults()
	if err := o.valid(); err != nil {
		return fmt.Errorf("lease %s/%s: %w", o.Namespace, o.Name, err)
	}
	// A request that hangs must leave time for a second one.
	config := rest.CopyConfig(c.config)
	config.Timeout = max(o.Renew/2, 100*time.Millisecond)
	client, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("lease %s/%s: %w", o.Namespace, o.Name, err)
	}
	// The library tells its steps and errors to a log, which is the process's stderr.
	ctx = klog.NewContext(ctx, logr.Discard())
	candidate := newCandidate(o, client)
	for ctx.Err() == nil {
		if err := candidate.run(ctx, lead); err != nil {
			return fmt.Errorf("lease %s/%s: %w", o.Namespace, o.Name, err)
		}
		// Whoever gave it free lets others try first.
		timer := time.NewTimer(o.Retry)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// candidate tries for a Lease. As the lock of the elector it sees what becomes of each
// request.
type candidate struct {
	resourcelock.Interface
	o LeaseOptions
	// won is set before the elector calls back that it leads.
	won atomic.Bool
	// renewed is the last renewal by another that was seen.
	renewed metav1.Time

	mu   sync.Mutex
	told Leadership
	// failing are the requests that fail, by their verbs: who may read a Lease and not
	// write it fails and succeeds by turns.
	failing map[string]metav1.StatusReason
}

func newCandidate(o LeaseOptions, client coordinationv1client.LeasesGetter) *candidate {
	return &candidate{o: o, failing: map[string]metav1.StatusReason{}, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
	}}
}

// run returns when the Lease was won, and lost or given free, or ctx has ended.
func (c *candidate) run(ctx context.Context, lead func(context.Context)) error {
	// Its renewal must go on until lead has returned, also when ctx ends before.
	holding, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	c.won.Store(false)
	var begun atomic.Bool
	defer context.AfterFunc(ctx, func() {
		if begun.CompareAndSwap(false, true) {
			release()
		}
	})()
	ended, lost := make(chan struct{}), false
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: c, Name: c.o.Name, LeaseDuration: c.o.Duration, RenewDeadline: c.o.Renew, RetryPeriod: c.o.Retry,
		// The library would first try to give free what it has lost, and tell that it is
		// lost only after that.
		ReleaseOnCancel: false,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				defer close(ended)
				if !begun.CompareAndSwap(false, true) {
					return
				}
				defer release()
				work, stop := context.WithCancel(held)
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				c.tell(Leadership{Leading: true, Leader: c.o.Identity})
				lead(work)
				lost = held.Err() != nil
				c.tell(Leadership{})
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(holding)
	if !c.won.Load() {
		return nil
	}
	<-ended
	if !lost {
		c.giveFree(ctx)
	}
	return nil
}

// giveFree lets others lead without waiting. Where it fails they wait.
func (c *candidate) giveFree(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.o.Renew/2)
	defer cancel()
	record, _, err := c.Interface.Get(ctx)
	if err != nil || record.HolderIdentity != c.o.Identity {
		return
	}
	now := metav1.Now()
	_ = c.Interface.Update(ctx, resourcelock.LeaderElectionRecord{
		LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, RenewTime: now, AcquireTime: now,
	})
}

// Get reads who leads. Where another renews the Lease there is no trouble with it.
func (c *candidate) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := c.Interface.Get(ctx)
	if apierrors.IsNotFound(err) {
		c.note(ctx, "get", nil)
		return record, raw, err
	}
	c.note(ctx, "get", err)
	if err == nil && record.HolderIdentity != c.o.Identity {
		if renewed := record.RenewTime; !renewed.Equal(&c.renewed) {
			c.renewed = renewed
			c.well()
		}
		c.tell(Leadership{Leader: record.HolderIdentity})
	}
	return record, raw, err
}

// Create makes the Lease. Another may have done it first.
func (c *candidate) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := c.Interface.Create(ctx, record)
	if !apierrors.IsAlreadyExists(err) {
		c.note(ctx, "create", err)
	}
	return err
}

// Update takes or renews the Lease. Another may have been faster.
func (c *candidate) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := c.Interface.Update(ctx, record)
	switch {
	case err == nil:
		c.well()
	case !apierrors.IsConflict(err):
		c.note(ctx, "update", err)
	}
	return err
}

// RecordEvent is called when the Lease is won, before anything else, and when it is lost.
func (c *candidate) RecordEvent(string) { c.won.Store(true) }

// note tells of an error of a request, and of the end of errors.
func (c *candidate) note(ctx context.Context, verb string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		// It was called off.
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := apierrors.ReasonForError(err)
	before, failed := c.failing[verb]
	switch {
	case err != nil && (!failed || before != reason):
		c.failing[verb] = reason
		c.o.Failed(subject("lease "+c.o.Name, c.o.Namespace, err))
	case err == nil && failed:
		if delete(c.failing, verb); len(c.failing) == 0 {
			c.o.Failed(nil)
		}
	}
}

// well tells the end of errors, whatever failed.
func (c *candidate) well() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failing) > 0 {
		clear(c.failing)
		c.o.Failed(nil)
	}
}

// tell tells who leads, when it is another than before.
func (c *candidate) tell(l Leadership) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told.Leading && !l.Leading && l.Leader != "" {
		// It is told when lead has returned.
		return
	}
	if l != c.told {
		c.told = l
		c.o.Changed(l)
	}
}
