package scan

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// trackedPod is what is kept of a pod: where it was counted.
type trackedPod struct {
	group      *trackedGroup
	at         placement
	ended      bool
	containers int
	created    time.Time
	// version is the object's, by which one that was not changed is known.
	version string
	// class and claims are true where the pod names a runtime class, or claims volumes.
	class, claims bool
}

// trackedGroup is a group whose pods come and go.
type trackedGroup struct {
	group
	cohort *trackedCohort
	// row is where the group stands, nil before that was found.
	row  *trackedRow
	pods map[string]*trackedPod
	// touched is true where a pod came, went or changed, and aged where the first or the
	// oldest of them may be another.
	touched, aged bool
	// asked is the digest of the pod that admission was asked about; check is true where
	// that may be another now.
	asked Digest
	check bool
}

// readPods reads all pods of the run.
func (t *Tracker) readPods(ctx context.Context) error {
	was := t.reading
	t.reading = newPodReading(t.opts.Cluster.Namespaces, t.opts.Cluster.Start.Selector)
	listed := map[PodName]bool{}
	first := t.wholeAt.IsZero()
	err := t.reading.read(ctx, t.mirror, t.judge.around, func(page PodPage) error {
		for i := range page.Items {
			listed[PodName{page.Items[i].Namespace, page.Items[i].Name}] = true
		}
		if !first {
			return nil
		}
		return t.send(Event{Progress: &Progress{Pods: len(listed), Remaining: page.Remaining}})
	})
	if errors.Is(err, errHandler) {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	names := make([]PodName, 0, len(listed))
	for name := range listed {
		names = append(names, name)
	}
	for name := range t.pods {
		if !listed[name] {
			t.removePod(name)
		}
	}
	t.changePods(names, false)
	t.compareReading(&was)
	return nil
}

// compareReading marks the rows that hang on how much could be read.
func (t *Tracker) compareReading(was *podReading) {
	if was.everywhere() != t.reading.everywhere() {
		for _, co := range t.cohorts {
			t.unresolve(co)
		}
	}
	whole := was.whole("") == t.reading.whole("")
	for ref, row := range t.rows {
		if ns := ref.Workload.Namespace; !whole || was.incomplete(ns) != t.reading.incomplete(ns) {
			t.mark(row, urgentLater)
		}
	}
	t.wholeDirty = true
}

// updatePods takes in pods of which it is known that they may be other.
func (t *Tracker) updatePods(names []PodName) {
	var there []PodName
	seen := make(map[PodName]bool, len(names))
	for _, name := range names {
		if seen[name] || len(t.opts.Cluster.Namespaces) > 0 && !slices.Contains(t.opts.Cluster.Namespaces, name.Namespace) {
			continue
		}
		seen[name] = true
		if t.mirror.Pod(name.Namespace, name.Name) == nil {
			t.removePod(name)
			continue
		}
		there = append(there, name)
	}
	t.changePods(there, false)
}

// changePods takes in pods that are there. again is true where they are to be judged
// though they themselves are as they were.
func (t *Tracker) changePods(names []PodName, again bool) {
	slices.SortFunc(names, comparePodNames)
	var pods []*corev1.Pod
	for _, name := range names {
		pod := t.mirror.Pod(name.Namespace, name.Name)
		old := t.pods[name]
		switch {
		case pod == nil:
			t.removePod(name)
		case old == nil || again || pod.ResourceVersion == "" || pod.ResourceVersion != old.version:
			pods = append(pods, pod)
		}
	}
	looks := t.judge.look(len(pods), func(i int) *corev1.Pod { return pods[i] })
	for i, pod := range pods {
		t.changePod(pod, looks[i], again)
	}
}

func comparePodNames(a, b PodName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// changePod counts a pod as it looks now.
func (t *Tracker) changePod(pod *corev1.Pod, l look, again bool) {
	name := PodName{pod.Namespace, pod.Name}
	key, ref := groupOf(pod, l.digest)
	p := &trackedPod{
		ended: hasEnded(pod), created: pod.CreationTimestamp.Time,
		version: pod.ResourceVersion, class: pod.Spec.RuntimeClassName != nil, claims: hasClaims(&pod.Spec),
	}
	old := t.pods[name]
	if old != nil && !again && old.group.key == key && old.at.cover == l.cover && old.at.node.name == pod.Spec.NodeName &&
		old.ended == p.ended && old.created.Equal(p.created) && old.class == p.class && old.claims == p.claims {
		t.countContainers(old, RunningContainers(pod))
		old.version = p.version
		t.judge.covers.leave(l.cover)
		if old.group.first == pod.Name {
			t.touch(old.group)
			old.group.check = true
		}
		return
	}
	g := t.groups[key]
	if g == nil {
		g = &trackedGroup{group: *newGroup(key, ref, pod), pods: map[string]*trackedPod{}}
		t.groups[key] = g
		t.digests[key.digest]++
		t.joinGroup(g)
	}
	p.group, p.at = g, placement{l.cover, t.judge.around.node(pod.Spec.NodeName)}
	// The new one is counted before the old one goes, so that nothing that both need is
	// let go.
	p.at.node.pods++
	g.count++
	g.put(p.at, p.ended)
	if old != nil {
		t.uncount(name, old)
	}
	t.countContainers(p, RunningContainers(pod))
	g.pods[pod.Name] = p
	t.pods[name] = p
	t.inNamespace[name.Namespace]++
	t.classPods += count(p.class)
	t.claimPods += count(p.claims)
	g.aged, g.check = true, true
	if again {
		g.admitted = nil
	}
	t.touch(g)
	t.wholeDirty = true
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// removePod takes a pod out of the picture, if it is in it.
func (t *Tracker) removePod(name PodName) {
	p := t.pods[name]
	if p == nil {
		return
	}
	t.gone.add(name, p.group.row, t.at)
	t.uncount(name, p)
	delete(t.pods, name)
	t.wholeDirty = true
}

// uncount takes a pod out of all that counts it.
func (t *Tracker) uncount(name PodName, p *trackedPod) {
	g := p.group
	t.countContainers(p, 0)
	places := g.placements
	if p.ended {
		places = g.ended
	}
	if places[p.at]--; places[p.at] == 0 {
		delete(places, p.at)
	}
	if g.pods[name.Name] == p {
		delete(g.pods, name.Name)
	}
	g.count--
	g.aged, g.check = true, true
	t.touch(g)
	t.judge.covers.leave(p.at.cover)
	t.judge.around.leave(p.at.node)
	if t.inNamespace[name.Namespace]--; t.inNamespace[name.Namespace] == 0 {
		delete(t.inNamespace, name.Namespace)
	}
	t.classPods -= count(p.class)
	t.claimPods -= count(p.claims)
	if g.count == 0 {
		t.dropGroup(g)
	}
}

// countContainers says how many containers of a pod run, and marks who is concerned
// where that fills a node beyond what is enforced, or makes room.
func (t *Tracker) countContainers(p *trackedPod, running int) {
	n := p.at.node
	crowded := n.crowded()
	n.containers += running - p.containers
	p.containers = running
	if n.crowded() != crowded {
		t.markNodes(map[*nodeState]bool{n: true})
		t.wholeDirty = true
	}
}
