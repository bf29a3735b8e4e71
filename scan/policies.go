package scan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
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
	// aside counts, by their containers' names, the workloads on which nothing is said
	// against it: whether it speaks of one of these the policy itself tells.
	aside map[string]int
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

// policyPart is what one policy does to one workload.
type policyPart struct {
	policy string
	pods   int
	effect policyEffect
	// reasons are why it has less effect than it says. names are those of the workload's
	// containers where nothing is said against it; beside is true there.
	reasons []string
	beside  bool
	names   string
}

// add counts what policies do to one workload.
func (t *policyTally) add(parts []policyPart) {
	for i := range parts {
		part := &parts[i]
		c := t.of(part.policy)
		c.workloads++
		c.pods += part.pods
		switch part.effect {
		case effectNone:
			c.dead++
		case effectLess:
			c.weak++
		case effectUnknown:
			c.unsure++
		case effectWhole:
		}
		for _, reason := range part.reasons {
			c.because(reason)
		}
		if part.beside {
			if c.aside == nil {
				c.aside = map[string]int{}
			}
			c.aside[part.names]++
		}
	}
}

// policyParts are what the policies do that concern the workload.
func (r *rows) policyParts(rules *ruleIndex) []policyPart {
	if r.layers == nil {
		return nil
	}
	var parts []policyPart
	for _, ref := range r.layers.Runtime.Policies {
		parts = append(parts, r.runtimePart(ref))
	}
	return append(parts, r.admissionParts(rules)...)
}

func (r *rows) admissionParts(rules *ruleIndex) []policyPart {
	var parts []policyPart
	at := map[string]int{}
	for _, ruling := range r.layers.Admission.Rulings {
		ref := ruling.By
		ref.Rule = ""
		if ref.Mechanism == admission.PodSecurity || ref.Mechanism == admission.AskedServer {
			continue
		}
		name := ref.String()
		i, counted := at[name]
		if !counted {
			i = len(parts)
			at[name] = i
			parts = append(parts, policyPart{policy: name, pods: r.pods})
		}
		part := &parts[i]
		switch {
		case ruling.Toothless != nil && rules.tells(ruling.By, ruling.Toothless.Cause):
		case ruling.Toothless != nil:
			part.effect = max(part.effect, effectLess)
			part.because(ruling.Toothless.Reason)
		case ruling.Answer == admission.Unknown:
			part.effect = max(part.effect, effectUnknown)
			part.because(ruling.Message)
		}
	}
	return parts
}

func (p *policyPart) because(reason string) {
	if reason != "" && !slices.Contains(p.reasons, reason) {
		p.reasons = append(p.reasons, reason)
	}
}

// runtimePart says why a policy does not bite on the workload, the gravest cause only.
// It is dead there only where it is on every part of the pods.
func (r *rows) runtimePart(ref armor.Ref) policyPart {
	part := policyPart{policy: ref.String(), pods: r.pods}
	dead, alive, weak, unsure := false, false, false, false
	seen := map[*Layers]bool{}
	for _, source := range r.parts() {
		l := source.layers
		if seen[l] || !slices.Contains(l.Runtime.Policies, ref) {
			continue
		}
		seen[l] = true
		switch part.on(ref, l) {
		case effectNone:
			dead = true
		case effectLess:
			alive, weak = true, true
		case effectUnknown:
			alive, unsure = true, true
		case effectWhole:
			alive = true
		}
	}
	switch {
	case dead && !alive:
		part.effect = effectNone
	case dead || weak:
		part.effect = effectLess
	case unsure:
		part.effect = effectUnknown
	default:
		part.beside, part.names = true, containerNames(r.layers)
	}
	return part
}

// parts are the answers of which the rows are made, in the same order in every run.
func (r *rows) parts() []layerSource {
	parts := slices.Collect(maps.Keys(r.layered))
	slices.SortFunc(parts, func(a, b layerSource) int {
		return cmp.Or(cmp.Compare(a.layers.Kernel.Reason, b.layers.Kernel.Reason),
			cmp.Compare(toothlessText(a.layers), toothlessText(b.layers)))
	})
	return parts
}

func toothlessText(l *Layers) string { return fmt.Sprint(l.Runtime.Toothless) }

func containerNames(l *Layers) string {
	var names []string
	for _, c := range l.Runtime.Containers {
		if !slices.Contains(names, c.Container) {
			names = append(names, c.Container)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\x00")
}

// policyEffect is what a policy does to some pods.
type policyEffect int

const (
	effectWhole policyEffect = iota
	effectUnknown
	effectLess
	effectNone
)

// on is what the policy does to one part of the pods.
func (p *policyPart) on(ref armor.Ref, l *Layers) policyEffect {
	effect := effectWhole
	for _, t := range l.Runtime.Toothless {
		if t.Policy != ref {
			continue
		}
		switch {
		case !t.Certain:
			effect = max(effect, effectUnknown)
		case t.Cause == armor.CauseCapabilityAudit, t.Cause == armor.CauseEmpty:
			// The policy's own faults are told by its event.
			effect = max(effect, effectLess)
			continue
		case wholePod(t.Cause):
			effect = effectNone
		default:
			effect = max(effect, effectLess)
		}
		p.because(t.Reason)
	}
	if effect >= effectLess {
		return effect
	}
	if answer := l.enforces(ref); answer != kernel.Yes {
		p.because(cmp.Or(l.Kernel.Reason, "whether the node enforces it is not known"))
		return effectUnknown
	}
	return effect
}

// enforces is whether the nodes enforce what a policy asks for, as far as is known.
// Where it decides about capabilities alone, or about programs alone, the other does
// not matter.
func (l *Layers) enforces(ref armor.Ref) kernel.Answer {
	capabilities, programs := false, false
	for i := range l.Runtime.Containers {
		for k := range l.Runtime.Containers[i].Covers {
			cover := &l.Runtime.Containers[i].Covers[k]
			if slices.Contains(cover.By, ref) {
				capabilities = capabilities || cover.Element.Kind == armor.Capability
				programs = programs || cover.Element.Kind != armor.Capability
			}
		}
	}
	answer := kernel.Yes
	if capabilities || !programs {
		answer = worseAnswer(answer, l.Kernel.Capabilities)
	}
	if programs || !capabilities {
		answer = worseAnswer(answer, l.Kernel.Processes)
	}
	if l.Kernel.Grade != "" && l.Kernel.Grade.Rank() < kernel.Claimed.Rank() {
		return worseAnswer(answer, kernel.Unknown)
	}
	return answer
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
	return s.outline(cluster, rules, scope).events(cluster, rules, tally, scope, s.crowded(), s.halves(covers))
}

// beside counts the workloads of which a policy limited to some containers has none.
func (c *policyCount) beside(p *RuntimeOutline) {
	if len(p.Containers) == 0 {
		return
	}
	for names, n := range c.aside {
		if slices.ContainsFunc(strings.Split(names, "\x00"), func(name string) bool { return slices.Contains(p.Containers, name) }) {
			continue
		}
		c.dead += n
		c.because("it is limited to containers named " + strings.Join(p.Containers, ", ") + ", and pods that it selects have none")
	}
	c.aside = nil
}

// shadowed counts the workloads of a cluster policy for unsure where it shares its
// name with a policy of a namespace: KubeArmor may leave one of the two out.
func (c *policyCount) shadowed(p armor.Ref, all []RuntimeOutline) {
	if p.Kind != armor.KubeArmorClusterPolicy {
		return
	}
	at := slices.IndexFunc(all, func(o RuntimeOutline) bool { return o.Policy.Kind == armor.KubeArmorPolicy && o.Policy.Name == p.Name })
	if at >= 0 {
		c.unsure = max(c.unsure, c.workloads-c.dead-c.weak)
		c.because("it has the name of " + all[at].Policy.String() + ": KubeArmor may leave one of the two out")
	}
}

// events are the policies that were found, with what they do.
func (t *policyTally) events(o *Outline, scope policyScope) []Policy {
	var list []Policy
	for i := range o.Runtime {
		if p := &o.Runtime[i]; scope.covers(p.Policy.Namespace) {
			list = append(list, t.runtimeEvent(p, o.Runtime, scope))
		}
	}
	for i := range o.Admission {
		if p := &o.Admission[i]; scope.covers(p.Policy.Namespace) {
			list = append(list, t.admissionEvent(p, scope))
		}
	}
	slices.SortFunc(list, func(a, b Policy) int { return a.Ref().Compare(b.Ref()) })
	return list
}

func (t *policyTally) runtimeEvent(p *RuntimeOutline, all []RuntimeOutline, scope policyScope) Policy {
	ref := p.Policy
	c := t.of(ref.String())
	c.beside(p)
	c.shadowed(ref, all)
	e := Policy{Layer: LayerRuntime, Kind: string(ref.Kind), Namespace: ref.Namespace, Name: ref.Name, Action: p.Action, Workloads: c.workloads, Pods: c.pods}
	faults := slices.Clip(p.Faults)
	e.Bites, e.Reasons = c.bites(faults)
	switch {
	case p.Inert:
		e.Bites = BitesNo
	case c.workloads == 0 && scope.whole(ref.Namespace):
		e.Bites, e.Reasons = BitesNo, append(faults, "it selects no pod")
	case c.workloads == 0:
		e.Bites, e.Reasons = BitesUnknown, append(faults, "it selects none of the pods that were read; not all of its scope was")
	case len(faults) > 0 && e.Bites == BitesYes:
		e.Bites = BitesPartly
	}
	return e
}

func (t *policyTally) admissionEvent(p *AdmissionOutline, scope policyScope) Policy {
	c := t.of(p.Policy.String())
	e := Policy{Layer: LayerAdmission, Kind: p.Policy.Kind, Namespace: p.Policy.Namespace, Name: p.Policy.Name, Action: p.Action, Workloads: c.workloads, Pods: c.pods}
	var faults []string
	dead := false
	for _, f := range p.Faults {
		faults = append(faults, f.Reason)
		dead = dead || deadCause(f.Cause)
	}
	e.Bites, e.Reasons = c.bites(faults)
	switch {
	case dead:
		e.Bites = BitesNo
	case c.workloads == 0:
		// It may well keep a door that nobody has come to.
		e.Bites, e.Reasons = BitesUnknown, append(faults, "it rules on none of the pods that were read")
	case len(faults) > 0 && e.Bites == BitesYes:
		e.Bites = BitesPartly
	}
	if p.Doubt != "" && e.Bites != BitesNo {
		e.Bites = BitesUnknown
		if !slices.ContainsFunc(e.Reasons, func(why string) bool { return strings.Contains(why, p.Doubt) }) {
			e.Reasons = append([]string{p.Doubt}, e.Reasons...)
		}
	}
	return e
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
