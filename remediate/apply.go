package remediate

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ErrChanged says that an object is not any more what the plan saw.
var ErrChanged = errors.New("it was changed since it was planned: plan again")

// run is an apply or a rollback at work.
type run struct {
	plan    *Plan
	cluster Cluster
	store   store
	opts    ApplyOptions
	record  *record
	result  *Result
	// written are the objects that this run has written already.
	written map[string]*unstructured.Unstructured
}

// Apply does what the plan shows, of an apply and of a rollback alike. It begins with
// the record and ends with it, so it can end anywhere between: the next plan goes on
// from what it finds. An apply ends at the first change that fails, a rollback puts back
// whatever it can.
func (p *Plan) Apply(ctx context.Context, c Cluster, opts ApplyOptions) (*Result, error) {
	r := &run{
		plan: p, cluster: c, store: newStore(c, p.options), opts: opts,
		record: p.next, result: &Result{}, written: map[string]*unstructured.Unstructured{},
	}
	var err error
	if p.Rollback {
		err = r.rollback(ctx)
	} else {
		err = r.apply(ctx)
	}
	made := 0
	for _, c := range r.result.Changes {
		if c.Action != Blocked && c.Action != Unchanged {
			made++
		}
	}
	r.result.Left = p.Pending() + len(p.Blocked()) - made
	return r.result, err
}

func (r *run) apply(ctx context.Context) error {
	if blocked := r.plan.Blocked(); len(blocked) > 0 {
		return fmt.Errorf("%s: %s of set %s is blocked by %s, and %d changes in all: nothing was changed",
			blocked[0].Object, blocked[0].Part, r.plan.Set, blocked[0].Block.By, len(blocked))
	}
	if r.plan.Pending() > 0 {
		if err := r.keep(ctx, PhaseApplying); err != nil {
			return err
		}
	}
	if err := r.stages(ctx); err != nil {
		return r.rescue(ctx, err)
	}
	if r.plan.Idle() {
		return nil
	}
	last := *r.record
	last.steps = r.plan.final
	last.Round++
	intent := r.record
	r.record = &last
	if err := r.keep(ctx, PhaseApplied); err != nil {
		r.record = intent
		return r.rescue(ctx, err)
	}
	return nil
}

func (r *run) stages(ctx context.Context) error {
	stages := r.plan.next.Stages
	for i, stage := range stages {
		if i > 0 && r.plan.Pending() > 0 {
			if err := r.store.held(ctx, r.record); err != nil {
				return err
			}
		}
		if err := r.stage(ctx, stage, i == len(stages)-1); err != nil {
			return err
		}
	}
	return nil
}

// rescue writes the record again if a rollback took it away while this apply was at
// work: without one, nobody could take back what was written after the rollback looked.
func (r *run) rescue(ctx context.Context, failed error) error {
	if len(r.written) == 0 || ctx.Err() != nil {
		return failed
	}
	_, err := r.cluster.Get(ctx, recordRef(r.store.namespace, recordName(r.plan.Set)))
	if !apierrors.IsNotFound(err) {
		return failed
	}
	r.record.object, r.record.Parts, r.record.Stale, r.record.kept = nil, nil, nil, nil
	if err := r.keep(ctx, PhaseApplying); err != nil {
		return errors.Join(failed, err)
	}
	return fmt.Errorf("%w (the record was gone and is written again, so that a rollback finds what this apply has made)", failed)
}

// stage makes the changes of a stage and has them verified.
func (r *run) stage(ctx context.Context, stage Stage, last bool) error {
	var there []set.Object
	for i := range r.plan.works {
		w := &r.plan.works[i]
		if w.Stage != stage {
			continue
		}
		if err := r.do(ctx, w); err != nil {
			return err
		}
		if w.object != nil && !w.skipped {
			there = append(there, *w.object)
		}
	}
	if r.opts.Verify == nil || len(there) == 0 {
		return nil
	}
	checks := r.opts.Verify(ctx, stage, there)
	r.result.Checks = append(r.result.Checks, checks...)
	var wrong *Check
	for i := range checks {
		r.progress(Progress{Stage: stage, Check: &checks[i]})
		if checks[i].Answer == kernel.No && wrong == nil {
			wrong = &checks[i]
		}
	}
	if wrong != nil && !last {
		return fmt.Errorf("%s: %s: the next stage does not begin", wrong.Subject, wrong.Message)
	}
	return ctx.Err()
}

func (r *run) rollback(ctx context.Context) error {
	if r.plan.old.object == nil {
		return nil
	}
	if err := r.keep(ctx, PhaseRollingBack); err != nil {
		return err
	}
	var errs []error
	for i := range r.plan.works {
		w := &r.plan.works[i]
		err := r.do(ctx, w)
		if err == nil && w.Action == Blocked {
			err = fmt.Errorf("%s: %s", w.Object, w.Block.Message)
		}
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if blockOf(err, w.Object) == nil && w.Action != Blocked && !errors.Is(err, ErrChanged) {
			// Nobody answers, so nobody will.
			break
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("rollback of set %s: %w: the record stays until all is put back", r.plan.Set, errors.Join(errs...))
	}
	if err := r.broughtBack(ctx); err != nil {
		return fmt.Errorf("rollback of set %s: %w: the record stays until all is put back", r.plan.Set, err)
	}
	return r.store.remove(ctx, r.record)
}

// broughtBack tells whether an apply that is at work at the same time has brought
// something in since it was planned to put it back, or to leave it.
func (r *run) broughtBack(ctx context.Context) error {
	works := r.plan.works
	return each(ctx, len(works), func(ctx context.Context, i int) error {
		w := &works[i]
		live, err := r.cluster.Get(ctx, w.Object)
		switch {
		case apierrors.IsNotFound(err), errors.Is(err, scan.ErrNotServed):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", w.Object, err)
		}
		was := w.seen
		if w.verb != doNothing {
			was = w.After
		}
		if r.plan.old.free(live) || was != nil && !r.plan.old.free(was) {
			return nil
		}
		return fmt.Errorf("%s: %w", w.Object, ErrConcurrent)
	})
}

// keep writes the record in a phase.
func (r *run) keep(ctx context.Context, phase Phase) error {
	if phase != PhaseApplied || r.record.By == "" {
		r.record.By = r.opts.By
	}
	if phase != PhaseApplied || r.record.Since.IsZero() {
		r.record.Since = r.opts.Now().UTC()
	}
	r.record.Phase = phase
	return r.store.write(ctx, r.record)
}

// do makes one change.
func (r *run) do(ctx context.Context, w *work) error {
	change := w.Change
	if err := r.make(ctx, w); err != nil {
		err = fmt.Errorf("%s: %w", w.Object, err)
		b := blockOf(err, w.Object)
		if b == nil {
			b = &Block{By: BlockedByServer, Message: err.Error(), Mend: "see the status, then plan again"}
			if errors.Is(err, ErrChanged) {
				b.By = BlockedByConflict
			} else {
				err = fmt.Errorf("%w: whether the change came through is not known", err)
			}
		}
		change = change.blocked(b)
		r.done(change)
		return err
	}
	r.done(change)
	return nil
}

func (r *run) done(change Change) {
	r.result.Changes = append(r.result.Changes, change)
	r.progress(Progress{Stage: change.Stage, Change: &change})
}

func (r *run) progress(p Progress) {
	if r.opts.Progress != nil {
		p.Done, p.Total = len(r.result.Changes), len(r.plan.works)
		r.opts.Progress(p)
	}
}

// make looks whether the object still is what the plan saw, then changes it.
func (r *run) make(ctx context.Context, w *work) error {
	if w.verb == doNothing {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	live, err := r.cluster.Get(ctx, w.Object)
	if apierrors.IsNotFound(err) {
		live, err = nil, nil
	}
	if err != nil {
		return err
	}
	if mine := r.written[w.Object.key()]; mine != nil {
		// What others did to it since this run wrote it is for the API server to judge.
		if live == nil || live.GetUID() != mine.GetUID() {
			return ErrChanged
		}
	} else if !same(live, w.seen) {
		return ErrChanged
	}
	switch w.verb {
	case doApply:
		return r.put(ctx, w, live)
	case doUpdate:
		return r.giveBack(ctx, w, live)
	case doDelete:
		return r.takeAway(ctx, w.Object, live)
	case doNothing:
	}
	return nil
}

// takeAway deletes an object, and looks whether something holds it back.
func (r *run) takeAway(ctx context.Context, ref Ref, live *unstructured.Unstructured) error {
	err := r.cluster.Delete(ctx, ref, live.GetUID(), live.GetResourceVersion(), WriteOptions{})
	if err == nil && len(live.GetFinalizers()) > 0 {
		var left *unstructured.Unstructured
		if left, err = r.cluster.Get(ctx, ref); err == nil && left.GetUID() == live.GetUID() {
			return staying(left)
		}
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// put applies a form.
func (r *run) put(ctx context.Context, w *work, live *unstructured.Unstructured) error {
	written, err := r.cluster.Apply(ctx, at(w.config, live), WriteOptions{Force: w.force})
	if err != nil {
		return err
	}
	r.written[w.Object.key()] = written.Object
	if live == nil {
		// A server-side apply does not mind an object that came into being meanwhile. One
		// that somebody else has made is theirs, and a rollback sees that it is.
		if name := partner(written.Object); name != "" {
			return fmt.Errorf("%s has made it meanwhile: %w", name, ErrChanged)
		}
	}
	if w.whole == nil || sameBody(written.Object.Object, w.whole.Object) {
		return nil
	}
	written, err = r.cluster.Update(ctx, withBody(written.Object, w.whole), WriteOptions{})
	if err == nil {
		r.written[w.Object.key()] = written.Object
	}
	return err
}

// giveBack makes an object what it was and takes us from its managers, which is a
// second write where the first has made us the manager of what it put back.
func (r *run) giveBack(ctx context.Context, w *work, live *unstructured.Unstructured) error {
	written, err := r.cluster.Update(ctx, disown(onto(live, w.config)), WriteOptions{})
	if err != nil {
		return err
	}
	if ours(written.Object) {
		_, err = r.cluster.Update(ctx, disown(written.Object), WriteOptions{})
	}
	return err
}
