package set

import (
	"maps"
	"slices"
	"strings"

	armorv1 "github.com/kubearmor/KubeArmor/pkg/KubeArmorController/api/security.kubearmor.com/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// trait is what alerts of a part carry, so that they can be told apart.
type trait struct {
	severity armorv1.SeverityType
	message  string
	tags     []string
}

func traitOf(part Part) trait {
	switch part {
	case PartCapabilities:
		return trait{8, "Escape to host: a capability that leads out of the container was asked for",
			[]string{"escapeToHost", "MITRE_T1611_escape_to_host", "MITRE_T1547.006_kernel_modules", "MITRE_T1055.008_ptrace"}}
	case PartChroot:
		return trait{7, "Escape to host: chroot was run",
			[]string{"escapeToHost", "MITRE_T1611_escape_to_host"}}
	case PartTools, PartAdmission:
	}
	return trait{5, "Escape to host: a package manager, make, curl or wget was run",
		[]string{"escapeToHost", "MITRE_T1611_escape_to_host", "MITRE_T1072_software_deployment_tools", "MITRE_T1105_ingress_tool_transfer"}}
}

// cut is whom one policy is for and what it forbids there.
type cut struct {
	part     Part
	elements []armor.Element
	// namespace is empty for the whole cluster without its excludes.
	namespace string
	// labels are those that pods carry, all of them.
	labels map[string]string
	// suffix ends the name, why says whom it is for.
	suffix string
	why    []string
}

// policies renders one cut in its forms. A policy of the cluster has a name that none
// of a namespace has: KubeArmor keeps them in one list by name.
func (r *renderer) policy(c cut) (Object, error) {
	o, err := r.opts.forms(c.part, func(enforce bool) any {
		action := armorv1.ActionType(armor.Audit)
		if enforce {
			action = armorv1.ActionType(armor.Block)
		} else if c.part == PartCapabilities {
			return nil
		}
		if c.namespace == "" {
			return r.clusterPolicy(c, action)
		}
		return r.namespacePolicy(c, action)
	})
	o.Why = c.why
	return o, err
}

func (r *renderer) namespacePolicy(c cut, action armorv1.ActionType) *armorv1.KubeArmorPolicy {
	t := traitOf(c.part)
	return &armorv1.KubeArmorPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: armorv1.SchemeGroupVersion.String(), Kind: string(armor.KubeArmorPolicy)},
		ObjectMeta: r.opts.meta(c.namespace, r.opts.Name+"-"+string(c.part)+c.suffix),
		Spec: armorv1.KubeArmorPolicySpec{
			Selector:     armorv1.SelectorType{MatchLabels: maps.Clone(c.labels)},
			Process:      processes(c.elements),
			Capabilities: capabilities(c.elements),
			Severity:     t.severity, Message: t.message, Tags: t.tags, Action: action,
		},
	}
}

func (r *renderer) clusterPolicy(c cut, action armorv1.ActionType) *armorv1.KubeArmorClusterPolicy {
	t := traitOf(c.part)
	selector := armorv1.NsSelectorType{MatchExpressions: []armorv1.ClusterMatchExpressionsType{
		{Key: "namespace", Operator: "NotIn", Values: excluded(r.opts.Scope)},
	}}
	for _, key := range sortedKeys(c.labels) {
		selector.MatchExpressions = append(selector.MatchExpressions,
			armorv1.ClusterMatchExpressionsType{Key: "label", Operator: "In", Values: []string{key + "=" + c.labels[key]}})
	}
	return &armorv1.KubeArmorClusterPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: armorv1.SchemeGroupVersion.String(), Kind: string(armor.KubeArmorClusterPolicy)},
		ObjectMeta: r.opts.meta("", r.opts.Name+"-"+string(c.part)+"-cluster"+c.suffix),
		Spec: armorv1.KubeArmorClusterPolicySpec{
			Selector:     selector,
			Process:      processes(c.elements),
			Capabilities: capabilities(c.elements),
			Severity:     t.severity, Message: t.message, Tags: t.tags, Action: action,
		},
	}
}

func processes(elements []armor.Element) armorv1.ProcessType {
	var p armorv1.ProcessType
	seen := map[string]bool{}
	for _, e := range elements {
		for _, file := range e.Files() {
			if !seen[file] {
				seen[file] = true
				p.MatchPaths = append(p.MatchPaths, armorv1.ProcessPathType{Path: armorv1.MatchPathType(file)})
			}
		}
	}
	return p
}

func capabilities(elements []armor.Element) armorv1.CapabilitiesType {
	var c armorv1.CapabilitiesType
	for _, e := range elements {
		if e.Kind == armor.Capability {
			c.MatchCapabilities = append(c.MatchCapabilities,
				armorv1.MatchCapabilitiesType{Capability: armorv1.MatchCapabilitiesStringType(e.Name)})
		}
	}
	return c
}

// full are the policies of the intent to the letter: one a part and namespace, or one a
// part for the cluster.
func (r *renderer) full() ([]cut, error) {
	namespaces := r.opts.Scope.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	if len(r.opts.Scope.Namespaces) == 0 && len(r.opts.Scope.Labels) > 1 {
		known, err := r.namespaces("several labels: a KubeArmorClusterPolicy takes any one of them as enough, so a KubeArmorPolicy for each namespace it must be")
		if err != nil {
			return nil, err
		}
		namespaces = known
		r.note("A KubeArmorClusterPolicy cannot ask for all of several labels, so each namespace has policies of its own: namespaces to come need a new apply.")
	}
	var cuts []cut
	for _, part := range Parts() {
		if part == PartAdmission || !r.choice.has(part) {
			continue
		}
		for _, ns := range slices.Sorted(slices.Values(namespaces)) {
			cuts = append(cuts, cut{part: part, elements: r.choice.elements[part], namespace: ns, labels: r.opts.Scope.Labels})
		}
	}
	return cuts, nil
}

// runtimeNotes say what the chosen runtime parts do not do.
func (r *renderer) runtimeNotes() {
	r.note("KubeArmor does not cover init containers, sidecars and ephemeral containers, nor any container of a hostPID pod, nor the first program of a new container.")
	if r.choice.has(PartChroot) || r.choice.has(PartTools) {
		r.note("Rules on programs match the real path. In a BusyBox image whose applets are links (Alpine), %s cannot be blocked: they are all /bin/busybox, and a rule on that would block every tool and the shell. Images whose applets are hard links (busybox) and merged /usr folders are covered.",
			strings.Join(r.applets(), ", "))
	}
	if tools := r.choice.elements[PartTools]; holds(tools, "dnf") != holds(tools, "yum") {
		r.note("On Fedora and RHEL dnf and yum are one program: to forbid one of them forbids both there.")
	}
	if r.opts.Action == ActionAudit && r.asked(PartCapabilities) {
		r.note("KubeArmor reports nothing for capabilities under Audit, so action audit leaves them out: there is no dry run for them.")
	}
}

// applets are the chosen programs that BusyBox has built in.
func (r *renderer) applets() []string {
	var names []string
	for _, part := range []Part{PartChroot, PartTools} {
		for _, e := range r.choice.elements[part] {
			if e.Applet() {
				names = append(names, e.Name)
			}
		}
	}
	return names
}
