package preview

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"

	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// policies are the set's runtime policies.
type policies struct {
	index *armor.Index
	any   bool
	// intended keeps what the policies that select alike would do where nothing stands in
	// their way.
	intended map[string]map[string]armor.Status
}

func newPolicies(objects []set.Object, unread func(subject string, err error, affects string)) *policies {
	var read []*armor.Policy
	for i := range objects {
		o := &objects[i]
		if o.Part == set.PartAdmission {
			continue
		}
		const affects = "what it would block"
		u := o.Final()
		if u == nil {
			unread("an object of the set", errors.New("it has no form"), affects)
			continue
		}
		data, err := json.Marshal(u.Object)
		if err != nil {
			unread(objectName(o), err, affects)
			continue
		}
		p, err := armor.Decode(armor.Kind(u.GetKind()), data)
		if err != nil {
			unread(objectName(o), err, affects)
			continue
		}
		read = append(read, p)
	}
	return &policies{index: armor.NewIndex(read), any: len(read) > 0, intended: map[string]map[string]armor.Status{}}
}

// able is a node on which everything is enforced.
func able() kernel.Enforcement {
	return kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf"}
}

// meant is what the policies would do to each element in an ordinary container of this
// name, were nothing in their way.
func (p *policies) meant(r *runtime, container string) map[string]armor.Status {
	selected := r.policies
	key := r.selected + container
	if known := p.intended[key]; known != nil {
		return known
	}
	judged := armor.Judge(selected, armor.Pod{Node: able(), Containers: []armor.Container{{Name: container, Kind: armor.Ordinary}}})
	meant := map[string]armor.Status{}
	for _, c := range judged.Containers[0].Covers {
		meant[c.Element.Name] = c.Status
	}
	p.intended[key] = meant
	return meant
}

// nodeClasses are nodes that enforce alike.
type nodeClasses struct {
	classes []nodeClass
	of      map[string]int
}

type nodeClass struct {
	enforcement kernel.Enforcement
	containers  int
	nodes       []string
	// class numbers it, -1 for a node that was not read.
	class int
}

type classKey struct {
	capabilities, processes, agent kernel.Answer
	enforcer                       string
	crowded                        bool
}

func newNodeClasses(in *Input) *nodeClasses {
	n := &nodeClasses{of: map[string]int{}}
	at := map[classKey]int{}
	for _, name := range slices.Sorted(maps.Keys(in.Nodes)) {
		e, count := in.Nodes[name], in.Containers[name]
		key := classKey{e.Capabilities, e.Processes, e.Agent, e.Enforcer, count > armor.MaxContainersPerNode}
		i, ok := at[key]
		if !ok {
			i = len(n.classes)
			at[key] = i
			n.classes = append(n.classes, nodeClass{enforcement: e, containers: count, class: i})
		}
		n.classes[i].nodes = append(n.classes[i].nodes, name)
		n.of[name] = i
	}
	return n
}

// unknownNode is a node of which nothing is known.
func unknownNode(reason string) nodeClass {
	return nodeClass{class: -1, enforcement: kernel.Enforcement{
		Capabilities: kernel.Unknown, Processes: kernel.Unknown, Agent: kernel.Unknown, Reason: reason,
	}}
}

// where gives the kinds of nodes on which a specimen runs, and whether that is known. A
// pod that runs nowhere yet may come to any.
func (n *nodeClasses) where(s *targets.Specimen) (classes []nodeClass, known bool) {
	if len(s.Nodes) == 0 {
		if len(n.classes) == 0 {
			return []nodeClass{unknownNode("no node was read")}, false
		}
		return n.classes, false
	}
	seen := map[int]int{}
	for _, name := range s.Nodes {
		i, ok := n.of[name]
		if !ok {
			i = -1
		}
		at, ok := seen[i]
		if !ok {
			at = len(classes)
			seen[i] = at
			class := unknownNode("nothing is known of node " + name)
			if i >= 0 {
				class = n.classes[i]
				class.nodes = nil
			}
			classes = append(classes, class)
		}
		classes[at].nodes = append(classes[at].nodes, name)
	}
	return classes, true
}

// runtime is what the runtime policies do in one specimen.
type runtime struct {
	policies []*armor.Policy
	// pods are the specimen on each kind of node, settled whether it is known where.
	pods    []armor.Pod
	nodes   []nodeClass
	settled bool
	// selected names the policies. covers are by container what holds on each kind of
	// node for each element, in the set's order.
	selected string
	covers   map[string][][]armor.Cover
	// before is the same by the policies that are in force already, nil for none.
	before *runtime
	// doubt is why the policies may not reach the pod at all, and do not where it is
	// certain that they do not.
	doubt     string
	unreached bool
	// toothless says why policies have less effect than they ask for.
	toothless []armor.Toothless
}

// runtimeOf is nil where no runtime policy selects the specimen.
func (j *judge) runtimeOf(v *view) *runtime {
	if !j.policies.any {
		return nil
	}
	selected := j.policies.index.Select(v.pod.Namespace, v.pod.Labels)
	if len(selected) == 0 {
		return nil
	}
	r := j.runtimeBy(v, selected)
	if j.in.InForce != nil {
		if before := j.in.InForce.Select(v.pod.Namespace, v.pod.Labels); len(before) > 0 {
			r.before = j.runtimeBy(v, before)
		}
	}
	return r
}

// runtimeBy is what these policies do in the specimen.
func (j *judge) runtimeBy(v *view, selected []*armor.Policy) *runtime {
	r := &runtime{policies: selected, selected: refsOf(selected), covers: map[string][][]armor.Cover{}}
	r.doubt, r.unreached = doubtAbout(&v.pod.Spec)
	r.nodes, r.settled = j.nodes.where(v.specimen)
	pod := j.armorPod(v)
	for _, n := range r.nodes {
		pod.Node, pod.NodeContainers = n.enforcement, n.containers
		r.pods = append(r.pods, pod)
		for i := range pod.Containers {
			judged := j.coversOf(r, pod, &pod.Containers[i], n.class)
			r.toothless = append(r.toothless, judged.Toothless...)
			name := pod.Containers[i].Name
			r.covers[name] = append(r.covers[name], judged.Containers[0].Covers)
		}
	}
	return r
}

// armorPod is the specimen as KubeArmor's policies see it, on no node yet.
func (j *judge) armorPod(v *view) armor.Pod {
	pod := armor.Pod{
		Namespace: v.pod.Namespace, Labels: v.pod.Labels, Annotations: v.pod.Annotations, HostPID: v.pod.Spec.HostPID,
	}
	if ns := j.in.Namespaces[v.pod.Namespace]; ns != nil {
		pod.NamespaceAnnotations = ns.Annotations
	} else {
		pod.NamespaceUnknown = true
	}
	for i := range v.containers {
		pod.Containers = append(pod.Containers, v.containers[i].armorContainer(v.specimen.Inspected))
	}
	return pod
}

// coverKey is what the answer about a container hangs on.
type coverKey struct {
	policies, namespace, identity string
	class                         int
	hostPID                       bool
	kind                          armor.ContainerKind
	name, image                   string
}

// refsOf names policies.
func refsOf(policies []*armor.Policy) string {
	var b strings.Builder
	for _, p := range policies {
		b.WriteString(p.String() + "\x00")
	}
	return b.String()
}

// coversOf judges one container of the pod. Many are alike, and judged once.
func (j *judge) coversOf(r *runtime, pod armor.Pod, c *armor.Container, class int) *armor.Judgement {
	like := armor.Alike(r.policies, *c)
	pod.Containers = []armor.Container{like}
	if like.Paths != nil || class < 0 {
		return armor.Judge(r.policies, pod)
	}
	var identity strings.Builder
	for _, key := range armor.JudgeLabels() {
		value, ok := pod.Labels[key]
		fmt.Fprintf(&identity, "%t%q", ok, value)
	}
	for _, key := range armor.JudgeAnnotations() {
		fmt.Fprintf(&identity, "%q", pod.Annotations[key])
	}
	key := coverKey{r.selected, pod.Namespace, identity.String(), class, pod.HostPID, like.Kind, like.Name, like.Image}
	known := j.covers[key]
	if known == nil {
		known = armor.Judge(r.policies, pod)
		j.covers[key] = known
	}
	return known
}

// doubtAbout says why the node's kernel may not be the one that the pod's programs ask,
// and whether it certainly is not.
func doubtAbout(spec *corev1.PodSpec) (why string, certain bool) {
	if windows(spec) {
		return "the pod is one of Windows, where KubeArmor enforces nothing", true
	}
	if spec.RuntimeClassName != nil {
		return "the runtime class " + *spec.RuntimeClassName + " may be a sandbox, into which KubeArmor does not see", false
	}
	return "", false
}

// windows tells of pods that can run on nodes of Windows only.
func windows(spec *corev1.PodSpec) bool {
	return spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows)
}

// bite is how far the set takes hold of something, over all nodes concerned.
type bite struct {
	// certain: it is refused, possible: it may be, reported: it is seen and passes.
	certain, possible, reported bool
	// already: so it is without the set.
	already bool
	// reason says why it is not certain.
	reason string
}

// any tells whether there is something to say of it.
func (b bite) any() bool { return b.certain || b.possible }

// outcome is what becomes of something that would be worst if it is refused.
func (b bite) outcome(worst Outcome) Outcome {
	switch {
	case b.already:
		return Safe
	case b.certain || rank(worst) > rank(MayBreak):
		return worst
	}
	return MayBreak
}

// asked is what holds on the nth kind of node.
type asked func(r *runtime, n int) (armor.Status, string)

// biteOf joins what holds on each kind of node.
func (r *runtime) biteOf(ask asked) bite {
	var b bite
	if r.unreached {
		return b
	}
	blocked, reason := 0, ""
	same := r.before != nil
	for n := range r.pods {
		status, why := ask(r, n)
		switch status {
		case armor.Blocked:
			blocked++
		case armor.Unknown:
			b.possible = true
			reason = cmp.Or(reason, why)
		case armor.Audited:
			b.reported = true
		case armor.Allowed, armor.NotCovered:
			continue
		}
		if same {
			had, _ := ask(r.before, n)
			same = had == status
		}
	}
	b.certain, b.already = blocked > 0, same
	switch {
	case b.certain && r.doubt != "":
		b.certain, b.possible, b.reason = false, true, r.doubt
	case b.certain && !r.settled && blocked < len(r.pods):
		b.certain, b.possible = false, true
		b.reason = "not every node where it may run enforces it"
	case !b.certain && b.possible:
		b.reason = reason
	}
	if b.already {
		b.reason = sentences(b.reason, "so it is today already, by policies that are in force")
	}
	return b
}

// element is how far the set takes hold of an element in a container.
func (r *runtime) element(c *container, element string) bite {
	return r.biteOf(func(r *runtime, n int) (armor.Status, string) {
		if covers := r.covers[c.Name]; n < len(covers) {
			for k := range covers[n] {
				if cover := &covers[n][k]; cover.Element.Name == element {
					return cover.Status, cover.Reason
				}
			}
		}
		return armor.NotCovered, ""
	})
}

// exec is how far it takes hold of running the program at a path.
func (r *runtime) exec(c *container, path string) bite {
	return r.biteOf(func(r *runtime, n int) (armor.Status, string) {
		o := armor.Predict(r.policies, r.pods[n], c.Name, armor.Deed{Exec: path})
		return o.Status, o.Reason
	})
}
