package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/config"
	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// maxAlertedPods bounds of how many pods it is looked up whose they are.
	maxAlertedPods = 10_000
	// maxAlertedNamespaces are as many as are asked for their pods one by one.
	maxAlertedNamespaces = 30
	// unheard is what is not known when alerts are missing.
	unheard = "what was done in containers meanwhile"
)

// window is a time in which alerts are heard beside a scan.
type window struct {
	a       *app
	cluster scan.Cluster
	name    string
	// namespaces are those that are audited, none for all.
	namespaces []string
	folder     *alerts.Folder
	next       scan.Handler
	state      *scan.State
	// end is held back until the window is over.
	end *scan.End

	mu sync.Mutex
	// pods are those that raised alerts, with the workloads that KubeArmor names.
	pods map[scan.PodName]scan.Workload
	// tooMany is true where there were more pods.
	tooMany bool
}

func (a *app) newWindow(cluster scan.Cluster, name string, namespaces []string, next scan.Handler) *window {
	return &window{
		a: a, cluster: cluster, name: name, namespaces: namespaces, next: next, state: scan.NewState(), folder: alerts.NewFolder(alerts.Options{Cluster: name}),
		pods: map[scan.PodName]scan.Workload{},
	}
}

// Handle implements scan.Handler.
func (w *window) Handle(e scan.Event) error {
	if e.End != nil {
		w.end = e.End
		return nil
	}
	// A State never fails.
	_ = w.state.Handle(e)
	return w.next.Handle(e)
}

// scanHearing scans the cluster and listens to KubeArmor meanwhile, for as long as the
// window is wide.
func (a *app) scanHearing(ctx context.Context, cluster *kube.Cluster, name string, f *scanFlags, cfg *config.Config, h scan.Handler, run func(scan.Handler) error) error {
	targets, err := a.kubeArmorTargets(ctx, cluster, &cfg.Watch)
	if err != nil {
		return err
	}
	w := a.newWindow(cluster, name, splitNames(*f.kube.Namespace), h)
	hearing, stop := context.WithTimeout(ctx, f.alerts)
	defer stop()
	attended := newAttendance(targets)
	var heardErr error
	heard := make(chan struct{})
	lost := func(l scan.Lost) {
		attended.lost(l)
		w.folder.Lost(l)
	}
	go func() {
		defer close(heard)
		heardErr = source.Listen(hearing, targets, source.Listener{Alert: w.take, Lost: lost, State: attended.state})
	}()
	if err := run(w); err != nil {
		stop()
		<-heard
		return err
	}
	// What is said of the window comes with the rest, so it is waited for.
	<-heard
	if heardErr != nil && hearing.Err() == nil {
		return heardErr
	}
	return w.finish(ctx, append(attended.unheard(unheard), attended.gaps(unheard)...))
}

// scanDemoHearing scans the demo cluster, with all of its alerts.
func (a *app) scanDemoHearing(ctx context.Context, cluster scan.Cluster, namespaces []string, h scan.Handler, run func(scan.Handler) error) error {
	w := a.newWindow(cluster, demo.ClusterName, namespaces, h)
	if err := run(w); err != nil {
		return err
	}
	err := source.ReadRecording(ctx, bytes.NewReader(demo.Alerts()), func(alert armor.Alert) error {
		w.take(alert)
		return nil
	})
	if err != nil {
		return fmt.Errorf("alerts of the demo: %w", err)
	}
	return w.finish(ctx, nil)
}

func (w *window) take(alert armor.Alert) {
	if !concerns(w.namespaces, &alert) {
		return
	}
	w.folder.Add(alert, w.a.now())
	if alert.Pod == "" || alert.Namespace == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := scan.PodName{Namespace: alert.Namespace, Name: alert.Pod}
	_, known := w.pods[pod]
	switch {
	case known:
	case len(w.pods) < maxAlertedPods:
		w.pods[pod] = scan.Workload{Cluster: w.name, Namespace: alert.Namespace, Kind: alert.OwnerKind, Name: alert.OwnerName}
	default:
		w.tooMany = true
	}
}

// silence is what was lost of the alerts where somebody listened.
type silence struct{ throttled, dropped int }

func (s *silence) add(l *scan.Lost) {
	switch {
	case l.Reason == scan.LostThrottled:
		s.throttled++
	case l.Reason == scan.LostDropped && l.Source == "":
		s.dropped += l.Alerts
	}
}

// failures say that the window is not whole: what was done in it is not all known.
func (s *silence) failures() []scan.Failure {
	var failures []scan.Failure
	if s.throttled > 0 {
		failures = append(failures, scan.Failure{
			Subject: "alerts", Reason: scan.FailureTooLarge, Affects: unheard,
			Message: fmt.Sprintf("KubeArmor kept quiet for a while about what raised too many, %s", counted(s.throttled, "time")),
		})
	}
	if s.dropped > 0 {
		failures = append(failures, scan.Failure{
			Subject: "alerts", Reason: scan.FailureTooLarge, Affects: unheard,
			Message: fmt.Sprintf("%s could not be told, as there were too many different ones", counted(s.dropped, "alert")),
		})
	}
	return failures
}

// finish tells the alerts, and then the end.
func (w *window) finish(ctx context.Context, failures []scan.Failure) error {
	if w.end == nil {
		return nil
	}
	var places map[scan.PodName]scan.Place
	if ctx.Err() == nil {
		var more []scan.Failure
		places, more = w.places(ctx)
		failures = append(failures, more...)
	}
	var quiet silence
	err := w.folder.Close(w.a.now(), func(namespace, pod string) (scan.Place, bool) {
		p, ok := places[scan.PodName{Namespace: namespace, Name: pod}]
		return p, ok
	}, func(e scan.Event) error {
		if e.Lost != nil {
			quiet.add(e.Lost)
		}
		return w.next.Handle(e)
	})
	if err != nil {
		return err
	}
	failures = append(failures, quiet.failures()...)
	for i := range failures {
		if err := w.next.Handle(scan.Event{Failure: &failures[i]}); err != nil {
			return err
		}
	}
	end := *w.end
	end.Incomplete = end.Incomplete || len(failures) > 0
	if ctx.Err() != nil {
		end.Incomplete, end.Interrupted = true, true
	}
	return w.next.Handle(scan.Event{End: &end})
}

// places finds the pods of the alerts as they are now, and their workloads. Of pods that
// are gone only the workload that KubeArmor names can be found.
func (w *window) places(ctx context.Context) (map[scan.PodName]scan.Place, []scan.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	namespaces := map[string]bool{}
	for pod := range w.pods {
		namespaces[pod.Namespace] = true
	}
	if len(namespaces) > maxAlertedNamespaces && len(w.namespaces) == 0 {
		namespaces = map[string]bool{"": true}
	}
	var found []corev1.Pod
	var failures []scan.Failure
	if w.tooMany {
		failures = append(failures, scan.Failure{
			Subject: "pods of alerts", Reason: scan.FailureTooLarge, Affects: "whose the alerts are",
			Message: fmt.Sprintf("alerts of more than %d pods were raised: the workloads of the rest were not looked up", maxAlertedPods),
		})
	}
	chains := scan.NewChains(w.cluster, false)
	for _, ns := range slices.Sorted(maps.Keys(namespaces)) {
		err := w.cluster.Pods(ctx, ns, func(page scan.PodPage) error {
			for i := range page.Items {
				p := &page.Items[i]
				if _, raised := w.pods[scan.PodName{Namespace: p.Namespace, Name: p.Name}]; raised {
					found = append(found, *p)
					chains.Expect(ctx, &p.ObjectMeta)
				}
			}
			return nil
		})
		if err != nil {
			failures = append(failures, scan.FailureOf("pods of alerts", ns, err, "whose the alerts are"))
		}
	}
	chains.Wait()
	rows := map[scan.Workload][]scan.RowRef{}
	for _, ref := range w.state.Rows() {
		rows[ref.Workload] = append(rows[ref.Workload], ref)
	}
	places := map[scan.PodName]scan.Place{}
	for i := range found {
		p := &found[i]
		ref := w.rowOf(ctx, p, chains, rows)
		places[scan.PodName{Namespace: p.Namespace, Name: p.Name}] = scan.Place{
			Workload: ref.Workload, Claims: ref.Claims, Verdict: w.state.Verdict(ref), Findings: w.state.Findings(ref),
			Pod: &scan.Pod{Meta: &p.ObjectMeta, Spec: &p.Spec},
		}
	}
	for pod, owner := range w.pods {
		if _, found := places[pod]; found {
			continue
		}
		if place, ok := w.formerPlace(rows[owner]); ok {
			places[pod] = place
		}
	}
	return places, failures
}

// formerPlace is that of a pod that is gone, if what KubeArmor calls its workload leaves a
// way out: which of its rows the pod was in is not known, and the worst is taken. Where
// there is none it says nothing, as KubeArmor may err and calm nobody.
func (w *window) formerPlace(rows []scan.RowRef) (place scan.Place, ok bool) {
	order := scan.Verdicts()
	for _, ref := range rows {
		v := w.state.Verdict(ref)
		if v == nil || v.Verdict != scan.VerdictExposed && v.Verdict != scan.VerdictGuarded {
			continue
		}
		if !ok || slices.Index(order, v.Verdict) < slices.Index(order, place.Verdict.Verdict) {
			place, ok = scan.Place{Workload: ref.Workload, Claims: ref.Claims, Verdict: v, Findings: w.state.Findings(ref)}, true
		}
	}
	return place, ok
}

// rowOf is the row of a pod: its own, where it differs from its siblings, else that of
// its workload.
func (w *window) rowOf(ctx context.Context, p *corev1.Pod, chains *scan.Chains, rows map[scan.Workload][]scan.RowRef) scan.RowRef {
	own := scan.Workload{Cluster: w.name, Namespace: p.Namespace, Kind: "Pod", Name: p.Name}
	if refs := rows[own]; len(refs) > 0 {
		return refs[0]
	}
	workload, claims := chains.Workload(ctx, &p.ObjectMeta)
	if workload.Name == "" {
		return scan.RowRef{Workload: own, Claims: claims}
	}
	workload.Cluster = w.name
	for _, ref := range rows[workload] {
		if ref.Claims == claims {
			return ref
		}
	}
	return scan.RowRef{Workload: workload, Claims: claims}
}
