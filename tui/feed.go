package tui

import (
	"maps"
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

	mu    sync.Mutex
	state *scan.State
	// clusters are those of a fleet that all was told of.
	clusters []*scan.ClusterRun
	// dirty are the rows of which something was told since the last picture, and told the
	// kinds of everything else.
	dirty    map[scan.RowRef]struct{}
	told     kinds
	last     Snapshot
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
	f.last, f.told = Snapshot{}, kinds{nodes: true, policies: true, failures: true, alerts: true, lost: true}
	f.progress, f.pictured, f.minutes = nil, false, minutes{}
	f.reported, f.counts, f.before, f.clusters = 0, map[string]int{}, nil, nil
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
	case e.Cluster != nil:
		f.clusters = append(f.clusters, e.Cluster)
	case e.Picture != nil, e.End != nil:
		f.pictured = true
	case e.Finding != nil:
		f.dirty[scan.RowRef{Workload: e.Finding.Workload, Claims: e.Finding.Claims}] = struct{}{}
	case e.Verdict != nil:
		f.dirty[scan.RowRef{Workload: e.Verdict.Workload, Claims: e.Verdict.Claims}] = struct{}{}
	case e.Resolved != nil:
		f.resolved(e.Resolved)
	case e.Node != nil:
		f.told.nodes = true
	case e.Policy != nil:
		f.told.policies = true
	case e.Failure != nil:
		f.told.failures = true
	case e.Alert != nil:
		f.told.alerts = true
		f.count(e)
	case e.Lost != nil:
		f.told.lost = true
	}
	_ = f.state.Handle(e)
	f.touch()
	return nil
}

// kinds are what a picture consists of beside its rows.
type kinds struct{ nodes, policies, failures, alerts, lost bool }

// resolved marks what an event takes back.
func (f *Feed) resolved(r *scan.Resolved) {
	switch r.What {
	case scan.ResolvedFinding, scan.ResolvedWorkload:
		if r.Workload != nil {
			f.dirty[scan.RowRef{Workload: *r.Workload, Claims: r.Claims}] = struct{}{}
		}
	case scan.ResolvedNode:
		f.told.nodes = true
	case scan.ResolvedPolicy:
		f.told.policies = true
	case scan.ResolvedFailure:
		f.told.failures = true
	}
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

// Snapshot is what is known now. It shares what events hold, which nobody changes, and
// what is the same with the snapshot before.
func (f *Feed) Snapshot() *Snapshot {
	s := f.picture()
	s.count()
	return s
}

// picture is a snapshot that is not counted yet.
func (f *Feed) picture() *Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := &f.last
	last.Rows = f.refresh(last.Rows)
	if f.told.nodes {
		last.Nodes = f.state.Nodes()
	}
	if f.told.policies {
		last.Policies = f.state.Policies()
	}
	if f.told.failures {
		last.Failures = f.state.Failures()
		slices.SortStableFunc(last.Failures, unreachedFirst)
	}
	if f.told.alerts {
		last.Alerts = slices.Collect(f.state.Alerts())
	}
	if f.told.lost {
		last.Lost = slices.Collect(f.state.Lost())
	}
	f.told = kinds{}
	last.Version, last.Start, last.End, last.Progress, last.Pictured = f.version, f.state.Start(), f.state.End(), f.progress, f.pictured
	last.Clusters = slices.Clip(f.clusters)
	last.Over, last.Err, last.Reported = f.over, f.err, f.reported
	last.ForgottenAlerts, last.ForgottenLost = f.state.Forgotten()
	last.Minutes, last.Notices = f.minutes.last(f.latest()), slices.Clone(f.notices)
	s := *last
	return &s
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

// refresh are the rows with those made anew that events spoke of.
func (f *Feed) refresh(old []*Row) []*Row {
	if len(f.dirty) == 0 {
		return old
	}
	refs := slices.SortedFunc(maps.Keys(f.dirty), scan.RowRef.Compare)
	clear(f.dirty)
	rows := make([]*Row, 0, len(old)+len(refs))
	for _, ref := range refs {
		at, had := slices.BinarySearchFunc(old, ref, compareRow)
		rows, old = append(rows, old[:at]...), old[at:]
		if had {
			old = old[1:]
		}
		cluster := ""
		if start := f.state.Start(); start != nil && len(start.Clusters) > 0 {
			cluster = ref.Workload.Cluster
		}
		row := &Row{Ref: ref, Cluster: cluster, Verdict: f.state.Verdict(ref), Findings: f.state.Findings(ref)}
		if row.Verdict != nil || len(row.Findings) > 0 {
			rows = append(rows, row)
		}
	}
	return append(rows, old...)
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
