package set

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// validatingPolicy is what is written of a ValidatingPolicy or NamespacedValidatingPolicy of
// the group policies.kyverno.io.
type validatingPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              validatingPolicySpec `json:"spec"`
}

type validatingPolicySpec struct {
	FailurePolicy     admissionregistrationv1.FailurePolicyType  `json:"failurePolicy"`
	Evaluation        policyEvaluation                           `json:"evaluation"`
	Autogen           *policyAutogen                             `json:"autogen,omitempty"`
	MatchConstraints  *admissionregistrationv1.MatchResources    `json:"matchConstraints"`
	ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
	Variables         []admissionregistrationv1.Variable         `json:"variables"`
	Validations       []admissionregistrationv1.Validation       `json:"validations"`
}

// policyEvaluation says when a policy is asked.
type policyEvaluation struct {
	Admission  switched `json:"admission"`
	Background switched `json:"background"`
}

type switched struct {
	Enabled bool `json:"enabled"`
}

// policyAutogen says for which controllers Kyverno rewrites a policy for pods.
type policyAutogen struct {
	PodControllers struct {
		Controllers []string `json:"controllers"`
	} `json:"podControllers"`
}

// renderKyvernoCEL renders the standards as policies of Kyverno's in CEL: one a control, and
// one with all of them for ephemeral containers, as a policy that Kyverno rewrites for
// controllers may match nothing but pods.
func renderKyvernoCEL(o Options) ([]Object, []string, error) {
	version, notes, err := parseStandards(o.PSSVersion)
	if err != nil {
		return nil, nil, err
	}
	namespaces := sorted(o.Scope.Namespaces)
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	var objects []Object
	for _, namespace := range namespaces {
		for _, policy := range kyvernoPolicies(o, standards(o.Level, version), title(o.Level, version)) {
			if policy.Namespace = namespace; namespace == "" {
				policy.Spec.MatchConstraints.NamespaceSelector = namespaceSelector(o.Scope)
			} else {
				policy.Kind = "NamespacedValidatingPolicy"
			}
			object, err := o.forms(PartAdmission, policy.form)
			if err != nil {
				return nil, nil, err
			}
			objects = append(objects, object)
		}
	}
	notes = append(notes, "Kyverno rewrites policies in CEL for Deployments, DaemonSets, StatefulSets, ReplicaSets, Jobs and CronJobs. "+
		"A ReplicationController or PodTemplate passes, and its pods are refused.")
	if len(o.Scope.Labels) > 0 {
		notes = append(notes, "Kyverno's reports say \"pass\" of pods that do not carry the labels.")
	}
	return objects, notes, nil
}

// form is the policy as it audits or enforces.
func (p *validatingPolicy) form(enforce bool) any {
	p.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
	if enforce {
		p.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	}
	return p
}

func kyvernoPolicies(o Options, rules []rule, title string) []*validatingPolicy {
	from := roots{
		before:      []admissionregistrationv1.Variable{{Name: "exempt", Expression: exempt(o)}},
		spec:        "object.spec",
		annotations: "object.metadata.?annotations.orValue({})",
	}
	var policies []*validatingPolicy
	for _, r := range rules {
		expression := "variables.exempt ||\n(" + r.expression + ")"
		policy := newValidatingPolicy(o, ending(r.id), whenChanged("", "pods"))
		policy.Spec.Evaluation.Background.Enabled = true
		policy.Spec.Autogen = &policyAutogen{}
		policy.Spec.Autogen.PodControllers.Controllers = []string{"cronjobs", "daemonsets", "deployments", "jobs", "replicasets", "statefulsets"}
		policy.Spec.Variables = needed(from.shared(), expression)
		policy.Spec.Validations = []admissionregistrationv1.Validation{{Expression: expression, Message: title + ": " + r.id + ": " + r.message}}
		policies = append(policies, policy)
	}
	added := whenChanged("", "pods/ephemeralcontainers")
	added.Operations = []admissionregistrationv1.OperationType{admissionregistrationv1.Update}
	policy := newValidatingPolicy(o, "ephemeral-containers", added)
	policy.Spec.Variables, policy.Spec.Validations = together(rules, from, title)
	policy.Spec.Variables = append(needed(from.before, "variables.exempt"), policy.Spec.Variables...)
	policy.Spec.Validations[0].Expression = "variables.exempt || " + policy.Spec.Validations[0].Expression
	return append(policies, policy)
}

func newValidatingPolicy(o Options, name string, match admissionregistrationv1.NamedRuleWithOperations) *validatingPolicy {
	return &validatingPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policies.kyverno.io/v1", Kind: "ValidatingPolicy"},
		ObjectMeta: o.meta("", o.Name+"-"+name),
		Spec: validatingPolicySpec{
			FailurePolicy:    admissionregistrationv1.Fail,
			Evaluation:       policyEvaluation{Admission: switched{true}},
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{match}},
		},
	}
}

// exempt tells of what is not judged: an update that changes nothing which matters, and
// what does not carry the labels.
//
// It is part of the validations, and no match condition: Kyverno makes a webhook of its own
// for each policy that has one, and the configuration with all of them would outgrow what
// an API server stores. For controllers Kyverno puts the path of the template in the place
// of object.spec and object.metadata, whatever stands around: so the kind tells a pod, in
// which little can change, from a template.
func exempt(o Options) string {
	pod := "!(\n" + significant() + ")"
	same := make([]string, 0, 3)
	for _, field := range []string{"spec", "metadata.?annotations", "metadata.?labels"} {
		same = append(same, fmt.Sprintf("object.%[1]s == oldObject.%[1]s", field))
	}
	labels := o.Scope.Labels
	if len(labels) > 0 {
		// A pod that gets the labels comes into scope.
		pod += " &&\n" + labelled("oldObject.metadata.?labels", labels)
	}
	expression := "request.operation == 'UPDATE' && (object.kind == 'Pod' ?\n" + pod + " :\n" + strings.Join(same, " &&\n") + ")"
	if len(labels) > 0 {
		expression += " ||\n!(" + labelled("object.metadata.?labels", labels) + ")"
	}
	return expression
}

// ending writes the ID of a control as the name of an object may end. Kyverno makes keys
// of labels of the names, which must be short.
func ending(id string) string { return strings.ToLower(strings.ReplaceAll(id, "_", "-")) }
