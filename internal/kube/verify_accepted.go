package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// acceptance tells from an object of the kind whether what acts on it has accepted it,
// nil for kinds of which nobody tells.
func acceptance(ref remediate.Ref) func(*unstructured.Unstructured) (answer, bool) {
	kind := ref.GroupKind()
	switch {
	case kind.Group == admissionregistrationv1.GroupName && kind.Kind == "ValidatingAdmissionPolicy":
		return typeChecked
	case kind.Group == "kyverno.io" || kind.Group == "policies.kyverno.io":
		return kyvernoReady
	}
	return nil
}

// typeChecked reads what the controller manager says of a policy's expressions.
func typeChecked(object *unstructured.Unstructured) (answer, bool) {
	var policy admissionregistrationv1.ValidatingAdmissionPolicy
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &policy); err != nil {
		return answer{kernel.Unknown, err.Error()}, true
	}
	checked := policy.Status.TypeChecking
	if checked == nil || policy.Status.ObservedGeneration < policy.Generation {
		return answer{kernel.Unknown, "its expressions have not been type-checked: the controller manager, which does that, has not come to it"}, false
	}
	if len(checked.ExpressionWarnings) > 0 {
		var warnings []string
		for _, w := range checked.ExpressionWarnings {
			warnings = append(warnings, w.FieldRef+": "+strings.Join(strings.Fields(w.Warning), " "))
		}
		return answer{kernel.No, "the type check of its expressions complains: " + shorten(strings.Join(warnings, "; "), maxAnswer)}, true
	}
	return answer{kernel.Yes, "its expressions are type-checked, without warnings"}, true
}

// reports is the condition that tells whether Kyverno's background scan has the rights
// that it needs. Admission does without.
const reports = "RBACPermissionsGranted"

// kyvernoReady reads what Kyverno says of its policy, which stands in status.conditions
// of the policies of kyverno.io and in status.conditionStatus of the others.
func kyvernoReady(object *unstructured.Unstructured) (answer, bool) {
	var policy struct {
		Status struct {
			Conditions      []metav1.Condition `json:"conditions"`
			ConditionStatus struct {
				Ready      *bool              `json:"ready"`
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"conditionStatus"`
		} `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &policy); err != nil {
		return answer{kernel.Unknown, err.Error()}, true
	}
	cel := policy.Status.ConditionStatus
	conditions := slices.Concat(policy.Status.Conditions, cel.Conditions)
	conditions = slices.DeleteFunc(conditions, func(c metav1.Condition) bool {
		return c.Type == reports || c.ObservedGeneration != 0 && c.ObservedGeneration < object.GetGeneration()
	})
	for _, c := range conditions {
		if c.Status != metav1.ConditionTrue {
			return answer{kernel.No, fmt.Sprintf("Kyverno says that %s is %s: %s", c.Type, c.Status, shorten(cmp.Or(c.Message, c.Reason, "and no more"), maxAnswer))}, false
		}
	}
	switch {
	case len(conditions) > 0, cel.Ready != nil && *cel.Ready:
		return answer{kernel.Yes, "Kyverno says that it is ready"}, true
	case cel.Ready != nil:
		return answer{kernel.No, "Kyverno says that it is not ready"}, false
	}
	return answer{kernel.Unknown, "Kyverno has said nothing of it: is its controller running?"}, false
}
