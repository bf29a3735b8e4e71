package report

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// samplePolicy is an object of a set with one value in its spec.
func samplePolicy(name, action string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy",
		"metadata": map[string]any{"namespace": "shop", "name": name},
		"spec":     map[string]any{"action": action, "message": "by " + evil},
	}}
}

func planWorkload(namespace, name string) scan.Workload {
	return scan.Workload{Namespace: namespace, Kind: "Deployment", Name: name}
}

// samplePlan has every action, every outcome, every kind of block that is told apart
// by its text, and texts of attackers.
func samplePlan() *Remediation {
	tools, capabilities := samplePolicy("escape-to-host-tools", "Block"), samplePolicy("escape-to-host-capabilities", "Block")
	audited := samplePolicy("escape-to-host-tools", "Audit")
	change := func(stage remediate.Stage, part set.Part, action remediate.Action, before, after *unstructured.Unstructured) remediate.Change {
		named := after
		if named == nil {
			named = before
		}
		return remediate.Change{Stage: stage, Part: part, Action: action, Object: remediate.RefOf(named), Before: before, After: after}
	}
	blocked := change(remediate.StageEnforce, set.PartChroot, remediate.Blocked, nil, samplePolicy("escape-to-host-chroot", "Block"))
	blocked.After = nil
	blocked.Block = &remediate.Block{By: remediate.BlockedByAdmission, Message: "admission webhook \"policies.example.com\" denied the request: " + evil, Mend: "ask who runs the webhook"}
	drifted := change(remediate.StageEnforce, set.PartCapabilities, remediate.Changed, samplePolicy("escape-to-host-capabilities", "Audit"), capabilities)
	drifted.Notes = []string{"taken over: .spec.action of kubectl-patch"}
	drifted.Warnings = []string{"unknown field " + evil}
	r := &Remediation{
		Tool: "escape-scanner", Version: "v0.1.0", Time: sampleTime(), Cluster: "prod-eu", ServerVersion: "v1.36.3",
		Admission: "no ValidatingPolicy of Kyverno's is served",
		Set: &set.Set{
			Options: set.Options{
				Name: "escape-to-host", Admission: set.AdmissionVAP, Level: "baseline", PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull,
				Scope: targets.Scope{Namespaces: []string{"shop", "lab"}, Labels: map[string]string{"tier": "web", "app": "x"}}, Without: []string{"curl"},
			},
			Objects: []set.Object{
				{Part: set.PartTools, Audit: audited, Enforce: tools, Why: []string{"shop/Deployment/cart has curl", "shop/Deployment/web has apk", "lab/Deployment/a has make", "lab/Deployment/b has wget", "lab/Deployment/c has yum"}},
				{Part: set.PartCapabilities, Enforce: capabilities},
				{Part: set.PartAdmission, Enforce: samplePolicy("one", "x")},
			},
			Notes: []string{"Never in scope: the namespaces kube-system, kubearmor, kyverno."},
		},
		Plan: &remediate.Plan{
			Set: "escape-to-host", Unfinished: "an apply by ann came to 1 of 4 changes",
			Changes: []remediate.Change{
				change(remediate.StageAudit, set.PartTools, remediate.Created, nil, audited),
				change(remediate.StageEnforce, set.PartTools, remediate.Changed, audited, tools),
				drifted,
				change(remediate.StageEnforce, set.PartAdmission, remediate.Unchanged, samplePolicy("one", "x"), samplePolicy("one", "x")),
				change(remediate.StageEnforce, set.PartAdmission, remediate.Unchanged, samplePolicy("two", "x"), samplePolicy("two", "x")),
				change(remediate.StageEnforce, set.PartChroot, remediate.Restored, samplePolicy("old", "Block"), nil),
				change(remediate.StageEnforce, set.PartChroot, remediate.Restored, samplePolicy("theirs", "Block"), samplePolicy("theirs", "Allow")),
				blocked,
			},
		},
		Preview: samplePreview(),
		Next:    []string{"escape-scanner remediate plan -n shop,lab   once what blocks is mended"},
	}
	for i := range 7 {
		r.Set.Spared = append(r.Set.Spared, set.Spared{
			Workload: planWorkload("shop", fmt.Sprintf("api-%d", i)), Reason: "no container can hold it: it is dropped",
			Elements: []armor.Element{{Kind: armor.Capability, Name: "sys_admin"}, {Kind: armor.Capability, Name: "sys_ptrace"}},
		})
	}
	return r
}

func samplePreview() *preview.Report {
	probe := preview.Effect{
		Outcome: preview.Breaks, Part: set.PartCapabilities, Element: "sys_admin", Container: "app", ContainerKind: scan.KindContainer,
		Field: "spec.containers[0].readinessProbe.exec", What: "its readiness probe can never succeed", Why: "the runtime needs SYS_ADMIN to join the container",
		Mend: "use an httpGet probe", Pods: 3,
	}
	path := func(i int) preview.Effect {
		field := fmt.Sprintf("spec.volumes[%d].hostPath", i)
		return preview.Effect{Outcome: preview.Breaks, Part: set.PartAdmission, Element: "hostPathVolumes", Field: field,
			What: "would be refused at its next start", Why: "ValidatingAdmissionPolicy escape-to-host refuses it", Mend: "remove " + field}
	}
	exec := preview.Effect{Outcome: preview.MayBreak, Part: set.PartCapabilities, Element: "sys_admin", What: "kubectl exec and kubectl cp are refused", Why: "in app", Mend: "kubectl debug still works"}
	bare := preview.Effect{Outcome: preview.NotCovered, Part: preview.PartRuntime, Container: "setup", ContainerKind: scan.KindInit, What: "is not covered", Why: "KubeArmor does not cover init containers"}
	r := &preview.Report{
		Counts: map[preview.Outcome]int{preview.Breaks: 3, preview.MayBreak: 8, preview.NotCovered: 1, preview.Safe: 2},
		Workloads: []preview.Workload{
			{Workload: planWorkload("lab", "agent"), Outcome: preview.Breaks, Pods: 5, Effects: []preview.Effect{bare, path(0), path(1), exec, path(2)}},
			{Workload: planWorkload("shop", "cart"), Outcome: preview.Breaks, Pods: 3, Accepted: "--accept", Effects: []preview.Effect{probe}},
			{Workload: planWorkload("shop", evil), Outcome: preview.Breaks, Pods: 1, Effects: []preview.Effect{{
				Outcome: preview.Breaks, Part: set.PartTools, Element: "curl", Container: evil, What: "calls " + evil, Why: evil, Mend: evil,
			}}},
		},
		Failures: []scan.Failure{{Subject: "pods", Namespace: "lab", Reason: scan.FailureForbidden, Message: "pods is forbidden: " + evil, Affects: "workloads that were not seen"}},
	}
	for i := range 8 {
		e := exec
		e.Why = fmt.Sprintf("in app-%d", i)
		r.Workloads = append(r.Workloads, preview.Workload{Workload: planWorkload("shop", fmt.Sprintf("api-%d", i)), Outcome: preview.MayBreak, Pods: 1, Effects: []preview.Effect{e}})
	}
	return &preview.Report{Counts: r.Counts, Failures: r.Failures, Workloads: append(r.Workloads,
		preview.Workload{Workload: planWorkload("shop", "init"), Outcome: preview.NotCovered, Effects: []preview.Effect{bare}},
		preview.Workload{Workload: planWorkload("shop", "quiet"), Outcome: preview.Safe, Accepted: "a reason nobody needs"},
		preview.Workload{Workload: planWorkload("shop", "still"), Outcome: preview.Safe},
	)}
}

// sampleResult is what came of the plan.
func sampleResult() *Remediation {
	r := samplePlan()
	r.Result = &remediate.Result{
		Changes: r.Plan.Changes, Left: 1,
		Checks: []remediate.Check{
			{Subject: "refuses: a privileged pod", Answer: kernel.Yes, Message: "refused in namespace shop (a dry run)"},
			{Subject: "KubeArmor's agents", Answer: kernel.No, Message: "on none of 3 nodes an agent is ready: " + evil},
			{Subject: "accepted: ValidatingAdmissionPolicy escape-to-host", Answer: kernel.Unknown, Message: "its expressions have not been type-checked"},
		},
	}
	r.Next = []string{"escape-scanner remediate status"}
	return r
}

func sampleStandings() *Standings {
	ref := func(name string) remediate.Ref { return remediate.RefOf(samplePolicy(name, "Block")) }
	drifted := remediate.ObjectStatus{
		Part: set.PartTools, Object: ref("escape-to-host-tools"), State: remediate.StateDrifted, Stage: remediate.StageEnforce, By: []string{"kubectl-" + evil},
		Diff: remediate.Diff(samplePolicy("escape-to-host-tools", "Block"), samplePolicy("escape-to-host-tools", "Audit")),
	}
	one := Standing{
		Status: &remediate.Status{
			Set: "escape-to-host", Phase: remediate.PhaseApplying, Unfinished: "1 of 4 changes was not made", By: "ann", Since: sampleTime(),
			Options: samplePlan().Set.Options, Notes: []string{"the record has 2 parts"},
			Objects: []remediate.ObjectStatus{
				{Part: set.PartCapabilities, Object: ref("escape-to-host-capabilities"), State: remediate.StateInPlace, Stage: remediate.StageEnforce},
				{Part: set.PartChroot, Object: ref("escape-to-host-chroot"), State: remediate.StateAuditing, Stage: remediate.StageAudit},
				drifted,
				{Part: set.PartAdmission, Object: ref("gone"), State: remediate.StateMissing},
				{Part: set.PartAdmission, Object: ref("later"), State: remediate.StateNotBegun},
				{Part: set.PartAdmission, Object: ref("hidden"), State: remediate.StateUnreadable, Message: "forbidden: " + evil},
			},
		},
	}
	one.Bites = map[string]Bite{
		ref("escape-to-host-capabilities").String(): {Bites: scan.BitesYes, Workloads: 3, Pods: 9},
		ref("escape-to-host-chroot").String():       {Bites: scan.BitesPartly, Workloads: 3, Pods: 9, Reasons: []string{"on 1 of 3 nodes no agent runs", evil}},
		ref("escape-to-host-tools").String():        {Bites: scan.BitesNo, Reasons: []string{"it selects no pod"}},
	}
	other := Standing{Status: &remediate.Status{Set: "audit-first", Phase: remediate.PhaseApplied}}
	return &Standings{
		Tool: "escape-scanner", Version: "v0.1.0", Time: sampleTime(), Cluster: "prod-eu", ServerVersion: "v1.36.3", Records: "kube-system",
		Sets: []Standing{one, other}, Failures: samplePreview().Failures, Next: []string{"escape-scanner remediate rollback   puts back what was before"},
	}
}
