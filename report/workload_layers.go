package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// judged is what the layers say of one row.
func (x *explained) judged(v *scan.WorkloadVerdict) {
	l := v.Layers
	if l == nil {
		x.say(0, "LAYERS")
		x.say(2, "Only the spec was judged in this run: what admission, runtime policies and the nodes' kernels do is not known.")
		return
	}
	x.matrix(l)
	x.admission(l)
	x.runtime(&l.Runtime)
	x.kernel(&l.Kernel)
}

// matrix is each open path of each container against the layers: as a table where
// there is room, and then with who decides and why.
func (x *explained) matrix(l *scan.Layers) {
	x.say(0, "PATHS AND LAYERS")
	if len(l.Paths) == 0 {
		x.say(2, "No path is open: there is nothing to stop.")
		return
	}
	if x.width == 0 || x.width >= 76 {
		x.matrixTable(l.Paths)
	}
	for i := range l.Paths {
		p := &l.Paths[i]
		x.say(2, strings.ToUpper(Clean(string(p.State)))+":", pathName(p))
		x.say(4, Clean(p.Reason))
		x.cell("admission", &p.Admission)
		x.cell("runtime", &p.Runtime)
		x.cell("kernel", &p.Kernel)
	}
}

func pathName(p *scan.PathLayers) string {
	name := Clean(p.Path)
	if p.Container != "" {
		name += " in container " + Clean(p.Container)
	}
	return name
}

func (x *explained) matrixTable(paths []scan.PathLayers) {
	const cell = len("lets through")
	path, container := len("PATH"), len("CONTAINER")
	for i := range paths {
		path = max(path, width(Clean(paths[i].Path)))
		container = max(container, width(Clean(paths[i].Container)))
	}
	path, container = min(path, 28), min(container, 16)
	line := func(state, id, name, adm, run, krn string) {
		x.row(2, 4, span{text: state, pad: len("STOPPED")}, span{text: id, pad: path}, span{text: name, pad: container},
			span{text: adm, pad: cell}, span{text: run, pad: cell}, span{text: krn})
	}
	line("STATE", "PATH", "CONTAINER", "ADMISSION", "RUNTIME", "KERNEL")
	for i := range paths {
		p := &paths[i]
		name := Clean(p.Container)
		if name == "" {
			name = "-"
		}
		line(strings.ToUpper(Clean(string(p.State))), Clean(p.Path), name,
			cellText(&p.Admission), cellText(&p.Runtime), cellText(&p.Kernel))
	}
	x.newline()
}

// cellText is a cell's answer and how well it is founded.
func cellText(c *scan.Cell) string {
	answer := Clean(string(c.Answer))
	if answer == "" {
		answer = string(scan.StopsUnknown)
	}
	return answer + suffixed(" (", Clean(string(c.Grade)), ")")
}

func (x *explained) cell(layer string, c *scan.Cell) {
	by := make([]string, len(c.By))
	for i, name := range c.By {
		by[i] = Clean(name)
	}
	x.row(4, 6,
		span{text: layer, pad: len("admission")},
		span{text: joined(": ", cellText(c), Clean(c.Reason))},
		span{text: labelled("by", strings.Join(by, ", "))})
}

// admission is each ruling, and what would be let in again.
func (x *explained) admission(l *scan.Layers) {
	x.title("ADMISSION: would a pod like these be admitted again?")
	x.admissionBody(l)
}

func (x *explained) admissionBody(l *scan.Layers) {
	x.say(2, joined(": ", answerText(l.Admission.Answer), Clean(l.Admission.Reason)))
	for i := range l.Admission.Rulings {
		r := &l.Admission.Rulings[i]
		controls := make([]string, len(r.Controls))
		for k, c := range r.Controls {
			controls[k] = Clean(c)
		}
		by, mechanism := Clean(r.By.String()), Clean(string(r.By.Mechanism))
		if !strings.HasPrefix(by, mechanism) {
			by = mechanism + ": " + by
		}
		x.say(4, answerText(r.Answer), by)
		x.say(6, labelled("controls", strings.Join(controls, ", ")))
		x.say(6, Clean(r.Message))
		if r.Toothless != nil {
			x.doesNotBite(6, string(r.Toothless.Cause), r.Toothless.Reason, r.Toothless.Mend)
		}
	}
	if l.Reopen == "" {
		// Only workloads without an open path are asked about.
		return
	}
	text := "A pod of this workload into which an escape path is put: " + answerText(l.Reopen)
	if len(l.Reopens) > 0 {
		ids := make([]string, len(l.Reopens))
		for i, id := range l.Reopens {
			ids[i] = Clean(id)
		}
		text += ", for " + strings.Join(ids, ", ")
	}
	x.say(2, text)
	if l.ReopenReason != "" {
		x.say(4, Clean(l.ReopenReason))
	}
}

func answerText(a admission.Answer) string {
	if a == "" {
		a = admission.Unknown
	}
	return strings.ToUpper(Clean(string(a)))
}

// doesNotBite is why a policy has no effect, and what would give it one.
func (x *explained) doesNotBite(indent int, cause, reason, mend string) {
	for _, f := range x.Findings {
		// The rule has a page of its own.
		if f.Category == scan.CategoryPolicy && endsIn(f.Rule, cause) {
			cause = f.Rule
			break
		}
	}
	x.say(indent, "does not bite ("+Clean(cause)+"): "+Clean(reason))
	x.say(indent, labelled("mend:", Clean(mend)))
}

// runtime is each container against the escapeToHost set.
func (x *explained) runtime(r *scan.RuntimeLayer) {
	x.title("RUNTIME: is the escapeToHost set in force?")
	x.runtimeBody(r)
}

func (x *explained) runtimeBody(r *scan.RuntimeLayer) {
	x.say(2, joined(": ", strings.ToUpper(orUnknown(r.Set)), Clean(r.Reason)))
	if len(r.Policies) == 0 {
		x.say(2, "No KubeArmor policy is known to select the pods.")
	} else {
		x.say(2, "selected by "+refs(r.Policies))
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		kind := Clean(string(c.Kind))
		if kind == "" {
			kind = string(scan.KindContainer)
		}
		x.say(2, kind+" "+Clean(c.Container))
		for _, g := range groupCovers(c.Covers) {
			x.cover(g)
		}
	}
	if len(r.Toothless) > 0 {
		x.say(2, "policies that do not bite here, or less than they say:")
	}
	for i := range r.Toothless {
		b := &r.Toothless[i]
		where := ""
		if b.Container != "" {
			where = "in container " + Clean(b.Container)
		}
		certain := ""
		if !b.Certain {
			certain = "likely, not certain"
		}
		x.say(4, Clean(b.Policy.String()), where, certain)
		x.doesNotBite(6, string(b.Cause), b.Reason, b.Mend)
	}
}

// coverGroup is elements of the set to which the same happens for the same reason.
type coverGroup struct {
	*armor.Cover
	names []string
}

func groupCovers(covers []armor.Cover) []*coverGroup {
	var groups []*coverGroup
	at := map[string]*coverGroup{}
	for i := range covers {
		c := &covers[i]
		// What has missing paths stands alone: they are its own.
		k := key(string(c.Element.Kind), string(c.Status), refs(c.By), c.Reason, strings.Join(c.Missing, " "))
		g := at[k]
		if g == nil {
			g = &coverGroup{Cover: c}
			at[k] = g
			groups = append(groups, g)
		}
		g.names = append(g.names, Clean(c.Element.Name))
	}
	return groups
}

func (x *explained) cover(g *coverGroup) {
	kind := Clean(string(g.Element.Kind))
	names := strings.Join(g.names, ", ")
	if g.Element.Kind != armor.Chroot {
		names = kind + " " + names
	}
	missing := make([]string, len(g.Missing))
	for i, p := range g.Missing {
		missing[i] = Clean(p)
	}
	x.row(4, 6,
		span{text: strings.ToUpper(Clean(string(g.Status))), pad: len("NOT COVERED")},
		span{text: names},
		span{text: labelled("by", refs(g.By))},
		span{text: labelled("but not at", strings.Join(missing, ", "))},
		span{text: Clean(g.Reason)})
}

// refs names policies.
func refs(list []armor.Ref) string {
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = Clean(r.String())
	}
	return strings.Join(names, ", ")
}

// kernel is what the nodes enforce, all of them.
func (x *explained) kernel(k *scan.KernelLayer) {
	x.title("KERNEL: do the nodes enforce?")
	x.kernelBody(k)
}

func (x *explained) kernelBody(k *scan.KernelLayer) {
	x.say(2, fmt.Sprintf("capabilities %s, processes %s%s", orUnknown(k.Capabilities), orUnknown(k.Processes), suffixed(" (", Clean(string(k.Grade)), ")")))
	x.say(2, Clean(k.Reason))
	if k.Nodes > 0 {
		text := "the pods run on " + plural(k.Nodes, "node")
		if k.Worst != "" {
			text += "; " + Clean(k.Worst) + " decides"
		}
		x.say(2, text)
	}
}

// policies are those that were named above, with what they do elsewhere.
func (x *explained) policies() {
	if len(x.Policies) == 0 {
		return
	}
	x.title("POLICIES NAMED ABOVE, IN THE WHOLE RUN")
	for _, p := range x.Policies {
		x.say(2, "bites "+Clean(string(p.Bites)), Clean(policyName(p)), Clean(p.Action), plural(p.Workloads, "workload"), plural(p.Pods, "pod"))
		for _, r := range p.Reasons {
			x.say(4, Clean(r))
		}
	}
}

// nodes are those that decide, with every piece of evidence.
func (x *explained) nodes() {
	if len(x.Nodes) == 0 {
		return
	}
	title := "NODES"
	if n := x.nodeCount(); n > len(x.Nodes) {
		title = fmt.Sprintf("NODES (%d of %d, those that decide)", len(x.Nodes), n)
	}
	x.title(title)
	for _, n := range x.Nodes {
		spans := append([]span{{text: Clean(n.Name)}}, nodeSpans(n)...)
		e := n.Enforcement
		if e == nil {
			x.row(2, 4, append(spans, span{text: "what it enforces was not judged"})...)
			continue
		}
		x.row(2, 4, append(spans, enforcementSpans(e)...)...)
		x.say(4, Clean(e.Reason))
		for i := range e.Evidence {
			x.evidence(&e.Evidence[i])
		}
		for _, c := range e.Contradictions {
			x.say(4, "contradiction: "+Clean(c))
		}
		if e.TurnOn != nil {
			turnOnRows(&x.layout, 4, e.TurnOn)
		}
	}
}

// nodeCount is on how many nodes the pods run, as far as it is known.
func (x *explained) nodeCount() int {
	n := 0
	for _, v := range x.Verdicts {
		if v.Layers != nil {
			n = max(n, v.Layers.Kernel.Nodes)
		}
	}
	return n
}

func (x *explained) evidence(e *kernel.Evidence) {
	decides := ""
	if e.Decides {
		decides = "DECIDES"
	}
	x.row(4, 6,
		span{text: Clean(string(e.Grade)), pad: len("claimed")},
		span{text: "says " + orUnknown(e.Says), pad: len("says unknown")},
		span{text: decides},
		span{text: joined(": ", Clean(e.Source), Clean(e.Value))},
		span{text: Clean(e.Meaning)},
		span{text: suffixed("(", observed(e), ")")})
}

// observed is when a piece of evidence was true.
func observed(e *kernel.Evidence) string {
	if e.Observed == nil {
		return "of unknown age"
	}
	text := e.Observed.UTC().Format(time.RFC3339)
	if e.AgeSeconds > 0 {
		return text + ", " + age(e.AgeSeconds) + " before the run"
	}
	return text + ", live"
}

// age is a time in the largest unit of which it has two or more.
func age(seconds int64) string {
	const day = 24 * 60 * 60
	switch {
	case seconds >= 2*day:
		return plural(int(seconds/day), "day")
	case seconds >= 2*60*60:
		return plural(int(seconds/(60*60)), "hour")
	case seconds >= 2*60:
		return plural(int(seconds/60), "minute")
	}
	return plural(int(seconds), "second")
}
