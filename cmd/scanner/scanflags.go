package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/escape-scanner/escape-scanner/config"
)

// addFlags registers the flags of scan, and a help text that shows first what
// people need first.
func (f *scanFlags) addFlags(cmd *cobra.Command, a *app) {
	what := newFlagSet()
	what.StringSliceVarP(&f.files, "filename", "f", nil, "audit manifests: a `PATH` of a file or directory, or - for standard input; may be repeated")
	what.BoolVar(&f.demo, "demo", false, "audit the demo cluster that is part of the program")
	what.StringVar(&f.from, "from", "", "render an earlier run again: a `FILE` of -o jsonl or json, or - for standard input")
	what.StringVar(&f.explain, "explain", "", "print the whole reasoning about one `WORKLOAD` (NAMESPACE/KIND/NAME) instead of the table")
	what.StringVar(&f.saveInventory, "save-inventory", "", "save what was read of the cluster to a `FILE`, which -f reads back to the same verdicts; no secrets, values of environment variables or unread annotations")
	f.shard.add(what)
	what.BoolVar(&f.rbac, "rbac", false, "print the roles that a scan with these flags needs, and scan nothing")
	what.BoolVar(&f.preflight, "preflight", false, "print the permissions that a scan of the cluster needs and has, and scan nothing")

	cluster := addScopeFlags(what, f.kube, &f.allNamespaces, &f.selector, "audit")
	fleet := newFlagSet()
	fleet.StringSliceVar(&f.fleet.contexts, flagContexts, nil, "audit the clusters of these `CONTEXTS` of the kubeconfig, separated by commas, in this order")
	fleet.BoolVar(&f.fleet.all, flagAllContexts, false, "audit the clusters of all contexts of the kubeconfig")
	config.AddFlagsOf(fleet, config.KeyParallel)

	how := newFlagSet()
	config.AddFlags(how)
	closer := newFlagSet()
	closer.DurationVar(&f.alerts, "alerts", 0, "listen to KubeArmor for this `TIME`, and join what it reports to the workloads (the demo's alerts are all told)")
	config.AddFlagsOf(closer, kubeArmorKeys()...)
	f.probes.add(closer)
	closer.StringVar(&f.reports, config.KeyReports, reportsOff, "write a report for each workload to the cluster: `KIND` is "+strings.Join(config.Words(config.KeyReports), ", "))
	groups := []flagGroup{
		{"What is audited", what}, {"How it is judged and written", how},
		{"Looking closer, each with rights of its own", closer}, {"Several clusters in one run", fleet}, {"Which cluster, as with kubectl", cluster},
	}
	for _, g := range groups {
		cmd.Flags().AddFlagSet(g.flags)
	}
	completeWords(cmd, how)
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		return writeUsage(cmd.OutOrStderr(), cmd, groups, a.width(a.stdout))
	})
}

// completeWords lets shells complete the words that flags of a command take, which has
// them already.
func completeWords(cmd *cobra.Command, flags *pflag.FlagSet) {
	flags.VisitAll(func(flag *pflag.Flag) {
		words := config.Words(flag.Name)
		if len(words) == 0 {
			return
		}
		// It fails only for a flag that is not there.
		_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	})
}

// addScopeFlags registers the flags that say which pods of a cluster are meant, and gives
// those of kubectl that say which cluster. do is what is done with them.
func addScopeFlags(what *pflag.FlagSet, kube *genericclioptions.ConfigFlags, all *bool, selector *string, do string) (cluster *pflag.FlagSet) {
	cluster, namespace := kubectlFlags(kube)
	namespace.Usage = do + " these `NAMESPACES` only, several separated by commas"
	what.AddFlag(namespace)
	what.BoolVarP(all, "all-namespaces", "A", false, do+" all namespaces, which is the default")
	what.StringVarP(selector, "selector", "l", "", do+" only the pods that match this label `SELECTOR`")
	return cluster
}

// kubectlFlags makes the flags of kubectl but for --namespace, which goes with the choice
// of what a command is for.
func kubectlFlags(kube *genericclioptions.ConfigFlags) (cluster *pflag.FlagSet, namespace *pflag.Flag) {
	all := newFlagSet()
	kube.AddFlags(all)
	cluster = newFlagSet()
	all.VisitAll(func(flag *pflag.Flag) {
		switch flag.Name {
		case "namespace":
			namespace = flag
			return
		case "cache-dir":
			// Nothing is cached, and its default shows the user's home.
			flag.Hidden = true
		}
		cluster.AddFlag(flag)
	})
	return cluster, namespace
}

func newFlagSet() *pflag.FlagSet {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fs.SortFlags = false
	return fs
}

// flagGroup are flags under a heading.
type flagGroup struct {
	heading string
	flags   *pflag.FlagSet
}

// writeUsage writes how a command is called, with its flags in groups.
func writeUsage(w io.Writer, cmd *cobra.Command, groups []flagGroup, width int) error {
	if width > 0 {
		// pflag lets a line run over by this much rather than break off a short end.
		width = max(width-5, 1)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n\nExamples:\n%s\n", cmd.UseLine(), cmd.Example)
	seen := map[string]bool{}
	for _, g := range append(groups, flagGroup{"Other flags", cmd.Flags()}) {
		flags := newFlagSet()
		g.flags.VisitAll(func(flag *pflag.Flag) {
			if !seen[flag.Name] {
				seen[flag.Name] = true
				flags.AddFlag(flag)
			}
		})
		if flags.HasAvailableFlags() {
			fmt.Fprintf(&b, "\n%s:\n%s", g.heading, flags.FlagUsagesWrapped(width))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
