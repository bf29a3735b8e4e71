package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	clientcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// storm changes a cluster while a watch follows it.
type storm struct {
	testing.TB
	watch  *watched
	client kubernetes.Interface
	dyn    dynamic.Interface
	crowd  kubetest.Crowd
	rate   int
	length time.Duration

	mu     sync.Mutex
	random *rand.Rand
	// alive are the pods that nobody works on.
	alive []string
	next  int
	// asked is when what was asked for and has not been told yet, and last what was
	// asked for last of each pod; seen are the pods that were told of.
	asked   map[string]time.Time
	last    map[string]string
	seen    map[string]bool
	latency []time.Duration
	// brief counts what was so for too short a time to be told.
	ops, brief int
}

// briefly is how short a state may be that is never told: what is undone before the watch
// has come to it, also where others keep the machine busy.
const briefly = 5 * time.Second

// newStorm watches a cluster with so many pods. Its server is its own.
func newStorm(tb testing.TB, crowd kubetest.Crowd, rate int, length time.Duration) (*storm, *rest.Config) {
	tb.Helper()
	server := kubetest.New(tb)
	server.InstallCRDs(tb, kubetest.KubeArmor, kubetest.Kyverno)
	crowd.Create(tb, server)
	config := server.Config()
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		tb.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		tb.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	tb.Logf("seed %d", seed)
	s := &storm{
		TB: tb, client: client, dyn: dyn, crowd: crowd, rate: rate, length: length,
		random: rand.New(rand.NewPCG(seed, 1)), asked: map[string]time.Time{}, last: map[string]string{}, seen: map[string]bool{},
	}
	s.around().begin(tb.Context())
	s.watch = startWatch(tb, server.Config(), "--no-alerts")
	s.watch.told = append(s.watch.told, s.heard)
	s.watch.untilPicture()
	return s, server.Config()
}

// heard notes when what was asked for is told.
func (s *storm) heard(e scan.Event, at time.Time) {
	var key string
	switch {
	case e.Verdict != nil && e.Verdict.Workload.Kind == "Pod" && !e.Verdict.Recount:
		key = "create " + e.Verdict.Workload.Name
	case e.Resolved != nil && e.Resolved.What == scan.ResolvedWorkload:
		key = "delete " + e.Resolved.Workload.Name
	case e.Finding != nil && e.Finding.Rule == "privileged" && e.Finding.Workload.Kind == "Pod":
		key = "image " + e.Finding.Image
	case e.Policy != nil && !e.Policy.Recount:
		key = "create " + e.Policy.Name
	case e.Resolved != nil && e.Resolved.What == scan.ResolvedPolicy:
		key = "delete " + e.Resolved.Policy.Name
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Verdict != nil {
		s.seen[e.Verdict.Workload.Name] = true
	}
	if asked, ok := s.asked[key]; ok {
		s.latency = append(s.latency, at.Sub(asked))
		delete(s.asked, key)
	}
}

// ask notes that something is changed now.
func (s *storm) ask(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[key] = time.Now()
	s.ops++
}

// undo notes that what was asked for last of a pod is so no more: if that was only for a
// moment it may never be told. The caller has the lock.
func (s *storm) undo(pod string) {
	if asked, waiting := s.asked[s.last[pod]]; waiting && time.Since(asked) < briefly {
		delete(s.asked, s.last[pod])
		s.brief++
	}
}

// askOf is ask of a pod.
func (s *storm) askOf(pod, key string) {
	s.mu.Lock()
	s.undo(pod)
	neverSeen := !s.seen[pod] && strings.HasPrefix(key, "delete ")
	s.last[pod] = key
	s.mu.Unlock()
	if !neverSeen {
		s.ask(key)
	}
}

// free gives a pod back that was worked on.
func (s *storm) free(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive = append(s.alive, name)
}

// blow changes pods at the rate for the length, and policies and labels under it.
func (s *storm) blow(ctx context.Context) {
	s.Helper()
	ctx, cancel := context.WithTimeout(ctx, s.length)
	defer cancel()
	work := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range work {
				s.pod(context.WithoutCancel(ctx))
			}
		})
	}
	wg.Go(func() { s.every(ctx, 500*time.Millisecond, s.label) })
	wg.Go(func() { s.every(ctx, time.Second, s.policy) })
	s.around().blow(ctx, &wg)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began, made := time.Now(), 0
	for ctx.Err() == nil {
		for due := int(time.Since(began).Seconds() * float64(s.rate)); made < due; made++ {
			work <- struct{}{}
		}
		<-tick.C
	}
	close(work)
	wg.Wait()
}

func (s *storm) every(ctx context.Context, d time.Duration, do func(context.Context, int)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do(context.WithoutCancel(ctx), i)
		}
	}
}

// choose says what is done next, and to which pod, which is the caller's then.
func (s *storm) choose() (verb, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.random.IntN(6)
	if n < 2 || len(s.alive) < 20 {
		s.next++
		return "create", fmt.Sprintf("storm-%06d", s.next)
	}
	i := s.random.IntN(len(s.alive))
	name = s.alive[i]
	s.alive[i] = s.alive[len(s.alive)-1]
	s.alive = s.alive[:len(s.alive)-1]
	return []string{"", "", "update", "end", "delete", "delete"}[n], name
}

func (s *storm) pod(ctx context.Context) {
	verb, name := s.choose()
	var n int
	_, _ = fmt.Sscanf(name, "storm-%d", &n)
	pods := s.client.CoreV1().Pods(s.crowd.Namespace(n))
	var err error
	switch verb {
	case "create":
		if err = s.create(ctx, pods, name, n); err == nil {
			s.free(name)
		} else if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			// Admission refuses it at the moment.
			s.forget("create " + name)
			err = nil
		}
	case "update":
		s.mu.Lock()
		image := fmt.Sprintf("registry.example/storm:%d", s.random.IntN(1<<40))
		s.mu.Unlock()
		s.askOf(name, "image "+image)
		patch := fmt.Sprintf(`{"spec":{"containers":[{"name":"c","image":%q}]}}`, image)
		_, err = pods.Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
			s.forget("image " + image)
			err = nil
		}
		s.free(name)
	case "end":
		phase := []string{"Failed", "Succeeded", "Running"}[n%3]
		if phase != "Running" {
			// Pods that have ended are not judged.
			s.mu.Lock()
			s.undo(name)
			s.mu.Unlock()
		}
		_, err = pods.Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"status":{"phase":%q}}`, phase), metav1.PatchOptions{}, "status")
		s.free(name)
	case "delete":
		s.askOf(name, "delete "+name)
		err = pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	}
	if err != nil {
		s.Errorf("%s %s: %v", verb, name, err)
	}
}

// create makes a pod, one in four of them without a node at first.
func (s *storm) create(ctx context.Context, pods clientcorev1.PodInterface, name string, n int) error {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "storm", "n": fmt.Sprint(n % 10)}},
		Spec: corev1.PodSpec{NodeName: stormNode(n), Containers: []corev1.Container{{
			Name: "c", Image: "registry.example/storm:" + name, SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		}}},
	}
	late := n%4 == 0
	if late {
		p.Spec.NodeName = ""
	}
	s.askOf(name, "create "+name)
	if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil || !late {
		return err
	}
	return pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: stormNode(n)}}, metav1.CreateOptions{})
}

func (s *storm) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.asked, key)
}

// label changes what a namespace asks of admission.
func (s *storm) label(ctx context.Context, i int) {
	level := []string{`"baseline"`, `"restricted"`, `null`}[i%3]
	patch := fmt.Sprintf(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":%s,"team":"t%d"}}}`, level, i)
	_, err := s.client.CoreV1().Namespaces().Patch(ctx, s.crowd.Namespace(i%max(1, s.crowd.Namespaces-1)), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		s.Errorf("label: %v", err)
	}
}

// policy makes a KubeArmor policy, and takes one away that was made some time ago.
func (s *storm) policy(ctx context.Context, i int) {
	kind := schema.GroupVersionResource{Group: "security.kubearmor.com", Version: "v1", Resource: "kubearmorpolicies"}
	at := func(i int) (namespace, name string) {
		return s.crowd.Namespace(i % s.crowd.Namespaces), fmt.Sprintf("storm-policy-%d", i)
	}
	ns, name := at(i)
	text := fmt.Sprintf(`{"apiVersion":"security.kubearmor.com/v1","kind":"KubeArmorPolicy","metadata":{"name":%q,"namespace":%q},
		"spec":{"selector":{"matchLabels":{"n":"%d"}},"capabilities":{"matchCapabilities":[{"capability":"sys_admin"}]},"action":"Block"}}`, name, ns, i%10)
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		s.Error(err)
		return
	}
	s.ask("create " + name)
	if _, err := s.dyn.Resource(kind).Namespace(ns).Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{}); err != nil {
		s.Errorf("policy: %v", err)
	}
	const stay = 5
	if i < stay {
		return
	}
	ns, name = at(i - stay)
	s.ask("delete " + name)
	if err := s.dyn.Resource(kind).Namespace(ns).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		s.Errorf("policy: %v", err)
	}
}

// settle waits until the watch says what a scan says, and gives what was measured.
func (s *storm) settle(config *rest.Config) (p50, p99 time.Duration, rss float64) {
	s.Helper()
	s.watch.untilEqual(config)
	rss = s.watch.peakRSS()
	if code := s.watch.stop(); code != exitOK {
		s.Errorf("the watch ends with %d", code)
	}
	if err := replayable(s.watch); err != nil {
		s.Errorf("what the watch wrote cannot be read back: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := len(s.asked); left > 0 {
		s.Errorf("%d of %d changes were never told: %s", left, s.ops, strings.Join(sortedKeys(s.asked)[:min(left, 10)], ", "))
	}
	return percentile(s.latency, .5), percentile(s.latency, .99), rss
}

// TestLiveWatchStorm follows a cluster through a storm: what was told comes to what a
// scan says, field by field.
func TestLiveWatchStorm(t *testing.T) {
	t.Parallel()
	s, config := newStorm(t, kubetest.Crowd{Namespaces: 8, Deployments: 80, ReplicaSets: 2, Pods: 5}, 100, 6*time.Second)
	s.blow(t.Context())
	p50, p99, rss := s.settle(config)
	t.Logf("%d changes, %d undone before they could be told; from change to event: median %v, 99%% within %v; %.0f MiB", s.ops, s.brief, p50, p99, rss)
}

// BenchmarkLiveWatch is the same with 10,000 pods and 200 changes a second for a
// minute. It may take 300 MiB, and 99 of 100 changes are told within a second.
func BenchmarkLiveWatch(b *testing.B) {
	for b.Loop() {
		s, config := newStorm(b, kubetest.Crowd{Namespaces: 50, Deployments: 2000, ReplicaSets: 1, Pods: 5}, 200, time.Minute)
		b.ResetTimer()
		s.blow(b.Context())
		p50, p99, rss := s.settle(config)
		b.Logf("%d changes, %d undone before they could be told; from change to event: median %v, 99%% within %v; %.0f MiB", s.ops, s.brief, p50, p99, rss)
		b.ReportMetric(float64(p50.Milliseconds()), "p50-ms")
		b.ReportMetric(float64(p99.Milliseconds()), "p99-ms")
		b.ReportMetric(rss, "peak-MiB")
		b.ReportMetric(float64(s.ops), "changes")
		if rss >= 300 || p99 >= time.Second {
			b.Errorf("99%% within %v, want a second; %.0f MiB, want less than 300", p99, rss)
		}
	}
}
