package scan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// layering says what runtime policies and kernel do to pods. What it found for one
// spec, one coverage and one kind of node it does not look for again.
type layering struct {
	s     *surroundings
	mu    sync.Mutex
	cache map[layerKey]*Layers
}

// layerKey is what the answer hangs on.
type layerKey struct {
	judged  *Judgement
	cover   *coverage
	node    *nodeState
	crowded bool
	// looked is the group whose containers were looked into, nil for none.
	looked *group
}

func newLayering(s *surroundings) *layering {
	return &layering{s: s, cache: map[layerKey]*Layers{}}
}

// of is what the layers but admission say of pods with that spec and coverage on the
// node. It is shared: the caller copies it before changing it.
func (l *layering) of(j *Judgement, cov *coverage, n *nodeState, looked *group) *Layers {
	if looked != nil && looked.inspected == nil {
		looked = nil
	}
	key := layerKey{j, cov, n.class, n.crowded(), looked}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found := l.cache[key]; found != nil {
		return found
	}
	var real map[string]map[string]string
	if looked != nil {
		real = looked.inspected
	}
	made := l.s.layers(j, cov, n, real)
	l.cache[key] = made
	return made
}

// armorPod is the pod as KubeArmor's policies see it.
func (s *surroundings) armorPod(j *Judgement, cov *coverage, n *nodeState, real map[string]map[string]string) armor.Pod {
	pod := armor.Pod{
		Namespace: cov.namespace, Labels: cov.labels, Annotations: cov.annotations, HostPID: j.hostPID,
		Containers: slices.Clone(j.containers), Node: n.enforcement, NodeContainers: n.containers,
		FilePosture: n.filePosture, CapabilityPosture: n.capabilityPosture,
	}
	for i := range pod.Containers {
		pod.Containers[i].Paths = real[pod.Containers[i].Name]
	}
	if ns, why := s.namespace(cov.namespace); ns != nil {
		pod.NamespaceAnnotations = ns.Annotations
	} else {
		pod.NamespaceUnknown = why != ""
	}
	return pod
}

func (s *surroundings) layers(j *Judgement, cov *coverage, n *nodeState, real map[string]map[string]string) *Layers {
	pod := s.armorPod(j, cov, n, real)
	judged := armor.Judge(cov.policies, pod)
	l := &Layers{
		Runtime: RuntimeLayer{Toothless: judged.Toothless},
		Kernel: KernelLayer{
			Capabilities: n.enforcement.Capabilities, Processes: n.enforcement.Processes,
			Grade: n.enforcement.Grade, Reason: n.enforcement.Reason, Worst: n.name,
		},
	}
	for _, p := range cov.policies {
		l.Runtime.Policies = append(l.Runtime.Policies, p.Ref)
	}
	for _, c := range judged.Containers {
		cc := ContainerCover{Container: c.Name, Kind: ContainerKind(c.Kind), Covers: c.Covers}
		for i := range cc.Covers {
			// The set is the same for everybody; only what is missing of it is news.
			cc.Covers[i].Element.Paths = nil
			if len(cov.policies) == 0 {
				cc.Covers[i].Reason = ""
			}
		}
		l.Runtime.Containers = append(l.Runtime.Containers, cc)
	}
	l.Runtime.Set, l.Runtime.Reason = s.wholeSet(&l.Runtime)
	// What policies forbid is asked apart from what the node enforces, so that each
	// layer answers for itself.
	able := pod
	able.Node = kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf"}
	for i := range j.Findings {
		f := &j.Findings[i]
		if !f.Open || slices.ContainsFunc(l.Paths, func(p PathLayers) bool { return p.Path == f.Rule && p.Container == f.Container }) {
			continue
		}
		l.Paths = append(l.Paths, s.pathLayers(f, j, cov, able, n))
	}
	return l
}

// pathLayers is one row of the matrix, without admission.
func (s *surroundings) pathLayers(f *Finding, j *Judgement, cov *coverage, able armor.Pod, n *nodeState) PathLayers {
	p := PathLayers{Path: f.Rule, Container: f.Container, Kernel: kernelCell(n)}
	p.Runtime = s.runtimeCell(pathLayerOf(f.Rule), f.Container, j, cov, able)
	switch {
	case p.Runtime.Answer == StopsNo:
		p.State, p.Reason = PathOpen, p.Runtime.Reason
	case p.Kernel.Answer == StopsNo:
		p.State, p.Reason = PathOpen, "a policy forbids it and nothing enforces that: "+p.Kernel.Reason
	case p.Runtime.Answer == StopsUnknown:
		p.State, p.Reason = PathUnknown, p.Runtime.Reason
	case p.Kernel.Answer == StopsUnknown:
		p.State, p.Reason = PathUnknown, "a policy forbids it; whether that is enforced is not known: "+p.Kernel.Reason
	default:
		p.State, p.Reason = PathStopped, p.Runtime.Reason
	}
	return p
}

// kernelCell is whether a node enforces what policies forbid. A hint is not enough.
func kernelCell(n *nodeState) Cell {
	e := &n.enforcement
	c := Cell{Grade: e.Grade, Reason: e.Reason}
	if n.name != "" {
		c.By = []string{n.name}
	}
	switch {
	case e.Capabilities == kernel.No:
		c.Answer = StopsNo
	case e.Capabilities == kernel.Yes && e.Grade.Rank() >= kernel.Claimed.Rank():
		c.Answer = StopsYes
	default:
		c.Answer = StopsUnknown
	}
	return c
}

// runtimeCell is whether KubeArmor's policies, where they are enforced, shut a path
// that leads out of a container.
func (s *surroundings) runtimeCell(l pathLayer, container string, j *Judgement, cov *coverage, able armor.Pod) Cell {
	if len(l.gates) == 0 {
		return Cell{Answer: StopsNo, Reason: l.ungated}
	}
	worst := Cell{Answer: StopsYes}
	for _, gate := range l.gates {
		if !slices.Contains(j.holds[container], gate) {
			continue
		}
		c := s.gateCell(gate, container, cov, able)
		if rankStops(c.Answer) < rankStops(worst.Answer) || worst.Reason == "" {
			worst = c
		} else if c.Answer == worst.Answer {
			worst.By = union(worst.By, c.By)
		}
	}
	if worst.Reason == "" {
		return Cell{Answer: StopsUnknown, Reason: "which capability the path asks for is not known"}
	}
	return worst
}

// rankStops orders the answers of a cell, the worst first.
func rankStops(a Stops) int { return slices.Index([]Stops{StopsNo, StopsUnknown, StopsYes}, a) }

// gateCell is whether a capability is refused to a container.
func (s *surroundings) gateCell(capability, container string, cov *coverage, able armor.Pod) Cell {
	deed := armor.Deed{Capability: capability}
	out := armor.Predict(cov.policies, able, container, deed)
	c := Cell{Reason: out.Reason}
	for _, ref := range out.By {
		c.By = append(c.By, ref.String())
	}
	switch out.Status {
	case armor.Blocked:
		c.Answer = StopsYes
	case armor.Unknown:
		c.Answer = StopsUnknown
	case armor.Audited, armor.Allowed, armor.NotCovered:
		c.Answer = StopsNo
		if s.armorUnknown != "" && s.couldBlock(able, container, deed) {
			c = Cell{Answer: StopsUnknown, Reason: "whether a policy blocks " + capability + " is not known: " + s.armorUnknown}
		}
	}
	return c
}

// couldBlock reports whether a policy that blocks the deed would bite here, if there
// were one.
func (s *surroundings) couldBlock(able armor.Pod, container string, d armor.Deed) bool {
	p, err := armor.Decode(armor.KubeArmorPolicy, fmt.Appendf(nil,
		`{"metadata":{"name":"x","namespace":%q},"spec":{"capabilities":{"matchCapabilities":[{"capability":%q}]},"action":"Block"}}`,
		able.Namespace, strings.ToLower(d.Capability)))
	return err != nil || armor.Predict([]*armor.Policy{p}, able, container, d).Status != armor.NotCovered
}

// wholeSet tells whether every element of the escapeToHost set is blocked in every
// container.
func (s *surroundings) wholeSet(r *RuntimeLayer) (kernel.Answer, string) {
	answer, reason := kernel.Yes, "every element of the escapeToHost set is blocked in every container"
	blocked, all := 0, 0
	for _, c := range r.Containers {
		for _, cover := range c.Covers {
			all++
			switch cover.Status {
			case armor.Blocked:
				blocked++
			case armor.Unknown:
				if answer == kernel.Yes {
					answer, reason = kernel.Unknown, fmt.Sprintf("whether %s is blocked in %s %s is not known: %s", cover.Element.Name, c.Kind, c.Container, cover.Reason)
				}
			case armor.Audited, armor.Allowed, armor.NotCovered:
				if answer != kernel.No {
					answer, reason = kernel.No, fmt.Sprintf("%s is %s in %s %s", cover.Element.Name, cover.Status, c.Kind, c.Container)
					if cover.Reason != "" {
						reason += ": " + cover.Reason
					}
				}
			}
		}
	}
	switch {
	case all == 0:
		return kernel.Unknown, "no container is known"
	case answer == kernel.No && s.armorUnknown != "":
		return kernel.Unknown, s.armorUnknown
	case answer == kernel.No && len(r.Policies) == 0:
		return kernel.No, "no KubeArmor policy selects the pods"
	case answer == kernel.No:
		return kernel.No, fmt.Sprintf("%d of %d elements are blocked; %s", blocked, all, reason)
	}
	return answer, reason
}

// merge takes what another part of the workload's pods shows into l: the worst of
// both stays.
func (l *Layers) merge(other *Layers) {
	l.Runtime.merge(&other.Runtime)
	k, o := &l.Kernel, &other.Kernel
	if rankAnswer(o.Capabilities) < rankAnswer(k.Capabilities) ||
		o.Capabilities == k.Capabilities && o.Grade.Rank() < k.Grade.Rank() {
		k.Reason, k.Worst, k.Grade = o.Reason, o.Worst, o.Grade
	}
	k.Capabilities, k.Processes = worseAnswer(k.Capabilities, o.Capabilities), worseAnswer(k.Processes, o.Processes)
	l.Paths = mergePaths(l.Paths, other.Paths)
}

func mergePaths(paths, others []PathLayers) []PathLayers {
	paths = slices.Clone(paths)
	for _, p := range others {
		at := slices.IndexFunc(paths, func(q PathLayers) bool { return q.Path == p.Path && q.Container == p.Container })
		switch {
		case at < 0:
			paths = append(paths, p)
		case rankState(p.State) < rankState(paths[at].State):
			p.Admission = worseCell(p.Admission, paths[at].Admission)
			paths[at] = p
		default:
			q := &paths[at]
			q.Admission = worseCell(q.Admission, p.Admission)
			if p.State == q.State && p.Kernel.Grade.Rank() < q.Kernel.Grade.Rank() {
				q.Kernel = p.Kernel
			}
		}
	}
	return paths
}

func worseCell(a, b Cell) Cell {
	if a.Answer == "" || b.Answer != "" && rankStops(b.Answer) < rankStops(a.Answer) {
		return b
	}
	return a
}

func rankState(s PathState) int {
	return slices.Index([]PathState{PathOpen, PathUnknown, PathStopped}, s)
}

func rankAnswer(a kernel.Answer) int {
	return slices.Index([]kernel.Answer{kernel.No, kernel.Unknown, kernel.Yes}, a)
}

func worseAnswer(a, b kernel.Answer) kernel.Answer {
	if rankAnswer(b) < rankAnswer(a) {
		return b
	}
	return a
}

func (r *RuntimeLayer) merge(other *RuntimeLayer) {
	if rankAnswer(other.Set) < rankAnswer(r.Set) {
		r.Set, r.Reason = other.Set, other.Reason
	}
	for _, ref := range other.Policies {
		if !slices.Contains(r.Policies, ref) {
			r.Policies = append(slices.Clip(r.Policies), ref)
		}
	}
	for _, t := range other.Toothless {
		if !slices.ContainsFunc(r.Toothless, func(x armor.Toothless) bool {
			return x.Policy == t.Policy && x.Cause == t.Cause && x.Container == t.Container
		}) {
			r.Toothless = append(slices.Clip(r.Toothless), t)
		}
	}
	r.Containers = slices.Clone(r.Containers)
	for _, c := range other.Containers {
		at := slices.IndexFunc(r.Containers, func(x ContainerCover) bool { return x.Container == c.Container && x.Kind == c.Kind })
		if at < 0 {
			r.Containers = append(r.Containers, c)
			continue
		}
		r.Containers[at].Covers = worseCovers(r.Containers[at].Covers, c.Covers)
	}
}

// worseCovers takes of each element the state that protects least. Both lists are
// of the set, in its order.
func worseCovers(a, b []armor.Cover) []armor.Cover {
	if len(a) != len(b) {
		return a
	}
	out := slices.Clone(a)
	for i := range b {
		if rankStatus(b[i].Status) < rankStatus(out[i].Status) {
			out[i] = b[i]
		}
	}
	return out
}

func rankStatus(s armor.Status) int {
	return slices.Index([]armor.Status{armor.NotCovered, armor.Allowed, armor.Audited, armor.Unknown, armor.Blocked}, s)
}

// gateCapabilities are the capabilities by which any path is shut.
func gateCapabilities() []string {
	set := map[string]bool{}
	for _, p := range escapeTable() {
		for _, g := range pathLayerOf(p.ID).gates {
			set[g] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
