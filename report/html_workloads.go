package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// htmlWorkload is a row of the matrix and a section of its own.
type htmlWorkload struct {
	ID string
	scan.Workload
	FullName, Tally string
	Verdict         scan.Verdict
	Severity        scan.Severity
	Pods            int
	// Cells are the three layers of the worst verdict, nil where they were not judged.
	Cells    []LayerCell
	Rows     []*htmlVerdict
	Findings []*htmlFinding
}

// htmlVerdict is what is known of the pods of a workload that are alike.
type htmlVerdict struct {
	*scan.WorkloadVerdict
	// Part is true where other pods of the workload have another verdict.
	Part         bool
	Worst, Facts string
	Place        string
	Layers       []htmlLayer
	Paths        []scan.PathLayers
	Containers   bool
	Why          []htmlWhy
	Mends        []string
}

// htmlLayer is one layer of a workload, with what it rests on.
type htmlLayer struct {
	LayerCell
	Name, Reason string
}

// htmlWhy is what a layer does to some of the open paths, and why.
type htmlWhy struct {
	Layer, Answer, Reason, By string
	// Paths are those of which it is said, empty for all of them.
	Paths string
}

func (h *htmlReport) workload(g *group, book *ruleBook, findings *int) *htmlWorkload {
	w := &htmlWorkload{Workload: g.workload, FullName: h.name(g.workload), Verdict: g.verdict(), Severity: g.severity()}
	for i, v := range g.verdicts {
		if i == 0 && v.Layers != nil {
			cells := LayerCells(v.Layers)
			w.Cells = cells[:]
		}
		w.Pods += v.Pods
		w.Rows = append(w.Rows, h.verdict(v, len(g.verdicts) > 1))
		for _, id := range v.Paths {
			book.of(id)
		}
	}
	for _, f := range g.findings {
		book.cite(f)
	}
	// What is the same in several containers is one section.
	for _, row := range joinRows(foldFindings(g.findings, false), findingRow.containerKey, false) {
		*findings++
		w.Findings = append(w.Findings, newHTMLFinding(row, fmt.Sprintf("f%d", *findings), book, len(g.verdicts) > 1))
	}
	w.Tally = joined(" · ", w.ways(), plural(len(w.Findings), "finding"), podCount(w.Pods))
	return w
}

// ways counts the escape paths that are open in the spec.
func (w *htmlWorkload) ways() string {
	var ids []string
	for _, v := range w.Rows {
		for _, id := range v.WorkloadVerdict.Paths {
			ids = appendNew(ids, id)
		}
	}
	switch len(ids) {
	case 0:
		return ""
	case 1:
		return "1 way out in the spec"
	}
	return fmt.Sprintf("%d ways out in the spec", len(ids))
}

func podCount(n int) string {
	if n == 0 {
		return ""
	}
	return plural(n, "pod")
}

func (h *htmlReport) verdict(v *scan.WorkloadVerdict, part bool) *htmlVerdict {
	row := &htmlVerdict{WorkloadVerdict: v, Part: part, Place: place(v.Location)}
	_, row.Worst = reasons(v)
	standards := "Pod Security Standards"
	if h.start != nil && h.start.Level != "" {
		standards += " " + h.start.Level
	}
	if v.PSSAllowed {
		standards = "allowed by the " + standards
	} else {
		standards = "refused by the " + standards + suffixed(" (", strings.Join(v.Controls, ", "), ")")
	}
	row.Facts = joined(" · ", podCount(v.Pods), standards, labelled("claims", v.Claims))
	l := v.Layers
	if l == nil {
		return row
	}
	row.Paths = l.Paths
	row.Containers = slices.ContainsFunc(l.Paths, func(p scan.PathLayers) bool { return p.Container != "" })
	row.Mends = slices.Concat(admissionMends(l), mends(l))
	names := layerNames()
	layerReasons := [3]string{admissionReason(l), l.Runtime.Reason, kernelReason(&l.Kernel)}
	for i, c := range LayerCells(l) {
		row.Layers = append(row.Layers, htmlLayer{LayerCell: c, Name: names[i], Reason: layerReasons[i]})
	}
	said := map[string]bool{v.Reason: true, l.Admission.Reason: true, l.Runtime.Reason: true, l.Kernel.Reason: true}
	row.Why = whyPaths(l.Paths, said)
	return row
}

// admissionReason is why the like of a workload would be refused, or of one that is shut
// why it would stay so.
func admissionReason(l *scan.Layers) string {
	if len(l.Paths) > 0 || l.ReopenReason == "" {
		return l.Admission.Reason
	}
	return joined(": ", strings.Join(l.Reopens, ", "), l.ReopenReason)
}

func kernelReason(k *scan.KernelLayer) string {
	if k.Nodes < 2 || k.Worst == "" {
		return k.Reason
	}
	return k.Reason + fmt.Sprintf(" (of %s, %s decides)", plural(k.Nodes, "node"), k.Worst)
}

// whyPaths says once what is the same of several paths. What was said already is only
// named again where somebody is to blame.
func whyPaths(paths []scan.PathLayers, said map[string]bool) []htmlWhy {
	var list []htmlWhy
	for i, name := range layerNames() {
		at := map[string]int{}
		on := map[int][]string{}
		first := len(list)
		for k := range paths {
			c := [3]*scan.Cell{&paths[k].Admission, &paths[k].Runtime, &paths[k].Kernel}[i]
			by := strings.Join(c.By, ", ")
			id := key(string(c.Answer), c.Reason, by)
			n, known := at[id]
			if !known {
				n = len(list)
				at[id] = n
				list = append(list, htmlWhy{Layer: name, Answer: cellText(c), Reason: c.Reason, By: by})
			}
			on[n] = appendNew(on[n], pathName(&paths[k]))
		}
		for n := first; n < len(list); n++ {
			if len(on[n]) < len(paths) {
				list[n].Paths = strings.Join(on[n], ", ")
			}
		}
	}
	return slices.DeleteFunc(list, func(w htmlWhy) bool { return w.By == "" && w.Paths == "" && said[w.Reason] })
}

// htmlFinding is a finding, or the same in several containers.
type htmlFinding struct {
	*scan.Finding
	ID            string
	Rule          *htmlRule
	Where         string
	Fields        []string
	Now, To       string
	Remove        bool
	Places        string
	Marks         []htmlMark
	Policies, Pod string
}

// htmlMark is what takes weight from a finding.
type htmlMark struct{ Word, Text string }

func newHTMLFinding(row findingRow, id string, book *ruleBook, countPods bool) *htmlFinding {
	f := &htmlFinding{Finding: row.Finding, ID: id, Rule: book.of(row.Finding.Rule), Places: row.places(), Policies: strings.Join(row.Policies, ", ")}
	containers := row.containers()
	switch {
	case strings.Contains(containers, ", "):
		f.Where = "containers " + containers
	case containers != "":
		f.Where = "container " + containers
	default:
		f.Where = "the pod"
	}
	f.Where = joined(" · ", f.Where, labelled("image", row.Image))
	if countPods {
		f.Where = joined(" · ", f.Where, podCount(row.Pods))
	}
	row.all(func(f2 *scan.Finding) { f.Fields = appendNew(f.Fields, f2.Field) })
	if row.Item != "" && !strings.Contains(row.Field, row.Item) && !strings.Contains(value(row.Now), Clean(row.Item)) {
		f.Pod = row.Item
	}
	f.Now = value(row.Now)
	if row.Fix != nil {
		f.Remove = row.Fix.Op == scan.FixRemove
		f.To = value(row.Fix.Value)
	}
	if row.Guarded {
		f.Marks = append(f.Marks, htmlMark{"Guarded", "every known step of it is stopped at run time"})
	}
	for _, l := range row.Lowered {
		word := "Lowered from " + string(l.From)
		if l.Closes {
			word = "Closed"
		}
		f.Marks = append(f.Marks, htmlMark{word, joined(": ", l.By, l.Reason)})
	}
	if row.Excepted != nil {
		f.Marks = append(f.Marks, htmlMark{"Excepted", row.Excepted.Reason + suffixed(" (until ", row.Excepted.Expires, ")")})
	}
	return f
}

// newHTMLFilter lists the words of the workloads that there are.
func newHTMLFilter(workloads []*htmlWorkload) htmlFilter {
	var f htmlFilter
	namespaces, severities := map[string]bool{}, map[string]bool{}
	verdicts := map[scan.Verdict]bool{}
	for _, w := range workloads {
		namespaces[w.Namespace] = true
		severities[severityWord(w.Severity)] = true
		verdicts[w.Verdict] = true
	}
	for ns := range namespaces {
		f.Namespaces = append(f.Namespaces, ns)
	}
	slices.Sort(f.Namespaces)
	for _, v := range scan.Verdicts() {
		if verdicts[v] {
			f.Verdicts = append(f.Verdicts, v)
			delete(verdicts, v)
		}
	}
	for v := range verdicts {
		f.Verdicts = append(f.Verdicts, v)
	}
	slices.Sort(f.Verdicts[len(f.Verdicts)-len(verdicts):])
	for _, s := range append(scan.Severities(), scan.SeverityNone) {
		if severities[string(s)] {
			f.Severities = append(f.Severities, string(s))
			delete(severities, string(s))
		}
	}
	known := len(f.Severities)
	for s := range severities {
		f.Severities = append(f.Severities, s)
	}
	slices.Sort(f.Severities[known:])
	return f
}

// severityWord is a severity as the filter has it; "none" where nothing was found.
func severityWord(s scan.Severity) string {
	if s == "" {
		return string(scan.SeverityNone)
	}
	return string(s)
}
