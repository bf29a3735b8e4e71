package tui

import (
	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// alertsWide is from how many cells on the list and an alert stand side by side.
const alertsWide = 110

// alerts shows what was done in containers, the latest first, and of which times that is
// not known.
type alerts struct {
	filter alertFilter
	bar    filterBar

	// held is the picture at which the list was made to stand still, nil while it moves.
	held *Snapshot
	// stale is true where what is below was made of an older picture or filter.
	stale bool
	items []alertItem
	// shown is how many of them are alerts.
	shown int
	// texts are the alerts in small letters, as far as a filter asked; nextTexts are those
	// of the picture that is taken in.
	texts, nextTexts map[*scan.Alert]string
	tally            alertTally

	// at is the name of the line's thing that the cursor is on. It stays on it, where on
	// the screen it stands too; follow is true while it stays on the first line instead.
	at     itemID
	follow bool
	lines  list
	// unfolded are those that have their detail below them, and begins the line at which
	// each item begins.
	unfolded map[itemID]bool
	begins   []int

	// opened is what is shown alone, nil for the list.
	opened *alertItem
	page   pager
	// The size at which it was drawn last, and how many lines stood above the list.
	width, above int
}

func newAlerts() *alerts {
	return &alerts{bar: filterBar{more: alertKeys()}, stale: true, follow: true, unfolded: map[itemID]bool{}}
}

func (v *alerts) look(d *desk) {
	v.stale = true
	if v.opened != nil {
		v.opened = v.opened.latest(d.snap)
	}
}

func (v *alerts) typing() bool { return v.bar.open }

func (v *alerts) keys(d *desk) []key.Binding {
	k := d.keys
	switch {
	case v.bar.open:
		return v.bar.keys(d)
	case v.opened != nil:
		next, prev := k.NextItem, k.PrevItem
		next.SetHelp("n", "next")
		prev.SetHelp("N", "one before")
		return []key.Binding{k.Back, k.Goto, next, prev, k.Copy}
	}
	keys := []key.Binding{k.Open, k.Fold, k.Goto, k.Filter, k.Class, k.Incidents, k.Pause}
	if v.filtering() {
		keys = append(keys, k.Clear)
	}
	return keys
}

func (v *alerts) update(d *desk, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case gotoMsg:
		v.goTo(msg)
	case tea.KeyMsg:
		switch {
		case v.bar.open:
			return v.typed(d, msg)
		case v.opened != nil:
			return v.openedKey(d, msg)
		}
		return v.key(d, msg)
	case tea.MouseMsg:
		return v.mouse(d, msg)
	default:
		if v.bar.open {
			_, _, cmd := v.bar.update(d, msg)
			return cmd
		}
	}
	return nil
}

// goTo shows what another view asks for: the alerts of one workload, or those that match
// a text.
func (v *alerts) goTo(msg gotoMsg) {
	v.opened = nil
	if msg.filter == "" {
		return
	}
	v.filter, v.bar.open = alertFilter{}, false
	v.bar.set("")
	if w, err := report.ParseWorkload(msg.filter); err == nil {
		v.filter.workload = w.String()
	} else {
		v.bar.set(msg.filter)
	}
	v.again()
}

// again is for a new filter: the list begins at its first line.
func (v *alerts) again() {
	v.stale, v.follow, v.at = true, true, itemID{}
	v.lines.cursor, v.lines.top = 0, 0
}

// typed is a key in the line of the filter. The list shows at once what comes of it.
func (v *alerts) typed(d *desk, msg tea.KeyMsg) tea.Cmd {
	used, changed, cmd := v.bar.update(d, msg)
	if changed {
		v.again()
	}
	if !used {
		v.arrange(d)
		v.moved(v.lines.key(d.keys, msg))
	}
	return cmd
}

func (v *alerts) key(d *desk, msg tea.KeyMsg) tea.Cmd {
	k := d.keys
	v.arrange(d)
	switch {
	case key.Matches(msg, k.Filter):
		v.bar.start(d)
	case key.Matches(msg, k.Clear):
		v.clear()
	case key.Matches(msg, k.Class):
		v.filter.class = nextClass(v.filter.class)
		v.again()
	case key.Matches(msg, k.Incidents):
		v.filter.incidents = !v.filter.incidents
		v.again()
	case key.Matches(msg, k.Pause):
		if v.held == nil {
			v.held = d.snap
		} else {
			v.held, v.stale = nil, true
		}
	case key.Matches(msg, k.Back):
		switch {
		case v.held != nil:
			v.held, v.stale = nil, true
		default:
			v.clear()
		}
	case key.Matches(msg, k.Fold):
		v.fold()
	case key.Matches(msg, k.Right):
		v.unfold(true)
	case key.Matches(msg, k.Left):
		v.unfold(false)
	case key.Matches(msg, k.Open):
		v.open(v.chosen())
	case key.Matches(msg, k.Goto):
		return v.toWorkload(d, v.chosen())
	default:
		v.moved(v.lines.key(k, msg))
	}
	return nil
}

// clear shows all again.
func (v *alerts) clear() {
	if v.filtering() || v.bar.text != "" {
		v.filter = alertFilter{}
		v.bar.set("")
		v.again()
	}
}

// openedKey is a key while one alert is shown alone.
func (v *alerts) openedKey(d *desk, msg tea.KeyMsg) tea.Cmd {
	k := d.keys
	switch {
	case key.Matches(msg, k.Back), key.Matches(msg, k.Left):
		v.opened = nil
	case key.Matches(msg, k.Goto):
		return v.toWorkload(d, v.opened)
	case key.Matches(msg, k.NextItem):
		v.step(d, 1)
	case key.Matches(msg, k.PrevItem):
		v.step(d, -1)
	default:
		v.page.update(k, msg)
	}
	return nil
}

// step shows the next of the list alone.
func (v *alerts) step(d *desk, by int) {
	v.arrange(d)
	if len(v.items) == 0 {
		return
	}
	i := max(0, min(v.item()+by, len(v.items)-1))
	v.at, v.follow = v.items[i].id(), false
	v.lines.move(v.begin(i))
	v.open(v.chosen())
}

func (v *alerts) mouse(d *desk, msg tea.MouseMsg) tea.Cmd {
	if v.opened != nil {
		v.page.update(d.keys, msg)
		return nil
	}
	if msg.Button == tea.MouseButtonLeft && msg.X >= v.listWidth(v.width) {
		return nil
	}
	v.arrange(d)
	before := v.lines.cursor
	used, clicked := v.lines.update(d.keys, msg, v.above)
	v.moved(used)
	if clicked && v.lines.cursor == before {
		v.open(v.chosen())
	}
	return nil
}

// moved takes in that the user moved the cursor: to the first line is to follow.
func (v *alerts) moved(used bool) {
	if !used {
		return
	}
	v.follow = v.lines.cursor == 0
	if it := v.chosen(); it != nil {
		v.at = it.id()
	}
}

func (v *alerts) fold() {
	if it := v.chosen(); it != nil {
		v.unfold(!v.unfolded[it.id()])
	}
}

// unfold shows the detail below the line of the cursor, or no more.
func (v *alerts) unfold(open bool) {
	it := v.chosen()
	switch {
	case it == nil:
	case open:
		v.unfolded[it.id()] = true
		v.follow, v.at, v.stale = false, it.id(), true
	case v.unfolded[it.id()]:
		v.lines.cursor = v.begin(v.item())
		delete(v.unfolded, it.id())
		v.stale = true
	}
}

func (v *alerts) open(it *alertItem) {
	if it != nil {
		v.opened, v.page = it, pager{}
		v.follow, v.at = false, it.id()
	}
}

// toWorkload opens the workload of an alert, if it is in the picture.
func (v *alerts) toWorkload(d *desk, it *alertItem) tea.Cmd {
	ref, ok := it.ref()
	switch {
	case !ok:
		return tell(flashMsg{text: "no workload is named here"})
	case d.snap.Row(ref) == nil:
		return tell(flashMsg{text: clean(ref.Workload.String(), 60) + " is not in the picture", isErr: true})
	}
	return tell(openMsg{ref})
}

// here is what copying is about: what is shown alone, or the cursor's.
func (v *alerts) here(d *desk) *alertItem {
	if v.opened != nil {
		return v.opened
	}
	v.arrange(d)
	return v.chosen()
}

func (v *alerts) copied(d *desk, fix bool) (what, text string) {
	it := v.here(d)
	switch {
	case it == nil:
		return "", ""
	case fix:
		return "the fixes", it.fixes(d)
	case it.lost != nil:
		return "the gap", plainLines(lostDetail(d, it.lost))
	}
	return "the alert", plainLines(alertDetail(d, it.alert))
}

// selection is what the list shows, or what is shown alone.
func (v *alerts) selection(d *desk) (Selection, string) {
	switch it := v.opened; {
	case it == nil:
	case it.alert != nil:
		return Selection{Alerts: []*scan.Alert{it.alert}}, "only one alert"
	default:
		return Selection{Lost: []*scan.Lost{it.lost}}, "only one gap in the alerts"
	}
	v.arrange(d)
	var part Selection
	for i := range v.items {
		// A report has the oldest first.
		switch it := v.items[len(v.items)-1-i]; {
		case it.alert != nil:
			part.Alerts = append(part.Alerts, it.alert)
		default:
			part.Lost = append(part.Lost, it.lost)
		}
	}
	note := "alerts"
	if text := v.chosenWords(); text != "" {
		note += ": " + text
	}
	return part, note
}

// nextClass is the class after one, in a circle that begins with all of them.
func nextClass(c scan.AlertClass) scan.AlertClass {
	all := append([]scan.AlertClass{""}, scan.AlertClasses()...)
	for i, other := range all {
		if other == c {
			return all[(i+1)%len(all)]
		}
	}
	return ""
}
