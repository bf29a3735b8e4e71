package scan

import (
	"cmp"
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// collector judges pods as they pass by and keeps only what differs: memory grows
// with distinct specs and workloads, not with pods.
type collector struct {
	// cluster is the name that the workloads carry.
	cluster string
	engine  *Engine
	facts   *factSource
	owners  *ownerIndex
	around  *surroundings
	covers  *coverages
	layers  *layering
	door    *doorman

	judged map[Digest]*Judgement
	groups map[groupKey]*group
	pods   int
}

// cohort are the pods that one controller made from one template, or that say so.
type cohort struct {
	namespace string
	// owner is the controller that the pods claim; for a pod without one, pod is
	// its name.
	owner ownerRef
	hash  string
	pod   string
}

type ownerRef struct{ apiVersion, kind, name, uid string }

type groupKey struct {
	cohort
	digest Digest
}

// group are the pods of a cohort that look the same to the rules.
type group struct {
	key    groupKey
	ref    *metav1.OwnerReference
	count  int
	first  string
	oldest time.Time
	// placements count the pods by how policies see them and where they run.
	placements map[placement]int
	// ended are those of pods that have ended: they count where there are no others.
	ended map[placement]int
	// admitted is what admission says of the first of them, and inspected what was
	// found in its containers.
	admitted  *admitted
	inspected map[string]map[string]string
}

// placement is what of a pod the layers at run time look at, beside its spec.
type placement struct {
	cover *coverage
	node  *nodeState
}

func newCollector(cluster string, engine *Engine, owners *ownerIndex, facts *factSource, around *surroundings) *collector {
	return &collector{
		cluster: cluster, engine: engine, facts: facts, owners: owners,
		around: around, covers: newCoverages(around), layers: newLayering(around), door: newDoorman(around),
		judged: map[Digest]*Judgement{}, groups: map[groupKey]*group{},
	}
}

// page judges the pods of a page, several at once, and groups them.
func (c *collector) page(ctx context.Context, pods []corev1.Pod) {
	looks := c.look(len(pods), func(i int) *corev1.Pod { return &pods[i] })
	c.join(ctx, pods, looks)
	c.pods += len(pods)
}

// look is what of a pod is told apart.
type look struct {
	digest Digest
	cover  *coverage
}

// look looks at n pods, several at once, and judges those that look like none before.
func (c *collector) look(n int, pod func(int) *corev1.Pod) []look {
	trimmed := make([]Pod, n)
	looks := make([]look, n)
	parallel(n, func(i int) {
		trimmed[i] = Trim(c.facts.pod(pod(i)))
		looks[i] = look{DigestOf(trimmed[i]), c.covers.of(pod(i))}
	})
	// What is new is judged once, whichever pod of the page shows it first.
	var fresh []int
	for i := range looks {
		if _, known := c.judged[looks[i].digest]; !known {
			c.judged[looks[i].digest] = nil
			fresh = append(fresh, i)
		}
	}
	judgements := make([]*Judgement, len(fresh))
	parallel(len(fresh), func(k int) {
		pod := trimmed[fresh[k]]
		judgements[k] = c.engine.Judge(pod, c.facts.facts(pod))
	})
	for k, i := range fresh {
		c.judged[looks[i].digest] = judgements[k]
	}
	return looks
}

// join groups the pods of a page, and asks about the first of each new group what is
// asked of one pod only.
func (c *collector) join(ctx context.Context, pods []corev1.Pod, looks []look) {
	var first []int
	var groups []*group
	for i := range pods {
		pod := &pods[i]
		g, isNew := c.group(ctx, pod, looks[i].digest)
		if isNew {
			first, groups = append(first, i), append(groups, g)
		}
		n := c.around.node(pod.Spec.NodeName)
		n.containers += RunningContainers(pod)
		g.put(placement{looks[i].cover, n}, hasEnded(pod))
	}
	parallel(len(first), func(k int) {
		i, g := first[k], groups[k]
		g.inspected = c.around.inspect(ctx, &pods[i], looks[i].cover)
		g.admitted = c.door.decide(ctx, &pods[i], looks[i].digest, c.judged[looks[i].digest])
	})
}

// put counts a pod of the group.
func (g *group) put(at placement, ended bool) {
	if !ended {
		g.placements[at]++
		return
	}
	if g.ended == nil {
		g.ended = map[placement]int{}
	}
	g.ended[at]++
}

// hasEnded reports whether nothing of the pod will run any more.
func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// RunningContainers counts the containers of a pod that run.
func RunningContainers(pod *corev1.Pod) int {
	n := 0
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].State.Running != nil {
			n++
		}
	}
	return n
}

// parallel calls f for 0 to n-1 from as many goroutines as there are processors.
func parallel(n int, f func(int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w * n / workers; i < (w+1)*n/workers; i++ {
				f(i)
			}
		})
	}
	wg.Wait()
}

// groupOf tells to which group a pod belongs, by the controller that it claims.
func groupOf(pod *corev1.Pod, digest Digest) (key groupKey, ref *metav1.OwnerReference) {
	key = groupKey{cohort: cohort{namespace: pod.Namespace}, digest: digest}
	ref = followed(pod.OwnerReferences)
	if ref == nil {
		key.pod = pod.Name
	} else {
		key.owner = ownerRef{ref.APIVersion, ref.Kind, ref.Name, string(ref.UID)}
		key.hash = TemplateHash(pod.Labels)
	}
	return key, ref
}

// newGroup makes the group of a pod, which is not in it yet.
func newGroup(key groupKey, ref *metav1.OwnerReference, pod *corev1.Pod) *group {
	g := &group{key: key, first: pod.Name, oldest: pod.CreationTimestamp.Time, placements: map[placement]int{}}
	if ref != nil {
		copied := *ref
		g.ref = &copied
	}
	return g
}

// group finds the group of a pod.
func (c *collector) group(ctx context.Context, pod *corev1.Pod, digest Digest) (g *group, isNew bool) {
	key, ref := groupOf(pod, digest)
	g = c.groups[key]
	if g == nil {
		isNew = true
		g = newGroup(key, ref, pod)
		if ref != nil {
			c.owners.prefetch(ctx, pod.Namespace, ref)
		}
		c.groups[key] = g
	}
	g.count++
	g.first = min(g.first, pod.Name)
	if pod.CreationTimestamp.Time.Before(g.oldest) {
		g.oldest = pod.CreationTimestamp.Time
	}
	return g, isNew
}

// labelTemplateHash is the label that a Deployment's ReplicaSets and their pods
// carry.
const labelTemplateHash = "pod-template-hash"

// cohorts lists the groups of each cohort, and the cohorts in an order that does not
// hang on a map's: it decides which of equal findings stays.
func (c *collector) cohorts() (order []cohort, groups map[cohort][]*group) {
	groups = map[cohort][]*group{}
	for key, g := range c.groups {
		groups[key.cohort] = append(groups[key.cohort], g)
	}
	return slices.SortedFunc(maps.Keys(groups), compareCohorts), groups
}

func compareCohorts(a, b cohort) int {
	return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.owner.kind, b.owner.kind),
		cmp.Compare(a.owner.name, b.owner.name), cmp.Compare(a.owner.uid, b.owner.uid),
		cmp.Compare(a.owner.apiVersion, b.owner.apiVersion), cmp.Compare(a.hash, b.hash), cmp.Compare(a.pod, b.pod))
}

// share is the row that the pods of a group stand in.
type share struct {
	row   RowRef
	group *group
}

// shares says in which rows the groups of a cohort stand, which it sorts: those that
// most look alike stand for the workload, any that look otherwise for themselves. owner
// is asked for the workload of the pods' controller.
func shares(cluster string, co cohort, groups []*group, owner func(ref *metav1.OwnerReference) (w Workload, claims string)) []share {
	slices.SortFunc(groups, func(x, y *group) int {
		return cmp.Or(cmp.Compare(y.count, x.count), x.oldest.Compare(y.oldest), cmp.Compare(x.first, y.first))
	})
	all := make([]share, len(groups))
	add := func(i int, w Workload, claims string) {
		w.Cluster = cluster
		all[i] = share{RowRef{w, claims}, groups[i]}
	}
	alone := func(i int, claims string) {
		add(i, Workload{Namespace: co.namespace, Kind: "Pod", Name: groups[i].first}, claims)
	}
	ref := groups[0].ref
	if ref == nil {
		for i := range groups {
			alone(i, "")
		}
		return all
	}
	w, claims := owner(ref)
	for i := range groups {
		switch {
		case w.Name == "":
			alone(i, claims)
		case i > 0:
			alone(i, claim(ref, "its other pods look otherwise"))
		default:
			add(i, w, claims)
		}
	}
	return all
}

// rows joins the groups to workloads.
func (c *collector) rows(ctx context.Context) []*rows {
	c.layers.prepare(maps.Values(c.groups), c.judged)
	byRef := map[RowRef]*rows{}
	c.resolve(ctx, func(s share) {
		r := byRef[s.row]
		if r == nil {
			r = newRows(s.row.Workload, s.row.Claims)
			byRef[s.row] = r
		}
		r.take(s.group, c.judged[s.group.key.digest], c.layers)
	})
	return slices.SortedFunc(maps.Values(byRef), compareRows)
}

// resolve finds for each group the row in which it stands.
func (c *collector) resolve(ctx context.Context, take func(share)) {
	order, cohorts := c.cohorts()
	for _, co := range order {
		owner := func(ref *metav1.OwnerReference) (Workload, string) {
			return c.owners.workload(ctx, co.namespace, ref, co.hash)
		}
		for _, s := range shares(c.cluster, co, cohorts[co], owner) {
			take(s)
		}
	}
}

// seen are the namespaces of which pods were read.
func (c *collector) seen() map[string]bool {
	seen := map[string]bool{}
	for key := range c.groups {
		seen[key.namespace] = true
	}
	return seen
}

// take joins a group of pods and what the layers say of it.
func (r *rows) take(g *group, j *Judgement, layers *layering) {
	r.add(j, g.count)
	for _, at := range g.sorted() {
		r.addLayers(layers.of(j, at.cover.stance, at.node, g), g.admitted, at.node)
	}
}

// places are the placements that count.
func (g *group) places() map[placement]int {
	if len(g.placements) == 0 {
		return g.ended
	}
	return g.placements
}

// sorted are the placements in an order that does not hang on a map's.
func (g *group) sorted() []placement {
	return slices.SortedFunc(maps.Keys(g.places()), func(a, b placement) int {
		return cmp.Or(cmp.Compare(a.node.name, b.node.name), cmp.Compare(a.cover.key, b.cover.key))
	})
}

// compareRows puts rows into the order in which they are sent.
func compareRows(a, b *rows) int {
	return cmp.Or(cmp.Compare(a.workload.Namespace, b.workload.Namespace), cmp.Compare(a.workload.Kind, b.workload.Kind),
		cmp.Compare(a.workload.Name, b.workload.Name), cmp.Compare(a.claims, b.claims))
}
