package kernel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// AgentSelector selects the pods of KubeArmor's node agent. The relay, the operator
// and the controller carry other values of the same label.
const AgentSelector = "kubearmor-app=kubearmor"

// The labels of KubeArmor's installer on nodes, and of the agent's pods.
const (
	labelEnforcer = "kubearmor.io/enforcer"
	labelBTF      = "kubearmor.io/btf"
	agentName     = "kubearmor"
)

// maxMessage bounds what is taken over from messages of others.
const maxMessage = 200

// AgentOf reads a pod that AgentSelector selects.
//
// Whoever may create a pod may label it as an agent. A pod that holds nothing to load
// programs or profiles with is doubtful: it counts in KubeArmor's own namespace only,
// and the doubt is told.
func AgentOf(pod *corev1.Pod) Agent {
	a := Agent{
		Namespace: pod.Namespace, Name: pod.Name, Node: pod.Spec.NodeName,
		Enforcer: pod.Spec.NodeSelector[labelEnforcer],
	}
	containers := pod.Spec.Containers
	if i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == agentName }); i >= 0 {
		a.Image = containers[i].Image
	} else if len(containers) > 0 {
		a.Image = containers[0].Image
	}
	if !slices.ContainsFunc(containers, mayEnforce) {
		a.Doubt = "it holds nothing to load programs with: no container of it is privileged or adds SYS_ADMIN or BPF"
	}
	a.NotReady = notReady(pod)
	if a.NotReady == "" {
		a.Ready = true
		a.Since = readyCondition(pod).LastTransitionTime.Time
	}
	return a
}

func readyCondition(pod *corev1.Pod) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c
		}
	}
	return corev1.PodCondition{}
}

// notReady is why an agent's pod does not enforce, empty when it is ready.
func notReady(pod *corev1.Pod) string {
	switch {
	case pod.Spec.NodeName == "":
		return "it is not scheduled" + because(condition(pod, corev1.PodScheduled))
	case pod.DeletionTimestamp != nil:
		return "it is being deleted"
	case pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
		return "it has ended" + because(string(pod.Status.Phase), pod.Status.Reason, pod.Status.Message)
	}
	if why := troubled(pod); why != "" {
		return why
	}
	ready := readyCondition(pod)
	if ready.Status == corev1.ConditionTrue {
		return ""
	}
	if ready.Type == "" {
		return "its status does not say that it is ready"
	}
	return "it is not ready" + because(ready.Reason, ready.Message)
}

// mayEnforce tells whether a container could load BPF programs or profiles at all.
func mayEnforce(c corev1.Container) bool {
	s := c.SecurityContext
	if s == nil {
		return false
	}
	if s.Privileged != nil && *s.Privileged {
		return true
	}
	return s.Capabilities != nil && slices.ContainsFunc(s.Capabilities.Add, func(added corev1.Capability) bool {
		switch strings.TrimPrefix(strings.ToUpper(string(added)), "CAP_") {
		case "SYS_ADMIN", "BPF", "ALL":
			return true
		}
		return false
	})
}

// troubled is what keeps a container of a pod that is not ready from running.
func troubled(pod *corev1.Pod) string {
	if readyCondition(pod).Status == corev1.ConditionTrue {
		return ""
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" && w.Reason != "ContainerCreating" {
			return fmt.Sprintf("its container %s waits", s.Name) + because(w.Reason, w.Message)
		}
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("its container %s ended with exit code %d", s.Name, t.ExitCode) + because(t.Reason, t.Message)
		}
	}
	return ""
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) (reason, message string) {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c.Reason, c.Message
		}
	}
	return "", ""
}

// because is the reason that others gave, in brackets and of bounded length.
func because(parts ...string) string {
	parts = slices.DeleteFunc(slices.Clone(parts), func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return ""
	}
	return " (" + bounded(strings.Join(parts, ": ")) + ")"
}

func bounded(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}

// agentState is what the agents of a node come to.
type agentState struct {
	ready  Answer
	reason string
	pieces []Evidence
	// first is the ready agent that stands for all: one that can be an agent before one
	// that cannot, and then the one that is ready longest.
	first *Agent
}

func agentsOf(n Node, now time.Time) agentState {
	if n.AgentsUnknown != "" {
		return agentState{ready: Unknown, reason: "the KubeArmor agents could not be read: " + n.AgentsUnknown}
	}
	if len(n.Agents) == 0 {
		reason := "no KubeArmor agent runs on the node, so nothing enforces policies there"
		return agentState{ready: No, reason: reason, pieces: []Evidence{seen(Evidence{
			Source: "pods labelled " + AgentSelector, Says: No, Grade: Claimed, Value: "none on this node", Meaning: reason,
		}, now, now)}}
	}
	agents := slices.Clone(n.Agents)
	slices.SortStableFunc(agents, func(a, b Agent) int {
		return cmp.Or(boolOrder(a.Doubt != "", b.Doubt != ""), boolOrder(b.Ready, a.Ready), a.Since.Compare(b.Since), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	// Beside a pod that can be an agent, one that cannot does not count: a label would
	// hide that the real one is down.
	state := agentState{ready: No}
	for i, a := range agents {
		e := Evidence{Source: "pod " + a.pod(), Value: bounded(a.Image), Says: Unknown, Grade: Claimed}
		if a.Ready {
			e.Meaning = "the KubeArmor agent is ready; by what it enforces is for others to say"
			if !a.Since.IsZero() {
				e.Meaning = "the KubeArmor agent is ready since " + day(a.Since) + "; by what it enforces is for others to say"
			}
		} else {
			e.Says = No
			e.Meaning = "the KubeArmor agent does not enforce: " + cmp.Or(a.NotReady, "it is not ready")
		}
		state.pieces = append(state.pieces, seen(e, now, now))
		switch {
		case i > 0 || !a.Ready:
		case a.foreign():
			state.ready = Unknown
			state.reason = "pod " + a.pod() + " is labelled as KubeArmor's agent, but " + a.Doubt + ", and its namespace is not one that KubeArmor is installed in"
		default:
			state.ready, state.first = Yes, &a
		}
	}
	if state.ready == No {
		state.reason = fmt.Sprintf("no KubeArmor agent is ready on the node, so nothing enforces policies there: pod %s: %s",
			agents[0].pod(), cmp.Or(agents[0].NotReady, "it is not ready"))
	}
	return state
}

// foreign reports whether a doubtful agent stands where anybody may have put it. In
// the namespaces that KubeArmor is installed in, only its administrators create pods.
func (a Agent) foreign() bool {
	return a.Doubt != "" && a.Namespace != agentName && a.Namespace != "kube-system"
}

func (a Agent) pod() string { return a.Namespace + "/" + a.Name }

// boolOrder sorts false before true.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// seen sets when a piece of evidence was true, and how long before the run that is.
func seen(e Evidence, at, now time.Time) Evidence {
	if at.IsZero() {
		return e
	}
	at = at.UTC()
	e.Observed = &at
	e.AgeSeconds = max(0, int64(now.Sub(at)/time.Second))
	return e
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
