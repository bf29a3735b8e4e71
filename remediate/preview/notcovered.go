package preview

import (
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// notCovered says where the set would protect less than it means to.
func (v *view) notCovered() {
	if v.runtime.unreached {
		v.add(Effect{Outcome: NotCovered, Part: PartRuntime, What: "is not covered", Why: v.runtime.doubt})
		return
	}
	if v.runtime.doubt != "" {
		v.add(Effect{Outcome: NotCovered, Part: PartRuntime, What: "may not be covered", Why: v.runtime.doubt})
	}
	for i := range v.containers {
		c := &v.containers[i]
		gaps := v.gaps(c)
		if whole := v.whole(c, gaps); whole != nil {
			v.add(*whole)
			continue
		}
		for _, g := range gaps {
			v.add(g.effect(v).in(c))
		}
	}
}

// gap is what of a part is not enforced in a container, for one reason.
type gap struct {
	part     set.Part
	elements []string
	// all of the part's elements that are meant here are concerned.
	all     bool
	certain bool
	reason  string
	// alike is the reason without the element's name and without the kind of rules.
	alike string
	// nodes are the kinds of nodes concerned.
	nodes []int
}

// gaps are those of a container.
func (v *view) gaps(c *container) []gap {
	meant := v.policies.meant(v.runtime, c.Name)
	var gaps []gap
	total := map[set.Part]int{}
	for k, e := range v.elements {
		want := meant[e.Name]
		if want != armor.Blocked && want != armor.Audited {
			continue
		}
		part := partOf(e.Kind)
		total[part]++
		for i, covers := range v.runtime.covers[c.Name] {
			cover := covers[k]
			if cover.Status == armor.Blocked || cover.Status == want {
				continue
			}
			gaps = addGap(gaps, gap{
				part: part, elements: []string{e.Name}, certain: cover.Status != armor.Unknown,
				reason: cover.Reason, nodes: []int{i},
			})
		}
	}
	for i := range gaps {
		gaps[i].all = len(gaps[i].elements) == total[gaps[i].part]
	}
	return gaps
}

// addGap joins a gap of one element with those that have the same reason, but for the
// element's name.
func addGap(gaps []gap, g gap) []gap {
	g.alike = withoutName(g.reason, g.elements[0])
	for _, kind := range []string{" capability rules", " process rules"} {
		g.alike = strings.Replace(g.alike, kind, " rules", 1)
	}
	for i := range gaps {
		if had := &gaps[i]; had.part == g.part && had.certain == g.certain && had.alike == g.alike {
			had.elements, had.nodes = joined(had.elements, g.elements), joined(had.nodes, g.nodes)
			if had.reason != g.reason {
				had.reason = had.alike
			}
			return gaps
		}
	}
	return append(gaps, g)
}

// joined is a with what b has beside it.
func joined[T comparable](a, b []T) []T {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(slices.Clip(a), s)
		}
	}
	return a
}

// withoutName says "it" for an element in a text.
func withoutName(text, name string) string {
	fields := strings.Split(text, " ")
	for i := range fields {
		if fields[i] == name {
			fields[i] = "it"
		}
	}
	return strings.Join(fields, " ")
}

// whole is one effect for all parts, where nothing that is meant for the container
// reaches it, and always for the same reason.
func (v *view) whole(c *container, gaps []gap) *Effect {
	parts := map[set.Part]bool{}
	meant := v.policies.meant(v.runtime, c.Name)
	for i := range v.elements {
		if status := meant[v.elements[i].Name]; status == armor.Blocked || status == armor.Audited {
			parts[partOf(v.elements[i].Kind)] = true
		}
	}
	if len(parts) < 2 || len(gaps) != len(parts) {
		return nil
	}
	one := gaps[0]
	for _, g := range gaps {
		if !g.all || g.certain != one.certain || g.alike != one.alike {
			return nil
		}
		if g.reason != one.reason {
			one.reason = one.alike
		}
	}
	e := gaps[0].effect(v).in(c)
	e.Why = strings.Replace(e.Why, gaps[0].reason, one.reason, 1)
	e.Part = PartRuntime
	return &e
}

// effect is the gap as a reader gets it. A gap is not covered for certain or may not be:
// what is not known of protection is not called protection.
func (g gap) effect(v *view) Effect {
	what := "is not covered"
	if !g.certain {
		what = "may not be covered"
	}
	e := Effect{Outcome: NotCovered, Part: g.part, Why: g.reason, What: what}
	if !g.all {
		e.What = "is not covered against " + strings.Join(g.elements, ", ")
		if !g.certain {
			e.What = "may not be covered against " + strings.Join(g.elements, ", ")
		}
	}
	if v.pod.Spec.HostPID && strings.Contains(g.reason, "hostPID") {
		e.Field = "spec.hostPID"
	}
	if len(v.runtime.nodes) > 1 {
		var names []string
		for _, i := range g.nodes {
			names = append(names, v.runtime.nodes[i].nodes...)
		}
		e.Why = sentences(e.Why, "on "+list(names))
	}
	e.Mend = v.mendGap(g)
	return e
}

// mendGap is what would make the policies bite.
func (v *view) mendGap(g gap) string {
	for _, t := range v.runtime.toothless {
		node := t.Cause == armor.CauseNoEnforcer || t.Cause == armor.CauseEnforcer
		if t.Reason == g.reason || node && g.certain && strings.HasPrefix(g.reason, "the node enforces no ") {
			return t.Mend
		}
	}
	return ""
}
