package scan

import "time"

// AlertClass is what kind of deed an alert tells of.
type AlertClass string

// The classes of alerts.
const (
	// ClassCapability: a capability was asked for.
	ClassCapability AlertClass = "capability"
	// ClassChroot: a program was run that changes the root directory.
	ClassChroot AlertClass = "chroot"
	// ClassTool: a deployment tool was run (package managers, compilers, downloaders).
	ClassTool AlertClass = "deployment tool"
	// ClassEscape: another step of an escape path.
	ClassEscape AlertClass = "other escape"
	// ClassOther: anything else.
	ClassOther AlertClass = "other"
)

// AlertClasses lists the classes.
func AlertClasses() []AlertClass {
	return []AlertClass{ClassCapability, ClassChroot, ClassTool, ClassEscape, ClassOther}
}

// Alert is a deed in a container that KubeArmor reported, as often as it was done.
// Its texts come from the node and may be chosen by an attacker.
type Alert struct {
	// ID is the same for all events about the same deed: a later one has the newer
	// count, and takes the place of the one before.
	ID    string     `json:"id"`
	Class AlertClass `json:"class"`
	// Incident is true where the deed was a step out to the host that the workload
	// leaves open, or one that honest software does not take. Severity goes by that, by
	// the workload's verdict, and by whether the deed was stopped; Reason is the
	// sentence that decides.
	Incident bool     `json:"incident"`
	Severity Severity `json:"severity"`
	Reason   string   `json:"reason"`
	// Blocked is true where the deed was stopped, false where it was only told of.
	Blocked bool `json:"blocked"`
	// Techniques are those of MITRE ATT&CK ("T1611").
	Techniques []string `json:"techniques,omitempty"`
	// Workload is that of the pod, and Verdict the one on it at the time, empty when the
	// pod was not known; then the workload is as KubeArmor names it. Paths are the open
	// escape paths of which the deed is a step.
	Workload Workload `json:"workload"`
	Claims   string   `json:"claims,omitempty"`
	Verdict  Verdict  `json:"verdict,omitempty"`
	Paths    []string `json:"paths,omitempty"`
	// Node, Pod and Container say where it was done.
	Node      string `json:"node,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Container string `json:"container,omitempty"`
	// The rest is as KubeArmor has it: Resource is the capability or the command line,
	// Process the real path of the program, Parent that of its caller.
	Operation string `json:"operation,omitempty"`
	Policy    string `json:"policy,omitempty"`
	Action    string `json:"action,omitempty"`
	Result    string `json:"result,omitempty"`
	Enforcer  string `json:"enforcer,omitempty"`
	Resource  string `json:"resource,omitempty"`
	Process   string `json:"process,omitempty"`
	Parent    string `json:"parent,omitempty"`
	// Count is how often it was reported, First and Last when, by the node's clock.
	Count int       `json:"count"`
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// LostReason is why alerts are missing.
type LostReason string

// Why alerts are missing.
const (
	// LostThrottled: KubeArmor keeps quiet about a container that was too loud.
	LostThrottled LostReason = "throttled"
	// LostDeaf: there was no connection to KubeArmor.
	LostDeaf LostReason = "not connected"
	// LostDropped: there were more than could be taken in.
	LostDropped LostReason = "dropped"
	// LostUnreadable: what came could not be understood.
	LostUnreadable LostReason = "unreadable"
)

// Lost says that evidence is missing: what happened in that time is not known.
type Lost struct {
	// ID is the same for all events about the same gap.
	ID     string     `json:"id"`
	Reason LostReason `json:"reason"`
	// From and To are its bounds; To is zero while it lasts.
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`
	// Source is the address of KubeArmor, as far as one source is meant. Node, Workload,
	// Pod and Container are set where one container is.
	Source    string    `json:"source,omitempty"`
	Workload  *Workload `json:"workload,omitempty"`
	Node      string    `json:"node,omitempty"`
	Pod       string    `json:"pod,omitempty"`
	Container string    `json:"container,omitempty"`
	// Alerts counts those that are known to be missing, 0 when nobody counted.
	Alerts  int    `json:"alerts,omitempty"`
	Message string `json:"message"`
}

// Place is the pod that an alert speaks of, and what is known of its workload.
type Place struct {
	Workload Workload
	Claims   string
	// Verdict is nil where there is none yet.
	Verdict *WorkloadVerdict
	// Findings are those of the workload, shared: not to be changed.
	Findings []*Finding
	// Pod is the pod itself, nil when it is gone; shared: not to be changed.
	Pod *Pod
}
