package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Recorder is a cluster that writes down what is read of another one, as it passes
// by: one object of JSON a line, in a form that can be read back. Of the pods it
// keeps nothing. It is safe for concurrent use.
type Recorder struct {
	cluster scan.Cluster
	probes  scan.Probes

	mu  sync.Mutex
	enc *json.Encoder
	err error
	// small are the answers that are given again when they are asked for again, so
	// that there is one of each.
	small map[Scope]any
	// written are the lists that were begun.
	written map[Scope]bool
	// namespaces are held back until the policies, which read their annotations, are
	// known.
	namespaces []corev1.Namespace
	// annotations are the keys that policies name. They are settled when the first
	// pod is written.
	annotations map[string]bool
	settled     bool
}

var _ scan.Cluster = (*Recorder)(nil)

// NewRecorder records the cluster, and the answers of the probes, to w. What was
// recorded is complete only after Finish.
func NewRecorder(w io.Writer, about Begin, cluster scan.Cluster, probes scan.Probes) *Recorder {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	r := &Recorder{cluster: cluster, probes: probes, enc: enc, small: map[Scope]any{}, written: map[Scope]bool{}}
	about.Probes = nil
	for _, p := range []struct {
		name string
		set  bool
	}{
		{probeData, probes.ProbeData != nil}, {probeMachines, probes.Machines != nil},
		{probeAskServer, probes.AskServer != nil}, {probeInspect, probes.Inspect != nil},
	} {
		if p.set {
			about.Probes = append(about.Probes, p.name)
		}
	}
	r.entry(Entry{Begin: &about})
	return r
}

// Finish writes what was held back and says that the inventory is whole. The error
// is the first that writing met.
func (r *Recorder) Finish() error {
	r.mu.Lock()
	namespaces, keys := r.namespaces, r.annotations
	r.namespaces = nil
	r.mu.Unlock()
	for i := range namespaces {
		r.write(reduceNamespace(&namespaces[i], keys))
	}
	r.entry(Entry{End: &End{Annotations: slices.Sorted(maps.Keys(keys))}})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return fmt.Errorf("inventory: %w", r.err)
	}
	return nil
}

func (r *Recorder) write(object any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = r.enc.Encode(object)
	}
}

func (r *Recorder) entry(e Entry) {
	e.TypeMeta = metav1.TypeMeta{APIVersion: Group + "/" + Version, Kind: Kind}
	r.write(e)
}

// ended writes down how a reading ended.
func (r *Recorder) ended(s Scope, items int, err error) {
	r.entry(Entry{Read: &Read{Scope: s, Items: items, Failed: failedOf(err)}})
}

// first tells whether a list is to be written: it is when it is read for the first
// time.
func (r *Recorder) first(s Scope) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.written[s] {
		return false
	}
	r.written[s] = true
	return true
}

// remembered reads what is small once, writes it down, and gives it again to whoever
// asks again.
func remembered[T any](r *Recorder, s Scope, read func() (T, error), write func(T) int) (T, error) {
	r.mu.Lock()
	answer, ok := r.small[s].(func() (T, error))
	if !ok {
		answer = sync.OnceValues(func() (T, error) {
			v, err := read()
			r.ended(s, write(v), err)
			return v, err
		})
		r.small[s] = answer
	}
	r.mu.Unlock()
	return answer()
}

// ServerVersion is the cluster's.
func (r *Recorder) ServerVersion(ctx context.Context) (string, error) {
	s := Scope{Of: readVersion}
	r.mu.Lock()
	answer, ok := r.small[s].(func() (string, error))
	if !ok {
		answer = sync.OnceValues(func() (string, error) {
			version, err := r.cluster.ServerVersion(ctx)
			r.entry(Entry{Read: &Read{Scope: s, Value: version, Failed: failedOf(err)}})
			return version, err
		})
		r.small[s] = answer
	}
	r.mu.Unlock()
	return answer()
}

// Namespaces are the cluster's.
func (r *Recorder) Namespaces(ctx context.Context) ([]corev1.Namespace, error) {
	list, err := remembered(r, Scope{Of: readNamespaces}, func() ([]corev1.Namespace, error) {
		return r.cluster.Namespaces(ctx)
	}, func(list []corev1.Namespace) int {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.namespaces = slices.Clone(list)
		return len(list)
	})
	return slices.Clone(list), err
}

// Nodes are the cluster's.
func (r *Recorder) Nodes(ctx context.Context) ([]corev1.Node, error) {
	list, err := remembered(r, Scope{Of: readNodes}, func() ([]corev1.Node, error) {
		return r.cluster.Nodes(ctx)
	}, func(list []corev1.Node) int {
		for i := range list {
			r.write(reduceNode(&list[i]))
		}
		return len(list)
	})
	return slices.Clone(list), err
}

// RuntimeClasses are the cluster's.
func (r *Recorder) RuntimeClasses(ctx context.Context) (map[string]string, error) {
	handlers, err := remembered(r, Scope{Of: readClasses}, func() (map[string]string, error) {
		return r.cluster.RuntimeClasses(ctx)
	}, func(handlers map[string]string) int {
		for _, name := range slices.Sorted(maps.Keys(handlers)) {
			r.write(&nodev1.RuntimeClass{
				TypeMeta:   metav1.TypeMeta{APIVersion: "node.k8s.io/v1", Kind: "RuntimeClass"},
				ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: handlers[name],
			})
		}
		return len(handlers)
	})
	return maps.Clone(handlers), err
}

// HostVolumes are the cluster's. They are written as the volumes that they are, as
// far as they were read: without a name.
func (r *Recorder) HostVolumes(ctx context.Context) (map[scan.Claim]string, error) {
	volumes, err := remembered(r, Scope{Of: readVolumes}, func() (map[scan.Claim]string, error) {
		return r.cluster.HostVolumes(ctx)
	}, func(volumes map[scan.Claim]string) int {
		claims := slices.SortedFunc(maps.Keys(volumes), func(a, b scan.Claim) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
		for _, claim := range claims {
			r.write(&corev1.PersistentVolume{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolume"},
				Spec: corev1.PersistentVolumeSpec{
					ClaimRef:               &corev1.ObjectReference{Namespace: claim.Namespace, Name: claim.Name},
					PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: volumes[claim]}},
				},
			})
		}
		return len(volumes)
	})
	return maps.Clone(volumes), err
}

// Pods are the cluster's.
func (r *Recorder) Pods(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
	s := Scope{Of: readPods, Namespace: namespace}
	if !r.first(s) {
		return r.cluster.Pods(ctx, namespace, visit)
	}
	keys, items := r.settle(), 0
	err := r.cluster.Pods(ctx, namespace, func(page scan.PodPage) error {
		for i := range page.Items {
			r.write(reducePod(&page.Items[i], keys))
		}
		items += len(page.Items)
		return visit(page)
	})
	r.ended(s, items, err)
	return err
}

// settle gives the annotations that pods are written with, from now on.
func (r *Recorder) settle() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = true
	return r.annotations
}

// Owners are the cluster's.
func (r *Recorder) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	s := Scope{Of: readOwners, Namespace: namespace, Group: kind.Group, Version: kind.Version, Kind: kind.Kind}
	first, items := r.first(s), 0
	err := r.cluster.Owners(ctx, namespace, kind, func(page []scan.Owner) error {
		if first {
			for i := range page {
				r.owner(kind, &page[i])
			}
			items += len(page)
		}
		return visit(page)
	})
	if first {
		r.ended(s, items, err)
	}
	return err
}

// Owner is one of the cluster's objects.
func (r *Recorder) Owner(ctx context.Context, namespace string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	s := Scope{Of: readOwner, Namespace: namespace, Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Name: name}
	owner, err := r.cluster.Owner(ctx, namespace, kind, name)
	if r.first(s) {
		items := 0
		if err == nil {
			items = 1
			r.owner(kind, &owner)
		}
		r.ended(s, items, err)
	}
	return owner, err
}

// owner writes an owner: an object with nothing but its metadata. Of kinds of which
// a dump holds whole objects, that would be taken for such an object.
func (r *Recorder) owner(kind schema.GroupVersionKind, o *scan.Owner) {
	m := metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID},
	}
	if o.TemplateHash != "" {
		m.Labels = map[string]string{appsv1.DefaultDeploymentUniqueLabelKey: o.TemplateHash}
	}
	if o.Controller != nil {
		m.OwnerReferences = []metav1.OwnerReference{*o.Controller}
	}
	if gk := kind.GroupKind(); !onlyOwns(gk) {
		m.TypeMeta = metav1.TypeMeta{}
		r.entry(Entry{Answer: &Answer{Owner: &OwnerSeen{Group: kind.Group, Kind: kind.Kind, Object: m}}})
		return
	}
	r.write(&m)
}

// Objects are the cluster's. Objects of Kubernetes' own kinds that are asked for as
// parameters of policies, ConfigMaps above all, are not written: too much else
// stands in them.
func (r *Recorder) Objects(ctx context.Context, kind schema.GroupKind, visit func(object []byte) error) error {
	s := Scope{Of: readObjects, Group: kind.Group, Kind: kind.Kind}
	if !r.first(s) {
		return r.cluster.Objects(ctx, kind, visit)
	}
	withheld, items := kind.Group == "" && !scan.ReadsObjects(kind), 0
	err := r.cluster.Objects(ctx, kind, func(object []byte) error {
		if !withheld {
			if err := r.object(kind, object); err != nil {
				return err
			}
			items++
		}
		return visit(object)
	})
	ended := err
	if withheld && err == nil {
		ended = fmt.Errorf("%s are left out of inventories: %w", kind.Kind, scan.ErrNotRecorded)
	}
	r.ended(s, items, ended)
	return err
}

// object writes an object that is read whole. What a dump would not know as such is
// written as an answer.
func (r *Recorder) object(kind schema.GroupKind, object []byte) error {
	reduced, err := reduceObject(object)
	if err != nil {
		return err
	}
	if scan.ReadsObjects(kind) {
		r.learn(kind, object)
		if reduced["kind"] == kind.Kind && reduced["apiVersion"] != nil {
			r.write(reduced)
			return nil
		}
	}
	text, err := json.Marshal(reduced)
	if err != nil {
		return err
	}
	r.entry(Entry{Answer: &Answer{Parameter: &Parameter{Group: kind.Group, Kind: kind.Kind, Object: text}}})
	return nil
}

// learn notes the annotations that a policy names, as long as that is of use.
func (r *Recorder) learn(kind schema.GroupKind, object []byte) {
	if !rulesOnAdmission(kind) {
		return
	}
	p := policyText{words: map[string]bool{}, annotations: map[string]bool{}}
	p.read(object)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled {
		return
	}
	for key := range p.annotations {
		put(&r.annotations, key, true)
	}
}

// LabelledPods are the cluster's. They are written as answers: they need not be
// among the pods that are audited.
func (r *Recorder) LabelledPods(ctx context.Context, selector string) ([]corev1.Pod, error) {
	pods, err := remembered(r, Scope{Of: readLabelled, Selector: selector}, func() ([]corev1.Pod, error) {
		return r.cluster.LabelledPods(ctx, selector)
	}, func(pods []corev1.Pod) int {
		for i := range pods {
			r.entry(Entry{Answer: &Answer{LabelledPod: &LabelledPod{Selector: selector, Pod: reduceAgent(&pods[i])}}})
		}
		return len(pods)
	})
	return slices.Clone(pods), err
}
