package scan

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// TrackerOptions say what of a cluster is watched and by which rules.
type TrackerOptions struct {
	// Cluster is as for a scan. Declarations are not used, and of Probes only Machines,
	// which is asked whenever anything around the pods is other: it has to answer at once.
	Cluster ClusterOptions
	// Exceptions are those that hold at first.
	Exceptions []Exception
	// Now is the clock.
	Now func() time.Time
	// Settle is how long counts must be still before they are told, 10 seconds where it
	// is 0.
	Settle time.Duration
	// Budget bounds the groups of pods that one Update judges, 0 for a sensible number.
	Budget int
}

const (
	defaultSettle = 10 * time.Second
	defaultBudget = 64
	// wholeEvery is how often, at most, what hangs on all rows is told while changes pour
	// in, and wholePerRow as much for each row: where there are many of them it takes a
	// while. wholeLast is how long it waits for rows that are still to be judged.
	wholeEvery  = 250 * time.Millisecond
	wholePerRow = 100 * time.Microsecond
	wholeLast   = 3 * time.Second
)

// Tracker keeps the picture of a cluster that changes, and tells what is other than it
// was told. It judges with the code of a scan, and only what a change touches: when all
// is judged and counts are still, State of its stream is State of a new scan. It is not
// safe for concurrent use, and of no use after an error.
type Tracker struct {
	opts   TrackerOptions
	mirror Mirror
	// at is the time of the call that runs, and next its handler.
	at   time.Time
	next Handler

	start      Start
	server     string
	versionErr error
	// upgraded says that the server is of another version than it was, nil where it is not.
	upgraded *Failure
	// judge holds what a scan holds while it judges; its groups are not used.
	judge   *collector
	rules   *ruleIndex
	reading podReading
	decoded *decoded
	classes nodeClasses

	pods    map[PodName]*trackedPod
	groups  map[groupKey]*trackedGroup
	cohorts map[cohort]*trackedCohort
	rows    map[RowRef]*trackedRow
	// digests counts the groups of each digest, inNamespace the pods of each namespace,
	// and classPods and claimPods those that ask for runtime classes and volumes.
	digests              map[Digest]int
	inNamespace          map[string]int
	classPods, claimPods int
	// idle are digests that were seen without groups.
	idle map[Digest]bool
	// owners has the cohorts that asked for an object, failing those for which one could
	// not be read.
	owners  map[ownerName]map[*trackedCohort]bool
	failing map[*trackedCohort]bool
	gone    gonePods

	// unjoined are the cohorts whose rows are to be found, and dirty the rows that are to
	// be judged. pressing counts those of them that something of their own concerns.
	unjoined map[*trackedCohort]bool
	dirty    map[*trackedRow]urgency
	pressing int
	// counting are the rows of which other counts were told than hold now.
	counting map[*trackedRow]bool

	marker  marker
	expired []bool
	remark  bool
	stale   []Failure
	told    tracked
	// nodesDirty is true where nodes may be others than were told.
	nodesDirty bool
	// wholeDirty is true where what hangs on all rows is to be told, wholeAt is when it
	// was, allAt when nothing of it was held back, and wholeCounted since when only its
	// counts are other.
	wholeDirty                   bool
	wholeAt, allAt, wholeCounted time.Time
}

// urgency is how soon a row is judged again.
type urgency int

// The urgencies.
const (
	// urgentLater: everybody is concerned.
	urgentLater urgency = iota
	// urgentSoon: something is other that concerns these pods and few others.
	urgentSoon
	// urgentOwn: the pods are others.
	urgentOwn
)

// NewTracker makes a tracker of what the mirror shows.
func NewTracker(m Mirror, o TrackerOptions) *Tracker {
	if o.Settle == 0 {
		o.Settle = defaultSettle
	}
	if o.Budget == 0 {
		o.Budget = defaultBudget
	}
	o.Cluster.Probes, o.Cluster.Declarations = Probes{Machines: o.Cluster.Probes.Machines}, nil
	return &Tracker{
		opts: o, mirror: m, reading: newPodReading(o.Cluster.Namespaces, o.Cluster.Start.Selector), classes: nodeClasses{},
		pods: map[PodName]*trackedPod{}, groups: map[groupKey]*trackedGroup{}, cohorts: map[cohort]*trackedCohort{}, rows: map[RowRef]*trackedRow{},
		digests: map[Digest]int{}, idle: map[Digest]bool{}, inNamespace: map[string]int{},
		owners: map[ownerName]map[*trackedCohort]bool{}, failing: map[*trackedCohort]bool{}, gone: newGonePods(),
		unjoined: map[*trackedCohort]bool{}, dirty: map[*trackedRow]urgency{}, counting: map[*trackedRow]bool{},
		marker: marker{exceptions: slices.Clone(o.Exceptions), clusters: []string{o.Cluster.Start.Cluster}}, told: newTracked(),
	}
}

// Begin tells the first full picture, as a scan would, and that it is one. The error is
// one that no scan could begin with, the handler's, or that of the context.
func (t *Tracker) Begin(ctx context.Context, next Handler) error {
	t.next, t.at = next, t.opts.Now()
	server, err := t.mirror.ServerVersion(ctx)
	if err != nil && !apierrors.IsForbidden(err) {
		return fmt.Errorf("server version: %w", err)
	}
	t.server, t.versionErr = server, err
	engine, start, err := Begin(t.opts.Cluster.Start, t.opts.Cluster.Level, t.opts.Cluster.PSSVersion, server)
	if err != nil {
		return err
	}
	start.Namespaces, start.Watch = t.opts.Cluster.Namespaces, true
	if err := t.send(Event{Start: &start}); err != nil {
		return err
	}
	t.decoded = &decoded{params: newParamReader(ctx, t.mirror)}
	around := t.readSurroundings(ctx)
	t.judge = newCollector(start.Cluster, engine, nil, newFactSource(ctx, t.mirror), around)
	t.start, t.rules = start, newRuleIndex(around.admissionPolicies())
	t.readFacts(ctx)
	t.markExceptions()
	if err := t.readPods(ctx); err != nil {
		return err
	}
	t.joinCohorts(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	t.wholeDirty, t.nodesDirty = true, true
	if _, err := t.tell(ctx, len(t.groups)+1); err != nil {
		return err
	}
	return t.send(Event{Picture: t.counts()})
}

// Update takes in changes and tells what is other because of them. Where there is more
// to judge than is done at once it says so, and wants to be called again, with new
// changes or none; what is not judged yet stays as it was told.
func (t *Tracker) Update(ctx context.Context, c Changes, next Handler) (more bool, err error) {
	t.next, t.at = next, t.opts.Now()
	t.decoded.params.follow(ctx)
	t.markExceptions()
	if c.Around || !t.decoded.until.IsZero() && !t.at.Before(t.decoded.until) || t.at.Before(t.decoded.at) {
		again := t.updateAround(ctx)
		c.AllPods = c.AllPods || again
	}
	if c.Facts {
		t.updateFacts(ctx)
	}
	if c.AllPods {
		if err := t.readPods(ctx); err != nil {
			return false, err
		}
	}
	t.updatePods(c.Pods)
	t.updateOwners(&c)
	t.joinCohorts(ctx)
	// What a call that was called off could not read is not gone.
	if err := ctx.Err(); err != nil {
		return false, err
	}
	return t.tell(ctx, t.opts.Budget)
}

// tell judges what is to be judged, as far as the budget goes, and tells what is other.
func (t *Tracker) tell(ctx context.Context, budget int) (more bool, err error) {
	for _, step := range []func() error{
		t.tellNodes, t.tellFailures, t.tellUnread,
		func() error { return t.tellRows(ctx, budget) },
		t.tellCounts, t.tellWhole,
	} {
		if err := step(); err != nil {
			return false, err
		}
	}
	t.forget()
	return len(t.dirty) > 0, nil
}

// SetExceptions replaces the exceptions. They take effect at the next Update.
func (t *Tracker) SetExceptions(exceptions []Exception) {
	t.marker.exceptions, t.remark = slices.Clone(exceptions), true
}

// SetStale says what is not followed now. It is told at the next Update.
func (t *Tracker) SetStale(failures []Failure) { t.stale = slices.Clone(failures) }

// NextAt is when Update should be called though nothing changes; zero for never.
func (t *Tracker) NextAt() time.Time {
	var next time.Time
	by := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if len(t.dirty) > 0 || t.remark {
		by(t.at)
	}
	if t.wholeDirty {
		by(t.wholeAt.Add(t.wholePause()))
	}
	for row := range t.counting {
		by(row.counted.Add(t.opts.Settle))
	}
	if !t.wholeCounted.IsZero() {
		by(t.wholeCounted.Add(t.opts.Settle))
	}
	for i := range t.marker.exceptions {
		if x := &t.marker.exceptions[i]; !x.Expires.IsZero() && !x.Expired(t.at) {
			by(x.Expires.AddDate(0, 0, 1))
		}
	}
	if t.decoded != nil {
		by(t.decoded.until)
	}
	return next
}

// End ends the stream with the counts of the picture.
func (t *Tracker) End(next Handler) error {
	t.next, t.at = next, t.opts.Now()
	return t.send(Event{End: t.counts()})
}

// counts are those of what was told.
func (t *Tracker) counts() *End {
	tally := NewTally(HandlerFunc(func(Event) error { return nil }))
	// A handler that does nothing does not fail.
	count := func(e Event) { _ = tally.Handle(e) }
	for _, row := range t.rows {
		for _, f := range row.told.findings {
			count(Event{Finding: f.finding})
		}
		if row.told.verdict != nil {
			count(Event{Verdict: row.told.verdict})
		}
	}
	for _, f := range t.told.findings {
		count(Event{Finding: f})
	}
	for _, v := range t.told.unread {
		count(Event{Verdict: v})
	}
	for _, f := range t.told.failures {
		count(Event{Failure: f})
	}
	count(Event{End: &End{Pods: len(t.pods)}})
	return tally.End()
}

func (t *Tracker) send(e Event) error {
	e.Time = t.at
	if err := t.next.Handle(e); err != nil {
		return fmt.Errorf("%w: %w", errHandler, err)
	}
	return nil
}

// forget lets go of answers that nobody may ask for again, when there are many more of
// them than of those that do. They are found again where they are missed.
func (t *Tracker) forget() {
	c := t.judge
	for digest := range t.idle {
		if t.digests[digest] == 0 {
			delete(c.judged, digest)
		}
	}
	clear(t.idle)
	most := 4*len(t.groups) + 4096
	if len(c.layers.cache) > most {
		clear(c.layers.cache)
	}
	if len(c.layers.alike) > most {
		clear(c.layers.alike)
	}
	if len(c.covers.stances) > 2*len(c.covers.by)+64 {
		clear(c.covers.stances)
		for _, cov := range c.covers.by {
			c.covers.keep(cov.stance)
		}
	}
	if len(t.classes) > 2*(len(c.around.nodes)+len(c.around.strange))+64 {
		clear(t.classes)
		for n := range c.around.everyNode() {
			t.classes[*n.class] = n.class
		}
	}
	const mostRuled = 1 << 12
	for ns, known := range c.door.known {
		switch {
		case t.inNamespace[ns] == 0:
			delete(c.door.known, ns)
		case len(known.ruled) > mostRuled:
			clear(known.ruled)
		}
		if len(known.by)+len(known.reopenBy) > 2*t.inNamespace[ns]+64 {
			clear(known.by)
			clear(known.reopenBy)
		}
	}
}

// sortedRows are the rows in the order of a scan.
func (t *Tracker) sortedRows() []*trackedRow {
	return slices.SortedFunc(maps.Values(t.rows), func(a, b *trackedRow) int { return RowRef.Compare(a.ref, b.ref) })
}
