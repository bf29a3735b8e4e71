package tui

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/bubbles/key"
	"github.com/charmbracelet/bubbles/textinput"
	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/report"
)

// remedyStage is how far the user has come.
type remedyStage int

// The stages. Failed is a text that has to be read, from where it leads back.
const (
	remedyForm remedyStage = iota
	remedyPlanning
	remedyPlanned
	remedyConfirming
	remedyApplying
	remedyDone
	remedyFailed
)

// remedyView plans what closes ways out, and carries it out once it was looked at and
// confirmed. It decides nothing: what is planned and what may be done is Remedy's.
type remedyView struct {
	stage    remedyStage
	form     remedyChoices
	planning *planning
	// plan is the one that may be carried out, nil for none.
	plan     *remedyPlan
	confirm  textinput.Model
	refused  string
	applying *applying
	result   *remedyResult
	failed   *remedyFailure

	// turn is full while Remedy is called: its methods are called one at a time.
	turn chan struct{}
	// above is how many lines stand above what has a cursor, and namesAt the line with the
	// names of the panes, as they were drawn last.
	above, namesAt int
}

// remedyFailure is what could not be done, and where it leads back to.
type remedyFailure struct {
	title, text string
	back        remedyStage
	// idle is true where there was nothing to do, which is no failure.
	idle bool
	page remedyPage
}

func newRemediate() *remedyView {
	return &remedyView{form: remedyChoices{chosen: map[string]bool{}, accepted: map[string]bool{}, stale: true}, turn: make(chan struct{}, 1)}
}

func (v *remedyView) look(*desk) { v.form.stale = true }

// typing implements screen: what is typed must not be taken for anything else.
func (v *remedyView) typing() bool { return v.stage == remedyConfirming }

func (v *remedyView) keys(d *desk) []key.Binding {
	k := d.keys
	switch v.stage {
	case remedyForm:
		keys := []key.Binding{k.Choose, k.Plan, k.Rollback}
		if d.opts.Remedy == nil {
			return []key.Binding{k.Choose, k.Copy}
		}
		if v.plan != nil {
			keys = append(keys, k.Diff, k.Preview, k.Summary)
		} else if v.result != nil {
			keys = append(keys, k.Summary)
		}
		return append(keys, k.Copy)
	case remedyPlanning:
		return []key.Binding{k.Stop, k.Cancel}
	case remedyPlanned:
		keys := []key.Binding{k.Apply, k.Diff, k.Preview, k.Summary, k.Back, k.Copy, k.CopyFix, k.Plan, k.Rollback}
		if v.plan.pane != paneSummary {
			keys = slices.Insert(keys, 1, k.Fold)
		}
		if v.plan.pane == paneBreaks && v.plan.View.Preview != nil && v.plan.View.Preview.Counts[preview.Breaks] > 0 {
			keys = slices.Insert(keys, 1, k.Tolerate)
		}
		return keys
	case remedyConfirming:
		return []key.Binding{k.Accept, k.Cancel}
	case remedyApplying:
		return []key.Binding{k.Stop, k.Copy}
	case remedyDone:
		return []key.Binding{k.Rollback, k.Plan, k.Back, k.Copy}
	case remedyFailed:
	}
	return []key.Binding{k.Back, k.Plan, k.Rollback, k.Copy}
}

func (v *remedyView) update(d *desk, msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case plannedMsg:
		v.planned(d, msg)
		return nil
	case progressMsg:
		if v.applying == msg.of {
			return msg.of.wait(d)
		}
		return nil
	case appliedMsg:
		return v.applied(d, msg)
	case tea.KeyMsg, tea.MouseMsg:
		return v.input(d, msg)
	}
	if v.stage == remedyConfirming {
		// What was pasted.
		var cmd tea.Cmd
		v.confirm, cmd = v.confirm.Update(msg)
		return cmd
	}
	return nil
}

// input is a key or the mouse.
func (v *remedyView) input(d *desk, msg tea.Msg) tea.Cmd {
	press, _ := msg.(tea.KeyMsg)
	is := func(b key.Binding) bool { return key.Matches(press, b) }
	switch v.stage {
	case remedyConfirming:
		return v.confirmKey(d, press)
	case remedyApplying:
		v.applyingKey(d, msg)
		return nil
	case remedyPlanning:
		if is(d.keys.Stop) || is(d.keys.Back) {
			v.cancelPlanning()
		}
		return nil
	case remedyForm, remedyPlanned, remedyDone, remedyFailed:
	}
	switch {
	case is(d.keys.Plan), is(d.keys.Rollback):
		return v.ask(d, is(d.keys.Rollback))
	case v.stage == remedyForm:
		v.formKey(d, msg)
	case is(d.keys.Back):
		v.back()
	case v.stage == remedyPlanned && is(d.keys.Tolerate):
		return v.tolerate(d)
	case v.stage == remedyPlanned:
		v.planKey(d, msg)
	case v.stage == remedyDone:
		v.result.page.update(d.keys, msg)
	case v.stage == remedyFailed:
		v.failed.page.update(d.keys, msg)
	}
	return nil
}

// ask begins to plan, where there is all that it takes.
func (v *remedyView) ask(d *desk, rollback bool) tea.Cmd {
	why := v.form.lacking()
	switch {
	case d.opts.Remedy == nil:
		return tell(flashMsg{text: strings.Join(noRemedyText(d), " "), isErr: true})
	case why != "" && !rollback:
		v.stage, v.form.word = remedyForm, why
		return nil
	}
	return v.begin(d, rollback)
}

// back leads to where one came from.
func (v *remedyView) back() {
	if v.stage == remedyFailed && v.failed.back == remedyPlanned && v.plan != nil {
		v.stage = remedyPlanned
		return
	}
	v.stage = remedyForm
}

// fail shows what could not be done, in full.
func (v *remedyView) fail(title, text string, back remedyStage) {
	v.stage, v.failed = remedyFailed, &remedyFailure{title: title, text: text, back: back}
}

func (v *remedyView) formKey(d *desk, msg tea.Msg) {
	press, _ := msg.(tea.KeyMsg)
	is := func(b key.Binding) bool { return key.Matches(press, b) }
	switch pane, named := v.paneOf(d, press); {
	case named && v.plan != nil:
		v.stage, v.plan.pane = remedyPlanned, pane
		return
	case is(d.keys.Summary) && v.result != nil:
		v.stage = remedyDone
		return
	}
	v.form.word = ""
	if v.form.key(d, msg, v.above) && v.plan != nil {
		v.plan, v.form.word = nil, "The plan was dropped: it was made for other choices."
	}
}

// paneOf is the pane that a key names.
func (v *remedyView) paneOf(d *desk, press tea.KeyMsg) (remedyPane, bool) {
	for pane, binding := range []key.Binding{d.keys.Diff, d.keys.Preview, d.keys.Summary} {
		if key.Matches(press, binding) {
			return remedyPane(pane), true
		}
	}
	return 0, false
}

func (v *remedyView) planKey(d *desk, msg tea.Msg) {
	p := v.plan
	press, _ := msg.(tea.KeyMsg)
	pane, named := v.paneOf(d, press)
	if m, ok := msg.(tea.MouseMsg); ok && m.Y == v.namesAt && m.Button == tea.MouseButtonLeft && m.Action == tea.MouseActionPress {
		pane, named = paneUnder(m.X)
	}
	if named {
		p.pane = pane
		return
	}
	if key.Matches(press, d.keys.Apply) {
		if why := p.obstacle(); why != "" {
			v.fail("Not applied", why, remedyPlanned)
			if p.Refused == "" && p.Idle {
				v.failed.title, v.failed.idle = "Nothing to do", true
			}
			return
		}
		v.stage, v.refused = remedyConfirming, ""
		v.confirm = newInput(d, "› ")
		return
	}
	switch p.pane {
	case paneChanges:
		p.changes.foldKey(d.keys, msg, v.above)
	case paneBreaks:
		p.breaks.foldKey(d.keys, msg, v.above)
	case paneSummary, paneCount:
		p.summary.update(d.keys, msg)
	}
}

// tolerate accepts that the workload under the cursor breaks, or accepts it no more, and
// plans again: the plan says of it what that changes.
func (v *remedyView) tolerate(d *desk) tea.Cmd {
	p := v.plan
	if p.pane != paneBreaks {
		return nil
	}
	at, _ := p.breaks.where()
	if at < 0 || p.broken[at] == nil {
		return nil
	}
	w := p.broken[at]
	name := w.Workload.String()
	switch {
	case w.Outcome != preview.Breaks:
		return tell(flashMsg{text: name + " does not break for certain: nothing has to be accepted"})
	case v.form.accepted[name]:
		delete(v.form.accepted, name)
	case w.Accepted != "":
		return tell(flashMsg{text: name + " is accepted already: " + w.Accepted})
	default:
		v.form.accepted[name] = true
	}
	cmd := v.begin(d, false)
	v.planning.pane, v.planning.at = paneBreaks, name
	return cmd
}

// confirmKey is a key of the question whether the plan is to be carried out. Only the
// word itself is a yes, and only the keys themselves are no text: what is typed fast or
// pasted may come as one key with a name.
func (v *remedyView) confirmKey(d *desk, press tea.KeyMsg) tea.Cmd {
	switch press.Type { //nolint:exhaustive // All others are text, or move in it.
	case tea.KeyEsc:
		v.stage = remedyPlanned
		return tell(flashMsg{text: "nothing was changed"})
	case tea.KeyEnter:
		if typed := v.confirm.Value(); typed != v.plan.Word {
			v.refused = fmt.Sprintf("%q is not %q: nothing was changed.", typed, v.plan.Word)
			if typed == "" {
				v.refused = "Nothing was typed, and nothing was changed."
			}
			return nil
		}
		return v.apply(d)
	}
	v.refused = ""
	var cmd tea.Cmd
	v.confirm, cmd = v.confirm.Update(press)
	return cmd
}

func (v *remedyView) applyingKey(d *desk, msg tea.Msg) {
	a := v.applying
	press, _ := msg.(tea.KeyMsg)
	if key.Matches(press, d.keys.Stop) {
		if d.busy != nil {
			d.busy()
		}
		return
	}
	if a.page.update(d.keys, msg) {
		a.follow = a.page.top+a.page.height >= a.page.length
	}
}

// copied implements screen.
func (v *remedyView) copied(_ *desk, fix bool) (what, text string) {
	switch v.stage {
	case remedyForm:
		ask := v.form.ask()
		if v.form.lacking() == "" {
			return "the command", ask.command()
		}
	case remedyPlanned:
		return v.plan.copied(fix)
	case remedyApplying:
		v.applying.mu.Lock()
		defer v.applying.mu.Unlock()
		return "the progress", strings.Join(v.applying.lines, "\n")
	case remedyDone:
		return "the result", v.result.text()
	case remedyFailed:
		return "the message", cleanLines(v.failed.title + "\n" + v.failed.text)
	case remedyPlanning, remedyConfirming:
	}
	return "", ""
}

// cleanLines makes text harmless whose lines stay lines.
func cleanLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = report.Clean(lines[i])
	}
	return strings.Join(lines, "\n")
}

// copied is what y copies of a plan, and Y.
func (p *remedyPlan) copied(fix bool) (what, text string) {
	switch p.pane {
	case paneChanges:
		at, _ := p.changes.where()
		if at < 0 || p.changed[at] == nil {
			return "", ""
		}
		if fix {
			return changeFix(p.changed[at])
		}
		return "the change", p.changes.text(at)
	case paneBreaks:
		at, _ := p.breaks.where()
		if at < 0 || p.broken[at] == nil {
			return "", ""
		}
		if !fix {
			return "what would happen", p.breaks.text(at)
		}
		var mends []string
		for _, g := range effectsOf(p.broken[at]) {
			mends = append(mends, g.Mends...)
		}
		return "what would avoid it", strings.Join(mends, "\n")
	case paneSummary, paneCount:
	}
	return "the command", report.Clean(p.Command)
}

// changeFix is what mends a change that is blocked, or the object that it makes.
func changeFix(c *remediate.Change) (what, text string) {
	if c.Block != nil {
		return "what mends it", report.Clean(c.Block.Mend)
	}
	var lines []string
	for _, line := range remediate.Diff(nil, c.After) {
		if line.Op == '+' {
			lines = append(lines, report.Clean(line.Text))
		}
	}
	return "the object", strings.Join(lines, "\n")
}

// selection implements screen: what the form is about.
func (v *remedyView) selection(d *desk) (Selection, string) {
	ask, all := v.form.ask(), d.snap.All()
	if len(ask.Namespaces) == 0 {
		return all, ""
	}
	var rows []*Row
	for _, r := range all.Rows {
		if slices.Contains(ask.Namespaces, r.Ref.Workload.Namespace) {
			rows = append(rows, r)
		}
	}
	all.Rows = rows
	return all, "namespaces " + strings.Join(ask.Namespaces, ", ")
}
