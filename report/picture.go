package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Picture returns the stage for formats that know no changes. It holds the events of a
// watch until their end and then tells what was there at last, as a scan would, with
// a note of the time. The counts of the End are those of the picture. A scan passes as
// it is.
func Picture(next scan.Handler) scan.Handler { return &picture{next: next} }

type picture struct {
	next scan.Handler
	// state is nil in a scan.
	state *scan.State
	// last is when the latest event was learned.
	last time.Time
}

func (p *picture) Handle(e scan.Event) error {
	if e.Start != nil {
		// A watch that was started again begins anew.
		p.state, p.last = nil, e.Start.Time
		if e.Start.Watch {
			p.state = scan.NewState()
		}
	}
	if p.state == nil {
		return p.next.Handle(e)
	}
	if !e.Time.IsZero() {
		p.last = e.Time
	}
	if e.End == nil {
		return p.state.Handle(e)
	}
	return p.tell(e.End)
}

// tell sends the picture.
func (p *picture) tell(end *scan.End) error {
	closing := *end
	if end.Interrupted {
		// Nobody counted at the end.
		closing.Pods = p.state.Pods()
	}
	tally := scan.NewTally(p.next)
	for e := range p.state.Events() {
		if e.Start != nil {
			e.Start = p.start(e.Start)
		}
		if err := tally.Handle(e); err != nil {
			return err
		}
	}
	return tally.Handle(scan.Event{End: &closing})
}

// start is that of the watch, of which nothing more is to come.
func (p *picture) start(s *scan.Start) *scan.Start {
	still := *s
	still.Watch = false
	still.Notes = append(slices.Clip(still.Notes),
		"state of a watch at "+p.last.UTC().Format(time.RFC3339)+", which began at "+s.Time.UTC().Format(time.RFC3339))
	if alerts, lost := p.state.Forgotten(); alerts+lost > 0 {
		still.Notes = append(still.Notes, fmt.Sprintf("the oldest %d alerts and %d times of lost evidence are left out: the events of the watch have them", alerts, lost))
	}
	return &still
}
