package armor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Names that KubeArmor gives a meaning.
const (
	policyAnnotation     = "kubearmor-policy"
	filePosture          = "kubearmor-file-posture"
	capabilitiesPosture  = "kubearmor-capabilities-posture"
	systemNamespace      = "kube-system"
	agentNamespace       = "kubearmor"
	annotationAudited    = "audited"
	annotationDisabled   = "disabled"
	postureBlock         = "block"
	enforcerBPF          = "bpf"
	enforcerAppArmor     = "apparmor"
	maxRulesPerContainer = 256
)

// MaxContainersPerNode is how many containers of a node KubeArmor's BPF-LSM enforcer
// can hold rules of; the rest is not enforced, and nobody says which they are.
const MaxContainersPerNode = 256

// grip is how far policies take hold of a kind of thing in a container.
type grip struct {
	// status is Blocked where they are enforced, Audited where they only report,
	// NotCovered where they do nothing and Unknown where that is not known.
	status Status
	reason string
}

// obstacle is a reason why policies have less effect on a pod than they say.
type obstacle struct {
	cause   Cause
	grip    grip
	certain bool
	mend    string
}

// podObstacles are what takes the effect from every policy in the pod, the heaviest
// first: processes and capabilities alike.
func podObstacles(pod *Pod) []obstacle {
	var found []obstacle
	add := func(cause Cause, status Status, certain bool, reason, mend string) {
		found = append(found, obstacle{cause: cause, grip: grip{status, reason}, certain: certain, mend: mend})
	}
	if pod.HostPID {
		reason := "the pod has hostPID: KubeArmor tells containers apart by their PID namespace, so no policy takes effect"
		if pod.Node.Enforcer == enforcerAppArmor {
			add(CauseHostPID, Unknown, false, "the pod has hostPID, where no policy takes effect under BPF-LSM; under AppArmor that was not measured", "set hostPID to false")
		} else {
			add(CauseHostPID, NotCovered, true, reason, "set hostPID to false")
		}
	}
	switch pod.Namespace {
	case systemNamespace:
		add(CauseUntracked, NotCovered, true, "KubeArmor enforces nothing in kube-system", "run the workload in a namespace of its own")
	case agentNamespace:
		add(CauseUntracked, NotCovered, true, "namespace kubearmor is not tracked, unless KubeArmor's configuration was changed",
			"run the workload in another namespace, or take this one out of untrackedNs in kubearmor-config")
	}
	_, cilium := pod.Labels[ciliumLabel]
	switch {
	case cilium:
		add(CausePodAudited, Audited, true, "the pod carries the label "+ciliumLabel+", and KubeArmor only audits such pods", "take the label away, if the pod is not Cilium's")
	case pod.Annotations[policyAnnotation] == annotationAudited:
		add(CausePodAudited, Audited, true, "the pod is annotated kubearmor-policy: audited, so policies report and stop nothing", "set the annotation kubearmor-policy to enabled, or remove it")
	case pod.Annotations[policyAnnotation] == annotationDisabled:
		add(CausePodDisabled, NotCovered, true, "the pod is annotated kubearmor-policy: disabled", "set the annotation kubearmor-policy to enabled, or remove it")
	}
	return append(found, nodeObstacles(&pod.Node, pod.NodeContainers)...)
}

// nodeObstacles are those of the node that hold for both kinds of rules.
func nodeObstacles(node *kernel.Enforcement, containers int) []obstacle {
	var found []obstacle
	switch {
	case node.Agent == kernel.No:
		found = append(found, obstacle{cause: CauseNoAgent, certain: true,
			grip: grip{NotCovered, noAgent(node.Reason)},
			mend: "get KubeArmor's agent to run and be ready on the node"})
	case node.Processes == kernel.No && node.Capabilities == kernel.No:
		found = append(found, obstacle{cause: CauseNoEnforcer, certain: true,
			grip: grip{audits(node), because("nothing on the node enforces policies", node.Reason)},
			mend: "turn BPF-LSM on in the node's kernel"})
	}
	if containers > MaxContainersPerNode {
		found = append(found, obstacle{cause: CauseTooManyContainers,
			grip: grip{Unknown, fmt.Sprintf("more than %d containers run on the node and KubeArmor keeps rules for that many: which of them have rules is not known", MaxContainersPerNode)},
			mend: fmt.Sprintf("run at most %d containers a node, or select fewer", MaxContainersPerNode)})
	}
	return found
}

// noAgent is the node's own reason where it is about the agent.
func noAgent(why string) string {
	const plain = "no KubeArmor agent is ready on the node"
	if strings.HasPrefix(why, "no KubeArmor agent") {
		return why
	}
	return because(plain, why)
}

// audits is what a node without an enforcer does: KubeArmor's monitor still
// reports.
func audits(node *kernel.Enforcement) Status {
	if node.Agent == kernel.Yes {
		return Audited
	}
	return NotCovered
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// containerObstacle is what takes the effect from policies in this kind of
// container.
func containerObstacle(kind ContainerKind) *obstacle {
	o := &obstacle{certain: true, grip: grip{status: NotCovered,
		reason: "KubeArmor looks at ordinary containers only; this is an " + string(kind)}}
	switch kind {
	case Init:
		o.cause, o.mend = CauseInitContainer, "keep what needs rights out of init containers: no policy reaches them"
	case Sidecar:
		o.cause, o.mend = CauseSidecar, "make it an ordinary container, without restartPolicy: Always under initContainers"
		o.grip.reason = "KubeArmor looks at ordinary containers only; this is a sidecar (an init container that keeps running)"
	case Ephemeral:
		o.cause, o.mend = CauseEphemeral, "forbid pods/ephemeralcontainers by RBAC or admission: no policy reaches them"
	case Ordinary:
		return nil
	default:
		return nil
	}
	return o
}

// hold is the grip on processes and on capabilities in one container.
type hold struct{ processes, capabilities grip }

// holdOn works out how far policies take hold of a container. The worst obstacle
// decides, and what certainly takes all effect goes before what is not known.
func holdOn(pod *Pod, obstacles []obstacle, c *Container, policies []*Policy) hold {
	if o := containerObstacle(c.Kind); o != nil {
		return hold{o.grip, o.grip}
	}
	h := hold{
		processes:    nodeGrip(&pod.Node, pod.Node.Processes, "process"),
		capabilities: nodeGrip(&pod.Node, pod.Node.Capabilities, "capability"),
	}
	if n := entries(policies); n > maxRulesPerContainer {
		full := grip{Unknown, fmt.Sprintf("the policies here need %d entries and KubeArmor keeps %d for a container: which are left out is not known", n, maxRulesPerContainer)}
		h.processes, h.capabilities = weaker(h.processes, full), weaker(h.capabilities, full)
	}
	for _, o := range obstacles {
		h.processes, h.capabilities = weaker(h.processes, o.grip), weaker(h.capabilities, o.grip)
	}
	if h.capabilities.status == Audited {
		// Only the enforcer sees capabilities: where it is not in use, nothing reports.
		h.capabilities.status = NotCovered
	}
	return h
}

// weaker keeps the grip that lets more through for certain. Of two alike the first.
func weaker(a, b grip) grip {
	order := []Status{NotCovered, Audited, Unknown, Blocked}
	if slices.Index(order, b.status) < slices.Index(order, a.status) {
		return b
	}
	return a
}

func nodeGrip(node *kernel.Enforcement, enforced kernel.Answer, kind string) grip {
	switch enforced {
	case kernel.Yes:
		return grip{status: Blocked}
	case kernel.No:
		return grip{audits(node), because("the node enforces no "+kind+" rules", node.Reason)}
	case kernel.Unknown:
	}
	return grip{Unknown, because("whether the node enforces "+kind+" rules is not known", node.Reason)}
}

// entries counts what the policies take of a container's map in the kernel, exactly
// where it comes near the limit.
func entries(policies []*Policy) int {
	n := 0
	for _, p := range policies {
		n += p.process.entries() + p.file.entries() + p.capabilities.entries()
	}
	if n <= maxRulesPerContainer {
		return n
	}
	keys := map[ruleKey]bool{}
	for _, p := range policies {
		p.process.collect(keys)
		p.file.collect(keys)
		p.capabilities.collect(keys)
	}
	return len(keys)
}

// posture is what becomes of a thing that an Allow list does not name.
type posture struct {
	// status is Blocked, Audited or Unknown.
	status Status
	reason string
}

// postureOf reads the namespace's annotation, else KubeArmor's own default: audit,
// unless it was configured otherwise, which only its probe data shows.
func postureOf(pod *Pod, annotation, global string) posture {
	if pod.NamespaceUnknown {
		return posture{Unknown, "the default posture stands in the namespace's annotations, which could not be read"}
	}
	switch value := pod.NamespaceAnnotations[annotation]; {
	case strings.ToLower(value) == postureBlock:
		return posture{Blocked, "the namespace's " + annotation + " is block"}
	case strings.ToLower(value) == "audit":
		return posture{Audited, "the namespace's " + annotation + " is audit"}
	}
	switch strings.ToLower(global) {
	case postureBlock:
		return posture{Blocked, "KubeArmor's default posture here is block"}
	case "":
		return posture{Audited, "the namespace has no " + annotation + ", and KubeArmor's default is audit"}
	}
	return posture{Audited, "KubeArmor's default posture here is audit"}
}
