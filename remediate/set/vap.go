package set

import (
	"fmt"
	"maps"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// renderVAP renders the standards as ValidatingAdmissionPolicies with their bindings:
// one pair for pods and one for whatever has a template of pods.
func renderVAP(o Options) ([]Object, []string, error) {
	version, notes, err := parseStandards(o.PSSVersion)
	if err != nil {
		return nil, nil, err
	}
	rules := standards(o.Level, version)
	var objects []Object
	for _, policy := range []*admissionregistrationv1.ValidatingAdmissionPolicy{
		podsVAP(o, rules, title(o.Level, version)), templatesVAP(o, rules, title(o.Level, version)),
	} {
		object, err := o.forms(PartAdmission, func(bool) any { return policy })
		if err != nil {
			return nil, nil, err
		}
		binding, err := o.forms(PartAdmission, func(enforce bool) any { return bindingVAP(o, policy.Name, enforce) })
		if err != nil {
			return nil, nil, err
		}
		objects = append(objects, object, binding)
	}
	return objects, notes, nil
}

// podsVAP judges pods when they are created, and again when the API server's own
// plugin would.
func podsVAP(o Options, rules []rule, title string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	changed := "request.operation != 'UPDATE' ||\n" + significant()
	if len(o.Scope.Labels) > 0 {
		// A pod that gets the labels comes into scope.
		changed += " ||\n!(" + labelled("oldObject.metadata.?labels", o.Scope.Labels) + ")"
	}
	policy := newVAP(o, o.Name, rules, roots{spec: "dyn(object.spec)", annotations: "object.metadata.?annotations.orValue({})"}, title)
	policy.Spec.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "changed", Expression: changed}}
	policy.Spec.MatchConstraints.ResourceRules = []admissionregistrationv1.NamedRuleWithOperations{
		whenChanged("", corev1.ResourcePods.String(), "pods/ephemeralcontainers"),
	}
	return policy
}

// templatesVAP judges templates of pods, so that a Deployment is refused and not only
// its pods, where nobody looks.
func templatesVAP(o Options, rules []rule, title string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	policy := newVAP(o, o.Name+"-templates", rules, roots{
		before:      []admissionregistrationv1.Variable{{Name: "template", Expression: template("object") + ".orValue({})"}},
		spec:        "variables.template.?spec.orValue({})",
		annotations: "variables.template.?metadata.?annotations.orValue({})",
	}, title)
	// Not every ReplicationController has a template.
	conditions := []admissionregistrationv1.MatchCondition{
		{Name: "has-template", Expression: "(" + template("object") + ").hasValue()"},
		{Name: "changed", Expression: "request.operation != 'UPDATE' ||\n" + template("object") + " !=\n  " + template("oldObject")},
	}
	if len(o.Scope.Labels) > 0 {
		conditions = append(conditions, admissionregistrationv1.MatchCondition{
			Name: "labels", Expression: labelled("("+template("object")+").?metadata.?labels", o.Scope.Labels),
		})
	}
	policy.Spec.MatchConditions = conditions
	policy.Spec.MatchConstraints.ResourceRules = []admissionregistrationv1.NamedRuleWithOperations{
		whenChanged("", "podtemplates", "replicationcontrollers"),
		whenChanged("apps", "daemonsets", "deployments", "replicasets", "statefulsets"),
		whenChanged("batch", "cronjobs", "jobs"),
	}
	return policy
}

// template is the optional pod template of an object of any kind that has one: a
// PodTemplate's, a CronJob's, or that of all others.
func template(object string) string {
	return fmt.Sprintf("dyn(%[1]s).?template.or(dyn(%[1]s).?spec.?jobTemplate.?spec.?template).or(dyn(%[1]s).?spec.?template)", object)
}

func newVAP(o Options, name string, rules []rule, from roots, title string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: o.meta("", name),
	}
	policy.Spec.FailurePolicy = new(admissionregistrationv1.Fail)
	policy.Spec.MatchConstraints = &admissionregistrationv1.MatchResources{}
	policy.Spec.Variables, policy.Spec.Validations = together(rules, from, title)
	return policy
}

func whenChanged(group string, resources ...string) admissionregistrationv1.NamedRuleWithOperations {
	return admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources},
	}}
}

// bindingVAP puts a policy into force where the scope says.
func bindingVAP(o Options, policy string, enforce bool) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: o.meta("", policy),
	}
	binding.Spec.PolicyName = policy
	binding.Spec.MatchResources = &admissionregistrationv1.MatchResources{NamespaceSelector: namespaceSelector(o.Scope)}
	if policy == o.Name && len(o.Scope.Labels) > 0 {
		binding.Spec.MatchResources.ObjectSelector = &metav1.LabelSelector{MatchLabels: maps.Clone(o.Scope.Labels)}
	}
	binding.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn, admissionregistrationv1.Audit}
	if enforce {
		binding.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny, admissionregistrationv1.Audit}
	}
	return binding
}

// namespaceSelector selects the namespaces of a scope by their names: those that are
// named, or all but those that are left out.
func namespaceSelector(s targets.Scope) *metav1.LabelSelector {
	requirement := metav1.LabelSelectorRequirement{
		Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpIn, Values: sorted(s.Namespaces),
	}
	if len(s.Namespaces) == 0 {
		requirement.Operator, requirement.Values = metav1.LabelSelectorOpNotIn, excluded(s)
	}
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{requirement}}
}
