package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Shard is one of the parts into which the namespaces of a cluster are divided, so that
// several scans can each read one of them.
type Shard struct {
	// Index counts from 0 to Of-1.
	Index int `json:"index"`
	Of    int `json:"of"`
}

// Has reports whether a namespace is the shard's: the FNV-1a hash (64 bits) of its name
// modulo the number of shards is the shard's index. This is the same in every version,
// and so is what belongs to no namespace, which has the name "".
func (s Shard) Has(namespace string) bool {
	h := fnv.New64a()
	// It never fails.
	_, _ = h.Write([]byte(namespace))
	return s.Valid() && h.Sum64()%uint64(s.Of) == uint64(s.Index)
}

// Valid reports whether there can be such a shard.
func (s Shard) Valid() bool { return s.Index >= 0 && s.Index < s.Of }

// String is INDEX/OF, the form that flags and messages use.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Of) }

// shardCluster shows of a cluster the pods of one shard and their owners. What stands
// around them it shows whole: they are judged as they would be among all others.
type shardCluster struct {
	Cluster
	shard Shard
	// names are the shard's namespaces. known is false where they could not be listed:
	// then all pods are read, and those of others left out.
	names []string
	known bool
}

// Namespaces lists all namespaces, as the cluster does.
func (c *shardCluster) Namespaces(ctx context.Context) ([]corev1.Namespace, error) {
	all, err := c.Cluster.Namespaces(ctx)
	c.known, c.names = err == nil, nil
	for i := range all {
		if c.shard.Has(all[i].Name) {
			c.names = append(c.names, all[i].Name)
		}
	}
	slices.Sort(c.names)
	c.names = slices.Compact(c.names)
	return all, err
}

// Pods visits the shard's pods of a namespace, or of all. Whether all may be read at once
// is asked first, as what a scan does hangs on it.
func (c *shardCluster) Pods(ctx context.Context, namespace string, visit func(PodPage) error) error {
	switch {
	case namespace != "" && !c.shard.Has(namespace):
		return nil
	case namespace != "":
		return c.Cluster.Pods(ctx, namespace, visit)
	case !c.known:
		return c.Cluster.Pods(ctx, namespace, func(page PodPage) error {
			page.Items = slices.DeleteFunc(page.Items, func(p corev1.Pod) bool { return !c.shard.Has(p.Namespace) })
			return visit(page)
		})
	}
	err := c.Cluster.Pods(ctx, namespace, func(PodPage) error { return errEnough })
	if !errors.Is(err, errEnough) {
		return err
	}
	return c.each(ctx, func(name string) error { return c.Cluster.Pods(ctx, name, visit) })
}

// each calls read for every namespace of the shard. An error of one costs no other; the
// first is returned.
func (c *shardCluster) each(ctx context.Context, read func(namespace string) error) error {
	var first error
	for _, name := range c.names {
		err := read(name)
		if errors.Is(err, errHandler) || ctx.Err() != nil {
			return err
		}
		first = cmp.Or(first, err)
	}
	return first
}

// Owners visits the shard's objects of a kind. As with pods it is asked first whether
// all may be read at once.
func (c *shardCluster) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]Owner) error) error {
	if namespace != "" || !c.known {
		return c.Cluster.Owners(ctx, namespace, kind, visit)
	}
	err := c.Cluster.Owners(ctx, namespace, kind, func([]Owner) error { return errEnough })
	if !errors.Is(err, errEnough) {
		return err
	}
	return c.each(ctx, func(name string) error { return c.Cluster.Owners(ctx, name, kind, visit) })
}
