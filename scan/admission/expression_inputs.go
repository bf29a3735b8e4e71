package admission

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	plugincel "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// values are those of the variables that expressions read.
type values struct {
	object, oldObject, params, request, namespace, exceptions, variables any
}

// ResolveName finds a variable's value.
func (v *values) ResolveName(name string) (any, bool) {
	switch name {
	case plugincel.ObjectVarName:
		return v.object, true
	case plugincel.OldObjectVarName:
		return v.oldObject, true
	case plugincel.ParamsVarName:
		return v.params, true
	case plugincel.RequestVarName:
		return v.request, true
	case plugincel.NamespaceVarName:
		return v.namespace, true
	case exceptionsVariable:
		return v.exceptions, true
	case plugincel.VariableVarName:
		return v.variables, true
	}
	return nil, false
}

// Parent is none.
func (v *values) Parent() cel.Activation { return nil }

// gap is a variable, or a field of one, that is not known, and why.
type gap struct {
	name, why string
	pattern   *cel.AttributePatternType
}

func newGap(name, why string) gap {
	if name == plugincel.RequestResourceAuthorizerVarName {
		// A variable's name, dot and all.
		return gap{name, why, cel.AttributePattern(name)}
	}
	root, rest, _ := strings.Cut(name, ".")
	pattern := cel.AttributePattern(root)
	if rest != "" {
		for field := range strings.SplitSeq(rest, ".") {
			pattern = pattern.QualString(field)
		}
	}
	return gap{name, why, pattern}
}

// inputs are what expressions read, with the gaps in it.
type inputs struct {
	values values
	gaps   []gap
}

// findGaps lists what is never known before a pod is created: by whom, how, and what
// creation fills in; and the variables that do not compile.
func (p *program) findGaps() {
	const user = "who will create the pod is not known, and it depends on "
	p.gaps = []gap{
		newGap("request.userInfo", user+"request.userInfo"),
		newGap("request.options", "how the pod will be created is not known, and it depends on request.options"),
		newGap(plugincel.AuthorizerVarName, user+"what the authorizer allows that user"),
		newGap(plugincel.RequestResourceAuthorizerVarName, user+"what the authorizer allows that user"),
	}
	slices.Sort(p.filled)
	for _, field := range slices.Compact(p.filled) {
		p.gaps = append(p.gaps, newGap("object."+field, fmt.Sprintf("object.%s is filled in when the pod is created", field)))
	}
	for _, name := range slices.Sorted(maps.Keys(p.broken)) {
		p.gaps = append(p.gaps, newGap("variables."+name, p.broken[name]))
	}
	p.gaps = slices.Clip(p.gaps)
}

// newInputs gives what expressions read of the request that creates the pod, or puts
// its ephemeral containers into it.
func newInputs(s Subject, p *program) inputs {
	in := inputs{
		values: values{
			object:    common.SchemalessTypedToVal(created(s.Pod)),
			oldObject: types.NullValue,
			params:    types.NullValue,
			request:   common.SchemalessTypedToVal(request(s)),
			namespace: types.NullValue,
		},
		gaps: p.gaps,
	}
	if s.Debugged {
		before := created(s.Pod)
		before.Spec.EphemeralContainers = nil
		in.values.oldObject = common.SchemalessTypedToVal(before)
	}
	if s.Pod.Name == "" {
		const why = "the name will be made up by the API server"
		in.gaps = append(in.gaps, newGap("request.name", why), newGap("object.metadata.name", why))
	}
	if s.Namespace == nil {
		in.gaps = append(in.gaps, newGap(plugincel.NamespaceVarName, "the namespace was not read: "+s.NamespaceUnknown))
		return in
	}
	in.values.namespace = common.SchemalessTypedToVal(plugincel.CreateNamespaceObject(s.Namespace))
	return in
}

// with gives the inputs with a parameter.
func (in inputs) with(param parameter) inputs {
	if param.unread != "" {
		in.gaps = append(slices.Clip(in.gaps), newGap(plugincel.ParamsVarName, param.unread))
	}
	if param.object != nil {
		in.values.params = types.DefaultTypeAdapter.NativeToValue(param.object)
	}
	return in
}

// withoutNamespace gives the inputs as match conditions see them: the API server
// passes them no namespace.
func (in inputs) withoutNamespace() inputs {
	in.values.namespace = types.NullValue
	in.gaps = slices.DeleteFunc(slices.Clone(in.gaps), func(g gap) bool { return g.name == plugincel.NamespaceVarName })
	return in
}

// start begins a run within a budget.
func (p *program) start(in inputs, budget int64) (*run, error) {
	patterns := make([]*cel.AttributePatternType, len(in.gaps))
	for i := range in.gaps {
		patterns[i] = in.gaps[i].pattern
	}
	held := in.values
	partial, err := cel.PartialVars(&held, patterns...)
	if err != nil {
		return nil, err
	}
	r := &run{context: p.compiler.CreateContext(forever{}), inputs: partial, gaps: in.gaps, budget: budget}
	held.variables = r.context.Variables(partial)
	return r, nil
}

// created is the pod as admission sees it: not what only a pod has that exists.
func created(pod *corev1.Pod) *corev1.Pod {
	out := *pod
	out.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	out.Status = corev1.PodStatus{}
	out.UID, out.ResourceVersion, out.Generation = "", "", 0
	out.CreationTimestamp, out.ManagedFields = metav1.Time{}, nil
	out.DeletionTimestamp, out.DeletionGracePeriodSeconds = nil, nil
	return &out
}

// request is the one that creates the pod, or puts its ephemeral containers into it.
func request(s Subject) *admissionv1.AdmissionRequest {
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	r := &admissionv1.AdmissionRequest{
		Kind: kind, RequestKind: &kind, Resource: resource, RequestResource: &resource,
		Name: s.Pod.Name, Namespace: s.Pod.Namespace, Operation: admissionv1.Create, DryRun: new(bool),
	}
	if s.Debugged {
		const sub = "ephemeralcontainers"
		r.Operation, r.SubResource, r.RequestSubResource = admissionv1.Update, sub, sub
	}
	return r
}
