package report

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// evil is text that acts on a terminal, a browser or a reader wherever it is
// printed as it is.
const evil = "evil\x1b[31m\x1b]0;title\a\r\n\u202edrowkcab\u2066\u200b<script>alert(1)</script>](https://evil.example)\u0085\ufeff"

// sampleEvents is a run that has everything in it: every kind of event, every
// severity, category and verdict, findings lowered, excepted and without a fix,
// places in files and none, failures, and names chosen by an enemy.
func sampleEvents() []scan.Event {
	events := []scan.Event{
		{Start: &scan.Start{
			Schema: scan.SchemaVersion, Tool: "escape-scanner", Version: "v0.1.0", RuleSet: "1",
			Time:   time.Date(2026, 11, 22, 10, 30, 0, 123_000_000, time.FixedZone("", 3600)),
			Source: scan.SourceCluster, Cluster: "prod-eu", ServerVersion: "v1.36.3",
			Level: "baseline", PSSVersion: "v1.36",
			Notes: []string{"manifests were mapped from deploy/"},
		}},
		{Progress: &scan.Progress{Pods: 500, Workloads: 40, Remaining: 1200}},
		{Failure: &scan.Failure{
			Subject: "pods", Namespace: "payments", Reason: scan.FailureForbidden,
			Message: `pods is forbidden: User "system:serviceaccount:ci:scanner" cannot list resource "pods" in API group "" in the namespace "payments"`,
			Affects: "verdicts of all workloads in payments",
		}},
		{Failure: &scan.Failure{
			Subject: "deploy/broken.yaml", Reason: scan.FailureInvalid, Message: "mapping values are not allowed in this context",
			Location: &scan.Location{File: "deploy/broken.yaml", Line: 12, Column: 7},
		}},
	}
	for i, kernel := range []string{"6.1.0-25-amd64", "6.1.0-25-amd64", "5.15.0-119-generic"} {
		events = append(events, scan.Event{Node: &scan.Node{
			Name: fmt.Sprintf("node-%d", i+1), KernelVersion: kernel, OSImage: "Debian GNU/Linux 12 (bookworm)",
			OperatingSystem: "linux", Architecture: "amd64", ContainerRuntime: "containerd://1.7.22", KubeletVersion: "v1.36.3",
		}})
	}
	events = append(events, sampleAgent()...)
	events = append(events, sampleShop()...)
	events = append(events, sampleEvil()...)
	events = append(events, sampleClosed()...)
	events = append(events,
		scan.Event{Finding: &scan.Finding{
			Rule: "exception-expired", Category: scan.CategoryException, Title: "Exception that has expired",
			Severity: scan.SeverityMedium, Field: "exceptions[0]", Now: json.RawMessage(`"rule privileged, namespace shop"`),
			Workload: scan.Workload{Kind: "Exception", Name: "rule privileged, namespace shop"},
			Message:  "the exception expired on 2026-10-01 and covers nothing any more; it matches 2 findings",
			Location: &scan.Location{File: ".escape-scanner.yaml", Line: 9, Column: 1},
		}},
		scan.Event{End: &scan.End{
			Pods: 61, Workloads: 21,
			Findings: map[scan.Severity]int{scan.SeverityCritical: 4, scan.SeverityHigh: 3, scan.SeverityMedium: 5, scan.SeverityLow: 1},
			Excepted: 1, Known: 3,
			Verdicts: map[scan.Verdict]int{scan.VerdictExposed: 3, scan.VerdictUnknown: 1, scan.VerdictClosed: 17},
			Failures: 2, Incomplete: true,
		}},
	)
	return events
}

// sampleAgent is a node agent: the same field under several rules, an excepted
// finding, a place in a file for each.
func sampleAgent() []scan.Event {
	w := scan.Workload{Cluster: "prod-eu", Namespace: "kube-system", Kind: "DaemonSet", Name: "node-agent"}
	at := func(line, column int, field string) *scan.Location {
		return &scan.Location{File: "deploy/agent set.yaml", Line: line, Column: column, Field: "spec.template." + field}
	}
	privileged := "spec.containers[0].securityContext.privileged"
	off := &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false"), Note: "the container loses the node's devices"}
	edited := &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false"), Note: off.Note, With: []string{"spec.containers[0].securityContext.capabilities.add[0]"}, Edits: []scan.Edit{
		{Line: 7, Column: 9, EndLine: 7, EndColumn: 9, Text: "securityContext:\n  "},
		{Line: 31, Column: 23, EndLine: 31, EndColumn: 27, Text: "false"},
		{Line: 33, Column: 1, EndLine: 34, EndColumn: 1},
	}}
	return []scan.Event{
		{Finding: &scan.Finding{
			Rule: "escape-nsenter", Category: scan.CategoryEscape, Title: "Can enter the host's namespaces (nsenter)",
			Severity: scan.SeverityCritical, Open: true, Workload: w, Field: "spec.hostPID", Now: json.RawMessage("true"),
			Related: []string{privileged}, Fix: off, Message: "sees the host's processes and may enter their namespaces",
			Pods: 3, Location: at(21, 7, "spec.hostPID"),
		}},
		{Finding: &scan.Finding{
			Rule: "privileged", Category: scan.CategoryPSS, Title: "Privileged container", Level: "baseline",
			Severity: scan.SeverityCritical, Workload: w, Container: "agent", ContainerKind: scan.KindContainer,
			Image: "registry.example/agent:1.2", Field: privileged, Now: json.RawMessage("true"), Fix: edited,
			Message: "privileged", Pods: 3, Location: at(31, 13, privileged),
		}},
		{Finding: &scan.Finding{
			Rule: "escape-host-var-log", Category: scan.CategoryEscape, Title: "The host's /var/log, writable",
			Severity: scan.SeverityHigh, Open: true, Workload: w, Container: "agent", ContainerKind: scan.KindContainer,
			Image: "registry.example/agent:1.2", Field: "spec.containers[0].volumeMounts[0].readOnly", Item: "logs",
			Now: json.RawMessage("null"), Fix: &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("true")},
			Message: "mounts the host's /var/log writable", Pods: 3,
			Location: &scan.Location{File: "deploy/agent set.yaml", Line: 36, Column: 11, Nearest: true},
			Excepted: &scan.Excepted{Reason: "the log shipper, see SEC-112", Expires: "2026-12-31"},
		}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictExposed, Reason: "2 escape paths are open and nothing is known that stops them",
			Severity: scan.SeverityCritical, Paths: []string{"escape-host-var-log", "escape-nsenter"},
			Controls: []string{"hostNamespaces", "privileged"}, Pods: 3, Location: at(3, 1, ""),
		}},
	}
}

// sampleShop has one setting missing in several containers, a path that a user
// namespace lowers, one that a sandbox closes, and pods that differ from the rest.
func sampleShop() []scan.Event {
	w := scan.Workload{Cluster: "prod-eu", Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	var events []scan.Event
	for i, name := range []string{"app", "proxy", "metrics"} {
		field := fmt.Sprintf("spec.containers[%d].securityContext.allowPrivilegeEscalation", i)
		events = append(events, scan.Event{Finding: &scan.Finding{
			Rule: "allowPrivilegeEscalation", Category: scan.CategoryPSS, Title: "Privilege escalation is allowed", Level: "restricted",
			Severity: scan.SeverityMedium, Workload: w, Container: name, ContainerKind: scan.KindContainer, Image: "shop/" + name,
			Field: field, Now: nil, Fix: &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false")},
			Message: "allowPrivilegeEscalation != false", Pods: 8,
			Location: &scan.Location{File: "deploy/checkout.yaml", Line: 20 + 10*i, Column: 9, Nearest: true},
		}})
	}
	return append(events,
		scan.Event{Finding: &scan.Finding{
			Rule: "escape-cap-sys-admin", Category: scan.CategoryEscape, Title: "CAP_SYS_ADMIN: mounts and namespaces",
			Severity: scan.SeverityMedium, Open: true, Workload: w, Container: "app", ContainerKind: scan.KindContainer, Image: "shop/app",
			Field: "spec.containers[0].securityContext.capabilities.add[1]", Item: "SYS_ADMIN", Now: json.RawMessage(`"SYS_ADMIN"`),
			Fix: &scan.Fix{Op: scan.FixRemove}, Message: "may mount file systems and make namespaces",
			Lowered: []scan.Lowering{{By: "hostUsers: false", From: scan.SeverityCritical, Reason: "the capability holds in the pod's own user namespace only"}},
			Pods:    8,
		}},
		scan.Event{Finding: &scan.Finding{
			Rule: "escape-cap-bpf", Category: scan.CategoryEscape, Title: "CAP_BPF or CAP_PERFMON: programs in the kernel",
			Severity: scan.SeverityLow, Workload: w, Container: "debugger", ContainerKind: scan.KindEphemeral, Image: "busybox",
			Field: "spec.ephemeralContainers[0].securityContext.capabilities.add[0]", Item: "BPF", Now: json.RawMessage(`"BPF"`),
			Fix: &scan.Fix{Op: scan.FixRemove}, Message: "may load programs into the kernel or trace it", Pods: 1,
			Lowered: []scan.Lowering{{By: "runtimeClassName: gvisor (handler runsc)", From: scan.SeverityHigh, Closes: true, Reason: "the system calls go to the sandbox's own kernel"}},
		}},
		scan.Event{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictClosed, Reason: "no escape path is open", PSSAllowed: true, Pods: 1,
		}},
		scan.Event{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictExposed, Reason: "1 escape path is open and nothing is known that stops it",
			Severity: scan.SeverityMedium, Paths: []string{"escape-cap-sys-admin"}, Controls: []string{"capabilities_baseline"}, Pods: 8,
		}},
	)
}

// sampleEvil is a pod whose every word is an attack on who reads the report.
func sampleEvil() []scan.Event {
	w := scan.Workload{Cluster: "prod-eu", Namespace: "team-a", Kind: "Pod", Name: evil}
	return []scan.Event{
		{Finding: &scan.Finding{
			Rule: "appArmorProfile", Category: scan.CategoryPSS, Title: "AppArmor profile overridden or switched off", Level: "baseline",
			Severity: scan.SeverityMedium, Workload: w, Container: evil, ContainerKind: scan.KindInit, Image: evil,
			Field: "metadata.annotations[\"container.apparmor.security.beta.kubernetes.io/" + evil + "\"]",
			Now:   mustJSON(evil), Message: "forbidden AppArmor profile " + evil, Pods: 1, Claims: "ReplicaSet/" + evil,
			Location: &scan.Location{File: "a:b/" + evil + ".yaml", Line: 1, Column: 1},
		}},
		{Finding: &scan.Finding{
			Rule: "escape-host-root", Category: scan.CategoryEscape, Title: "The host's root directory",
			Severity: scan.SeverityCritical, Open: true, Workload: w, Container: "日本語コンテナ", ContainerKind: scan.KindSidecar,
			Field: "spec.volumes[0].hostPath.path", Item: "v", Now: json.RawMessage(`{"path": "/", "note": "` + "\u202e\u007f" + `"}`),
			Fix: &scan.Fix{Op: scan.FixRemove}, Message: "mounts the host's root directory: " + evil, Pods: 1,
		}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: w, Verdict: scan.VerdictExposed, Reason: "1 escape path is open: " + evil, Severity: scan.SeverityCritical,
			Paths: []string{"escape-host-root"}, Controls: []string{"appArmorProfile"}, Pods: 1,
			Claims: "ReplicaSet/" + evil + ", which does not exist",
		}},
		{Verdict: &scan.WorkloadVerdict{
			Workload: scan.Workload{Cluster: "prod-eu", Namespace: "payments", Kind: "Deployment", Name: "ledger"},
			Verdict:  scan.VerdictUnknown, Reason: "its pods could not be read", PSSAllowed: true,
		}},
	}
}

// sampleClosed is the quiet majority.
func sampleClosed() []scan.Event {
	var events []scan.Event
	for i := range 16 {
		events = append(events, scan.Event{Verdict: &scan.WorkloadVerdict{
			Workload: scan.Workload{Cluster: "prod-eu", Namespace: "web", Kind: "Deployment", Name: fmt.Sprintf("site-%02d", i)},
			Verdict:  scan.VerdictClosed, Reason: "no escape path is open", PSSAllowed: true, Pods: 3,
		}})
	}
	return events
}

func mustJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
