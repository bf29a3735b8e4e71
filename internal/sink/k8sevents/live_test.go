package k8sevents_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/k8sevents"
	"github.com/escape-scanner/escape-scanner/scan"
)

var live = kubetest.NewShared()

func TestMain(m *testing.M) { os.Exit(live.Run(m)) }

// notices collects what a sink says of itself.
type notices struct {
	mu  sync.Mutex
	all []sink.Notice
}

func (n *notices) take(notice sink.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, notice)
}

// last is the latest, of which there must be one.
func (n *notices) last() sink.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[len(n.all)-1]
}

func (n *notices) dropped() (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, notice := range n.all {
		sum += notice.Dropped
	}
	return sum
}

func (n *notices) errors() (texts []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, notice := range n.all {
		if notice.Err != nil {
			texts = append(texts, notice.Err.Error())
		}
	}
	return texts
}

// run runs a sink until stop is called.
func run(t *testing.T, o k8sevents.Options) (s *k8sevents.Sink, said *notices, stop func()) {
	t.Helper()
	said = &notices{}
	o.Notify = said.take
	s = k8sevents.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, said, stop
}

// user is a user with the rights to Events, and no others.
func user(t *testing.T, server *kubetest.Server, name string) *rest.Config {
	t.Helper()
	config := server.User(t, name)
	server.Allow(t, name, "", kube.WatchRights(kube.WatchEvents)...)
	return config
}

func writer(t *testing.T, config *rest.Config) *kube.EventWriter {
	t.Helper()
	cluster, err := kube.NewCluster(config, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return cluster.EventWriter()
}

func tell(t *testing.T, s *k8sevents.Sink, events ...scan.Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Handle(e); err != nil {
			t.Error(err)
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return holds(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// eventsIn are the Events of a namespace by their reasons.
func eventsIn(t *testing.T, server *kubetest.Server, namespace string) map[string]*eventsv1.Event {
	t.Helper()
	list, err := server.Client().EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]*eventsv1.Event{}
	for i := range list.Items {
		by[list.Items[i].Reason] = &list.Items[i]
	}
	return by
}

func makeDeployment(t *testing.T, server *kubetest.Server, namespace, name string) (scan.Workload, types.UID) {
	t.Helper()
	labels := map[string]string{"app": name}
	d, err := server.Client().AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return scan.Workload{Namespace: namespace, Kind: "Deployment", Name: name}, d.UID
}

func verdict(w scan.Workload, was, is scan.Verdict, reason string) scan.Event {
	return scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Was: was, Verdict: is, Reason: reason}}
}

func finding(w scan.Workload, rule string, severity scan.Severity) scan.Event {
	return scan.Event{Finding: &scan.Finding{Workload: w, Rule: rule, Title: "title of " + rule, Severity: severity, Category: scan.CategoryEscape, Open: true, Field: "spec"}}
}

func incident(w scan.Workload, id string, count int) scan.Event {
	return scan.Event{Alert: &scan.Alert{
		ID: id, Class: scan.ClassCapability, Incident: true, Severity: scan.SeverityHigh, Reason: "a step of an open path", Workload: w,
		Pod: "pod-1", Container: "c", Process: "/bin/sh\x1b[31m", Resource: "SYS_ADMIN", Node: "n1", Techniques: []string{"T1611"}, Count: count,
	}}
}

var begin = []scan.Event{{Start: &scan.Start{Watch: true}}, {Picture: &scan.End{}}}

// Events are where kubectl describe looks for them, and say what happened.
func TestEventsOnWorkloads(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	w, uid := makeDeployment(t, server, ns, "web")
	s, said, stop := run(t, k8sevents.Options{Writer: writer(t, user(t, server, "event-writer")), Instance: "escape-scanner-abc", Settle: time.Millisecond, QPS: 100, EachBurst: 100})

	old := finding(w, "old", scan.SeverityCritical)
	tell(t, s, begin[0], old, incident(w, "before", 3), begin[1], old)
	tell(t, s,
		finding(w, "hostpath", scan.SeverityCritical), finding(w, "small", scan.SeverityLow),
		verdict(w, scan.VerdictClosed, scan.VerdictExposed, "the path hostpath is open"),
		incident(w, "deed", 1),
		scan.Event{Lost: &scan.Lost{ID: "gap", Reason: scan.LostThrottled, From: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Workload: &w, Message: strings.Repeat("long ", 500)}},
		scan.Event{Lost: &scan.Lost{ID: "deaf", Reason: scan.LostDeaf, Message: "about no object"}},
	)
	eventually(t, "four events", func() bool { return len(eventsIn(t, server, ns)) == 4 })
	all := eventsIn(t, server, ns)
	for reason, want := range map[string]string{
		k8sevents.ReasonFindings:     "found: critical: title of hostpath (hostpath)",
		k8sevents.ReasonVerdictWorse: "was closed, is exposed: the path hostpath is open",
		k8sevents.ReasonIncident:     `capability reported, high severity: a step of an open path; process /bin/sh\x1b[31m; resource SYS_ADMIN; container c; pod pod-1; node n1; techniques T1611`,
		k8sevents.ReasonLost:         "alerts are missing from 2026-11-22T12:00:00Z on (throttled): long long",
	} {
		e := all[reason]
		if e == nil {
			t.Errorf("no event %s", reason)
			continue
		}
		if reason == k8sevents.ReasonLost && (len(e.Note) > 1024 || len(e.Note) < 1000) || reason != k8sevents.ReasonLost && e.Note != want || !strings.HasPrefix(e.Note, want) {
			t.Errorf("%s: note %q, want %q", reason, e.Note, want)
		}
		if (e.Regarding != corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: ns, Name: "web", UID: uid}) {
			t.Errorf("%s: regarding %+v", reason, e.Regarding)
		}
		if e.Type != corev1.EventTypeWarning || e.ReportingController != "escape-scanner" || e.ReportingInstance != "escape-scanner-abc" || e.Series != nil {
			t.Errorf("%s: %+v", reason, e)
		}
	}
	if r := all[k8sevents.ReasonIncident].Related; r == nil || r.Kind != "Pod" || r.Name != "pod-1" {
		t.Errorf("related %+v", r)
	}

	// Again, and more often: that is the same Event.
	tell(t, s, incident(w, "deed", 7))
	eventually(t, "the count", func() bool {
		e := eventsIn(t, server, ns)[k8sevents.ReasonIncident]
		return e.Series != nil && e.Series.Count == 7
	})
	// Better, and what is gone.
	tell(t, s, verdict(w, scan.VerdictExposed, scan.VerdictClosed, "no way out"))
	eventually(t, "the good news", func() bool {
		e := eventsIn(t, server, ns)[k8sevents.ReasonVerdictBetter]
		return e != nil && e.Type == corev1.EventTypeNormal
	})

	// That is how kubectl asks.
	list, err := server.Client().CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{
		FieldSelector: fmt.Sprintf("involvedObject.kind=Deployment,involvedObject.name=web,involvedObject.namespace=%s,involvedObject.uid=%s", ns, uid),
	})
	if err != nil || len(list.Items) != 5 {
		t.Errorf("kubectl would show %d events, want 5: %v", len(list.Items), err)
	}
	stop()
	if texts := said.errors(); len(texts) > 0 {
		t.Errorf("notices: %q", texts)
	}
}

// What is known by name only, is in no namespace, or is in one that is not there.
func TestEventsElsewhere(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	s, said, stop := run(t, k8sevents.Options{Writer: writer(t, user(t, server, "event-writer-elsewhere")), Settle: time.Millisecond})
	tell(t, s, begin...)
	tell(t, s,
		incident(scan.Workload{Namespace: "gone-long-ago", Kind: "Deployment", Name: "a"}, "1", 1),
		incident(scan.Workload{Namespace: "../x", Kind: "Deployment", Name: "a"}, "2", 1),
		incident(scan.Workload{Namespace: ns, Kind: "Rollout", Name: "Of_Argo"}, "3", 5),
		scan.Event{Lost: &scan.Lost{ID: "4", Reason: scan.LostThrottled, Node: "node-of-" + ns, Message: "m"}},
	)
	eventually(t, "the event by name", func() bool { return len(eventsIn(t, server, ns)) == 1 })
	e := eventsIn(t, server, ns)[k8sevents.ReasonIncident]
	if e.Regarding.Kind != "Rollout" || e.Regarding.Name != "Of_Argo" || e.Regarding.UID != "" || e.Series == nil || e.Series.Count != 5 {
		t.Errorf("%+v", e)
	}
	eventually(t, "the event of the node", func() bool {
		list, err := server.Client().EventsV1().Events(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{FieldSelector: "regarding.name=node-of-" + ns})
		return err == nil && len(list.Items) == 1 && list.Items[0].Regarding.UID == types.UID("node-of-"+ns)
	})
	stop()
	if texts := said.errors(); len(texts) > 0 {
		t.Errorf("notices: %q", texts)
	}
}

// Ten thousand alerts at once are some Events, and a true count of the rest.
func TestStormOfAlerts(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	const alerts, qps, burst = 10_000, 50, 100
	s, said, stop := run(t, k8sevents.Options{Writer: writer(t, user(t, server, "event-storm")), QPS: qps, Burst: burst})
	tell(t, s, begin...)
	began := time.Now()
	for i := range alerts {
		tell(t, s, incident(scan.Workload{Namespace: ns, Kind: "Deployment", Name: fmt.Sprintf("web-%d", i%500)}, fmt.Sprint(i), 1))
	}
	eventually(t, "the first events", func() bool {
		list, err := server.Client().EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) >= burst
	})
	stop()
	most := burst + int(time.Since(began).Seconds()*qps) + 1
	list, err := server.Client().EventsV1().Events(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// An Event to which no answer came in time may have been written, and counts as left out.
	if n := len(list.Items); n > most || n+said.dropped() != alerts && n+said.dropped() != alerts+1 {
		t.Errorf("%d events (at most %d) and %d left out, of %d; notices %q", n, most, said.dropped(), alerts, said.errors())
	}
	each := map[string]int{}
	for _, e := range list.Items {
		each[e.Regarding.Name]++
		if each[e.Regarding.Name] > 6 {
			t.Errorf("%s has %d events", e.Regarding.Name, each[e.Regarding.Name])
		}
	}
}
