package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// workloads is the list of the workloads, and the view of one of them above it.
type workloads struct {
	list    list
	bar     filterBar
	table   workTable
	order   workOrder
	reverse bool
	// flat is true where rows are not grouped by namespace; folded are groups.
	flat   bool
	folded map[string]bool
	// stale is true when the rows are those of a snapshot of before, dirty when they have
	// to be chosen and sorted anew.
	stale, dirty bool
	// at is the line under the cursor. Before moved it is the first, whatever comes.
	at    lineName
	moved bool
	// chosen is true when the filter is another: what it hid, the cursor does not follow.
	chosen bool
	// seen is the snapshot before, of which changes tells what became since.
	seen    *Snapshot
	changes map[scan.RowRef]rowChange
	// head is how many lines stand above the list.
	head int
	// one is the workload that is shown, nil for the list.
	one *workload
}

func newWorkloads() *workloads {
	return &workloads{list: list{height: 1}, folded: map[string]bool{}, changes: map[scan.RowRef]rowChange{}, stale: true}
}

func (v *workloads) look(d *desk) {
	changesOf(v.changes, v.seen, d.snap, d.now)
	v.seen, v.stale = d.snap, true
	if v.one != nil {
		v.one.look(d)
	}
}

// settle makes the lines anew where something has changed.
func (v *workloads) settle(d *desk) {
	if v.stale {
		v.table.take(d.snap.Rows)
	}
	if !v.stale && !v.dirty {
		return
	}
	v.stale, v.dirty = false, false
	v.table.arrange(&v.bar.filter, v.order, v.reverse, v.flat, v.folded)
	v.list.length = len(v.table.lines)
	to := 0
	if v.moved {
		to = v.table.find(v.at)
		if to < 0 && v.chosen {
			to = 0
		} else if to < 0 {
			to = v.list.cursor
		}
	}
	v.chosen = false
	v.goTo(to)
}

// goTo puts the cursor on a line.
func (v *workloads) goTo(line int) {
	v.list.move(line)
	if l := v.line(); l != nil {
		v.at = l.name()
	}
}

// line is the line under the cursor, nil where there is none.
func (v *workloads) line() *workLine {
	if v.list.cursor >= len(v.table.lines) {
		return nil
	}
	return &v.table.lines[v.list.cursor]
}

func (v *workloads) update(d *desk, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case gotoMsg:
		v.one = nil
		if msg.filter != "" {
			v.choose(msg.filter)
		}
		return nil
	case openMsg:
		v.one = newWorkload(d, msg.ref)
		return nil
	}
	if v.bar.open {
		return v.typed(d, msg)
	}
	_, mouse := msg.(tea.MouseMsg)
	pressed, ok := msg.(tea.KeyMsg)
	if !ok && !mouse {
		return nil
	}
	if v.one != nil {
		if ok && key.Matches(pressed, d.keys.Back) {
			v.one = nil
			return nil
		}
		return v.one.update(d, msg)
	}
	v.settle(d)
	before := v.list.cursor
	if used, clicked := v.list.update(d.keys, msg, v.head); used {
		v.moved = true
		v.goTo(v.list.cursor)
		if clicked && v.list.cursor == before {
			v.enter(d)
		}
		return nil
	}
	if ok {
		v.key(d, pressed)
	}
	return nil
}

// typed takes in what comes while a filter is typed.
func (v *workloads) typed(d *desk, msg tea.Msg) tea.Cmd {
	used, changed, cmd := v.bar.update(d, msg)
	if changed {
		v.dirty, v.chosen = true, true
	}
	if pressed, ok := msg.(tea.KeyMsg); ok && !used {
		v.settle(d)
		if v.list.key(d.keys, pressed) {
			v.moved = true
			v.goTo(v.list.cursor)
		}
	}
	return cmd
}

func (v *workloads) key(d *desk, msg tea.KeyMsg) {
	k := d.keys
	switch {
	case key.Matches(msg, k.Open):
		v.enter(d)
	case key.Matches(msg, k.Right):
		v.fold(false)
	case key.Matches(msg, k.Left):
		v.fold(true)
	case key.Matches(msg, k.Fold):
		if l := v.line(); l != nil && l.group != nil {
			v.fold(!v.folded[l.group.name])
		}
	case key.Matches(msg, k.Filter):
		v.bar.start(d)
	case key.Matches(msg, k.Clear):
		v.choose("")
	case key.Matches(msg, k.Sort):
		v.order, v.dirty = (v.order+1)%workOrders, true
	case key.Matches(msg, k.Reverse):
		v.reverse, v.dirty = !v.reverse, true
	case key.Matches(msg, k.Group):
		v.flat, v.dirty = !v.flat, true
	case key.Matches(msg, k.Verdict):
		v.choose(setFilterValue(v.bar.text, keyVerdict, nextVerdict(filterValue(v.bar.text, keyVerdict))))
	}
}

// choose sets another filter.
func (v *workloads) choose(text string) {
	if v.bar.set(text) {
		v.dirty, v.chosen = true, true
	}
}

// nextVerdict is the one behind a verdict, worst first; behind the last is none.
func nextVerdict(text string) string {
	all := scan.Verdicts()
	at := slices.Index(all, scan.Verdict(text)) + 1
	if at == len(all) {
		return ""
	}
	return string(all[at])
}

// enter opens the row under the cursor, and folds or unfolds a group.
func (v *workloads) enter(d *desk) {
	switch l := v.line(); {
	case l == nil:
	case l.row == nil:
		v.fold(!v.folded[l.group.name])
	default:
		v.one = newWorkload(d, l.row.Ref)
	}
}

// fold hides the rows of the group under the cursor, or shows them.
func (v *workloads) fold(hide bool) {
	l := v.line()
	if l == nil || l.group == nil || v.folded[l.group.name] == hide {
		return
	}
	v.folded[l.group.name], v.moved, v.dirty = hide, true, true
	if hide {
		v.at = lineName{group: l.group.name, head: true}
	}
}

func (v *workloads) keys(d *desk) []key.Binding {
	k := d.keys
	switch {
	case v.bar.open:
		return v.bar.keys(d)
	case v.one != nil:
		return v.one.keys(d)
	}
	list := []key.Binding{k.Open, k.Filter}
	if v.bar.text != "" {
		list = append(list, k.Clear)
	}
	return append(list, k.Verdict, k.Sort, k.Reverse, k.Group, k.Fold)
}

func (v *workloads) typing() bool { return v.bar.open }

func (v *workloads) copied(d *desk, fix bool) (what, text string) {
	if v.one != nil {
		return v.one.copied(d, fix)
	}
	v.settle(d)
	l := v.line()
	switch {
	case l == nil:
		return "", ""
	case l.row != nil && fix:
		return copiedFixes(l.row.Row)
	case l.row != nil:
		return "the workload", rowText(l.row)
	case fix:
		return "", ""
	}
	var b strings.Builder
	for _, w := range l.group.rows {
		b.WriteString(rowText(w) + "\n")
	}
	return counted(len(l.group.rows), "row"), strings.TrimSuffix(b.String(), "\n")
}

// rowText is a row in one line, for people to paste.
func rowText(w *workRow) string {
	if w.exception {
		f := w.Findings[0]
		return report.Clean(fmt.Sprintf("%s: %s (%s)", w.workload.Name, f.Message, f.Rule))
	}
	text := fmt.Sprintf("%s: %s", w.workload, w.verdict)
	if w.Verdict == nil {
		return report.Clean(text)
	}
	if w.severity != "" {
		text += ", " + string(w.severity)
	}
	text += ": " + w.Verdict.Reason
	if len(w.paths) > 0 {
		text += " (open: " + strings.Join(w.paths, ", ") + ")"
	}
	return report.Clean(text)
}

func (v *workloads) selection(d *desk) (Selection, string) {
	if v.one != nil {
		return v.one.selection()
	}
	if v.bar.filter.empty() {
		return d.snap.All(), ""
	}
	v.settle(d)
	rows := make([]*Row, len(v.table.rows))
	for i, w := range v.table.rows {
		rows[i] = w.Row
	}
	return Selection{Rows: rows}, v.bar.note()
}
