package report

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// layeredEvents is a run in which the layers were judged: every verdict, nodes of
// every kind, policies that bite and that do not, and an enemy's words everywhere.
func layeredEvents() []scan.Event {
	events := []scan.Event{
		{Start: &scan.Start{
			Schema: scan.SchemaVersion, Tool: "escape-scanner", Version: "v0.2.0", RuleSet: "2",
			Time: sampleTime(), Source: scan.SourceCluster, Cluster: "prod-eu", ServerVersion: "v1.36.3",
			Level: "baseline", PSSVersion: "v1.36",
		}},
		{Failure: &scan.Failure{
			Subject: "PolicyException.kyverno.io", Reason: scan.FailureForbidden,
			Message: `policyexceptions.kyverno.io is forbidden: User "ci" cannot list resource "policyexceptions"`,
			Affects: "what admission refuses",
		}},
	}
	events = append(events, layeredNodes()...)
	events = append(events, layeredPolicies()...)
	events = append(events, layeredAgent()...)
	events = append(events, layeredCheckout()...)
	events = append(events, layeredReport()...)
	events = append(events, layeredLedger()...)
	events = append(events, layeredClosed()...)
	events = append(events, layeredHostile(evil)...)
	events = append(events, layeredFindings()...)
	return append(events, scan.Event{End: &scan.End{
		Pods: 60, Workloads: 18,
		Findings: map[scan.Severity]int{scan.SeverityCritical: 4, scan.SeverityHigh: 5, scan.SeverityMedium: 3, scan.SeverityLow: 1},
		Verdicts: map[scan.Verdict]int{scan.VerdictExposed: 3, scan.VerdictUnknown: 1, scan.VerdictGuarded: 1, scan.VerdictClosed: 10, scan.VerdictSealed: 3},
		Failures: 1, Incomplete: true,
	}})
}

func sampleTime() time.Time { return time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC) }

func sampleWorkload(namespace, kind, name string) scan.Workload {
	return scan.Workload{Cluster: "prod-eu", Namespace: namespace, Kind: kind, Name: name}
}

func ksp(namespace, name string) armor.Ref {
	return armor.Ref{Kind: armor.KubeArmorPolicy, Namespace: namespace, Name: name}
}

func csp(name string) armor.Ref { return armor.Ref{Kind: armor.KubeArmorClusterPolicy, Name: name} }

// layeredNodes are two that enforce, one with AppArmor only, one where BPF-LSM is
// off, and one of which nothing is known.
func layeredNodes() []scan.Event {
	var events []scan.Event
	add := func(name, os, version string, e *kernel.Enforcement) {
		events = append(events, scan.Event{Node: &scan.Node{
			Name: name, KernelVersion: version, OSImage: os, OperatingSystem: "linux", Architecture: "amd64",
			ContainerRuntime: "containerd://1.7.22", KubeletVersion: "v1.36.3", Enforcement: e,
		}})
	}
	installed := sampleTime().Add(-12 * 24 * time.Hour)
	for i, pod := range []string{"kubearmor/kubearmor-x7k2p", "kubearmor/kubearmor-m4zq8"} {
		now := sampleTime()
		add(fmt.Sprintf("node-%d", i+1), "Debian GNU/Linux 12 (bookworm)", "6.1.0-25-amd64", &kernel.Enforcement{
			Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf", Agent: kernel.Yes,
			Reason: "KubeArmor's agent " + pod + " reports that its BPF-LSM programs are loaded",
			Evidence: []kernel.Evidence{
				{Source: "KubeArmor probe data of pod " + pod, Says: kernel.Yes, Grade: kernel.Proven, Value: "BPFLSM, ContainerSecurity true", Meaning: "its programs are loaded", Observed: &now, Decides: true},
				{Source: "node label kubearmor.io/enforcer", Says: kernel.Yes, Grade: kernel.Claimed, Value: "bpf", Meaning: "the installer saw bpf in the LSM list", Observed: &installed, AgeSeconds: 12 * 24 * 3600},
				{Source: "node info", Says: kernel.Yes, Grade: kernel.Hinted, Value: "6.1.0-25-amd64, Debian GNU/Linux 12 (bookworm)", Meaning: "BPF-LSM is on by default in Debian 12"},
			},
		})
	}
	add("node-3", "Ubuntu 22.04.5 LTS", "5.15.0-119-generic", &kernel.Enforcement{
		Capabilities: kernel.No, Processes: kernel.Yes, Grade: kernel.Claimed, Enforcer: "apparmor", Agent: kernel.Yes,
		Reason: "KubeArmor enforces with AppArmor there, which cannot refuse capabilities",
		Evidence: []kernel.Evidence{
			{Source: "node label kubearmor.io/enforcer", Says: kernel.No, Grade: kernel.Claimed, Value: "apparmor", Meaning: "capability rules cannot be relied on", Observed: &installed, AgeSeconds: 12 * 24 * 3600, Decides: true},
			{Source: "node-feature-discovery label kernel-config.BPF_LSM", Says: kernel.Yes, Grade: kernel.Hinted, Value: "true", Meaning: "compiled in, not necessarily active"},
		},
		Contradictions: []string{"the kernel has BPF-LSM compiled in, and the label says apparmor"},
		TurnOn:         ubuntuTurnOn(),
	})
	add("node-4", "Ubuntu 22.04.5 LTS", "5.15.0-119-generic", &kernel.Enforcement{
		Capabilities: kernel.No, Processes: kernel.No, Grade: kernel.Proven, Enforcer: "none", Agent: kernel.No,
		Reason: "no KubeArmor agent is ready on the node", TurnOn: ubuntuTurnOn(),
	})
	add("node-5", "Container-Optimized OS from Google", "6.1.112+", &kernel.Enforcement{
		Capabilities: kernel.Unknown, Processes: kernel.Unknown, Grade: kernel.Hinted, Agent: kernel.Unknown,
		Reason: "only the OS image speaks for it, and nobody confirms",
	})
	return events
}

func ubuntuTurnOn() *kernel.TurnOn {
	return &kernel.TurnOn{
		System: "Ubuntu", Possible: true,
		Steps:  []string{"add lsm=lockdown,capability,landlock,yama,apparmor,bpf to GRUB_CMDLINE_LINUX in /etc/default/grub", "run update-grub and reboot the node"},
		Source: "https://docs.kubearmor.io/kubearmor/documentation/kubearmor-security-enhancements",
	}
}

func layeredPolicies() []scan.Event {
	return []scan.Event{
		{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: "shop", Name: "disallow-capabilities", Action: "Block", Workloads: 2, Pods: 9, Bites: scan.BitesYes}},
		{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorClusterPolicy", Name: "disallow-tools", Action: "Block", Workloads: 14, Pods: 51, Bites: scan.BitesPartly, Reasons: []string{"it takes no effect in pods with hostPID", "init containers are not covered"}}},
		{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: "shop", Name: "old-rules", Action: "Block", Bites: scan.BitesNo, Reasons: []string{"its selector matches no pod"}}},
		{Policy: &scan.Policy{Layer: scan.LayerAdmission, Kind: "ClusterPolicy", Name: "psa-baseline", Action: "Audit", Workloads: 16, Pods: 57, Bites: scan.BitesNo, Reasons: []string{"failureAction is Audit"}}},
		{Policy: &scan.Policy{Layer: scan.LayerAdmission, Kind: "ValidatingAdmissionPolicy", Name: "no-privileged", Action: "Deny", Workloads: 16, Pods: 57, Bites: scan.BitesUnknown, Reasons: []string{"its parameter could not be read"}}},
	}
}

// layeredFindings are the findings of policies and nodes: what shows on a pod is about
// its workload, what is a policy's own fault about the policy.
func layeredFindings() []scan.Event {
	finding := func(rule string, c scan.Category, sev scan.Severity, w scan.Workload, field, message, mend string, policies ...string) *scan.Finding {
		return &scan.Finding{
			Rule: rule, Category: c, Title: "Title of " + rule, Severity: sev, Workload: w, Field: field, Now: json.RawMessage("null"),
			Message: message, Mend: mend, Policies: policies,
		}
	}
	const hostPID = "no KubeArmor policy takes effect in a pod with hostPID"
	agent := sampleWorkload("kube-system", "DaemonSet", "node-agent")
	prepare := finding("policy-init-container", scan.CategoryPolicy, scan.SeverityMedium, sampleWorkload("batch", "CronJob", "report"), "spec.initContainers[prepare]",
		"init containers are not covered by any policy", "do the work of prepare in an ordinary container", csp("disallow-tools").String())
	prepare.Container, prepare.ContainerKind, prepare.Pods = "prepare", scan.KindInit, 2
	var events []scan.Event
	for _, f := range []*scan.Finding{
		finding("policy-hostpid", scan.CategoryPolicy, scan.SeverityHigh, agent, "spec.hostPID", hostPID, "take hostPID from the pod; nothing else makes a policy bite", csp("disallow-tools").String(), ksp("kube-system", "agents").String()),
		prepare,
		finding("policy-selects-nothing", scan.CategoryPolicy, scan.SeverityLow, sampleWorkload("shop", "KubeArmorPolicy", "old-rules"), "spec.selector", "no pod has what the selector asks for", "correct the selector, or delete the policy"),
		finding("policy-kyverno-audit", scan.CategoryPolicy, scan.SeverityMedium, sampleWorkload("", "ClusterPolicy", "psa-baseline"), "spec", "failureAction is Audit: what it refuses is only reported", "set failureAction to Enforce", "ClusterPolicy psa-baseline (baseline)"),
		finding("policy-psa-not-enforced", scan.CategoryPolicy, scan.SeverityMedium, sampleWorkload("web", "Namespace", "web"), "metadata.labels", "the labels warn of baseline and enforce nothing", "set pod-security.kubernetes.io/enforce to baseline"),
		finding("kernel-no-bpf-lsm", scan.CategoryKernel, scan.SeverityMedium, sampleWorkload("", "Node", "node-4"), "status.nodeInfo", "no KubeArmor agent is ready on the node", "Ubuntu: add bpf to lsm= (https://docs.kubearmor.io)"),
		finding("kernel-no-bpf-lsm", scan.CategoryKernel, scan.SeverityMedium, sampleWorkload("", "Node", "node-3"), "status.nodeInfo", "KubeArmor enforces with AppArmor there, which cannot refuse capabilities", "Ubuntu: add bpf to lsm= (https://docs.kubearmor.io)"),
	} {
		events = append(events, scan.Event{Finding: f})
	}
	return events
}

// elements is a container's cover: the capabilities, chroot and some tools, each with
// the status given for its kind.
func elements(caps, chroot, tools armor.Status, by armor.Ref, reason string) []armor.Cover {
	var covers []armor.Cover
	add := func(kind armor.ElementKind, status armor.Status, names ...string) {
		for _, name := range names {
			c := armor.Cover{Element: armor.Element{Kind: kind, Name: name}, Status: status, Reason: reason}
			if status == armor.Blocked {
				c.By, c.Reason = []armor.Ref{by}, ""
			}
			if kind != armor.Capability {
				c.Element.Paths = []string{"/usr/bin/" + name, "/bin/" + name}
			}
			covers = append(covers, c)
		}
	}
	add(armor.Capability, caps, "sys_admin", "sys_ptrace", "sys_module", "dac_read_search", "dac_override")
	add(armor.Chroot, chroot, "chroot")
	add(armor.Tool, tools, "apt", "apk", "curl", "wget")
	return covers
}

func psaRuling(namespace string, answer admission.Answer, controls ...string) admission.Ruling {
	message := "enforce: baseline, version latest"
	if answer == admission.Refuses {
		message = `violates PodSecurity "baseline:latest"`
	}
	return admission.Ruling{By: admission.Ref{Mechanism: admission.PodSecurity, Name: namespace}, Answer: answer, Controls: controls, Message: message}
}

// layeredAgent is privileged with hostPID: no policy bites.
func layeredAgent() []scan.Event {
	w := sampleWorkload("kube-system", "DaemonSet", "node-agent")
	privileged := "spec.containers[0].securityContext.privileged"
	const hostPID = "no KubeArmor policy takes effect in a pod with hostPID"
	row := func(path, container string) scan.PathLayers {
		return scan.PathLayers{
			Path: path, Container: container, State: scan.PathOpen, Reason: hostPID,
			Admission: scan.Cell{Answer: scan.StopsNo, Reason: "no label of kube-system enforces a level"},
			Runtime:   scan.Cell{Answer: scan.StopsNo, Reason: hostPID},
			Kernel:    scan.Cell{Answer: scan.StopsNo, By: []string{"node-4"}, Grade: kernel.Proven, Reason: "no KubeArmor agent is ready on node-4"},
		}
	}
	return []scan.Event{
		{Finding: &scan.Finding{
			Rule: "escape-nsenter", Category: scan.CategoryEscape, Title: "Can enter the host's namespaces (nsenter)", Severity: scan.SeverityCritical, Open: true,
			Workload: w, Field: "spec.hostPID", Now: json.RawMessage("true"), Related: []string{privileged},
			Fix: &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false")}, Message: "sees the host's processes and may enter their namespaces", Pods: 5,
		}},
		{Finding: &scan.Finding{
			Rule: "escape-privileged", Category: scan.CategoryEscape, Title: "Privileged container", Severity: scan.SeverityCritical, Open: true,
			Workload: w, Container: "agent", ContainerKind: scan.KindContainer, Field: privileged, Now: json.RawMessage("true"),
			Fix: &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false")}, Message: "has the host's devices", Pods: 5,
		}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictExposed, Reason: "2 escape paths are open and nothing stops them", Severity: scan.SeverityCritical,
			Paths: []string{"escape-nsenter", "escape-privileged"}, Controls: []string{"hostNamespaces", "privileged"}, Pods: 5,
			Layers: &scan.Layers{
				Admission: admission.Decision{Answer: admission.Admits, Reason: "nothing that is known refuses it", Rulings: []admission.Ruling{
					psaRuling("kube-system", admission.Admits),
					{By: admission.Ref{Mechanism: admission.KyvernoPolicy, Kind: "ClusterPolicy", Name: "psa-baseline", Rule: "baseline"}, Answer: admission.Admits, Controls: []string{"hostNamespaces", "privileged"},
						Toothless: &admission.Toothless{Cause: admission.CauseKyvernoAudit, Reason: "failureAction is Audit", Mend: "set failureAction to Enforce"}},
				}},
				Runtime: scan.RuntimeLayer{
					Set: kernel.No, Reason: hostPID, Policies: []armor.Ref{csp("disallow-tools"), ksp("kube-system", "agents")},
					Containers: []scan.ContainerCover{{Container: "agent", Kind: scan.KindContainer, Covers: elements(armor.NotCovered, armor.NotCovered, armor.NotCovered, armor.Ref{}, hostPID)}},
					Toothless: []armor.Toothless{
						{Policy: csp("disallow-tools"), Cause: armor.CauseHostPID, Certain: true, Reason: hostPID, Mend: "take hostPID from the pod; nothing else makes a policy bite"},
						{Policy: ksp("kube-system", "agents"), Cause: armor.CauseHostPID, Certain: true, Reason: hostPID, Mend: "take hostPID from the pod; nothing else makes a policy bite"},
					},
				},
				Kernel: scan.KernelLayer{Capabilities: kernel.No, Processes: kernel.No, Grade: kernel.Proven, Reason: "no KubeArmor agent is ready on node-4", Nodes: 5, Worst: "node-4"},
				Paths:  []scan.PathLayers{row("escape-nsenter", ""), row("escape-privileged", "agent")},
			},
		}},
	}
}

// layeredCheckout is guarded: its one path is blocked wherever it runs.
func layeredCheckout() []scan.Event {
	w := sampleWorkload("shop", "Deployment", "checkout")
	by := ksp("shop", "disallow-capabilities")
	return []scan.Event{
		{Finding: &scan.Finding{
			Rule: "escape-cap-sys-admin", Category: scan.CategoryEscape, Title: "CAP_SYS_ADMIN: mounts and namespaces", Severity: scan.SeverityLow, Open: true, Guarded: true,
			Workload: w, Container: "app", ContainerKind: scan.KindContainer, Field: "spec.containers[0].securityContext.capabilities.add[0]", Item: "SYS_ADMIN", Now: json.RawMessage(`"SYS_ADMIN"`),
			Fix: &scan.Fix{Op: scan.FixRemove}, Message: "may mount file systems and make namespaces", Pods: 8,
			Lowered: []scan.Lowering{{By: by.String(), From: scan.SeverityCritical, Reason: "SYS_ADMIN is blocked in app on both nodes (proven)"}},
		}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictGuarded, Reason: "the one open path is stopped at run time, proven on both nodes", Severity: scan.SeverityLow,
			Paths: []string{"escape-cap-sys-admin"}, Controls: []string{"capabilities_baseline"}, Pods: 8,
			Layers: &scan.Layers{
				Admission: admission.Decision{Answer: admission.Refuses, Reason: "the labels of shop enforce baseline", Rulings: []admission.Ruling{psaRuling("shop", admission.Refuses, "capabilities_baseline")}},
				Runtime: scan.RuntimeLayer{
					Set: kernel.No, Reason: "chroot and the tools are not blocked in app", Policies: []armor.Ref{by},
					Containers: []scan.ContainerCover{{Container: "app", Kind: scan.KindContainer, Covers: elements(armor.Blocked, armor.NotCovered, armor.Audited, by, "no policy speaks of it")}},
				},
				Kernel: scan.KernelLayer{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Proven, Reason: "KubeArmor's programs are loaded on both nodes", Nodes: 2, Worst: "node-1"},
				Paths: []scan.PathLayers{{
					Path: "escape-cap-sys-admin", Container: "app", State: scan.PathStopped, Reason: "SYS_ADMIN is blocked in app on both nodes",
					Admission: scan.Cell{Answer: scan.StopsYes, By: []string{"PodSecurity shop"}, Reason: "baseline refuses the capability"},
					Runtime:   scan.Cell{Answer: scan.StopsYes, By: []string{by.String()}, Reason: "SYS_ADMIN is blocked"},
					Kernel:    scan.Cell{Answer: scan.StopsYes, By: []string{"node-1", "node-2"}, Grade: kernel.Proven, Reason: "programs are loaded"},
				}},
			},
		}},
	}
}

// layeredReport has a path that is stopped in one container and open in another.
func layeredReport() []scan.Event {
	w := sampleWorkload("batch", "CronJob", "report")
	finding := func(container string, kind scan.ContainerKind, field string) scan.Event {
		severity, lowered := scan.SeverityCritical, []scan.Lowering(nil)
		if kind == scan.KindContainer {
			severity, lowered = scan.SeverityLow, []scan.Lowering{{By: csp("disallow-tools").String(), From: scan.SeverityCritical, Reason: "SYS_ADMIN is blocked in main (claimed)"}}
		}
		return scan.Event{Finding: &scan.Finding{
			Rule: "escape-cap-sys-admin", Category: scan.CategoryEscape, Title: "CAP_SYS_ADMIN: mounts and namespaces", Severity: severity, Open: true, Guarded: lowered != nil, Lowered: lowered, Workload: w,
			Container: container, ContainerKind: kind, Field: field, Item: "SYS_ADMIN", Now: json.RawMessage(`"SYS_ADMIN"`), Fix: &scan.Fix{Op: scan.FixRemove}, Message: "may mount file systems and make namespaces", Pods: 2,
		}}
	}
	row := func(container string, state scan.PathState, runtime scan.Cell, reason string) scan.PathLayers {
		return scan.PathLayers{
			Path: "escape-cap-sys-admin", Container: container, State: state, Reason: reason,
			Admission: scan.Cell{Answer: scan.StopsNo, Reason: "no policy refuses it"}, Runtime: runtime,
			Kernel: scan.Cell{Answer: scan.StopsYes, By: []string{"node-1"}, Grade: kernel.Claimed, Reason: "a ready agent and its label say so"},
		}
	}
	const initReason = "init containers are not covered by any policy"
	return []scan.Event{
		finding("main", scan.KindContainer, "spec.containers[0].securityContext.capabilities.add[0]"),
		finding("prepare", scan.KindInit, "spec.initContainers[0].securityContext.capabilities.add[0]"),
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictExposed, Reason: "1 of 2 escape paths is not stopped", Severity: scan.SeverityCritical,
			Paths: []string{"escape-cap-sys-admin"}, Controls: []string{"capabilities_baseline"}, Pods: 2,
			Layers: &scan.Layers{
				Admission: admission.Decision{Answer: admission.Admits, Reason: "nothing that is known refuses it"},
				Runtime: scan.RuntimeLayer{
					Set: kernel.No, Reason: "prepare is an init container", Policies: []armor.Ref{csp("disallow-tools")},
					Containers: []scan.ContainerCover{
						{Container: "main", Kind: scan.KindContainer, Covers: elements(armor.Blocked, armor.Blocked, armor.Blocked, csp("disallow-tools"), "")},
						{Container: "prepare", Kind: scan.KindInit, Covers: elements(armor.NotCovered, armor.NotCovered, armor.NotCovered, armor.Ref{}, initReason)},
					},
					Toothless: []armor.Toothless{
						{Policy: csp("disallow-tools"), Cause: armor.CauseInitContainer, Container: "prepare", Certain: true, Reason: initReason, Mend: "do the work of prepare in an ordinary container"},
						{Policy: csp("disallow-tools"), Cause: armor.CauseBusyBox, Container: "main", Reason: "its image looks like BusyBox, where chroot is /bin/busybox", Mend: "use an image without BusyBox"},
					},
				},
				Kernel: scan.KernelLayer{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Claimed, Reason: "a ready agent and its label say so", Nodes: 1, Worst: "node-1"},
				Paths: []scan.PathLayers{
					row("prepare", scan.PathOpen, scan.Cell{Answer: scan.StopsNo, Reason: initReason}, initReason),
					row("main", scan.PathStopped, scan.Cell{Answer: scan.StopsYes, By: []string{csp("disallow-tools").String()}, Reason: "SYS_ADMIN is blocked"}, "SYS_ADMIN is blocked in main"),
				},
			},
		}},
	}
}

// layeredLedger is unknown: nobody knows whether its node enforces.
func layeredLedger() []scan.Event {
	w := sampleWorkload("payments", "Deployment", "ledger")
	return []scan.Event{
		{Finding: &scan.Finding{
			Rule: "escape-cap-sys-module", Category: scan.CategoryEscape, Title: "CAP_SYS_MODULE: loads kernel modules", Severity: scan.SeverityCritical, Open: true, Workload: w,
			Container: "app", ContainerKind: scan.KindContainer, Field: "spec.containers[0].securityContext.capabilities.add[0]", Item: "SYS_MODULE", Now: json.RawMessage(`"SYS_MODULE"`), Fix: &scan.Fix{Op: scan.FixRemove}, Message: "may load modules", Pods: 1,
		}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictUnknown, Reason: "a policy blocks the step, and nothing but the OS image says that node-5 enforces it", Severity: scan.SeverityCritical,
			Paths: []string{"escape-cap-sys-module"}, Controls: []string{"capabilities_baseline"}, Pods: 1,
			Layers: &scan.Layers{
				Admission: admission.Decision{Answer: admission.Unknown, Reason: "PolicyExceptions could not be read (forbidden)"},
				Runtime: scan.RuntimeLayer{Set: kernel.Unknown, Reason: "node-5 may not enforce it", Policies: []armor.Ref{ksp("payments", "set")},
					Containers: []scan.ContainerCover{{Container: "app", Kind: scan.KindContainer, Covers: elements(armor.Unknown, armor.Unknown, armor.Unknown, armor.Ref{}, "what node-5 enforces is not known")}}},
				Kernel: scan.KernelLayer{Capabilities: kernel.Unknown, Processes: kernel.Unknown, Grade: kernel.Hinted, Reason: "only the OS image speaks for it", Nodes: 1, Worst: "node-5"},
				Paths: []scan.PathLayers{{
					Path: "escape-cap-sys-module", Container: "app", State: scan.PathUnknown, Reason: "nothing but the OS image says that node-5 enforces it",
					Admission: scan.Cell{Answer: scan.StopsUnknown, Reason: "PolicyExceptions could not be read"},
					Runtime:   scan.Cell{Answer: scan.StopsUnknown, By: []string{"KubeArmorPolicy payments/set"}, Reason: "what node-5 enforces is not known"},
					Kernel:    scan.Cell{Answer: scan.StopsUnknown, By: []string{"node-5"}, Grade: kernel.Hinted, Reason: "only the OS image speaks for it"},
				}},
			},
		}},
	}
}

// layeredClosed is the quiet majority: closed ones, and sealed ones.
func layeredClosed() []scan.Event {
	var events []scan.Event
	for i := range 13 {
		w := sampleWorkload("web", "Deployment", fmt.Sprintf("site-%02d", i))
		v := &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictClosed, Reason: "no escape path is open in the spec", PSSAllowed: true, Pods: 3,
			Layers: &scan.Layers{
				Admission: admission.Decision{Answer: admission.Admits, Reason: "nothing refuses it"},
				Reopen:    admission.Admits, Reopens: []string{"escape-host-root", "escape-privileged"}, ReopenReason: "the labels of web enforce nothing",
				Runtime: scan.RuntimeLayer{Set: kernel.No, Reason: "no policy speaks of chroot", Policies: []armor.Ref{csp("disallow-tools")},
					Containers: []scan.ContainerCover{{Container: "web", Kind: scan.KindContainer, Covers: elements(armor.NotCovered, armor.NotCovered, armor.Blocked, csp("disallow-tools"), "no policy speaks of it")}}},
				Kernel: scan.KernelLayer{Capabilities: kernel.Yes, Processes: kernel.Yes, Grade: kernel.Proven, Reason: "programs are loaded", Nodes: 2, Worst: "node-1"},
			},
		}
		if i >= 10 {
			v.Verdict, v.Reason = scan.VerdictSealed, "closed, admission refuses to reopen it, and the whole set is in force (proven)"
			v.Layers.Reopen, v.Layers.Reopens, v.Layers.ReopenReason = admission.Refuses, nil, ""
			v.Layers.Runtime.Set, v.Layers.Runtime.Reason = kernel.Yes, "the whole set is blocked in web"
			v.Layers.Runtime.Containers[0].Covers = elements(armor.Blocked, armor.Blocked, armor.Blocked, csp("disallow-tools"), "")
		}
		events = append(events, scan.Event{Verdict: v})
	}
	return events
}

// layeredHostile is a workload, a node and a policy with s wherever the layers have
// text that others choose.
func layeredHostile(s string) []scan.Event {
	w := scan.Workload{Cluster: s, Namespace: "team-a", Kind: "Pod", Name: s}
	ref := armor.Ref{Kind: armor.Kind(s), Namespace: s, Name: s}
	cell := func(answer scan.Stops) scan.Cell {
		return scan.Cell{Answer: answer, By: []string{s}, Grade: kernel.Claimed, Reason: s}
	}
	row := scan.PathLayers{Path: "escape-host-root", Container: s, State: scan.PathOpen, Reason: s, Admission: cell(scan.StopsNo), Runtime: cell(scan.StopsUnknown), Kernel: cell(scan.StopsYes)}
	policy := scan.Workload{Cluster: s, Namespace: s, Kind: s, Name: s}
	return []scan.Event{
		{Node: &scan.Node{Name: s, OSImage: s, Enforcement: &kernel.Enforcement{
			Capabilities: kernel.Yes, Processes: kernel.Unknown, Grade: kernel.Claimed, Enforcer: s, Agent: kernel.Unknown, Reason: s, Contradictions: []string{s},
			Evidence: []kernel.Evidence{{Source: s, Says: kernel.Yes, Grade: kernel.Claimed, Value: s, Meaning: s, Decides: true}},
			TurnOn:   &kernel.TurnOn{System: s, Steps: []string{s}, Source: s},
		}}},
		{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: s, Namespace: s, Name: s, Action: s, Workloads: 1, Pods: 1, Bites: scan.BitesPartly, Reasons: []string{s}}},
		{Finding: &scan.Finding{Rule: "policy-" + string(armor.CauseSymlink), Category: scan.CategoryPolicy, Title: s, Severity: scan.SeverityLow, Workload: policy, Field: s, Now: json.RawMessage("null"), Message: s, Mend: s, Policies: []string{s, s + "2"}}},
		{Finding: &scan.Finding{Rule: "kernel-x", Category: scan.CategoryKernel, Title: s, Severity: scan.SeverityLow, Workload: scan.Workload{Kind: "Node", Name: s}, Now: json.RawMessage("null"), Message: s}},
		{Finding: &scan.Finding{Rule: "escape-host-root", Category: scan.CategoryEscape, Title: s, Severity: scan.SeverityLow, Open: true, Guarded: true, Workload: w, Container: s, Field: s, Item: s, Now: mustJSON(s), Message: s,
			Lowered: []scan.Lowering{{By: s, From: scan.SeverityCritical, Reason: s}}}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictExposed, Reason: s, Severity: scan.SeverityLow, Paths: []string{"escape-host-root"}, Controls: []string{s}, Pods: 1,
			Layers: &scan.Layers{
				Admission: admission.Decision{Answer: admission.Unknown, Reason: s, Rulings: []admission.Ruling{{
					By: admission.Ref{Mechanism: admission.Mechanism(s), Kind: s, Namespace: s, Name: s, Rule: s}, Answer: admission.Unknown, Controls: []string{s}, Message: s,
					Toothless: &admission.Toothless{Cause: admission.Cause(s), Reason: s, Mend: s},
				}}},
				Reopen: admission.Admits, Reopens: []string{s}, ReopenReason: s,
				Runtime: scan.RuntimeLayer{Set: kernel.Unknown, Reason: s, Policies: []armor.Ref{ref},
					Containers: []scan.ContainerCover{{Container: s, Kind: scan.ContainerKind(s), Covers: []armor.Cover{{Element: armor.Element{Kind: armor.ElementKind(s), Name: s, Paths: []string{s}}, Status: armor.Unknown, By: []armor.Ref{ref}, Missing: []string{s}, Reason: s}}}},
					Toothless:  []armor.Toothless{{Policy: ref, Cause: armor.CauseSymlink, Container: s, Reason: s, Mend: s}}},
				Kernel: scan.KernelLayer{Capabilities: kernel.Unknown, Processes: kernel.Yes, Grade: kernel.Claimed, Reason: s, Nodes: 1, Worst: s},
				Paths:  []scan.PathLayers{row},
			},
		}},
	}
}
