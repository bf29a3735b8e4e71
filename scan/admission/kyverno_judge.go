package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// judge says what the policy does when the pod is created, a ruling for each rule
// that is asked about it.
func (p *KyvernoRules) judge(t *target, exceptions []*KyvernoException, doubt string) []Ruling {
	if !p.asked || p.Kind == kindPolicy && p.Namespace != t.namespace {
		return nil
	}
	j := &kyvernoJudge{KyvernoRules: p, target: t, exceptions: exceptions, doubt: doubt}
	for i := range p.spec.Rules {
		if r := &p.spec.Rules[i]; r.Validate != nil {
			j.rule(r)
		}
	}
	return j.rulings
}

// kyvernoJudge goes through the rules of one policy for one pod.
type kyvernoJudge struct {
	*KyvernoRules
	*target
	exceptions []*KyvernoException
	doubt      string
	rulings    []Ruling
	// applied is whether a rule before was applied, which ends the policy where
	// applyRules is One.
	applied match
}

func (j *kyvernoJudge) rule(r *kyvernoRule) {
	matched, excluded := j.matches(r, j.target)
	if matched.is == no {
		return
	}
	ruling := Ruling{By: j.ref(r.Name), Answer: Admits}
	if r.Validate.PodSecurity == nil {
		j.opaque(r, ruling, matched, excluded)
		return
	}
	asks := r.Validate.PodSecurity
	ruling.Controls = kyvernoRefusals(asks.checks, j.subject.Pod, nil)
	if len(ruling.Controls) == 0 {
		ruling.Message = fmt.Sprintf("podSecurity %q allows it", asks.asks.String())
		j.rulings = append(j.rulings, ruling)
		j.apply(r, matched, excluded)
		return
	}
	passes, left := j.passes(r, matched, excluded)
	switch {
	case passes != nil:
		if matched.is == yes {
			ruling.Toothless = passes
		}
		ruling.Message = passes.Reason
	default:
		ruling.Controls = left
		j.refuse(r, &ruling, matched, excluded)
	}
	j.rulings = append(j.rulings, ruling)
	j.apply(r, matched, excluded)
}

// passes is why a pod that the level refuses is let through for certain, nil when it
// is not; left are the controls that then refuse it.
func (j *kyvernoJudge) passes(r *kyvernoRule, matched, excluded match) (t *Toothless, left []string) {
	if excluded.is == yes {
		return &Toothless{
			Cause: CauseExcluded, Reason: "the rule's exclude block leaves the pod out",
			Mend: "narrow the exclude block, or give the pod what the rule asks for",
		}, nil
	}
	checks, excludes := r.Validate.PodSecurity.checks, r.Validate.PodSecurity.Exclude
	if left = kyvernoRefusals(checks, j.subject.Pod, excludes); len(left) == 0 {
		return &Toothless{
			Cause: CauseExcluded, Reason: "podSecurity.exclude takes out every control that refuses the pod",
			Mend: "take the entry out of podSecurity.exclude, or narrow its images and values",
		}, nil
	}
	for _, x := range j.exceptionsFor(r) {
		if x.covers(j.target).is != yes {
			continue
		}
		if len(x.spec.PodSecurity) == 0 {
			return x.toothless(), nil
		}
		excludes = slices.Concat(excludes, x.spec.PodSecurity)
		if left = kyvernoRefusals(checks, j.subject.Pod, excludes); len(left) == 0 {
			return x.toothless(), nil
		}
	}
	if why, mend := j.notReady(); why != "" {
		return &Toothless{Cause: CauseKyvernoNotReady, Reason: why, Mend: mend}, nil
	}
	if t := leftOut(j.namespace); t != nil {
		return t, nil
	}
	if j.enforced(r, j.target).is == no {
		return auditOnly(), nil
	}
	if j.spec.ApplyRules == "One" && j.applied.is == yes {
		return &Toothless{
			Cause: CauseExcluded, Reason: "the policy's applyRules is One, and a rule before this one applies to the pod",
			Mend: "set applyRules to All",
		}, nil
	}
	return nil, left
}

// refuse sets the answer for a pod that the rule refuses unless something that is not
// known keeps it from that.
func (j *kyvernoJudge) refuse(r *kyvernoRule, ruling *Ruling, matched, excluded match) {
	asks := r.Validate.PodSecurity.asks
	if why := j.unknown(r, matched, excluded); why != "" {
		ruling.Answer = Unknown
		ruling.Message = fmt.Sprintf("podSecurity %q refuses it (%s) if the rule applies, and %s", asks.String(), strings.Join(ruling.Controls, ", "), why)
		return
	}
	ruling.Answer = Refuses
	ruling.Message = fmt.Sprintf("it violates podSecurity %q: %s", asks.String(), strings.Join(ruling.Controls, ", "))
	owner := j.subject.OwnerKind
	if slices.Contains(podControllers(), owner) && !j.judgesController(r, owner) {
		ruling.Toothless = j.autogenFault(owner)
	} else if !r.seesDebug() {
		ruling.Toothless = debugFault()
	}
}

// unknown is why it is not known that a rule applies, "" when it is known.
func (j *kyvernoJudge) unknown(r *kyvernoRule, matched, excluded match) string {
	if matched.is == maybe {
		return matched.why
	}
	if excluded.is == maybe {
		return "whether its exclude block leaves the pod out is not known: " + excluded.why
	}
	if m := r.conditions.met(j.target); m.is == maybe {
		return m.why
	}
	switch {
	case len(r.CELPreconditions) > 0:
		return "its preconditions are not evaluated"
	case len(r.Context) > 0:
		return "the context that it loads is not known"
	case len(j.spec.WebhookConfiguration.MatchConditions) > 0:
		return "the matchConditions of the policy's webhook are not evaluated"
	}
	for _, x := range j.exceptionsFor(r) {
		if m := x.covers(j.target); m.is == maybe {
			return "whether PolicyException " + x.String() + " lets the pod pass is not known: " + m.why
		}
	}
	if m := j.enforced(r, j.target); m.is == maybe {
		return "whether it is enforced is not known: " + m.why
	}
	if j.spec.ApplyRules == "One" && j.applied.is == maybe {
		return "the policy's applyRules is One, and " + j.applied.why
	}
	return j.doubt
}

// opaque is the ruling of a validate rule that is not evaluated. It says nothing where
// the rule can refuse nothing.
func (j *kyvernoJudge) opaque(r *kyvernoRule, ruling Ruling, matched, excluded match) {
	defer func() {
		j.applied = either(j.applied, unsure("whether rule "+r.Name+" applies is not known"))
	}()
	if given(r.Validate.CEL) && j.status.ValidatingAdmissionPolicy.Generated {
		// The ValidatingAdmissionPolicy that Kyverno wrote from it speaks for it.
		return
	}
	notReady, _ := j.notReady()
	if excluded.is == yes || notReady != "" || leftOut(j.namespace) != nil || j.enforced(r, j.target).is == no {
		return
	}
	for _, x := range j.exceptionsFor(r) {
		if x.covers(j.target).is == yes {
			return
		}
	}
	ruling.Answer = Unknown
	ruling.Message = r.Validate.kind() + " rules are not evaluated"
	if why := cmp.Or(matched.why, excluded.why); why != "" {
		ruling.Message += ", and " + why
	}
	j.rulings = append(j.rulings, ruling)
}

// kind names what a validate rule consists of.
func (v *kyvernoValidate) kind() string {
	switch {
	case given(v.CEL):
		return "CEL"
	case given(v.Manifests):
		return "manifest"
	case given(v.Deny):
		return "deny"
	case given(v.ForEach):
		return "foreach"
	case given(v.Assert):
		return "assert"
	}
	return "pattern"
}

// apply notes whether the rule was applied, for those after it.
func (j *kyvernoJudge) apply(r *kyvernoRule, matched, excluded match) {
	if excluded.is == yes || j.enforced(r, j.target).is == no {
		return
	}
	if matched.is == yes && excluded.is == no && j.unknown(r, matched, excluded) == "" && len(j.exceptionsFor(r)) == 0 {
		j.applied = matchIf(true)
		return
	}
	j.applied = either(j.applied, unsure("whether rule "+r.Name+" applies is not known"))
}

func (j *kyvernoJudge) exceptionsFor(r *kyvernoRule) []*KyvernoException {
	var found []*KyvernoException
	for _, x := range j.exceptions {
		if x.speaksOf(j.KyvernoRules, r.Name) {
			found = append(found, x)
		}
	}
	return found
}

// String names the exception for people.
func (x *KyvernoException) String() string { return x.Namespace + "/" + x.Name }

// covers tells whether the exception is for the pod.
func (x *KyvernoException) covers(t *target) match {
	m := x.spec.Match.includes(t)
	if m.is != no && given(x.spec.Conditions) {
		return unsure("its conditions are not evaluated")
	}
	return m
}

func (x *KyvernoException) toothless() *Toothless {
	return &Toothless{
		Cause:  CauseExcluded,
		Reason: fmt.Sprintf("PolicyException %s lets the pod pass, where Kyverno takes exceptions from that namespace", x),
		Mend:   "narrow or delete the exception",
	}
}

// leftOut is set for the namespaces that Kyverno's webhooks and resource filters leave
// out in an installation of its chart with no values changed.
func leftOut(namespace string) *Toothless {
	if !slices.Contains([]string{"kube-system", "kube-public", "kube-node-lease", "kyverno"}, namespace) {
		return nil
	}
	return &Toothless{
		Cause:  CauseExcluded,
		Reason: fmt.Sprintf("Kyverno as it is installed by default is not asked about namespace %s; its configuration is not read", namespace),
		Mend:   "take the namespace out of the webhooks' namespaceSelector and of resourceFilters in Kyverno's configuration, or label it for Pod Security",
	}
}

func auditOnly() *Toothless {
	return &Toothless{
		Cause:  CauseKyvernoAudit,
		Reason: "its failureAction is Audit here: what violates it is reported and created all the same",
		Mend:   "set the rule's validate.failureAction to Enforce",
	}
}

// seesDebug tells whether the rule is asked about ephemeral containers. Kyverno takes
// them in wherever pods are matched, but they come as an update.
func (r *kyvernoRule) seesDebug() bool {
	return slices.ContainsFunc(r.Match.every(), func(f kyvernoFilter) bool {
		operations := f.Resources.Operations
		named := slices.ContainsFunc(f.Resources.Kinds, func(text string) bool {
			k := parseKind(text)
			return wild(k.kind, "Pod")
		})
		return named && (len(operations) == 0 || slices.Contains(operations, "UPDATE"))
	})
}

func debugFault() *Toothless {
	return &Toothless{
		Cause:  CauseKyvernoEphemeral,
		Reason: "the rule's operations leave UPDATE out, by which ephemeral containers come: kubectl debug adds what the rule refuses",
		Mend:   "add UPDATE to the rule's operations, or leave operations out",
	}
}

// mutates tells whether a rule of the policy may change the pod before it is judged.
func (p *KyvernoRules) mutates(t *target) bool {
	if why, _ := p.notReady(); why != "" || leftOut(t.namespace) != nil {
		return false
	}
	for i := range p.spec.Rules {
		r := &p.spec.Rules[i]
		if r.Mutate == nil || len(r.Mutate.Targets) > 0 || !namesPods(r.Match.kinds()) {
			continue
		}
		if matched, excluded := p.matches(r, t); matched.is != no && excluded.is != yes {
			return true
		}
	}
	return false
}

// Faults are the faults of the policy that are there whatever the pods are. A policy
// that has no podSecurity rule for pods has none.
func (p *KyvernoRules) Faults() []Toothless {
	rules := p.podSecurity()
	if len(rules) == 0 {
		return nil
	}
	var faults []Toothless
	if why, mend := p.notReady(); why != "" {
		faults = append(faults, Toothless{Cause: CauseKyvernoNotReady, Reason: why, Mend: mend})
	}
	var audit, debug, controllers []string
	for _, r := range rules {
		if !p.mayEnforce(r) {
			audit = append(audit, r.Name)
			continue
		}
		if !r.seesDebug() {
			debug = append(debug, r.Name)
		}
		if slices.ContainsFunc(podControllers(), func(kind string) bool { return !p.judgesController(r, kind) }) {
			controllers = append(controllers, r.Name)
		}
	}
	add := func(t *Toothless, of []string) {
		if len(of) > 0 {
			t.Reason = strings.Join(of, ", ") + ": " + t.Reason
			faults = append(faults, *t)
		}
	}
	add(&Toothless{
		Cause: CauseKyvernoAudit, Reason: "failureAction is Audit in every namespace: what violates the rule is reported and created all the same",
		Mend: "set the rule's validate.failureAction to Enforce",
	}, audit)
	if len(controllers) > 0 {
		add(p.autogenFault(p.unjudged(rules)), controllers)
	}
	add(debugFault(), debug)
	return faults
}

// unjudged names the controllers that pass.
func (p *KyvernoRules) unjudged(rules []*kyvernoRule) string {
	var kinds []string
	for _, kind := range podControllers() {
		if slices.ContainsFunc(rules, func(r *kyvernoRule) bool { return !p.judgesController(r, kind) }) {
			kinds = append(kinds, kind)
		}
	}
	return strings.Join(kinds, ", ")
}

// Covers tells whether a podSecurity rule of the policy is asked about the creation of
// a pod with these labels in a namespace with these, whatever its action; known is
// false where more than the labels decides. Labels of the namespace that are nil are
// not known.
func (p *KyvernoRules) Covers(namespace string, podLabels, namespaceLabels map[string]string) (covered, known bool) {
	t := &target{namespace: namespace, labels: podLabels, annotationsUnknown: true, namespaceLabels: namespaceLabels}
	if namespaceLabels == nil {
		t.namespaceUnknown = "the labels of the namespace are not known"
	}
	result := match{}
	for _, r := range p.podSecurity() {
		matched, excluded := p.matches(r, t)
		switch excluded.is {
		case yes:
			matched = match{}
		case maybe:
			matched = both(matched, excluded)
		default:
		}
		result = either(result, matched)
	}
	return result.is == yes, result.is != maybe
}
