package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// WriteDiffHTML writes a comparison as one HTML document, which needs nothing beside it
// and no scripts.
func WriteDiffHTML(w io.Writer, c *Comparison) error {
	v := c.view()
	body, err := htmlBody("diff", v)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	p := &page{
		Kicker: "What changed", Title: c.title(), Facts: c.facts(), Notes: c.notes(), Nav: v.nav(), Body: body,
		Foot: "Written by " + strings.TrimSpace(c.Tool+" "+c.Version) + " on " + c.Time.UTC().Format(time.RFC3339) + ". Times are UTC. This file asks for nothing from any network.",
	}
	if err := writePage(w, p); err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	return nil
}

func (c *Comparison) title() string {
	old, new := c.Diff.Old.Start(), c.Diff.New.Start()
	if old.Cluster == new.Cluster {
		return cmp.Or(new.Cluster, "Two runs")
	}
	return cmp.Or(old.Cluster, string(old.Source)) + " → " + cmp.Or(new.Cluster, string(new.Source))
}

func (c *Comparison) facts() []pageFact {
	var facts []pageFact
	for _, side := range c.sides() {
		s := side.Start()
		facts = append(facts, pageFact{
			strings.ToUpper(side.word[:1]) + side.word[1:] + " run",
			joined(", ", side.file, s.Time.UTC().Format(time.RFC3339), labelled("Kubernetes", s.ServerVersion),
				strings.TrimSpace(s.Level+" "+s.PSSVersion), labelled("namespaces", strings.Join(s.Namespaces, ", ")), labelled("selector", s.Selector)),
		})
	}
	return facts
}

// diffView is what the template of a comparison draws.
type diffView struct {
	// Nothing says that nothing changed, where nothing did.
	Nothing  string
	Missing  []diffMissing
	Changes  []diffChip
	Counts   []diffRowView
	Verdicts []diffVerdictView
	Findings []diffFindingsView
	Came     []diffWorkloadView
	Went     []diffWorkloadView
	Policies []diffThingView
	Nodes    []diffThingView
	Unread   []diffFailureView
	Readable []diffFailureView
	Unknown  []diffUnknownView
	unknown  int
}

// diffMissing is what one run lacks.
type diffMissing struct {
	Run, Text string
	Failures  []diffFailureView
	More      int
}

type diffChip struct{ ID, Class, Text string }

type diffRowView struct {
	Name, Change string
	Old, New     int
}

type diffVerdictView struct {
	*scan.VerdictPair
	Turn        pill
	Name, Doubt string
}

// diffFindingsView is a section of findings.
type diffFindingsView struct {
	ID, Title, Lead string
	Count           int
	Groups          []diffGroupView
	// Aside is what is counted and not listed.
	Aside string
}

// diffGroupView are the findings of one workload.
type diffGroupView struct {
	Name, Claims, Said, Doubt string
	Rows                      []diffFindingView
}

type diffFindingView struct {
	Severity                                       scan.Severity
	Rule, Container, Field, Change, Place, Message string
	Marks                                          []string
}

type diffWorkloadView struct {
	Verdict             scan.Verdict
	Severity            scan.Severity
	Name, Reason, Doubt string
}

// diffThingView is a policy or a node.
type diffThingView struct {
	Turn                   pill
	Name, Was, Now, Reason string
	Doubt                  string
}

type diffFailureView struct{ Subject, Reason, Message, Affects string }

type diffUnknownView struct {
	Doubt string
	Lines []diffUnknownLine
}

type diffUnknownLine struct {
	Count string
	Names []string
	More  int
}

// diffTable is a list with a label for who does not see it.
type diffTable[T any] struct {
	Label string
	List  []T
}

func newDiffTable[T any](label string, list []T) *diffTable[T] {
	if len(list) == 0 {
		return nil
	}
	return &diffTable[T]{label, list}
}

// CameTable, WentTable, PolicyTable and NodeTable are nil where there is nothing.
func (v *diffView) CameTable() *diffTable[diffWorkloadView] { return newDiffTable("Came", v.Came) }
func (v *diffView) WentTable() *diffTable[diffWorkloadView] { return newDiffTable("Went", v.Went) }
func (v *diffView) PolicyTable() *diffTable[diffThingView] {
	return newDiffTable("Policies", v.Policies)
}
func (v *diffView) NodeTable() *diffTable[diffThingView] { return newDiffTable("Nodes", v.Nodes) }

func (c *Comparison) view() *diffView {
	d := c.Diff
	v := &diffView{Unread: diffFailures(d.Unread), Readable: diffFailures(d.Readable)}
	if d.Empty() {
		t := diffText{c: c}
		for _, s := range t.nothing() {
			v.Nothing = strings.TrimSpace(v.Nothing + " " + s.text)
		}
	}
	for _, side := range c.sides() {
		if side.Incomplete() {
			v.Missing = append(v.Missing, newDiffMissing(side))
		}
	}
	for _, tally := range c.tallies() {
		if tally.n > 0 {
			v.Changes = append(v.Changes, diffChip{tally.id, diffClass(tally.style), tally.text()})
		}
	}
	for _, n := range c.counts() {
		v.Counts = append(v.Counts, diffRowView{strings.TrimSpace(n.group + " " + n.name), n.change(), n.old, n.new})
	}
	for i := range d.Verdicts {
		p := &d.Verdicts[i]
		turn := turnSpan(p.Turn)
		v.Verdicts = append(v.Verdicts, diffVerdictView{p, pill{diffClass(turn.style), turn.text}, c.name(p.Now.Workload, p.Now.Claims), diffDoubt(p.Doubt)})
	}
	v.Findings = c.findingViews()
	v.Came, v.Went = c.workloadViews(d.Came), c.workloadViews(d.Went)
	v.Policies, v.Nodes = c.policyViews(), c.nodeViews()
	for _, g := range groupUnknown(c.unknownThings()) {
		u := diffUnknownView{Doubt: g.doubt}
		for _, kind := range g.kinds {
			v.unknown += g.counts[kind]
			line := diffUnknownLine{Count: pluralKind(g.counts[kind], kind), Names: g.names[kind].list}
			if most := 10 * maxListed; len(line.Names) > most {
				line.More, line.Names = len(line.Names)-most, line.Names[:most]
			}
			u.Lines = append(u.Lines, line)
		}
		v.Unknown = append(v.Unknown, u)
	}
	return v
}

// name is a workload, with the owner that it claims.
func (c *Comparison) name(w scan.Workload, claims string) string {
	return Clean(w.String()) + suffixed(" (claims ", claims, ")")
}

func newDiffMissing(side diffSide) diffMissing {
	m := diffMissing{Run: side.word, Failures: diffFailures(side.Failures())}
	if most := 2 * maxListed; len(m.Failures) > most {
		m.More, m.Failures = len(m.Failures)-most, m.Failures[:most]
	}
	for _, s := range incompleteSpans(endOf(side.DiffSide)) {
		m.Text = strings.TrimSpace(m.Text + " " + s.text)
	}
	return m
}

func diffFailures(list []*scan.Failure) []diffFailureView {
	out := make([]diffFailureView, len(list))
	for i, f := range list {
		out[i] = diffFailureView{subject(f), string(f.Reason), joined(" ", f.Message, place(f.Location)), f.Affects}
	}
	return out
}

// diffClass is the class of the style sheet that sounds as a style looks.
func diffClass(s style) string {
	switch s {
	case alarm, red:
		return "bad"
	case yellow:
		return "poor"
	case green:
		return "good"
	case doubtful:
		return "unknown"
	case plain, bold, dim, cyan:
	}
	return "low"
}

func (c *Comparison) findingViews() []diffFindingsView {
	d := c.Diff
	var closed []scan.FindingPair
	for _, p := range d.Closed {
		if !p.With {
			closed = append(closed, p)
		}
	}
	var list []diffFindingsView
	for _, part := range []struct {
		word, id, title, lead string
		all                   int
		pairs                 []scan.FindingPair
	}{
		{"OPENED", "opened", "Opened", "Findings that the old run does not have.", len(d.Opened), d.Opened},
		{"UNEXCEPTED", "unexcepted", "Excepted no more", "Findings that an exception covered in the old run, and none covers now.", len(d.Unexcepted), d.Unexcepted},
		{"SEVERITY", "severities", "Of another severity", "The same findings, weighing more or less than before.", len(d.Severities), d.Severities},
		{"EXCEPTED", "excepted", "Excepted", "Findings that an exception covers now.", len(d.Excepted), d.Excepted},
		{"CLOSED", "closed", "Closed", "Findings that are seen to be gone.", len(d.Closed), closed},
	} {
		if part.all == 0 {
			continue
		}
		v := diffFindingsView{ID: part.id, Title: part.title, Lead: part.lead, Count: part.all}
		if n := part.all - len(part.pairs); n > 0 {
			v.Aside = plural(n, "finding") + " went with the workloads."
		}
		t := diffText{c: c}
		for _, g := range groupPairs(part.pairs, func(p *scan.FindingPair) string { return t.pairText(part.word, p) }) {
			v.Groups = append(v.Groups, c.groupView(part.word, g))
		}
		list = append(list, v)
	}
	return list
}

func (c *Comparison) groupView(word string, g *pairGroup) diffGroupView {
	first := g.pairs[0]
	f := first.Either()
	t := diffText{c: c}
	v := diffGroupView{Name: Clean(f.Workload.String()), Claims: f.Claims, Said: t.pairText(word, first)}
	if word == "OPENED" {
		v.Doubt = diffDoubt(first.Doubt)
		if first.With {
			v.Said = "the workload is new"
		}
	}
	for _, r := range foldFindings(g.findings(), true) {
		row := diffFindingView{
			Severity: r.Severity, Rule: joined(" ", r.rule(), r.further()), Container: r.containers(), Place: r.places(), Message: strings.ReplaceAll(r.messages(), "\n", "; "),
		}
		if r.Field != "" {
			row.Field, row.Change = r.field(true), t.change(r)
		}
		for _, m := range marks(r.Finding) {
			row.Marks = append(row.Marks, m.text)
		}
		v.Rows = append(v.Rows, row)
	}
	return v
}

func (c *Comparison) workloadViews(list []scan.Pair[scan.WorkloadVerdict]) []diffWorkloadView {
	return diffEach(list, func(p *scan.Pair[scan.WorkloadVerdict]) diffWorkloadView {
		w := p.Either()
		return diffWorkloadView{w.Verdict, w.Severity, c.name(w.Workload, w.Claims), w.Reason, diffDoubt(p.Doubt)}
	})
}

func (c *Comparison) policyViews() []diffThingView {
	return diffEach(c.Diff.Policies, func(p *scan.Pair[scan.Policy]) diffThingView {
		v := diffThingView{Name: diffPolicyName(p.Either()), Doubt: diffDoubt(p.Doubt)}
		v.Turn = pill{bitePill(p.Either().Bites).Class, diffPolicyTurn(p)}
		if p.Was != nil {
			v.Was = string(p.Was.Bites)
		}
		if p.Now != nil {
			v.Now, v.Reason = string(p.Now.Bites), strings.Join(p.Now.Reasons, "; ")
		} else {
			v.Turn.Class = "low"
		}
		return v
	})
}

func (c *Comparison) nodeViews() []diffThingView {
	return diffEach(c.Diff.Nodes, func(p *scan.Pair[scan.Node]) diffThingView {
		v := diffThingView{Name: p.Either().Name, Turn: pill{"low", diffBecame(p)}, Doubt: diffDoubt(p.Doubt)}
		if p.Was != nil {
			v.Was = diffEnforcementText(p.Was)
		}
		if p.Now != nil {
			v.Now = diffEnforcementText(p.Now)
			if p.Now.Enforcement != nil {
				v.Reason = p.Now.Enforcement.Reason
			}
		}
		return v
	})
}

// nav leads to the sections that there are.
func (v *diffView) nav() []pageLink {
	var links []pageLink
	add := func(n int, id, text string) {
		if n > 0 {
			links = append(links, pageLink{ID: id, Text: text, Count: fmt.Sprint(n)})
		}
	}
	links = append(links, pageLink{ID: "summary", Text: "Summary"})
	add(len(v.Unread)+len(v.Readable), "unread", "Not read")
	add(len(v.Verdicts), "verdicts", "Verdicts")
	for _, f := range v.Findings {
		add(f.Count, f.ID, f.Title)
	}
	add(len(v.Came)+len(v.Went), "workloads", "Workloads")
	add(len(v.Policies), "policies", "Policies")
	add(len(v.Nodes), "nodes", "Nodes")
	add(v.unknown, "unknown", "Not known")
	return links
}
