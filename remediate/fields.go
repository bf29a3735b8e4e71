package remediate

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// fieldPath leads through maps to a field. Lists are fields as a whole: an item has no
// name that is sure to stay.
type fieldPath []string

func (p fieldPath) String() string { return strings.Join(p, ".") }

// below tells whether the path is the other one or leads through it.
func (p fieldPath) below(other fieldPath) bool {
	return len(p) >= len(other) && slices.Equal(p[:len(other)], other)
}

// leaves gives every field of an object that is no map with fields of its own, sorted.
func leaves(object map[string]any) []fieldPath {
	var paths []fieldPath
	var walk func(fieldPath, map[string]any)
	walk = func(at fieldPath, object map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(object)) {
			path := append(slices.Clone(at), key)
			if inner, ok := object[key].(map[string]any); ok && len(inner) > 0 {
				walk(path, inner)
				continue
			}
			paths = append(paths, path)
		}
	}
	walk(nil, object)
	return paths
}

// lookup gives the field that a path leads to.
func lookup(object map[string]any, path fieldPath) (any, bool) {
	for i, key := range path {
		value, ok := object[key]
		if !ok || i == len(path)-1 {
			return value, ok
		}
		if object, ok = value.(map[string]any); !ok {
			return nil, false
		}
	}
	return nil, false
}

// put sets a field, with the maps that lead to it. What stands in the way of them is
// replaced.
func put(object map[string]any, path fieldPath, value any) {
	for _, key := range path[:len(path)-1] {
		inner, ok := object[key].(map[string]any)
		if !ok {
			inner = map[string]any{}
			object[key] = inner
		}
		object = inner
	}
	object[path[len(path)-1]] = runtime.DeepCopyJSONValue(value)
}

// remove takes a field away and leaves the maps that lead to it.
func remove(object map[string]any, path fieldPath) {
	parent := object
	if len(path) > 1 {
		inner, _ := lookup(object, path[:len(path)-1])
		parent, _ = inner.(map[string]any)
	}
	delete(parent, path[len(path)-1])
}

// equalValues compares fields as JSON does.
func equalValues(a, b any) bool { return reflect.DeepEqual(a, b) }

// differing are the fields that two objects do not have alike, sorted.
func differing(a, b map[string]any) []fieldPath {
	var paths []fieldPath
	for _, path := range append(leaves(a), leaves(b)...) {
		inA, okA := lookup(a, path)
		inB, okB := lookup(b, path)
		if okA != okB || !equalValues(inA, inB) {
			paths = append(paths, path)
		}
	}
	return sortedPaths(paths)
}

func sortedPaths(paths []fieldPath) []fieldPath {
	slices.SortFunc(paths, func(a, b fieldPath) int { return slices.Compare(a, b) })
	return slices.CompactFunc(paths, func(a, b fieldPath) bool { return slices.Equal(a, b) })
}

// configured are the fields that a configuration is about: all but its name.
func configured(config *unstructured.Unstructured) []fieldPath {
	return slices.DeleteFunc(leaves(config.Object), func(p fieldPath) bool { return !content(p) })
}

// content tells whether a field is more than the object's name and kind.
func content(p fieldPath) bool {
	switch p[0] {
	case "apiVersion", "kind", "status":
		return false
	case "metadata":
		return len(p) > 2 && (p[1] == "labels" || p[1] == "annotations")
	}
	return true
}

// isBody tells whether a field at the top of an object is its body, such as spec.
func isBody(key string) bool {
	switch key {
	case "apiVersion", "kind", "metadata", "status":
		return false
	}
	return true
}

// sameBody tells whether two objects have all but metadata and status alike.
func sameBody(a, b map[string]any) bool {
	for _, object := range []map[string]any{a, b} {
		for key := range object {
			if isBody(key) && !equalValues(a[key], b[key]) {
				return false
			}
		}
	}
	return true
}

// withBody is the object with all but metadata and status of another.
func withBody(object, body *unstructured.Unstructured) *unstructured.Unstructured {
	result := object.DeepCopy()
	maps.DeleteFunc(result.Object, func(key string, _ any) bool { return isBody(key) })
	for key, value := range body.Object {
		if isBody(key) {
			result.Object[key] = runtime.DeepCopyJSONValue(value)
		}
	}
	return result
}

// before is what stood in a field before the first apply.
type before struct {
	Path fieldPath `json:"path"`
	// Absent says that there was nothing.
	Absent bool `json:"absent,omitempty"`
	// Parent is a map that was not there and that leads to other fields of the record: it
	// goes when it is empty, and not with what others put into it.
	Parent bool `json:"parent,omitempty"`
	Value  any  `json:"value,omitempty"`
}

// capture notes what stands in the fields now.
func capture(object map[string]any, paths []fieldPath) []before {
	var noted []before
	add := func(b before) {
		if !slices.ContainsFunc(noted, func(n before) bool { return slices.Equal(n.Path, b.Path) }) {
			noted = append(noted, b)
		}
	}
	for _, path := range paths {
		for i := 1; i <= len(path); i++ {
			value, ok := lookup(object, path[:i])
			inner, isMap := value.(map[string]any)
			switch {
			case !ok:
				add(before{Path: path[:i], Absent: true, Parent: i < len(path)})
			case isMap && i < len(path) && inner != nil:
				continue
			case i < len(path):
				// A value stands where the path leads through: it is what gets lost.
				add(before{Path: path[:i], Value: runtime.DeepCopyJSONValue(value)})
			default:
				add(before{Path: path, Value: runtime.DeepCopyJSONValue(value)})
			}
			if ok {
				break
			}
		}
	}
	slices.SortFunc(noted, func(a, b before) int { return slices.Compare(a.Path, b.Path) })
	return noted
}

// addBefore takes in what is noted of further fields. What was noted first stays, and
// so does a whole that was noted of a part of it.
func addBefore(first, more []before) []before {
	result := slices.Clone(first)
	for _, b := range more {
		known := slices.ContainsFunc(first, func(f before) bool {
			return slices.Equal(f.Path, b.Path) || b.Path.below(f.Path) && !f.Parent
		})
		if !known {
			result = append(result, b)
		}
	}
	slices.SortFunc(result, func(a, b before) int { return slices.Compare(a.Path, b.Path) })
	return result
}

// restore is an object with the fields as they were before. Everything else stays.
func restore(object *unstructured.Unstructured, noted []before) *unstructured.Unstructured {
	result := object.DeepCopy()
	for _, b := range noted {
		switch {
		case b.Parent:
		case b.Absent:
			remove(result.Object, b.Path)
		default:
			put(result.Object, b.Path, b.Value)
		}
	}
	// Sorted, a map stands before what is in it.
	for _, b := range slices.Backward(noted) {
		if value, ok := lookup(result.Object, b.Path); b.Parent && ok {
			if inner, isMap := value.(map[string]any); isMap && len(inner) == 0 {
				remove(result.Object, b.Path)
			}
		}
	}
	return result
}
