package k8sevents

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/escape-scanner/escape-scanner/scan"
)

// about is what kind of thing a note tells.
type about int

const (
	aboutFindings about = iota
	aboutVerdict
	aboutAlert
	aboutLost
)

// noteID names a note: of one row there is one about findings and one about the verdict,
// and one for each alert and each gap.
type noteID struct {
	row  scan.RowRef
	what about
	id   string
}

// note is something that waits to be told.
type note struct {
	id       noteID
	severity scan.Severity
	due      time.Time
	first    time.Time
	// One of these is what is told.
	findings []scan.FindingRef
	more     int
	was      scan.Verdict
	verdict  *scan.WorkloadVerdict
	alert    *scan.Alert
	lost     *scan.Lost
}

// mostTitles is how many findings one Event names.
const mostTitles = 5

// add takes in one more finding.
func (n *note) add(f *scan.Finding) {
	if len(n.findings) == mostTitles {
		n.more++
		return
	}
	n.findings = append(n.findings, f.Ref())
}

// waiting are the notes that wait, bounded as a whole and for each workload, and what
// decides when they may go.
type waiting struct {
	o       Options
	notes   map[noteID]*note
	each    map[scan.Workload]int
	ranks   map[int]int
	dropped int

	all     *rate.Limiter
	buckets map[scan.Workload]*rate.Limiter
}

func newWaiting(o Options) waiting {
	return waiting{
		o: o, notes: map[noteID]*note{}, each: map[scan.Workload]int{}, ranks: map[int]int{},
		all: rate.NewLimiter(rate.Limit(o.QPS), o.Burst), buckets: map[scan.Workload]*rate.Limiter{},
	}
}

func (w *waiting) len() int { return len(w.notes) }

func (w *waiting) has(id noteID) bool { return w.notes[id] != nil }

// note is the note of that name, made where there is none; nil where there is no room.
func (w *waiting) note(id noteID, severity scan.Severity, now time.Time, settle time.Duration) *note {
	n := w.notes[id]
	switch {
	case n != nil:
		if severity.Rank() > n.severity.Rank() {
			w.ranks[n.severity.Rank()]--
			w.ranks[severity.Rank()]++
			n.severity = severity
		}
		return n
	case w.each[id.row.Workload] >= w.o.MostEach && !w.evict(severity, &id.row.Workload),
		len(w.notes) >= w.o.Most && !w.evict(severity, nil):
		w.dropped++
		return nil
	}
	n = &note{id: id, severity: severity, first: now, due: now.Add(settle)}
	w.notes[id] = n
	w.each[id.row.Workload]++
	w.ranks[severity.Rank()]++
	return n
}

// evict makes room for what is more severe than another note, of one workload or of any.
func (w *waiting) evict(severity scan.Severity, of *scan.Workload) bool {
	less := 0
	for rank, n := range w.ranks {
		if rank < severity.Rank() {
			less += n
		}
	}
	if less == 0 {
		return false
	}
	var least *note
	for _, n := range w.notes {
		if n.severity.Rank() < severity.Rank() && (of == nil || n.id.row.Workload == *of) && (least == nil || before(least, n)) {
			least = n
		}
	}
	if least == nil {
		return false
	}
	w.remove(least.id)
	w.dropped++
	return true
}

func (w *waiting) remove(id noteID) {
	n := w.notes[id]
	if n == nil {
		return
	}
	delete(w.notes, id)
	w.ranks[n.severity.Rank()]--
	if w.each[id.row.Workload]--; w.each[id.row.Workload] == 0 {
		delete(w.each, id.row.Workload)
	}
}

// before tells whether a note is to be told before another: the worse, then the older.
func before(a, b *note) bool {
	if a.severity != b.severity {
		return a.severity.Rank() > b.severity.Rank()
	}
	return a.first.Before(b.first)
}

// take takes out the note that is to be told now, or says how long there is none.
func (w *waiting) take(now time.Time) (*note, time.Duration) {
	const long = time.Hour
	if tokens := w.all.TokensAt(now); tokens < 1 {
		return nil, untilToken(w.all, now)
	}
	var next *note
	wait := long
	for _, n := range w.notes {
		until := n.due.Sub(now)
		if b := w.buckets[n.id.row.Workload]; b != nil && b.TokensAt(now) < 1 {
			until = max(until, untilToken(b, now))
		}
		switch {
		case until > 0:
			wait = min(wait, until)
		case next == nil || before(n, next):
			next = n
		}
	}
	if next == nil {
		return nil, wait
	}
	w.remove(next.id)
	w.all.AllowN(now, 1)
	w.bucket(next.id.row.Workload, now).AllowN(now, 1)
	return next, 0
}

// hurry makes all notes due, as far as the limits go: no more changes will come.
func (w *waiting) hurry() {
	for _, n := range w.notes {
		n.due = n.first
	}
}

// bucket is that of a workload. Full ones are forgotten when there are many: a new one
// is full too.
func (w *waiting) bucket(of scan.Workload, now time.Time) *rate.Limiter {
	b := w.buckets[of]
	if b == nil {
		if len(w.buckets) >= 2*w.o.Most {
			for name, old := range w.buckets {
				if old.TokensAt(now) >= float64(w.o.EachBurst) {
					delete(w.buckets, name)
				}
			}
		}
		b = rate.NewLimiter(rate.Every(w.o.Each), w.o.EachBurst)
		w.buckets[of] = b
	}
	return b
}

// untilToken is how long it takes until a bucket has a token again.
func untilToken(b *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - b.TokensAt(now)
	return max(time.Duration(missing/float64(b.Limit())*float64(time.Second)), time.Millisecond)
}
