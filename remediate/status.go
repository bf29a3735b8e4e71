package remediate

import (
	"time"

	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// Phase is how far a set is, as its record tells.
type Phase string

// The phases. None means that there is no record.
const (
	PhaseNone        Phase = "none"
	PhaseApplying    Phase = "applying"
	PhaseApplied     Phase = "applied"
	PhaseRollingBack Phase = "rolling back"
)

// State is how one object of a set stands.
type State string

// The states.
const (
	// StateInPlace is the object in the form in which it is meant to stay.
	StateInPlace State = "in place"
	// StateAuditing is the audit form of an object that is meant to refuse.
	StateAuditing State = "only audits"
	// StateDrifted differs from every form of the set.
	StateDrifted State = "drifted"
	// StateMissing is gone.
	StateMissing State = "missing"
	// StateNotBegun is as it was before: the apply did not come so far.
	StateNotBegun State = "not begun"
	// StateRestored is as it was before: the rollback has been there.
	StateRestored State = "restored"
	// StateUnreadable could not be read, so nothing is known of it.
	StateUnreadable State = "unreadable"
)

// Status is how a set stands in a cluster.
type Status struct {
	Set   string `json:"set"`
	Phase Phase  `json:"phase"`
	// Unfinished says of an apply or a rollback that did not end how far it came.
	Unfinished string `json:"unfinished,omitempty"`
	// By is who began what the phase tells, and Since when.
	By      string         `json:"by,omitempty"`
	Since   time.Time      `json:"since,omitzero"`
	Options set.Options    `json:"options"`
	Objects []ObjectStatus `json:"objects"`
	Notes   []string       `json:"notes,omitempty"`
}

// ObjectStatus is how one object stands.
type ObjectStatus struct {
	Part   set.Part `json:"part"`
	Object Ref      `json:"object"`
	State  State    `json:"state"`
	// Stage is the one whose form it has, or of a drifted one the form it is compared with.
	Stage Stage `json:"stage,omitempty"`
	// Diff leads from what it should be to what it is.
	Diff []Line `json:"diff,omitempty"`
	// By are the managers, as the API server knows them, that own what differs.
	By      []string `json:"by,omitempty"`
	Message string   `json:"message,omitempty"`
}
