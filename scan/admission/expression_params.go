package admission

import (
	"errors"
	"fmt"
	"maps"
	"math"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// ParamQuery asks for the objects that a binding passes to its policy.
type ParamQuery struct {
	APIVersion, Kind string
	// Namespace is where to look if the kind is namespaced.
	Namespace string
	// Name names one object; where it is empty, Selector selects some.
	Name     string
	Selector labels.Selector
}

// Params finds parameters, as decoded JSON. An error says why they could not be
// read; none is for objects that are known not to exist.
type Params func(ParamQuery) ([]map[string]any, error)

// parameter is one that a policy is evaluated with.
type parameter struct {
	object map[string]any
	// unread is why there is no telling what it is.
	unread string
}

// collect finds the parameters of a binding for a pod of the namespace. The error is
// one for which the API server applies the failure policy.
func (p Params) collect(kind *admissionregistrationv1.ParamKind, ref *admissionregistrationv1.ParamRef, namespace string) ([]parameter, error) {
	if kind == nil || ref == nil {
		return []parameter{{}}, nil
	}
	query := ParamQuery{APIVersion: kind.APIVersion, Kind: kind.Kind, Namespace: namespace, Name: ref.Name}
	if ref.Namespace != "" {
		query.Namespace = ref.Namespace
	}
	switch {
	case ref.Name != "" && ref.Selector != nil:
		return nil, errors.New("paramRef.name and paramRef.selector are mutually exclusive")
	case ref.Name == "" && ref.Selector == nil:
		return nil, errors.New("one of name or selector must be provided")
	case ref.Name == "":
		var err error
		if query.Selector, err = selector(ref.Selector); err != nil {
			return nil, fmt.Errorf("paramRef.selector: %w", err)
		}
	}
	unread := fmt.Sprintf("parameters of kind %s were not read", kind.Kind)
	if p == nil {
		return []parameter{{unread: unread}}, nil
	}
	objects, err := p(query)
	if err != nil {
		return []parameter{{unread: fmt.Sprintf("%s: %v", unread, err)}}, nil
	}
	if len(objects) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction {
		return nil, errors.New("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	found := make([]parameter, len(objects))
	for i, object := range objects {
		// Lists of the API server leave out what all items have in common.
		whole := map[string]any{"apiVersion": kind.APIVersion, "kind": kind.Kind}
		maps.Copy(whole, object)
		found[i].object, _ = integers(whole).(map[string]any)
	}
	return found, nil
}

// integers gives JSON as the API server reads it: a number without a fraction is an
// integer, which CEL does not add to others.
func integers(value any) any {
	switch value := value.(type) {
	case float64:
		if value == math.Trunc(value) && math.Abs(value) < 1<<53 {
			return int64(value)
		}
		return value
	case []any:
		out := make([]any, len(value))
		for i := range value {
			out[i] = integers(value[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(value))
		for key := range value {
			out[key] = integers(value[key])
		}
		return out
	default:
		return value
	}
}
