package metrics

import (
	"slices"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// tally counts things by what is told of them.
type tally[K comparable] map[K]int

func (t tally[K]) add(k K, n int) {
	if t[k] += n; t[k] == 0 {
		delete(t, k)
	}
}

// The labels under which things are counted.
type (
	findingKey struct {
		rule, severity, category string
		excepted                 bool
	}
	pathKey struct {
		rule, severity    string
		guarded, excepted bool
	}
	nodeKey   struct{ capabilities, processes, grade string }
	policyKey struct{ layer, bites string }
)

// picture is what was told and not taken back, as far as it is counted: what
// scan.State keeps, with only the labels of each thing.
type picture struct {
	rows     map[scan.RowRef]*row
	nodes    map[string]nodeKey
	policies map[scan.PolicyRef]policyKey
	failures map[scan.FailureRef]string

	findings  tally[findingKey]
	paths     tally[pathKey]
	verdicts  tally[string]
	byNode    tally[nodeKey]
	byPolicy  tally[policyKey]
	byFailure tally[string]
	pods      int
}

// row is what was told of one row. Its verdict is empty where there is none.
type row struct {
	verdict  string
	pods     int
	findings map[string]found
}

// found is where one finding is counted; open tells whether it is a path too.
type found struct {
	findingKey
	open, guarded bool
}

func (f found) path() pathKey { return pathKey{f.rule, f.severity, f.guarded, f.excepted} }

func newPicture() *picture {
	return &picture{
		rows: map[scan.RowRef]*row{}, nodes: map[string]nodeKey{},
		policies: map[scan.PolicyRef]policyKey{}, failures: map[scan.FailureRef]string{},
		findings: tally[findingKey]{}, paths: tally[pathKey]{}, verdicts: tally[string]{},
		byNode: tally[nodeKey]{}, byPolicy: tally[policyKey]{}, byFailure: tally[string]{},
	}
}

// take counts an event of the picture, in the place of what was told before of the
// same thing.
func (p *picture) take(e scan.Event, k *known) {
	switch {
	case e.Node != nil:
		p.dropNode(e.Node.Name)
		key := k.node(e.Node)
		p.nodes[e.Node.Name] = key
		p.byNode.add(key, 1)
	case e.Policy != nil:
		p.dropPolicy(e.Policy.Ref())
		key := policyKey{k.layer(e.Policy.Layer), k.bite(e.Policy.Bites)}
		p.policies[e.Policy.Ref()] = key
		p.byPolicy.add(key, 1)
	case e.Failure != nil:
		p.dropFailure(e.Failure.Ref())
		key := k.failure(e.Failure.Reason)
		p.failures[e.Failure.Ref()] = key
		p.byFailure.add(key, 1)
	case e.Finding != nil:
		p.find(e.Finding, k)
	case e.Verdict != nil:
		r := p.row(scan.RowRef{Workload: e.Verdict.Workload, Claims: e.Verdict.Claims})
		p.dropVerdict(r)
		r.verdict, r.pods = k.verdict(e.Verdict.Verdict), e.Verdict.Pods
		p.verdicts.add(r.verdict, 1)
		p.pods += r.pods
	case e.Resolved != nil:
		p.resolve(e.Resolved)
	}
}

func (p *picture) row(ref scan.RowRef) *row {
	r := p.rows[ref]
	if r == nil {
		r = &row{findings: map[string]found{}}
		p.rows[ref] = r
	}
	return r
}

func (p *picture) find(f *scan.Finding, k *known) {
	r := p.row(scan.RowRef{Workload: f.Workload, Claims: f.Claims})
	name := f.Fingerprint()
	p.dropFinding(r, name)
	is := found{
		findingKey: findingKey{k.rule(f.Rule), k.severity(f.Severity), k.category(f.Category), f.Excepted != nil},
		open:       f.Category == scan.CategoryEscape && f.Open, guarded: f.Guarded,
	}
	r.findings[name] = is
	p.findings.add(is.findingKey, 1)
	if is.open {
		p.paths.add(is.path(), 1)
	}
}

func (p *picture) resolve(r *scan.Resolved) {
	switch r.What {
	case scan.ResolvedFinding:
		if r.Workload != nil && r.Finding != nil {
			p.dropOne(scan.RowRef{Workload: *r.Workload, Claims: r.Claims}, r.Finding.Fingerprint)
		}
	case scan.ResolvedWorkload:
		if r.Workload != nil {
			p.dropRow(scan.RowRef{Workload: *r.Workload, Claims: r.Claims})
		}
	case scan.ResolvedNode:
		p.dropNode(r.Node)
	case scan.ResolvedPolicy:
		if r.Policy != nil {
			p.dropPolicy(*r.Policy)
		}
	case scan.ResolvedFailure:
		if r.Failure != nil {
			p.dropFailure(*r.Failure)
		}
	}
}

func (p *picture) dropOne(ref scan.RowRef, fingerprint string) {
	r := p.rows[ref]
	if r == nil {
		return
	}
	p.dropFinding(r, fingerprint)
	if r.verdict == "" && len(r.findings) == 0 {
		delete(p.rows, ref)
	}
}

func (p *picture) dropRow(ref scan.RowRef) {
	r := p.rows[ref]
	if r == nil {
		return
	}
	p.dropVerdict(r)
	for name := range r.findings {
		p.dropFinding(r, name)
	}
	delete(p.rows, ref)
}

func (p *picture) dropVerdict(r *row) {
	if r.verdict != "" {
		p.verdicts.add(r.verdict, -1)
		p.pods -= r.pods
	}
	r.verdict, r.pods = "", 0
}

func (p *picture) dropFinding(r *row, fingerprint string) {
	was, told := r.findings[fingerprint]
	if !told {
		return
	}
	p.findings.add(was.findingKey, -1)
	if was.open {
		p.paths.add(was.path(), -1)
	}
	delete(r.findings, fingerprint)
}

func (p *picture) dropNode(name string) {
	if was, told := p.nodes[name]; told {
		p.byNode.add(was, -1)
		delete(p.nodes, name)
	}
}

func (p *picture) dropPolicy(ref scan.PolicyRef) {
	if was, told := p.policies[ref]; told {
		p.byPolicy.add(was, -1)
		delete(p.policies, ref)
	}
}

func (p *picture) dropFailure(ref scan.FailureRef) {
	if was, told := p.failures[ref]; told {
		p.byFailure.add(was, -1)
		delete(p.failures, ref)
	}
}

// known are the values that labels can have. What is none of them becomes "other":
// a recording that is played may hold anything.
type known struct {
	rules   []scan.Rule
	ruleIDs map[string]bool
}

func newKnown() known {
	k := known{rules: scan.Rules(), ruleIDs: map[string]bool{}}
	for _, r := range k.rules {
		k.ruleIDs[r.ID] = true
	}
	return k
}

func (k *known) rule(id string) string {
	if k.ruleIDs[id] {
		return id
	}
	return other
}

func (k *known) severity(s scan.Severity) string     { return among(s, scan.Severities()) }
func (k *known) verdict(v scan.Verdict) string       { return among(v, scan.Verdicts()) }
func (k *known) category(c scan.Category) string     { return among(c, categories()) }
func (k *known) layer(l scan.Layer) string           { return among(l, layers()) }
func (k *known) bite(b scan.Bite) string             { return among(b, bites()) }
func (k *known) failure(f scan.FailureReason) string { return among(f, failureReasons()) }

// node is what a node enforces. A node of which nothing was judged is unknown.
func (k *known) node(n *scan.Node) nodeKey {
	if n.Enforcement == nil {
		return nodeKey{string(kernel.Unknown), string(kernel.Unknown), ungraded}
	}
	answers := []kernel.Answer{kernel.Yes, kernel.No, kernel.Unknown}
	key := nodeKey{among(n.Enforcement.Capabilities, answers), among(n.Enforcement.Processes, answers), ungraded}
	if n.Enforcement.Grade != "" {
		key.grade = among(n.Enforcement.Grade, []kernel.Grade{kernel.Proven, kernel.Claimed, kernel.Hinted})
	}
	return key
}

// ungraded is the grade of an answer that rests on nothing.
const ungraded = "none"

func among[T ~string](value T, all []T) string {
	if slices.Contains(all, value) {
		return string(value)
	}
	return other
}

func categories() []scan.Category {
	return []scan.Category{scan.CategoryPSS, scan.CategoryEscape, scan.CategoryException, scan.CategoryPolicy, scan.CategoryKernel}
}

func layers() []scan.Layer { return []scan.Layer{scan.LayerAdmission, scan.LayerRuntime} }

func bites() []scan.Bite {
	return []scan.Bite{scan.BitesYes, scan.BitesPartly, scan.BitesNo, scan.BitesUnknown}
}

func failureReasons() []scan.FailureReason {
	return []scan.FailureReason{
		scan.FailureForbidden, scan.FailureNotFound, scan.FailureTimeout, scan.FailureUnreachable,
		scan.FailureInterrupted, scan.FailureInvalid, scan.FailureTooLarge, scan.FailureRead,
	}
}
