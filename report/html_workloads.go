package report

import (
	"cmp"
	"fmt"
	"maps"
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
	Cells   []LayerCell
	Rows    []*htmlVerdict
	Images  []htmlImage
	Changes []*htmlChange
}

// htmlImage is what runs in a container in which something was found.
type htmlImage struct{ Container, Image string }

// htmlVerdict is what is known of the pods of a workload that are alike.
type htmlVerdict struct {
	*scan.WorkloadVerdict
	// Part is true where other pods of the workload have another verdict.
	Part          bool
	Reason, Worst *saying
	Facts, Place  string
	Layers        []htmlLayer
	Paths         []scan.PathLayers
	Containers    bool
	Why           []htmlWhy
	Mends         []string
}

// htmlLayer is one layer of a workload, with what it rests on.
type htmlLayer struct {
	LayerCell
	Name   string
	Reason *saying
}

// htmlWhy is what a layer does to some of the open paths, and why.
type htmlWhy struct {
	Layer, Answer, By string
	Reason            *saying
	// Paths are those of which it is said, empty for all of them.
	Paths string
}

func (h *htmlReport) workload(g *group, book *ruleBook) *htmlWorkload {
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
		if image := (htmlImage{containerName(f), f.Image}); f.Image != "" && !slices.Contains(w.Images, image) {
			w.Images = append(w.Images, image)
		}
	}
	// What one change mends, and what is the same in several containers, is one section.
	for _, row := range joinRows(joinRows(foldFindings(g.findings, false), changeKey, false), findingRow.containerKey, false) {
		w.Changes = append(w.Changes, h.change(row, book, len(g.verdicts) > 1, len(w.Images) > 1))
	}
	w.Tally = plural(len(g.findings), "finding")
	return w
}

func podCount(n int) string {
	if n == 0 {
		return ""
	}
	return plural(n, "pod")
}

func (h *htmlReport) verdict(v *scan.WorkloadVerdict, part bool) *htmlVerdict {
	row := &htmlVerdict{WorkloadVerdict: v, Part: part, Place: place(v.Location)}
	reason, worst := reasons(v)
	row.Reason, row.Worst = h.say(reason), h.say(worst)
	standards := "PSS"
	if h.start != nil && h.start.Level != "" {
		standards += " " + h.start.Level
	}
	if v.PSSAllowed {
		standards = "allowed by " + standards
	} else {
		standards = "refused by " + standards + suffixed(" (", strings.Join(h.controls(v), ", "), ")")
	}
	row.Facts = joined(" · ", podCount(v.Pods), standards, labelled("claims", v.Claims))
	l := v.Layers
	if l == nil {
		return row
	}
	row.Paths = l.Paths
	row.Containers = slices.ContainsFunc(l.Paths, func(p scan.PathLayers) bool { return p.Container != l.Paths[0].Container })
	row.Mends = slices.Concat(admissionMends(l), mends(l))
	names := layerNames()
	layerReasons := [3]string{admissionReason(l), l.Runtime.Reason, kernelReason(&l.Kernel)}
	for i, c := range LayerCells(l) {
		row.Layers = append(row.Layers, htmlLayer{LayerCell: c, Name: names[i], Reason: h.say(layerReasons[i])})
	}
	said := append([]string{reason, worst}, layerReasons[:]...)
	row.Why = h.whyPaths(l.Paths, row.Containers, said)
	return row
}

// controls are those that refuse a workload and of which it has no finding, which would
// name them.
func (h *htmlReport) controls(v *scan.WorkloadVerdict) []string {
	return slices.DeleteFunc(slices.Clone(v.Controls), func(id string) bool {
		return slices.ContainsFunc(h.groups[v.Workload].findings, func(f *scan.Finding) bool { return f.Rule == id })
	})
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

// whyPaths says once what is the same of several paths, but for what was said already.
func (h *htmlReport) whyPaths(paths []scan.PathLayers, apart bool, said []string) []htmlWhy {
	var list []htmlWhy
	name := pathName
	if !apart {
		name = func(p *scan.PathLayers) string { return p.Path }
	}
	for i, layer := range layerNames() {
		at := map[string]int{}
		on := map[int][]string{}
		first := len(list)
		for k := range paths {
			c := [3]*scan.Cell{&paths[k].Admission, &paths[k].Runtime, &paths[k].Kernel}[i]
			by := strings.Join(c.By, ", ")
			known := func(text string) bool {
				return slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, text) })
			}
			if known(Clean(c.Reason)) && known(Clean(by)) {
				continue
			}
			id := key(string(c.Answer), c.Reason, by)
			n, told := at[id]
			if !told {
				n = len(list)
				at[id] = n
				list = append(list, htmlWhy{Layer: layer, Answer: cellText(c), Reason: h.say(c.Reason), By: by})
			}
			on[n] = appendNew(on[n], name(&paths[k]))
		}
		for n := first; n < len(list); n++ {
			if len(on[n]) < len(paths) {
				list[n].Paths = strings.Join(on[n], ", ")
			}
		}
	}
	return list
}

// htmlChange is one field to change, and all that was found of it.
type htmlChange struct {
	*scan.Finding
	Title         string
	Where         string
	Fields        []string
	Of, Now, To   string
	Remove        bool
	Notes         []*saying
	Related       []string
	Items         []htmlItem
	Marks         []htmlMark
	Policies      string
	Places, Claim string
}

// htmlItem is one finding of a change.
type htmlItem struct {
	Rule     *htmlRule
	Severity scan.Severity
	Message  *saying
}

// htmlMark is what takes weight from a finding.
type htmlMark struct {
	Word, By string
	Reason   *saying
}

func (h *htmlReport) change(row findingRow, book *ruleBook, countPods, apart bool) *htmlChange {
	c := &htmlChange{
		Finding: row.Finding, Title: book.of(row.Finding.Rule).Title, Now: value(row.Now),
		Places: row.places(), Policies: strings.Join(row.Policies, ", "), Claim: row.Finding.Claims,
	}
	if apart || row.Image == "" {
		c.Where = row.containers()
	}
	switch {
	case strings.Contains(c.Where, ", "):
		c.Where = "containers " + c.Where
	case c.Where != "":
		c.Where = "container " + c.Where
	}
	if countPods {
		c.Where = joined(", ", c.Where, podCount(row.Pods))
	}
	items := map[string]bool{}
	row.all(func(f *scan.Finding) {
		c.Fields = appendNew(c.Fields, f.Field)
		for _, field := range f.Related {
			c.Related = appendNew(c.Related, field)
		}
		if f.Fix != nil && f.Fix.Note != "" && !items["note "+f.Fix.Note] {
			items["note "+f.Fix.Note] = true
			c.Notes = append(c.Notes, h.say(f.Fix.Note))
		}
		if k := key(f.Rule, f.Message); !items[k] {
			items[k] = true
			item := htmlItem{Rule: book.of(f.Rule), Severity: f.Severity}
			if says(f) {
				item.Message = h.say(f.Message)
			}
			c.Items = append(c.Items, item)
		}
	})
	if row.Item != "" && !strings.Contains(row.Field, row.Item) && !strings.Contains(c.Now, Clean(row.Item)) {
		c.Of = row.Item
	}
	if row.Fix != nil {
		c.Remove, c.To = row.Fix.Op == scan.FixRemove, value(row.Fix.Value)
	}
	c.Marks = h.marks(row.Finding)
	return c
}

// marks say what takes weight from a finding.
func (h *htmlReport) marks(f *scan.Finding) []htmlMark {
	var list []htmlMark
	if f.Guarded {
		list = append(list, htmlMark{Word: "Guarded", By: "every known step of it is stopped at run time"})
	}
	for _, l := range f.Lowered {
		word := "Lowered from " + string(l.From)
		if l.Closes {
			word = "Closed"
		}
		list = append(list, htmlMark{word, l.By, h.say(l.Reason)})
	}
	if f.Excepted != nil {
		list = append(list, htmlMark{Word: "Excepted", By: f.Excepted.Reason + suffixed(" (until ", f.Excepted.Expires, ")")})
	}
	return list
}

// Where a run has many workloads, a long sentence that is said of many of them is
// written once and pointed to, or the document would be made of it.
const (
	manyWorkloads = 250
	longSentence  = 36
	manyTimes     = 25
)

// saying is a text that may be said of many workloads. Ref is its number among those
// that are written once, 0 where it stands in its place.
type saying struct {
	Text  string
	Ref   int
	times int
}

// say counts a text; nil where there is none.
func (h *htmlReport) say(text string) *saying {
	if text == "" {
		return nil
	}
	s := h.sentences[text]
	if s == nil {
		s = &saying{Text: text}
		if h.sentences == nil {
			h.sentences = map[string]*saying{}
		}
		h.sentences[text] = s
	}
	s.times++
	return s
}

// recurring are the sentences that are written once, in the order of their numbers.
func (h *htmlReport) recurring(workloads int) []*saying {
	var list []*saying
	if workloads < manyWorkloads {
		return nil
	}
	for _, s := range h.sentences {
		if s.times >= manyTimes && len(s.Text) >= longSentence {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *saying) int { return cmp.Or(cmp.Compare(b.times, a.times), cmp.Compare(a.Text, b.Text)) })
	for i, s := range list {
		s.Ref = i + 1
	}
	return list
}

// newHTMLFilter lists the words of the workloads that there are.
func newHTMLFilter(workloads []*htmlWorkload) htmlFilter {
	var f htmlFilter
	clusters, namespaces, severities := map[string]bool{}, map[string]bool{}, map[string]bool{}
	verdicts := map[scan.Verdict]bool{}
	for _, w := range workloads {
		clusters[w.Cluster], namespaces[w.Namespace] = true, true
		severities[severityWord(w.Severity)] = true
		verdicts[w.Verdict] = true
	}
	f.Clusters, f.Namespaces = slices.Sorted(maps.Keys(clusters)), slices.Sorted(maps.Keys(namespaces))
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
