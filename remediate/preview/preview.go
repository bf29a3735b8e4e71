// Package preview says what a set would do to the workloads in its scope, from
// evidence: their specs, the layers as they are, alerts that were seen. It is pure.
package preview

import (
	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Outcome is what would happen to a workload, or to a part of it.
type Outcome string

// The outcomes, worst first. NotCovered: the set would not protect it (and so breaks
// nothing there).
const (
	Breaks     Outcome = "breaks"
	MayBreak   Outcome = "may break"
	NotCovered Outcome = "not covered"
	Safe       Outcome = "safe"
)

// PartRuntime stands for all of the set's runtime policies, where something holds for
// them alike.
const PartRuntime set.Part = "runtime"

// Outcomes lists the outcomes, worst first.
func Outcomes() []Outcome { return []Outcome{Breaks, MayBreak, NotCovered, Safe} }

// Input is everything that a preview follows from.
type Input struct {
	Set        *set.Set
	Workloads  []targets.Workload
	Namespaces map[string]*corev1.Namespace
	// Nodes are what the nodes enforce, by name; Containers counts what runs there.
	Nodes      map[string]kernel.Enforcement
	Containers map[string]int
	// Server is the API server's version of the Pod Security Standards, zero when it is
	// not known.
	Server psa.Version
	// Today is what rules on admission without the set. nil for what the labels of the
	// namespaces say alone.
	Today *admission.Set
	// InForce are KubeArmor's policies that are in force without the set, nil when they were
	// not read: what they refuse already the set does not break.
	InForce *armor.Index
	// Alerts are what KubeArmor reported, from a recording or a live window.
	Alerts []armor.Alert
	// Accepted are workloads whose breaking the user accepts, and Excepted those that
	// exceptions of the configuration name, with the reason.
	Accepted []scan.Workload
	Excepted func(scan.Workload) (reason string, ok bool)
	// Failures are what could not be read.
	Failures []scan.Failure
}

// Report is the preview.
type Report struct {
	// Workloads are sorted: the worst first, then by name.
	Workloads []Workload `json:"workloads"`
	// Counts counts workloads by outcome.
	Counts map[Outcome]int `json:"counts"`
	// Failures are what could not be read, so that the preview is not whole.
	Failures []scan.Failure `json:"failures,omitempty"`
}

// Workload is what would happen to one workload.
type Workload struct {
	Workload scan.Workload `json:"workload"`
	// Outcome is the worst of its effects.
	Outcome Outcome  `json:"outcome"`
	Effects []Effect `json:"effects,omitempty"`
	// Accepted says by what its breaking is accepted: "--accept", or an exception's reason.
	Accepted string `json:"accepted,omitempty"`
	Pods     int    `json:"pods,omitempty"`
}

// Effect is one thing that would happen.
type Effect struct {
	Outcome Outcome  `json:"outcome"`
	Part    set.Part `json:"part"`
	// Element is the element of the set ("sys_admin", "curl") or the control's ID.
	Element       string             `json:"element,omitempty"`
	Container     string             `json:"container,omitempty"`
	ContainerKind scan.ContainerKind `json:"containerKind,omitempty"`
	// Field is where in the pod it shows: "spec.containers[0].readinessProbe.exec".
	Field string `json:"field,omitempty"`
	// What says what happens, Why from what that follows.
	What string `json:"what"`
	Why  string `json:"why,omitempty"`
	// Mend says what would avoid it.
	Mend string `json:"mend,omitempty"`
	// Pods counts the live pods concerned.
	Pods int `json:"pods,omitempty"`
}

// Refused are the workloads that would break and whose breaking nobody accepted.
func (r *Report) Refused() []Workload {
	var out []Workload
	for _, w := range r.Workloads {
		if w.Outcome == Breaks && w.Accepted == "" {
			out = append(out, w)
		}
	}
	return out
}
