package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	// mostGoing is how many incidents that go on are listed in a minute.
	mostGoing = 5
	// mostAlerts is how many alerts that are no incidents may be listed in a minute.
	mostAlerts = 200
	// rememberedAlerts is of how many alerts it is known for sure how often they were
	// told to be. One that is forgotten is told as new.
	rememberedAlerts = 20_000
	// longestFact is how much of one text of an alert is shown.
	longestFact = 500
)

// minute is what was heard since began.
type minute struct {
	began time.Time
	// incidents, alerts and gaps are how many were listed at once, more of them how many
	// were not. Incidents have room by their severity: lesser ones hide no worse one.
	incidents                           map[scan.Severity]int
	alerts, gaps                        int
	moreIncidents, moreAlerts, moreGaps int
	// going are the incidents that were told again.
	going map[string]*scan.Alert
	// heard counts what was no incident.
	heard heard
	// counts are how often each alert was told to be, those of before the older ones.
	counts, before map[string]int
}

// over reports whether the minute has passed.
func (m *minute) over(now time.Time) bool {
	return !m.began.IsZero() && now.Sub(m.began) >= time.Minute
}

// next begins a new minute.
func (m *minute) next() { *m = minute{counts: m.counts, before: m.before} }

// more is by how much a count grew, and whether its name is new.
func (m *minute) more(id string, count int) (more int, isNew bool) {
	was, known := m.counts[id]
	if !known {
		was, known = m.before[id]
	}
	if len(m.counts) >= rememberedAlerts/2 {
		m.counts, m.before = nil, m.counts
	}
	if m.counts == nil {
		m.counts = map[string]int{}
	}
	m.counts[id] = count
	return max(count-was, 0), !known
}

// alert lists an incident at once, the first time, and counts the rest.
func (t *WatchText) alert(a *scan.Alert, at time.Time) {
	m := &t.heard
	if m.began.IsZero() {
		m.began = t.clock
	}
	more, isNew := m.more("alert "+a.ID, a.Count)
	if a.Incident {
		// It may have been told before as none, when less was known of its pod.
		_, isNew = m.more("incident "+a.ID, 1)
	}
	switch {
	case a.Incident && !isNew:
		if more > 0 {
			m.keepGoing(a)
		}
		return
	case a.Incident && m.incidents[a.Severity] >= t.opts.Burst:
		m.moreIncidents++
		return
	case a.Incident:
		if m.incidents == nil {
			m.incidents = map[scan.Severity]int{}
		}
		m.incidents[a.Severity]++
		t.incident(a, at)
		return
	}
	m.heard.add(a, more)
	switch {
	case !t.opts.AllAlerts || !isNew:
	case m.alerts >= mostAlerts:
		m.moreAlerts++
	default:
		m.alerts++
		t.plainAlert(a, at)
	}
}

func (m *minute) keepGoing(a *scan.Alert) {
	if m.going == nil {
		m.going = map[string]*scan.Alert{}
	}
	m.going[a.ID] = a
}

// lost lists a gap when it opens and when it closes.
func (t *WatchText) lost(l *scan.Lost, at time.Time) {
	m := &t.heard
	if m.began.IsZero() {
		m.began = t.clock
	}
	closed := 0
	if !l.To.IsZero() {
		closed = 1
	}
	more, isNew := m.more("lost "+l.ID, closed)
	switch {
	case !isNew && more == 0:
	case m.gaps >= t.opts.Burst:
		m.moreGaps++
	default:
		m.gaps++
		t.line(at, lostSpans(l, t.opts.Location)...)
	}
}

// incident writes an incident, so that it stands out.
func (t *WatchText) incident(a *scan.Alert, at time.Time) {
	spans := append([]span{{text: "INCIDENT", style: alarm}}, alertSpans(a, t.state.Start())...)
	reason, facts := span{text: shorten(Clean(a.Reason), longestFact), style: bold}, alertFacts(a, longestFact)
	if t.width == 0 {
		t.line(at, append(append(spans, reason), facts...)...)
		return
	}
	t.line(at, spans...)
	t.below(reason)
	t.below(facts...)
}

func (t *WatchText) plainAlert(a *scan.Alert, at time.Time) {
	spans := append([]span{{text: "ALERT", pad: len("INCIDENT")}}, alertSpans(a, t.state.Start())...)
	spans = append(spans, span{text: shorten(Clean(a.Reason), longestFact)})
	if t.width == 0 {
		spans = append(spans, alertFacts(a, longestFact)...)
	} else {
		spans = append(spans, span{text: shorten(Clean(a.Resource), t.width), style: dim})
	}
	t.line(at, spans...)
}

// minute writes what was heard in the last minute and not listed.
func (t *WatchText) minute() {
	m := &t.heard
	if m.began.IsZero() {
		return
	}
	t.going()
	for _, rest := range []struct {
		n    int
		what string
	}{{m.moreIncidents, "more incident"}, {m.moreGaps, "more time without evidence"}, {m.moreAlerts, "more alert"}} {
		if rest.n > 0 {
			text := "and " + strings.Replace(plural(rest.n, rest.what), "time without evidences", "times without evidence", 1) + ", not listed"
			t.line(t.clock, span{text: text, style: alarm})
		}
	}
	if h := &m.heard; h.deeds > 0 {
		during := ""
		if m.over(t.clock) {
			during = " in a minute"
		}
		t.line(t.clock, span{text: "ALERTS", style: bold, pad: len("INCIDENT")},
			span{text: fmt.Sprintf("%d%s that are no incidents, %d of them stopped:", h.deeds, during, h.stopped)},
			span{text: h.classes()})
	}
	m.next()
}

// going lists the incidents that were told again, the worst first.
func (t *WatchText) going() {
	list := slices.SortedFunc(maps.Values(t.heard.going), compareAlerts)
	for i, a := range list {
		if i == mostGoing {
			t.line(t.clock, span{text: "and " + plural(len(list)-i, "more incident") + " that went on", style: alarm})
			return
		}
		spans := append([]span{{text: "GOES ON", style: alarm, pad: len("INCIDENT")}}, alertSpans(a, t.state.Start())...)
		t.line(t.clock, append(spans, span{text: labelled("since", stampOf(a.First, t.opts.Location))})...)
	}
}

// compareAlerts puts incidents first, then what is worst and was not stopped.
func compareAlerts(a, b *scan.Alert) int {
	return cmp.Or(
		compareBools(b.Incident, a.Incident),
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
		compareBools(a.Blocked, b.Blocked),
		cmp.Compare(a.Class, b.Class),
		a.Workload.Compare(b.Workload),
		cmp.Compare(b.Count, a.Count),
		cmp.Compare(a.ID, b.ID),
	)
}

// alertSpans are the deed, whether it was stopped, whose it was, and how often.
func alertSpans(a *scan.Alert, s *scan.Start) []span {
	stopped := span{text: "not stopped", style: red}
	if a.Blocked {
		stopped = span{text: "stopped", style: green}
	}
	verdict := span{text: "no verdict", style: doubtful}
	if a.Verdict != "" {
		verdict = verdictSpan(a.Verdict)
		verdict.pad = 0
	}
	spans := []span{severitySpan(a.Severity), {text: Clean(string(a.Class)), style: bold}, stopped, {text: shorten(workloadName(a.Workload, s), longestFact), style: bold}, verdict}
	if a.Count > 1 {
		spans = append(spans, span{text: fmt.Sprintf("%d times", a.Count)})
	}
	return spans
}

// alertFacts are the rest of an alert, in words that others chose, but for what was said:
// the process where the resource begins with it, and the paths that the reason names. No
// text takes more than limit cells.
func alertFacts(a *scan.Alert, limit int) []span {
	process, paths := a.Process, slices.DeleteFunc(slices.Clone(a.Paths), func(path string) bool {
		return slices.Contains(strings.FieldsFunc(a.Reason, isNoWord), path)
	})
	if a.Resource == process || strings.HasPrefix(a.Resource, process+" ") {
		process = ""
	}
	var spans []span
	for _, fact := range [][2]string{
		{"container", a.Container}, {"pod", a.Pod}, {"node", a.Node}, {a.Operation, a.Resource},
		{"by", process}, {"called by", a.Parent}, {"policy", a.Policy}, {"action", a.Action}, {"result", a.Result},
		{"paths", strings.Join(paths, ", ")}, {"claims", a.Claims}, {"ATT&CK", strings.Join(a.Techniques, ", ")},
	} {
		if text := labelled(Clean(fact[0]), Clean(fact[1])); text != "" {
			spans = append(spans, span{text: shorten(text, limit), style: dim})
		}
	}
	return spans
}

// isNoWord reports whether a letter stands between the names in a sentence.
func isNoWord(r rune) bool { return strings.ContainsRune(" ,;:()", r) }

// lostSpans are a time of which alerts are missing.
func lostSpans(l *scan.Lost, zone *time.Location) []span {
	where := l.Source
	if l.Workload != nil {
		where = joined(" ", where, l.Workload.String())
	}
	spans := []span{
		{text: "EVIDENCE LOST", style: alarm},
		{text: lostWhen(l, zone), style: bold},
		{text: Clean(string(l.Reason))},
		{text: Clean(where)},
		{text: Clean(labelled("container", l.Container))},
		{text: Clean(labelled("pod", l.Pod))},
		{text: Clean(labelled("node", l.Node))},
	}
	if l.Alerts > 0 {
		spans = append(spans, span{text: plural(l.Alerts, "alert") + " or more"})
	}
	return append(spans, span{text: shorten(Clean(l.Message), longestFact)})
}

// lostWhen is the time of which alerts are missing.
func lostWhen(l *scan.Lost, zone *time.Location) string {
	switch {
	case l.To.IsZero():
		return "since " + stampOf(l.From, zone)
	case l.To.Sub(l.From).Round(time.Second) == 0:
		return "at " + stampOf(l.From, zone)
	}
	return fmt.Sprintf("from %s to %s (%s)", stampOf(l.From, zone), stampOf(l.To, zone), l.To.Sub(l.From).Round(time.Second))
}

// stampOf is a moment, empty where there is none.
func stampOf(at time.Time, zone *time.Location) string {
	if at.IsZero() {
		return ""
	}
	return at.In(zone).Format(time.RFC3339)
}
