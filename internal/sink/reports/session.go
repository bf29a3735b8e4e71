package reports

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/scan"
)

// writeTimeout is how long one write may take.
const writeTimeout = 30 * time.Second

// minBytes is the smallest that a report is made because it was called too large.
const minBytes = 8 << 10

// session is the work on one API, from reading what there is to reading it again. It
// belongs to the goroutine of Run.
type session struct {
	sink  *Sink
	api   API
	limit *rate.Limiter
	items map[place]*item
	queue queue
	// inFlight counts the items that are being worked on.
	inFlight int
	done     chan outcome
	// failed counts errors since the last success; nothing is begun before resume.
	failed int
	resume time.Time
}

// item is one report: what should be there, and what is.
type item struct {
	at place
	of subject
	// told is true where the watch spoke of the subject. Of another report only the place
	// is known: it was left by an earlier run.
	told bool
	have kept
	// unsure is true where a write broke off: nobody knows whether it was made.
	unsure bool
	due    time.Time
	// idle is when it may be written again.
	idle     time.Time
	tries    int
	maxBytes int
	// index is the place in the queue, -1 outside. busy is true while it is worked on, and
	// again where it changed meanwhile.
	index       int
	busy, again bool
}

// outcome is what became of an item.
type outcome struct {
	item   *item
	have   kept
	unsure bool
	wrote  bool
	err    error
}

// session follows the watch until the reports are to be read again, which it does by
// starting over. An error is one that concerns them all.
func (s *Sink) session(ctx context.Context) (again time.Duration, err error) {
	if !s.awaitPicture(ctx) {
		return 0, ctx.Err()
	}
	e, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	return 0, e.follow(ctx)
}

// begin reads what there is, and has all looked at that should be there or should not.
func (s *Sink) begin(ctx context.Context) (*session, error) {
	api, others, err := s.choose(ctx)
	if err != nil {
		return nil, err
	}
	e := &session{
		sink: s, api: api, items: map[place]*item{}, done: make(chan outcome),
		limit: rate.NewLimiter(rate.Limit(s.opts.QPS), max(1, int(s.opts.QPS))),
	}
	if err := e.read(ctx, api); err != nil {
		return nil, err
	}
	for _, o := range others {
		if err := e.read(ctx, o); err != nil && causeOf(err) != forbidden {
			return nil, err
		}
		// Who may not even list them has not written any.
	}
	now := time.Now()
	for _, of := range s.all() {
		e.touch(of, now)
	}
	s.notes.forget(func(at place) bool { return e.items[at] == nil })
	e.sweep(now)
	return e, nil
}

// awaitPicture returns when the watch has told all there is, or false.
func (s *Sink) awaitPicture(ctx context.Context) bool {
	for {
		s.mu.Lock()
		pictured := s.pictured
		s.mu.Unlock()
		if pictured {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-s.wake:
		}
	}
}

// read finds the reports that are ours. A watch of some namespaces knows nothing of the
// others, nor of what belongs to the cluster.
func (e *session) read(ctx context.Context, api API) error {
	report, cluster := api.kinds()
	namespaces := e.sink.start().Namespaces
	type list struct {
		kind      schema.GroupVersionKind
		namespace string
	}
	var lists []list
	for _, ns := range namespaces {
		lists = append(lists, list{report, ns})
	}
	if len(namespaces) == 0 {
		lists = []list{{report, ""}, {cluster, ""}}
	}
	for _, l := range lists {
		err := e.sink.opts.Store.List(ctx, l.kind, l.namespace, ManagedBy+"="+Source, func(u *unstructured.Unstructured) error {
			if k, ok := read(u); ok {
				at := place{api, key{u.GetNamespace(), u.GetName()}}
				e.items[at] = &item{at: at, have: k, index: -1, maxBytes: e.sink.opts.MaxBytes}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// touch has a subject looked at, not before the time given.
func (e *session) touch(of subject, at time.Time) {
	k := keyOf(of)
	if k.namespace == "" && len(e.sink.start().Namespaces) > 0 {
		return
	}
	where := place{e.api, k}
	it := e.items[where]
	if it == nil {
		it = &item{at: where, index: -1, maxBytes: e.sink.opts.MaxBytes}
		e.items[where] = it
	}
	it.of, it.told = of, true
	e.schedule(it, at)
}

// schedule puts an item into the queue, unless it is there for an earlier time.
func (e *session) schedule(it *item, at time.Time) {
	if at.Before(it.idle) {
		at = it.idle
	}
	switch {
	case it.busy:
		it.again = true
	case it.index < 0:
		it.due = at
		heap.Push(&e.queue, it)
	case at.Before(it.due):
		it.due = at
		heap.Fix(&e.queue, it.index)
	}
}

// sweep has the reports looked at of which the watch did not speak: left by an earlier
// run, for what is gone, or in the other API. As long as something could not be read that
// may hide what they are about, they stay.
func (e *session) sweep(now time.Time) {
	if e.sink.start().Selector != "" {
		return
	}
	e.sink.mu.Lock()
	failures := e.sink.state.Failures()
	e.sink.mu.Unlock()
	for _, it := range e.items {
		hides := func(f *scan.Failure) bool { return hidden(it, f) }
		if !it.told && (it.at.api != e.api || !slices.ContainsFunc(failures, hides)) {
			e.schedule(it, now)
		}
	}
}

// hidden tells whether what a report is about may be there in spite of the watch not
// speaking of it, because of a failure. What policies or single nodes are like takes no
// workload away; a subject with a dot is a kind of policy with its group.
func hidden(it *item, f *scan.Failure) bool {
	if f.Namespace != "" && f.Namespace != it.at.key.namespace {
		return false
	}
	if !it.have.workload {
		return true
	}
	what := strings.TrimPrefix(f.Subject, "watch of ")
	return !strings.Contains(what, ".") && !strings.HasPrefix(what, "check of node ") && what != "server version" && what != "nodes"
}

// follow writes what is due until the reports are to be read again.
func (e *session) follow(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	reread := time.NewTimer(e.sink.opts.Reread)
	defer func() {
		reread.Stop()
		cancel()
		for ; e.inFlight > 0; e.inFlight-- {
			<-e.done
		}
	}()
	for {
		timer := time.NewTimer(e.begin(ctx, time.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-reread.C:
			timer.Stop()
			return nil
		case <-timer.C:
		case <-e.sink.wake:
			e.changed(time.Now())
		case o := <-e.done:
			e.inFlight--
			if err := e.finished(o, time.Now()); err != nil {
				timer.Stop()
				return err
			}
		}
		timer.Stop()
	}
}

// changed takes in what the watch said.
func (e *session) changed(now time.Time) {
	dirty, freed, ready := e.sink.changes()
	if !ready {
		// The watch tells its picture again. What is written meanwhile is what it knew.
		return
	}
	for of := range dirty {
		e.touch(of, now.Add(e.sink.opts.Settle))
	}
	if freed {
		e.sweep(now.Add(e.sink.opts.Settle))
	}
}

// begin starts what is due, as far as there is room, and returns how long there is
// nothing more to begin.
func (e *session) begin(ctx context.Context, now time.Time) time.Duration {
	const long = time.Hour
	if wait := e.resume.Sub(now); wait > 0 {
		return wait
	}
	for e.inFlight < e.parallel() && len(e.queue) > 0 {
		it := e.queue[0]
		if wait := it.due.Sub(now); wait > 0 {
			return wait
		}
		heap.Pop(&e.queue)
		it.busy, it.again = true, false
		e.inFlight++
		work := *it
		go func() {
			o := e.reconcile(ctx, &work)
			o.item = it
			e.done <- o
		}()
	}
	return long
}

// parallel is one after an error that concerns all: it is enough to try with one.
func (e *session) parallel() int {
	if e.failed > 0 {
		return 1
	}
	return e.sink.opts.Parallel
}

// manyFailed is how many errors in a row are taken to concern all reports.
const manyFailed = 20

// finished notes what became of an item. An error ends the session.
func (e *session) finished(o outcome, now time.Time) error {
	it := o.item
	it.busy, it.have, it.unsure = false, o.have, o.unsure
	if o.wrote {
		it.idle = now.Add(e.sink.opts.Every)
	}
	if o.err == nil {
		it.tries, e.failed = 0, 0
		e.sink.notes.well(it.at)
		switch {
		case it.again:
			e.schedule(it, now.Add(e.sink.opts.Settle))
		case it.have == (kept{}):
			delete(e.items, it.at)
		}
		return nil
	}
	c := causeOf(o.err)
	if c == notServed {
		return o.err
	}
	if c == tooLarge && it.maxBytes > minBytes {
		it.maxBytes /= 2
		e.schedule(it, now)
		return nil
	}
	it.tries++
	e.sink.notes.trouble(it.at, o.err)
	pause := e.pause(it.tries)
	switch c { //nolint:exhaustive // The others concern one report each.
	case going:
		// Should it come back after all, that is no hurry.
		pause = e.pause(manyFailed)
	case unreachable:
		e.failed++
		e.resume, pause = now.Add(e.pause(e.failed)), 0
	case forbidden:
		if e.failed++; e.failed%manyFailed == 0 {
			e.resume = now.Add(e.pause(e.failed / manyFailed))
		}
	}
	e.schedule(it, now.Add(pause))
	return nil
}

// pause is how long to wait after so many errors.
func (e *session) pause(tries int) time.Duration {
	d := e.sink.opts.Retry << min(tries-1, 10)
	d = min(d, 60*e.sink.opts.Retry)
	return d - rand.N(d/4+1) //nolint:gosec // It spreads requests and keeps no secret.
}

// queue is a heap of items by the time at which they are due.
type queue []*item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return cmp.Or(q[i].due.Compare(q[j].due), cmp.Compare(q[i].at.key.namespace, q[j].at.key.namespace), cmp.Compare(q[i].at.key.name, q[j].at.key.name)) < 0
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is for the heap.
func (q *queue) Push(x any) {
	it, ok := x.(*item)
	if !ok {
		return
	}
	it.index = len(*q)
	*q = append(*q, it)
}

// Pop is for the heap.
func (q *queue) Pop() any {
	old := *q
	it := old[len(old)-1]
	it.index = -1
	*q = old[:len(old)-1]
	return it
}

// errUnsettled is that others changed a report each time that it was to be written.
var errUnsettled = errors.New("others change it all the time")
