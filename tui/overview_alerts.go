package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/escape-scanner/escape-scanner/scan"
)

// alerts are incidents, alerts by the minute and by class, and what is missing of them.
func (s *sections) alerts() {
	t := s.theme
	if s.snap.Start == nil && !s.heard() {
		return
	}
	if !s.heard() {
		s.title("Alerts", t.title, "")
		s.wrapped(" "+t.doubt.Render("? "), "not listened to: that there are none says nothing", t.doubt, nil)
		return
	}
	style, word := t.title, counted(s.allIncidents, "incident")
	if s.allIncidents > 0 {
		style, word = t.bad, "! "+word
	}
	s.title(word, style, s.heardText())
	if s.total > 0 && !s.tight {
		s.minutes()
	}
	s.told()
	if s.total > 0 {
		s.classes()
	}
	s.lost()
}

func (s *sections) heardText() string {
	if s.total == 0 {
		return "no alert was reported"
	}
	// Those that are not kept any more were reported too.
	return fmt.Sprintf("%d alerts, %d stopped", max(s.total, s.snap.Reported), s.stopped)
}

// minutes is the line of the alerts by the minute.
func (s *sections) minutes() {
	t := s.theme
	peak := slices.Max(s.snap.Minutes)
	if peak == 0 {
		return
	}
	rows := 1
	if s.wide {
		rows = 2
	}
	side := fmt.Sprintf("%d/min at most", peak)
	cells := min(len(s.snap.Minutes), s.width-ansi.StringWidth(side)-4)
	counts := folded(s.snap.Minutes, cells)
	for i, line := range sparkline(counts, rows) {
		text := " " + t.accent.Render(line)
		if i == rows-1 {
			text += "  " + t.dim.Render(side)
		}
		s.add(text, nil)
	}
	end := "last"
	if s.snap.Live() {
		end = "now"
	}
	begin := fmt.Sprintf("-%d min", len(s.snap.Minutes))
	s.add(" "+t.dim.Render(begin+strings.Repeat("·", max(1, len(counts)-len(begin)-len(end)))+end), nil)
}

// told are the worst incidents.
func (s *sections) told() {
	t, most := s.theme, 3
	if s.tight {
		most = 1
	}
	for i, a := range s.incidents {
		if i == most {
			s.add("   "+t.dim.Render(fmt.Sprintf("and %d more incidents", s.allIncidents-i)),
				&stop{id: "incidents", act: gotoMsg{view: viewAlerts}, what: "the count", text: counted(s.allIncidents, "incident")})
			break
		}
		at := &stop{id: "incident " + a.ID, act: s.goes(a), what: "the incident", text: alertText(a)}
		done := "passed"
		if a.Blocked {
			done = "stopped"
		}
		tail := right(fmt.Sprintf("%d× %s", a.Count, done), 13)
		severity := severityLetter(a.Severity)
		if s.width >= 56 {
			severity = cell(strings.ToUpper(string(a.Severity)), 8)
		}
		name := cell(a.Workload.String(), s.width-len(severity)-ansi.StringWidth(tail)-5)
		s.add(" "+t.severity(a.Severity).Render(severity)+"  "+name+" "+t.dim.Render(tail), at)
		if s.wide {
			s.add("   "+t.dim.Render(clean(a.Reason, s.width-4)), at)
		}
	}
}

// classes are the alerts by class.
func (s *sections) classes() {
	t := s.theme
	var words []string
	for _, c := range scan.AlertClasses() {
		if n := s.deeds[c]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, c))
		}
	}
	if n := s.snap.ForgottenAlerts; n > 0 {
		words = append(words, t.doubt.Render(fmt.Sprintf("? %d older ones are not kept", n)))
	}
	s.joined(" ", &stop{id: "alerts", act: gotoMsg{view: viewAlerts}, what: "the counts", text: strings.Join(words, ", ")}, words...)
}

// lost is the evidence that is missing: what happened then is not known.
func (s *sections) lost() {
	n := len(s.snap.Lost) + s.snap.ForgottenLost
	if n == 0 {
		return
	}
	times := "once"
	if n > 1 {
		times = fmt.Sprintf("%d times", n)
	}
	text := "evidence was lost " + times
	if s.missing > 0 {
		text += fmt.Sprintf(", at least %s", counted(s.missing, "alert"))
	}
	if s.lasting > 0 {
		text += fmt.Sprintf("; %d of these last on", s.lasting)
	}
	s.wrapped(" "+s.theme.doubt.Render("? "), text, s.theme.doubt.Bold(true),
		&stop{id: "lost", act: gotoMsg{view: viewAlerts}, what: "what was lost", text: text})
}
