package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	strict "sigs.k8s.io/json"
)

// The kinds of Kyverno's policies in its own language (group kyverno.io).
const (
	kindClusterPolicy = "ClusterPolicy"
	kindPolicy        = "Policy"
)

// KyvernoRules is a ClusterPolicy or Policy of Kyverno's, read as Kyverno 1.19 reads
// it. Its podSecurity rules are judged; whether other validate rules refuse a pod that
// they match is not known. Rules that generate objects and rules that verify images
// play no part: what they look at is not in the pod.
type KyvernoRules struct {
	Kind, Namespace, Name string

	spec   kyvernoSpec
	status kyvernoStatus
	// autogen is for which controllers Kyverno writes rules of its own, autogenOff why
	// it does for none.
	autogen    []string
	autogenOff string
	// asked: Kyverno's webhook is called for pods on behalf of this policy.
	asked bool
}

type kyvernoObject struct {
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec   kyvernoSpec   `json:"spec"`
	Status kyvernoStatus `json:"status"`
}

type kyvernoSpec struct {
	Rules                            []kyvernoRule     `json:"rules"`
	ApplyRules                       string            `json:"applyRules"`
	ValidationFailureAction          string            `json:"validationFailureAction"`
	ValidationFailureActionOverrides []kyvernoOverride `json:"validationFailureActionOverrides"`
	Admission                        *bool             `json:"admission"`
	WebhookConfiguration             struct {
		MatchConditions []json.RawMessage `json:"matchConditions"`
	} `json:"webhookConfiguration"`
}

type kyvernoStatus struct {
	Conditions []struct {
		Type    string `json:"type"`
		Status  string `json:"status"`
		Message string `json:"message"`
	} `json:"conditions"`
	ValidatingAdmissionPolicy struct {
		Generated bool `json:"generated"`
	} `json:"validatingadmissionpolicy"`
}

type kyvernoRule struct {
	Name             string            `json:"name"`
	Match            kyvernoMatch      `json:"match"`
	Exclude          *kyvernoMatch     `json:"exclude"`
	Preconditions    json.RawMessage   `json:"preconditions"`
	CELPreconditions []json.RawMessage `json:"celPreconditions"`
	Context          []json.RawMessage `json:"context"`
	Validate         *kyvernoValidate  `json:"validate"`
	Mutate           *kyvernoMutate    `json:"mutate"`
	Generate         json.RawMessage   `json:"generate"`

	conditions kyvernoPreconditions
}

type kyvernoMutate struct {
	PatchesJSON6902 string            `json:"patchesJson6902"`
	ForEach         []kyvernoMutate   `json:"foreach"`
	Targets         []json.RawMessage `json:"targets"`
}

type kyvernoValidate struct {
	FailureAction          *string             `json:"failureAction"`
	FailureActionOverrides []kyvernoOverride   `json:"failureActionOverrides"`
	PodSecurity            *kyvernoPodSecurity `json:"podSecurity"`
	CEL                    json.RawMessage     `json:"cel"`
	Manifests              json.RawMessage     `json:"manifests"`
	Pattern                json.RawMessage     `json:"pattern"`
	AnyPattern             json.RawMessage     `json:"anyPattern"`
	ForEach                json.RawMessage     `json:"foreach"`
	Deny                   json.RawMessage     `json:"deny"`
	Assert                 json.RawMessage     `json:"assert"`
}

type kyvernoOverride struct {
	Action            string                `json:"action"`
	Namespaces        []string              `json:"namespaces"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector"`
}

type kyvernoPodSecurity struct {
	Level   string            `json:"level"`
	Version string            `json:"version"`
	Exclude []kyvernoStandard `json:"exclude"`

	// asks is what level and version mean, and checks are Kyverno's checks of it.
	asks   psa.LevelVersion
	checks standards
}

// kyvernoStandard takes a control out of a podSecurity rule.
type kyvernoStandard struct {
	ControlName     string   `json:"controlName"`
	Images          []string `json:"images"`
	RestrictedField string   `json:"restrictedField"`
	Values          []string `json:"values"`
}

type kyvernoMatch struct {
	Any []kyvernoFilter `json:"any"`
	All []kyvernoFilter `json:"all"`
	kyvernoFilter
}

// filters are those that decide, and whether one of them is enough.
func (m *kyvernoMatch) filters() (filters []kyvernoFilter, anyOf bool) {
	switch {
	case len(m.Any) > 0:
		return m.Any, true
	case len(m.All) > 0:
		return m.All, false
	}
	return []kyvernoFilter{m.kyvernoFilter}, true
}

// every are all filters, those that do not decide with them.
func (m *kyvernoMatch) every() []kyvernoFilter {
	return slices.Concat([]kyvernoFilter{m.kyvernoFilter}, m.All, m.Any)
}

// settle works out what is asked of each pod.
func (m *kyvernoMatch) settle() {
	m.Resources.pods = namesPods(m.Resources.Kinds)
	for _, filters := range [][]kyvernoFilter{m.All, m.Any} {
		for i := range filters {
			filters[i].Resources.pods = namesPods(filters[i].Resources.Kinds)
		}
	}
}

// kinds are the kinds that the filters name, all of them.
func (m *kyvernoMatch) kinds() []string {
	var kinds []string
	for _, f := range m.every() {
		kinds = append(kinds, f.Resources.Kinds...)
	}
	return kinds
}

type kyvernoFilter struct {
	Resources    kyvernoResources `json:"resources"`
	Roles        []string         `json:"roles"`
	ClusterRoles []string         `json:"clusterRoles"`
	Subjects     json.RawMessage  `json:"subjects"`
}

// byUser tells whether the filter asks who the user is.
func (f *kyvernoFilter) byUser() bool {
	return len(f.Roles) > 0 || len(f.ClusterRoles) > 0 || given(f.Subjects)
}

type kyvernoResources struct {
	Kinds             []string              `json:"kinds"`
	Name              string                `json:"name"`
	Names             []string              `json:"names"`
	Namespaces        []string              `json:"namespaces"`
	Annotations       map[string]string     `json:"annotations"`
	Selector          *metav1.LabelSelector `json:"selector"`
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector"`
	Operations        []string              `json:"operations"`

	// pods: one of the kinds is the pod's.
	pods bool
}

func (r *kyvernoResources) empty() bool {
	return len(r.Kinds) == 0 && r.Name == "" && len(r.Names) == 0 && len(r.Namespaces) == 0 &&
		len(r.Annotations) == 0 && r.Selector == nil && r.NamespaceSelector == nil && len(r.Operations) == 0
}

// given tells whether a field that is not read further holds anything.
func given(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "[]", "{}":
		return false
	}
	return true
}

// DecodeKyverno reads a ClusterPolicy or Policy (kyverno.io/v1, or v2beta1 that is
// shaped alike) from JSON.
func DecodeKyverno(kind string, object []byte) (*KyvernoRules, error) {
	if kind != kindClusterPolicy && kind != kindPolicy {
		return nil, fmt.Errorf("%s: not a kind of Kyverno's policies", kind)
	}
	var o kyvernoObject
	if err := strict.UnmarshalCaseSensitivePreserveInts(object, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", named(kind, object), err)
	}
	p := &KyvernoRules{Kind: kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, spec: o.Spec, status: o.Status}
	switch {
	case p.Name == "":
		return nil, fmt.Errorf("%s: it has no name", kind)
	case kind == kindPolicy && p.Namespace == "":
		return nil, fmt.Errorf("%s %s: it has no namespace", kind, p.Name)
	case kind == kindClusterPolicy:
		p.Namespace = ""
	}
	for i := range p.spec.Rules {
		if err := p.spec.Rules[i].settle(); err != nil {
			return nil, fmt.Errorf("%s, rule %q: %w", p.ref(""), p.spec.Rules[i].Name, err)
		}
	}
	p.autogen, p.autogenOff = autogenFor(&p.spec, o.Metadata.Annotations)
	p.asked = slices.ContainsFunc(p.spec.Rules, func(r kyvernoRule) bool { return r.Validate != nil && namesPods(r.Match.kinds()) })
	return p, nil
}

// named names an object that may not be readable as what it should be.
func named(kind string, object []byte) string {
	var o struct {
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	// What cannot be read stays empty; the caller has the error already.
	if err := json.Unmarshal(object, &o); err != nil || o.Metadata.Name == "" {
		return kind
	}
	return Ref{Kind: kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name}.String()
}

// settle reads what a rule asks for.
func (r *kyvernoRule) settle() error {
	r.Match.settle()
	if r.Exclude != nil {
		r.Exclude.settle()
	}
	r.conditions = readPreconditions(r.Preconditions)
	if r.Validate == nil || r.Validate.PodSecurity == nil {
		return nil
	}
	s := r.Validate.PodSecurity
	asks, err := s.levelVersion()
	if err != nil {
		return err
	}
	s.asks, s.checks = asks, kyvernoStandards(asks)
	return nil
}

// ref names the policy, or one of its rules.
func (p *KyvernoRules) ref(rule string) Ref {
	return Ref{Mechanism: KyvernoPolicy, Kind: p.Kind, Namespace: p.Namespace, Name: p.Name, Rule: rule}
}

// notReady says why Kyverno does not apply the policy at admission, "" when it does
// as far as the policy tells. A policy without a status is one of a file, or one that
// Kyverno has not come to: Set.KyvernoDoubt is for the second.
func (p *KyvernoRules) notReady() (why, mend string) {
	if p.spec.Admission != nil && !*p.spec.Admission {
		return "spec.admission is false: it is applied to nothing that is created", "set spec.admission to true"
	}
	for _, c := range p.status.Conditions {
		if c.Type == "Ready" && c.Status != string(metav1.ConditionTrue) {
			return "Kyverno says that it is not ready: " + c.Message, "see the policy's status and the log of Kyverno's admission controller"
		}
	}
	return "", ""
}

// podSecurity are the rules that are judged.
func (p *KyvernoRules) podSecurity() []*kyvernoRule {
	var rules []*kyvernoRule
	for i := range p.spec.Rules {
		if r := &p.spec.Rules[i]; r.Validate != nil && r.Validate.PodSecurity != nil && namesPods(r.Match.kinds()) {
			rules = append(rules, r)
		}
	}
	return rules
}

// KyvernoException is a PolicyException of Kyverno's (kyverno.io/v2, v2beta1).
type KyvernoException struct {
	Namespace, Name string
	spec            kyvernoExceptionSpec
}

type kyvernoExceptionSpec struct {
	Match      kyvernoMatch    `json:"match"`
	Conditions json.RawMessage `json:"conditions"`
	Exceptions []struct {
		PolicyName string   `json:"policyName"`
		RuleNames  []string `json:"ruleNames"`
	} `json:"exceptions"`
	PodSecurity []kyvernoStandard `json:"podSecurity"`
}

// DecodeKyvernoException reads a PolicyException from JSON.
func DecodeKyvernoException(object []byte) (*KyvernoException, error) {
	var o struct {
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
		Spec kyvernoExceptionSpec `json:"spec"`
	}
	if err := strict.UnmarshalCaseSensitivePreserveInts(object, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", named("PolicyException", object), err)
	}
	if o.Metadata.Name == "" {
		return nil, errors.New("PolicyException: it has no name")
	}
	o.Spec.Match.settle()
	return &KyvernoException{Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, spec: o.Spec}, nil
}

// speaksOf tells whether the exception names a rule of a policy.
func (x *KyvernoException) speaksOf(p *KyvernoRules, rule string) bool {
	policy := p.Name
	if p.Namespace != "" {
		policy = p.Namespace + "/" + p.Name
	}
	for _, e := range x.spec.Exceptions {
		if e.PolicyName == policy && slices.ContainsFunc(e.RuleNames, func(pattern string) bool { return wild(pattern, rule) }) {
			return true
		}
	}
	return false
}
