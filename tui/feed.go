package tui

import (
	"slices"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// sparkMinutes is how many minutes of alerts are counted.
const sparkMinutes = 60

// maxNotices is how many of the run's own messages are kept.
const maxNotices = 100

// Feed takes in the events of a run as fast as they come, and keeps what the screen
// shows of them: a picture, not a queue. So neither side waits for the other, and what is
// held is bounded by the cluster and not by the number of events. Findings are never
// dropped; alerts are, the oldest first, and counted (see scan.State). It is safe for
// concurrent use.
type Feed struct {
	now     func() time.Time
	changed chan struct{}

	mu       sync.Mutex
	state    *scan.State
	dirty    map[scan.RowRef]struct{}
	rows     []*Row
	index    map[scan.RowRef]int
	progress *scan.Progress
	pictured bool
	minutes  minutes
	reported int
	// counts are how often each alert was told to be, and before those of the older ones.
	counts, before map[string]int
	notices        []Notice
	over           bool
	err            error
	version        uint64
}

// NewFeed is a feed of nothing. now tells the time of the minutes in which alerts of a
// running watch are counted.
func NewFeed(now func() time.Time) *Feed {
	f := &Feed{now: now, changed: make(chan struct{}, 1)}
	f.reset()
	return f
}

func (f *Feed) reset() {
	f.state, f.dirty = scan.NewState(), map[scan.RowRef]struct{}{}
	f.rows, f.index = nil, map[scan.RowRef]int{}
	f.progress, f.pictured, f.minutes = nil, false, minutes{}
	f.reported, f.counts, f.before = 0, map[string]int{}, nil
}

// Handle implements scan.Handler. It never fails, and waits for nobody.
func (f *Feed) Handle(e scan.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case e.Start != nil:
		f.reset()
	case e.Progress != nil:
		f.progress = e.Progress
	case e.Picture != nil, e.End != nil:
		f.pictured = true
	case e.Finding != nil:
		f.dirty[scan.RowRef{Workload: e.Finding.Workload, Claims: e.Finding.Claims}] = struct{}{}
	case e.Verdict != nil:
		f.dirty[scan.RowRef{Workload: e.Verdict.Workload, Claims: e.Verdict.Claims}] = struct{}{}
	case e.Resolved != nil && e.Resolved.Workload != nil:
		f.dirty[scan.RowRef{Workload: *e.Resolved.Workload, Claims: e.Resolved.Claims}] = struct{}{}
	case e.Alert != nil:
		f.count(e)
	}
	_ = f.state.Handle(e)
	f.touch()
	return nil
}

// count adds an alert to its minute: as often as it was reported since it was last told.
func (f *Feed) count(e scan.Event) {
	at := e.Time
	if at.IsZero() {
		at = e.Alert.Last
	}
	id := e.Alert.ID
	was, known := f.counts[id]
	if !known {
		was = f.before[id]
	}
	if len(f.counts) >= maxCounted {
		f.counts, f.before = map[string]int{}, f.counts
	}
	f.counts[id] = e.Alert.Count
	more := max(0, e.Alert.Count-was)
	f.reported += more
	f.minutes.add(at, more)
}

// maxCounted bounds, twice, the alerts whose last count is remembered. One that is
// forgotten counts anew: the counts are for the eye.
const maxCounted = 20_000

// Say adds a message of the run itself: what it could not do, or can again.
func (f *Feed) Say(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.notices) == maxNotices {
		f.notices = slices.Delete(f.notices, 0, 1)
	}
	f.notices = append(f.notices, Notice{Time: f.now(), Text: text})
	f.touch()
}

// Close says that no more events come, and why, nil where the run came to its end.
func (f *Feed) Close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over, f.err = true, err
	f.touch()
}

func (f *Feed) touch() {
	f.version++
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Snapshot is what is known now. It shares what events hold, which nobody changes.
func (f *Feed) Snapshot() *Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh()
	s := &Snapshot{
		Version: f.version, Start: f.state.Start(), End: f.state.End(), Progress: f.progress, Pictured: f.pictured,
		Over: f.over, Err: f.err, Rows: f.rows,
		Nodes: f.state.Nodes(), Policies: f.state.Policies(), Failures: f.state.Failures(),
		Alerts: slices.Collect(f.state.Alerts()), Lost: slices.Collect(f.state.Lost()),
		Minutes: f.minutes.last(f.latest()), Notices: slices.Clone(f.notices),
		Reported: f.reported,
	}
	s.ForgottenAlerts, s.ForgottenLost = f.state.Forgotten()
	s.count()
	return s
}

// latest is the minute at which the line of alerts ends: now, or where a run of before
// ended.
func (f *Feed) latest() time.Time {
	start := f.state.Start()
	if start != nil && start.Watch && !f.over {
		return f.now()
	}
	return f.minutes.newest()
}

// refresh makes the rows anew that events spoke of. A snapshot of before keeps its own.
func (f *Feed) refresh() {
	if len(f.dirty) == 0 {
		return
	}
	rows, came := slices.Clone(f.rows), false
	for ref := range f.dirty {
		row := &Row{Ref: ref, Verdict: f.state.Verdict(ref), Findings: f.state.Findings(ref)}
		at, had := f.index[ref]
		switch {
		case row.Verdict == nil && len(row.Findings) == 0 && had:
			rows[at] = nil
		case row.Verdict == nil && len(row.Findings) == 0:
		case had:
			rows[at] = row
		default:
			came = true
			rows = append(rows, row)
		}
	}
	clear(f.dirty)
	if gone := slices.Contains(rows, nil); came || gone {
		rows = slices.DeleteFunc(rows, func(r *Row) bool { return r == nil })
		slices.SortFunc(rows, compareRows)
		clear(f.index)
		for i, r := range rows {
			f.index[r.Ref] = i
		}
	}
	f.rows = rows
}

// minutes counts alerts by the minute, of the last hour that there were any.
type minutes struct {
	by map[int64]int
}

func (m *minutes) add(at time.Time, n int) {
	if n <= 0 || at.IsZero() {
		return
	}
	if m.by == nil {
		m.by = map[int64]int{}
	}
	minute := at.Unix() / 60
	m.by[minute] += n
	if len(m.by) > 2*sparkMinutes {
		newest := m.newest().Unix() / 60
		for k := range m.by {
			if k <= newest-sparkMinutes {
				delete(m.by, k)
			}
		}
	}
}

func (m *minutes) newest() time.Time {
	newest := int64(0)
	for k := range m.by {
		newest = max(newest, k)
	}
	return time.Unix(newest*60, 0)
}

// last are the counts of the hour that ends with the minute of to, oldest first.
func (m *minutes) last(to time.Time) []int {
	counts, end := make([]int, sparkMinutes), to.Unix()/60
	for i := range counts {
		counts[i] = m.by[end-int64(sparkMinutes-1-i)]
	}
	return counts
}
