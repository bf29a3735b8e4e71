package webhook

import (
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Kind is what can be sent.
type Kind string

// The kinds.
const (
	// KindIncident: an alert that is an incident.
	KindIncident Kind = "incident"
	// KindAlert: any other alert.
	KindAlert Kind = "alert"
	// KindFinding: a finding that is new or other than it was.
	KindFinding Kind = "finding"
	// KindVerdict: a verdict that is other than it was, and that on a new workload.
	KindVerdict Kind = "verdict"
	// KindResolved: what is gone, of the other kinds that are sent.
	KindResolved Kind = "resolved"
	// KindLost: a time of which alerts are missing.
	KindLost Kind = "lost"
	// KindFailure: what cannot be read any more.
	KindFailure Kind = "failure"
	// KindPolicy and KindNode: a policy or a node that is new or other than it was.
	KindPolicy Kind = "policy"
	KindNode   Kind = "node"
)

// Kinds lists the kinds.
func Kinds() []Kind {
	return []Kind{KindIncident, KindAlert, KindFinding, KindVerdict, KindResolved, KindLost, KindFailure, KindPolicy, KindNode}
}

// DefaultKinds are those that are sent where nothing is said.
func DefaultKinds() []Kind {
	return []Kind{KindIncident, KindFinding, KindVerdict, KindResolved, KindLost, KindFailure}
}

// rank is how important an event is: where there is no room the lowest goes first.
type rank int

const (
	rankNote rank = iota
	rankLow
	rankMedium
	rankHigh
	rankCritical
	rankBlind
	rankIncident
	ranks
)

func rankOf(s scan.Severity) rank {
	switch s {
	case scan.SeverityCritical:
		return rankCritical
	case scan.SeverityHigh:
		return rankHigh
	case scan.SeverityMedium:
		return rankMedium
	default:
		return rankLow
	}
}

// filter chooses what is sent. It is Handle's own.
type filter struct {
	kinds   []Kind
	min     scan.Severity
	catchUp time.Duration
	// drawing is true from Start to Picture: what comes then was so before.
	drawing bool
	told    toldAlerts
}

func newFilter(o Options) filter {
	return filter{kinds: o.Kinds, min: o.MinSeverity, catchUp: o.CatchUp, told: newToldAlerts()}
}

// take tells whether an event is sent, and how important it is.
func (f *filter) take(e scan.Event, now time.Time) (r rank, wanted bool) {
	switch {
	case e.Start != nil:
		f.drawing = true
		return 0, false
	case e.Picture != nil, e.End != nil:
		f.drawing = false
		return 0, false
	case e.Alert != nil:
		return f.alert(e.Alert, now)
	case f.drawing:
		return 0, false
	case e.Finding != nil:
		return rankOf(e.Finding.Severity), f.finding(e.Finding)
	case e.Verdict != nil:
		return f.verdict(e.Verdict)
	case e.Resolved != nil:
		return f.resolved(e.Resolved)
	case e.Lost != nil:
		return rankBlind, f.has(KindLost)
	case e.Failure != nil:
		return rankBlind, f.has(KindFailure)
	case e.Policy != nil:
		return rankNote, f.has(KindPolicy) && !e.Policy.Recount
	case e.Node != nil:
		return rankNote, f.has(KindNode)
	default:
		return 0, false
	}
}

func (f *filter) has(k Kind) bool { return slices.Contains(f.kinds, k) }

// enough tells whether a severity reaches the gate.
func (f *filter) enough(s scan.Severity) bool { return f.min == "" || s.AtLeast(f.min) }

func (f *filter) alert(a *scan.Alert, now time.Time) (rank, bool) {
	kind, r := KindAlert, rankNote
	if a.Incident {
		kind, r = KindIncident, rankIncident
	}
	old := f.drawing && (!a.Incident || now.Sub(a.Last) > f.catchUp)
	if old || !f.has(kind) || !f.enough(a.Severity) {
		return 0, false
	}
	return r, f.told.news(a)
}

func (f *filter) finding(n *scan.Finding) bool {
	return f.has(KindFinding) && !n.Recount && n.Excepted == nil && f.enough(n.Severity)
}

// verdict sends what is other than it was. Severity is that of the open paths: a
// workload that has none any more, and was exposed, is good news that is not kept back.
func (f *filter) verdict(v *scan.WorkloadVerdict) (rank, bool) {
	if !f.has(KindVerdict) || v.Recount || v.Was == v.Verdict {
		return 0, false
	}
	return rankOf(v.Severity), f.enough(v.Severity) || betterThan(v.Was)
}

// betterThan tells whether the end of such a verdict is worth telling, whatever the
// severity.
func betterThan(was scan.Verdict) bool {
	return was == scan.VerdictExposed || was == scan.VerdictUnknown
}

func (f *filter) resolved(r *scan.Resolved) (rank, bool) {
	if !f.has(KindResolved) {
		return 0, false
	}
	switch r.What {
	case scan.ResolvedFinding:
		if r.Finding == nil {
			return 0, false
		}
		return rankOf(r.Finding.Severity), f.has(KindFinding) && f.enough(r.Finding.Severity)
	case scan.ResolvedWorkload:
		return rankLow, (f.has(KindVerdict) || f.has(KindFinding)) && (f.min == "" || betterThan(r.Was))
	case scan.ResolvedFailure:
		return rankBlind, f.has(KindFailure)
	case scan.ResolvedPolicy:
		return rankNote, f.has(KindPolicy)
	case scan.ResolvedNode:
		return rankNote, f.has(KindNode)
	default:
		return 0, false
	}
}

// maxTold bounds the alerts of which it is remembered what was sent.
const maxTold = 20_000

// toldAlerts remembers what was sent of alerts. A deed that goes on is told again when
// it was done twice as often as told last, or when more than its count is other: an
// attack that lasts an hour is a dozen messages.
type toldAlerts struct {
	*sink.Memory[string, toldAlert]
}

type toldAlert struct {
	count             int
	incident, blocked bool
	severity          scan.Severity
	verdict           scan.Verdict
}

func newToldAlerts() toldAlerts { return toldAlerts{sink.NewMemory[string, toldAlert](maxTold)} }

func (t toldAlerts) news(a *scan.Alert) bool {
	is := toldAlert{a.Count, a.Incident, a.Blocked, a.Severity, a.Verdict}
	was, known := t.Get(a.ID)
	if known {
		same := is
		same.count = was.count
		if same == was && a.Count < 2*was.count {
			return false
		}
	}
	t.Put(a.ID, is)
	return true
}
