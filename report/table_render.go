package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// render writes the whole table into t.out.
func (t *table) render(end *scan.End) {
	groups := t.sorted()
	t.columnClusters()
	t.head(t.start, "")
	t.unread(end)
	t.evidenceLost()
	t.alertList()
	t.workloads(groups)
	t.toothless(groups)
	t.policyList()
	t.exceptionList()
	t.unenforced()
	t.nodeList()
	t.summary(end, groups)
}

// head says what was scanned and by what, and when where that matters.
func (l *layout) head(s *scan.Start, when string) {
	if s == nil {
		return
	}
	source := string(s.Source)
	switch {
	case isFleet(s):
		source += " of " + plural(len(s.Clusters), "cluster")
	case s.Cluster != source:
		source += " " + s.Cluster
	}
	spans := []span{
		{text: Clean(strings.TrimSpace(s.Tool + " " + s.Version)), style: bold},
		{text: Clean(strings.TrimSpace(source))},
		{text: Clean(labelled("Kubernetes", s.ServerVersion))},
		{text: Clean(labelled("Pod Security Standards", strings.TrimSpace(s.Level+" "+s.PSSVersion)))},
		{text: Clean(labelled("namespaces", strings.Join(s.Namespaces, ", ")))},
		{text: Clean(labelled("selector", s.Selector))},
		{text: when},
	}
	l.row(0, 2, spans...)
	for _, note := range s.Notes {
		l.row(0, 2, span{text: "note:", style: bold}, span{text: Clean(note)})
	}
}

// unread says loudly, above everything else, what is missing.
func (t *table) unread(end *scan.End) {
	if !end.Incomplete && !end.Interrupted && len(t.failures) == 0 {
		return
	}
	t.newline()
	t.row(0, 2, incompleteSpans(end)...)
	if text := t.notWholeText(); text != "" {
		t.row(0, 2, span{text: "CLUSTERS", style: alarm}, span{text: text, style: bold})
	}
	for i, f := range t.failures {
		if t.width > 0 && i == 2*maxListed {
			t.row(t.indent(), 4, span{text: fmt.Sprintf("and %d more that could not be read", len(t.failures)-i), style: bold})
			break
		}
		t.row(t.indent(), 4, unreadSpans(f)...)
	}
}

// unreadSpans say what could not be read, why, and what is not known for that.
func unreadSpans(f *scan.Failure) []span {
	return []span{
		{text: "NOT READ", style: alarm},
		{text: Clean(f.Cluster), style: bold},
		{text: Clean(subject(f)), style: bold},
		{text: Clean(string(f.Reason)) + ":"},
		{text: Clean(f.Message)},
		{text: place(f.Location)},
		{text: Clean(labelled("affects:", f.Affects))},
	}
}

// subject is what could not be read, with its namespace.
func subject(f *scan.Failure) string {
	if f.Namespace != "" && f.Subject != "namespace "+f.Namespace {
		return f.Subject + " in " + f.Namespace
	}
	return f.Subject
}

func incompleteSpans(end *scan.End) []span {
	var spans []span
	if end.Interrupted {
		spans = append(spans, span{text: "INTERRUPTED", style: alarm}, span{text: "the scan was stopped before its end."})
	}
	if end.Incomplete || end.Failures > 0 {
		text := "something could not be read."
		if end.Failures > 0 {
			text = plural(end.Failures, "thing") + " could not be read."
		}
		spans = append(spans, span{text: "INCOMPLETE", style: alarm}, span{text: text})
	}
	return append(spans, span{text: "What is not listed here is not proven absent."})
}

// workloads writes one block a workload. Those with nothing to say become a
// number when they are many.
func (t *table) workloads(groups []*group) {
	var quiet []*group
	t.section("", len(groups))
	for _, g := range groups {
		if g.quiet() {
			quiet = append(quiet, g)
			continue
		}
		t.workload(g)
	}
	if t.width == 0 || len(quiet) <= maxListed {
		for _, g := range quiet {
			t.workload(g)
		}
		return
	}
	for len(quiet) > 0 {
		v, cluster, n := quiet[0].verdict(), t.cluster(quiet[0].workload), 0
		for n < len(quiet) && quiet[n].verdict() == v && t.cluster(quiet[n].workload) == cluster {
			n++
		}
		t.quietLine(v, quiet[:n])
		quiet = quiet[n:]
	}
}

// quiet reports whether the one thing to say of a workload is that it is closed, or
// sealed.
func (g *group) quiet() bool {
	for _, v := range g.verdicts {
		if v.Claims != "" || !v.PSSAllowed {
			return false
		}
	}
	v := g.verdict()
	return len(g.findings) == 0 && (v == scan.VerdictClosed || v == scan.VerdictSealed)
}

func (t *table) workload(g *group) {
	quiet := g.quiet()
	for _, v := range g.verdicts {
		t.verdict(v, len(g.findings) == 0, quiet)
		if v.Layers != nil && t.width > 0 && !quiet {
			t.layers(v)
		}
	}
	if len(g.verdicts) == 0 {
		t.row(0, 2, span{text: "NO VERDICT", style: doubtful}, t.clusterSpan(g.workload.Cluster), span{text: t.nameBeside(g.workload), style: bold})
	}
	rows := foldFindings(g.findings, t.width > 0)
	cols := t.columns(rows)
	for _, r := range rows {
		t.finding(r, cols, len(g.verdicts) > 1)
	}
}

// verdict writes the line that heads a block. A workload that is alone has no
// findings below it, one that is quiet needs no second line.
func (t *table) verdict(v *scan.WorkloadVerdict, alone, quiet bool) {
	spans := []span{verdictSpan(v.Verdict), t.clusterSpan(v.Workload.Cluster), {text: t.nameBeside(v.Workload), style: bold}}
	if v.Severity != "" {
		spans = append(spans, span{text: Clean(string(v.Severity)), style: severityStyle(v.Severity)})
	}
	if v.Pods > 0 {
		spans = append(spans, span{text: plural(v.Pods, "pod")})
	}
	if !v.PSSAllowed {
		text := "refused by PSS"
		if t.start != nil && t.start.Level != "" {
			text += " " + Clean(t.start.Level)
		}
		if alone {
			text += labelled(":", Clean(strings.Join(v.Controls, ", ")))
		}
		spans = append(spans, span{text: text})
	}
	if v.Claims != "" {
		spans = append(spans, span{text: "claims " + Clean(v.Claims), style: doubtful})
	}
	if v.Layers != nil && (quiet || t.width == 0) {
		t.columned = true
		spans = append(spans, layerSpans(v.Layers)...)
	}
	// On a terminal the lines below say as much of what is open.
	switch {
	case t.width == 0:
		reason, worst := reasons(v)
		spans = append(spans, span{text: reason}, span{text: worst})
	case v.Layers != nil:
	case alone && v.Verdict == scan.VerdictExposed, v.Verdict == scan.VerdictUnknown:
		spans = append(spans, span{text: Clean(v.Reason)})
	}
	t.row(0, 2, append(spans, span{text: place(v.Location), style: dim})...)
}

// name is the workload, with its cluster where that is not the one of the run.
func (c *gathered) name(w scan.Workload) string { return workloadName(w, c.start) }

// nameBeside is the workload where the cluster of a fleet stands beside it.
func (c *gathered) nameBeside(w scan.Workload) string {
	if c.fleet() {
		return Clean(w.String())
	}
	return c.name(w)
}

func workloadName(w scan.Workload, s *scan.Start) string {
	name := w.String()
	if w.Cluster != "" && (s == nil || w.Cluster != s.Cluster) {
		name = w.Cluster + ": " + name
	}
	return Clean(name)
}

// columns are the least widths of the columns of one block.
type columns struct{ rule, container int }

func (t *table) columns(rows []findingRow) columns {
	if t.width < 80 {
		return columns{}
	}
	var c columns
	for _, r := range rows {
		c.rule = max(c.rule, width(r.rule()))
		c.container = max(c.container, width(r.containers()))
	}
	return columns{rule: min(c.rule, 28), container: min(c.container, 16)}
}

// finding writes one finding, or those that were joined to it.
func (t *table) finding(r findingRow, cols columns, countPods bool) {
	severity := severitySpan(r.Severity)
	if r.Excepted != nil {
		severity.style = dim
	}
	spans := []span{severity, {text: r.rule(), style: bold, pad: cols.rule}}
	container := r.containers()
	if t.width == 0 {
		spans = append(spans, t.clusterSpan(r.Workload.Cluster), span{text: t.nameBeside(r.Workload)})
		container = cmp.Or(container, "-")
	}
	spans = append(spans, span{text: container, pad: cols.container})
	if r.Field != "" {
		spans = append(spans, span{text: r.field(t.width > 0)}, span{text: t.change(r), style: bold})
	}
	spans = append(spans, span{text: r.further(), style: dim})
	if countPods && r.Pods > 0 {
		spans = append(spans, span{text: plural(r.Pods, "pod")})
	}
	spans = append(spans, span{text: r.places(), style: dim})
	spans = append(spans, marks(r.Finding)...)
	t.row(t.indent(), t.hang(), append(spans, t.messages(r)...)...)
}

// rule is the ID of the row's rule, and how many elements it speaks of.
func (r findingRow) rule() string {
	id := Clean(r.Rule)
	if r.elements > 1 {
		id += fmt.Sprintf(" ×%d", r.elements)
	}
	return id
}

// exceptionList writes the exceptions of the configuration that do not do their
// work: they name no field of a workload.
func (t *table) exceptionList() {
	t.section("EXCEPTIONS THAT DO NOT HOLD", len(t.exceptions))
	for _, f := range t.exceptions {
		t.row(t.indent(), t.hang(),
			severitySpan(f.Severity),
			span{text: Clean(f.Rule), style: bold},
			span{text: Clean(f.Workload.Name)},
			span{text: place(f.Location), style: dim},
			span{text: Clean(f.Message)})
	}
}

func severitySpan(s scan.Severity) span {
	return span{text: strings.ToUpper(Clean(string(s))), style: severityStyle(s), pad: len("CRITICAL")}
}

// indent is that of a finding's line and hang that of what follows it.
func (t *table) indent() int {
	if t.width == 0 {
		return 0
	}
	return 2
}

func (t *table) hang() int {
	if t.width < 60 {
		return 4
	}
	return 2 + len("CRITICAL") + gap
}

// says reports whether the message adds to what the columns show. That of a
// control of the Pod Security Standards does so only where no repair was found.
func says(f *scan.Finding) bool {
	return f.Message != "" && (f.Category != scan.CategoryPSS || f.Fix == nil)
}

// messages end the line. On a terminal what an escape path opens takes at most one
// line, and is not said again of the next workload. What a control says in the
// place of a field is given whole.
func (t *table) messages(r findingRow) []span {
	var spans []span
	for text := range strings.SplitSeq(r.messages(), "\n") {
		if t.width > 0 && (r.Category == scan.CategoryEscape || r.Fix != nil) {
			if t.said[text] {
				continue
			}
			t.said[text] = true
			text = shorten(text, t.width-min(t.hang(), t.width/4))
		}
		spans = append(spans, span{text: text, style: dim})
	}
	return spans
}

// change is what is there now and what would pass.
func (l *layout) change(r findingRow) string {
	limit := 0
	text := value(r.Now)
	if l.width > 0 {
		limit = max(narrowest, l.width/2)
		text = r.values()
	}
	if r.elements == 1 {
		text = shorten(text, limit)
	}
	switch {
	case r.Fix == nil:
	case r.Fix.Op == scan.FixRemove:
		text += " → remove"
	default:
		text += " → " + shorten(value(r.Fix.Value), limit)
	}
	return text
}

// value is a field's value as text.
func value(raw []byte) string {
	if text := compactJSON(raw); text != "null" {
		return text
	}
	return "unset"
}

// guardedMark marks an open path that is stopped at run time.
const guardedMark = "guarded"

// marks say what takes weight from a finding.
func marks(f *scan.Finding) []span {
	var spans []span
	if f.Guarded {
		spans = append(spans, span{text: guardedMark, style: green})
	}
	for _, l := range f.Lowered {
		text := "lowered from " + Clean(string(l.From))
		if l.Closes {
			text = "closed"
		}
		spans = append(spans, span{text: text + " (" + Clean(l.By) + ")", style: green})
	}
	if f.Excepted != nil {
		text := labelled("excepted:", Clean(f.Excepted.Reason))
		if f.Excepted.Expires != "" {
			text += " (until " + Clean(f.Excepted.Expires) + ")"
		}
		if text == "" {
			text = "excepted"
		}
		spans = append(spans, span{text: text, style: green})
	}
	return spans
}

// section begins a part of the table that has n lines.
func (t *table) section(title string, n int) {
	if n == 0 {
		return
	}
	t.newline()
	if title != "" {
		t.row(0, 2, span{text: title, style: bold})
	}
}

func verdictSpan(v scan.Verdict) span {
	s := span{text: strings.ToUpper(Clean(string(v))), pad: len("EXPOSED")}
	switch v {
	case scan.VerdictExposed:
		s.style = alarm
	case scan.VerdictGuarded:
		s.style = cyan
	case scan.VerdictClosed, scan.VerdictSealed:
		s.style = green
	case scan.VerdictUnknown:
		s.style = doubtful
	}
	return s
}

func severityStyle(s scan.Severity) style {
	switch s {
	case scan.SeverityCritical:
		return alarm
	case scan.SeverityHigh:
		return red
	case scan.SeverityMedium:
		return yellow
	case scan.SeverityLow, scan.SeverityNone:
		return cyan
	}
	return plain
}

// place is a location as editors and terminals follow it.
func place(l *scan.Location) string {
	if l == nil || l.File == "" {
		return ""
	}
	text := Clean(l.File)
	if l.Line > 0 {
		text += fmt.Sprintf(":%d", l.Line)
		if l.Column > 0 {
			text += fmt.Sprintf(":%d", l.Column)
		}
	}
	if l.Nearest {
		text = "under " + text
	}
	return text
}

// labelled is label and text, or nothing when there is no text.
func labelled(label, text string) string {
	if text == "" {
		return ""
	}
	return label + " " + text
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// appendNew appends s unless it is there or empty.
func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
