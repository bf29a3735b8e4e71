package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	// mostHTMLAlerts is how many alerts have a row, and mostMarks how many are drawn. The
	// worst come first, and the rest is counted.
	mostHTMLAlerts = 2000
	mostMarks      = 400
)

// htmlAlerts is what was done in containers, and when nobody listened.
type htmlAlerts struct {
	Rows []*htmlAlert
	// More is how many alerts have no row.
	More int
	Lost []*htmlLost
	// Day is that of all of them, empty where they are of several.
	Day  string
	Text string
	// Deaf is true where not all could be heard.
	Deaf bool
	Line *timeLine
}

// htmlAlert is a row of the table.
type htmlAlert struct {
	*scan.Alert
	ID, Name string
	Section  string
	// Parts are those of the name, between which a line may break.
	Parts       []string
	Deed, Facts string
	First, Last string
	Techniques  []htmlLink
}

// htmlAlerts is nil where nobody listened.
func (h *htmlReport) htmlAlerts(sections map[scan.Workload]string) *htmlAlerts {
	if !h.told.heard(h.start) {
		return nil
	}
	list := slices.SortedFunc(slices.Values(h.told.alerts), compareAlerts)
	v := &htmlAlerts{Lost: h.lost()}
	v.Deaf = len(v.Lost) > 0 || slices.ContainsFunc(h.failures, func(f *scan.Failure) bool { return strings.HasPrefix(f.Subject, "alerts") })
	v.Text = alertText(list, v.Deaf)
	for i, a := range list {
		if i == mostHTMLAlerts {
			v.More = len(list) - i
			break
		}
		v.Rows = append(v.Rows, h.htmlAlert(a, fmt.Sprintf("a%d", i+1), sections))
	}
	v.Line = newTimeLine(list, v.Lost)
	v.oneDay()
	return v
}

// oneDay says the day once where all alerts are of the same.
func (v *htmlAlerts) oneDay() {
	const day = len("2006-01-02 ")
	for _, a := range v.Rows {
		for _, at := range []string{a.First, a.Last} {
			if len(at) <= day || v.Day != "" && at[:day] != v.Day {
				v.Day = ""
				return
			}
			v.Day = at[:day]
		}
	}
	for _, a := range v.Rows {
		a.First, a.Last = a.First[day:], a.Last[day:]
	}
	v.Day = strings.TrimSpace(v.Day)
}

// alertText counts the rows of the table. That nothing was heard says little where not
// all could be.
func alertText(list []*scan.Alert, deaf bool) string {
	var h heard
	for _, a := range list {
		if a.Incident {
			h.incidents++
			continue
		}
		h.add(a, 1)
	}
	text := plural(h.incidents, "incident")
	if h.incidents == 0 {
		text = "No incident"
		if deaf {
			text = "No incident was heard of, and not all could be heard"
		}
	}
	if h.deeds > 0 {
		text += fmt.Sprintf(". %s no incidents, %d of them stopped: %s", countAre(h.deeds, "other alert"), h.stopped, h.classes())
	}
	return text + "."
}

func countAre(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return plural(n, noun) + " are"
}

func (h *htmlReport) htmlAlert(a *scan.Alert, id string, sections map[scan.Workload]string) *htmlAlert {
	v := &htmlAlert{
		Alert: a, ID: id, Name: shorten(h.name(a.Workload), longestFact), Section: sections[a.Workload],
		Deed:  shorten(Clean(joined(" ", a.Operation, a.Resource)), longestFact),
		First: clock(a.First), Last: clock(a.Last),
	}
	v.Parts = strings.SplitAfter(v.Name, "/")
	rest := *a
	rest.Operation, rest.Resource, rest.Techniques = "", "", nil
	var facts []string
	for _, s := range alertFacts(&rest, longestFact) {
		facts = append(facts, s.text)
	}
	v.Facts = strings.Join(facts, " · ")
	for _, t := range a.Techniques {
		v.Techniques = append(v.Techniques, techniqueLink(t))
	}
	return v
}

// techniqueLink leads to the page of a technique, where its name is one.
func techniqueLink(id string) htmlLink {
	if !plainWord(id) {
		return htmlLink{Text: id}
	}
	return linkTo(id, mitreURL(id))
}

// clock is a moment in few letters: the day stands above the table or in front.
func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02 15:04:05")
}

// timeLine is a drawing of when what was done. Lengths are in its own units.
type timeLine struct {
	Width, Height int
	// Base is the height of the axis, Bottom that of its labels, Plot that of the lanes.
	Base, Bottom, Plot int
	Label              string
	Ticks              []timeTick
	Lanes              []timeLane
	Gaps               []timeGap
	Marks              []timeMark
	// More is how many alerts are not drawn.
	More int
}

type timeTick struct{ X, Text string }

type timeLane struct {
	Name      string
	Y, TextY  int
	Incidents int
	Alerts    int
}

type timeGap struct{ X, Len, Text string }

// timeMark is one alert: a line from its first time to its last, with a sign at both.
type timeMark struct {
	Class, X, To, Y string
	Incident        bool
	Blocked         bool
	Wide            bool
	Text            string
}

const (
	timeLeft, timeWidth = 130, 1000
	laneHeight, laneTop = 34, 26
)

// newTimeLine is nil where nothing has a time.
func newTimeLine(alerts []*scan.Alert, lost []*htmlLost) *timeLine {
	span := timeSpan{}
	for _, a := range alerts {
		span.add(a.First)
		span.add(a.Last)
	}
	for _, l := range lost {
		span.add(l.From)
		span.add(l.To)
	}
	if span.from.IsZero() {
		return nil
	}
	span.pad()
	t := &timeLine{Width: timeWidth}
	lanes := map[scan.AlertClass]int{}
	for _, c := range scan.AlertClasses() {
		if slices.ContainsFunc(alerts, func(a *scan.Alert) bool { return laneOf(a) == c }) {
			y := laneTop + laneHeight*len(t.Lanes)
			lanes[c] = len(t.Lanes)
			t.Lanes = append(t.Lanes, timeLane{Name: string(c), Y: y, TextY: y + laneHeight/2 + 4})
		}
	}
	t.Base = laneTop + laneHeight*max(1, len(t.Lanes))
	t.Bottom, t.Height, t.Plot = t.Base+18, t.Base+28, t.Base-18
	t.Ticks = span.ticks()
	for _, l := range lost {
		to := l.To
		if to.IsZero() {
			to = span.to
		}
		x, end := span.x(l.From), span.x(to)
		t.Gaps = append(t.Gaps, timeGap{X: number(x), Len: number(max(3, end-x)), Text: joined(": ", "evidence lost "+l.When, l.Message)})
	}
	for _, a := range alerts {
		lane := &t.Lanes[lanes[laneOf(a)]]
		lane.Alerts++
		if a.Incident {
			lane.Incidents++
		}
		if len(t.Marks) == mostMarks || a.First.IsZero() && a.Last.IsZero() {
			t.More++
			continue
		}
		t.Marks = append(t.Marks, newTimeMark(a, &span, lane.Y))
	}
	t.Label = t.words(&span)
	return t
}

// laneOf is the class of an alert; one that is not known to this version is of the rest.
func laneOf(a *scan.Alert) scan.AlertClass {
	if slices.Contains(scan.AlertClasses(), a.Class) {
		return a.Class
	}
	return scan.ClassOther
}

func newTimeMark(a *scan.Alert, span *timeSpan, top int) timeMark {
	from, to := a.First, a.Last
	if from.IsZero() {
		from = to
	}
	if to.Before(from) {
		to = from
	}
	word := "not stopped"
	if a.Blocked {
		word = "stopped"
	}
	if a.Incident {
		word = "incident, " + word
	}
	x, end := span.x(from), span.x(to)
	// Signs of the two kinds stand on two heights, so that none hides the other.
	y := top + laneHeight/2 + 6
	if a.Incident {
		y = top + laneHeight/2 - 5
	}
	return timeMark{
		Class: severityPill(a.Severity).Class, X: number(x), To: number(end), Y: fmt.Sprint(y), Incident: a.Incident, Blocked: a.Blocked, Wide: end-x > 1,
		Text: fmt.Sprintf("%s: %s, %s, %s to %s", shorten(Clean(a.Workload.String()), 100), word, plural(a.Count, "time"), clock(from), clock(to)),
	}
}

// words is the drawing for who does not see it.
func (t *timeLine) words(span *timeSpan) string {
	texts := []string{"Time line from " + clock(span.from) + " to " + clock(span.to) + " UTC"}
	for _, l := range t.Lanes {
		texts = append(texts, fmt.Sprintf("%s: %s, %s", l.Name, plural(l.Alerts, "alert"), plural(l.Incidents, "incident")))
	}
	if n := len(t.Gaps); n > 0 {
		texts = append(texts, "evidence lost: "+plural(n, "time"))
	}
	return strings.Join(texts, ". ") + "."
}

// timeSpan is the time that is drawn.
type timeSpan struct{ from, to time.Time }

func (s *timeSpan) add(at time.Time) {
	if at.IsZero() {
		return
	}
	if s.from.IsZero() || at.Before(s.from) {
		s.from = at
	}
	if at.After(s.to) {
		s.to = at
	}
}

// pad leaves room on both sides.
func (s *timeSpan) pad() {
	room := max(s.to.Sub(s.from)/40, 5*time.Second)
	s.from, s.to = s.from.Add(-room), s.to.Add(room)
}

func (s *timeSpan) x(at time.Time) float64 {
	return timeLeft + (timeWidth-timeLeft-10)*float64(at.Sub(s.from))/float64(s.to.Sub(s.from))
}

// ticks are round moments, no more of them than there is room for.
func (s *timeSpan) ticks() []timeTick {
	const most, day = 7, 24 * time.Hour
	steps := []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day, 14 * day, 28 * day,
	}
	whole := s.to.Sub(s.from)
	step := cmp.Or(whole/most, time.Second)
	if at := slices.IndexFunc(steps, func(d time.Duration) bool { return whole/d <= most }); at >= 0 {
		step = steps[at]
	}
	form := "15:04:05"
	switch {
	case step >= day:
		form = "2006-01-02"
	case whole > day:
		form = "01-02 15:04"
	case step >= time.Minute:
		form = "15:04"
	}
	var ticks []timeTick
	for at := s.from.UTC().Truncate(step); !at.After(s.to) && len(ticks) <= most; at = at.Add(step) {
		if !at.Before(s.from) {
			ticks = append(ticks, timeTick{number(s.x(at)), at.Format(form)})
		}
	}
	return ticks
}
