package scan

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// readSurroundings reads what stands around the pods, as it is now.
func (t *Tracker) readSurroundings(ctx context.Context) *surroundings {
	t.decoded.begin(t.at)
	opts := t.opts.Cluster
	opts.Start.Time, opts.decoded, opts.classes = t.at, t.decoded, t.classes
	return readSurroundings(ctx, t.mirror, &opts, t.server)
}

// updateAround reads what stands around the pods again, and finds out who is concerned.
// It reports whether the pods are to be read again as well.
func (t *Tracker) updateAround(ctx context.Context) (pods bool) {
	params := t.decoded.params.refresh(ctx)
	old, fresh := t.judge.around, t.readSurroundings(ctx)
	if ctx.Err() != nil {
		return false
	}
	t.compareVersion(ctx)
	nodes := adoptNodes(old, fresh)
	c := t.judge
	c.around, c.covers.s, c.layers.s = fresh, fresh, fresh
	t.rules = newRuleIndex(fresh.admissionPolicies())
	t.wholeDirty, t.nodesDirty = true, true
	t.markNodes(nodes)
	t.compareNamespaces(old, fresh)
	t.compareArmor(old, fresh)
	t.compareAdmission(old, fresh, params)
	if len(t.opts.Cluster.Namespaces) > 0 || t.reading.everywhere() && t.reading.partial[""] == "" {
		return false
	}
	// Namespaces are read one by one, or could not be because they were not known.
	return len(old.namespaces) != len(fresh.namespaces) || !containsAll(old.namespaces, fresh.namespaces)
}

// compareVersion finds out whether the server is of another minor version than it was
// when the watch began. The rules stay those of that one: all that was told is by them.
func (t *Tracker) compareVersion(ctx context.Context) {
	if t.versionErr != nil {
		// That it is not known is told, and which one is assumed.
		return
	}
	server, err := t.mirror.ServerVersion(ctx)
	if err != nil {
		return
	}
	t.upgraded = nil
	was, is := serverPSS(t.server), serverPSS(server)
	if was == is {
		return
	}
	t.upgraded = &Failure{
		Subject: "server version", Reason: FailureInvalid,
		Message: fmt.Sprintf("the API server is of version %s now, and was of %s when the watch began", is, was),
		Affects: fmt.Sprintf("what the Pod Security Standards and the admission of %s say: those of %s are applied until the watch is started again", is, was),
	}
}

func containsAll[V any](have, want map[string]V) bool {
	for name := range want {
		if _, ok := have[name]; !ok {
			return false
		}
	}
	return true
}

// adoptNodes puts what was read of nodes into the states that pods are placed on, and
// gives those that are of another class now.
func adoptNodes(old, fresh *surroundings) map[*nodeState]bool {
	changed := map[*nodeState]bool{}
	adopt := func(state, as *nodeState) *nodeState {
		if state.class != as.class {
			changed[state] = true
		}
		containers, pods := state.containers, state.pods
		*state = *as
		state.containers, state.pods = containers, pods
		return state
	}
	fresh.nowhere = adopt(old.nowhere, fresh.nowhere)
	for state := range old.everyNode() {
		switch known := fresh.nodes[state.name]; {
		case state.name == "":
		case known != nil:
			fresh.nodes[state.name] = adopt(state, known)
		case state.pods > 0:
			fresh.strange[state.name] = adopt(state, fresh.node(state.name))
		}
	}
	return changed
}

// markNodes marks the rows with pods on the nodes.
func (t *Tracker) markNodes(nodes map[*nodeState]bool) {
	if len(nodes) == 0 {
		return
	}
	t.markPlaces(urgentSoon, func(at placement) bool { return nodes[at.node] })
}

// markPlaces marks the rows with pods in the places.
func (t *Tracker) markPlaces(u urgency, concerned func(placement) bool) {
	for _, g := range t.groups {
		for at := range g.places() {
			if concerned(at) {
				t.mark(g.row, u)
				break
			}
		}
	}
}

// compareNamespaces marks the rows of the namespaces that look otherwise.
func (t *Tracker) compareNamespaces(old, fresh *surroundings) {
	// Of a namespace without pods answers may be kept that the next pod would get.
	names := map[string]bool{}
	for name := range t.inNamespace {
		names[name] = true
	}
	for name := range t.judge.door.known {
		names[name] = true
	}
	for _, st := range t.judge.covers.stances {
		names[st.namespace] = true
	}
	changed := map[string]bool{}
	for name := range names {
		was, whyNot := old.namespace(name)
		is, why := fresh.namespace(name)
		same := whyNot == why && (was == nil) == (is == nil)
		if same && is != nil {
			same = maps.Equal(was.Labels, is.Labels) && maps.Equal(was.Annotations, is.Annotations)
		}
		if !same {
			changed[name] = true
		}
	}
	if len(changed) == 0 {
		return
	}
	t.admitAgain(changed)
	// KubeArmor reads the annotations.
	c := t.judge
	maps.DeleteFunc(c.layers.cache, func(key layerKey, _ *Layers) bool { return changed[key.stance.namespace] })
	for key := range c.layers.alike {
		if changed[key.stance.namespace] {
			delete(c.layers.alike, key)
		}
	}
}

// admitAgain makes admission be asked again in the namespaces, all where there are none.
func (t *Tracker) admitAgain(namespaces map[string]bool) {
	u := urgentSoon
	if namespaces == nil {
		u = urgentLater
	}
	for _, g := range t.groups {
		if ns := g.key.namespace; namespaces == nil || namespaces[ns] {
			g.admitted = nil
			t.mark(g.row, u)
		}
	}
	for ns := range t.judge.door.known {
		if namespaces == nil || namespaces[ns] {
			delete(t.judge.door.known, ns)
		}
	}
}

// compareArmor finds the policies anew that select pods, and marks the rows of which
// these are others.
func (t *Tracker) compareArmor(old, fresh *surroundings) {
	c := t.judge
	if old.armorUnknown != fresh.armorUnknown || old.armorHidden != fresh.armorHidden {
		clear(c.layers.cache)
		t.markPlaces(urgentLater, func(placement) bool { return true })
	}
	switch {
	case old.armor == fresh.armor:
	case !slices.Equal(old.armorLabels, fresh.armorLabels):
		t.coverAgain()
	default:
		changed := map[*coverage]bool{}
		for _, cov := range c.covers.by {
			selected := fresh.armor.Select(cov.namespace, cov.labels)
			if slices.Equal(selected, cov.policies) {
				continue
			}
			other := *cov.stance
			other.policies = selected
			cov.stance = c.covers.keep(&other)
			changed[cov] = true
		}
		t.markPlaces(urgentSoon, func(at placement) bool { return changed[at.cover] })
	}
}

// coverAgain finds the coverage of every pod anew, as selectors read other labels now.
func (t *Tracker) coverAgain() {
	covers := newCoverages(t.judge.around)
	covers.stances = t.judge.covers.stances
	for name, p := range t.pods {
		pod := t.mirror.Pod(name.Namespace, name.Name)
		if pod == nil {
			// It has gone, and the mirror will say so. Till then it is counted where it was.
			continue
		}
		was, is := p.at.cover.stance, covers.of(pod)
		p.group.replace(p, is)
		if is.stance != was {
			t.mark(p.group.row, urgentSoon)
		}
	}
	t.judge.covers = covers
}

// replace counts a pod of the group under another coverage.
func (g *trackedGroup) replace(p *trackedPod, cov *coverage) {
	places := g.placements
	if p.ended {
		places = g.ended
	}
	if places[p.at]--; places[p.at] == 0 {
		delete(places, p.at)
	}
	p.at.cover = cov
	places[p.at]++
}

// compareAdmission makes admission be asked again where it may say something else.
func (t *Tracker) compareAdmission(old, fresh *surroundings, params bool) {
	c := t.judge
	known := c.door.known
	c.door = newDoorman(fresh)
	if fmt.Sprint(old.keys) == fmt.Sprint(fresh.keys) {
		c.door.known = known
	}
	all, namespaces := admissionDiffers(old, fresh)
	switch {
	case all || params:
		t.admitAgain(nil)
	case len(namespaces) > 0:
		t.admitAgain(namespaces)
		for _, known := range c.door.known {
			// Policies that are gone are not to be kept by what they said.
			clear(known.ruled)
		}
	}
}

// admissionDiffers tells whether what rules on admission is other: everywhere, or in
// which namespaces.
func admissionDiffers(old, fresh *surroundings) (all bool, namespaces map[string]bool) {
	was, is := old.admission, fresh.admission
	if was.KyvernoDoubt != is.KyvernoDoubt || !slices.Equal(was.Missing, is.Missing) || !slices.Equal(was.Exceptions, is.Exceptions) {
		return true, nil
	}
	if slices.Equal(was.Kyverno, is.Kyverno) && slices.Equal(was.Expressions, is.Expressions) {
		return false, nil
	}
	namespaces = map[string]bool{}
	for _, ref := range slices.Concat(onlyInOne(was.Kyverno, is.Kyverno), onlyInOne(old.inCEL, fresh.inCEL)) {
		if ref.Namespace == "" {
			return true, nil
		}
		namespaces[ref.Namespace] = true
	}
	// The same in another order says the same in another order.
	return len(namespaces) == 0, namespaces
}

// onlyInOne are the policies that stand in one of the lists only.
func onlyInOne[P interface {
	comparable
	Ref() admission.Ref
}](a, b []P) []admission.Ref {
	count := map[P]int{}
	for _, p := range a {
		count[p]++
	}
	for _, p := range b {
		count[p]--
	}
	var refs []admission.Ref
	for p, n := range count {
		if n != 0 {
			refs = append(refs, p.Ref())
		}
	}
	return refs
}

// readFacts reads runtime classes and volumes, which a scan does when a pod asks.
func (t *Tracker) readFacts(ctx context.Context) {
	facts := newFactSource(ctx, t.mirror)
	// What cannot be read is told where a pod asks for it.
	_, _ = facts.handlers()
	_, _ = facts.volumes()
	t.judge.facts = facts
}

// updateFacts reads runtime classes and volumes again, and judges the pods again that
// ask for what is other.
func (t *Tracker) updateFacts(ctx context.Context) {
	old := t.judge.facts
	t.readFacts(ctx)
	if ctx.Err() != nil {
		return
	}
	wasHandlers, wasErr := old.handlers()
	handlers, err := t.judge.facts.handlers()
	classes := fmt.Sprint(wasErr) != fmt.Sprint(err) || !maps.Equal(wasHandlers, handlers)
	wasVolumes, wasErr := old.volumes()
	volumes, err := t.judge.facts.volumes()
	claims := fmt.Sprint(wasErr) != fmt.Sprint(err) || !maps.Equal(wasVolumes, volumes)
	var names []PodName
	for name, p := range t.pods {
		if classes && p.class || claims && p.claims {
			names = append(names, name)
			delete(t.judge.judged, p.group.key.digest)
		}
	}
	for _, known := range t.judge.door.known {
		// What admission was asked hangs on which paths are open.
		clear(known.by)
	}
	t.changePods(names, true)
}

// factFailures are those of what pods ask for.
func (t *Tracker) factFailures() []Failure {
	var failures []Failure
	if _, err := t.judge.facts.handlers(); err != nil && t.classPods > 0 {
		failures = append(failures, classesFailure(err))
	}
	if _, err := t.judge.facts.volumes(); err != nil && t.claimPods > 0 {
		failures = append(failures, volumesFailure(err))
	}
	return failures
}
