package tui

import (
	"cmp"
	"fmt"
	"strings"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// sections writes the parts of an overview one below the other. Where it is tight there
// are no blank lines between them and only the essentials of some; where it is wide there
// is room for more of each.
type sections struct {
	*desk
	*tally
	pageText
	open        map[string]bool
	tight, wide bool
}

// title begins a section.
func (s *sections) title(title string, style lipgloss.Style, more string) {
	s.gap()
	line := " " + style.Bold(true).Render(title)
	if more != "" && ansi.StringWidth(line)+2+ansi.StringWidth(more) <= s.width {
		line += "  " + s.theme.dim.Render(more)
	}
	s.add(line, nil)
}

func (s *sections) gap() {
	if len(s.lines) > 0 && !s.tight {
		s.add("", nil)
	}
}

// state says what is not as it will be: nothing yet, still reading, stopped.
func (s *sections) state() {
	t, snap := s.theme, s.snap
	switch {
	case snap.Err != nil:
		s.wrapped(" "+t.errorText.Render("✗ stopped")+"  ", snap.Err.Error()+"; below is what was known before", t.errorText, nil)
	case snap.Start == nil && snap.Over:
		s.add(t.errorText.Render(" The run has told nothing."), nil)
	case snap.Start == nil:
		s.add(t.accent.Render(" … waiting for the first of the run"), nil)
	case !snap.Pictured && snap.Over:
		s.wrapped(" "+t.errorText.Render("✗ cut short")+"  ", "the run ended before all was read", t.errorText, nil)
	case !snap.Pictured:
		s.progress()
	case snap.End != nil && snap.End.Interrupted:
		s.wrapped(" "+t.errorText.Render("✗ interrupted")+"  ", "not all was read", t.errorText, nil)
	}
}

// progress is how far reading has come.
func (s *sections) progress() {
	t, p := s.theme, s.snap.Progress
	head := " " + t.accent.Render("… reading")
	if p == nil {
		s.add(head, nil)
		return
	}
	read := counted(p.Pods, "pod")
	if p.Pods == 0 && p.Documents > 0 {
		read = counted(p.Documents, "document")
	}
	pieces := []string{head, read + " so far"}
	if p.Workloads > 0 {
		pieces = append(pieces, counted(p.Workloads, "workload"))
	}
	if p.Remaining > 0 {
		const cells = 20
		done := bar(p.Pods, p.Pods+int(p.Remaining), cells)
		pieces = append(pieces, t.dim.Render(fmt.Sprintf("about %d to come", p.Remaining)),
			t.accent.Render(done)+t.dim.Render(strings.Repeat("·", cells-ansi.StringWidth(done))))
	}
	s.add(joinFit(s.width, pieces...), nil)
}

// failures are what could not be read: loud, for what is not known is not good.
func (s *sections) failures() {
	list, t := s.snap.Failures, s.theme
	if len(list) == 0 {
		return
	}
	s.title(fmt.Sprintf("? %d could not be read", len(list)), t.doubt, "what hangs on it is not known")
	most := 3
	switch {
	case s.tight:
		most = 1
	case s.wide:
		most = 6
	}
	if s.open["failures"] || len(list) == most+1 {
		most = len(list)
	}
	for i, f := range list {
		if i == most {
			rest := fmt.Sprintf("and %d more", len(list)-i)
			s.add("   "+t.doubt.Bold(true).Render(rest)+t.dim.Render("  enter shows them"),
				&stop{id: "failures", act: foldMsg{"failures"}, what: "what could not be read", text: failuresText(list)})
			return
		}
		s.failure(f)
	}
}

func failuresText(list []*scan.Failure) string {
	texts := make([]string, len(list))
	for i, f := range list {
		texts[i] = failureText(f)
	}
	return strings.Join(texts, "\n")
}

func failureText(f *scan.Failure) string {
	text := report.Clean(failureName(f)) + " could not be read (" + report.Clean(string(f.Reason)) + "): " + report.Clean(f.Message)
	if f.Affects != "" {
		text += "\naffects " + report.Clean(f.Affects)
	}
	return text
}

func failureName(f *scan.Failure) string {
	if f.Namespace != "" {
		return inCluster(f.Cluster, f.Subject+" in "+f.Namespace)
	}
	return inCluster(f.Cluster, f.Subject)
}

func (s *sections) failure(f *scan.Failure) {
	t := s.theme
	id := fmt.Sprint("failure ", f.Ref())
	at := &stop{id: id, act: foldMsg{id}, what: "the failure", text: failureText(f)}
	affects := ""
	if f.Affects != "" {
		affects = "affects " + f.Affects
	}
	reason := clean(string(f.Reason), 20)
	name := clean(failureName(f), max(12, s.width-ansi.StringWidth(reason)-8))
	line := "   " + t.plain.Render(name) + "  " + t.doubt.Render(reason)
	switch room := s.width - ansi.StringWidth(line) - 3; {
	case affects == "":
		s.add(line, at)
	case ansi.StringWidth(report.Clean(affects)) <= room:
		s.add(line+"  "+t.dim.Render(report.Clean(affects)), at)
	default:
		s.add(line, at)
		s.add("     "+t.dim.Render(clean(affects, s.width-6)), at)
	}
	if !s.open[id] {
		return
	}
	s.wrapped("     ", f.Message, t.plain, at)
	if f.Affects != "" {
		s.wrapped("     ", affects, t.dim, at)
	}
	if l := f.Location; l != nil {
		s.wrapped("     ", fmt.Sprintf("%s:%d:%d", l.File, l.Line, l.Column), t.dim, at)
	}
}

// verdicts are the bars of the verdicts.
func (s *sections) verdicts() {
	if s.workloads == 0 && !s.snap.Pictured {
		return // Noughts would look like an answer.
	}
	size := counted(s.workloads, "workload")
	if s.unjudged > 0 {
		size += fmt.Sprintf(", %d without a verdict", s.unjudged)
	}
	if s.snap.Pods > 0 {
		size += ", " + counted(s.snap.Pods, "pod")
	}
	if e := s.snap.End; e != nil && e.Documents > 0 {
		size += ", " + counted(e.Documents, "document")
	}
	if !s.tight || len(s.lines) == 0 {
		s.title("Verdicts", s.theme.title, size)
	}
	most := 0
	for _, n := range s.tally.verdicts {
		most = max(most, n)
	}
	for _, v := range scan.Verdicts() {
		n := s.tally.verdicts[v]
		style := s.theme.verdict(v)
		s.barLine(verdictLetter(v)+" "+cell(string(v), 8), n, most, style, &stop{
			id: "verdict " + string(v), act: gotoMsg{viewWorkloads, "verdict:" + string(v)},
			what: "the count", text: fmt.Sprintf("%s: %d of %s", v, n, counted(s.workloads, "workload")),
		})
	}
}

// barLine is a name with its number and its bar.
func (s *sections) barLine(name string, n, most int, style lipgloss.Style, at *stop) {
	number := right(fmt.Sprint(n), 6)
	if n == 0 {
		style = s.theme.dim
	}
	cells := s.width - ansi.StringWidth(name) - len(number) - 5
	s.add(" "+style.Render(name)+number+"  "+style.Render(bar(n, most, cells)), at)
}

// worst are the exposed workloads that are worst.
func (s *sections) worst() {
	if s.workloads == 0 {
		return
	}
	t, all := s.theme, s.tally.verdicts[scan.VerdictExposed]
	if all == 0 {
		s.title("Exposed", t.title, "")
		text, style := "No workload is known to be exposed.", t.good
		if n := s.tally.verdicts[scan.VerdictUnknown]; n > 0 || len(s.snap.Failures) > 0 || !s.snap.Pictured {
			style = t.plain
		}
		s.wrapped(" ", text, style, nil)
		return
	}
	most := min(len(s.tally.worst), 5)
	s.title("Worst exposed", t.title, fmt.Sprintf("%d of %d", most, all))
	for _, r := range s.tally.worst[:most] {
		v := r.Verdict
		at := &stop{id: "row " + r.name() + " " + r.Ref.Claims, act: openMsg{r.Ref}, what: "the workload", text: exposedText(r)}
		severity := cell(strings.ToUpper(string(v.Severity)), 8)
		paths := right(counted(len(v.Paths), "path"), 8)
		room := s.width - len(severity) - len(paths) - 6
		if s.width < 56 {
			severity = severityLetter(v.Severity)
			room = s.width - len(paths) - 6
		}
		s.add(" "+t.severity(v.Severity).Render(severity)+"  "+cell(fitted(r.Cluster, r.Ref.Workload.String(), room), room)+" "+t.dim.Render(paths), at)
	}
}

// exposedText is a workload with its verdict and its open paths, to be pasted.
func exposedText(r *Row) string {
	v := r.Verdict
	text := report.Clean(r.name()) + ": " + report.Clean(string(v.Verdict))
	if v.Severity != "" {
		text += " (" + report.Clean(string(v.Severity)) + ")"
	}
	lines := []string{text, report.Decides(v)}
	for _, p := range v.Paths {
		lines = append(lines, "- "+report.Clean(p))
	}
	return strings.Join(lines, "\n")
}

// layers is how many workloads each layer keeps in.
func (s *sections) layers() {
	if s.workloads == 0 {
		return
	}
	t := s.theme
	if s.unlayered == s.workloads {
		s.title("Layers", t.title, "")
		s.wrapped(" ", "not judged: only the specs were looked at", t.doubt, nil)
		return
	}
	more := "which workloads each keeps in"
	if s.unlayered > 0 {
		more = fmt.Sprintf("not judged for %s", counted(s.unlayered, "workload"))
	}
	s.title("Layers", t.title, more)
	for i, name := range []scan.Layer{scan.LayerAdmission, scan.LayerRuntime, scan.LayerKernel} {
		by := s.tally.layers[i]
		s.stacked(string(name), []stacked{
			{by[report.ToneGood], "█", t.good, "kept in"},
			{by[report.TonePoor], "▓", t.poor, "partly"},
			{by[report.ToneBad], "░", t.bad, "let out"},
			{by[report.ToneUnknown], "?", t.doubt, "unknown"},
		}, nil)
	}
}

// stacked is a name with a bar of parts and their counts in words, beside it or below.
func (s *sections) stacked(name string, parts []stacked, at *stop) {
	const names = 11
	var words []string
	for _, p := range parts {
		if p.n > 0 {
			words = append(words, p.style.Render(fmt.Sprintf("%s %d %s", p.glyph, p.n, p.word)))
		}
	}
	begin := " " + cell(name, names)
	text := strings.Join(words, "  ")
	room := s.width - names - 2
	if beside := room - ansi.StringWidth(text) - 2; beside >= 24 || beside >= 12 && s.width >= 70 {
		s.add(begin+pad(stack(parts, min(beside, 40)), min(beside, 40))+"  "+text, at)
		return
	}
	s.add(begin+stack(parts, room), at)
	indent := names + 1
	if indent+ansi.StringWidth(text) > s.width {
		indent = 3
	}
	s.joined(strings.Repeat(" ", indent), at, words...)
}

// findings counts by severity what counts.
func (s *sections) findings() {
	t := s.theme
	if len(s.snap.Findings) == 0 && s.snap.Excepted == 0 && s.workloads == 0 {
		return
	}
	all, most := 0, 0
	for _, n := range s.snap.Findings {
		all, most = all+n, max(most, n)
	}
	more := fmt.Sprint(all)
	if s.snap.Excepted > 0 {
		more += fmt.Sprintf(" and %d excepted", s.snap.Excepted)
	}
	s.title("Findings", t.title, more)
	for _, sev := range scan.Severities() {
		n := s.snap.Findings[sev]
		s.barLine(strings.ToUpper(severityLetter(sev))+" "+cell(string(sev), 8), n, most, t.severity(sev), &stop{
			id: "severity " + string(sev), act: gotoMsg{viewWorkloads, "sev:" + string(sev)},
			what: "the count", text: fmt.Sprintf("%d findings of severity %s", n, sev),
		})
	}
}

// nodes counts the nodes by what they enforce.
func (s *sections) nodes() {
	t, n := s.theme, len(s.snap.Nodes)
	if n == 0 && s.snap.Start == nil {
		return
	}
	more := fmt.Sprintf("%d, which of them enforce", n)
	if n == 0 {
		more = s.none("is known")
	}
	s.title("Nodes", t.title, more)
	if n == 0 {
		return
	}
	by := s.tally.nodes
	at := &stop{id: "nodes", act: gotoMsg{view: viewNodes}, what: "the count"}
	parts := []stacked{
		{by[nodeProven], "█", t.good, "proven"},
		{by[nodeClaimed], "▓", t.good, "claimed"},
		{by[nodePartly], "▒", t.poor, "in part"},
		{by[nodeIdle], "░", t.bad, "no"},
		{by[nodeUnknown], "?", t.doubt, "unknown"},
		{by[nodeUnjudged], "·", t.doubt, "not judged"},
	}
	at.text = counted(n, "node") + ", enforcing: " + partsText(parts)
	s.stacked("enforcing", parts, at)
	if s.doubtful > 0 {
		s.wrapped(" "+t.errorText.Render("! "), counted(s.doubtful, "node")+" with evidence that contradicts itself", t.errorText, at)
	}
}

// none says that there is none of something, as far as that can be said.
func (s *sections) none(word string) string {
	switch {
	case !s.snap.Pictured && s.snap.Over:
		return "none was read"
	case !s.snap.Pictured:
		return "none was read yet"
	case len(s.snap.Failures) > 0:
		return "none " + word + ", and not all could be read"
	}
	return "none " + word
}

func partsText(parts []stacked) string {
	var words []string
	for _, p := range parts {
		if p.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(words, ", ")
}

// policies counts the policies by whether they bite.
func (s *sections) policies() {
	t, n := s.theme, len(s.snap.Policies)
	if n == 0 && s.snap.Start == nil {
		return
	}
	more := fmt.Sprintf("%d, which of them bite", n)
	if n == 0 {
		more = s.none("was found")
	}
	s.title("Policies", t.title, more)
	if n == 0 {
		return
	}
	by := s.bites
	parts := []stacked{
		{by[scan.BitesYes], "█", t.good, "fully"},
		{by[scan.BitesPartly], "▓", t.poor, "partly"},
		{by[scan.BitesNo], "░", t.bad, "no"},
		{by[scan.BitesUnknown], "?", t.doubt, "unknown"},
	}
	s.stacked("biting", parts, &stop{id: "policies", act: gotoMsg{view: viewPolicies}, what: "the count", text: counted(n, "policy") + ", biting: " + partsText(parts)})
}

// exceptions are the findings that do not count, and the exceptions that do nothing.
func (s *sections) exceptions() {
	t := s.theme
	known := 0
	if s.snap.End != nil {
		known = s.snap.End.Known
	}
	if s.snap.Excepted == 0 && len(s.idle) == 0 && known == 0 {
		return
	}
	more := counted(s.snap.Excepted, "finding") + " excepted"
	if known > 0 {
		more += fmt.Sprintf(", %d known from the baseline", known)
	}
	s.title("Exceptions", t.title, more)
	for _, f := range s.idle {
		at := &stop{id: "exception " + f.Fingerprint(), what: "the exception", text: report.Clean(f.Workload.Name) + ": " + report.Clean(f.Message)}
		at.act = foldMsg{at.id}
		mark := t.severity(f.Severity).Render(severityLetter(f.Severity)) + "  "
		if s.open[at.id] {
			s.wrapped(" "+mark, f.Workload.Name+": "+f.Message, t.plain, at)
			continue
		}
		s.add(" "+mark+clean(f.Message+" ("+f.Workload.Name+")", s.width-5), at)
	}
}

// goes is where an incident leads: to its workload, or to the alerts where that is not
// among the rows.
func (s *sections) goes(a *scan.Alert) tea.Msg {
	ref := scan.RowRef{Workload: a.Workload, Claims: a.Claims}
	if s.snap.Row(ref) != nil {
		return openMsg{ref}
	}
	return gotoMsg{view: viewAlerts}
}

// heard tells whether anybody listened to alerts.
func (s *sections) heard() bool {
	return s.snap.Start != nil && s.snap.Start.Alerts || len(s.snap.Alerts) > 0 || len(s.snap.Lost) > 0
}

func alertText(a *scan.Alert) string {
	return report.Clean(string(a.Severity)) + " incident in " + report.Clean(a.Workload.String()) + ": " + report.Clean(cmp.Or(a.Reason, a.Resource))
}
