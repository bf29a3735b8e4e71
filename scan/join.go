package scan

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"time"
)

// ShardRun is what one shard wrote.
type ShardRun struct {
	// Name is what messages call it: its file.
	Name  string
	Start Start
	// Around and Counts are nil where the shard was interrupted.
	Around *Outline
	Counts *ShardCounts
	End    End
	// Rows gives the rows in the order in which the shard wrote them.
	Rows iter.Seq2[*ShardRow, error]
}

// JoinOptions say what is joined to what the shards tell.
type JoinOptions struct {
	// Declarations and Failures are as in ClusterOptions.
	Declarations Declarations
	Failures     []Failure
}

// Join makes of what all shards of a cluster wrote the stream that one scan of it would
// have sent. It ends as every scan does, by the same code. An error says what is wrong
// with the shards, or is the handler's. Of a shard that was interrupted nothing is told,
// and the whole is interrupted.
func Join(shards []ShardRun, opts JoinOptions, next Handler) error {
	shards = slices.Clone(shards)
	if err := checkShards(shards); err != nil {
		return err
	}
	j := newJoin(shards, opts)
	start := j.start()
	if err := next.Handle(Event{Start: &start}); err != nil {
		return fmt.Errorf("%w: %w", errHandler, err)
	}
	e := j.ending(&start, next)
	for i := range e.outline.Nodes {
		if err := e.handle(Event{Node: &e.outline.Nodes[i]}); err != nil {
			return err
		}
	}
	return e.send(j.rows)
}

// joining is what several shards come to.
type joining struct {
	opts JoinOptions
	all  []ShardRun
	// whole are those that were not interrupted, lost the others.
	whole []ShardRun
	lost  []Shard
	// outline is that of the first of the whole ones, odd what others saw otherwise.
	outline *Outline
	odd     []string
	nodes   map[string]*nodeState
}

func newJoin(shards []ShardRun, opts JoinOptions) *joining {
	j := &joining{opts: opts, all: shards, outline: &Outline{}, nodes: map[string]*nodeState{}}
	for _, s := range shards {
		if s.Around == nil {
			j.lost = append(j.lost, *s.Start.Shard)
			continue
		}
		if j.whole = append(j.whole, s); len(j.whole) == 1 {
			j.outline = s.Around
		}
		for name, n := range s.Counts.Containers {
			j.node(name).containers += n
		}
		for _, what := range j.outline.differs(s.Around) {
			if !slices.Contains(j.odd, what) {
				j.odd = append(j.odd, what)
			}
		}
	}
	return j
}

func (j *joining) node(name string) *nodeState {
	n := j.nodes[name]
	if n == nil {
		n = &nodeState{name: name}
		j.nodes[name] = n
	}
	return n
}

// maxApart is how far apart shards of one run begin without a word about it. A file that
// an earlier run left looks like one of this run's.
const maxApart = time.Hour

// start is that of the whole: as early as the first of the shards.
func (j *joining) start() Start {
	byTime := func(a, b ShardRun) int { return a.Start.Time.Compare(b.Start.Time) }
	early, late := slices.MinFunc(j.all, byTime), slices.MaxFunc(j.all, byTime)
	start := j.all[0].Start
	start.Shard, start.Looks, start.Time = nil, nil, early.Start.Time
	if apart := late.Start.Time.Sub(early.Start.Time); apart > maxApart {
		start.Notes = append(slices.Clip(start.Notes), fmt.Sprintf("the shards were not read at one time: %s is %s older than %s, and what is told of its namespaces is as they were then", early.Name, apart.Round(time.Minute), late.Name))
	}
	for _, what := range j.odd {
		start.Notes = append(slices.Clip(start.Notes), fmt.Sprintf("not all shards saw the same %s, which changed between them: what is told of each workload is as its own shard saw them, and what is told of them is as %s did", what, j.whole[0].Name))
	}
	return start
}

// ending adds up what the shards counted.
func (j *joining) ending(start *Start, next Handler) *ending {
	pods := newPodReading(start.Namespaces, start.Selector)
	e := &ending{
		cluster: start.Cluster, namespaces: start.Namespaces, declarations: j.opts.Declarations,
		pods: &pods, seen: map[string]bool{}, outline: j.outline, rules: newRuleIndex(j.outline.Admission), next: next,
	}
	pods.lost = j.lost
	absent := map[string]*Failure{}
	var owners []Failure
	var told [][]Failure
	for _, s := range j.whole {
		c := s.Counts
		e.counts.Pods += c.Pods
		for ns, n := range c.Found {
			pods.found[ns] += n
		}
		for ns, why := range c.Partial {
			pods.partial[ns] = cmp.Or(pods.partial[ns], why)
		}
		for _, ns := range c.Seen {
			e.seen[ns] = true
		}
		for i := range c.Absent {
			absent[c.Absent[i].Namespace] = &c.Absent[i]
		}
		owners = joinOwners(owners, c.Owners)
		told = append(told, c.Failures)
		e.halves = joinHalves(e.halves, c.Halves)
	}
	for i := range j.outline.Nodes {
		if name := j.outline.Nodes[i].Name; j.node(name).crowded() {
			e.crowded = append(e.crowded, name)
		}
	}
	e.missing = slices.Concat(j.opts.Failures, owners, joinFailures(told))
	e.missing = append(e.missing, pods.failures(func(ns string) *Failure { return absent[ns] }, e.counts.Pods, func(ns string) int { return pods.found[ns] })...)
	j.addLost(e)
	return e
}

// addLost says of the shards that were interrupted that nothing is told of them.
func (j *joining) addLost(e *ending) {
	for _, s := range j.all {
		if s.Around != nil {
			continue
		}
		e.counts.Pods += s.End.Pods
		e.counts.Interrupted = true
		e.missing = append(e.missing, Failure{
			Subject: "shard " + s.Start.Shard.String(), Reason: FailureInterrupted, Message: "the scan of this shard was interrupted",
			Affects: fmt.Sprintf("its namespaces: %d pods were read there and are not reported", s.End.Pods),
		})
	}
}

// rows joins the rows of all shards, which are each in order.
func (j *joining) rows(yield func(*rows, error) bool) {
	type head struct {
		shard *ShardRun
		order *ShardOrder
		next  func() (*ShardRow, error, bool)
		row   *ShardRow
	}
	var heads []*head
	// advance reads the next row of a shard, nil where there is none.
	advance := func(h *head) error {
		row, err, ok := h.next()
		switch {
		case !ok:
			h.row = nil
			return nil
		case err != nil:
			return err
		}
		if err := h.order.Next(row); err != nil {
			return fmt.Errorf("%s: %w", h.shard.Name, err)
		}
		h.row = row
		return nil
	}
	for i := range j.whole {
		next, stop := iter.Pull2(j.whole[i].Rows)
		defer stop()
		h := &head{shard: &j.whole[i], order: NewShardOrder(&j.whole[i].Start), next: next}
		if err := advance(h); err != nil {
			yield(nil, err)
			return
		}
		heads = append(heads, h)
	}
	for {
		heads = slices.DeleteFunc(heads, func(h *head) bool { return h.row == nil })
		if len(heads) == 0 {
			return
		}
		first := slices.MinFunc(heads, func(a, b *head) int { return compareShardRows(a.row, b.row) })
		if !yield(first.row.rows(j.node), nil) {
			return
		}
		if err := advance(first); err != nil {
			yield(nil, err)
			return
		}
	}
}

// joinOwners joins failures of which one speaks for all of a kind and a namespace: the
// one that comes first by its text, as within a scan.
func joinOwners(all, more []Failure) []Failure {
	for _, f := range more {
		at := slices.IndexFunc(all, func(o Failure) bool { return o.Subject == f.Subject && o.Namespace == f.Namespace })
		switch {
		case at < 0:
			all = append(all, f)
		case f.Message < all[at].Message:
			all[at] = f
		}
	}
	return all
}

// joinFailures are all failures of the lists, those that several have once: what stands
// around the pods every shard failed to read for itself. What one list has twice is there
// twice.
func joinFailures(lists [][]Failure) []Failure {
	var all []Failure
	have := map[FailureRef]int{}
	for _, list := range lists {
		counted := map[FailureRef]int{}
		for _, f := range list {
			ref := f.Ref()
			if counted[ref]++; counted[ref] > have[ref] {
				have[ref]++
				all = append(all, f)
			}
		}
	}
	return all
}

// joinHalves adds up the pods of each pair of policies.
func joinHalves(all, more []Halves) []Halves {
	for _, h := range more {
		at := slices.IndexFunc(all, func(o Halves) bool { return o.Admission == h.Admission && o.Runtime == h.Runtime })
		if at < 0 {
			all = append(all, h)
			continue
		}
		all[at].AdmissionOnly += h.AdmissionOnly
		all[at].RuntimeOnly += h.RuntimeOnly
	}
	return all
}

// differs says what another saw otherwise of what is judged.
func (o *Outline) differs(other *Outline) []string {
	if o == other {
		return nil
	}
	var what []string
	if !slices.EqualFunc(o.Nodes, other.Nodes, sameNodeOutline) {
		what = append(what, "nodes")
	}
	if !reflect.DeepEqual(o.Runtime, other.Runtime) || !reflect.DeepEqual(o.Admission, other.Admission) {
		what = append(what, "policies")
	}
	if !slices.EqualFunc(o.Findings, other.Findings, func(a, b Finding) bool { return a.Fingerprint() == b.Fingerprint() }) && len(what) == 0 {
		what = append(what, "labels of namespaces")
	}
	return what
}

// sameNodeOutline reports whether two looks at a node found the same to be enforced.
func sameNodeOutline(a, b Node) bool {
	if a.Name != b.Name || (a.Enforcement == nil) != (b.Enforcement == nil) {
		return false
	}
	if a.Enforcement == nil {
		return true
	}
	x, y := a.Enforcement, b.Enforcement
	return x.Capabilities == y.Capabilities && x.Processes == y.Processes && x.Agent == y.Agent && x.Grade == y.Grade && x.Enforcer == y.Enforcer
}

// checkShards puts the shards into their order, and refuses what is not all of one
// cluster, each once.
func checkShards(shards []ShardRun) error {
	if len(shards) == 0 {
		return errors.New("no shard")
	}
	first := &shards[0]
	for i := range shards {
		s := &shards[i]
		switch {
		case s.Start.Shard == nil || !s.Start.Shard.Valid() || s.Start.Watch || s.Start.Alerts || s.Start.Source == SourceManifests || s.Start.Source == SourceFleet:
			return fmt.Errorf("%s: not the run of a shard", s.Name)
		case (s.Around == nil) != (s.Counts == nil) || s.Around == nil && !s.End.Interrupted:
			return fmt.Errorf("%s: parts are missing", s.Name)
		case s.Around != nil && s.End.Interrupted:
			return fmt.Errorf("%s: parts of a run that was interrupted, which tells none", s.Name)
		case !isCount(s.End.Pods):
			return fmt.Errorf("%s: end: a number that is none of pods", s.Name)
		}
		if what := first.otherRun(s); what != "" {
			return fmt.Errorf("%s and %s are not of one run: %s", first.Name, s.Name, what)
		}
	}
	slices.SortStableFunc(shards, func(a, b ShardRun) int { return cmp.Compare(a.Start.Shard.Index, b.Start.Shard.Index) })
	of, next := shards[0].Start.Shard.Of, 0
	for i := range shards {
		at := shards[i].Start.Shard.Index
		switch {
		case at < next:
			return fmt.Errorf("%s and %s are both shard %s", shards[i-1].Name, shards[i].Name, shards[i].Start.Shard)
		case at > next:
			return fmt.Errorf("shard %s is missing: %d of %d were given", Shard{next, of}, len(shards), of)
		}
		next++
	}
	if next < of {
		return fmt.Errorf("shard %s is missing: %d of %d were given", Shard{next, of}, len(shards), of)
	}
	return nil
}

// otherRun says by what two shards cannot be of one run, empty where they can. When they
// began, and what is noted of that, is each one's own.
func (s *ShardRun) otherRun(o *ShardRun) string {
	a, b := s.Start, o.Start
	for _, field := range []struct {
		what string
		a, b any
	}{
		{"the number of shards", a.Shard.Of, b.Shard.Of},
		{"tool", a.Tool, b.Tool}, {"version of the tool", a.Version, b.Version},
		{"schema", a.Schema, b.Schema}, {"version of the rules", a.RuleSet, b.RuleSet},
		{"source", a.Source, b.Source}, {"cluster", a.Cluster, b.Cluster},
		{"version of the server", a.ServerVersion, b.ServerVersion},
		{"level", a.Level, b.Level}, {"version of the Pod Security Standards", a.PSSVersion, b.PSSVersion},
		{"namespaces", fmt.Sprintf("%q", a.Namespaces), fmt.Sprintf("%q", b.Namespaces)}, {"selector", a.Selector, b.Selector},
		{"flags to look closer", fmt.Sprintf("%q", a.Looks), fmt.Sprintf("%q", b.Looks)},
	} {
		if field.a != field.b {
			return fmt.Sprintf("%s %v and %v", field.what, field.a, field.b)
		}
	}
	return ""
}
