package tui

import (
	"slices"
	"time"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// workload is the view of one workload: everything that is known of it, as a text with
// items between which a cursor moves.
type workload struct {
	ref scan.RowRef
	// row is nil where nothing is known of it. It stays when the workload goes, since gone.
	row  *Row
	gone time.Time
	// lines and items are laid out for a width, and stale when they have to be again.
	// path is the row of the matrix whose reasons are read.
	lines []string
	path  string
	items []oneItem
	width int
	stale bool
	page  pager
	// at is the item under the cursor, by its name.
	at string
	// open are the items that were unfolded.
	open map[string]bool
	// head is how many lines stand above the text.
	head int
}

// itemKind is what an item is.
type itemKind int

const (
	itemPath itemKind = iota
	itemFinding
	itemLayer
	itemText
	itemAlerts
)

// oneItem is something that the cursor can stand on: the lines from and before to.
// What it is read with reaches to reach.
type oneItem struct {
	kind            itemKind
	name            string
	from, to, reach int
	finding         *scan.Finding
	path            *scan.PathLayers
	// plain is what y copies.
	plain string
}

func newWorkload(d *desk, ref scan.RowRef) *workload {
	v := &workload{ref: ref, open: map[string]bool{}, stale: true}
	if d.snap.Row(ref) == nil {
		// Who names it may not know of the owner that it claims, or of the cluster.
		for _, r := range d.snap.Rows {
			w := r.Ref.Workload
			if w == ref.Workload || ref.Workload.Cluster == "" && w.String() == ref.Workload.String() {
				v.ref = r.Ref
				break
			}
		}
	}
	v.look(d)
	return v
}

func (v *workload) look(d *desk) {
	v.stale = true
	row := d.snap.Row(v.ref)
	switch {
	case row != nil:
		v.row, v.gone = row, time.Time{}
	case v.row != nil && v.gone.IsZero():
		v.gone = d.now
	}
}

// cursor is the index of the item under the cursor, -1 where there is none.
func (v *workload) cursor() int {
	at := slices.IndexFunc(v.items, func(it oneItem) bool { return it.name == v.at })
	if at < 0 && len(v.items) > 0 {
		at = 0
	}
	return at
}

// put puts the cursor on an item and shows it.
func (v *workload) put(d *desk, item int) {
	if item < 0 || item >= len(v.items) {
		return
	}
	v.at = v.items[item].name
	v.layOut(d, v.width)
	it := &v.items[item]
	top, height := v.page.top, v.page.height
	to := it.reach
	if to-it.from > height {
		to = min(it.to, it.from+height)
	}
	switch {
	case item == 0 && to <= height:
		top = 0 // What stands before the first belongs to it.
	case it.from < top:
		top = it.from
	case to > top+height:
		top = to - height
	}
	v.page.show(top)
}

func (v *workload) update(d *desk, msg tea.Msg) tea.Cmd {
	if v.width == 0 {
		return nil // Nothing was drawn that a key could mean.
	}
	v.layOut(d, v.width)
	switch msg := msg.(type) {
	case tea.KeyMsg:
		return v.key(d, msg)
	case tea.MouseMsg:
		if v.page.update(d.keys, msg) {
			v.follow()
			return nil
		}
		if msg.Button == tea.MouseButtonLeft && msg.Action == tea.MouseActionPress && msg.Y >= v.head {
			return v.click(d, v.page.top+msg.Y-v.head)
		}
	}
	return nil
}

// click puts the cursor on the item of a line, and a second one opens it.
func (v *workload) click(d *desk, line int) tea.Cmd {
	item := slices.IndexFunc(v.items, func(it oneItem) bool { return line >= it.from && line < it.to })
	switch {
	case item < 0:
		return nil
	case item == v.cursor():
		return v.enter(d)
	}
	v.at = v.items[item].name
	v.layOut(d, v.width)
	return nil
}

func (v *workload) key(d *desk, msg tea.KeyMsg) tea.Cmd {
	k := d.keys
	switch {
	case key.Matches(msg, k.Down):
		v.down(d)
	case key.Matches(msg, k.Up):
		v.up(d)
	case key.Matches(msg, k.Top):
		v.put(d, 0)
		v.page.show(0)
	case key.Matches(msg, k.Bottom):
		v.put(d, len(v.items)-1)
		v.page.show(v.page.length)
	case key.Matches(msg, k.NextItem):
		v.jump(d, 1)
	case key.Matches(msg, k.PrevItem):
		v.jump(d, -1)
	case key.Matches(msg, k.Open):
		return v.enter(d)
	case key.Matches(msg, k.Fold):
		v.fold(d)
	case key.Matches(msg, k.Right):
		v.unfold(d, true)
	case key.Matches(msg, k.Left):
		v.unfold(d, false)
	case key.Matches(msg, k.ItsAlerts):
		return v.toAlerts()
	default:
		if v.page.update(k, msg) {
			v.follow()
		}
	}
	return nil
}

// down goes to the next item, once its beginning is seen.
func (v *workload) down(d *desk) {
	at := v.cursor()
	bottom := v.page.top + v.page.height
	switch {
	case at < 0, at == len(v.items)-1, v.items[at+1].from >= bottom:
		v.page.show(v.page.top + 1)
	default:
		v.put(d, at+1)
	}
}

// up goes to the item before, once the beginning of this one was seen.
func (v *workload) up(d *desk) {
	at := v.cursor()
	switch {
	case at < 0, at == 0, v.items[at].from < v.page.top, v.page.top-v.items[at-1].from > v.page.height:
		v.page.show(v.page.top - 1)
	default:
		v.put(d, at-1)
	}
}

// follow puts the cursor on what is seen, after the text was scrolled.
func (v *workload) follow() {
	at, top, bottom := v.cursor(), v.page.top, v.page.top+v.page.height
	if at < 0 || v.items[at].from >= top && v.items[at].from < bottom {
		return
	}
	for i := range v.items {
		if it := &v.items[i]; it.from >= top && it.from < bottom || it.from < top && it.to >= bottom {
			v.at = it.name
			return
		}
	}
}

// jump goes to the next finding, or the one before, round and round.
func (v *workload) jump(d *desk, step int) {
	n, at := len(v.items), v.cursor()
	for i := 1; i <= n; i++ {
		to := (at + i*step%n + n) % n
		if v.items[to].kind == itemFinding {
			v.put(d, to)
			return
		}
	}
}

// enter goes from a path to its finding, and from the alerts to their view; it unfolds
// everything else.
func (v *workload) enter(d *desk) tea.Cmd {
	at := v.cursor()
	if at < 0 {
		return nil
	}
	switch it := &v.items[at]; it.kind {
	case itemPath:
		to := slices.IndexFunc(v.items, func(f oneItem) bool {
			return f.kind == itemFinding && f.finding.Rule == it.path.Path && (f.finding.Container == it.path.Container || it.path.Container == "")
		})
		v.put(d, to)
	case itemAlerts:
		return v.toAlerts()
	case itemFinding, itemLayer, itemText:
		v.fold(d)
	}
	return nil
}

func (v *workload) fold(d *desk) {
	if at := v.cursor(); at >= 0 {
		v.unfold(d, !v.open[v.items[at].name])
	}
}

// unfold shows more of the item under the cursor, or less.
func (v *workload) unfold(d *desk, open bool) {
	at := v.cursor()
	if at < 0 || v.items[at].kind != itemFinding && v.items[at].kind != itemLayer {
		return
	}
	v.open[v.items[at].name] = open
	v.stale = true
	v.put(d, at)
}

// toAlerts shows the workload's alerts.
func (v *workload) toAlerts() tea.Cmd {
	return tell(gotoMsg{view: viewAlerts, filter: v.ref.Workload.String()})
}

func (v *workload) keys(d *desk) []key.Binding {
	k := d.keys
	return []key.Binding{k.Back, k.Fold, k.NextItem, k.PrevItem, k.ItsAlerts, k.Copy, k.CopyFix}
}

func (v *workload) copied(d *desk, fix bool) (what, text string) {
	if v.row == nil {
		return "", ""
	}
	v.layOut(d, max(v.width, minWidth))
	at := v.cursor()
	if at < 0 {
		return "", ""
	}
	it := &v.items[at]
	switch {
	case !fix && it.kind == itemFinding:
		return "the finding", it.plain
	case !fix:
		return "this part", it.plain
	case it.kind == itemFinding:
		if text := fixYAML(it.finding); text != "" {
			return "the fix", text
		}
		return "", ""
	}
	return copiedFixes(v.row)
}

func (v *workload) selection() (Selection, string) {
	note := "only " + v.name()
	if v.row == nil {
		return Selection{}, note
	}
	return Selection{Rows: []*Row{v.row}}, note
}

// alertsOf are the alerts of the workload, oldest first.
func (v *workload) alertsOf(s *Snapshot) []*scan.Alert {
	var mine []*scan.Alert
	for _, a := range s.Alerts {
		if a.Workload == v.ref.Workload && a.Claims == v.ref.Claims {
			mine = append(mine, a)
		}
	}
	return mine
}

// name is the workload's, with the cluster of a fleet.
func (v *workload) name() string {
	if v.row != nil {
		return v.row.name()
	}
	return v.ref.Workload.String()
}

// heading is the name of the workload for the text that is copied.
func (v *workload) heading() string {
	text := report.Clean(v.name())
	if v.row != nil && v.row.Verdict != nil {
		text += " (" + report.Clean(string(v.row.Verdict.Verdict)) + ")"
	}
	return text
}
