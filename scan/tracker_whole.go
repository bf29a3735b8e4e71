package scan

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// tellWhole tells what hangs on all rows: what policies do, what is wrong with policies,
// nodes and namespaces themselves, and which exceptions do nothing.
func (t *Tracker) tellWhole() error {
	if !t.wholeDue() {
		return nil
	}
	// What admission policies do is not known before everybody was asked about them.
	partly := len(t.dirty) > 0 && !t.allAt.IsZero() && t.at.Sub(t.allAt) >= 0 && t.at.Sub(t.allAt) < wholeLast
	t.wholeDirty, t.wholeAt = partly, t.at
	if !partly {
		t.allAt = t.at
	}
	counts, recount := false, !t.wholeCounted.IsZero() && t.settled(t.wholeCounted)
	findings, policies := t.whole()
	for _, tell := range []func() (bool, error){
		func() (bool, error) { return t.tellFindings(findings, recount) },
		func() (bool, error) { return t.tellPolicies(policies, recount, partly) },
	} {
		other, err := tell()
		if err != nil {
			return err
		}
		counts = counts || other
	}
	switch {
	case !counts:
		t.wholeCounted = time.Time{}
	case t.wholeCounted.IsZero() || t.at.Before(t.wholeCounted):
		t.wholeCounted = t.at
	}
	return nil
}

// wholeDue reports whether it is time to look at the whole again. Rows that something of
// their own concerns are waited for, but not for ever.
func (t *Tracker) wholeDue() bool {
	if !t.wholeCounted.IsZero() && t.settled(t.wholeCounted) && len(t.dirty) == 0 {
		return true
	}
	if !t.wholeDirty {
		return false
	}
	since := t.at.Sub(t.wholeAt)
	if t.wholeAt.IsZero() || since < 0 {
		return true
	}
	if t.pressing > 0 {
		return since >= wholeLast
	}
	return since >= t.wholePause()
}

// wholePause is how long the whole is not looked at again.
func (t *Tracker) wholePause() time.Duration {
	return min(wholeLast, max(wholeEvery, time.Duration(len(t.rows))*wholePerRow))
}

// whole is what holds of the whole now, in the order of a scan.
func (t *Tracker) whole() (findings []*Finding, policies []Policy) {
	tally := newPolicyTally()
	used := make([]int, len(t.marker.exceptions))
	for _, row := range t.sortedRows() {
		tally.add(row.policies)
		for i, n := range row.used {
			used[i] += n
		}
	}
	scope := policyScope{namespaces: t.opts.Cluster.Namespaces, whole: t.reading.whole}
	found, policies := t.judge.around.policyEvents(t.start.Cluster, t.rules, tally, scope, t.judge.covers)
	for i := range found {
		findings = append(findings, t.marker.mark(&found[i], used))
	}
	return append(findings, t.marker.report(used, len(t.told.failures) > 0)...), policies
}

// tellFindings tells the findings that are about no row. counts is true where other
// counts hold than were told; with recount they are told.
func (t *Tracker) tellFindings(findings []*Finding, recount bool) (counts bool, err error) {
	now := map[wholeKey]*Finding{}
	var order []wholeKey
	for _, f := range findings {
		key := wholeKey{RowRef{f.Workload, f.Claims}, f.Fingerprint()}
		if now[key] == nil {
			order = append(order, key)
		}
		now[key] = f
	}
	for _, key := range order {
		f, was := now[key], t.told.findings[key]
		if was != nil && sameFinding(was, f) {
			if sameFindingCounts(was, f) {
				continue
			}
			if counts = counts || !recount; !recount {
				continue
			}
			again := *f
			again.Recount = true
			f = &again
		}
		t.told.findings[key] = f
		if err := t.send(Event{Finding: f}); err != nil {
			return counts, err
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(t.told.findings), func(a, b wholeKey) int {
		return cmp.Or(RowRef.Compare(a.row, b.row), cmp.Compare(a.print, b.print))
	}) {
		if now[key] != nil {
			continue
		}
		f := t.told.findings[key]
		delete(t.told.findings, key)
		ref, w := f.Ref(), f.Workload
		gone := &Resolved{What: ResolvedFinding, Reason: t.pastTense(whyNotSo), Workload: &w, Claims: f.Claims, Finding: &ref}
		if err := t.send(Event{Resolved: gone}); err != nil {
			return counts, err
		}
	}
	return counts, nil
}

// tellPolicies tells what the policies do, as tellFindings does of findings. Where it is
// not known of everybody, those of admission stay as they were told.
func (t *Tracker) tellPolicies(policies []Policy, recount, partly bool) (counts bool, err error) {
	now := map[PolicyRef]bool{}
	for i := range policies {
		p := &policies[i]
		now[p.Ref()] = true
		if partly && p.Layer == LayerAdmission {
			continue
		}
		if was := t.told.policies[p.Ref()]; was != nil && samePolicy(was, p) {
			if was.Workloads == p.Workloads && was.Pods == p.Pods {
				continue
			}
			if counts = counts || !recount; !recount {
				continue
			}
			p.Recount = true
		}
		t.told.policies[p.Ref()] = p
		if err := t.send(Event{Policy: p}); err != nil {
			return counts, err
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(t.told.policies), PolicyRef.Compare) {
		if now[ref] {
			continue
		}
		delete(t.told.policies, ref)
		if err := t.send(Event{Resolved: &Resolved{What: ResolvedPolicy, Reason: t.pastTense(whyPolicyGone), Policy: &ref}}); err != nil {
			return counts, err
		}
	}
	return counts, nil
}
