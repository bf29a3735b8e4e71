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
	pod, container, ownerKind, ownerName, operation, what, parent string
	refused                                                       bool
}

// sightings are the alerts by namespace, those alike as one.
type sightings struct {
	namespaces map[string][]*sighting
}

// The operations that are read.
const (
	operationProcess    = "Process"
	operationCapability = "Capabilities"
)

func newSightings(alerts []armor.Alert) *sightings {
	s := &sightings{namespaces: map[string][]*sighting{}}
	known := map[string]map[sightingKey]*sighting{}
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
		key := sightingKey{a.Pod, a.Container, a.OwnerKind, a.OwnerName, a.Operation, what, a.Parent, refused}
		if known[a.Namespace] == nil {
			known[a.Namespace] = map[sightingKey]*sighting{}
		}
		had := known[a.Namespace][key]
		if had == nil {
			had = &sighting{alert: *a, first: a.Time, last: a.Time, refused: refused}
			known[a.Namespace][key] = had
			s.namespaces[a.Namespace] = append(s.namespaces[a.Namespace], had)
		}
		had.count++
		if a.Time.Before(had.first) {
			had.first = a.Time
		}
		if a.Time.After(had.last) {
			had.last = a.Time
		}
	}
	for _, all := range s.namespaces {
		// What is said of several must not hang on the order in which they came.
		slices.SortFunc(all, func(a, b *sighting) int {
			return cmp.Or(
				strings.Compare(a.alert.Pod, b.alert.Pod), strings.Compare(a.alert.Container, b.alert.Container),
				strings.Compare(a.alert.Operation, b.alert.Operation), strings.Compare(a.alert.Process, b.alert.Process),
				strings.Compare(a.alert.Resource, b.alert.Resource), strings.Compare(a.alert.Parent, b.alert.Parent),
				a.first.Compare(b.first),
			)
		})
	}
	return s
}

// isOf tells whether an alert is about a pod of the workload: by the owner that KubeArmor
// found, by the name of a pod that runs, or by labels where it found no owner.
func isOf(a *armor.Alert, w *targets.Workload) bool {
	if a.OwnerKind == w.Kind && a.OwnerName == w.Name {
		return true
	}
	for i := range w.Specimens {
		if name := w.Specimens[i].Pod.Name; name != "" && name == a.Pod {
			return true
		}
	}
	if len(w.Selector) == 0 || w.Kind == "Pod" || a.OwnerKind == w.Kind && a.OwnerName != "" {
		return false
	}
	for key, value := range w.Selector {
		if a.Labels[key] != value {
			return false
		}
	}
	return strings.HasPrefix(a.Pod, w.Name)
}

// alertsOf are the effects that follow from what was seen in a workload.
func (j *judge) alertsOf(w *targets.Workload) []Effect {
	all := map[effectKey]*evidence{}
	for _, s := range j.alerts.namespaces[w.Namespace] {
		if !isOf(&s.alert, w) {
			continue
		}
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
	element, ok := elementAt(s.alert.Process)
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
	if v == nil || !slices.ContainsFunc(armor.Elements(), func(e armor.Element) bool { return e.Kind == armor.Capability && e.Name == name }) {
		return Effect{}, false
	}
	b := v.runtime.element(c, name)
	if !b.any() {
		return Effect{}, false
	}
	e := Effect{
		Outcome: MayBreak, Part: set.PartCapabilities, Element: name,
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
