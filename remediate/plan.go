package remediate

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// Stage is a stage of an apply. All changes of one come before the next begins.
type Stage string

// The stages, in order. Audit brings in what only reports, enforce what refuses.
const (
	StageAudit   Stage = "audit"
	StageEnforce Stage = "enforce"
)

// Action is what becomes of an object.
type Action string

// The actions. Restored is an object of an earlier apply that the set does not have
// any more: it goes back to what it was before, or away.
const (
	Created   Action = "created"
	Changed   Action = "changed"
	Unchanged Action = "unchanged"
	Restored  Action = "restored"
	Blocked   Action = "blocked"
)

// Change is what would become, or has become, of one object in one stage.
type Change struct {
	Stage  Stage    `json:"stage"`
	Part   set.Part `json:"part"`
	Object Ref      `json:"object"`
	Action Action   `json:"action"`
	// Block says what stands in the way.
	Block *Block `json:"block,omitempty"`
	// Before and After are the object as it is and as the API server's dry run made it,
	// without what only the server writes; nil where there is none.
	Before *unstructured.Unstructured `json:"before,omitempty"`
	After  *unstructured.Unstructured `json:"after,omitempty"`
	// Warnings are the API server's.
	Warnings []string `json:"warnings,omitempty"`
	// Notes say what a reader must know of it: whose fields are taken over, for instance.
	Notes []string `json:"notes,omitempty"`
}

// BlockedBy is the kind of thing that stands in the way of a change.
type BlockedBy string

// The kinds.
const (
	BlockedByConflict    BlockedBy = "conflict"
	BlockedByAdmission   BlockedBy = "admission"
	BlockedByMissingKind BlockedBy = "missing CRD"
	BlockedByForbidden   BlockedBy = "forbidden"
	BlockedByWebhook     BlockedBy = "webhook"
	BlockedByInvalid     BlockedBy = "invalid"
	BlockedByNamespace   BlockedBy = "missing namespace"
	BlockedByServer      BlockedBy = "API server"
)

// Block is what stands in the way of a change.
type Block struct {
	By BlockedBy `json:"by"`
	// Message is the API server's own, Mend what the user can do.
	Message string `json:"message"`
	Mend    string `json:"mend,omitempty"`
}

// Plan is what an apply or a rollback would do.
type Plan struct {
	// Set is the set's name.
	Set     string   `json:"set"`
	Changes []Change `json:"changes"`
	Notes   []string `json:"notes,omitempty"`
	// Unfinished says of an earlier apply or rollback how far it came, empty when there
	// is none.
	Unfinished string `json:"unfinished,omitempty"`
	// Rollback says that it is a rollback. Its changes are in no stage.
	Rollback bool `json:"rollback,omitempty"`

	// works are how the changes are made, in the same order.
	works []work
	// options are those of the plan. The old record is the one that the plan saw, next the
	// one that an apply keeps while it is at work, and final the steps it ends with.
	options   PlanOptions
	old, next *record
	final     []step
}

// Pending counts the changes that are to be made.
func (p *Plan) Pending() int {
	n := 0
	for i := range p.works {
		if p.works[i].verb != doNothing {
			n++
		}
	}
	return n
}

// Idle tells whether there is nothing to do at all: objects and record are as they
// should be. A plan without pending changes may still have to put the record right.
func (p *Plan) Idle() bool {
	if p.Pending() > 0 {
		return false
	}
	if p.Rollback {
		return p.old.object == nil
	}
	last := *p.next
	last.steps = p.final
	return p.old.says(&last)
}
