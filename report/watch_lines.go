package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// settle writes what changed, as much as may be listed now. At the end of a burst the
// rest is counted; before it, the rest waits.
func (t *WatchText) settle(final bool) {
	if t.left <= 0 && !final {
		return
	}
	failures := settled(t, t.batch.failures, compareFailures, func(c *change[scan.Failure]) bool { return c.was == nil || c.now == nil }, t.failure)
	nodes := settled(t, t.batch.nodes, compareNodes, visibleNode, t.node)
	policies := settled(t, t.batch.policies, ComparePolicies, visiblePolicy, t.policy)
	rows := t.settleRows()
	if !final {
		return
	}
	for _, rest := range []struct {
		n         int
		one, many string
	}{{failures, "thing that cannot be read, or can again", "things that cannot be read, or can again"}, {nodes, "node", "nodes"}, {policies, "policy", "policies"}} {
		switch {
		case rest.n == 1:
			t.line(t.clock, span{text: "and 1 more " + rest.one, style: bold})
		case rest.n > 1:
			t.line(t.clock, span{text: fmt.Sprintf("and %d more %s", rest.n, rest.many), style: bold})
		}
	}
	t.restOfRows(rows)
	t.batch = newBatch()
}

// settled writes the changes of one kind, forgets them, and returns how many wait.
func settled[K comparable, T any](t *WatchText, changes map[K]*change[T], compare func(a, b *T) int, visible func(*change[T]) bool, write func(*change[T])) int {
	maps.DeleteFunc(changes, func(_ K, c *change[T]) bool { return c.was == c.now || !visible(c) })
	names := slices.SortedFunc(maps.Keys(changes), func(a, b K) int { return compare(changes[a].finding(), changes[b].finding()) })
	for _, name := range names {
		if t.left <= 0 {
			break
		}
		t.left--
		write(changes[name])
		delete(changes, name)
	}
	return len(changes)
}

func (t *WatchText) settleRows() []*rowChange {
	maps.DeleteFunc(t.batch.rows, func(_ scan.RowRef, r *rowChange) bool { return !r.says() })
	rows := slices.SortedFunc(maps.Values(t.batch.rows), compareChanges)
	for len(rows) > 0 && t.left > 0 {
		t.left--
		t.rowLines(rows[0])
		delete(t.batch.rows, rows[0].ref)
		rows = rows[1:]
	}
	return rows
}

// restOfRows counts the rows that are not listed.
func (t *WatchText) restOfRows(rows []*rowChange) {
	if len(rows) == 0 {
		return
	}
	counts := map[string]int{}
	var turns []string
	var at time.Time
	for _, r := range rows {
		at = later(at, r.at)
		turn := r.turn()
		if counts[turn] == 0 {
			turns = append(turns, turn)
		}
		counts[turn]++
	}
	for i, turn := range turns {
		turns[i] = fmt.Sprintf("%d %s", counts[turn], turn)
	}
	t.line(at, span{text: "and " + plural(len(rows), "more workload") + ":", style: bold}, span{text: strings.Join(turns, "; ")})
}

// rowLines say what happened to a workload.
func (t *WatchText) rowLines(r *rowChange) {
	if r.was == nil && r.now == nil {
		t.findingLines(r, true)
		return
	}
	name := span{text: workloadName(r.ref.Workload, t.state.Start()), style: bold}
	if r.now == nil {
		t.line(r.at, span{text: "GONE", pad: len("EXPOSED")}, name, span{text: "was " + Clean(string(r.was.Verdict))}, span{text: Clean(r.reason)})
		return
	}
	spans := []span{verdictSpan(r.now.Verdict), name, {text: beforehand(r)}}
	if r.now.Severity != "" {
		spans = append(spans, span{text: Clean(string(r.now.Severity)), style: severityStyle(r.now.Severity)})
	}
	if r.now.Pods > 0 {
		spans = append(spans, span{text: plural(r.now.Pods, "pod")})
	}
	if r.now.Claims != "" {
		spans = append(spans, span{text: "claims " + Clean(r.now.Claims), style: doubtful})
	}
	reason := span{text: Clean(r.now.Reason), style: dim}
	bad, same := r.rank() <= verdictRank(scan.VerdictGuarded), r.was != nil && r.was.Verdict == r.now.Verdict
	switch {
	case t.width == 0:
		t.line(r.at, append(spans, reason)...)
	case (bad || same) && (r.was == nil || r.was.Reason != r.now.Reason):
		// Of a verdict that stays the reason is what is new.
		t.line(r.at, spans...)
		t.below(reason)
	default:
		t.line(r.at, spans...)
	}
	t.findingLines(r, false)
}

// beforehand is what the verdict was before.
func beforehand(r *rowChange) string {
	switch {
	case r.was == nil:
		return "new"
	case r.was.Verdict == r.now.Verdict:
		return "still"
	}
	return "was " + Clean(string(r.was.Verdict))
}

// findingLines say which findings of a row are new, gone or other than they were.
func (t *WatchText) findingLines(r *rowChange, alone bool) {
	list, most := r.visible(), mostFindings
	if t.width == 0 {
		most = mostLogged
	}
	for i, f := range list {
		if i == most && len(list) > most+1 {
			t.restOfFindings(r, list[i:])
			return
		}
		spans := t.findingSpans(f, alone || t.width == 0)
		if alone || t.width == 0 {
			t.line(f.at, spans...)
		} else {
			t.below(spans...)
		}
	}
}

func (t *WatchText) restOfFindings(r *rowChange, list []*change[scan.Finding]) {
	counts := map[string]int{}
	for _, f := range list {
		counts[strings.ToLower(findingWord(f).text)]++
	}
	var parts []string
	for _, word := range []string{"new", "changed", "gone"} {
		if counts[word] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[word], word))
		}
	}
	spans := []span{{text: fmt.Sprintf("and %d more findings: %s", len(list), strings.Join(parts, ", ")), style: dim}}
	if t.width > 0 {
		t.below(spans...)
		return
	}
	t.line(r.at, append(spans, span{text: workloadName(r.ref.Workload, t.state.Start())})...)
}

// findingSpans are one finding; named says which workload too.
func (t *WatchText) findingSpans(c *change[scan.Finding], named bool) []span {
	f := c.finding()
	row := findingRow{Finding: f, elements: 1}
	spans := []span{findingWord(c), severitySpan(f.Severity), {text: Clean(f.Rule), style: bold}}
	if named {
		spans = append(spans, span{text: workloadName(f.Workload, t.state.Start())})
	}
	spans = append(spans, span{text: row.containers()})
	if f.Field != "" {
		spans = append(spans, span{text: row.field(t.width > 0)})
	}
	if c.now == nil {
		return append(spans, span{text: Clean(c.reason), style: dim})
	}
	if f.Field != "" && f.Category != scan.CategoryPolicy && f.Category != scan.CategoryKernel {
		spans = append(spans, span{text: t.change(row)})
	}
	if c.was != nil && c.was.Severity != f.Severity {
		spans = append(spans, span{text: "was " + Clean(string(c.was.Severity))})
	}
	if c.was != nil && c.was.Excepted != nil && f.Excepted == nil {
		spans = append(spans, span{text: "excepted no more", style: yellow})
	}
	spans = append(spans, marks(f)...)
	if named {
		spans = append(spans, span{text: Clean(f.Message), style: dim})
	}
	return spans
}

func findingWord(c *change[scan.Finding]) span {
	s := span{text: "CHANGED", pad: len("CHANGED")}
	switch {
	case c.was == nil:
		s.text, s.style = "NEW", red
	case c.now == nil:
		s.text, s.style = "GONE", green
	}
	return s
}

func (t *WatchText) failure(c *change[scan.Failure]) {
	if c.now != nil {
		t.line(c.at, unreadSpans(c.now)...)
		return
	}
	t.line(c.at, span{text: "READ AGAIN", style: green}, span{text: Clean(subject(c.was)), style: bold}, span{text: Clean(c.reason)})
}

func compareNodes(a, b *scan.Node) int { return strings.Compare(a.Name, b.Name) }

// visibleNode reports whether a node came, went, or enforces otherwise.
func visibleNode(c *change[scan.Node]) bool {
	if c.was == nil || c.now == nil {
		return true
	}
	return nodeText(c.was) != nodeText(c.now)
}

func nodeText(n *scan.Node) string {
	text := n.KernelVersion + "\x00" + n.OSImage
	if n.Enforcement != nil {
		text += fmt.Sprint(enforcementSpans(n.Enforcement))
	}
	return text
}

func (t *WatchText) node(c *change[scan.Node]) {
	n := c.finding()
	spans := []span{{text: "NODE", style: bold, pad: len("EXPOSED")}, {text: Clean(n.Name), style: bold}}
	switch {
	case c.now == nil:
		t.line(c.at, append(spans, span{text: "gone"}, span{text: Clean(c.reason)})...)
		return
	case c.was == nil:
		spans = append(spans, span{text: "new"})
	default:
		spans = append(spans, span{text: "changed"})
	}
	spans = append(spans, span{text: Clean(n.OSImage)}, span{text: Clean(labelled("kernel", n.KernelVersion))})
	if e := n.Enforcement; e != nil {
		spans = append(append(spans, enforcementSpans(e)...), span{text: Clean(e.Reason), style: dim})
	}
	t.line(c.at, spans...)
}

// visiblePolicy reports whether a policy came, went, or does otherwise.
func visiblePolicy(c *change[scan.Policy]) bool {
	if c.was == nil || c.now == nil {
		return true
	}
	return c.was.Bites != c.now.Bites || c.was.Action != c.now.Action || !slices.Equal(c.was.Reasons, c.now.Reasons)
}

func (t *WatchText) policy(c *change[scan.Policy]) {
	p := c.finding()
	spans := []span{{text: "POLICY", style: bold, pad: len("EXPOSED")}, {text: Clean(policyName(p)), style: bold}}
	if c.now == nil {
		t.line(c.at, append(spans, span{text: "gone"}, span{text: Clean(c.reason)})...)
		return
	}
	bites := biteSpan(p.Bites)
	bites.text, bites.pad = bitesWords(p.Bites), 0
	spans = append(spans, span{text: Clean(p.Action)}, bites)
	switch {
	case c.was == nil:
		spans = append(spans, span{text: "new"})
	case c.was.Bites != p.Bites:
		spans = append(spans, span{text: "before: " + bitesWords(c.was.Bites)})
	}
	t.line(c.at, append(spans, span{text: Clean(strings.Join(p.Reasons, "; ")), style: dim})...)
}

// bitesWords is whether a policy bites, as a phrase.
func bitesWords(b scan.Bite) string {
	switch b {
	case scan.BitesYes:
		return "bites"
	case scan.BitesPartly:
		return "bites partly"
	case scan.BitesNo:
		return "does not bite"
	case scan.BitesUnknown:
	}
	return "not known whether it bites"
}
