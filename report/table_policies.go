package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// maxMends is how many different reasons, or mends, one line of causes may have on
// a terminal.
const maxMends = 3

// distinct is a list of texts, each once, in the order in which they came.
type distinct struct {
	list []string
	has  map[string]bool
}

func (d *distinct) add(text string) {
	if text == "" || d.has[text] {
		return
	}
	if d.has == nil {
		d.has = map[string]bool{}
	}
	d.has[text] = true
	d.list = append(d.list, text)
}

// dullKey is one policy and one cause for which it does not bite. The cluster is set in a
// fleet only.
type dullKey struct{ cluster, kind, namespace, name, cause string }

// dullPlaces is where it does not, and what would mend it.
type dullPlaces struct {
	workloads []string
	mends     distinct
}

func armorKey(r armor.Ref, c armor.Cause) dullKey {
	return dullKey{kind: string(r.Kind), namespace: r.Namespace, name: r.Name, cause: string(c)}
}

// admissionKey names the labels of a namespace by the namespace.
func admissionKey(r admission.Ref, c admission.Cause) dullKey {
	if r.Mechanism == admission.PodSecurity {
		return dullKey{kind: "Namespace", name: cmp.Or(r.Name, r.Namespace), cause: string(c)}
	}
	return dullKey{kind: r.Kind, namespace: r.Namespace, name: r.Name, cause: string(c)}
}

// dullIndex says of each policy that does not bite where that is seen. What is a
// policy's own fault is one finding, and the verdicts know the workloads.
func (c *gathered) dullIndex(groups []*group) map[dullKey]*dullPlaces {
	index := map[dullKey]*dullPlaces{}
	add := func(k dullKey, g *group, mend string) {
		k.cluster = c.cluster(g.workload)
		at := index[k]
		if at == nil {
			at = &dullPlaces{}
			index[k] = at
		}
		name := c.nameBeside(g.workload)
		// A workload's causes come one after the other, for each of its containers.
		if n := len(at.workloads); n == 0 || at.workloads[n-1] != name {
			at.workloads = append(at.workloads, name)
		}
		at.mends.add(Clean(mend))
	}
	for _, g := range groups {
		for _, v := range g.verdicts {
			if v.Layers == nil {
				continue
			}
			for i := range v.Layers.Runtime.Toothless {
				x := &v.Layers.Runtime.Toothless[i]
				add(armorKey(x.Policy, x.Cause), g, x.Mend)
			}
			for i := range v.Layers.Admission.Rulings {
				if r := &v.Layers.Admission.Rulings[i]; r.Toothless != nil {
					add(admissionKey(r.By, r.Toothless.Cause), g, r.Toothless.Mend)
				}
			}
		}
	}
	return index
}

// endsIn reports whether a rule is about the cause: its ID ends in it.
func endsIn(rule, cause string) bool {
	return rule == cause || strings.HasSuffix(rule, "-"+cause)
}

// dullRow is one entry of the section: a cause, the policies that it holds for, where
// that was seen, and the mend.
type dullRow struct {
	*scan.Finding
	findings                       []*scan.Finding
	names, messages, mends, places distinct
	// workloads are those on which it was seen, on has their containers too.
	workloads, on distinct
}

// toothless writes the policies that do not bite: by cause on a terminal, one line a
// finding in a pipe.
func (t *table) toothless(groups []*group) {
	t.section("POLICIES THAT DO NOT BITE", len(t.dull))
	if len(t.dull) == 0 {
		return
	}
	for _, r := range t.toothlessRows(groups, t.width > 0) {
		t.dullRow(r)
	}
}

// toothlessRows are the policies that do not bite, with the workloads on which that is
// seen: those of one cause together where they are folded.
func (c *gathered) toothlessRows(groups []*group, fold bool) []*dullRow {
	byPolicy := map[dullKey][]dullKey{}
	index := c.dullIndex(groups)
	for k := range index {
		policy := dullKey{cluster: k.cluster, kind: k.kind, namespace: k.namespace, name: k.name}
		byPolicy[policy] = append(byPolicy[policy], k)
	}
	rows := c.dullRows(c.dull, fold)
	for _, r := range rows {
		r.all(func(f *scan.Finding) {
			w := f.Workload
			for _, k := range byPolicy[dullKey{cluster: c.cluster(w), kind: w.Kind, namespace: w.Namespace, name: w.Name}] {
				if endsIn(f.Rule, k.cause) {
					r.seen(index[k])
				}
			}
		})
	}
	return rows
}

// unenforced writes the findings of nodes. On a terminal the list of nodes, sorted by
// their kind, says how to turn on what is off.
func (t *table) unenforced() {
	t.section("NODES THAT DO NOT ENFORCE", len(t.weak))
	for _, r := range t.dullRows(t.weak, t.width > 0) {
		if t.width > 0 && len(t.nodes) > 0 {
			r.mends = distinct{}
		}
		t.dullRow(r)
	}
}

// dullRows joins what one rule says of several things, where they are folded.
func (c *gathered) dullRows(findings []*scan.Finding, fold bool) []*dullRow {
	var rows []*dullRow
	at := map[string]*dullRow{}
	for _, f := range findings {
		k := key(c.cluster(f.Workload), f.Rule, string(f.Severity), fmt.Sprint(marks(f)))
		r := at[k]
		if r == nil || !fold {
			r = &dullRow{Finding: f}
			rows = append(rows, r)
			at[k] = r
		}
		r.findings = append(r.findings, f)
		c.join(r, f)
	}
	return rows
}

// join takes what a finding says into its row. A finding that names policies is about
// a workload on which they do not bite, or about the one policy itself.
func (c *gathered) join(r *dullRow, f *scan.Finding) {
	for _, p := range f.Policies {
		r.names.add(Clean(p))
	}
	name := c.nameBeside(f.Workload)
	switch {
	case len(f.Policies) == 0:
		r.names.add(name)
	case !ofItself(f):
		r.workloads.add(name)
		r.on.add(strings.TrimSpace(name + " " + containerName(f)))
	}
	r.messages.add(Clean(f.Message))
	r.mends.add(Clean(f.Mend))
	r.places.add(place(f.Location))
}

// ofItself reports whether the finding is about the policy that it names.
func ofItself(f *scan.Finding) bool {
	w := f.Workload
	name := w.Kind + " " + w.Name
	if w.Namespace != "" {
		name = w.Kind + " " + w.Namespace + "/" + w.Name
	}
	return slices.ContainsFunc(f.Policies, func(p string) bool { return p == name || strings.HasPrefix(p, name+" (") })
}

func (r *dullRow) seen(at *dullPlaces) {
	for _, w := range at.workloads {
		r.workloads.add(w)
		r.on.add(w)
	}
	for _, mend := range at.mends.list {
		r.mends.add(mend)
	}
}

func (r *dullRow) all(visit func(*scan.Finding)) {
	for _, f := range r.findings {
		visit(f)
	}
}

func (t *table) dullRow(r *dullRow) {
	severity := severitySpan(r.Severity)
	if r.Excepted != nil {
		severity.style = dim
	}
	head := []span{severity, {text: Clean(r.Rule), style: bold}}
	on := ""
	if n := len(r.workloads.list); n > 0 {
		slices.Sort(r.on.list)
		on = "on " + plural(n, "workload") + ": " + t.few(r.on.list, ", ", maxListed)
	}
	if t.width == 0 {
		policies := ""
		if !ofItself(r.Finding) {
			policies = labelled("policies:", Clean(strings.Join(r.Policies, ", ")))
		}
		if len(r.Policies) > 0 && policies != "" {
			// The line begins with the workload.
			on = ""
		}
		head = append(head, t.clusterSpan(r.Workload.Cluster), span{text: t.nameBeside(r.Workload)}, span{text: containerName(r.Finding)}, span{text: Clean(r.Field)})
		head = append(append(head, marks(r.Finding)...), span{text: t.few(r.places.list, " ", maxListed), style: dim})
		t.row(0, 0, append(head, span{text: strings.Join(r.messages.list, " ")}, span{text: policies}, span{text: on},
			span{text: labelled("mend:", strings.Join(r.mends.list, "; "))})...)
		return
	}
	// Below each other stand causes here, not clusters.
	head = append(head, span{text: t.clusterSpan(r.Workload.Cluster).text, style: cyan}, span{text: t.few(r.names.list, ", ", maxListed)})
	head = append(append(head, marks(r.Finding)...), span{text: t.few(r.places.list, " ", maxListed), style: dim})
	t.row(t.indent(), t.hang(), head...)
	t.lines(r.messages.list, "", dim)
	if on != "" {
		t.row(t.hang(), t.hang()+2, span{text: on})
	}
	t.lines(r.mends.list, "mend: ", plain)
}

// lines writes texts below a row of a terminal, each on a line of its own and once
// in the whole table.
func (t *table) lines(texts []string, label string, s style) {
	texts = slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return t.said[text] })
	for i, text := range texts {
		if i == maxMends && len(texts) > maxMends {
			t.row(t.hang(), t.hang()+2, span{text: fmt.Sprintf("%sand %d more of this kind", label, len(texts)-i), style: s})
			return
		}
		t.said[text] = true
		t.row(t.hang(), t.hang()+2, span{text: label + text, style: s})
	}
}

// few joins names; on a terminal those beyond limit become a number.
func (t *table) few(names []string, separator string, limit int) string {
	if t.width == 0 || len(names) <= limit {
		return strings.Join(names, separator)
	}
	return strings.Join(names[:limit], separator) + fmt.Sprintf(" and %d more", len(names)-limit)
}

// ComparePolicies puts first what does not bite.
func ComparePolicies(a, b *scan.Policy) int {
	return cmp.Or(
		cmp.Compare(slices.Index(bites(), a.Bites), slices.Index(bites(), b.Bites)),
		a.Ref().Compare(b.Ref()),
		cmp.Compare(a.Action, b.Action),
		slices.Compare(a.Reasons, b.Reasons),
	)
}

// policyList writes the policies with what they bite: all of them in a pipe, on a
// terminal those that do not bite everywhere.
func (t *table) policyList() {
	listed := t.policies
	if t.width > 0 {
		listed = slices.DeleteFunc(slices.Clone(listed), func(p *scan.Policy) bool { return p.Bites == scan.BitesYes })
	}
	title := ""
	if t.width > 0 {
		title = "POLICIES NOT IN FULL FORCE"
	}
	t.section(title, len(listed))
	for i, p := range listed {
		if t.width > 0 && i == 2*maxListed {
			t.row(t.indent(), t.hang(), span{text: fmt.Sprintf("and %d more", len(listed)-i)})
			return
		}
		t.policy(p)
	}
}

func (t *table) policy(p *scan.Policy) {
	spans := []span{
		biteSpan(p.Bites),
		t.clusterSpan(p.Cluster),
		{text: Clean(policyName(p)), style: bold},
		{text: Clean(p.Action)},
	}
	if p.Pods == 0 && p.Workloads == 0 {
		spans = append(spans, span{text: "selects nothing"})
	} else {
		spans = append(spans, span{text: plural(p.Workloads, "workload")}, span{text: plural(p.Pods, "pod")})
	}
	if t.width == 0 {
		spans = append([]span{{text: "POLICY", pad: len("VERDICTS")}}, spans...)
		spans = append(spans, span{text: Clean(string(p.Layer))}, span{text: Clean(strings.Join(p.Reasons, "; "))})
		t.row(0, 0, spans...)
		return
	}
	t.row(t.indent(), t.hang(), spans...)
	var reasons distinct
	for _, r := range p.Reasons {
		reasons.add(Clean(r))
	}
	t.lines(reasons.list, "", dim)
}

// policyName is NAMESPACE/KIND/NAME, as of workloads.
func policyName(p *scan.Policy) string {
	return scan.Workload{Namespace: p.Namespace, Kind: p.Kind, Name: p.Name}.String()
}

func biteSpan(b scan.Bite) span {
	s := span{text: strings.ToUpper(Clean(string(b))), pad: len("CRITICAL")}
	switch b {
	case scan.BitesNo:
		s.style = red
	case scan.BitesPartly:
		s.style = yellow
	case scan.BitesYes:
		s.style = green
	case scan.BitesUnknown:
		s.style = doubtful
	}
	return s
}

// policyCount is the line of the summary.
func (t *table) policyCount() {
	if spans := policyCounts(t.policies); len(spans) > 0 {
		t.row(0, summaryHang, spans...)
	}
}

// policyCounts counts policies by whether they bite; nil where there are none.
func policyCounts(policies []*scan.Policy) []span {
	if len(policies) == 0 {
		return nil
	}
	counts := map[scan.Bite]int{}
	for _, p := range policies {
		counts[p.Bites]++
	}
	spans := []span{{text: "POLICIES", style: bold, pad: len("VERDICTS")}, {text: fmt.Sprintf("%d found", len(policies))}}
	for _, b := range []struct {
		bite scan.Bite
		text string
	}{
		{scan.BitesYes, "bite"}, {scan.BitesPartly, "partly"}, {scan.BitesNo, "not"}, {scan.BitesUnknown, "unknown"},
	} {
		s := span{text: fmt.Sprintf("%d %s", counts[b.bite], b.text)}
		if counts[b.bite] > 0 {
			s.style = biteSpan(b.bite).style
		}
		spans = append(spans, s)
	}
	return spans
}
