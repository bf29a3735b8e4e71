package set

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// fit is what of the set protects something on one workload.
type fit struct {
	*targets.Workload
	needs map[Part][]armor.Element
}

// fits goes through the workloads in scope and notes what each could be spared.
func (r *renderer) fits() []fit {
	workloads := make([]*targets.Workload, 0, len(r.facts.Workloads))
	for i := range r.facts.Workloads {
		if w := &r.facts.Workloads[i]; r.opts.Scope.Covers(w.Namespace) {
			workloads = append(workloads, w)
		}
	}
	slices.SortFunc(workloads, func(a, b *targets.Workload) int { return a.Workload.Compare(b.Workload) })
	var fits []fit
	for _, w := range workloads {
		f := fit{w, map[Part][]armor.Element{}}
		var spared []Spared
		for _, part := range Parts() {
			for _, e := range r.choice.elements[part] {
				reason := needless(w, e)
				if reason == "" {
					f.needs[part] = append(f.needs[part], e)
					continue
				}
				spared = spare(spared, w.Workload, e, reason)
			}
		}
		fits = append(fits, f)
		r.spared = append(r.spared, spared...)
	}
	return fits
}

// spare adds an element to those that are spared for the same reason.
func spare(list []Spared, w scan.Workload, e armor.Element, reason string) []Spared {
	for i := range list {
		if list[i].Reason == reason {
			list[i].Elements = append(list[i].Elements, e)
			return list
		}
	}
	return append(list, Spared{Workload: w, Elements: []armor.Element{e}, Reason: reason})
}

// needless says why an element protects nothing on any pod of the workload, "" where it
// does or may. Only ordinary containers count, as KubeArmor covers no others.
func needless(w *targets.Workload, e armor.Element) string {
	if e.Kind == armor.Capability {
		return outOfReach(w, e.Name)
	}
	return absent(w, e)
}

// outOfReach says why no container of the workload can hold the capability.
func outOfReach(w *targets.Workload, capability string) string {
	var reasons []string
	namespaces := false
	for i := range w.Specimens {
		spec := &w.Specimens[i].Pod.Spec
		for k := range spec.Containers {
			c := &spec.Containers[k]
			can, why := scan.CanHold(spec, c.Name, capability)
			if can {
				return ""
			}
			if !slices.Contains(reasons, why) {
				reasons = append(reasons, why)
			}
			namespaces = namespaces || unconfined(spec, c)
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	reason := "no container can hold it: " + strings.Join(reasons, ", or ")
	if capability == "sys_admin" && namespaces {
		reason += "; without a seccomp profile a container may still hold it in a user namespace of its own, which seccompProfile RuntimeDefault prevents"
	}
	return reason
}

// unconfined tells whether the spec leaves a container without a seccomp profile, by
// which the runtimes keep it from making user namespaces.
func unconfined(spec *corev1.PodSpec, c *corev1.Container) bool {
	var profile *corev1.SeccompProfile
	if s := spec.SecurityContext; s != nil {
		profile = s.SeccompProfile
	}
	if s := c.SecurityContext; s != nil && s.SeccompProfile != nil {
		profile = s.SeccompProfile
	}
	return profile == nil || profile.Type == corev1.SeccompProfileTypeUnconfined
}

// absent says that a program is in no container: somebody looked for each of its files
// in each container of each pod, and found none.
func absent(w *targets.Workload, e armor.Element) string {
	looked := false
	for i := range w.Specimens {
		s := &w.Specimens[i]
		for k := range s.Pod.Spec.Containers {
			paths := s.Inspected[s.Pod.Spec.Containers[k].Name]
			for _, file := range e.Files() {
				if real, ok := paths[file]; !ok || real != "" {
					return ""
				}
			}
			looked = true
		}
	}
	if !looked {
		return ""
	}
	return "it is in none of the containers, which were looked into"
}
