package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// better says what would have to change for a better verdict. Everything in it
// follows from what stands above.
func (x *explained) better() {
	x.title("WHAT WOULD MAKE IT BETTER")
	x.betterBody()
}

func (x *explained) betterBody() {
	said := map[string]bool{}
	tell := func(indent int, text string) {
		if text != "" && !said[text] {
			said[text] = true
			x.say(indent, text)
		}
	}
	for _, v := range x.Verdicts {
		switch v.Verdict {
		case scan.VerdictExposed, scan.VerdictUnknown:
			x.toGuarded(v, tell)
			x.toClosed(tell)
			toKeptOut(v, tell)
		case scan.VerdictGuarded:
			x.toClosed(tell)
			toKeptOut(v, tell)
		case scan.VerdictClosed:
			x.toSealed(v, tell)
		case scan.VerdictSealed:
			tell(2, "Nothing: no verdict is better than sealed.")
		}
	}
	if len(said) == 0 {
		tell(2, "Nothing is known that would: see the reasons above.")
	}
}

// teller writes one thing to do.
type teller func(indent int, text string)

// toGuarded is what the layers lack for every open path to be stopped.
func (x *explained) toGuarded(v *scan.WorkloadVerdict, tell teller) {
	if v.Verdict == scan.VerdictUnknown && len(x.Failures) > 0 {
		tell(2, "To know more: let the scan read what it could not (NOT READ, above).")
	}
	if v.Layers == nil {
		return
	}
	wanting := false
	for i := range v.Layers.Paths {
		p := &v.Layers.Paths[i]
		if p.State == scan.PathStopped {
			continue
		}
		if !wanting {
			tell(2, "To be guarded, every one of these has to be stopped:")
		}
		wanting = true
		tell(4, pathName(p)+": "+lacks(v.Layers, p))
	}
	if !wanting {
		return
	}
	tellAll(tell, "For the policies to bite:", mends(v.Layers))
	x.nodesLack(v.Layers, tell)
}

// toKeptOut is what admission lacks to refuse the like of it.
func toKeptOut(v *scan.WorkloadVerdict, tell teller) {
	l := v.Layers
	if l == nil || l.Admission.Answer == admission.Refuses {
		return
	}
	lines := admissionMends(l)
	if len(lines) == 0 {
		lines = []string{"a policy or the namespace's labels have to refuse it (" + orReason(l.Admission.Reason) + ")"}
	}
	tellAll(tell, "So that its like is not admitted again:", lines)
}

// tellAll tells of a list below its heading.
func tellAll(tell teller, heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	tell(2, heading)
	for _, line := range lines {
		tell(4, line)
	}
}

// lacks is what would have to stop a path and does not.
func lacks(l *scan.Layers, p *scan.PathLayers) string {
	var missing []string
	if p.Runtime.Answer != scan.StopsYes {
		missing = append(missing, "runtime: "+runtimeLacks(l, p))
	}
	if p.Kernel.Answer != scan.StopsYes {
		missing = append(missing, "kernel: "+orReason(p.Kernel.Reason))
	}
	if len(missing) == 0 {
		missing = append(missing, orReason(p.Reason))
	}
	return strings.Join(missing, "; ")
}

// runtimeLacks names the element of the set that a path needs, where it is one
// capability of the set and not blocked; else it is the cell's own reason.
func runtimeLacks(l *scan.Layers, p *scan.PathLayers) string {
	for i := range l.Runtime.Containers {
		c := &l.Runtime.Containers[i]
		if c.Container != p.Container {
			continue
		}
		for k := range c.Covers {
			cover := &c.Covers[k]
			id := "escape-cap-" + strings.ReplaceAll(cover.Element.Name, "_", "-")
			if cover.Element.Kind != armor.Capability || cover.Status == armor.Blocked || id != p.Path {
				continue
			}
			what := "no policy in force blocks capability " + Clean(cover.Element.Name)
			if cover.Status == armor.Unknown {
				what = "it is not known whether capability " + Clean(cover.Element.Name) + " is blocked"
			}
			return what + " in container " + Clean(c.Container) + suffixed(" (", Clean(cover.Reason), ")")
		}
	}
	return orReason(p.Runtime.Reason)
}

func orReason(reason string) string {
	if reason == "" {
		return "no reason is known"
	}
	return Clean(reason)
}

// mends are what would make the policies bite that do not, the policies of one
// mend together.
func mends(l *scan.Layers) []string {
	var list mendList
	for i := range l.Runtime.Toothless {
		t := &l.Runtime.Toothless[i]
		list.add(t.Policy.String(), string(t.Cause), t.Mend)
	}
	return list.lines()
}

// admissionMends are the same of admission's policies.
func admissionMends(l *scan.Layers) []string {
	var list mendList
	for i := range l.Admission.Rulings {
		if r := &l.Admission.Rulings[i]; r.Toothless != nil {
			list.add(r.By.String(), string(r.Toothless.Cause), r.Toothless.Mend)
		}
	}
	return list.lines()
}

// mendList collects mends in the order in which they come.
type mendList struct {
	order []string
	by    map[string][]string
}

func (m *mendList) add(policy, cause, mend string) {
	if mend == "" {
		return
	}
	text := Clean(mend + " (" + cause + ")")
	if m.by == nil {
		m.by = map[string][]string{}
	}
	if m.by[text] == nil {
		m.order = append(m.order, text)
	}
	m.by[text] = appendNew(m.by[text], Clean(policy))
}

func (m *mendList) lines() []string {
	lines := make([]string, len(m.order))
	for i, text := range m.order {
		lines[i] = strings.Join(m.by[text], ", ") + ": " + text
	}
	return lines
}

// nodesLack is what the nodes that do not enforce are missing.
func (x *explained) nodesLack(l *scan.Layers, tell teller) {
	if l.Kernel.Capabilities == kernel.Yes && l.Kernel.Processes == kernel.Yes {
		return
	}
	named := false
	for _, n := range x.Nodes {
		e := n.Enforcement
		if e == nil || e.Capabilities == kernel.Yes && e.Processes == kernel.Yes {
			continue
		}
		named = true
		tell(4, "node "+Clean(n.Name)+": "+orReason(e.Reason))
		tell(6, turnOnText(e.TurnOn))
	}
	if !named {
		tell(4, "kernel: "+orReason(l.Kernel.Reason))
	}
}

// toClosed is how the spec loses its open paths.
func (x *explained) toClosed(tell teller) {
	var open []*scan.Finding
	for _, f := range x.Findings {
		if f.Open {
			open = append(open, f)
		}
	}
	if len(open) == 0 {
		return
	}
	tell(2, "To be closed, in the spec:")
	for _, f := range open {
		text := "find another way than " + Clean(f.Field) + suffixed(" (", Clean(f.Item), ")") + ": no single change of it was found to help"
		if f.Fix != nil {
			text = fixText(f)
		}
		if name := containerName(f); name != "" {
			text += " in container " + name
		}
		tell(4, Clean(f.Rule)+": "+text)
	}
}

// toSealed is what a closed workload lacks.
func (x *explained) toSealed(v *scan.WorkloadVerdict, tell teller) {
	l := v.Layers
	if l == nil {
		return
	}
	tell(2, "To be sealed:")
	if l.Reopen != admission.Refuses {
		paths := "a pod with an escape path"
		if len(l.Reopens) > 0 {
			ids := slices.Clone(l.Reopens)
			for i := range ids {
				ids[i] = Clean(ids[i])
			}
			paths = "a pod with " + strings.Join(ids, ", ")
		}
		tell(4, "admission has to refuse "+paths+suffixed(" (", Clean(cmp.Or(l.ReopenReason, l.Admission.Reason)), ")"))
		for _, mend := range admissionMends(l) {
			tell(6, mend)
		}
	}
	if l.Runtime.Set != kernel.Yes {
		if !uncovered(l, tell) {
			tell(4, "runtime: "+orReason(l.Runtime.Reason))
		}
		for _, mend := range mends(l) {
			tell(6, mend)
		}
		x.nodesLack(l, tell)
	}
}

// uncovered names, for each container, the elements of the set that nothing blocks, or
// not all of, and reports whether there are any.
func uncovered(l *scan.Layers, tell teller) bool {
	found := false
	for i := range l.Runtime.Containers {
		c := &l.Runtime.Containers[i]
		var open, partly, unknown []string
		for k := range c.Covers {
			cover := &c.Covers[k]
			name := Clean(cover.Element.Name)
			switch {
			case cover.Status == armor.Unknown:
				unknown = append(unknown, name)
			case cover.Status != armor.Blocked:
				open = append(open, name)
			case len(cover.Missing) > 0:
				partly = append(partly, name)
			}
		}
		for _, part := range []struct {
			what  string
			names []string
		}{
			{" a policy in force has to block ", open},
			{" a policy in force has to block everywhere ", partly},
			{" it is not known whether these are blocked: ", unknown},
		} {
			if len(part.names) > 0 {
				found = true
				tell(4, "in container "+Clean(c.Container)+part.what+strings.Join(part.names, ", "))
			}
		}
	}
	return found
}
