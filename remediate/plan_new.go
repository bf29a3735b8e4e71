package remediate

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// parallel is how many objects are read or planned at the same time.
const parallel = 8

// planTries is how often an object is planned that changes under our eyes.
const planTries = 3

// freshName is the name under which the API server is asked what it makes of a
// configuration that nobody has touched. Nothing of this name is ever kept.
const freshName = "escape-scanner-dry-run"

// builder makes a plan.
type builder struct {
	cluster Cluster
	opts    PlanOptions
	set     *set.Set
	old     *record
}

// planned is what is planned for one object of the set.
type planned struct {
	object *set.Object
	step   *step
	works  []work
}

// NewPlan plans an apply: what would become of every object of the set, by dry runs of
// the API server. It changes nothing. What the API server refuses is a blocked change;
// what keeps it from answering is an error.
func NewPlan(ctx context.Context, c Cluster, s *set.Set, opts PlanOptions) (*Plan, error) {
	name := s.Options.Name
	if opts.Stages == nil {
		opts.Stages = []Stage{StageAudit, StageEnforce}
	}
	old, err := newStore(c, opts).read(ctx, name)
	if err != nil {
		return nil, err
	}
	p := &Plan{Set: name, options: opts, old: old}
	if p.Unfinished, err = unfinished(ctx, c, old); err != nil {
		return nil, err
	}
	b := &builder{cluster: c, opts: opts, set: s, old: old}
	all := make([]*planned, len(s.Objects))
	err = each(ctx, len(all), func(ctx context.Context, i int) (err error) {
		all[i], err = b.plan(ctx, &s.Objects[i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plan of set %s: %w", name, err)
	}
	gone, err := b.restored(ctx)
	if err != nil {
		return nil, fmt.Errorf("plan of set %s: %w", name, err)
	}
	p.assemble(b, all, gone)
	return p, nil
}

// assemble puts changes and record together, stage by stage.
func (p *Plan) assemble(b *builder, all []*planned, gone []work) {
	for _, stage := range b.stages() {
		for _, planned := range all {
			for _, w := range planned.works {
				if w.Stage == stage {
					p.works = append(p.works, w)
				}
			}
		}
	}
	p.works = append(p.works, gone...)
	for i := range p.works {
		p.Changes = append(p.Changes, p.works[i].Change)
	}
	next := *p.old
	next.steps = nil
	next.Set, next.SetVersion, next.Options = p.Set, set.Version, b.set.Options
	next.Stages = b.stages()
	for _, planned := range all {
		if planned.step != nil {
			next.steps = append(next.steps, *planned.step)
		}
	}
	p.final = slices.Clone(next.steps)
	for i := range gone {
		leaving := *gone[i].step
		leaving.Leaving = true
		next.steps = append(next.steps, leaving)
	}
	p.next = &next
	if p.Unfinished == "" && p.Pending() == 0 && len(p.Blocked()) == 0 && !p.Idle() {
		p.Notes = append(p.Notes, "the objects are as they should be, and an apply only brings the record of the set up to date")
	}
}

// stages are those that are planned, in order.
func (b *builder) stages() []Stage {
	return slices.DeleteFunc([]Stage{StageAudit, StageEnforce}, func(s Stage) bool { return !slices.Contains(b.opts.Stages, s) })
}

// each calls f for 0 to n-1, some at the same time, and gives the first error.
func each(ctx context.Context, n int, f func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}

// plan plans one object, again when it changes meanwhile.
func (b *builder) plan(ctx context.Context, o *set.Object) (*planned, error) {
	ref := RefOf(o.Final())
	if err := checkObject(ref, b.set.Options.Name); err != nil {
		return nil, err
	}
	var stale error
	for range planTries {
		result, err := b.try(ctx, o, ref)
		if stale = err; !apierrors.IsConflict(err) {
			return result, err
		}
	}
	w := work{Change: Change{Stage: b.stages()[0], Part: o.Part, Object: ref}, object: o}
	w, err := w.stopped(stale)
	return &planned{object: o, works: []work{w}}, err
}

// try plans one object as it is now. A conflict is an error only when the object was
// changed since it was read.
func (b *builder) try(ctx context.Context, o *set.Object, ref Ref) (*planned, error) {
	result := &planned{object: o}
	live, err := b.cluster.Get(ctx, ref)
	if apierrors.IsNotFound(err) {
		live, err = nil, nil
	}
	if err == nil {
		err = b.impossible(ref, live)
	}
	result.step = b.begin(ref, o.Part, live)
	for _, stage := range []Stage{StageAudit, StageEnforce} {
		if formOf(o, stage) == nil {
			result.step.setForm(stage, nil)
		}
	}
	for _, stage := range b.stages() {
		config := formOf(o, stage)
		if config == nil {
			continue
		}
		w := work{Change: Change{Stage: stage, Part: o.Part, Object: ref, Before: clean(live)}, set: b.set.Options.Name, object: o, step: result.step, seen: live}
		w, err := b.decide(ctx, w, config, err)
		if err != nil {
			return nil, err
		}
		result.works = append(result.works, w)
	}
	if len(result.works) == 0 {
		// The object has no form in these stages: what stands of an earlier apply stays.
		result.step = b.old.step(ref)
		return result, nil
	}
	b.join(result, live)
	return result, nil
}

// decide plans a form, unless the object could not be read or is out of reach.
func (b *builder) decide(ctx context.Context, w work, config *unstructured.Unstructured, failed error) (work, error) {
	if failed == nil {
		return b.stage(ctx, w, config)
	}
	return w.stopped(failed)
}

// formOf is the form of an object in a stage.
func formOf(o *set.Object, stage Stage) *unstructured.Unstructured {
	if stage == StageAudit {
		return o.Audit
	}
	return o.Enforce
}

// impossible tells what nobody needs to ask the API server for.
func (b *builder) impossible(ref Ref, live *unstructured.Unstructured) error {
	switch {
	case live == nil && ref.isNamespace():
		return &blockError{Block{By: BlockedByNamespace, Message: "namespace " + ref.Name + " does not exist", Mend: "make the namespace, or leave it out"}}
	case live == nil:
		return nil
	case live.GetDeletionTimestamp() != nil:
		return &blockError{Block{By: BlockedByServer, Message: ref.String() + " is being deleted", Mend: "wait until it is gone, then plan again"}}
	}
	if other := live.GetLabels()[set.LabelSet]; other != "" && other != b.set.Options.Name {
		return &blockError{Block{By: BlockedByConflict, Message: fmt.Sprintf("%s belongs to set %q", ref, other),
			Mend: "roll that set back, or give the two sets scopes apart"}}
	}
	return nil
}

// begin is the step of an object: the recorded one, or a new one where the object is
// not, or not any more, the one that was recorded.
func (b *builder) begin(ref Ref, part set.Part, live *unstructured.Unstructured) *step {
	fresh := &step{Part: part, Object: ref, Round: b.old.Round}
	if live != nil {
		fresh.Existed, fresh.UID = true, live.GetUID()
	}
	recorded := b.old.step(ref)
	if recorded == nil {
		return fresh
	}
	known := *recorded
	known.Part, known.Object, known.Leaving = part, ref, false
	if live != nil && known.Existed && live.GetLabels()[set.LabelSet] == b.set.Options.Name {
		// One that was restored from a backup has another UID, and what was before us stays
		// what it was.
		known.UID = live.GetUID()
	}
	switch {
	case live == nil && known.Existed,
		live != nil && known.Existed && live.GetUID() != known.UID,
		live != nil && !known.Existed && b.old.free(live),
		live != nil && b.old.untouched(recorded, live):
		return fresh
	}
	return &known
}

// join makes one of the stages of an object: each begins where the one before ended,
// and what already refuses is not taken back to reporting.
func (b *builder) join(p *planned, live *unstructured.Unstructured) {
	recorded := b.old.step(p.step.Object)
	for i := range p.works {
		w := &p.works[i]
		if w.Action == Blocked {
			continue
		}
		if i+1 < len(p.works) && p.works[i+1].Action != Blocked && b.standing(recorded, w, &p.works[i+1]) {
			w.skipped, w.verb, w.Action, w.After = true, doNothing, Unchanged, w.Before
			continue
		}
		if i > 0 && p.works[i-1].After != nil {
			w.Before = p.works[i-1].After
		}
		switch {
		case w.Before == nil:
			w.Action, w.verb = Created, doApply
		case len(differing(w.Before.Object, w.After.Object)) > 0:
			w.Action, w.verb = Changed, doApply
		default:
			w.Action, w.verb = Unchanged, doNothing
		}
		if w.Action == Unchanged {
			w.Notes = nil
		}
		if b.old.object == nil && live != nil && live.GetLabels()[set.LabelSet] == b.set.Options.Name {
			w.note("it is of this set, but there is no record of it: what it was before is not known, and a rollback leaves it as it is now")
		}
	}
}

// standing tells whether an object has come past its audit form: it refuses already,
// or did so until somebody changed it.
func (b *builder) standing(recorded *step, audit, enforce *work) bool {
	live := audit.seen
	if live == nil || len(differing(audit.Before.Object, audit.After.Object)) == 0 {
		return false
	}
	if len(differing(enforce.Before.Object, enforce.After.Object)) == 0 {
		return true
	}
	return recorded != nil && recorded.Enforce != nil && b.old.Phase != PhaseRollingBack &&
		live.GetLabels()[set.LabelSet] == b.set.Options.Name && !recorded.meets(recorded.Audit, live)
}

// restored plans what becomes of objects that the set had and has no more.
func (b *builder) restored(ctx context.Context) ([]work, error) {
	inSet := map[string]bool{}
	for i := range b.set.Objects {
		inSet[RefOf(b.set.Objects[i].Final()).key()] = true
	}
	var gone []work
	for i := range slices.Backward(b.old.steps) {
		if s := &b.old.steps[i]; !inSet[s.Object.key()] {
			gone = append(gone, work{step: s})
		}
	}
	err := each(ctx, len(gone), func(ctx context.Context, i int) (err error) {
		gone[i], err = restoring(ctx, b.cluster, b.old, gone[i].step)
		stages := b.stages()
		gone[i].Stage = stages[len(stages)-1]
		gone[i].note("the set does not have it any more")
		return err
	})
	return gone, err
}
