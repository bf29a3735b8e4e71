package scan

import (
	"slices"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// policyRule is the ID of the rule about a cause for which policies do not bite.
func policyRule[T ~string](cause T) string { return "policy-" + string(cause) }

// ruleNoBPFLSM is the rule about nodes.
const ruleNoBPFLSM = "kernel-no-bpf-lsm"

// policyRules are the records of what is wrong with policies and nodes.
func policyRules() []Rule {
	rules := slices.Concat(runtimePolicyRules(), admissionPolicyRules(), []Rule{{
		ID: ruleNoBPFLSM, Category: CategoryKernel, Title: "BPF-LSM is not in use on a node", Severity: SeverityMedium,
		Description: "KubeArmor can refuse capabilities only through BPF-LSM, and as far as is known this node's kernel does not have it in use.",
		Attack:      "Goes to a pod on this node: what policies block elsewhere goes through here.",
		Remediation: "Switch BPF-LSM on as the finding says for the node's OS image, restart the node, and then KubeArmor's agent on it.",
	}})
	for i := range rules {
		r := &rules[i]
		if r.Category == "" {
			r.Category = CategoryPolicy
		}
		r.MITRE, r.CWE, r.HelpURL = []string{"T1611"}, []int{693}, rulePage(r.ID)
		r.SecuritySeverity = r.Severity.securitySeverity()
	}
	return rules
}

// runtimePolicyRules are about KubeArmor's policies. What they say was measured.
func runtimePolicyRules() []Rule {
	return []Rule{
		{
			ID: policyRule(armor.CauseHostPID), Title: "KubeArmor policies on a pod with hostPID", Severity: SeverityHigh,
			Description: "Policies select the pod, and none has any effect: KubeArmor tells containers apart by their PID and mount namespaces, and this pod has the host's.",
			Attack:      "Does in this pod whatever the policies forbid.",
			Remediation: "Take hostPID away. Where it is needed, count on admission to keep other pods from it, and on nothing else.",
		},
		{
			ID: policyRule(armor.CauseInitContainer), Title: "KubeArmor policies do not reach init containers", Severity: SeverityMedium,
			Description: "Policies select the pod, and its init containers are not covered: KubeArmor learns of containers from the pod's containerStatuses alone.",
			Attack:      "Runs what is forbidden from the init container, or from its image.",
			Remediation: "Take the capabilities and host mounts away from init containers: nothing stops them at run time.",
		},
		{
			ID: policyRule(armor.CauseSidecar), Title: "KubeArmor policies do not reach sidecars", Severity: SeverityMedium,
			Description: "Policies select the pod, and its restartable init containers (sidecars) are not covered, though they run as long as the pod.",
			Attack:      "Goes through the sidecar: it shares the pod's network and volumes.",
			Remediation: "Make an ordinary container of the sidecar, or give it nothing that a policy would have to stop.",
		},
		{
			ID: policyRule(armor.CauseEphemeral), Title: "KubeArmor policies do not reach ephemeral containers", Severity: SeverityMedium,
			Description: "Policies select the pod, and a container that was put into it with kubectl debug is not covered.",
			Attack:      "Whoever may update pods/ephemeralcontainers gets a container without any policy.",
			Remediation: "Limit who may update pods/ephemeralcontainers, and have admission judge them; delete the pod when the work is done.",
		},
		{
			ID: policyRule(armor.CauseUntracked), Title: "KubeArmor policy in a namespace that it does not track", Severity: SeverityHigh,
			Description: "Policies select pods of a namespace that KubeArmor leaves alone (kube-system and its own, unless it is configured otherwise): they have no effect there.",
			Attack:      "Does in these pods whatever the policies forbid.",
			Remediation: "Move the workload to a namespace of its own, or take the namespace off the agent's list of untracked ones.",
		},
		{
			ID: policyRule(armor.CausePodAudited), Title: "KubeArmor policies only audit a pod", Severity: SeverityHigh,
			Description: "The pod carries kubearmor-policy: audited, or KubeArmor puts it into that state itself (kube-system, cilium's pods, nodes without an enforcer). Block rules report at most and stop nothing.",
			Attack:      "Does what is forbidden; an alert may tell.",
			Remediation: "Set the annotation kubearmor-policy to enabled, or remove it.",
		},
		{
			ID: policyRule(armor.CausePodDisabled), Title: "KubeArmor policies are switched off for a pod", Severity: SeverityHigh,
			Description: "The pod carries kubearmor-policy: disabled. Policies that select it have no effect.",
			Attack:      "Does in this pod whatever the policies forbid. Whoever may annotate pods can switch any pod off.",
			Remediation: "Remove the annotation, and let admission refuse it.",
		},
		{
			ID: policyRule(armor.CauseNoAgent), Title: "No KubeArmor agent is ready where the pods run", Severity: SeverityHigh,
			Description: "Policies select the pods, and on a node where they run no agent of KubeArmor is ready: nothing is enforced there.",
			Attack:      "Goes to a pod on that node, or crashes the agent: for minutes after nothing is enforced.",
			Remediation: "Let the DaemonSet of KubeArmor run on every node (tolerations, affinity, resources), and mend the agent that is not ready.",
		},
		{
			ID: policyRule(armor.CauseEnforcer), Title: "The node's enforcer cannot enforce this kind of rule", Severity: SeverityHigh,
			Description: "KubeArmor enforces with AppArmor or SELinux on the node, not with BPF-LSM: rules about capabilities cannot be relied on there.",
			Attack:      "Uses the capability as if there were no policy.",
			Remediation: "Switch BPF-LSM on for the node and restart KubeArmor's agent.",
		},
		{
			ID: policyRule(armor.CauseNoEnforcer), Title: "No enforcer is in use where the pods run", Severity: SeverityHigh,
			Description: "KubeArmor could load no enforcer on a node where the pods run: it watches there, and stops nothing.",
			Attack:      "Does on that node whatever the policies forbid.",
			Remediation: "Switch BPF-LSM on for the node and restart KubeArmor's agent.",
		},
		{
			ID: policyRule(armor.CauseCapabilityAudit), Title: "Audit of capabilities that yields nothing", Severity: SeverityMedium,
			Description: "The policy audits capabilities. With BPF-LSM only Allow and Block rules reach the kernel, and capability events come from there alone: it blocks nothing and reports nothing.",
			Attack:      "Uses the capability; there is not even an alert.",
			Remediation: "Set the action to Block. There is no dry run for capabilities: look at the preview of what would break first.",
		},
		{
			ID: policyRule(armor.CauseSelectsNothing), Title: "Policy that selects no pod", Severity: SeverityLow,
			Description: "No pod of its scope has the labels that the policy selects. Nothing in the policy's status says so.",
			Attack:      "The workload that the policy was written for runs without it.",
			Remediation: "Correct the selector, or delete the policy.",
		},
		{
			ID: policyRule(armor.CauseHalvesDiffer), Title: "Two halves of a set cover different pods", Severity: SeverityMedium,
			Description: "An admission policy and a KubeArmor policy of one intent select by the same labels, one of them any, the other all of them: some pods get one half only.",
			Attack:      "Picks a pod that has only one of the labels: the other half is missing there.",
			Remediation: "Put the labels of the admission policy into one selector, so that all of them must match.",
		},
		{
			ID: policyRule(armor.CauseAllowList), Title: "An Allow policy turns the workload to a whitelist", Severity: SeverityMedium,
			Description: "A policy with action Allow selects the pods: everything that it does not list follows the namespace's default posture, which is audit unless somebody set block.",
			Attack:      "What nobody listed goes through and is at most reported.",
			Remediation: "Set the posture annotation of the namespace to block once the list is complete, or write Block rules instead.",
		},
		{
			ID: policyRule(armor.CauseSymlink), Title: "Policy names a path that is a symbolic link", Severity: SeverityMedium,
			Description: "KubeArmor matches the real path of a program. In this image the path that the policy names is a link to another one, or may be.",
			Attack:      "Calls the program: its real path stands in no policy.",
			Remediation: "Name the real path as well (on images with a merged /usr it begins with /usr).",
		},
		{
			ID: policyRule(armor.CauseBusyBox), Title: "Policy names an applet of BusyBox", Severity: SeverityMedium,
			Description: "In an image with BusyBox chroot, wget and their like are all the one program /bin/busybox, which no path of the policy is.",
			Attack:      "Runs the applet as if there were no policy.",
			Remediation: "Use an image without BusyBox. Blocking /bin/busybox blocks its shell too.",
		},
		{
			ID: policyRule(armor.CauseTooManyContainers), Title: "More containers on a node than are enforced", Severity: SeverityMedium,
			Description: "KubeArmor's BPF-LSM enforcer holds rules of 256 containers. More run on the node, and nothing says which are without.",
			Attack:      "Runs on a full node: with luck, without any policy.",
			Remediation: "Keep fewer containers on a node (the kubelet's maxPods).",
		},
		{
			ID: policyRule(armor.CauseEmpty), Title: "Policy without a rule that has an effect", Severity: SeverityLow,
			Description: "The policy was accepted by the API server and has nothing in it that KubeArmor enforces.",
			Attack:      "What the policy was written for goes through.",
			Remediation: "Correct the policy, or delete it.",
		},
	}
}

// admissionPolicyRules are about what stands at the API server's door.
func admissionPolicyRules() []Rule {
	return []Rule{
		{
			ID: policyRule(admission.CausePSANotEnforced), Title: "Pod Security only warns or audits", Severity: SeverityMedium,
			Description: "The namespace names a level in warn or audit and enforces none: what that level forbids is admitted, with a warning or a line in the audit log.",
			Attack:      "Creates the pod and ignores the warning.",
			Remediation: "Set pod-security.kubernetes.io/enforce to the same level, once the pods pass it.",
		},
		{
			ID: policyRule(admission.CausePSAOldVersion), Title: "Pod Security pinned to a version without newer controls", Severity: SeverityMedium,
			Description: "The namespace's enforce-version is older than the server, and lacks controls or stricter forms of them that the server has.",
			Attack:      "Uses what only the newer version forbids.",
			Remediation: "Raise or remove pod-security.kubernetes.io/enforce-version.",
		},
		{
			ID: policyRule(admission.CausePSAInvalid), Title: "Pod Security label with a value that is none", Severity: SeverityMedium,
			Description: "A pod-security label of the namespace has a value that the API server does not know. It does not mean what its author wanted.",
			Attack:      "What the label was meant to forbid may be admitted, and what it was not meant to forbid refused.",
			Remediation: "Correct the label: privileged, baseline or restricted, and a version like v1.36 or latest.",
		},
		{
			ID: policyRule(admission.CauseKyvernoAudit), Title: "Kyverno rule in Audit", Severity: SeverityMedium,
			Description: "The rule reports and refuses nothing: its failureAction is Audit, by itself, by an override or by default.",
			Attack:      "Creates the pod; a report tells about it.",
			Remediation: "Set rules[].validate.failureAction to Enforce, once the reports are clean.",
		},
		{
			ID: policyRule(admission.CauseKyvernoAutogen), Title: "Kyverno does not look into controllers", Severity: SeverityLow,
			Description: "Kyverno derives no rule for Deployments and their like from this one. A controller is admitted, and its pods are refused later, where nobody looks.",
			Attack:      "None by itself: pods are still judged. A rollout stands still and people switch the policy off.",
			Remediation: "Match the kind Pod without selectors, names or a version (put the selector on the namespace), or set the autogen annotation.",
		},
		{
			ID: policyRule(admission.CauseKyvernoEphemeral), Title: "Kyverno rule passes by ephemeral containers", Severity: SeverityMedium,
			Description: "The rule's operations leave out UPDATE, by which ephemeral containers come into a pod: what kubectl debug puts there is not judged.",
			Attack:      "Adds a privileged ephemeral container to a pod that was admitted clean.",
			Remediation: "Take the operations out of the match, or add UPDATE to them.",
		},
		{
			ID: policyRule(admission.CauseKyvernoNotReady), Title: "Kyverno policy that is not in force", Severity: SeverityHigh,
			Description: "Kyverno says that the policy is not ready, or the policy has admission switched off: nothing is refused by it.",
			Attack:      "Creates what the policy forbids.",
			Remediation: "Look at the policy's status conditions; set spec.admission to true.",
		},
		{
			ID: policyRule(admission.CauseExcluded), Title: "Pods are excluded from an admission policy", Severity: SeverityMedium,
			Description: "The policy would refuse these pods and does not: an exclude block, a PolicyException, or a namespace that is left alone lets them pass.",
			Attack:      "Creates pods that the exception covers.",
			Remediation: "Make the exception as narrow as the workload that needs it, or remove it.",
		},
		{
			ID: policyRule(admission.CauseVAPNotEnforced), Title: "Admission policy in CEL that only warns or audits", Severity: SeverityMedium,
			Description: "No action of the policy, or of the bindings that apply it, is Deny.",
			Attack:      "Creates the pod and ignores the warning.",
			Remediation: "Add Deny to validationActions, once the pods pass.",
		},
		{
			ID: policyRule(admission.CauseVAPUnbound), Title: "ValidatingAdmissionPolicy without a binding", Severity: SeverityMedium,
			Description: "No ValidatingAdmissionPolicyBinding names the policy: it is never evaluated.",
			Attack:      "Creates what the policy forbids.",
			Remediation: "Bind the policy, with validationActions that contain Deny, or delete it.",
		},
		{
			ID: policyRule(admission.CauseFailOpen), Title: "Admission policy that fails open", Severity: SeverityMedium,
			Description: "An expression of the policy fails on this pod, and its failurePolicy is Ignore: the pod is admitted without an answer.",
			Attack:      "Shapes a pod on which the expression fails, as these are, and is admitted.",
			Remediation: "Guard the expression (has(), optional fields) and set failurePolicy to Fail.",
		},
	}
}
