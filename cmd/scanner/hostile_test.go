package main

import (
	"encoding/json"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// endless reads as one line of as many bytes as are left, and notes how much
// memory the program held meanwhile.
type endless struct {
	block                  string
	left, sampled, highest int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	if e.sampled-e.left > 8<<20 || e.sampled == 0 {
		e.sampled = e.left
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		e.highest = max(e.highest, int(m.HeapAlloc))
	}
	n := copy(p[:min(len(p), e.left)], e.block)
	e.left -= n
	return n, nil
}

// A line without an end must not cost memory without one.
func TestMemoryIsBounded(t *testing.T) {
	stdin := &endless{block: strings.Repeat("a", 64<<10), left: 256 << 20}
	code, stdout, stderr := invoke(t.Context(), testDeps(""), stdin, "scan", "-f", "-", "-o", "jsonl")
	if code != exitIncomplete || !strings.Contains(stdout, `"reason":"too large"`) {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if stdin.highest > 192<<20 {
		t.Errorf("%d MiB were held", stdin.highest>>20)
	}
}

// FuzzScanFile scans whatever comes in: there is always an answer, it can be read
// by machines, and the exit code agrees with it.
func FuzzScanFile(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", badPod, badPod + "---\n" + badPod, "kind: [", "{}", "[]", "null", "a: &a [*a]", "\x00", "\xff\xfe",
		`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","spec":{"hostPID":true}}]}`,
		"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  spec: {containers: [{securityContext: {capabilities: {add: [ALL]}}}]}\n",
		"apiVersion: batch/v1\nkind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {volumes: [{hostPath: {path: /}}]}}}}}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: \"\\e[2J\"}\nspec: {template: {spec: {containers: [{ports: [{hostPort: 1e9}]}]}}}\n",
		"<<: {apiVersion: v1, kind: Pod}\nspec: {securityContext: {sysctls: [{name: a, value: b}]}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		code, stdout, stderr := invoke(t.Context(), testDeps(""), strings.NewReader(string(data)), "scan", "-f", "-", "-o", "json")
		var doc struct {
			Start    *scan.Start
			Findings []scan.Finding
			Verdicts []scan.WorkloadVerdict
			Failures []scan.Failure
			End      *scan.End
		}
		if err := json.Unmarshal([]byte(stdout), &doc); err != nil || doc.Start == nil || doc.End == nil {
			t.Fatalf("exit code %d, %v: %q, %q", code, err, stdout, stderr)
		}
		end := doc.End
		if end.Incomplete != (code == exitIncomplete) || end.Incomplete != (len(doc.Failures) > 0) {
			t.Errorf("exit code %d, incomplete %v with %d failures", code, end.Incomplete, len(doc.Failures))
		}
		if !end.Incomplete && end.AtLeast(scan.SeverityHigh) > 0 != (code == exitFindings) || code == exitUsage || code > exitIncomplete {
			t.Errorf("exit code %d with the findings %v", code, end.Findings)
		}
		if end.Workloads != len(doc.Verdicts) || end.Documents != len(doc.Verdicts) || !end.Incomplete && end.Documents == 0 {
			t.Errorf("%d workloads in %d documents, %d verdicts", end.Workloads, end.Documents, len(doc.Verdicts))
		}
		if strings.ContainsFunc(stderr, func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Errorf("stderr %q", stderr)
		}
	})
}
