package set

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// needs is the kind, in the version that is written, without which a mechanism cannot be used for a scope; ok is false
// where every API server has what it takes.
func (a Admission) needs(scope targets.Scope) (kind schema.GroupVersionKind, ok bool) {
	named := len(scope.Namespaces) > 0
	switch a {
	case AdmissionKyverno:
		if named {
			return schema.GroupVersionKind{Group: "kyverno.io", Version: "v1", Kind: "Policy"}, true
		}
		return schema.GroupVersionKind{Group: "kyverno.io", Version: "v1", Kind: "ClusterPolicy"}, true
	case AdmissionKyvernoCEL:
		if named {
			// Kyverno has it later than the other.
			return schema.GroupVersionKind{Group: "policies.kyverno.io", Version: "v1", Kind: "NamespacedValidatingPolicy"}, true
		}
		return schema.GroupVersionKind{Group: "policies.kyverno.io", Version: "v1", Kind: "ValidatingPolicy"}, true
	case AdmissionVAP:
		return schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingAdmissionPolicy"}, true
	case AdmissionAuto, AdmissionPSA, AdmissionNone:
	}
	return schema.GroupVersionKind{}, false
}

// Choose settles which mechanism rules on admission, by the kinds that the API server
// serves, and says why. Without served, as for a file, auto is an error and all others
// stand as they are asked for.
func Choose(asked Admission, served func(schema.GroupVersionKind) bool, scope targets.Scope) (Admission, string, error) {
	if err := oneOf("admission", asked, Admissions()...); err != nil {
		return "", "", err
	}
	if asked == AdmissionAuto {
		return automatic(served, scope)
	}
	if kind, ok := asked.needs(scope); ok && served != nil && !served(kind) {
		return "", "", fmt.Errorf("admission %s: the API server serves no %s in version %s: install what brings it, or choose another", asked, kind.GroupKind(), kind.Version)
	}
	return asked, "it was asked for", nil
}

func automatic(served func(schema.GroupVersionKind) bool, scope targets.Scope) (Admission, string, error) {
	if served == nil {
		return "", "", fmt.Errorf("admission auto: what the API server serves decides, and none is asked; choose one of %s", join(Admissions()[1:]))
	}
	has := func(a Admission) bool {
		kind, _ := a.needs(scope)
		return served(kind)
	}
	policy, _ := AdmissionKyvernoCEL.needs(scope)
	switch {
	case has(AdmissionKyvernoCEL):
		return AdmissionKyvernoCEL, "Kyverno serves " + policy.Kind + ", which reports on running pods too and is not deprecated", nil
	case has(AdmissionVAP):
		return AdmissionVAP, "no " + policy.Kind + " of Kyverno's is served, and the API server itself evaluates ValidatingAdmissionPolicy", nil
	case len(scope.Labels) == 0:
		return AdmissionPSA, "neither Kyverno's ValidatingPolicy nor ValidatingAdmissionPolicy is served, and pod-security labels need nothing installed", nil
	case has(AdmissionKyverno):
		return AdmissionKyverno, "pods are chosen by labels, and of what can choose so the API server serves Kyverno's ClusterPolicy only, which is deprecated", nil
	}
	return "", "", errors.New("admission auto: pods are chosen by labels, and the API server serves nothing that can choose so: neither ValidatingPolicy (policies.kyverno.io), ValidatingAdmissionPolicy nor ClusterPolicy (kyverno.io)")
}
