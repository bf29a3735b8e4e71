package kube

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// role is what the objects of a feed are to a scan.
type role int

const (
	roleNamespaces role = iota
	roleNodes
	roleAgents
	roleKyverno
	rolePods
	roleRuntimeClasses
	roleVolumes
	roleObjects
	roleOwners
)

// feedKey tells feeds apart. Objects and owners are of many kinds.
type feedKey struct {
	role      role
	kind      schema.GroupVersionKind
	namespace string
}

func compareKeys(a, b feedKey) int {
	return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.kind.String(), b.kind.String()), cmp.Compare(a.namespace, b.namespace))
}

// entry is a feed, and what ends it.
type entry struct {
	feed    *feed
	started bool
	cancel  context.CancelFunc
	// served is true for kinds of which discovery has to say how they are served, and
	// absent counts how often in a row it said not at all.
	served bool
	absent int
}

// stockOf is the store of a feed of a known role.
func stockOf[T any](r *entry) *stock[T] {
	s, ok := r.feed.filling.(*stock[T])
	if !ok {
		panic("a feed of another kind")
	}
	return s
}

// want gives the feed of a key, and makes it where there is none.
func (m *Mirror) want(key feedKey) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.feeds[key]; r != nil {
		return r
	}
	r := m.newFeed(key)
	m.feeds[key] = r
	wake(m.poked)
	if r.served {
		wake(m.looking)
	}
	return r
}

// have gives the feed of a key, nil where there is none.
func (m *Mirror) have(key feedKey) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.feeds[key]
}

// wantAll begins with what every scan reads. Owners are listed in all namespaces where
// pods are; else each namespace's when a pod first names one.
func (m *Mirror) wantAll() {
	for _, r := range []role{roleNamespaces, roleNodes, roleAgents, roleKyverno, roleRuntimeClasses, roleVolumes} {
		m.want(feedKey{role: r})
	}
	for _, kind := range scan.ObjectKinds() {
		m.want(feedKey{role: roleObjects, kind: kind.WithVersion("")})
	}
	if len(m.opts.Namespaces) == 0 {
		m.want(feedKey{role: rolePods})
		for _, kind := range commonOwners() {
			m.want(feedKey{role: roleOwners, kind: kind})
		}
	}
	for _, ns := range m.opts.Namespaces {
		m.want(feedKey{role: rolePods, namespace: ns})
	}
}

// commonOwners are the kinds that nearly all pods belong to.
func commonOwners() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		{Version: "v1", Kind: "ReplicationController"},
		{Group: "apps", Version: "v1", Kind: "ReplicaSet"}, {Group: "apps", Version: "v1", Kind: "Deployment"},
		{Group: "apps", Version: "v1", Kind: "StatefulSet"}, {Group: "apps", Version: "v1", Kind: "DaemonSet"},
		{Group: "batch", Version: "v1", Kind: "Job"}, {Group: "batch", Version: "v1", Kind: "CronJob"},
	}
}

// startFeeds starts the loops of feeds that are new.
func (m *Mirror) startFeeds(ctx context.Context, loops *sync.WaitGroup) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.feeds {
		if r.started {
			continue
		}
		own, cancel := context.WithCancel(ctx)
		r.started, r.cancel = true, cancel
		loops.Go(func() { r.feed.loop(own) })
	}
}

// arrange has the pods of each namespace followed by themselves where those of all may
// not be listed, and no more when they may.
func (m *Mirror) arrange() {
	all := m.have(feedKey{role: rolePods})
	if all == nil {
		return
	}
	byNamespace, names := all.feed.refused(), map[string]bool{}
	if byNamespace {
		known := m.have(feedKey{role: roleNamespaces})
		if !known.feed.hasRead() {
			return
		}
		names = stockOf[*corev1.Namespace](known).names()
		for name := range names {
			m.want(feedKey{role: rolePods, namespace: name})
		}
	}
	m.drop(func(key feedKey) bool { return key.role == rolePods && key.namespace != "" && !names[key.namespace] })
}

// drop ends feeds of pods.
func (m *Mirror) drop(unwanted func(feedKey) bool) {
	if m.end(unwanted) {
		m.change(func(c *changeSet) { c.rest.AllPods = true })
		m.moved()
	}
}

// end ends feeds, and tells whether there were any.
func (m *Mirror) end(unwanted func(feedKey) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ended := false
	for key, r := range m.feeds {
		if !unwanted(key) {
			continue
		}
		if r.cancel != nil {
			r.cancel()
		}
		delete(m.feeds, key)
		ended = true
	}
	return ended
}

// leaveNamespaces ends what followed owners in namespaces that were seen to go: nobody
// asks for them any more. Namespaces that were never seen may be there all the same.
func (m *Mirror) leaveNamespaces() {
	known := m.have(feedKey{role: roleNamespaces})
	if known == nil || !known.feed.hasRead() {
		return
	}
	names := stockOf[*corev1.Namespace](known).names()
	m.mu.Lock()
	was := m.namespaces
	m.namespaces = names
	m.mu.Unlock()
	gone := func(ns string) bool { return was[ns] && !names[ns] }
	m.end(func(key feedKey) bool { return key.role == roleOwners && gone(key.namespace) })
	m.single.leave(gone)
}

// podsFollowed are the labels of pods that are followed apart, in all namespaces.
func podsFollowed() map[role]string {
	return map[role]string{roleAgents: kernel.AgentSelector, roleKyverno: admission.KyvernoSelector}
}

// newFeed makes the feed of a key, under the lock.
func (m *Mirror) newFeed(key feedKey) *entry {
	around := func(c *changeSet) { c.rest.Around = true }
	facts := func(c *changeSet) { c.rest.Facts = true }
	typed := m.clients.typed
	switch key.role {
	case roleNamespaces:
		s := &stock[*corev1.Namespace]{cut: cutNamespace, same: equal[*corev1.Namespace]}
		s.tell = func(string, string) {
			m.change(around)
			wake(m.poked)
		}
		api := typed.CoreV1().Namespaces()
		return build(m, key, s, "namespaces", around, listed(api.List), api.Watch)
	case roleNodes:
		s := &stock[*corev1.Node]{cut: cutNode, same: equal[*corev1.Node]}
		api := typed.CoreV1().Nodes()
		return build(m, key, s, "nodes", around, listed(api.List), api.Watch)
	case roleRuntimeClasses:
		s := &stock[string]{cut: cutRuntimeClass, same: identical[string]}
		api := typed.NodeV1().RuntimeClasses()
		return build(m, key, s, "runtime classes", facts, listed(api.List), api.Watch)
	case roleVolumes:
		s := &stock[hostVolume]{cut: cutVolume, same: identical[hostVolume], matters: func(v hostVolume) bool { return v.path != "" }}
		api := typed.CoreV1().PersistentVolumes()
		return build(m, key, s, "persistent volumes", facts, listed(api.List), api.Watch)
	case roleAgents, roleKyverno:
		s := &stock[*corev1.Pod]{cut: cutAgent, same: equal[*corev1.Pod]}
		selector := podsFollowed()[key.role]
		list, watch := m.podsOf("", selector)
		return build(m, key, s, "pods labelled "+selector, around, list, watch)
	case rolePods:
		s := &stock[pod]{cut: m.pods.cut, same: samePod}
		s.tell = func(namespace, name string) {
			m.change(func(c *changeSet) { add(&c.pods, scan.PodName{Namespace: namespace, Name: name}) })
		}
		list, watch := m.podsOf(key.namespace, m.cluster.opts.Selector)
		return build(m, key, s, "pods", func(c *changeSet) { c.rest.AllPods = true }, list, watch)
	case roleObjects:
		s := &stock[string]{cut: cutObject, same: identical[string]}
		return build(m, key, s, key.kind.GroupKind().String(), around, nil, nil)
	case roleOwners:
		s := &stock[scan.Owner]{cut: cutOwner, same: equal[scan.Owner]}
		s.tell = func(namespace, name string) {
			m.change(func(c *changeSet) { add(&c.owners, scan.OwnerName{Kind: key.kind, Namespace: namespace, Name: name}) })
		}
		return build(m, key, s, key.kind.Kind, func(c *changeSet) { add(&c.kinds, key.kind) }, nil, nil)
	}
	panic("a role without a feed")
}

func add[K comparable](set *map[K]struct{}, key K) {
	if *set == nil {
		*set = map[K]struct{}{}
	}
	(*set)[key] = struct{}{}
}

// lists and watches are how a client reads a kind.
type (
	lists   = func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watches = func(context.Context, metav1.ListOptions) (watch.Interface, error)
)

// listed hides the type of a list.
func listed[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error)) lists {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) }
}

// podsOf reads the pods of a namespace, "" for all, that a selector matches.
func (m *Mirror) podsOf(namespace, selector string) (lists, watches) {
	api := m.clients.typed.CoreV1().Pods(namespace)
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return api.List(ctx, o)
		}, func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return api.Watch(ctx, o)
		}
}

// build makes a feed of a store. note is what changes when it can be read, or no more,
// and with every object where the store tells nothing else. Without a list discovery
// has to say first where the objects are.
func build[T any](m *Mirror, key feedKey, s *stock[T], name string, note func(*changeSet), list lists, watch watches) *entry {
	f := &feed{
		what: "list " + name, subject: "watch of " + name, namespace: key.namespace,
		pace: &m.pace, filling: s, pageOf: m.cluster.opts.PageSize,
		turned: func() { m.change(note) }, moved: m.moved,
		missed: func() { wake(m.missing) },
		born:   time.Now(), changed: make(chan struct{}),
	}
	if key.role == roleObjects {
		f.absent = scan.ErrNotServed
	}
	s.complete = f.filled
	if s.tell == nil {
		s.tell = func(string, string) { m.change(note) }
	}
	if list != nil {
		f.aim = &source{name: name, list: list, watch: watch}
	}
	return &entry{feed: f, served: list == nil}
}

// from is where discovery says that a kind is.
func (m *Mirror) from(key feedKey, mapping *meta.RESTMapping) *source {
	at, namespace := mapping.Resource, key.namespace
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		namespace = ""
	}
	s := &source{name: at.String() + " " + mapping.GroupVersionKind.Kind}
	if key.role == roleOwners {
		api := m.clients.metadata.Resource(at).Namespace(namespace)
		s.list, s.watch = listed(api.List), api.Watch
		return s
	}
	api := m.clients.dynamic.Resource(at).Namespace(namespace)
	s.list, s.watch = listed(api.List), api.Watch
	return s
}

// await waits for the first answer to a question that is new, and not for long.
func (m *Mirror) await(ctx context.Context, r *entry) {
	left := time.Until(r.feed.asSince().Add(m.pace.first))
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	for {
		m.mu.Lock()
		progress := m.progress
		m.mu.Unlock()
		if r.feed.tried() {
			return
		}
		select {
		case <-progress:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// servedKeys are those of the feeds that hang on discovery.
func (m *Mirror) servedKeys() []feedKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []feedKey
	for key, r := range m.feeds {
		if r.served {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}
