package kernel

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The enforcers, as the installer's label names them.
const (
	enforcerBPF      = "bpf"
	enforcerAppArmor = "apparmor"
	enforcerSELinux  = "selinux"
	enforcerNone     = "none"
)

const (
	sourceLSMs  = "active security modules (" + fileLSMs + ")"
	fileLSMs    = "/sys/kernel/security/lsm"
	sourceProbe = "KubeArmor probe data"
	sourceLabel = "node label " + labelEnforcer
	meansNoCaps = "KubeArmor enforces by AppArmor there: processes can be blocked, capabilities cannot be relied on"
	meansNoSEL  = "KubeArmor has no SELinux enforcer for pods, so it only watches there"
)

// probeVoices is what KubeArmor's own agent wrote about itself when it started.
func probeVoices(n Node, agent agentState, now time.Time) []voice {
	if n.Probe == nil {
		if n.ProbeUnknown == "" {
			return nil
		}
		return []voice{{Evidence: Evidence{
			Source: sourceProbe, Says: Unknown, Grade: Hinted,
			Meaning: "it could not be read: " + n.ProbeUnknown,
		}}}
	}
	p := n.Probe
	v := voice{Evidence: Evidence{
		Source: sourceProbe + " of pod " + cmp.Or(p.Pod, "unknown"), Grade: Proven,
		Value: fmt.Sprintf("ActiveLSM %s, ContainerSecurity %t", cmp.Or(bounded(p.ActiveLSM), "none"), p.ContainerSecurity),
	}, bpf: No, claim: "KubeArmor's probe data says " + cmp.Or(bounded(p.ActiveLSM), "that no enforcer is active")}
	v.capabilities, v.processes, v.enforcer = No, No, enforcerNone
	switch lsm := strings.ToLower(p.ActiveLSM); {
	case lsm == "":
		v.Meaning = "KubeArmor could load no enforcer: it watches and blocks nothing"
	case !p.ContainerSecurity:
		v.Meaning = "KubeArmor's policies for containers are switched off: it watches and blocks nothing"
		v.claim = "KubeArmor's probe data says that policies for containers are off"
	case lsm == "bpflsm":
		v.capabilities, v.processes, v.enforcer, v.bpf = Yes, Yes, enforcerBPF, Yes
		v.Meaning = "KubeArmor has its BPF-LSM programs loaded"
	case lsm == enforcerAppArmor:
		v.processes, v.enforcer, v.Meaning = Yes, enforcerAppArmor, meansNoCaps
	case lsm == enforcerSELinux:
		v.enforcer, v.Meaning = enforcerSELinux, meansNoSEL
	default:
		v.capabilities, v.processes, v.enforcer, v.bpf = Unknown, Unknown, "", Unknown
		v.Meaning = "KubeArmor enforces by " + bounded(p.ActiveLSM) + ", which is not known here"
	}
	v.Says = v.capabilities
	if why := outdatedProbe(n, agent); why != "" {
		v.Grade = Hinted
		v.Meaning += "; but " + why
	}
	v.Evidence = seen(v.Evidence, p.Read, now)
	return []voice{v}
}

// outdatedProbe is why probe data is not of the agent that runs now, empty when it is.
func outdatedProbe(n Node, agent agentState) string {
	p := n.Probe
	running := n.Node.Status.NodeInfo.KernelVersion
	if p.KernelVersion != "" && running != "" && p.KernelVersion != running {
		return fmt.Sprintf("that was written under kernel %s, and %s runs now", bounded(p.KernelVersion), running)
	}
	if p.Pod == "" || agent.ready != Yes {
		return ""
	}
	i := slices.IndexFunc(n.Agents, func(a Agent) bool { return a.pod() == p.Pod })
	switch {
	case i < 0:
		return "that pod is not an agent of the node"
	case !n.Agents[i].Ready:
		return "that pod is not the agent that is ready"
	case !p.Read.IsZero() && p.Read.Before(n.Agents[i].Since):
		return "that pod became ready again after it was read"
	}
	return ""
}

// labelVoices is the label that KubeArmor's installer put on the node.
func labelVoices(n Node, now time.Time) []voice {
	value, ok := n.Node.Labels[labelEnforcer]
	if !ok {
		return nil
	}
	v := voice{
		Evidence: Evidence{Source: sourceLabel, Value: value, Grade: Claimed},
		bpf:      No, claim: "the label " + labelEnforcer + " says " + cmp.Or(bounded(value), "nothing"),
	}
	v.capabilities, v.processes, v.enforcer = No, No, enforcerNone
	switch strings.ToLower(value) {
	case enforcerBPF:
		v.capabilities, v.processes, v.enforcer, v.bpf = Yes, Yes, enforcerBPF, Yes
		v.Meaning = "KubeArmor's installer found BPF-LSM active when it labelled the node"
	case enforcerAppArmor:
		v.processes, v.enforcer, v.Meaning = Yes, enforcerAppArmor, meansNoCaps
	case enforcerSELinux:
		v.enforcer, v.Meaning = enforcerSELinux, meansNoSEL
	case enforcerNone, "na":
		v.Meaning = "KubeArmor's installer found no security module on the node that it can use"
	default:
		v.capabilities, v.processes, v.enforcer, v.bpf = Unknown, Unknown, "", Unknown
		v.Meaning = "KubeArmor's installer knows no such enforcer"
	}
	v.Says = v.capabilities
	v.Evidence = seen(v.Evidence, labelledAt(n.Node, labelEnforcer), now)
	if v.Observed == nil {
		v.Meaning += ", at a time that is not known"
	}
	return []voice{v}
}

// labelledAt is when the manager that owns a label last wrote to the node, zero when
// the node does not say. KubeArmor's installer writes a new random label each time it
// looks, so for it that is when it last looked.
func labelledAt(n *corev1.Node, label string) time.Time {
	var at time.Time
	for _, m := range n.ManagedFields {
		if m.FieldsV1 == nil || m.Time == nil || m.Subresource != "" {
			continue
		}
		var owned struct {
			Metadata struct {
				Labels map[string]json.RawMessage `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if json.Unmarshal(m.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		if _, ok := owned.Metadata.Labels["f:"+label]; ok && m.Time.After(at) {
			at = m.Time.Time
		}
	}
	return at
}

// machineVoices is the report of a check on the node itself. Its readings are shown
// one by one; the conclusion that they come to together is what counts.
func machineVoices(n Node, now time.Time) []voice {
	if n.Machine == nil {
		if n.MachineUnknown == "" {
			return nil
		}
		return []voice{{Evidence: Evidence{
			Source: "check of the node", Says: Unknown, Grade: Hinted,
			Meaning: "it could not be done: " + n.MachineUnknown,
		}}}
	}
	m := *n.Machine
	Conclude(&m)
	outdated := ""
	if kernel := otherKernel(n); kernel != "" {
		outdated = fmt.Sprintf("; but that was under kernel %s, and %s runs now", bounded(kernel), n.Node.Status.NodeInfo.KernelVersion)
	}
	voices := []voice{conclusionVoice(&m)}
	voices = append(voices, readingVoices(&m)...)
	for i := range voices {
		v := &voices[i]
		if outdated != "" {
			v.Grade, v.capabilities, v.processes = Hinted, Unknown, Unknown
			v.Meaning += outdated
		}
		v.Evidence = seen(v.Evidence, m.Time, now)
	}
	return voices
}

// otherKernel is the kernel that a check of the node saw, if it is not the one that
// runs now.
func otherKernel(n Node) string {
	if running := n.Node.Status.NodeInfo.KernelVersion; running == "" || n.Machine.Kernel == running {
		return ""
	}
	return n.Machine.Kernel
}

func conclusionVoice(m *Machine) voice {
	source := "check of the node"
	if m.Pod != "" {
		source += ", in the log of pod " + m.Pod
	}
	v := voice{
		Evidence:     Evidence{Source: source, Says: m.Conclusion, Grade: Proven, Value: "BPF-LSM can enforce: " + string(m.Conclusion), Meaning: m.Reason},
		capabilities: Unknown, processes: Unknown, bpf: m.Conclusion, machine: true,
	}
	switch m.Conclusion {
	case Yes:
		v.Meaning += "; that the kernel can does not say that KubeArmor does"
	case No:
		// Without BPF-LSM only AppArmor can stop a process, and nothing a capability.
		v.capabilities = No
		if m.BPFListed != Unknown && !slices.Contains(LSMList(m.LSMs.Value), enforcerAppArmor) {
			v.processes, v.enforcer = No, enforcerNone
			v.Meaning += ", and AppArmor, which KubeArmor could use instead, is not active either"
		}
	case Unknown:
		v.Grade = Hinted
	}
	return v
}

func readingVoices(m *Machine) []voice {
	var voices []voice
	add := func(source string, r Reading, says Answer, grade Grade, meaning, claim string) {
		if r.Error != "" {
			says, grade, meaning = Unknown, Hinted, "it could not be read: "+r.Error
		}
		v := voice{Evidence: Evidence{Source: source, Value: bounded(r.Value), Says: says, Grade: grade, Meaning: meaning}, machine: true}
		if r.Error == "" {
			v.bpf, v.claim = says, claim
		}
		voices = append(voices, v)
	}
	switch m.BPFListed {
	case Yes:
		add(sourceLSMs, m.LSMs, Yes, Claimed, "BPF-LSM is active; the kernel can still refuse programs", "bpf is among the active security modules")
	case No:
		add(sourceLSMs, m.LSMs, No, Proven, "BPF-LSM is not active", "bpf is not among the active security modules")
	case Unknown:
		add(sourceLSMs, m.LSMs, Unknown, Hinted, "it was not read", "")
	}
	switch {
	case m.Loads == Yes && m.Called == No:
		add("no-op LSM program", m.Load, No, Proven, "the kernel takes programs and never calls them", "the kernel never calls LSM programs")
	case m.Loads == Yes:
		add("no-op LSM program", m.Load, Yes, Proven, "the kernel takes LSM programs", "the kernel takes LSM programs")
	case m.Loads == No:
		add("no-op LSM program", m.Load, No, Proven, "the kernel refuses LSM programs", "the kernel refuses LSM programs")
	case m.Load.Error != "" || m.Load.Value != "":
		add("no-op LSM program", m.Load, Unknown, Hinted, "it was not tried", "")
	}
	switch m.Config.Value {
	case "":
	case "y":
		add("kernel configuration CONFIG_BPF_LSM", m.Config, Yes, Hinted, "BPF-LSM is compiled in, which does not make it active", "")
	default:
		add("kernel configuration CONFIG_BPF_LSM", m.Config, No, Proven, "BPF-LSM is not compiled in", "the kernel is built without BPF-LSM")
	}
	if m.Lockdown.Value == Confidentiality {
		add("kernel lockdown", m.Lockdown, No, Proven, "programs that read the kernel's memory, as KubeArmor's do, are refused", "the kernel is locked down for confidentiality")
	}
	if m.BTF.Value == Absent {
		add("kernel types (BTF)", m.BTF, No, Proven, "LSM programs need the kernel's types", "the kernel does not describe its types")
	}
	return voices
}
