package scan

import (
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Layer is one of the three that can stand in the way.
type Layer string

// The layers.
const (
	LayerAdmission Layer = "admission"
	LayerRuntime   Layer = "runtime"
	LayerKernel    Layer = "kernel"
)

// Layers is what the layers say of one workload. Where its pods differ (by node,
// by label) it is the worst of them.
type Layers struct {
	// Admission is whether a pod like these would be admitted again.
	Admission admission.Decision `json:"admission"`
	// Reopen is whether admission refuses a pod of this workload into which an escape
	// path is put, for the paths that Pod Security baseline refuses; Reopens are the
	// paths that it would let in, or of which that is not known. Only workloads without
	// an open path are asked about.
	Reopen  admission.Answer `json:"reopen,omitempty"`
	Reopens []string         `json:"reopens,omitempty"`
	// ReopenReason is why it lets the first of them in, or who refuses them all.
	ReopenReason string       `json:"reopenReason,omitempty"`
	Runtime      RuntimeLayer `json:"runtime"`
	Kernel       KernelLayer  `json:"kernel"`
	// Paths is the matrix: each open path of each container against the layers, the
	// worst first.
	Paths []PathLayers `json:"paths,omitempty"`
}

// RuntimeLayer is what KubeArmor's policies do to a workload.
type RuntimeLayer struct {
	// Set tells whether the whole escapeToHost set is in force in every container.
	Set    kernel.Answer `json:"set"`
	Reason string        `json:"reason"`
	// Policies are those that select the pods.
	Policies []armor.Ref `json:"policies,omitempty"`
	// Containers has for each container every element of the set.
	Containers []ContainerCover `json:"containers,omitempty"`
	// Toothless are the policies of these that have no effect, or less than they say.
	Toothless []armor.Toothless `json:"toothless,omitempty"`
}

// ContainerCover is what happens to the elements of the set in one container.
type ContainerCover struct {
	Container string        `json:"container"`
	Kind      ContainerKind `json:"kind"`
	Covers    []armor.Cover `json:"covers"`
}

// KernelLayer is what the nodes of a workload's pods enforce, all of them.
type KernelLayer struct {
	Capabilities kernel.Answer `json:"capabilities"`
	Processes    kernel.Answer `json:"processes"`
	// Grade is the weakest on which these answers rest.
	Grade  kernel.Grade `json:"grade,omitempty"`
	Reason string       `json:"reason"`
	// Nodes counts the nodes; Worst names one that decides.
	Nodes int    `json:"nodes,omitempty"`
	Worst string `json:"worst,omitempty"`
}

// PathState is what the layers leave of an escape path.
type PathState string

// The states of a path, worst first.
const (
	PathOpen    PathState = "open"
	PathUnknown PathState = "unknown"
	PathStopped PathState = "stopped"
)

// PathLayers is one row of the matrix.
type PathLayers struct {
	Path      string    `json:"path"`
	Container string    `json:"container,omitempty"`
	State     PathState `json:"state"`
	// Reason is the one sentence that decides.
	Reason    string `json:"reason"`
	Admission Cell   `json:"admission"`
	Runtime   Cell   `json:"runtime"`
	Kernel    Cell   `json:"kernel"`
}

// Stops is whether a layer stands in the way of a path.
type Stops string

// The answers of a cell.
const (
	StopsYes     Stops = "stops"
	StopsNo      Stops = "lets through"
	StopsUnknown Stops = "unknown"
)

// Cell is what one layer does to one path.
type Cell struct {
	Answer Stops `json:"answer"`
	// By are the policies or nodes that decide.
	By     []string     `json:"by,omitempty"`
	Grade  kernel.Grade `json:"grade,omitempty"`
	Reason string       `json:"reason"`
}

// Policy is one policy that was found.
type Policy struct {
	// Cluster is the policy's in a fleet, empty otherwise.
	Cluster   string `json:"cluster,omitempty"`
	Layer     Layer  `json:"layer"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Action is what it asks for: "Block", "Audit", "Enforce", "Deny".
	Action string `json:"action,omitempty"`
	// Workloads and Pods count what it selects.
	Workloads int `json:"workloads"`
	Pods      int `json:"pods"`
	// Bites is whether it has its effect on what it selects, and Reasons why not, or
	// why not everywhere.
	Bites   Bite     `json:"bites"`
	Reasons []string `json:"reasons,omitempty"`
	// Recount is true where a watch told it before, and nothing but counts is other.
	Recount bool `json:"recount,omitempty"`
}

// Bite is whether a policy has its effect.
type Bite string

// The answers.
const (
	BitesYes     Bite = "yes"
	BitesPartly  Bite = "partly"
	BitesNo      Bite = "no"
	BitesUnknown Bite = "unknown"
)
