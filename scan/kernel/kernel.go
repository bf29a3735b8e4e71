// Package kernel weighs what is known of a node's kernel: whether KubeArmor, with
// BPF-LSM, really stops a step that a policy forbids there. It is pure: what was
// read comes in as values.
package kernel

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Answer is yes, no or unknown. No evidence is unknown, not no and not yes.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// Grade tells how well an answer is founded.
type Grade string

// The grades, best first.
const (
	// Proven: programs are loaded, or were seen to block.
	Proven Grade = "proven"
	// Claimed: a ready agent and its label say so.
	Claimed Grade = "claimed"
	// Hinted: the kernel's version, its configuration or the OS image let one expect
	// it. It never carries a verdict.
	Hinted Grade = "hinted"
)

// Rank orders grades: the better founded, the higher; 0 for none.
func (g Grade) Rank() int {
	switch g {
	case Proven:
		return 3
	case Claimed:
		return 2
	case Hinted:
		return 1
	}
	return 0
}

// Evidence is one thing that speaks for or against BPF-LSM being in use on a node.
type Evidence struct {
	// Source is where it was read: "node label kubearmor.io/enforcer",
	// "KubeArmor probe data of pod kubearmor/kubearmor-x7k2p".
	Source string `json:"source"`
	// Says is what it speaks for, and Grade how much it proves.
	Says  Answer `json:"says"`
	Grade Grade  `json:"grade"`
	// Value is what stood there, Meaning what follows from it.
	Value   string `json:"value,omitempty"`
	Meaning string `json:"meaning"`
	// Observed is when it was true: now for what is read live, the time of
	// installation or of the check for what was written down then. Zero when nobody
	// knows. AgeSeconds is how long before the run that was.
	Observed   *time.Time `json:"observed,omitempty"`
	AgeSeconds int64      `json:"ageSeconds,omitempty"`
	// Decides marks the evidence that the answer rests on.
	Decides bool `json:"decides,omitempty"`
}

// Enforcement is what stops a forbidden step on one node.
type Enforcement struct {
	// Capabilities and Processes tell whether rules of that kind are enforced there:
	// AppArmor can stop processes but no capabilities.
	Capabilities Answer `json:"capabilities"`
	Processes    Answer `json:"processes"`
	// Grade is how well these answers are founded, empty for unknown.
	Grade Grade `json:"grade,omitempty"`
	// Enforcer is what enforces as far as is known: "bpf", "apparmor", "selinux",
	// "none"; empty when it is not known.
	Enforcer string `json:"enforcer,omitempty"`
	// Agent tells whether a KubeArmor agent is ready on the node.
	Agent Answer `json:"agent"`
	// Reason is the one sentence that decides, Contradictions what speaks against it.
	Reason         string     `json:"reason"`
	Evidence       []Evidence `json:"evidence,omitempty"`
	Contradictions []string   `json:"contradictions,omitempty"`
	// TurnOn is how BPF-LSM is switched on, where it is known or hinted to be off.
	TurnOn *TurnOn `json:"turnOn,omitempty"`
}

// TurnOn is a way to switch BPF-LSM on for an OS image.
type TurnOn struct {
	// System is what the way is for: "Ubuntu", "Talos".
	System string `json:"system"`
	// Possible is false where the vendor's kernel or offering does not allow it.
	Possible bool     `json:"possible"`
	Steps    []string `json:"steps"`
	// Source is the page that says so.
	Source string `json:"source"`
}

// Node is what was read of one node.
type Node struct {
	Node *corev1.Node
	// Agents are the KubeArmor agent pods on the node. AgentsUnknown says why they
	// could not be read; empty when they could.
	Agents        []Agent
	AgentsUnknown string
	// Probe is KubeArmor's own probe data, nil when it was not asked for or could not
	// be read; ProbeUnknown says why not, empty when it was not asked for.
	Probe        *Probe
	ProbeUnknown string
	// Machine is the report of `escape-scanner node` from that node, nil without.
	Machine        *Machine
	MachineUnknown string
}

// Agent is one pod of KubeArmor's node agent.
type Agent struct {
	Namespace, Name, Node string
	Ready                 bool
	// Since is when the pod became ready, zero when it is not.
	Since time.Time
	// NotReady says why, from the pod's status.
	NotReady string
	// Doubt is why the pod may be no agent though it is labelled as one.
	Doubt string
	// Image is the agent's image.
	Image string
	// Enforcer is the enforcer that the pod was made for: its node selector asks for
	// this value of the node's label. Empty when it asks for none.
	Enforcer string
}

// Probe is what KubeArmor's agent writes about its node (the file
// /tmp/karmorProbeData.cfg in its pod; the type is KubeArmorProbeData of
// kubearmor-client's package probe).
type Probe struct {
	// Pod is where it was read, as NAMESPACE/NAME.
	Pod               string `json:"pod"`
	OSImage           string `json:"osImage,omitempty"`
	KernelVersion     string `json:"kernelVersion,omitempty"`
	ActiveLSM         string `json:"activeLSM,omitempty"`
	HostSecurity      bool   `json:"hostSecurity"`
	ContainerSecurity bool   `json:"containerSecurity"`
	// Posture is the default posture of containers: file, network, capabilities.
	FilePosture       string    `json:"filePosture,omitempty"`
	NetworkPosture    string    `json:"networkPosture,omitempty"`
	CapabilityPosture string    `json:"capabilityPosture,omitempty"`
	Read              time.Time `json:"read"`
}

// Machine is what `escape-scanner node` found on one machine. Every part that
// could not be read says why in its Error.
type Machine struct {
	// Node is the machine's name, Time when it was checked.
	Node string    `json:"node,omitempty"`
	Time time.Time `json:"time"`
	// EverySeconds is after how long the machine is checked again, 0 for never.
	EverySeconds int64 `json:"everySeconds,omitempty"`
	// Pod is the pod in whose log this was read, as NAMESPACE/NAME; empty where the check
	// was made for this run.
	Pod          string `json:"pod,omitempty"`
	Architecture string `json:"architecture"`
	Kernel       string `json:"kernel"`
	OSImage      string `json:"osImage,omitempty"`
	// LSMs is the list of /sys/kernel/security/lsm.
	LSMs Reading `json:"lsms"`
	// BPFListed tells whether bpf stands in it.
	BPFListed Answer `json:"bpfListed"`
	// Lockdown is the active mode of kernel lockdown: none, integrity,
	// confidentiality.
	Lockdown Reading `json:"lockdown"`
	// BTF tells whether the kernel describes its types, BPFFS whether the bpf file
	// system is mounted.
	BTF   Reading `json:"btf"`
	BPFFS Reading `json:"bpffs"`
	// Config is the value of CONFIG_BPF_LSM, ConfigLSM that of CONFIG_LSM.
	Config    Reading `json:"config"`
	ConfigLSM Reading `json:"configLSM"`
	// CommandLine is what the kernel was booted with, as far as it concerns security
	// modules: lsm=, security=, lockdown=.
	CommandLine Reading `json:"commandLine"`
	// Load is what became of a no-op program of type LSM: loaded and attached or
	// refused, and by what.
	Load Reading `json:"load"`
	// Loads is yes when it loaded and attached, no when the kernel refused it, and
	// unknown when it was not tried or could not be.
	Loads Answer `json:"loads"`
	// Called is whether the kernel called the program while it was attached. A kernel
	// that is built with BPF-LSM but booted without it loads and attaches programs and
	// calls none.
	Called Answer `json:"called"`
	// Conclusion is whether this kernel can enforce BPF-LSM programs, and Reason why.
	Conclusion Answer `json:"conclusion"`
	Reason     string `json:"reason"`
}

// Reading is one value read from a machine, or why it could not be.
type Reading struct {
	Value  string `json:"value,omitempty"`
	Source string `json:"source,omitempty"`
	Error  string `json:"error,omitempty"`
}
