package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// TableOptions are the choices of the table.
type TableOptions struct {
	// Width is the number of cells of the terminal. 0 is for pipes: nothing is
	// wrapped, shortened or folded, and every line says what it is about, so that
	// grep finds it.
	Width int
	// Color switches colours on. What they say stands in words too.
	Color bool
}

// maxListed is how many workloads without findings, failures or names of nodes
// stand in a list on a terminal before the rest becomes a number.
const maxListed = 10

// NewTable returns a handler that writes the run for people, at its end: what
// could not be read, then the workloads, worst first, then nodes and a summary.
func NewTable(w io.Writer, opts TableOptions) scan.Handler {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, narrowest)
	}
	return &table{
		w:      w,
		layout: layout{width: opts.Width, color: opts.Color},
		said:   map[string]bool{},
	}
}

// table collects a run and writes it.
type table struct {
	layout
	gathered
	w io.Writer
	// said are the messages that stand on the terminal already.
	said map[string]bool
	// clusterPad is the least width of the column of clusters.
	clusterPad int
	// columned is true once the columns of the layers were written.
	columned bool
}

func (t *table) Handle(e scan.Event) error {
	t.take(e)
	if e.End == nil {
		return nil
	}
	t.render(e.End)
	if _, err := t.w.Write(t.out.Bytes()); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	return nil
}

// verdictRank counts from the worst; a verdict unknown to this version is bad.
func verdictRank(v scan.Verdict) int { return slices.Index(scan.Verdicts(), v) }

func compareVerdicts(a, b *scan.WorkloadVerdict) int {
	return cmp.Or(
		cmp.Compare(verdictRank(a.Verdict), verdictRank(b.Verdict)),
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
		cmp.Compare(b.Pods, a.Pods),
		cmp.Compare(a.Reason, b.Reason),
		cmp.Compare(a.Claims, b.Claims),
		slices.Compare(a.Controls, b.Controls),
		compareLocations(a.Location, b.Location),
	)
}

// compareFindings puts what counts before what is excepted, the worst first, and
// ways out before the controls that would have stopped them.
func compareFindings(a, b *scan.Finding) int {
	if c := cmp.Or(
		compareBools(a.Excepted != nil, b.Excepted != nil),
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
		compareBools(b.Open, a.Open),
		cmp.Compare(a.Category, b.Category),
		cmp.Compare(a.Rule, b.Rule),
		a.Workload.Compare(b.Workload),
		cmp.Compare(a.ContainerKind, b.ContainerKind),
		compareFields(a.Field, b.Field),
		cmp.Compare(a.Container, b.Container),
		cmp.Compare(a.Item, b.Item),
		compareLocations(a.Location, b.Location),
	); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(compactJSON(a.Now), compactJSON(b.Now)),
		cmp.Compare(a.Message, b.Message),
		cmp.Compare(a.Image, b.Image),
		cmp.Compare(b.Pods, a.Pods),
		cmp.Compare(a.Claims, b.Claims),
	)
}

// compareFailures puts first the clusters that could not be reached at all.
func compareFailures(a, b *scan.Failure) int {
	return cmp.Or(
		compareBools(!unreached(a), !unreached(b)),
		cmp.Compare(a.Cluster, b.Cluster),
		cmp.Compare(a.Subject, b.Subject),
		cmp.Compare(a.Namespace, b.Namespace),
		compareLocations(a.Location, b.Location),
		cmp.Compare(a.Reason, b.Reason),
		cmp.Compare(a.Message, b.Message),
	)
}

// unreached reports whether a failure is that of a whole cluster of a fleet.
func unreached(f *scan.Failure) bool { return f.Cluster != "" && f.Subject == scan.SubjectCluster }

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// compareFields compares paths so that containers[10] follows containers[9].
func compareFields(a, b string) int {
	return cmp.Or(cmp.Compare(len(digits(a)), len(digits(b))), cmp.Compare(a, b))
}

// digits is the first run of digits in a path: the index of the container.
func digits(path string) string {
	i := strings.IndexAny(path, "0123456789")
	if i < 0 {
		return ""
	}
	end := i
	for end < len(path) && path[end] >= '0' && path[end] <= '9' {
		end++
	}
	return path[i:end]
}

func compareLocations(a, b *scan.Location) int {
	if a == nil || b == nil {
		return compareBools(a == nil, b == nil)
	}
	return cmp.Or(
		cmp.Compare(a.File, b.File),
		cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column),
	)
}
