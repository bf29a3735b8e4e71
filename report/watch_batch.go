package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// batch is what changed and is not written yet. What changes twice is one change, and
// what is as it was before is none.
type batch struct {
	rows     map[scan.RowRef]*rowChange
	nodes    map[string]*change[scan.Node]
	policies map[scan.PolicyRef]*change[scan.Policy]
	failures map[scan.FailureRef]*change[scan.Failure]
}

func newBatch() batch {
	return batch{
		rows: map[scan.RowRef]*rowChange{}, nodes: map[string]*change[scan.Node]{},
		policies: map[scan.PolicyRef]*change[scan.Policy]{}, failures: map[scan.FailureRef]*change[scan.Failure]{},
	}
}

// change is something as it was told last, and as it is now; nil where it was not
// there, or is no more.
type change[T any] struct {
	was, now *T
	at       time.Time
	// reason is why it is gone.
	reason string
}

// rowChange is what changed about a row.
type rowChange struct {
	change[scan.WorkloadVerdict]
	ref      scan.RowRef
	findings map[string]*change[scan.Finding]
}

// note keeps what an event changes, before the state takes it in.
func (t *WatchText) note(e scan.Event) {
	switch {
	case e.Verdict != nil && !e.Verdict.Recount:
		t.noteRow(scan.RowRef{Workload: e.Verdict.Workload, Claims: e.Verdict.Claims}, e.Time).now = e.Verdict
	case e.Finding != nil && !e.Finding.Recount:
		ref, fingerprint := scan.RowRef{Workload: e.Finding.Workload, Claims: e.Finding.Claims}, e.Finding.Fingerprint()
		noted(t.noteRow(ref, e.Time).findings, fingerprint, t.state.Finding(ref, fingerprint), e.Time).now = e.Finding
	case e.Node != nil:
		noted(t.batch.nodes, e.Node.Name, t.state.Node(e.Node.Ref()), e.Time).now = e.Node
	case e.Policy != nil && !e.Policy.Recount:
		noted(t.batch.policies, e.Policy.Ref(), t.state.Policy(e.Policy.Ref()), e.Time).now = e.Policy
	case e.Failure != nil:
		noted(t.batch.failures, e.Failure.Ref(), t.state.Failure(e.Failure.Ref()), e.Time).now = e.Failure
	case e.Resolved != nil:
		t.noteResolved(e.Resolved, e.Time)
	case e.Alert != nil:
		t.alert(e.Alert, e.Time)
	case e.Lost != nil:
		t.lost(e.Lost, e.Time)
	}
}

func (t *WatchText) noteResolved(r *scan.Resolved, at time.Time) {
	switch {
	case r.What == scan.ResolvedFinding && r.Workload != nil && r.Finding != nil:
		ref, fingerprint := scan.RowRef{Workload: *r.Workload, Claims: r.Claims}, r.Finding.Fingerprint
		noted(t.noteRow(ref, at).findings, fingerprint, t.state.Finding(ref, fingerprint), at).gone(r.Reason)
	case r.What == scan.ResolvedWorkload && r.Workload != nil:
		ref := scan.RowRef{Workload: *r.Workload, Claims: r.Claims}
		row := t.noteRow(ref, at)
		row.gone(r.Reason)
		for _, f := range t.state.Findings(ref) {
			noted(row.findings, f.Fingerprint(), f, at).gone(r.Reason)
		}
	case r.What == scan.ResolvedNode:
		noted(t.batch.nodes, r.Node, t.state.Node(scan.NodeRef{Name: r.Node}), at).gone(r.Reason)
	case r.What == scan.ResolvedPolicy && r.Policy != nil:
		noted(t.batch.policies, *r.Policy, t.state.Policy(*r.Policy), at).gone(r.Reason)
	case r.What == scan.ResolvedFailure && r.Failure != nil:
		noted(t.batch.failures, *r.Failure, t.state.Failure(*r.Failure), at).gone(r.Reason)
	}
}

// noteRow is the change of a row.
func (t *WatchText) noteRow(ref scan.RowRef, at time.Time) *rowChange {
	r := t.batch.rows[ref]
	if r == nil {
		was := t.state.Verdict(ref)
		r = &rowChange{change: change[scan.WorkloadVerdict]{was: was, now: was}, ref: ref, findings: map[string]*change[scan.Finding]{}}
		t.batch.rows[ref] = r
	}
	r.at = at
	return r
}

// noted is the change of that name, begun with what was there before.
func noted[K comparable, T any](m map[K]*change[T], name K, was *T, at time.Time) *change[T] {
	c := m[name]
	if c == nil {
		c = &change[T]{was: was, now: was}
		m[name] = c
	}
	c.at = at
	return c
}

func (c *change[T]) gone(reason string) { c.now, c.reason = nil, reason }

// visibleFinding reports whether there is something to say of a finding: it came, it went, or
// it has another weight.
func visibleFinding(c *change[scan.Finding]) bool {
	if c.was == nil || c.now == nil {
		return c.was != c.now
	}
	a, b := c.was, c.now
	return a.Severity != b.Severity || a.Open != b.Open || a.Guarded != b.Guarded ||
		(a.Excepted == nil) != (b.Excepted == nil) || compactJSON(a.Now) != compactJSON(b.Now)
}

// turned reports whether the verdict is another one.
func (r *rowChange) turned() bool {
	if r.was == nil || r.now == nil {
		return r.was != r.now
	}
	return r.was.Verdict != r.now.Verdict
}

// visible are the findings of which there is something to say, the worst first.
func (r *rowChange) visible() []*change[scan.Finding] {
	var list []*change[scan.Finding]
	for _, f := range r.findings {
		if visibleFinding(f) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *change[scan.Finding]) int {
		return cmp.Or(compareBools(a.now == nil, b.now == nil), compareFindings(a.finding(), b.finding()))
	})
	return list
}

// finding is the finding as it is, or as it was.
func (c *change[T]) finding() *T { return cmp.Or(c.now, c.was) }

// says reports whether there is something to say of a row.
func (r *rowChange) says() bool {
	switch {
	case r.turned():
		return true
	case r.now != nil && (r.was.Severity != r.now.Severity || r.was.Reason != r.now.Reason):
		return true
	}
	for _, f := range r.findings {
		if visibleFinding(f) {
			return true
		}
	}
	return false
}

// compareChanges puts first what got worse, then what is bad.
func compareChanges(a, b *rowChange) int {
	return cmp.Or(
		compareBools(b.worse(), a.worse()),
		cmp.Compare(a.rank(), b.rank()),
		a.ref.Workload.Compare(b.ref.Workload),
		cmp.Compare(a.ref.Claims, b.ref.Claims),
	)
}

// worse reports whether a workload is worse off than before.
func (r *rowChange) worse() bool {
	if r.now == nil {
		return false
	}
	return r.was == nil && r.rank() < verdictRank(scan.VerdictGuarded) || r.was != nil && r.rank() < verdictRank(r.was.Verdict)
}

// rank counts from the worst; what is gone, and what has no verdict, comes last.
func (r *rowChange) rank() int {
	if r.now == nil {
		return len(scan.Verdicts())
	}
	return verdictRank(r.now.Verdict)
}

// turn is what happened to a row, in a few words, for counting.
func (r *rowChange) turn() string {
	switch {
	case r.was == nil && r.now == nil:
		return "without verdicts, with other findings"
	case r.now == nil:
		return "gone"
	case r.was == nil:
		return "new and " + Clean(string(r.now.Verdict))
	case r.was.Verdict == r.now.Verdict:
		return "still " + Clean(string(r.now.Verdict)) + ", with other findings"
	}
	return fmt.Sprintf("%s, before %s", Clean(string(r.now.Verdict)), Clean(string(r.was.Verdict)))
}
