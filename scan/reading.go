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

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// podReading is how the pods of a run are read, and what of them could not be.
type podReading struct {
	// namespaces are those of the run, none for all; selector is the label selector that
	// limits the pods.
	namespaces []string
	selector   string
	// oneByOne is true where all namespaces were asked for and each is read by itself.
	oneByOne bool
	// partial holds, by namespace ("" for all), why not all pods could be read.
	partial map[string]string
	missing []Failure
	// found counts the pods by the namespace that was asked for.
	found map[string]int
	// lost are the shards of which nothing is known, where shards are joined.
	lost []Shard
}

func newPodReading(namespaces []string, selector string) podReading {
	return podReading{namespaces: namespaces, selector: selector, partial: map[string]string{}, found: map[string]int{}}
}

// everywhere reports whether things are listed in all namespaces at once.
func (r *podReading) everywhere() bool { return len(r.namespaces) == 0 && !r.oneByOne }

// read reads all pods of the run. Its error is one that ends the run.
func (r *podReading) read(ctx context.Context, cluster Cluster, around *surroundings, visit func(PodPage) error) error {
	read := func(namespace string) error {
		return cluster.Pods(ctx, namespace, func(page PodPage) error {
			r.found[namespace] += len(page.Items)
			return visit(page)
		})
	}
	names := r.namespaces
	if len(names) == 0 {
		err := read(corev1.NamespaceAll)
		// A right that is lost in the middle is no reason to count the first pods twice.
		if !apierrors.IsForbidden(err) || len(around.namespaces) == 0 || r.found[corev1.NamespaceAll] > 0 {
			return r.failed(corev1.NamespaceAll, err)
		}
		// Not all at once, but perhaps one by one.
		r.oneByOne, names = true, slices.Sorted(maps.Keys(around.namespaces))
	}
	for _, ns := range names {
		if err := r.failed(ns, read(ns)); err != nil {
			return err
		}
	}
	return nil
}

// failed records that not all pods of a namespace could be read. It returns only what
// ends the run.
func (r *podReading) failed(namespace string, err error) error {
	if err == nil || errors.Is(err, errHandler) {
		return err
	}
	r.partial[namespace] = "not all pods could be read"
	r.missing = append(r.missing, FailureOf("pods", namespace, err, "workloads that were not seen, and whether the others are closed"))
	return nil
}

// failures are what of the pods could not be read. pods counts those that were, in
// those of a namespace; absent says of a namespace without pods why that may be.
func (r *podReading) failures(absent func(namespace string) *Failure, pods int, in func(namespace string) int) []Failure {
	missing := slices.Clone(r.missing)
	for _, ns := range r.namespaces {
		if r.partial[ns] != "" || in(ns) > 0 {
			continue
		}
		if f := absent(ns); f != nil {
			missing = append(missing, *f)
		}
	}
	if r.selector != "" && pods == 0 && len(r.partial) == 0 && len(r.lost) == 0 {
		missing = append(missing, Failure{
			Subject: "selector " + r.selector, Reason: FailureNotFound,
			Message: "no pod matches the selector", Affects: "everything: nothing was judged",
		})
	}
	return missing
}

// absent says of a namespace that shows no pods that it may not exist, nil where it does:
// the API server answers for one that does not as for an empty one.
func (s *surroundings) absent(namespace string) *Failure {
	switch {
	case s.namespacesErr != nil:
		f := FailureOf("namespace "+namespace, namespace, s.namespacesErr, "whether the namespace, which shows no pods, exists")
		return &f
	case s.namespaces[namespace] == nil:
		return &Failure{
			Subject: "namespace " + namespace, Namespace: namespace, Reason: FailureNotFound,
			Message: fmt.Sprintf("namespace %q does not exist", namespace), Affects: "nothing was scanned there",
		}
	}
	return nil
}

// whole reports whether all pods of a namespace ("" for the cluster) were seen.
func (r *podReading) whole(namespace string) bool {
	switch {
	case r.selector != "" || r.partial[corev1.NamespaceAll] != "":
		return false
	case namespace == "":
		return len(r.namespaces) == 0 && len(r.partial) == 0 && len(r.lost) == 0
	case slices.ContainsFunc(r.lost, func(s Shard) bool { return s.Has(namespace) }):
		return false
	}
	return r.partial[namespace] == "" && (len(r.namespaces) == 0 || slices.Contains(r.namespaces, namespace))
}

// incomplete says why not all pods of a namespace are known, empty where they are.
func (r *podReading) incomplete(namespace string) string {
	return cmp.Or(r.partial[namespace], r.partial[corev1.NamespaceAll])
}

// finish says in a row what hangs on pods that were not read, and why not all of its
// own are known.
func (r *podReading) finish(row *rows) (incomplete string) {
	if row.layers != nil && !r.whole("") && row.layers.Kernel.Capabilities == kernel.Yes {
		row.layers.Kernel.Reason += "; how many containers of other pods run there was not counted"
	}
	return r.incomplete(row.workload.Namespace)
}

// unread are the verdicts on the namespaces whose pods could not be read; seen are
// those that have rows of their own.
func (r *podReading) unread(cluster string, seen map[string]bool) []*WorkloadVerdict {
	var verdicts []*WorkloadVerdict
	for _, ns := range slices.Sorted(maps.Keys(r.partial)) {
		if ns == corev1.NamespaceAll || seen[ns] {
			continue
		}
		verdicts = append(verdicts, &WorkloadVerdict{
			Workload: Workload{Cluster: cluster, Namespace: ns, Kind: "Namespace", Name: ns},
			Verdict:  VerdictUnknown, Reason: "its pods could not be read",
		})
	}
	return verdicts
}

// compareFailures puts failures into the order in which they are sent.
func compareFailures(a, b Failure) int {
	return a.Ref().Compare(b.Ref())
}
