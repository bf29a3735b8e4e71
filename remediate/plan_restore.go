package remediate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
)

// restoring plans how one object goes back to what it was before.
func restoring(ctx context.Context, c Cluster, r *record, s *step) (work, error) {
	w := work{Change: Change{Part: s.Part, Object: s.Object, Action: Unchanged}, step: s, set: r.Set}
	live, err := c.Get(ctx, s.Object)
	if other, ok := errors.AsType[*OtherVersionError](err); ok && !s.Existed {
		// What goes as a whole goes in any version.
		w.Object.APIVersion = other.Served
		live, err = c.Get(ctx, w.Object)
	}
	switch {
	case apierrors.IsNotFound(err):
		w.note("it is not there: nothing is to be put back")
		return w, nil
	case errors.Is(err, scan.ErrNotServed):
		w.note("its kind is not served any more, so it is gone")
		return w, nil
	case err != nil:
		return w.stopped(err)
	}
	w.seen = live
	w.Before = clean(live)
	switch {
	case live.GetDeletionTimestamp() != nil && !s.Existed && takenOver(live, r.Set) == "":
		return w.stopped(staying(live))
	case live.GetDeletionTimestamp() != nil:
		w.note("it is being deleted already")
		return w, nil
	case s.Existed && live.GetUID() != s.UID && live.GetLabels()[set.LabelSet] != r.Set:
		w.note("it is another object by that name, made since: it is left as it is")
		return w, nil
	case r.untouched(s, live):
		if !s.back(live) {
			w.note("it carries nothing of the set, and others have changed it since: it is left as it is")
		}
		return w, nil
	case s.Existed:
		return w.givingBack(ctx, c)
	}
	if reason := takenOver(live, r.Set); reason != "" {
		return w.leaving(ctx, c, reason)
	}
	return w.deleting(ctx, c)
}

// staying says of an object that was deleted that it is still there: as long as it is,
// it has its effect, and the record is needed.
func staying(live *unstructured.Unstructured) error {
	return &blockError{Block{By: BlockedByServer,
		Message: fmt.Sprintf("%s is being deleted, and stays until its finalizers are gone: %s", RefOf(live), strings.Join(live.GetFinalizers(), ", ")),
		Mend:    "see who is to take the finalizers off, then roll back again"}}
}

// deleting plans the end of an object that we made.
func (w work) deleting(ctx context.Context, c Cluster) (work, error) {
	for _, name := range responsible(w.seen, leaves(w.Before.Object)) {
		w.note("what " + name + " changed in it goes with it")
	}
	err := c.Delete(ctx, w.Object, w.seen.GetUID(), w.seen.GetResourceVersion(), WriteOptions{DryRun: true})
	if apierrors.IsNotFound(err) {
		return w, nil
	}
	if err != nil {
		return w.stopped(err)
	}
	w.verb, w.Action = doDelete, Restored
	return w, nil
}

// leaving plans that an object that we made stays with those who took it over.
func (w work) leaving(ctx context.Context, c Cluster, reason string) (work, error) {
	w.note("it stays: " + reason)
	result := w.seen.DeepCopy()
	labels := result.GetLabels()
	if labels[set.LabelSet] == w.set {
		for _, key := range []string{set.LabelManagedBy, set.LabelSet, set.LabelVersion} {
			path := fieldPath{"metadata", "labels", key}
			if len(responsible(w.seen, []fieldPath{path})) == 0 {
				remove(result.Object, path)
			}
		}
	}
	return w.updating(ctx, c, result)
}

// givingBack plans that the fields of an object that was there before us get their
// values back.
func (w work) givingBack(ctx context.Context, c Cluster) (work, error) {
	for _, path := range w.step.foreign(w.seen) {
		value, _ := lookup(w.seen.Object, path)
		w.note(fmt.Sprintf("%s was changed to %v since%s: it goes back all the same", path, value, byWhom(responsible(w.seen, []fieldPath{path}))))
	}
	return w.updating(ctx, c, restore(w.seen, w.step.Before))
}

// foreign are the noted fields that are neither as they were nor as any form wants
// them.
func (s *step) foreign(live *unstructured.Unstructured) []fieldPath {
	var paths []fieldPath
	for _, b := range s.Before {
		value, ok := lookup(live.Object, b.Path)
		if b.Parent || ok != b.Absent && (!ok || equalValues(value, b.Value)) {
			continue
		}
		meant := false
		for _, f := range []*form{s.Audit, s.Enforce} {
			if f != nil {
				want, wanted := lookup(f.Want, b.Path)
				meant = meant || ok == wanted && equalValues(value, want)
			}
		}
		if !meant {
			paths = append(paths, b.Path)
		}
	}
	return paths
}

// updating plans that an object becomes the given one, without us among its managers.
func (w work) updating(ctx context.Context, c Cluster, result *unstructured.Unstructured) (work, error) {
	if !ours(w.seen) && len(differing(w.seen.Object, result.Object)) == 0 {
		return w, nil
	}
	w.config = disown(result)
	written, err := c.Update(ctx, w.config, WriteOptions{DryRun: true})
	if err != nil {
		return w.stopped(err)
	}
	w.verb, w.Action = doUpdate, Restored
	w.After, w.Warnings = clean(written.Object), written.Warnings
	return w, nil
}
