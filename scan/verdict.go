package scan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// verdict is what everything that was added comes to. incomplete says why not all of
// the workload's pods are known, empty when they are.
func (r *rows) verdict(incomplete string) *WorkloadVerdict {
	slices.Sort(r.paths)
	v := &WorkloadVerdict{
		Workload: r.workload, Severity: r.severity, Paths: r.paths,
		PSSAllowed: r.allowed, Controls: r.controls, Pods: r.pods, Claims: r.claims, Layers: r.layers,
	}
	unknown := cmp.Or(r.unsure, r.more, incomplete)
	if r.layers == nil {
		r.bySpec(v, unknown)
		return v
	}
	r.sortPaths()
	r.layers.Kernel.Nodes = len(r.nodes)
	r.byLayers(v, unknown)
	return v
}

// bySpec fills in the verdict where nothing but the spec is known.
func (r *rows) bySpec(v *WorkloadVerdict, unknown string) {
	switch {
	case r.exposed && len(r.paths) == 1:
		v.Verdict, v.Reason = VerdictExposed, "one escape path is open in the spec: "+r.paths[0]
	case r.exposed:
		v.Verdict, v.Reason = VerdictExposed, fmt.Sprintf("%d escape paths are open in the spec, the worst %s", len(r.paths), r.severity)
	case unknown != "":
		v.Verdict, v.Reason = VerdictUnknown, unknown
	default:
		v.Verdict, v.Reason = VerdictClosed, "no escape path is open in the spec"
	}
}

// byLayers fills in the verdict where the layers are known as well. Paths are sorted,
// the worst first.
func (r *rows) byLayers(v *WorkloadVerdict, unknown string) {
	paths := r.layers.Paths
	if len(paths) > 0 {
		v.Severity = r.openSeverity()
	}
	open := 0
	for _, p := range paths {
		if p.State == PathOpen {
			open++
		}
	}
	switch {
	case open == 1:
		v.Verdict, v.Reason = VerdictExposed, fmt.Sprintf("%s is open: %s", paths[0].Path, paths[0].Reason)
	case open > 1:
		v.Verdict, v.Reason = VerdictExposed, fmt.Sprintf("%d ways out are open, the worst %s: %s", open, paths[0].Path, paths[0].Reason)
	case unknown != "":
		v.Verdict, v.Reason = VerdictUnknown, unknown
	case len(paths) > 0 && paths[0].State == PathUnknown:
		v.Verdict, v.Reason = VerdictUnknown, fmt.Sprintf("whether %s is stopped is not known: %s", paths[0].Path, paths[0].Reason)
	case len(paths) > 0:
		v.Verdict = VerdictGuarded
		v.Reason = fmt.Sprintf("%s is open in the spec and stopped at run time (%s): %s", pathCount(len(paths), paths[0].Path), r.layers.Kernel.Grade, paths[0].Reason)
	default:
		v.Verdict, v.Reason = r.closedOrSealed()
	}
}

func pathCount(n int, first string) string {
	if n == 1 {
		return first
	}
	return fmt.Sprintf("each of %d paths", n)
}

// pathKey names a row of the matrix.
type pathKey struct{ path, container string }

// openSeverity is the worst of the paths that are open, or else of those of which
// that is not known, or else of those that are stopped.
func (r *rows) openSeverity() Severity {
	at := map[pathKey]bool{}
	for _, p := range r.layers.Paths {
		if p.State == r.layers.Paths[0].State {
			at[pathKey{p.Path, p.Container}] = true
		}
	}
	var worst Severity
	for i := range r.findings {
		f := &r.findings[i]
		if f.Open && at[pathKey{f.Rule, f.Container}] && f.Severity.Rank() > worst.Rank() {
			worst = f.Severity
		}
	}
	return worst
}

// sortPaths puts the worst first: by state, then by severity.
func (r *rows) sortPaths() {
	severity := map[pathKey]int{}
	for i := range r.findings {
		f := &r.findings[i]
		key := pathKey{f.Rule, f.Container}
		severity[key] = max(severity[key], f.Severity.Rank())
	}
	slices.SortStableFunc(r.layers.Paths, func(a, b PathLayers) int {
		return cmp.Or(cmp.Compare(rankState(a.State), rankState(b.State)),
			cmp.Compare(severity[pathKey{b.Path, b.Container}], severity[pathKey{a.Path, a.Container}]),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Container, b.Container))
	})
}

// closedOrSealed says of a workload without an open path what keeps it so.
func (r *rows) closedOrSealed() (Verdict, string) {
	const closed = "no escape path is open in the spec"
	l := r.layers
	enforced := l.Kernel.Capabilities == kernel.Yes && l.Kernel.Processes == kernel.Yes && l.Kernel.Grade.Rank() >= kernel.Claimed.Rank()
	switch {
	case l.Reopen == admission.Refuses && l.Runtime.Set == kernel.Yes && enforced:
		return VerdictSealed, fmt.Sprintf("%s, admission refuses to open one%s, and the whole escapeToHost set is in force (%s)", closed, inBrackets(l.ReopenReason), l.Kernel.Grade)
	case l.Reopen == admission.Admits:
		return VerdictClosed, fmt.Sprintf("%s; admission would let %s in (%s)", closed, pathNames(l.Reopens), l.ReopenReason)
	case l.Reopen == admission.Unknown:
		return VerdictClosed, closed + "; whether admission keeps them out is not known: " + l.ReopenReason
	case l.Runtime.Set == kernel.Unknown:
		return VerdictClosed, closed + "; whether the escapeToHost set is wholly in force is not known: " + l.Runtime.Reason
	case l.Runtime.Set != kernel.Yes:
		return VerdictClosed, closed + "; the escapeToHost set is not wholly in force: " + l.Runtime.Reason
	}
	return VerdictClosed, closed + "; what the escapeToHost set forbids is not enforced for certain: " + l.Kernel.Reason
}

func pathNames(ids []string) string {
	if len(ids) == 1 {
		return ids[0]
	}
	return fmt.Sprintf("%d ways out", len(ids))
}

func inBrackets(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// guard lowers the findings of the paths that the layers stop.
func (r *rows) guard() {
	stopped := map[pathKey]*PathLayers{}
	for i := range r.layers.Paths {
		if p := &r.layers.Paths[i]; p.State == PathStopped {
			stopped[pathKey{p.Path, p.Container}] = p
		}
	}
	for i := range r.findings {
		f := &r.findings[i]
		p := stopped[pathKey{f.Rule, f.Container}]
		if p == nil || !f.Open {
			continue
		}
		f.Guarded = true
		f.Lowered = slices.Clip(f.Lowered)
		f.lower(guardName(*p), &effect{to: guardedSeverity(p.Kernel.Grade), reason: p.Reason})
	}
}

func guardName(p PathLayers) string {
	if len(p.Runtime.By) == 0 {
		return fmt.Sprintf("KubeArmor (%s)", p.Kernel.Grade)
	}
	return fmt.Sprintf("%s (%s)", p.Runtime.By[0], p.Kernel.Grade)
}

// guardedSeverity is what is left of a path that is stopped at run time: a new
// container is not covered in its first moments, and while the agent is down nothing
// is.
func guardedSeverity(g kernel.Grade) Severity {
	if g == kernel.Proven {
		return SeverityLow
	}
	return SeverityMedium
}
