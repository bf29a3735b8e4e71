package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// patient is a cluster for remediation: how it is read and written.
type patient struct {
	name   string
	kind   scan.SourceKind
	reads  scan.Cluster
	writes remediate.Cluster
	serves func(context.Context, schema.GroupVersionKind) (bool, error)
	probes scan.Probes
	// live is the cluster behind it, nil for the demo's.
	live *kube.Cluster
}

// patient connects to the cluster that the flags name.
func (f *clusterFlags) patient(a *app, probes *probeFlags, cfg *config.Config) (*patient, error) {
	cluster, name, err := f.connect(cfg)
	if err != nil {
		return nil, err
	}
	p := &patient{name: name, kind: scan.SourceCluster, reads: cluster, writes: cluster.Writer(), serves: cluster.Serves, live: cluster}
	if probes != nil {
		p.probes, err = probes.probes(a, cluster)
	}
	return p, err
}

// sight is what was read of a cluster for a plan.
type sight struct {
	// version is the API server's own, and standards that of its Pod Security Standards.
	version   string
	standards psa.Version
	inventory *targets.Inventory
	around    *scan.Around
	alerts    []armor.Alert
	failures  []scan.Failure
}

// serverVersion asks for the version; who may not know it goes on without.
func (p *patient) serverVersion(ctx context.Context) (version string, standards psa.Version, failures []scan.Failure, err error) {
	version, err = p.reads.ServerVersion(ctx)
	if apierrors.IsForbidden(err) {
		failures = append(failures, scan.FailureOf("server version", "", err, "which version of the Pod Security Standards the server applies: the newest is assumed"))
		err = nil
	}
	if err != nil {
		return "", standards, nil, fmt.Errorf("server version: %w", err)
	}
	standards, _, err = scan.ResolvePSS(scan.PSSServer, version)
	return version, standards, failures, err
}

// look reads of the cluster what a plan follows from, but for alerts.
func (p *patient) look(ctx context.Context, a *app, line *liveLine, scope targets.Scope) (*sight, error) {
	var s sight
	var err error
	if s.version, s.standards, s.failures, err = p.serverVersion(ctx); err != nil {
		return nil, err
	}
	line.say("reading workloads")
	s.inventory, err = targets.Read(ctx, p.reads, scope, targets.Options{Inspect: p.probes.Inspect})
	if err != nil {
		return nil, err
	}
	line.say("reading nodes and policies")
	opts := scan.ClusterOptions{Start: a.start(p.kind, p.name), Namespaces: scope.Namespaces, Probes: p.probes}
	if s.around, err = scan.ReadAround(ctx, p.reads, opts, s.version); err != nil {
		return nil, err
	}
	line.say("")
	s.failures = distinctFailures(s.failures, s.inventory.Failures, s.around.Failures)
	return &s, nil
}

// distinctFailures joins what was missed, each thing once: some things are read twice.
func distinctFailures(lists ...[]scan.Failure) []scan.Failure {
	all := slices.Concat(lists...)
	slices.SortStableFunc(all, func(a, b scan.Failure) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.CompactFunc(all, func(a, b scan.Failure) bool {
		return a.Subject == b.Subject && a.Namespace == b.Namespace && a.Reason == b.Reason
	})
}

// choose settles what rules on admission. Without a patient nobody is asked what is
// served.
func (p *patient) choose(ctx context.Context, o set.Options) (set.Admission, string, error) {
	var failed error
	admission, why, err := set.Choose(o.Admission, func(kind schema.GroupVersionKind) bool {
		served, err := p.serves(ctx, kind)
		failed = cmp.Or(failed, err)
		return served
	}, o.Scope)
	if failed != nil {
		return "", "", failed
	}
	return admission, why, err
}

// factsOf are what rendering has to know of the namespaces, nil where they were not
// read.
func factsOf(namespaces map[string]*corev1.Namespace) set.Facts {
	var f set.Facts
	if namespaces == nil {
		return f
	}
	f.Namespaces = slices.Sorted(maps.Keys(namespaces))
	f.NamespaceLabels = make(map[string]map[string]string, len(namespaces))
	for name, ns := range namespaces {
		f.NamespaceLabels[name] = ns.Labels
	}
	return f
}
