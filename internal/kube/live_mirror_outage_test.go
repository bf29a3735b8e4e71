package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/pause"
	"github.com/escape-scanner/escape-scanner/scan"
)

// podsAt reports whether a request is of pods, but not of those that are followed apart.
func podsAt(r *http.Request) bool {
	labels := r.URL.Query().Get("labelSelector")
	return strings.HasSuffix(r.URL.Path, "/pods") && !slices.Contains(slices.Collect(maps.Values(podsFollowed())), labels)
}

func aWatch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

// streams reports whether a request is of a list that comes by a watch.
func streams(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") != "" }

// plainPod is as little of a pod as the server takes.
func plainPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
}

// makePods makes pods of these names.
func makePods(t *testing.T, client kubernetes.Interface, namespace string, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), plainPod(name), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func endPod(t *testing.T, client kubernetes.Interface, namespace, name string) {
	t.Helper()
	if err := client.CoreV1().Pods(namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
}

// podNames are those that a mirror has of a namespace.
func podNames(t *testing.T, m *Mirror, namespace string) []string {
	t.Helper()
	var names []string
	err := m.Pods(t.Context(), namespace, func(page scan.PodPage) error {
		for i := range page.Items {
			names = append(names, page.Items[i].Name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return names
}

// staleness of one kind, nil where it is followed.
func staleness(m *Mirror, subject string) *scan.Failure {
	for _, f := range m.Stale() {
		if f.Subject == subject {
			return &f
		}
	}
	return nil
}

// What may become of requests while the mirror runs. In each case one pod is deleted,
// one is made and one stays; neither that nor the trouble itself may make anything gone
// that is not, and in the end both are seen.
func TestLiveMirrorSurvives(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		hook   func(*http.Request) kubetest.Action
		reason scan.FailureReason
		says   string
	}{
		{"a token that has expired", func(*http.Request) kubetest.Action { return kubetest.Unauthorized() }, scan.FailureForbidden, "Unauthorized"},
		{"a right that is lost", func(*http.Request) kubetest.Action { return kubetest.Forbidden("pods is forbidden") }, scan.FailureForbidden, "forbidden"},
		{"an error of the server", func(*http.Request) kubetest.Action { return kubetest.InternalError("etcd is away") }, scan.FailureRead, "etcd is away"},
		{"too many requests", func(*http.Request) kubetest.Action { return kubetest.TooManyRequests(0) }, scan.FailureRead, "too many"},
		{"connections that break", func(*http.Request) kubetest.Action { return kubetest.Cut() }, scan.FailureTimeout, "not answer"},
		{"lists that break off", func(*http.Request) kubetest.Action { return kubetest.CutAfter(40) }, "", ""},
		{"requests that hang", func(*http.Request) kubetest.Action { return kubetest.Hold(nil, kubetest.Pass()) }, scan.FailureTimeout, "not answer"},
		{"watches that end at once", func(r *http.Request) kubetest.Action {
			if !aWatch(r) || streams(r) {
				return kubetest.Pass()
			}
			return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
				w.WriteHeader(http.StatusOK)
			}
		}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := live.Server(t)
			client, ns := server.Client(), server.Namespace(t, nil)
			makePods(t, client, ns, "stays", "goes")
			proxy := kubetest.NewProxy(t, server.Config(), nil)
			m := follow(t, proxy.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}}, func(p *pace) { p.request = 400 * time.Millisecond })
			if got := podNames(t, m, ns); !slices.Equal(got, []string{"goes", "stays"}) {
				t.Fatalf("pods %q", got)
			}

			proxy.SetHook(func(r *http.Request) kubetest.Action {
				if podsAt(r) {
					return test.hook(r)
				}
				return kubetest.Pass()
			})
			proxy.CutConnections()
			c := &told{m: m}
			if test.reason != "" {
				c.until(t, "stale", func() bool { return staleness(m, "watch of pods") != nil })
				// Its words stay the same while it lasts.
				eventually(t, "the reason is known", func() bool { return staleness(m, "watch of pods").Reason == test.reason })
				first := staleness(m, "watch of pods")
				if !strings.Contains(first.Message, test.says) || first.Namespace != ns || !strings.HasPrefix(first.Affects, "changes since 20") || m.StaleSince().IsZero() {
					t.Errorf("stale: %+v", first)
				}
				if len(c.changes.Pods) > 0 || c.changes.AllPods {
					t.Errorf("told while nothing was seen: %+v", c.changes)
				}
			}
			endPod(t, client, ns, "goes")
			makePods(t, client, ns, "comes")
			if test.reason != "" {
				if got := podNames(t, m, ns); !slices.Equal(got, []string{"goes", "stays"}) {
					t.Errorf("pods %q while nothing is seen", got)
				}
			}
			proxy.SetHook(nil)
			c.until(t, "what happened meanwhile is seen", func() bool {
				return slices.Equal(podNames(t, m, ns), []string{"comes", "stays"}) && len(c.changes.Pods) >= 2
			})
			c.until(t, "followed again", func() bool { return staleness(m, "watch of pods") == nil && m.StaleSince().IsZero() })
			if slices.Contains(c.changes.Pods, scan.PodName{Namespace: ns, Name: "stays"}) {
				t.Errorf("told %+v", c.changes.Pods)
			}
		})
	}
}

// A watch that goes on from a version that is compacted gets a 410, and what it missed
// is seen all the same.
func TestLiveMirrorOutlivesA410(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, ns := server.Client(), server.Namespace(t, nil)
	makePods(t, client, ns, "stays", "goes")
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	m := follow(t, proxy.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}})

	var rewound atomic.Int32
	hold := make(chan struct{})
	proxy.SetHook(func(r *http.Request) kubetest.Action {
		switch {
		case !podsAt(r) || !aWatch(r):
		case streams(r):
			return kubetest.Respond(apierrors.NewBadRequest("no streams").ErrStatus)
		case rewound.Add(1) == 1:
			return kubetest.Hold(hold, kubetest.Gone(""))
		}
		return kubetest.Pass()
	})
	proxy.CutConnections()
	eventually(t, "it asks to go on", func() bool { return rewound.Load() > 0 })
	endPod(t, client, ns, "goes")
	makePods(t, client, ns, "comes")
	close(hold)
	c := &told{m: m}
	c.until(t, "what it missed is seen", func() bool { return slices.Equal(podNames(t, m, ns), []string{"comes", "stays"}) })
	c.until(t, "followed", func() bool { return len(m.Stale()) == 0 })
	if slices.Contains(c.changes.Pods, scan.PodName{Namespace: ns, Name: "stays"}) {
		t.Errorf("told %+v", c.changes.Pods)
	}
}

// A list of which the second page fails is no list: what stood on that page is not
// gone.
func TestLiveMirrorDeletesNothingForAPageThatFails(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, ns := server.Client(), server.Namespace(t, nil)
	makePods(t, client, ns, "a", "b", "c", "d")
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	m := follow(t, proxy.Config(), Options{PageSize: 2}, MirrorOptions{Namespaces: []string{ns}})
	var pages, failed atomic.Int32
	proxy.SetHook(func(r *http.Request) kubetest.Action {
		switch {
		case !podsAt(r):
		case aWatch(r):
			// Streams are refused as by a server that knows none.
			return kubetest.Respond(apierrors.NewBadRequest("no watches").ErrStatus)
		case r.URL.Query().Get("continue") != "":
			failed.Add(1)
			return kubetest.InternalError("the second page")
		default:
			pages.Add(1)
		}
		return kubetest.Pass()
	})
	proxy.CutConnections()
	c := &told{m: m}
	c.until(t, "stale", func() bool { return staleness(m, "watch of pods") != nil && failed.Load() > 2 })
	if got := podNames(t, m, ns); len(got) != 4 || len(c.changes.Pods) > 0 {
		t.Errorf("pods %q, told %+v", got, c.changes)
	}
	endPod(t, client, ns, "d")
	proxy.SetHook(nil)
	c.until(t, "what is really gone", func() bool {
		return slices.Equal(podNames(t, m, ns), []string{"a", "b", "c"}) && len(c.changes.Pods) > 0
	})
	if len(c.changes.Pods) != 1 || pages.Load() == 0 {
		t.Errorf("told %+v after %d first pages", c.changes.Pods, pages.Load())
	}
}

// A watch that is open and says nothing is given up, and what it kept back is seen.
func TestLiveMirrorLeavesASilentWatch(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, ns := server.Client(), server.Namespace(t, nil)
	makePods(t, client, ns, "stays")
	var deaf atomic.Bool
	proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if podsAt(r) && aWatch(r) && deaf.Load() {
			// It is accepted, and then nothing.
			return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
				w.WriteHeader(http.StatusOK)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				<-r.Context().Done()
			}
		}
		return kubetest.Pass()
	})
	m := follow(t, proxy.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}}, func(p *pace) { p.silence = 500 * time.Millisecond })
	deaf.Store(true)
	proxy.CutConnections()
	makePods(t, client, ns, "comes")
	c := &told{m: m}
	c.until(t, "stale", func() bool {
		f := staleness(m, "watch of pods")
		return f != nil && f.Reason == scan.FailureTimeout
	})
	if got := podNames(t, m, ns); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("pods %q", got)
	}
	deaf.Store(false)
	c.until(t, "what was kept back", func() bool { return slices.Equal(podNames(t, m, ns), []string{"comes", "stays"}) })
}

// Where no server answers, that is told at once and not after the time for reading.
func TestLiveMirrorOfNoServer(t *testing.T) {
	t.Parallel()
	proxy := kubetest.NewProxy(t, live.Server(t).Config(), nil)
	config := proxy.Config()
	proxy.Close()
	m, ended := launch(t, config, Options{}, MirrorOptions{SyncTimeout: time.Minute})
	if err := m.Sync(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Sync: %v", err)
	}
	if err := <-ended; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Run: %v", err)
	}

	refuse := kubetest.NewProxy(t, live.Server(t).Config(), func(*http.Request) kubetest.Action { return kubetest.Unauthorized() })
	m, _ = launch(t, refuse.Config(), Options{}, MirrorOptions{})
	if err := m.Sync(t.Context()); !apierrors.IsUnauthorized(err) {
		t.Errorf("Sync of who is nobody: %v", err)
	}
	silent := kubetest.NewProxy(t, live.Server(t).Config(), func(r *http.Request) kubetest.Action {
		if r.URL.Path == "/version" {
			return kubetest.Pass()
		}
		return kubetest.Hold(nil, kubetest.Pass())
	})
	m, _ = launch(t, silent.Config(), Options{}, MirrorOptions{SyncTimeout: 300 * time.Millisecond})
	if err := m.Sync(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Sync of a server that says nothing: %v", err)
	}
}

// Between two attempts there are pauses, also where the server is quick to refuse.
func TestLiveMirrorDoesNotHammer(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	for name, action := range map[string]kubetest.Action{
		"refused": kubetest.Forbidden("no"), "broken": kubetest.Cut(), "expired": kubetest.Gone(""), "broken off": kubetest.CutAfter(1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
				if !podsAt(r) {
					return kubetest.Pass()
				}
				asked.Add(1)
				return action
			})
			launch(t, proxy.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}}, func(p *pace) {
				p.backoff.Duration, p.backoff.Cap = 200*time.Millisecond, 200*time.Millisecond
			})
			eventually(t, "it asked", func() bool { return asked.Load() > 0 })
			before, began := asked.Load(), time.Now()
			_ = pause.For(t.Context(), time.Second)
			// Ten attempts a second at most, each by a stream, a list, and what client-go adds.
			n := asked.Load() - before
			if took := time.Since(began); float64(n) > 60*took.Seconds() {
				t.Errorf("%d requests in %s", n, took)
			}
		})
	}
}

// While a server starts, or contradicts itself, discovery may not name what is there.
func TestLiveMirrorDoubtsThatAKindIsGone(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	ns := server.Namespace(t, nil)
	server.ApplyYAML(t, policies(ns, 1))
	var lies, lied, asked atomic.Int32
	var away atomic.Bool
	proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		switch {
		case r.URL.Path == "/apis" && lies.Add(-1) >= 0:
			lied.Add(1)
			return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
				w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
				if _, err := w.Write([]byte(`{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{},"items":[]}`)); err != nil {
					t.Error(err)
				}
			}
		case r.URL.Path == "/apis":
			asked.Add(1)
		case strings.HasSuffix(r.URL.Path, "/kubearmorpolicies") && away.Load():
			return kubetest.Respond(apierrors.NewGenericServerResponse(http.StatusNotFound, "get", kindKSPResource(), "", "404 page not found", 0, true).ErrStatus)
		}
		return kubetest.Pass()
	})
	m := follow(t, proxy.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}})
	there := func() bool {
		found := false
		err := m.Objects(t.Context(), kindKSP, func(text []byte) error { found = found || strings.Contains(string(text), ns); return nil })
		return err == nil && found
	}
	// As long as the kind is followed, discovery may say what it likes.
	lies.Store(1000)
	eventually(t, "it was lied to", func() bool { return lied.Load() > 3 })
	if !there() {
		t.Error("gone while it is followed")
	}
	lies.Store(0)
	asked.Store(0)
	eventually(t, "it was told the truth", func() bool { return asked.Load() > 1 })

	// When it is not, one answer is not enough.
	away.Store(true)
	proxy.CutConnections()
	eventually(t, "stale", func() bool { return staleness(m, "watch of "+kindKSP.String()) != nil })
	lied.Store(0)
	lies.Store(1)
	eventually(t, "it was lied to once", func() bool { return lied.Load() == 1 })
	asked.Store(0)
	eventually(t, "and told the truth again", func() bool { return asked.Load() > 1 })
	if !there() {
		t.Error("gone by one answer")
	}
	away.Store(false)
	eventually(t, "followed again", func() bool { return len(m.Stale()) == 0 && there() })
}

func kindKSPResource() schema.GroupResource {
	return schema.GroupResource{Group: kindKSP.Group, Resource: "kubearmorpolicies"}
}

// A server that comes back with another history, as after a restore of etcd, has other
// pods: those that it does not have are gone, and what comes is seen.
func TestLiveMirrorOfAnotherHistory(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	ns := server.Namespace(t, nil)
	for i := range 40 {
		makePods(t, server.Client(), ns, fmt.Sprintf("old-%02d", i))
	}
	m := follow(t, server.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}})
	server.Forget(t)
	if _, err := server.Client().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	makePods(t, server.Client(), ns, "new")
	c := &told{m: m}
	c.until(t, "the pods are those of the new history", func() bool { return slices.Equal(podNames(t, m, ns), []string{"new"}) })
	c.until(t, "followed", func() bool { return len(m.Stale()) == 0 })
}

// While a kind of owners is not followed, of one that is not known it cannot be said that
// it does not exist. When it is followed again, that is told.
func TestLiveMirrorDoubtsOwnersThatItDoesNotFollow(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, ns := server.Client(), server.Namespace(t, nil)
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	m := follow(t, proxy.Config(), Options{}, MirrorOptions{Namespaces: []string{ns}}, func(p *pace) {
		p.request, p.doubt = 400*time.Millisecond, 50*time.Millisecond
	})
	kind := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}
	ask := func() error {
		_, err := m.Owner(t.Context(), ns, kind, "late")
		return err
	}
	if err := ask(); !apierrors.IsNotFound(err) {
		t.Fatalf("before it is made: %v", err)
	}
	proxy.SetHook(func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, "/replicasets") || strings.Contains(r.URL.Path, "/replicasets/") {
			return kubetest.InternalError("etcd is away")
		}
		return kubetest.Pass()
	})
	proxy.CutConnections()
	eventually(t, "it is not known", func() bool { err := ask(); return err != nil && !apierrors.IsNotFound(err) })
	labels := map[string]string{"app": "late"}
	late := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "late"},
		Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: plainPod("late").Spec,
		}},
	}
	if _, err := client.AppsV1().ReplicaSets(ns).Create(t.Context(), late, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err == nil || apierrors.IsNotFound(err) {
		t.Errorf("while nothing is seen: %v", err)
	}
	proxy.SetHook(nil)
	c := &told{m: m}
	c.until(t, "the owner is told", func() bool {
		return slices.Contains(c.changes.Owners, scan.OwnerName{Kind: kind, Namespace: ns, Name: "late"}) && ask() == nil
	})
}
