package report

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// ErrNoWorkload means that the run judged no workload of the name that was to be explained.
var ErrNoWorkload = errors.New("no such workload was judged")

// ParseWorkload reads NAMESPACE/KIND/NAME, the form in which every output names a
// workload; a namespace of "-" is none.
func ParseWorkload(s string) (scan.Workload, error) {
	parts := strings.SplitN(s, "/", 3)
	if len(parts) != 3 || slices.Contains(parts, "") {
		return scan.Workload{}, fmt.Errorf("workload %q: want NAMESPACE/KIND/NAME, as in shop/Deployment/checkout (\"-\" for no namespace)", Clean(s))
	}
	if parts[0] == "-" {
		parts[0] = ""
	}
	return scan.Workload{Namespace: parts[0], Kind: parts[1], Name: parts[2]}, nil
}

// NewExplain returns a handler that writes, at the end of the run, the reasoning
// about one workload, as ExplainWorkload does. The workload is NAMESPACE/KIND/NAME;
// the kind is matched whatever its case. When the run has no such workload, the
// handling of End fails with ErrNoWorkload and the names that come near. Of a fleet it
// is the reasoning for each cluster that has such a workload.
func NewExplain(w io.Writer, workload string, width int) scan.Handler {
	want, err := ParseWorkload(workload)
	return &explainer{w: w, width: width, want: want, err: err, near: nearest{to: want}}
}

type explainer struct {
	w     io.Writer
	width int
	want  scan.Workload
	err   error
	// in has, until the end of the run or of its cluster, all policies, nodes and failures.
	in   Explained
	near nearest
	// found are the clusters of a fleet that have the workload, failures those of all others.
	found    []Explained
	failures []*scan.Failure
}

func (x *explainer) Handle(e scan.Event) error {
	if x.err != nil {
		return x.err
	}
	switch {
	case e.Start != nil:
		x.in.Start = e.Start
	case e.Node != nil:
		x.in.Nodes = append(x.in.Nodes, e.Node)
	case e.Policy != nil:
		x.in.Policies = append(x.in.Policies, e.Policy)
	case e.Failure != nil:
		x.in.Failures = append(x.in.Failures, e.Failure)
	case e.Finding != nil && x.matches(e.Finding.Workload):
		x.in.Findings = append(x.in.Findings, e.Finding)
	case e.Verdict != nil && x.matches(e.Verdict.Workload):
		x.in.Verdicts = append(x.in.Verdicts, e.Verdict)
	case e.Verdict != nil:
		x.near.add(e.Verdict.Workload)
	case e.Cluster != nil:
		x.closeCluster(e.Cluster)
	case e.End != nil:
		return x.end(e.End)
	}
	return nil
}

// closeCluster keeps what a cluster of a fleet has of the workload.
func (x *explainer) closeCluster(run *scan.ClusterRun) {
	in := x.in
	x.in = Explained{Start: in.Start}
	if len(in.Verdicts) == 0 {
		x.failures = append(x.failures, in.Failures...)
		return
	}
	if run.Start != nil {
		in.Start = run.Start
	}
	x.found = append(x.found, x.concerning(in, &run.End))
}

// concerning leaves of what was read what concerns the workload.
func (x *explainer) concerning(in Explained, end *scan.End) Explained {
	in.Incomplete = end.Incomplete || end.Interrupted
	in.Failures = slices.DeleteFunc(in.Failures, func(f *scan.Failure) bool {
		return f.Namespace != "" && f.Namespace != x.want.Namespace
	})
	if len(in.Verdicts) > 0 {
		in.Workload = in.Verdicts[0].Workload
		in.concern()
	}
	return in
}

func (x *explainer) matches(w scan.Workload) bool {
	return w.Namespace == x.want.Namespace && w.Name == x.want.Name && strings.EqualFold(w.Kind, x.want.Kind)
}

func (x *explainer) end(end *scan.End) error {
	for i, in := range x.found {
		heading := newExplained(in, x.width)
		if i > 0 {
			heading.newline()
		}
		heading.row(0, 2, span{text: "cluster " + Clean(in.Workload.Cluster)})
		if _, err := x.w.Write(heading.out.Bytes()); err != nil {
			return fmt.Errorf("explain %s: %w", Clean(x.want.String()), err)
		}
		if err := ExplainWorkload(x.w, in, x.width); err != nil {
			return err
		}
	}
	if len(x.found) > 0 {
		return nil
	}
	x.in.Failures = append(x.failures, x.in.Failures...)
	x.in = x.concerning(x.in, end)
	if len(x.in.Verdicts) == 0 {
		return x.missing()
	}
	return ExplainWorkload(x.w, x.in, x.width)
}

// missing is the error of a workload that is not there, or was not read.
func (x *explainer) missing() error {
	why := ""
	if names := x.near.names(); len(names) > 0 {
		why = "; did you mean " + strings.Join(names, ", ") + "?"
	}
	if x.in.Incomplete {
		why += "; the run is incomplete"
		for i, f := range x.in.Failures {
			if i == maxNear {
				why += fmt.Sprintf(", and %d more could not be read", len(x.in.Failures)-i)
				break
			}
			why += ", " + suffixed("", Clean(f.Cluster), ": ") + Clean(f.Subject) + " could not be read (" + Clean(string(f.Reason)) + ")"
		}
	}
	return fmt.Errorf("explain %s: %w%s", Clean(x.want.String()), ErrNoWorkload, why)
}

// concern leaves of policies and nodes those that decide something for the workload.
func (in *Explained) concern() {
	policies, nodes := map[string]bool{}, map[string]bool{}
	count := 0
	for _, v := range in.Verdicts {
		l := v.Layers
		if l == nil {
			continue
		}
		count = max(count, l.Kernel.Nodes)
		nodes[l.Kernel.Worst] = true
		for i := range l.Paths {
			for _, by := range l.Paths[i].Kernel.By {
				nodes[strings.TrimPrefix(by, "node ")] = true
			}
		}
		for _, r := range l.Runtime.Policies {
			policies[policyKey(string(r.Kind), r.Namespace, r.Name)] = true
		}
		for i := range l.Runtime.Toothless {
			r := l.Runtime.Toothless[i].Policy
			policies[policyKey(string(r.Kind), r.Namespace, r.Name)] = true
		}
		for i := range l.Admission.Rulings {
			r := l.Admission.Rulings[i].By
			policies[policyKey(r.Kind, r.Namespace, r.Name)] = true
		}
	}
	in.Policies = slices.DeleteFunc(in.Policies, func(p *scan.Policy) bool {
		return !policies[policyKey(p.Kind, p.Namespace, p.Name)]
	})
	// Where the pods run on all of them, all of them decide.
	if count > 0 && count >= len(in.Nodes) {
		return
	}
	in.Nodes = slices.DeleteFunc(in.Nodes, func(n *scan.Node) bool { return !nodes[n.Name] })
}

func policyKey(kind, namespace, name string) string { return key(kind, namespace, name) }

// maxNear is how many near names an error gives.
const maxNear = 3

// nearest keeps of all names that pass by the few that come nearest to one.
type nearest struct {
	to   scan.Workload
	best []near
}

type near struct {
	name     string
	distance int
}

// add looks at a name. The same name in another namespace, or of another kind, is as
// near as one letter.
func (n *nearest) add(w scan.Workload) {
	const longest = 100
	name := w.String()
	if len(name) > 2*longest || len(n.to.Name) > longest {
		return
	}
	d := editDistance(strings.ToLower(w.Name), strings.ToLower(n.to.Name))
	if d > max(2, len(n.to.Name)/4) {
		return
	}
	if w.Namespace != n.to.Namespace {
		d++
	}
	if !strings.EqualFold(w.Kind, n.to.Kind) {
		d++
	}
	candidate := near{name, d}
	at, found := slices.BinarySearchFunc(n.best, candidate, func(a, b near) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	if found || at >= maxNear {
		return
	}
	n.best = slices.Insert(n.best, at, candidate)
	n.best = n.best[:min(len(n.best), maxNear)]
}

func (n *nearest) names() []string {
	names := make([]string, len(n.best))
	for i, b := range n.best {
		names[i] = Clean(b.name)
	}
	return names
}

// editDistance counts the letters to insert, remove or replace to make b of a.
func editDistance(a, b string) int {
	s, t := []rune(a), []rune(b)
	row := make([]int, len(t)+1)
	for j := range row {
		row[j] = j
	}
	for i := range s {
		diagonal := row[0]
		row[0] = i + 1
		for j := range t {
			cost := diagonal + 1
			if s[i] == t[j] {
				cost = diagonal
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(t)]
}
