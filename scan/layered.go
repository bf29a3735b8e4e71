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
	// alike keeps what holds for every container of a kind.
	alike map[alikeKey]*armor.Judgement
}

// alikeKey is what the answer about one container hangs on.
type alikeKey struct {
	stance            *stance
	node              *nodeClass
	crowded, hostPID  bool
	kind              armor.ContainerKind
	name, imageFamily string
}

// layerKey is what the answer hangs on.
type layerKey struct {
	judged  *Judgement
	stance  *stance
	node    *nodeClass
	crowded bool
	// looked is the group whose containers were looked into, nil for none.
	looked *group
}

func newLayering(s *surroundings) *layering {
	return &layering{s: s, cache: map[layerKey]*Layers{}, alike: map[alikeKey]*armor.Judgement{}}
}

// of is what the layers but admission say of pods with that spec and coverage on the
// node. It is shared, by nodes of one class as well, and names none of them: the caller
// copies it before changing it.
func (l *layering) of(j *Judgement, st *stance, n *nodeState, looked *group) *Layers {
	return l.find(layerKeyOf(j, st, n, looked), n)
}

func (l *layering) find(key layerKey, n *nodeState) *Layers {
	l.mu.Lock()
	found := l.cache[key]
	l.mu.Unlock()
	if found != nil {
		return found
	}
	made := l.make(key, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cache[key] = made
	return made
}

func layerKeyOf(j *Judgement, st *stance, n *nodeState, looked *group) layerKey {
	if looked != nil && looked.inspected == nil {
		looked = nil
	}
	return layerKey{j, st, n.class, n.crowded(), looked}
}

func (l *layering) make(key layerKey, n *nodeState) *Layers {
	if n.crowded() != key.crowded {
		n = n.filled(key.crowded)
	}
	var real map[string]map[string]string
	if key.looked != nil {
		real = key.looked.inspected
	}
	return l.layers(key.judged, key.stance, n, real)
}

// judge is armor.Judge for one container of the pod.
func (l *layering) judge(pod armor.Pod, c armor.Container, st *stance, n *nodeState) *armor.Judgement {
	like := armor.Alike(st.policies, c)
	pod.Containers = []armor.Container{like}
	if like.Paths != nil {
		return armor.Judge(st.policies, pod)
	}
	key := alikeKey{st, n.class, n.crowded(), pod.HostPID, like.Kind, like.Name, like.Image}
	l.mu.Lock()
	found := l.alike[key]
	l.mu.Unlock()
	if found != nil {
		return found
	}
	made := armor.Judge(st.policies, pod)
	for _, judged := range made.Containers {
		for i := range judged.Covers {
			// The set is the same for everybody; only what is missing of it is news.
			judged.Covers[i].Element.Paths = nil
			if len(st.policies) == 0 {
				judged.Covers[i].Reason = ""
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.alike[key] = made
	return made
}

// armorPod is the pod as KubeArmor's policies see it.
func (s *surroundings) armorPod(j *Judgement, st *stance, n *nodeState, real map[string]map[string]string) armor.Pod {
	pod := armor.Pod{
		Namespace: st.namespace, Labels: st.labels, Annotations: st.annotations, HostPID: j.hostPID,
		Containers: slices.Clone(j.containers), Node: n.enforcement, NodeContainers: n.containers,
		FilePosture: n.filePosture, CapabilityPosture: n.capabilityPosture,
	}
	for i := range pod.Containers {
		pod.Containers[i].Paths = real[pod.Containers[i].Name]
	}
	if ns, why := s.namespace(st.namespace); ns != nil {
		pod.NamespaceAnnotations = ns.Annotations
	} else {
		pod.NamespaceUnknown = why != ""
	}
	return pod
}

func (l *layering) layers(j *Judgement, st *stance, n *nodeState, real map[string]map[string]string) *Layers {
	s := l.s
	pod := s.armorPod(j, st, n, real)
	made := &Layers{
		Kernel: KernelLayer{
			Capabilities: n.enforcement.Capabilities, Processes: n.enforcement.Processes,
			Grade: n.enforcement.Grade, Reason: n.enforcement.Reason,
		},
	}
	for _, p := range st.policies {
		made.Runtime.Policies = append(made.Runtime.Policies, p.Ref)
	}
	for _, c := range pod.Containers {
		judged := l.judge(pod, c, st, n)
		made.Runtime.Containers = append(made.Runtime.Containers, ContainerCover{
			Container: c.Name, Kind: ContainerKind(c.Kind), Covers: judged.Containers[0].Covers,
		})
		made.Runtime.addToothless(judged.Toothless, c.Name)
	}
	made.Runtime.Set, made.Runtime.Reason = s.wholeSet(&made.Runtime)
	switch {
	case j.boxed != "":
		made.Runtime.Set, made.Runtime.Reason = kernel.No, boxedIn(j.boxed)
	case j.maybeBoxed != "" && made.Runtime.Set == kernel.Yes:
		made.Runtime.Set, made.Runtime.Reason = kernel.Unknown, j.maybeBoxed
	}
	// What policies forbid is asked apart from what the node enforces, so that each
	// layer answers for itself.
	able := pod
	able.Node = kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf"}
	seen := map[pathKey]bool{}
	for i := range j.Findings {
		f := &j.Findings[i]
		key := pathKey{f.Rule, f.Container}
		if !f.Open || seen[key] {
			continue
		}
		seen[key] = true
		made.Paths = append(made.Paths, s.pathLayers(f, j, st, able, n))
	}
	return made
}

// addToothless takes in what was found for one container: what is about the pod once,
// what is about the container under its name.
func (r *RuntimeLayer) addToothless(found []armor.Toothless, container string) {
	for _, t := range found {
		// What is of the container was found for one like it, whatever its name.
		switch t.Cause {
		case armor.CauseInitContainer, armor.CauseSidecar, armor.CauseEphemeral, armor.CauseSymlink, armor.CauseBusyBox:
			t.Container = container
		default:
			if slices.Contains(r.Toothless, t) {
				continue
			}
		}
		r.Toothless = append(r.Toothless, t)
	}
}

// pathLayers is one row of the matrix, without admission.
func (s *surroundings) pathLayers(f *Finding, j *Judgement, st *stance, able armor.Pod, n *nodeState) PathLayers {
	p := PathLayers{Path: f.Rule, Container: f.Container, Kernel: kernelCell(n)}
	p.Runtime = s.runtimeCell(pathLayerOf(f.Rule), f.Container, j, st, able)
	switch {
	case j.Unsure != "":
		p.State, p.Reason = PathUnknown, j.Unsure
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
func (s *surroundings) runtimeCell(l pathLayer, container string, j *Judgement, st *stance, able armor.Pod) Cell {
	switch {
	case len(l.gates) == 0:
		return Cell{Answer: StopsNo, Reason: l.ungated}
	case slices.Contains(j.twice, container):
		return Cell{Answer: StopsUnknown, Reason: "two containers are named " + container}
	case j.boxed != "":
		return Cell{Answer: StopsNo, Reason: boxedIn(j.boxed)}
	}
	worst := Cell{Answer: StopsYes}
	for _, gate := range l.gates {
		if !slices.Contains(j.holds[container], gate) {
			continue
		}
		c := s.gateCell(gate, container, st, able)
		if rankStops(c.Answer) < rankStops(worst.Answer) || worst.Reason == "" {
			worst = c
		} else if c.Answer == worst.Answer {
			worst.By = union(worst.By, c.By)
		}
	}
	if worst.Answer == StopsYes && j.maybeBoxed != "" {
		return Cell{Answer: StopsUnknown, Reason: j.maybeBoxed}
	}
	if worst.Reason == "" {
		return Cell{Answer: StopsUnknown, Reason: "which capability the path asks for is not known"}
	}
	return worst
}

func boxedIn(by string) string {
	return "KubeArmor on the node does not see into the sandbox of " + by
}

// on says of which node the layers speak.
func (l *Layers) on(n *nodeState) {
	if n.name == "" {
		return
	}
	l.Kernel.Worst = n.name
	for i := range l.Paths {
		l.Paths[i].Kernel.By = []string{n.name}
	}
}

// rankStops orders the answers of a cell, the worst first.
func rankStops(a Stops) int { return slices.Index([]Stops{StopsNo, StopsUnknown, StopsYes}, a) }

// gateCell is whether a capability is refused to a container.
func (s *surroundings) gateCell(capability, container string, st *stance, able armor.Pod) Cell {
	deed := armor.Deed{Capability: capability, Anyone: true}
	out := armor.Predict(st.policies, able, container, deed)
	c := Cell{Reason: out.Reason}
	for _, ref := range out.By {
		c.By = append(c.By, ref.String())
	}
	switch out.Status {
	case armor.Blocked:
		c.Answer = StopsYes
		if s.armorHidden != "" {
			c.Answer, c.Reason = StopsUnknown, c.Reason+"; whether another allows it is not known: "+s.armorHidden
		}
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
	case answer == kernel.Yes && s.armorHidden != "":
		return kernel.Unknown, s.armorHidden
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
	at := make(map[pathKey]int, len(paths))
	for i, p := range paths {
		at[pathKey{p.Path, p.Container}] = i
	}
	for _, p := range others {
		i, known := at[pathKey{p.Path, p.Container}]
		if !known {
			paths = append(paths, p)
			continue
		}
		q := &paths[i]
		if rankState(p.State) < rankState(q.State) {
			q.State, q.Reason = p.State, p.Reason
		}
		q.Admission, q.Runtime, q.Kernel = worseCell(q.Admission, p.Admission), worseCell(q.Runtime, p.Runtime), worseCell(q.Kernel, p.Kernel)
	}
	return paths
}

// worseCell is the one that stops less, or stops it on weaker grounds.
func worseCell(a, b Cell) Cell {
	switch {
	case a.Answer == "":
		return b
	case b.Answer == "":
		return a
	case rankStops(b.Answer) < rankStops(a.Answer), b.Answer == a.Answer && b.Grade.Rank() < a.Grade.Rank():
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
