package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

func (a *app) remediateRollbackCommand() *cobra.Command {
	f := newClusterFlags()
	var doc documentFlags
	var do doFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Put back what was before the set",
		Long: `Shows what would be put back or taken away, asks, and does it: objects that apply
made go, fields and labels that it changed get the values that the record has. What
others changed since stays. The record itself goes last, so that a rollback that was
cut short is finished by another.`,
		Example: `  escape-scanner remediate rollback
  escape-scanner remediate rollback --set audit-first --yes`,
		Args: noWords,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := doc.validate(); err != nil {
				return err
			}
			if err := f.validate(); err != nil {
				return err
			}
			if !do.yes && !a.asks() {
				return errNobodyAsked
			}
			p, err := f.patient(a, nil, cfg)
			if err != nil {
				return noCluster("", err)
			}
			opts := remediate.PlanOptions{RecordNamespace: f.records, Force: force}
			return noCluster(p.name, a.remediateRollback(cmd.Context(), p, f.set, opts, &doc, do, cmd.Flags(), cfg))
		},
	}
	cluster, _ := kubectlFlags(f.kube)
	how := newFlagSet()
	f.addSet(how)
	how.BoolVar(&force, "force-conflicts", false, "put fields back that another manager has taken since")
	how.BoolVar(&do.yes, "yes", false, "do not ask")
	a.useFlags(cmd, flagGroup{"What is taken back", how}, doc.group(), flagGroup{"Which cluster, as with kubectl", cluster})
	return cmd
}

func (a *app) remediateRollback(ctx context.Context, p *patient, name string, opts remediate.PlanOptions, doc *documentFlags, do doFlags, flags *pflag.FlagSet, cfg *config.Config) error {
	version, _, _, err := p.serverVersion(ctx)
	if err != nil {
		return err
	}
	plan, err := remediate.NewRollback(ctx, p.writes, name, opts)
	if err != nil {
		return err
	}
	view := &report.Remediation{Tool: "escape-scanner", Version: a.version, Time: a.now(), Cluster: p.name, ServerVersion: version, Plan: plan}
	if len(plan.Changes) == 0 {
		return a.writePlan(doc, cfg, view)
	}
	if err := a.showPlan(doc, do, cfg, view); err != nil {
		return err
	}
	question := fmt.Sprintf("put back %s of cluster %s?", counted(plan.Pending(), "object"), p.name)
	if ok, err := a.agreed(ctx, do, question); !ok {
		return err
	}
	check := func(ctx context.Context) []remediate.Check { return asBefore(ctx, p.writes, plan) }
	return a.carryOut(ctx, p, view, remediate.ApplyOptions{}, check, doing{doc, cfg, flags})
}

// asBefore looks whether everything is as the plan of a rollback says it was before.
func asBefore(ctx context.Context, c remediate.Cluster, plan *remediate.Plan) []remediate.Check {
	var checks []remediate.Check
	for i := range plan.Changes {
		change := &plan.Changes[i]
		check := remediate.Check{Subject: change.Object.String(), Answer: kernel.Yes, Message: "as before"}
		live, err := c.Get(ctx, change.Object)
		switch {
		case apierrors.IsNotFound(err) && change.After == nil:
			check.Message = "gone, as before"
		case apierrors.IsNotFound(err):
			check.Answer, check.Message = kernel.No, "it is not there"
		case err != nil:
			check.Answer, check.Message = kernel.Unknown, err.Error()
		case change.After == nil:
			check.Answer, check.Message = kernel.No, "it is still there"
		case len(remediate.Diff(change.After, live)) > 0:
			check.Answer, check.Message = kernel.No, "it differs from what it was before"
		}
		checks = append(checks, check)
	}
	return checks
}
