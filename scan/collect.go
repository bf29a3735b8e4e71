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
	trimmed := make([]Pod, len(pods))
	digests := make([]Digest, len(pods))
	covers := make([]*coverage, len(pods))
	parallel(len(pods), func(i int) {
		trimmed[i] = Trim(c.facts.pod(&pods[i]))
		digests[i] = DigestOf(trimmed[i])
		covers[i] = c.covers.of(&pods[i])
	})
	// What is new is judged once, whichever pod of the page shows it first.
	var fresh []int
	for i, d := range digests {
		if _, known := c.judged[d]; !known {
			c.judged[d] = nil
			fresh = append(fresh, i)
		}
	}
	judgements := make([]*Judgement, len(fresh))
	parallel(len(fresh), func(k int) {
		pod := trimmed[fresh[k]]
		judgements[k] = c.engine.Judge(pod, c.facts.facts(pod))
	})
	for k, i := range fresh {
		c.judged[digests[i]] = judgements[k]
	}
	c.join(ctx, pods, digests, covers)
	c.pods += len(pods)
}

// join groups the pods of a page, and asks about the first of each new group what is
// asked of one pod only.
func (c *collector) join(ctx context.Context, pods []corev1.Pod, digests []Digest, covers []*coverage) {
	var first []int
	var groups []*group
	for i := range pods {
		pod := &pods[i]
		g, isNew := c.group(ctx, pod, digests[i])
		if isNew {
			first, groups = append(first, i), append(groups, g)
		}
		n := c.around.node(pod.Spec.NodeName)
		n.containers += RunningContainers(pod)
		if phase := pod.Status.Phase; phase == corev1.PodSucceeded || phase == corev1.PodFailed {
			if g.ended == nil {
				g.ended = map[placement]int{}
			}
			g.ended[placement{covers[i], n}]++
			continue
		}
		g.placements[placement{covers[i], n}]++
	}
	parallel(len(first), func(k int) {
		i, g := first[k], groups[k]
		g.inspected = c.around.inspect(ctx, &pods[i], covers[i])
		g.admitted = c.door.decide(ctx, &pods[i], digests[i], c.judged[digests[i]])
	})
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

// group finds the group of a pod.
func (c *collector) group(ctx context.Context, pod *corev1.Pod, digest Digest) (g *group, isNew bool) {
	key := groupKey{cohort: cohort{namespace: pod.Namespace}, digest: digest}
	ref := followed(pod.OwnerReferences)
	if ref == nil {
		key.pod = pod.Name
	} else {
		key.owner = ownerRef{ref.APIVersion, ref.Kind, ref.Name, string(ref.UID)}
		key.hash = TemplateHash(pod.Labels)
	}
	g = c.groups[key]
	if g == nil {
		isNew = true
		g = &group{first: pod.Name, oldest: pod.CreationTimestamp.Time, placements: map[placement]int{}}
		if ref != nil {
			copied := *ref
			g.ref = &copied
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
func (c *collector) cohorts() (order []cohort, groups map[cohort][]groupKey) {
	groups = map[cohort][]groupKey{}
	for key := range c.groups {
		groups[key.cohort] = append(groups[key.cohort], key)
	}
	order = make([]cohort, 0, len(groups))
	for co := range groups {
		order = append(order, co)
	}
	slices.SortFunc(order, func(a, b cohort) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.owner.kind, b.owner.kind),
			cmp.Compare(a.owner.name, b.owner.name), cmp.Compare(a.owner.uid, b.owner.uid),
			cmp.Compare(a.owner.apiVersion, b.owner.apiVersion), cmp.Compare(a.hash, b.hash), cmp.Compare(a.pod, b.pod))
	})
	return order, groups
}

// rows joins the groups to workloads. In a cohort, the pods that most look alike
// stand for the workload; any that look otherwise stand for themselves.
func (c *collector) rows(ctx context.Context) []*rows {
	c.layers.prepare(c.groups, c.judged)
	order, cohorts := c.cohorts()
	byName := map[[2]string]*rows{}
	join := func(w Workload, claims string, key groupKey) {
		w.Cluster = c.cluster
		id := [2]string{w.String(), claims}
		r := byName[id]
		if r == nil {
			r = newRows(w, claims)
			byName[id] = r
		}
		g, j := c.groups[key], c.judged[key.digest]
		r.add(j, g.count)
		for _, at := range g.sorted() {
			r.addLayers(c.layers.of(j, at.cover.stance, at.node, g), g.admitted, at.node)
		}
	}
	for _, co := range order {
		keys := cohorts[co]
		slices.SortFunc(keys, func(a, b groupKey) int {
			x, y := c.groups[a], c.groups[b]
			return cmp.Or(cmp.Compare(y.count, x.count), x.oldest.Compare(y.oldest), cmp.Compare(x.first, y.first))
		})
		alone := func(key groupKey, claims string) {
			join(Workload{Namespace: co.namespace, Kind: "Pod", Name: c.groups[key].first}, claims, key)
		}
		ref := c.groups[keys[0]].ref
		if ref == nil {
			for _, key := range keys {
				alone(key, "")
			}
			continue
		}
		w, claims := c.owners.workload(ctx, co.namespace, ref, co.hash)
		for i, key := range keys {
			switch {
			case w.Name == "":
				alone(key, claims)
			case i > 0:
				alone(key, claim(ref, "its other pods look otherwise"))
			default:
				join(w, claims, key)
			}
		}
	}
	out := make([]*rows, 0, len(byName))
	for _, r := range byName {
		out = append(out, r)
	}
	slices.SortFunc(out, compareRows)
	return out
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
