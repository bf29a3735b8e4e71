package remediate

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Cluster is how remediation reads and writes objects. Every error is the API
// server's own (k8s.io/apimachinery/pkg/api/errors) where it answered, wrapped with
// the object's name first; a kind that is not served is scan.ErrNotServed, one that is
// served in other versions only an OtherVersionError.
// No method tries a write again by itself: whoever does not know whether a write
// came through looks.
type Cluster interface {
	// Get reads an object. One that does not exist is an apierrors NotFound.
	Get(ctx context.Context, ref Ref) (*unstructured.Unstructured, error)
	// List reads the objects of a kind that a label selector matches, in a namespace or,
	// when that is empty, in all.
	List(ctx context.Context, kind schema.GroupKind, namespace, selector string) ([]unstructured.Unstructured, error)
	// Apply is a server-side apply as FieldManager. A resourceVersion in the object
	// makes it a conflict if the object is at another one.
	Apply(ctx context.Context, object *unstructured.Unstructured, opts WriteOptions) (*Written, error)
	// Create makes an object that must not exist, Update replaces one at the
	// resourceVersion that it carries.
	Create(ctx context.Context, object *unstructured.Unstructured, opts WriteOptions) (*Written, error)
	Update(ctx context.Context, object *unstructured.Unstructured, opts WriteOptions) (*Written, error)
	// Delete deletes an object if it still is the one of this UID and, where that is
	// not empty, at this resourceVersion.
	Delete(ctx context.Context, ref Ref, uid types.UID, resourceVersion string, opts WriteOptions) error
}

// OtherVersionError says that a kind is served, but not in the version that was asked
// for: what there is of it is there still.
type OtherVersionError struct {
	// Kind is the kind, Wanted and Served are apiVersions.
	Kind, Wanted, Served string
}

func (e *OtherVersionError) Error() string {
	return fmt.Sprintf("the API server does not serve %s in %s, but in %s", e.Kind, e.Wanted, e.Served)
}

// WriteOptions say how a write is made.
type WriteOptions struct {
	// DryRun has the API server do everything but keep it.
	DryRun bool
	// Force takes fields over that another manager owns (of Apply only).
	Force bool
}

// Written is what the API server made of a write.
type Written struct {
	// Object is the object afterwards.
	Object *unstructured.Unstructured
	// Warnings are those that the server sent along.
	Warnings []string
}
