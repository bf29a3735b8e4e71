package alerts

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Options bound a Folder. The zero value of each stands for the default.
type Options struct {
	// Window is how often a fold that grows is told again: 10 s.
	Window time.Duration
	// Idle is after how long without an alert a fold is closed: 5 min.
	Idle time.Duration
	// Most is how many folds are open at once: 10 000. The one that was longest without
	// an alert is closed for a new one.
	Most int
	// PerContainer is how many folds one container has before what is new in it is
	// joined by what kind of deed it is: 100.
	PerContainer int
	// Cluster is the name of the cluster in workloads that only KubeArmor names.
	Cluster string
}

func (o Options) withDefaults() Options {
	o.Window = cmp.Or(max(o.Window, 0), 10*time.Second)
	o.Idle = cmp.Or(max(o.Idle, 0), 5*time.Minute)
	o.Most = cmp.Or(max(o.Most, 0), 10_000)
	o.PerContainer = cmp.Or(max(o.PerContainer, 0), 100)
	return o
}

// Counts are what became of the alerts that were added. Raised is always the sum of
// Told, Waiting and Dropped.
type Counts struct {
	// Raised counts all alerts of deeds, and Folded those of them that joined a fold that
	// was there.
	Raised, Folded uint64
	// Told counts the alerts in what was told, Waiting those in folds that are still to be
	// told or told again, Dropped those that were closed too fast to be told. Of the last
	// a gap is told.
	Told, Waiting, Dropped uint64
	// Thresholds counts the alerts that only say that alerts are missing. They are none
	// of the Raised.
	Thresholds uint64
	// Folds is how many are open.
	Folds int
}

// Folder joins repeats of alerts and tells of them in time. Add, Lost and Counts may be
// called from anywhere, Flush and Close from one goroutine.
type Folder struct {
	options Options

	mu     sync.Mutex
	folds  map[foldKey]*fold
	latest foldList
	// perContainer counts the open folds of containers.
	perContainer map[containerKey]int
	// closing are folds that were closed and are still to be told.
	closing []*fold
	counts  Counts
	dropped droppedSpan
	gaps    gapBook
	ids     idBook
	// seq numbers folds and gaps in the order in which they came.
	seq uint64
}

// NewFolder is a Folder without any alert.
func NewFolder(o Options) *Folder {
	return &Folder{
		options: o.withDefaults(), folds: map[foldKey]*fold{}, perContainer: map[containerKey]int{},
		gaps: newGapBook(), ids: newIDBook(),
	}
}

// Add takes an alert in. Seen is our own clock. The alert is not kept.
func (f *Folder) Add(a armor.Alert, seen time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a.Lost() {
		f.counts.Thresholds++
		f.throttled(&a, seen)
		return
	}
	f.counts.Raised++
	f.counts.Waiting++
	at := usable(a.Time, seen)
	key := keyOf(&a)
	if had := f.folds[key]; had != nil {
		f.counts.Folded++
		f.join(had, at)
		return
	}
	if f.perContainer[key.containerKey] >= f.options.PerContainer {
		key = key.joined(&a)
		if had := f.folds[key]; had != nil {
			f.counts.Folded++
			f.join(had, at)
			return
		}
	}
	f.open(key, &a, at)
}

// usable is a time that can be shown: that of the node, except where its clock says
// nothing or a time that is still to come.
func usable(at, seen time.Time) time.Time {
	const ahead, first = 5 * time.Minute, 2020 // There was no KubeArmor before.
	if at.Year() < first || at.After(seen.Add(ahead)) {
		return seen
	}
	return at
}

func (f *Folder) join(d *fold, at time.Time) {
	d.count++
	if at.Before(d.first) {
		d.first = at
	}
	if at.After(d.last) {
		d.last = at
	}
	f.latest.touch(d)
}

func (f *Folder) open(key foldKey, a *armor.Alert, at time.Time) {
	if len(f.folds) >= f.options.Most {
		f.close(f.latest.oldest())
	}
	f.seq++
	d := newFold(key, a, at)
	d.seq, d.id = f.seq, f.ids.of(d.key.fields(), at, 4*f.options.Most)
	f.folds[d.key] = d
	f.perContainer[d.key.containerKey]++
	f.latest.touch(d)
}

// close takes a fold out. What is not told of it waits, as long as there is room.
func (f *Folder) close(d *fold) {
	delete(f.folds, d.key)
	f.latest.remove(d)
	if f.perContainer[d.key.containerKey]--; f.perContainer[d.key.containerKey] <= 0 {
		delete(f.perContainer, d.key.containerKey)
	}
	d.closed = true
	if d.count > d.told {
		f.wait(d)
	}
}

func (f *Folder) wait(d *fold) {
	if len(f.closing) >= f.options.Most {
		n := d.count - d.told
		d.told = d.count
		f.counts.Waiting -= n
		f.counts.Dropped += n
		f.dropped.add(n, d.first, d.last)
		return
	}
	f.closing = append(f.closing, d)
}

// Lost takes in a time of which alerts are missing. The same gap told again, with its
// end, keeps its ID.
func (f *Folder) Lost(l scan.Lost) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	namespace := ""
	if l.Workload != nil {
		namespace = l.Workload.Namespace
	}
	f.gaps.put(l, namespace, f.seq)
}

// Counts are what became of the alerts so far.
func (f *Folder) Counts() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.counts
	c.Folds = len(f.folds)
	return c
}

// Places finds the pod that an alert speaks of.
type Places = func(namespace, pod string) (scan.Place, bool)

// Flush tells what is due: what is new, and what grew since it was told a window ago.
// The alerts are weighed by the places as they are now. An error of emit ends it; what
// was not told is told the next time.
func (f *Folder) Flush(now time.Time, place Places, emit func(scan.Event) error) error {
	return f.tell(f.due(now, false), now, place, emit)
}

// Close tells all that is left, and is the last call.
func (f *Folder) Close(now time.Time, place Places, emit func(scan.Event) error) error {
	return f.tell(f.due(now, true), now, place, emit)
}

// due takes what is to be told, in the order in which it came. Alerts count as told from
// here on, or again as waiting when telling fails.
func (f *Folder) due(now time.Time, all bool) []telling {
	f.mu.Lock()
	defer f.mu.Unlock()
	var due []telling
	for _, d := range f.closing {
		due = f.take(due, d)
	}
	clear(f.closing)
	f.closing = f.closing[:0]
	for d := f.latest.oldest(); d != nil; {
		next := d.newer
		if d.count != d.flushed {
			d.flushed, d.grew = d.count, now
		}
		idle := now.Sub(d.grew) >= f.options.Idle
		switch {
		case d.count > d.told && (all || idle || d.told == 0 || now.Sub(d.toldAt) >= f.options.Window):
			due = f.take(due, d)
			d.toldAt = now
		case d.astray && now.Sub(d.toldAt) >= f.options.Window:
			due = append(due, telling{seq: d.seq, fold: d, count: d.count, again: true})
			d.toldAt = now
		}
		if all || idle {
			f.close(d)
		}
		d = next
	}
	if f.dropped.alerts > 0 {
		f.seq++
		f.gaps.put(f.dropped.lost(), "", f.seq)
		f.dropped = droppedSpan{}
	}
	due = append(due, f.gaps.due(now, all, f.options)...)
	slices.SortStableFunc(due, func(a, b telling) int { return cmp.Compare(a.seq, b.seq) })
	return due
}

func (f *Folder) take(due []telling, d *fold) []telling {
	n := d.count - d.told
	d.told = d.count
	f.counts.Waiting -= n
	f.counts.Told += n
	return append(due, telling{seq: d.seq, fold: d, count: d.count, fresh: n, first: d.first, last: d.last})
}

// telling is one thing to tell: a fold or a gap.
type telling struct {
	seq  uint64
	fold *fold
	// count, first and last are the fold's when it was taken, fresh what of the count was
	// not told yet.
	count, fresh uint64
	first, last  time.Time
	// again: nothing is new but, perhaps, its place.
	again bool
	gap   *gap
	lost  scan.Lost
}

func (f *Folder) tell(due []telling, now time.Time, place Places, emit func(scan.Event) error) error {
	if place == nil {
		place = func(string, string) (scan.Place, bool) { return scan.Place{}, false }
	}
	for i := range due {
		event, ok := f.event(&due[i], now, place)
		if !ok {
			continue
		}
		if err := emit(event); err != nil {
			f.giveBack(due[i:])
			return err
		}
	}
	return nil
}

func (f *Folder) event(t *telling, now time.Time, place Places) (scan.Event, bool) {
	if t.gap != nil {
		return scan.Event{Time: now, Lost: t.told(place)}, true
	}
	where, known := place(t.fold.sample.Namespace, t.fold.sample.Pod)
	if t.again {
		if !known {
			return scan.Event{}, false
		}
		f.mu.Lock()
		t.first, t.last = t.fold.first, t.fold.last
		f.mu.Unlock()
	}
	found := &where
	if !known {
		found = nil
	}
	// Only Flush and Close touch it, and they are called from one goroutine.
	t.fold.astray = !known && t.fold.sample.Pod != ""
	alert := t.fold.alert(found, f.options.Cluster)
	alert.Count, alert.First, alert.Last = int(t.count), t.first, t.last
	return scan.Event{Time: now, Alert: alert}, true
}

// giveBack is what was taken and could not be told.
func (f *Folder) giveBack(due []telling) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range due {
		t := &due[i]
		switch {
		case t.gap != nil:
			f.gaps.giveBack(t.gap)
		case t.fresh > 0:
			t.fold.told -= t.fresh
			f.counts.Told -= t.fresh
			f.counts.Waiting += t.fresh
			t.fold.toldAt = time.Time{}
			if t.fold.closed && !slices.Contains(f.closing, t.fold) {
				f.wait(t.fold)
			}
		}
	}
}
