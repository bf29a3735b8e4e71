// Package targets says whom remediation concerns: which namespaces and pods are in
// scope, and what workloads are there with every distinct pod that they have or would
// make. It reads by scan.Cluster and judges nothing.
package targets

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Workload is one workload in scope.
type Workload struct {
	scan.Workload
	// Specimens are its distinct pods: the one that its template makes, if it has a
	// template, and live ones that differ (by what admission injected, by containers that
	// were added for debugging, by a rollout).
	Specimens []Specimen
	// Selector are labels that all its pods carry, as its controller selects them by;
	// for a pod without a controller its own labels. It is empty where there are none:
	// then nothing selects just these pods, and a policy with such a selector would
	// select every pod of the namespace.
	Selector map[string]string
}

// Specimen is one distinct pod of a workload.
type Specimen struct {
	// Pod has namespace, name (of one of the live pods, or empty), labels, the annotations
	// that a layer reads, owner, and the spec with the API server's defaults, but without
	// the node and without the values of the environment. Its status is empty.
	Pod *corev1.Pod
	// Live is how many pods look like this and have not ended, 0 for a template that no
	// pod looks like.
	Live int
	// Nodes are the nodes where they run, sorted.
	Nodes []string
	// Inspected gives, by container, what was found behind paths in a running one: the
	// real path, "" where there is none. Containers that nobody could look into are
	// missing; it is nil when nobody looked.
	Inspected map[string]map[string]string

	// running are the containers that run in Pod.
	running []string
}

// Inventory is all that was read of a scope.
type Inventory struct {
	// Namespaces are all namespaces of the cluster, by name, nil when they could not be
	// read.
	Namespaces map[string]*corev1.Namespace
	Workloads  []Workload
	// Containers counts the containers that run on each node.
	Containers map[string]int
	// Failures are what could not be read: what concerns it is not known.
	Failures []scan.Failure
	// Unseen are those of them behind which workloads, or further pods of one, may hide.
	Unseen []scan.Failure
}
