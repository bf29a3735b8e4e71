package admission

import (
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// Ref names the policy.
func (p *KyvernoRules) Ref() Ref { return p.ref("") }

// Action is what the policy's podSecurity rules ask for: "Enforce" where one of them
// does so anywhere, "Audit" where none does, empty where it has none.
func (p *KyvernoRules) Action() string {
	rules := p.podSecurity()
	switch {
	case len(rules) == 0:
		return ""
	case slices.ContainsFunc(rules, p.mayEnforce):
		return "Enforce"
	}
	return "Audit"
}

// SelectorLabels are the labels that the podSecurity rules select pods by, whether all
// of them must be there or one is enough. It is nil where more than labels selects.
func (p *KyvernoRules) SelectorLabels() map[string]string {
	all := map[string]string{}
	for _, r := range p.podSecurity() {
		for _, c := range slices.Concat(r.conditions.all, r.conditions.any) {
			if c.opaque {
				return nil
			}
			all[c.key] = c.value
		}
		filters, _ := r.Match.filters()
		for i := range filters {
			selector := filters[i].Resources.Selector
			if selector == nil {
				continue
			}
			if len(selector.MatchExpressions) > 0 {
				return nil
			}
			maps.Copy(all, selector.MatchLabels)
		}
	}
	return all
}

// Action is what its bindings do with what it refuses: "Deny", or "Warn" and "Audit";
// empty without a binding.
func (v *VAP) Action() string {
	var actions []admissionregistrationv1.ValidationAction
	for _, b := range v.bindings {
		actions = append(actions, b.Spec.ValidationActions...)
	}
	return joinActions(actions)
}

// Action is what it does with what it refuses.
func (p *ValidatingPolicy) Action() string {
	if p.denies() {
		return string(admissionregistrationv1.Deny)
	}
	return joinActions(p.object.Spec.ValidationActions)
}

func joinActions(actions []admissionregistrationv1.ValidationAction) string {
	var names []string
	for _, want := range []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny, admissionregistrationv1.Warn, admissionregistrationv1.Audit} {
		if slices.Contains(actions, want) {
			names = append(names, string(want))
		}
	}
	return strings.Join(names, ", ")
}
