package scan

import (
	"maps"
	"slices"
	"time"
)

// tracked is what was told beside the rows.
type tracked struct {
	nodes    map[string]*Node
	failures map[FailureRef]*Failure
	unread   map[string]*WorkloadVerdict
	findings map[wholeKey]*Finding
	policies map[PolicyRef]*Policy
}

// wholeKey names a finding that is about no row.
type wholeKey struct {
	row   RowRef
	print string
}

func newTracked() tracked {
	return tracked{
		nodes: map[string]*Node{}, failures: map[FailureRef]*Failure{}, unread: map[string]*WorkloadVerdict{},
		findings: map[wholeKey]*Finding{}, policies: map[PolicyRef]*Policy{},
	}
}

// Why something is taken back.
const (
	whyGone       = "the workload is gone"
	whyMoved      = "its pods stand in another row now"
	whyHidden     = "it can be read no more"
	whyMended     = "its pods have it no more"
	whyReadable   = "can be read now"
	whyNotSo      = "it is so no more"
	whyNodeGone   = "the node is gone"
	whyPolicyGone = "the policy is gone"
)

// tellNodes tells of the nodes that are other than told, but for the age of evidence.
func (t *Tracker) tellNodes() error {
	if !t.nodesDirty {
		return nil
	}
	t.nodesDirty = false
	around := t.judge.around
	for _, name := range slices.Sorted(maps.Keys(t.told.nodes)) {
		if around.nodes[name] != nil {
			continue
		}
		delete(t.told.nodes, name)
		reason := whyNodeGone
		if around.nodesUnknown != "" {
			reason = whyHidden
		}
		if err := t.send(Event{Resolved: &Resolved{What: ResolvedNode, Reason: reason, Node: name}}); err != nil {
			return err
		}
	}
	for _, n := range around.sortedNodes() {
		node := n.event()
		if was := t.told.nodes[n.name]; was != nil && sameNode(was, node) {
			continue
		}
		t.told.nodes[n.name] = node
		if err := t.send(Event{Node: node}); err != nil {
			return err
		}
	}
	return nil
}

// failures are what cannot be read now.
func (t *Tracker) failures() []Failure {
	missing := slices.Clone(t.opts.Cluster.Failures)
	if t.versionErr != nil {
		missing = append(missing, versionFailure(t.versionErr))
	}
	if t.upgraded != nil {
		missing = append(missing, *t.upgraded)
	}
	owners := newOwnerIndex(nil, true)
	for co := range t.failing {
		for scope, err := range co.failed {
			owners.fail(scope, err)
		}
	}
	for scope, err := range owners.failed {
		missing = append(missing, scope.failure(err))
	}
	missing = append(missing, t.factFailures()...)
	missing = append(missing, t.reading.failures(t.judge.around.absent, len(t.pods), func(ns string) int { return t.inNamespace[ns] })...)
	missing = append(missing, t.judge.around.failures...)
	missing = append(missing, t.stale...)
	slices.SortStableFunc(missing, compareFailures)
	return missing
}

// tellFailures tells what cannot be read, and what can be read again.
func (t *Tracker) tellFailures() error {
	now := map[FailureRef]bool{}
	missing := t.failures()
	if (len(missing) == 0) != (len(t.told.failures) == 0) {
		// Exceptions that matched nothing are told where all was read.
		t.wholeDirty = true
	}
	for i := range missing {
		f := &missing[i]
		if now[f.Ref()] {
			continue
		}
		now[f.Ref()] = true
		if was := t.told.failures[f.Ref()]; was != nil && *was == *f {
			continue
		}
		t.told.failures[f.Ref()] = f
		if err := t.send(Event{Failure: f}); err != nil {
			return err
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(t.told.failures), FailureRef.Compare) {
		if now[ref] {
			continue
		}
		delete(t.told.failures, ref)
		if err := t.send(Event{Resolved: &Resolved{What: ResolvedFailure, Reason: whyReadable, Failure: &ref}}); err != nil {
			return err
		}
	}
	return nil
}

// tellUnread tells of the namespaces whose pods cannot be read.
func (t *Tracker) tellUnread() error {
	seen := map[string]bool{}
	for ns := range t.inNamespace {
		seen[ns] = true
	}
	now := map[string]bool{}
	for _, v := range t.reading.unread(t.start.Cluster, seen) {
		name := v.Workload.Name
		now[name] = true
		if t.told.unread[name] != nil {
			continue
		}
		t.told.unread[name] = v
		if err := t.send(Event{Verdict: v}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.told.unread)) {
		if now[name] {
			continue
		}
		v := t.told.unread[name]
		delete(t.told.unread, name)
		if err := t.takeBack(RowRef{Workload: v.Workload}, v.Verdict, whyReadable); err != nil {
			return err
		}
	}
	return nil
}

// takeBack says that a row is no more. What was told under its name without being the
// row's own has to be told again.
func (t *Tracker) takeBack(ref RowRef, was Verdict, reason string) error {
	maps.DeleteFunc(t.told.findings, func(key wholeKey, _ *Finding) bool {
		if key.row != ref {
			return false
		}
		t.wholeDirty = true
		return true
	})
	return t.send(Event{Resolved: &Resolved{What: ResolvedWorkload, Reason: reason, Workload: &ref.Workload, Claims: ref.Claims, Was: was}})
}

// tellRow tells what is other in a row than was told.
func (t *Tracker) tellRow(row *trackedRow) error {
	if row.now.verdict == nil {
		return t.dropRow(row)
	}
	counts := false
	was := make(map[string]*Finding, len(row.told.findings))
	for _, n := range row.told.findings {
		was[n.print] = n.finding
	}
	for i := range row.now.findings {
		n := &row.now.findings[i]
		old := was[n.print]
		delete(was, n.print)
		if old != nil && sameFinding(old, n.finding) {
			if sameFindingCounts(old, n.finding) {
				n.finding = old
			} else {
				counts = true
			}
			continue
		}
		if err := t.send(Event{Finding: n.finding}); err != nil {
			return err
		}
		was[n.print] = nil
	}
	if err := t.resolveFindings(row, was); err != nil {
		return err
	}
	toldFindings := tellAgain(row, was)
	switch old := row.told.verdict; {
	case old == nil || !sameVerdict(old, row.now.verdict):
		if old != nil {
			row.now.verdict.Was = old.Verdict
		}
		if err := t.send(Event{Verdict: row.now.verdict}); err != nil {
			return err
		}
		row.told.verdict = row.now.verdict
	case sameVerdictCounts(old, row.now.verdict):
		row.now.verdict = old
	default:
		counts = true
	}
	row.told.findings = toldFindings
	t.count(row, counts)
	return nil
}

// tellAgain is what has been told of the findings that hold now: those that were sent
// just now, marked by an entry in sent, as they are, the others as they were.
func tellAgain(row *trackedRow, sent map[string]*Finding) []namedFinding {
	before := make(map[string]*Finding, len(row.told.findings))
	for _, n := range row.told.findings {
		before[n.print] = n.finding
	}
	told := make([]namedFinding, len(row.now.findings))
	for i, n := range row.now.findings {
		told[i] = n
		if _, new := sent[n.print]; !new {
			told[i].finding = before[n.print]
		}
	}
	return told
}

// resolveFindings takes back what was told of a row and does not hold. Entries without a
// finding stand for what was told just now.
func (t *Tracker) resolveFindings(row *trackedRow, gone map[string]*Finding) error {
	for _, n := range row.told.findings {
		if gone[n.print] == nil {
			continue
		}
		ref := n.finding.Ref()
		err := t.send(Event{Resolved: &Resolved{
			What: ResolvedFinding, Reason: whyMended, Workload: &row.ref.Workload, Claims: row.ref.Claims,
			Was: row.told.verdict.Verdict, Finding: &ref,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// count notes whether other counts hold than were told.
func (t *Tracker) count(row *trackedRow, other bool) {
	if !other {
		row.counted = time.Time{}
		delete(t.counting, row)
		return
	}
	row.counted = t.at
	t.counting[row] = true
}

// dropRow takes back a row without pods.
func (t *Tracker) dropRow(row *trackedRow) error {
	t.count(row, false)
	if t.rows[row.ref] == row {
		delete(t.rows, row.ref)
	}
	if row.told.verdict == nil {
		return nil
	}
	reason := whyGone
	if t.reading.incomplete(row.ref.Workload.Namespace) != "" {
		reason = whyHidden
	} else if row.moved {
		reason = whyMoved
	}
	return t.takeBack(row.ref, row.told.verdict.Verdict, reason)
}

// tellCounts tells the counts that have been still for long enough.
func (t *Tracker) tellCounts() error {
	for _, row := range slices.SortedFunc(maps.Keys(t.counting), func(a, b *trackedRow) int { return RowRef.Compare(a.ref, b.ref) }) {
		if !t.settled(row.counted) {
			continue
		}
		if _, judged := t.dirty[row]; judged {
			continue
		}
		for i := range row.now.findings {
			n, told := &row.now.findings[i], &row.told.findings[i]
			if n.finding == told.finding {
				continue
			}
			again := *n.finding
			again.Recount = true
			n.finding, told.finding = &again, &again
			if err := t.send(Event{Finding: &again}); err != nil {
				return err
			}
		}
		if row.now.verdict != row.told.verdict {
			again := *row.now.verdict
			again.Was, again.Recount = row.told.verdict.Verdict, true
			row.now.verdict, row.told.verdict = &again, &again
			if err := t.send(Event{Verdict: &again}); err != nil {
				return err
			}
		}
		t.count(row, false)
	}
	return nil
}

// settled reports whether what has been so since then is still enough. A clock that was
// put back says nothing of how long that is.
func (t *Tracker) settled(since time.Time) bool {
	return t.at.Before(since) || t.at.Sub(since) >= t.opts.Settle
}

// markExceptions marks findings anew where other exceptions hold than did.
func (t *Tracker) markExceptions() {
	t.marker.now = t.at
	expired := make([]bool, len(t.marker.exceptions))
	for i := range t.marker.exceptions {
		expired[i] = t.marker.exceptions[i].Expired(t.at)
	}
	if !t.remark && slices.Equal(expired, t.expired) {
		return
	}
	t.expired, t.remark, t.wholeDirty = expired, false, true
	for _, row := range t.rows {
		row.used = make([]int, len(t.marker.exceptions))
		for _, n := range row.now.findings {
			t.marker.mark(n.finding, row.used)
		}
		t.mark(row, urgentLater)
	}
}

// pastTense is why a policy or a finding about one is taken back.
func (t *Tracker) pastTense(gone string) string {
	around := t.judge.around
	if around.armorUnknown != "" || len(around.admission.Missing) > 0 || around.nodesUnknown != "" || around.namespacesUnknown != "" {
		return whyHidden
	}
	return gone
}
