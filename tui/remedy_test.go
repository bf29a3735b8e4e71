package tui

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// click presses the left button on a line that has a text, within the view.
func (s *stage) click(text string) {
	s.t.Helper()
	for y, line := range strings.Split(s.text(), "\n") {
		if before, _, seen := strings.Cut(line, text); seen {
			s.send(tea.MouseMsg{X: len([]rune(before)), Y: y, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
			return
		}
	}
	s.t.Errorf("%q is not seen in\n%s", text, s.text())
}

func TestRemedyFormKeys(t *testing.T) {
	t.Parallel()
	baseline := RemedyAsk{Level: "baseline", Action: set.ActionBlock}
	with := func(change func(*RemedyAsk)) RemedyAsk {
		ask := baseline
		change(&ask)
		return ask
	}
	restricted := with(func(a *RemedyAsk) { a.Level = "restricted" })
	audit := with(func(a *RemedyAsk) { a.Action = set.ActionAudit })
	in := func(names ...string) RemedyAsk { return with(func(a *RemedyAsk) { a.Namespaces = names }) }
	for _, c := range []struct {
		keys []string
		want RemedyAsk
	}{
		{nil, baseline},
		{[]string{"right"}, restricted},
		{[]string{"l"}, restricted},
		{[]string{"right", "right"}, restricted},
		{[]string{"right", "left"}, baseline},
		{[]string{"right", "h"}, baseline},
		{[]string{"left"}, baseline},
		{[]string{" "}, restricted},
		{[]string{" ", " "}, baseline},
		{[]string{"enter"}, restricted},
		{[]string{"down", " "}, audit},
		{[]string{"j", "right"}, audit},
		{[]string{"j", "right", "k", "left"}, audit},
		{[]string{"down", "up", " "}, restricted},
		{[]string{"down", "down", " "}, with(func(a *RemedyAsk) { a.Only = []set.Part{set.PartAdmission} })},
		{[]string{"down", "down", "down", " ", "down", " "}, in("batch")},
		{[]string{"down", "down", "down", " ", "down", "enter", "down", "down", "right"}, in("batch", "payments")},
		{[]string{"down", "down", "down", " ", "down", " ", " "}, in()},
		{[]string{"down", "down", "down", " ", "down", "right", "left"}, in()},
		{[]string{"down", "down", "down", " ", "down", "down", " "}, in()},
		{[]string{"down", "down", "down", "right", "down", " ", "up", "left"}, baseline},
		{[]string{"end", " "}, baseline},
		{[]string{"end", "home", "right"}, restricted},
		{[]string{"G", "g", "right"}, restricted},
		{[]string{"ctrl+d", "ctrl+u", "right"}, restricted},
		{[]string{"pgdown", "pgup", "right"}, restricted},
		{[]string{"ctrl+f", "ctrl+b", "right"}, restricted},
	} {
		s := remedyStageOf(t, 120, 40, &fakeRemedy{})
		for _, k := range c.keys {
			s.press(k)
			s.text()
		}
		got := s.remedy().form.ask()
		if len(got.Namespaces) == 0 {
			got.Namespaces = nil
		}
		if len(c.want.Namespaces) == 0 {
			c.want.Namespaces = nil
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %+v, want %+v", c.keys, got, c.want)
		}
		s.wantStage(remedyForm)
	}
}

// Choosing none must never be taken for all.
func TestRemedyNoneIsNotAll(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := remedyStageOf(t, 80, 24, f)
	s.press("down", "down", "down", " ", "p")
	s.wants("no namespace is chosen")
	s.wantStage(remedyForm)
	if len(f.asks) != 0 {
		t.Errorf("asked %+v", f.asks)
	}
	if what, text := s.remedy().copied(s.desk, false); text != "" {
		t.Errorf("copied %s: %q", what, text)
	}
	// A rollback is of the set, whatever the form says.
	s.press("r")
	s.wantStage(remedyPlanned)
}

// A namespace stays chosen though it is not in the picture any more, and that is said.
func TestRemedyNamespaceGoes(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := remedyStageOf(t, 80, 24, f)
	s.press("down", "down", "down", " ", "down", " ")
	start := eventsOf(t, layersRun)[0]
	s.feed(start)
	s.wants("[x] batch", "not seen any more")
	s.press("p")
	if want := []RemedyAsk{{Namespaces: []string{"batch"}, Level: "baseline", Action: set.ActionBlock}}; !reflect.DeepEqual(f.asks, want) {
		t.Errorf("asked %+v, want %+v", f.asks, want)
	}
}

func TestRemedyFormMouse(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 80, 24, &fakeRemedy{})
	s.click("[baseline]") // It is chosen already: a second click changes it.
	if s.remedy().form.ask().Level != "restricted" {
		t.Error("a click on the field of the cursor does not change it")
	}
	s.click("[block]")
	if s.remedy().form.ask().Action != set.ActionBlock {
		t.Error("one click changes a field")
	}
	s.click("[block]")
	if s.remedy().form.ask().Action != set.ActionAudit {
		t.Error("a second click changes nothing")
	}
	top := s.remedy().form.top
	s.send(tea.WindowSizeMsg{Width: 40, Height: 12})
	s.text()
	s.send(tea.MouseMsg{Y: 5, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
	if s.remedy().form.top == top {
		t.Error("the wheel scrolls nothing")
	}
}

func TestRemedyPlanIsDroppedByTheForm(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := remedyStageOf(t, 80, 24, f)
	s.press("p")
	s.wantStage(remedyPlanned)
	s.press("esc")
	s.wantStage(remedyForm)
	s.wants("The plan is still there: d shows it.")
	for i, k := range []string{"d", "b", "s"} {
		s.press(k)
		s.wantStage(remedyPlanned)
		if got := s.remedy().plan.pane; got != remedyPane(i) {
			t.Errorf("%s leads to pane %d", k, got)
		}
		s.press("backspace")
		s.wantStage(remedyForm)
	}
	s.press("down", "up", "left") // Nothing is asked for that was not before.
	if s.remedy().plan == nil {
		t.Fatal("the plan is gone though the form asks for the same")
	}
	s.press("right")
	s.wants("The plan was dropped: it was made for other choices.")
	s.press("left", "d", "b", "s", "a")
	s.wantStage(remedyForm)
	if s.remedy().plan != nil || len(f.applied) > 0 {
		t.Error("the plan came back")
	}
	s.press("p")
	if len(f.asks) != 2 {
		t.Errorf("%d plans", len(f.asks))
	}
}

func TestRemedyPlanKeys(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 120, 40, &fakeRemedy{})
	s.press("p")
	v := s.remedy()
	open := func() bool { at, _ := v.plan.changes.where(); return v.plan.changes.items[at].open }
	for _, c := range []struct {
		key  string
		open bool
	}{{" ", true}, {" ", false}, {"enter", true}, {"enter", false}, {"right", true}, {"right", true}, {"left", false}, {"l", true}, {"h", false}} {
		s.press(c.key)
		if open() != c.open {
			t.Errorf("%q: open is %v", c.key, open())
		}
		s.text()
	}
	s.press("right", "down", "down")
	at, within := v.plan.changes.where()
	if at != 1 || within != 2 {
		t.Errorf("two lines into the difference: item %d, line %d", at, within)
	}
	s.press("left")
	if at, within := v.plan.changes.where(); at != 1 || within != 0 {
		t.Errorf("after folding: item %d, line %d", at, within)
	}
	for _, c := range []struct {
		key  string
		want int
	}{{"G", len(v.plan.changed) - 1}, {"g", 0}, {"end", len(v.plan.changed) - 1}, {"home", 0}, {"j", 1}, {"down", 3}, {"up", 1}, {"k", 0}, {"pgdown", len(v.plan.changed) - 1}, {"pgup", 0}} {
		s.press(c.key)
		s.text()
		if at, _ := v.plan.changes.where(); at != c.want {
			t.Errorf("%s leads to item %d, want %d", c.key, at, c.want)
		}
	}
	for i, k := range []string{"d", "b", "s"} {
		s.press(k)
		if v.plan.pane != remedyPane(i) {
			t.Errorf("%s leads to pane %d", k, v.plan.pane)
		}
		s.text()
	}
	for i, name := range paneNames() {
		s.press("b")
		s.click(name)
		if v.plan.pane != remedyPane(i) {
			t.Errorf("a click on %q leads to pane %d", name, v.plan.pane)
		}
	}
	s.press("b")
	s.text()
	s.click("shop/Deployment/cart")
	if at, _ := v.plan.breaks.where(); !v.plan.breaks.items[at].open {
		t.Error("a click on what is chosen does not open it")
	}
	s.click("shop/Deployment/api")
	s.click("shop/Deployment/api")
	s.wants("kubectl debug still works")
	s.press("x") // There is nothing to stop.
	s.wantStage(remedyPlanned)
	s.press("p")
	s.wantStage(remedyPlanned)
	s.press("r")
	s.wants("Rollback of escape-to-host in prod-eu")
}

func TestRemedySummaryScrolls(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 40, 12, &fakeRemedy{})
	s.press("p", "s")
	s.text()
	s.press("G")
	s.wants("command    escape-scanner remediate")
	s.press("g")
	s.wants("cluster    prod-eu")
	s.send(tea.MouseMsg{Y: 5, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
	if s.remedy().plan.summary.top != 3 {
		t.Error("the wheel scrolls nothing")
	}
}

func TestRemedyRefused(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return refusedPlan(), nil }}
	s := remedyStageOf(t, 80, 24, f)
	s.press("p", "a")
	s.wantStage(remedyFailed)
	s.wants("Not applied", "three ways on", "Nothing was changed.")
	s.wantHarmless()
	s.press("p")
	s.wantStage(remedyPlanned)
	s.press("a", "esc")
	s.wantStage(remedyPlanned)
	s.press("a", "a", "enter", "y")
	if len(f.applied) != 0 {
		t.Error("a refused plan was applied")
	}
}

func TestRemedyIdleAndWordless(t *testing.T) {
	t.Parallel()
	wordless := plainPlan()
	wordless.Word = ""
	for want, p := range map[string]*RemedyPlan{"Nothing to do": idlePlan(), "no word to confirm it with": wordless} {
		f := &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return p, nil }}
		s := remedyStageOf(t, 80, 24, f)
		s.press("p", "a")
		s.wants(want)
		s.press("enter")
		if len(f.applied) != 0 {
			t.Errorf("%s: applied", want)
		}
	}
}

func TestRemedyPlanFails(t *testing.T) {
	t.Parallel()
	long := errors.New(strings.Repeat("a line that says why\n", 50) + "the last of them")
	for _, c := range []struct {
		plan *RemedyPlan
		err  error
		want string
	}{{nil, long, "Planning failed"}, {nil, nil, "no plan was made"}, {&RemedyPlan{}, nil, "no plan was made"}} {
		f := &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return c.plan, c.err }}
		s := remedyStageOf(t, 80, 24, f)
		s.press("p")
		s.wantStage(remedyFailed)
		s.wants(c.want)
		if c.err != nil {
			s.press("end")
			s.wants("the last of them")
			s.press("home", "pgdown", "pgup", "down", "up")
			s.send(tea.MouseMsg{Y: 5, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
			s.press("a", "d", "enter")
			s.wantStage(remedyFailed)
			if _, text := s.remedy().copied(s.desk, false); !strings.HasSuffix(text, "the last of them") {
				t.Errorf("copied %q", text)
			}
		}
		s.press("esc")
		s.wantStage(remedyForm)
		f.plan = nil
		s.press("p")
		s.wantStage(remedyPlanned)
	}
	f := &fakeRemedy{rollback: func(context.Context) (*RemedyPlan, error) { return nil, errors.New("no rights") }}
	s := remedyStageOf(t, 80, 24, f)
	s.press("r")
	s.wants("Planning the rollback failed", "no rights")
}

func TestRemedyConfirm(t *testing.T) {
	t.Parallel()
	paste := func(text string) tea.Msg { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text), Paste: true} }
	fast := func(text string) tea.Msg { return tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune(text)} }
	enter, _ := keyNamed("enter")
	for _, c := range []struct {
		name string
		msgs []tea.Msg
		want bool
	}{
		{"the word", []tea.Msg{fast("prod-eu"), enter}, true},
		{"the word pasted", []tea.Msg{paste("prod-eu"), enter}, true},
		{"nothing", []tea.Msg{enter}, false},
		{"another", []tea.Msg{fast("prod-us"), enter}, false},
		{"its beginning", []tea.Msg{fast("prod"), enter}, false},
		{"more", []tea.Msg{fast("prod-eu2"), enter}, false},
		{"another case", []tea.Msg{fast("PROD-EU"), enter}, false},
		{"a blank before", []tea.Msg{fast(" prod-eu"), enter}, false},
		{"a blank behind", []tea.Msg{fast("prod-eu "), enter}, false},
		{"pasted with its line's end", []tea.Msg{paste("prod-eu\n"), enter}, false},
		{"pasted without enter", []tea.Msg{paste("prod-eu\r\n")}, false},
		{"yes", []tea.Msg{fast("yes"), enter}, false},
		{"y", []tea.Msg{fast("y"), enter}, false},
		{"the name of a key", []tea.Msg{fast("prod-eu"), fast("enter")}, false},
		{"not sent", []tea.Msg{fast("prod-eu")}, false},
		{"mended", []tea.Msg{fast("prod-eux"), tea.KeyMsg{Type: tea.KeyBackspace}, enter}, true},
	} {
		f := &fakeRemedy{}
		s := remedyStageOf(t, 80, 24, f)
		s.press("p", "a")
		s.wantStage(remedyConfirming)
		if !s.remedy().typing() {
			t.Fatal("keys are no text")
		}
		for _, msg := range c.msgs {
			s.send(msg)
			s.text()
		}
		if got := len(f.applied) == 1; got != c.want {
			t.Errorf("%s: applied %d times:\n%s", c.name, len(f.applied), s.text())
		}
		if !c.want {
			s.wantStage(remedyConfirming)
			if len(c.msgs) > 0 && reflect.DeepEqual(c.msgs[len(c.msgs)-1], tea.Msg(enter)) {
				s.wants("nothing was changed.")
			}
		}
	}
}

// While the word is typed, keys of the program are text; ctrl+c and esc are not.
func TestRemedyConfirmKeys(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := remedyStageOf(t, 80, 24, f)
	s.press("p", "a", "q?em1y/", "tab")
	s.wantStage(remedyConfirming)
	if got := s.remedy().confirm.Value(); got != "q?em1y/" || s.quit || s.over != nil {
		t.Errorf("typed %q, quit %v", got, s.quit)
	}
	s.send(tea.MouseMsg{Y: 5, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
	s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("esc")})
	s.wantStage(remedyConfirming)
	s.press("enter")
	s.wants(`is not "prod-eu": nothing was changed.`)
	s.press("esc")
	s.wantStage(remedyPlanned)
	s.wants("nothing was changed")
	s.press("a")
	if s.remedy().confirm.Value() != "" || s.remedy().refused != "" {
		t.Error("the question remembers what was typed")
	}
	s.press("prod-", "ctrl+c")
	if !s.quit || len(f.applied) != 0 {
		t.Errorf("quit %v, applied %d", s.quit, len(f.applied))
	}
}

func TestRemedyAppliesOnce(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := remedyStageOf(t, 80, 24, f)
	s.press("p", "a", "prod-eu", "enter")
	s.wantStage(remedyDone)
	s.wants("Applied to prod-eu", "2 created, 1 changed", "1 thing verified", "r plans a rollback")
	if s.desk.busy != nil {
		t.Error("still busy")
	}
	s.press("enter", "a", "enter", "d", "b", " ", "prod-eu", "enter") // The p among them plans again.
	if len(f.applied) != 1 {
		t.Errorf("applied %d times", len(f.applied))
	}
	s.press("esc", "esc")
	s.wantStage(remedyForm)
	if f.asks[0].Level != "baseline" || f.applied[0].View.Cluster != "prod-eu" {
		t.Errorf("%+v", f.asks)
	}
}

// What was applied is put back by the same steps.
func TestRemedyRollback(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{}
	s := remedyStageOf(t, 80, 24, f)
	s.press("p", "a", "prod-eu", "enter", "r")
	s.wantStage(remedyPlanned)
	s.wants("Rollback of escape-to-host", "- delete", "< put back")
	s.press("b")
	s.wants("A rollback puts back what was before.")
	s.press("a", "prod-us", "enter")
	s.wants("Roll back in prod-eu", "nothing was changed.")
	if len(f.applied) != 1 {
		t.Fatal("rolled back without the word")
	}
	s.press("esc", "a", "prod-eu", "enter")
	s.wants("Rolled back in prod-eu", "what was before the set is back")
	if len(f.applied) != 2 || !f.applied[1].View.Plan.Rollback || f.rollbacks != 1 {
		t.Errorf("%d applied, %d rollbacks", len(f.applied), f.rollbacks)
	}
	s.press("esc")
	s.wants("Rolled back in prod-eu: 1 put back, 1 deleted. s shows it.")
	s.press("s")
	s.wantStage(remedyDone)
}

func TestRemedyHalfWay(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 120, 40, &fakeRemedy{apply: failAt(2, errHalfWay)})
	s.press("p", "a", "prod-eu", "enter")
	s.wantStage(remedyDone)
	s.wantHarmless()
	s.wants("FAILED in prod-eu", "1 created, 1 changed, 1 BLOCKED, 3 changes not made", "1 thing verified, 1 wrong, 1 could not be verified",
		"it was changed since it was planned", "mend: see the status", "not made", "p plans what is left", "unknown  accepted")
	_, text := s.remedy().copied(s.desk, false)
	for _, want := range []string{"FAILED in prod-eu", "not made", "unknown", "NO"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not copied:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("an escape is copied")
	}
	none := remedyStageOf(t, 80, 24, &fakeRemedy{apply: func(context.Context, *RemedyPlan, func(remediate.Progress)) (*remediate.Result, error) {
		return nil, errors.New("the API server does not answer")
	}})
	none.press("p", "a", "prod-eu", "enter")
	none.wants("FAILED in prod-eu", "done     nothing", "does not answer")
}

// The result scrolls, and its keys do what they say.
func TestRemedyResultKeys(t *testing.T) {
	t.Parallel()
	s := remedyStageOf(t, 40, 12, &fakeRemedy{apply: failAt(2, errHalfWay)})
	s.press("p", "a", "prod-eu", "enter")
	s.text()
	s.press("end")
	s.wants("not made")
	s.press("home")
	s.wants("1 created, 1 changed, 1")
	s.send(tea.MouseMsg{Y: 5, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
	if s.remedy().result.page.top != 3 {
		t.Error("the wheel scrolls nothing")
	}
	s.press("p")
	s.wantStage(remedyPlanned)
}
