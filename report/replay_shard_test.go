package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/armor"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// shardEvents are the stream of a shard in which every kind of part is.
func shardEvents() []scan.Event {
	ref := armor.Ref{Kind: armor.KubeArmorPolicy, Namespace: "shop", Name: "caps"}
	kyverno := admission.Ref{Mechanism: admission.KyvernoPolicy, Kind: "ClusterPolicy", Name: "no-root"}
	cell := scan.Cell{Answer: scan.StopsNo, Reason: "nothing refuses it"}
	failure := scan.Failure{Subject: "nodes", Reason: scan.FailureForbidden, Message: "no permission"}
	finding := scan.Finding{Rule: "escape-privileged", Category: scan.CategoryEscape, Title: "t", Severity: scan.SeverityCritical, Open: true, Now: []byte("true"), Field: "spec", Message: "m"}
	web := scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "web"}
	open := finding
	open.Workload = web
	return []scan.Event{
		{Start: &scan.Start{Schema: 1, Tool: "escape-scanner", Version: "v", RuleSet: "1", Time: time.Unix(1, 0).UTC(), Source: scan.SourceCluster, Shard: &scan.Shard{Index: 2, Of: 3}, Level: "baseline", PSSVersion: "latest"}},
		{Part: &scan.Part{Around: &scan.Outline{
			Nodes:     []scan.Node{{Name: "n1", Enforcement: &kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Claimed, Reason: "r"}}},
			Runtime:   []scan.RuntimeOutline{{Policy: ref, Action: "Block", Containers: []string{"app"}, Faults: []string{"empty"}, Inert: true}},
			Admission: []scan.AdmissionOutline{{Policy: kyverno, Action: "Audit", Faults: []admission.Toothless{{Cause: admission.CauseKyvernoAudit, Reason: "r", Mend: "m"}}}},
			Findings:  []scan.Finding{finding},
		}}},
		{Part: &scan.Part{Counts: &scan.ShardCounts{
			Pods: 2, Containers: map[string]int{"n1": 2}, Found: map[string]int{"": 2}, Partial: map[string]string{"lab": "not all"}, Seen: []string{"lab"},
			Absent: []scan.Failure{failure}, Owners: []scan.Failure{failure}, Failures: []scan.Failure{failure},
			Halves: []scan.Halves{{Admission: kyverno, Runtime: ref, AdmissionOnly: 1, RuntimeOnly: 2}},
		}}},
		{Part: &scan.Part{Row: &scan.ShardRow{
			Workload: web, Claims: "c", Pods: 2, Findings: []scan.Finding{open},
			Controls: []string{"privileged"}, Paths: []string{"escape-privileged"}, Severity: scan.SeverityCritical, Exposed: true, Unsure: "u", More: "m",
			Layers: []*scan.Layers{{
				Runtime: scan.RuntimeLayer{Set: kernel.No, Reason: "r"}, Kernel: scan.KernelLayer{Capabilities: kernel.Yes, Processes: kernel.Yes, Reason: "r"},
				Paths: []scan.PathLayers{{Path: "escape-privileged", Container: "app", State: scan.PathOpen, Reason: "r", Runtime: cell, Kernel: cell}},
			}},
			Admitted: []scan.Admitted{{
				Decision: admission.Decision{Answer: admission.Admits, Reason: "r"}, Cells: []scan.AdmittedPath{{Path: "escape-privileged", Container: "app", Cell: cell}},
				Reopen: admission.Unknown, Reopens: []string{"escape-hostpid"}, ReopenReason: "r",
			}},
			Sources: []scan.ShardSource{{}}, Nodes: []string{"n1", ""}, Places: [][2]int{{0, 0}, {1, 0}},
		}}},
		{Failure: &failure},
		{End: &scan.End{Pods: 2, Incomplete: true}},
	}
}

// A shard's stream follows the schema, and comes out of a replay as it was.
func TestShardStream(t *testing.T) {
	var tallied bytes.Buffer
	tally := scan.NewTally(NewJSONL(&tallied))
	for _, e := range shardEvents() {
		if err := tally.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	schema := compileSchema(t, "")
	for line := range bytes.Lines(tallied.Bytes()) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s\n%v", line, err)
		}
	}
	var again bytes.Buffer
	if err := ReplayShard(bytes.NewReader(tallied.Bytes()), NewJSONL(&again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), tallied.Bytes()) {
		t.Errorf("got\n%s\nwant\n%s", again.Bytes(), tallied.Bytes())
	}
}

// What is no stream of a shard is refused where one is wanted, and a shard where results
// are.
func TestReplayShardRefuses(t *testing.T) {
	saved := strings.SplitAfter(strings.TrimSpace(string(write(t, format{"jsonl", NewJSONL}, shardEvents())))+"\n", "\n")
	start, around, counts, row, failure, end := saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]
	for name, test := range map[string]struct{ in, want string }{
		"no shard":       {startLine + endLine, "not the run of a shard"},
		"broken off":     {start + around + counts + row, "the file is truncated"},
		"half a line":    {start + around + counts + row[:len(row)/2], "the file is truncated"},
		"no counts":      {start + around + end, "parts of the shard are missing"},
		"no around":      {start + counts + row + end, "out of its order"},
		"rows first":     {start + around + row + counts + end, "out of its order"},
		"around later":   {start + around + counts + around + end, "out of its order"},
		"two counts":     {start + around + counts + counts + end, "out of its order"},
		"results":        {start + around + counts + findingLine + end, "finding: a shard has no such events"},
		"no such place":  {start + around + counts + strings.Replace(row, `[1,0]`, `[1,1]`, 1) + end, "a place that is not in the row"},
		"no such source": {start + around + counts + strings.Replace(row, `"quiet":0`, `"quiet":7`, 1) + end, "a source that is not in the row"},
		"negative":       {start + around + strings.Replace(counts, `"pods":2`, `"pods":-2`, 1) + row + end, "a number that is none of pods"},
		"twice":          {start + around + counts + row + row + end, "workload shop/Deployment/web is out of order"},
		"of another":     {strings.Replace(start, `"index":2`, `"index":0`, 1) + around + counts + row + end, "workload shop/Deployment/web is not of shard 0/3"},
		"stopped":        {start + around + counts + row + strings.Replace(end, `"pods":2`, `"pods":2,"interrupted":true`, 1), "interrupted, and parts before it"},
		"empty part":     {start + `{"part":{}}` + "\n" + end, "want one of around, counts and row"},
		"strange word":   {start + around + counts + strings.Replace(row, `"set":"no"`, `"set":"nearly"`, 1) + end, "not known to this version"},
		"after the end":  {start + around + counts + row + failure + end + end, "something after the end event"},
	} {
		t.Run(name, func(t *testing.T) {
			err := ReplayShard(strings.NewReader(test.in), discard())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	for name, test := range map[string]struct{ in, want string }{
		"shard": {strings.Join(saved, ""), "shard 2/3 of a scan, which has no results of its own: join all shards first (escape-scanner merge FILE...)"},
		"part":  {startLine + around + endLine, "part: only a shard has such events"},
	} {
		err := Replay(strings.NewReader(test.in), discard())
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

// FuzzReplayShard: whatever comes in, there is no panic, and what is accepted can be
// joined or is refused with an error.
func FuzzReplayShard(f *testing.F) {
	for _, of := range []int{1, 3} {
		events := shardEvents()
		events[0].Start.Shard = &scan.Shard{Index: of - 1, Of: of}
		f.Add(write(f, format{"jsonl", NewJSONL}, events))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		run := scan.ShardRun{Name: "in"}
		var rows []*scan.ShardRow
		err := ReplayShard(bytes.NewReader(in), scan.HandlerFunc(func(e scan.Event) error {
			switch p := e.Part; {
			case e.Start != nil:
				run.Start = *e.Start
			case e.End != nil:
				run.End = *e.End
			case p == nil:
			case p.Around != nil:
				run.Around = p.Around
			case p.Counts != nil:
				run.Counts = p.Counts
			default:
				rows = append(rows, p.Row)
			}
			return nil
		}))
		if err != nil {
			return
		}
		run.Rows = func(yield func(*scan.ShardRow, error) bool) {
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
		}
		// Whether it can be joined is for Join to say; it must not panic.
		_ = scan.Join([]scan.ShardRun{run}, scan.JoinOptions{}, scan.NewTally(NewJSONL(&bytes.Buffer{})))
	})
}
