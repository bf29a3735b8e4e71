package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// equip puts a node with a label of KubeArmor's, and an agent on it, into a cluster.
func (m *memory) equip(node string, labels map[string]string, ready bool) {
	m.nodes = append(m.nodes, corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node, Labels: labels},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{
			OperatingSystem: "linux", Architecture: "amd64", KernelVersion: "6.1.0-30-amd64", OSImage: "Debian GNU/Linux 12 (bookworm)",
		}},
	})
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	m.pods = append(m.pods, corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kubearmor", Name: "kubearmor-" + node, Labels: map[string]string{"kubearmor-app": "kubearmor"}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "kubearmor", Image: "kubearmor/kubearmor:stable", SecurityContext: &corev1.SecurityContext{Privileged: new(true)}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}},
	})
}

// bpf is the label by which KubeArmor's installer says what enforces.
func bpf() map[string]string { return map[string]string{"kubearmor.io/enforcer": "bpf"} }

// blocks adds the policies that block the whole escapeToHost set in a namespace, or
// the capabilities that are named.
func (m *memory) blocks(namespace, selector string, capabilities ...string) {
	var caps, paths []string
	for _, e := range armor.Elements() {
		if e.Kind == armor.Capability && (len(capabilities) == 0 || slices.Contains(capabilities, e.Name)) {
			caps = append(caps, fmt.Sprintf(`{"capability":%q}`, e.Name))
		}
		for _, path := range e.Paths {
			paths = append(paths, fmt.Sprintf(`{"path":%q}`, path))
		}
	}
	policy := func(name, section, list string, items []string) {
		if m.objects == nil {
			m.objects = map[schema.GroupKind][]string{}
		}
		m.objects[kindKSP] = append(m.objects[kindKSP], fmt.Sprintf(
			`{"apiVersion":"security.kubearmor.com/v1","kind":"KubeArmorPolicy","metadata":{"namespace":%q,"name":%q},"spec":{"selector":{"matchLabels":%s},%q:{%q:[%s]},"action":"Block"}}`,
			namespace, name, selector, section, list, strings.Join(items, ",")))
	}
	policy("caps", "capabilities", "matchCapabilities", caps)
	if len(capabilities) == 0 {
		policy("programs", "process", "matchPaths", paths)
	}
}

// adding is a spec whose only fault are added capabilities.
func adding(capabilities ...corev1.Capability) corev1.PodSpec {
	spec := plain()
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: capabilities}}
	return spec
}

// layered is a cluster with two nodes that enforce, and the whole set in namespace
// shop.
func layered() *memory {
	m := web()
	m.equip("n1", bpf(), true)
	m.equip("n2", bpf(), true)
	m.blocks("shop", "{}")
	m.namespaces = append(m.namespaces, namespace("kubearmor"))
	for i := range m.pods {
		if m.pods[i].Namespace == "shop" {
			m.pods[i].Spec.NodeName = "n1"
		}
	}
	return m
}

func (m *memory) on(node, name string, spec corev1.PodSpec) {
	spec.NodeName = node
	m.runs(1, "shop", name, "DaemonSet/agents", "", spec)
}

func verdictOf(t *testing.T, r *recorder, name string) *WorkloadVerdict {
	t.Helper()
	for _, e := range r.events {
		if e.Verdict != nil && strings.HasPrefix(e.Verdict.Workload.Name, name) {
			return e.Verdict
		}
	}
	t.Fatalf("no verdict on %s", name)
	return nil
}

// TestVerdictsOfTheLayers: what each change to a cluster, in which everything is in
// place, does to one workload that holds SYS_ADMIN.
func TestVerdictsOfTheLayers(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*memory)
		spec   corev1.PodSpec
		want   Verdict
		reason string
	}{
		"all in place":        {func(*memory) {}, adding("SYS_ADMIN"), VerdictGuarded, "claimed"},
		"every gate":          {func(*memory) {}, adding("SYS_ADMIN", "SYS_MODULE", "DAC_READ_SEARCH"), VerdictGuarded, "each of 3 paths"},
		"a capability beside": {func(*memory) {}, adding("SYS_ADMIN", "SYS_RAWIO"), VerdictExposed, "escape-cap-sys-rawio is open"},
		"privileged":          {func(*memory) {}, privileged(), VerdictExposed, "escape-privileged"},
		"no agent on one node": {func(m *memory) {
			m.on("n3", "web", adding("SYS_ADMIN"))
			m.nodes = append(m.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3", Labels: bpf()}})
		}, adding("SYS_ADMIN"), VerdictExposed, "agent"},
		"agent not ready": {func(m *memory) {
			m.nodes = m.nodes[1:]
			m.pods = slices.DeleteFunc(m.pods, func(p corev1.Pod) bool { return p.Name == "kubearmor-n1" })
			m.equip("n1", bpf(), false)
		}, adding("SYS_ADMIN"), VerdictExposed, "ready"},
		"no label":            {func(m *memory) { m.nodes[0].Labels = nil }, adding("SYS_ADMIN"), VerdictUnknown, "not known"},
		"AppArmor":            {func(m *memory) { m.nodes[0].Labels = map[string]string{"kubearmor.io/enforcer": "apparmor"} }, adding("SYS_ADMIN"), VerdictExposed, "AppArmor"},
		"a node that is gone": {func(m *memory) { m.nodes = m.nodes[1:] }, adding("SYS_ADMIN"), VerdictUnknown, "not among those"},
		"nodes forbidden":     {func(m *memory) { m.nodes, m.nodesErr = nil, forbidden("nodes") }, adding("SYS_ADMIN"), VerdictUnknown, "nodes could not be read (forbidden)"},
		"agents forbidden":    {func(m *memory) { m.agentsErr = forbidden("pods") }, adding("SYS_ADMIN"), VerdictUnknown, "forbidden"},
		"policies forbidden": {func(m *memory) {
			m.objects = nil
			m.objectsErr = map[string]error{"KubeArmorPolicy": forbidden("kubearmorpolicies")}
		}, adding("SYS_ADMIN"),
			VerdictUnknown, "KubeArmorPolicies could not be read (forbidden)"},
		"policies forbidden and no help": {func(m *memory) {
			m.objects = nil
			m.objectsErr = map[string]error{"KubeArmorPolicy": forbidden("kubearmorpolicies")}
		}, privileged(),
			VerdictExposed, "escape-privileged"},
		"others forbidden, these block": {func(m *memory) {
			m.objectsErr = map[string]error{"KubeArmorClusterPolicy": forbidden("kubearmorclusterpolicies")}
		}, adding("SYS_ADMIN"), VerdictUnknown, "whether another allows it"},
		"no policy":                 {func(m *memory) { m.objects = nil }, adding("SYS_ADMIN"), VerdictExposed, "no policy"},
		"one capability is missing": {func(m *memory) { m.objects = nil; m.blocks("shop", "{}", "sys_module") }, adding("SYS_ADMIN"), VerdictExposed, "escape-cap-sys-admin is open"},
		"a policy of other pods":    {func(m *memory) { m.objects = nil; m.blocks("shop", `{"app":"other"}`) }, adding("SYS_ADMIN"), VerdictExposed, "no policy"},
		"a policy that is broken": {func(m *memory) {
			m.objects = map[schema.GroupKind][]string{kindKSP: {`{"metadata":{"name":"x"},"spec":[]}`}}
		}, adding("SYS_ADMIN"), VerdictUnknown, "could not be understood"},
		"pods on no node": {func(m *memory) {
			for i := range m.pods {
				if m.pods[i].Namespace == "shop" {
					m.pods[i].Spec.NodeName = ""
				}
			}
		}, adding("SYS_ADMIN"), VerdictGuarded, ""},
		"clean, unlabelled namespace": {func(*memory) {}, plain(), VerdictClosed, fmt.Sprintf("admission would let %d ways out in", len(reopenings()))},
		"clean and sealed": {func(m *memory) {
			m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
		}, plain(), VerdictSealed, "claimed"},
		"clean, warned only": {func(m *memory) {
			m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/warn": "baseline"}
		}, plain(), VerdictClosed, "admission would let"},
		"clean, pinned to an old version": {func(m *memory) {
			m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30"}
		}, plain(), VerdictSealed, ""},
		"clean, without the set": {func(m *memory) {
			m.objects = nil
			m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
		}, plain(), VerdictClosed, "no KubeArmor policy selects"},
		"clean, namespaces forbidden": {func(m *memory) { m.namespaces, m.namespacesErr = nil, forbidden("namespaces") }, plain(), VerdictClosed, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			m := layered()
			m.has("shop", "DaemonSet/agents", "", "")
			m.on("n1", "web", test.spec)
			test.change(m)
			v := verdictOf(t, scanned(t, m), "agents")
			if v.Verdict != test.want || !strings.Contains(v.Reason, test.reason) {
				t.Errorf("%s: %s; want %s with %q", v.Verdict, v.Reason, test.want, test.reason)
			}
			if v.Layers == nil {
				t.Fatal("no layers")
			}
			for _, p := range v.Layers.Paths {
				if p.Reason == "" || p.Admission.Answer == "" || p.Runtime.Answer == "" || p.Kernel.Answer == "" {
					t.Errorf("an empty cell in %+v", p)
				}
			}
		})
	}
}

// TestGuardedFindings: a path that is stopped counts less, and says why; the others of
// the pod keep their weight.
func TestGuardedFindings(t *testing.T) {
	m := layered()
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "web", adding("SYS_ADMIN"))
	for _, e := range scanned(t, m).events {
		f := e.Finding
		if f == nil || f.Workload.Name != "agents" || f.Rule != "escape-cap-sys-admin" {
			continue
		}
		if !f.Open || !f.Guarded || f.Severity != SeverityMedium || len(f.Lowered) != 1 || !strings.Contains(f.Lowered[0].By, "shop/caps") {
			t.Errorf("%+v", f)
		}
		return
	}
	t.Error("the finding is gone")
}

// TestPolicyEvents: every policy leaves as an event that says whether it bites.
func TestPolicyEvents(t *testing.T) {
	m := layered()
	m.has("shop", "DaemonSet/agents", "", "")
	spec := adding("SYS_ADMIN")
	spec.HostPID = true
	m.on("n1", "web", spec)
	m.blocks("lab", `{"app":"nobody"}`, "sys_admin")
	got := map[string]Policy{}
	r := scanned(t, m)
	for _, e := range r.events {
		if e.Policy != nil {
			got[e.Policy.Namespace+"/"+e.Policy.Name] = *e.Policy
		}
	}
	if p := got["shop/caps"]; p.Bites != BitesPartly || p.Workloads != 2 || p.Pods != 3 || p.Action != "Block" || len(p.Reasons) == 0 {
		t.Errorf("%+v", p)
	}
	if p := got["lab/caps"]; p.Bites != BitesNo || p.Workloads != 0 {
		t.Errorf("%+v", p)
	}
	var rules []string
	for _, e := range r.events {
		if f := e.Finding; f != nil && f.Category == CategoryPolicy {
			rules = append(rules, f.Rule+" "+f.Workload.String())
			if f.Mend == "" || f.Title == "" || f.Severity == "" {
				t.Errorf("%+v", f)
			}
		}
	}
	wantLines(t, rules, "policy-hostpid shop/DaemonSet/agents", "policy-selects-nothing lab/KubeArmorPolicy/caps")
}

// TestCrowdedNode: of more containers than KubeArmor holds rules for nobody knows
// which are guarded.
func TestCrowdedNode(t *testing.T) {
	m := layered()
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "web", adding("SYS_ADMIN"))
	for i := range armor.MaxContainersPerNode + 1 {
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "lab", Name: fmt.Sprintf("filler-%d", i)}, Spec: plain()}
		pod.Spec.NodeName = "n1"
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		m.pods = append(m.pods, pod)
	}
	r := scanned(t, m)
	if v := verdictOf(t, r, "agents"); v.Verdict != VerdictUnknown || !strings.Contains(v.Reason, "more than 256 containers") {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
	if !slices.ContainsFunc(r.events, func(e Event) bool {
		return e.Finding != nil && e.Finding.Rule == "policy-too-many-containers" && e.Finding.Workload.Kind == "Node"
	}) {
		t.Error("no finding on the node")
	}
}

// TestConfirm: what the server says on a dry run, against what its policies say.
func TestConfirm(t *testing.T) {
	for _, test := range []struct{ ours, server, want admission.Answer }{
		{admission.Admits, admission.Admits, admission.Admits},
		{admission.Admits, admission.Refuses, admission.Refuses},
		{admission.Refuses, admission.Refuses, admission.Refuses},
		{admission.Refuses, admission.Admits, admission.Unknown},
		{admission.Unknown, admission.Admits, admission.Admits},
		{admission.Unknown, admission.Refuses, admission.Refuses},
		{admission.Refuses, admission.Unknown, admission.Refuses},
		{admission.Admits, admission.Unknown, admission.Admits},
	} {
		got := confirm(admission.Decision{Answer: test.ours, Reason: "PodSecurity shop refuses it"}, admission.Ruling{Answer: test.server, Message: "no"})
		if got.Answer != test.want || got.Reason == "" || len(got.Rulings) != 1 {
			t.Errorf("%s and the server %s: %+v, want %s", test.ours, test.server, got, test.want)
		}
	}
}

// TestProbeFailures: a look that failed is told, and leaves what it was to tell
// unknown or as before.
func TestProbeFailures(t *testing.T) {
	m := layered()
	r := &recorder{}
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}
	opts.Probes.ProbeData = func(_ context.Context, a kernel.Agent) (*kernel.Probe, error) {
		return nil, errors.New("exec " + a.Name + ": forbidden")
	}
	if err := ScanCluster(t.Context(), m, opts, NewTally(r)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, r.failures(), "probe data of kubearmor/kubearmor-n1: read error", "probe data of kubearmor/kubearmor-n2: read error")
	if !r.end(t).Incomplete {
		t.Error("the run passes for complete")
	}
}
