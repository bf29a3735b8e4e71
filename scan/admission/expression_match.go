package admission

import (
	"fmt"
	"maps"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// matcher tells whether a policy or a binding speaks of the creation of a pod. What
// a pod is equivalent to under matchPolicy, only itself is: matchPolicy makes no
// difference.
type matcher struct {
	namespaces, objects labels.Selector
	// err is why a selector cannot be read. The API server finds it out when a request
	// matches otherwise.
	err                error
	included, excluded podRules
}

// podRules is what resource rules say of the creation of pods.
type podRules struct {
	all   bool
	names []string
}

func (r podRules) match(name string) bool { return r.all || slices.Contains(r.names, name) }

func newMatcher(m *admissionregistrationv1.MatchResources) matcher {
	if m == nil {
		return matcher{namespaces: labels.Everything(), objects: labels.Everything(), included: podRules{all: true}}
	}
	out := matcher{included: readRules(m.ResourceRules), excluded: readRules(m.ExcludeResourceRules)}
	out.included.all = out.included.all || len(m.ResourceRules) == 0
	var err error
	if out.namespaces, err = selector(m.NamespaceSelector); err != nil {
		out.err = fmt.Errorf("namespaceSelector: %w", err)
	}
	if out.objects, err = selector(m.ObjectSelector); err != nil && out.err == nil {
		out.err = fmt.Errorf("objectSelector: %w", err)
	}
	return out
}

// selector reads a selector. One that is not written selects everything: the API
// server's default, and Kyverno's.
func selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(s)
}

func readRules(rules []admissionregistrationv1.NamedRuleWithOperations) podRules {
	var out podRules
	for _, rule := range rules {
		if !coversPods(rule.RuleWithOperations) {
			continue
		}
		out.all = out.all || len(rule.ResourceNames) == 0
		out.names = append(out.names, rule.ResourceNames...)
	}
	return out
}

// coversPods tells whether a rule matches the creation of pods.
func coversPods(rule admissionregistrationv1.RuleWithOperations) bool {
	return coversCreation(rule, "", "v1", "pods")
}

// coversCreation tells whether a rule matches the creation of a namespaced resource.
func coversCreation(rule admissionregistrationv1.RuleWithOperations, group, version, resource string) bool {
	has := func(list []string, wanted ...string) bool {
		return slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(list, w) })
	}
	scoped := rule.Scope == nil || *rule.Scope == admissionregistrationv1.AllScopes || *rule.Scope == admissionregistrationv1.NamespacedScope
	operation := slices.Contains(rule.Operations, admissionregistrationv1.OperationAll) || slices.Contains(rule.Operations, admissionregistrationv1.Create)
	return scoped && operation &&
		has(rule.APIGroups, "*", group) && has(rule.APIVersions, "*", version) &&
		has(rule.Resources, "*", "*/*", resource, resource+"/*", "*/", resource+"/")
}

// matched is what a matcher says.
type matched struct {
	yes bool
	// unsure is why it depends on the namespace's labels, which are not known.
	unsure string
	err    error
}

func (m matcher) match(s Subject) matched {
	var unsure string
	if m.namespaces != nil {
		var no bool
		if no, unsure = excludesNamespace(m.namespaces, s); no {
			return matched{}
		}
	}
	if m.objects != nil && !m.objects.Matches(labels.Set(s.Pod.Labels)) {
		return matched{}
	}
	if m.excluded.match(s.Pod.Name) || !m.included.match(s.Pod.Name) {
		return matched{}
	}
	return matched{yes: true, unsure: unsure, err: m.err}
}

// excludesNamespace tells whether a selector does not select the pod's namespace, or
// why that is not known.
func excludesNamespace(selector labels.Selector, s Subject) (no bool, unsure string) {
	known := labels.Set{corev1.LabelMetadataName: s.Pod.Namespace}
	if s.Namespace != nil {
		maps.Copy(known, s.Namespace.Labels)
		return !selector.Matches(known), ""
	}
	requirements, selectable := selector.Requirements()
	if !selectable {
		return true, ""
	}
	for _, requirement := range requirements {
		// A namespace's name is a label of its own, known without reading it.
		switch {
		case requirement.Key() != corev1.LabelMetadataName:
			unsure = fmt.Sprintf("it selects namespaces by label %s, and the namespace was not read: %s", requirement.Key(), s.NamespaceUnknown)
		case !requirement.Matches(known):
			return true, ""
		}
	}
	return false, unsure
}

// reads is what of a pod's identity decides on a match.
func (m matcher) reads() Keys {
	keys := Keys{Names: len(m.included.names)+len(m.excluded.names) > 0}
	if m.objects == nil {
		return keys
	}
	requirements, _ := m.objects.Requirements()
	for _, requirement := range requirements {
		keys.Labels = append(keys.Labels, requirement.Key())
	}
	return keys.sorted()
}
