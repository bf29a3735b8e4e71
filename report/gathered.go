package report

import (
	"cmp"
	"maps"
	"slices"

	"github.com/escape-scanner/escape-scanner/scan"
)

// gathered is a run up to its end, for formats that write it for people.
type gathered struct {
	start *scan.Start
	// clusters are those of a fleet, in its order.
	clusters   []*scan.ClusterRun
	nodes      []*scan.Node
	failures   []*scan.Failure
	exceptions []*scan.Finding
	// policies were found; dull are the findings of those that do not bite, and weak
	// those of nodes that do not enforce.
	policies   []*scan.Policy
	dull, weak []*scan.Finding
	groups     map[scan.Workload]*group
	told       alertLog
}

// group is what is known of one workload. It has more than one verdict when some
// of its pods differ from the rest.
type group struct {
	workload scan.Workload
	verdicts []*scan.WorkloadVerdict
	findings []*scan.Finding
}

// take keeps an event.
func (c *gathered) take(e scan.Event) {
	switch {
	case e.Start != nil:
		c.start = e.Start
	case e.Cluster != nil:
		c.clusters = append(c.clusters, e.Cluster)
	case e.Node != nil:
		c.nodes = append(c.nodes, e.Node)
	case e.Failure != nil:
		c.failures = append(c.failures, e.Failure)
	case e.Policy != nil:
		c.policies = append(c.policies, e.Policy)
	case e.Finding != nil:
		c.keep(e.Finding)
	case e.Verdict != nil:
		g := c.group(e.Verdict.Workload)
		g.verdicts = append(g.verdicts, e.Verdict)
	case e.Alert != nil, e.Lost != nil:
		c.told.keep(e)
	}
}

// keep puts a finding where it is written: what no field of a workload is to blame
// for has a section of its own.
func (c *gathered) keep(f *scan.Finding) {
	switch f.Category {
	case scan.CategoryException:
		c.exceptions = append(c.exceptions, f)
	case scan.CategoryPolicy:
		c.dull = append(c.dull, f)
	case scan.CategoryKernel:
		c.weak = append(c.weak, f)
	default:
		g := c.group(f.Workload)
		g.findings = append(g.findings, f)
	}
}

func (c *gathered) group(w scan.Workload) *group {
	g, ok := c.groups[w]
	if !ok {
		if c.groups == nil {
			c.groups = map[scan.Workload]*group{}
		}
		g = &group{workload: w}
		c.groups[w] = g
	}
	return g
}

// sorted puts everything into an order that does not hang on the order of the
// events, and returns the groups, worst first.
func (c *gathered) sorted() []*group {
	groups := make([]*group, 0, len(c.groups))
	for _, g := range c.groups {
		slices.SortStableFunc(g.verdicts, compareVerdicts)
		slices.SortStableFunc(g.findings, compareFindings)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, compareGroups)
	for _, list := range [][]*scan.Finding{c.exceptions, c.dull, c.weak} {
		slices.SortStableFunc(list, compareFindings)
	}
	slices.SortStableFunc(c.policies, ComparePolicies)
	slices.SortStableFunc(c.nodes, func(a, b *scan.Node) int { return a.Ref().Compare(b.Ref()) })
	slices.SortStableFunc(c.failures, compareFailures)
	return groups
}

func compareGroups(a, b *group) int {
	return cmp.Or(
		cmp.Compare(verdictRank(a.verdict()), verdictRank(b.verdict())),
		cmp.Compare(b.severity().Rank(), a.severity().Rank()),
		a.workload.Compare(b.workload),
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

// way is an escape path that is open somewhere: in how many workloads, and in how many of
// these it is stopped at run time.
type way struct {
	rule               string
	severity           scan.Severity
	workloads, guarded int
}

// ways are the escape paths that are open, the worst and most frequent first.
func (c *gathered) ways() []*way {
	byRule := map[string]*way{}
	of := func(rule string) *way {
		if byRule[rule] == nil {
			byRule[rule] = &way{rule: rule}
		}
		return byRule[rule]
	}
	for _, g := range c.groups {
		open := map[string]bool{}
		for _, v := range g.verdicts {
			for _, id := range v.Paths {
				open[id] = true
			}
		}
		for id := range open {
			of(id).workloads++
		}
		for _, id := range g.guarded() {
			of(id).guarded++
		}
		for _, f := range g.findings {
			if f.Open && f.Severity.Rank() > of(f.Rule).severity.Rank() {
				of(f.Rule).severity = f.Severity
			}
		}
	}
	maps.DeleteFunc(byRule, func(_ string, w *way) bool { return w.workloads == 0 })
	return slices.SortedFunc(maps.Values(byRule), func(a, b *way) int {
		return cmp.Or(
			cmp.Compare(b.severity.Rank(), a.severity.Rank()),
			cmp.Compare(b.workloads, a.workloads),
			cmp.Compare(a.rule, b.rule))
	})
}

// guarded are the paths of a workload that are stopped wherever they are open.
func (g *group) guarded() []string {
	if !slices.ContainsFunc(g.verdicts, func(v *scan.WorkloadVerdict) bool { return v.Layers != nil }) {
		return nil
	}
	states := map[string]bool{}
	for _, v := range g.verdicts {
		if v.Layers == nil {
			// What is open here was not held against the layers.
			for _, id := range v.Paths {
				states[id] = false
			}
			continue
		}
		for i := range v.Layers.Paths {
			p := &v.Layers.Paths[i]
			stopped, seen := states[p.Path]
			states[p.Path] = p.State == scan.PathStopped && (stopped || !seen)
		}
	}
	maps.DeleteFunc(states, func(_ string, stopped bool) bool { return !stopped })
	return slices.Sorted(maps.Keys(states))
}
