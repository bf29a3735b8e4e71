package remediate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
)

// ReadStatus tells how a set stands, by comparing its record with the objects as they
// are. It only reads.
func ReadStatus(ctx context.Context, c Cluster, setName string, opts PlanOptions) (*Status, error) {
	r, err := newStore(c, opts).read(ctx, setName)
	if err != nil {
		return nil, err
	}
	s := &Status{Set: setName, Phase: r.Phase}
	if r.object == nil {
		s.Notes = append(s.Notes, "there is no record of set "+setName+": it was never applied, or is rolled back")
		return s, nil
	}
	s.By, s.Since, s.Options = r.By, r.Since, r.Options
	if s.Objects, err = standings(ctx, c, r); err != nil {
		return nil, fmt.Errorf("status of set %s: %w", setName, err)
	}
	s.Unfinished = r.unfinished(s.Objects)
	if r.SetVersion != set.Version {
		s.Notes = append(s.Notes, fmt.Sprintf("it was applied in version %s of the definition, and this is %s: a plan shows what an apply would change", r.SetVersion, set.Version))
	}
	return s, nil
}

// standings tells how each object of a record stands.
func standings(ctx context.Context, c Cluster, r *record) ([]ObjectStatus, error) {
	objects := make([]ObjectStatus, len(r.steps))
	return objects, each(ctx, len(objects), func(ctx context.Context, i int) (err error) {
		objects[i], err = r.standing(ctx, c, &r.steps[i])
		return err
	})
}

// standing tells how one object stands. What the API server refuses to tell is
// unreadable, what keeps it from answering is an error.
func (r *record) standing(ctx context.Context, c Cluster, s *step) (ObjectStatus, error) {
	o := ObjectStatus{Part: s.Part, Object: s.Object}
	live, err := c.Get(ctx, s.Object)
	switch {
	case apierrors.IsNotFound(err):
		r.absent(&o, s)
	case errors.Is(err, scan.ErrNotServed):
		r.absent(&o, s)
		o.Message = "its kind is not served any more"
	case err != nil:
		if blockOf(err, s.Object) == nil {
			return o, err
		}
		o.State, o.Message = StateUnreadable, err.Error()
	default:
		r.compare(&o, s, live)
	}
	return o, nil
}

// goes tells whether the object is being put back.
func (r *record) goes(s *step) bool { return s.Leaving || r.Phase == PhaseRollingBack }

// absent is the state of an object that is not there.
func (r *record) absent(o *ObjectStatus, s *step) {
	switch {
	case r.goes(s):
		o.State = StateRestored
	case r.Phase == PhaseApplying && !s.Existed:
		o.State = StateNotBegun
	default:
		o.State = StateMissing
	}
}

// compare is the state of an object that is there.
func (r *record) compare(o *ObjectStatus, s *step, live *unstructured.Unstructured) {
	carries := live.GetLabels()[set.LabelSet] == r.Set
	free := r.free(live)
	switch {
	case !s.Existed && free && r.goes(s):
		o.State, o.Message = StateRestored, "somebody else has made an object by this name"
	case !s.Existed && free && r.Phase == PhaseApplying:
		o.State, o.Message = StateNotBegun, "somebody else has made an object by this name"
	case s.Existed && live.GetUID() != s.UID && !carries:
		r.absent(o, s)
		o.Message = "it is another object by this name, made since"
	case r.goes(s) && s.Existed && s.back(live):
		o.State = StateRestored
	case s.meets(s.Enforce, live):
		o.State, o.Stage = StateInPlace, StageEnforce
	case s.meets(s.Audit, live) && s.Enforce == nil && r.Options.Action == set.ActionAudit:
		o.State, o.Stage = StateInPlace, StageAudit
	case s.onlyAudits(live) && !r.enforced():
		o.State, o.Stage = StateAuditing, StageAudit
	case r.Phase == PhaseApplying && s.Existed && s.back(live):
		o.State = StateNotBegun
	case r.untouched(s, live):
		o.State, o.Message = StateNotBegun, "somebody else has changed it since"
		if r.goes(s) {
			o.State = StateRestored
		}
	default:
		r.drifted(o, s, live)
	}
	if s.Leaving && (o.State == StateInPlace || o.State == StateAuditing) {
		o.Message = "the set does not have it any more: it is to be put back"
	}
	if live.GetDeletionTimestamp() != nil {
		o.Message = strings.TrimPrefix(o.Message+"; it is being deleted", "; ")
	}
}

// back tells whether all noted fields of an object are as they were before.
func (s *step) back(live *unstructured.Unstructured) bool {
	return len(differing(live.Object, restore(live, s.Before).Object)) == 0
}

// onlyAudits tells whether an object is in its audit form, and what only its enforce
// form touches is as it was before, or not there.
func (s *step) onlyAudits(live *unstructured.Unstructured) bool {
	if !s.meets(s.Audit, live) {
		return false
	}
	for _, b := range s.Before {
		value, ok := lookup(live.Object, b.Path)
		if _, audited := lookup(s.Audit.Want, b.Path); ok && !audited && !b.Parent && (b.Absent || !equalValues(value, b.Value)) {
			return false
		}
	}
	return true
}

// enforced tells whether the enforce forms have all been brought in: an object that
// only audits was changed since.
func (r *record) enforced() bool {
	return r.Phase == PhaseApplied && slices.Contains(r.Stages, StageEnforce)
}

// drifted says in what an object differs from the form that it should have.
func (r *record) drifted(o *ObjectStatus, s *step, live *unstructured.Unstructured) {
	o.State, o.Stage = StateDrifted, StageEnforce
	if s.Enforce == nil || s.Audit != nil && !slices.Contains(r.Stages, StageEnforce) {
		o.Stage = StageAudit
	}
	f := s.form(o.Stage)
	paths := s.missing(f, live)
	o.By = responsible(live, paths)
	o.Diff = Diff(s.expected(f, live), live)
	if o.Stage == StageEnforce && s.onlyAudits(live) {
		o.Message = "it only audits"
	}
}

// unfinished says how far an apply or a rollback came that did not end.
func (r *record) unfinished(objects []ObjectStatus) string {
	what := ""
	switch r.Phase {
	case PhaseApplying:
		what = "an apply"
	case PhaseRollingBack:
		what = "a rollback"
	case PhaseApplied, PhaseNone:
		return ""
	}
	var counts []string
	for _, state := range []State{StateInPlace, StateAuditing, StateDrifted, StateMissing, StateNotBegun, StateRestored, StateUnreadable} {
		n := 0
		for i := range objects {
			if objects[i].State == state {
				n++
			}
		}
		if n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(counts) == 0 {
		counts = []string{"nothing of it is in the cluster"}
	}
	by := ""
	if r.By != "" {
		by = " by " + r.By
	}
	return fmt.Sprintf("%s%s, begun %s, has not ended, or is at work still: %s", what, by, r.Since.UTC().Format(time.RFC3339), strings.Join(counts, ", "))
}

// unfinished reads what there is to say of an apply or a rollback that did not end.
func unfinished(ctx context.Context, c Cluster, r *record) (string, error) {
	if r.Phase != PhaseApplying && r.Phase != PhaseRollingBack {
		return "", nil
	}
	objects, err := standings(ctx, c, r)
	if err != nil {
		return "", fmt.Errorf("set %s: %w", r.Set, err)
	}
	return r.unfinished(objects), nil
}
