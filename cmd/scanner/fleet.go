package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	flagContexts    = "contexts"
	flagAllContexts = "all-contexts"
)

// fleetFlags say of which clusters a scan of several is.
type fleetFlags struct {
	contexts []string
	all      bool
}

// flag is the flag that asks for several clusters, empty where none does.
func (f *fleetFlags) flag(cmd *cobra.Command) string {
	for _, name := range []string{flagContexts, flagAllContexts} {
		if cmd.Flags().Changed(name) {
			return "--" + name
		}
	}
	return ""
}

// asked reports whether several clusters are scanned.
func (f *fleetFlags) asked() bool { return f.all || len(f.contexts) > 0 }

// oneClusterOnly are flags that no scan of several clusters takes, with the reason.
func oneClusterOnly() map[string][]string {
	return map[string][]string{
		"is a source of its own":                             {"filename", "demo", "from"},
		"asks about one cluster":                             {"preflight", "explain"},
		"listens beside the scan of one cluster":             {"alerts"},
		"writes down one cluster":                            {"save-inventory"},
		"divides the scan of one cluster":                    {"shard", "shards"},
		"writes to a cluster, each of which needs your word": {"probe-nodes", config.KeyReports},
		"names one cluster":                                  {config.KeyClusterName},
	}
}

// forAll are the flags of kubectl that hold for every cluster of a fleet.
func forAll() []string {
	return []string{"kubeconfig", "namespace", "as", "as-uid", "as-group", "as-user-extra", "request-timeout", "disable-compression", "cache-dir"}
}

// validate refuses what a scan of several clusters does not take.
func (f *fleetFlags) validate(cmd *cobra.Command, kubectl *genericclioptions.ConfigFlags, cfg *config.Config) error {
	changed := cmd.Flags().Changed
	flag := f.flag(cmd)
	switch {
	case flag == "" && changed(config.KeyParallel):
		return fmt.Errorf("--%s: says how several clusters are scanned: name them by --contexts, or take --all-contexts", config.KeyParallel)
	case flag == "":
		return nil
	case changed(flagContexts) && changed(flagAllContexts):
		return errors.New("--contexts and --all-contexts: use one of them")
	case changed(flagAllContexts) && !f.all:
		return errors.New("--all-contexts=false: leave it out, or name clusters by --contexts")
	}
	reasons := oneClusterOnly()
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		for _, name := range reasons[reason] {
			if changed(name) {
				return fmt.Errorf("--%s and %s: use one of them: --%s %s", name, flag, name, reason)
			}
		}
	}
	if cfg.ClusterName != "" {
		return fmt.Errorf("%s %q: names one cluster, and %s asks for several", config.KeyClusterName, cfg.ClusterName, flag)
	}
	flags := newFlagSet()
	kubectl.AddFlags(flags)
	var err error
	flags.VisitAll(func(kubectlFlag *pflag.Flag) {
		if err == nil && changed(kubectlFlag.Name) && !slices.Contains(forAll(), kubectlFlag.Name) {
			err = fmt.Errorf("--%s and %s: use one of them: of each cluster and its user the kubeconfig tells", kubectlFlag.Name, flag)
		}
	})
	if err != nil {
		return err
	}
	if err := validTimeout(kubectl); err != nil {
		return err
	}
	for i, name := range f.contexts {
		if slices.Contains(f.contexts[:i], name) {
			return fmt.Errorf("--contexts: %q stands there twice", name)
		}
	}
	if changed(flagContexts) && (len(f.contexts) == 0 || slices.Contains(f.contexts, "")) {
		return errors.New("--contexts: want names of contexts, separated by commas, have nothing")
	}
	return nil
}

// names are the contexts that the flags ask for, all of which are there.
func (f *fleetFlags) names(kubeconfig *clientcmdapi.Config) ([]string, error) {
	there := slices.Sorted(maps.Keys(kubeconfig.Contexts))
	if len(there) == 0 {
		return nil, errors.New("no kubeconfig has a context: see --kubeconfig, and KUBECONFIG in the environment")
	}
	if f.all {
		return there, nil
	}
	for _, name := range f.contexts {
		if kubeconfig.Contexts[name] == nil {
			return nil, fmt.Errorf("--contexts: there is no context %q; there are %s", name, listed(there, 20))
		}
	}
	return f.contexts, nil
}

// listed are the first names of a list, and how many follow.
func listed(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// scanFleet scans several clusters, each with a client of its own.
func (a *app) scanFleet(ctx context.Context, f *scanFlags, cfg *config.Config, h scan.Handler) error {
	kubeconfig, err := f.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	names, err := f.fleet.names(&kubeconfig)
	if err != nil {
		return err
	}
	var declarations scan.Declarations
	var failures []scan.Failure
	if len(cfg.Manifests) > 0 {
		if declarations, failures, err = a.declarations(ctx, cfg.Manifests); err != nil {
			return err
		}
	}
	start := a.start(scan.SourceFleet, "")
	start.Selector, start.Namespaces, start.Notes = f.selector, f.namespaces(), sameServers(&kubeconfig, names)
	members := make([]scan.Member, len(names))
	for i, name := range names {
		own := start
		own.Source, own.Cluster, own.Notes, own.Namespaces = scan.SourceCluster, name, nil, nil
		members[i] = scan.Member{Name: name, Scan: func(ctx context.Context, next scan.Handler) error {
			cluster, err := connectContext(f, cfg, &kubeconfig, name)
			if err != nil {
				return err
			}
			opts := a.clusterOptions(f, cfg, own)
			opts.Declarations, opts.Failures = declarations, failures
			if opts.Probes, err = f.probes.probes(a, cluster); err != nil {
				return err
			}
			return scan.ScanCluster(ctx, cluster, opts, next)
		}}
	}
	return scan.ScanFleet(ctx, scan.FleetOptions{
		Start: start, Level: psa.Level(cfg.Level), PSSVersion: cfg.PSSVersion, Parallel: cfg.Parallel,
	}, members, h)
}

// badContext is that a context of the kubeconfig cannot be used.
type badContext struct{ error }

// FailureReason is the class of the failure.
func (badContext) FailureReason() scan.FailureReason { return scan.FailureInvalid }

func (e badContext) Unwrap() error { return e.error }

// connectContext makes the client of one context.
func connectContext(f *scanFlags, cfg *config.Config, kubeconfig *clientcmdapi.Config, name string) (*kube.Cluster, error) {
	config, err := contextConfig(kubeconfig, name, f.kube)
	if err != nil {
		return nil, badContext{err}
	}
	cluster, err := kube.NewCluster(config, kube.Options{PageSize: int64(cfg.PageSize), Selector: f.selector})
	if err != nil {
		return nil, badContext{err}
	}
	return cluster, nil
}

// contextConfig is how the cluster of a context is reached. It is what the kubeconfig
// says: a context that names no cluster must not lead to the one that this runs in, or to
// the localhost.
func contextConfig(kubeconfig *clientcmdapi.Config, name string, flags *genericclioptions.ConfigFlags) (*rest.Config, error) {
	kubeContext := kubeconfig.Contexts[name]
	cluster := kubeconfig.Clusters[kubeContext.Cluster]
	switch {
	case cluster == nil:
		return nil, fmt.Errorf("the kubeconfig has no cluster %q, which the context names", kubeContext.Cluster)
	case cluster.Server == "":
		return nil, fmt.Errorf("cluster %q of the kubeconfig has no server", kubeContext.Cluster)
	case kubeContext.AuthInfo != "" && kubeconfig.AuthInfos[kubeContext.AuthInfo] == nil:
		return nil, fmt.Errorf("the kubeconfig has no user %q, which the context names", kubeContext.AuthInfo)
	}
	overrides := &clientcmd.ConfigOverrides{Timeout: *flags.Timeout}
	overrides.AuthInfo.Impersonate, overrides.AuthInfo.ImpersonateUID = *flags.Impersonate, *flags.ImpersonateUID
	overrides.AuthInfo.ImpersonateGroups, overrides.AuthInfo.ImpersonateUserExtra = *flags.ImpersonateGroup, userExtras(*flags.ImpersonateUserExtra)
	overrides.ClusterInfo.DisableCompression = *flags.DisableCompression
	config, err := clientcmd.NewNonInteractiveClientConfig(*kubeconfig, name, overrides, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	if config.ExecProvider != nil {
		// Several programs must not ask the one person at the terminal at a time.
		plugin := config.ExecProvider.DeepCopy()
		plugin.StdinUnavailable, plugin.StdinUnavailableMessage = true, "several clusters are scanned at a time"
		config.ExecProvider = plugin
	}
	return config, nil
}

// userExtras reads what --as-user-extra says, as kubectl does.
func userExtras(pairs []string) map[string][]string {
	var extras map[string][]string
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if extras == nil {
			extras = map[string][]string{}
		}
		extras[key] = append(extras[key], value)
	}
	return extras
}

// sameServers are notes about contexts that lead to one API server, which each of them
// scans: they may have other users, who may read other things.
func sameServers(kubeconfig *clientcmdapi.Config, names []string) []string {
	var notes []string
	told := map[string]bool{}
	for i, name := range names {
		same := []string{name}
		for _, other := range names[i+1:] {
			if !told[other] && sameServer(kubeconfigCluster(kubeconfig, name), kubeconfigCluster(kubeconfig, other)) {
				same = append(same, other)
				told[other] = true
			}
		}
		if !told[name] && len(same) > 1 {
			notes = append(notes, fmt.Sprintf("the contexts %s lead to the same API server: its workloads are counted for each of them", strings.Join(same, ", ")))
		}
	}
	return notes
}

func kubeconfigCluster(kubeconfig *clientcmdapi.Config, name string) *clientcmdapi.Cluster {
	return kubeconfig.Clusters[kubeconfig.Contexts[name].Cluster]
}

func sameServer(a, b *clientcmdapi.Cluster) bool {
	return a != nil && b != nil && a.Server != "" && strings.TrimRight(a.Server, "/") == strings.TrimRight(b.Server, "/") &&
		a.CertificateAuthority == b.CertificateAuthority && bytes.Equal(a.CertificateAuthorityData, b.CertificateAuthorityData)
}
