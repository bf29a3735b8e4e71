package kernel

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	now       = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)
	yesterday = now.Add(-24 * time.Hour)
)

const runs = "6.1.0-37-amd64"

// nodeOf is a node of Debian 12 with labels.
func nodeOf(labels ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{}}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		n.Labels[key] = value
	}
	n.Status.NodeInfo = corev1.NodeSystemInfo{OSImage: "Debian GNU/Linux 12 (bookworm)", KernelVersion: runs, Architecture: "amd64", OperatingSystem: "linux"}
	return n
}

func readyAgent() Agent {
	return Agent{Namespace: "kubearmor", Name: "agent-1", Node: "n1", Ready: true, Since: yesterday, Image: "kubearmor/kubearmor:v1.7.2"}
}

func deadAgent() Agent {
	return Agent{Namespace: "kubearmor", Name: "agent-1", Node: "n1", NotReady: "its container kubearmor waits (CrashLoopBackOff)"}
}

func probe(lsm string, containers bool) *Probe {
	return &Probe{Pod: "kubearmor/agent-1", KernelVersion: runs, ActiveLSM: lsm, ContainerSecurity: containers, Read: now}
}

// machine is a report of the node: its list of modules, and what became of a program.
func machine(lsms string, loads, called Answer) *Machine {
	m := &Machine{Node: "n1", Time: yesterday, Kernel: runs, Architecture: "amd64", Loads: loads, Called: called}
	m.LSMs = Reading{Value: lsms, Source: fileLSMs}
	if lsms == "" {
		m.LSMs = Reading{Source: fileLSMs, Error: "securityfs is not mounted"}
	}
	switch loads {
	case Yes:
		m.Load = Reading{Value: "loaded and attached"}
	case No:
		m.Load = Reading{Value: "load: operation not permitted (EPERM)"}
	default:
		m.Load = Reading{Error: "not asked for"}
	}
	return m
}

const (
	withBPF    = "lockdown,capability,landlock,yama,apparmor,bpf"
	withoutBPF = "lockdown,capability,landlock,yama,apparmor"
	selinux    = "lockdown,capability,yama,selinux"
)

func TestAssess(t *testing.T) {
	ready := []Agent{readyAgent()}
	for _, test := range []struct {
		name string
		node Node

		caps, procs    Answer
		grade          Grade
		enforcer       string
		agent          Answer
		reason         string
		decides        []string
		contradictions []string
		turnOn         string
	}{
		// The ladder, from the strongest.
		{
			name: "KubeArmor's programs are loaded: proven",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("BPFLSM", true)},
			caps: Yes, procs: Yes, grade: Proven, enforcer: "bpf", agent: Yes,
			reason:  "KubeArmor has its BPF-LSM programs loaded",
			decides: []string{"pod kubearmor/agent-1", "KubeArmor probe data of pod kubearmor/agent-1"},
		},
		{
			name: "KubeArmor enforces by AppArmor: processes, no capabilities",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("AppArmor", true)},
			caps: No, procs: Yes, grade: Proven, enforcer: "apparmor", agent: Yes,
			reason: "capabilities cannot be relied on", turnOn: "Debian",
			decides: []string{"KubeArmor probe data of pod kubearmor/agent-1"},
		},
		{
			name: "KubeArmor enforces by SELinux: nothing in pods",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("SELinux", true)},
			caps: No, procs: No, grade: Proven, enforcer: "selinux", agent: Yes,
			reason: "no SELinux enforcer for pods", turnOn: "Debian",
			decides: []string{"KubeArmor probe data of pod kubearmor/agent-1"},
		},
		{
			name: "KubeArmor could load no enforcer: nothing",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("", false)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes,
			reason: "could load no enforcer", turnOn: "Debian",
			decides: []string{"KubeArmor probe data of pod kubearmor/agent-1"},
		},
		{
			name: "an enforcer, but policies for containers are off: nothing",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("BPFLSM", false)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes,
			reason: "policies for containers are switched off", turnOn: "Debian",
			decides: []string{"KubeArmor probe data of pod kubearmor/agent-1"},
		},
		{
			name: "an enforcer that nobody knows: unknown",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("Landlock", true)},
			caps: Unknown, procs: Unknown, agent: Yes,
			reason: "a KubeArmor agent is ready, but nothing says what it enforces with",
		},
		{
			name: "the kernel refuses programs: no capabilities, and AppArmor is open",
			node: Node{Node: nodeOf(), Agents: ready, Machine: machine(withBPF, No, Unknown)},
			caps: No, procs: Unknown, grade: Proven, agent: Yes,
			reason:         "the kernel refuses LSM programs: load: operation not permitted (EPERM); whether AppArmor stops processes instead is not known",
			decides:        []string{"check of the node", "no-op LSM program"},
			contradictions: []string{"bpf is among the active security modules, but the kernel refuses LSM programs"},
		},
		{
			name: "the kernel refuses programs and has no AppArmor: nothing",
			node: Node{Node: nodeOf(), Agents: ready, Machine: machine(selinux+",bpf", No, Unknown)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes,
			reason:         "AppArmor, which KubeArmor could use instead, is not active either",
			decides:        []string{"check of the node", "no-op LSM program"},
			contradictions: []string{"bpf is among the active security modules, but the kernel refuses LSM programs"},
		},
		{
			name: "programs load and are never called: no",
			node: Node{Node: nodeOf(), Agents: ready, Machine: machine(withoutBPF, Yes, No)},
			caps: No, procs: Unknown, grade: Proven, agent: Yes, turnOn: "Debian",
			reason:  "the kernel never called it: bpf is not among the active security modules",
			decides: []string{"check of the node", sourceLSMs, "no-op LSM program"},
		},
		{
			name: "bpf is not in the list: no",
			node: Node{Node: nodeOf(), Agents: ready, Machine: machine(withoutBPF, Unknown, Unknown)},
			caps: No, procs: Unknown, grade: Proven, agent: Yes, turnOn: "Debian",
			reason:  "bpf is not among the active security modules",
			decides: []string{"check of the node", sourceLSMs},
		},
		{
			name: "the kernel can, but whether KubeArmor does nobody says: unknown",
			node: Node{Node: nodeOf(), Agents: ready, Machine: machine(withBPF, Yes, Yes)},
			caps: Unknown, procs: Unknown, agent: Yes,
			reason: "that the kernel can enforce does not say that KubeArmor does",
		},
		{
			name: "bpf is in the list, and nothing else: unknown",
			node: Node{Node: nodeOf(), Agents: ready, Machine: machine(withBPF, Unknown, Unknown)},
			caps: Unknown, procs: Unknown, agent: Yes,
			reason: "nothing says what it enforces with",
		},
		{
			name: "label bpf: claimed",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			reason:  "KubeArmor's installer found BPF-LSM active",
			decides: []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
		},
		{
			name: "label bpf, and the kernel can: claimed still",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Machine: machine(withBPF, Yes, Yes)},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			reason:  "KubeArmor's installer found BPF-LSM active",
			decides: []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
		},
		{
			name: "label apparmor: processes, no capabilities",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), Agents: ready},
			caps: No, procs: Yes, grade: Claimed, enforcer: "apparmor", agent: Yes, turnOn: "Debian",
			reason: "capabilities cannot be relied on", decides: []string{"node label kubearmor.io/enforcer"},
		},
		{
			name: "label selinux: nothing in pods",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=selinux"), Agents: ready},
			caps: No, procs: No, grade: Claimed, enforcer: "selinux", agent: Yes, turnOn: "Debian",
			reason: "no SELinux enforcer for pods", decides: []string{"node label kubearmor.io/enforcer"},
		},
		{
			name: "label none: nothing",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=none"), Agents: ready},
			caps: No, procs: No, grade: Claimed, enforcer: "none", agent: Yes, turnOn: "Debian",
			reason: "found no security module", decides: []string{"node label kubearmor.io/enforcer"},
		},
		{
			name: "a label that nobody knows: unknown",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf2"), Agents: ready},
			caps: Unknown, procs: Unknown, agent: Yes, reason: `node label kubearmor.io/enforcer is "bpf2": KubeArmor's installer knows no such enforcer`,
		},
		{
			name: "an empty label: unknown",
			node: Node{Node: nodeOf("kubearmor.io/enforcer="), Agents: ready},
			caps: Unknown, procs: Unknown, agent: Yes, reason: "nothing says what it enforces with",
		},

		// Hints never answer.
		{
			name: "compiled in, new kernel, on by default: hints, so unknown",
			node: Node{Node: nodeOf("feature.node.kubernetes.io/kernel-config.BPF_LSM=true", "kubearmor.io/btf=yes"), Agents: ready},
			caps: Unknown, procs: Unknown, agent: Yes, reason: "there are only hints",
		},
		{
			name: "compiled out and no BTF by labels: hints, so unknown",
			node: Node{Node: nodeOf("feature.node.kubernetes.io/kernel-config.BPF_LSM=false", "kubearmor.io/btf=no"), Agents: ready},
			caps: Unknown, procs: Unknown, agent: Yes, reason: "there are only hints",
			// The OS image hints at on as well, and of hints the first counts.
			turnOn: "Debian",
		},

		// The agent is needed in any case.
		{
			name: "no agent: nothing, whatever the kernel can",
			node: Node{Node: nodeOf(), Machine: machine(withBPF, Yes, Yes)},
			caps: No, procs: No, grade: Claimed, enforcer: "none", agent: No,
			reason: "no KubeArmor agent runs on the node", decides: []string{"pods labelled kubearmor-app=kubearmor"},
		},
		{
			name: "an agent that crashes: nothing, and the label does not help",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: []Agent{deadAgent()}},
			caps: No, procs: No, grade: Claimed, enforcer: "none", agent: No,
			reason:         "pod kubearmor/agent-1: its container kubearmor waits (CrashLoopBackOff)",
			decides:        []string{"pod kubearmor/agent-1"},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but no KubeArmor agent is ready: a label enforces nothing"},
		},
		{
			name: "one agent leaves and one is ready: enforced",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: []Agent{{Namespace: "kubearmor", Name: "agent-0", NotReady: "it is being deleted"}, readyAgent()}},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			decides: []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
		},
		{
			name: "a pod that only bears the label does not hide that the agent is down",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: []Agent{
				{Namespace: "tenant", Name: "fake", Ready: true, Since: yesterday, Doubt: "it holds nothing to load programs with"}, deadAgent(),
			}},
			caps: No, procs: No, grade: Claimed, enforcer: "none", agent: No,
			reason:         "pod kubearmor/agent-1: its container kubearmor waits (CrashLoopBackOff)",
			decides:        []string{"pod kubearmor/agent-1"},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but no KubeArmor agent is ready: a label enforces nothing"},
		},
		{
			name: "agents could not be read: unknown, though the label says bpf",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), AgentsUnknown: "pods is forbidden"},
			caps: Unknown, procs: Unknown, enforcer: "bpf", agent: Unknown,
			reason: "the KubeArmor agents could not be read: pods is forbidden", decides: []string{"node label kubearmor.io/enforcer"},
		},
		{
			name: "agents could not be read, label apparmor: capabilities are not enforced either way",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), AgentsUnknown: "pods is forbidden"},
			caps: No, procs: Unknown, grade: Claimed, enforcer: "apparmor", agent: Unknown, turnOn: "Debian",
			reason: "capabilities cannot be relied on", decides: []string{"node label kubearmor.io/enforcer"},
		},
		{
			name: "agents could not be read, the kernel refuses: no capabilities, proven",
			node: Node{Node: nodeOf(), AgentsUnknown: "pods is forbidden", Machine: machine(withoutBPF, No, Unknown)},
			caps: No, procs: Unknown, grade: Proven, agent: Unknown, turnOn: "Debian",
			reason: "the kernel refuses LSM programs", decides: []string{"check of the node", sourceLSMs, "no-op LSM program"},
		},
		{
			name: "nothing but the node, and nobody looked for agents",
			node: Node{Node: nodeOf(), AgentsUnknown: "not in the dump"},
			caps: Unknown, procs: Unknown, agent: Unknown, reason: "not in the dump; nothing says what KubeArmor enforces with",
		},

		// Contradictions: the stronger wins, and both are named.
		{
			name: "label bpf, bpf not in the list: the list",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Machine: machine(selinux, Unknown, Unknown)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes, turnOn: "Debian",
			decides:        []string{"check of the node", sourceLSMs},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but bpf is not among the active security modules"},
		},
		{
			name: "label bpf, program refused: the kernel",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Machine: machine(selinux+",bpf", No, Unknown)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes,
			decides: []string{"check of the node", "no-op LSM program"},
			contradictions: []string{
				"bpf is among the active security modules, but the kernel refuses LSM programs",
				"the label kubearmor.io/enforcer says bpf, but the kernel refuses LSM programs",
			},
		},
		{
			name: "label bpf, programs never called: the kernel",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Machine: machine("", Yes, No)},
			caps: No, procs: Unknown, grade: Proven, agent: Yes, turnOn: "Debian",
			decides:        []string{"check of the node", "no-op LSM program"},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but the kernel never calls LSM programs"},
		},
		{
			name: "label apparmor, and the kernel could do BPF-LSM: AppArmor",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), Agents: ready, Machine: machine(withBPF, Yes, Yes)},
			caps: No, procs: Yes, grade: Claimed, enforcer: "apparmor", agent: Yes,
			decides:        []string{"node label kubearmor.io/enforcer"},
			contradictions: []string{"the label kubearmor.io/enforcer says apparmor, but the kernel takes LSM programs"},
		},
		{
			name: "label apparmor, and neither is active: nothing",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), Agents: ready, Machine: machine(selinux, Unknown, Unknown)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes, turnOn: "Debian",
			decides:        []string{"check of the node", sourceLSMs},
			contradictions: []string{"the label kubearmor.io/enforcer says apparmor, but that is not among the active security modules"},
		},
		{
			name: "label apparmor, and BPF-LSM alone is active: what enforces is not known",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), Agents: ready, Machine: machine(selinux+",bpf", Yes, Yes)},
			caps: Unknown, procs: Unknown, agent: Yes, reason: "that the kernel can enforce does not say that KubeArmor does",
			contradictions: []string{
				"the label kubearmor.io/enforcer says apparmor, but that is not among the active security modules",
				"the label kubearmor.io/enforcer says apparmor, but the kernel takes LSM programs",
			},
		},
		{
			name: "label bpf, refused, and AppArmor is active: what stops processes is not known",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Machine: machine(withoutBPF, No, Unknown)},
			caps: No, procs: Unknown, grade: Proven, agent: Yes, turnOn: "Debian",
			decides:        []string{"check of the node", sourceLSMs, "no-op LSM program"},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but bpf is not among the active security modules"},
		},
		{
			name: "label bpf, KubeArmor says AppArmor: KubeArmor",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Probe: probe("AppArmor", true)},
			caps: No, procs: Yes, grade: Proven, enforcer: "apparmor", agent: Yes, turnOn: "Debian",
			decides:        []string{"KubeArmor probe data of pod kubearmor/agent-1"},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but KubeArmor's probe data says AppArmor"},
		},
		{
			name: "label bpf, KubeArmor says that policies are off: KubeArmor",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Probe: probe("BPFLSM", false)},
			caps: No, procs: No, grade: Proven, enforcer: "none", agent: Yes, turnOn: "Debian",
			decides:        []string{"KubeArmor probe data of pod kubearmor/agent-1"},
			contradictions: []string{"the label kubearmor.io/enforcer says bpf, but KubeArmor's probe data says that policies for containers are off"},
		},
		{
			name: "label apparmor, KubeArmor says BPF-LSM: KubeArmor",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), Agents: ready, Probe: probe("BPFLSM", true)},
			caps: Yes, procs: Yes, grade: Proven, enforcer: "bpf", agent: Yes,
			decides:        []string{"pod kubearmor/agent-1", "KubeArmor probe data of pod kubearmor/agent-1"},
			contradictions: []string{"the label kubearmor.io/enforcer says apparmor, but KubeArmor's probe data says BPFLSM"},
		},
		{
			name: "KubeArmor says BPF-LSM, our program was refused: KubeArmor's are loaded",
			node: Node{Node: nodeOf(), Agents: ready, Probe: probe("BPFLSM", true), Machine: machine(withBPF, No, Unknown)},
			caps: Yes, procs: Yes, grade: Proven, enforcer: "bpf", agent: Yes,
			decides:        []string{"pod kubearmor/agent-1", "KubeArmor probe data of pod kubearmor/agent-1"},
			contradictions: []string{"the kernel refuses LSM programs, but KubeArmor's probe data says BPFLSM"},
		},
		{
			name: "the agent was made for another enforcer than the label says now",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: []Agent{{Namespace: "kubearmor", Name: "agent-1", Ready: true, Since: yesterday, Enforcer: "apparmor"}}},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			decides:        []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
			contradictions: []string{"the agent kubearmor/agent-1 was made for the enforcer apparmor, but the label kubearmor.io/enforcer now says bpf"},
		},
		{
			name: "probe data says BPF-LSM, but the agent is not ready: nothing",
			node: Node{Node: nodeOf(), Agents: []Agent{deadAgent()}, Probe: probe("BPFLSM", true)},
			caps: No, procs: No, grade: Claimed, enforcer: "none", agent: No,
			decides:        []string{"pod kubearmor/agent-1"},
			contradictions: []string{"KubeArmor's probe data says that BPFLSM is active, but no agent is ready"},
		},
		{
			name: "label bpf on a kernel without BTF by label: claimed, and named",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf", "kubearmor.io/btf=no"), Agents: ready},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			decides:        []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
			contradictions: []string{"the label kubearmor.io/btf says no, but the label kubearmor.io/enforcer says bpf"},
		},
		{
			name: "label bpf, compiled out by node-feature-discovery: claimed, and named",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf", "feature.node.kubernetes.io/kernel-config.BPF_LSM=n"), Agents: ready},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			decides:        []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
			contradictions: []string{"node-feature-discovery says that BPF-LSM is not compiled in, but the label kubearmor.io/enforcer says bpf"},
		},

		// What is of another time or another agent does not prove anything.
		{
			name: "probe data of another kernel: the label is what is left",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=apparmor"), Agents: ready, Probe: &Probe{Pod: "kubearmor/agent-1", KernelVersion: "5.15.0", ActiveLSM: "BPFLSM", ContainerSecurity: true, Read: yesterday}},
			caps: No, procs: Yes, grade: Claimed, enforcer: "apparmor", agent: Yes, turnOn: "Debian",
			decides: []string{"node label kubearmor.io/enforcer"},
			contradictions: []string{
				"KubeArmor's probe data is about kernel 5.15.0, but 6.1.0-37-amd64 runs now",
				"KubeArmor's probe data says BPFLSM, but the label kubearmor.io/enforcer says apparmor",
			},
		},
		{
			name: "probe data of a pod that is no agent of the node: unknown",
			node: Node{Node: nodeOf(), Agents: ready, Probe: &Probe{Pod: "kubearmor/agent-9", ActiveLSM: "BPFLSM", ContainerSecurity: true, Read: now}},
			caps: Unknown, procs: Unknown, agent: Yes, reason: "nothing says what it enforces with",
			contradictions: []string{"KubeArmor's probe data is of pod kubearmor/agent-9, but that pod is not an agent of the node"},
		},
		{
			name: "probe data from before the agent became ready again: unknown",
			node: Node{Node: nodeOf(), Agents: ready, Probe: &Probe{Pod: "kubearmor/agent-1", ActiveLSM: "BPFLSM", ContainerSecurity: true, Read: yesterday.Add(-time.Hour)}},
			caps: Unknown, procs: Unknown, agent: Yes, reason: "nothing says what it enforces with",
			contradictions: []string{"KubeArmor's probe data is of pod kubearmor/agent-1, but that pod became ready again after it was read"},
		},
		{
			name: "a check under another kernel does not beat the label",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: ready, Machine: &Machine{Kernel: "5.15.0", Time: yesterday, LSMs: Reading{Value: withoutBPF}}},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			decides: []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
			contradictions: []string{
				"the check of the node is about kernel 5.15.0, but 6.1.0-37-amd64 runs now",
				"bpf is not among the active security modules, but the label kubearmor.io/enforcer says bpf",
			},
			turnOn: "",
		},
		{
			name: "node-feature-discovery's labels are of another kernel",
			node: Node{Node: nodeOf("kubearmor.io/enforcer=bpf", "feature.node.kubernetes.io/kernel-version.full=5.15.0"), Agents: ready},
			caps: Yes, procs: Yes, grade: Claimed, enforcer: "bpf", agent: Yes,
			decides:        []string{"pod kubearmor/agent-1", "node label kubearmor.io/enforcer"},
			contradictions: []string{"the label feature.node.kubernetes.io/kernel-version.full is about kernel 5.15.0, but 6.1.0-37-amd64 runs now"},
		},
		{name: "no node at all", node: Node{Agents: ready}, caps: Unknown, procs: Unknown, agent: Unknown, reason: "nothing is known of the node"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Assess(test.node, now)
			if got.Capabilities != test.caps || got.Processes != test.procs || got.Grade != test.grade || got.Enforcer != test.enforcer || got.Agent != test.agent {
				t.Errorf("capabilities %s, processes %s, grade %q, enforcer %q, agent %s\nwant %s, %s, %q, %q, %s\nreason: %s",
					got.Capabilities, got.Processes, got.Grade, got.Enforcer, got.Agent,
					test.caps, test.procs, test.grade, test.enforcer, test.agent, got.Reason)
			}
			if got.Reason == "" || !strings.Contains(got.Reason, test.reason) {
				t.Errorf("reason %q, want %q in it", got.Reason, test.reason)
			}
			var decides []string
			for _, e := range got.Evidence {
				if e.Decides {
					decides = append(decides, e.Source)
				}
				if e.Source == "" || e.Meaning == "" || e.Grade == "" || e.Says == "" {
					t.Errorf("incomplete evidence %+v", e)
				}
			}
			if !slices.Equal(decides, test.decides) {
				t.Errorf("decided by %q, want %q", decides, test.decides)
			}
			if !slices.Equal(got.Contradictions, test.contradictions) {
				t.Errorf("contradictions\n\t%s\nwant\n\t%s", strings.Join(got.Contradictions, "\n\t"), strings.Join(test.contradictions, "\n\t"))
			}
			turnOn := ""
			if got.TurnOn != nil {
				turnOn = got.TurnOn.System
			}
			if turnOn != test.turnOn {
				t.Errorf("turn on for %q, want %q", turnOn, test.turnOn)
			}
		})
	}
}
