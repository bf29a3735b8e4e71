package tui

import (
	"context"
	"io"
	"time"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Options are what the program is made of.
type Options struct {
	// Source is what is looked at, for people: the context, the files, the demo.
	Source string
	// Feed has the picture. Who runs the program fills it.
	Feed *Feed
	// Rules are the records that findings speak of.
	Rules []scan.Rule
	// Remedy plans and makes changes; nil where there is nothing to change, and NoRemedy
	// says why.
	Remedy   Remedy
	NoRemedy string
	// Export writes events in a format of Formats to a file, and never over one that is
	// there.
	Export  func(ctx context.Context, format, path string, events []scan.Event) error
	Formats []string
	// Copy puts text where people paste from. It may write to the terminal through the
	// writer, which is the program's own.
	Copy func(ctx context.Context, terminal io.Writer, text string) error
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// Theme is auto, light or dark, and Color auto, always or never.
	Theme, Color string
	// Pace is the least time between two pictures; 0 is a tenth of a second.
	Pace time.Duration
}

// Remedy is what closes ways out. Its methods are called outside of the program's
// goroutine, one at a time, and may take long; they end soon after their context does.
type Remedy interface {
	// Plan reads the cluster and says what a set would change and break. It changes
	// nothing.
	Plan(ctx context.Context, ask RemedyAsk) (*RemedyPlan, error)
	// Rollback plans to put back what was before the set.
	Rollback(ctx context.Context) (*RemedyPlan, error)
	// Apply carries a plan out, once. Progress is called from one goroutine. A result is
	// worth showing beside an error too.
	Apply(ctx context.Context, plan *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error)
}

// RemedyAsk is what a plan is asked for.
type RemedyAsk struct {
	// Namespaces limits the set; none means all but the system's.
	Namespaces []string
	Level      psa.Level
	Action     set.Action
	// Only are the parts of the set, none for all of them.
	Only []set.Part
	// Accept are workloads, as NAMESPACE/KIND/NAME, whose breaking is accepted.
	Accept []string
}

// RemedyPlan is a plan to be looked at.
type RemedyPlan struct {
	// View is what is shown: the plan, the set and what it would break.
	View report.Remediation
	// Refused says why it may not be carried out, empty where it may.
	Refused string
	// Idle says that there is nothing to do at all.
	Idle bool
	// Word is what has to be typed before it is carried out.
	Word string
	// Command is the command line that does the same.
	Command string
}

func (o *Options) pace() time.Duration {
	if o.Pace > 0 {
		return o.Pace
	}
	return 100 * time.Millisecond
}

func (o *Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}
