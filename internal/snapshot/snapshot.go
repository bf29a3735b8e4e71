// Package snapshot is a cluster that was saved: the objects of a dump, read the
// way a live cluster is. It also saves clusters, as an inventory: a dump that says
// what could not be read.
//
// What is not in a dump is unknown, not absent. An inventory tells the two apart,
// for it says what was read to its end. Of any other dump that is not known: a kind
// of which it has no object was perhaps never asked for, and what its objects refer
// to and it does not have may well exist.
package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Snapshot holds the objects of a dump. Its zero value is an empty dump of a
// cluster of no known version. It is safe for concurrent use once everything is
// added.
type Snapshot struct {
	// Version is the API server's version that the dump is of.
	Version string
	// Selector is the label selector that pods must match; nil matches all.
	Selector labels.Selector
	// Complete says that the dump is the whole cluster: what is not in it does not
	// exist.
	Complete bool

	namespaces []corev1.Namespace
	nodes      []corev1.Node
	pods       []corev1.Pod
	podUIDs    map[types.UID]bool
	handlers   map[string]string
	volumes    map[scan.Claim]string
	// unbound are the claims that say themselves that they have no volume.
	unbound map[scan.Claim]bool
	owners  map[schema.GroupKind]map[types.NamespacedName]scan.Owner
	// objects are those of the kinds that only policies and their like are.
	objects map[schema.GroupKind][][]byte

	inventory inventory
	// manifests is true where the objects are what manifests are judged in: nobody
	// expects pods among them.
	manifests bool

	lostOnce sync.Once
	lost     absences
}

var _ scan.Cluster = (*Snapshot)(nil)

// Add takes one object in as JSON. Every object can be an owner; of kinds that no
// rule reads, only the metadata is kept.
func (s *Snapshot) Add(apiVersion, kind string, object []byte) error {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	switch gk := gv.WithKind(kind).GroupKind(); gk {
	case schema.GroupKind{Group: Group, Kind: Kind}:
		entry, err := parseEntry(gv.Version, object)
		if err != nil {
			return err
		}
		return s.addEntry(entry)
	case schema.GroupKind{Kind: "Namespace"}:
		return add(s, &s.namespaces, gk, object)
	case schema.GroupKind{Kind: "Node"}:
		return add(s, &s.nodes, gk, object)
	case schema.GroupKind{Kind: "Pod"}:
		return s.addPod(object)
	case schema.GroupKind{Group: "node.k8s.io", Kind: "RuntimeClass"}:
		var class nodev1.RuntimeClass
		if err := decode(kind, object, &class); err != nil {
			return err
		}
		put(&s.handlers, class.Name, class.Handler)
		return nil
	case schema.GroupKind{Kind: "PersistentVolume"}:
		return s.addVolume(object)
	case schema.GroupKind{Kind: "PersistentVolumeClaim"}:
		var claim corev1.PersistentVolumeClaim
		if err := decode(kind, object, &claim); err != nil {
			return err
		}
		if claim.Spec.VolumeName == "" {
			put(&s.unbound, scan.Claim{Namespace: claim.Namespace, Name: claim.Name}, true)
		}
		return nil
	default:
		return s.addOther(gk, object)
	}
}

// onlyOwns tells whether objects of the kind are read for their metadata alone.
func onlyOwns(gk schema.GroupKind) bool {
	switch gk {
	case schema.GroupKind{Group: Group, Kind: Kind}, schema.GroupKind{Group: "node.k8s.io", Kind: "RuntimeClass"},
		schema.GroupKind{Kind: "Namespace"}, schema.GroupKind{Kind: "Node"}, schema.GroupKind{Kind: "Pod"},
		schema.GroupKind{Kind: "PersistentVolume"}, schema.GroupKind{Kind: "PersistentVolumeClaim"}:
		return false
	}
	return !scan.ReadsObjects(gk)
}

// decode reads an object as the API server does: with the case of keys minded.
func decode(kind string, object []byte, into any) error {
	if err := kjson.UnmarshalCaseSensitivePreserveInts(object, into); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}

// add takes in an object of a kind that is kept whole.
func add[T any](s *Snapshot, list *[]T, gk schema.GroupKind, object []byte) error {
	var v T
	if err := decode(gk.Kind, object, &v); err != nil {
		return err
	}
	*list = append(*list, v)
	return s.addOther(gk, object)
}

func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// addPod takes a pod in, once: dumps that overlap may hold it twice.
func (s *Snapshot) addPod(object []byte) error {
	var p corev1.Pod
	if err := decode("Pod", object, &p); err != nil {
		return err
	}
	if p.UID != "" {
		if s.podUIDs[p.UID] {
			return nil
		}
		put(&s.podUIDs, p.UID, true)
	}
	if p.Name == "" && p.GenerateName != "" {
		p.Name = p.GenerateName + "*"
	}
	// A server has applied its defaults; one that was written by hand has none.
	manifest.Default(&p.ObjectMeta, &p.Spec)
	s.pods = append(s.pods, p)
	s.putOwner(schema.GroupKind{Kind: "Pod"}, &p.ObjectMeta)
	return nil
}

func (s *Snapshot) addVolume(object []byte) error {
	var volume corev1.PersistentVolume
	if err := decode("PersistentVolume", object, &volume); err != nil {
		return err
	}
	ref := volume.Spec.ClaimRef
	if ref == nil {
		return nil
	}
	// A volume that is no path of the host is known to be none.
	claim, path, _ := scan.HostVolume(&volume)
	put(&s.volumes, claim, path)
	return nil
}

func (s *Snapshot) addOther(gk schema.GroupKind, object []byte) error {
	var m metav1.PartialObjectMetadata
	if err := decode(gk.Kind, object, &m); err != nil {
		return err
	}
	s.putOwner(gk, &m.ObjectMeta)
	if scan.ReadsObjects(gk) {
		put(&s.objects, gk, append(s.objects[gk], slices.Clone(object)))
	}
	return nil
}

func (s *Snapshot) putOwner(gk schema.GroupKind, m *metav1.ObjectMeta) {
	if s.owners[gk] == nil {
		put(&s.owners, gk, map[types.NamespacedName]scan.Owner{})
	}
	s.owners[gk][types.NamespacedName{Namespace: m.Namespace, Name: m.Name}] = scan.OwnerOf(m)
}

// addEntry takes in what an inventory says of itself.
func (s *Snapshot) addEntry(e *Entry) error {
	if e.Answer != nil && e.Answer.Owner != nil {
		owner := e.Answer.Owner
		s.putOwner(schema.GroupKind{Group: owner.Group, Kind: owner.Kind}, &owner.Object.ObjectMeta)
		return nil
	}
	if e.Answer != nil && e.Answer.Parameter != nil {
		p := e.Answer.Parameter
		gk := schema.GroupKind{Group: p.Group, Kind: p.Kind}
		put(&s.objects, gk, append(s.objects[gk], p.Object))
		return nil
	}
	if err := s.inventory.add(e); err != nil {
		return err
	}
	if e.Begin == nil {
		return nil
	}
	selector, err := labels.Parse(e.Begin.Selector)
	if err != nil {
		return fmt.Errorf("%s: selector %q: %w", Kind, e.Begin.Selector, err)
	}
	s.Selector = selector
	return nil
}

// ServerVersion is the version that the dump is of, empty where it does not say.
func (s *Snapshot) ServerVersion(context.Context) (string, error) {
	if r := s.inventory.find(Scope{Of: readVersion}); r != nil {
		return cmp.Or(s.Version, r.Value), r.Failed.err()
	}
	return s.Version, nil
}

// Namespaces lists the namespaces of the dump.
func (s *Snapshot) Namespaces(context.Context) ([]corev1.Namespace, error) {
	return slices.Clone(s.namespaces), s.whole(Scope{Of: readNamespaces}, func(a absences) error { return a.namespaces })
}

// Nodes lists the nodes of the dump.
func (s *Snapshot) Nodes(context.Context) ([]corev1.Node, error) {
	return slices.Clone(s.nodes), s.whole(Scope{Of: readNodes}, func(a absences) error { return a.nodes })
}

// RuntimeClasses gives the handler of each runtime class of the dump.
func (s *Snapshot) RuntimeClasses(context.Context) (map[string]string, error) {
	return s.handlers, s.whole(Scope{Of: readClasses}, func(a absences) error { return a.classes })
}

// HostVolumes gives the path of the host behind each claim of the dump that is
// bound to one.
func (s *Snapshot) HostVolumes(context.Context) (map[scan.Claim]string, error) {
	volumes := make(map[scan.Claim]string, len(s.volumes))
	for claim, path := range s.volumes {
		if path != "" {
			volumes[claim] = path
		}
	}
	return volumes, s.whole(Scope{Of: readVolumes}, func(a absences) error { return a.volumes })
}

// pageSize is how many pods a page has.
const pageSize = 500

// Pods visits the pods in the order of an API server.
func (s *Snapshot) Pods(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
	scope := Scope{Of: readPods, Namespace: namespace}
	if r := s.inventory.find(scope); r != nil && r.Failed != nil && r.Items == 0 {
		// The pods of the file were read otherwise: one namespace after another.
		return r.Failed.err()
	}
	var pods []*corev1.Pod
	for i := range s.pods {
		p := &s.pods[i]
		if (namespace == "" || p.Namespace == namespace) && (s.Selector == nil || s.Selector.Matches(labels.Set(p.Labels))) {
			pods = append(pods, p)
		}
	}
	slices.SortStableFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	for part := range slices.Chunk(pods, pageSize) {
		if err := ctx.Err(); err != nil {
			return err
		}
		page := scan.PodPage{Items: make([]corev1.Pod, len(part))}
		for i, p := range part {
			page.Items[i] = *p
		}
		if err := visit(page); err != nil {
			return err
		}
	}
	return s.whole(scope, func(a absences) error { return a.pods })
}

// Owners visits the objects of a kind.
func (s *Snapshot) Owners(_ context.Context, namespace string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	var owners []scan.Owner
	for _, o := range s.owners[kind.GroupKind()] {
		if namespace == "" || o.Namespace == namespace {
			owners = append(owners, o)
		}
	}
	if err := visit(owners); err != nil {
		return err
	}
	scope := Scope{Of: readOwners, Namespace: namespace, Group: kind.Group, Version: kind.Version, Kind: kind.Kind}
	return s.whole(scope, func(a absences) error { return a.owners[kind.GroupKind()] })
}

// Owner finds one object.
func (s *Snapshot) Owner(_ context.Context, namespace string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	all := s.owners[kind.GroupKind()]
	for _, ns := range []string{namespace, ""} {
		if o, ok := all[types.NamespacedName{Namespace: ns, Name: name}]; ok {
			return o, nil
		}
	}
	gone := apierrors.NewNotFound(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, name)
	scope := Scope{Of: readOwner, Namespace: namespace, Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Name: name}
	err := s.whole(scope, func(absences) error { return absent(kind.Kind, name) })
	return scan.Owner{}, cmp.Or[error](err, gone)
}

// Objects visits the objects of a kind. A kind that the dump has none of may well
// exist in the cluster, and so may what a policy asks for and the dump leaves out.
func (s *Snapshot) Objects(_ context.Context, kind schema.GroupKind, visit func(object []byte) error) error {
	objects := s.objects[kind]
	var withheld error
	for _, object := range objects {
		if why := s.inventory.leftOut(kind, object); why != nil {
			withheld = cmp.Or(withheld, why)
			continue
		}
		if err := visit(slices.Clone(object)); err != nil {
			return err
		}
	}
	if withheld != nil {
		return withheld
	}
	scope := Scope{Of: readObjects, Group: kind.Group, Kind: kind.Kind}
	if r := s.inventory.find(scope); r != nil && r.Failed != nil && r.Failed.Class == failedNotServed && len(objects) > 0 {
		return nil // Somebody put them there, to see what they would do.
	}
	return s.whole(scope, func(absences) error {
		if len(objects) > 0 {
			return nil
		}
		return absent(kind.Kind)
	})
}

// LabelledPods lists the pods that a label selector matches.
func (s *Snapshot) LabelledPods(_ context.Context, selector string) ([]corev1.Pod, error) {
	if s.manifests {
		return nil, nil
	}
	match, err := labels.Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("selector %q: %w", selector, err)
	}
	scope := Scope{Of: readLabelled, Selector: selector}
	pods := slices.Clone(s.inventory.labelled[selector])
	if s.inventory.find(scope) == nil {
		for i := range s.pods {
			if match.Matches(labels.Set(s.pods[i].Labels)) {
				pods = append(pods, s.pods[i])
			}
		}
	}
	return pods, s.whole(scope, func(absences) error {
		if len(pods) > 0 {
			return nil
		}
		return absent("pods labelled " + selector)
	})
}
