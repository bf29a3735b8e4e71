package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

func (a *app) remediateRBACCommand() *cobra.Command {
	f := newSetFlags()
	var probes probeFlags
	var observe bool
	cmd := &cobra.Command{
		Use:   "rbac [plan|apply|rollback|status]",
		Short: "Print the roles that the verbs need",
		Long: `Prints, for a verb or for all of them, the ClusterRole and the Roles with exactly the
rights that it uses for the set that the flags mean (the whole cluster, unless -n is
given). No cluster is read. Whom they are bound to is yours to say.

A dry run takes the rights of what it rehearses, so plan needs those of apply. Whoever
may apply the set rules over what the cluster admits: bind it to few.`,
		Example: `  escape-scanner remediate rbac plan -n shop --admission vap
  escape-scanner remediate rbac > roles.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			verbs := kube.Verbs()
			if len(args) == 1 {
				verbs = []kube.Verb{kube.Verb(args[0])}
				if !slices.Contains(kube.Verbs(), verbs[0]) {
					return fmt.Errorf("verb %q: want one of plan, apply, rollback, status; the others need no rights", args[0])
				}
			}
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if len(splitNames(*f.kube.Namespace)) == 0 && !cmd.Flags().Changed("namespace") {
				f.allNamespaces = true
			}
			if err := validateProbeLogs(cmd.Flags(), probes.logs); err != nil {
				return err
			}
			opts, err := f.options(a, cmd.Flags(), cfg)
			if err != nil {
				return err
			}
			work := kube.Work{Objects: objectsOf(opts), Namespaces: opts.Scope.Namespaces, RecordNamespace: f.records, Looks: probes.looks(), Observe: observe}
			return a.writeRoles(verbs, work, opts)
		},
	}
	whom, what, _ := f.groups()
	how := newFlagSet()
	how.BoolVar(&observe, "observe", false, "with the right to listen to KubeArmor's alerts, as plan --observe does")
	how.BoolVar(&probes.exec, "kubearmor-exec", false, "with the right of that flag of plan")
	how.BoolVar(&probes.inspect, "inspect-images", false, "with the right of that flag of plan")
	addProbeLogs(how, &probes.logs)
	how.Lookup(flagProbeLogs).Usage = "with the rights of that flag of plan, in the `NAMESPACE` of the node probe"
	a.useFlags(cmd, whom, what, flagGroup{"What else the verbs are to do", how})
	cmd.ValidArgs = []string{string(kube.VerbPlan), string(kube.VerbApply), string(kube.VerbRollback), string(kube.VerbStatus)}
	return cmd
}

// objectsOf names what the set is made of, as far as rights go: kinds, in their
// namespaces. With admission auto these are the kinds of all that may be chosen.
func objectsOf(opts set.Options) []remediate.Ref {
	mechanisms := []set.Admission{opts.Admission}
	if opts.Admission == set.AdmissionAuto {
		mechanisms = []set.Admission{set.AdmissionKyvernoCEL, set.AdmissionVAP, set.AdmissionPSA, set.AdmissionKyverno}
	}
	whole := len(opts.Scope.Namespaces) == 0
	precise := opts.Fit == set.FitPrecise
	opts.Fit = set.FitFull
	var refs []remediate.Ref
	for _, opts.Admission = range mechanisms {
		// What cannot choose pods by their labels is not chosen by auto, and was refused
		// before where it was asked for.
		s, err := set.Render(opts, set.Facts{Namespaces: []string{anyNamespace}})
		if err != nil {
			continue
		}
		for i := range s.Objects {
			refs = append(refs, remediate.RefOf(s.Objects[i].Final()))
		}
	}
	if precise {
		for _, ns := range append(slices.Clone(opts.Scope.Namespaces), anyNamespace)[:max(1, len(opts.Scope.Namespaces))] {
			refs = append(refs, remediate.Ref{APIVersion: armorVersion, Kind: "KubeArmorPolicy", Namespace: ns})
		}
	}
	if whole {
		for i := range refs {
			// Namespaces to come are meant too.
			refs[i].Namespace = ""
		}
	}
	return refs
}

const (
	// anyNamespace stands for those that are not known.
	anyNamespace = "any"
	armorVersion = "security.kubearmor.com/v1"
)

func (a *app) writeRoles(verbs []kube.Verb, work kube.Work, opts set.Options) error {
	comment := ""
	if opts.Admission == set.AdmissionAuto {
		comment = "# Admission auto may choose any mechanism, so the rights for all are here: --admission names one.\n"
	}
	var roles []*unstructured.Unstructured
	for _, verb := range verbs {
		roles = append(roles, kube.Roles("escape-scanner-remediate-"+string(verb), kube.Needs(verb, work))...)
	}
	return a.printRoles(comment, roles)
}

// kubeFlagNames are the flags that say which cluster is meant.
func kubeFlagNames() []string {
	f := newClusterFlags()
	cluster, _ := kubectlFlags(f.kube)
	return flagNames(cluster)
}

func flagNames(fs *pflag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return names
}
