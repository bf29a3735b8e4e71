package snapshot

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// The kind of the objects by which an inventory says what it is of and what could
// not be read. All other objects in it are the cluster's own.
const (
	Group   = "escape-scanner.github.io"
	Version = "v1"
	Kind    = "Inventory"
)

// Entry is one object of that kind: exactly one of its fields is set.
type Entry struct {
	metav1.TypeMeta `json:",inline"`
	// Begin comes first, once; End comes last, and a file without it was cut off.
	Begin *Begin `json:"begin,omitempty"`
	// Read says how one reading of the cluster ended.
	Read *Read `json:"read,omitempty"`
	// Answer is what looking closer, or asking for single pods, brought.
	Answer *Answer `json:"answer,omitempty"`
	End    *End    `json:"end,omitempty"`
}

// Begin says what was recorded.
type Begin struct {
	// Tool and Version name the program that recorded, Time is when it began.
	Tool    string    `json:"tool"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	// Cluster is the context's name. Namespaces and Selector are what the reading of
	// pods was limited to; empty for all.
	Cluster    string   `json:"cluster,omitempty"`
	Namespaces []string `json:"namespaces,omitempty"`
	Selector   string   `json:"selector,omitempty"`
	// Probes are the ways of looking closer that were consented to.
	Probes []string `json:"probes,omitempty"`
}

// The names of what is read.
const (
	readVersion    = "serverVersion"
	readNamespaces = "namespaces"
	readNodes      = "nodes"
	readPods       = "pods"
	readOwners     = "owners"
	readOwner      = "owner"
	readClasses    = "runtimeClasses"
	readVolumes    = "hostVolumes"
	readObjects    = "objects"
	readLabelled   = "labelledPods"
	readMachines   = "machines"
)

// The names of the ways of looking closer.
const (
	probeData      = "probeData"
	probeMachines  = "machines"
	probeAskServer = "askServer"
	probeInspect   = "inspect"
)

// Scope is what one reading covers.
type Scope struct {
	Of        string `json:"of"`
	Namespace string `json:"namespace,omitempty"`
	// Group, Version and Kind are those of the objects, where the reading is of one
	// kind among many; Name is that of a single object.
	Group    string `json:"group,omitempty"`
	Version  string `json:"version,omitempty"`
	Kind     string `json:"kind,omitempty"`
	Name     string `json:"name,omitempty"`
	Selector string `json:"selector,omitempty"`
}

// Read says how a reading ended: what it covers is there whole unless it Failed.
type Read struct {
	Scope `json:",inline"`
	// Value is what was read where that is no object: the server's version.
	Value string `json:"value,omitempty"`
	// Items is how many objects were read, also before a failure.
	Items  int     `json:"items"`
	Failed *Failed `json:"failed,omitempty"`
}

// Answer is what one question brought: exactly one field beside Failed is set.
type Answer struct {
	LabelledPod *LabelledPod `json:"labelledPod,omitempty"`
	Owner       *OwnerSeen   `json:"owner,omitempty"`
	Parameter   *Parameter   `json:"parameter,omitempty"`
	Probe       *ProbeAnswer `json:"probe,omitempty"`
	Machine     *MachineSeen `json:"machine,omitempty"`
	Asked       *Asked       `json:"asked,omitempty"`
	Inspected   *Inspected   `json:"inspected,omitempty"`
	Failed      *Failed      `json:"failed,omitempty"`
}

// LabelledPod is a pod that was asked for by a label, beside those of the scope.
type LabelledPod struct {
	Selector string      `json:"selector"`
	Pod      *corev1.Pod `json:"pod"`
}

// OwnerSeen is an object that owns others, of a kind that means more in a dump.
type OwnerSeen struct {
	Group  string                       `json:"group,omitempty"`
	Kind   string                       `json:"kind"`
	Object metav1.PartialObjectMetadata `json:"object"`
}

// Parameter is an object that was read whole and that a dump would not show to be
// one: policies in CEL take parameters from objects of any kind.
type Parameter struct {
	Group  string          `json:"group"`
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
}

// ProbeAnswer is the probe data of an agent's pod.
type ProbeAnswer struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Data      *kernel.Probe `json:"data,omitempty"`
}

// MachineSeen is the report of a node, or why there is none.
type MachineSeen struct {
	Node   string          `json:"node"`
	Report *kernel.Machine `json:"report,omitempty"`
	Why    string          `json:"why,omitempty"`
}

// Asked is what the API server said of a pod, which its digest stands for.
type Asked struct {
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	Digest    string           `json:"digest"`
	Ruling    admission.Ruling `json:"ruling"`
}

// Inspected are paths in a container and what they lead to.
type Inspected struct {
	Namespace string            `json:"namespace"`
	Pod       string            `json:"pod"`
	Container string            `json:"container"`
	Asked     []string          `json:"asked"`
	Paths     map[string]string `json:"paths,omitempty"`
}

// End says that nothing is missing behind it.
type End struct {
	// Annotations are the keys of annotations that were kept because policies name
	// them.
	Annotations []string `json:"annotations,omitempty"`
}

// FailedClass tells how an error is met by a program.
type FailedClass string

// The classes of errors beside those of the API server.
const (
	failedStatus      FailedClass = "status"
	failedNotServed   FailedClass = "not served"
	failedNotRecorded FailedClass = "not recorded"
	failedTimeout     FailedClass = "timeout"
	failedNetwork     FailedClass = "network"
	failedOther       FailedClass = "other"
)

// Failed is an error that can be told from others after it was read back.
type Failed struct {
	Class   FailedClass `json:"class"`
	Message string      `json:"message"`
	// Reason and Code are those of the API server's answer.
	Reason metav1.StatusReason `json:"reason,omitempty"`
	Code   int32               `json:"code,omitempty"`
}

// failedOf records an error, nil for none.
func failedOf(err error) *Failed {
	if err == nil {
		return nil
	}
	f := &Failed{Class: failedOther, Message: err.Error()}
	var status apierrors.APIStatus
	var network net.Error
	switch {
	case errors.Is(err, scan.ErrNotServed):
		f.Class = failedNotServed
	case errors.Is(err, scan.ErrNotRecorded):
		f.Class = failedNotRecorded
	case errors.As(err, &status):
		f.Class, f.Reason, f.Code = failedStatus, status.Status().Reason, status.Status().Code
	case errors.Is(err, context.DeadlineExceeded):
		f.Class = failedTimeout
	case errors.As(err, &network):
		f.Class = failedNetwork
		if network.Timeout() {
			f.Class = failedTimeout
		}
	}
	return f
}

// err is the error again: with the same text, and told apart in the same ways.
func (f *Failed) err() error {
	if f == nil {
		return nil
	}
	e := &recordedError{message: cmp.Or(f.Message, "the inventory does not say why")}
	switch f.Class {
	case failedStatus:
		e.cause = &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Message: f.Message, Reason: f.Reason, Code: f.Code,
		}}
	case failedNotServed:
		e.cause = scan.ErrNotServed
	case failedNotRecorded:
		e.cause = scan.ErrNotRecorded
	case failedTimeout:
		e.cause = context.DeadlineExceeded
	case failedNetwork:
		e.cause = networkError{}
	case failedOther:
	}
	return e
}

// recordedError has the text of one error and the nature of another.
type recordedError struct {
	message string
	cause   error
}

func (e *recordedError) Error() string { return e.message }

func (e *recordedError) Unwrap() error { return e.cause }

// networkError is a connection that broke, or was not made, some time ago.
type networkError struct{}

func (networkError) Error() string   { return "network" }
func (networkError) Timeout() bool   { return false }
func (networkError) Temporary() bool { return false }

// ErrVersion is the error of an inventory that was recorded by another version of this program, which
// writes what this one does not know.
var ErrVersion = errors.New("this program reads " + Group + "/" + Version)

// parseEntry reads an entry, and refuses what is none.
func parseEntry(version string, object []byte) (*Entry, error) {
	if version != Version {
		return nil, fmt.Errorf("%s of %s/%s: %w", Kind, Group, version, ErrVersion)
	}
	var e Entry
	if err := json.Unmarshal(object, &e); err != nil {
		return nil, fmt.Errorf("%s: %w", Kind, err)
	}
	set := 0
	for _, is := range []bool{e.Begin != nil, e.Read != nil, e.Answer != nil, e.End != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return nil, fmt.Errorf("%s: want one of begin, read, answer and end, have %d", Kind, set)
	}
	if e.Read != nil {
		if err := e.Read.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", Kind, err)
		}
	}
	if e.Answer != nil {
		if err := e.Answer.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", Kind, err)
		}
	}
	return &e, nil
}

func (r *Read) check() error {
	switch r.Of {
	case readVersion, readNamespaces, readNodes, readPods, readOwners, readOwner, readClasses, readVolumes, readObjects, readLabelled, readMachines:
	default:
		return fmt.Errorf("read of %q: no such reading", r.Of)
	}
	if r.Items < 0 {
		return fmt.Errorf("read of %s: %d items", r.Of, r.Items)
	}
	return r.Failed.check()
}

func (a *Answer) check() error {
	set := 0
	for _, is := range []bool{a.LabelledPod != nil, a.Owner != nil, a.Parameter != nil, a.Probe != nil, a.Machine != nil, a.Asked != nil, a.Inspected != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("answer: want one, have %d", set)
	case a.LabelledPod != nil && a.LabelledPod.Pod == nil:
		return errors.New("answer: a labelled pod without the pod")
	case a.Probe != nil && a.Probe.Data == nil && a.Failed == nil:
		return errors.New("answer: a probe without data and without a failure")
	}
	return a.Failed.check()
}

func (f *Failed) check() error {
	if f == nil {
		return nil
	}
	switch f.Class {
	case failedStatus, failedNotServed, failedNotRecorded, failedTimeout, failedNetwork, failedOther:
		return nil
	}
	return fmt.Errorf("failed: no class %q", f.Class)
}
