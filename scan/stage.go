package scan

import "maps"

// Known are the findings of an earlier run, by their fingerprints. Those of a fleet are
// known of their cluster only; those of any other run wherever they are, and in each
// cluster of a fleet anew.
type Known struct {
	fleet  bool
	counts map[knownKey]int
}

// knownKey has a cluster where the findings are of a fleet.
type knownKey struct{ cluster, fingerprint string }

// NewKnown counts the findings of the run that began so.
func NewKnown(start *Start, findings []Finding) *Known {
	k := &Known{fleet: start.Source == SourceFleet, counts: map[knownKey]int{}}
	for i := range findings {
		k.counts[k.key(&findings[i])]++
	}
	return k
}

func (k *Known) key(f *Finding) knownKey {
	key := knownKey{fingerprint: f.Fingerprint()}
	if k.fleet {
		key.cluster = f.Workload.Cluster
	}
	return key
}

// NewOnly is the stage that leaves out what a baseline already had: findings that are
// known. Each fingerprint takes out as many findings as it was counted, so a second one
// of a kind still shows.
func NewOnly(known *Known, next Handler) Handler {
	left := maps.Clone(known.counts)
	dropped, inCluster := 0, 0
	return HandlerFunc(func(e Event) error {
		switch {
		case e.Finding != nil:
			if key := known.key(e.Finding); left[key] > 0 {
				left[key]--
				dropped++
				inCluster++
				return nil
			}
		case e.Cluster != nil:
			closed := *e.Cluster
			closed.End.Known += inCluster
			e.Cluster, inCluster = &closed, 0
			if !known.fleet {
				left = maps.Clone(known.counts)
			}
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
	next Handler
	all  counts
	// cluster is what was counted since the last cluster of a fleet was closed.
	cluster  counts
	clusters []ClusterRun
	end      *End
}

// NewTally counts in front of next.
func NewTally(next Handler) *Tally {
	return &Tally{next: next, all: newCounts(), cluster: newCounts()}
}

// Handle counts the event and passes it on.
func (t *Tally) Handle(e Event) error {
	t.all.add(e)
	t.cluster.add(e)
	switch {
	case e.Cluster != nil:
		closed := *e.Cluster
		closed.End = t.cluster.fill(closed.End)
		t.cluster, e.Cluster = newCounts(), &closed
		t.clusters = append(t.clusters, closed)
	case e.End != nil:
		end := t.all.fill(*e.End)
		t.end, e.End = &end, &end
	}
	return t.next.Handle(e)
}

// counts are those of an End.
type counts struct {
	findings map[Severity]int
	verdicts map[Verdict]int
	excepted int
	failures int
}

func newCounts() counts {
	c := counts{findings: map[Severity]int{}, verdicts: map[Verdict]int{}}
	// A zero is an answer; a key that is not there is none.
	for _, s := range Severities() {
		c.findings[s] = 0
	}
	for _, v := range Verdicts() {
		c.verdicts[v] = 0
	}
	return c
}

func (c *counts) add(e Event) {
	switch {
	case e.Finding != nil && e.Finding.Excepted != nil:
		c.excepted++
	case e.Finding != nil:
		c.findings[e.Finding.Severity]++
	case e.Verdict != nil:
		c.verdicts[e.Verdict.Verdict]++
	case e.Failure != nil:
		c.failures++
	}
}

// fill puts the counts into an End.
func (c *counts) fill(end End) End {
	end.Findings, end.Verdicts = c.findings, c.verdicts
	end.Excepted, end.Failures = c.excepted, c.failures
	end.Workloads = 0
	for _, n := range c.verdicts {
		end.Workloads += n
	}
	end.Incomplete = end.Incomplete || c.failures > 0 || end.Interrupted
	return end
}

// End is the End that passed, nil before.
func (t *Tally) End() *End { return t.end }

// Clusters are the clusters of a fleet that were closed so far.
func (t *Tally) Clusters() []ClusterRun { return t.clusters }

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
