package admission

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Faults are the reasons why the policy does not do what it says, whatever the pod.
func (p *ValidatingPolicy) Faults() []Toothless {
	if !p.forPods() {
		return nil
	}
	if fault := p.disabled(); fault != nil {
		return []Toothless{*fault}
	}
	if fault := p.autogenFault(); fault != nil {
		return []Toothless{*fault}
	}
	return nil
}

// disabled is why the policy refuses nothing at admission.
func (p *ValidatingPolicy) disabled() *Toothless {
	name := p.Ref().String()
	if enabled := p.object.Spec.Evaluation.Admission.Enabled; enabled != nil && !*enabled {
		return &Toothless{
			Cause:  CauseKyvernoNotReady,
			Reason: "spec.evaluation.admission.enabled is false, so it is not asked when pods are created",
			Mend:   fmt.Sprintf("Set spec.evaluation.admission.enabled: true in %s.", name),
		}
	}
	if why := p.notReady(); why != "" {
		return &Toothless{
			Cause:  CauseKyvernoNotReady,
			Reason: "Kyverno's own status says that it is not in force: " + why,
			Mend:   fmt.Sprintf("See status.conditionStatus of %s and the log of Kyverno's admission controller.", name),
		}
	}
	if !p.denies() {
		actions := make([]string, len(p.object.Spec.ValidationActions))
		for i, action := range p.object.Spec.ValidationActions {
			actions[i] = string(action)
		}
		return &Toothless{
			Cause:  CauseKyvernoAudit,
			Reason: fmt.Sprintf("validationActions: [%s] refuses nothing", strings.Join(actions, ", ")),
			Mend:   fmt.Sprintf("Set validationActions: [Deny] in %s.", name),
		}
	}
	return nil
}

// notReady is why Kyverno itself does not ask the policy. Rights that only its
// background scan lacks do not matter.
func (p *ValidatingPolicy) notReady() string {
	status := p.object.Status.ConditionStatus
	for _, condition := range status.Conditions {
		if condition.Status != metav1.ConditionFalse || condition.Type == "RBACPermissionsGranted" {
			continue
		}
		return fmt.Sprintf("%s is False: %s", condition.Type, condition.Message)
	}
	if status.Ready != nil && !*status.Ready && len(status.Conditions) == 0 {
		return "ready is false"
	}
	return ""
}

func (p *ValidatingPolicy) excludedBy(x *celException) *Toothless {
	name := x.Metadata.Namespace + "/" + x.Metadata.Name
	return &Toothless{
		Cause:  CauseExcluded,
		Reason: fmt.Sprintf("PolicyException %s lets the pod pass", name),
		Mend:   fmt.Sprintf("Remove PolicyException %s, or narrow its matchConditions.", name),
	}
}

// controller is a kind of resource that makes pods.
type controller struct{ resource, group, version, kind string }

// controllers are those for which Kyverno rewrites a policy for pods, unless told
// otherwise.
func controllers() []controller {
	return []controller{
		{"daemonsets", "apps", "v1", "DaemonSet"},
		{"deployments", "apps", "v1", "Deployment"},
		{"replicasets", "apps", "v1", "ReplicaSet"},
		{"statefulsets", "apps", "v1", "StatefulSet"},
		{"jobs", "batch", "v1", "Job"},
		{"cronjobs", "batch", "v1", "CronJob"},
	}
}

// autogenFault tells of controllers that pass while their pods are refused later.
func (p *ValidatingPolicy) autogenFault() *Toothless {
	match := p.object.Spec.MatchConstraints
	off := autogenBarredBy(match)
	var wanted []string
	autogen := p.object.Spec.Autogen.PodControllers
	chosen := autogen != nil && autogen.Controllers != nil
	if chosen {
		wanted = autogen.Controllers
	}
	var missing []string
	for _, c := range controllers() {
		covered := slices.ContainsFunc(match.ResourceRules, func(rule admissionregistrationv1.NamedRuleWithOperations) bool {
			return coversCreation(rule.RuleWithOperations, c.group, c.version, c.resource)
		})
		if covered || off == "" && (!chosen || slices.Contains(wanted, c.resource)) {
			continue
		}
		missing = append(missing, c.kind)
	}
	if len(missing) == 0 {
		return nil
	}
	if off == "" {
		off = "spec.autogen.podControllers.controllers does not name them"
	}
	return &Toothless{
		Cause:  CauseKyvernoAutogen,
		Reason: fmt.Sprintf("%s pass and their pods are refused later, for autogen is off: %s", strings.Join(missing, ", "), off),
		Mend: "Match one rule with apiGroups: [\"\"], apiVersions: [v1], resources: [pods], without resourceNames, " +
			"objectSelector and excludeResourceRules (matchConditions do the same), and leave spec.autogen unset.",
	}
}

// autogenBarredBy is what in the match keeps Kyverno from rewriting the policy for
// controllers.
func autogenBarredBy(match *admissionregistrationv1.MatchResources) string {
	one := func(list []string, want string) bool { return len(list) == 1 && list[0] == want }
	objects := match.ObjectSelector
	switch {
	case objects != nil && len(objects.MatchLabels)+len(objects.MatchExpressions) > 0:
		return "the match has an objectSelector"
	case len(match.ExcludeResourceRules) > 0:
		return "the match has excludeResourceRules"
	case len(match.ResourceRules) != 1:
		return fmt.Sprintf("the match has %d resourceRules and not one", len(match.ResourceRules))
	}
	rule := match.ResourceRules[0]
	switch {
	case len(rule.ResourceNames) > 0:
		return "the rule has resourceNames"
	case !one(rule.APIGroups, "") || !one(rule.APIVersions, "v1") || !one(rule.Resources, "pods"):
		return "the rule matches more than apiGroups [\"\"], apiVersions [v1], resources [pods]"
	}
	return ""
}
