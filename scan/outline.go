package scan

import (
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Outline is what the end of a scan tells of all that stands around the pods. It is the
// same for every part of the cluster.
type Outline struct {
	Nodes []Node `json:"nodes,omitempty"`
	// Runtime are KubeArmor's policies, Admission those of admission.
	Runtime   []RuntimeOutline   `json:"runtime,omitempty"`
	Admission []AdmissionOutline `json:"admission,omitempty"`
	// Findings are what is wrong with nodes, namespaces and policies whatever the pods
	// are.
	Findings []Finding `json:"findings,omitempty"`
}

// RuntimeOutline is what is told of one of KubeArmor's policies.
type RuntimeOutline struct {
	Policy armor.Ref `json:"policy"`
	Action string    `json:"action,omitempty"`
	// Containers are those that it is limited to, by name.
	Containers []string `json:"containers,omitempty"`
	// Faults are what is wrong with its text, Inert whether nothing of it has an effect.
	Faults []string `json:"faults,omitempty"`
	Inert  bool     `json:"inert,omitempty"`
}

// AdmissionOutline is what is told of a policy of admission, whatever its kind.
type AdmissionOutline struct {
	Policy admission.Ref         `json:"policy"`
	Action string                `json:"action,omitempty"`
	Faults []admission.Toothless `json:"faults,omitempty"`
	// Doubt says why it may not be asked, whatever the pods are.
	Doubt string `json:"doubt,omitempty"`
}

// outline is what is told of the surroundings.
func (s *surroundings) outline(cluster string, rules *ruleIndex, scope policyScope) *Outline {
	o := &Outline{Admission: s.admissionPolicies(), Findings: s.staticFindings(cluster, rules, scope.covers)}
	for _, p := range s.armor.Policies() {
		outlined := RuntimeOutline{Policy: p.Ref, Action: actionsOf(p), Containers: p.Selector.Containers, Inert: p.Inert()}
		for _, f := range p.Faults() {
			outlined.Faults = append(outlined.Faults, f.Reason)
		}
		o.Runtime = append(o.Runtime, outlined)
	}
	return o
}

// Add takes in another piece of the outline.
func (o *Outline) Add(more *Outline) {
	o.Nodes = append(o.Nodes, more.Nodes...)
	o.Runtime = append(o.Runtime, more.Runtime...)
	o.Admission = append(o.Admission, more.Admission...)
	o.Findings = append(o.Findings, more.Findings...)
}

// pieces are at least one, none of them too long for a line.
func (o *Outline) pieces() []*Outline {
	const most = 200
	var pieces []*Outline
	rest := *o
	for len(pieces) == 0 || len(rest.Nodes)+len(rest.Runtime)+len(rest.Admission)+len(rest.Findings) > 0 {
		p := &Outline{}
		p.Nodes, rest.Nodes = cutList(rest.Nodes, most)
		p.Runtime, rest.Runtime = cutList(rest.Runtime, most)
		p.Admission, rest.Admission = cutList(rest.Admission, most)
		p.Findings, rest.Findings = cutList(rest.Findings, most)
		pieces = append(pieces, p)
	}
	return pieces
}

// cutList takes a list apart behind at most so many.
func cutList[T any](list []T, most int) (head, rest []T) {
	n := min(most, len(list))
	return list[:n:n], list[n:]
}

// crowded are the nodes on which more containers run than are enforced, in order.
func (s *surroundings) crowded() []string {
	var names []string
	for _, n := range s.sortedNodes() {
		if n.crowded() {
			names = append(names, n.name)
		}
	}
	return names
}

// events are the findings about policies and nodes themselves, and the policies with
// what they do.
func (o *Outline) events(cluster string, rules *ruleIndex, tally *policyTally, scope policyScope, crowded []string, halves []Halves) ([]Finding, []Policy) {
	policies := tally.events(o, scope)
	findings := o.Findings
	for _, p := range policies {
		if p.Layer == LayerRuntime && p.Workloads == 0 && p.Bites == BitesNo && scope.whole(p.Namespace) {
			f := rules.finding(policyRule(armor.CauseSelectsNothing), Workload{Cluster: cluster, Namespace: p.Namespace, Kind: p.Kind, Name: p.Name}, "spec.selector")
			f.Message, f.Mend = "no pod has what the selector asks for", "correct the selector, or delete the policy"
			findings = append(findings, f)
		}
	}
	if len(o.Runtime) > 0 {
		for _, node := range crowded {
			findings = append(findings, crowding(rules, cluster, node))
		}
	}
	for i := range halves {
		if f, ok := halves[i].finding(cluster, rules); ok {
			findings = append(findings, f)
		}
	}
	return findings, policies
}
