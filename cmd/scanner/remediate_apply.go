package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// doFlags say how a plan is carried out.
type doFlags struct {
	yes  bool
	wait time.Duration
}

func (a *app) remediateApplyCommand() *cobra.Command {
	f := &planFlags{setFlags: newSetFlags()}
	var do doFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Bring the set in: shows the plan, asks, and does it",
		Long: `Shows the plan, asks, and carries it out: first what only reports, then what refuses.
Before the first change a record of what was there is written, from which rollback
puts it back. A second apply changes nothing; one that was cut short is finished by
apply, or undone by rollback.

It refuses where a workload would break that nobody accepted. Pods that run go on
running; what is refused shows when they are made anew.`,
		Example: `  escape-scanner remediate apply -n shop
  escape-scanner remediate apply -n shop --stage audit          reports only, for now
  escape-scanner remediate apply -A --accept shop/Deployment/legacy --yes`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if do.wait <= 0 {
				return fmt.Errorf("--wait %s: want more than nothing", do.wait)
			}
			if f.probes.plansOnly() {
				return errors.New("--probe-nodes=plan: only shows something, and apply does; use it with plan")
			}
			return a.remediateApply(cmd.Context(), f, do, cmd.Flags(), cfg)
		},
	}
	groups := f.groups()
	groups[2].flags.BoolVar(&do.yes, "yes", false, "do not ask")
	groups[2].flags.DurationVar(&do.wait, "wait", kube.DefaultVerifyTime, "how long to wait after a stage for what can be verified")
	a.useFlags(cmd, groups...)
	return cmd
}

func (a *app) remediateApply(ctx context.Context, f *planFlags, do doFlags, flags *pflag.FlagSet, cfg *config.Config) error {
	if !do.yes && !a.asks() {
		return errNobodyAsked
	}
	p, err := a.makePlan(ctx, f, flags, cfg)
	if err != nil {
		return err
	}
	if o := obstacleTo(p, cfg); o != nil {
		p.view.Next = p.next(a, flags)
		if err := a.writePlan(&f.documentFlags, cfg, &p.view); err != nil {
			return err
		}
		o.complain(a)
		return &exitError{code: o.code}
	}
	if p.view.Plan.Idle() {
		return a.writePlan(&f.documentFlags, cfg, &p.view)
	}
	if err := a.showPlan(&f.documentFlags, do, cfg, &p.view); err != nil {
		return err
	}
	question := fmt.Sprintf("apply %s to cluster %s?", counted(p.view.Plan.Pending(), "change"), p.patient.name)
	if p.view.Plan.Pending() == 0 {
		question = fmt.Sprintf("bring the record of set %s up to date in cluster %s?", p.view.Plan.Set, p.patient.name)
	}
	if ok, err := a.agreed(ctx, do, question); !ok {
		return err
	}
	verifier := kube.NewVerifier(p.patient.live, kube.VerifyOptions{Set: p.view.Set.Options, Timeout: do.wait})
	return a.carryOut(ctx, p.patient, &p.view, remediate.ApplyOptions{Verify: verifier.Verify}, nil, doing{&f.documentFlags, cfg, flags})
}

// agreed is whether the user wants it.
func (a *app) agreed(ctx context.Context, do doFlags, question string) (bool, error) {
	if do.yes {
		return true, nil
	}
	ok, err := a.confirm(ctx, question)
	if ctx.Err() != nil {
		a.complain("interrupted", "nothing was changed")
		return false, &exitError{code: exitInterrupted}
	}
	if err == nil && !ok {
		a.complain("note", fmt.Sprintf("nothing was changed (exit code %d)", exitFindings))
		err = &exitError{code: exitFindings}
	}
	return ok, err
}

// obstacle is what stands in the way of an apply.
type obstacle struct {
	kind string
	code int
	// what it is, and what there is to say of it: hint belongs to the command line.
	what, hint string
	more       []string
}

// complain says that nothing was changed, and why.
func (o *obstacle) complain(a *app) {
	a.complain(o.kind, "nothing was changed: "+o.what+o.hint)
	for _, text := range o.more {
		a.complain(o.kind, text)
	}
}

// obstacleTo is nil where nothing stands in the way of an apply.
func obstacleTo(p *planned, cfg *config.Config) *obstacle {
	code := func(code int) string { return fmt.Sprintf(" (exit code %d)", code) }
	refused := p.view.Preview.Refused()
	failures, blocked := len(p.view.Preview.Failures), len(p.view.Plan.Blocked())
	switch {
	case blocked > 0:
		return &obstacle{kind: "blocked", code: exitIncomplete, what: counted(blocked, "change") + " of the plan cannot be made", hint: code(exitIncomplete)}
	case failures > 0 && !cfg.AllowIncomplete:
		return &obstacle{kind: "incomplete", code: exitIncomplete, what: counted(failures, "thing") + " could not be read, so what would break is not known", hint: incompleteHint(cfg)}
	case len(refused) == 0:
		return nil
	}
	o := &obstacle{kind: "refused", code: exitFindings, what: counted(len(refused), "workload") + " would break", hint: code(exitFindings)}
	for _, w := range refused {
		why := "it breaks"
		if len(w.Effects) > 0 {
			why = w.Effects[0].What
		}
		o.more = append(o.more, w.Workload.String()+": "+why)
	}
	o.more = append(o.more, "for each there are three ways on: repair it (the plan says how), accept that it breaks (--accept NAMESPACE/KIND/NAME), or give it an exception with a reason in the configuration")
	return o
}

// doing is how a verb that changes something was called.
type doing struct {
	doc   *documentFlags
	cfg   *config.Config
	flags *pflag.FlagSet
}

// carryOut does what a plan shows and says what came of it, with what is checked once
// all is done.
func (a *app) carryOut(ctx context.Context, p *patient, view *report.Remediation, opts remediate.ApplyOptions, check func(context.Context) []remediate.Check, how doing) error {
	line := a.liveLine()
	opts.Progress = func(step remediate.Progress) { a.step(line, &step) }
	if check != nil {
		asked := check
		check = func(ctx context.Context) []remediate.Check {
			line.say("verifying")
			return asked(ctx)
		}
	}
	result, err := a.makeChanges(ctx, p, view.Plan, opts, check)
	line.say("")
	view.Result = result
	view.Next = []string{a.command("status", how.flags, notOf(how.flags, statusFlagNames())...)}
	if view.Set != nil || err != nil {
		view.Next = append(view.Next, a.command("rollback", how.flags, notOf(how.flags, statusFlagNames())...)+"   puts back what was before")
	}
	write := report.WriteResult
	if how.doc.json() {
		write = func(w io.Writer, r *report.Remediation, _ report.PlanOptions) error {
			return report.WritePlanJSON(w, r)
		}
	}
	if err := write(a.stdout, view, a.planStyle(a.stdout, how.doc, how.cfg)); err != nil {
		return err
	}
	return a.concludeResult(ctx, view, err)
}

// makeChanges carries a plan out. There is a result beside an error too. check is asked
// once all is done; it may be nil.
func (a *app) makeChanges(ctx context.Context, p *patient, plan *remediate.Plan, opts remediate.ApplyOptions, check func(context.Context) []remediate.Check) (*remediate.Result, error) {
	opts.By, opts.Now = whoami(a), a.now
	told := opts.Progress
	opts.Progress = func(step remediate.Progress) {
		if ctx.Err() == nil || step.Change == nil || step.Change.Block == nil {
			told(step)
		}
	}
	result, err := plan.Apply(ctx, p.writes, opts)
	if result == nil {
		result = &remediate.Result{}
	}
	if ctx.Err() != nil {
		// What an interrupt kept from being made is counted; nothing else is in its way.
		result.Changes = slices.DeleteFunc(result.Changes, func(c remediate.Change) bool { return c.Action == remediate.Blocked })
	}
	if check != nil && err == nil && ctx.Err() == nil {
		result.Checks = append(result.Checks, check(ctx)...)
	}
	return result, err
}

// step says how far it has come: a line a change, or the one line of a terminal.
func (a *app) step(line *liveLine, step *remediate.Progress) {
	text := report.ProgressLine(step)
	if line.w != nil {
		line.say(text)
		return
	}
	fmt.Fprintln(a.stderr, "escape-scanner: "+text)
}

// concludeResult turns what came of a plan into the exit code.
func (a *app) concludeResult(ctx context.Context, view *report.Remediation, err error) error {
	result := view.Result
	further := "the same command again finishes it, and rollback undoes it"
	if view.Plan.Rollback {
		further = "another rollback finishes it"
	}
	switch {
	case ctx.Err() != nil && (err != nil || result.Left > 0):
		a.complain("interrupted", fmt.Sprintf("stopped between two changes, %s not made: the record is kept, so %s", counted(result.Left, "change"), further))
		return &exitError{code: exitInterrupted}
	case err != nil:
		a.complain("failed", err.Error())
		a.complain("failed", fmt.Sprintf("%s not made: %s (exit code %d)", counted(result.Left, "change"), further, exitIncomplete))
		return &exitError{code: exitIncomplete}
	case result.Left > 0:
		a.complain("blocked", fmt.Sprintf("%s not made (exit code %d)", counted(result.Left, "change"), exitIncomplete))
		return &exitError{code: exitIncomplete}
	}
	if !verified(result.Checks) {
		a.complain("unverified", fmt.Sprintf("all changes were made, and not all could be verified (exit code %d)", exitIncomplete))
		return &exitError{code: exitIncomplete}
	}
	return nil
}

// verified tells whether the last check of everything says yes: what was not known in
// the first stage may be known by the last.
func verified(checks []remediate.Check) bool {
	last := map[string]kernel.Answer{}
	for _, c := range checks {
		last[c.Subject] = c.Answer
	}
	for _, answer := range last {
		if answer != kernel.Yes {
			return false
		}
	}
	return true
}

// whoami is who the record names: the user of this machine, which proves nothing.
func whoami(a *app) string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return a.env("USER")
}
