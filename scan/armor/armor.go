// Package armor says what KubeArmor's policies do to a container: which select its
// pod, what of the escapeToHost set they block, and why a policy that selects has
// no effect. What it knows was measured on a real KubeArmor 1.7 with BPF-LSM. It
// is pure: policies come in as JSON, pods as values.
package armor

import "github.com/escape-scanner/escape-scanner/scan/kernel"

// Kind is the kind of a KubeArmor policy (group security.kubearmor.com).
type Kind string

// The kinds that speak of containers. KubeArmorHostPolicy speaks of the host's own
// processes and is not read.
const (
	KubeArmorPolicy        Kind = "KubeArmorPolicy"
	KubeArmorClusterPolicy Kind = "KubeArmorClusterPolicy"
)

// Action is what a policy does.
type Action string

// The actions. Block is the default.
const (
	Allow Action = "Allow"
	Audit Action = "Audit"
	Block Action = "Block"
)

// Ref names a policy.
type Ref struct {
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is KIND NAMESPACE/NAME, or KIND NAME for the cluster's.
func (r Ref) String() string {
	if r.Namespace == "" {
		return string(r.Kind) + " " + r.Name
	}
	return string(r.Kind) + " " + r.Namespace + "/" + r.Name
}

// Status is what happens to an element of the set in a container.
type Status string

// The states, the strongest first.
const (
	// Blocked: a policy in force refuses it.
	Blocked Status = "blocked"
	// Audited: a policy reports it and lets it pass.
	Audited Status = "audited"
	// Allowed: a policy names it as allowed.
	Allowed Status = "allowed"
	// NotCovered: no policy speaks of it, or none that has an effect here.
	NotCovered Status = "not covered"
	// Unknown: what would decide is not known.
	Unknown Status = "unknown"
)

// ElementKind is a part of the escapeToHost set.
type ElementKind string

// The parts.
const (
	Capability ElementKind = "capability"
	Chroot     ElementKind = "chroot"
	Tool       ElementKind = "deployment tool"
)

// Element is one thing that the escapeToHost set forbids.
type Element struct {
	Kind ElementKind `json:"kind"`
	// Name is "sys_admin", "chroot", "curl".
	Name string `json:"name"`
	// Paths are where distributions put the program, empty for a capability.
	Paths []string `json:"paths,omitempty"`
}

// Cover is what the policies in force do to one element in one container.
type Cover struct {
	Element Element `json:"element"`
	Status  Status  `json:"status"`
	// By are the policies that decide.
	By []Ref `json:"by,omitempty"`
	// Missing are paths of the element that no policy blocks, though it blocks
	// others of them.
	Missing []string `json:"missing,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// ContainerKind tells the kinds of containers apart.
type ContainerKind string

// The kinds; the same words as in findings.
const (
	Ordinary  ContainerKind = "container"
	Init      ContainerKind = "init container"
	Sidecar   ContainerKind = "sidecar"
	Ephemeral ContainerKind = "ephemeral container"
)

// Container is what is known of one container.
type Container struct {
	Name, Image string
	Kind        ContainerKind
	// Command is the entry point as the spec gives it, command and args.
	Command []string
	// Paths is what was found in the running container: for a path that a policy
	// names, the real path behind it, "" when there is no such file. nil when the
	// container was not looked into.
	Paths map[string]string
}

// Pod is what decides which policies take effect in a pod.
type Pod struct {
	Namespace string
	// NamespaceAnnotations are the namespace's (postures); NamespaceUnknown is true
	// where they could not be read.
	NamespaceAnnotations map[string]string
	NamespaceUnknown     bool
	Labels, Annotations  map[string]string
	HostPID              bool
	Containers           []Container
	// Node is what the node enforces.
	Node kernel.Enforcement
	// NodeContainers is how many containers run on the node, 0 when not known.
	NodeContainers int
	// FilePosture and CapabilityPosture are KubeArmor's own defaults on the node, "audit"
	// or "block", from its probe data; empty when they are not known. They decide on
	// what an Allow list does not name, where the namespace says nothing.
	FilePosture, CapabilityPosture string
}

// Cause is a reason why a policy that exists does not bite. Its text is stable: it
// is the end of a rule's ID.
type Cause string

// The causes.
const (
	CauseHostPID           Cause = "hostpid"
	CauseInitContainer     Cause = "init-container"
	CauseSidecar           Cause = "sidecar"
	CauseEphemeral         Cause = "ephemeral-container"
	CauseUntracked         Cause = "untracked-namespace"
	CausePodAudited        Cause = "pod-audited"
	CausePodDisabled       Cause = "pod-disabled"
	CauseNoAgent           Cause = "no-agent"
	CauseEnforcer          Cause = "enforcer"
	CauseNoEnforcer        Cause = "no-enforcer"
	CauseCapabilityAudit   Cause = "capability-audit"
	CauseSelectsNothing    Cause = "selects-nothing"
	CauseHalvesDiffer      Cause = "halves-differ"
	CauseAllowList         Cause = "allow-list"
	CauseSymlink           Cause = "symlink"
	CauseBusyBox           Cause = "busybox"
	CauseTooManyContainers Cause = "too-many-containers"
	CauseEmpty             Cause = "empty-rules"
)

// Toothless is one policy that selects a pod and has no effect there, or less than
// it says.
type Toothless struct {
	Policy Ref   `json:"policy"`
	Cause  Cause `json:"cause"`
	// Container is the container concerned, empty for the whole pod.
	Container string `json:"container,omitempty"`
	// Certain is false for what is only likely (an image's name is a hint).
	Certain bool   `json:"certain"`
	Reason  string `json:"reason"`
	// Mend says what would make it bite.
	Mend string `json:"mend"`
}

// Deed is something that a process in a container may try.
type Deed struct {
	// Capability is asked for ("SYS_ADMIN", any case, with or without CAP_), or
	// Exec is run: the path as it is typed or, where that is known, the real one.
	Capability string
	Exec       string
	// Anyone asks about whoever does it, whichever program he chooses for it: a rule that
	// holds for some callers only stops nobody then.
	Anyone bool
	// From is the real path of the program that does it: for Exec the one that starts
	// the other. Empty when it is not known; it matters to rules with fromSource.
	From string
}

// Outcome is what becomes of a deed.
type Outcome struct {
	// Status is Blocked, Unknown, or how it passes: Audited, Allowed, NotCovered.
	Status Status `json:"status"`
	By     []Ref  `json:"by,omitempty"`
	Reason string `json:"reason"`
}
