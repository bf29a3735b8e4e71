package armor

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	kjson "sigs.k8s.io/json"
)

// The object as the API server serves it. Only what decides is read.
type (
	object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
		Spec spec `json:"spec"`
	}
	spec struct {
		Selector struct {
			MatchLabels      map[string]string `json:"matchLabels"`
			MatchExpressions []expression      `json:"matchExpressions"`
		} `json:"selector"`
		Process      fileRules  `json:"process"`
		File         fileRules  `json:"file"`
		Capabilities namedRules `json:"capabilities"`
		Network      struct {
			MatchProtocols  []any `json:"matchProtocols"`
			MatchDNSQueries []any `json:"matchDNSQueries"`
		} `json:"network"`
		Syscalls struct {
			MatchSyscalls []any `json:"matchSyscalls"`
			MatchPaths    []any `json:"matchPaths"`
		} `json:"syscalls"`
		Presets  []any    `json:"presets"`
		AppArmor string   `json:"apparmor"`
		Severity int      `json:"severity"`
		Tags     []string `json:"tags"`
		Message  string   `json:"message"`
		Action   string   `json:"action"`
	}
	expression struct {
		Key      string   `json:"key"`
		Operator string   `json:"operator"`
		Values   []string `json:"values"`
	}
	fileRules struct {
		MatchPaths       []fileRule `json:"matchPaths"`
		MatchDirectories []fileRule `json:"matchDirectories"`
		MatchPatterns    []fileRule `json:"matchPatterns"`
		Action           string     `json:"action"`
	}
	namedRules struct {
		MatchCapabilities []capabilityRule `json:"matchCapabilities"`
		Action            string           `json:"action"`
	}
	fileRule struct {
		Path        string   `json:"path"`
		Directory   string   `json:"dir"`
		Pattern     string   `json:"pattern"`
		ExecName    string   `json:"execname"`
		Recursive   bool     `json:"recursive"`
		OwnerOnly   bool     `json:"ownerOnly"`
		ReadOnly    bool     `json:"readOnly"`
		AllowedArgs []string `json:"allowedArgs"`
		Pts         *bool    `json:"pts"`
		FromSource  []source `json:"fromSource"`
		Action      string   `json:"action"`
	}
	capabilityRule struct {
		Capability string   `json:"capability"`
		FromSource []source `json:"fromSource"`
		Action     string   `json:"action"`
	}
	source struct {
		Path string `json:"path"`
	}
)

// group is the API group of the policies.
const group = "security.kubearmor.com/"

// containerName is the matchLabel that names containers instead of pods.
const containerName = "kubearmor.io/container.name"

// Decode reads a policy from its JSON. What is no policy of that kind is an error;
// a rule that KubeArmor makes nothing of is kept under Problems, and the rest holds.
func Decode(kind Kind, data []byte) (*Policy, error) {
	if kind != KubeArmorPolicy && kind != KubeArmorClusterPolicy {
		return nil, fmt.Errorf("%s: not a kind of policy that is read", kind)
	}
	var o object
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &o); err != nil {
		name := Ref{Kind: kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name}
		return nil, fmt.Errorf("%s: %w", strings.TrimSpace(name.String()), err)
	}
	if o.Kind != "" && o.Kind != string(kind) {
		return nil, fmt.Errorf("%s: the object is a %s", kind, o.Kind)
	}
	if o.APIVersion != "" && !strings.HasPrefix(o.APIVersion, group) {
		return nil, fmt.Errorf("%s: %s is not KubeArmor's API group", kind, o.APIVersion)
	}
	if o.Metadata.Name == "" {
		return nil, fmt.Errorf("%s: %w", kind, errors.New("no name"))
	}
	p := &Policy{
		Ref:      Ref{Kind: kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name},
		Severity: o.Spec.Severity, Tags: o.Spec.Tags, Message: o.Spec.Message,
	}
	if kind == KubeArmorClusterPolicy {
		p.Namespace = ""
	} else if p.Namespace == "" {
		// Where nobody says so, kubectl and the API server put it there.
		p.Namespace = "default"
	}
	p.read(&o.Spec)
	return p, nil
}

func (p *Policy) problem(place, format string, args ...any) {
	p.Problems = append(p.Problems, place+": "+fmt.Sprintf(format, args...))
}

func (p *Policy) read(s *spec) {
	p.Action = p.policyAction(s.Action)
	if p.Kind == KubeArmorClusterPolicy {
		p.readClusterSelector(s.Selector.MatchExpressions)
		if len(s.Selector.MatchLabels) > 0 {
			p.problem("spec.selector.matchLabels", "a cluster policy has none, so it is not limited by them")
		}
	} else {
		p.readLabels(s.Selector.MatchLabels)
		p.readExpressions(s.Selector.MatchExpressions)
	}
	p.readFiles("spec.process", &p.process, &s.Process)
	p.readFiles("spec.file", &p.file, &s.File)
	p.readCapabilities(&s.Capabilities)
	p.others = len(s.Network.MatchProtocols) + len(s.Network.MatchDNSQueries) +
		len(s.Syscalls.MatchSyscalls) + len(s.Syscalls.MatchPaths) + len(s.Presets)
	if s.AppArmor != "" {
		p.others++
	}
}

// policyAction is the policy's own action. Only here does KubeArmor take lower
// case, and Block for none.
func (p *Policy) policyAction(action string) Action {
	switch action {
	case "":
		return Block
	case "allow":
		return Allow
	case "audit":
		return Audit
	case "block":
		return Block
	}
	return p.action("spec.action", action)
}

// action is what a section or rule says. Other words do nothing.
func (p *Policy) action(place, action string) Action {
	a := Action(action)
	switch a {
	case Allow, Audit, Block, "":
	default:
		p.problem(place, "%q is no action: Allow, Audit and Block are", action)
	}
	return a
}

// inherit takes the rule's action, else the section's, else the policy's.
func (p *Policy) inherit(place, rule string, section Action) Action {
	if rule != "" {
		return p.action(place+".action", rule)
	}
	if section != "" {
		return section
	}
	return p.Action
}

func (p *Policy) readLabels(labels map[string]string) {
	for key, value := range labels {
		switch {
		case key == containerName:
			p.readContainers(value)
		case strings.Contains(key, "kubernetes.io/hostname"), strings.Contains(key, "kubearmor.io/hostname"):
			pattern, err := regexp.CompilePOSIX(key + "=" + value)
			if err != nil {
				p.problem("spec.selector.matchLabels."+key, "not a pattern: %v", err)
			}
			p.Selector.hosts = append(p.Selector.hosts, hostLabel{key, pattern})
		default:
			if p.Selector.Labels == nil {
				p.Selector.Labels = map[string]string{}
			}
			p.Selector.Labels[key] = value
		}
	}
}

// readContainers reads a list like "[web,sidecar]".
func (p *Policy) readContainers(list string) {
	if len(list) <= 2 {
		return
	}
	for name := range strings.SplitSeq(list[1:len(list)-1], ",") {
		if name != "" {
			p.Selector.Containers = append(p.Selector.Containers, strings.TrimSpace(name))
		}
	}
}

// readExpressions reads the expressions about labels. A NotIn that follows an In
// is dropped, as KubeArmor drops it.
func (p *Policy) readExpressions(expressions []expression) {
	s := &p.Selector
	for i, e := range expressions {
		switch {
		case e.Key == "namespace" && p.Kind == KubeArmorClusterPolicy:
		case e.Key == "label" && e.Operator == "In":
			s.AnyOf = append(s.AnyOf, e.Values...)
		case e.Key == "label" && e.Operator == "NotIn":
			if len(s.AnyOf) == 0 {
				s.NoneOf = append(s.NoneOf, e.Values...)
			}
		default:
			p.problem(fmt.Sprintf("spec.selector.matchExpressions[%d]", i),
				"key %q with operator %q is not looked at", e.Key, e.Operator)
		}
	}
}

func (p *Policy) readClusterSelector(expressions []expression) {
	s := &p.Selector
	p.readExpressions(expressions)
	for i, e := range expressions {
		switch {
		case e.Key != "namespace":
		case e.Operator == "In":
			// In with no value names no namespace, which is not all of them.
			s.Namespaces = append(s.Namespaces, e.Values...)
			if s.Namespaces == nil {
				s.Namespaces = []string{}
			}
		case e.Operator == "NotIn":
			s.NotNamespaces = append(s.NotNamespaces, e.Values...)
		default:
			p.problem(fmt.Sprintf("spec.selector.matchExpressions[%d]", i), "operator %q is not looked at", e.Operator)
		}
	}
	if s.Namespaces != nil {
		// KubeArmor looks at what is excluded only where nothing is included.
		s.NotNamespaces = nil
	}
}
