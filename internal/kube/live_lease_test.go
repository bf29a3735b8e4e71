package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// contender is a candidate for a Lease in a test.
type contender struct {
	cluster *Cluster
	options LeaseOptions
	// leads counts how often it began to lead, leading is true while it does.
	leads   atomic.Int64
	leading atomic.Bool
	// lost is told when its time to lead has ended.
	lost chan time.Time
	stop context.CancelFunc
	done chan error

	mu   sync.Mutex
	told []Leadership
	errs []error
}

// contend starts a candidate with short durations.
func contend(t *testing.T, config *rest.Config, namespace, identity string, arena *atomic.Int64) *contender {
	t.Helper()
	cluster, err := NewCluster(config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &contender{cluster: cluster, lost: make(chan time.Time, 100), done: make(chan error, 1)}
	c.options = LeaseOptions{
		Namespace: namespace, Name: leaseName, Identity: identity,
		// A busy machine has two seconds to tell a leader that it leads no more.
		Duration: 3 * time.Second, Renew: time.Second, Retry: 100 * time.Millisecond,
		Changed: func(l Leadership) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.told = append(c.told, l)
		},
		Failed: func(err error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.errs = append(c.errs, err)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.stop = cancel
	go func() {
		c.done <- cluster.Lead(ctx, c.options, func(ctx context.Context) {
			if n := arena.Add(1); n != 1 {
				t.Errorf("%s leads while another does", identity)
			}
			c.leading.Store(true)
			c.leads.Add(1)
			<-ctx.Done()
			c.leading.Store(false)
			c.lost <- time.Now()
			arena.Add(-1)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err, running := <-c.done; running && err != nil {
			t.Errorf("%s: %v", identity, err)
		}
	})
	return c
}

// end ends a candidate and waits for it.
func (c *contender) end(t *testing.T) {
	t.Helper()
	c.stop()
	if err := <-c.done; err != nil {
		t.Error(err)
	}
	close(c.done)
}

func (c *contender) last() (Leadership, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var l Leadership
	var err error
	if len(c.told) > 0 {
		l = c.told[len(c.told)-1]
	}
	if len(c.errs) > 0 {
		err = c.errs[len(c.errs)-1]
	}
	return l, err
}

// leaseName is the Lease of these tests.
const leaseName = "watch.team-a"

// leaseUser is a user with the rights to a Lease in a namespace, and no others.
func leaseUser(t *testing.T, server *kubetest.Server, name, namespace string) *rest.Config {
	t.Helper()
	user := server.User(t, name)
	server.Allow(t, name, namespace, LeaseRights(leaseName)...)
	return user
}

// Of two candidates one leads. When it ends, the other leads at once, for the Lease is
// given free; when it dies without a word, after the duration.
func TestLiveLeaseTakeover(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	user := leaseUser(t, server, "lease-takeover", ns)
	var arena atomic.Int64

	var dead atomic.Bool
	grave := kubetest.NewProxy(t, user, func(*http.Request) kubetest.Action {
		if dead.Load() {
			return kubetest.Cut()
		}
		return kubetest.Pass()
	})
	a := contend(t, user, ns, "a", &arena)
	eventually(t, "a leads", a.leading.Load)
	b := contend(t, grave.Config(), ns, "b", &arena)
	eventually(t, "b knows who leads", func() bool { l, _ := b.last(); return l == Leadership{Leader: "a"} })
	if b.leading.Load() {
		t.Error("both lead")
	}

	a.end(t)
	lease, err := server.Client().CoordinationV1().Leases(ns).Get(t.Context(), leaseName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder == "a" {
		t.Error("a ended, and did not give the Lease free")
	}
	eventually(t, "b leads", b.leading.Load)

	c := contend(t, user, ns, "c", &arena)
	eventually(t, "c knows who leads", func() bool { l, _ := c.last(); return l == Leadership{Leader: "b"} })
	began := time.Now()
	dead.Store(true)
	grave.CutConnections()
	// b has to know that it lost before c leads: the arena holds one.
	eventually(t, "c leads", c.leading.Load)
	if took := time.Since(began); took < 2*time.Second || took > 15*time.Second {
		t.Errorf("c led after %s, want about the duration of 3 s", took)
	}
	if l, err := b.last(); l.Leading || err == nil {
		t.Errorf("b says %+v, %v", l, err)
	}

	// b is alive again and stands back.
	dead.Store(false)
	eventually(t, "b knows who leads", func() bool { l, err := b.last(); return l == Leadership{Leader: "c"} && err == nil })
	c.end(t)
	eventually(t, "b leads again", func() bool { return b.leads.Load() == 2 })
}

// A leader that does not reach the API server ceases to lead in time, and leads again
// when it does.
func TestLiveLeaseServerAway(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	var silent atomic.Bool
	forever := make(chan struct{})
	proxy := kubetest.NewProxy(t, leaseUser(t, server, "lease-away", ns), func(*http.Request) kubetest.Action {
		if silent.Load() {
			// It takes the request and never answers.
			return kubetest.Hold(forever, kubetest.Cut())
		}
		return kubetest.Pass()
	})
	var arena atomic.Int64
	a := contend(t, proxy.Config(), ns, "a", &arena)
	eventually(t, "a leads", a.leading.Load)
	began := time.Now()
	silent.Store(true)
	if took := (<-a.lost).Sub(began); took > 3*time.Second {
		t.Errorf("it led for %s without the server, longer than the duration of 3 s", took)
	}
	silent.Store(false)
	eventually(t, "a leads again", func() bool { return a.leads.Load() == 2 })
	eventually(t, "it works again", func() bool { l, err := a.last(); return err == nil && l == Leadership{Leading: true, Leader: "a"} })
	a.end(t)
	lease, err := server.Client().CoordinationV1().Leases(ns).Get(t.Context(), leaseName, metav1.GetOptions{})
	if err != nil || lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
		t.Errorf("the Lease was not given free: %+v, %v", lease, err)
	}
}

// Whoever may not have the Lease never leads, and says why.
func TestLiveLeaseForbidden(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	user := server.User(t, "lease-none")
	var arena atomic.Int64
	a := contend(t, user, ns, "a", &arena)
	eventually(t, "it says so", func() bool { _, err := a.last(); return err != nil && strings.Contains(err.Error(), "forbidden") })
	if a.leading.Load() {
		t.Error("it leads")
	}
	server.Allow(t, "lease-none", ns, LeaseRights(leaseName)...)
	eventually(t, "it leads", a.leading.Load)
	a.mu.Lock()
	defer a.mu.Unlock()
	// However often it tried.
	if len(a.errs) != 2 || a.errs[1] != nil {
		t.Errorf("told of %v, want the error and its end", a.errs)
	}
}

// What ends by itself gives the Lease free, and may have it again.
func TestLiveLeaseLeadReturns(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	cluster := liveCluster(t, server, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := cluster.Lead(ctx, LeaseOptions{Namespace: ns, Name: leaseName, Identity: "a", Duration: 2 * time.Second, Renew: time.Second, Retry: 50 * time.Millisecond}, func(context.Context) {
		if n++; n == 3 {
			cancel()
		}
	})
	if err != nil || n != 3 {
		t.Errorf("led %d times: %v", n, err)
	}
}

func TestLeaseOptions(t *testing.T) {
	t.Parallel()
	cluster, err := NewCluster(&rest.Config{Host: "https://api.example.com"}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	good := LeaseOptions{Namespace: "n", Name: "l", Identity: "i"}
	for i, change := range []func(*LeaseOptions){
		func(o *LeaseOptions) { o.Identity = "" },
		func(o *LeaseOptions) { o.Name = "" },
		func(o *LeaseOptions) { o.Namespace = "" },
		func(o *LeaseOptions) { o.Duration = 15500 * time.Millisecond },
		func(o *LeaseOptions) { o.Duration = 12 * time.Second },
		func(o *LeaseOptions) { o.Renew = 15 * time.Second },
		func(o *LeaseOptions) { o.Retry = 9 * time.Second },
	} {
		o := good
		change(&o)
		err := cluster.Lead(t.Context(), o, func(context.Context) { t.Error("it leads") })
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("lease %s/%s: ", o.Namespace, o.Name)) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// Who may read the Lease and not write it fails and succeeds by turns: that is one trouble.
func TestLeaseTroubleIsToldOnce(t *testing.T) {
	t.Parallel()
	var told []error
	c := newCandidate(LeaseOptions{Name: "watch", Namespace: "shop", Failed: func(err error) { told = append(told, err) }}, nil)
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, "watch", nil)
	for range 3 {
		c.note(t.Context(), "update", forbidden)
		c.note(t.Context(), "get", nil)
	}
	if len(told) != 1 || !errors.Is(told[0], forbidden) {
		t.Errorf("told of %v, want one error", told)
	}
	c.well()
	if len(told) != 2 || told[1] != nil {
		t.Errorf("told of %v, want its end", told)
	}
}
