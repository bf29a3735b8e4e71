package demo_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// audit is what a scan of the snapshot says.
type audit struct {
	nodes    []scan.Node
	policies []scan.Policy
	findings []scan.Finding
	verdicts map[string]scan.WorkloadVerdict
}

func scanDemo(t *testing.T) audit {
	t.Helper()
	cluster, err := snapshot.Load(t.Context(), demo.Files(), demo.ServerVersion)
	if err != nil {
		t.Fatal(err)
	}
	a := audit{verdicts: map[string]scan.WorkloadVerdict{}}
	var mu sync.Mutex
	err = scan.ScanCluster(t.Context(), cluster, scan.ClusterOptions{
		Start: scan.Start{Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}, Level: psa.LevelBaseline,
	}, scan.HandlerFunc(func(e scan.Event) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case e.Node != nil:
			a.nodes = append(a.nodes, *e.Node)
		case e.Policy != nil:
			a.policies = append(a.policies, *e.Policy)
		case e.Finding != nil:
			a.findings = append(a.findings, *e.Finding)
		case e.Verdict != nil:
			a.verdicts[e.Verdict.Workload.String()] = *e.Verdict
		case e.Failure != nil:
			t.Errorf("not read: %+v", *e.Failure)
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Every verdict is there to be seen, each for the reason that the comments in the
// snapshot give.
func TestVerdictsOfTheDemo(t *testing.T) {
	a := scanDemo(t)
	seen := map[scan.Verdict]bool{}
	for workload, want := range map[string]struct {
		verdict scan.Verdict
		reason  string
	}{
		"payments/Deployment/payments-api":        {scan.VerdictSealed, "and the whole escapeToHost set is in force (claimed)"},
		"platform/Deployment/media-library":       {scan.VerdictGuarded, "escape-cap-sys-admin is open in the spec and stopped at run time (claimed)"},
		"platform/Deployment/media-importer":      {scan.VerdictExposed, "no KubeArmor agent is ready on the node"},
		"platform/Deployment/video-encoder":       {scan.VerdictUnknown, "of the 5 nodes not all enforce alike"},
		"platform/CronJob/file-backup":            {scan.VerdictExposed, "AppArmor"},
		"ingress/Deployment/wireguard":            {scan.VerdictExposed, "annotated kubearmor-policy: audited"},
		"sandbox/StatefulSet/devbox":              {scan.VerdictExposed, "annotated kubearmor-policy: disabled"},
		"monitoring/Deployment/profiler":          {scan.VerdictExposed, "hostPID"},
		"monitoring/DaemonSet/node-exporter":      {scan.VerdictExposed, "escape-host-root"},
		"ci/Deployment/runner":                    {scan.VerdictExposed, "escape-runtime-socket"},
		"ci/Deployment/dind":                      {scan.VerdictExposed, "escape-privileged"},
		"monitoring/Pod/grafana-7849d9777b-tjjgc": {scan.VerdictExposed, "escape-nsenter"},
		"sandbox/Pod/toolbox":                     {scan.VerdictExposed, "escape-privileged"},
		"kubearmor/Deployment/kubearmor-relay":    {scan.VerdictClosed, "admission would let"},
		"monitoring/Deployment/grafana":           {scan.VerdictClosed, "admission would let"},
		"shop/Deployment/storefront":              {scan.VerdictClosed, "escapeToHost set is not wholly in force"},
		"payments/Deployment/invoice-renderer":    {scan.VerdictClosed, "no KubeArmor policy selects the pods"},
		"data/StatefulSet/postgres":               {scan.VerdictClosed, "escapeToHost set is not wholly in force"},
	} {
		got, ok := a.verdicts[workload]
		if !ok || got.Verdict != want.verdict || !strings.Contains(got.Reason, want.reason) {
			t.Errorf("%s is %q (%s), want %s: %s", workload, got.Verdict, got.Reason, want.verdict, want.reason)
		}
		seen[got.Verdict] = true
	}
	for _, v := range scan.Verdicts() {
		if !seen[v] {
			t.Errorf("nothing is %s", v)
		}
	}
}

// Every cause for which a policy does not bite is shown once at least, where a reader
// of the snapshot expects it.
func TestCausesOfTheDemo(t *testing.T) {
	a := scanDemo(t)
	where := map[string][]string{}
	for _, f := range a.findings {
		if f.Category == scan.CategoryPolicy || f.Category == scan.CategoryKernel {
			where[f.Rule] = append(where[f.Rule], f.Workload.String())
			if f.Message == "" || f.Mend == "" {
				t.Errorf("%s on %s: message %q, mend %q", f.Rule, f.Workload, f.Message, f.Mend)
			}
		}
	}
	want := map[string]string{
		"kernel-no-bpf-lsm":                   "-/Node/burst-1",
		"policy-allow-list":                   "shop/Deployment/cart",
		"policy-busybox":                      "shop/Deployment/storefront",
		"policy-capability-audit":             "monitoring/KubeArmorPolicy/smartctl-audit-capabilities",
		"policy-empty-rules":                  "shop/KubeArmorPolicy/checkout-lockdown",
		"policy-enforcer":                     "platform/CronJob/file-backup",
		"policy-ephemeral-container":          "sandbox/Pod/toolbox",
		"policy-fails-open":                   "sandbox/Deployment/code-runner",
		"policy-halves-differ":                "ingress/Policy/escape-to-host",
		"policy-hostpid":                      "monitoring/Deployment/profiler",
		"policy-init-container":               "shop/Deployment/cart",
		"policy-kyverno-audit":                "-/ClusterPolicy/pod-security-restricted-report",
		"policy-kyverno-autogen-off":          "ingress/Policy/escape-to-host",
		"policy-kyverno-ephemeral-containers": "data/Policy/pod-security",
		"policy-kyverno-excluded":             "platform/CronJob/file-backup",
		"policy-kyverno-not-ready":            "legacy-windows/Policy/pod-security",
		"policy-no-agent":                     "platform/Deployment/media-importer",
		"policy-no-enforcer":                  "shop/Deployment/storefront",
		"policy-pod-audited":                  "ingress/Deployment/wireguard",
		"policy-pod-disabled":                 "sandbox/StatefulSet/devbox",
		"policy-psa-not-enforced":             "monitoring/Namespace/monitoring",
		"policy-psa-old-version":              "data/Namespace/data",
		"policy-selects-nothing":              "ci/KubeArmorPolicy/runner-disallow-chroot",
		"policy-sidecar":                      "shop/Deployment/cart",
		"policy-symlink":                      "data/StatefulSet/postgres",
		"policy-untracked-namespace":          "kube-system/DaemonSet/calico-node",
		"policy-vap-not-enforced":             "-/ValidatingAdmissionPolicy/disallow-host-network",
		"policy-vap-unbound":                  "-/ValidatingAdmissionPolicy/disallow-privileged",
	}
	// What no cluster of this size, or none at all, would have.
	never := map[string]string{
		"policy-psa-invalid-label":   "the API server refuses such a label",
		"policy-too-many-containers": "it takes 257 containers on one node",
	}
	for _, rule := range scan.Rules() {
		if rule.Category != scan.CategoryPolicy && rule.Category != scan.CategoryKernel {
			continue
		}
		at, shown := want[rule.ID]
		if _, out := never[rule.ID]; out == shown {
			t.Errorf("%s: say where the demo shows it, or why it does not", rule.ID)
		}
		if shown && !slices.Contains(where[rule.ID], at) {
			t.Errorf("%s: found on %q, want %s", rule.ID, where[rule.ID], at)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(where)) {
		if _, ok := want[rule]; !ok {
			t.Errorf("%s: on %q", rule, where[rule])
		}
	}
}

// What bites is shown beside what does not.
func TestBitesOfTheDemo(t *testing.T) {
	a := scanDemo(t)
	bites := map[scan.Bite]int{}
	for _, p := range a.policies {
		bites[p.Bites]++
		if (p.Bites == scan.BitesYes) != (len(p.Reasons) == 0) {
			t.Errorf("%s %s/%s bites: %s, for %q", p.Kind, p.Namespace, p.Name, p.Bites, p.Reasons)
		}
		whole := p.Namespace == "payments" && p.Layer == scan.LayerRuntime
		if whole && p.Bites != scan.BitesYes {
			t.Errorf("%s of the set of payments bites: %s", p.Name, p.Bites)
		}
	}
	for _, b := range []scan.Bite{scan.BitesYes, scan.BitesPartly, scan.BitesNo, scan.BitesUnknown} {
		if bites[b] == 0 {
			t.Errorf("no policy bites: %s", b)
		}
	}
	enforcement := map[string]string{}
	for _, n := range a.nodes {
		enforcement[n.Name] = string(n.Enforcement.Capabilities) + " " + string(n.Enforcement.Processes) + " " + string(n.Enforcement.Grade)
	}
	want := map[string]string{
		"burst-1": "no no claimed", "edge-1": "no yes claimed", "prod-1": "yes yes claimed", "prod-2": "yes yes claimed", "prod-3": "no no claimed",
	}
	if !maps.Equal(enforcement, want) {
		t.Errorf("nodes enforce %v, want %v", enforcement, want)
	}
}
