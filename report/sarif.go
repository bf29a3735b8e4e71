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
	// maxResults is the number of results a run may have.
	maxResults = 25_000
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
// limits on size are kept, and what does not fit is the least severe.
func NewSARIF(w io.Writer, opts SARIFOptions) scan.Handler {
	return &sarifReport{enc: newEncoder(w), opts: opts, maxResults: maxResults, maxGzip: maxGzip, layers: layerIndex{}}
}

type sarifReport struct {
	enc        *encoder
	opts       SARIFOptions
	maxResults int
	maxGzip    int
	start      *scan.Start
	findings   []*scan.Finding
	failures   []*scan.Failure
	layers     layerIndex
	told       alertLog
}

func (s *sarifReport) Handle(e scan.Event) error {
	switch {
	case e.Start != nil:
		s.start = e.Start
	case e.Finding != nil:
		s.findings = append(s.findings, e.Finding)
	case e.Verdict != nil:
		s.layers.add(e.Verdict)
	case e.Failure != nil:
		s.failures = append(s.failures, e.Failure)
	case e.Alert != nil, e.Lost != nil:
		s.told.keep(e)
	case e.End != nil:
		if err := s.write(e.End); err != nil {
			return fmt.Errorf("sarif: %w", err)
		}
	}
	return nil
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
	slices.SortStableFunc(s.findings, compareResults)
	slices.SortStableFunc(s.failures, compareFailures)
	findings, left := s.findings, []string{}
	if len(findings) > s.maxResults {
		left = append(left, leftOut(findings[s.maxResults:], fmt.Sprintf("a run may have %d results", s.maxResults)))
		findings = findings[:s.maxResults]
	}
	rules := newRuleTable(s.opts.Rules, findings)
	run := s.run(end, rules)
	results, err := s.encodeResults(findings, rules)
	if err != nil {
		return err
	}
	fit, err := s.fitting(run, results)
	if err != nil {
		return err
	}
	if fit < len(results) {
		left = append(left, leftOut(findings[fit:], fmt.Sprintf("a file may have %.1f MB compressed", float64(s.maxGzip)/1e6)))
		results = results[:fit]
		// When the last finding of a rule is left out its rule goes too, and the
		// indexes of the others change.
		if kept := newRuleTable(s.opts.Rules, findings[:fit]); len(kept.descriptors) < len(rules.descriptors) {
			run = s.run(end, kept)
			if results, err = s.encodeResults(findings[:fit], kept); err != nil {
				return err
			}
		}
	}
	for _, msg := range left {
		notify(run.Invocations[0], "error", msg, nil)
		if s.opts.OnTruncate != nil {
			s.opts.OnTruncate(msg)
		}
	}
	return s.enc.encode(s.file(run, results))
}

func (s *sarifReport) file(run *sarif.Run, results []json.RawMessage) fileJSON {
	return fileJSON{
		Report: &sarif.Report{
			Version: string(sarif.Version210),
			Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		},
		Runs: []runJSON{{Run: run, Results: results}},
	}
}

// run is the run without its results.
func (s *sarifReport) run(end *scan.End, rules *ruleTable) *sarif.Run {
	driver := sarif.NewDriver(cmp.Or(Clean(s.start.Tool), "escape-scanner"))
	driver.Rules = rules.descriptors
	if version := cmp.Or(s.start.Version, s.opts.Version); version != "" {
		driver.WithVersion(Clean(version))
	}
	if s.opts.InformationURI != "" {
		driver.WithInformationURI(s.opts.InformationURI)
	}
	run := sarif.NewRun(*sarif.NewTool(driver))
	run.AutomationDetails = sarif.NewRunAutomationDetails().WithID(automationID(s.opts.Category))
	run.ColumnKind = "unicodeCodePoints"
	run.Invocations = []*sarif.Invocation{s.invocation(end)}
	run.Properties = sarif.Properties{
		"source":     string(s.start.Source),
		"ruleSet":    Clean(s.start.RuleSet),
		"level":      Clean(s.start.Level),
		"pssVersion": Clean(s.start.PSSVersion),
		"incomplete": end.Incomplete || end.Interrupted,
	}
	s.alertProperties(run.Properties)
	return run
}

// automationID ends in a slash: what would follow it tells runs of a category
// apart, and ours replace each other.
func automationID(category string) string {
	return cmp.Or(strings.TrimRight(Clean(category), "/"), "escape-scanner") + "/"
}

func (s *sarifReport) invocation(end *scan.End) *sarif.Invocation {
	ok := !end.Incomplete && !end.Interrupted && len(s.failures) == 0
	inv := sarif.NewInvocation()
	inv.ExecutionSuccessful = &ok
	if !s.start.Time.IsZero() {
		start := s.start.Time.UTC()
		inv.StartTimeUTC = &start
	}
	for i, f := range s.failures {
		if i == maxNotifications {
			notify(inv, "error", fmt.Sprintf("%d more things could not be read.", len(s.failures)-i), nil)
			break
		}
		notify(inv, "error", failureText(f), f.Location)
	}
	if end.Interrupted {
		notify(inv, "error", "The scan was interrupted: what is not listed is not proven absent.", nil)
	}
	for _, note := range s.start.Notes {
		notify(inv, "note", Clean(note), nil)
	}
	s.alertNotes(inv)
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
