package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// kept is what a store keeps of an object. It passes through client-go in the object's
// place, so that no list of whole objects is ever held. It is never changed.
type kept[T any] struct {
	namespace, name string
	value           T
}

// GetObjectMeta gives what client-go makes a key of.
func (k *kept[T]) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: k.namespace, Name: k.name}
}

// GetObjectKind gives no kind: nobody asks what was kept for its own.
func (k *kept[T]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject gives the same: it is never changed.
func (k *kept[T]) DeepCopyObject() runtime.Object { return k }

// stock holds the objects of one kind in one scope, each cut down to what is read of it.
type stock[T any] struct {
	// cut makes of an object what is kept. The object is the store's own.
	cut func(runtime.Object) (T, error)
	// same reports whether a reader could not tell two apart.
	same func(a, b T) bool
	// matters reports whether anybody reads the object at all; nil for all.
	matters func(T) bool
	// tell is called for each object that came, changed or went since all were read.
	tell func(namespace, name string)
	// complete is called when all were read.
	complete func()

	mu     sync.RWMutex
	filled bool
	// objects are by namespace and name.
	objects map[string]map[string]*kept[T]
}

var _ cache.TransformingStore = (*stock[int])(nil)

// keep cuts an object down, unless that was done already.
func (s *stock[T]) keep(object any) (*kept[T], error) {
	switch o := object.(type) {
	case *kept[T]:
		return o, nil
	case runtime.Object:
		m, err := meta.Accessor(o)
		if err != nil {
			return nil, err
		}
		value, err := s.cut(o)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", m.GetNamespace(), m.GetName(), err)
		}
		return &kept[T]{namespace: m.GetNamespace(), name: m.GetName(), value: value}, nil
	}
	return nil, fmt.Errorf("%T is no object", object)
}

// keepObject is keep for who knows nothing of the type.
func (s *stock[T]) keepObject(object runtime.Object) (runtime.Object, error) { return s.keep(object) }

// Transformer has client-go hold what is kept of an object, and not the object.
func (s *stock[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return s.keep(object) }
}

// Add takes an object that came.
func (s *stock[T]) Add(object any) error { return s.put(object) }

// Update takes an object that changed.
func (s *stock[T]) Update(object any) error { return s.put(object) }

func (s *stock[T]) put(object any) error {
	k, err := s.keep(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	before := s.objects[k.namespace][k.name]
	changed := before == nil || !s.same(before.value, k.value)
	if changed {
		s.set(k)
	}
	told := changed && s.filled && (s.read(before) || s.read(k))
	s.mu.Unlock()
	if told {
		s.tell(k.namespace, k.name)
	}
	return nil
}

func (s *stock[T]) read(k *kept[T]) bool {
	return k != nil && (s.matters == nil || s.matters(k.value))
}

func (s *stock[T]) set(k *kept[T]) {
	if s.objects == nil {
		s.objects = map[string]map[string]*kept[T]{}
	}
	if s.objects[k.namespace] == nil {
		s.objects[k.namespace] = map[string]*kept[T]{}
	}
	s.objects[k.namespace][k.name] = k
}

// Delete takes an object away that is gone.
func (s *stock[T]) Delete(object any) error {
	m, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	namespace, name := m.GetNamespace(), m.GetName()
	s.mu.Lock()
	told := s.filled && s.read(s.objects[namespace][name])
	delete(s.objects[namespace], name)
	if len(s.objects[namespace]) == 0 {
		delete(s.objects, namespace)
	}
	s.mu.Unlock()
	if told {
		s.tell(namespace, name)
	}
	return nil
}

// Replace takes a whole list, complete as the server gave it.
func (s *stock[T]) Replace(objects []any, _ string) error {
	list := make([]*kept[T], len(objects))
	for i, object := range objects {
		k, err := s.keep(object)
		if err != nil {
			return err
		}
		list[i] = k
	}
	s.mu.Lock()
	before, filled := s.objects, s.filled
	s.objects, s.filled = make(map[string]map[string]*kept[T], len(before)), true
	var told []*kept[T]
	for _, k := range list {
		old := before[k.namespace][k.name]
		if old != nil && s.same(old.value, k.value) {
			k = old
		} else if s.read(old) || s.read(k) {
			told = append(told, k)
		}
		s.set(k)
	}
	for namespace, names := range before {
		for name, k := range names {
			if s.objects[namespace][name] == nil && s.read(k) {
				told = append(told, k)
			}
		}
	}
	s.mu.Unlock()
	if filled {
		for _, k := range told {
			s.tell(k.namespace, k.name)
		}
	}
	s.complete()
	return nil
}

// Resync has nothing to do: who reads looks for itself.
func (s *stock[T]) Resync() error { return nil }

// empty forgets everything, and that it was ever read.
func (s *stock[T]) empty() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects, s.filled = nil, false
}

// get is one object, nil where there is none.
func (s *stock[T]) get(namespace, name string) *kept[T] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.objects[namespace][name]
}

// list gives the objects of a namespace, "" for all, in the API server's order, which
// is that of "namespace/name".
func (s *stock[T]) list(namespace string) []*kept[T] {
	s.mu.RLock()
	var all []*kept[T]
	for ns, names := range s.objects {
		if namespace != "" && ns != namespace {
			continue
		}
		all = slices.Grow(all, len(names))
		for _, k := range names {
			all = append(all, k)
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(all, func(a, b *kept[T]) int {
		if a.namespace == b.namespace {
			return cmp.Compare(a.name, b.name)
		}
		return strings.Compare(a.namespace+"/", b.namespace+"/")
	})
	return all
}

// names are those of the objects that have no namespace.
func (s *stock[T]) names() map[string]bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make(map[string]bool, len(s.objects[""]))
	for name := range s.objects[""] {
		names[name] = true
	}
	return names
}

// values are what is kept of the objects, in the API server's order.
func (s *stock[T]) values(namespace string) []T {
	list := s.list(namespace)
	values := make([]T, len(list))
	for i, k := range list {
		values[i] = k.value
	}
	return values
}
