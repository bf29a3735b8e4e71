// Package set is the escapeToHost set: one typed definition, rendered as the objects
// of whichever products a cluster has. It is pure.
package set

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Version is the version of the definition. It changes when the same options make
// other objects.
const Version = "1"

// Labels on every object of a set. A namespace gets LabelSet and LabelVersion only,
// beside those that are the policy itself: who manages it is not for us to say.
const (
	// LabelManagedBy has the value escape-scanner.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// LabelSet is the set's name, LabelVersion its Version.
	LabelSet     = "escape-scanner.github.io/set"
	LabelVersion = "escape-scanner.github.io/set-version"
	ManagedBy    = "escape-scanner"
)

// DefaultName is the name of a set that was given none.
const DefaultName = "escape-to-host"

// Part is a part of the set.
type Part string

// The parts.
const (
	PartAdmission    Part = "admission"
	PartCapabilities Part = "capabilities"
	PartChroot       Part = "chroot"
	PartTools        Part = "tools"
)

// Admission is what rules on admission.
type Admission string

// The mechanisms. Auto is one of the others, by what the API server serves.
const (
	AdmissionAuto       Admission = "auto"
	AdmissionPSA        Admission = "psa"
	AdmissionKyverno    Admission = "kyverno"
	AdmissionKyvernoCEL Admission = "kyverno-cel"
	AdmissionVAP        Admission = "vap"
	AdmissionNone       Admission = "none"
)

// Action is what the set does in the end.
type Action string

// The actions.
const (
	ActionBlock Action = "block"
	ActionAudit Action = "audit"
)

// Fit is how closely the runtime policies are cut.
type Fit string

// The fits. Full is the intent to the letter; precise leaves out of each workload
// what would protect nothing there.
const (
	FitFull    Fit = "full"
	FitPrecise Fit = "precise"
)

// Options are what the user chooses.
type Options struct {
	// Name names the set and begins the names of its objects.
	Name  string        `json:"name"`
	Scope targets.Scope `json:"scope"`
	// Admission is never auto when Render is called: Choose has settled it.
	Admission Admission `json:"admission"`
	// Level is baseline or restricted, PSSVersion the version of the standards as in
	// "latest" or "v1.36".
	Level      psa.Level `json:"level"`
	PSSVersion string    `json:"pssVersion"`
	Action     Action    `json:"action"`
	Fit        Fit       `json:"fit"`
	// Only and Without choose parts ("capabilities", "tools", …) and elements
	// ("dac_override", "curl", …). An empty Only means all.
	Only    []string `json:"only,omitempty"`
	Without []string `json:"without,omitempty"`
}

// Facts are what rendering has to know of the cluster. They are not needed for every
// choice: Render says what it misses.
type Facts struct {
	// Namespaces are those of the cluster, nil when they were not read.
	Namespaces []string
	// NamespaceLabels are their labels, nil when they were not read.
	NamespaceLabels map[string]map[string]string
	// Workloads are those in scope, nil when they were not read. With them a full set says
	// what a precise one would spare.
	Workloads []targets.Workload
	// Unseen is behind what further workloads may be: targets.Inventory.Unseen.
	Unseen []scan.Failure
}

// Set is the rendered set.
type Set struct {
	Options Options
	// Objects are in the order in which they are applied.
	Objects []Object
	// Notes are what the reader has to know: what was chosen and why, what is left out
	// always, what cannot be expressed.
	Notes []string
	// Spared is what a precise fit leaves out, or would.
	Spared []Spared
}

// Object is one object of the set in its forms.
type Object struct {
	Part Part
	// Audit reports and refuses nothing; nil where that would have no effect (KubeArmor
	// audits no capabilities). Enforce is the form that refuses; nil under ActionAudit.
	Audit, Enforce *unstructured.Unstructured
	// Why says of a precise fit whom the object is for, a line each.
	Why []string
}

// Final is the form in which the object stands in the end.
func (o *Object) Final() *unstructured.Unstructured {
	if o.Enforce != nil {
		return o.Enforce
	}
	return o.Audit
}

// Spared is something that protects nothing on a workload.
type Spared struct {
	Workload scan.Workload   `json:"workload"`
	Elements []armor.Element `json:"elements"`
	Reason   string          `json:"reason"`
}
