package scan

import (
	"cmp"
	"context"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// OwnerReader is what of a Cluster is needed to follow owners.
type OwnerReader interface {
	Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]Owner) error) error
	Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (Owner, error)
}

// Chains follows the owners of objects up to their workloads, as a scan does for its
// pods. First every object is expected, then Wait is called, then Workload.
type Chains struct{ index *ownerIndex }

// NewChains makes a follower of owners. everywhere tells that kinds are listed in all
// namespaces at once, and not in each that has an object which names them.
func NewChains(owners OwnerReader, everywhere bool) *Chains {
	return &Chains{newOwnerIndex(owners, everywhere)}
}

// Expect starts to list the kind of the object's controller, where it is a common one.
func (c *Chains) Expect(ctx context.Context, m *metav1.ObjectMeta) {
	if ref := followed(m.OwnerReferences); ref != nil {
		c.index.prefetch(ctx, m.Namespace, ref)
	}
}

// Wait returns when every list that was started is there.
func (c *Chains) Wait() { c.index.wait() }

// Workload is the workload at the top of the object's chain of owners. It has no name
// where the object has no controller, or one that is not to be believed: then claims
// says what the object claims and why it was not followed.
func (c *Chains) Workload(ctx context.Context, m *metav1.ObjectMeta) (w Workload, claims string) {
	ref := followed(m.OwnerReferences)
	if ref == nil {
		return Workload{}, ""
	}
	return c.index.workload(ctx, m.Namespace, ref, TemplateHash(m.Labels))
}

// Failures are the kinds of owners that could not be read.
func (c *Chains) Failures() []Failure {
	all := c.index.failures()
	failures := make([]Failure, 0, len(all))
	for scope, err := range all {
		failures = append(failures, scope.failure(err))
	}
	slices.SortFunc(failures, compareFailures)
	return failures
}

// failure says what is not known where the owners of the scope could not be read.
func (s ownerScope) failure(err error) Failure {
	return FailureOf(s.kind.Kind, s.namespace, err, "whether pods belong to the "+s.kind.Kind+" that they name")
}

// followed is the controller among an object's owners, unless it is one of a static
// pod: the kubelet shows those as owned by their node, and they are pods of their own.
func followed(refs []metav1.OwnerReference) *metav1.OwnerReference {
	ref := ControllerOf(refs)
	if ref != nil && ref.Kind == "Node" && ref.APIVersion == "v1" {
		return nil
	}
	return ref
}

// TemplateHash is the hash of the template that an object was made of.
func TemplateHash(labels map[string]string) string {
	return cmp.Or(labels[labelTemplateHash], labels["controller-revision-hash"])
}

// workload is top for pods that carry the hash of the template that they were made of.
func (x *ownerIndex) workload(ctx context.Context, namespace string, ref *metav1.OwnerReference, podHash string) (w Workload, claims string) {
	w, claims, hash := x.top(ctx, namespace, ref, podHash)
	if w.Name != "" && hash != "" && hash != podHash {
		return Workload{}, claim(ref, "its pods carry another "+labelTemplateHash)
	}
	return w, claims
}
