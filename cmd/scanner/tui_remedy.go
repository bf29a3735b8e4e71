package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/tui"
)

// screenRemedy makes the plans of a screen, by the flags that the commands have.
type screenRemedy struct {
	*app
	demo bool
	// given are the flags that say which cluster it is, by their names.
	given map[string]string
	// probeLogs is the namespace of the node probe whose logs are read, empty for none.
	probeLogs string
	// verifyTime is how long what was made may take to be seen to work, 0 for the usual.
	verifyTime time.Duration

	mu sync.Mutex
	// plan is the last that was made and not yet carried out, and do carries it out.
	plan *tui.RemedyPlan
	do   func(context.Context, func(remediate.Progress)) (*remediate.Result, error)
}

var _ tui.Remedy = (*screenRemedy)(nil)

func (a *app) remedy(f *tuiFlags, cmd *cobra.Command) *screenRemedy {
	r := &screenRemedy{app: a, demo: f.demo, probeLogs: f.probeLogs, given: map[string]string{}}
	cluster, _ := kubectlFlags(newClusterFlags().kube)
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if cluster.Lookup(flag.Name) != nil {
			r.given[flag.Name] = flag.Value.String()
		}
	})
	return r
}

// flags are those of a command, with what the screen was called with and more.
func (r *screenRemedy) flags(groups []flagGroup, more map[string]string) (*pflag.FlagSet, error) {
	all := newFlagSet()
	for _, g := range groups {
		all.AddFlagSet(g.flags)
	}
	for _, values := range []map[string]string{r.given, more} {
		for name, value := range values {
			if err := all.Set(name, value); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// Plan implements tui.Remedy.
func (r *screenRemedy) Plan(ctx context.Context, ask tui.RemedyAsk) (*tui.RemedyPlan, error) {
	f := &planFlags{setFlags: newSetFlags(), demo: r.demo}
	more := map[string]string{config.KeyLevel: string(ask.Level), "action": string(ask.Action)}
	if len(ask.Namespaces) > 0 {
		more["namespace"] = strings.Join(ask.Namespaces, ",")
	} else {
		more["all-namespaces"] = "true"
	}
	if r.probeLogs != "" {
		// What the screen shows of the nodes the plan follows from.
		more[flagProbeLogs] = r.probeLogs
	}
	flags, err := r.flags(f.groups(), more)
	if err != nil {
		return nil, err
	}
	for _, part := range ask.Only {
		if err := flags.Set("only", string(part)); err != nil {
			return nil, err
		}
	}
	for _, workload := range ask.Accept {
		if err := flags.Set("accept", workload); err != nil {
			return nil, err
		}
	}
	cfg, _, err := r.load(flags)
	if err != nil {
		return nil, err
	}
	p, err := r.makePlan(ctx, f, flags, cfg)
	if err != nil {
		return nil, err
	}
	p.view.Next = p.next(r.app, flags)
	plan := &tui.RemedyPlan{View: p.view, Idle: p.view.Plan.Idle(), Word: p.patient.name, Command: r.command("apply", flags)}
	switch o := obstacleTo(p, cfg); {
	case r.demo:
		plan.Refused = demoRefusal
		plan.Command = r.command("plan", flags) + " --demo"
	case o != nil:
		plan.Refused = strings.Join(append([]string{o.what}, o.more...), "\n")
	}
	r.keep(plan, func(ctx context.Context, told func(remediate.Progress)) (*remediate.Result, error) {
		verifier := kube.NewVerifier(p.patient.live, kube.VerifyOptions{Set: p.view.Set.Options, Timeout: r.verifyTime})
		return r.makeChanges(ctx, p.patient, p.view.Plan, remediate.ApplyOptions{Verify: verifier.Verify, Progress: told}, nil)
	})
	return plan, nil
}

// Rollback implements tui.Remedy.
func (r *screenRemedy) Rollback(ctx context.Context) (*tui.RemedyPlan, error) {
	if r.demo {
		return nil, errors.New(demoRefusal)
	}
	f := newClusterFlags()
	cluster, _ := kubectlFlags(f.kube)
	how := newFlagSet()
	f.addSet(how)
	flags, err := r.flags([]flagGroup{{flags: how}, {flags: cluster}}, nil)
	if err != nil {
		return nil, err
	}
	cfg, _, err := r.load(flags)
	if err != nil {
		return nil, err
	}
	p, err := f.patient(r.app, nil, cfg)
	if err != nil {
		return nil, err
	}
	version, _, _, err := p.serverVersion(ctx)
	if err != nil {
		return nil, err
	}
	back, err := remediate.NewRollback(ctx, p.writes, f.set, remediate.PlanOptions{RecordNamespace: f.records})
	if err != nil {
		return nil, err
	}
	plan := &tui.RemedyPlan{
		View: report.Remediation{Tool: "escape-scanner", Version: r.version, Time: r.now(), Cluster: p.name, ServerVersion: version, Plan: back},
		Idle: back.Idle(), Word: p.name, Command: r.command("rollback", flags),
	}
	r.keep(plan, func(ctx context.Context, told func(remediate.Progress)) (*remediate.Result, error) {
		check := func(ctx context.Context) []remediate.Check { return asBefore(ctx, p.writes, back) }
		return r.makeChanges(ctx, p, back, remediate.ApplyOptions{Progress: told}, check)
	})
	return plan, nil
}

// keep makes a plan the one that may be carried out.
func (r *screenRemedy) keep(plan *tui.RemedyPlan, do func(context.Context, func(remediate.Progress)) (*remediate.Result, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plan, r.do = plan, do
}

// Apply implements tui.Remedy.
func (r *screenRemedy) Apply(ctx context.Context, plan *tui.RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
	r.mu.Lock()
	do, current := r.do, r.plan
	// A plan is for the cluster as it was seen: it is carried out once.
	r.plan, r.do = nil, nil
	r.mu.Unlock()
	switch {
	case do == nil || current != plan:
		return nil, errors.New("the plan is not the last one that was made: plan again")
	case plan.Refused != "":
		return nil, errors.New(plan.Refused)
	}
	return do(ctx, progress)
}
