package set

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// ErrUnseen says that a precise fit would be wrong, as workloads could not be read.
var ErrUnseen = errors.New("not every workload is known")

// precise cuts each part by namespace and workload. What all workloads of a namespace
// need is one policy for the namespace; what some need beside it is selected by their
// labels.
func (r *renderer) precise(fits []fit) ([]cut, error) {
	if r.facts.Workloads == nil {
		return nil, errors.New("fit precise: it is cut by the workloads of a cluster, and they are not known")
	}
	if len(r.facts.Unseen) > 0 {
		f := &r.facts.Unseen[0]
		return nil, fmt.Errorf("fit precise: %w (%s: %s), and what is not known would be left without protection; fit full needs no workloads", ErrUnseen, f.Subject, f.Message)
	}
	byNamespace := map[string][]fit{}
	for _, f := range fits {
		byNamespace[f.Namespace] = append(byNamespace[f.Namespace], f)
	}
	r.note("A precise fit knows the workloads that are there now: what comes to a namespace gets what the whole namespace has, and the rest with the next apply.")
	for _, ns := range sorted(r.opts.Scope.Namespaces) {
		if len(byNamespace[ns]) == 0 {
			r.note("Namespace %s has no workloads in scope: a precise fit puts no runtime policy there.", ns)
		}
	}
	if len(r.opts.Scope.Namespaces) == 0 {
		r.note("A precise fit puts runtime policies where workloads are: namespaces without any in scope, and namespaces to come, have none before the next apply.")
	}
	var cuts []cut
	for _, part := range Parts() {
		if !r.choice.has(part) || part == PartAdmission {
			continue
		}
		for _, ns := range sortedKeys(byNamespace) {
			cuts = append(cuts, r.cutNamespace(part, ns, byNamespace[ns])...)
		}
	}
	return cuts, nil
}

// cutNamespace cuts one part for the workloads of a namespace.
func (r *renderer) cutNamespace(part Part, namespace string, fits []fit) []cut {
	whole, why := r.shared(part, fits)
	var cuts []cut
	carriers := carriersOf(fits)
	if len(whole) > 0 {
		cuts = append(cuts, cut{part: part, elements: whole, namespace: namespace, labels: r.opts.Scope.Labels, why: why})
	}
	for _, f := range fits {
		rest := minus(f.needs[part], whole)
		labels := r.selector(f)
		if len(rest) == 0 || labels == nil {
			continue
		}
		own := cut{
			part: part, elements: rest, namespace: namespace, labels: labels,
			suffix: "-" + digest(labels), why: []string{r.forWhom(f, rest)},
		}
		if others := carriers.others(labels, f, part, rest); len(others) > 0 {
			text := fmt.Sprintf("The labels of %s select pods of %s too, which get %s with it.", f, strings.Join(others, ", "), elementNames(rest))
			own.why = append(own.why, text)
			r.note("%s", text)
		}
		// Workloads with the same labels share a policy that has what any of them needs.
		if i := slices.IndexFunc(cuts, func(c cut) bool { return c.suffix == own.suffix }); i >= 0 {
			cuts[i].elements = inOrder(r.choice.elements[part], slices.Concat(cuts[i].elements, rest))
			cuts[i].why = append(cuts[i].why, own.why...)
			continue
		}
		cuts = append(cuts, own)
	}
	return cuts
}

// shared are the elements for a whole namespace: those that every workload needs, and
// all those of a workload that no labels tell from the others.
func (r *renderer) shared(part Part, fits []fit) (whole []armor.Element, why []string) {
	common := slices.Clone(fits[0].needs[part])
	for _, f := range fits[1:] {
		common = minus(common, minus(common, f.needs[part]))
	}
	if len(common) > 0 {
		why = append(why, fmt.Sprintf("%s: needed on every workload of the namespace", elementNames(common)))
	}
	whole = common
	for _, f := range fits {
		rest := minus(f.needs[part], whole)
		if len(rest) == 0 || r.selector(f) != nil {
			continue
		}
		whole = inOrder(r.choice.elements[part], slices.Concat(whole, rest))
		text := fmt.Sprintf("%s has no labels of its own, so %s holds for all of its namespace", f, elementNames(rest))
		why = append(why, text)
		r.note("%s.", text)
	}
	return whole, why
}

// selector are the labels by which a workload's pods are selected, with those of the
// scope; nil when they would select no fewer pods than the scope does.
func (r *renderer) selector(f fit) map[string]string {
	labels := map[string]string{}
	for key, value := range f.Selector {
		if unselectable(key) == "" && !passing(key) {
			labels[key] = value
		}
	}
	maps.Copy(labels, r.opts.Scope.Labels)
	if len(labels) == len(r.opts.Scope.Labels) {
		return nil
	}
	return labels
}

// passing tells whether a label's value goes with one pod or one run of a job.
func passing(key string) bool {
	switch key {
	case "controller-uid", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index",
		"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index":
		return true
	}
	return false
}

// carriers finds workloads by the labels of their pods, each with its value.
type carriers map[[2]string][]fit

func carriersOf(fits []fit) carriers {
	c := carriers{}
	for _, f := range fits {
		seen := map[[2]string]bool{}
		for i := range f.Specimens {
			for key, value := range f.Specimens[i].Pod.Labels {
				if label := [2]string{key, value}; !seen[label] {
					seen[label] = true
					c[label] = append(c[label], f)
				}
			}
		}
	}
	return c
}

// others names the workloads whose pods the labels select beside the one that they are
// of, and that would do without some of the elements.
func (c carriers) others(labels map[string]string, of fit, part Part, elements []armor.Element) []string {
	var fewest []fit
	for i, key := range sortedKeys(labels) {
		if having := c[[2]string{key, labels[key]}]; i == 0 || len(having) < len(fewest) {
			fewest = having
		}
	}
	var names []string
	for _, f := range fewest {
		if f.Workload == of.Workload || len(minus(elements, f.needs[part])) == 0 {
			continue
		}
		selected := func(s targets.Specimen) bool { return carries(s.Pod.Labels, labels) }
		if slices.ContainsFunc(f.Specimens, selected) {
			names = append(names, f.String())
		}
	}
	return names
}

func carries(have, want map[string]string) bool {
	for key, value := range want {
		if got, ok := have[key]; !ok || got != value {
			return false
		}
	}
	return true
}

func (r *renderer) forWhom(f fit, elements []armor.Element) string {
	return fmt.Sprintf("%s: needed on %s", elementNames(elements), f)
}

// String names the workload.
func (f fit) String() string { return f.Kind + " " + f.Namespace + "/" + f.Name }

func elementNames(elements []armor.Element) string {
	names := make([]string, len(elements))
	for i, e := range elements {
		names[i] = e.Name
	}
	return strings.Join(names, ", ")
}

func holds(elements []armor.Element, name string) bool {
	return slices.ContainsFunc(elements, func(e armor.Element) bool { return e.Name == name })
}

// minus are the elements of a that are not in b.
func minus(a, b []armor.Element) []armor.Element {
	return slices.DeleteFunc(slices.Clone(a), func(e armor.Element) bool { return holds(b, e.Name) })
}

// inOrder are those of all that are among some, in the order of all.
func inOrder(all, some []armor.Element) []armor.Element {
	return slices.DeleteFunc(slices.Clone(all), func(e armor.Element) bool { return !holds(some, e.Name) })
}

// digest is a short name for labels.
func digest(labels map[string]string) string {
	h := sha256.New()
	for _, key := range sortedKeys(labels) {
		// A hash takes everything.
		_, _ = fmt.Fprintf(h, "%s=%s\n", key, labels[key])
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}
