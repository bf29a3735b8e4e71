package kube

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Serves tells whether the API server serves a kind in this very version. An error is no
// answer.
func (c *Cluster) Serves(ctx context.Context, kind schema.GroupVersionKind) (bool, error) {
	mapping, err := c.mapping(ctx, kind)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && mapping.GroupVersionKind.Version == kind.Version, subject("ask whether "+kind.GroupKind().String()+" is served", "", err)
}
