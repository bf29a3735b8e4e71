package metrics

import (
	"container/list"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// maxRemembered bounds the alerts and the gaps whose last count is remembered. A
// picture tells at most 10,000 alerts again (scan.State), and as many may be open.
const maxRemembered = 25_000

// alertKey are the labels of alerts.
type alertKey struct {
	class             string
	blocked, incident bool
}

// evidence counts alerts and what is missing of them. The events about one deed or
// one gap have one ID, and each has the count up to then: what is more than the last
// is added. A picture told again adds nothing.
type evidence struct {
	alerts    tally[alertKey]
	incidents tally[string]
	gaps      tally[string]
	missing   tally[string]
	seconds   map[string]float64

	deeds *memory[deed]
	holes *memory[hole]
	// open are the gaps that last, by ID.
	open map[string]*hole
}

// deed is what was counted of the alerts of one ID.
type deed struct {
	count    int
	incident bool
}

// hole is what was counted of one gap.
type hole struct {
	reason  string
	from    time.Time
	alerts  int
	seconds float64
}

func newEvidence() evidence {
	return evidence{
		alerts: tally[alertKey]{}, incidents: tally[string]{}, gaps: tally[string]{}, missing: tally[string]{},
		seconds: map[string]float64{}, deeds: newMemory[deed](maxRemembered), holes: newMemory[hole](maxRemembered),
		open: map[string]*hole{},
	}
}

// alert counts what the event has more than the one before of the same ID, under the
// labels that it has now.
func (v *evidence) alert(a *scan.Alert) {
	d, _ := v.deeds.of(a.ID)
	if more := a.Count - d.count; more > 0 {
		v.alerts.add(alertKey{among(a.Class, scan.AlertClasses()), a.Blocked, a.Incident}, more)
		d.count = a.Count
	}
	if a.Incident && !d.incident {
		v.incidents.add(among(a.Severity, scan.Severities()), 1)
		d.incident = true
	}
}

// gap counts a gap once, and what the event knows more of it.
func (v *evidence) gap(l *scan.Lost) {
	h, met := v.holes.of(l.ID)
	if !met {
		h.reason, h.from = among(l.Reason, lostReasons()), l.From
		v.gaps.add(h.reason, 1)
	}
	if more := l.Alerts - h.alerts; more > 0 {
		v.missing.add(h.reason, more)
		h.alerts = l.Alerts
	}
	if l.To.IsZero() {
		if _, lasts := v.open[l.ID]; lasts || len(v.open) < maxRemembered {
			v.open[l.ID] = h
		}
		return
	}
	delete(v.open, l.ID)
	v.lasted(h, l.To)
}

// lasted counts the seconds of a gap up to a time. A clock that is set back takes
// none away: a counter never falls.
func (v *evidence) lasted(h *hole, until time.Time) {
	if more := until.Sub(h.from).Seconds() - h.seconds; more > 0 {
		v.seconds[h.reason] += more
		h.seconds += more
	}
}

// until counts the gaps that last up to now.
func (v *evidence) until(now time.Time) {
	for _, h := range v.open {
		v.lasted(h, now)
	}
}

func lostReasons() []scan.LostReason {
	return []scan.LostReason{scan.LostThrottled, scan.LostDeaf, scan.LostDropped, scan.LostUnreadable}
}

// memory remembers the latest of things that have names; what was not spoken of for
// longest is forgotten.
type memory[T any] struct {
	most  int
	by    map[string]*list.Element
	order *list.List
}

type remembered[T any] struct {
	id    string
	thing T
}

func newMemory[T any](most int) *memory[T] {
	return &memory[T]{most: most, by: map[string]*list.Element{}, order: list.New()}
}

// of is the thing of that name, a new one where there is none.
func (m *memory[T]) of(id string) (thing *T, met bool) {
	if e := m.by[id]; e != nil {
		m.order.MoveToBack(e)
		return &e.Value.(*remembered[T]).thing, true
	}
	if m.order.Len() == m.most {
		oldest := m.order.Front()
		m.order.Remove(oldest)
		delete(m.by, oldest.Value.(*remembered[T]).id)
	}
	r := &remembered[T]{id: id}
	m.by[id] = m.order.PushBack(r)
	return &r.thing, false
}
