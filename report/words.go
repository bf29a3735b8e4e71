package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Words that other renderers need too: what nodes enforce, and whose findings are whose.

// NodeCell is what a node enforces, in the words in which workloads have it.
func NodeCell(e *kernel.Enforcement) LayerCell {
	c := LayerCell{Text: "not judged", Tone: ToneUnknown}
	if e != nil {
		c = kernelCell(&scan.KernelLayer{Capabilities: e.Capabilities, Processes: e.Processes, Grade: e.Grade})
		if e.Capabilities == kernel.No && e.Processes == kernel.Yes {
			c = LayerCell{Text: "processes only", Tone: TonePoor}
		}
	}
	c.Layer, c.Short = scan.LayerKernel, "KRN"
	return c
}

// NodeWords say in a few words what a node enforces and how well that is founded, and
// whether KubeArmor runs there. They are clean.
func NodeWords(e *kernel.Enforcement) (enforces, agent string) {
	if e == nil {
		return "what it enforces was not judged", ""
	}
	spans := enforcementSpans(e)
	return spans[0].text, spans[1].text
}

// CompareNodes puts first the nodes that enforce least, and of these what contradicts
// itself.
func CompareNodes(a, b *scan.Node) int {
	contradictions := func(n *scan.Node) int {
		if n.Enforcement == nil {
			return 0
		}
		return len(n.Enforcement.Contradictions)
	}
	return cmp.Or(
		cmp.Compare(enforcementRank(a.Enforcement), enforcementRank(b.Enforcement)),
		cmp.Compare(contradictions(b), contradictions(a)),
		a.Ref().Compare(b.Ref()))
}

// Observed is when a piece of evidence was true, and how long before the run that was.
func Observed(e *kernel.Evidence) string { return observed(e) }

// TurnOnHead is what the steps of a way are for. It is clean.
func TurnOnHead(on *kernel.TurnOn) string { return turnOnHead(on) }

// PolicyName is a policy as findings name it: KIND NAMESPACE/NAME, or KIND NAME for the
// cluster's. It is clean.
func PolicyName(p *scan.Policy) string { return Clean(nameInFindings(p.Kind, p.Namespace, p.Name)) }

func nameInFindings(kind, namespace, name string) string {
	if namespace == "" {
		return kind + " " + name
	}
	return kind + " " + namespace + "/" + name
}

// SpeaksOf tells whether a finding is about the policy: it names it among those that do
// not bite, or hangs on the policy itself.
func SpeaksOf(f *scan.Finding, p *scan.Policy) bool {
	if f.Category != scan.CategoryPolicy || elsewhere(p, f.Workload) {
		return false
	}
	if w := f.Workload; w.Kind == p.Kind && w.Namespace == p.Namespace && w.Name == p.Name {
		return true
	}
	name := nameInFindings(p.Kind, p.Namespace, p.Name)
	for _, said := range f.Policies {
		if said == name || strings.HasPrefix(said, name+" (") {
			return true
		}
	}
	return false
}

// elsewhere reports whether a policy is of another cluster of the fleet than a workload.
func elsewhere(p *scan.Policy, w scan.Workload) bool {
	return p.Cluster != "" && p.Cluster != w.Cluster
}

// Dull is why a policy does not bite in a workload, and what would make it.
type Dull struct{ Cause, Reason, Mend string }

// DullOn are the reasons for which the policy has no effect on a workload, or less than
// it says. They are not clean.
func DullOn(v *scan.WorkloadVerdict, p *scan.Policy) []Dull {
	if v == nil || v.Layers == nil || elsewhere(p, v.Workload) {
		return nil
	}
	var found []Dull
	add := func(k dullKey, d Dull) {
		if k.kind != p.Kind || k.namespace != p.Namespace || k.name != p.Name {
			return
		}
		if !slices.Contains(found, d) {
			found = append(found, d)
		}
	}
	for i := range v.Layers.Runtime.Toothless {
		x := &v.Layers.Runtime.Toothless[i]
		add(armorKey(x.Policy, x.Cause), Dull{string(x.Cause), x.Reason, x.Mend})
	}
	for i := range v.Layers.Admission.Rulings {
		if r := &v.Layers.Admission.Rulings[i]; r.Toothless != nil {
			add(admissionKey(r.By, r.Toothless.Cause), Dull{string(r.Toothless.Cause), r.Toothless.Reason, r.Toothless.Mend})
		}
	}
	return found
}
