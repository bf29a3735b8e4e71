package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	psa "k8s.io/pod-security-admission/api"
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
	// Shard is the part of the namespaces that is read, nil for all. Then the stream has
	// Parts in the place of results, which Join makes results of.
	Shard *Shard

	// manifests is true where the cluster is a folder of manifests.
	manifests bool
	// decoded and classes are kept from one reading to the next, nil where there is one.
	decoded *decoded
	classes nodeClasses
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
	pods      podReading
	missing   []Failure
}

// ScanCluster reads the cluster once and sends what it learns. What cannot be read
// becomes Failures; the error is one that no scan could begin with (no server, a
// wrong version), or the handler's. A cancelled context ends the stream early,
// marked as interrupted.
func ScanCluster(ctx context.Context, cluster Cluster, opts ClusterOptions, next Handler) error {
	r := &clusterRun{
		ClusterOptions: opts, cluster: cluster, next: next, missing: slices.Clone(opts.Failures),
		pods: newPodReading(opts.Namespaces, opts.Start.Selector),
	}
	if opts.Shard != nil {
		if err := r.divide(); err != nil {
			return err
		}
	}
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
		r.missing = append(r.missing, versionFailure(err))
	}
	engine, start, err := Begin(r.Start, r.Level, r.PSSVersion, server)
	if err != nil {
		return err
	}
	start.Namespaces, start.Shard = r.Namespaces, r.Shard
	if r.Shard != nil {
		start.Looks = r.Probes.flags()
	}
	if err := r.send(Event{Start: &start}); err != nil {
		return err
	}
	r.around = readSurroundings(ctx, r.cluster, &r.ClusterOptions, server)
	r.rules = newRuleIndex(r.around.admissionPolicies())
	r.collector = newCollector(r.Start.Cluster, engine, newOwnerIndex(r.cluster, len(r.Namespaces) == 0), newFactSource(ctx, r.cluster), r.around)
	return nil
}

// versionFailure is that the server does not tell its version.
func versionFailure(err error) Failure {
	return FailureOf("server version", "", err, "which version of the Pod Security Standards the server applies: the newest is assumed")
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
	if err := r.sendNodes(); err != nil {
		return err
	}
	return r.pods.read(ctx, r.cluster, r.around, func(page PodPage) error {
		if !r.pods.everywhere() && r.collector.pods == 0 {
			// Kinds are listed where pods are.
			r.collector.owners.everywhere = false
		}
		r.collector.page(ctx, page.Items)
		return r.send(Event{Progress: &Progress{Pods: r.collector.pods, Remaining: page.Remaining}})
	})
}

// sendNodes tells of the nodes. Those of a shard are among its parts.
func (r *clusterRun) sendNodes() error {
	if r.Shard != nil {
		return nil
	}
	for _, n := range r.around.sortedNodes() {
		if err := r.send(Event{Node: n.event()}); err != nil {
			return err
		}
	}
	return nil
}

// end resolves owners and sends what was found.
func (r *clusterRun) end(ctx context.Context) error {
	r.collector.owners.wait()
	if r.Shard != nil {
		return r.endShard(ctx)
	}
	all, err := r.addTemplates(ctx, r.collector.rows(ctx))
	if err != nil && ctx.Err() == nil {
		r.missing = append(r.missing, FailureOf("templates", "", err, "workloads without pods"))
	}
	if ctx.Err() != nil {
		return r.interrupted()
	}
	r.missing = append(r.missing, r.collector.owners.missing()...)
	r.missing = append(r.missing, r.unread()...)
	r.missing = append(r.missing, r.pods.failures(r.around.absent, r.collector.pods, func(ns string) int { return r.pods.found[ns] })...)
	e := &ending{
		cluster: r.Start.Cluster, namespaces: r.Namespaces, declarations: r.Declarations,
		pods: &r.pods, missing: r.missing, seen: r.collector.seen(), outline: r.outline(),
		rules: r.rules, crowded: r.around.crowded(), halves: r.around.halves(r.collector.covers),
		counts: End{Pods: r.collector.pods, Documents: r.documents}, next: r.next,
	}
	return e.send(func(yield func(*rows, error) bool) {
		for _, row := range all {
			if !yield(row, nil) {
				return
			}
		}
	})
}

// outline is what is told of the surroundings.
func (r *clusterRun) outline() *Outline {
	o := r.around.outline(r.Start.Cluster, r.rules, policyScope{namespaces: r.Namespaces})
	for _, n := range r.around.sortedNodes() {
		o.Nodes = append(o.Nodes, *n.event())
	}
	return o
}

// unread are the failures of what was read beside pods and owners.
func (r *clusterRun) unread() []Failure {
	return slices.Concat(r.collector.facts.failures(), r.around.failures)
}

func (r *clusterRun) interrupted() error {
	r.missing = append(r.missing, Failure{
		Subject: "scan", Reason: FailureInterrupted, Message: "the scan was interrupted",
		Affects: fmt.Sprintf("everything but %d pods, which were read and are not reported", r.collector.pods),
	})
	if err := sendFailures(r.missing, r.next); err != nil {
		return err
	}
	return r.send(Event{End: &End{Pods: r.collector.pods, Incomplete: true, Interrupted: true}})
}
