package scan

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds that are read whole, as JSON.
var (
	kindKSP        = schema.GroupKind{Group: "security.kubearmor.com", Kind: "KubeArmorPolicy"}
	kindCSP        = schema.GroupKind{Group: "security.kubearmor.com", Kind: "KubeArmorClusterPolicy"}
	kindKyverno    = schema.GroupKind{Group: "kyverno.io", Kind: "ClusterPolicy"}
	kindKyvernoNS  = schema.GroupKind{Group: "kyverno.io", Kind: "Policy"}
	kindException  = schema.GroupKind{Group: "kyverno.io", Kind: "PolicyException"}
	kindValidating = schema.GroupKind{Group: "policies.kyverno.io", Kind: "ValidatingPolicy"}
	kindValidNS    = schema.GroupKind{Group: "policies.kyverno.io", Kind: "NamespacedValidatingPolicy"}
	kindCELExcept  = schema.GroupKind{Group: "policies.kyverno.io", Kind: "PolicyException"}
	kindVAP        = schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}
	kindVAPBinding = schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}
)

// ObjectKinds are the kinds of which a scan reads whole objects.
func ObjectKinds() []schema.GroupKind {
	return []schema.GroupKind{
		kindKSP, kindCSP, kindKyverno, kindKyvernoNS, kindException,
		kindValidating, kindValidNS, kindCELExcept, kindVAP, kindVAPBinding,
	}
}

// ReadsObjects reports whether a scan reads whole objects of the kind.
func ReadsObjects(kind schema.GroupKind) bool { return slices.Contains(ObjectKinds(), kind) }
