package admission

import (
	"fmt"
	"maps"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// inputs are the values that expressions read, and why others are not known.
type inputs struct {
	values  map[string]any
	reasons map[string]string
}

// newInputs gives what expressions read of the request that creates the pod. Nobody
// knows who will create it.
func newInputs(s Subject, p *program) inputs {
	in := inputs{
		values: map[string]any{
			plugincel.ObjectVarName:    common.SchemalessTypedToVal(created(s.Pod)),
			plugincel.OldObjectVarName: types.NullValue,
			plugincel.ParamsVarName:    types.NullValue,
			plugincel.RequestVarName:   common.SchemalessTypedToVal(creation(s.Pod)),
		},
		reasons: map[string]string{
			"request.userInfo": "who will create the pod is not known, and it depends on request.userInfo",
			"request.options":  "how the pod will be created is not known, and it depends on request.options",
			plugincel.AuthorizerVarName: "who will create the pod is not known, and it depends on " +
				"what the authorizer allows that user",
			plugincel.RequestResourceAuthorizerVarName: "who will create the pod is not known, and it depends on " +
				"what the authorizer allows that user",
		},
	}
	if s.Pod.Name == "" {
		in.reasons["request.name"] = "the name will be made up by the API server"
		in.reasons["object.metadata.name"] = in.reasons["request.name"]
	}
	for _, field := range p.filled {
		in.reasons["object."+field] = fmt.Sprintf("object.%s is filled in when the pod is created", field)
	}
	for name, why := range p.broken {
		in.reasons["variables."+name] = why
	}
	if s.Namespace == nil {
		in.reasons[plugincel.NamespaceVarName] = "the namespace was not read: " + s.NamespaceUnknown
		return in
	}
	in.values[plugincel.NamespaceVarName] = common.SchemalessTypedToVal(plugincel.CreateNamespaceObject(s.Namespace))
	return in
}

// with gives the inputs with other parameters.
func (in inputs) with(params map[string]any, unread string) inputs {
	out := inputs{values: maps.Clone(in.values), reasons: maps.Clone(in.reasons)}
	if unread != "" {
		out.reasons[plugincel.ParamsVarName] = unread
	}
	if params != nil {
		out.values[plugincel.ParamsVarName] = types.DefaultTypeAdapter.NativeToValue(params)
	}
	return out
}

// withoutNamespace gives the inputs as match conditions see them: the API server
// passes them no namespace.
func (in inputs) withoutNamespace() inputs {
	out := inputs{values: maps.Clone(in.values), reasons: maps.Clone(in.reasons)}
	delete(out.reasons, plugincel.NamespaceVarName)
	out.values[plugincel.NamespaceVarName] = types.NullValue
	return out
}

// start begins a run within a budget.
func (p *program) start(in inputs, budget int64) (*run, error) {
	var patterns []*cel.AttributePatternType
	for name := range in.reasons {
		if name == plugincel.RequestResourceAuthorizerVarName {
			patterns = append(patterns, cel.AttributePattern(name))
			continue
		}
		parts := strings.Split(name, ".")
		pattern := cel.AttributePattern(parts[0])
		for _, part := range parts[1:] {
			pattern = pattern.QualString(part)
		}
		patterns = append(patterns, pattern)
	}
	values := maps.Clone(in.values)
	partial, err := cel.PartialVars(values, patterns...)
	if err != nil {
		return nil, err
	}
	r := &run{program: p, context: p.compiler.CreateContext(forever{}), inputs: partial, reasons: in.reasons, budget: budget}
	values[plugincel.VariableVarName] = r.context.Variables(partial)
	return r, nil
}

// created is the pod as admission sees it: not what only a pod has that exists.
func created(pod *corev1.Pod) *corev1.Pod {
	out := *pod
	out.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	out.Status = corev1.PodStatus{}
	out.UID, out.ResourceVersion, out.SelfLink, out.Generation = "", "", "", 0
	out.CreationTimestamp, out.ManagedFields = metav1.Time{}, nil
	out.DeletionTimestamp, out.DeletionGracePeriodSeconds = nil, nil
	return &out
}

// creation is the request that creates a pod.
func creation(pod *corev1.Pod) *admissionv1.AdmissionRequest {
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	return &admissionv1.AdmissionRequest{
		Kind: kind, RequestKind: &kind, Resource: resource, RequestResource: &resource,
		Name: pod.Name, Namespace: pod.Namespace, Operation: admissionv1.Create, DryRun: new(bool),
	}
}
