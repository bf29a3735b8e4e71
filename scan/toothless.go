package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// ruleIndex finds the records of the rules about policies, and knows what is told of
// a policy once and not again for each workload.
type ruleIndex struct {
	records map[string]Rule
	told    map[toldFault]bool
}

// toldFault is a fault in a policy's own text.
type toldFault struct {
	policy string
	cause  admission.Cause
}

func newRuleIndex(policies []AdmissionOutline) *ruleIndex {
	x := &ruleIndex{records: map[string]Rule{}, told: map[toldFault]bool{}}
	for _, r := range policyRules() {
		x.records[r.ID] = r
	}
	for i := range policies {
		p := &policies[i]
		for _, t := range p.Faults {
			x.told[toldFault{p.Policy.String(), t.Cause}] = true
		}
	}
	return x
}

// tells reports whether a cause that a ruling names is told elsewhere: of a namespace's
// labels, of a policy's own text, or because a policy that refuses nothing at all
// excludes nobody.
func (x *ruleIndex) tells(by admission.Ref, cause admission.Cause) bool {
	if by.Mechanism == admission.PodSecurity {
		return true
	}
	by.Rule = ""
	name := by.String()
	return x.told[toldFault{name, cause}] || cause == admission.CauseExcluded && x.told[toldFault{name, admission.CauseKyvernoAudit}]
}

// finding is one of the rule, on the workload.
func (x *ruleIndex) finding(id string, w Workload, field string) Finding {
	r := x.records[id]
	return Finding{
		Rule: id, Category: r.Category, Title: r.Title, Severity: r.Severity, Workload: w, Field: field, Now: jsonText(nil),
	}
}

// toothless are the findings about policies that select these pods and do not bite:
// one for each cause and container, whatever the number of policies.
func (r *rows) toothless(rules *ruleIndex) []Finding {
	var found []Finding
	at := func(id, container, field string, cause string) *Finding {
		for i := range found {
			if found[i].Rule == id && found[i].Container == container {
				return &found[i]
			}
		}
		f := rules.finding(id, r.workload, field)
		f.Container, f.Claims, f.Pods, f.Message = container, r.claims, r.pods, cause
		found = append(found, f)
		return &found[len(found)-1]
	}
	for _, t := range r.layers.Runtime.Toothless {
		if t.Cause == armor.CauseCapabilityAudit || t.Cause == armor.CauseEmpty {
			// These are the policy's own fault, told once.
			continue
		}
		f := at(policyRule(t.Cause), t.Container, causeField(t.Cause, t.Container), t.Reason)
		f.addPolicy(t.Policy.String())
		f.Mend = cmp.Or(f.Mend, t.Mend)
		f.ContainerKind = causeKind(t.Cause)
		if !t.Certain || f.ContainerKind != "" && !r.leadsOut(t.Container) {
			f.Severity = SeverityLow
		}
	}
	for _, ruling := range r.layers.Admission.Rulings {
		t := ruling.Toothless
		if t == nil || rules.tells(ruling.By, t.Cause) {
			continue
		}
		f := at(policyRule(t.Cause), "", "spec", t.Reason)
		by := ruling.By
		by.Rule = ""
		f.addPolicy(by.String())
		f.Mend = cmp.Or(f.Mend, t.Mend)
	}
	return found
}

// leadsOut reports whether an escape path is open in a container: where none is, there
// is little that a policy would have to stop.
func (r *rows) leadsOut(container string) bool {
	return slices.ContainsFunc(r.layers.Paths, func(p PathLayers) bool { return p.Container == container || p.Container == "" })
}

func (f *Finding) addPolicy(name string) {
	if !slices.Contains(f.Policies, name) {
		f.Policies = append(f.Policies, name)
	}
}

// causeField is the field of the pod that a cause hangs on.
func causeField(c armor.Cause, container string) string {
	switch c {
	case armor.CauseHostPID:
		return "spec.hostPID"
	case armor.CausePodAudited, armor.CausePodDisabled:
		return "metadata.annotations[kubearmor-policy]"
	case armor.CauseUntracked:
		return "metadata.namespace"
	case armor.CauseNoAgent, armor.CauseEnforcer, armor.CauseNoEnforcer, armor.CauseTooManyContainers:
		return "spec.nodeName"
	case armor.CauseInitContainer, armor.CauseSidecar:
		return "spec.initContainers[" + container + "]"
	case armor.CauseEphemeral:
		return "spec.ephemeralContainers[" + container + "]"
	case armor.CauseSymlink, armor.CauseBusyBox:
		return "spec.containers[" + container + "].image"
	default:
		return "metadata.labels"
	}
}

func causeKind(c armor.Cause) ContainerKind {
	switch c {
	case armor.CauseInitContainer:
		return KindInit
	case armor.CauseSidecar:
		return KindSidecar
	case armor.CauseEphemeral:
		return KindEphemeral
	default:
		return ""
	}
}

// staticFindings are what is wrong with policies, namespaces and nodes whatever the
// pods are.
func (s *surroundings) staticFindings(cluster string, rules *ruleIndex, inScope func(namespace string) bool) []Finding {
	var found []Finding
	add := func(id string, w Workload, field, reason, mend, policy string) *Finding {
		w.Cluster = cluster
		f := rules.finding(id, w, field)
		f.Message, f.Mend = reason, mend
		if policy != "" {
			f.Policies = []string{policy}
		}
		found = append(found, f)
		return &found[len(found)-1]
	}
	for _, p := range s.armor.Policies() {
		if !inScope(p.Namespace) {
			continue
		}
		for _, t := range p.Faults() {
			add(policyRule(t.Cause), Workload{Namespace: p.Namespace, Kind: string(p.Kind), Name: p.Name}, "spec", t.Reason, t.Mend, p.Ref.String())
		}
	}
	for _, p := range s.admissionPolicies() {
		if !inScope(p.Policy.Namespace) {
			continue
		}
		for _, t := range p.Faults {
			add(policyRule(t.Cause), Workload{Namespace: p.Policy.Namespace, Kind: p.Policy.Kind, Name: p.Policy.Name}, "spec", t.Reason, t.Mend, p.Policy.String())
		}
	}
	for name, ns := range s.namespaces {
		if !inScope(name) {
			continue
		}
		for _, t := range admission.NamespaceFaults(ns, s.admission.Server) {
			add(policyRule(t.Cause), Workload{Namespace: name, Kind: "Namespace", Name: name}, "metadata.labels", t.Reason, t.Mend, "")
		}
	}
	for _, n := range s.sortedNodes() {
		if f, ok := n.finding(rules); ok {
			f.Workload.Cluster = cluster
			found = append(found, f)
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Workload.String(), b.Workload.String()), compareFindings(a, b))
	})
	return joinFindings(found)
}

// joinFindings makes one of those that follow each other and are the same by their
// fingerprints: one place has one finding of a rule, with all that is to be said.
func joinFindings(found []Finding) []Finding {
	joined := found[:0]
	for _, f := range found {
		if n := len(joined); n > 0 && joined[n-1].Fingerprint() == f.Fingerprint() {
			last := &joined[n-1]
			last.Message = joinTexts(last.Message, f.Message)
			last.Mend = joinTexts(last.Mend, f.Mend)
			for _, p := range f.Policies {
				last.addPolicy(p)
			}
			continue
		}
		joined = append(joined, f)
	}
	return joined
}

func joinTexts(a, b string) string {
	if a == "" || b == "" || strings.Contains(a, b) {
		return cmp.Or(a, b)
	}
	return a + "; " + b
}

// finding says of a node that BPF-LSM is off, or may be, and how to switch it on.
func (n *nodeState) finding(rules *ruleIndex) (Finding, bool) {
	e := &n.enforcement
	if e.TurnOn == nil {
		return Finding{}, false
	}
	f := rules.finding(ruleNoBPFLSM, Workload{Kind: "Node", Name: n.name}, "status.nodeInfo")
	f.Message, f.Mend = e.Reason, e.TurnOn.System+": "+strings.Join(e.TurnOn.Steps, "; ")+" ("+e.TurnOn.Source+")"
	if e.Capabilities == kernel.Unknown || e.Grade == kernel.Hinted {
		f.Severity = SeverityLow
		f.Message = "BPF-LSM may not be in use: " + e.Reason
	}
	return f, true
}

// crowding is the finding that a node runs more containers than are enforced.
func crowding(rules *ruleIndex, cluster, node string) Finding {
	f := rules.finding(policyRule(armor.CauseTooManyContainers), Workload{Cluster: cluster, Kind: "Node", Name: node}, "status")
	f.Message = fmt.Sprintf("more than %d containers run on the node; policies of KubeArmor are enforced for that many, and nothing says for which", armor.MaxContainersPerNode)
	f.Mend = fmt.Sprintf("set the kubelet's maxPods so that no more than %d containers run there", armor.MaxContainersPerNode)
	return f
}
