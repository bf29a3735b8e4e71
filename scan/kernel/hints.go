package kernel

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The labels of node-feature-discovery that speak of the kernel. The first stands
// there only where its worker was configured to look for the option.
const (
	labelNFDBPF    = "feature.node.kubernetes.io/kernel-config.BPF_LSM"
	labelNFDKernel = "feature.node.kubernetes.io/kernel-version.full"
)

// hintVoices are what lets one expect BPF-LSM or not. None of them ever answers.
func hintVoices(n Node, now time.Time) []voice {
	var voices []voice
	hint := func(source, value string, at time.Time, bpf Answer, meaning, claim string) {
		voices = append(voices, voice{
			Evidence: seen(Evidence{Source: source, Value: bounded(value), Says: bpf, Grade: Hinted, Meaning: meaning}, at, now),
			bpf:      bpf, claim: claim, capabilities: Unknown, processes: Unknown,
		})
	}
	info, labels := n.Node.Status.NodeInfo, n.Node.Labels
	if value, ok := labels[labelNFDBPF]; ok {
		at := labelledAt(n.Node, labelNFDBPF)
		if value == "true" || value == "y" {
			hint("node label "+labelNFDBPF, value, at, Yes, "BPF-LSM is compiled in, which does not make it active", "")
		} else {
			hint("node label "+labelNFDBPF, value, at, No, "BPF-LSM is not compiled in", "node-feature-discovery says that BPF-LSM is not compiled in")
		}
	}
	if value, ok := labels[labelBTF]; ok {
		at := labelledAt(n.Node, labelBTF)
		if value == "yes" {
			hint("node label "+labelBTF, value, at, Unknown, "the kernel describes its types, which LSM programs need", "")
		} else {
			hint("node label "+labelBTF, value, at, No, "the kernel does not describe its types, which LSM programs need", "the label "+labelBTF+" says "+cmp.Or(bounded(value), "nothing"))
		}
	}
	if old, least := tooOld(info.KernelVersion, info.Architecture); old {
		hint("node info: kernel version", info.KernelVersion, now, No,
			fmt.Sprintf("BPF-LSM came to %s with kernel %s; a vendor can have ported it back", info.Architecture, least),
			fmt.Sprintf("kernel %s is older than BPF-LSM on %s (%s)", info.KernelVersion, info.Architecture, least))
	} else if least != "" {
		hint("node info: kernel version", info.KernelVersion, now, Unknown, "new enough for BPF-LSM, which does not make it active", "")
	}
	if s := systemOf(n.Node); s != nil && info.OSImage != "" {
		switch s.onByDefault(n.Node) {
		case Yes:
			hint("node info: OS image", info.OSImage, now, Yes, "its kernel has BPF-LSM on by default", "")
		case No:
			hint("node info: OS image", info.OSImage, now, No, "its kernel has BPF-LSM off by default", "")
		case Unknown:
			hint("node info: OS image", info.OSImage, now, Unknown, "it does not tell whether BPF-LSM is on", "")
		}
	}
	if in := info.RunningInUserNamespace; in != nil && *in {
		hint("node info: user namespace", "true", now, No, "the kubelet runs in a user namespace, in which nobody may load programs", "the kubelet runs in a user namespace")
	}
	return voices
}

// tooOld tells whether a kernel is older than BPF-LSM on its architecture, and which
// version that came with. Where either is not known, least is empty.
func tooOld(version, architecture string) (old bool, least string) {
	major, minor, ok := kernelVersion(version)
	if !ok {
		return false, ""
	}
	switch architecture {
	case "amd64", "x86_64":
		return major < 5 || major == 5 && minor < 7, "5.7"
	case "arm64", "aarch64":
		return major < 6 || major == 6 && minor < 4, "6.4"
	}
	return false, ""
}

// kernelVersion reads the first two numbers of "6.1.0-37-amd64".
func kernelVersion(s string) (major, minor int, ok bool) {
	first, rest, ok := strings.Cut(s, ".")
	if !ok {
		return 0, 0, false
	}
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		rest = rest[:i]
	}
	major, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(rest)
	return major, minor, err == nil
}

// contradictions says in sentences what of the evidence cannot be true together, or
// was true of another time.
func contradictions(n Node, agent agentState, voices []voice) []string {
	said := outdatedSentences(n, agent)
	label, labelled := n.Node.Labels[labelEnforcer]
	if labelled && agent.ready == No && label != enforcerNone {
		said = append(said, fmt.Sprintf("the label %s says %s, but no KubeArmor agent is ready: a label enforces nothing", labelEnforcer, cmp.Or(bounded(label), "nothing")))
	}
	if a := agent.first; a != nil && a.Enforcer != "" && labelled && a.Enforcer != label {
		said = append(said, fmt.Sprintf("the agent %s was made for the enforcer %s, but the label %s now says %s", a.pod(), bounded(a.Enforcer), labelEnforcer, cmp.Or(bounded(label), "nothing")))
	}
	if m := n.Machine; m != nil && label == enforcerAppArmor && m.LSMs.Error == "" && m.LSMs.Value != "" && !slices.Contains(LSMList(m.LSMs.Value), enforcerAppArmor) {
		said = append(said, "the label "+labelEnforcer+" says apparmor, but that is not among the active security modules")
	}
	best := -1
	for i, v := range voices {
		if v.claim != "" && (v.bpf == Yes || v.bpf == No) && (best < 0 || v.Grade.Rank() > voices[best].Grade.Rank()) {
			best = i
		}
	}
	for _, v := range voices {
		if best >= 0 && v.claim != "" && v.bpf != voices[best].bpf && (v.bpf == Yes || v.bpf == No) {
			said = append(said, v.claim+", but "+voices[best].claim)
		}
	}
	return said
}

func outdatedSentences(n Node, agent agentState) []string {
	var said []string
	running := n.Node.Status.NodeInfo.KernelVersion
	other := func(what, kernel string) {
		if kernel != "" && running != "" && kernel != running {
			said = append(said, fmt.Sprintf("%s is about kernel %s, but %s runs now", what, bounded(kernel), running))
		}
	}
	if p := n.Probe; p != nil {
		other("KubeArmor's probe data", p.KernelVersion)
		if running == "" || p.KernelVersion == "" || p.KernelVersion == running {
			if why := outdatedProbe(n, agent); why != "" {
				said = append(said, "KubeArmor's probe data is of pod "+bounded(p.Pod)+", but "+why)
			}
		}
		if agent.ready == No && p.ContainerSecurity {
			said = append(said, "KubeArmor's probe data says that "+cmp.Or(bounded(p.ActiveLSM), "an enforcer")+" is active, but no agent is ready")
		}
	}
	if m := n.Machine; m != nil {
		other("the check of the node", m.Kernel)
	}
	other("the label "+labelNFDKernel, n.Node.Labels[labelNFDKernel])
	return said
}
