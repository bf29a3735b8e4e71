package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// policyTally counts what policies do to the workloads that they select.
type policyTally struct {
	by map[string]*policyCount
}

type policyCount struct {
	workloads, pods int
	// dead counts the workloads on which the policy has no effect, weak those on which
	// it has less than it says, unsure those of which that is not known.
	dead, weak, unsure int
	reasons            []string
}

func newPolicyTally() *policyTally { return &policyTally{by: map[string]*policyCount{}} }

func (t *policyTally) of(name string) *policyCount {
	c := t.by[name]
	if c == nil {
		c = &policyCount{}
		t.by[name] = c
	}
	return c
}

func (c *policyCount) because(reason string) {
	if reason != "" && !slices.Contains(c.reasons, reason) {
		c.reasons = append(c.reasons, reason)
	}
}

// add counts one workload.
func (t *policyTally) add(r *rows, rules *ruleIndex) {
	if r.layers == nil {
		return
	}
	for _, ref := range r.layers.Runtime.Policies {
		c := t.of(ref.String())
		c.workloads++
		c.pods += r.pods
		c.weigh(ref, r.layers.Runtime.Toothless)
	}
	counted := map[string]bool{}
	for _, ruling := range r.layers.Admission.Rulings {
		ref := ruling.By
		ref.Rule = ""
		if ref.Mechanism == admission.PodSecurity || ref.Mechanism == admission.AskedServer {
			continue
		}
		c := t.of(ref.String())
		if !counted[ref.String()] {
			counted[ref.String()] = true
			c.workloads++
			c.pods += r.pods
		}
		switch {
		case ruling.Toothless != nil && rules.tells(ruling.By, ruling.Toothless.Cause):
		case ruling.Toothless != nil:
			c.weak++
			c.because(ruling.Toothless.Reason)
		case ruling.Answer == admission.Unknown:
			c.unsure++
			c.because(ruling.Message)
		}
	}
}

// weigh takes in why a policy does not bite on a workload, the gravest cause only.
func (c *policyCount) weigh(ref armor.Ref, toothless []armor.Toothless) {
	dead, weak, unsure := false, false, false
	for _, t := range toothless {
		if t.Policy != ref {
			continue
		}
		switch {
		case !t.Certain:
			unsure = true
		case t.Cause == armor.CauseCapabilityAudit, t.Cause == armor.CauseEmpty:
			// The policy's own faults are told by its event.
			weak = true
			continue
		case wholePod(t.Cause):
			dead = true
		default:
			weak = true
		}
		c.because(t.Reason)
	}
	switch {
	case dead:
		c.dead++
	case weak:
		c.weak++
	case unsure:
		c.unsure++
	}
}

// wholePod reports whether nothing of a policy has an effect in the pod.
func wholePod(c armor.Cause) bool {
	switch c {
	case armor.CauseHostPID, armor.CauseUntracked, armor.CausePodAudited, armor.CausePodDisabled,
		armor.CauseNoAgent, armor.CauseNoEnforcer:
		return true
	default:
		return false
	}
}

// bites sums a policy up. faults are what is wrong with its own text.
func (c *policyCount) bites(faults []string) (Bite, []string) {
	reasons := slices.Concat(faults, c.reasons)
	const most = 5
	if len(reasons) > most {
		reasons = append(reasons[:most:most], fmt.Sprintf("and %d more reasons", len(reasons)-most))
	}
	switch {
	case c.workloads > 0 && c.dead == c.workloads:
		return BitesNo, reasons
	case c.dead+c.weak > 0:
		return BitesPartly, reasons
	case c.unsure > 0:
		return BitesUnknown, reasons
	}
	return BitesYes, reasons
}

// admissionPolicy is a policy of admission, whatever its kind.
type admissionPolicy struct {
	ref    admission.Ref
	action string
	faults []admission.Toothless
}

// policyScope is what of a cluster was looked at.
type policyScope struct {
	// namespaces are those of the run; none means all.
	namespaces []string
	// whole tells whether all pods of a namespace ("" for the cluster) were seen: only
	// then a policy that selected nothing is known to select nothing.
	whole func(namespace string) bool
}

// covers reports whether a namespace, or "" for what belongs to the cluster, is of
// interest in the run.
func (s policyScope) covers(namespace string) bool {
	return namespace == "" || len(s.namespaces) == 0 || slices.Contains(s.namespaces, namespace)
}

// policyEvents are the findings about policies and nodes themselves, and the policies
// with what they do.
func (s *surroundings) policyEvents(cluster string, rules *ruleIndex, tally *policyTally, scope policyScope, covers *coverages) ([]Finding, []Policy) {
	policies := tally.events(s, scope)
	findings := s.staticFindings(cluster, rules, scope.covers)
	for _, p := range policies {
		if p.Layer == LayerRuntime && p.Workloads == 0 && p.Bites == BitesNo && scope.whole(p.Namespace) {
			f := rules.finding(policyRule(armor.CauseSelectsNothing), Workload{Cluster: cluster, Namespace: p.Namespace, Kind: p.Kind, Name: p.Name}, "spec.selector")
			f.Message, f.Mend = "no pod has what the selector asks for", "correct the selector, or delete the policy"
			findings = append(findings, f)
		}
	}
	for _, n := range s.sortedNodes() {
		if n.crowded() && len(s.armor.Policies()) > 0 {
			findings = append(findings, n.crowding(rules, cluster))
		}
	}
	findings = append(findings, s.halves(cluster, rules, covers)...)
	return findings, policies
}

// events are the policies that were found, with what they do.
func (t *policyTally) events(s *surroundings, scope policyScope) []Policy {
	whole := scope.whole
	var list []Policy
	for _, p := range s.armor.Policies() {
		if !scope.covers(p.Namespace) {
			continue
		}
		c := t.of(p.Ref.String())
		e := Policy{Layer: LayerRuntime, Kind: string(p.Kind), Namespace: p.Namespace, Name: p.Name, Action: actionsOf(p), Workloads: c.workloads, Pods: c.pods}
		var faults []string
		for _, f := range p.Faults() {
			faults = append(faults, f.Reason)
		}
		e.Bites, e.Reasons = c.bites(faults)
		switch {
		case p.Inert():
			e.Bites = BitesNo
		case c.workloads == 0 && whole(p.Namespace):
			e.Bites, e.Reasons = BitesNo, append(faults, "it selects no pod")
		case c.workloads == 0:
			e.Bites, e.Reasons = BitesUnknown, append(faults, "it selects none of the pods that were read; not all of its scope was")
		case len(faults) > 0 && e.Bites == BitesYes:
			e.Bites = BitesPartly
		}
		list = append(list, e)
	}
	for _, p := range s.admissionPolicies() {
		if !scope.covers(p.ref.Namespace) {
			continue
		}
		c := t.of(p.ref.String())
		e := Policy{Layer: LayerAdmission, Kind: p.ref.Kind, Namespace: p.ref.Namespace, Name: p.ref.Name, Action: p.action, Workloads: c.workloads, Pods: c.pods}
		var faults []string
		dead := false
		for _, f := range p.faults {
			faults = append(faults, f.Reason)
			dead = dead || deadCause(f.Cause)
		}
		e.Bites, e.Reasons = c.bites(faults)
		switch {
		case dead:
			e.Bites = BitesNo
		case len(faults) > 0 && e.Bites == BitesYes:
			e.Bites = BitesPartly
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b Policy) int {
		return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func actionsOf(p *armor.Policy) string {
	actions := p.Actions()
	if len(actions) == 0 {
		return string(p.Action)
	}
	names := make([]string, len(actions))
	for i, a := range actions {
		names[i] = string(a)
	}
	return strings.Join(names, ", ")
}

// deadCause reports whether a policy of admission refuses nothing at all.
func deadCause(c admission.Cause) bool {
	switch c {
	case admission.CauseKyvernoAudit, admission.CauseKyvernoNotReady, admission.CauseVAPNotEnforced, admission.CauseVAPUnbound:
		return true
	default:
		return false
	}
}
