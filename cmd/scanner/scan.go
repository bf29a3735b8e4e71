package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// scanFlags are the flags of scan that are no configuration: they say what this
// one run looks at.
type scanFlags struct {
	kube          *genericclioptions.ConfigFlags
	files         []string
	selector      string
	allNamespaces bool
	demo          bool
	from          string
	preflight     bool
	rbac          bool
	explain       string
	saveInventory string
	probes        probeFlags
	fleet         fleetFlags
	shard         shardFlags
	// reports is the kind of the reports to keep in the cluster, "off" for none.
	reports string
	// alerts is how long KubeArmor is listened to, 0 for not at all.
	alerts time.Duration
}

func (a *app) scanCommand() *cobra.Command {
	f := &scanFlags{kube: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "scan",
		Short: "Audit a cluster or several, manifests, the demo cluster, or an earlier run",
		Long: `Audit a cluster (all namespaces, unless -n is given), several clusters side by
side (--contexts, --all-contexts), manifests (-f), the demo cluster (--demo), or
render an earlier run's events again (--from).`,
		Example: `  escape-scanner scan --demo
  escape-scanner scan -n payments --level restricted
  escape-scanner scan -f deploy/ -o table -o sarif=escape-scanner.sarif
  helm template ./chart | escape-scanner scan -f -
  escape-scanner scan -o table -o jsonl=run.jsonl
  escape-scanner scan --explain payments/Deployment/api
  escape-scanner scan --save-inventory cluster.jsonl
  escape-scanner scan --alerts 30s
  escape-scanner scan --contexts prod-eu,prod-us -o table -o jsonl=fleet.jsonl
  escape-scanner scan --from run.jsonl -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("argument %q: flags say what is audited; for files it is -f %s", args[0], args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := a.load(cmd.Flags())
			if err != nil {
				return err
			}
			if err := f.shard.validate(cmd, cfg, a.env); err != nil {
				return err
			}
			if err := f.validate(cmd, cfg); err != nil {
				return err
			}
			return a.scan(cmd.Context(), f, cfg)
		},
	}
	f.addFlags(cmd, a)
	return cmd
}

// validate refuses what cannot be meant together.
func (f *scanFlags) validate(cmd *cobra.Command, cfg *config.Config) error {
	if err := f.validateEmpty(cmd); err != nil {
		return err
	}
	if err := f.fleet.validate(cmd, f.kube, cfg); err != nil {
		return err
	}
	var sources []string
	for _, s := range []struct {
		name string
		set  bool
	}{{"-f", len(f.files) > 0}, {"--demo", f.demo}, {"--from", f.from != ""}, {"--preflight", f.preflight}, {"--rbac", f.rbac}} {
		if s.set {
			sources = append(sources, s.name)
		}
	}
	if len(sources) > 1 {
		return fmt.Errorf("%s: use one of them", strings.Join(sources, " and "))
	}
	offline := len(f.files) > 0 || f.from != ""
	var clusterOnly []string
	if offline || f.demo {
		clusterOnly = []string{"context", "cluster", "server", config.KeyClusterName}
	}
	if offline {
		clusterOnly = append(clusterOnly, "selector", "all-namespaces", "namespace")
	}
	for _, name := range clusterOnly {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s: speaks of a cluster, and %s reads none", name, sources[0])
		}
	}
	if offline && cmd.Flags().Changed(config.KeyManifests) {
		return fmt.Errorf("--%s: maps a cluster's workloads to files; %s reads no cluster", config.KeyManifests, sources[0])
	}
	if f.from != "" {
		for _, name := range []string{config.KeyLevel, config.KeyPSSVersion} {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--%s: --from renders what was judged; scan again to judge by another one", name)
			}
		}
	}
	if err := f.probes.validate(cmd.Flags(), f.clusterless(sources)); err != nil {
		return err
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return fmt.Errorf("selector %q: %w", f.selector, err)
	}
	if f.allNamespaces && *f.kube.Namespace != "" {
		return errors.New("-A and -n: use one of them")
	}
	if err := f.validateText(cmd, cfg); err != nil {
		return err
	}
	if err := f.validateRBAC(); err != nil {
		return err
	}
	if err := f.validateAlerts(cmd, offline); err != nil {
		return err
	}
	if err := f.validateReports(f.clusterless(sources)); err != nil {
		return err
	}
	if f.clusterless(sources) != "" {
		// What the environment calls the cluster is not what is read here.
		cfg.ClusterName = ""
	}
	if out := cfg.Outputs(); f.preflight && (len(out) > 1 || out[0].File != "" || out[0].Format != "table" && out[0].Format != "json") {
		return errors.New("--preflight: prints a table or json to standard output only")
	}
	return nil
}

// validateAlerts refuses a window of alerts where nobody raises any.
func (f *scanFlags) validateAlerts(cmd *cobra.Command, offline bool) error {
	switch {
	case !cmd.Flags().Changed("alerts"):
		for _, key := range kubeArmorKeys() {
			if cmd.Flags().Changed(key) {
				return fmt.Errorf("--%s: without --alerts nobody listens", key)
			}
		}
	case f.alerts <= 0:
		return fmt.Errorf("--alerts %s: want a time such as 30s", f.alerts)
	case offline || f.preflight:
		return errors.New("--alerts: listens beside the scan of a cluster, and none is scanned")
	case f.demo && cmd.Flags().Changed(config.KeyKubeArmor):
		return fmt.Errorf("--%s: the demo has alerts of its own", config.KeyKubeArmor)
	}
	return nil
}

// clusterless is the flag by which the run reads no live cluster, empty when it does.
func (f *scanFlags) clusterless(sources []string) string {
	if len(f.files) > 0 || f.from != "" || f.demo {
		return sources[0]
	}
	return ""
}

// validateText refuses what does not go with an explanation on standard output, and
// an inventory of what is none.
func (f *scanFlags) validateText(cmd *cobra.Command, cfg *config.Config) error {
	changed := cmd.Flags().Changed
	switch {
	case changed("save-inventory") && f.saveInventory == "":
		return errors.New("--save-inventory: want a file, have nothing")
	case f.saveInventory != "" && (len(f.files) > 0 || f.from != "" || f.preflight):
		return errors.New("--save-inventory: saves what is read of a cluster, and none is read")
	case f.explain != "" && f.preflight:
		return errors.New("--explain and --preflight: use one of them")
	}
	return validateExplain(cmd, f.explain, cfg)
}

// validateExplain refuses what does not go with an explanation on standard output.
func validateExplain(cmd *cobra.Command, explain string, cfg *config.Config) error {
	changed := cmd.Flags().Changed
	if explain == "" && changed("explain") {
		return errors.New("--explain: want NAMESPACE/KIND/NAME, have nothing")
	}
	if explain == "" {
		return nil
	}
	if _, err := report.ParseWorkload(explain); err != nil {
		return fmt.Errorf("--explain: %w", err)
	}
	if !changed(config.KeyFailOn) {
		// Who asks about one workload does not ask about the others.
		cfg.FailOn = string(scan.SeverityNone)
	}
	for _, out := range cfg.Outputs() {
		if out.File == "" && out.Format != "table" {
			return fmt.Errorf("--explain: writes text to standard output; give %s a file (-o %s=FILE)", out.Format, out.Format)
		}
	}
	return nil
}

// validateEmpty refuses flags that were given without a value, as a variable of
// the shell that is not set gives them: without them the run would be another one.
func (f *scanFlags) validateEmpty(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	switch {
	case changed("filename") && (len(f.files) == 0 || slices.Contains(f.files, "")):
		return errors.New("-f: want a file, a directory or -, have nothing")
	case changed("from") && f.from == "":
		return errors.New("--from: want a file or -, have nothing")
	case changed("namespace") && len(f.namespaces()) == 0:
		return errors.New("-n: want the name of a namespace, have nothing")
	}
	return nil
}

// namespaces are those that -n names; several are separated by commas.
func (f *scanFlags) namespaces() []string { return splitNames(*f.kube.Namespace) }

// scan runs one audit, or what is asked for in its place.
func (a *app) scan(ctx context.Context, f *scanFlags, cfg *config.Config) error {
	switch {
	case f.rbac:
		return a.printRoles("", kube.Roles("escape-scanner-scan", kube.ScanNeeds(scanWork(f, cfg))))
	case f.preflight:
		return a.preflight(ctx, f, cfg)
	case f.probes.plansOnly():
		return f.probes.writePlan(a.stdout)
	case f.shard.is != nil:
		return a.scanShard(ctx, f, cfg)
	}
	kept, err := a.keptReports(ctx, f, cfg)
	if err != nil {
		return err
	}
	err = a.audit(ctx, cfg, f.explain, func(h scan.Handler) error {
		h = kept.beside(h)
		if f.from == "" {
			// A replay carries its exceptions already.
			h = scan.Except(exceptions(cfg), a.now(), h)
		}
		return a.feed(ctx, f, cfg, h)
	})
	return kept.write(ctx, err)
}

// audit opens the outputs, lets feed tell them of a run, and turns what they were told
// into an exit code.
func (a *app) audit(ctx context.Context, cfg *config.Config, explain string, feed func(scan.Handler) error) (err error) {
	known, err := a.knownFindings(cfg.Baseline)
	if err != nil {
		return err
	}
	outs, err := a.openOutputs(ctx, cfg, explain)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			outs.discard()
		}
	}()
	troubles := newClusterTroubles(outs.handler)
	tally := scan.NewTally(troubles)
	var chain scan.Handler = tally
	if known != nil {
		chain = scan.NewOnly(known, chain)
	}
	if err := feed(chain); err != nil {
		if outs.unexplained != nil {
			return outs.unexplained
		}
		return err
	}
	if err := outs.commit(ctx); err != nil {
		return fmt.Errorf("output: %w", err)
	}
	outs.places = nil
	if err := a.concludeFleet(tally.Clusters(), troubles); err != nil {
		return err
	}
	return a.conclude(tally.End(), cfg)
}

// feed sends the events of the source that the flags name.
func (a *app) feed(ctx context.Context, f *scanFlags, cfg *config.Config, h scan.Handler) error {
	switch {
	case f.from != "":
		return a.replay(f.from, h)
	case len(f.files) > 0:
		return a.scanManifests(ctx, f.files, cfg, h)
	case f.demo:
		return a.scanDemo(ctx, f, cfg, h)
	case f.fleet.asked():
		return a.scanFleet(ctx, f, cfg, h)
	default:
		return a.scanCluster(ctx, f, cfg, h)
	}
}

func (a *app) start(source scan.SourceKind, name string) scan.Start {
	return scan.Start{Tool: "escape-scanner", Version: a.version, Time: a.now().UTC(), Source: source, Cluster: name}
}

func exceptions(cfg *config.Config) []scan.Exception {
	list := make([]scan.Exception, len(cfg.Exceptions))
	for i, x := range cfg.Exceptions {
		list[i] = scan.Exception{
			Rule: x.Rule, Cluster: x.Cluster, Namespace: x.Namespace, Workload: x.Workload, Container: x.Container, Image: x.Image,
			Reason: x.Reason, Expires: x.Expires, File: x.File, Line: x.Line,
		}
	}
	return list
}

func (a *app) open(name string) (*os.File, error) { return os.Open(a.path(name)) }

func (a *app) replay(name string, h scan.Handler) error {
	// Of a watch it is the picture as it was at last.
	return a.replayWhole(name, report.Picture(h))
}

// replayWhole replays all that a run told, of a watch the changes too.
func (a *app) replayWhole(name string, h scan.Handler) error {
	if name == "-" {
		return report.Replay(a.stdin, h)
	}
	file, err := a.open(name)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	defer file.Close()
	if err := report.Replay(file, h); err != nil {
		return fmt.Errorf("from %s: %w", name, err)
	}
	return nil
}

// knownFindings are those of an earlier run; nil when there is no baseline.
func (a *app) knownFindings(name string) (*scan.Known, error) {
	if name == "" {
		return nil, nil
	}
	file, err := a.open(name)
	if err != nil {
		return nil, fmt.Errorf("baseline: %w", err)
	}
	defer file.Close()
	start, findings, err := report.ReadFindings(file)
	if err != nil {
		return nil, fmt.Errorf("baseline %s: %w", name, err)
	}
	return scan.NewKnown(start, findings), nil
}

func (a *app) clusterOptions(f *scanFlags, cfg *config.Config, start scan.Start) scan.ClusterOptions {
	start.Selector, start.Alerts = f.selector, f.alerts > 0
	return scan.ClusterOptions{
		Shard: f.shard.is, Start: start, Namespaces: f.namespaces(), Level: psa.Level(cfg.Level), PSSVersion: cfg.PSSVersion,
	}
}

func (a *app) scanDemo(ctx context.Context, f *scanFlags, cfg *config.Config, h scan.Handler) error {
	cluster, err := snapshot.Load(ctx, demo.Files(), demo.ServerVersion)
	if err != nil {
		return err
	}
	if cluster.Selector, err = labels.Parse(f.selector); err != nil {
		return fmt.Errorf("selector %q: %w", f.selector, err)
	}
	run := func(h scan.Handler) error {
		return a.scanSource(ctx, cluster, a.clusterOptions(f, cfg, a.start(scan.SourceDemo, demo.ClusterName)), f.saveInventory, cfg, h)
	}
	if f.alerts > 0 {
		return a.scanDemoHearing(ctx, cluster, splitNames(*f.kube.Namespace), h, run)
	}
	return run(h)
}

func (a *app) scanCluster(ctx context.Context, f *scanFlags, cfg *config.Config, h scan.Handler) error {
	cluster, name, err := connect(f, cfg)
	if err != nil {
		return err
	}
	opts := a.clusterOptions(f, cfg, a.start(scan.SourceCluster, name))
	if opts.Probes, err = f.probes.probes(a, cluster); err != nil {
		return err
	}
	run := func(h scan.Handler) error { return a.scanSource(ctx, cluster, opts, f.saveInventory, cfg, h) }
	if f.alerts > 0 {
		return clusterError(name, a.scanHearing(ctx, cluster, name, f, cfg, h, run))
	}
	return clusterError(name, run(h))
}

// clusterError adds to an error of the way to the cluster what needs no cluster.
func clusterError(name string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		// A file is not the way to the cluster, though its errors look like those of one.
		return err
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return fmt.Errorf("cluster %s: %w (%s%s)", name, err, nobodyNamed(name), withoutCluster)
	}
	return err
}

// withoutCluster ends the message that there is no cluster to audit.
const withoutCluster = "without a cluster, try --demo, or scan -f for manifests"

// scanSource scans a cluster, with the documents of --manifests beside it.
func (a *app) scanSource(ctx context.Context, cluster scan.Cluster, opts scan.ClusterOptions, saveInventory string, cfg *config.Config, h scan.Handler) error {
	if len(cfg.Manifests) > 0 && opts.Shard == nil {
		index, failures, err := a.declarations(ctx, cfg.Manifests)
		if err != nil {
			return err
		}
		opts.Declarations, opts.Failures = index, failures
	}
	return a.scanSaving(ctx, saveInventory, cluster, opts, h)
}

// connect makes the client of the cluster that kubectl's flags name, and gives its name
// for people: the configured one, else that of the context.
func connect(f *scanFlags, cfg *config.Config) (cluster *kube.Cluster, name string, err error) {
	if err := validTimeout(f.kube); err != nil {
		return nil, "", err
	}
	rest, err := f.kube.ToRESTConfig()
	if err != nil {
		return nil, "", fmt.Errorf("cluster: %w (%s)", err, withoutCluster)
	}
	cluster, err = kube.NewCluster(rest, kube.Options{PageSize: int64(cfg.PageSize), Selector: f.selector})
	if err != nil {
		return nil, "", err
	}
	return cluster, cmp.Or(cfg.ClusterName, contextName(f.kube, rest.Host)), nil
}

// contextName is the context in use, or the server's address without one.
func contextName(flags *genericclioptions.ConfigFlags, host string) string {
	if *flags.Context != "" {
		return *flags.Context
	}
	raw, err := flags.ToRawKubeConfigLoader().RawConfig()
	if err == nil && raw.CurrentContext != "" {
		return raw.CurrentContext
	}
	return host
}
