package remediate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	sigsjson "sigs.k8s.io/json"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// A record says what to write and delete, so it is believed only as far as a set goes:
// who could change it must not make us touch anything else.

// policyKinds are the kinds that a set makes.
func policyKinds() []schema.GroupKind {
	return []schema.GroupKind{
		{Group: "kyverno.io", Kind: "Policy"},
		{Group: "kyverno.io", Kind: "ClusterPolicy"},
		{Group: "policies.kyverno.io", Kind: "ValidatingPolicy"},
		{Group: "policies.kyverno.io", Kind: "NamespacedValidatingPolicy"},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"},
		{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"},
		{Group: "security.kubearmor.com", Kind: "KubeArmorPolicy"},
		{Group: "security.kubearmor.com", Kind: "KubeArmorClusterPolicy"},
	}
}

// isNamespace tells whether the object is a namespace: of those a set only labels.
func (r Ref) isNamespace() bool { return r.GroupKind() == schema.GroupKind{Kind: "Namespace"} }

// inNamespace is the namespace that the object concerns, empty for others.
func (r Ref) inNamespace() string {
	if r.isNamespace() {
		return r.Name
	}
	return r.Namespace
}

// touchable tells whether a set may touch a field of an object.
func touchable(ref Ref, path fieldPath) bool {
	if len(path) == 0 {
		return false
	}
	if !ref.isNamespace() {
		return path[0] == "spec" || len(path) == 3 && (path[:2].isMarks("labels") || path[:2].isMarks("annotations"))
	}
	return len(path) == 3 && path[:2].isMarks("labels") &&
		(slices.Contains([]string{set.LabelManagedBy, set.LabelSet, set.LabelVersion}, path[2]) || strings.HasPrefix(path[2], "pod-security.kubernetes.io/"))
}

// isMarks tells whether the path is that of all labels, or all annotations.
func (p fieldPath) isMarks(which string) bool { return slices.Equal(p, fieldPath{"metadata", which}) }

// restorable tells whether a rollback may put back what was noted. Of all labels it may
// only be noted that there were none: they go when none is left.
func (b *before) restorable(ref Ref) bool {
	return touchable(ref, b.Path) || b.Parent && (b.Path.isMarks("labels") || b.Path.isMarks("annotations") && !ref.isNamespace())
}

// checkObject tells what keeps an object from being one of a set's.
func checkObject(ref Ref, setName string) error {
	if !ref.isNamespace() && !slices.Contains(policyKinds(), ref.GroupKind()) {
		return fmt.Errorf("%s: a set has nothing of this kind", ref)
	}
	if ref.Name == "" || len(validation.IsDNS1123Subdomain(ref.Name)) > 0 ||
		ref.Namespace != "" && len(validation.IsDNS1123Label(ref.Namespace)) > 0 {
		return fmt.Errorf("%s: no name of an object", ref)
	}
	if ns := ref.inNamespace(); slices.Contains(targets.Always(), ns) {
		return fmt.Errorf("%s: no set is for namespace %s", ref, ns)
	}
	if !ref.isNamespace() && ref.Name != setName && !strings.HasPrefix(ref.Name, setName+"-") {
		return fmt.Errorf("%s: the names of the set's objects begin with %q", ref, setName)
	}
	return nil
}

func checkStep(s *step, setName string) error {
	if err := checkObject(s.Object, setName); err != nil {
		return err
	}
	if s.Object.isNamespace() && !s.Existed {
		return fmt.Errorf("%s: a set makes no namespaces", s.Object)
	}
	if s.Existed && s.UID == "" {
		return fmt.Errorf("%s: without a UID it cannot be told from another", s.Object)
	}
	for i := range s.Before {
		if b := &s.Before[i]; !b.restorable(s.Object) {
			return fmt.Errorf("%s: a set does not touch %s", s.Object, b.Path)
		}
	}
	if s.Audit == nil && s.Enforce == nil {
		return fmt.Errorf("%s: neither an audit nor an enforce form", s.Object)
	}
	for _, f := range []*form{s.Audit, s.Enforce} {
		if f == nil {
			continue
		}
		want := &unstructured.Unstructured{Object: f.Want}
		if RefOf(want).key() != s.Object.key() {
			return fmt.Errorf("%s: its form is that of %s", s.Object, RefOf(want))
		}
		for _, path := range leaves(f.Want) {
			if content(path) && !touchable(s.Object, path) {
				return fmt.Errorf("%s: a set does not touch %s", s.Object, path)
			}
		}
	}
	return nil
}

// recordData gives the data of a ConfigMap of a record.
func recordData(object *unstructured.Unstructured, setName string) (map[string]string, error) {
	labels := object.GetLabels()
	if labels[set.LabelManagedBy] != set.ManagedBy || labels[set.LabelSet] != setName {
		return nil, fmt.Errorf("it is none of ours: it lacks the labels %s=%s and %s=%s", set.LabelManagedBy, set.ManagedBy, set.LabelSet, setName)
	}
	data, _, err := unstructured.NestedStringMap(object.Object, "data")
	if err != nil {
		return nil, err
	}
	if data == nil {
		data = map[string]string{}
	}
	return data, nil
}

// strictly decodes JSON that has no fields that we do not know and none twice.
func strictly(text string, into any) error {
	wrong, err := sigsjson.UnmarshalStrict([]byte(text), into)
	if err != nil {
		return err
	}
	return errors.Join(wrong...)
}

func decodeHead(text, setName string) (head, error) {
	if text == "" {
		return head{}, errors.New("it has no head")
	}
	// The version first: what a newer one means we cannot know.
	var version struct {
		Schema int `json:"schema"`
	}
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts([]byte(text), &version); err != nil {
		return head{}, fmt.Errorf("its head: %w", err)
	}
	if version.Schema > recordSchema {
		return head{}, fmt.Errorf("it has form %d, written by a newer version of this program: this one knows %d", version.Schema, recordSchema)
	}
	var h head
	if err := strictly(text, &h); err != nil {
		return head{}, fmt.Errorf("its head: %w", err)
	}
	switch {
	case h.Schema != recordSchema:
		return head{}, fmt.Errorf("it has form %d, which never was", h.Schema)
	case h.Set != setName:
		return head{}, fmt.Errorf("it is of set %q", h.Set)
	case !slices.Contains([]Phase{PhaseApplying, PhaseApplied, PhaseRollingBack}, h.Phase):
		return head{}, fmt.Errorf("phase %q is none", h.Phase)
	case h.Steps < 0:
		return head{}, fmt.Errorf("it has %d steps", h.Steps)
	}
	for _, stage := range h.Stages {
		if stage != StageAudit && stage != StageEnforce {
			return head{}, fmt.Errorf("stage %q is none", stage)
		}
	}
	return h, nil
}

// checkConfigMaps looks at the names of the record's other ConfigMaps: they are read
// and deleted.
func checkConfigMaps(h *head) error {
	if len(h.Parts) > maxParts || len(h.Stale) > 4*maxParts {
		return fmt.Errorf("it names %d parts and %d that are none any more", len(h.Parts), len(h.Stale))
	}
	prefix := recordName(h.Set) + "."
	for _, name := range append(slices.Clone(h.Parts), h.Stale...) {
		if !strings.HasPrefix(name, prefix) || len(validation.IsDNS1123Subdomain(name)) > 0 {
			return fmt.Errorf("%q is no name of a part", name)
		}
	}
	return nil
}

// decodeSteps gives the steps and where each object's is.
func decodeSteps(data map[string]string, h *head) ([]step, map[string]int, error) {
	if len(data) != h.Steps {
		return nil, nil, fmt.Errorf("it has %d steps and should have %d", len(data), h.Steps)
	}
	steps, places := make([]step, h.Steps), make(map[string]int, h.Steps)
	for i := range steps {
		text, ok := data[stepKey(i)]
		if !ok {
			return nil, nil, fmt.Errorf("%s is missing", stepKey(i))
		}
		if err := strictly(text, &steps[i]); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", stepKey(i), err)
		}
		if err := checkStep(&steps[i], h.Set); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", stepKey(i), err)
		}
		if steps[i].Round < 0 || steps[i].Round > h.Round {
			return nil, nil, fmt.Errorf("%s: it is of round %d, and there were %d", stepKey(i), steps[i].Round, h.Round)
		}
		key := steps[i].Object.key()
		if _, twice := places[key]; twice {
			return nil, nil, fmt.Errorf("%s: %s is there twice", stepKey(i), steps[i].Object)
		}
		places[key] = i
	}
	return steps, places, nil
}
