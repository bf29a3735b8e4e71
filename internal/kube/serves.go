package kube

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Serves tells whether the API server serves a kind, in whatever version. An error is
// no answer.
func (c *Cluster) Serves(ctx context.Context, kind schema.GroupKind) (bool, error) {
	_, err := c.mapping(ctx, kind.WithVersion(""))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, subject("ask whether "+kind.String()+" is served", "", err)
}
