package kubetest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// on does one thing to requests whose path ends so, and passes the others.
func on(suffix string, action kubetest.Action) kubetest.Hook {
	return func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, suffix) {
			return action
		}
		return kubetest.Pass()
	}
}

func TestProxyPassesWithCredentialsOfItsOwn(t *testing.T) {
	server := cluster.Server(t)
	namespace := server.Namespace(t, nil)

	admin := kubetest.NewProxy(t, server.Config(), nil)
	config, err := clientcmd.BuildConfigFromFlags("", kubetest.Kubeconfig(t, admin.Config()))
	if err != nil {
		t.Fatal(err)
	}
	if err := createPod(t, config, namespace, privilegedPod()); err != nil {
		t.Errorf("as the administrator: %v", err)
	}

	user := kubetest.NewProxy(t, server.User(t, "without-rights"), nil)
	if err := listPods(t, user.Config(), namespace); !apierrors.IsForbidden(err) {
		t.Errorf("as a user: got %v, want the server's own 403", err)
	}
}

func TestProxyResponds(t *testing.T) {
	server := cluster.Server(t)
	pods := corev1.Resource("pods")
	for _, test := range []struct {
		name   string
		action kubetest.Action
		want   func(error) bool
	}{
		{"forbidden", kubetest.Forbidden("no"), apierrors.IsForbidden},
		{"unauthorized", kubetest.Unauthorized(), apierrors.IsUnauthorized},
		{"gone", kubetest.Gone(""), apierrors.IsResourceExpired},
		{"too many requests", kubetest.TooManyRequests(0), apierrors.IsTooManyRequests},
		{"internal error", kubetest.InternalError("oh"), apierrors.IsInternalError},
		{"any status", kubetest.Respond(apierrors.NewNotFound(pods, "x").ErrStatus), apierrors.IsNotFound},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy := kubetest.NewProxy(t, server.Config(), on("/pods", test.action))
			if err := listPods(t, proxy.Config(), "default"); !test.want(err) {
				t.Errorf("pods: got %v", err)
			}
			_, err := client(t, proxy.Config()).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Errorf("namespaces, which pass: %v", err)
			}
		})
	}
}

func TestProxyAsksForPatience(t *testing.T) {
	server := cluster.Server(t)
	var calls atomic.Int32
	proxy := kubetest.NewProxy(t, server.Config(), func(*http.Request) kubetest.Action {
		if calls.Add(1) == 1 {
			return kubetest.TooManyRequests(1)
		}
		return kubetest.Pass()
	})
	if err := listPods(t, proxy.Config(), "default"); err != nil {
		t.Error(err)
	}
	if calls.Load() != 2 {
		t.Errorf("server was asked %d times, want 2: client-go waits and asks again", calls.Load())
	}
}

func TestProxyIsGoneBetweenPages(t *testing.T) {
	server := cluster.Server(t)
	namespace := server.Namespace(t, nil)
	for range 3 {
		if err := createPod(t, server.Config(), namespace, privilegedPod()); err != nil {
			t.Fatal(err)
		}
	}
	// A token with which the rest can still be had, as the server gives one.
	first, err := server.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	var expired atomic.Bool
	proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if r.URL.Query().Get("continue") != "" && !expired.Swap(true) {
			return kubetest.Gone(first.Continue)
		}
		return kubetest.Pass()
	})

	list := client(t, proxy.Config()).CoreV1().Pods(namespace).List
	page, err := list(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = list(t.Context(), metav1.ListOptions{Limit: 2, Continue: page.Continue})
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || status.Status().Code != http.StatusGone {
		t.Fatalf("second page: got %v, want 410", err)
	}
	rest, err := list(t.Context(), metav1.ListOptions{Limit: 2, Continue: status.Status().Continue})
	if err != nil || len(rest.Items) != 1 {
		t.Errorf("from the token in the 410: got %d pods (%v), want 1", len(rest.Items), err)
	}
}

func TestProxyHolds(t *testing.T) {
	server := cluster.Server(t)
	until, asked := make(chan struct{}), make(chan struct{}, 8)
	proxy := kubetest.NewProxy(t, server.Config(), func(*http.Request) kubetest.Action {
		asked <- struct{}{}
		return kubetest.Hold(until, kubetest.Pass())
	})

	answer := make(chan error, 1)
	go func() { answer <- listPods(t, proxy.Config(), "default") }()
	<-asked
	select {
	case err := <-answer:
		t.Errorf("answered while held: %v", err)
	default:
	}

	// A client that gives up is not kept.
	impatient, cancel := context.WithCancel(t.Context())
	pods := client(t, proxy.Config()).CoreV1().Pods("default")
	given := make(chan error, 1)
	go func() {
		_, err := pods.List(impatient, metav1.ListOptions{})
		given <- err
	}()
	<-asked
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("client that gave up: got %v, want canceled", err)
	}

	close(until)
	if err := <-answer; err != nil {
		t.Errorf("after the hold: %v", err)
	}
}

func TestProxyCuts(t *testing.T) {
	server := cluster.Server(t)
	for name, action := range map[string]kubetest.Action{
		"without an answer":           kubetest.Cut(),
		"after some of the body":      kubetest.CutAfter(10),
		"before the first body byte":  kubetest.CutAfter(0),
		"after a hold that has ended": kubetest.Hold(closed(), kubetest.Cut()),
	} {
		t.Run(name, func(t *testing.T) {
			proxy := kubetest.NewProxy(t, server.Config(), on("/version", action))
			// Not client-go, which asks again and again after a cut.
			body, err := get(t, proxy.Config(), "/version")
			if err == nil {
				t.Errorf("got %d bytes and no error, want a cut", len(body))
			}
			if name == "after some of the body" && len(body) != 10 {
				t.Errorf("got %d bytes before the cut, want 10", len(body))
			}
			if _, err := get(t, proxy.Config(), "/healthz"); err != nil {
				t.Errorf("another request, after the cut: %v", err)
			}
		})
	}

	t.Run("not when the body is shorter", func(t *testing.T) {
		proxy := kubetest.NewProxy(t, server.Config(), on("/healthz", kubetest.CutAfter(3)))
		if body, err := get(t, proxy.Config(), "/healthz"); err != nil || string(body) != "ok" {
			t.Errorf("got %q (%v), want ok", body, err)
		}
	})
}

func TestProxyCutsWatches(t *testing.T) {
	server := cluster.Server(t)
	namespace := server.Namespace(t, nil)
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	pods := client(t, proxy.Config()).CoreV1().Pods(namespace)

	events := func() watch.Interface {
		t.Helper()
		events, err := pods.Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(events.Stop)
		return events
	}

	first := events()
	if err := createPod(t, server.Config(), namespace, privilegedPod()); err != nil {
		t.Fatal(err)
	}
	if event := <-first.ResultChan(); event.Type != watch.Added {
		t.Fatalf("got event %v, want the new pod at once", event)
	}
	proxy.CutConnections()
	drain(t, first)

	second := events()
	if event := <-second.ResultChan(); event.Type != watch.Added {
		t.Errorf("after the cut, on a new connection: got event %v, want the pod", event)
	}
}

func TestProxyClosesOverOpenRequests(t *testing.T) {
	server := cluster.Server(t)
	asked := make(chan struct{}, 8)
	proxy := kubetest.NewProxy(t, server.Config(), func(*http.Request) kubetest.Action {
		asked <- struct{}{}
		return kubetest.Hold(nil, kubetest.Pass())
	})
	answer := make(chan error, 1)
	go func() {
		_, err := get(t, proxy.Config(), "/version")
		answer <- err
	}()
	<-asked
	proxy.Close()
	if err := <-answer; err == nil {
		t.Error("open request was answered, want a cut")
	}
	if _, err := get(t, proxy.Config(), "/version"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("new request: got %v, want connection refused", err)
	}
}

func closed() <-chan struct{} {
	channel := make(chan struct{})
	close(channel)
	return channel
}

// get is one request without client-go's repetitions.
func get(tb testing.TB, config *rest.Config, path string) ([]byte, error) {
	tb.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, config.Host+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	return body, errors.Join(err, response.Body.Close())
}

// drain waits for a watch to end.
func drain(tb testing.TB, events watch.Interface) {
	tb.Helper()
	deadline, cancel := context.WithTimeout(tb.Context(), 30*time.Second)
	defer cancel()
	for {
		select {
		case _, open := <-events.ResultChan():
			if !open {
				return
			}
		case <-deadline.Done():
			tb.Fatal("watch still runs after its connection was cut")
		}
	}
}
