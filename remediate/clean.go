package remediate

import (
	"maps"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// serverFields are the fields of metadata that only the server writes.
var serverFields = [...]string{
	"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink",
	"deletionTimestamp", "deletionGracePeriodSeconds",
}

// clean is a copy of an object without what only the server or a controller writes:
// what is left is what a user means by "the object". It is nil for nil.
func clean(object *unstructured.Unstructured) *unstructured.Unstructured {
	if object == nil {
		return nil
	}
	content := maps.Clone(object.Object)
	delete(content, "status")
	if metadata, ok := content["metadata"].(map[string]any); ok {
		metadata = maps.Clone(metadata)
		for _, field := range serverFields {
			delete(metadata, field)
		}
		content["metadata"] = metadata
	}
	if object.GetAPIVersion() == "v1" && object.GetKind() == "Namespace" {
		// The namespace controller's list of finalizers, nobody else's.
		delete(content, "spec")
	}
	return (&unstructured.Unstructured{Object: content}).DeepCopy()
}
