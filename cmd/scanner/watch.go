package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/escape-scanner/escape-scanner/config"
)

// watchFlags are the flags of watch that are no configuration.
type watchFlags struct {
	kube          *genericclioptions.ConfigFlags
	selector      string
	allNamespaces bool
	demo          bool
	noAlerts      bool
	allAlerts     bool
	record        string
	replay        string
	pace          float64
	leaderID      string
	rbac          bool
	// probeLogs is the namespace of the node probe whose logs are read, empty for none.
	probeLogs string
}

func newWatchFlags() watchFlags {
	return watchFlags{kube: genericclioptions.NewConfigFlags(true)}
}

func (a *app) watchCommand() *cobra.Command {
	f := newWatchFlags()
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow a cluster: findings and attacks as they happen",
		Long: `Follows a cluster (all namespaces, unless -n is given) until it is stopped: first the
whole picture, as scan tells it, then every change of a finding or a verdict, and what
KubeArmor reports, joined to the workload that did it and to what stops it there.

At a terminal it writes a calm log. In a cluster it serves metrics (--listen), keeps a
report for each workload (--reports), writes Events (--events) and calls a webhook
(--webhook). What could not be read, and times of which alerts are missing, are told.`,
		Example: `  escape-scanner watch --demo
  escape-scanner watch -n payments,shop
  escape-scanner watch -o text -o jsonl=watch.jsonl
  escape-scanner watch --listen :8080 --reports auto --events --leader-elect
  escape-scanner watch --record alerts.jsonl
  escape-scanner watch --replay alerts.jsonl
  escape-scanner watch --rbac --reports auto --events --leader-elect`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, origins, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := f.validate(cmd, cfg); err != nil {
				return err
			}
			f.settlePace(cmd)
			if f.rbac {
				return a.printWatchRoles(&f, cfg)
			}
			return a.watch(cmd.Context(), &f, cfg, origins.File, func() (*config.Config, config.Origins, error) {
				return a.load(cmd.Flags())
			})
		},
	}
	f.addFlags(cmd, a)
	return cmd
}

func (f *watchFlags) addFlags(cmd *cobra.Command, a *app) {
	what := newFlagSet()
	what.BoolVar(&f.demo, "demo", false, "follow the demo cluster that is part of the program, with recorded attacks")
	cluster := addScopeFlags(what, f.kube, &f.allNamespaces, &f.selector, "follow")
	addProbeLogs(what, &f.probeLogs)

	alerts := newFlagSet()
	f.addAlerts(alerts)
	alerts.StringVar(&f.record, "record", "", "write the alerts as they come to a `FILE`, which --replay plays")

	how := newFlagSet()
	config.AddFlagsOf(how, config.KeyLevel, config.KeyPSSVersion, config.KeyClusterName, config.KeyWatchOutput)
	how.BoolVar(&f.allAlerts, "all-alerts", false, "write every alert as text, and not the incidents only")
	config.AddFlagsOf(how, config.KeyRotateSize, config.KeyRotateKeep, config.KeyColor, config.KeyPageSize)
	where := newFlagSet()
	config.AddFlagsOf(where, config.KeyListen, config.KeyReports, config.KeyEvents, config.KeyWebhook, config.KeyWebhookSecretFile,
		config.KeyWebhookCA, config.KeyWebhookSeverity, config.KeyLeaderElect, config.KeyLeaseNamespace, config.KeyLeaseName)
	where.StringVar(&f.leaderID, "leader-id", "", "the `NAME` of this replica among the others (default: the host's)")
	where.BoolVar(&f.rbac, "rbac", false, "print the roles that these flags need, and follow nothing")
	a.useFlags(cmd,
		flagGroup{"What is followed", what}, flagGroup{"Alerts of KubeArmor", alerts}, flagGroup{"How it is judged and written", how},
		flagGroup{"Where else it goes", where}, flagGroup{"Which cluster, as with kubectl", cluster})
}

// addAlerts registers the flags that say where alerts come from.
func (f *watchFlags) addAlerts(alerts *pflag.FlagSet) {
	alerts.BoolVar(&f.noAlerts, "no-alerts", false, "do not listen to KubeArmor")
	config.AddFlagsOf(alerts, kubeArmorKeys()...)
	alerts.StringVar(&f.replay, "replay", "", "play the alerts of a `FILE` instead of listening, - for standard input, and end with it")
	alerts.Float64Var(&f.pace, "pace", 0, "how fast a recording is played, as a `SPEED`: 1 as it was recorded, 10 ten times as fast, 0 at once (default: 0, the demo's own: 1)")
}

// settlePace has the demo's own alerts played as they were recorded, unless another pace
// was asked for.
func (f *watchFlags) settlePace(cmd *cobra.Command) {
	if f.demo && f.replay == "" && !cmd.Flags().Changed("pace") {
		f.pace = 1
	}
}

// kubeArmorKeys are the keys that say how KubeArmor is reached.
func kubeArmorKeys() []string {
	return []string{
		config.KeyKubeArmor, config.KeyKubeArmorTLS, config.KeyKubeArmorCA, config.KeyKubeArmorCert,
		config.KeyKubeArmorKey, config.KeyKubeArmorServerName,
	}
}

// validate refuses what cannot be meant together.
func (f *watchFlags) validate(cmd *cobra.Command, cfg *config.Config) error {
	changed := cmd.Flags().Changed
	switch {
	case changed("namespace") && len(splitNames(*f.kube.Namespace)) == 0:
		return errors.New("-n: want the name of a namespace, have nothing")
	case f.allNamespaces && changed("namespace"):
		return errors.New("-A and -n: use one of them")
	case changed("replay") && f.replay == "":
		return errors.New("--replay: want a file, have nothing")
	case changed("record") && f.record == "":
		return errors.New("--record: want a file, have nothing")
	case !(f.pace >= 0): // NaN is not.
		return fmt.Errorf("--pace %g: want 0 or more", f.pace)
	case changed("pace") && f.replay == "" && !f.demo:
		return errors.New("--pace: only a recording has a pace; give one with --replay")
	}
	for _, pair := range []struct {
		one, other string
		both       bool
	}{
		{"--replay", "--record", f.replay != "" && f.record != ""},
		{"--replay", "--no-alerts", f.replay != "" && f.noAlerts},
		{"--record", "--no-alerts", f.record != "" && f.noAlerts},
		{"--replay", "--kubearmor", f.replay != "" && changed(config.KeyKubeArmor)},
		{"--no-alerts", "--kubearmor", f.noAlerts && changed(config.KeyKubeArmor)},
		{"--demo", "--record", f.demo && f.record != ""},
		{"--demo", "--kubearmor", f.demo && changed(config.KeyKubeArmor)},
	} {
		if pair.both {
			return fmt.Errorf("%s and %s: use one of them", pair.one, pair.other)
		}
	}
	if f.demo {
		return f.validateDemo(cmd, cfg)
	}
	return validateProbeLogs(cmd.Flags(), f.probeLogs)
}

// validateDemo refuses what would change a cluster that is none.
func (f *watchFlags) validateDemo(cmd *cobra.Command, cfg *config.Config) error {
	var wrong []string
	for _, name := range []string{"context", "cluster", "server", "kubeconfig", config.KeyClusterName, flagProbeLogs} {
		if cmd.Flags().Changed(name) {
			wrong = append(wrong, "--"+name)
		}
	}
	if cfg.Watch.Reports != "off" {
		wrong = append(wrong, "--reports")
	}
	if cfg.Watch.Events {
		wrong = append(wrong, "--events")
	}
	if cfg.Watch.LeaderElect {
		wrong = append(wrong, "--leader-elect")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%s: the demo cluster is part of the program, and nothing can be written there", strings.Join(wrong, ", "))
	}
	return nil
}

// watch follows a cluster until the context ends, or a recording does. The
// configuration came from the file, if any, and reload reads it again.
func (a *app) watch(ctx context.Context, f *watchFlags, cfg *config.Config, file string, reload loader) error {
	saveMemory()
	progress := &beginning{w: a.stderr, line: a.liveLine()}
	if slices.Contains(cfg.Watch.Outputs(), config.Output{Format: "jsonl"}) {
		// The lines themselves show that it gets on.
		progress.line = &liveLine{}
	}
	own := *a
	own.stderr = progress
	w := &watcher{app: &own, flags: f, cfg: cfg, file: file, reload: reload, progress: progress}
	defer w.close()
	defer progress.begin()()
	if err := w.prepare(ctx); err != nil {
		return w.conclude(ctx, w.first(err))
	}
	return w.run(ctx)
}
