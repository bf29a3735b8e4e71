package report

import (
	"bytes"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// ExplainedParts are parts of what ExplainWorkload writes, in lines of clean text, for
// who lays them out otherwise. A part that has nothing to say is empty.
type ExplainedParts struct {
	// Standards is what the Pod Security Standards say, a paragraph a row.
	Standards []string
	// Admission, Runtime and Kernel are what the layers say of the first row.
	Admission, Runtime, Kernel []string
	// Unread is what could not be read and may matter, Better what would have to change
	// for a better verdict.
	Unread, Better []string
}

// ExplainParts makes the parts. Policies and nodes may be all of the run: those that
// decide nothing for the workload are left out. Lines fit width cells; with width 0
// nothing is wrapped.
func ExplainParts(in Explained, width int) ExplainedParts {
	in.Policies, in.Nodes = slices.Clone(in.Policies), slices.Clone(in.Nodes)
	in.concern()
	x := newExplained(in, width)
	var parts ExplainedParts
	parts.Standards = x.part(func() {
		for _, v := range x.Verdicts {
			x.say(0, x.standards(v))
		}
	})
	if len(x.Verdicts) > 0 && x.Verdicts[0].Layers != nil {
		l := x.Verdicts[0].Layers
		parts.Admission = x.part(func() { x.admissionBody(l) })
		parts.Runtime = x.part(func() { x.runtimeBody(&l.Runtime) })
		parts.Kernel = x.part(func() { x.kernelBody(&l.Kernel) })
	}
	if len(x.Failures) > 0 || x.Incomplete {
		parts.Unread = x.part(x.unreadBody)
	}
	if len(x.Verdicts) > 0 {
		parts.Better = x.part(x.betterBody)
	}
	return parts
}

// FindingLines are what ExplainWorkload writes of a finding below its title: the field
// and what it is now, what lowers it, the fix, the exception and where it stands.
func FindingLines(f *scan.Finding, width int) []string {
	x := newExplained(Explained{}, width)
	return x.part(func() { x.findingBody(f) })
}

// RuleLines are what Explain writes of a rule below its ID and title.
func RuleLines(r scan.Rule, width int) []string {
	var b bytes.Buffer
	r.ID, r.Title = "", ""
	// Writing to memory cannot fail.
	_ = Explain(&b, r, width)
	_, text, _ := strings.Cut(b.String(), "\n")
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

func newExplained(in Explained, width int) *explained {
	x := &explained{Explained: in}
	if width > 0 {
		x.width = min(max(width, narrowest), widestProse)
	}
	return x
}

// part is what is written by a function, in lines.
func (x *explained) part(write func()) []string {
	x.out.Reset()
	write()
	text := strings.TrimRight(x.out.String(), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
