package scan

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// edit is a change to a draft that can be taken back.
type edit interface {
	do()
	undo()
}

// assignment changes one leaf.
type assignment[T any] struct {
	leaf          *T
	value, before T
}

func (a *assignment[T]) do()   { *a.leaf = a.value }
func (a *assignment[T]) undo() { *a.leaf = a.before }

func assign[T any](leaf *T, value T) edit {
	return &assignment[T]{leaf: leaf, value: value, before: *leaf}
}

// cuts removes elements of one list, each by an edit of its own.
type cuts[T any] struct {
	leaf   *[]T
	before []T
	gone   []bool
}

func newCuts[T any](leaf *[]T) *cuts[T] {
	return &cuts[T]{leaf: leaf, before: *leaf, gone: make([]bool, len(*leaf))}
}

// without is the edit that removes element i.
func (c *cuts[T]) without(i int) edit { return &cut[T]{c, i} }

type cut[T any] struct {
	list *cuts[T]
	i    int
}

func (c *cut[T]) do()   { c.list.set(c.i, true) }
func (c *cut[T]) undo() { c.list.set(c.i, false) }

func (c *cuts[T]) set(i int, gone bool) {
	c.gone[i] = gone
	kept := make([]T, 0, len(c.before))
	for j, v := range c.before {
		if !c.gone[j] {
			kept = append(kept, v)
		}
	}
	*c.leaf = kept
}

// emptied makes a volume an emptyDir: what the API server makes of a volume without
// a source.
type emptied struct {
	draft *draft
	i     int
}

func (e *emptied) do() {
	e.draft.spec.Volumes[e.i].VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
}

func (e *emptied) undo() {
	e.draft.spec.Volumes[e.i].VolumeSource = e.draft.pod.Spec.Volumes[e.i].VolumeSource
}

// annotation sets an annotation. The map is the pod's own, so it is copied.
type annotation struct {
	draft              *draft
	key, value, before string
}

func (a *annotation) do()   { a.set(a.value) }
func (a *annotation) undo() { a.set(a.before) }

func (a *annotation) set(value string) {
	meta := &a.draft.meta
	meta.Annotations = maps.Clone(meta.Annotations)
	meta.Annotations[a.key] = value
}
