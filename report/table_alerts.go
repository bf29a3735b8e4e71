package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// evidenceLost says of which times alerts are missing.
func (t *table) evidenceLost() {
	list := sortedLost(t.told.lost)
	t.section("", len(list))
	for i, l := range list {
		if t.width > 0 && i == maxListed {
			t.row(t.indent(), 4, span{text: fmt.Sprintf("and %d more times of which evidence is missing", len(list)-i), style: bold})
			return
		}
		t.row(t.indent(), 4, lostSpans(l, time.UTC)...)
	}
}

// sortedLost are the gaps in the order of time.
func sortedLost(list []*scan.Lost) []*scan.Lost {
	return slices.SortedFunc(slices.Values(list), func(a, b *scan.Lost) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.ID, b.ID))
	})
}

// alertList writes the incidents and counts the other alerts; in a pipe all have their
// line.
func (t *table) alertList() {
	if !t.told.heard(t.start) {
		return
	}
	list := slices.SortedFunc(slices.Values(t.told.alerts), compareAlerts)
	t.section("ALERTS", 1)
	if len(list) == 0 {
		t.row(t.indent(), t.hang(), span{text: "none was reported"})
	}
	incidents := 0
	for ; incidents < len(list) && list[incidents].Incident; incidents++ {
		if t.width > 0 && incidents == 2*maxListed {
			break
		}
		t.alertRow("INCIDENT", alarm, list[incidents])
	}
	rest := list[incidents:]
	if t.width == 0 {
		for _, a := range rest {
			t.alertRow("ALERT", plain, a)
		}
		return
	}
	heard := heardOf(rest)
	if heard.incidents > 0 {
		t.row(t.indent(), t.hang(), span{text: "and " + plural(heard.incidents, "more incident"), style: bold})
	}
	if heard.deeds > 0 {
		t.row(t.indent(), t.hang(), span{text: fmt.Sprintf("%d that are no incidents, %d of them stopped:", heard.deeds, heard.stopped)}, span{text: heard.classes()})
	}
}

func (t *table) alertRow(word string, s style, a *scan.Alert) {
	spans := append([]span{{text: word, style: s, pad: len("INCIDENT")}}, alertSpans(a, t.start)...)
	reason, facts := span{text: shorten(Clean(a.Reason), longestFact)}, alertFacts(a, longestFact)
	facts = append(facts, span{text: labelled("last", stampOf(a.Last, time.UTC)), style: dim})
	if t.width == 0 {
		t.row(0, 0, append(append(spans, reason), facts...)...)
		return
	}
	t.row(t.indent(), t.hang(), spans...)
	t.row(t.hang(), t.hang()+2, reason)
	t.row(t.hang(), t.hang()+2, facts...)
}

// heard counts alerts: incidents, and of the rest how often it was done, how often it
// was stopped, and by class.
type heard struct {
	incidents, deeds, stopped int
	byClass                   map[scan.AlertClass]int
}

func heardOf(list []*scan.Alert) heard {
	var h heard
	for _, a := range list {
		if a.Incident {
			h.incidents++
			continue
		}
		h.add(a, a.Count)
	}
	return h
}

// add counts a deed that is no incident.
func (h *heard) add(a *scan.Alert, times int) {
	if h.byClass == nil {
		h.byClass = map[scan.AlertClass]int{}
	}
	h.deeds += times
	h.byClass[a.Class] += times
	if a.Blocked {
		h.stopped += times
	}
}

// classes are the classes that there were, with how often.
func (h *heard) classes() string {
	var texts []string
	for _, c := range scan.AlertClasses() {
		if n := h.byClass[c]; n > 0 {
			texts = append(texts, fmt.Sprintf("%d %s", n, c))
		}
	}
	return strings.Join(texts, ", ")
}

// alertCount is the line of the summary.
func (t *table) alertCount() {
	if !t.told.heard(t.start) {
		return
	}
	h := heardOf(t.told.alerts)
	incidents := span{text: plural(h.incidents, "incident")}
	if h.incidents > 0 {
		incidents.style = alarm
	}
	spans := []span{{text: "ALERTS", style: bold, pad: len("VERDICTS")}, incidents, {text: plural(h.deeds, "other alert")}}
	if n := len(t.told.lost); n > 0 {
		spans = append(spans, span{text: "evidence lost " + plural(n, "time"), style: alarm})
	}
	t.row(0, summaryHang, spans...)
}
