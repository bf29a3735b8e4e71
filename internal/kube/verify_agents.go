package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// shownNodes bounds how many nodes a message names.
const shownNodes = 5

// agents tells on how many nodes an agent of KubeArmor is ready. Nothing tells that it
// has taken a policy up.
func (v *Verifier) agents(ctx context.Context) (answer, bool) {
	nodes, err := v.cluster.Nodes(ctx)
	if err != nil {
		return unread(err)
	}
	pods, err := v.cluster.LabelledPods(ctx, kernel.AgentSelector)
	if err != nil {
		return unread(err)
	}
	return agentsOn(nodes, pods, time.Time{})
}

func agentsOn(nodes []corev1.Node, pods []corev1.Pod, now time.Time) (answer, bool) {
	agents := map[string][]kernel.Agent{}
	for i := range pods {
		a := kernel.AgentOf(&pods[i])
		agents[a.Node] = append(agents[a.Node], a)
	}
	total := 0
	var without, doubtful []string
	for i := range nodes {
		n := &nodes[i]
		if kernel.IsWindows(n) {
			continue
		}
		total++
		switch kernel.Assess(kernel.Node{Node: n, Agents: agents[n.Name]}, now).Agent {
		case kernel.No:
			without = append(without, n.Name)
		case kernel.Unknown:
			doubtful = append(doubtful, n.Name)
		case kernel.Yes:
		}
	}
	switch {
	case total == 0:
		return answer{kernel.Unknown, "the cluster has no Linux node by now: there is nothing to enforce on"}, false
	case len(without) == total:
		return answer{kernel.No, fmt.Sprintf("on none of %d nodes an agent of KubeArmor is ready: the policies are stored, and nothing enforces them", total)}, false
	case len(without) > 0:
		return answer{kernel.No, fmt.Sprintf("on %d of %d nodes no agent of KubeArmor is ready, and nothing is enforced there: %s", len(without), total, some(without))}, false
	case len(doubtful) > 0:
		return answer{kernel.Unknown, fmt.Sprintf("on %d of %d nodes it is not known whether an agent of KubeArmor is ready: %s", len(doubtful), total, some(doubtful))}, false
	}
	return answer{kernel.Yes, fmt.Sprintf("ready on all %d nodes; what their kernels let them enforce is told by a scan", total)}, true
}

// some names a few and counts the others.
func some(names []string) string {
	slices.Sort(names)
	if len(names) <= shownNodes {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shownNodes], ", "), len(names)-shownNodes)
}
