package set

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// marks are the labels of every object of the set.
func (o *Options) marks() map[string]string {
	return map[string]string{LabelManagedBy: ManagedBy, LabelSet: o.Name, LabelVersion: Version}
}

// meta names an object of the set and marks it.
func (o *Options) meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: o.marks()}
}

// toUnstructured turns a typed object into what is applied: without its status and
// without fields that hold nothing.
func toUnstructured(typed any) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(typed)
	if err != nil {
		return nil, fmt.Errorf("%T: %w", typed, err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("%T: %w", typed, err)
	}
	delete(u.Object, "status")
	prune(u.Object)
	return u, nil
}

// prune takes out what holds nothing, nulls included, from the leaves on. An empty text
// stays: it can be a label's value.
func prune(fields map[string]any) {
	for key, value := range fields {
		if hollow(value) {
			delete(fields, key)
		}
	}
}

// hollow prunes a value and tells whether nothing of it is left.
func hollow(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		prune(v)
		return len(v) == 0
	case []any:
		for _, item := range v {
			if m, ok := item.(map[string]any); ok {
				prune(m)
			}
		}
		return len(v) == 0
	}
	return false
}

// forms renders the audit and, unless the action is audit, the enforce form.
func (o *Options) forms(part Part, form func(enforce bool) any) (Object, error) {
	object := Object{Part: part}
	for _, enforce := range []bool{false, true} {
		if enforce && o.Action == ActionAudit {
			break
		}
		typed := form(enforce)
		if typed == nil {
			continue
		}
		u, err := toUnstructured(typed)
		if err != nil {
			return Object{}, err
		}
		if enforce {
			object.Enforce = u
		} else {
			object.Audit = u
		}
	}
	return object, nil
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
