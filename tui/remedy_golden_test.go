package tui

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/remediate"
)

func TestRemedyGolden(t *testing.T) {
	t.Parallel()
	plan := func(p *RemedyPlan, err error) *fakeRemedy {
		return &fakeRemedy{plan: func(context.Context, RemedyAsk) (*RemedyPlan, error) { return p, err }}
	}
	broken := errors.New("clusterroles.rbac is forbidden: " + nasty + "\nlist ValidatingAdmissionPolicies: the server is currently unable to handle the request")
	for _, c := range []struct {
		name string
		fake *fakeRemedy
		keys []string
	}{
		{"form", &fakeRemedy{}, nil},
		{"form-chosen", &fakeRemedy{}, []string{"right", "down", "down", "down", " ", "down", " ", "down", " "}},
		{"none", nil, []string{"p"}},
		{"none-chosen", nil, []string{"down", "down", "down", " ", "down", " "}},
		{"changes", plan(plainPlan(), nil), []string{"p", "down", "down", "enter"}},
		{"breaks", plan(plainPlan(), nil), []string{"p", "b", "enter"}},
		{"summary", plan(plainPlan(), nil), []string{"p", "s"}},
		{"refused-changes", plan(refusedPlan(), nil), []string{"p"}},
		{"refused-breaks", plan(refusedPlan(), nil), []string{"p", "b"}},
		{"refused-summary", plan(refusedPlan(), nil), []string{"p", "s"}},
		{"refused", plan(refusedPlan(), nil), []string{"p", "a"}},
		{"idle", plan(idlePlan(), nil), []string{"p", "a"}},
		{"confirm", plan(plainPlan(), nil), []string{"p", "a", "prod"}},
		{"confirm-wrong", plan(plainPlan(), nil), []string{"p", "a", "prod", "enter"}},
		{"error", plan(nil, broken), []string{"p"}},
		{"result", &fakeRemedy{}, []string{"p", "a", "prod-eu", "enter"}},
		{"result-failed", &fakeRemedy{apply: failAt(2, errHalfWay)}, []string{"p", "a", "prod-eu", "enter"}},
		{"rollback", &fakeRemedy{}, []string{"r"}},
		{"dropped", plan(plainPlan(), nil), []string{"p", "esc", "right"}},
	} {
		for _, size := range sizes {
			t.Run(c.name+"-"+size.name, func(t *testing.T) {
				t.Parallel()
				s := remedyStageOf(t, size.width, size.height, c.fake)
				for _, k := range c.keys {
					s.press(k)
					s.text()
				}
				s.send(flashMsg{})
				s.wantHarmless()
				s.golden("remedy-" + c.name + "-" + size.name)
			})
		}
	}
}

func TestRemedyGoldenEmpty(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		s := newStage(t, size.width, size.height, nil, func(o *Options) { o.Remedy = &fakeRemedy{} })
		s.press("6", "down", "down", "down", " ")
		s.golden("remedy-empty-" + size.name)
	}
}

func TestRemedyGoldenAtWork(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		synctest.Test(t, func(t *testing.T) {
			f := &fakeRemedy{
				plan: func(ctx context.Context, _ RemedyAsk) (*RemedyPlan, error) {
					select {
					case <-time.After(time.Minute):
						return plainPlan(), nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				},
				apply: func(ctx context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
					c := p.View.Plan.Changes
					progress(remediate.Progress{Stage: c[0].Stage, Done: 1, Total: 5, Change: &c[0]})
					progress(remediate.Progress{Stage: c[1].Stage, Done: 2, Total: 5, Check: &remedyChecks()[1]})
					<-ctx.Done()
					return &remediate.Result{Changes: c[:1], Left: 3}, ctx.Err()
				},
			}
			s := theatreOf(t, size.width, size.height, f)
			s.press("p")
			s.later(3 * time.Second)
			s.golden("remedy-planning-" + size.name)
			<-time.After(time.Minute)
			s.settle()
			s.press("a", "prod-eu", "enter")
			s.later(5 * time.Second)
			s.wantHarmless()
			s.golden("remedy-applying-" + size.name)
			s.press("x")
			s.golden("remedy-stopped-" + size.name)
		})
	}
}

// At every stage any size is drawn, and nothing is lost by it.
func TestRemedyResized(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{
		{}, {"down", "down", "down", " "}, {"p"}, {"p", "down", "enter", "pgdown"}, {"p", "b", "enter"}, {"p", "s"},
		{"p", "a", "prod"}, {"p", "a", "prod-eu", "enter"}, {"r"},
	} {
		s := remedyStageOf(t, 120, 40, &fakeRemedy{})
		for _, k := range keys {
			s.press(k)
			s.text()
		}
		stage := s.remedy().stage
		for _, size := range [][2]int{{40, 12}, {200, 60}, {41, 13}, {39, 10}, {80, 24}, {300, 12}, {40, 100}} {
			s.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			s.text()
			s.wantStage(stage)
		}
	}
}
