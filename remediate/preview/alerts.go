package preview

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// sighting is what was reported again and again of one thing in one container.
type sighting struct {
	alert       armor.Alert
	count       int
	first, last time.Time
	refused     bool
}

type sightingKey struct {
	namespace, pod, container, ownerKind, ownerName, operation, what, parent string
	refused                                                                  bool
}

// sightings are the alerts, those alike as one: by the workload that KubeArmor found, and
// by namespace where it found none that is looked at.
type sightings struct {
	owned map[scan.Workload][]*sighting
	loose map[string][]*sighting
}

// The operations that are read.
const (
	operationProcess    = "Process"
	operationCapability = "Capabilities"
)

func newSightings(alerts []armor.Alert, workloads []targets.Workload) *sightings {
	s := &sightings{owned: map[scan.Workload][]*sighting{}, loose: map[string][]*sighting{}}
	for i := range workloads {
		s.owned[ownerOf(&workloads[i])] = nil
	}
	for _, seen := range alike(alerts) {
		a := &seen.alert
		owner := scan.Workload{Namespace: a.Namespace, Kind: a.OwnerKind, Name: a.OwnerName}
		if _, known := s.owned[owner]; known {
			s.owned[owner] = append(s.owned[owner], seen)
		} else {
			s.loose[a.Namespace] = append(s.loose[a.Namespace], seen)
		}
	}
	return s
}

func ownerOf(w *targets.Workload) scan.Workload {
	return scan.Workload{Namespace: w.Namespace, Kind: w.Kind, Name: w.Name}
}

// of are the sightings in a workload.
func (s *sightings) of(w *targets.Workload) []*sighting {
	all := s.owned[ownerOf(w)]
	for _, seen := range s.loose[w.Namespace] {
		if isOf(&seen.alert, w) {
			all = append(slices.Clip(all), seen)
		}
	}
	return all
}

// alike joins alerts of the same thing, in an order that does not hang on theirs.
func alike(alerts []armor.Alert) []*sighting {
	known := map[sightingKey]*sighting{}
	for i := range alerts {
		a := &alerts[i]
		what := a.Process
		switch {
		case a.Lost():
			what = ""
		case a.Type != "MatchedPolicy":
			continue
		case a.Operation == operationCapability:
			what = a.Resource + " " + a.Process
		case a.Operation != operationProcess:
			continue
		}
		refused := strings.EqualFold(a.Result, "Permission denied")
		key := sightingKey{a.Namespace, a.Pod, a.Container, a.OwnerKind, a.OwnerName, a.Operation, what, a.Parent, refused}
		had := known[key]
		if had == nil {
			had = &sighting{alert: *a, first: a.Time, last: a.Time, refused: refused}
			known[key] = had
		}
		had.count++
		if a.Time.Before(had.first) {
			had.first = a.Time
		}
		if a.Time.After(had.last) {
			had.last = a.Time
		}
	}
	return slices.SortedFunc(maps.Values(known), func(a, b *sighting) int {
		return cmp.Or(
			strings.Compare(a.alert.Namespace, b.alert.Namespace),
			strings.Compare(a.alert.Pod, b.alert.Pod), strings.Compare(a.alert.Container, b.alert.Container),
			strings.Compare(a.alert.OwnerKind, b.alert.OwnerKind), strings.Compare(a.alert.OwnerName, b.alert.OwnerName),
			strings.Compare(a.alert.Operation, b.alert.Operation), strings.Compare(a.alert.Process, b.alert.Process),
			strings.Compare(a.alert.Resource, b.alert.Resource), strings.Compare(a.alert.Parent, b.alert.Parent),
			a.first.Compare(b.first),
		)
	})
}

// isOf tells whether an alert whose owner is not looked at is about a pod of the workload:
// by the name of a pod that runs, or by name and labels.
func isOf(a *armor.Alert, w *targets.Workload) bool {
	for i := range w.Specimens {
		if name := w.Specimens[i].Pod.Name; name != "" && name == a.Pod {
			return true
		}
	}
	if len(w.Selector) == 0 || w.Kind == "Pod" || a.OwnerKind == w.Kind || !strings.HasPrefix(a.Pod, w.Name+"-") {
		return false
	}
	for key, value := range w.Selector {
		if a.Labels[key] != value {
			return false
		}
	}
	return true
}

// alertsOf are the effects that follow from what was seen in a workload.
func (j *judge) alertsOf(w *targets.Workload) []Effect {
	all := map[effectKey]*evidence{}
	for _, s := range j.alerts.of(w) {
		e, ok := j.sighted(w, s)
		if !ok {
			continue
		}
		key := keyOf(&e)
		if all[key] == nil {
			all[key] = &evidence{effect: e, first: s.first, last: s.last, by: map[string]bool{}, pods: map[string]bool{}}
		}
		all[key].take(e, s)
	}
	effects := make([]Effect, 0, len(all))
	for _, e := range all {
		effects = append(effects, e.whole())
	}
	return effects
}

// evidence joins the sightings of one thing in the pods of a workload.
type evidence struct {
	effect         Effect
	count, refused int
	first, last    time.Time
	by, pods       map[string]bool
}

func (e *evidence) take(effect Effect, s *sighting) {
	if rank(effect.Outcome) < rank(e.effect.Outcome) {
		e.effect = effect
	}
	e.count += s.count
	if s.refused {
		e.refused += s.count
	}
	if s.first.Before(e.first) {
		e.first = s.first
	}
	if s.last.After(e.last) {
		e.last = s.last
	}
	if s.alert.Parent != "" {
		e.by[shorten(s.alert.Parent)] = true
	}
	e.pods[s.alert.Pod] = true
}

func (e *evidence) whole() Effect {
	out := e.effect
	seen := fmt.Sprintf("KubeArmor reported it %s, from %s to %s", times(e.count), stamp(e.first), stamp(e.last))
	if e.count == 1 {
		seen = "KubeArmor reported it once, at " + stamp(e.first)
	}
	called, refused := "", ""
	if len(e.by) > 0 {
		called = "called by " + list(slices.Sorted(maps.Keys(e.by)))
	}
	if e.refused > 0 {
		refused = times(e.refused) + " it was refused already"
	}
	out.Why = sentences(seen, called, refused, out.Why)
	out.Pods = len(e.pods)
	return out
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "a time that is not known"
	}
	return t.UTC().Format(time.RFC3339)
}

// sighted is the effect of what was seen, as far as the set would refuse it.
func (j *judge) sighted(w *targets.Workload, s *sighting) (Effect, bool) {
	switch {
	case s.alert.Lost():
		return Effect{Outcome: MayBreak, Part: PartRuntime, Container: shorten(s.alert.Container),
			What: "what it does is not all known: KubeArmor dropped alerts of it"}, true
	case s.alert.Operation == operationProcess:
		return j.ranProgram(w, s)
	}
	return j.usedCapability(w, s)
}

// seenIn finds the specimens that have the container of an alert, as the rules see them.
func (j *judge) seenIn(w *targets.Workload, name string) (v *view, c *container) {
	for i := range w.Specimens {
		s := &w.Specimens[i]
		found := &view{judge: j, workload: w, specimen: s, pod: s.Pod, containers: containersOf(&s.Pod.Spec)}
		for k := range found.containers {
			if found.containers[k].Name != name {
				continue
			}
			if found.runtime = j.runtimeOf(found); found.runtime != nil {
				return found, &found.containers[k]
			}
		}
	}
	return nil, nil
}

// ranProgram is what a process alert tells: the program is called, and would be refused.
func (j *judge) ranProgram(w *targets.Workload, s *sighting) (Effect, bool) {
	element, ok := j.elementAt(s.alert.Process)
	if !ok || !path.IsAbs(s.alert.Process) {
		return Effect{}, false
	}
	v, c := j.seenIn(w, s.alert.Container)
	if v == nil {
		return Effect{}, false
	}
	b := v.runtime.exec(c, path.Clean(s.alert.Process))
	if !b.any() {
		return Effect{}, false
	}
	// What is refused already is no less broken.
	b.already = false
	e := Effect{
		Outcome: b.outcome(Breaks), Part: partOf(element.Kind), Element: element.Name,
		What: "was seen to call " + element.Name + ", which is refused", Why: b.reason, Mend: mendCall(element),
	}
	if ofRuntime(s.alert.Parent) {
		e.What = "somebody was seen to call " + element.Name + " in it from outside, which is refused"
		e.Why = sentences(e.Why, "the container's runtime started it: kubectl exec, a probe or a hook")
	}
	return e.in(c), true
}

// ofRuntime tells whether a program is the container runtime's own.
func ofRuntime(program string) bool {
	switch path.Base(program) {
	case "runc", "crun", "youki", "runsc":
		return true
	}
	return false
}

// usedCapability is what a capability alert tells, which is little: plain programs ask
// for capabilities that they can do without.
func (j *judge) usedCapability(w *targets.Workload, s *sighting) (Effect, bool) {
	name := strings.ToLower(strings.TrimPrefix(strings.ToUpper(s.alert.Resource), "CAP_"))
	v, c := j.seenIn(w, s.alert.Container)
	if v == nil || !slices.ContainsFunc(j.elements, func(e armor.Element) bool { return e.Kind == armor.Capability && e.Name == name }) {
		return Effect{}, false
	}
	b := v.runtime.element(c, name)
	if !b.any() {
		return Effect{}, false
	}
	e := Effect{
		Outcome: b.outcome(MayBreak), Part: set.PartCapabilities, Element: name,
		What: "was seen to ask for " + strings.ToUpper(name),
		Why:  sentences("the alert alone does not say that anything failed: ordinary programs ask for capabilities that they do without", b.reason),
	}
	if ofRuntime(cmp.Or(s.alert.Process, s.alert.Parent)) {
		e.What = "kubectl exec or an exec probe is in use there"
		e.Why = sentences("the runtime's own process asked for "+strings.ToUpper(name), b.reason)
	} else if s.alert.Process != "" {
		e.Why = sentences("by "+shorten(s.alert.Process), e.Why)
	}
	return e.in(c), true
}
