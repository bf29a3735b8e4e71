package admission

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// objections are what a policy has against a pod.
type objections struct {
	// denied are what the binding's actions apply to.
	denied []string
	// forced refuse whatever the actions are: what cannot be evaluated at all, where
	// the failure policy is Fail.
	forced []string
	// ignored are failures that the failure policy Ignore passes over.
	ignored []string
	// unsure are why more might be denied, and unsureForced why more might be forced.
	unsure, unsureForced []string
}

func (o *objections) add(other objections) {
	o.denied = append(o.denied, other.denied...)
	o.forced = append(o.forced, other.forced...)
	o.ignored = append(o.ignored, other.ignored...)
	o.unsure = append(o.unsure, other.unsure...)
	o.unsureForced = append(o.unsureForced, other.unsureForced...)
}

// fail adds what failed, as the failure policy takes it.
func (o *objections) fail(ignores bool, reason string) {
	if ignores {
		o.ignored = append(o.ignored, reason)
		return
	}
	o.denied = append(o.denied, reason)
}

// decide makes a ruling of objections by the actions of a binding.
func (v *VAP) decide(ruling Ruling, o objections, b binding) Ruling {
	denied := o.forced
	if b.denies() {
		denied = append(denied, o.denied...)
		o.unsureForced = append(o.unsureForced, o.unsure...)
	}
	switch {
	case len(denied) > 0:
		ruling.Answer = Refuses
		ruling.Message = fmt.Sprintf("ValidatingAdmissionPolicy '%s' with binding '%s' denied request: %s", v.policy.Name, b.Name, denied[0])
	case len(o.unsureForced) > 0:
		ruling.Answer, ruling.Message = Unknown, o.unsureForced[0]
	case len(o.denied) > 0:
		ruling.Toothless = new(v.notEnforced(b))
		ruling.Message = o.denied[0]
	case len(o.ignored) > 0 && b.denies():
		ruling.Toothless = failsOpen(o.ignored[0])
		ruling.Message = o.ignored[0]
	}
	return ruling
}

// validateAll evaluates the policy with each of the binding's parameters.
func (v *VAP) validateAll(s Subject, m matched, b binding) objections {
	var out objections
	configuration := func(err error) objections {
		if v.ignores() {
			out.ignored = append(out.ignored, err.Error())
		} else {
			out.forced = append(out.forced, err.Error())
		}
		return out
	}
	if m.err != nil {
		return configuration(m.err)
	}
	kind, ref := v.policy.Spec.ParamKind, b.Spec.ParamRef
	params, err := v.params.collect(kind, ref, s.Pod.Namespace)
	if err != nil {
		return configuration(fmt.Errorf("failed to configure binding: %w", err))
	}
	if b.unread && kind != nil {
		params = []parameter{{unread: "which parameters it gets is not known"}}
	}
	in := newInputs(s, v.program)
	for _, param := range params {
		o := v.validate(in.with(param))
		if param.unread == "" {
			out.add(o)
			continue
		}
		// There may be no such object, and then nothing is evaluated; or several.
		if len(o.denied)+len(o.unsure) > 0 {
			out.unsure = append(out.unsure, param.unread)
		}
		absence := ref != nil && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction
		if len(o.forced)+len(o.unsureForced) > 0 || absence && !v.ignores() {
			out.unsureForced = append(out.unsureForced, param.unread)
		}
	}
	return out
}

// validate evaluates the policy once, in the API server's order and within its
// budgets.
func (v *VAP) validate(in inputs) objections {
	matches, out := outcome{value: true}, objections{}
	if len(v.program.conditions) > 0 {
		matches, out = v.program.conditionsHold(in.withoutNamespace(), v.ignores())
	}
	switch {
	case matches.state == evalUnsure:
		return v.ifMatched(in, matches)
	case !matches.is(true):
		return out
	}
	r, err := v.program.start(in, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return objections{unsureForced: []string{err.Error()}}
	}
	if out = v.validations(r); len(v.program.audits) == 0 {
		return out
	}
	audited, err := v.program.start(in, celconfig.RuntimeCELCostBudget)
	if err != nil {
		return objections{unsureForced: []string{err.Error()}}
	}
	v.audits(audited, &out)
	return out
}

// ifMatched evaluates what applies only if match conditions hold, of which that is
// not known: whether there is anything that they would have to keep off.
func (v *VAP) ifMatched(in inputs, matches outcome) objections {
	p := *v.program
	p.conditions = nil
	unconditional := *v
	unconditional.program = &p
	o := unconditional.validate(in)
	var out objections
	// A condition that fails denies the pod by that.
	if len(o.denied)+len(o.unsure) > 0 || !v.ignores() && !matches.total {
		out.unsure = []string{matches.reason}
	}
	if len(o.forced)+len(o.unsureForced) > 0 {
		out.unsureForced = []string{matches.reason}
	}
	return out
}

// conditionsHold evaluates match conditions: one that is false decides, then one
// that is not known, then one that fails.
func (p *program) conditionsHold(in inputs, ignores bool) (outcome, objections) {
	var out objections
	if len(p.conditions) == 0 {
		return outcome{value: true}, out
	}
	r, err := p.start(in, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		return outcome{state: evalUnsure, reason: err.Error()}, out
	}
	var failed []string
	open := outcome{value: true}
	for i := range p.conditions {
		result := r.evaluate(&p.conditions[i])
		switch {
		case result.state == evalSpent:
			out.fail(ignores, result.reason)
			return result, out
		case result.is(false):
			return result, objections{}
		case result.state == evalFails:
			failed = append(failed, result.reason)
		case result.state == evalUnsure && open.state != evalUnsure:
			open = result
		case result.state == evalUnsure:
			open.total = open.total && result.total
		}
	}
	if len(failed) == 0 || !ignores && open.state == evalUnsure {
		return open, out
	}
	reason := failed[0]
	if len(failed) > 1 {
		reason = "[" + strings.Join(failed, ", ") + "]"
	}
	out.fail(ignores, reason)
	return outcome{state: evalFails, reason: reason}, out
}

// validations evaluates the validations, and then their messages out of what is left
// of the budget.
func (v *VAP) validations(r *run) objections {
	var out objections
	p := v.program
	results := make([]outcome, len(p.validations))
	for i := range p.validations {
		if results[i] = r.evaluate(&p.validations[i]); results[i].state == evalSpent {
			out.fail(v.ignores(), results[i].reason)
			return out
		}
	}
	messages := make([]outcome, len(p.messages))
	exhausted := ""
	for i := range p.messages {
		if p.messages[i].text == "" {
			continue
		}
		if messages[i] = r.evaluate(&p.messages[i]); messages[i].state == evalSpent {
			exhausted = messages[i].reason
			break
		}
	}
	for i, result := range results {
		switch {
		case result.state == evalUnsure:
			out.unsure = append(out.unsure, result.reason)
		case result.state == evalFails:
			out.fail(v.ignores(), result.reason)
		case exhausted != "":
			out.fail(v.ignores(), "failed messageExpression: "+exhausted)
		case !result.is(true):
			out.denied = append(out.denied, denial(v.policy.Spec.Validations[i], messages[i]))
		}
	}
	return out
}

// denial is the message of a validation that does not hold.
func denial(validation admissionregistrationv1.Validation, evaluated outcome) string {
	message, _ := evaluated.value.(string)
	message = strings.TrimSpace(message)
	if evaluated.state != evalHolds || len(message) > celconfig.MaxEvaluatedMessageExpressionSizeBytes || strings.Contains(message, "\n") {
		message = ""
	}
	if message == "" {
		message = strings.TrimSpace(validation.Message)
	}
	if message == "" {
		message = "failed expression: " + strings.TrimSpace(validation.Expression)
	}
	return message
}

// audits evaluates audit annotations: one that fails refuses the pod, whatever the
// binding's actions are, unless failures are ignored.
func (v *VAP) audits(r *run, out *objections) {
	for i := range v.program.audits {
		audit := &v.program.audits[i]
		result := r.evaluate(audit)
		if result.state == evalSpent {
			// The API server then gives this decision in place of all others.
			*out = objections{}
			out.fail(v.ignores(), result.reason)
			return
		}
		if v.ignores() {
			continue
		}
		switch {
		case result.state == evalFails:
			out.forced = append(out.forced, result.reason)
		case result.state == evalUnsure && !audit.total:
			out.unsureForced = append(out.unsureForced, result.reason)
		}
	}
}
