package kernel

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What holds whatever is known of a node: all combinations of agents, probe data,
// checks, labels and hints.
func TestInvariants(t *testing.T) {
	agents := map[string]Node{
		"none":    {},
		"dead":    {Agents: []Agent{deadAgent()}},
		"ready":   {Agents: []Agent{readyAgent()}},
		"unknown": {AgentsUnknown: "forbidden"},
	}
	probes := []*Probe{nil, probe("BPFLSM", true), probe("BPFLSM", false), probe("AppArmor", true), probe("SELinux", true), probe("", false), probe("what", true),
		{Pod: "kubearmor/agent-1", KernelVersion: "4.4", ActiveLSM: "BPFLSM", ContainerSecurity: true}}
	machines := []*Machine{nil, {}, {Kernel: "4.4", LSMs: Reading{Value: "capability"}}, {Lockdown: Reading{Value: Confidentiality}}, {BTF: Reading{Value: Absent}}, {Config: Reading{Value: NotSet}}}
	for _, lsms := range []string{"", withBPF, withoutBPF, selinux} {
		for _, loads := range []Answer{Yes, No, Unknown} {
			for _, called := range []Answer{Yes, No, Unknown} {
				machines = append(machines, machine(lsms, loads, called))
			}
		}
	}
	labels := []string{"", "bpf", "apparmor", "selinux", "none", "what"}
	hints := map[string][]string{
		"Debian GNU/Linux 12 (bookworm)": {labelNFDBPF + "=true", labelBTF + "=yes"},
		"Ubuntu 22.04.5 LTS":             {labelNFDBPF + "=n", labelBTF + "=no"},
	}
	for agentKind, known := range agents {
		for _, known.Probe = range probes {
			for i, m := range machines {
				for _, label := range labels {
					for image, all := range hints {
						known.Machine = m
						if label != "" {
							all = append([]string{labelEnforcer + "=" + label}, all...)
						}
						known.Node = nodeOf(all...)
						known.Node.Status.NodeInfo.OSImage = image
						if broken := invariant(known, label, agentKind); broken != "" {
							t.Fatalf("%s: agents %s, probe %+v, machine %d, label %q, hints %v, image %q", broken, agentKind, known.Probe, i, label, all, image)
						}
					}
				}
			}
		}
	}
}

// invariant is what does not hold and has to.
func invariant(n Node, label, agents string) string {
	got := Assess(n, now)
	// Sources that may carry a yes.
	loaded := n.Probe != nil && n.Probe.KernelVersion == runs && n.Probe.ContainerSecurity && n.Probe.ActiveLSM == "BPFLSM"
	byAppArmor := n.Probe != nil && n.Probe.ActiveLSM == "AppArmor" || label == "apparmor"
	switch {
	case got.Capabilities == Yes && (agents != "ready" || !loaded && label != "bpf"):
		return "capabilities are enforced on hints"
	case got.Processes == Yes && (agents != "ready" || !loaded && label != "bpf" && !byAppArmor):
		return "processes are enforced on hints"
	case got.Grade == Hinted:
		return "an answer rests on hints"
	case (got.Grade == "") != (got.Capabilities == Unknown && got.Processes == Unknown):
		return "grade " + string(got.Grade) + " does not go with the answers"
	case (agents == "none" || agents == "dead") && (got.Capabilities != No || got.Processes != No || got.Agent != No):
		return "something is enforced without an agent"
	case got.Capabilities == Yes && got.Processes != Yes:
		return "capabilities are enforced and processes are not"
	case got.Grade == Proven && got.Capabilities == Yes && !loaded:
		return "a claim became a proof"
	case got.Capabilities == Yes && got.TurnOn != nil:
		return "what is on is to be turned on"
	}
	for _, e := range got.Evidence {
		if e.Decides && e.Grade == Hinted {
			return fmt.Sprintf("%s decides as a hint", e.Source)
		}
	}
	return ""
}

func TestWindows(t *testing.T) {
	status := nodeOf("kubearmor.io/enforcer=bpf")
	status.Status.NodeInfo.OperatingSystem = "windows"
	label := nodeOf("kubernetes.io/os=windows")
	label.Status = corev1.NodeStatus{}
	for name, n := range map[string]*corev1.Node{"by its status": status, "by its label": label} {
		got := Assess(Node{Node: n, Agents: []Agent{readyAgent()}, Probe: probe("BPFLSM", true)}, now)
		if got.Capabilities != No || got.Processes != No || got.Grade != Proven || got.TurnOn == nil || got.TurnOn.Possible {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAnd(t *testing.T) {
	for _, test := range []struct {
		answers []Answer
		want    Answer
	}{
		{nil, Yes},
		{[]Answer{Yes, Yes}, Yes},
		{[]Answer{Yes, Unknown}, Unknown},
		{[]Answer{Unknown, No}, No},
		{[]Answer{No, Yes}, No},
		{[]Answer{Yes, ""}, Unknown},
		{[]Answer{"maybe"}, Unknown},
	} {
		if got := And(test.answers...); got != test.want {
			t.Errorf("And(%q) = %s, want %s", test.answers, got, test.want)
		}
	}
}
