package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Explained is what is known of one workload, for a person to follow the reasoning.
type Explained struct {
	Workload scan.Workload
	// Start is the run's, nil where it is not known.
	Start *scan.Start
	// Verdicts has a row for each kind of pods of the workload, Findings what was
	// found in its spec.
	Verdicts []*scan.WorkloadVerdict
	Findings []*scan.Finding
	// Policies and Nodes are those that decide something here, Failures what could
	// not be read and may matter.
	Policies []*scan.Policy
	Nodes    []*scan.Node
	Failures []*scan.Failure
	// Incomplete is true when the run could not read everything.
	Incomplete bool
}

// widestProse is how long a line of text may be that people still like to read.
const widestProse = 120

// ExplainWorkload writes the whole reasoning about a workload for a person at a
// terminal: the verdict, the spec, each open path against the layers, what each
// layer rests on, what could not be read, and what would have to change. Lines fit
// width cells; with width 0 nothing is wrapped.
func ExplainWorkload(w io.Writer, in Explained, width int) error {
	x := newExplained(in, width)
	x.Verdicts = slices.SortedStableFunc(slices.Values(in.Verdicts), compareVerdicts)
	x.Findings = slices.SortedStableFunc(slices.Values(in.Findings), compareFindings)
	x.Policies = slices.SortedStableFunc(slices.Values(in.Policies), ComparePolicies)
	x.Failures = slices.SortedStableFunc(slices.Values(in.Failures), compareFailures)
	x.Nodes = slices.SortedStableFunc(slices.Values(in.Nodes), func(a, b *scan.Node) int { return strings.Compare(a.Name, b.Name) })
	x.head()
	x.spec()
	for i, v := range x.Verdicts {
		x.newline()
		if len(x.Verdicts) > 1 {
			x.rowTitle(v, i)
		}
		x.judged(v)
	}
	if x.layered() {
		x.policies()
		x.nodes()
	}
	x.unread()
	x.better()
	if _, err := w.Write(x.out.Bytes()); err != nil {
		return fmt.Errorf("explain %s: %w", Clean(in.Workload.String()), err)
	}
	return nil
}

// explained is the text in the making.
type explained struct {
	Explained
	layout
}

// title begins a section.
func (x *explained) title(text string) {
	x.newline()
	x.row(0, 2, span{text: text})
}

// say writes texts beside each other, and nothing when there is none.
func (x *explained) say(indent int, texts ...string) {
	var spans []span
	for _, text := range texts {
		if text != "" {
			spans = append(spans, span{text: text})
		}
	}
	if len(spans) > 0 {
		x.row(indent, indent+2, spans...)
	}
}

// layered reports whether the layers were judged in any row.
func (x *explained) layered() bool {
	return slices.ContainsFunc(x.Verdicts, func(v *scan.WorkloadVerdict) bool { return v.Layers != nil })
}

// head is the verdict, or the verdicts where the pods differ.
func (x *explained) head() {
	name := Clean(x.Workload.String())
	if x.Workload.Cluster != "" {
		name += " in " + Clean(x.Workload.Cluster)
	}
	x.say(0, name)
	for i, v := range x.Verdicts {
		texts := []string{verdictSpan(v.Verdict).text}
		if v.Severity != "" {
			texts = append(texts, Clean(string(v.Severity)))
		}
		if v.Pods > 0 {
			texts = append(texts, plural(v.Pods, "pod"))
		}
		if len(x.Verdicts) > 1 {
			texts = append(texts, fmt.Sprintf("row %d of %d", i+1, len(x.Verdicts)))
		}
		x.say(0, append(texts, place(v.Location))...)
		reason, worst := reasons(v)
		x.say(2, reason)
		x.say(2, labelled("worst:", worst))
		if v.Claims != "" {
			x.say(2, "claims "+Clean(v.Claims)+": not followed")
		}
		if v.Layers != nil {
			x.row(2, 4, layerSpans(v.Layers)...)
		}
	}
	if len(x.Verdicts) == 0 {
		x.say(0, "NO VERDICT", "its findings were read, and nothing good may be taken from them")
	}
}

// spec is what the spec leaves open, and what the standards refuse in it.
func (x *explained) spec() {
	x.title("SPEC")
	var open, rest []*scan.Finding
	for _, f := range x.Findings {
		switch f.Category {
		case scan.CategoryEscape:
			open = append(open, f)
		case scan.CategoryPolicy, scan.CategoryKernel:
			// They are told where their layer is.
		default:
			rest = append(rest, f)
		}
	}
	if len(open) == 0 {
		x.say(2, "No escape path is in the spec.")
	}
	for _, f := range open {
		x.finding(f)
	}
	for _, v := range x.Verdicts {
		x.say(2, x.standards(v))
	}
	for _, f := range rest {
		x.finding(f)
	}
}

// standards is what the Pod Security Standards say of a row.
func (x *explained) standards(v *scan.WorkloadVerdict) string {
	level := ""
	if x.Start != nil {
		level = strings.TrimRight(" "+x.Start.Level+" "+x.Start.PSSVersion, " ")
	}
	pods := "the pods"
	if len(x.Verdicts) > 1 && v.Pods > 0 {
		pods = "these " + plural(v.Pods, "pod")
	}
	if v.PSSAllowed {
		return Clean("Pod Security Standards" + level + " allow " + pods + ".")
	}
	return Clean("Pod Security Standards" + level + " refuse " + pods + suffixed(": ", strings.Join(v.Controls, ", "), "") + ".")
}

func (x *explained) finding(f *scan.Finding) {
	head := []string{strings.ToUpper(Clean(string(f.Severity))), Clean(f.Rule), Clean(f.Title)}
	if name := containerName(f); name != "" {
		head = append(head, "container "+name)
	}
	switch {
	case f.Guarded:
		head = append(head, guardedMark)
	case f.Open:
		head = append(head, "open")
	}
	x.say(2, head...)
	x.findingBody(f)
}

func (x *explained) findingBody(f *scan.Finding) {
	if f.Field != "" {
		x.say(4, Clean(f.Field)+suffixed(" (", Clean(f.Item), ")")+" is "+value(f.Now))
	}
	for _, r := range f.Related {
		x.say(4, "with "+Clean(r))
	}
	if says(f) && f.Message != f.Title {
		x.say(4, Clean(f.Message))
	}
	for _, l := range f.Lowered {
		what := "lowered from " + Clean(string(l.From))
		if l.Closes {
			what = "closed"
		}
		x.say(4, what+" by "+Clean(l.By)+suffixed(": ", Clean(l.Reason), ""))
	}
	if f.Fix != nil {
		x.say(4, "fix: "+fixText(f)+suffixed(" (", Clean(f.Fix.Note), ")"))
	}
	if f.Excepted != nil {
		x.say(4, "excepted: "+Clean(f.Excepted.Reason)+suffixed(" (until ", Clean(f.Excepted.Expires), ")"))
	}
	x.say(4, place(f.Location))
}

// fixText is what to do to a field.
func fixText(f *scan.Finding) string {
	if f.Fix.Op == scan.FixRemove {
		return "remove " + Clean(f.Field)
	}
	return "set " + Clean(f.Field) + " to " + value(f.Fix.Value)
}

// rowTitle says which of the pods the next sections are about.
func (x *explained) rowTitle(v *scan.WorkloadVerdict, i int) {
	x.say(0, fmt.Sprintf("ROW %d OF %d", i+1, len(x.Verdicts)), verdictSpan(v.Verdict).text, plural(v.Pods, "pod"))
}

// unread is what is missing of the run that may matter here.
func (x *explained) unread() {
	if len(x.Failures) == 0 && !x.Incomplete {
		return
	}
	x.title("NOT READ")
	x.unreadBody()
}

func (x *explained) unreadBody() {
	for _, f := range x.Failures {
		subject := f.Subject
		if f.Namespace != "" {
			subject += " in " + f.Namespace
		}
		x.say(2, Clean(subject), Clean(string(f.Reason))+":", Clean(f.Message), place(f.Location), labelled("affects:", Clean(f.Affects)))
	}
	if x.Incomplete {
		x.say(2, "The run is incomplete: what is not listed here is not proven absent.")
	}
}
