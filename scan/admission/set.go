package admission

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
)

// Rules is what rules on pods: a policy with its bindings.
type Rules interface {
	// Rule says what it does to the pod. It is empty where it has nothing to do with
	// it.
	Rule(s Subject) []Ruling
	// Reads is what of the pod's identity the rulings depend on. Two pods of one
	// namespace and one spec that do not differ in it get the same rulings.
	Reads() Keys
}

// Keys is what of a pod's identity is read. The spec, the kind of the owner and the
// annotations that the Pod Security Standards name are read always; what of the spec
// tells one workload from another, and opens nothing, is named all the same.
type Keys struct {
	// All: all labels, all annotations, the names and the owner.
	All bool
	// Labels and Annotations are the keys that are read, sorted.
	Labels, Annotations []string
	// AnyLabels and AnyAnnotations: whether there are any at all.
	AnyLabels, AnyAnnotations bool
	// Names: the pod's name and its owner's.
	Names bool
	// Images, Containers and Account: the images of containers, their names, and the
	// pod's service account.
	Images, Containers, Account bool
}

// Set is all that rules on admission in a cluster.
type Set struct {
	// Server is the API server's version, zero when it is not known.
	Server      psa.Version
	Kyverno     []*KyvernoRules
	Exceptions  []*KyvernoException
	Expressions []Rules
	// KyvernoDoubt says why a refusal of Kyverno's is not sure, and unknown then: the
	// API server may not ask it at all, or exceptions could not be read.
	KyvernoDoubt string
	// Missing is what could not be read, a sentence each. Where nothing else refuses,
	// it leaves the answer unknown.
	Missing []string
	// Standards keeps the checks of the Pod Security Standards; nil has them put together
	// each time.
	Standards *Standards
}

// mirrorAnnotation marks a pod that the kubelet started from a file.
const mirrorAnnotation = corev1.MirrorPodAnnotationKey

// Decide says whether the API server would take the pod: refused when one refuses,
// else unknown when one is unknown or something is missing, else admitted.
func (s *Set) Decide(sub Subject) Decision {
	d := Decision{Rulings: s.judgePodSecurity(sub)}
	t := targetOf(sub)
	for _, p := range s.Kyverno {
		d.Rulings = append(d.Rulings, p.judge(t, s.Exceptions, s.KyvernoDoubt)...)
	}
	for _, rules := range s.Expressions {
		d.Rulings = append(d.Rulings, rules.Rule(sub)...)
	}
	d.Answer, d.Reason = conclude(d.Rulings, s.Missing)
	if _, static := sub.Pod.Annotations[mirrorAnnotation]; static {
		d.Answer = Admits
		d.Reason = "a static pod: the kubelet starts it from a file of its node, and admission keeps only its mirror out of the API"
		return d
	}
	if d.Answer != Unknown {
		d.Reason += s.mutation(t)
	}
	return d
}

// mutation names the policies that may change the pod before it is judged.
func (s *Set) mutation(t *target) string {
	var names []string
	for _, p := range s.Kyverno {
		if p.mutates(t) {
			names = append(names, p.ref("").String())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; " + strings.Join(names, ", ") + " may change the pod before it is judged, which is not looked into"
}

// conclude joins rulings to an answer and the sentence that gives its reason.
func conclude(rulings []Ruling, missing []string) (Answer, string) {
	refuses := withAnswer(rulings, Refuses)
	unknown := withAnswer(rulings, Unknown)
	switch {
	case len(refuses) > 0:
		return Refuses, refusedBy(refuses)
	case len(unknown) > 0:
		reason := fmt.Sprintf("nothing that is known refuses it, but %s: %s", unknown[0].By, unknown[0].Message)
		return Unknown, reason + others(len(unknown)-1)
	case len(missing) > 0:
		return Unknown, "nothing that is known refuses it, but " + strings.Join(missing, "; ")
	}
	for _, r := range rulings {
		if r.Toothless != nil {
			return Admits, fmt.Sprintf("nothing refuses it; %s would: %s", r.By, r.Toothless.Reason)
		}
	}
	if len(rulings) > 0 && rulings[0].By.Mechanism == PodSecurity {
		return Admits, "nothing refuses it; " + rulings[0].Message
	}
	return Admits, "nothing refuses it"
}

func withAnswer(rulings []Ruling, answer Answer) []Ruling {
	var found []Ruling
	for _, r := range rulings {
		if r.Answer == answer {
			found = append(found, r)
		}
	}
	return found
}

// refusedBy names who refuses: the first in full, the others by name.
func refusedBy(refuses []Ruling) string {
	first := refuses[0]
	reason := first.By.String() + " refuses it"
	if len(first.Controls) > 0 {
		reason += " (" + strings.Join(first.Controls, ", ") + ")"
	}
	var also []string
	for _, r := range refuses[1:] {
		also = append(also, r.By.String())
	}
	if len(also) > 0 {
		reason += ", and so does " + strings.Join(also, ", ")
	}
	if first.By.Mechanism == PodSecurity && len(also) == 0 {
		reason += ", unless the API server's configuration exempts it"
	}
	return reason
}

func others(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return " (and one more)"
	}
	return fmt.Sprintf(" (and %d more)", n)
}

// Keys is what of a pod's identity the policies read.
func (s *Set) Keys() Keys {
	keys := Keys{Annotations: []string{mirrorAnnotation}}
	for _, p := range s.Kyverno {
		keys = keys.with(p.reads())
	}
	for _, x := range s.Exceptions {
		keys = keys.with(x.reads())
	}
	for _, rules := range s.Expressions {
		keys = keys.with(rules.Reads())
	}
	return keys.sorted()
}
