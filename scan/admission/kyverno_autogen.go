package admission

import (
	"fmt"
	"slices"
	"strings"
)

// autogenAnnotation lists the controllers for which Kyverno writes rules.
const autogenAnnotation = "pod-policies.kyverno.io/autogen-controllers"

// podControllers are the kinds for which Kyverno writes rules of its own from those
// for pods.
func podControllers() []string {
	return []string{"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"}
}

// autogenFor are the controllers for which Kyverno derives rules from a policy's rules
// for pods, or why it does for none. One rule decides for all of a policy.
func autogenFor(spec *kyvernoSpec, annotations map[string]string) (controllers []string, off string) {
	needed := false
	for i := range spec.Rules {
		r := &spec.Rules[i]
		if why := r.autogenBar(); why != "" {
			return nil, fmt.Sprintf("rule %s %s", r.Name, why)
		}
		filters := r.Match.every()
		if r.Exclude != nil {
			filters = append(filters, r.Exclude.every()...)
		}
		for j := range filters {
			resources := &filters[j].Resources
			if why := resources.autogenBar(); why != "" {
				return nil, fmt.Sprintf("rule %s %s", r.Name, why)
			}
			needed = needed || slices.ContainsFunc(resources.Kinds, func(kind string) bool {
				return kind == "Pod" || slices.Contains(podControllers(), kind)
			})
		}
	}
	if !needed {
		return nil, `no rule writes the kind as plain "Pod"`
	}
	wanted, ok := annotations[autogenAnnotation]
	if !ok {
		return podControllers(), ""
	}
	for kind := range strings.SplitSeq(wanted, ",") {
		if slices.Contains(podControllers(), kind) {
			controllers = append(controllers, kind)
		}
	}
	if len(controllers) == 0 {
		off = fmt.Sprintf("the annotation %s is %q", autogenAnnotation, wanted)
	}
	return controllers, off
}

// autogenBar is what of a rule's actions keeps Kyverno from deriving rules.
func (r *kyvernoRule) autogenBar() string {
	if given(r.Generate) {
		return "generates objects"
	}
	if r.Mutate == nil {
		return ""
	}
	patches := func(m kyvernoMutate) bool { return m.PatchesJSON6902 != "" }
	if patches(*r.Mutate) || slices.ContainsFunc(r.Mutate.ForEach, patches) {
		return "mutates by JSON patches"
	}
	return ""
}

// autogenBar is what of a filter keeps Kyverno from deriving rules.
func (r *kyvernoResources) autogenBar() string {
	switch {
	case r.Name != "" || len(r.Names) > 0:
		return "matches by name"
	case r.Selector != nil:
		return "matches by a label selector"
	case r.Annotations != nil:
		return "matches by annotations"
	case len(r.Kinds) > 1 && containsKind(r.Kinds, "Pod"):
		return "names other kinds beside Pod"
	}
	return ""
}

// containsKind tells whether a list names a kind, with or without a version or a
// subresource.
func containsKind(kinds []string, kind string) bool {
	return slices.ContainsFunc(kinds, func(text string) bool {
		k := parseKind(text)
		return k.kind == kind
	})
}

// judgesController tells whether a controller of this kind is refused for the pods
// that it would make, by a rule that Kyverno derives from this one or by this one.
func (p *KyvernoRules) judgesController(r *kyvernoRule, kind string) bool {
	group := "apps"
	switch kind {
	case "CronJob", "Job":
		group = "batch"
	case "ReplicationController":
		group = ""
	}
	if namesKind(r.Match.kinds(), group, "v1", kind) {
		return true
	}
	derived := slices.Contains(p.autogen, kind) && !strings.HasPrefix(r.Name, "autogen-") && containsKind(r.Match.kinds(), "Pod")
	if !derived || r.Exclude == nil {
		return derived
	}
	excluded := r.Exclude.kinds()
	return len(excluded) == 0 || containsKind(excluded, "Pod")
}

// autogenFault is the fault that a rule refuses pods and lets the controllers pass
// that make them.
func (p *KyvernoRules) autogenFault(owner string) *Toothless {
	t := &Toothless{Cause: CauseKyvernoAutogen}
	why := p.autogenOff
	if why == "" {
		why = fmt.Sprintf("the annotation %s leaves it out", autogenAnnotation)
	}
	t.Reason = fmt.Sprintf("Kyverno derives no rule for a %s, as %s: the %s is admitted, and its pods are refused later, where nobody looks", owner, why, owner)
	t.Mend = `write the kind as plain "Pod" alone, select by namespaces or a namespaceSelector, and leave the annotation out`
	return t
}
