package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

// ReportStore keeps reports in the cluster, of whatever kind. It is safe for concurrent
// use.
type ReportStore struct{ writer *Writer }

// ReportStore is the way to the cluster's reports.
func (c *Cluster) ReportStore() *ReportStore { return &ReportStore{c.Writer()} }

// Serves tells whether a kind is served in this very version. The server is asked anew:
// what serves reports may have been installed since.
func (s *ReportStore) Serves(ctx context.Context, kind schema.GroupVersionKind) (bool, error) {
	s.writer.cluster.kinds.forget(ctx)
	return s.writer.cluster.Serves(ctx, kind)
}

// List calls visit with each object of a kind that a label selector matches, in a
// namespace or, when that is empty, in all.
func (s *ReportStore) List(ctx context.Context, kind schema.GroupVersionKind, namespace, selector string, visit func(*unstructured.Unstructured) error) error {
	what, c := "list "+kind.GroupKind().String(), s.writer.cluster
	mapping, err := c.mapping(ctx, kind)
	switch {
	case apierrors.IsNotFound(err), err == nil && mapping.GroupVersionKind.Version != kind.Version:
		return subject(what, namespace, scan.ErrNotServed)
	case err != nil:
		return subject(what, namespace, err)
	}
	options := c.page()
	options.LabelSelector = selector
	err = pages(ctx, c.retry, options, func(ctx context.Context, o metav1.ListOptions) ([]rawObject, metav1.ListMeta, error) {
		return c.rawPage(ctx, mapping, namespace, o)
	}, (*rawObject).key, func(items []rawObject, _ metav1.ListMeta) error {
		for i := range items {
			object := &unstructured.Unstructured{}
			if err := object.UnmarshalJSON(items[i].json); err != nil {
				return fmt.Errorf("the API server's answer: %w", err)
			}
			if err := visit(object); err != nil {
				return err
			}
		}
		return nil
	})
	if pathUnknown(err) {
		// It was taken away since.
		err = scan.ErrNotServed
	}
	return subject(what, namespace, err)
}

// Get reads one object.
func (s *ReportStore) Get(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	version, k := kind.ToAPIVersionAndKind()
	return s.writer.Get(ctx, remediate.Ref{APIVersion: version, Kind: k, Namespace: namespace, Name: name})
}

// Create makes an object that must not exist. A field that the schema does not have is an
// error.
func (s *ReportStore) Create(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return objectOfWrite(s.writer.Create(ctx, object, remediate.WriteOptions{}))
}

// Update replaces an object at the resourceVersion that it carries.
func (s *ReportStore) Update(ctx context.Context, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	return objectOfWrite(s.writer.Update(ctx, object, remediate.WriteOptions{}))
}

// Delete deletes an object if it still is the one of its UID.
func (s *ReportStore) Delete(ctx context.Context, object *unstructured.Unstructured) error {
	return s.writer.Delete(ctx, remediate.RefOf(object), object.GetUID(), "", remediate.WriteOptions{})
}

func objectOfWrite(w *remediate.Written, err error) (*unstructured.Unstructured, error) {
	if err != nil {
		return nil, err
	}
	return w.Object, nil
}
