package scan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// halves finds pairs of an admission policy and a KubeArmor policy that select by
// the same labels and cover different pods: one takes any of them, the other wants
// all. nimbus writes its sets so.
func (s *surroundings) halves(covers *coverages) []Halves {
	var found []Halves
	for _, k := range s.admission.Kyverno {
		labels := k.SelectorLabels()
		if len(labels) < 2 {
			continue
		}
		for _, p := range s.armor.Policies() {
			if !maps.Equal(p.Selector.Labels, labels) {
				continue
			}
			one, other := s.differ(k, p, covers)
			found = append(found, Halves{Admission: k.Ref(), Runtime: p.Ref, AdmissionOnly: one, RuntimeOnly: other})
		}
	}
	return found
}

// Halves are an admission policy and a KubeArmor policy that select by the same labels,
// and how many pods only one of the two covers.
type Halves struct {
	Admission     admission.Ref `json:"admission"`
	Runtime       armor.Ref     `json:"runtime"`
	AdmissionOnly int           `json:"admissionOnly,omitempty"`
	RuntimeOnly   int           `json:"runtimeOnly,omitempty"`
}

// finding says that the two differ; ok is false where they do not.
func (h *Halves) finding(cluster string, rules *ruleIndex) (f Finding, ok bool) {
	if h.AdmissionOnly+h.RuntimeOnly == 0 {
		return f, false
	}
	ref := h.Admission
	f = rules.finding(policyRule(armor.CauseHalvesDiffer), Workload{Cluster: cluster, Namespace: ref.Namespace, Kind: ref.Kind, Name: ref.Name}, "spec.rules")
	f.Item = h.Runtime.String()
	f.Policies = []string{ref.String(), h.Runtime.String()}
	f.Message = fmt.Sprintf("selects by the same labels as %s and covers other pods: %s have the admission half only, %s the KubeArmor half only", h.Runtime, pods(h.AdmissionOnly), pods(h.RuntimeOnly))
	f.Mend = "put the labels into one selector of match.all, so that all of them must match"
	return f, true
}

// differ counts the pods that only one of the two covers.
func (s *surroundings) differ(k *admission.KyvernoRules, p *armor.Policy, covers *coverages) (kyvernoOnly, armorOnly int) {
	for _, cov := range covers.sorted() {
		if p.Kind == armor.KubeArmorPolicy && cov.namespace != p.Namespace {
			continue
		}
		ns, _ := s.namespace(cov.namespace)
		if ns == nil {
			continue
		}
		first, known := k.Covers(cov.namespace, cov.labels, ns.Labels)
		second := slices.ContainsFunc(cov.policies, func(q *armor.Policy) bool { return q.Ref == p.Ref })
		switch {
		case !known || first == second:
		case first:
			kyvernoOnly += cov.pods
		default:
			armorOnly += cov.pods
		}
	}
	return kyvernoOnly, armorOnly
}

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}

// sorted are the coverages in an order that does not hang on a map's.
func (c *coverages) sorted() []*coverage {
	return slices.SortedFunc(maps.Values(c.by), func(a, b *coverage) int { return cmp.Compare(a.key, b.key) })
}
