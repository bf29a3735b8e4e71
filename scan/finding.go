package scan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// Category tells which table a finding's rule stands in.
type Category string

// The categories.
const (
	// CategoryPSS: a control of the Pod Security Standards refuses the pod.
	CategoryPSS Category = "pss"
	// CategoryEscape: a way out to the host is in the spec.
	CategoryEscape Category = "escape"
	// CategoryException: an exception of the configuration does not do its work.
	CategoryException Category = "exception"
	// CategoryPolicy: a policy exists and does not bite.
	CategoryPolicy Category = "policy"
	// CategoryKernel: a node cannot enforce what policies ask for.
	CategoryKernel Category = "kernel"
)

// Finding is one thing wrong in one place.
type Finding struct {
	// Rule is the rule's ID: for the Pod Security Standards the official ID of
	// the control.
	Rule     string   `json:"rule"`
	Category Category `json:"category"`
	Title    string   `json:"title"`
	// Level is the level of the Pod Security Standards that the control belongs to.
	Level    string   `json:"level,omitempty"`
	Severity Severity `json:"severity"`
	// Open is true for an escape path that nothing in the spec itself closes.
	Open bool `json:"open,omitempty"`
	// Guarded is true for an open path of which every known step is blocked at run
	// time, wherever the pods run. Lowered says by what.
	Guarded  bool     `json:"guarded,omitempty"`
	Workload Workload `json:"workload"`
	// Container is the container's name, empty for a field of the pod.
	// ContainerKind is one of the ContainerKind constants, Image as in the spec.
	Container     string        `json:"container,omitempty"`
	ContainerKind ContainerKind `json:"containerKind,omitempty"`
	Image         string        `json:"image,omitempty"`
	// Field is the path of the field to blame, from the root of the pod or of the
	// pod template: "spec.containers[0].securityContext.privileged".
	Field string `json:"field"`
	// Item names the element of a list that the field points to (the capability,
	// the volume, the port), so that identity does not hang on its index.
	Item string `json:"item,omitempty"`
	// Now is the field's value as JSON, null when the field is not set.
	Now json.RawMessage `json:"now"`
	// Related are further fields without which this would not be found.
	Related []string `json:"related,omitempty"`
	// Fix is the single change of Field that was tried and found to help.
	Fix     *Fix   `json:"fix,omitempty"`
	Message string `json:"message"`
	// Policies are those that do not bite, and Mend is what would make them.
	Policies []string `json:"policies,omitempty"`
	Mend     string   `json:"mend,omitempty"`
	// Lowered says what in the spec takes force from the finding.
	Lowered []Lowering `json:"lowered,omitempty"`
	// Pods counts the pods that share this, and Claims is as in WorkloadVerdict.
	Pods   int    `json:"pods,omitempty"`
	Claims string `json:"claims,omitempty"`
	// Recount is true where a watch told it before, and nothing but counts is other.
	Recount bool `json:"recount,omitempty"`
	// Location is the line of a file to edit.
	Location *Location `json:"location,omitempty"`
	// Excepted is set when an exception of the configuration covers the finding:
	// it stays in the output and does not count at the gate.
	Excepted *Excepted `json:"excepted,omitempty"`
}

// ContainerKind tells the kinds of containers of a pod apart.
type ContainerKind string

// The kinds of containers. A sidecar is an init container that is restarted.
const (
	KindContainer ContainerKind = "container"
	KindInit      ContainerKind = "init container"
	KindSidecar   ContainerKind = "sidecar"
	KindEphemeral ContainerKind = "ephemeral container"
)

// FixOp is what a fix does to a field.
type FixOp string

// The operations of a fix.
const (
	FixSet    FixOp = "set"
	FixRemove FixOp = "remove"
)

// Fix is a change of one field that makes the rule's own check pass, together
// with the fixes of the other findings of the same rule on the same pod.
type Fix struct {
	Op FixOp `json:"op"`
	// Value is the value that passes, as JSON; absent for a removal.
	Value json.RawMessage `json:"value,omitempty"`
	// Note says what the workload may lose by it.
	Note string `json:"note,omitempty"`
	// Edits make the change in the file of the finding's Location, in their order and
	// without touching each other. They are there where the text was asked for and the
	// change of it proven.
	Edits []Edit `json:"edits,omitempty"`
	// With are further fields that the edits repair, because one does not go without
	// the other.
	With []string `json:"with,omitempty"`
}

// Edit puts a text in the place of a part of a file. Lines and columns count from 1,
// columns in characters; the end is behind the last character.
type Edit struct {
	Line      int    `json:"line"`
	Column    int    `json:"column"`
	EndLine   int    `json:"endLine"`
	EndColumn int    `json:"endColumn"`
	Text      string `json:"text"`
}

// Sound reports whether the edit is of a place that there can be.
func (e *Edit) Sound() bool {
	return e.Line > 0 && e.Column > 0 && e.EndColumn > 0 && (e.EndLine > e.Line || e.EndLine == e.Line && e.EndColumn >= e.Column)
}

// Lowering is a property of the pod that takes force from an escape path.
type Lowering struct {
	// By is the property: "hostUsers: false".
	By string `json:"by"`
	// From is the severity without it.
	From Severity `json:"from"`
	// Closes is true when the path is shut by it, not merely made harder.
	Closes bool   `json:"closes,omitempty"`
	Reason string `json:"reason"`
}

// Location is a place in a file. Line and column count from 1; the column is in
// characters.
type Location struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	// Field is the path in the document ("spec.template.spec.containers[0]…").
	Field string `json:"field,omitempty"`
	// Nearest is true when the field itself is not in the file: the place is
	// that of the closest field above it.
	Nearest bool `json:"nearest,omitempty"`
}

// Excepted names the exception that covers a finding.
type Excepted struct {
	Reason  string `json:"reason"`
	Expires string `json:"expires,omitempty"`
}

// Fingerprint identifies the finding from run to run: a hash of rule, workload
// (kind, namespace, name), container and field, with items in the place of
// indexes. No pod name (unless the pod is the workload), UID, hash or time.
func (f *Finding) Fingerprint() string {
	h := sha256.New()
	for _, part := range []string{
		f.Rule, f.Workload.Kind, f.Workload.Namespace, f.Workload.Name,
		f.Container, withoutIndexes(f.Field), f.Item,
	} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// withoutIndexes drops the numbers of list elements: a container added in front
// must not change the identity of the others.
func withoutIndexes(path string) string {
	if strings.IndexByte(path, '[') < 0 {
		return path
	}
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '[' {
			end := strings.IndexByte(path[i:], ']')
			if end > 1 && strings.Trim(path[i+1:i+end], "0123456789") == "" {
				b.WriteString("[]")
				i += end
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
