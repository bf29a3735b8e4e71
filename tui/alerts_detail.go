package tui

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/lipgloss"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// fact is one thing that is said of an alert. Its text is not clean.
type fact struct {
	label, text string
	style       lipgloss.Style
}

// facts are everything that is known of an item. The first is what it is.
func (it *alertItem) facts(d *desk) []fact {
	if it.lost != nil {
		return lostDetail(d, it.lost)
	}
	return alertDetail(d, it.alert)
}

func alertDetail(d *desk, a *scan.Alert) []fact {
	t := d.theme
	what := string(a.Class) + ", " + string(a.Severity)
	if a.Incident {
		what = "INCIDENT: " + what
	}
	stopped, stoppedStyle := "no, it was done", t.bad
	if a.Blocked {
		stopped, stoppedStyle = "yes", t.good
	}
	facts := []fact{
		{"", what, t.severity(a.Severity).Bold(true)},
		{"", a.Reason, t.plain},
		{"stopped", stopped, stoppedStyle},
		{"times", times(d, a), t.plain},
		{"workload", workloadName(a.Workload), t.bold},
		{"claims", a.Claims, t.plain},
		{"verdict", verdictWord(a.Verdict) + " at the time", t.verdict(a.Verdict)},
	}
	facts = append(facts, verdictNow(d, a))
	for _, path := range a.Paths {
		facts = append(facts, pathFact(d, a, path))
	}
	for _, f := range [][2]string{
		{"techniques", strings.Join(a.Techniques, ", ")},
		{"container", a.Container}, {"pod", a.Pod}, {"node", a.Node},
		{"operation", a.Operation}, {"resource", a.Resource}, {"process", a.Process}, {"called by", a.Parent},
		{"policy", a.Policy}, {"action", a.Action}, {"result", a.Result}, {"enforcer", a.Enforcer},
	} {
		facts = append(facts, fact{f[0], f[1], t.plain})
	}
	return said(facts)
}

// verdictNow is what is known of the workload now.
func verdictNow(d *desk, a *scan.Alert) fact {
	row := d.snap.Row(scan.RowRef{Workload: a.Workload, Claims: a.Claims})
	switch {
	case row != nil && row.Verdict != nil:
		v := row.Verdict
		text := string(v.Verdict)
		if d.snap.Live() {
			text += " now"
		} else {
			text += " at the end"
		}
		// The reason may be long: the verdict has its colour in the line above.
		return fact{"", text + ": " + v.Reason, d.theme.plain}
	case !d.snap.Pictured && !d.snap.Over:
		return fact{"", "not known now: the cluster is being read", d.theme.doubt}
	}
	return fact{"", "not known now: it is not in the picture", d.theme.doubt}
}

// pathFact is an escape path of which the deed is a step, and whether it is open now.
func pathFact(d *desk, a *scan.Alert, path string) fact {
	text, style := path, d.theme.plain
	for i := range d.opts.Rules {
		if d.opts.Rules[i].ID == path {
			text += ": " + d.opts.Rules[i].Title
		}
	}
	row := d.snap.Row(scan.RowRef{Workload: a.Workload, Claims: a.Claims})
	if row == nil || row.Verdict == nil {
		return fact{"path", text + " (not known now)", d.theme.doubt}
	}
	now := "not found now"
	for _, f := range row.Findings {
		switch {
		case f.Rule != path || a.Container != "" && f.Container != "" && f.Container != a.Container:
		case f.Guarded:
			now = "guarded now"
		case f.Open:
			now, style = "open now", d.theme.bad
		default:
			now = "closed now"
		}
		if now == "open now" {
			break
		}
	}
	return fact{"path", text + " (" + now + ")", style}
}

func lostDetail(d *desk, l *scan.Lost) []fact {
	t := d.theme
	until := "it lasts"
	if !l.To.IsZero() {
		until = stamp(d, l.To) + " (" + l.To.Sub(l.From).Round(time.Second).String() + ")"
	} else if !d.snap.Live() {
		until = "not known: it lasted when the run ended"
	}
	facts := []fact{
		{"", "EVIDENCE LOST: " + string(l.Reason), t.errorText},
		{"", "What was done in this time is not known.", t.plain},
		{"from", stamp(d, l.From), t.plain}, {"to", until, t.plain},
		{"message", l.Message, t.plain},
	}
	if l.Alerts > 0 {
		facts = append(facts, fact{"missing", counted(l.Alerts, "alert") + " or more", t.bad})
	}
	if l.Workload != nil {
		facts = append(facts, fact{"workload", workloadName(*l.Workload), t.bold})
	}
	return said(append(facts, fact{"source", l.Source, t.plain}, fact{"container", l.Container, t.plain},
		fact{"pod", l.Pod, t.plain}, fact{"node", l.Node, t.plain}))
}

// said are the facts that there are.
func said(facts []fact) []fact {
	kept := facts[:0]
	for _, f := range facts {
		if f.text != "" {
			kept = append(kept, f)
		}
	}
	return kept
}

// drawFacts draws facts in so many cells.
func drawFacts(d *desk, facts []fact, width int) []string {
	const label = 11
	var lines []string
	for i, f := range facts {
		begin := d.theme.dim.Render(cell(f.label, label))
		if i < 2 && f.label == "" {
			begin = ""
		}
		lines = append(lines, wrapAt(begin, f.text, f.style, width)...)
	}
	return lines
}

// plainLines are facts as text.
func plainLines(facts []fact) string {
	var b strings.Builder
	for _, f := range facts {
		if f.label != "" {
			b.WriteString(f.label + ": ")
		}
		b.WriteString(report.Clean(f.text) + "\n")
	}
	return b.String()
}

// fixes are the changes that close the paths of which the alert is a step, empty where
// none is known.
func (it *alertItem) fixes(d *desk) string {
	if it.alert == nil {
		return ""
	}
	row := d.snap.Row(scan.RowRef{Workload: it.alert.Workload, Claims: it.alert.Claims})
	if row == nil {
		return ""
	}
	var b strings.Builder
	for _, path := range it.alert.Paths {
		for _, f := range row.Findings {
			switch {
			case f.Rule != path || f.Fix == nil:
			case f.Fix.Op == scan.FixRemove:
				b.WriteString("remove " + report.Clean(f.Field) + "\n")
			default:
				b.WriteString(report.Clean(f.Field) + ": " + report.Clean(string(f.Fix.Value)) + "\n")
			}
		}
	}
	return b.String()
}

// times says how often and when.
func times(d *desk, a *scan.Alert) string {
	text := fmt.Sprintf("%d", a.Count)
	switch {
	case a.Last.IsZero():
		return text
	case a.First.IsZero() || a.First.Equal(a.Last):
		return text + ", at " + stamp(d, a.Last) + " (" + ago(d.now, a.Last) + ")"
	}
	return text + ", first " + stamp(d, a.First) + ", last " + stamp(d, a.Last) + " (" + ago(d.now, a.Last) + ")"
}

// verdictWord is a verdict, or that there was none.
func verdictWord(v scan.Verdict) string {
	if v == "" {
		return "unknown, no verdict"
	}
	return string(v)
}

// workloadName is the name of a workload, or that none is known.
func workloadName(w scan.Workload) string {
	if w.Name == "" {
		return "? no pod of the cluster"
	}
	return w.String()
}

// stamp is a moment, to the second.
func stamp(d *desk, at time.Time) string {
	return at.UTC().Format("2006-01-02 15:04:05")
}

// clock is a moment of today, or a day before it.
func clock(d *desk, at time.Time) string {
	at = at.UTC()
	if d.now.Sub(at) > 20*time.Hour {
		return at.Format("01-02 15:04")
	}
	return at.Format("15:04:05")
}
