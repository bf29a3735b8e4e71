package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// rolled is a Deployment.
const rolled = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, uid: d-web}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}
`

// owned makes the ReplicaSet web-HASH of a Deployment.
func owned(tb testing.TB, client kubernetes.Interface, hash string) metav1.OwnerReference {
	tb.Helper()
	deployment, err := client.AppsV1().Deployments("shop").Get(tb.Context(), "web", metav1.GetOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	set := (kubetest.Crowd{Namespaces: 1}).ReplicaSet(deployment, 0, 0)
	set.Name, set.Namespace, set.UID, set.Labels = "web-"+hash, "shop", "", map[string]string{"app": "web", "pod-template-hash": hash}
	made, err := client.AppsV1().ReplicaSets("shop").Create(tb.Context(), set, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return metav1.OwnerReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: made.Name, UID: made.UID, Controller: new(true)}
}

// runPods makes so many pods of an owner, several at a time.
func runPods(tb testing.TB, client kubernetes.Interface, n int, hash string, owner metav1.OwnerReference, spec corev1.PodSpec) {
	tb.Helper()
	next := make(chan int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range next {
				p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Name: fmt.Sprintf("web-%s-%03d", hash, i), Labels: map[string]string{"app": "web", "pod-template-hash": hash},
					OwnerReferences: []metav1.OwnerReference{owner},
				}, Spec: spec}
				if _, err := client.CoreV1().Pods("shop").Create(context.WithoutCancel(tb.Context()), p, metav1.CreateOptions{}); err != nil {
					tb.Errorf("pod: %v", err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// TestLiveWatchRollout: 500 new pods of one spec are one change: each finding is told
// once, and one verdict, before the counts are.
func TestLiveWatchRollout(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---"+rolled)
	config := server.Config()
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	plain := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.example/web:1"}}}
	runPods(t, client, 3, "1a", owned(t, client, "1a"), plain)
	w := startWatch(t, server.Config(), "--no-alerts")
	w.untilPicture()
	var mu sync.Mutex
	told, verdicts := map[string]int{}, 0
	w.mu.Lock()
	w.told = append(w.told, func(e scan.Event, _ time.Time) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case e.Finding != nil && !e.Finding.Recount:
			told[e.Finding.Workload.String()+" "+e.Finding.Fingerprint()]++
		case e.Verdict != nil && !e.Verdict.Recount:
			verdicts++
		case e.Resolved != nil:
			t.Errorf("resolved: %+v", *e.Resolved)
		}
	})
	w.mu.Unlock()
	worse := plain
	worse.Containers = []corev1.Container{{Name: "c", Image: "registry.example/web:2", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}
	runPods(t, client, 500, "2b", owned(t, client, "2b"), worse)
	w.untilEqual(server.Config())
	if code := w.stop(); code != exitOK {
		t.Errorf("the watch ends with %d", code)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) == 0 || verdicts != 1 {
		t.Errorf("%d findings and %d verdicts were told, want some and one", len(told), verdicts)
	}
	for what, n := range told {
		if n != 1 || !strings.HasPrefix(what, "shop/Deployment/web ") {
			t.Errorf("%s was told %d times, want once, of the Deployment", what, n)
		}
	}
}

// TestLiveWatchOdd has things happen that look like others: while pods may not be read,
// some change in ways of which only the ends are seen; a watch of a namespace that comes
// later, and of labels that come and go.
func TestLiveWatchOdd(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---"+rolled)
	client := server.Client()
	pods := client.CoreV1().Pods("shop")
	owner := owned(t, client, "1a")
	plain := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	worse := corev1.PodSpec{HostPID: true, Containers: plain.Containers}
	runPods(t, client, 2, "1a", owner, plain)
	create := func(namespace, name string, labels map[string]string, spec corev1.PodSpec) {
		t.Helper()
		if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: spec}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch := func(namespace, name, text string) {
		t.Helper()
		if _, err := client.CoreV1().Pods(namespace).Patch(t.Context(), name, types.MergePatchType, []byte(text), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(name string) {
		t.Helper()
		if err := pods.Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"again", "adopted", "goes", "stays"} {
		create("shop", name, nil, worse)
	}
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	all := startWatch(t, proxy.Config(), "--no-alerts")
	few := []string{"-n", "later", "--selector", "app=web"}
	later := startWatch(t, server.Config(), append(few, "--no-alerts")...)
	all.untilPicture()
	later.untilPicture()
	var mu sync.Mutex
	var gone []string
	all.mu.Lock()
	all.told = append(all.told, func(e scan.Event, _ time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if e.Resolved != nil && e.Resolved.What == scan.ResolvedWorkload {
			gone = append(gone, e.Resolved.Workload.Name)
		}
	})
	all.mu.Unlock()

	var refused atomic.Int32
	proxy.SetHook(func(r *http.Request) kubetest.Action {
		if !strings.HasSuffix(r.URL.Path, "/pods") {
			return kubetest.Pass()
		}
		refused.Add(1)
		return kubetest.Forbidden("pods is forbidden for a while")
	})
	proxy.CutConnections()
	awaited(t, "pods are asked for in vain", func() bool { return refused.Load() > 2 })
	// One is another of the same name, one has an owner, whose others have none.
	end("again")
	create("shop", "again", nil, plain)
	patch("shop", "adopted", fmt.Sprintf(`{"metadata":{"labels":{"pod-template-hash":"1a"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-1a","uid":%q,"controller":true}]}}`, owner.UID))
	patch("shop", "web-1a-001", `{"metadata":{"ownerReferences":[]}}`)
	end("goes")
	server.ApplyYAML(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: later}\n")
	create("later", "in", map[string]string{"app": "web"}, worse)
	create("later", "out", map[string]string{"app": "web"}, worse)
	later.until("a namespace that came later", func(s *scan.State) bool { return len(s.Rows()) == 2 })
	create("later", "joins", nil, worse)
	patch("later", "out", `{"metadata":{"labels":{"app":"other"}}}`)
	patch("later", "joins", `{"metadata":{"labels":{"app":"web"}}}`)
	later.untilEqual(server.Config(), few...)
	mu.Lock()
	if len(gone) > 0 {
		t.Errorf("while pods could not be read these were told to be gone: %q", gone)
	}
	mu.Unlock()

	proxy.SetHook(nil)
	all.untilEqual(server.Config())
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(gone)
	if got := strings.Join(gone, " "); got != "adopted goes" {
		t.Errorf("told to be gone: %q", got)
	}
}
