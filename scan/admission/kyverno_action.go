package admission

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func enforces(action string) bool { return action == "Enforce" || action == "enforce" }

func validAction(action string) bool {
	return enforces(action) || action == "Audit" || action == "audit"
}

// enforced tells whether a failed rule refuses the pod. Kyverno asks this twice, when
// it chooses the rules that may refuse and when it looks at what failed, by different
// orders of the overrides; only where both say Enforce is a pod refused.
func (p *KyvernoRules) enforced(r *kyvernoRule, t *target) match {
	return both(p.chosen(r, t), p.blocking(r, t))
}

// chosen is the first question: the rule's overrides, or else the policy's, come before
// the rule's own action, and a namespace is meant by name or by label.
func (p *KyvernoRules) chosen(r *kyvernoRule, t *target) match {
	action := p.spec.ValidationFailureAction
	if r.Validate.FailureAction != nil {
		action = *r.Validate.FailureAction
	}
	overrides := r.Validate.FailureActionOverrides
	if len(overrides) == 0 {
		overrides = p.spec.ValidationFailureActionOverrides
	}
	return firstOverride(overrides, action, func(o *kyvernoOverride) match {
		if len(o.Namespaces) == 0 && o.NamespaceSelector == nil {
			return matchIf(true)
		}
		labelled := match{}
		if o.NamespaceSelector != nil {
			labelled = t.labelledExactly(o.NamespaceSelector)
		}
		return either(matchIf(wildAny(o.Namespaces, t.namespace)), labelled)
	})
}

// blocking is the second question: the rule's overrides, the rule's action, the
// policy's overrides and the policy's action, and a namespace is meant by name and by
// label.
func (p *KyvernoRules) blocking(r *kyvernoRule, t *target) match {
	meant := func(o *kyvernoOverride) match {
		if !validAction(o.Action) {
			return match{}
		}
		named := matchIf(o.Namespaces == nil || wildAny(o.Namespaces, t.namespace))
		if o.NamespaceSelector == nil || named.is == no {
			return named
		}
		return both(named, t.inNamespace(o.NamespaceSelector))
	}
	spec := p.spec.ValidationFailureAction
	if own := r.Validate.FailureAction; own != nil {
		return firstOverride(r.Validate.FailureActionOverrides, *own, meant)
	}
	return firstOverride(slices.Concat(r.Validate.FailureActionOverrides, p.spec.ValidationFailureActionOverrides), spec, meant)
}

// firstOverride is whether the first override that is meant, or else the action,
// enforces.
func firstOverride(overrides []kyvernoOverride, action string, meant func(*kyvernoOverride) match) match {
	for i := range overrides {
		o := &overrides[i]
		switch m := meant(o); m.is {
		case yes:
			return matchIf(enforces(o.Action))
		case maybe:
			rest := firstOverride(overrides[i+1:], action, meant)
			if here := matchIf(enforces(o.Action)); here.is == rest.is {
				return here
			}
			return m
		default:
		}
	}
	return matchIf(enforces(action))
}

// labelledExactly is inNamespace without wildcards.
func (t *target) labelledExactly(selector *metav1.LabelSelector) match {
	if t.namespaceUnknown != "" {
		return unsure(t.namespaceUnknown)
	}
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	return matchIf(err == nil && compiled.Matches(labels.Set(t.namespaceLabels)))
}

// mayEnforce tells whether some namespace has a rule enforced.
func (p *KyvernoRules) mayEnforce(r *kyvernoRule) bool {
	action := p.spec.ValidationFailureAction
	if r.Validate.FailureAction != nil {
		action = *r.Validate.FailureAction
	}
	overrides := slices.Concat(r.Validate.FailureActionOverrides, p.spec.ValidationFailureActionOverrides)
	return enforces(action) || slices.ContainsFunc(overrides, func(o kyvernoOverride) bool { return enforces(o.Action) })
}
