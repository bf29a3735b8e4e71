package scan

import "maps"

// NewOnly is the stage that leaves out what a baseline already had: findings
// whose fingerprint is in known. Each fingerprint takes out as many findings as it
// was counted, so a second one of a kind still shows.
func NewOnly(known map[string]int, next Handler) Handler {
	left := maps.Clone(known)
	dropped := 0
	return HandlerFunc(func(e Event) error {
		switch {
		case e.Finding != nil && left[e.Finding.Fingerprint()] > 0:
			left[e.Finding.Fingerprint()]--
			dropped++
			return nil
		case e.End != nil:
			end := *e.End
			end.Known += dropped
			e.End = &end
		}
		return next.Handle(e)
	})
}

// Tally is the stage that counts: it fills the counts of End by what passed, so
// that every format and the exit code say the same. It also keeps the End.
type Tally struct {
	next     Handler
	findings map[Severity]int
	verdicts map[Verdict]int
	excepted int
	failures int
	end      *End
}

// NewTally counts in front of next.
func NewTally(next Handler) *Tally {
	t := &Tally{next: next, findings: map[Severity]int{}, verdicts: map[Verdict]int{}}
	// A zero is an answer; a key that is not there is none.
	for _, s := range Severities() {
		t.findings[s] = 0
	}
	for _, v := range Verdicts() {
		t.verdicts[v] = 0
	}
	return t
}

// Handle counts the event and passes it on.
func (t *Tally) Handle(e Event) error {
	switch {
	case e.Finding != nil && e.Finding.Excepted != nil:
		t.excepted++
	case e.Finding != nil:
		t.findings[e.Finding.Severity]++
	case e.Verdict != nil:
		t.verdicts[e.Verdict.Verdict]++
	case e.Failure != nil:
		t.failures++
	case e.End != nil:
		end := *e.End
		end.Findings, end.Verdicts = t.findings, t.verdicts
		end.Excepted, end.Failures = t.excepted, t.failures
		end.Workloads = 0
		for _, n := range t.verdicts {
			end.Workloads += n
		}
		end.Incomplete = end.Incomplete || t.failures > 0 || end.Interrupted
		t.end, e.End = &end, &end
	}
	return t.next.Handle(e)
}

// End is the End that passed, nil before.
func (t *Tally) End() *End { return t.end }

// AtLeast is how many findings that count are as bad as gate.
func (end *End) AtLeast(gate Severity) int {
	n := 0
	for severity, count := range end.Findings {
		if severity.AtLeast(gate) {
			n += count
		}
	}
	return n
}
