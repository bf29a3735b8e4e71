package remediate

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// stage plans an object's form in one stage by a dry run against what is there, and
// notes in its step what it is meant to be and what it was.
func (b *builder) stage(ctx context.Context, w work, config *unstructured.Unstructured) (work, error) {
	config, err := plain(config)
	if err != nil {
		return w, fmt.Errorf("%s: %w", w.Object, err)
	}
	w.config = config
	own := !w.step.Existed && (w.seen == nil || takenOver(w.seen, w.set) == "")
	made, err := b.dryRun(ctx, &w, own)
	if err != nil {
		if apierrors.IsConflict(err) && len(conflicts(err)) == 0 {
			return w, err
		}
		return w.stopped(err)
	}
	w.After = clean(made)
	if own {
		if err := b.wholly(ctx, &w); err != nil {
			return w.stopped(err)
		}
	}
	w.step.setForm(w.Stage, w.step.wanted(config, w.After))
	if w.step.Existed {
		if !w.Object.isNamespace() {
			w.note("it was there before: fields of it that the set does not name stay as they are")
		}
		paths := append(configured(config), differing(w.Before.Object, w.After.Object)...)
		paths = slices.DeleteFunc(sortedPaths(paths), func(p fieldPath) bool { return !touchable(w.Object, p) })
		w.step.Before = addBefore(w.step.Before, capture(w.Before.Object, paths))
	}
	return w, nil
}

// dryRun asks what the API server would make of the configuration. Fields of others are
// taken over where that is wished, and in an object that is ours.
func (b *builder) dryRun(ctx context.Context, w *work, own bool) (*unstructured.Unstructured, error) {
	config := at(w.config, w.seen)
	written, err := b.cluster.Apply(ctx, config, WriteOptions{DryRun: true})
	if taken := conflicts(err); len(taken) > 0 && (own || b.opts.Force) {
		for _, field := range taken {
			w.note("taken over: " + field)
		}
		w.force = true
		written, err = b.cluster.Apply(ctx, config, WriteOptions{DryRun: true, Force: true})
	}
	if err != nil {
		return nil, err
	}
	w.Warnings = written.Warnings
	return written.Object, nil
}

// wholly has an object of ours be nothing but what its configuration gives: what others
// have put into its body goes.
func (b *builder) wholly(ctx context.Context, w *work) error {
	if w.seen == nil {
		w.whole = w.After
		return nil
	}
	if f := w.step.form(w.Stage); f != nil && f.Config == digestOf(w.config) && sameBody(f.Want, w.After.Object) {
		w.whole = w.After
		return nil
	}
	config := at(w.config, nil)
	config.SetName(freshName)
	fresh, err := b.cluster.Apply(ctx, config, WriteOptions{DryRun: true})
	if err != nil {
		return err
	}
	if !sameBody(fresh.Object.Object, w.After.Object) {
		after := withBody(w.After, fresh.Object)
		foreign := differing(after.Object, w.After.Object)
		for _, path := range foreign {
			if _, ours := lookup(after.Object, path); !ours {
				w.note(fmt.Sprintf("%s is none of the set's%s: it goes", path, byWhom(responsible(w.seen, []fieldPath{path}))))
			}
		}
		w.After = after
	}
	w.whole = w.After
	return nil
}
