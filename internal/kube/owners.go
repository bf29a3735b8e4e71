package kube

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/restmapper"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Owners lists the objects of a kind by their metadata alone.
func (c *Cluster) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	mapping, err := c.mapping(ctx, kind)
	if err != nil {
		return subject("list "+kind.Kind, namespace, err)
	}
	err = pages(ctx, c.retry, c.page(), func(ctx context.Context, o metav1.ListOptions) ([]metav1.PartialObjectMetadata, metav1.ListMeta, error) {
		list, err := c.metadata.Resource(mapping.Resource).Namespace(namespace).List(ctx, o)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return list.Items, list.ListMeta, nil
	}, func(m *metav1.PartialObjectMetadata) string { return objectKey(&m.ObjectMeta) }, func(items []metav1.PartialObjectMetadata, _ metav1.ListMeta) error {
		owners := make([]scan.Owner, len(items))
		for i := range items {
			owners[i] = scan.OwnerOf(&items[i].ObjectMeta)
		}
		return visit(owners)
	})
	return subject("list "+kind.Kind, namespace, err)
}

// Owner reads the metadata of one object of any kind that the server serves.
func (c *Cluster) Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	what := "get " + kind.Kind + " " + name
	mapping, err := c.mapping(ctx, kind)
	if err != nil {
		return scan.Owner{}, subject(what, namespace, err)
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		namespace = ""
	}
	var m *metav1.PartialObjectMetadata
	err = c.retry.do(ctx, func() (err error) {
		m, err = c.metadata.Resource(mapping.Resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	if err != nil {
		return scan.Owner{}, subject(what, namespace, err)
	}
	return scan.OwnerOf(&m.ObjectMeta), nil
}

// kinds knows what the server serves. It asks once, when first needed.
type kinds struct {
	discovery discovery.CachedDiscoveryInterfaceWithContext
	mapper    *restmapper.DeferredDiscoveryRESTMapper
}

func newKinds(client discovery.DiscoveryInterfaceWithContext) *kinds {
	cached := memory.NewMemCacheClientWithContext(client)
	return &kinds{discovery: cached, mapper: restmapper.NewDeferredDiscoveryRESTMapperWithContext(cached)}
}

// forget has the server asked anew what it serves.
func (k *kinds) forget(ctx context.Context) { k.mapper.ResetWithContext(ctx) }

// mapping finds the resource of a kind. An owner that was written by an older
// version of its controller is found in the version that is served now. Of a kind
// that is not served nothing exists: that is a not-found error, so that nobody
// makes a scan incomplete by naming one.
func (c *Cluster) mapping(ctx context.Context, kind schema.GroupVersionKind) (mapping *meta.RESTMapping, err error) {
	err = c.retry.do(ctx, func() (err error) {
		mapping, err = c.kinds.mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
		if meta.IsNoMatchError(err) {
			mapping, err = c.kinds.mapper.RESTMappingWithContext(ctx, kind.GroupKind())
		}
		return err
	})
	if !meta.IsNoMatchError(err) {
		return mapping, err
	}
	// The mapper passes over the groups that could not be asked.
	_, _, partly := c.kinds.discovery.ServerGroupsAndResourcesWithContext(ctx)
	failed, ok := discovery.GroupDiscoveryFailedErrorGroups(partly)
	if !ok && partly != nil {
		return nil, partly
	}
	for version, err := range failed {
		if version.Group == kind.Group {
			return nil, err
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, "")
}
