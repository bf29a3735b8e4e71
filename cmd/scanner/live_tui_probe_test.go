package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
	"github.com/escape-scanner/escape-scanner/tui"
)

// probedNode is a node of which KubeArmor claims that it enforces by BPF-LSM, with a pod
// that would be covered then. The node probe there reports.
const probedNode = `
apiVersion: v1
kind: Node
metadata: {name: %[1]s, labels: {kubearmor.io/enforcer: bpf, kubernetes.io/os: linux}}
status: {nodeInfo: {kernelVersion: 6.8.0, operatingSystem: linux}}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: %[2]s, labels: {kubearmor-app: kubearmor}}
spec: {nodeName: %[1]s, containers: [{name: kubearmor, image: "kubearmor/kubearmor:stable", securityContext: {privileged: true}}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: quiet, namespace: %[1]s}
spec: {nodeName: %[1]s, containers: [{name: app, image: "registry.example/app:1", command: [/app]}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: probe
  namespace: %[2]s
  labels: {app.kubernetes.io/part-of: escape-scanner, app.kubernetes.io/component: node-probe}
  ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: probe, uid: 6a1b, controller: true}]
spec: {nodeName: %[1]s, containers: [{name: node, image: x}]}
status: {phase: Running, containerStatuses: [{name: node, image: x, imageID: "", ready: true, restartCount: 0, state: {running: {startedAt: %[3]q}}}]}
`

// testByNodeProbe has the screen and the plan believe what the log of the node probe says
// of a kernel, and not what is claimed of it.
func testByNodeProbe(t *testing.T, server *kubetest.Server) {
	now := testDeps("").now()
	node, probes := server.Namespace(t, nil), server.Namespace(t, nil)
	report, err := json.Marshal(kernel.Machine{
		Node: node, Time: now, EverySeconds: 3600, Kernel: "6.8.0", LSMs: kernel.Reading{Value: "lockdown,capability,yama"},
		BPFListed: kernel.No, Loads: kernel.Unknown, Conclusion: kernel.No,
	})
	if err != nil {
		t.Fatal(err)
	}
	server.ApplyYAML(t, fmt.Sprintf(probedNode, node, probes, now.Add(-time.Minute).UTC().Format(time.RFC3339)))
	kubelet := &kubetest.Kubelet{Logs: func(string, string, string) (string, error) { return string(report) + "\n", nil }}
	kubelet.Start(t)
	kubelet.Serve(t, server, node)
	args := []string{"--kubeconfig", kubetest.Kubeconfig(t, server.Config())}
	asked := append(slices.Clone(args), "--node-probe-logs", probes)

	outcome := func(args []string) (*tui.RemedyPlan, preview.Workload) {
		t.Helper()
		plan, err := screenOf(t, args...).Plan(t.Context(), tui.RemedyAsk{Namespaces: []string{node}, Level: psa.LevelBaseline, Action: set.ActionBlock})
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.View.Preview.Workloads) != 1 {
			t.Fatalf("workloads: %+v", plan.View.Preview.Workloads)
		}
		return plan, plan.View.Preview.Workloads[0]
	}
	plan, claimed := outcome(args)
	if claimed.Outcome == preview.NotCovered || strings.Contains(plan.Command, "--node-probe-logs") {
		t.Errorf("without the probe it is %s (%+v), by %q", claimed.Outcome, claimed.Effects, plan.Command)
	}
	plan, known := outcome(asked)
	if known.Outcome != preview.NotCovered || !strings.Contains(plan.Command, "--node-probe-logs "+probes) {
		t.Errorf("with the probe it is %s (%+v), by %q", known.Outcome, known.Effects, plan.Command)
	}
	t.Run("shown", func(t *testing.T) { testProbeShown(t, node, append(asked, "-n", node, "--no-alerts")) })
}

// testProbeShown follows the cluster as the screen does.
func testProbeShown(t *testing.T, node string, args []string) {
	a := &app{deps: testDeps(t.TempDir()), stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}}
	f, cmd := tuiOf(t, a, args...)
	load := func() (*config.Config, config.Origins, error) { return a.load(cmd.Flags()) }
	cfg, origins, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.validate(cmd, cfg); err != nil {
		t.Fatal(err)
	}
	feed := tui.NewFeed(a.now)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	source, err := a.onto(feed).source(ctx, f, cfg, origins.File, load, feed)
	if err != nil {
		t.Fatal(err)
	}
	defer source.close()
	ended := make(chan error, 1)
	go func() { ended <- source.run(ctx) }()
	awaited(t, "a picture", func() bool { return feed.Snapshot().Pictured })
	fromLog := func(e kernel.Evidence) bool {
		return strings.HasPrefix(e.Source, "check of the node, in the log of pod ")
	}
	nodes := feed.Snapshot().Nodes
	i := slices.IndexFunc(nodes, func(n *scan.Node) bool { return n.Name == node })
	if i < 0 || nodes[i].Enforcement == nil {
		t.Fatalf("nothing is told of the node: %+v", nodes)
	}
	if e := nodes[i].Enforcement; e.Capabilities != kernel.No || !slices.ContainsFunc(e.Evidence, fromLog) {
		t.Errorf("of the node is told %+v", e)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
