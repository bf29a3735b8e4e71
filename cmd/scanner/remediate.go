package main

import (
	"github.com/spf13/cobra"
)

func (a *app) remediateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remediate",
		Short: "Close the ways out: plan, apply and take back the escape-to-host set",
		Long: `Brings the escape-to-host set into a cluster and out of it again: admission that
refuses pods which leave ways out open, and KubeArmor policies that stop the steps
which attackers take at run time. It is a plan first, always, with what it would do
to every workload; a record in the cluster says what was there before, so that
rollback puts it back.

The set refuses pods and stops programs. Read what plan says BREAKS before apply.

Exit codes: 0 done, or nothing to do; 1 something would break that nobody accepted
(status: not all is in place); 2 wrong usage or configuration, or no cluster;
3 blocked, or something could not be read or verified; 130 interrupted.`,
		Example: `  escape-scanner remediate plan -n shop                what would be done, and what it breaks
  escape-scanner remediate apply -n shop               the same, then asks and does it
  escape-scanner remediate status                      is it in place, and does it bite?
  escape-scanner remediate rollback                    puts back what was before
  escape-scanner remediate render -n shop              the set as YAML, for GitOps
  escape-scanner remediate manifests -f deploy/        repairs the files themselves`,
		Args: commandsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.remediateRenderCommand(), a.remediatePlanCommand(), a.remediateApplyCommand(),
		a.remediateRollbackCommand(), a.remediateStatusCommand(),
		a.remediateManifestsCommand(), a.remediateRBACCommand())
	return cmd
}
