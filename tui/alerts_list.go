package tui

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// alertItem is one thing of the list: an alert, or a gap.
type alertItem struct {
	alert *scan.Alert
	lost  *scan.Lost
	// told is when it was told first, among the others, and at its time, for the order.
	told int
	at   int64
}

// itemID is the name of a thing of the list, which stays the same while it goes on.
type itemID struct {
	lost bool
	id   string
}

// id is its name.
func (it *alertItem) id() itemID {
	if it.alert != nil {
		return itemID{false, it.alert.ID}
	}
	return itemID{true, it.lost.ID}
}

// kind orders alerts and gaps of one time: a gap comes after.
func (it *alertItem) kind() int {
	if it.lost != nil {
		return 0
	}
	return 1
}

// lostTime is when a gap changed last: one that lasts stands where it began.
func lostTime(l *scan.Lost) time.Time {
	if l.To.IsZero() {
		return l.From
	}
	return l.To
}

// ref is the row of its workload; ok is false where none is named.
func (it *alertItem) ref() (ref scan.RowRef, ok bool) {
	switch {
	case it == nil:
	case it.alert != nil && it.alert.Workload.Name != "":
		return scan.RowRef{Workload: it.alert.Workload, Claims: it.alert.Claims}, true
	case it.lost != nil && it.lost.Workload != nil:
		return scan.RowRef{Workload: *it.lost.Workload}, true
	}
	return scan.RowRef{}, false
}

// latest is what a picture says of it now, or itself where that was forgotten.
func (it *alertItem) latest(s *Snapshot) *alertItem {
	if it.alert != nil {
		for _, a := range s.Alerts {
			if a.ID == it.alert.ID {
				return &alertItem{alert: a}
			}
		}
		return it
	}
	for _, l := range s.Lost {
		if l.ID == it.lost.ID {
			return &alertItem{lost: l}
		}
	}
	return it
}

// alertFilter chooses alerts, beside the text that is typed. The zero value chooses all.
type alertFilter struct {
	class     scan.AlertClass
	incidents bool
	// workload is the one name of a workload whose alerts are chosen, empty for all.
	workload string
}

// keyClass is the key of classes in the text.
const keyClass = "class"

// alertKeys are the keys of the text that only alerts have.
func alertKeys() []filterKey {
	var classes []string
	for _, c := range scan.AlertClasses() {
		// A value has no blanks.
		classes = append(classes, strings.ReplaceAll(string(c), " ", "-"))
	}
	return []filterKey{{name: keyClass, values: classes}}
}

// String says what is chosen, empty for everything.
func (f *alertFilter) String() string {
	var words []string
	if f.class != "" {
		words = append(words, string(f.class))
	}
	if f.incidents {
		words = append(words, "incidents")
	}
	if f.workload != "" {
		words = append(words, "of "+report.Clean(f.workload))
	}
	return strings.Join(words, ", ")
}

// shows reports whether an alert is chosen.
func (v *alerts) shows(a *scan.Alert) bool {
	f := &v.filter
	switch {
	case f.class != "" && a.Class != f.class, f.incidents && !a.Incident:
		return false
	case f.workload != "" && a.Workload.String() != f.workload:
		return false
	case v.bar.filter.empty():
		return true
	}
	verdict := a.Verdict
	if verdict == "" {
		verdict = scan.VerdictUnknown
	}
	return v.bar.filter.matches(&filtered{
		workload: a.Workload, verdict: verdict, severity: a.Severity, paths: a.Paths,
		text: v.text(a),
		more: func(string) string { return strings.ReplaceAll(string(a.Class), " ", "-") },
	})
}

// text is what plain words are looked for in of an alert. It is kept as long as the alert
// is in the picture.
func (v *alerts) text(a *scan.Alert) string {
	text, known := v.texts[a]
	if !known {
		text = searchText(a.Workload.String(), a.Process, a.Resource, a.Policy, a.Container, a.Pod, a.Node, a.Reason)
	}
	v.nextTexts[a] = text
	return text
}

// showsLost is shows for a gap: what is missing may be what is looked for, unless it is
// of another workload.
func (v *alerts) showsLost(l *scan.Lost) bool {
	if l.Workload == nil {
		return true
	}
	var named filter
	for _, t := range v.bar.filter.terms {
		if t.key == "" || t.key == keyNamespace || t.key == keyKind {
			named.terms = append(named.terms, t)
		}
	}
	return (v.filter.workload == "" || l.Workload.String() == v.filter.workload) && named.matches(&filtered{
		workload: *l.Workload, text: searchText(l.Workload.String(), l.Container, l.Pod, l.Node, l.Message),
	})
}

// searchText is what plain words are looked for in. No word reaches over two texts.
func searchText(texts ...string) string { return strings.ToLower(strings.Join(texts, "\n")) }

// filtering is whether anything may be hidden.
func (v *alerts) filtering() bool { return v.filter != (alertFilter{}) || !v.bar.filter.empty() }

// chosenWords say what is shown, empty for everything.
func (v *alerts) chosenWords() string {
	words := v.filter.String()
	if note := v.bar.note(); note != "" {
		if words != "" {
			words += ", "
		}
		words += note
	}
	return words
}

// alertTally counts all alerts of a picture, whatever is shown of them.
type alertTally struct {
	alerts, incidents int
	// times is how often they were raised.
	times   int
	byClass map[scan.AlertClass]int
	// lasting are the gaps that last, and lasts the one of them that began first.
	lasting int
	lasts   *scan.Lost
}

// picture is what is listed: that of now, or that of when it was made to stand still.
func (v *alerts) picture(d *desk) *Snapshot {
	if v.held != nil {
		return v.held
	}
	return d.snap
}

// arrange makes the list anew, where it is of an older picture.
func (v *alerts) arrange(d *desk) {
	if !v.stale {
		return
	}
	v.stale = false
	s := v.picture(d)
	v.items = v.items[:0]
	v.tally = alertTally{alerts: len(d.snap.Alerts), byClass: map[scan.AlertClass]int{}}
	for _, a := range d.snap.Alerts {
		v.tally.byClass[a.Class]++
		v.tally.times += a.Count
		if a.Incident {
			v.tally.incidents++
		}
	}
	for _, l := range d.snap.Lost {
		if !l.To.IsZero() || !d.snap.Live() {
			continue
		}
		if v.tally.lasting++; v.tally.lasts == nil || l.From.Before(v.tally.lasts.From) {
			v.tally.lasts = l
		}
	}
	v.nextTexts = map[*scan.Alert]string{}
	// What is told last goes before what was told at the same time.
	for i, a := range slices.Backward(s.Alerts) {
		if v.shows(a) {
			v.items = append(v.items, alertItem{alert: a, told: i, at: a.Last.UnixNano()})
		}
	}
	v.shown = len(v.items)
	v.texts, v.nextTexts = v.nextTexts, nil
	for i, l := range slices.Backward(s.Lost) {
		if v.showsLost(l) {
			v.items = append(v.items, alertItem{lost: l, told: i, at: lostTime(l).UnixNano()})
		}
	}
	slices.SortFunc(v.items, func(a, b alertItem) int {
		return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.told, a.told), cmp.Compare(b.kind(), a.kind()))
	})
	v.forgetFolds(s)
	v.place(d)
}

// forgetFolds forgets the folds of what is in the picture no more.
func (v *alerts) forgetFolds(s *Snapshot) {
	if len(v.unfolded) == 0 {
		return
	}
	kept := map[itemID]bool{}
	for _, a := range s.Alerts {
		if id := (itemID{false, a.ID}); v.unfolded[id] {
			kept[id] = true
		}
	}
	for _, l := range s.Lost {
		if id := (itemID{true, l.ID}); v.unfolded[id] {
			kept[id] = true
		}
	}
	v.unfolded = kept
}

// place puts the cursor on the thing that it was on, and the thing where it stood.
func (v *alerts) place(d *desk) {
	within, row := 0, v.lines.cursor-v.lines.top
	if i := v.item(); i < len(v.begins) {
		within = v.lines.cursor - v.begins[i]
	}
	v.measure(d)
	if v.follow || v.at == (itemID{}) {
		v.lines.cursor, v.lines.top = 0, 0
		v.lines.fit(v.lines.length, v.lines.height)
	} else if i := slices.IndexFunc(v.items, func(it alertItem) bool { return it.id() == v.at }); i >= 0 {
		v.lines.cursor = min(v.begin(i)+within, v.end(i)-1)
		v.lines.top = v.lines.cursor - row
		v.lines.fit(v.lines.length, v.lines.height)
	}
	if it := v.chosen(); it != nil {
		v.at = it.id()
	}
}

// measure counts the lines of each item.
func (v *alerts) measure(d *desk) {
	v.begins = v.begins[:0]
	at := 0
	for i := range v.items {
		v.begins = append(v.begins, at)
		at++
		if len(v.unfolded) > 0 && v.unfolded[v.items[i].id()] {
			at += len(v.below(d, &v.items[i]))
		}
	}
	v.lines.fit(at, v.lines.height)
}

// begin is the line of an item.
func (v *alerts) begin(item int) int {
	if item < len(v.begins) {
		return v.begins[item]
	}
	return 0
}

// end is the line behind an item.
func (v *alerts) end(item int) int {
	if item+1 < len(v.begins) {
		return v.begins[item+1]
	}
	return v.lines.length
}

// itemOf is the item to which a line belongs.
func (v *alerts) itemOf(line int) int {
	i, found := slices.BinarySearchFunc(v.begins, line, func(begin, line int) int { return cmp.Compare(begin, line) })
	if !found {
		i--
	}
	return max(i, 0)
}

// item is the item that the cursor is on.
func (v *alerts) item() int { return v.itemOf(v.lines.cursor) }

// chosen is the thing that the cursor is on, nil where there is none.
func (v *alerts) chosen() *alertItem {
	if i := v.item(); i < len(v.items) {
		it := v.items[i]
		return &it
	}
	return nil
}
