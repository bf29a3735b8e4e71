package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

// maxPolicy is the size of the largest policy that is read. An API server stores
// nothing that is larger.
const maxPolicy = 3 << 20

// VAP is a ValidatingAdmissionPolicy with its bindings.
type VAP struct {
	policy   admissionregistrationv1.ValidatingAdmissionPolicy
	bindings []binding
	// unbound is why its bindings are not known.
	unbound string
	// broken is why it has no effect that can be told.
	broken  string
	matcher matcher
	program *program
	params  Params
}

// binding is one of a policy's bindings.
type binding struct {
	admissionregistrationv1.ValidatingAdmissionPolicyBinding
	matcher matcher
	// unread: it stands for bindings that nobody has read, or that do not exist.
	unread bool
}

// NewVAPs reads ValidatingAdmissionPolicies and their bindings, as JSON, and compiles
// them for an API server of the version, sorted by name. What cannot be read at all
// is an error of its own; what can and does not compile is a policy that is unknown.
func NewVAPs(policies, bindings [][]byte, params Params, server string) ([]*VAP, []error) {
	var errs []error
	bound := map[string][]binding{}
	for _, data := range bindings {
		b, err := decode[admissionregistrationv1.ValidatingAdmissionPolicyBinding](data)
		if err != nil {
			errs = append(errs, fmt.Errorf("ValidatingAdmissionPolicyBinding %s: %w", b.Name, err))
			continue
		}
		bound[b.Spec.PolicyName] = append(bound[b.Spec.PolicyName], binding{ValidatingAdmissionPolicyBinding: b, matcher: newMatcher(b.Spec.MatchResources)})
	}
	d, err := newDialect(server)
	if err != nil {
		return nil, append(errs, err)
	}
	d.authorizer = true
	var vaps []*VAP
	for _, data := range policies {
		policy, err := decode[admissionregistrationv1.ValidatingAdmissionPolicy](data)
		if err != nil {
			errs = append(errs, fmt.Errorf("ValidatingAdmissionPolicy %s: %w", policy.Name, err))
			continue
		}
		v := &VAP{policy: policy, bindings: bound[policy.Name], params: params}
		slices.SortFunc(v.bindings, func(a, b binding) int { return cmp.Compare(a.Name, b.Name) })
		v.compile(d)
		vaps = append(vaps, v)
	}
	slices.SortFunc(vaps, func(a, b *VAP) int { return cmp.Compare(a.policy.Name, b.policy.Name) })
	return vaps, errs
}

// decode reads an object, and what can be known of one that cannot be read.
func decode[T any](data []byte) (T, error) {
	var out T
	if len(data) > maxPolicy {
		return out, fmt.Errorf("%d bytes are more than an API server stores", len(data))
	}
	err := json.Unmarshal(data, &out)
	return out, err
}

// BindingsUnread tells the policy that bindings could not be read: then it is not
// known to have none.
func (v *VAP) BindingsUnread(reason string) { v.unbound = reason }

// compile compiles the expressions as the API server does: variables first, so that
// match conditions may read them, too.
func (v *VAP) compile(d dialect) {
	spec := v.policy.Spec
	v.matcher = newMatcher(spec.MatchConstraints)
	if spec.MatchConstraints == nil {
		v.broken = "it has no matchConstraints, which the API server requires"
	}
	d.params = spec.ParamKind != nil
	p, err := newProgram(d, len(spec.Variables) > 0)
	if v.program = p; err != nil {
		v.broken = err.Error()
		return
	}
	for _, variable := range spec.Variables {
		p.variable(variable.Name, variable.Expression)
	}
	p.compileConditions(spec.MatchConditions)
	p.compileValidations(spec.Validations, spec.AuditAnnotations)
}

func (p *program) compileConditions(conditions []admissionregistrationv1.MatchCondition) {
	for _, c := range conditions {
		p.conditions = append(p.conditions, p.compile(c.Name, c.Expression, true, cel.BoolType))
	}
}

// compileValidations compiles what is compiled last.
func (p *program) compileValidations(validations []admissionregistrationv1.Validation, audits []admissionregistrationv1.AuditAnnotation) {
	for _, validation := range validations {
		p.validations = append(p.validations, p.compile("", validation.Expression, true, cel.BoolType))
		var message expression
		if validation.MessageExpression != "" {
			message = p.compile("", validation.MessageExpression, false, cel.StringType)
		}
		p.messages = append(p.messages, message)
	}
	for _, audit := range audits {
		p.audits = append(p.audits, p.compile(audit.Key, audit.ValueExpression, true, cel.StringType, cel.NullType))
	}
	p.findGaps()
}

// Ref names the policy.
func (v *VAP) Ref() Ref {
	return Ref{Mechanism: ValidatingAdmissionPolicy, Kind: "ValidatingAdmissionPolicy", Name: v.policy.Name}
}

// ignores tells whether what fails lets pods pass.
func (v *VAP) ignores() bool {
	return v.policy.Spec.FailurePolicy != nil && *v.policy.Spec.FailurePolicy == admissionregistrationv1.Ignore
}

// Reads is what of a pod's identity the policy and its bindings look at.
func (v *VAP) Reads() Keys {
	if !v.matcher.speaksOfPods() {
		return Keys{}
	}
	keys := v.matcher.reads()
	if v.program != nil {
		keys = keys.with(v.program.keys)
	}
	for _, b := range v.bindings {
		keys = keys.with(b.matcher.reads())
	}
	return keys
}

// Faults are the reasons why it refuses nothing, whatever the pod.
func (v *VAP) Faults() []Toothless {
	switch {
	case !v.matcher.created.any(), v.unbound != "":
		return nil
	case len(v.bindings) == 0:
		return []Toothless{v.unboundFault()}
	case !slices.ContainsFunc(v.bindings, binding.denies):
		return []Toothless{v.notEnforced(v.bindings[0])}
	}
	return nil
}

func (b binding) denies() bool {
	return slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Deny)
}

func (v *VAP) unboundFault() Toothless {
	return Toothless{
		Cause:  CauseVAPUnbound,
		Reason: fmt.Sprintf("no ValidatingAdmissionPolicyBinding names %s, so it is never asked", v.policy.Name),
		Mend:   fmt.Sprintf("Create a ValidatingAdmissionPolicyBinding with policyName: %s and validationActions: [Deny].", v.policy.Name),
	}
}

func (v *VAP) notEnforced(b binding) Toothless {
	actions := make([]string, len(b.Spec.ValidationActions))
	for i, action := range b.Spec.ValidationActions {
		actions[i] = string(action)
	}
	return Toothless{
		Cause:  CauseVAPNotEnforced,
		Reason: fmt.Sprintf("binding %s only says validationActions: [%s], which refuses nothing", b.Name, strings.Join(actions, ", ")),
		Mend:   fmt.Sprintf("Set validationActions: [Deny] in ValidatingAdmissionPolicyBinding %s.", b.Name),
	}
}

func failsOpen(why string) *Toothless {
	return &Toothless{
		Cause:  CauseFailOpen,
		Reason: "evaluation fails on this pod, and failurePolicy: Ignore then lets it pass: " + why,
		Mend:   "Set failurePolicy: Fail, and mend the expression so that it does not fail where a field is not set (has(), or .? with orValue).",
	}
}

// Rule says what the policy does to the pod, by each binding that speaks of it.
func (v *VAP) Rule(s Subject) []Ruling {
	m := v.matcher.match(s)
	if !m.yes || v.program == nil {
		return nil
	}
	if len(v.bindings) == 0 && v.unbound == "" {
		return v.ruleUnbound(s, m)
	}
	if v.unbound != "" {
		return []Ruling{v.soften(v.rule(s, m, anyBinding()), "its bindings were not read: "+v.unbound)}
	}
	var rulings []Ruling
	for _, b := range v.bindings {
		bound := b.matcher.match(s)
		if !bound.yes {
			continue
		}
		if m.err == nil && bound.err != nil {
			bound.err = fmt.Errorf("failed to configure binding: %w", bound.err)
		} else if m.err != nil {
			bound.err = fmt.Errorf("failed to configure policy: %w", m.err)
		}
		bound.unsure = cmp.Or(m.unsure, bound.unsure)
		rulings = append(rulings, v.rule(s, bound, b))
	}
	return rulings
}

// anyBinding stands for bindings that nobody has read: they may pass any parameter.
func anyBinding() binding {
	b := binding{unread: true}
	b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	return b
}

// ruleUnbound says so of a policy without a binding if it would refuse the pod.
func (v *VAP) ruleUnbound(s Subject, m matched) []Ruling {
	ruling := v.rule(s, m, anyBinding())
	if ruling.Answer == Refuses {
		ruling.Toothless = new(v.unboundFault())
		ruling.Answer = Admits
		return []Ruling{ruling}
	}
	return nil
}

// rule says what the policy does to a pod by a binding that matches it.
func (v *VAP) rule(s Subject, m matched, b binding) Ruling {
	ruling := Ruling{By: v.Ref(), Answer: Admits}
	ruling.By.Rule = b.Name
	if v.broken != "" {
		ruling.Answer, ruling.Message = Unknown, v.broken
		return ruling
	}
	refused := v.validateAll(s, m, b)
	ruling = v.decide(ruling, refused, b)
	if m.unsure != "" {
		return v.soften(ruling, m.unsure)
	}
	return ruling
}

// soften takes a ruling back to unknown that applies only if something holds.
func (v *VAP) soften(ruling Ruling, why string) Ruling {
	if ruling.Answer == Admits && ruling.Toothless == nil {
		return ruling
	}
	if ruling.Answer != Admits {
		ruling.Answer = Unknown
		ruling.Message = "it may refuse the pod, but whether it applies is not known: " + why
	}
	ruling.Toothless = nil
	return ruling
}
