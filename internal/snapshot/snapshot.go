// Package snapshot is a cluster that was saved: the objects of a dump, read the
// way a live cluster is.
package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Snapshot holds the objects of a dump. Its zero value is an empty cluster of no
// known version. It is safe for concurrent use once everything is added.
type Snapshot struct {
	// Version is the API server's version that the dump is of.
	Version string
	// Selector is the label selector that pods must match; nil matches all.
	Selector labels.Selector

	namespaces []corev1.Namespace
	nodes      []corev1.Node
	pods       []corev1.Pod
	handlers   map[string]string
	volumes    map[scan.Claim]string
	owners     map[schema.GroupKind][]scan.Owner
	// objects are those of the kinds that only policies and their like are.
	objects map[schema.GroupKind][][]byte
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
	case schema.GroupKind{Kind: "Namespace"}:
		return add(&s.namespaces, kind, object)
	case schema.GroupKind{Kind: "Node"}:
		return add(&s.nodes, kind, object)
	case schema.GroupKind{Kind: "Pod"}:
		return add(&s.pods, kind, object)
	case schema.GroupKind{Group: "node.k8s.io", Kind: "RuntimeClass"}:
		var class nodev1.RuntimeClass
		if err := json.Unmarshal(object, &class); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if s.handlers == nil {
			s.handlers = map[string]string{}
		}
		s.handlers[class.Name] = class.Handler
		return nil
	case schema.GroupKind{Kind: "PersistentVolume"}:
		var volume corev1.PersistentVolume
		if err := json.Unmarshal(object, &volume); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if claim, path, ok := scan.HostVolume(&volume); ok {
			if s.volumes == nil {
				s.volumes = map[scan.Claim]string{}
			}
			s.volumes[claim] = path
		}
		return nil
	default:
		var m metav1.PartialObjectMetadata
		if err := json.Unmarshal(object, &m); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if s.owners == nil {
			s.owners = map[schema.GroupKind][]scan.Owner{}
		}
		s.owners[gk] = append(s.owners[gk], scan.OwnerOf(&m.ObjectMeta))
		if scan.ReadsObjects(gk) {
			if s.objects == nil {
				s.objects = map[schema.GroupKind][][]byte{}
			}
			s.objects[gk] = append(s.objects[gk], slices.Clone(object))
		}
		return nil
	}
}

func add[T any](list *[]T, kind string, object []byte) error {
	var v T
	if err := json.Unmarshal(object, &v); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	*list = append(*list, v)
	return nil
}

// ServerVersion is the version that the dump is of.
func (s *Snapshot) ServerVersion(context.Context) (string, error) { return s.Version, nil }

// Namespaces lists the namespaces of the dump.
func (s *Snapshot) Namespaces(context.Context) ([]corev1.Namespace, error) { return s.namespaces, nil }

// Nodes lists the nodes of the dump.
func (s *Snapshot) Nodes(context.Context) ([]corev1.Node, error) {
	return slices.Clone(s.nodes), nil
}

// RuntimeClasses gives the handler of each runtime class of the dump.
func (s *Snapshot) RuntimeClasses(context.Context) (map[string]string, error) { return s.handlers, nil }

// HostVolumes gives the path of the host behind each claim of the dump that is
// bound to one.
func (s *Snapshot) HostVolumes(context.Context) (map[scan.Claim]string, error) { return s.volumes, nil }

// Pods visits the pods in the order of an API server, in one page.
func (s *Snapshot) Pods(_ context.Context, namespace string, visit func(scan.PodPage) error) error {
	var page []corev1.Pod
	for i := range s.pods {
		p := &s.pods[i]
		if namespace != "" && p.Namespace != namespace {
			continue
		}
		if s.Selector == nil || s.Selector.Matches(labels.Set(p.Labels)) {
			page = append(page, *p)
		}
	}
	slices.SortFunc(page, func(a, b corev1.Pod) int {
		return cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return visit(scan.PodPage{Items: page})
}

// Owners visits the objects of a kind.
func (s *Snapshot) Owners(_ context.Context, namespace string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	var owners []scan.Owner
	for _, o := range s.owners[kind.GroupKind()] {
		if namespace == "" || o.Namespace == namespace {
			owners = append(owners, o)
		}
	}
	return visit(owners)
}

// Owner finds one object.
func (s *Snapshot) Owner(_ context.Context, namespace string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	for _, o := range s.owners[kind.GroupKind()] {
		if o.Name == name && (o.Namespace == namespace || o.Namespace == "") {
			return o, nil
		}
	}
	return scan.Owner{}, apierrors.NewNotFound(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, name)
}

// Objects visits the objects of a kind. A kind that the dump has none of may well
// exist in the cluster.
func (s *Snapshot) Objects(_ context.Context, kind schema.GroupKind, visit func(object []byte) error) error {
	if len(s.objects[kind]) == 0 {
		return fmt.Errorf("%s: %w", kind, scan.ErrNotRecorded)
	}
	for _, object := range s.objects[kind] {
		if err := visit(slices.Clone(object)); err != nil {
			return err
		}
	}
	return nil
}

// LabelledPods lists the pods that a label selector matches.
func (s *Snapshot) LabelledPods(_ context.Context, selector string) ([]corev1.Pod, error) {
	match, err := labels.Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("selector %q: %w", selector, err)
	}
	var pods []corev1.Pod
	for i := range s.pods {
		if match.Matches(labels.Set(s.pods[i].Labels)) {
			pods = append(pods, s.pods[i])
		}
	}
	return pods, nil
}
