package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/owenrumney/go-sarif/v2/sarif"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Limits of GitHub code scanning, which refuses a file over them as a whole.
const (
	// maxResults is the number of results a run may have, and maxRuns that of runs in a
	// file.
	maxResults = 25_000
	maxRuns    = 20
	// maxGzip is the size of the file, compressed. The limit is 10 MB; the rest
	// is left to compressors that do worse than ours.
	maxGzip = 9_500_000
	// maxNotifications is our own: enough to see what is wrong.
	maxNotifications = 500
)

// SARIFOptions are the choices of the SARIF format.
type SARIFOptions struct {
	// Rules are the records that results point to. Only those with results are
	// written; a result of a rule that is not among them gets a short record.
	Rules []scan.Rule
	// Version is the version of the tool, used when the stream names none.
	Version string
	// InformationURI is the tool's page.
	InformationURI string
	// Category tells apart several runs for one commit, a cluster each for
	// instance. It is the part before the slash of automationDetails.id.
	Category string
	// OnTruncate is called, if set, with what had to be left out to stay inside
	// the limits. The file says it too.
	OnTruncate func(msg string)
}

// NewSARIF returns a handler that writes the run, at its end, as a SARIF 2.1.0
// file that GitHub code scanning takes: every result has a place in a file, the
// limits on size are kept, and what does not fit is the least severe. Each cluster of
// a fleet has a run of its own in the file.
func NewSARIF(w io.Writer, opts SARIFOptions) scan.Handler {
	return &sarifReport{enc: newEncoder(w), opts: opts, maxResults: maxResults, maxGzip: maxGzip, maxRuns: maxRuns, parts: map[string]*sarifPart{}}
}

type sarifReport struct {
	enc        *encoder
	opts       SARIFOptions
	maxResults int
	maxGzip    int
	maxRuns    int
	start      *scan.Start
	// parts are the clusters of a fleet by their names. All that is of no cluster, and any
	// run that is no fleet, is the part without a name.
	parts map[string]*sarifPart
}

func (s *sarifReport) Handle(e scan.Event) error {
	switch {
	case e.Start != nil:
		s.start = e.Start
	case e.Cluster != nil:
		p := s.part(e.Cluster.Name)
		p.start, p.end = e.Cluster.Start, &e.Cluster.End
	case e.End != nil:
		if err := s.write(e.End); err != nil {
			return fmt.Errorf("sarif: %w", err)
		}
	default:
		name, _ := clusterOf(e)
		s.part(name).take(e)
	}
	return nil
}

// part is that of a cluster.
func (s *sarifReport) part(cluster string) *sarifPart {
	if !isFleet(s.start) {
		cluster = ""
	}
	p := s.parts[cluster]
	if p == nil {
		p = &sarifPart{cluster: cluster, layers: layerIndex{}}
		s.parts[cluster] = p
	}
	return p
}

// sarifPart is what becomes one run of the file.
type sarifPart struct {
	// cluster is the name of a cluster of a fleet, segment the same as a part of a path.
	cluster, segment string
	start            *scan.Start
	end              *scan.End
	findings         []*scan.Finding
	failures         []*scan.Failure
	layers           layerIndex
	told             alertLog
	// left says what is left out of the run.
	left []string
}

func (p *sarifPart) take(e scan.Event) {
	switch {
	case e.Finding != nil:
		p.findings = append(p.findings, e.Finding)
	case e.Verdict != nil:
		p.layers.add(e.Verdict)
	case e.Failure != nil:
		p.failures = append(p.failures, e.Failure)
	case e.Alert != nil, e.Lost != nil:
		p.told.keep(e)
	}
}

// runJSON is a run whose results are JSON already, for their size is needed
// before the run is written. Its Results hide those of the embedded run.
type runJSON struct {
	*sarif.Run
	Results []json.RawMessage `json:"results"`
}

// fileJSON is a report with such runs.
type fileJSON struct {
	*sarif.Report
	Runs []runJSON `json:"runs"`
}

func (s *sarifReport) write(end *scan.End) error {
	if s.start == nil {
		s.start = &scan.Start{}
	}
	parts := s.fewParts(s.ordered(end))
	for _, p := range parts {
		slices.SortStableFunc(p.findings, compareResults)
		slices.SortStableFunc(p.failures, compareFailures)
		if len(p.findings) > s.maxResults {
			s.leave(p, p.findings[s.maxResults:], fmt.Sprintf("a run may have %d results", s.maxResults))
			p.findings = p.findings[:s.maxResults]
		}
	}
	runs, err := s.fitting(parts)
	if err != nil {
		return err
	}
	for i, p := range parts {
		for _, msg := range p.left {
			notify(runs[i].Invocations[0], "error", msg, nil)
			if s.opts.OnTruncate != nil {
				s.opts.OnTruncate(msg)
			}
		}
	}
	return s.enc.encode(s.file(runs))
}

// leave notes that findings of a run have no place in the file.
func (s *sarifReport) leave(p *sarifPart, findings []*scan.Finding, why string) {
	p.left = append(p.left, suffixed("cluster ", Clean(p.cluster), ": ")+leftOut(findings, why))
}

// encoded are the runs of the file.
func (s *sarifReport) encoded(parts []*sarifPart) ([]runJSON, error) {
	runs := make([]runJSON, len(parts))
	for i, p := range parts {
		rules := newRuleTable(&s.opts, p.findings)
		results, err := s.encodeResults(p, rules)
		if err != nil {
			return nil, err
		}
		runs[i] = runJSON{Run: s.run(p, rules), Results: results}
	}
	return runs, nil
}

func (s *sarifReport) file(runs []runJSON) fileJSON {
	return fileJSON{
		Report: &sarif.Report{
			Version: string(sarif.Version210),
			Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		},
		Runs: runs,
	}
}

// run is the run without its results.
func (s *sarifReport) run(p *sarifPart, rules *ruleTable) *sarif.Run {
	driver := sarif.NewDriver(cmp.Or(Clean(p.start.Tool), "escape-scanner"))
	driver.Rules = rules.descriptors
	if version := cmp.Or(p.start.Version, s.opts.Version); version != "" {
		driver.WithVersion(Clean(version))
	}
	if s.opts.InformationURI != "" {
		driver.WithInformationURI(s.opts.InformationURI)
	}
	run := sarif.NewRun(*sarif.NewTool(driver))
	run.AutomationDetails = sarif.NewRunAutomationDetails().WithID(automationID(s.opts.Category, p.segment))
	run.ColumnKind = "unicodeCodePoints"
	run.Invocations = []*sarif.Invocation{s.invocation(p)}
	run.Properties = sarif.Properties{
		"source":     string(p.start.Source),
		"ruleSet":    Clean(p.start.RuleSet),
		"level":      Clean(p.start.Level),
		"pssVersion": Clean(p.start.PSSVersion),
		"incomplete": p.end.Incomplete || p.end.Interrupted,
	}
	if p.cluster != "" {
		run.Properties["cluster"] = Clean(p.cluster)
	}
	p.alertProperties(run.Properties)
	return run
}

// automationID ends in a slash: what would follow it tells runs of a category
// apart, and ours replace each other.
func automationID(category, cluster string) string {
	id := cmp.Or(strings.TrimRight(Clean(category), "/"), "escape-scanner") + "/"
	if cluster != "" {
		id += cluster + "/"
	}
	return id
}

func (s *sarifReport) invocation(p *sarifPart) *sarif.Invocation {
	end := p.end
	ok := !end.Incomplete && !end.Interrupted && len(p.failures) == 0
	inv := sarif.NewInvocation()
	inv.ExecutionSuccessful = &ok
	if !p.start.Time.IsZero() {
		start := p.start.Time.UTC()
		inv.StartTimeUTC = &start
	}
	for i, f := range p.failures {
		if i == maxNotifications {
			notify(inv, "error", fmt.Sprintf("%d more things could not be read.", len(p.failures)-i), nil)
			break
		}
		notify(inv, "error", failureText(f), f.Location)
	}
	if end.Interrupted {
		notify(inv, "error", "The scan was interrupted: what is not listed is not proven absent.", nil)
	}
	if p.cluster != "" && !ok {
		notify(inv, "error", "Cluster "+Clean(p.cluster)+" was not read completely: a result that is missing from this run is not mended for that.", nil)
	}
	for _, note := range p.start.Notes {
		notify(inv, "note", Clean(note), nil)
	}
	p.alertNotes(inv)
	return inv
}

func notify(inv *sarif.Invocation, level, text string, at *scan.Location) {
	n := sarif.NewNotification().WithLevel(level).WithMessage(sarif.NewTextMessage(limitRunes(text, maxText)))
	if at != nil {
		n.AddLocation(sarif.NewLocationWithPhysicalLocation(physical(at)))
	}
	inv.ToolExecutionNotifications = append(inv.ToolExecutionNotifications, n)
}

func failureText(f *scan.Failure) string {
	text := f.Subject
	if f.Namespace != "" {
		text += " in namespace " + f.Namespace
	}
	text += ": " + string(f.Reason) + ": " + f.Message
	if f.Affects != "" {
		text += " (affects: " + f.Affects + ")"
	}
	return Clean(text)
}

// compareResults puts the worst first, so that what does not fit is the least
// severe; an excepted finding asks for nothing and yields to all others.
func compareResults(a, b *scan.Finding) int {
	if c := cmp.Or(
		compareBools(a.Excepted != nil, b.Excepted != nil),
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
		compareBools(b.Open, a.Open),
		cmp.Compare(a.Rule, b.Rule),
		compareLocations(a.Location, b.Location),
	); c != 0 {
		return c
	}
	return compareFindings(a, b)
}

// leftOut says how many results of which severity are missing, and why.
func leftOut(findings []*scan.Finding, why string) string {
	counts := map[scan.Severity]int{}
	excepted := 0
	for _, f := range findings {
		if f.Excepted != nil {
			excepted++
			continue
		}
		counts[f.Severity]++
	}
	var parts []string
	for _, sev := range scan.Severities() {
		if counts[sev] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[sev], sev))
		}
	}
	if excepted > 0 {
		parts = append(parts, fmt.Sprintf("%d excepted", excepted))
	}
	return fmt.Sprintf("%s left out of the SARIF file (%s): %s. The other formats have them all.",
		plural(len(findings), "result"), strings.Join(parts, ", "), why)
}
