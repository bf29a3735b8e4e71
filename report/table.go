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
		groups: map[scan.Workload]*group{},
		said:   map[string]bool{},
	}
}

// table collects a run and writes it.
type table struct {
	layout
	w          io.Writer
	start      *scan.Start
	nodes      []*scan.Node
	failures   []*scan.Failure
	exceptions []*scan.Finding
	// policies were found; dull are the findings of those that do not bite, and weak
	// those of nodes that do not enforce.
	policies   []*scan.Policy
	dull, weak []*scan.Finding
	groups     map[scan.Workload]*group
	told       alertLog
	// said are the messages that stand on the terminal already.
	said map[string]bool
	// columned is true once the columns of the layers were written.
	columned bool
}

// group is what is known of one workload. It has more than one verdict when some
// of its pods differ from the rest.
type group struct {
	workload scan.Workload
	verdicts []*scan.WorkloadVerdict
	findings []*scan.Finding
}

func (t *table) Handle(e scan.Event) error {
	switch {
	case e.Start != nil:
		t.start = e.Start
	case e.Node != nil:
		t.nodes = append(t.nodes, e.Node)
	case e.Failure != nil:
		t.failures = append(t.failures, e.Failure)
	case e.Policy != nil:
		t.policies = append(t.policies, e.Policy)
	case e.Finding != nil:
		t.keep(e.Finding)
	case e.Verdict != nil:
		g := t.group(e.Verdict.Workload)
		g.verdicts = append(g.verdicts, e.Verdict)
	case e.Alert != nil, e.Lost != nil:
		t.told.keep(e)
	case e.End != nil:
		t.render(e.End)
		if _, err := t.w.Write(t.out.Bytes()); err != nil {
			return fmt.Errorf("table: %w", err)
		}
	}
	return nil
}

// keep puts a finding where it is written: what no field of a workload is to blame
// for has a section of its own.
func (t *table) keep(f *scan.Finding) {
	switch f.Category {
	case scan.CategoryException:
		t.exceptions = append(t.exceptions, f)
	case scan.CategoryPolicy:
		t.dull = append(t.dull, f)
	case scan.CategoryKernel:
		t.weak = append(t.weak, f)
	default:
		g := t.group(f.Workload)
		g.findings = append(g.findings, f)
	}
}

func (t *table) group(w scan.Workload) *group {
	g, ok := t.groups[w]
	if !ok {
		g = &group{workload: w}
		t.groups[w] = g
	}
	return g
}

// sorted puts everything into an order that does not hang on the order of the
// events, and returns the groups, worst first.
func (t *table) sorted() []*group {
	groups := make([]*group, 0, len(t.groups))
	for _, g := range t.groups {
		slices.SortStableFunc(g.verdicts, compareVerdicts)
		slices.SortStableFunc(g.findings, compareFindings)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, compareGroups)
	for _, list := range [][]*scan.Finding{t.exceptions, t.dull, t.weak} {
		slices.SortStableFunc(list, compareFindings)
	}
	slices.SortStableFunc(t.policies, comparePolicies)
	slices.SortStableFunc(t.nodes, func(a, b *scan.Node) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(t.failures, compareFailures)
	return groups
}

func compareGroups(a, b *group) int {
	return cmp.Or(
		cmp.Compare(verdictRank(a.verdict()), verdictRank(b.verdict())),
		cmp.Compare(b.severity().Rank(), a.severity().Rank()),
		compareWorkloads(a.workload, b.workload),
	)
}

// verdict is the worst verdict of the group. A group without one has findings
// that no verdict followed, and nothing good may be taken from that.
func (g *group) verdict() scan.Verdict {
	if len(g.verdicts) == 0 {
		return scan.VerdictUnknown
	}
	return g.verdicts[0].Verdict
}

// severity is that of the worst finding that counts, or of the worst open path.
func (g *group) severity() scan.Severity {
	var worst scan.Severity
	for _, v := range g.verdicts {
		if v.Severity.Rank() > worst.Rank() {
			worst = v.Severity
		}
	}
	for _, f := range g.findings {
		if f.Excepted == nil && f.Severity.Rank() > worst.Rank() {
			worst = f.Severity
		}
	}
	return worst
}

// verdictRank counts from the worst; a verdict unknown to this version is bad.
func verdictRank(v scan.Verdict) int { return slices.Index(scan.Verdicts(), v) }

func compareWorkloads(a, b scan.Workload) int {
	return cmp.Or(
		cmp.Compare(a.Cluster, b.Cluster),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Name, b.Name),
	)
}

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
		compareWorkloads(a.Workload, b.Workload),
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

func compareFailures(a, b *scan.Failure) int {
	return cmp.Or(
		cmp.Compare(a.Subject, b.Subject),
		cmp.Compare(a.Namespace, b.Namespace),
		compareLocations(a.Location, b.Location),
		cmp.Compare(a.Reason, b.Reason),
		cmp.Compare(a.Message, b.Message),
	)
}

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
