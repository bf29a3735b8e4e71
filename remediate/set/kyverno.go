package set

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
)

// A Policy or ClusterPolicy of Kyverno's, as far as the set uses it.
type (
	kyvernoPolicy struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`

		Spec kyvernoSpec `json:"spec"`
	}
	kyvernoSpec struct {
		Admission  bool          `json:"admission"`
		Background bool          `json:"background"`
		Rules      []kyvernoRule `json:"rules"`
	}
	kyvernoRule struct {
		Name          string             `json:"name"`
		Match         kyvernoFilters     `json:"match"`
		Exclude       *kyvernoFilters    `json:"exclude,omitempty"`
		Preconditions *kyvernoConditions `json:"preconditions,omitempty"`
		Validate      kyvernoValidate    `json:"validate"`
	}
	kyvernoFilters struct {
		Any []kyvernoFilter `json:"any"`
	}
	kyvernoFilter struct {
		Resources kyvernoResources `json:"resources"`
	}
	kyvernoResources struct {
		Kinds      []string `json:"kinds,omitempty"`
		Namespaces []string `json:"namespaces,omitempty"`
	}
	kyvernoConditions struct {
		All []kyvernoCondition `json:"all"`
	}
	kyvernoCondition struct {
		Key      string `json:"key"`
		Operator string `json:"operator"`
		Value    bool   `json:"value"`
	}
	kyvernoValidate struct {
		FailureAction string             `json:"failureAction"`
		Message       string             `json:"message"`
		PodSecurity   kyvernoPodSecurity `json:"podSecurity"`
	}
	kyvernoPodSecurity struct {
		Level   string `json:"level"`
		Version string `json:"version"`
	}
)

// kyvernoNewest is the newest version that Kyverno's CRD takes, but for latest.
func kyvernoNewest() psa.Version { return psa.MajorMinorVersion(1, 32) }

// kyverno renders a Policy for each namespace, or one ClusterPolicy.
func (r *renderer) kyverno() ([]Object, error) {
	version, err := r.kyvernoVersion()
	if err != nil {
		return nil, err
	}
	r.note("Kyverno's ClusterPolicy and Policy are deprecated, and announced to go with Kyverno 1.20; kyverno-cel is what follows.")
	r.note("Kyverno lets updates of an object pass that violated before: what runs already is reported, and refused when it is made anew.")
	namespaces := sorted(r.opts.Scope.Namespaces)
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	var objects []Object
	for _, ns := range namespaces {
		object, err := r.opts.forms(PartAdmission, func(enforce bool) any { return r.kyvernoPolicy(ns, version, enforce) })
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func (r *renderer) kyvernoVersion() (string, error) {
	version, err := psa.ParseVersion(r.opts.PSSVersion)
	if err != nil {
		return "", fmt.Errorf("version of the Pod Security Standards: %w", err)
	}
	newest := kyvernoNewest()
	if version.Latest() || !newest.Older(version) {
		return version.String(), nil
	}
	r.note("Kyverno takes no version of the Pod Security Standards between %s and latest: latest stands for %s.", newest.String(), version.String())
	return psa.LatestVersion().String(), nil
}

// kyvernoPolicy has one rule for pods. Kyverno derives those for controllers from it
// only while it neither names other kinds nor selects by labels: the labels are asked
// for in preconditions, which Kyverno rewrites for the template of a controller.
// Where pods are matched, their ephemeral containers are, too.
func (r *renderer) kyvernoPolicy(namespace, version string, enforce bool) *kyvernoPolicy {
	action, kind := "Audit", "Policy"
	if enforce {
		action = "Enforce"
	}
	p := kyvernoRule{
		Name:  "pod-security",
		Match: kyvernoFilters{Any: []kyvernoFilter{{kyvernoResources{Kinds: []string{"Pod"}}}}},
		Validate: kyvernoValidate{
			FailureAction: action,
			Message:       fmt.Sprintf("Pod Security Standards, level %s: the pod could escape to its host", r.opts.Level),
			PodSecurity:   kyvernoPodSecurity{Level: string(r.opts.Level), Version: version},
		},
	}
	if namespace == "" {
		kind = "ClusterPolicy"
		p.Exclude = &kyvernoFilters{Any: []kyvernoFilter{{kyvernoResources{Namespaces: excluded(r.opts.Scope)}}}}
	}
	for _, key := range sortedKeys(r.opts.Scope.Labels) {
		if p.Preconditions == nil {
			p.Preconditions = &kyvernoConditions{}
		}
		// Compared inside of the expression, as the operator takes 1k and 1000 for equal,
		// and a label that is missing for an empty one.
		p.Preconditions.All = append(p.Preconditions.All, kyvernoCondition{
			Key:      fmt.Sprintf("{{ request.object.metadata.labels.%q == '%s' }}", key, r.opts.Scope.Labels[key]),
			Operator: "Equals", Value: true,
		})
	}
	return &kyvernoPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "kyverno.io/v1", Kind: kind},
		ObjectMeta: r.opts.meta(namespace, r.opts.Name+"-pod-security"),
		Spec:       kyvernoSpec{Admission: true, Background: true, Rules: []kyvernoRule{p}},
	}
}
