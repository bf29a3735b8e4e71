package report

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	sarif210 "github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/scan"
)

func sarifOf(t testing.TB, opts SARIFOptions, events []scan.Event) []byte {
	t.Helper()
	return write(t, format{"sarif", func(w io.Writer) scan.Handler { return NewSARIF(w, opts) }}, events)
}

func TestSARIFFollowsTheSchema(t *testing.T) {
	schema := oracle.SARIFSchema(t)
	for name, events := range map[string][]scan.Event{
		"sample":     sampleEvents(),
		"layers":     layeredEvents(),
		"fleet":      fleetEvents(t),
		"every rule": everyRule(),
		"empty":      {{Start: &scan.Start{Schema: 1}}, {End: &scan.End{}}},
		"hostile":    hostileEvents(evil),
		"cut short":  append(hostileEvents("")[:5:5], scan.Event{End: &scan.End{Interrupted: true}}),
	} {
		t.Run(name, func(t *testing.T) {
			out := sarifOf(t, sampleSARIF(), events)
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(out))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(value); err != nil {
				t.Error(err)
			}
			dec := json.NewDecoder(bytes.NewReader(out))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&sarif210.Report{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// sarifFile is what GitHub code scanning reads of a file.
type sarifFile struct {
	Version string
	Runs    []sarifRun
}

type sarifRun struct {
	Tool struct {
		Driver struct {
			Name, Version string
			Rules         []sarifRule
		}
	}
	AutomationDetails struct{ ID string }
	Invocations       []struct {
		ExecutionSuccessful        bool
		ToolExecutionNotifications []struct {
			Level   string
			Message struct{ Text string }
		}
	}
	Results []sarifResult
}

type sarifRule struct {
	ID, Name, HelpURI                 string
	ShortDescription, FullDescription struct{ Text string }
	Help                              struct{ Text, Markdown string }
	Properties                        struct {
		Tags             []string
		Precision        string
		SecuritySeverity string `json:"security-severity"`
	}
}

type sarifResult struct {
	RuleID    string
	RuleIndex *int
	Level     string
	Message   struct{ Text string }
	Locations []struct {
		PhysicalLocation struct {
			ArtifactLocation struct{ URI, URIBaseID string }
			Region           struct{ StartLine, StartColumn int }
		}
		LogicalLocations []struct{ FullyQualifiedName string }
	}
	PartialFingerprints struct{ PrimaryLocationLineHash string }
	Suppressions        []struct{ Kind, Status, Justification string }
	Properties          map[string]any
}

func parseSARIF(t testing.TB, out []byte) sarifFile {
	t.Helper()
	file := parseRuns(t, out)
	if len(file.Runs) != 1 {
		t.Fatalf("%d runs", len(file.Runs))
	}
	return file
}

func parseRuns(t testing.TB, out []byte) sarifFile {
	t.Helper()
	var file sarifFile
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSARIFIsWhatGitHubTakes(t *testing.T) {
	check := oracle.NewCodeScanning(t)
	for name, events := range map[string][]scan.Event{
		"sample": sampleEvents(), "layers": layeredEvents(), "every rule": everyRule(), "hostile": hostileEvents(evil), "fleet": fleetEvents(t),
	} {
		t.Run(name, func(t *testing.T) {
			for _, broken := range check.Check(t, sarifOf(t, sampleSARIF(), events)) {
				t.Error(broken)
			}
		})
	}
}

// everyRule is a run with one finding of each rule.
func everyRule() []scan.Event {
	events := []scan.Event{{Start: &scan.Start{Schema: 1, Tool: "escape-scanner"}}}
	for _, r := range scan.Rules() {
		events = append(events, scan.Event{Finding: &scan.Finding{
			Rule: r.ID, Category: r.Category, Title: r.Title, Severity: r.Severity, Field: "spec", Message: "m",
			Workload: scan.Workload{Namespace: "ns", Kind: "Deployment", Name: "d"},
		}})
	}
	return append(events, scan.Event{End: &scan.End{}})
}

func TestSARIFSaysExceptedAndUnread(t *testing.T) {
	run := parseSARIF(t, sarifOf(t, sampleSARIF(), sampleEvents())).Runs[0]
	suppressed := 0
	for _, r := range run.Results {
		for _, s := range r.Suppressions {
			suppressed++
			if r.RuleID != "escape-host-var-log" || s.Kind != "external" || s.Status != "accepted" || s.Justification == "" {
				t.Errorf("%s: %+v", r.RuleID, s)
			}
		}
	}
	if suppressed != 1 {
		t.Errorf("%d suppressions", suppressed)
	}
	inv := run.Invocations[0]
	failures := 0
	for _, n := range inv.ToolExecutionNotifications {
		if n.Level == "error" {
			failures++
		}
	}
	if inv.ExecutionSuccessful || failures != 2 {
		t.Errorf("successful %v, %d failures", inv.ExecutionSuccessful, failures)
	}
	whole := parseSARIF(t, sarifOf(t, sampleSARIF(), []scan.Event{{Start: &scan.Start{Schema: 1}}, {End: &scan.End{}}})).Runs[0]
	if !whole.Invocations[0].ExecutionSuccessful {
		t.Error("a whole run is called unsuccessful")
	}
}

func TestSARIFPlaces(t *testing.T) {
	cluster := scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "checkout"}
	for name, tc := range map[string]struct {
		finding   scan.Finding
		uri, base string
	}{
		"relative":      {scan.Finding{Location: &scan.Location{File: "deploy/a b#c?.yaml", Line: 3}}, "deploy/a%20b%23c%3F.yaml", srcRoot},
		"dot":           {scan.Finding{Location: &scan.Location{File: "./x.yaml", Line: 3}}, "x.yaml", srcRoot},
		"colon":         {scan.Finding{Location: &scan.Location{File: "http:x.yaml", Line: 3}}, "http%3Ax.yaml", srcRoot},
		"percent":       {scan.Finding{Location: &scan.Location{File: "a%20b.yaml", Line: 3}}, "a%2520b.yaml", srcRoot},
		"absolute":      {scan.Finding{Location: &scan.Location{File: "/srv/x.yaml", Line: 3}}, "file:///srv/x.yaml", ""},
		"Windows":       {scan.Finding{Location: &scan.Location{File: `C:\k8s\x.yaml`, Line: 3}}, "file:///C%3A/k8s/x.yaml", ""},
		"stdin":         {scan.Finding{Location: &scan.Location{File: "-", Line: 3}}, "stdin", srcRoot},
		"live":          {scan.Finding{Workload: cluster}, "cluster/shop/Deployment/checkout.yaml", srcRoot},
		"no namespace":  {scan.Finding{Workload: scan.Workload{Kind: "Pod", Name: "p"}}, "cluster/-/Pod/p.yaml", srcRoot},
		"climbing name": {scan.Finding{Workload: scan.Workload{Namespace: "..", Kind: "Pod", Name: "../../x"}}, "cluster/-/Pod/.._.._x.yaml", srcRoot},
		"evil name":     {scan.Finding{Workload: scan.Workload{Namespace: "a", Kind: "Pod", Name: "\x1b[31m"}}, "cluster/a/Pod/__31m.yaml", srcRoot},
		"configuration": {scan.Finding{Category: scan.CategoryException}, "cluster/exceptions.yaml", srcRoot},
	} {
		t.Run(name, func(t *testing.T) {
			tc.finding.Rule, tc.finding.Severity = "r", scan.SeverityLow
			run := parseSARIF(t, sarifOf(t, SARIFOptions{}, []scan.Event{{Finding: &tc.finding}, {End: &scan.End{}}})).Runs[0]
			at := run.Results[0].Locations[0].PhysicalLocation.ArtifactLocation
			if at.URI != tc.uri || at.URIBaseID != tc.base {
				t.Errorf("%q in %q, want %q in %q", at.URI, at.URIBaseID, tc.uri, tc.base)
			}
		})
	}
}

// manyFindings is a run of n findings whose messages do not compress.
func manyFindings(n int) []scan.Event {
	random := rand.NewChaCha8([32]byte{1})
	severities := scan.Severities()
	events := make([]scan.Event, 0, n+2)
	events = append(events, scan.Event{Start: &scan.Start{Schema: 1, Tool: "escape-scanner", Source: scan.SourceDemo}})
	for i := range n {
		noise := make([]byte, 330)
		_, _ = random.Read(noise)
		events = append(events, scan.Event{Finding: &scan.Finding{
			Rule: fmt.Sprintf("rule-%d", i%7), Category: scan.CategoryEscape, Title: "A way out", Severity: severities[i%4],
			Workload:  scan.Workload{Namespace: fmt.Sprintf("ns-%d", i%50), Kind: "Deployment", Name: fmt.Sprintf("app-%d", i)},
			Container: "app", ContainerKind: scan.KindContainer, Image: "registry.example/app:1",
			Field: "spec.containers[0].securityContext.privileged", Now: json.RawMessage("true"),
			Fix: &scan.Fix{Op: scan.FixSet, Value: json.RawMessage("false")}, Message: base64.StdEncoding.EncodeToString(noise), Pods: 3,
		}})
	}
	return append(events, scan.Event{End: &scan.End{Workloads: n}})
}

// GitHub's limits are tried at a tenth of their size.
func TestSARIFKeepsTheLimits(t *testing.T) {
	if maxResults > 25_000 || maxGzip >= 10_000_000 {
		t.Errorf("the limits are %d results and %d bytes", maxResults, maxGzip)
	}
	const results, size = maxResults / 10, maxGzip / 10
	var told []string
	var out bytes.Buffer
	h := NewSARIF(&out, SARIFOptions{OnTruncate: func(msg string) { told = append(told, msg) }}).(*sarifReport)
	h.maxResults, h.maxGzip = results, size
	for _, e := range manyFindings(2_600) {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	run := parseSARIF(t, out.Bytes()).Runs[0]
	zipped := zippedSize(t, out.Bytes())
	if zipped > size || len(run.Results) > results {
		t.Errorf("%d bytes compressed, %d results", zipped, len(run.Results))
	}
	if zipped < size*8/10 {
		t.Errorf("%d bytes compressed with %d results: more would have fitted", zipped, len(run.Results))
	}
	errorsIn := 0
	for _, r := range run.Results {
		if r.Level == "error" {
			errorsIn++
		}
	}
	if errorsIn != 1_300 {
		t.Errorf("%d of the 1300 worst results are in the file", errorsIn)
	}
	if len(told) != 2 {
		t.Errorf("told %q, want both limits", told)
	}
	for _, msg := range told {
		found := false
		for _, n := range run.Invocations[0].ToolExecutionNotifications {
			found = found || n.Message.Text == msg
		}
		if !found || !strings.Contains(msg, "left out") {
			t.Errorf("the file does not say %q", msg)
		}
	}
}

func zippedSize(t *testing.T, data []byte) int {
	t.Helper()
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	if _, err := zip.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped.Len()
}

func TestSARIFFitsASmallLimit(t *testing.T) {
	events := manyFindings(500)
	for _, limit := range []int{1_000, 20_000, 100_000, 1_000_000} {
		var out bytes.Buffer
		h := NewSARIF(&out, SARIFOptions{}).(*sarifReport)
		h.maxGzip = limit
		for _, e := range events {
			if err := h.Handle(e); err != nil {
				t.Fatal(err)
			}
		}
		results := parseSARIF(t, out.Bytes()).Runs[0].Results
		if zipped := zippedSize(t, out.Bytes()); zipped > limit && len(results) > 0 {
			t.Errorf("limit %d: %d bytes with %d results", limit, zipped, len(results))
		}
	}
}

func TestSARIFDoesNotDependOnTheOrderOfEvents(t *testing.T) {
	want := sarifOf(t, sampleSARIF(), layeredEvents())
	for seed := range uint64(10) {
		events := layeredEvents()
		middle := events[1 : len(events)-1]
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(middle), func(i, j int) { middle[i], middle[j] = middle[j], middle[i] })
		if got := sarifOf(t, sampleSARIF(), events); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: the file differs", seed)
		}
	}
}

func TestRuleNameIsNotTheID(t *testing.T) {
	for _, r := range scan.Rules() {
		if name := ruleName(r); name == r.ID {
			t.Errorf("%s: the name is the ID", r.ID)
		}
	}
	if got := ruleName(scan.Rule{ID: "Same", Title: "same"}); got != "SameRule" {
		t.Errorf("got %q", got)
	}
}

// An open path carries its own severity, a guarded one the lowered; the message says
// why, and the properties have the cells of its container.
func TestSARIFCarriesTheLayers(t *testing.T) {
	run := parseSARIF(t, sarifOf(t, sampleSARIF(), layeredEvents())).Runs[0]
	type key struct{ rule, workload, container string }
	results := map[key]sarifResult{}
	for _, r := range run.Results {
		results[key{r.RuleID, fmt.Sprint(r.Properties["workload"]), fmt.Sprint(r.Properties["container"])}] = r
	}
	for name, tc := range map[string]struct {
		key     key
		level   string
		message string
		props   map[string]any
		uri     string
	}{
		"guarded": {
			key{"escape-cap-sys-admin", "checkout", "app"}, "note", "Guarded: SYS_ADMIN is blocked in app on both nodes.",
			map[string]any{"severity": "low", "state": "stopped", "admission": "stops", "runtime": "stops", "kernel": "stops", "grade": "proven", "runtimeReason": "SYS_ADMIN is blocked"}, "",
		},
		"open in one container": {
			key{"escape-cap-sys-admin", "report", "prepare"}, "error", "Not stopped at run time: init containers are not covered by any policy.",
			map[string]any{"severity": "critical", "state": "open", "admission": "lets through", "runtime": "lets through", "kernel": "stops", "grade": "claimed"}, "",
		},
		"stopped in the other": {
			key{"escape-cap-sys-admin", "report", "main"}, "note", "Guarded: SYS_ADMIN is blocked in main.",
			map[string]any{"severity": "low", "state": "stopped", "runtime": "stops"}, "",
		},
		"unknown": {
			key{"escape-cap-sys-module", "ledger", "app"}, "error", "Not known whether anything stops it: nothing but the OS image",
			map[string]any{"state": "unknown", "kernel": "unknown", "grade": "hinted"}, "",
		},
		"a policy": {
			key{"policy-selects-nothing", "old-rules", "<nil>"}, "note", "shop/KubeArmorPolicy/old-rules: Title of policy-selects-nothing: no pod has what the selector asks for. Mend: correct the selector, or delete the policy.",
			map[string]any{"category": "policy"}, "cluster/shop/KubeArmorPolicy/old-rules.yaml",
		},
		"a workload where policies do not bite": {
			key{"policy-hostpid", "node-agent", "<nil>"}, "error",
			"no KubeArmor policy takes effect in a pod with hostPID. Policies: KubeArmorClusterPolicy disallow-tools, KubeArmorPolicy kube-system/agents. Mend: take hostPID from the pod; nothing else makes a policy bite.",
			map[string]any{"category": "policy", "field": "spec.hostPID"}, "cluster/kube-system/DaemonSet/node-agent.yaml",
		},
		"a node": {
			key{"kernel-no-bpf-lsm", "node-3", "<nil>"}, "warning", "-/Node/node-3: Title of kernel-no-bpf-lsm: KubeArmor enforces with AppArmor there, which cannot refuse capabilities. Mend: Ubuntu: ",
			map[string]any{"category": "kernel"}, "cluster/-/Node/node-3.yaml",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, ok := results[tc.key]
			if !ok {
				t.Fatal("there is no such result")
			}
			if r.Level != tc.level || !strings.Contains(r.Message.Text, tc.message) {
				t.Errorf("%s: %s\nwant %s: %s", r.Level, r.Message.Text, tc.level, tc.message)
			}
			if strings.Contains(r.Message.Text, "is unset") {
				t.Errorf("speaks of a value: %s", r.Message.Text)
			}
			for k, want := range tc.props {
				if r.Properties[k] != want {
					t.Errorf("%s is %v, want %v", k, r.Properties[k], want)
				}
			}
			if at := r.Locations[0].PhysicalLocation.ArtifactLocation.URI; tc.uri != "" && at != tc.uri {
				t.Errorf("at %s, want %s", at, tc.uri)
			}
			if tc.uri != "" && (r.Properties["state"] != nil || r.Properties["runtime"] != nil) {
				t.Error("has cells, and is no path")
			}
		})
	}
}

// A node's name may be by the hundred: a result stays small.
func TestSARIFNamesFewNodes(t *testing.T) {
	var by []string
	for i := range 500 {
		by = append(by, fmt.Sprintf("node-%d", i))
	}
	w := scan.Workload{Kind: "Pod", Name: "p"}
	out := sarifOf(t, SARIFOptions{}, []scan.Event{
		{Finding: &scan.Finding{Rule: "escape-x", Category: scan.CategoryEscape, Severity: scan.SeverityHigh, Open: true, Workload: w}},
		{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Layers: &scan.Layers{Paths: []scan.PathLayers{{Path: "escape-x", State: scan.PathOpen, Kernel: scan.Cell{Answer: scan.StopsNo, By: by}}}}}},
		{End: &scan.End{}},
	})
	if got := parseSARIF(t, out).Runs[0].Results[0].Properties["kernelBy"]; fmt.Sprint(len(got.([]any))) != "20" {
		t.Errorf("names %v", got)
	}
}
