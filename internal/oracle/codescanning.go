package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// CodeScanning holds a SARIF file against what GitHub code scanning takes, and against
// what keeps its alerts the same from run to run.
type CodeScanning struct {
	schema *jsonschema.Schema
	// Unstable are words that are others in the next run: names and UIDs of pods, hashes of
	// templates. They must stand nowhere in what an alert is known by.
	Unstable []string
}

// NewCodeScanning knows of nothing that is unstable.
func NewCodeScanning(tb testing.TB) *CodeScanning {
	tb.Helper()
	return &CodeScanning{schema: SARIFSchema(tb)}
}

// Broken is one rule that a file does not keep, by its name, and where.
type Broken struct{ Rule, Where, What string }

func (b Broken) String() string { return b.Rule + ": " + b.Where + ": " + b.What }

// Alert is what an alert is known by, from run to run.
type Alert struct {
	Category, Rule, URI, Fingerprint string
}

// Check is every rule that the file does not keep.
func (c *CodeScanning) Check(tb testing.TB, file []byte) []Broken {
	tb.Helper()
	var broken []Broken
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(file))
	if err != nil {
		return []Broken{{"json", "file", err.Error()}}
	}
	if err := c.schema.Validate(value); err != nil {
		broken = append(broken, Broken{"schema", "file", err.Error()})
	}
	var f codeFile
	if err := json.Unmarshal(file, &f); err != nil {
		return append(broken, Broken{"json", "file", err.Error()})
	}
	f.value, f.gzipped, f.unstable = value, gzipped(tb, file), c.Unstable
	for _, rule := range codeRules() {
		rule.check(&f, func(what string, where ...any) {
			broken = append(broken, Broken{rule.name, strings.TrimSpace(fmt.Sprintln(where...)), what})
		})
	}
	return broken
}

// Alerts are the alerts that GitHub makes of a file, sorted: two runs that found the same
// have the same.
func Alerts(tb testing.TB, file []byte) []Alert {
	tb.Helper()
	var f codeFile
	if err := json.Unmarshal(file, &f); err != nil {
		tb.Fatal(err)
	}
	var alerts []Alert
	for i := range f.Runs {
		for _, r := range f.Runs[i].Results {
			alerts = append(alerts, Alert{f.Runs[i].category(), r.RuleID, r.uri(), r.fingerprint()})
		}
	}
	slices.SortFunc(alerts, func(a, b Alert) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return alerts
}

// codeFile is what GitHub reads of a file.
type codeFile struct {
	Version string
	Runs    []codeRun

	value    any
	gzipped  int
	unstable []string
}

type codeRun struct {
	Tool struct {
		Driver struct {
			Name  string
			Rules []codeRule
		}
	}
	AutomationDetails struct{ ID string }
	Invocations       []struct {
		ExecutionSuccessful        *bool
		ToolExecutionNotifications []struct{ Level string }
	}
	Results []codeResult
}

// category is what GitHub tells runs apart by: all before the last slash.
func (r *codeRun) category() string {
	id := r.AutomationDetails.ID
	return id[:max(0, strings.LastIndexByte(id, '/'))]
}

type codeText struct{ Text, Markdown string }

type codeRule struct {
	ID, Name, HelpURI                       string
	ShortDescription, FullDescription, Help codeText
	DefaultConfiguration                    struct{ Level string }
	Properties                              struct {
		Tags             []string
		Precision        string
		SecuritySeverity string `json:"security-severity"`
	}
}

type codeResult struct {
	RuleID    string
	RuleIndex *int
	Level     string
	Message   codeText
	Locations []struct {
		PhysicalLocation struct {
			ArtifactLocation struct{ URI, URIBaseID string }
			Region           *struct{ StartLine, StartColumn, EndLine int }
		}
	}
	PartialFingerprints map[string]string
	Suppressions        []struct{ Kind, Status, Justification string }
}

func (r *codeResult) uri() string {
	if len(r.Locations) == 0 {
		return ""
	}
	return r.Locations[0].PhysicalLocation.ArtifactLocation.URI
}

// fingerprint is the only one that GitHub takes.
func (r *codeResult) fingerprint() string { return r.PartialFingerprints["primaryLocationLineHash"] }
