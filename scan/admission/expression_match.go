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

// matcher tells whether a policy or a binding speaks of the creation of a pod, or of
// the update that puts ephemeral containers into one. What a pod is equivalent to
// under matchPolicy, only itself is: matchPolicy makes no difference.
type matcher struct {
	namespaces, objects labels.Selector
	// err is why a selector cannot be read. The API server finds it out when a request
	// matches otherwise.
	err               error
	created, debugged requestRules
}

// requestRules is what resource rules say of one kind of request.
type requestRules struct{ included, excluded podRules }

func (r requestRules) any() bool { return r.included.all || len(r.included.names) > 0 }

func (r requestRules) named() bool { return len(r.included.names)+len(r.excluded.names) > 0 }

// podRules are the pods that rules speak of.
type podRules struct {
	all   bool
	names []string
}

func (r podRules) match(name string) bool { return r.all || slices.Contains(r.names, name) }

func newMatcher(m *admissionregistrationv1.MatchResources) matcher {
	if m == nil {
		all := requestRules{included: podRules{all: true}}
		return matcher{namespaces: labels.Everything(), objects: labels.Everything(), created: all, debugged: all}
	}
	out := matcher{created: readRequests(m, coversPods), debugged: readRequests(m, coversDebugging)}
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

func readRequests(m *admissionregistrationv1.MatchResources, covers func(admissionregistrationv1.RuleWithOperations) bool) requestRules {
	out := requestRules{readRules(m.ResourceRules, covers), readRules(m.ExcludeResourceRules, covers)}
	out.included.all = out.included.all || len(m.ResourceRules) == 0
	return out
}

func readRules(rules []admissionregistrationv1.NamedRuleWithOperations, covers func(admissionregistrationv1.RuleWithOperations) bool) podRules {
	var out podRules
	for _, rule := range rules {
		if !covers(rule.RuleWithOperations) {
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

// coversDebugging tells whether a rule matches the update by which ephemeral containers
// come. "pods" and "*" are without subresources.
func coversDebugging(rule admissionregistrationv1.RuleWithOperations) bool {
	return covers(rule, admissionregistrationv1.Update, "", "v1", "*/*", "pods/*", "*/ephemeralcontainers", "pods/ephemeralcontainers")
}

// coversCreation tells whether a rule matches the creation of a namespaced resource.
func coversCreation(rule admissionregistrationv1.RuleWithOperations, group, version, resource string) bool {
	return covers(rule, admissionregistrationv1.Create, group, version, "*", "*/*", resource, resource+"/*", "*/", resource+"/")
}

// covers tells whether a rule matches an operation on one of the resources.
func covers(rule admissionregistrationv1.RuleWithOperations, operation admissionregistrationv1.OperationType, group, version string, resources ...string) bool {
	has := func(list []string, wanted ...string) bool {
		return slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(list, w) })
	}
	scoped := rule.Scope == nil || *rule.Scope == admissionregistrationv1.AllScopes || *rule.Scope == admissionregistrationv1.NamespacedScope
	asked := slices.Contains(rule.Operations, admissionregistrationv1.OperationAll) || slices.Contains(rule.Operations, operation)
	return scoped && asked && has(rule.APIGroups, "*", group) && has(rule.APIVersions, "*", version) && has(rule.Resources, resources...)
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
	if asked := m.requests(s); asked.excluded.match(s.Pod.Name) || !asked.included.match(s.Pod.Name) {
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

// requests are the rules that decide about the subject.
func (m matcher) requests(s Subject) requestRules {
	if s.Debugged {
		return m.debugged
	}
	return m.created
}

// speaksOfPods tells whether anything that is asked about pods can match.
func (m matcher) speaksOfPods() bool { return m.created.any() || m.debugged.any() }

// reads is what of a pod's identity decides on a match.
func (m matcher) reads() Keys {
	keys := Keys{Names: m.created.named() || m.debugged.named()}
	if m.objects == nil {
		return keys
	}
	requirements, _ := m.objects.Requirements()
	for _, requirement := range requirements {
		keys.Labels = append(keys.Labels, requirement.Key())
	}
	return keys.sorted()
}
