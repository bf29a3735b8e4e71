package scan

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// nodeState is a node and what is known of it.
type nodeState struct {
	// name is empty for pods that have no node yet.
	name        string
	node        *corev1.Node
	enforcement kernel.Enforcement
	// filePosture and capabilityPosture are KubeArmor's defaults there, empty when they
	// are not known.
	filePosture, capabilityPosture string
	// class is the same for nodes that enforce the same, for the same reasons: what was
	// found for a pod on one of them holds on all.
	class *nodeClass
	// containers counts the running ones that were seen, and pods, in a Tracker, the pods
	// that name the node.
	containers, pods int
}

// event tells of the node. It shares nothing that changes.
func (n *nodeState) event() *Node {
	node := nodeOf(n.node)
	enforcement := n.enforcement
	node.Enforcement = &enforcement
	return node
}

// crowded reports whether more containers run on the node than are enforced.
func (n *nodeState) crowded() bool { return n.containers > armor.MaxContainersPerNode }

// filled is the same node with more containers than are enforced, or with none.
func (n *nodeState) filled(crowded bool) *nodeState {
	like := *n
	like.containers = 0
	if crowded {
		like.containers = armor.MaxContainersPerNode + 1
	}
	return &like
}

// readNodes weighs the evidence for each node.
func (s *surroundings) readNodes(ctx context.Context, nodes []corev1.Node, agents []corev1.Pod, agentsErr error) {
	s.failed("pods of KubeArmor", agentsErr, "on which nodes KubeArmor runs")
	read := make([]kernel.Node, len(nodes))
	byName := map[string]*kernel.Node{}
	for i := range nodes {
		read[i].Node = &nodes[i]
		if agentsErr != nil {
			read[i].AgentsUnknown = unread("the pods of KubeArmor", agentsErr)
		}
		byName[nodes[i].Name] = &read[i]
	}
	for i := range agents {
		agent := kernel.AgentOf(&agents[i])
		if n := byName[agent.Node]; n != nil {
			n.Agents = append(n.Agents, agent)
		}
	}
	s.probe(ctx, read)
	s.checkMachines(ctx, read)
	for i := range read {
		n := &nodeState{name: nodes[i].Name, node: &nodes[i], enforcement: kernel.Assess(read[i], s.now)}
		if p := read[i].Probe; p != nil {
			n.filePosture, n.capabilityPosture = p.FilePosture, p.CapabilityPosture
		}
		n.class = s.classes.of(n)
		s.nodes[n.name] = n
	}
	s.nowhere = &nodeState{enforcement: s.anyNode()}
	s.nowhere.class = s.classes.of(s.nowhere)
}

// nodeClass is what of a node decides about its pods.
type nodeClass struct {
	capabilities, processes, agent kernel.Answer
	grade                          kernel.Grade
	enforcer, file, capability     string
	reason                         string
}

// nodeClasses has one of each class, so that classes can be told apart by where they
// are.
type nodeClasses map[nodeClass]*nodeClass

func (c nodeClasses) of(n *nodeState) *nodeClass {
	e := &n.enforcement
	class := nodeClass{e.Capabilities, e.Processes, e.Agent, e.Grade, e.Enforcer, n.filePosture, n.capabilityPosture, e.Reason}
	known := c[class]
	if known == nil {
		known = &class
		c[class] = known
	}
	return known
}

// probe reads what KubeArmor's agents say of their nodes.
func (s *surroundings) probe(ctx context.Context, nodes []kernel.Node) {
	if s.probes.ProbeData == nil {
		return
	}
	eachLimited(len(nodes), 8, func(i int) {
		n := &nodes[i]
		for _, agent := range n.Agents {
			if !agent.Ready {
				continue
			}
			if agent.Doubt != "" {
				// What a pod says that may be anybody's proves nothing.
				n.ProbeUnknown = "pod " + agent.Namespace + "/" + agent.Name + " was not asked: " + agent.Doubt
				continue
			}
			data, err := s.probes.ProbeData(ctx, agent)
			if err == nil {
				n.Probe, n.ProbeUnknown = data, ""
				return
			}
			n.ProbeUnknown = err.Error()
			s.failed("probe data of "+agent.Namespace+"/"+agent.Name, err, "what KubeArmor itself says of node "+n.Node.Name)
		}
	})
}

// checkMachines runs the check of the kernel on every node.
func (s *surroundings) checkMachines(ctx context.Context, nodes []kernel.Node) {
	if s.probes.Machines == nil || len(nodes) == 0 {
		return
	}
	names := make([]string, len(nodes))
	for i := range nodes {
		names[i] = nodes[i].Node.Name
	}
	reports, why, err := s.probes.Machines(ctx, names)
	s.failed("checks of the nodes", err, "what the nodes' kernels say themselves")
	for i := range nodes {
		n := &nodes[i]
		n.Machine = reports[n.Node.Name]
		if n.Machine == nil && !kernel.IsWindows(n.Node) {
			n.MachineUnknown = cmp.Or(why[n.Node.Name], "the check did not run there")
			s.mu.Lock()
			s.failures = append(s.failures, Failure{
				Subject: "check of node " + n.Node.Name, Reason: FailureRead, Message: n.MachineUnknown, Affects: "what its kernel says itself",
			})
			s.mu.Unlock()
		}
	}
}

// eachLimited calls f for 0 to n-1, at most limit at once.
func eachLimited(n, limit int, f func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, limit) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// anyNode is what can be said of a pod that may yet land on any node: what holds on
// all of them.
func (s *surroundings) anyNode() kernel.Enforcement {
	if s.nodesUnknown != "" || len(s.nodes) == 0 {
		return kernel.Enforcement{
			Capabilities: kernel.Unknown, Processes: kernel.Unknown, Agent: kernel.Unknown,
			Reason: cmp.Or(s.nodesUnknown, "no node is known on which the pods would run"),
		}
	}
	var all kernel.Enforcement
	count := 0
	for _, n := range s.sortedNodes() {
		if kernel.IsWindows(n.node) {
			continue
		}
		e := n.enforcement
		if count++; count == 1 {
			all = kernel.Enforcement{Capabilities: e.Capabilities, Processes: e.Processes, Agent: e.Agent, Grade: e.Grade, Enforcer: e.Enforcer}
			continue
		}
		all.Capabilities, all.Processes, all.Agent = same(all.Capabilities, e.Capabilities), same(all.Processes, e.Processes), same(all.Agent, e.Agent)
		if e.Grade.Rank() < all.Grade.Rank() {
			all.Grade = e.Grade
		}
		if all.Enforcer != e.Enforcer {
			all.Enforcer = ""
		}
	}
	all.Reason = fmt.Sprintf("the pods have no node yet; of the %d nodes not all enforce alike", count)
	switch all.Capabilities {
	case "":
		return kernel.Enforcement{Capabilities: kernel.Unknown, Processes: kernel.Unknown, Agent: kernel.Unknown, Reason: "no node of Linux is known on which the pods would run"}
	case kernel.Yes:
		all.Reason = fmt.Sprintf("the pods have no node yet; all %d nodes enforce", count)
	case kernel.No:
		all.Reason = fmt.Sprintf("the pods have no node yet; none of the %d nodes enforces", count)
	case kernel.Unknown:
	}
	return all
}

// same is what two nodes have in common.
func same(a, b kernel.Answer) kernel.Answer {
	if a == b {
		return a
	}
	return kernel.Unknown
}

// node is what is known of the node that a pod names.
func (s *surroundings) node(name string) *nodeState {
	if name == "" {
		return s.nowhere
	}
	if n := s.nodes[name]; n != nil {
		return n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.strange[name]; n != nil {
		return n
	}
	n := &nodeState{name: name, enforcement: kernel.Enforcement{
		Capabilities: kernel.Unknown, Processes: kernel.Unknown, Agent: kernel.Unknown,
		Reason: cmp.Or(s.nodesUnknown, "the node is not among those that the API server lists"),
	}}
	n.class = s.classes.of(n)
	s.strange[name] = n
	return n
}

// leave takes a pod off a node. One that is not listed is forgotten with its last pod.
func (s *surroundings) leave(n *nodeState) {
	if n.pods--; n.pods == 0 && s.strange[n.name] == n {
		delete(s.strange, n.name)
	}
}

// everyNode are all that pods are placed on.
func (s *surroundings) everyNode() iter.Seq[*nodeState] {
	return func(yield func(*nodeState) bool) {
		for _, nodes := range []map[string]*nodeState{s.nodes, s.strange, {"": s.nowhere}} {
			for _, n := range nodes {
				if !yield(n) {
					return
				}
			}
		}
	}
}
