package scan

import "cmp"

// ResolvedKind says what is taken back.
type ResolvedKind string

// What a watch takes back.
const (
	ResolvedFinding  ResolvedKind = "finding"
	ResolvedWorkload ResolvedKind = "workload"
	ResolvedNode     ResolvedKind = "node"
	ResolvedPolicy   ResolvedKind = "policy"
	ResolvedFailure  ResolvedKind = "failure"
)

// Resolved takes back something that was told before and is no more. It is only sent
// for what was seen to be gone, never because it could not be read.
type Resolved struct {
	What ResolvedKind `json:"what"`
	// Reason is why, in one sentence.
	Reason string `json:"reason"`
	// Workload and Claims are those of the finding, or the workload that is gone with
	// its verdict and all its findings.
	Workload *Workload `json:"workload,omitempty"`
	Claims   string    `json:"claims,omitempty"`
	// Was is the last verdict of the workload.
	Was Verdict `json:"was,omitempty"`
	// Finding tells which of the workload's findings is gone.
	Finding *FindingRef `json:"finding,omitempty"`
	// Node is the node's name.
	Node string `json:"node,omitempty"`
	// Policy is the policy that is gone.
	Policy *PolicyRef `json:"policy,omitempty"`
	// Failure is what can be read now.
	Failure *FailureRef `json:"failure,omitempty"`
}

// FindingRef names a finding of a workload.
type FindingRef struct {
	Fingerprint string   `json:"fingerprint"`
	Rule        string   `json:"rule"`
	Title       string   `json:"title"`
	Severity    Severity `json:"severity"`
	Container   string   `json:"container,omitempty"`
	Field       string   `json:"field"`
	Item        string   `json:"item,omitempty"`
}

// Ref is the finding's name.
func (f *Finding) Ref() FindingRef {
	return FindingRef{
		Fingerprint: f.Fingerprint(), Rule: f.Rule, Title: f.Title, Severity: f.Severity,
		Container: f.Container, Field: f.Field, Item: f.Item,
	}
}

// PolicyRef names a policy.
type PolicyRef struct {
	// Cluster is set in a fleet only, which takes nothing back.
	Cluster   string `json:"-"`
	Layer     Layer  `json:"layer"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Ref is the policy's name.
func (p *Policy) Ref() PolicyRef { return PolicyRef{p.Cluster, p.Layer, p.Kind, p.Namespace, p.Name} }

// Compare orders names of policies by cluster, layer, kind, namespace and name.
func (a PolicyRef) Compare(b PolicyRef) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// FailureRef names what could not be read.
type FailureRef struct {
	Cluster   string `json:"-"`
	Subject   string `json:"subject"`
	Namespace string `json:"namespace,omitempty"`
	Message   string `json:"message"`
}

// Ref is the failure's name.
func (f *Failure) Ref() FailureRef { return FailureRef{f.Cluster, f.Subject, f.Namespace, f.Message} }

// Compare orders names of failures by cluster, subject, namespace and message.
func (a FailureRef) Compare(b FailureRef) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Message, b.Message))
}

// NodeRef names a node.
type NodeRef struct{ Cluster, Name string }

// Ref is the node's name.
func (n *Node) Ref() NodeRef { return NodeRef{n.Cluster, n.Name} }

// Compare orders names of nodes by cluster and name.
func (a NodeRef) Compare(b NodeRef) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Name, b.Name))
}

// RowRef names a row of the result: a workload, or those of its pods that differ from
// the rest. Findings about other things (policies, nodes, namespaces) have such a name
// too, and no verdict.
type RowRef struct {
	Workload Workload
	Claims   string
}
