package tui

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// workRow is a row of the list, with what it is sorted and chosen by.
type workRow struct {
	*Row
	filtered
	// rank is that of the verdict, weight that of the severity, and index the place in the
	// order of names.
	rank, weight, index int
	pods, open          int
	// exception marks what is no workload: an exception that does not do its work.
	exception bool
}

// workGroup are the rows of a namespace, or the exceptions.
type workGroup struct {
	name       string
	exceptions bool
	rows       []*workRow
	// tally counts verdicts, in the order of scan.Verdicts.
	tally [5]int
}

// workLine is a line of the list: a row, or the head of a group.
type workLine struct {
	group *workGroup
	row   *workRow
}

// lineName is what a line is known by from one picture to the next.
type lineName struct {
	ref   scan.RowRef
	group string
	head  bool
}

func (l *workLine) name() lineName {
	if l.row == nil {
		return lineName{group: l.group.name, head: true}
	}
	return lineName{ref: l.row.Ref}
}

// workOrder is what rows are sorted by.
type workOrder int

// The orders, in the order in which s goes through them.
const (
	byVerdict workOrder = iota
	bySeverity
	byName
	byPaths
	byPods
	workOrders
)

func (o workOrder) String() string {
	return [...]string{"verdict", "severity", "name", "paths", "pods"}[o]
}

// exceptionsGroup is the name of the last group.
const exceptionsGroup = "exceptions that do not work"

// newWorkRow is nil for what is shown elsewhere: findings about policies and nodes.
func newWorkRow(r *Row, index int) *workRow {
	w := &workRow{Row: r, index: index, rank: verdictRank(r)}
	if r.Verdict == nil {
		exception, belongs := false, false
		for _, f := range r.Findings {
			exception = exception || f.Category == scan.CategoryException
			belongs = belongs || f.Category == scan.CategoryEscape || f.Category == scan.CategoryPSS
		}
		if !exception && !belongs {
			return nil
		}
		w.exception = exception
		if !exception {
			// Its findings are known and its verdict is not, which is no good news.
			w.rank, w.verdict = unknownRank, scan.VerdictUnknown
		}
	} else {
		w.verdict, w.paths = r.Verdict.Verdict, r.Verdict.Paths
		w.pods, w.open = r.Verdict.Pods, len(r.Verdict.Paths)
	}
	w.workload, w.severity = r.Ref.Workload, rowSeverity(r)
	w.weight = w.severity.Rank()
	return w
}

// unknownRank is the rank of scan.VerdictUnknown.
const unknownRank = 1

// rowSeverity is that of the worst open path, or of the worst finding that counts.
func rowSeverity(r *Row) scan.Severity {
	var worst scan.Severity
	if r.Verdict != nil {
		worst = r.Verdict.Severity
	}
	for _, f := range r.Findings {
		if f.Excepted == nil && f.Severity.Rank() > worst.Rank() {
			worst = f.Severity
		}
	}
	return worst
}

// compare orders rows, without the order of names, which comes last.
func (o workOrder) compare(a, b *workRow) int {
	switch o {
	case byVerdict:
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(b.weight, a.weight))
	case bySeverity:
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.rank, b.rank))
	case byPaths:
		return cmp.Compare(b.open, a.open)
	case byPods:
		return cmp.Compare(b.pods, a.pods)
	case byName, workOrders:
	}
	return cmp.Compare(a.index, b.index)
}

// workTable is what the list draws of a snapshot: it is made when it is needed, once.
type workTable struct {
	// all are the rows of the snapshot, rows those that the filter chose, sorted.
	all, rows []*workRow
	lines     []workLine
	// total and matched count workloads, without the exceptions.
	total, matched int
	tally          [5]int
	// layered is true where the layers of any were judged, claims where any claims an owner.
	layered, claims bool
}

// take makes the rows of a snapshot.
func (t *workTable) take(rows []*Row) {
	*t = workTable{all: make([]*workRow, 0, len(rows))}
	for i, r := range rows {
		w := newWorkRow(r, i)
		if w == nil {
			continue
		}
		t.all = append(t.all, w)
		if w.exception {
			continue
		}
		t.total++
		t.layered = t.layered || r.Verdict != nil && r.Verdict.Layers != nil
		t.claims = t.claims || r.Ref.Claims != ""
	}
}

// arrange chooses, sorts and groups the rows.
func (t *workTable) arrange(f *filter, order workOrder, reverse, flat bool, folded map[string]bool) {
	t.rows = make([]*workRow, 0, len(t.all))
	t.matched, t.tally = 0, [5]int{}
	plain := slices.ContainsFunc(f.terms, func(t filterTerm) bool { return t.key == "" })
	for _, w := range t.all {
		if plain && w.text == "" {
			// Letters that are typed find it made.
			w.text = strings.ToLower(w.name())
		}
		if !f.empty() && !f.matches(&w.filtered) {
			continue
		}
		t.rows = append(t.rows, w)
		if !w.exception {
			t.matched++
			t.tally[w.rank]++
		}
	}
	slices.SortFunc(t.rows, func(a, b *workRow) int {
		if a.exception != b.exception {
			if b.exception {
				return -1
			}
			return 1
		}
		c := order.compare(a, b)
		if reverse {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(a.index, b.index))
	})
	t.lines = make([]workLine, 0, len(t.rows)+16)
	groups := groupWorkRows(t.rows)
	for _, g := range groups {
		if !flat || g.exceptions {
			t.lines = append(t.lines, workLine{group: g})
		}
		if folded[g.name] && (!flat || g.exceptions) {
			continue
		}
		if flat && !g.exceptions {
			continue
		}
		for _, w := range g.rows {
			t.lines = append(t.lines, workLine{group: g, row: w})
		}
	}
	if !flat {
		return
	}
	loose := make([]workLine, 0, len(t.rows)+1)
	for _, w := range t.rows {
		if !w.exception {
			loose = append(loose, workLine{row: w})
		}
	}
	t.lines = append(loose, t.lines...)
}

// groupWorkRows puts sorted rows into groups, each where its first row stands.
func groupWorkRows(rows []*workRow) []*workGroup {
	var groups []*workGroup
	by := map[string]*workGroup{}
	for _, w := range rows {
		name := w.workload.Namespace
		if w.Cluster != "" {
			name = inCluster(w.Cluster, cmp.Or(name, "(no namespace)"))
		}
		if w.exception {
			name = exceptionsGroup
		}
		g := by[name]
		if g == nil {
			g = &workGroup{name: name, exceptions: w.exception}
			by[name] = g
			groups = append(groups, g)
		}
		g.rows = append(g.rows, w)
		if !w.exception {
			g.tally[w.rank]++
		}
	}
	return groups
}

// find is the line of a name, or -1. A row that is folded away is found in its head.
func (t *workTable) find(name lineName) int {
	at := slices.IndexFunc(t.lines, func(l workLine) bool { return l.name() == name })
	if at < 0 && !name.head {
		at = slices.IndexFunc(t.lines, func(l workLine) bool {
			return l.row == nil && slices.ContainsFunc(l.group.rows, func(w *workRow) bool { return w.Ref == name.ref })
		})
	}
	return at
}

// freshFor is how long a row is marked that changed.
const freshFor = time.Minute

// rowChange is what became of a row after the first picture, and when.
type rowChange struct {
	at  time.Time
	new bool
	was scan.Verdict
}

// changesOf adds the rows that are new, or whose verdict is another, from one snapshot
// to the next. Both are in the order of names.
func changesOf(into map[scan.RowRef]rowChange, before, after *Snapshot, now time.Time) {
	for ref, c := range into {
		if now.Sub(c.at) >= freshFor {
			delete(into, ref)
		}
	}
	if before == nil || !before.Pictured {
		return
	}
	i := 0
	for _, r := range after.Rows {
		for i < len(before.Rows) && before.Rows[i] != r && before.Rows[i].Ref.Compare(r.Ref) < 0 {
			i++
		}
		var old *Row
		if i < len(before.Rows) && (before.Rows[i] == r || before.Rows[i].Ref == r.Ref) {
			old = before.Rows[i]
		}
		switch {
		case old == r || r.Verdict == nil:
		case old == nil || old.Verdict == nil:
			into[r.Ref] = rowChange{at: now, new: true}
		case old.Verdict.Verdict != r.Verdict.Verdict:
			into[r.Ref] = rowChange{at: now, was: old.Verdict.Verdict}
		}
	}
}
