package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/scan"
)

// What is counted of each cluster is the same whichever form is replayed, though the
// arrays of the object have no order between kinds.
func TestFleetCountsAlikeFromBothForms(t *testing.T) {
	t.Parallel()
	events := fleetEvents(t)
	want := map[string]scan.End{}
	for _, e := range events {
		if e.Cluster != nil {
			want[e.Cluster.Name] = e.Cluster.End
		}
	}
	for _, f := range []format{{"jsonl", NewJSONL}, {"json", NewJSON}} {
		got, end := map[string]scan.End{}, (*scan.End)(nil)
		err := Replay(bytes.NewReader(write(t, f, events)), scan.NewTally(scan.HandlerFunc(func(e scan.Event) error {
			if e.Cluster != nil {
				got[e.Cluster.Name] = e.Cluster.End
			}
			end = e.End
			return nil
		})))
		if err != nil {
			t.Fatal(err)
		}
		if text, expected := fmt.Sprint(got), fmt.Sprint(want); text != expected {
			t.Errorf("%s: %s\nwant %s", f.name, text, expected)
		}
		if expected := events[len(events)-1].End; fmt.Sprint(*end) != fmt.Sprint(*expected) {
			t.Errorf("%s: in all %v, want %v", f.name, *end, *expected)
		}
	}
	if n := want["prod-eu"].Findings[scan.SeverityCritical]; n != 4 {
		t.Errorf("prod-eu has %d critical findings, want 4", n)
	}
}

func TestReplayRefusesBrokenFleets(t *testing.T) {
	t.Parallel()
	const (
		start = `{"start":{"schema":1,"source":"fleet","clusters":["a","b"]}}`
		nodeA = `{"node":{"cluster":"a","name":"n"}}`
		nodeB = `{"node":{"cluster":"b","name":"n"}}`
		runA  = `{"cluster":{"name":"a","start":{"schema":1},"end":{"workloads":0}}}`
		runB  = `{"cluster":{"name":"b","start":{"schema":1},"end":{"workloads":0}}}`
		end   = `{"end":{"workloads":0}}`
		loose = `{"failure":{"subject":"config"}}`
	)
	object := func(start, rest string) string {
		return `{"start":` + start + `,` + rest + `"policies":[],"findings":[],"verdicts":[],"failures":[],"end":{"workloads":0}}`
	}
	const fleet = `{"schema":1,"source":"fleet","clusters":["a","b"]}`
	for name, tc := range map[string]struct{ in, want string }{
		"whole":                  {start + "\n" + nodeA + "\n" + runA + "\n" + nodeB + "\n" + runB + "\n" + loose + "\n" + end, ""},
		"one not reached":        {start + "\n" + runA + "\n" + `{"cluster":{"name":"b","end":{"workloads":0,"incomplete":true}}}` + "\n" + end, ""},
		"a missing cluster":      {start + "\n" + runA + "\n" + end, `line 3: end: no cluster event of "b" before it: the fleet is not whole`},
		"cut off":                {start + "\n" + runA + "\n" + runB, "no end event"},
		"a stranger":             {start + "\n" + `{"node":{"cluster":"c\u001b","name":"n"}}`, `line 2: node: of cluster "c\\x1b", which is not one of the fleet's`},
		"a stranger's end":       {start + "\n" + strings.ReplaceAll(runA, `"a"`, `"c"`), `line 2: cluster "c": it is not one of the fleet's`},
		"out of turn":            {start + "\n" + nodeB, `line 2: node: of cluster "b", which comes after "a"`},
		"closed out of turn":     {start + "\n" + runB, `cluster "b": it comes after "a"`},
		"twice":                  {start + "\n" + runA + "\n" + runA, `line 3: cluster "a": it was closed before`},
		"behind its end":         {start + "\n" + runA + "\n" + nodeA, `line 3: node: of cluster "a", which was closed before`},
		"of none, too early":     {start + "\n" + loose, "line 2: failure: of no cluster, before all clusters of the fleet were told of"},
		"complete, unreached":    {start + "\n" + `{"cluster":{"name":"a","end":{"workloads":0}}}`, `cluster "a": no run could begin there, and the end calls it complete`},
		"a newer cluster":        {start + "\n" + strings.ReplaceAll(runA, `"schema":1`, `"schema":99`), `cluster "a": start: schema 99 is newer`},
		"no fleet":               {startLine + runA, "line 2: cluster: only a fleet has such events"},
		"no clusters":            {`{"start":{"schema":1,"source":"fleet"}}`, "a fleet of no clusters"},
		"clusters of none":       {`{"start":{"schema":1,"source":"demo","clusters":["a"]}}`, `only a fleet has them, and the source is "demo"`},
		"a name twice":           {`{"start":{"schema":1,"source":"fleet","clusters":["a","a"]}}`, `"a" stands there twice`},
		"no name":                {`{"start":{"schema":1,"source":"fleet","clusters":["a",""]}}`, "a cluster without a name"},
		"a watch":                {`{"start":{"schema":1,"source":"fleet","watch":true,"clusters":["a"]}}`, "a fleet is not watched"},
		"an object":              {object(fleet, `"clusters":[`+runA[len(`{"cluster":`):len(runA)-1]+`,`+runB[len(`{"cluster":`):len(runB)-1]+`],"nodes":[{"cluster":"b","name":"n"},{"cluster":"a","name":"n"}],`), ""},
		"an object without one":  {object(fleet, `"clusters":[`+runA[len(`{"cluster":`):len(runA)-1]+`],"nodes":[],`), `no cluster event of "b"`},
		"an object without any":  {object(fleet, `"nodes":[],`), `no cluster event of "a"`},
		"a stranger in an array": {object(fleet, `"nodes":[{"cluster":"c","name":"n"}],`), `node: of cluster "c", which is not one of the fleet's`},
		"an object of no fleet":  {object(`{"schema":1}`, `"clusters":[],"nodes":[],`), "clusters: only a fleet has them"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Replay(strings.NewReader(tc.in), discard())
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v\nwant %s", err, tc.want)
			}
		})
	}
}

// Wherever the stream of a fleet is cut, in either form, the rest is refused.
func TestReplayRefusesEveryTruncationOfAFleet(t *testing.T) {
	t.Parallel()
	events := fleetOf(t, []fleetMember{{"a", []scan.Event{{Start: &scan.Start{Schema: 1}}, {Node: &scan.Node{Name: "n"}}, {End: &scan.End{}}}}, {"b", nil}})
	for _, f := range []format{{"jsonl", NewJSONL}, {"json", NewJSON}} {
		saved := bytes.TrimSpace(write(t, f, events))
		if err := Replay(bytes.NewReader(saved), discard()); err != nil {
			t.Fatal(err)
		}
		for n := range saved {
			if Replay(bytes.NewReader(saved[:n]), discard()) == nil {
				t.Fatalf("%s: the first %d of %d bytes pass for a whole fleet", f.name, n, len(saved))
			}
		}
	}
}

// An explanation of a name that several clusters have is one for each of them.
func TestExplainInAFleet(t *testing.T) {
	t.Parallel()
	text := string(write(t, explains("kube-system/daemonset/node-agent", 0), fleetEvents(t)))
	at := -1
	for _, name := range []string{"prod-eu", "prod-us", Clean(evil)} {
		i := strings.Index(text, "cluster "+name)
		if i <= at {
			t.Errorf("no explanation for cluster %s in its turn", name)
		}
		at = i
	}
	if n := strings.Count(text, "kube-system/DaemonSet/node-agent"); n < 3 {
		t.Errorf("named %d times", n)
	}
	first, _, _ := strings.Cut(text, "cluster prod-us")
	if strings.Contains(first, "PolicyException.kyverno.io") {
		t.Error("what could not be read in prod-us stands in the explanation for prod-eu")
	}
	h := NewExplain(io.Discard, "shop/Deployment/nothing", 0)
	var err error
	for _, e := range fleetEvents(t) {
		err = h.Handle(e)
	}
	if !errors.Is(err, ErrNoWorkload) || !strings.Contains(err.Error(), "staging") {
		t.Errorf("%v", err)
	}
}

// Names of clusters that make the same segment of a path do not share it.
func TestClusterSegments(t *testing.T) {
	t.Parallel()
	names := []string{"prod-eu", "prod_us", "Prod_US", "arn:aws:eks:eu-west-1:1:cluster/prod", "arn:aws:eks:eu-west-1:1:cluster:prod", "..", "日本", strings.Repeat("x", 400), "a/../../b"}
	segments := clusterSegments(names)
	if segments[0] != "prod-eu" {
		t.Errorf("a plain name becomes %q", segments[0])
	}
	seen := map[string]bool{}
	for i, s := range segments {
		if folded := strings.ToLower(s); seen[folded] || s != segment(s) || len(s) > 120 {
			t.Errorf("%q becomes %q", names[i], s)
		} else {
			seen[folded] = true
		}
	}
	// What others there are does not matter to a name that has to be changed.
	if alone := clusterSegments(names[3:4])[0]; alone != segments[3] {
		t.Errorf("alone %q, among others %q", alone, segments[3])
	}
}

// manyClusters is a fleet of n clusters, the later ones with worse findings.
func manyClusters(t *testing.T, n, findings int) []scan.Event {
	t.Helper()
	var members []fleetMember
	for i := range n {
		events := manyFindings(findings)
		if i%2 == 0 {
			for k := range events {
				if f := events[k].Finding; f != nil {
					f.Severity = scan.SeverityLow
				}
			}
		}
		members = append(members, fleetMember{fmt.Sprintf("cluster-%02d", i), events})
	}
	return fleetOf(t, append(members, fleetMember{"unreached", nil}))
}

func TestSARIFOfTooManyClusters(t *testing.T) {
	t.Parallel()
	var told []string
	out := sarifOf(t, SARIFOptions{InformationURI: "https://example.com", OnTruncate: func(msg string) { told = append(told, msg) }}, manyClusters(t, 30, 4))
	file := parseRuns(t, out)
	if len(file.Runs) != 20 {
		t.Fatalf("%d runs", len(file.Runs))
	}
	for i := range 15 {
		if id := fmt.Sprintf("escape-scanner/cluster-%02d/", 2*i+1); !slices.ContainsFunc(file.Runs, func(r sarifRun) bool { return r.AutomationDetails.ID == id }) {
			t.Errorf("%s, which has the worst findings, is not in the file", id)
		}
	}
	if len(told) != 1 || !strings.HasPrefix(told[0], "11 clusters left out of the SARIF file (a file may have 20 runs): unreached (not read completely, 0 results), cluster-") {
		t.Errorf("told %q", told)
	}
	if n := file.Runs[0].Invocations[0].ToolExecutionNotifications; len(n) != 1 || n[0].Message.Text != told[0] {
		t.Errorf("the file says %v", n)
	}
	for _, broken := range oracle.NewCodeScanning(t).Check(t, out) {
		t.Error(broken)
	}
}

// The size is that of the whole file: what does not fit is the least severe of all
// clusters, and each run says what it lacks.
func TestSARIFOfAFleetKeepsTheLimits(t *testing.T) {
	t.Parallel()
	events := manyClusters(t, 4, 300)
	for _, limit := range []int{10_000, 100_000, 400_000} {
		var told []string
		var out bytes.Buffer
		h := NewSARIF(&out, SARIFOptions{OnTruncate: func(msg string) { told = append(told, msg) }}).(*sarifReport)
		h.maxGzip, h.maxResults = limit, 250
		for _, e := range events {
			if err := h.Handle(e); err != nil {
				t.Fatal(err)
			}
		}
		file, results, low := parseRuns(t, out.Bytes()), 0, 0
		for _, run := range file.Runs {
			results += len(run.Results)
			for _, r := range run.Results {
				if r.Level == "note" {
					low++
				}
			}
		}
		if size := zippedSize(t, out.Bytes()); size > limit {
			t.Errorf("limit %d: %d bytes with %d results", limit, size, results)
		} else if limit >= 100_000 && size < limit*7/10 {
			t.Errorf("limit %d: %d bytes with %d results: more would have fitted", limit, size, results)
		}
		if low > 0 && results-low < 2*187 {
			t.Errorf("limit %d: %d of low severity are in the file with %d that are worse", limit, low, results-low)
		}
		if len(told) == 0 || !strings.HasPrefix(told[0], "cluster cluster-00: ") {
			t.Errorf("limit %d: told %q", limit, told)
		}
	}
}

// What of no cluster is stands once, with the first.
func TestSARIFOfAFleetHasExceptionsOnce(t *testing.T) {
	t.Parallel()
	file := parseRuns(t, sarifOf(t, sampleSARIF(), fleetEvents(t)))
	for i, run := range file.Runs {
		n := 0
		for _, r := range run.Results {
			if r.RuleID == "exception-expired" {
				n++
			}
		}
		if want := map[bool]int{true: 1, false: 0}[i == 0]; n != want {
			t.Errorf("run %s has %d of them, want %d", run.AutomationDetails.ID, n, want)
		}
	}
	if got := len(file.Runs); got != 5 {
		t.Errorf("%d runs, want one for each of 5 clusters", got)
	}
	for _, run := range file.Runs {
		incomplete := strings.Contains(run.AutomationDetails.ID, "staging") || strings.Contains(run.AutomationDetails.ID, "prod-us")
		if run.Invocations[0].ExecutionSuccessful == incomplete {
			t.Errorf("run %s: successful %v", run.AutomationDetails.ID, run.Invocations[0].ExecutionSuccessful)
		}
	}
}

// The object of a fleet has its clusters, and that of any other run no such key.
func TestJSONOfAFleetHasClusters(t *testing.T) {
	t.Parallel()
	var doc struct{ Clusters []scan.ClusterRun }
	if err := json.Unmarshal(write(t, format{"json", NewJSON}, fleetEvents(t)), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Clusters) != 5 || doc.Clusters[2].Start != nil || !doc.Clusters[2].End.Incomplete {
		t.Errorf("%+v", doc.Clusters)
	}
	if single := write(t, format{"json", NewJSON}, sampleEvents()); bytes.Contains(single, []byte(`"clusters"`)) {
		t.Error("a run on one cluster has clusters")
	}
}
