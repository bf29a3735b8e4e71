package scan

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// Part is a piece of what one shard found, of which Join makes results: exactly one of
// its fields is set. A shard tells Around, in one piece or several, then Counts, then its
// rows in their order. It tells no verdicts, for they may hang on what other shards see: on how many containers
// run on a node, for instance.
type Part struct {
	// Around is what stands around the pods of all shards.
	Around *Outline `json:"around,omitempty"`
	// Counts is what the shard counted, and could not read.
	Counts *ShardCounts `json:"counts,omitempty"`
	// Row is what was judged of one workload.
	Row *ShardRow `json:"row,omitempty"`
}

// ShardCounts are what shards add up to the whole.
type ShardCounts struct {
	Pods int `json:"pods"`
	// Containers counts the running ones by the name of their node.
	Containers map[string]int `json:"containers,omitempty"`
	// Found counts the pods by the namespace that was asked for, "" for all; Partial says
	// of such a namespace why not all of its pods could be read, and Seen are those of
	// them that have workloads all the same.
	Found   map[string]int    `json:"found,omitempty"`
	Partial map[string]string `json:"partial,omitempty"`
	Seen    []string          `json:"seen,omitempty"`
	// Absent says of the namespaces that the run is limited to why they may not exist.
	Absent []Failure `json:"absent,omitempty"`
	// Owners are kinds of which owners could not be read, one failure for each; Failures
	// are all others.
	Owners   []Failure `json:"owners,omitempty"`
	Failures []Failure `json:"failures,omitempty"`
	Halves   []Halves  `json:"halves,omitempty"`
}

// ShardRow is what was judged of one workload, before it is known on which of its nodes
// more containers run than are enforced.
type ShardRow struct {
	Workload Workload  `json:"workload"`
	Claims   string    `json:"claims,omitempty"`
	Pods     int       `json:"pods"`
	Findings []Finding `json:"findings,omitempty"`
	Allowed  bool      `json:"allowed"`
	Controls []string  `json:"controls,omitempty"`
	Paths    []string  `json:"paths,omitempty"`
	Severity Severity  `json:"severity,omitempty"`
	// Exposed is true where a path is open for certain, Unsure says what would decide
	// otherwise and is not known, and More why further paths may be open.
	Exposed bool   `json:"exposed,omitempty"`
	Unsure  string `json:"unsure,omitempty"`
	More    string `json:"more,omitempty"`
	// Layers and Admitted are the answers that the Sources are made of.
	Layers   []*Layers     `json:"layers,omitempty"`
	Admitted []Admitted    `json:"admitted,omitempty"`
	Sources  []ShardSource `json:"sources,omitempty"`
	// Nodes are the names of nodes, "" for none, and Places pairs of indexes: of a node
	// and of what holds for the pods there.
	Nodes  []string `json:"nodes,omitempty"`
	Places [][2]int `json:"places,omitempty"`
}

// ShardSource says by indexes what holds for some pods: Quiet of the layers where all
// containers of their node are enforced, Crowded where there are too many.
type ShardSource struct {
	Quiet    int `json:"quiet"`
	Crowded  int `json:"crowded"`
	Admitted int `json:"admitted"`
}

// Admitted is what admission says of pods with one look. Reopen and the others are as in
// Layers.
type Admitted struct {
	Decision     admission.Decision `json:"decision"`
	Cells        []AdmittedPath     `json:"cells,omitempty"`
	Reopen       admission.Answer   `json:"reopen,omitempty"`
	Reopens      []string           `json:"reopens,omitempty"`
	ReopenReason string             `json:"reopenReason,omitempty"`
}

// AdmittedPath says of one open path of one container whether admission stops it.
type AdmittedPath struct {
	Path      string `json:"path"`
	Container string `json:"container,omitempty"`
	Cell      Cell   `json:"cell"`
}

// Check refuses a part that none could have written.
func (p *Part) Check() error {
	set := 0
	for _, is := range []bool{p.Around != nil, p.Counts != nil, p.Row != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return fmt.Errorf("want one of around, counts and row, have %d", set)
	case p.Row != nil:
		return p.Row.check()
	case p.Counts != nil:
		return p.Counts.check()
	}
	return nil
}

func (c *ShardCounts) check() error {
	counts := slices.Concat([]int{c.Pods}, slices.Collect(maps.Values(c.Containers)), slices.Collect(maps.Values(c.Found)))
	for _, h := range c.Halves {
		counts = append(counts, h.AdmissionOnly, h.RuntimeOnly)
	}
	if slices.ContainsFunc(counts, func(n int) bool { return !isCount(n) }) {
		return errors.New("counts: a number that is none of pods")
	}
	return nil
}

// isCount reports whether there may be so many. What is added up must not run over.
func isCount(n int) bool { return n >= 0 && n <= 1<<40 }

func (r *ShardRow) check() error {
	in := func(i, n int) bool { return i >= 0 && i < n }
	if slices.Contains(r.Layers, nil) {
		return fmt.Errorf("row %s: layers that are none", r.Workload)
	}
	for _, s := range r.Sources {
		if !in(s.Quiet, len(r.Layers)) || !in(s.Crowded, len(r.Layers)) || !in(s.Admitted, len(r.Admitted)) {
			return fmt.Errorf("row %s: a source that is not in the row", r.Workload)
		}
	}
	for _, at := range r.Places {
		if !in(at[0], len(r.Nodes)) || !in(at[1], len(r.Sources)) {
			return fmt.Errorf("row %s: a place that is not in the row", r.Workload)
		}
	}
	if !isCount(r.Pods) || len(r.Places) == 0 {
		return fmt.Errorf("row %s: of no pods", r.Workload)
	}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Workload != r.Workload || !isCount(f.Pods) {
			return fmt.Errorf("row %s: a finding that is none of its pods", r.Workload)
		}
	}
	return nil
}

// ShardOrder checks the rows of a shard one after the other.
type ShardOrder struct {
	shard   Shard
	cluster string
	last    *ShardRow
}

// NewShardOrder begins with the first row of a run of a shard that began so.
func NewShardOrder(start *Start) *ShardOrder {
	return &ShardOrder{shard: *start.Shard, cluster: start.Cluster}
}

// Next refuses a row that is not of the shard, or does not belong behind the one before.
func (o *ShardOrder) Next(row *ShardRow) error {
	switch w := row.Workload; {
	case !o.shard.Has(w.Namespace):
		return fmt.Errorf("workload %s is not of shard %s", w, o.shard)
	case w.Cluster != o.cluster:
		return fmt.Errorf("workload %s is of cluster %q, and the shard of %q", w, w.Cluster, o.cluster)
	case o.last != nil && compareShardRows(o.last, row) >= 0:
		return fmt.Errorf("workload %s is out of order", w)
	}
	o.last = row
	return nil
}

// compareShardRows is compareRows.
func compareShardRows(a, b *ShardRow) int {
	return cmp.Or(cmp.Compare(a.Workload.Namespace, b.Workload.Namespace), cmp.Compare(a.Workload.Kind, b.Workload.Kind),
		cmp.Compare(a.Workload.Name, b.Workload.Name), cmp.Compare(a.Claims, b.Claims))
}

// rows are the row again. The nodes are by name, and know how many containers run there.
func (r *ShardRow) rows(node func(name string) *nodeState) *rows {
	made := newRows(r.Workload, r.Claims)
	made.pods, made.findings, made.allowed = r.Pods, r.Findings, r.Allowed
	made.controls, made.paths, made.severity = r.Controls, r.Paths, r.Severity
	made.exposed, made.unsure, made.more = r.Exposed, r.Unsure, r.More
	decided := make([]*admitted, len(r.Admitted))
	for i := range r.Admitted {
		decided[i] = r.Admitted[i].admitted()
	}
	nodes := make([]*nodeState, len(r.Nodes))
	for i, name := range r.Nodes {
		nodes[i] = node(name)
	}
	for _, at := range r.Places {
		n, source := nodes[at[0]], r.Sources[at[1]]
		layers := r.Layers[source.Quiet]
		if n.crowded() {
			layers = r.Layers[source.Crowded]
		}
		made.addLayers(layers, decided[source.Admitted], n)
	}
	return made
}

func (a *Admitted) admitted() *admitted {
	made := &admitted{decision: a.Decision, reopen: a.Reopen, reopens: a.Reopens, because: a.ReopenReason, cells: map[pathKey]Cell{}}
	for _, c := range a.Cells {
		made.cells[pathKey{c.Path, c.Container}] = c.Cell
	}
	return made
}

// part is what of the answer has to be known to make it again.
func (a *admitted) part() Admitted {
	p := Admitted{Decision: a.decision, Reopen: a.reopen, Reopens: a.reopens, ReopenReason: a.because}
	for key, cell := range a.cells {
		p.Cells = append(p.Cells, AdmittedPath{key.path, key.container, cell})
	}
	slices.SortFunc(p.Cells, func(a, b AdmittedPath) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Container, b.Container))
	})
	return p
}
