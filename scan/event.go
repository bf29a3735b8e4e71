package scan

import (
	"cmp"
	"time"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// SchemaVersion is the version of the event stream. Fields are added under the
// same number and never renamed.
const SchemaVersion = 1

// Event is one record of the stream: exactly one of its fields is set, beside the
// time. As a line of JSON it is the native format, which a saved file replays from.
type Event struct {
	// Time is when it was learned, by the scanner's clock; zero in a scan, which tells
	// its time once, in Start.
	Time time.Time `json:"time,omitzero"`
	// Start comes first, once.
	Start *Start `json:"start,omitempty"`
	// Progress says how far reading has come. It carries no result.
	Progress *Progress `json:"progress,omitempty"`
	// Node is one node of the cluster, as the API server describes it.
	Node *Node `json:"node,omitempty"`
	// Policy is one policy that was found, and whether it bites.
	Policy *Policy `json:"policy,omitempty"`
	// Finding is one thing wrong in one place.
	Finding *Finding `json:"finding,omitempty"`
	// Resolved takes back what was told before. Only a watch takes back.
	Resolved *Resolved `json:"resolved,omitempty"`
	// Verdict is the judgement on one workload; it follows its findings.
	Verdict *WorkloadVerdict `json:"verdict,omitempty"`
	// Failure is something that should have been read and was not.
	Failure *Failure `json:"failure,omitempty"`
	// Part is a piece of what one shard of a cluster found, of which Join makes results.
	Part *Part `json:"part,omitempty"`
	// Alert is something that was done in a container and that KubeArmor reported.
	Alert *Alert `json:"alert,omitempty"`
	// Lost is a time of which alerts are missing.
	Lost *Lost `json:"lost,omitempty"`
	// Picture ends the first full picture of a watch: up to here it told what a scan
	// would, from here on it tells what changes. The counts are those of an End.
	Picture *End `json:"picture,omitempty"`
	// Cluster closes what is told of one cluster of a fleet. All that was told since the
	// one before is that cluster's.
	Cluster *ClusterRun `json:"cluster,omitempty"`
	// End comes last, once, also when the scan was cut short.
	End *End `json:"end,omitempty"`
}

// Handler receives the events of one run in order. It writes or draws them and
// decides nothing. End is always the last event, so there is nothing to flush.
// Handle is never called concurrently.
type Handler interface {
	Handle(Event) error
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(Event) error

// Handle calls f.
func (f HandlerFunc) Handle(e Event) error { return f(e) }

// SourceKind tells where the pods of a run came from.
type SourceKind string

// The kinds of source.
const (
	SourceCluster   SourceKind = "cluster"
	SourceManifests SourceKind = "manifests"
	SourceDemo      SourceKind = "demo"
	// SourceFleet is several clusters in one run.
	SourceFleet SourceKind = "fleet"
)

// Start says what is scanned and by which rules.
type Start struct {
	// Schema is SchemaVersion of the writer.
	Schema int `json:"schema"`
	// Tool and Version name the program that wrote the stream.
	Tool    string `json:"tool"`
	Version string `json:"version"`
	// RuleSet is the version of the table of rules.
	RuleSet string `json:"ruleSet"`
	// Time is when the run began.
	Time time.Time `json:"time"`
	// Source is the kind of source, Cluster its name for people (the context, or
	// the paths of the manifests).
	Source  SourceKind `json:"source"`
	Cluster string     `json:"cluster,omitempty"`
	// Clusters are those of a fleet, by name and in their order; empty for any other
	// source.
	Clusters []string `json:"clusters,omitempty"`
	// Shard is the part of the cluster that was read, nil for the whole: its stream has
	// Parts and no results.
	Shard *Shard `json:"shard,omitempty"`
	// Looks are the flags by which a shard looked closer, in a fixed order: they have to be
	// the same in all shards of a run. Empty for anything else.
	Looks []string `json:"looks,omitempty"`
	// Watch is true where the stream goes on after the first picture.
	Watch bool `json:"watch,omitempty"`
	// Alerts is true where KubeArmor's alerts are listened to: without it, that there are
	// none says nothing.
	Alerts bool `json:"alerts,omitempty"`
	// ServerVersion is the API server's own version, as in "v1.36.3".
	ServerVersion string `json:"serverVersion,omitempty"`
	// Namespaces limits the run; empty means all of them. Selector is the label
	// selector that limits the pods.
	Namespaces []string `json:"namespaces,omitempty"`
	Selector   string   `json:"selector,omitempty"`
	// Level is the level of the Pod Security Standards that was asked for, and
	// PSSVersion the version of them that was applied, as in "v1.36" or "latest".
	Level      string `json:"level"`
	PSSVersion string `json:"pssVersion"`
	// Notes are what a reader has to know of the choices above.
	Notes []string `json:"notes,omitempty"`
}

// Progress counts what was read so far.
type Progress struct {
	Pods      int `json:"pods,omitempty"`
	Documents int `json:"documents,omitempty"`
	Workloads int `json:"workloads,omitempty"`
	// Remaining is the API server's estimate of pods still to be read, 0 when it
	// gives none.
	Remaining int64 `json:"remaining,omitempty"`
}

// Node is what the API server says of a node, and what is known of its kernel.
type Node struct {
	// Cluster is the node's in a fleet, empty otherwise.
	Cluster          string `json:"cluster,omitempty"`
	Name             string `json:"name"`
	KernelVersion    string `json:"kernelVersion,omitempty"`
	OSImage          string `json:"osImage,omitempty"`
	OperatingSystem  string `json:"operatingSystem,omitempty"`
	Architecture     string `json:"architecture,omitempty"`
	ContainerRuntime string `json:"containerRuntime,omitempty"`
	KubeletVersion   string `json:"kubeletVersion,omitempty"`
	// Enforcement is what stops a forbidden step on the node, with all evidence; nil
	// where the layers were not judged.
	Enforcement *kernel.Enforcement `json:"enforcement,omitempty"`
}

// Verdict is the judgement on a workload.
type Verdict string

// The verdicts, worst first.
const (
	// VerdictExposed: at least one escape path is open, and nothing is known that
	// stops its step.
	VerdictExposed Verdict = "exposed"
	// VerdictUnknown: what would be needed to say better could not be read.
	VerdictUnknown Verdict = "unknown"
	// VerdictGuarded: escape paths are open in the spec, and for each one every known
	// step is blocked at run time, in every kind of container concerned, on every
	// node where the pods run.
	VerdictGuarded Verdict = "guarded"
	// VerdictClosed: no escape path in the spec.
	VerdictClosed Verdict = "closed"
	// VerdictSealed: closed, admission refuses to reopen it, and the whole
	// escapeToHost set is in force.
	VerdictSealed Verdict = "sealed"
)

// Verdicts lists the verdicts, worst first.
func Verdicts() []Verdict {
	return []Verdict{VerdictExposed, VerdictUnknown, VerdictGuarded, VerdictClosed, VerdictSealed}
}

// Workload is the controller at the top of a pod's owner chain, or the pod.
type Workload struct {
	Cluster   string `json:"cluster,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Kind      string `json:"kind"`
	Name      string `json:"name"`
}

// String is NAMESPACE/KIND/NAME, the form that flags and messages use.
func (w Workload) String() string {
	ns := w.Namespace
	if ns == "" {
		ns = "-"
	}
	return ns + "/" + w.Kind + "/" + w.Name
}

// Compare orders workloads by cluster, namespace, kind and name.
func (w Workload) Compare(other Workload) int {
	return cmp.Or(
		cmp.Compare(w.Cluster, other.Cluster),
		cmp.Compare(w.Namespace, other.Namespace),
		cmp.Compare(w.Kind, other.Kind),
		cmp.Compare(w.Name, other.Name),
	)
}

// WorkloadVerdict is the verdict on one workload, or on those of its pods that
// differ from the rest.
type WorkloadVerdict struct {
	Workload Workload `json:"workload"`
	Verdict  Verdict  `json:"verdict"`
	// Was is the verdict that a watch told before this one, empty for the first.
	// Recount is true where nothing but counts is other than it was told before.
	Was     Verdict `json:"was,omitempty"`
	Recount bool    `json:"recount,omitempty"`
	// Reason is the one sentence that decides.
	Reason string `json:"reason"`
	// Severity is the worst of the open escape paths, empty when there is none.
	Severity Severity `json:"severity,omitempty"`
	// Paths are the IDs of the open escape paths, sorted.
	Paths []string `json:"paths,omitempty"`
	// PSSAllowed tells whether the Pod Security Standards at the run's level and
	// version allow the pods. Controls are the IDs of the controls that refuse.
	PSSAllowed bool     `json:"pssAllowed"`
	Controls   []string `json:"controls,omitempty"`
	// Pods is how many pods were seen with this spec; 0 for a manifest.
	Pods int `json:"pods,omitempty"`
	// Claims is an owner that the pod names and that does not exist, does not have
	// that UID, or has pods that look otherwise. It was not followed.
	Claims string `json:"claims,omitempty"`
	// Layers is what each layer says; nil where only the spec was judged.
	Layers *Layers `json:"layers,omitempty"`
	// Location is where the workload is declared.
	Location *Location `json:"location,omitempty"`
}

// FailureReason is the class of a failure.
type FailureReason string

// The classes of failures.
const (
	FailureForbidden   FailureReason = "forbidden"
	FailureNotFound    FailureReason = "not found"
	FailureTimeout     FailureReason = "timeout"
	FailureUnreachable FailureReason = "unreachable"
	FailureInterrupted FailureReason = "interrupted"
	FailureInvalid     FailureReason = "invalid"
	FailureTooLarge    FailureReason = "too large"
	FailureRead        FailureReason = "read error"
)

// Failure is something that should have been read and was not. Every failure
// makes the run incomplete.
type Failure struct {
	// Cluster is the one of a fleet that it is about, empty otherwise.
	Cluster string `json:"cluster,omitempty"`
	// Subject is what was to be read: "pods", "nodes", or a file.
	Subject   string        `json:"subject"`
	Namespace string        `json:"namespace,omitempty"`
	Reason    FailureReason `json:"reason"`
	Message   string        `json:"message"`
	// Affects says what cannot be known because of it.
	Affects string `json:"affects,omitempty"`
	// Location is where a document is broken.
	Location *Location `json:"location,omitempty"`
}

// ClusterRun is the run on one cluster of a fleet.
type ClusterRun struct {
	Name string `json:"name"`
	// Start is what the run was, nil where none could begin.
	Start *Start `json:"start,omitempty"`
	// End counts what was told of the cluster.
	End End `json:"end"`
}

// End closes the stream.
type End struct {
	// Pods, Workloads and Documents count what was judged; Skipped counts the
	// documents that hold no pod.
	Pods      int `json:"pods,omitempty"`
	Workloads int `json:"workloads"`
	Documents int `json:"documents,omitempty"`
	Skipped   int `json:"skipped,omitempty"`
	// Findings counts by severity what counts; Excepted and Known count what an
	// exception or the baseline takes out of the gate.
	Findings map[Severity]int `json:"findings"`
	Excepted int              `json:"excepted,omitempty"`
	Known    int              `json:"known,omitempty"`
	// Verdicts counts workloads by verdict.
	Verdicts map[Verdict]int `json:"verdicts"`
	Failures int             `json:"failures,omitempty"`
	// Incomplete is true when something could not be read: absence of findings
	// then proves nothing. Interrupted is true when the run was stopped.
	Incomplete  bool `json:"incomplete"`
	Interrupted bool `json:"interrupted,omitempty"`
}
