package armor

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Policy is one KubeArmor policy, read as KubeArmor's agent reads it: actions are
// inherited and selectors taken apart. Decode makes it.
type Policy struct {
	Ref
	// Action is the policy's own, Block where it says none. A section or a rule may
	// have another.
	Action   Action
	Severity int
	Tags     []string
	Message  string
	Selector Selector
	// Problems are the parts that KubeArmor's CRD refuses or its agent makes nothing
	// of, each with its place in the policy. They matter where a policy comes from a
	// file and no API server has looked at it.
	Problems []string

	process, file section
	capabilities  section
	// shadow is a namespaced policy with the name of this cluster policy.
	shadow *Ref
	// others counts the rules that do not speak of the set: network, system calls,
	// presets, AppArmor's own language.
	others int
}

// Selector says which pods a policy selects. All of its parts must agree.
type Selector struct {
	// Labels are matchLabels, all of which a pod must carry. Only a namespaced policy
	// has them: KubeArmor reads none from a cluster policy.
	Labels map[string]string
	// Containers limits the policy to containers of these names (the label
	// kubearmor.io/container.name, which is not looked for on the pod).
	Containers []string
	// AnyOf are "key=value" labels of which the pod must carry one, NoneOf those of
	// which it must carry none. As in KubeArmor, where NoneOf has an entry AnyOf does
	// not decide any more.
	AnyOf, NoneOf []string
	// Namespaces are those of a cluster policy, nil for all but NotNamespaces.
	Namespaces, NotNamespaces []string

	// hosts are matchLabels that KubeArmor takes as patterns.
	hosts []hostLabel
}

// hostLabel is a matchLabel whose text holds a host name's key: KubeArmor compares
// it as a POSIX expression, and takes it as met where the pod carries no such label.
type hostLabel struct {
	key     string
	pattern *regexp.Regexp
}

// Labels that KubeArmor drops from a pod before it looks at selectors.
func droppedLabel(key string) bool {
	return key == "pod-template-hash" || key == "pod-template-generation" || key == "controller-revision-hash"
}

// carries tells whether a pod has the identity "key=value". The namespace is an
// identity like a label.
func carries(namespace string, labels map[string]string, identity string) bool {
	key, value, _ := strings.Cut(identity, "=")
	if have, ok := labels[key]; ok && have == value && !droppedLabel(key) {
		return true
	}
	return key == "namespaceName" && value == namespace
}

// Selects tells whether the policy applies to pods with these labels in this
// namespace. An Index answers it for many policies at once.
func (p *Policy) Selects(namespace string, labels map[string]string) bool {
	s := &p.Selector
	if p.Kind == KubeArmorClusterPolicy {
		if s.Namespaces != nil && !slices.Contains(s.Namespaces, namespace) {
			return false
		}
		if slices.Contains(s.NotNamespaces, namespace) {
			return false
		}
	} else if p.Namespace != namespace {
		return false
	}
	for key, value := range s.Labels {
		if have, ok := labels[key]; !ok || have != value || droppedLabel(key) {
			return false
		}
	}
	for _, h := range s.hosts {
		if !h.met(labels) {
			return false
		}
	}
	return s.expressionsMet(namespace, labels)
}

func (s *Selector) expressionsMet(namespace string, labels map[string]string) bool {
	carried := func(identity string) bool { return carries(namespace, labels, identity) }
	if len(s.NoneOf) > 0 {
		return !slices.ContainsFunc(s.NoneOf, carried)
	}
	return len(s.AnyOf) == 0 || slices.ContainsFunc(s.AnyOf, carried)
}

func (h hostLabel) met(labels map[string]string) bool {
	value, ok := labels[h.key]
	if !ok {
		return true
	}
	return h.pattern != nil && h.pattern.MatchString(h.key+"="+value)
}

// keys are the label keys that decide whether the policy selects a pod.
func (s *Selector) keys() []string {
	keys := slices.Collect(maps.Keys(s.Labels))
	for _, h := range s.hosts {
		keys = append(keys, h.key)
	}
	for _, identity := range slices.Concat(s.AnyOf, s.NoneOf) {
		key, _, _ := strings.Cut(identity, "=")
		keys = append(keys, key)
	}
	return keys
}

// covers tells whether the policy speaks of the container of this name.
func (p *Policy) covers(container string) bool {
	return len(p.Selector.Containers) == 0 || slices.Contains(p.Selector.Containers, container)
}

// empty tells that nothing in the policy has an effect anywhere.
func (p *Policy) empty() bool {
	return p.others == 0 && p.process.rules == 0 && p.file.rules == 0 && p.capabilities.rules == 0
}

// Actions are what the policy's rules about processes and capabilities ask for,
// without repeats: a policy can mix them.
func (p *Policy) Actions() []Action {
	var actions []Action
	for _, a := range []Action{Block, Audit, Allow} {
		if p.process.has(a) || p.capabilities.has(a) {
			actions = append(actions, a)
		}
	}
	return actions
}
