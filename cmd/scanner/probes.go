package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// The words of --probe-nodes.
const (
	probeRun  = "run"
	probePlan = "plan"
)

const (
	// agentContainer is the container of KubeArmor's agent pods that writes its probe
	// data, of which maxProbeData is more than there ever is.
	agentContainer = "kubearmor"
	maxProbeData   = 64 << 10
	// looksAtOnce is how many requests of one kind are under way at a time, and
	// maxInspected how many containers one run looks into.
	looksAtOnce  = 8
	maxInspected = 5000
)

// probeFlags are the flags by which the user consents to what a scan does beyond
// reading: each takes rights of its own.
type probeFlags struct {
	exec, inspect, ask bool
	nodes              string
	load               bool
	image, namespace   string
	timeout            time.Duration
	// logs is the namespace of the node probe whose logs are read, empty for none.
	logs string
}

func (f *probeFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&f.exec, "kubearmor-exec", false, "read what KubeArmor's agents know of their nodes, by exec in their pods")
	fs.BoolVar(&f.inspect, "inspect-images", false, "look up in running containers, by exec, which programs are behind the paths that policies name")
	fs.BoolVar(&f.ask, "ask-server", false, "ask the API server by a dry run whether it would create each pod again")
	fs.StringVar(&f.nodes, "probe-nodes", "", "check every node's kernel by a short-lived DaemonSet, which is shown before it is made; with =plan only show it")
	fs.Lookup("probe-nodes").NoOptDefVal = probeRun
	fs.StringVar(&f.image, "probe-image", "", "the `IMAGE` of this program that --probe-nodes runs")
	fs.StringVar(&f.namespace, "probe-namespace", kube.DefaultProbeNamespace, "the `NAMESPACE` for --probe-nodes, which must admit pods with host directories")
	fs.BoolVar(&f.load, "probe-load", false, "let --probe-nodes try to load a BPF program that does nothing, with the capabilities BPF and PERFMON")
	fs.DurationVar(&f.timeout, "probe-timeout", kube.DefaultProbeTimeout, "how long nodes have to report to --probe-nodes")
	addProbeLogs(fs, &f.logs)
}

// flagProbeLogs is the flag for the logs of the node probe.
const flagProbeLogs = "node-probe-logs"

func addProbeLogs(fs *pflag.FlagSet, namespace *string) {
	fs.StringVar(namespace, flagProbeLogs, "", "read what the chart's node probe in this `NAMESPACE` says of each node's kernel in its log")
}

// validateProbeLogs refuses what cannot be the namespace of a node probe.
func validateProbeLogs(fs *pflag.FlagSet, namespace string) error {
	if !fs.Changed(flagProbeLogs) {
		return nil
	}
	if wrong := validation.IsDNS1123Label(namespace); len(wrong) > 0 {
		return fmt.Errorf("--node-probe-logs %q: want the name of a namespace: %s", namespace, wrong[0])
	}
	return nil
}

// validate refuses what cannot be meant together. offline is the flag that makes the
// run read no cluster, empty when it reads one.
func (f *probeFlags) validate(fs *pflag.FlagSet, offline string) error {
	names := []string{"kubearmor-exec", "inspect-images", "ask-server", "probe-nodes", "probe-image", "probe-namespace", "probe-load", "probe-timeout", flagProbeLogs}
	for _, name := range names {
		if offline != "" && fs.Changed(name) {
			return fmt.Errorf("--%s: asks a cluster, and %s reads none", name, offline)
		}
	}
	if err := validateProbeLogs(fs, f.logs); err != nil {
		return err
	}
	if !fs.Changed("probe-nodes") {
		for _, name := range names {
			if strings.HasPrefix(name, "probe-") && fs.Changed(name) {
				return fmt.Errorf("--%s: says how --probe-nodes is done, which was not asked for", name)
			}
		}
		return nil
	}
	switch {
	case f.logs != "":
		return errors.New("--probe-nodes and --node-probe-logs: use one of them, both tell the same")
	case f.nodes != probeRun && f.nodes != probePlan:
		return fmt.Errorf("--probe-nodes=%s: want no value, or plan", f.nodes)
	case strings.TrimSpace(f.image) == "":
		return errors.New("--probe-nodes: needs --probe-image, an image of this program that the nodes can pull")
	case f.timeout <= 0:
		return fmt.Errorf("--probe-timeout %s: want more than nothing", f.timeout)
	}
	if wrong := validation.IsDNS1123Label(f.namespace); len(wrong) > 0 {
		return fmt.Errorf("--probe-namespace %q: %s", f.namespace, wrong[0])
	}
	return nil
}

// looks are what a preflight has to know of the flags.
func (f *probeFlags) looks() kube.Looks {
	looks := kube.Looks{Agents: f.exec, Images: f.inspect, AskServer: f.ask, ProbeLogs: f.logs}
	if f.nodes != "" {
		looks.ProbeNamespace = f.namespace
	}
	return looks
}

// plansOnly reports whether the run shows what --probe-nodes would make, and does
// nothing else.
func (f *probeFlags) plansOnly() bool { return f.nodes == probePlan }

func (f *probeFlags) nodeProbe(note func(string)) (*kube.NodeProbe, error) {
	return kube.NewNodeProbe(kube.ProbeOptions{
		Image: f.image, Namespace: f.namespace, Load: f.load, Timeout: f.timeout, Note: note,
	})
}

// writePlan writes the DaemonSet that --probe-nodes would make. Each run gives it
// another name.
func (f *probeFlags) writePlan(w io.Writer) error {
	probe, err := f.nodeProbe(nil)
	if err != nil {
		return err
	}
	manifest, err := probe.Manifest()
	if err != nil {
		return err
	}
	_, err = w.Write(manifest)
	return err
}

// probes are the ways of looking closer that the flags consent to. What --probe-nodes
// is going to make is shown on stderr now, before the scan begins.
func (f *probeFlags) probes(a *app, cluster *kube.Cluster) (scan.Probes, error) {
	var p scan.Probes
	if f.exec {
		p.ProbeData = a.probeData(cluster)
	}
	if f.inspect {
		p.Inspect = inspectSome(cluster)
	}
	if f.ask {
		p.AskServer = askSome(cluster)
	}
	if f.nodes == probeRun {
		probe, err := f.nodeProbe(func(text string) { a.complain("note", text) })
		if err != nil {
			return p, err
		}
		manifest, err := probe.Manifest()
		if err != nil {
			return p, err
		}
		fmt.Fprintln(a.stderr, "escape-scanner: --probe-nodes makes this DaemonSet, and removes it when the nodes have reported:")
		for line := range strings.Lines(string(manifest)) {
			fmt.Fprintln(a.stderr, "  "+report.Clean(strings.TrimSuffix(line, "\n")))
		}
		p.Machines = func(ctx context.Context, nodes []string) (map[string]*kernel.Machine, map[string]string, error) {
			return cluster.ProbeNodes(ctx, probe, nodes)
		}
	}
	if f.logs != "" {
		p.MachinesBy = "--node-probe-logs=" + f.logs
		p.Machines = func(ctx context.Context, nodes []string) (map[string]*kernel.Machine, map[string]string, error) {
			reports, why, err := cluster.ProbeLogs(ctx, f.logs, a.now())
			return reports, withoutProbe(nodes, reports, why, err, f.logs), err
		}
	}
	return p, nil
}

// withoutProbe says of the nodes of which nothing is known why. Where the probe's pods could
// not be read that is the error, for then nobody knows whether there are any.
func withoutProbe(nodes []string, reports map[string]*kernel.Machine, why map[string]string, err error, namespace string) map[string]string {
	none := "no pod of the node probe runs there (namespace " + namespace + ")"
	if err != nil {
		none = "what the node probe says could not be read"
	}
	all := maps.Clone(why)
	if all == nil {
		all = map[string]string{}
	}
	for _, node := range nodes {
		if reports[node] == nil && all[node] == "" {
			all[node] = none
		}
	}
	return all
}

func (a *app) probeData(cluster *kube.Cluster) func(context.Context, kernel.Agent) (*kernel.Probe, error) {
	return func(ctx context.Context, agent kernel.Agent) (*kernel.Probe, error) {
		text, err := cluster.Exec(ctx, agent.Namespace, agent.Name, agentContainer, []string{"cat", armor.ProbeFile}, maxProbeData)
		if err != nil {
			return nil, err
		}
		return armor.DecodeProbe(bytes.NewReader(text), agent.Namespace+"/"+agent.Name, a.now())
	}
}

// slots let so many through at a time.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) give() { <-s }

func inspectSome(cluster *kube.Cluster) func(context.Context, string, string, string, []string) (map[string]string, error) {
	free := make(slots, looksAtOnce)
	var inspected atomic.Int64
	return func(ctx context.Context, namespace, pod, container string, paths []string) (map[string]string, error) {
		if inspected.Add(1) > maxInspected {
			return nil, fmt.Errorf("container %s of pod %s/%s: not looked into, for %d others were: limit the run with -n or -l", container, namespace, pod, maxInspected)
		}
		if err := free.take(ctx); err != nil {
			return nil, err
		}
		defer free.give()
		return cluster.Inspect(ctx, namespace, pod, container, paths)
	}
}

func askSome(cluster *kube.Cluster) func(context.Context, *corev1.Pod) (admission.Ruling, error) {
	free := make(slots, looksAtOnce)
	return func(ctx context.Context, pod *corev1.Pod) (admission.Ruling, error) {
		if err := free.take(ctx); err != nil {
			return admission.Ruling{}, err
		}
		defer free.give()
		return cluster.AskServer(ctx, pod)
	}
}
