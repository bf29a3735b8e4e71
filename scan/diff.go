package scan

import (
	"cmp"
	"maps"
	"slices"
)

// Diff is what is other in a later run than in an earlier one. Counts of pods alone are
// no change. All lists are sorted, the worst first.
type Diff struct {
	Old, New *DiffSide
	// Differences are what is other about the runs themselves: a change may be due to
	// that, and not to the cluster.
	Differences []Difference
	// Opened are findings that are new, Closed those that are seen to be gone.
	Opened, Closed []FindingPair
	// Excepted are findings that an exception covers now, Unexcepted those that none
	// covers any more.
	Excepted, Unexcepted []FindingPair
	// Severities are findings that weigh more, or less, than before.
	Severities []FindingPair
	Verdicts   []VerdictPair
	// Came and Went are workloads that only one of the runs has.
	Came, Went []Pair[WorkloadVerdict]
	// Policies are those that came, went, began or ceased to bite; Nodes those that came,
	// went, or enforce otherwise.
	Policies []Pair[Policy]
	Nodes    []Pair[Node]
	// Unread is what could not be read only in the new run, Readable what could not in
	// the old one and was read now.
	Unread, Readable []*Failure
	// NotKnown is what the old run had and the new one could not have seen. It may be
	// there still.
	NotKnown NotKnown
}

// NotKnown is what is not listed as gone because nobody looked. Doubt says why.
type NotKnown struct {
	Findings  []FindingPair
	Workloads []Pair[WorkloadVerdict]
	Policies  []Pair[Policy]
	Nodes     []Pair[Node]
	Failures  []Pair[Failure]
}

// Pair is something as it was in the old run and as it is in the new one; nil where that
// run does not tell of it.
type Pair[T any] struct {
	Was, Now *T
	// Doubt says why the other run may not have seen it, or not as it was; empty where it
	// would have.
	Doubt string
}

// Either is the later of the two that is there.
func (p *Pair[T]) Either() *T {
	if p.Now != nil {
		return p.Now
	}
	return p.Was
}

// FindingPair is a finding of both runs, or of one.
type FindingPair struct {
	Pair[Finding]
	// With is true where the workload itself is in one of the runs only.
	With bool
}

// Turn is which way a verdict went.
type Turn string

// The turns.
const (
	TurnWorse  Turn = "worse"
	TurnBetter Turn = "better"
	// TurnUnknown: it is not known any more, which is neither.
	TurnUnknown Turn = "unknown"
)

// VerdictPair is a verdict that is another now.
type VerdictPair struct {
	Pair[WorkloadVerdict]
	Turn Turn
	// Excepted is true where every way out that is open now is covered by an exception.
	Excepted bool
}

// Difference is something that is other about the runs themselves.
type Difference struct {
	What string `json:"what"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Compare tells what is other in a later run than in an earlier one.
func Compare(old, new *DiffSide) *Diff {
	if old.clusters != nil || new.clusters != nil {
		return compareFleets(old, new)
	}
	d := &Diff{Old: old, New: new, Differences: differences(old, new)}
	for _, ref := range d.refs() {
		d.compareRow(ref)
	}
	d.comparePolicies()
	d.compareNodes()
	d.compareFailures()
	d.sort()
	return d
}

// Empty reports whether nothing is other.
func (d *Diff) Empty() bool {
	n := &d.NotKnown
	return len(d.Opened)+len(d.Closed)+len(d.Excepted)+len(d.Unexcepted)+len(d.Severities)+len(d.Verdicts)+
		len(d.Came)+len(d.Went)+len(d.Policies)+len(d.Nodes)+len(d.Unread)+len(d.Readable)+
		len(n.Findings)+len(n.Workloads)+len(n.Policies)+len(n.Nodes)+len(n.Failures) == 0
}

// AtLeast counts what is as bad as gate, or worse, and was not before: findings that are
// new, that no exception covers any more, or that were less severe, and workloads that
// became exposed. What an exception covers does not count, and what may only have been
// hidden from the old run does.
func (d *Diff) AtLeast(gate Severity) (findings, verdicts int) {
	for i := range d.Opened {
		if f := d.Opened[i].Now; f.Excepted == nil && f.Severity.AtLeast(gate) {
			findings++
		}
	}
	for i := range d.Unexcepted {
		if d.Unexcepted[i].Now.Severity.AtLeast(gate) {
			findings++
		}
	}
	for i := range d.Severities {
		p := &d.Severities[i]
		if p.Was.Excepted == nil && p.Now.Excepted == nil && p.Now.Severity.AtLeast(gate) && !p.Was.Severity.AtLeast(gate) {
			findings++
		}
	}
	for i := range d.Verdicts {
		p := &d.Verdicts[i]
		if p.Now.Verdict == VerdictExposed && !p.Excepted && p.Now.Severity.AtLeast(gate) {
			verdicts++
		}
	}
	return findings, verdicts
}

// ofOld and ofNew make a sentence of what a run says of itself.
func ofOld(why string) string { return prefixed("the old run ", why) }
func ofNew(why string) string { return prefixed("the new run ", why) }

func prefixed(subject, why string) string {
	if why == "" {
		return ""
	}
	return subject + why
}

// refs are the rows of both runs, in the order of their names.
func (d *Diff) refs() []RowRef {
	refs := slices.Collect(maps.Keys(d.Old.rows))
	for ref := range d.New.rows {
		if d.Old.rows[ref] == nil {
			refs = append(refs, ref)
		}
	}
	slices.SortFunc(refs, RowRef.Compare)
	return refs
}

func (d *Diff) compareRow(ref RowRef) {
	was, now := d.Old.rows[ref], d.New.rows[ref]
	if was == nil {
		was = &diffRow{}
	}
	if now == nil {
		now = &diffRow{}
	}
	with := (was.verdict == nil) != (now.verdict == nil)
	switch {
	case with && now.verdict != nil:
		d.Came = append(d.Came, Pair[WorkloadVerdict]{Now: now.verdict, Doubt: ofOld(d.Old.hidesRow(ref, d.New))})
	case with:
		p := Pair[WorkloadVerdict]{Was: was.verdict, Doubt: ofNew(d.New.hidesRow(ref, d.Old))}
		if p.Doubt == "" {
			d.Went = append(d.Went, p)
		} else {
			d.NotKnown.Workloads = append(d.NotKnown.Workloads, p)
		}
	case was.verdict != nil && was.verdict.Verdict != now.verdict.Verdict:
		d.Verdicts = append(d.Verdicts, d.verdictPair(ref, was.verdict, now))
	}
	d.compareFindings(ref, was, now, with)
}

// verdictPair is a verdict that changed. One that is better may be so because not all was
// seen now, and one that is worse because not all was seen then.
func (d *Diff) verdictPair(ref RowRef, was *WorkloadVerdict, now *diffRow) VerdictPair {
	p := VerdictPair{Pair: Pair[WorkloadVerdict]{Was: was, Now: now.verdict}, Excepted: now.excepted()}
	rank := slices.Index(Verdicts(), p.Now.Verdict) - slices.Index(Verdicts(), was.Verdict)
	switch {
	case p.Now.Verdict == VerdictUnknown:
		p.Turn = TurnUnknown
	case rank < 0:
		p.Turn, p.Doubt = TurnWorse, ofOld(d.Old.hidesRow(ref, d.New))
	default:
		p.Turn, p.Doubt = TurnBetter, ofNew(d.New.hidesRow(ref, d.Old))
	}
	return p
}

func (d *Diff) compareFindings(ref RowRef, was, now *diffRow, with bool) {
	for print, before := range was.findings {
		both, gone, come := pairAlike(before, now.findings[print])
		for _, pair := range both {
			d.compareFinding(pair[0], pair[1])
		}
		for _, f := range gone {
			p := FindingPair{Pair[Finding]{Was: f, Doubt: ofNew(d.New.hides(ref, f, d.Old))}, with}
			if p.Doubt == "" {
				d.Closed = append(d.Closed, p)
			} else {
				d.NotKnown.Findings = append(d.NotKnown.Findings, p)
			}
		}
		d.opened(ref, come, with)
	}
	for print, after := range now.findings {
		if len(was.findings[print]) == 0 {
			d.opened(ref, after, with)
		}
	}
}

func (d *Diff) opened(ref RowRef, come []*Finding, with bool) {
	for _, f := range come {
		d.Opened = append(d.Opened, FindingPair{Pair[Finding]{Now: f, Doubt: ofOld(d.Old.hides(ref, f, d.New))}, with})
	}
}

// compareFinding is of one that both runs have.
func (d *Diff) compareFinding(was, now *Finding) {
	p := FindingPair{Pair: Pair[Finding]{Was: was, Now: now}}
	switch {
	case was.Excepted == nil && now.Excepted != nil:
		d.Excepted = append(d.Excepted, p)
	case was.Excepted != nil && now.Excepted == nil:
		d.Unexcepted = append(d.Unexcepted, p)
	}
	if was.Severity != now.Severity {
		d.Severities = append(d.Severities, p)
	}
}

func (d *Diff) comparePolicies() {
	for _, was := range d.Old.state.Policies() {
		ref := policyName(was)
		now := d.New.state.Policy(ref)
		switch {
		case now == nil:
			p := Pair[Policy]{Was: was, Doubt: ofNew(d.New.hidesThing(ref.Namespace, hidesPolicies, d.Old))}
			if p.Doubt == "" {
				d.Policies = append(d.Policies, p)
			} else {
				d.NotKnown.Policies = append(d.NotKnown.Policies, p)
			}
		case now.Bites != was.Bites:
			// Whether it bites is known of what was seen: either run may have seen less.
			then, since := ofOld(d.Old.hidesThing(ref.Namespace, hidesLayers, d.New)), ofNew(d.New.hidesThing(ref.Namespace, hidesLayers, d.Old))
			doubt := cmp.Or(since, then)
			if now.Bites != BitesUnknown && biteRank(now.Bites) < biteRank(was.Bites) {
				doubt = cmp.Or(then, since)
			}
			d.Policies = append(d.Policies, Pair[Policy]{Was: was, Now: now, Doubt: doubt})
		}
	}
	for _, now := range d.New.state.Policies() {
		if d.Old.state.Policy(policyName(now)) == nil {
			d.Policies = append(d.Policies, Pair[Policy]{Now: now, Doubt: ofOld(d.Old.hidesThing(now.Namespace, hidesPolicies, d.New))})
		}
	}
}

// biteRank counts from the worst.
func biteRank(b Bite) int {
	return slices.Index([]Bite{BitesNo, BitesUnknown, BitesPartly, BitesYes}, b)
}

func (d *Diff) compareNodes() {
	for _, was := range d.Old.state.Nodes() {
		now := d.New.state.Node(NodeRef{Name: was.Name})
		switch {
		case now == nil:
			p := Pair[Node]{Was: was, Doubt: ofNew(d.New.hidesThing("", hidesNodes, d.Old))}
			if p.Doubt == "" {
				d.Nodes = append(d.Nodes, p)
			} else {
				d.NotKnown.Nodes = append(d.NotKnown.Nodes, p)
			}
		case !sameEnforcement(was, now):
			d.Nodes = append(d.Nodes, Pair[Node]{Was: was, Now: now})
		}
	}
	for _, now := range d.New.state.Nodes() {
		if d.Old.state.Node(NodeRef{Name: now.Name}) == nil {
			d.Nodes = append(d.Nodes, Pair[Node]{Now: now, Doubt: ofOld(d.Old.hidesThing("", hidesNodes, d.New))})
		}
	}
}

// sameEnforcement reports whether two pictures of a node say the same of what it
// enforces, and as surely.
func sameEnforcement(a, b *Node) bool {
	x, y := a.Enforcement, b.Enforcement
	if x == nil || y == nil {
		return x == y
	}
	return x.Capabilities == y.Capabilities && x.Processes == y.Processes && x.Grade == y.Grade
}

// failureKey names what could not be read whatever the message.
type failureKey struct{ subject, namespace string }

func failureKeys(s *State) map[failureKey]bool {
	keys := map[failureKey]bool{}
	for _, f := range s.Failures() {
		keys[failureKey{f.Subject, f.Namespace}] = true
	}
	return keys
}

func (d *Diff) compareFailures() {
	was, now := failureKeys(d.Old.state), failureKeys(d.New.state)
	for _, f := range d.New.state.Failures() {
		if !was[failureKey{f.Subject, f.Namespace}] {
			d.Unread = append(d.Unread, f)
		}
	}
	for _, f := range d.Old.state.Failures() {
		if now[failureKey{f.Subject, f.Namespace}] {
			continue
		}
		if doubt := ofNew(d.New.unasked(f, d.Old)); doubt != "" {
			d.NotKnown.Failures = append(d.NotKnown.Failures, Pair[Failure]{Was: f, Doubt: doubt})
			continue
		}
		d.Readable = append(d.Readable, f)
	}
}

func (d *Diff) sort() {
	for _, list := range [][]FindingPair{d.Opened, d.Closed, d.Excepted, d.Unexcepted, d.Severities, d.NotKnown.Findings} {
		slices.SortFunc(list, comparePairs)
	}
	slices.SortFunc(d.Verdicts, func(a, b VerdictPair) int {
		return cmp.Or(cmp.Compare(turnRank(a.Turn), turnRank(b.Turn)), compareVerdictPairs(a.Pair, b.Pair))
	})
	for _, list := range [][]Pair[WorkloadVerdict]{d.Came, d.Went, d.NotKnown.Workloads} {
		slices.SortFunc(list, compareVerdictPairs)
	}
	slices.SortFunc(d.Policies, func(a, b Pair[Policy]) int {
		x, y := a.Either(), b.Either()
		return cmp.Or(cmp.Compare(biteRank(x.Bites), biteRank(y.Bites)), cmp.Compare(x.Layer, y.Layer),
			cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Cluster, y.Cluster))
	})
	slices.SortFunc(d.Nodes, func(a, b Pair[Node]) int { return a.Either().Ref().Compare(b.Either().Ref()) })
}

func turnRank(t Turn) int { return slices.Index([]Turn{TurnWorse, TurnUnknown, TurnBetter}, t) }

// comparePairs puts first what counts and weighs most.
func comparePairs(a, b FindingPair) int {
	x, y := a.Either(), b.Either()
	excepted := 0
	if (x.Excepted != nil) != (y.Excepted != nil) {
		excepted = 1
		if y.Excepted != nil {
			excepted = -1
		}
	}
	return cmp.Or(excepted, cmp.Compare(y.Severity.Rank(), x.Severity.Rank()),
		RowRef.Compare(nameless(x.Workload, x.Claims), nameless(y.Workload, y.Claims)), compareAlike(x, y),
		cmp.Compare(x.Workload.Cluster, y.Workload.Cluster))
}

func compareVerdictPairs(a, b Pair[WorkloadVerdict]) int {
	x, y := a.Either(), b.Either()
	was := 0
	if a.Was != nil && b.Was != nil {
		was = cmp.Compare(slices.Index(Verdicts(), b.Was.Verdict), slices.Index(Verdicts(), a.Was.Verdict))
	}
	return cmp.Or(cmp.Compare(slices.Index(Verdicts(), x.Verdict), slices.Index(Verdicts(), y.Verdict)),
		cmp.Compare(y.Severity.Rank(), x.Severity.Rank()), was,
		RowRef.Compare(nameless(x.Workload, x.Claims), nameless(y.Workload, y.Claims)),
		cmp.Compare(x.Workload.Cluster, y.Workload.Cluster))
}
