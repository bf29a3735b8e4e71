package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// TestExplainPartsSayWhatTheTextSays: nothing is written that ExplainWorkload does not
// write, and every part is there.
func TestExplainPartsSayWhatTheTextSays(t *testing.T) {
	t.Parallel()
	in := Explained{Start: &scan.Start{Level: "baseline", PSSVersion: "v1.36"}, Incomplete: true}
	events := layeredEvents()
	for _, e := range events {
		switch {
		case e.Verdict != nil && e.Verdict.Workload.Name == "node-agent":
			in.Workload, in.Verdicts = e.Verdict.Workload, append(in.Verdicts, e.Verdict)
		case e.Finding != nil && e.Finding.Workload.Name == "node-agent":
			in.Findings = append(in.Findings, e.Finding)
		case e.Node != nil:
			in.Nodes = append(in.Nodes, e.Node)
		case e.Policy != nil:
			in.Policies = append(in.Policies, e.Policy)
		case e.Failure != nil:
			in.Failures = append(in.Failures, e.Failure)
		}
	}
	nodes := len(in.Nodes)
	var b bytes.Buffer
	if err := ExplainWorkload(&b, in, 0); err != nil {
		t.Fatal(err)
	}
	whole := strings.Split(b.String(), "\n")
	for i := range whole {
		whole[i] = strings.TrimSpace(whole[i])
	}
	parts := ExplainParts(in, 0)
	for name, lines := range map[string][]string{
		"standards": parts.Standards, "admission": parts.Admission, "runtime": parts.Runtime, "kernel": parts.Kernel,
		"unread": parts.Unread, "better": parts.Better, "finding": FindingLines(in.Findings[0], 0),
	} {
		if len(lines) == 0 {
			t.Errorf("%s is empty", name)
		}
		for _, line := range lines {
			// Which nodes decide is chosen for the parts only.
			if !slices.Contains(whole, strings.TrimSpace(line)) && !strings.Contains(line, "node ") {
				t.Errorf("%s: %q is not in the text", name, line)
			}
		}
	}
	if len(in.Nodes) != nodes {
		t.Error("the caller's nodes were changed")
	}
	if got := ExplainParts(Explained{}, 40); got.Better != nil || got.Admission != nil {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestRuleLinesBeginBehindTheTitle(t *testing.T) {
	t.Parallel()
	for _, r := range scan.Rules() {
		lines := RuleLines(r, 60)
		if len(lines) < 5 || strings.Contains(lines[0], r.Title) || !strings.HasPrefix(lines[0], string(r.Severity)) {
			t.Errorf("%s begins %q", r.ID, lines[0])
		}
	}
}
