package manifest

import (
	"context"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Record is what became of one document: exactly one of Document, Failure and
// Skipped is set.
type Record[T any] struct {
	File string
	// Line is where the document begins, 0 for a file that could not be opened.
	Line int
	// Document was judged, with this Value.
	Document *Document
	Value    T
	// Failure says why the document could not be read.
	Failure *scan.Failure
	// Skipped says why there is nothing to judge.
	Skipped Skip
}

// Each reads all inputs, has every pod and pod template judged, and emits a record
// for each document in the order of the input.
//
// Judge is called concurrently. Emit is called from one goroutine, the caller's.
// The first error of emit ends the run and is returned, as is the end of the
// context. A path that does not exist is an error before anything is read; all
// else that goes wrong is a record with a Failure.
func Each[T any](ctx context.Context, in Inputs, judge func(*Document) T, emit func(Record[T]) error) error {
	return run(ctx, in, func() func(*chunk) []Record[T] {
		var r objectReader
		return func(c *chunk) []Record[T] {
			var records []Record[T]
			r.visit = func(o *object) {
				records = append(records, judged(&r, c, o, judge))
			}
			r.read(c)
			return records
		}
	}, emit)
}

// judged makes the record of one object.
func judged[T any](r *objectReader, c *chunk, o *object, judge func(*Document) T) Record[T] {
	rec := Record[T]{File: c.file, Line: o.line, Failure: o.failure, Skipped: o.skip}
	if rec.Failure != nil || rec.Skipped != "" {
		return rec
	}
	d, err := r.decode(o)
	if err == nil && d == nil {
		err = o.stray()
	}
	switch {
	case err != nil:
		rec.Failure = c.fail(&r.parsed, err)
	case d == nil:
		rec.Skipped = SkipNoPod
	default:
		d.live = &liveNodes{root: o.pos, parsed: &r.parsed}
		rec.Document = d
		rec.Value = judge(d)
		d.live = nil
	}
	return rec
}

// Raw is one Kubernetes object of any kind, or a failure in its place.
type Raw struct {
	File             string
	Line             int
	APIVersion, Kind string
	Namespace, Name  string
	// JSON is the object as the API server would be sent it.
	JSON []byte
	// Document is the object's pod or pod template, for the functions that say so and
	// where it has one.
	Document *Document
	Failure  *scan.Failure
}

// Objects reads all inputs and emits every Kubernetes object, the items of Lists
// one by one, in the order of the input. What is no Kubernetes object is left out,
// and what cannot be read is a Raw with a Failure. Errors are as with Each.
func Objects(ctx context.Context, in Inputs, emit func(Raw) error) error {
	return objects(ctx, in, (*objectReader).raw, emit)
}

// ObjectsOf is Objects for a few kinds, named without their group. Documents that
// cannot hold one are not even parsed: what is wrong with those is left to others.
func ObjectsOf(ctx context.Context, in Inputs, kinds []string, emit func(Raw) error) error {
	names := newKindNames(kinds)
	return run(ctx, in, func() func(*chunk) []Raw {
		var r objectReader
		return func(c *chunk) []Raw {
			if !names.only(c) {
				return nil
			}
			var raws []Raw
			r.visit = func(o *object) {
				if o.skip == "" && o.failure == nil && names[o.kind] {
					raws = append(raws, r.raw(o))
				}
			}
			r.read(c)
			return raws
		}
	}, emit)
}

// ObjectsAndPods is Objects with the Document of each object that has a pod.
func ObjectsAndPods(ctx context.Context, in Inputs, emit func(Raw) error) error {
	return objects(ctx, in, (*objectReader).rawWithPod, emit)
}

func objects(ctx context.Context, in Inputs, read func(*objectReader, *object) Raw, emit func(Raw) error) error {
	return run(ctx, in, func() func(*chunk) []Raw {
		var r objectReader
		return func(c *chunk) []Raw {
			var raws []Raw
			r.visit = func(o *object) {
				if o.skip == "" {
					raws = append(raws, read(&r, o))
				}
			}
			r.read(c)
			return raws
		}
	}, emit)
}

// rawWithPod is an object as JSON, and its pod.
func (r *objectReader) rawWithPod(o *object) Raw {
	raw := r.raw(o)
	if raw.Failure != nil {
		return raw
	}
	d, err := r.decode(o)
	if err != nil {
		return Raw{File: raw.File, Line: raw.Line, Failure: r.chunk.fail(&r.parsed, err)}
	}
	raw.Document = d
	return raw
}

// raw is an object as JSON.
func (r *objectReader) raw(o *object) Raw {
	raw := Raw{File: r.chunk.file, Line: o.line, Failure: o.failure}
	if raw.Failure != nil {
		return raw
	}
	r.conv.next()
	own, _ := lookup(o.val, "metadata", 0)
	own = deref(own)
	r.conv.mark(own)
	err := r.conv.node(o.val)
	var names objectNames
	if err == nil && own != nil {
		err = decodeJSON(r.conv.marked(own), &names, o.pos, "metadata")
	}
	if err != nil {
		raw.Failure = r.chunk.fail(&r.parsed, err)
		return raw
	}
	raw.APIVersion, raw.Kind = o.apiVersion, o.kind
	raw.Namespace, raw.Name = names.Namespace, names.workload("").Name
	raw.JSON = append([]byte(nil), r.conv.buf...)
	return raw
}

// ahead is how many chunks per worker are read before they are needed.
const ahead = 8

// job is a chunk on its way through the workers.
type job[R any] struct {
	chunk *chunk
	done  chan []R
}

// pipeline carries chunks from the one that reads to those that work, and their
// results on in order.
type pipeline[R any] struct {
	queue, order chan job[R]
	// room bounds the text in flight: one document of the largest size, or many
	// small ones.
	room  *semaphore.Weighted
	limit int64
}

// put takes in a chunk, when there is room.
func (p *pipeline[R]) put(ctx context.Context, c *chunk) error {
	c.weight = min(c.weight, p.limit)
	if err := p.room.Acquire(ctx, c.weight); err != nil {
		return err
	}
	j := job[R]{chunk: c, done: make(chan []R, 1)}
	for _, ch := range []chan<- job[R]{p.queue, p.order} {
		select {
		case ch <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// work works on what is in the queue until it is closed or the context ends.
func (p *pipeline[R]) work(ctx context.Context, do func(*chunk) []R) {
	for j := range p.queue {
		if ctx.Err() != nil {
			return
		}
		j.done <- do(j.chunk)
	}
}

// drain emits the results in order.
func (p *pipeline[R]) drain(ctx context.Context, emit func(R) error) error {
	for j := range p.order {
		select {
		case results := <-j.done:
			for _, r := range results {
				if err := emit(r); err != nil {
					return err
				}
			}
			p.room.Release(j.chunk.weight)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// run reads the inputs in one goroutine, works on the chunks in several, and emits
// the results in order. newWorker is called once for each worker.
func run[R any](parent context.Context, in Inputs, newWorker func() func(*chunk) []R, emit func(R) error) error {
	in = in.withDefaults(runtime.GOMAXPROCS(0))
	if err := in.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	p := &pipeline[R]{
		queue: make(chan job[R], ahead*in.Workers),
		order: make(chan job[R], ahead*in.Workers),
		room:  semaphore.NewWeighted(int64(in.Limit)),
		limit: int64(in.Limit),
	}
	var readErr error
	wg.Go(func() {
		defer close(p.order)
		defer close(p.queue)
		readErr = in.read(ctx, func(c *chunk) error { return p.put(ctx, c) })
	})
	for range in.Workers {
		wg.Go(func() { p.work(ctx, newWorker()) })
	}
	if err := p.drain(parent, emit); err != nil {
		return err
	}
	return readErr
}
