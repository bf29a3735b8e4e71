package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// ordered are the parts of the file in the order of the fleet, or the one of any other
// run. What is of no cluster goes to the first.
func (s *sarifReport) ordered(end *scan.End) []*sarifPart {
	if !isFleet(s.start) {
		p := s.part("")
		p.start, p.end = s.start, end
		return []*sarifPart{p}
	}
	segments := clusterSegments(s.start.Clusters)
	parts := make([]*sarifPart, len(s.start.Clusters))
	for i, name := range s.start.Clusters {
		p := s.part(name)
		p.segment = segments[i]
		s.describe(p)
		parts[i] = p
	}
	if loose := s.parts[""]; loose != nil {
		first := parts[0]
		first.findings = append(first.findings, loose.findings...)
		first.failures = append(first.failures, loose.failures...)
		for _, a := range loose.told.alerts {
			first.told.keep(scan.Event{Alert: a})
		}
		for _, l := range loose.told.lost {
			first.told.keep(scan.Event{Lost: l})
		}
	}
	parts[0].start.Notes = slices.Concat(s.start.Notes, parts[0].start.Notes)
	return parts
}

// describe fills in what the run on a cluster was where it could not say so itself.
func (s *sarifReport) describe(p *sarifPart) {
	start := scan.Start{Source: scan.SourceCluster}
	if p.start != nil {
		start = *p.start
	}
	start.Tool, start.Version, start.RuleSet = cmp.Or(start.Tool, s.start.Tool), cmp.Or(start.Version, s.start.Version), cmp.Or(start.RuleSet, s.start.RuleSet)
	start.Level, start.PSSVersion = cmp.Or(start.Level, s.start.Level), cmp.Or(start.PSSVersion, s.start.PSSVersion)
	if start.Time.IsZero() {
		start.Time = s.start.Time
	}
	p.start = &start
	if p.end == nil {
		p.end = &scan.End{Incomplete: true}
	}
}

// clusterSegments are the names of clusters as parts of paths and of the names of runs:
// of harmless letters, and no two of them alike whatever a reader makes of case and signs.
// A name that had to be changed carries a part of its hash, so that it stays the same
// whatever other clusters there are.
func clusterSegments(names []string) []string {
	fold := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '_'
		}, strings.ToLower(s))
	}
	times := map[string]int{}
	segments := make([]string, len(names))
	for i, name := range names {
		segments[i] = segment(name)
		times[fold(segments[i])]++
	}
	for i, name := range names {
		if segments[i] != name || times[fold(segments[i])] > 1 {
			sum := sha256.Sum256([]byte(name))
			segments[i] = limitSegment(segments[i]) + "-" + hex.EncodeToString(sum[:4])
		}
	}
	return segments
}

// limitSegment keeps a name short enough for what is put behind it.
func limitSegment(s string) string {
	const most = 100
	return s[:min(len(s), most)]
}

// fewParts leaves out the clusters that are too many for one file: those that nothing is
// known of first, then those with the least findings. What stays keeps its order.
func (s *sarifReport) fewParts(parts []*sarifPart) []*sarifPart {
	if len(parts) <= s.maxRuns {
		return parts
	}
	ranked := slices.SortedStableFunc(slices.Values(parts), compareWeight)
	kept, left := map[*sarifPart]bool{}, ranked[s.maxRuns:]
	for _, p := range ranked[:s.maxRuns] {
		kept[p] = true
	}
	parts = slices.DeleteFunc(parts, func(p *sarifPart) bool { return !kept[p] })
	parts[0].left = append(parts[0].left, clustersLeftOut(left, s.maxRuns))
	return parts
}

// compareWeight puts first the clusters with the most findings of the worst kind.
func compareWeight(a, b *sarifPart) int {
	for _, sev := range scan.Severities() {
		if c := cmp.Compare(b.end.Findings[sev], a.end.Findings[sev]); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(b.findings), len(a.findings)), cmp.Compare(b.end.Workloads, a.end.Workloads))
}

// clustersLeftOut names the clusters that have no run, those that were not read completely
// first.
func clustersLeftOut(parts []*sarifPart, most int) string {
	slices.SortStableFunc(parts, func(a, b *sarifPart) int { return compareBools(incomplete(b.end), incomplete(a.end)) })
	var names []string
	for i, p := range parts {
		if i == maxBy {
			names = append(names, fmt.Sprintf("and %d more", len(parts)-i))
			break
		}
		how := plural(len(p.findings), "result")
		if incomplete(p.end) {
			how = "not read completely, " + how
		}
		names = append(names, Clean(p.cluster)+" ("+how+")")
	}
	return fmt.Sprintf("%s left out of the SARIF file (a file may have %d runs): %s. The other formats have them all; for SARIF scan fewer clusters at a time, each time with another category.",
		plural(len(parts), "cluster"), most, strings.Join(names, ", "))
}
