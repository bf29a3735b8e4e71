package remediate

import (
	"bytes"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// owner is a manager of an object's fields, as the API server keeps account of them.
type owner struct {
	name string
	// applies says that it declares the fields, by server-side apply, and so will again;
	// others have only changed them.
	applies bool
	fields  *fieldpath.Set
}

// unowned is whom the API server calls the manager of fields that had none when
// somebody first applied the object. It is nobody.
const unowned = "before-first-apply"

// owners are the managers of an object without those of its status. Entries that
// cannot be read own nothing.
func owners(object *unstructured.Unstructured) []owner {
	var all []owner
	for _, entry := range object.GetManagedFields() {
		if entry.Subresource != "" || entry.FieldsV1 == nil || entry.Manager == unowned {
			continue
		}
		fields := &fieldpath.Set{}
		if fields.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())) != nil {
			continue
		}
		all = append(all, owner{entry.Manager, entry.Operation == metav1.ManagedFieldsOperationApply, fields})
	}
	return all
}

// ours tells whether the object has a field that we own.
func ours(object *unstructured.Unstructured) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager == FieldManager })
}

// body are the fields of a set outside of metadata and status.
func body(s *fieldpath.Set) *fieldpath.Set {
	result := &fieldpath.Set{}
	s.Leaves().Iterate(func(path fieldpath.Path) {
		if name := path[0].FieldName; name != nil && isBody(*name) {
			result.Insert(path)
		}
	})
	return result
}

// partner names a manager that has the object's body for its own too: it declares parts
// of it, or wrote before us what we apply as well. Who only changed what we applied is
// none: by that the field ceased to be ours.
func partner(object *unstructured.Unstructured) string {
	all := owners(object)
	own := &fieldpath.Set{}
	for _, o := range all {
		if o.name == FieldManager {
			own = own.Union(body(o.fields))
		}
	}
	for _, o := range all {
		if o.name == FieldManager {
			continue
		}
		if b := body(o.fields); o.applies && !b.Empty() || !b.Intersection(own).Empty() {
			return o.name
		}
	}
	return ""
}

// takenOver says why an object that we made is not ours any more, empty when it is.
func takenOver(object *unstructured.Unstructured, setName string) string {
	if object.GetLabels()[set.LabelSet] != setName {
		return "it does not carry the set's label any more"
	}
	if name := partner(object); name != "" {
		return name + " manages it too"
	}
	if !ours(object) && len(owners(object)) > 0 {
		return FieldManager + " is not among its managers any more"
	}
	return ""
}

// disown is the object without us among its managers.
func disown(object *unstructured.Unstructured) *unstructured.Unstructured {
	result := object.DeepCopy()
	if !ours(object) {
		return result
	}
	entries, _, _ := unstructured.NestedSlice(result.Object, "metadata", "managedFields")
	entries = slices.DeleteFunc(entries, func(e any) bool {
		entry, ok := e.(map[string]any)
		return ok && entry["manager"] == FieldManager
	})
	if len(entries) == 0 {
		// No entries would mean that the request says nothing of them. One that is empty
		// takes all away.
		entries = []any{map[string]any{}}
	}
	metadata, _ := result.Object["metadata"].(map[string]any)
	metadata["managedFields"] = entries
	return result
}

// responsible names the others who own any of the fields.
func responsible(object *unstructured.Unstructured, paths []fieldPath) []string {
	var names []string
	for _, o := range owners(object) {
		if o.name == FieldManager || slices.Contains(names, o.name) {
			continue
		}
		found := false
		// The set's own iterator cannot be ended early.
		o.fields.Leaves().Iterate(func(path fieldpath.Path) {
			named := namedPath(path)
			found = found || slices.ContainsFunc(paths, func(p fieldPath) bool { return named.below(p) || p.below(named) })
		})
		if found {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	return names
}

// namedPath is a path of the API server's as far as it leads through maps.
func namedPath(path fieldpath.Path) fieldPath {
	var names fieldPath
	for _, element := range path {
		if element.FieldName == nil {
			break
		}
		names = append(names, *element.FieldName)
	}
	return names
}
