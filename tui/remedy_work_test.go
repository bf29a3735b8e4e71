package tui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/remediate"
)

// slowPlan takes a minute, or until it is cancelled and a second more.
func slowPlan(ctx context.Context, _ RemedyAsk) (*RemedyPlan, error) {
	select {
	case <-time.After(time.Minute):
		return plainPlan(), nil
	case <-ctx.Done():
		<-time.After(time.Second)
		return nil, fmt.Errorf("namespaces: %w", ctx.Err())
	}
}

// slowApply makes a change every second, and stops between two.
func slowApply(ctx context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
	r := &remediate.Result{}
	changes := p.View.Plan.Changes
	for i := range changes {
		if ctx.Err() != nil {
			r.Left = len(changes) - i
			return r, fmt.Errorf("stage %s: %w", changes[i].Stage, ctx.Err())
		}
		<-time.After(time.Second)
		r.Changes = append(r.Changes, changes[i])
		progress(remediate.Progress{Stage: changes[i].Stage, Done: i + 1, Total: len(changes), Change: &changes[i]})
	}
	return r, nil
}

func TestRemedyPlanningIsCancelled(t *testing.T) {
	t.Parallel()
	for _, k := range []string{"x", "esc", "backspace"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRemedy{plan: slowPlan}
			s := theatreOf(t, 80, 24, f)
			s.press("p")
			s.wantStage(remedyPlanning)
			s.later(3 * time.Second)
			s.wants("planning … 3s")
			s.press("p", "r", "a", "d", "b", "s", " ", "enter", "down")
			s.wantStage(remedyPlanning)
			s.press("2", "6") // It goes on while another view is seen.
			s.wantStage(remedyPlanning)
			s.press(k)
			s.wantStage(remedyForm)
			s.wants("Planning was cancelled. Nothing was changed.")
			<-time.After(2 * time.Second)
			s.settle()
			s.wantStage(remedyForm) // The answer comes too late to be one.
			if asked, running, _ := f.state(); running != 0 || asked != 1 {
				t.Errorf("%d at work, asked %d times", running, asked)
			}
		})
	}
}

// A plan that is asked for while the one before is still ending waits for it: the
// answer is that of the second, and the two never meet.
func TestRemedyOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRemedy{plan: slowPlan}
		s := theatreOf(t, 80, 24, f)
		s.press("p", "x", "right", "p", "x", "p")
		s.wantStage(remedyPlanning)
		if asked, _, _ := f.state(); asked != 1 {
			t.Errorf("asked %d times while the first was ending", asked)
		}
		<-time.After(2 * time.Second)
		s.settle()
		s.wantStage(remedyPlanning)
		<-time.After(2 * time.Minute)
		s.settle()
		s.wantStage(remedyPlanned)
		// The second was cancelled before its turn came, so that it was never asked.
		if asked, _, most := f.state(); most != 1 || asked != 2 || s.remedy().plan.ask.Level != "restricted" {
			t.Errorf("%d at once, asked %d times", most, asked)
		}
	})
}

func TestRemedyApplying(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRemedy{apply: slowApply}
		s := theatreOf(t, 80, 24, f)
		s.press("p", "a", "prod-eu", "enter")
		s.wantStage(remedyApplying)
		if s.desk.busy == nil {
			t.Fatal("the program does not know that changes are made")
		}
		s.wants("nothing was made yet")
		<-time.After(1100 * time.Millisecond)
		s.settle()
		s.wants("1/5", "waiting for what can be verified")
		<-time.After(1400 * time.Millisecond)
		s.settle()
		s.wants("2/5", "x stops between two changes", "audit: KubeArmorPolicy shop/escape-to-host-tools created", "enforce: KubeArmorPolicy shop/escape-to-host-tools changed")
		s.press("p", "r", "a", "d", "b", "s", "esc", "enter", " ", "home", "end")
		s.wantStage(remedyApplying)
		for _, size := range [][2]int{{40, 12}, {39, 11}, {200, 50}, {80, 24}} {
			s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			s.text()
		}
		s.press("2", "6", "q")
		if s.quit {
			t.Fatal("left while changes are made")
		}
		s.wants("changes are being made: x stops")
		<-time.After(time.Minute)
		s.settle()
		s.wantStage(remedyDone)
		s.wants("Applied to prod-eu")
		if _, running, _ := f.state(); s.desk.busy != nil || running != 0 || len(f.applied) != 1 {
			t.Errorf("busy %v, %d at work, applied %d", s.desk.busy != nil, running, len(f.applied))
		}
		s.press("q")
		if !s.quit {
			t.Error("q does not quit")
		}
	})
}

func TestRemedyStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := theatreOf(t, 80, 24, &fakeRemedy{apply: slowApply})
		s.press("p", "a", "prod-eu", "enter")
		<-time.After(1500 * time.Millisecond)
		s.settle()
		s.press("x")
		s.wants("stopping between two changes …")
		s.wantStage(remedyApplying)
		s.press("x", "x")
		<-time.After(time.Second)
		s.settle()
		s.wantStage(remedyDone)
		s.wants("STOPPED in prod-eu", "1 created, 1 changed, 3 changes not made", "it was asked to stop", "Not come to")
		s.press("r")
		s.wantStage(remedyPlanned)
	})
}

// Who stops in the last moment is told that all was done.
func TestRemedyStoppedTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := theatreOf(t, 80, 24, &fakeRemedy{apply: slowApply})
		s.press("p", "a", "prod-eu", "enter")
		<-time.After(4500 * time.Millisecond)
		s.settle()
		s.press("x")
		<-time.After(time.Second)
		s.settle()
		s.wants("Applied to prod-eu")
	})
}

// ctrl+c stops between two changes, waits for the end, and leaves then.
func TestRemedyQuitWhileApplying(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"6", "2"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRemedy{apply: slowApply}
			s := theatreOf(t, 80, 24, f)
			s.press("p", "a", "prod-eu", "enter")
			<-time.After(1500 * time.Millisecond)
			s.settle()
			s.press(where, "ctrl+c", "ctrl+c")
			if _, running, _ := f.state(); s.quit || running != 1 {
				t.Fatalf("quit %v with %d at work", s.quit, running)
			}
			s.wants("stopping between two changes, then leaving")
			<-time.After(time.Second)
			s.settle()
			if _, running, _ := f.state(); !s.quit || running != 0 {
				t.Errorf("quit %v with %d at work", s.quit, running)
			}
			if got := s.remedy().result.result.Left; got != 3 {
				t.Errorf("%d changes left", got)
			}
		})
	}
}

// Where the program ends by itself, what is at work stops, and the end waits for it;
// also where a command that was to bring the answer never ran.
func TestRemedyProgramEnds(t *testing.T) {
	t.Parallel()
	for _, planning := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRemedy{apply: slowApply}
			s := theatreOf(t, 80, 24, f)
			ctx, cancel := context.WithCancelCause(s.desk.ctx)
			s.desk.ctx = ctx
			if planning {
				f.plan = slowPlan
				_, _ = s.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("p")})
			} else {
				s.press("p", "a", "prod-eu")
				_, _ = s.Update(tea.KeyMsg{Type: tea.KeyEnter})
			}
			<-time.After(1500 * time.Millisecond)
			cancel(errors.New("hung up"))
			s.desk.working.Wait()
			if asked, running, _ := f.state(); running != 0 || asked != 1 {
				t.Errorf("%d at work after the end", running)
			}
		})
	}
}

// An apply never waits for a screen that is not drawn, and what is kept is bounded.
func TestRemedyProgressFloods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const told = 5_500
		f := &fakeRemedy{apply: func(ctx context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
			c := &p.View.Plan.Changes[0]
			for i := range told {
				progress(remediate.Progress{Stage: c.Stage, Done: i + 1, Total: told, Change: c})
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		s := theatreOf(t, 80, 24, f)
		s.press("p", "a", "prod-eu", "enter")
		s.wants(fmt.Sprintf("%d/%d", told, told))
		a := s.remedy().applying
		a.mu.Lock()
		kept, forgotten := len(a.lines), a.forgotten
		a.mu.Unlock()
		if kept != 1500 || kept+forgotten != told {
			t.Errorf("%d lines kept, %d forgotten", kept, forgotten)
		}
		s.press("up", "up")
		if a.follow {
			t.Error("who looks back is carried away")
		}
		s.press("home")
		s.wants("(4000 lines before)")
		s.press("end")
		if !a.follow {
			t.Error("at the end the latest is not followed")
		}
		_, text := s.remedy().copied(s.desk, false)
		if n := strings.Count(text, "\n") + 1; n != 1500 {
			t.Errorf("%d lines copied", n)
		}
		s.press("x")
		s.wantStage(remedyDone)
		s.wants("STOPPED", "done     nothing")
	})
}

// A panic ends the program as one of a command does, and nothing waits for ever.
func TestRemedyPanics(t *testing.T) {
	t.Parallel()
	f := &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { panic("no such luck") }}
	s := remedyStageOf(t, 80, 24, f)
	_, cmd := s.Update(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune("p")})
	msg, _ := cmd().(panicMsg)
	if msg.err == nil || msg.err.Value != "no such luck" || !strings.Contains(strings.Join(msg.err.Stack, " "), "TestRemedyPanics") {
		t.Errorf("%+v", msg.err)
	}
	s.desk.working.Wait()
}
