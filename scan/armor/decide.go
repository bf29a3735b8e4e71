package armor

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// decider answers for one container.
type decider struct {
	pod       *Pod
	container *Container
	// policies are those that speak of this container.
	policies []*Policy
	hold     hold

	process, files, caps          rules
	processFrom, fileFrom, capsOf []string
	hasFiles                      bool
	// asked keeps answers while one element is judged.
	asked map[string]answer
}

// answer is what policies make of one thing.
type answer struct {
	status Status
	// partly tells that it is refused to some callers only, or in some cases only;
	// status is NotCovered then.
	partly bool
	by     []*Policy
	reason string
}

func (a answer) refs() []Ref {
	if len(a.by) == 0 {
		return nil
	}
	refs := make([]Ref, 0, len(a.by))
	for _, p := range a.by {
		refs = append(refs, p.Ref)
	}
	slices.SortFunc(refs, compareRefs)
	return slices.Compact(refs)
}

func newDecider(pod *Pod, obstacles []obstacle, c *Container, policies []*Policy) *decider {
	own := policies
	if slices.ContainsFunc(policies, func(p *Policy) bool { return !p.covers(c.Name) }) {
		own = slices.DeleteFunc(slices.Clone(policies), func(p *Policy) bool { return !p.covers(c.Name) })
	}
	d := &decider{pod: pod, container: c, policies: own, hold: holdOn(pod, obstacles, c, own)}
	d.process = rules{own, processSection, loadedBook}
	d.files = rules{own, fileSection, loadedBook}
	d.caps = rules{own, capabilitySection, loadedBook}
	d.processFrom, d.fileFrom, d.capsOf = d.process.sources(), d.files.sources(), d.caps.sources()
	d.hasFiles = slices.ContainsFunc(own, func(p *Policy) bool { return p.file.rules > 0 })
	return d
}

// exec answers for running the file at a real path. from is the caller's real path,
// empty when it is not known.
func (d *decider) exec(file, from string) answer {
	if d.hold.processes.status == NotCovered {
		return answer{status: NotCovered, reason: d.hold.processes.reason}
	}
	a := d.callers(from, d.processFrom, d.fileFrom, func(caller string) answer { return d.execFrom(file, caller) })
	return d.hold.processes.limit(a.unlessShadowed())
}

// capability answers for using a capability.
func (d *decider) capability(name, from string) answer {
	if d.hold.capabilities.status == NotCovered {
		return answer{status: NotCovered, reason: d.hold.capabilities.reason}
	}
	a := d.callers(from, d.capsOf, nil, func(caller string) answer { return d.capabilityOf(name, caller) })
	return d.hold.capabilities.limit(a.unlessShadowed())
}

// limit is what a grip leaves of an answer.
func (g grip) limit(a answer) answer {
	switch {
	case g.status == Audited && (a.partly || a.status == Blocked || a.status == Unknown):
		// Whatever would be refused is only reported.
		return answer{status: Audited, by: a.by, reason: g.reason}
	case g.status == Unknown && a.status == Blocked:
		return answer{status: Unknown, by: a.by, reason: g.reason}
	}
	return a
}

// unlessShadowed doubts what only a cluster policy blocks that shares its name with
// a namespaced one: KubeArmor's agent takes them for the same policy and, of the
// two, what came first.
func (a answer) unlessShadowed() answer {
	if a.status != Blocked || slices.ContainsFunc(a.by, func(p *Policy) bool { return p.shadow == nil }) || len(a.by) == 0 {
		return a
	}
	return answer{status: Unknown, by: a.by,
		reason: fmt.Sprintf("%s has the name of %s: KubeArmor may leave one of the two out", a.by[0].Ref, a.by[0].shadow)}
}

// callers asks for the caller, or where it is not known for everyone of whom a rule
// speaks and for all others.
func (d *decider) callers(from string, some, more []string, ask func(string) answer) answer {
	if from != "" {
		return ask(from)
	}
	others := ask("")
	if others.status == Unknown || len(some)+len(more) == 0 {
		return others
	}
	var refused, spared []string
	all := others
	for _, caller := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(some, more)))) {
		if caller == "" {
			continue
		}
		a := ask(caller)
		if a.status == Unknown {
			return a
		}
		all.by = append(slices.Clip(all.by), a.by...)
		switch {
		case a.status == others.status && a.partly == others.partly:
		case a.status == Blocked:
			refused = append(refused, caller)
		case others.status == Blocked:
			spared = append(spared, caller)
		}
	}
	switch {
	case len(spared) > 0:
		return answer{status: NotCovered, partly: true, by: all.by, reason: "not blocked when called from " + list(spared)}
	case len(refused) > 0:
		return answer{status: NotCovered, partly: true, by: all.by, reason: "blocked only when called from " + list(refused)}
	}
	others.by = all.by
	return others
}

// list shows the first few of many.
func list(names []string) string {
	const most = 4
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

func (d *decider) execFrom(file, caller string) answer {
	a := d.decide(d.process.file(file, caller), "process", file)
	if a.status == NotCovered && !a.partly {
		a = d.unnamed(d.process, filePosture, d.pod.FilePosture, file)
		if a.status == NotCovered {
			a = d.audited(file, caller)
		}
	}
	a = d.patterns(a, file)
	if !d.hasFiles || a.status == Blocked {
		return a
	}
	return d.open(a, file, caller)
}

// audited looks for rules that only report.
func (d *decider) audited(file, caller string) answer {
	hits := rules{d.policies, processSection, auditedBook}.file(file, caller)
	if len(hits) == 0 {
		return answer{status: NotCovered, reason: "no policy speaks of it"}
	}
	a := answer{status: Audited, reason: "reported, not stopped"}
	for _, h := range hits {
		a.by = append(a.by, h.policy)
	}
	return a
}

// patterns puts what a pattern may do over an answer, where the enforcer knows
// patterns at all.
func (d *decider) patterns(a answer, file string) answer {
	if d.pod.Node.Enforcer == enforcerBPF || a.status == Blocked {
		return a
	}
	for _, p := range d.policies {
		for _, pat := range p.process.patterns {
			fixed := pat.glob[:max(0, strings.IndexAny(pat.glob+"*", "*?[{"))]
			if pat.action == Allow || pat.action == Block && strings.HasPrefix(file, fixed) {
				return answer{status: Unknown, by: []*Policy{p}, reason: "a pattern may match it; BPF-LSM does not load patterns, AppArmor does"}
			}
		}
	}
	return a
}

// open puts over an answer what the rules on files say of reading the program: who
// may not open a file cannot run it.
func (d *decider) open(a answer, file, caller string) answer {
	hits := d.files.file(file, caller)
	// A rule that is read-only leaves reading alone.
	readable := len(hits) > 0 && !slices.ContainsFunc(hits, func(h hit) bool { return !h.value.readOnly || h.value.ownerOnly })
	f := answer{status: NotCovered}
	if !readable {
		f = d.decide(hits, "file", file)
	}
	if len(hits) == 0 {
		f = d.unnamed(d.files, filePosture, d.pod.FilePosture, file)
	} else if allowing := d.files.allowing(); len(allowing) > 0 && f.status != Blocked && !d.loadable(caller) {
		return answer{status: Unknown, by: allowing,
			reason: "an Allow list of files refuses what it does not name: whether it names the program's loader and libraries is not known"}
	}
	if f.status == Blocked || f.status == Unknown || f.partly {
		return f
	}
	return a
}

// loadable tells whether the Allow lists of files leave a program what every program
// opens.
func (d *decider) loadable(caller string) bool {
	if postureOf(d.pod, filePosture, d.pod.FilePosture).status == Audited {
		return true
	}
	for _, file := range []string{"/lib/x", "/lib64/x", "/usr/lib/x", "/usr/lib64/x", "/usr/lib/arch/x", "/etc/ld.so.cache"} {
		if hits := d.files.file(file, caller); len(hits) == 0 || d.decide(hits, "file", file).status != Allowed {
			return false
		}
	}
	return true
}

func (d *decider) capabilityOf(name, caller string) answer {
	a := d.decide(d.caps.capability(name, caller), "capability", name)
	if a.status != NotCovered || a.partly {
		return a
	}
	a = d.unnamed(d.caps, capabilitiesPosture, d.pod.CapabilityPosture, name)
	if a.status != NotCovered {
		return a
	}
	audits := rules{d.policies, capabilitySection, auditedBook}.capability(name, caller)
	if len(audits) == 0 {
		return answer{status: NotCovered, reason: "no policy speaks of it"}
	}
	a = answer{status: NotCovered, reason: "action Audit on capabilities does nothing: only Block and Allow are loaded, and nothing else sees capabilities"}
	for _, h := range audits {
		a.by = append(a.by, h.policy)
	}
	return a
}

// decide makes one answer of the rules that speak of a thing, NotCovered when there
// are none.
func (d *decider) decide(hits []hit, kind, what string) answer {
	if len(hits) == 0 {
		return answer{status: NotCovered}
	}
	a := d.rule(hits[0].value)
	a.by = make([]*Policy, 0, len(hits))
	for _, h := range hits {
		a.by = append(a.by, h.policy)
		if other := d.rule(h.value); other.status != a.status || other.partly != a.partly {
			return answer{status: Unknown, by: policiesOf(hits),
				reason: fmt.Sprintf("%s and others disagree about the %s %s: which holds depends on the order in which KubeArmor loaded them", hits[0].policy.Ref, kind, what)}
		}
	}
	return a
}

func policiesOf(hits []hit) []*Policy {
	all := make([]*Policy, 0, len(hits))
	for _, h := range hits {
		all = append(all, h.policy)
	}
	return all
}

// rule is what one rule alone does.
func (d *decider) rule(v value) answer {
	switch {
	case v.args:
		return answer{status: NotCovered, partly: true, reason: "blocked only with other arguments than the rule allows"}
	case v.terminal:
		return answer{status: NotCovered, partly: true, reason: "blocked only from a terminal"}
	case v.ownerOnly:
		// An Allow rule with ownerOnly refuses the others, too.
		return answer{status: NotCovered, partly: true, reason: "blocked only for users who do not own the file (ownerOnly)"}
	case v.action == Block:
		return answer{status: Blocked}
	}
	return answer{status: Allowed}
}

// unnamed is what becomes of a thing that no rule names: where a policy allows
// others of its kind, the default posture decides.
func (d *decider) unnamed(r rules, annotation, global, what string) answer {
	allowing := r.allowing()
	if len(allowing) == 0 {
		return answer{status: NotCovered}
	}
	p := postureOf(d.pod, annotation, global)
	return answer{status: p.status, by: allowing, reason: fmt.Sprintf("%s is not on the Allow list of %s, and %s", path.Base(what), allowing[0].Ref, p.reason)}
}
