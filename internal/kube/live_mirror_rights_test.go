package kube

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

func may(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

// What may not be read gives the very errors that a scan gets, and is read when it may
// be.
func TestLiveMirrorOfWhoMayNothing(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	user := server.User(t, "mirror-nobody")
	m := follow(t, user, Options{}, MirrorOptions{})
	cluster, err := NewCluster(user, Options{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := []schema.GroupKind{kindVAP, kindKyverno}
	if d := differences(readAll(t, cluster, []string{""}, kinds), readAll(t, m, []string{""}, kinds)); len(d) > 0 {
		t.Errorf("not as in a scan:\n%s", strings.Join(d, "\n"))
	}
	if stale := m.Stale(); len(stale) > 0 {
		t.Errorf("stale is what was read once: %+v", stale)
	}

	c := &told{m: m}
	server.Allow(t, "mirror-nobody", "", may("", []string{"list", "watch"}, "nodes", "namespaces"), may("apps", []string{"list", "watch"}, "replicasets"))
	c.until(t, "what may be read now is read", func() bool {
		_, nodes := m.Nodes(t.Context())
		_, namespaces := m.Namespaces(t.Context())
		owners := m.Owners(t.Context(), "", commonOwners()[1], func([]scan.Owner) error { return nil })
		return nodes == nil && namespaces == nil && owners == nil && c.changes.Around && slices.Contains(c.changes.OwnerKinds, commonOwners()[1])
	})
}

// Where not all pods may be listed, each namespace's are, as they come and go.
func TestLiveMirrorFollowsNamespacesOneByOne(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, one, other := server.Client(), server.Namespace(t, nil), server.Namespace(t, nil)
	makePods(t, client, one, "a")
	user := server.User(t, "mirror-tenant")
	verbs := []string{"list", "watch"}
	server.Allow(t, "mirror-tenant", "", may("", verbs, "namespaces"))
	server.Allow(t, "mirror-tenant", one, may("", verbs, "pods"))
	m := follow(t, user, Options{}, MirrorOptions{})
	nothing := func(scan.PodPage) error { return nil }
	if err := m.Pods(t.Context(), "", nothing); !apierrors.IsForbidden(err) {
		t.Errorf("all pods: %v", err)
	}
	if err := m.Pods(t.Context(), other, nothing); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "in namespace "+other) {
		t.Errorf("the other's pods: %v", err)
	}
	if got := podNames(t, m, one); !slices.Equal(got, []string{"a"}) {
		t.Errorf("pods %q", got)
	}
	c := &told{m: m}
	makePods(t, client, one, "b")
	name := scan.PodName{Namespace: one, Name: "b"}
	c.until(t, "a pod that came", func() bool { return slices.Contains(c.changes.Pods, name) && m.Pod(one, "b") != nil })

	c = &told{m: m}
	server.Allow(t, "mirror-tenant", other, may("", verbs, "pods"))
	c.until(t, "another namespace can be read", func() bool { return c.changes.AllPods && m.Pods(t.Context(), other, nothing) == nil })
	c = &told{m: m}
	server.Allow(t, "mirror-tenant", "", may("", verbs, "pods"))
	c.until(t, "all can be read", func() bool { return c.changes.AllPods && m.Pods(t.Context(), "", nothing) == nil })
	if m.Pod(one, "b") == nil || !slices.Contains(podNames(t, m, one), "a") {
		t.Error("a pod is missing now that all may be read")
	}
}

// What follows the owners of one namespace ends with it, and with nothing else.
func TestLiveMirrorLeavesNamespaces(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	stays := server.Namespace(t, nil)
	user := server.User(t, "mirror-visitor")
	verbs := []string{"list", "watch"}
	server.Allow(t, "mirror-visitor", "", may("", verbs, "namespaces"))
	m := follow(t, user, Options{}, MirrorOptions{})
	kind := commonOwners()[1]
	follows := func(ns string) bool { return m.have(feedKey{role: roleOwners, kind: kind, namespace: ns}) != nil }
	asked := func(t *testing.T, ns string) {
		server.Allow(t, "mirror-visitor", ns, may("apps", verbs, "replicasets"))
		c := &told{m: m}
		c.until(t, "owners of "+ns, func() bool { return m.OwnersUnread(t.Context(), ns, kind) == nil && follows(ns) })
		if _, err := m.Owner(t.Context(), ns, schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, "owner"); !apierrors.IsForbidden(err) {
			t.Errorf("what nobody may read: %v", err)
		}
	}
	asked(t, stays)
	var goes string
	// The namespace is there as long as the test.
	t.Run("a namespace", func(t *testing.T) {
		goes = server.Namespace(t, nil)
		asked(t, goes)
	})
	refused := func(ns string) bool {
		m.single.mu.Lock()
		defer m.single.mu.Unlock()
		for scope := range m.single.refused {
			if scope.namespace == ns {
				return true
			}
		}
		return false
	}
	c := &told{m: m}
	c.until(t, "the end of what followed "+goes, func() bool { return !follows(goes) && !refused(goes) })
	if !follows(stays) || !refused(stays) {
		t.Error("another namespace is left too")
	}
}

// Who may list and not watch is told so, and sees what changes all the same, later.
func TestLiveMirrorOfWhoMayNotWatch(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, ns := server.Client(), server.Namespace(t, nil)
	user := server.User(t, "mirror-lister")
	server.Allow(t, "mirror-lister", ns, may("", []string{"list"}, "pods"))
	makePods(t, client, ns, "a")
	m := follow(t, user, Options{}, MirrorOptions{Namespaces: []string{ns}})
	c := &told{m: m}
	c.until(t, "stale", func() bool { f := staleness(m, "watch of pods"); return f != nil && f.Reason == scan.FailureForbidden })
	makePods(t, client, ns, "b")
	c.until(t, "the pod", func() bool { return slices.Equal(podNames(t, m, ns), []string{"a", "b"}) })
}

// An owner of a kind that may be read, but neither listed nor watched, is asked for
// again.
func TestLiveMirrorAsksAgainForOwners(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	client, ns := server.Client(), server.Namespace(t, nil)
	user := server.User(t, "mirror-getter")
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	maps := client.CoreV1().ConfigMaps(ns)
	create := func() {
		t.Helper()
		if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create()
	m := follow(t, user, Options{}, MirrorOptions{Namespaces: []string{ns}})
	owner := func() (scan.Owner, error) { return m.Owner(t.Context(), ns, kind, "owner") }
	if _, err := owner(); !apierrors.IsForbidden(err) {
		t.Errorf("who may not: %v", err)
	}
	c := &told{m: m}
	server.Allow(t, "mirror-getter", ns, may("", []string{"get"}, "configmaps"))
	c.until(t, "it may be read", func() bool { _, err := owner(); return err == nil && slices.Contains(c.changes.OwnerKinds, kind) })
	first, _ := owner()

	name := scan.OwnerName{Kind: kind, Namespace: ns, Name: "owner"}
	c = &told{m: m}
	if err := maps.Delete(t.Context(), "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until(t, "it is gone", func() bool {
		_, err := owner()
		return apierrors.IsNotFound(err) && slices.Contains(c.changes.Owners, name)
	})
	c = &told{m: m}
	create()
	c.until(t, "another of its name is there", func() bool {
		now, err := owner()
		return err == nil && now.UID != first.UID && slices.Contains(c.changes.Owners, name)
	})
}

// The objects of a kind that nobody asked for before are followed from the first
// question on.
func TestLiveMirrorFollowsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	server.ApplyYAML(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: params, namespace: "+ns+"}, data: {a: b}}")
	var asked atomic.Int32
	proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if strings.Contains(r.URL.Path, "/configmaps") {
			asked.Add(1)
		}
		return kubetest.Pass()
	})
	m := follow(t, proxy.Config(), Options{}, MirrorOptions{})
	if asked.Load() != 0 {
		t.Error("config maps are read before anybody asks")
	}
	data := func() (found string) {
		err := m.Objects(t.Context(), schema.GroupKind{Kind: "ConfigMap"}, func(text []byte) error {
			if strings.Contains(string(text), ns) {
				found = string(text)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return found
	}
	if got := data(); !strings.Contains(got, `"kind":"ConfigMap"`) || !strings.Contains(got, `"apiVersion":"v1"`) || strings.Contains(got, "managedFields") {
		t.Errorf("at the first question: %s", got)
	}
	c := &told{m: m}
	if _, err := server.Client().CoreV1().ConfigMaps(ns).Patch(t.Context(), "params", "application/merge-patch+json", []byte(`{"data":{"a":"c"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	c.until(t, "a change", func() bool { return c.changes.Around && strings.Contains(data(), `"a":"c"`) })
}

// Not parallel: it looks at all goroutines.
func TestLiveMirrorLeavesNothingBehind(t *testing.T) {
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	makePods(t, server.Client(), ns, "a")
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	before := goleak.IgnoreCurrent()
	for _, trouble := range []kubetest.Hook{
		nil,
		func(*http.Request) kubetest.Action { return kubetest.Cut() },
		func(*http.Request) kubetest.Action { return kubetest.Hold(nil, kubetest.Pass()) },
		func(*http.Request) kubetest.Action { return kubetest.InternalError("oh") },
	} {
		proxy.SetHook(nil)
		cluster, err := NewCluster(proxy.Config(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		m := cluster.Mirror(MirrorOptions{})
		m.pace = briskly()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		if err := m.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if trouble != nil {
			proxy.SetHook(trouble)
			proxy.CutConnections()
			c := &told{m: m}
			c.until(t, "stale", func() bool { return len(m.Stale()) > 5 })
		}
		cancel()
		began := time.Now()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("Run took %v to end", took)
		}
	}
	// Connections that nobody uses stay open for a while.
	proxy.Close()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
