package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ClusterOptions say what of a cluster is scanned and by which rules.
type ClusterOptions struct {
	// Start holds what only the caller knows of the run (tool, version, time,
	// source, cluster, selector); the scan fills in the rest.
	Start Start
	// Namespaces limits the scan; none means all.
	Namespaces []string
	// Level and PSSVersion are as the user gives them.
	Level      psa.Level
	PSSVersion string
	// Declarations finds the documents that declare the workloads; nil for none.
	Declarations Declarations
	// Failures are what the caller could not read before; they are reported with
	// the scan's own.
	Failures []Failure
	// Probes are the ways of looking closer that the user consented to.
	Probes Probes

	// manifests is true where the cluster is a folder of manifests.
	manifests bool
}

// clusterRun is the state of one scan of a cluster.
type clusterRun struct {
	ClusterOptions
	cluster Cluster
	next    Handler

	collector *collector
	around    *surroundings
	// documents counts the templates that were judged without a pod.
	documents int
	rules     *ruleIndex
	// partial holds, by namespace ("" for all), why not all pods could be read.
	partial map[string]string
	missing []Failure
}

// ScanCluster reads the cluster once and sends what it learns. What cannot be read
// becomes Failures; the error is one that no scan could begin with (no server, a
// wrong version), or the handler's. A cancelled context ends the stream early,
// marked as interrupted.
func ScanCluster(ctx context.Context, cluster Cluster, opts ClusterOptions, next Handler) error {
	r := &clusterRun{ClusterOptions: opts, cluster: cluster, next: next, partial: map[string]string{}, missing: slices.Clone(opts.Failures)}
	if err := r.begin(ctx); err != nil {
		return err
	}
	// Owners are listed beside the pods: nothing of that outlives the scan.
	reading, stop := context.WithCancel(ctx)
	defer r.collector.owners.wait()
	defer stop()
	err := r.read(reading)
	switch {
	case errors.Is(err, errHandler):
		return err
	case ctx.Err() != nil:
		return r.interrupted()
	case err != nil:
		return err
	}
	return r.end(reading)
}

// errHandler marks errors of the handler: the stream cannot go on.
var errHandler = errors.New("cannot write the result")

func (r *clusterRun) send(e Event) error {
	if err := r.next.Handle(e); err != nil {
		return fmt.Errorf("%w: %w", errHandler, err)
	}
	return nil
}

// begin finds the server's version, makes the engine and starts the stream.
func (r *clusterRun) begin(ctx context.Context) error {
	server, err := r.cluster.ServerVersion(ctx)
	if err != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("server version: %w", err)
	}
	if err != nil {
		r.missing = append(r.missing, FailureOf("server version", "", err, "which version of the Pod Security Standards the server applies: the newest is assumed"))
	}
	engine, start, err := Begin(r.Start, r.Level, r.PSSVersion, server)
	if err != nil {
		return err
	}
	start.Namespaces = r.Namespaces
	if err := r.send(Event{Start: &start}); err != nil {
		return err
	}
	r.around = readSurroundings(ctx, r.cluster, &r.ClusterOptions, server)
	r.rules = newRuleIndex(r.around)
	r.collector = newCollector(r.Start.Cluster, engine, newOwnerIndex(r.cluster, len(r.Namespaces) == 0), newFactSource(ctx, r.cluster), r.around)
	return nil
}

// serverPSS is the version of the Pod Security Standards that the API server has.
func serverPSS(server string) psa.Version {
	version, _, err := ResolvePSS(PSSServer, server)
	if err != nil {
		return psa.LatestVersion()
	}
	return version
}

// read goes through nodes, namespaces and pods.
func (r *clusterRun) read(ctx context.Context) error {
	for _, n := range r.around.sortedNodes() {
		node := nodeOf(n.node)
		node.Enforcement = &n.enforcement
		if err := r.send(Event{Node: node}); err != nil {
			return err
		}
	}
	if len(r.Namespaces) > 0 {
		return r.readNamed(ctx, r.Namespaces)
	}
	err := r.readPods(ctx, corev1.NamespaceAll)
	// A right that is lost in the middle is no reason to count the first pods twice.
	if !apierrors.IsForbidden(err) || len(r.around.namespaces) == 0 || r.collector.pods > 0 {
		return r.podsFailed(corev1.NamespaceAll, err)
	}
	// Not all at once, but perhaps one by one.
	r.collector.owners.everywhere = false
	for _, ns := range slices.Sorted(maps.Keys(r.around.namespaces)) {
		if err := r.podsFailed(ns, r.readPods(ctx, ns)); err != nil {
			return err
		}
	}
	return nil
}

// readNamed reads the namespaces that the user named, and finds the misspelt ones:
// the API server answers for a namespace that does not exist as for an empty one.
func (r *clusterRun) readNamed(ctx context.Context, names []string) error {
	var empty []string
	for _, ns := range names {
		before := r.collector.pods
		err := r.readPods(ctx, ns)
		if err == nil && r.collector.pods == before {
			empty = append(empty, ns)
		}
		if err := r.podsFailed(ns, err); err != nil {
			return err
		}
	}
	for _, ns := range empty {
		if err := r.around.namespacesErr; err != nil {
			r.missing = append(r.missing, FailureOf("namespace "+ns, ns, err, "whether the namespace, which shows no pods, exists"))
		} else if r.around.namespaces[ns] == nil {
			r.missing = append(r.missing, Failure{
				Subject: "namespace " + ns, Namespace: ns, Reason: FailureNotFound,
				Message: fmt.Sprintf("namespace %q does not exist", ns), Affects: "nothing was scanned there",
			})
		}
	}
	return nil
}

func (r *clusterRun) readPods(ctx context.Context, namespace string) error {
	return r.cluster.Pods(ctx, namespace, func(page PodPage) error {
		r.collector.page(ctx, page.Items)
		return r.send(Event{Progress: &Progress{Pods: r.collector.pods, Remaining: page.Remaining}})
	})
}

// podsFailed records that not all pods of a namespace could be read. It returns
// only what ends the run.
func (r *clusterRun) podsFailed(namespace string, err error) error {
	if err == nil || errors.Is(err, errHandler) {
		return err
	}
	r.partial[namespace] = "not all pods could be read"
	r.missing = append(r.missing, FailureOf("pods", namespace, err, "workloads that were not seen, and whether the others are closed"))
	return nil
}

// end resolves owners and sends what was found.
func (r *clusterRun) end(ctx context.Context) error {
	owners := r.collector.owners
	owners.wait()
	all, err := r.addTemplates(ctx, r.collector.rows(ctx))
	if err != nil && ctx.Err() == nil {
		r.missing = append(r.missing, FailureOf("templates", "", err, "workloads without pods"))
	}
	if ctx.Err() != nil {
		return r.interrupted()
	}
	for scope, err := range owners.failures() {
		r.missing = append(r.missing, scope.failure(err))
	}
	r.missing = append(r.missing, r.collector.facts.failures()...)
	if r.Start.Selector != "" && r.collector.pods == 0 && len(r.partial) == 0 {
		r.missing = append(r.missing, Failure{
			Subject: "selector " + r.Start.Selector, Reason: FailureNotFound,
			Message: "no pod matches the selector", Affects: "everything: nothing was judged",
		})
	}
	r.missing = append(r.missing, r.around.failures...)
	if err := r.sendFailures(); err != nil {
		return err
	}
	if err := r.sendUnread(); err != nil {
		return err
	}
	tally := newPolicyTally()
	for _, row := range all {
		incomplete := cmp.Or(r.partial[row.workload.Namespace], r.partial[corev1.NamespaceAll])
		decl := row.decl
		if r.Declarations != nil {
			if d, ok := r.Declarations.Find(row.workload); ok {
				decl = d
			}
		}
		if row.layers != nil && !r.whole("") && row.layers.Kernel.Capabilities == kernel.Yes {
			row.layers.Kernel.Reason += "; how many containers of other pods run there was not counted"
		}
		if err := row.emit(decl, incomplete, r.rules, r.next); err != nil {
			return fmt.Errorf("%w: %w", errHandler, err)
		}
		tally.add(row, r.rules)
	}
	if err := r.sendPolicies(tally); err != nil {
		return err
	}
	return r.send(Event{End: &End{Pods: r.collector.pods, Documents: r.documents, Incomplete: len(r.missing) > 0}})
}

// sendPolicies sends what is wrong with policies and nodes themselves, and what each
// policy does.
func (r *clusterRun) sendPolicies(tally *policyTally) error {
	scope := policyScope{namespaces: r.Namespaces, whole: r.whole}
	findings, policies := r.around.policyEvents(r.Start.Cluster, r.rules, tally, scope, r.collector.covers)
	for i := range findings {
		if err := r.send(Event{Finding: &findings[i]}); err != nil {
			return err
		}
	}
	for i := range policies {
		if err := r.send(Event{Policy: &policies[i]}); err != nil {
			return err
		}
	}
	return nil
}

// whole reports whether all pods of a namespace ("" for the cluster) were seen.
func (r *clusterRun) whole(namespace string) bool {
	switch {
	case r.Start.Selector != "" || r.partial[corev1.NamespaceAll] != "":
		return false
	case namespace == "":
		return len(r.Namespaces) == 0 && len(r.partial) == 0
	}
	return r.partial[namespace] == "" && (len(r.Namespaces) == 0 || slices.Contains(r.Namespaces, namespace))
}

// sendFailures sends what could not be read, in the same order in every run.
func (r *clusterRun) sendFailures() error {
	slices.SortStableFunc(r.missing, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Namespace, b.Namespace))
	})
	for i := range r.missing {
		if err := r.send(Event{Failure: &r.missing[i]}); err != nil {
			return err
		}
	}
	return nil
}

// sendUnread gives every namespace whose pods could not be read a verdict of its
// own, so that it is not missing from a list of verdicts.
func (r *clusterRun) sendUnread() error {
	seen := map[string]bool{}
	for key := range r.collector.groups {
		seen[key.namespace] = true
	}
	names := make([]string, 0, len(r.partial))
	for ns := range r.partial {
		if ns != corev1.NamespaceAll && !seen[ns] {
			names = append(names, ns)
		}
	}
	slices.Sort(names)
	for _, ns := range names {
		err := r.send(Event{Verdict: &WorkloadVerdict{
			Workload: Workload{Cluster: r.Start.Cluster, Namespace: ns, Kind: "Namespace", Name: ns},
			Verdict:  VerdictUnknown, Reason: "its pods could not be read",
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *clusterRun) interrupted() error {
	r.missing = append(r.missing, Failure{
		Subject: "scan", Reason: FailureInterrupted, Message: "the scan was interrupted",
		Affects: fmt.Sprintf("everything but %d pods, which were read and are not reported", r.collector.pods),
	})
	if err := r.sendFailures(); err != nil {
		return err
	}
	return r.send(Event{End: &End{Pods: r.collector.pods, Incomplete: true, Interrupted: true}})
}
