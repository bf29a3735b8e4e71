package kubetest_test

import (
	"errors"
	"net/http"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

func TestServerIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	namespace := server.Namespace(t, nil)
	user := server.User(t, "who-stays")
	maps := server.Client().CoreV1().ConfigMaps(namespace)
	create := func(name string) {
		t.Helper()
		if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("first")
	create("second")
	page, err := maps.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}

	server.Kill(t)
	if _, err := get(t, server.Config(), "/version"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("killed: %v, want connection refused", err)
	}
	server.Restart(t)
	// What was there is there, and who was known is known.
	if list, err := maps.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 2 {
		t.Errorf("after the restart: %d objects, want 2 (%v)", len(list.Items), err)
	}
	if err := listPods(t, user, namespace); !apierrors.IsForbidden(err) {
		t.Errorf("a user, after the restart: %v, want forbidden", err)
	}

	// The newest version stays, so there must be a newer one. The API server itself
	// remembers some of the others until it is another.
	create("third")
	server.Compact(t)
	server.Kill(t)
	server.Restart(t)
	_, err = maps.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: page.Continue})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("the next page of what was compacted: %v, want expired", err)
	}
	proxy := kubetest.NewProxy(t, server.Config(), func(*http.Request) kubetest.Action { return kubetest.Rewind() })
	events, err := client(t, proxy.Config()).CoreV1().ConfigMaps(namespace).Watch(t.Context(), metav1.ListOptions{ResourceVersion: page.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Stop()
	if event := <-events.ResultChan(); event.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
		t.Errorf("a watch of what was compacted: %v, want expired", event)
	}
}
