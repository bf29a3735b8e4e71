package kube

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// batch is how many pods or owners are put together at a time.
const batch = 500

// ServerVersion is the API server's version as of the last time that it was asked.
func (m *Mirror) ServerVersion(ctx context.Context) (string, error) {
	m.mu.Lock()
	version := m.version
	m.mu.Unlock()
	if version != "" {
		return version, nil
	}
	return m.cluster.ServerVersion(ctx)
}

// held gives what is kept of the objects of a key.
func held[T any](m *Mirror, key feedKey) ([]T, error) {
	r := m.want(key)
	if err := r.feed.state(); err != nil {
		return nil, err
	}
	return stockOf[T](r).values(""), nil
}

// Namespaces lists all namespaces.
func (m *Mirror) Namespaces(context.Context) ([]corev1.Namespace, error) {
	list, err := held[*corev1.Namespace](m, feedKey{role: roleNamespaces})
	return copied(list), err
}

// Nodes lists all nodes, with what is read of them.
func (m *Mirror) Nodes(context.Context) ([]corev1.Node, error) {
	list, err := held[*corev1.Node](m, feedKey{role: roleNodes})
	return copied(list), err
}

func copied[T any](list []*T) []T {
	if list == nil {
		return nil
	}
	out := make([]T, len(list))
	for i := range list {
		out[i] = *list[i]
	}
	return out
}

// RuntimeClasses gives the handler of each runtime class.
func (m *Mirror) RuntimeClasses(context.Context) (map[string]string, error) {
	r := m.want(feedKey{role: roleRuntimeClasses})
	if err := r.feed.state(); err != nil {
		return nil, err
	}
	handlers := map[string]string{}
	for _, k := range stockOf[string](r).list("") {
		handlers[k.name] = k.value
	}
	return handlers, nil
}

// HostVolumes gives the path of the host behind each claim that is bound to one.
func (m *Mirror) HostVolumes(context.Context) (map[scan.Claim]string, error) {
	list, err := held[hostVolume](m, feedKey{role: roleVolumes})
	if err != nil {
		return nil, err
	}
	volumes := map[scan.Claim]string{}
	for _, v := range list {
		if v.path != "" {
			volumes[v.claim] = v.path
		}
	}
	return volumes, nil
}

// LabelledPods lists the pods of all namespaces that a label selector matches. Those of
// KubeArmor's agents and Kyverno's controllers are followed; others are asked for.
func (m *Mirror) LabelledPods(ctx context.Context, selector string) ([]corev1.Pod, error) {
	for role, followed := range podsFollowed() {
		if selector == followed {
			list, err := held[*corev1.Pod](m, feedKey{role: role})
			return copied(list), err
		}
	}
	return m.cluster.LabelledPods(ctx, selector)
}

// scoped gives the feed that has the objects of a namespace: that of all namespaces
// where it was read, or where nobody asks for less.
func (m *Mirror) scoped(ctx context.Context, key feedKey) *entry {
	all := key
	all.namespace = ""
	r := m.have(all)
	switch {
	case key.namespace == "" || len(m.opts.Namespaces) == 0 && r == nil:
		r = m.want(all)
		m.await(ctx, r)
		if key.namespace == "" || !r.feed.refused() {
			return r
		}
	case r != nil && !r.feed.refused():
		return r
	}
	r = m.want(key)
	m.await(ctx, r)
	return r
}

// Pods gives the pods of a namespace, or of all, that the selector matches.
func (m *Mirror) Pods(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
	r := m.scoped(ctx, feedKey{role: rolePods, namespace: namespace})
	if err := r.feed.state(); err != nil {
		return err
	}
	list := stockOf[pod](r).list(namespace)
	left := len(list)
	for part := range slices.Chunk(list, batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		left -= len(part)
		page := scan.PodPage{Items: make([]corev1.Pod, len(part)), Remaining: int64(left)}
		for i, k := range part {
			page.Items[i] = *k.value.whole(k.namespace, k.name)
		}
		if err := visit(page); err != nil {
			return subject("list pods", namespace, err)
		}
	}
	return nil
}

// Objects gives the objects of a kind in all namespaces as JSON, in the version that
// the server prefers, without metadata.managedFields and metadata.resourceVersion.
func (m *Mirror) Objects(ctx context.Context, kind schema.GroupKind, visit func(object []byte) error) error {
	r := m.want(feedKey{role: roleObjects, kind: kind.WithVersion("")})
	m.await(ctx, r)
	if err := r.feed.state(); err != nil {
		return err
	}
	for _, text := range stockOf[string](r).values("") {
		if err := visit([]byte(text)); err != nil {
			return subject("list "+kind.String(), "", err)
		}
	}
	return nil
}

// Owners gives the objects of a kind in a namespace, "" for all.
func (m *Mirror) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	r := m.scoped(ctx, feedKey{role: roleOwners, kind: kind, namespace: namespace})
	if err := r.feed.state(); err != nil {
		return err
	}
	for part := range slices.Chunk(stockOf[scan.Owner](r).values(namespace), batch) {
		if err := visit(part); err != nil {
			return subject("list "+kind.Kind, namespace, err)
		}
	}
	return nil
}

// OwnersUnread is the error of Owners, without the owners: there may be thousands.
func (m *Mirror) OwnersUnread(ctx context.Context, namespace string, kind schema.GroupVersionKind) error {
	return m.scoped(ctx, feedKey{role: roleOwners, kind: kind, namespace: namespace}).feed.state()
}

// Owner gives one object, of any kind. Where the kind cannot be followed, the server is
// asked, and again from time to time.
func (m *Mirror) Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	r := m.scoped(ctx, feedKey{role: roleOwners, kind: kind, namespace: namespace})
	err := r.feed.state()
	if apierrors.IsForbidden(err) || apierrors.IsMethodNotSupported(err) {
		return m.single.owner(ctx, m, ownerKey{kind, namespace, name})
	}
	if err != nil {
		return scan.Owner{}, err
	}
	s := stockOf[scan.Owner](r)
	for _, ns := range []string{namespace, ""} {
		if k := s.get(ns, name); k != nil {
			return k.value, nil
		}
	}
	key := ownerKey{kind, namespace, name}
	if r.feed.lost() {
		// Whether it is there is not known; to ask would take its time for each of them.
		return scan.Owner{}, m.single.doubt(key, errUnfollowed(key), 0)
	}
	// A pod may be seen before its owner, which was made before it.
	return m.single.missing(ctx, m, key)
}
