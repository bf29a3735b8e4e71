package remediate

import (
	"context"
	"time"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// PlanOptions say what is planned, and where the record is kept.
type PlanOptions struct {
	// RecordNamespace is where the record is; empty for DefaultRecordNamespace.
	RecordNamespace string
	// Stages are those that are applied, nil for all.
	Stages []Stage
	// Force takes fields over that others own.
	Force bool

	// recordLimit stands in for the constant in tests.
	recordLimit int
}

// ApplyOptions say how a plan is carried out.
type ApplyOptions struct {
	// By is who does it, as the record tells it.
	By string
	// Now tells the time.
	Now func() time.Time
	// Verify is asked after each stage about the objects that stand in the stage's form;
	// nil for not at all. What it answers with no keeps the next stage from beginning.
	Verify func(ctx context.Context, stage Stage, objects []set.Object) []Check
	// Progress is told of each change and each check; it may be nil.
	Progress func(Progress)
}

// Check is what is known of whether something has its effect.
type Check struct {
	Subject string        `json:"subject"`
	Answer  kernel.Answer `json:"answer"`
	Message string        `json:"message,omitempty"`
}

// Progress is how far an apply or a rollback is. Either a change or a check is new.
type Progress struct {
	Stage       Stage
	Done, Total int
	Change      *Change
	Check       *Check
}

// Result is what came of an apply or a rollback. It is worth reading beside an error too.
type Result struct {
	// Changes are those that were made, and those that needed none.
	Changes []Change `json:"changes"`
	Checks  []Check  `json:"checks,omitempty"`
	// Left counts the changes that were not made.
	Left int `json:"left"`
}
