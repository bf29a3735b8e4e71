package targets

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Options say how an inventory is read.
type Options struct {
	// Inspect resolves paths inside of a running container: for each the real path, ""
	// when there is no such file. One pod of each specimen is looked into; with nil, none.
	Inspect func(ctx context.Context, namespace, pod, container string, paths []string) (map[string]string, error)
	// Paths are those to resolve; nil for the paths of the escapeToHost set.
	Paths []string
	// Failures are what the caller could not read before.
	Failures []scan.Failure
}

// reader is the state of one reading.
type reader struct {
	Options
	cluster scan.Cluster
	scope   Scope

	inventory *Inventory
	groups    map[groupKey]*group
	sources   *controllers
	// apart tells that the pods were read one namespace after another, as all at once
	// is not allowed.
	apart bool
}

// groupKey is what pods have in common that are one specimen.
type groupKey struct {
	namespace string
	// owner is the controller that the pods claim; for a pod without one, pod is its name.
	owner metav1.OwnerReference
	pod   string
	// hash is that of the template that the pods carry.
	hash   string
	digest digest
}

type group struct {
	// pod is one of the pods.
	pod   *corev1.Pod
	live  int
	nodes map[string]bool
	// running are the containers that run in pod.
	running []string
}

// Read reads what is in scope. The cluster has to be one that lists all pods, whatever
// their labels. What cannot be read becomes Failures; the error is one of the scope or
// of the context.
func Read(ctx context.Context, cluster scan.Cluster, scope Scope, opts Options) (*Inventory, error) {
	if err := scope.Validate(); err != nil {
		return nil, fmt.Errorf("scope: %w", err)
	}
	r := &reader{
		Options: opts, cluster: cluster, scope: scope,
		inventory: &Inventory{Containers: map[string]int{}, Failures: slices.Clone(opts.Failures)},
		groups:    map[groupKey]*group{},
	}
	r.readNamespaces(ctx)
	// Pods come first: what one of them is owned by was there before it.
	r.readPods(ctx)
	r.sources = readControllers(ctx, cluster, scope)
	r.hidden(r.sources.failures...)
	r.join(ctx)
	r.inspect(ctx)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("workloads: %w", err)
	}
	slices.SortStableFunc(r.inventory.Failures, func(a, b scan.Failure) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Namespace, b.Namespace))
	})
	return r.inventory, nil
}

func (r *reader) failed(subject, namespace string, err error, affects string) {
	r.inventory.Failures = append(r.inventory.Failures, scan.FailureOf(subject, namespace, err, affects))
}

// hidden keeps failures behind which workloads may be.
func (r *reader) hidden(failures ...scan.Failure) {
	r.inventory.Failures = append(r.inventory.Failures, failures...)
	r.inventory.Unseen = append(r.inventory.Unseen, failures...)
}

func (r *reader) readNamespaces(ctx context.Context) {
	list, err := r.cluster.Namespaces(ctx)
	if err != nil {
		r.failed("namespaces", "", err, "which namespaces there are, and their labels")
		return
	}
	r.inventory.Namespaces = make(map[string]*corev1.Namespace, len(list))
	for i := range list {
		r.inventory.Namespaces[list[i].Name] = &list[i]
	}
	for _, ns := range r.scope.Namespaces {
		if r.inventory.Namespaces[ns] == nil {
			r.inventory.Failures = append(r.inventory.Failures, scan.Failure{
				Subject: "namespace " + ns, Namespace: ns, Reason: scan.FailureNotFound,
				Message: fmt.Sprintf("namespace %q does not exist", ns), Affects: "nothing is there to be protected",
			})
		}
	}
}

// readPods reads all pods, as those out of scope run on the same nodes; where that is
// not allowed, those in scope.
func (r *reader) readPods(ctx context.Context) {
	read := 0
	page := func(page scan.PodPage) error {
		for i := range page.Items {
			r.take(&page.Items[i])
		}
		read += len(page.Items)
		return ctx.Err()
	}
	err := r.cluster.Pods(ctx, metav1.NamespaceAll, page)
	names := r.scope.Namespaces
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(r.inventory.Namespaces))
	}
	// A right that is lost in the middle is no reason to count the first pods twice.
	if !apierrors.IsForbidden(err) || read > 0 || len(names) == 0 {
		if err != nil {
			r.hidden(scan.FailureOf("pods", "", err, "workloads that were not seen, and how many containers run on the nodes"))
		}
		return
	}
	r.apart = true
	r.failed("pods", "", err, "how many containers run on the nodes")
	for _, ns := range names {
		if !r.scope.Covers(ns) {
			continue
		}
		if err := r.cluster.Pods(ctx, ns, page); err != nil {
			r.hidden(scan.FailureOf("pods", ns, err, "workloads that were not seen"))
		}
	}
}

// take counts a pod in and keeps what is new of it.
func (r *reader) take(pod *corev1.Pod) {
	if node := pod.Spec.NodeName; node != "" {
		if n := scan.RunningContainers(pod); n > 0 {
			r.inventory.Containers[node] += n
		}
	}
	if !r.scope.Includes(pod.Namespace, pod.Labels) {
		return
	}
	specimen := reduced(&pod.ObjectMeta, &pod.Spec)
	key := groupKey{namespace: pod.Namespace, digest: digestOf(specimen)}
	if ref := scan.ControllerOf(pod.OwnerReferences); ref != nil {
		key.owner = metav1.OwnerReference{APIVersion: ref.APIVersion, Kind: ref.Kind, Name: ref.Name, UID: ref.UID}
		key.hash = scan.TemplateHash(pod.Labels)
	}
	// The pods of a node are pods of their own.
	if key.owner.Kind == "" || key.owner.Kind == "Node" {
		key.pod = pod.Name
	}
	g := r.groups[key]
	if g == nil {
		g = &group{pod: specimen, nodes: map[string]bool{}}
		r.groups[key] = g
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return
	}
	g.live++
	if pod.Spec.NodeName != "" {
		g.nodes[pod.Spec.NodeName] = true
	}
	if len(g.running) > 0 {
		return
	}
	// One that runs stands for all: it can be looked into.
	if g.running = runningIn(pod); len(g.running) > 0 || g.live == 1 {
		g.pod = specimen
	}
}

// runningIn are the containers that run in a pod.
func runningIn(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Status.ContainerStatuses {
		if s := &pod.Status.ContainerStatuses[i]; s.State.Running != nil {
			names = append(names, s.Name)
		}
	}
	return names
}
