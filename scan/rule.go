package scan

// Rule is the record of one rule: what it means, how it is used against you and
// how to mend it. `rules`, SARIF, the pages in docs and the screens draw from it.
type Rule struct {
	ID       string   `json:"id"`
	Category Category `json:"category"`
	// Level is set for controls of the Pod Security Standards.
	Level string `json:"level,omitempty"`
	Title string `json:"title"`
	// Description says what the rule looks for and what it means.
	Description string `json:"description"`
	// Attack says what an attacker does with it.
	Attack string `json:"attack"`
	// Remediation says how to mend it.
	Remediation string   `json:"remediation"`
	Severity    Severity `json:"severity"`
	// SecuritySeverity is the score of GitHub code scanning, 0.1 to 10.0.
	SecuritySeverity float64 `json:"securitySeverity"`
	// Aggravates marks a rule that is no way out by itself: it makes another
	// open one easier, and is reported only beside one.
	Aggravates bool `json:"aggravates,omitempty"`
	// Steps are what the attacker must do at run time; empty where the spec alone
	// gives the host away.
	Steps []Step `json:"steps,omitempty"`
	// MITRE are techniques of ATT&CK, KubeHound is the attack's name there.
	MITRE     []string `json:"mitre,omitempty"`
	KubeHound string   `json:"kubeHound,omitempty"`
	// CIS are recommendations of the CIS Kubernetes Benchmark, CWE weaknesses.
	CIS []CISRef `json:"cis,omitempty"`
	CWE []int    `json:"cwe,omitempty"`
	// HelpURL is a page that says more.
	HelpURL string `json:"helpUrl"`
}

// CISRef is a recommendation of the CIS Kubernetes Benchmark. Numbers move
// between versions, so the version belongs to it.
type CISRef struct {
	Version string `json:"version"`
	ID      string `json:"id"`
}

// StepKind is what a layer at run time would have to stop.
type StepKind string

// The kinds of steps.
const (
	StepCapability StepKind = "capability"
	StepBinary     StepKind = "binary"
	StepMount      StepKind = "mount"
	StepFile       StepKind = "file"
	StepSyscall    StepKind = "syscall"
	StepNetwork    StepKind = "network"
)

// Step is one thing that the attacker does at run time to go the way.
type Step struct {
	Kind StepKind `json:"kind"`
	Name string   `json:"name"`
}
