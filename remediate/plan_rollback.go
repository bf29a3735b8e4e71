package remediate

import (
	"context"
	"fmt"
	"slices"
)

// NewRollback plans that a set goes, and all that its record tells is as it was before.
// Without a record there is nothing to do.
func NewRollback(ctx context.Context, c Cluster, setName string, opts PlanOptions) (*Plan, error) {
	old, err := newStore(c, opts).read(ctx, setName)
	if err != nil {
		return nil, err
	}
	p := &Plan{Set: setName, Rollback: true, options: opts, old: old}
	if old.object == nil {
		p.Notes = append(p.Notes, fmt.Sprintf("there is no record of set %s: it was never applied, or is rolled back already", setName))
		return p, nil
	}
	if p.Unfinished, err = unfinished(ctx, c, old); err != nil {
		return nil, err
	}
	p.works = make([]work, len(old.steps))
	err = each(ctx, len(p.works), func(ctx context.Context, i int) (err error) {
		// What was applied last goes first.
		p.works[i], err = restoring(ctx, c, old, &old.steps[len(old.steps)-1-i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rollback of set %s: %w", setName, err)
	}
	for i := range p.works {
		p.Changes = append(p.Changes, p.works[i].Change)
	}
	next := *old
	next.steps = slices.Clone(old.steps)
	p.next = &next
	return p, nil
}
