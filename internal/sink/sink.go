// Package sink is where the events of a watch go: its subpackages are one place each.
//
// A sink is a scan.Handler whose Handle is called from one goroutine and does not wait
// for anybody: what takes time is done by its Run, from what Handle has kept. A sink
// may be attached in the middle of a watch: it is then given the picture as it is, with
// the Start before and the Picture event behind it, and after that what changes.
package sink

import (
	"context"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Runner is a sink with work of its own.
type Runner interface {
	scan.Handler
	// Run does the work until the context ends, then finishes what can be finished in a
	// few seconds. It returns an error only where going on makes no sense.
	Run(ctx context.Context) error
}

// Notice is what a sink has to say of itself. Texts hold no secrets, and may be chosen by
// strangers: they are made harmless where they are shown.
type Notice struct {
	// Sink names it: "webhook", "reports".
	Sink string
	// Err is what went wrong, nil where it works again.
	Err error
	// Dropped counts events that were given up since the last notice.
	Dropped int
}
