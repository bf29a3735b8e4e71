// Package targets says whom remediation concerns: which namespaces and pods are in
// scope, and what workloads are there with every distinct pod that they have or would
// make. It reads by scan.Cluster and judges nothing.
package targets

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Scope is which pods a set is for. Every part of a set means the same pods by it.
type Scope struct {
	// Namespaces are those that are named; none means the whole cluster, also its
	// namespaces to come.
	Namespaces []string `json:"namespaces,omitempty"`
	// Exclude are namespaces left out of the whole cluster, beside those that always
	// are: Always.
	Exclude []string `json:"exclude,omitempty"`
	// Own is the scanner's own namespace, which is left out always; empty when it runs
	// in none.
	Own string `json:"own,omitempty"`
	// Labels are those that a pod must carry, all of them.
	Labels map[string]string `json:"labels,omitempty"`
}

// Workload is one workload in scope.
type Workload struct {
	scan.Workload
	// Specimens are its distinct pods: the one that its template makes, if it has a
	// template, and live ones that differ (by what admission injected, by containers that
	// were added for debugging, by a rollout).
	Specimens []Specimen
	// Selector are labels that all its pods carry, as its controller selects them by;
	// for a pod without a controller its own labels.
	Selector map[string]string
}

// Specimen is one distinct pod of a workload.
type Specimen struct {
	// Pod has namespace, name (of one of the live pods, or empty), labels, annotations,
	// owner and the whole spec with the API server's defaults. Its status is empty.
	Pod *corev1.Pod
	// Live is how many pods look like this, 0 for a template that no pod looks like.
	Live int
	// Nodes are the nodes where they run, sorted.
	Nodes []string
	// Inspected gives, by container, what was found behind paths in a running one; nil
	// when nobody looked.
	Inspected map[string]map[string]string
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
}
