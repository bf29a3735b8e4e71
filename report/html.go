package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// HTMLOptions are the choices of the HTML report.
type HTMLOptions struct {
	// Rules are the records of the rules, which the report explains once each.
	Rules []scan.Rule
}

// NewHTML returns a handler that writes the run, at its end, as one HTML document: a
// file that needs nothing beside it, asks for nothing and can be read without scripts.
func NewHTML(w io.Writer, opts HTMLOptions) scan.Handler {
	h := &htmlReport{w: w, rules: make(map[string]*scan.Rule, len(opts.Rules))}
	for i := range opts.Rules {
		h.rules[opts.Rules[i].ID] = &opts.Rules[i]
	}
	return h
}

type htmlReport struct {
	gathered
	w         io.Writer
	rules     map[string]*scan.Rule
	sentences map[string]*saying
}

func (h *htmlReport) Handle(e scan.Event) error {
	h.take(e)
	if e.End == nil {
		return nil
	}
	if err := h.write(e.End); err != nil {
		return fmt.Errorf("html: %w", err)
	}
	return nil
}

// htmlView is what the templates of the report draw.
type htmlView struct {
	End      *scan.End
	Unread   *htmlUnread
	Headline htmlHeadline
	Verdicts htmlChart
	Layers   []htmlChart
	Severity htmlChart
	Ways     []htmlWay
	// MoreWays is how many are open and have no line.
	MoreWays  int
	Excepted  string
	Workloads []*htmlWorkload
	Filter    htmlFilter
	// Columned is true where layers were judged.
	Columned bool
	// Fleet is true where there are several clusters, and Clusters has a row for each.
	Fleet      bool
	Clusters   []htmlCluster
	Policies   []htmlPolicy
	Toothless  []htmlDull
	Exceptions []*scan.Finding
	Nodes      []htmlNode
	NodeKinds  []string
	Weak       []htmlDull
	Alerts     *htmlAlerts
	Rules      []*htmlRule
	// Recurring are sentences that many workloads share.
	Recurring []*saying
}

func (h *htmlReport) write(end *scan.End) error {
	v := h.view(end)
	body, err := htmlBody("report", v)
	if err != nil {
		return err
	}
	p := &page{Kicker: "Escape report", Title: "Ways out of the containers", Nav: v.nav(), Body: body}
	h.head(p, end)
	return writePage(h.w, p)
}

func (h *htmlReport) view(end *scan.End) *htmlView {
	groups := h.sorted()
	book := newRuleBook(h.rules)
	v := &htmlView{
		End: end, Unread: h.unread(end), Headline: headline(end, len(groups)),
		Verdicts: verdictChart(end.Verdicts), Severity: severityChart(end.Findings), Excepted: uncounted(end),
		Exceptions: h.exceptions, Fleet: h.fleet(), Clusters: h.htmlClusters(),
	}
	ids := map[scan.Workload]string{}
	for i, g := range groups {
		w := h.workload(g, book)
		w.ID = fmt.Sprintf("w%d", i+1)
		ids[g.workload] = w.ID
		v.Columned = v.Columned || w.Cells != nil
		v.Workloads = append(v.Workloads, w)
	}
	v.Filter = newHTMLFilter(v.Workloads)
	if !v.Fleet {
		v.Filter.Clusters = nil
	}
	v.Layers = layerCharts(v.Workloads)
	v.Ways, v.MoreWays = h.htmlWays(book)
	v.Toothless = h.htmlDull(h.toothlessRows(groups, true), book)
	v.Weak = h.htmlDull(h.dullRows(h.weak, true), book)
	v.Policies = h.htmlPolicies()
	v.Nodes, v.NodeKinds = h.htmlNodes()
	v.Alerts = h.htmlAlerts(ids)
	for _, f := range h.exceptions {
		book.cite(f)
	}
	v.Rules = book.pages()
	v.Recurring = h.recurring(len(groups))
	return v
}

// head says what was scanned, by what and when.
func (h *htmlReport) head(p *page, end *scan.End) {
	s := h.start
	if s == nil {
		p.Foot = "Written by escape-scanner."
		return
	}
	switch {
	case h.fleet():
		p.Title = "Fleet of " + plural(len(s.Clusters), "cluster")
	case s.Cluster != "":
		p.Title = s.Cluster
	}
	scanned := []string{plural(end.Workloads, "workload")}
	for _, n := range []struct {
		count int
		what  string
	}{{end.Pods, "pod"}, {end.Documents, "document"}, {len(h.nodes), "node"}} {
		if n.count > 0 {
			scanned = append(scanned, plural(n.count, n.what))
		}
	}
	if end.Skipped > 0 {
		scanned = append(scanned, plural(end.Skipped, "document")+" without pods skipped")
	}
	for _, f := range []pageFact{
		{"Scanned", strings.Join(scanned, ", ")},
		{"Time", utc(s.Time)},
		{"Source", string(s.Source)},
		{"Kubernetes", s.ServerVersion},
		{"Judged by", "Pod Security Standards " + strings.TrimSpace(s.Level+" "+s.PSSVersion)},
		{"Namespaces", strings.Join(s.Namespaces, ", ")},
		{"Selector", s.Selector},
		{"Rule set", s.RuleSet},
		{"Tool", strings.TrimSpace(s.Tool + " " + s.Version)},
	} {
		if f.Value != "" {
			p.Facts = append(p.Facts, f)
		}
	}
	p.Notes = s.Notes
	p.Foot = "Written by " + strings.TrimSpace(s.Tool+" "+s.Version) + ". Times are UTC. This file asks for nothing from any network."
}

// utc is a moment for people, empty where there is none.
func utc(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02 15:04:05 UTC")
}

// nav leads to the sections that there are.
func (v *htmlView) nav() []pageLink {
	var links []pageLink
	add := func(there bool, id, text string, n int) {
		if !there {
			return
		}
		l := pageLink{ID: id, Text: text}
		if n > 0 {
			l.Count = fmt.Sprint(n)
		}
		links = append(links, l)
	}
	if u := v.Unread; u != nil {
		add(true, "unread", "Not read", len(u.Failures)+len(u.Lost))
	}
	add(true, "summary", "Summary", 0)
	add(v.Fleet, "clusters", "Clusters", len(v.Clusters))
	add(true, "workloads", "Workloads", len(v.Workloads))
	if a := v.Alerts; a != nil {
		add(true, "alerts", "Alerts", len(a.Rows)+a.More)
	}
	add(len(v.Policies)+len(v.Toothless) > 0, "policies", "Policies", len(v.Policies))
	add(len(v.Exceptions) > 0, "exceptions", "Exceptions", len(v.Exceptions))
	add(len(v.Nodes)+len(v.Weak) > 0, "nodes", "Nodes", len(v.Nodes))
	add(len(v.Rules) > 0, "rules", "Rules", len(v.Rules))
	add(len(v.Recurring) > 0, "recurring", "Notes", len(v.Recurring))
	return links
}

// htmlUnread is what is missing from the report.
type htmlUnread struct {
	Interrupted bool
	Text        string
	// Clusters counts those of a fleet that not all is known of.
	Clusters string
	Failures []htmlFailure
	Lost     []*htmlLost
}

type htmlFailure struct {
	*scan.Failure
	Subject string
}

// unread is nil where everything was read.
func (h *htmlReport) unread(end *scan.End) *htmlUnread {
	lost := h.lost()
	if !end.Incomplete && !end.Interrupted && len(h.failures) == 0 && len(lost) == 0 {
		return nil
	}
	u := &htmlUnread{Interrupted: end.Interrupted, Lost: lost}
	switch {
	case end.Failures > 0:
		u.Text = plural(end.Failures, "thing") + " could not be read."
	case end.Incomplete || len(h.failures) > 0:
		u.Text = "Something could not be read."
	}
	u.Clusters = h.notWholeText()
	for _, f := range h.failures {
		u.Failures = append(u.Failures, htmlFailure{f, subject(f)})
	}
	return u
}

// htmlHeadline is the run in one sentence.
type htmlHeadline struct{ Class, Text string }

// headline says the worst that is known, and never more good than was seen.
func headline(end *scan.End, rows int) htmlHeadline {
	n := end.Verdicts
	of := func(count int) string { return fmt.Sprintf("%d of %s", count, plural(end.Workloads, "workload")) }
	switch shut := n[scan.VerdictClosed] + n[scan.VerdictSealed]; {
	case n[scan.VerdictExposed] == 1:
		return htmlHeadline{"exposed", of(1) + " leaves a way out to the host open that nothing is known to stop."}
	case n[scan.VerdictExposed] > 1:
		return htmlHeadline{"exposed", of(n[scan.VerdictExposed]) + " leave a way out to the host open that nothing is known to stop."}
	case end.Workloads == 0 && rows > 0:
		return htmlHeadline{"unknown", "Nothing was judged: no workload has a verdict."}
	case end.Workloads == 0:
		return htmlHeadline{"unknown", "Nothing was judged: no workload was found."}
	case n[scan.VerdictUnknown] > 0:
		return htmlHeadline{"unknown", "Of " + of(n[scan.VerdictUnknown]) + " it is not known whether a way out to the host is open."}
	case end.Incomplete || end.Interrupted || end.Failures > 0:
		return htmlHeadline{"unknown", "No open way out was found in what could be read; not everything could."}
	case shut == end.Workloads:
		return htmlHeadline{"closed", "No way out to the host was found in any workload's spec."}
	case shut+n[scan.VerdictGuarded] == end.Workloads:
		return htmlHeadline{"guarded", "Every way out that a spec leaves open is stopped at run time."}
	}
	return htmlHeadline{"unknown", "Not every workload has a verdict."}
}

// htmlFilter are the words that the list of workloads can be narrowed by.
type htmlFilter struct {
	Clusters   []string
	Namespaces []string
	Verdicts   []scan.Verdict
	Severities []string
}

// htmlLost is a time of which alerts are missing.
type htmlLost struct {
	*scan.Lost
	ID, When, Where, Count string
}

func (h *htmlReport) lost() []*htmlLost {
	var list []*htmlLost
	for i, l := range sortedLost(h.told.lost) {
		v := &htmlLost{Lost: l, ID: fmt.Sprintf("l%d", i+1), When: lostWhen(l, time.UTC)}
		if l.Workload != nil {
			v.Where = h.name(*l.Workload)
		}
		v.Where = joined(", ", v.Where, labelled("container", l.Container), labelled("pod", l.Pod), labelled("node", l.Node), l.Source)
		if l.Alerts > 0 {
			v.Count = plural(l.Alerts, "alert") + " or more are missing"
		}
		list = append(list, v)
	}
	return list
}

// uncounted is what the gate does not count.
func uncounted(end *scan.End) string {
	var texts []string
	if end.Excepted > 0 {
		texts = append(texts, fmt.Sprintf("%d excepted", end.Excepted))
	}
	if end.Known > 0 {
		texts = append(texts, fmt.Sprintf("%d known from the baseline", end.Known))
	}
	return strings.Join(texts, ", ")
}

// htmlWay is an escape path that is open in some workloads.
type htmlWay struct {
	*way
	Rule, Anchor, Title string
	Severity            scan.Severity
	Count               string
	Bar                 htmlChart
}

// htmlWays are the ten worst, and how many more there are.
func (h *htmlReport) htmlWays(book *ruleBook) (list []htmlWay, more int) {
	ways := h.ways()
	if more = len(ways) - maxListed; more > 0 {
		ways = ways[:maxListed]
	}
	most := 1
	for _, w := range ways {
		most = max(most, w.workloads)
	}
	for _, w := range ways {
		r := book.of(w.rule)
		v := htmlWay{way: w, Rule: w.rule, Anchor: r.Anchor, Title: cmp.Or(r.Title, w.rule), Severity: w.severity, Count: plural(w.workloads, "workload")}
		if w.guarded > 0 {
			v.Count += fmt.Sprintf(", %d guarded", w.guarded)
		}
		v.Bar = barChart("", most, htmlPart{Class: severityPill(w.severity).Class, Name: w.rule, Count: w.workloads})
		list = append(list, v)
	}
	return list, max(0, more)
}
