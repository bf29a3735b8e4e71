package tui

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// remedyChoices is the form: what is to be planned.
type remedyChoices struct {
	sheet
	restricted, audit, some bool
	// admission is true where the set is to have that part alone.
	admission bool
	chosen    map[string]bool
	// asked is true once the namespaces that the run is limited to were chosen.
	asked bool
	// accepted are the workloads whose breaking is accepted, by their names. Other choices
	// break others.
	accepted map[string]bool
	// fields are what the items of the sheet are about, "" for text.
	fields []string
	// word is what has to be said of the form.
	word string
	// stale is true where the sheet was made of an older picture or other choices.
	stale bool
}

// The fields of the form. Those of namespaces have their name behind fieldNamespace.
const (
	fieldLevel     = "level"
	fieldAction    = "action"
	fieldParts     = "parts"
	fieldScope     = "scope"
	fieldNamespace = "namespace/"
)

// ask is what the form asks for.
func (f *remedyChoices) ask() RemedyAsk {
	ask := RemedyAsk{Level: psa.LevelBaseline, Action: set.ActionBlock}
	if f.restricted {
		ask.Level = psa.LevelRestricted
	}
	if f.audit {
		ask.Action = set.ActionAudit
	}
	if f.some {
		ask.Namespaces = slices.Sorted(maps.Keys(f.chosen))
	}
	if f.admission {
		ask.Only = []set.Part{set.PartAdmission}
	}
	ask.Accept = slices.Sorted(maps.Keys(f.accepted))
	return ask
}

// scopeText says for whom something is.
func (a *RemedyAsk) scopeText() string {
	switch n := len(a.Namespaces); {
	case n == 0:
		return "all namespaces"
	case n <= 3:
		return strings.Join(a.Namespaces, ", ")
	default:
		return fmt.Sprintf("%s and %d more", strings.Join(a.Namespaces[:2], ", "), n-2)
	}
}

// command is the command line that plans the same.
func (a *RemedyAsk) command() string {
	where := "-A"
	if len(a.Namespaces) > 0 {
		where = "-n " + strings.Join(a.Namespaces, ",")
	}
	words := []string{"escape-scanner remediate plan", where, "--level", string(a.Level), "--action", string(a.Action)}
	for _, part := range a.Only {
		words = append(words, "--only", string(part))
	}
	for _, workload := range a.Accept {
		words = append(words, "--accept", workload)
	}
	return report.Clean(strings.Join(words, " "))
}

// lacking says what the form lacks before a plan can be made of it, empty for nothing.
func (f *remedyChoices) lacking() string {
	if f.some && len(f.chosen) == 0 {
		return "no namespace is chosen: choose some with space, or all of them"
	}
	return ""
}

// key changes the form. changed is true where it asks for something else now.
func (f *remedyChoices) key(d *desk, msg tea.Msg, offset int) (changed bool) {
	f.refresh(d)
	at, _ := f.where()
	press, ok := msg.(tea.KeyMsg)
	if !ok {
		_, opened := f.click(d.keys, msg, offset)
		return opened && f.change(at, 0)
	}
	switch {
	case key.Matches(press, d.keys.Choose), key.Matches(press, d.keys.Open):
		return f.change(at, 0)
	case key.Matches(press, d.keys.Right):
		return f.change(at, 1)
	case key.Matches(press, d.keys.Left):
		return f.change(at, -1)
	}
	f.step(d.keys, press)
	return false
}

// change changes a field: to the other choice, or with a direction to the one that lies
// there.
func (f *remedyChoices) change(item, direction int) bool {
	if item < 0 {
		return false
	}
	flip := func(b *bool) bool {
		was := *b
		*b = direction > 0 || direction == 0 && !was
		return *b != was
	}
	changed := false
	name, isNamespace := strings.CutPrefix(f.fields[item], fieldNamespace)
	switch field := f.fields[item]; {
	case field == fieldLevel:
		changed = flip(&f.restricted)
	case field == fieldAction:
		changed = flip(&f.audit)
	case field == fieldParts:
		changed = flip(&f.admission)
	case field == fieldScope:
		changed = flip(&f.some)
	case isNamespace && slices.Contains(targets.Always(), name):
		f.word = name + " is never in scope"
		return false
	case isNamespace:
		is := f.chosen[name]
		changed = flip(&is)
		delete(f.chosen, name)
		if is {
			f.chosen[name] = true
		}
	}
	if changed {
		f.stale = true
		clear(f.accepted)
	}
	return changed
}

// refresh makes the lines anew after a picture or a choice.
func (f *remedyChoices) refresh(d *desk) {
	if !f.stale {
		return
	}
	if s := d.snap.Start; !f.asked && s != nil {
		// Who looks at some namespaces means these.
		f.asked = true
		for _, ns := range s.Namespaces {
			f.some, f.chosen[ns] = true, true
		}
	}
	at, within := f.where()
	was := fieldLevel
	if at >= 0 {
		was = f.fields[at]
	}
	f.fields = nil
	var items []sheetItem
	add := func(field string, item sheetItem) {
		f.fields, items = append(f.fields, field), append(items, item)
	}
	t := d.theme
	if d.opts.Remedy == nil {
		for _, line := range noRemedyText(d) {
			add("", textItem("", line, t.poor))
		}
		add("", blankItem())
	}
	add(fieldLevel, f.choice(t, "level", []string{"baseline", "restricted"}, f.restricted, "what Pod Security calls so is refused at admission"))
	add(fieldAction, f.choice(t, "action", []string{"block", "audit"}, f.audit, "block refuses, audit only reports"))
	add(fieldParts, f.choice(t, "parts", []string{"the whole set", "admission"}, f.admission, "without KubeArmor only admission can refuse"))
	add(fieldScope, f.choice(t, "scope", []string{"all namespaces", "chosen ones"}, f.some, f.scopeHint()))
	if f.some {
		f.namespaces(d, add)
	}
	add("", blankItem())
	f.about(d, add)
	if i := slices.Index(f.fields, was); was != "" && i >= 0 {
		at = i
	}
	f.fill(items, at, within)
	f.stale = false
}

func blankItem() sheetItem {
	return sheetItem{lay: func(int, bool) []sheetLine { return drawn("") }}
}

func (f *remedyChoices) scopeHint() string {
	if f.some {
		return counted(len(f.chosen), "namespace") + " chosen"
	}
	return "namespaces to come too"
}

// choice is a field of two choices, of which the one in brackets is chosen.
func (f *remedyChoices) choice(t *theme, name string, texts []string, second bool, hint string) sheetItem {
	return sheetItem{lay: func(width int, _ bool) []sheetLine {
		line := pad(name, 7)
		for i, text := range texts {
			if (i == 1) == second {
				line += t.bold.Render("[" + text + "]")
			} else {
				line += " " + text + " "
			}
		}
		if width >= 100 {
			line = pad(line, 45) + t.dim.Render(hint)
		}
		return drawn(line)
	}}
}

// namespaces are those of the picture, and those that were chosen and are gone.
func (f *remedyChoices) namespaces(d *desk, add func(string, sheetItem)) {
	type namespace struct{ workloads, exposed, unknown int }
	seen := map[string]*namespace{}
	for name := range f.chosen {
		seen[name] = nil
	}
	if d.snap.Start != nil {
		for _, name := range d.snap.Start.Namespaces {
			seen[name] = &namespace{}
		}
	}
	for _, r := range d.snap.Rows {
		if r.Verdict == nil || r.Ref.Workload.Namespace == "" {
			continue
		}
		n := seen[r.Ref.Workload.Namespace]
		if n == nil {
			n = &namespace{}
			seen[r.Ref.Workload.Namespace] = n
		}
		n.workloads++
		switch r.Verdict.Verdict {
		case scan.VerdictExposed:
			n.exposed++
		case scan.VerdictUnknown:
			n.unknown++
		case scan.VerdictGuarded, scan.VerdictClosed, scan.VerdictSealed:
		}
	}
	t := d.theme
	if len(seen) == 0 {
		add("", textItem("  ", "No namespaces have been seen.", t.dim))
	}
	longest := 8
	for name := range seen {
		longest = max(longest, len(name))
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		mark, what := "[ ] ", []string{"not seen any more"}
		if n := seen[name]; n != nil {
			what = []string{counted(n.workloads, "workload"), some(n.exposed, "exposed"), some(n.unknown, "unknown")}
		}
		switch {
		case f.chosen[name]:
			mark = "[x] "
		case slices.Contains(targets.Always(), name):
			mark, what = "[-] ", []string{"never in scope"}
		}
		add(fieldNamespace+name, sheetItem{lay: func(width int, _ bool) []sheetLine {
			room := width - 6
			begin := cell(name, min(longest, 40, room))
			room -= ansi.StringWidth(begin) + 2
			said := what
			if len(what) == 3 && what[1]+what[2] != "" && room < 30 {
				// What speaks for it is worth more than how much there is.
				said = what[1:]
			}
			return drawn("  " + mark + begin + "  " + t.dim.Render(joinFit(room, said...)))
		}})
	}
}

// some is a number with a word, empty for none.
func some(n int, word string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, word)
}

// noRemedyText says why nothing can be changed.
func noRemedyText(d *desk) []string {
	why := d.opts.NoRemedy
	if why == "" {
		why = "it was not said why"
	}
	return strings.Split("Nothing can be changed here: "+why, "\n")
}

// about says what the set is, and how to do without this view.
func (f *remedyChoices) about(d *desk, add func(string, sheetItem)) {
	t, ask := d.theme, f.ask()
	if d.opts.Remedy == nil {
		add("", textItem("", "On a cluster this plans it, and changes nothing:", t.dim))
		add("", textItem("", ask.command(), t.accent))
		add("", blankItem())
	}
	add("", textItem("", "The escapeToHost set", t.title))
	refused := "refused"
	if f.audit {
		refused = "reported"
	}
	elements := map[armor.ElementKind][]string{}
	for _, e := range armor.Elements() {
		elements[e.Kind] = append(elements[e.Kind], e.Name)
	}
	capabilities := "their use is refused in containers: "
	if f.audit {
		capabilities = "left out, for KubeArmor audits none: "
	}
	for _, part := range []struct {
		part set.Part
		text string
	}{
		{set.PartAdmission, fmt.Sprintf("pods that break Pod Security %s are %s", ask.Level, refused)},
		{set.PartCapabilities, capabilities + strings.Join(elements[armor.Capability], ", ")},
		{set.PartChroot, "running it is " + refused + " in containers"},
		{set.PartTools, "running them is " + refused + " in containers: " + strings.Join(elements[armor.Tool], ", ")},
	} {
		if f.admission && part.part != set.PartAdmission {
			part.text = "left out"
		}
		add("", textItem(t.bold.Render(pad(string(part.part), 14)), part.text, t.dim))
	}
	add("", textItem("", "Never in scope: "+strings.Join(targets.Always(), ", ")+".", t.dim))
}

// draw draws the form below its title.
func (v *remedyView) drawForm(d *desk, width, height int) []string {
	t, f := d.theme, &v.form
	f.refresh(d)
	lines := []string{" " + t.title.Render("Close the ways out: what, and where")}
	if d.opts.Remedy == nil {
		lines[0] = " " + t.title.Render("Close the ways out")
	}
	say := func(text string, style lipgloss.Style) { lines = append(lines, wrapAt(" ", text, style, width)...) }
	switch {
	case f.word != "":
		say(f.word, t.accent)
	case v.plan != nil:
		say("The plan is still there: d shows it.", t.accent)
	case v.result != nil:
		say(v.result.line(), t.accent)
	case d.opts.Remedy != nil:
		say("p plans it. A plan changes nothing.", t.dim)
	}
	if height >= 14 {
		lines = append([]string{""}, append(lines, "")...)
	}
	v.above = len(lines)
	return append(lines, f.draw(t, width, max(1, height-len(lines)))...)
}
