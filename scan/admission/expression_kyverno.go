package admission

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// exceptionsVariable is where Kyverno gives expressions what exceptions allow.
const exceptionsVariable = "exceptions"

// ValidatingPolicy is a ValidatingPolicy or NamespacedValidatingPolicy of Kyverno's,
// with the exceptions that speak of it.
type ValidatingPolicy struct {
	object     validatingPolicyObject
	exceptions []celException
	matcher    matcher
	program    *program
	// broken is why it cannot be evaluated at all; doubt is why it is not sure that
	// the API server asks Kyverno.
	broken, doubt string
}

// validatingPolicyObject is what is read of a policy, in any version of its group.
type validatingPolicyObject struct {
	Kind     string            `json:"kind"`
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		MatchConstraints  *admissionregistrationv1.MatchResources    `json:"matchConstraints"`
		MatchConditions   []admissionregistrationv1.MatchCondition   `json:"matchConditions"`
		Variables         []admissionregistrationv1.Variable         `json:"variables"`
		Validations       []admissionregistrationv1.Validation       `json:"validations"`
		AuditAnnotations  []admissionregistrationv1.AuditAnnotation  `json:"auditAnnotations"`
		ValidationActions []admissionregistrationv1.ValidationAction `json:"validationActions"`
		FailurePolicy     *admissionregistrationv1.FailurePolicyType `json:"failurePolicy"`
		Autogen           struct {
			PodControllers *struct {
				Controllers []string `json:"controllers"`
			} `json:"podControllers"`
		} `json:"autogen"`
		Evaluation struct {
			Mode      string `json:"mode"`
			Admission struct {
				Enabled *bool `json:"enabled"`
			} `json:"admission"`
		} `json:"evaluation"`
	} `json:"spec"`
	Status struct {
		Generated       bool `json:"generated"`
		ConditionStatus struct {
			Ready      *bool              `json:"ready"`
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"conditionStatus"`
	} `json:"status"`
}

// celException is a PolicyException of the group policies.kyverno.io.
type celException struct {
	Metadata metav1.ObjectMeta `json:"metadata"`
	Spec     struct {
		PolicyRefs []struct {
			Name string `json:"name"`
			Kind string `json:"kind"`
		} `json:"policyRefs"`
		MatchConditions []admissionregistrationv1.MatchCondition `json:"matchConditions"`
		Images          []string                                 `json:"images"`
		AllowedValues   []string                                 `json:"allowedValues"`
		ExpiresAt       *metav1.Time                             `json:"expiresAt"`
	} `json:"spec"`

	conditions []expression
}

// NewValidatingPolicies reads Kyverno's policies in CEL and the exceptions to them, as
// JSON, sorted. What has expired by now is no exception. Doubt is why it is not sure
// that the API server asks Kyverno, empty where it is: a refusal is unknown then.
func NewValidatingPolicies(policies, exceptions [][]byte, doubt string, now time.Time) ([]*ValidatingPolicy, []error) {
	var errs []error
	var valid []celException
	for _, data := range exceptions {
		x, err := decode[celException](data)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("PolicyException %s/%s: %w", x.Metadata.Namespace, x.Metadata.Name, err))
		case x.Spec.ExpiresAt == nil || x.Spec.ExpiresAt.After(now):
			valid = append(valid, x)
		}
	}
	d, err := kyvernoDialect()
	if err != nil {
		return nil, append(errs, err)
	}
	var out []*ValidatingPolicy
	for _, data := range policies {
		object, err := decode[validatingPolicyObject](data)
		object.Kind = cmp.Or(object.Kind, "ValidatingPolicy")
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", object.Kind, object.Metadata.Name, err))
			continue
		}
		p := &ValidatingPolicy{object: object, doubt: doubt, matcher: newMatcher(object.Spec.MatchConstraints)}
		for _, x := range valid {
			if x.speaksOf(p) {
				p.exceptions = append(p.exceptions, x)
			}
		}
		p.compile(d)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *ValidatingPolicy) int {
		return cmp.Or(cmp.Compare(a.object.Metadata.Namespace, b.object.Metadata.Namespace), cmp.Compare(a.object.Metadata.Name, b.object.Metadata.Name))
	})
	return out, errs
}

// ExceptionsUnread tells the policy that exceptions could not be read: there may be
// one, so that a refusal is unknown.
func (p *ValidatingPolicy) ExceptionsUnread(reason string) {
	p.doubt = cmp.Or(p.doubt, "exceptions were not read: "+reason)
}

func (x celException) speaksOf(p *ValidatingPolicy) bool {
	for _, ref := range x.Spec.PolicyRefs {
		if ref.Name == p.object.Metadata.Name && ref.Kind == p.object.Kind {
			return true
		}
	}
	return false
}

// kyvernoDialect is the API server's with what Kyverno adds of CEL's own libraries.
// Its libraries that ask a cluster, a registry or the network are not there.
func kyvernoDialect() (dialect, error) {
	return newDialect("", ext.Bindings(), ext.Encoders(), ext.Math(), ext.Protos(), ext.Regex(ext.RegexVersion(1)),
		cel.Variable(exceptionsVariable, cel.MapType(cel.StringType, cel.ListType(cel.StringType))))
}

// compile compiles conditions before variables: Kyverno's conditions see none.
func (p *ValidatingPolicy) compile(d dialect) {
	spec := p.object.Spec
	var err error
	if p.program, err = newProgram(d, len(spec.Variables) > 0); err != nil {
		p.broken = err.Error()
		return
	}
	for i := range p.exceptions {
		for _, c := range p.exceptions[i].Spec.MatchConditions {
			p.exceptions[i].conditions = append(p.exceptions[i].conditions, p.program.compile(c.Name, c.Expression, true, cel.BoolType))
		}
	}
	p.program.compileConditions(spec.MatchConditions)
	for _, v := range spec.Variables {
		p.program.variable(v.Name, v.Expression)
	}
	p.program.compileValidations(spec.Validations, spec.AuditAnnotations)
}

// Ref names the policy.
func (p *ValidatingPolicy) Ref() Ref {
	meta := p.object.Metadata
	return Ref{Mechanism: KyvernoValidatingPolicy, Kind: p.object.Kind, Namespace: meta.Namespace, Name: meta.Name}
}

// Reads is what of a pod's identity the policy and its exceptions look at.
func (p *ValidatingPolicy) Reads() Keys {
	if p.program == nil || !p.matcher.speaksOfPods() {
		return Keys{}
	}
	return p.matcher.reads().with(p.program.keys)
}

func (p *ValidatingPolicy) ignores() bool {
	return p.object.Spec.FailurePolicy != nil && *p.object.Spec.FailurePolicy == admissionregistrationv1.Ignore
}

// denies tells whether it refuses anything; that is its default.
func (p *ValidatingPolicy) denies() bool {
	actions := p.object.Spec.ValidationActions
	return len(actions) == 0 || slices.Contains(actions, admissionregistrationv1.Deny)
}

// forPods tells whether Kyverno itself judges pods by the policy when they are created.
func (p *ValidatingPolicy) forPods() bool { return p.matcher.created.any() && p.judges() }

// judges tells whether Kyverno itself judges objects of the API by the policy. One from
// which it has generated a ValidatingAdmissionPolicy it leaves to that.
func (p *ValidatingPolicy) judges() bool {
	return p.object.Spec.MatchConstraints != nil && p.object.Spec.Evaluation.Mode != "JSON" && !p.object.Status.Generated
}

// Rule says what the policy does to the pod, nothing where it does not speak of it.
func (p *ValidatingPolicy) Rule(s Subject) []Ruling {
	m := p.matcher.match(s)
	ns := p.object.Metadata.Namespace
	if !m.yes || !p.judges() || ns != "" && ns != s.Pod.Namespace {
		return nil
	}
	ruling := Ruling{By: p.Ref(), Answer: Admits}
	if p.broken != "" {
		ruling.Answer, ruling.Message = Unknown, p.broken
		return []Ruling{ruling}
	}
	found := p.judge(newInputs(s, p.program), m)
	ruling.Answer, ruling.Message, ruling.Toothless = found.answer, found.message, found.toothless
	if fault := p.disabled(); fault != nil && ruling.Answer != Admits {
		if ruling.Answer == Refuses {
			ruling.Toothless = fault
		}
		ruling.Answer = Admits
	}
	if why := cmp.Or(m.unsure, p.doubt); why != "" && ruling.Answer == Refuses {
		ruling.Answer = Unknown
		ruling.Message = fmt.Sprintf("it would refuse the pod (%s), but whether it applies is not known: %s", ruling.Message, why)
	}
	return []Ruling{ruling}
}

// finding is what a policy would do if it were enforced.
type finding struct {
	answer    Answer
	message   string
	toothless *Toothless
}

// judge evaluates exceptions, then match conditions, then validations.
func (p *ValidatingPolicy) judge(in inputs, m matched) finding {
	if m.err != nil {
		return p.refusal("error: failed to execute matching: " + m.err.Error())
	}
	images, values, excluded, doubt := p.except(in)
	if doubt.state == evalFails {
		return p.refusal("error: failed to load context: " + doubt.reason)
	}
	in.values.exceptions = types.DefaultTypeAdapter.NativeToValue(map[string][]string{"allowedImages": images, "allowedValues": values})
	found := p.validate(in)
	switch {
	case found.answer == Admits:
	case excluded != nil:
		toothless := p.excludedBy(excluded)
		if found.answer == Unknown {
			toothless = nil
		}
		return finding{Admits, found.message, toothless}
	case doubt.state == evalUnsure:
		return finding{answer: Unknown, message: "whether an exception lets the pod pass is not known: " + doubt.reason}
	}
	return found
}

func (p *ValidatingPolicy) refusal(why string) finding {
	return finding{answer: Refuses, message: fmt.Sprintf("Policy %s %s", p.object.Metadata.Name, why)}
}

// except evaluates the exceptions. One without images and values lets everything
// pass; the others give their lists to the expressions.
func (p *ValidatingPolicy) except(in inputs) (images, values []string, excluded *celException, doubt outcome) {
	for i := range p.exceptions {
		x := &p.exceptions[i]
		part := *p.program
		part.conditions = x.conditions
		holds, _ := part.conditionsHold(in, p.ignores())
		full := len(x.Spec.Images)+len(x.Spec.AllowedValues) == 0
		switch {
		case holds.is(true) && full:
			return nil, nil, x, outcome{}
		case holds.is(true):
			images, values = append(images, x.Spec.Images...), append(values, x.Spec.AllowedValues...)
		case holds.state == evalUnsure, holds.state == evalFails && !p.ignores() && doubt.state != evalUnsure:
			doubt = holds
		}
	}
	return images, values, nil, doubt
}

// validate evaluates what there is without exceptions. Other than the API server,
// Kyverno refuses a pod on which a validation fails, whatever the failure policy.
func (p *ValidatingPolicy) validate(in inputs) finding {
	matches, objected := p.program.conditionsHold(in, p.ignores())
	switch {
	case matches.is(false):
		return finding{answer: Admits}
	case matches.state == evalFails && p.ignores():
		return finding{Admits, matches.reason, failsOpen(matches.reason)}
	case len(objected.denied) > 0:
		return p.refusal("error: " + matches.reason)
	}
	found := p.validations(in)
	if matches.state == evalUnsure && (found.answer != Admits || !matches.total) {
		return finding{answer: Unknown, message: matches.reason}
	}
	return found
}

func (p *ValidatingPolicy) validations(in inputs) finding {
	r, err := p.program.start(in, math.MaxInt64)
	if err != nil {
		return finding{answer: Unknown, message: err.Error()}
	}
	found := finding{answer: Admits}
	for i := range p.program.validations {
		switch result := r.evaluate(&p.program.validations[i]); {
		case result.state == evalFails:
			return p.refusal("error: " + result.reason)
		case result.state == evalUnsure && found.answer == Admits:
			found = finding{answer: Unknown, message: result.reason}
		case result.is(false):
			return p.refusal("failed: " + p.message(r, i))
		}
	}
	for i := range p.program.audits {
		switch result := r.evaluate(&p.program.audits[i]); {
		case result.state == evalFails && found.answer == Admits:
			return p.refusal("error: " + result.reason)
		case result.state == evalUnsure && !result.total && found.answer == Admits:
			found = finding{answer: Unknown, message: result.reason}
		}
	}
	return found
}

// message is the text of a validation that does not hold.
func (p *ValidatingPolicy) message(r *run, i int) string {
	validation := p.object.Spec.Validations[i]
	if validation.MessageExpression != "" {
		if result := r.evaluate(&p.program.messages[i]); result.state == evalHolds {
			if text, ok := result.value.(string); ok && text != "" {
				return text
			}
		}
	}
	return cmp.Or(strings.TrimSpace(validation.Message), fmt.Sprintf("CEL expression validation failed at index %d", i))
}
