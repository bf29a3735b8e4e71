package scan

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Mirror is a Cluster that is held in memory and follows the real one: its methods
// answer at once, with what is known now. What cannot be read gives the same errors
// as in a scan. What was read once and is not followed at the moment, because the API
// server is away, stays as it was: it is never shown as gone.
type Mirror interface {
	Cluster
	// Pod is a pod as it is now, nil when there is none. It is shared: not to be changed.
	Pod(namespace, name string) *corev1.Pod
}

// PodName names a pod.
type PodName struct{ Namespace, Name string }

// OwnerName names an object that pods may belong to.
type OwnerName struct {
	Kind            schema.GroupVersionKind
	Namespace, Name string
}

// Changes is what of a Mirror may be other than it was. Naming too much costs time and
// nothing else.
type Changes struct {
	// Pods came, changed or went.
	Pods []PodName
	// Owners came, changed or went; OwnerKinds can be read, or no more.
	Owners     []OwnerName
	OwnerKinds []schema.GroupVersionKind
	// Around is true where anything else changed: namespaces, nodes, agents, policies, or
	// what of these can be read.
	Around bool
	// Facts is true where runtime classes or persistent volumes changed.
	Facts bool
	// AllPods is true where pods may have changed of which no names are known: another
	// part of them can be read.
	AllPods bool
}

// Empty reports whether nothing changed.
func (c *Changes) Empty() bool {
	return len(c.Pods) == 0 && len(c.Owners) == 0 && len(c.OwnerKinds) == 0 && !c.Around && !c.Facts && !c.AllPods
}
