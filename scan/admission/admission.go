// Package admission says whether the API server would take a pod again: by the
// pod-security labels of its namespace, by Kyverno's policies and by policies in
// CEL. It is pure: objects come in as values. What cannot be evaluated is unknown,
// with the reason, and never a guess.
package admission

import (
	corev1 "k8s.io/api/core/v1"
)

// Answer is what would happen to a pod like the one judged.
type Answer string

// The answers.
const (
	// Refuses: the pod would not be created.
	Refuses Answer = "refuses"
	// Admits: nothing that is known refuses it.
	Admits Answer = "admits"
	// Unknown: what would decide could not be read or evaluated.
	Unknown Answer = "unknown"
)

// Mechanism is what rules on admission.
type Mechanism string

// The mechanisms.
const (
	PodSecurity               Mechanism = "PodSecurity"
	KyvernoPolicy             Mechanism = "Kyverno policy"
	KyvernoValidatingPolicy   Mechanism = "Kyverno ValidatingPolicy"
	ValidatingAdmissionPolicy Mechanism = "ValidatingAdmissionPolicy"
	AskedServer               Mechanism = "API server (dry run)"
)

// Ref names what rules: a namespace for PodSecurity, a policy (and its rule) for
// the others.
type Ref struct {
	Mechanism Mechanism `json:"mechanism"`
	Kind      string    `json:"kind,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	Rule      string    `json:"rule,omitempty"`
}

// String names it for people.
func (r Ref) String() string {
	s := r.Kind + " "
	if r.Mechanism == PodSecurity || r.Mechanism == AskedServer {
		s = string(r.Mechanism) + " "
	}
	if r.Namespace != "" {
		s += r.Namespace + "/"
	}
	s += r.Name
	if r.Rule != "" {
		s += " (" + r.Rule + ")"
	}
	return s
}

// Ruling is what one policy says of one pod.
type Ruling struct {
	By     Ref    `json:"by"`
	Answer Answer `json:"answer"`
	// Controls are the Pod Security Standards' controls that refuse, by their
	// official IDs, where the policy speaks of them.
	Controls []string `json:"controls,omitempty"`
	// Message is what the user who is refused would read, or why it is unknown.
	Message string `json:"message,omitempty"`
	// Toothless is set where the policy would refuse and does not, for it warns,
	// audits or passes by.
	Toothless *Toothless `json:"toothless,omitempty"`
}

// Decision is what all of them say together: refused when one refuses, else unknown
// when one is unknown, else admitted.
type Decision struct {
	Answer  Answer   `json:"answer"`
	Reason  string   `json:"reason"`
	Rulings []Ruling `json:"rulings,omitempty"`
}

// Cause is a reason why a policy that exists does not bite. Its text is stable: it
// is the end of a rule's ID.
type Cause string

// The causes.
const (
	// CausePSANotEnforced: the label warns or audits only.
	CausePSANotEnforced Cause = "psa-not-enforced"
	// CausePSAOldVersion: the label is pinned to a version that lacks a control.
	CausePSAOldVersion Cause = "psa-old-version"
	// CausePSAInvalid: the label's value is none that the server knows.
	CausePSAInvalid Cause = "psa-invalid-label"
	// CauseKyvernoAudit: failureAction is Audit, here or by an override.
	CauseKyvernoAudit Cause = "kyverno-audit"
	// CauseKyvernoAutogen: autogen is off, so a controller passes and its pods are
	// refused later.
	CauseKyvernoAutogen Cause = "kyverno-autogen-off"
	// CauseKyvernoEphemeral: pods/ephemeralcontainers is not matched.
	CauseKyvernoEphemeral Cause = "kyverno-ephemeral-containers"
	// CauseKyvernoNotReady: Kyverno itself says that the policy is not ready, or
	// admission is switched off in it.
	CauseKyvernoNotReady Cause = "kyverno-not-ready"
	// CauseExcluded: an exclude block or a PolicyException lets the pod pass.
	CauseExcluded Cause = "kyverno-excluded"
	// CauseVAPNotEnforced: its bindings warn or audit only.
	CauseVAPNotEnforced Cause = "vap-not-enforced"
	// CauseVAPUnbound: no binding names it.
	CauseVAPUnbound Cause = "vap-unbound"
	// CauseFailOpen: an expression fails on this pod, and failurePolicy is Ignore.
	CauseFailOpen Cause = "fails-open"
)

// Toothless is why a policy does not bite and what would make it.
type Toothless struct {
	Cause  Cause  `json:"cause"`
	Reason string `json:"reason"`
	Mend   string `json:"mend"`
}

// Subject is the pod that is judged, as it would be created.
type Subject struct {
	// Pod has name, namespace, labels, annotations and the whole spec, with the
	// API server's defaults.
	Pod *corev1.Pod
	// Namespace is the pod's, nil when it could not be read; NamespaceUnknown says
	// why.
	Namespace        *corev1.Namespace
	NamespaceUnknown string
	// OwnerKind and OwnerName are the workload's, "Pod" for a pod of its own.
	OwnerKind, OwnerName string
	// Debugged: the pod runs, and its ephemeral containers are what is new. Policies in
	// CEL are asked about that update then; the others judge it as they judge the pod's
	// creation, or pass it by (CauseKyvernoEphemeral).
	Debugged bool
}
