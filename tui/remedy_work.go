package tui

import (
	"context"
	"errors"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/report"
)

// call runs do outside of the program's goroutine and returns the command that brings
// what it comes to. What is called later waits for it, and so does the end of the
// program, even where the command never runs.
func (v *remedyView) call(d *desk, do func() tea.Msg) tea.Cmd {
	done := make(chan tea.Msg, 1)
	d.working.Go(func() {
		v.turn <- struct{}{}
		defer func() { <-v.turn }()
		defer func() {
			if why := recover(); why != nil {
				done <- panicMsg{newPanicError(why)}
			}
		}()
		done <- do()
	})
	return func() tea.Msg {
		select {
		case msg := <-done:
			return msg
		case <-d.ctx.Done():
			return nil
		}
	}
}

// planning is a plan in the making.
type planning struct {
	ask      RemedyAsk
	rollback bool
	since    time.Time
	cancel   context.CancelFunc
	// pane is what is looked at once there is a plan, and at the workload there, if any.
	pane remedyPane
	at   string
}

// plannedMsg brings a plan, or why there is none.
type plannedMsg struct {
	of   *planning
	plan *remedyPlan
	err  error
}

// begin plans. A plan of before is gone with it: the cluster is read anew.
func (v *remedyView) begin(d *desk, rollback bool) tea.Cmd {
	ctx, cancel := context.WithCancel(d.ctx)
	p := &planning{ask: v.form.ask(), rollback: rollback, since: d.now, cancel: cancel}
	v.stage, v.planning, v.plan, v.failed, v.form.word = remedyPlanning, p, nil, nil, ""
	remedy, theme := d.opts.Remedy, d.theme
	return v.call(d, func() tea.Msg {
		defer cancel()
		if err := ctx.Err(); err != nil {
			return plannedMsg{of: p, err: err}
		}
		var made *RemedyPlan
		var err error
		if rollback {
			made, err = remedy.Rollback(ctx)
		} else {
			made, err = remedy.Plan(ctx, p.ask)
		}
		switch {
		case err != nil:
		case made == nil || made.View.Plan == nil:
			err = errors.New("no plan was made")
		default:
			return plannedMsg{of: p, plan: newRemedyPlan(made, p, theme)}
		}
		return plannedMsg{of: p, err: err}
	})
}

// planned takes in a plan, unless nobody waits for it any more.
func (v *remedyView) planned(d *desk, msg plannedMsg) {
	if v.planning != msg.of {
		return
	}
	v.planning = nil
	if msg.err != nil {
		what := "Planning failed"
		if msg.of.rollback {
			what = "Planning the rollback failed"
		}
		v.fail(what, msg.err.Error(), remedyForm)
		return
	}
	v.stage, v.plan = remedyPlanned, msg.plan
	v.plan.made, v.plan.pane = d.now, msg.of.pane
	for i, w := range v.plan.broken {
		if w != nil && w.Workload.String() == msg.of.at {
			v.plan.breaks.put(i, 0)
		}
	}
}

// cancelPlanning goes back to the form at once. What was asked ends by itself.
func (v *remedyView) cancelPlanning() {
	v.planning.cancel()
	v.planning, v.stage = nil, remedyForm
	v.form.word = "Planning was cancelled. Nothing was changed."
}

// maxProgress is how many lines of progress are kept at least; twice as many at most.
const maxProgress = 1000

// applying is a plan being carried out.
type applying struct {
	plan  *remedyPlan
	since time.Time
	// stopping is true once it was asked to stop.
	stopping bool
	page     pager
	// follow is true while the latest line is shown.
	follow bool
	// shown are the lines of progress as they are drawn, and what they were drawn for.
	shown                                  []string
	shownLines, shownWidth, shownForgotten int

	// changed has something in it where there is news, and ended is closed in the end.
	changed chan struct{}
	ended   chan struct{}

	mu          sync.Mutex
	lines       []string
	forgotten   int
	done, total int
}

type (
	// progressMsg says that there is news of an apply, and appliedMsg that it has ended.
	progressMsg struct{ of *applying }
	appliedMsg  struct {
		of     *applying
		result *remediate.Result
		err    error
	}
)

// tell takes in progress. It never waits for the screen.
func (a *applying) tell(p remediate.Progress) {
	a.mu.Lock()
	if len(a.lines) == 2*maxProgress {
		a.lines = append(a.lines[:0], a.lines[maxProgress:]...)
		a.forgotten += maxProgress
	}
	a.lines = append(a.lines, report.ProgressLine(&p))
	a.done, a.total = p.Done, p.Total
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// wait is the command that brings the next news.
func (a *applying) wait(d *desk) tea.Cmd {
	return func() tea.Msg {
		select {
		case <-a.changed:
			return progressMsg{a}
		case <-a.ended:
		case <-d.ctx.Done():
		}
		return nil
	}
}

// apply carries the plan out. It is nobody's plan any more then: it is not done twice.
func (v *remedyView) apply(d *desk) tea.Cmd {
	ctx, cancel := context.WithCancel(d.ctx)
	a := &applying{
		plan: v.plan, since: d.now, follow: true,
		changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	v.stage, v.applying, v.plan, v.result = remedyApplying, a, nil, nil
	d.busy = func() {
		a.stopping = true
		cancel()
	}
	remedy := d.opts.Remedy
	brought := v.call(d, func() tea.Msg {
		defer cancel()
		defer close(a.ended)
		if err := ctx.Err(); err != nil {
			return appliedMsg{of: a, err: err}
		}
		result, err := remedy.Apply(ctx, a.plan.RemedyPlan, a.tell)
		return appliedMsg{of: a, result: result, err: err}
	})
	return tea.Batch(brought, a.wait(d))
}

// applied takes in what came of it.
func (v *remedyView) applied(d *desk, msg appliedMsg) tea.Cmd {
	if v.applying != msg.of {
		return nil
	}
	v.stage, v.applying = remedyDone, nil
	v.result = newRemedyResult(msg, d.now)
	return tell(idleMsg{})
}
