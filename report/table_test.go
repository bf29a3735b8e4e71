package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rivo/uniseg"

	"github.com/escape-scanner/escape-scanner/scan"
)

func tableText(t testing.TB, opts TableOptions, events []scan.Event) string {
	t.Helper()
	var out bytes.Buffer
	h := NewTable(&out, opts)
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestTableKeepsTheWidth(t *testing.T) {
	for _, events := range samples(t) {
		for _, width := range []int{1, 20, 37, 40, 80, 100, 120, 200} {
			for _, color := range []bool{false, true} {
				text := tableText(t, TableOptions{Width: width, Color: color}, events)
				checkLines(t, text, max(width, narrowest))
			}
		}
	}
}

func checkLines(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(sgr.ReplaceAllString(text, "")) {
		line = strings.TrimSuffix(line, "\n")
		if w := uniseg.StringWidth(line); w > width {
			t.Errorf("%d cells in a line of %d: %q", w, width, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("blanks at the end of %q", line)
		}
	}
}

func TestTableColoursOnlyAddColour(t *testing.T) {
	for _, events := range samples(t) {
		for _, width := range []int{0, 80} {
			with := tableText(t, TableOptions{Width: width, Color: true}, events)
			without := tableText(t, TableOptions{Width: width}, events)
			if sgr.ReplaceAllString(with, "") != without {
				t.Errorf("width %d: the text differs with colours", width)
			}
			if strings.Contains(without, "\x1b") {
				t.Errorf("width %d: an escape sequence without colours", width)
			}
		}
	}
}

// In a pipe each finding is one line that names its workload, container, rule,
// field and place, so that grep, sort and awk have something to work with.
func TestTableInAPipeIsOneLineAFinding(t *testing.T) {
	for _, events := range samples(t) {
		text := tableText(t, TableOptions{}, events)
		for _, e := range events {
			f := e.Finding
			if f == nil || f.Category == scan.CategoryException {
				continue
			}
			n := 0
			cluster := ""
			if isFleet(events[0].Start) {
				cluster = "  " + Clean(f.Workload.Cluster) + "  "
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, strings.ToUpper(string(f.Severity))) && strings.Contains(line, "  "+f.Rule+"  ") &&
					strings.Contains(line, Clean(f.Workload.String())) && strings.Contains(line, Clean(f.Field)) &&
					strings.Contains(line, cluster) && strings.Contains(line, Clean(f.Container)) && strings.Contains(line, place(f.Location)) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s on %s: %d lines, want 1", f.Rule, f.Field, n)
			}
		}
	}
}

func TestTableDoesNotDependOnTheOrderOfEvents(t *testing.T) {
	for _, events := range samples(t) {
		for _, width := range []int{0, 100} {
			want := tableText(t, TableOptions{Width: width}, events)
			for seed := range uint64(20) {
				middle := events[1 : len(events)-1]
				rand.New(rand.NewPCG(seed, 0)).Shuffle(len(middle), func(i, j int) { middle[i], middle[j] = middle[j], middle[i] })
				if got := tableText(t, TableOptions{Width: width}, events); got != want {
					t.Fatalf("seed %d: %s", seed, firstDifference([]byte(got), []byte(want)))
				}
			}
		}
	}
}

func TestTableWorstFirst(t *testing.T) {
	text := tableText(t, TableOptions{Width: 120}, sampleEvents())
	last := -1
	for _, name := range []string{
		"INCOMPLETE", "kube-system/DaemonSet/node-agent", "team-a/Pod/evil", "shop/Deployment/checkout",
		"payments/Deployment/ledger", "16 workloads without findings", "EXCEPTIONS", "NODES", "VERDICTS",
	} {
		at := strings.Index(text, name)
		if at <= last {
			t.Errorf("%q is at %d, before what should precede it (%d)", name, at, last)
		}
		last = at
	}
}

func TestTableSaysWhenNothingIsProven(t *testing.T) {
	start := scan.Event{Start: &scan.Start{Schema: 1, Tool: "escape-scanner"}}
	for name, tc := range map[string]struct {
		end  scan.End
		want string
		not  string
	}{
		"incomplete":    {scan.End{Workloads: 2, Incomplete: true, Failures: 1, Verdicts: map[scan.Verdict]int{"closed": 2}}, "INCOMPLETE", "No way out"},
		"interrupted":   {scan.End{Workloads: 2, Interrupted: true, Verdicts: map[scan.Verdict]int{"closed": 2}}, "INTERRUPTED", "No way out"},
		"nothing found": {scan.End{}, "NOTHING JUDGED", "No way out"},
		"unknown":       {scan.End{Workloads: 1, Verdicts: map[scan.Verdict]int{"unknown": 1}}, "1 unknown", "No way out"},
		"all guarded":   {scan.End{Workloads: 2, Verdicts: map[scan.Verdict]int{"guarded": 1, "sealed": 1}}, "is stopped at run time", "No way out"},
		"not counted":   {scan.End{Workloads: 2}, "2 workloads", "stopped at run time"},
		"all sealed":    {scan.End{Workloads: 2, Verdicts: map[scan.Verdict]int{"closed": 1, "sealed": 1}}, "No way out", "stopped"},
		"all closed":    {scan.End{Workloads: 2, Verdicts: map[scan.Verdict]int{"closed": 2}}, "No way out", "INCOMPLETE"},
	} {
		t.Run(name, func(t *testing.T) {
			text := tableText(t, TableOptions{Width: 80}, []scan.Event{start, {End: &tc.end}})
			if !strings.Contains(text, tc.want) || strings.Contains(text, tc.not) {
				t.Errorf("want %q and not %q in:\n%s", tc.want, tc.not, text)
			}
		})
	}
}

func TestTableLimitsWhatDrownsTheReader(t *testing.T) {
	events := []scan.Event{{Start: &scan.Start{Schema: 1}}}
	for i := range 500 {
		events = append(events,
			scan.Event{Failure: &scan.Failure{Subject: fmt.Sprintf("file-%03d.yaml", i), Reason: scan.FailureInvalid, Message: "no"}},
			scan.Event{Node: &scan.Node{Name: fmt.Sprintf("node-%03d", i), KernelVersion: "6.1"}},
			scan.Event{Verdict: &scan.WorkloadVerdict{Workload: scan.Workload{Namespace: "a", Kind: "Job", Name: fmt.Sprint(i)}, Verdict: scan.VerdictClosed, PSSAllowed: true}})
	}
	events = append(events, scan.Event{End: &scan.End{Workloads: 500, Failures: 500, Incomplete: true}})
	screen := tableText(t, TableOptions{Width: 80}, events)
	if n := strings.Count(screen, "\n"); n > 60 {
		t.Errorf("%d lines on a terminal", n)
	}
	for _, want := range []string{"and 480 more that could not be read", "500 workloads without findings", "and 490 more"} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(tableText(t, TableOptions{}, events), "\n"); n < 1000 {
		t.Errorf("%d lines in a pipe: something was folded", n)
	}
}

// FuzzTable puts one hostile text wherever an outsider could have put it.
func FuzzTable(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		events := hostileEvents(s)
		for _, width := range []int{0, 40, 120} {
			text := tableText(t, TableOptions{Width: width, Color: true}, events)
			if r, bad := harmful(sgr.ReplaceAllString(text, "")); bad {
				t.Errorf("width %d lets %U through: %q", width, r, text)
			}
			if width > 0 {
				checkLines(t, text, width)
			}
		}
	})
}

// hostileEvents is a run with s in every field that can hold text.
func hostileEvents(s string) []scan.Event {
	value, err := json.Marshal(s)
	if err != nil {
		value = nil
	}
	w := scan.Workload{Cluster: s, Namespace: s, Kind: s, Name: s}
	at := &scan.Location{File: s, Line: 1, Column: 2, Field: s}
	finding := func(c scan.Category, container string) scan.Event {
		return scan.Event{Finding: &scan.Finding{
			Rule: "r" + s, Category: c, Title: s, Level: s, Severity: scan.SeverityHigh, Workload: w, Container: container,
			ContainerKind: scan.ContainerKind(s), Image: s, Field: s, Item: s, Now: value, Related: []string{s},
			Fix: &scan.Fix{Op: scan.FixSet, Value: value, Note: s}, Message: s, Claims: s, Location: at, Pods: 1,
			Lowered:  []scan.Lowering{{By: s, From: scan.SeverityCritical, Reason: s}},
			Excepted: &scan.Excepted{Reason: s, Expires: s},
		}}
	}
	events := []scan.Event{
		{Start: &scan.Start{
			Schema: 1, Tool: s, Version: s, RuleSet: s, Source: scan.SourceManifests, Cluster: s, ServerVersion: s,
			Namespaces: []string{s, s}, Selector: s, Level: s, PSSVersion: s, Notes: []string{s},
		}},
		{Node: &scan.Node{Name: s, KernelVersion: s, OSImage: s, OperatingSystem: s, Architecture: s, ContainerRuntime: s, KubeletVersion: s}},
		{Failure: &scan.Failure{Subject: s, Namespace: s, Reason: scan.FailureReason(s), Message: s, Affects: s, Location: at}},
		finding(scan.CategoryEscape, s), finding(scan.CategoryEscape, s+"2"), finding(scan.CategoryPSS, s), finding(scan.CategoryException, ""),
		{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Reason: s, Severity: scan.SeverityHigh, Paths: []string{s}, Controls: []string{s}, Pods: 2, Claims: s, Location: at}},
		hostileAlert(s), hostileLost(s),
	}
	events = append(events, layeredHostile(s)...)
	return append(events, scan.Event{End: &scan.End{Workloads: 1, Findings: map[scan.Severity]int{}, Verdicts: map[scan.Verdict]int{}}})
}

func TestFoldingHidesNothing(t *testing.T) {
	var findings []*scan.Finding
	for _, e := range sampleEvents() {
		if e.Finding != nil {
			findings = append(findings, e.Finding)
		}
	}
	var folded []*scan.Finding
	for _, r := range foldFindings(findings, true) {
		folded = append(append(folded, r.Finding), r.others...)
	}
	if len(folded) != len(findings) {
		t.Errorf("%d findings became %d", len(findings), len(folded))
	}
	for _, f := range findings {
		if !slices.Contains(folded, f) {
			t.Errorf("%s is lost", f.Rule)
		}
	}
}

func TestFoldingKeepsContainersApart(t *testing.T) {
	finding := func(container, field, now string) scan.Event {
		return scan.Event{Finding: &scan.Finding{
			Rule: "privileged", Category: scan.CategoryPSS, Severity: scan.SeverityHigh, Container: container,
			Workload: scan.Workload{Kind: "Pod", Name: "p"}, Field: field, Now: json.RawMessage(now), Fix: &scan.Fix{Op: scan.FixRemove},
		}}
	}
	for name, tc := range map[string]struct {
		a, b scan.Event
		want int
	}{
		"one setting":       {finding("a", "spec.containers[0].x", "1"), finding("b", "spec.containers[1].x", "1"), 1},
		"init and ordinary": {finding("a", "spec.containers[0].x", "1"), finding("b", "spec.initContainers[0].x", "1"), 1},
		"two values":        {finding("a", "spec.containers[0].x", "1"), finding("b", "spec.containers[1].x", "2"), 2},
		"two fields":        {finding("a", "spec.containers[0].x", "1"), finding("b", "spec.containers[1].y", "1"), 2},
		"two volumes":       {finding("a", "spec.volumes[0].x", "1"), finding("a", "spec.volumes[1].x", "1"), 1},
		"the container":     {finding("a", "spec.containers[0]", "1"), finding("b", "spec.containers[1]", "1"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			text := tableText(t, TableOptions{Width: 120}, []scan.Event{tc.a, tc.b, {End: &scan.End{}}})
			if got := strings.Count(text, "  privileged"); got != tc.want {
				t.Errorf("%d lines, want %d:\n%s", got, tc.want, text)
			}
			for _, e := range []scan.Event{tc.a, tc.b} {
				if !strings.Contains(text, e.Finding.Container) {
					t.Errorf("container %s is missing:\n%s", e.Finding.Container, text)
				}
			}
		})
	}
}

// On a screen a line is a change: whatever it mends stands in it once, under the
// worst of its rules, and elements of a list that a rule speaks of are one line.
func TestTableOneLineAChange(t *testing.T) {
	w := scan.Workload{Namespace: "ns", Kind: "DaemonSet", Name: "agent"}
	remove := &scan.Fix{Op: scan.FixRemove}
	finding := func(rule string, c scan.Category, sev scan.Severity, container, field, now, message string) scan.Event {
		return scan.Event{Finding: &scan.Finding{
			Rule: rule, Category: c, Severity: sev, Open: c == scan.CategoryEscape, Workload: w, Container: container,
			ContainerKind: scan.KindContainer, Field: field, Item: "it", Now: json.RawMessage(now), Fix: remove, Message: message,
		}}
	}
	events := []scan.Event{
		finding("escape-root", scan.CategoryEscape, scan.SeverityCritical, "a", "spec.volumes[0].hostPath", `{"path":"/","type":""}`, "mounts the host's /"),
		finding("escape-root", scan.CategoryEscape, scan.SeverityCritical, "b", "spec.volumes[0].hostPath", `{"path":"/","type":""}`, "mounts the host's /"),
		finding("hostPathVolumes", scan.CategoryPSS, scan.SeverityHigh, "", "spec.volumes[0].hostPath", `{"path":"/","type":""}`, "words of the check"),
		finding("hostPathVolumes", scan.CategoryPSS, scan.SeverityHigh, "", "spec.volumes[1].hostPath", `{"path":"/etc"}`, "words of the check"),
		finding("hostPathVolumes", scan.CategoryPSS, scan.SeverityHigh, "", "spec.volumes[2].hostPath", `{"path":"/var"}`, "words of the check"),
		finding("capabilities", scan.CategoryPSS, scan.SeverityHigh, "a", "spec.containers[0].capabilities.add[0]", `"NET_RAW"`, "words of the check"),
		finding("capabilities", scan.CategoryPSS, scan.SeverityHigh, "b", "spec.containers[1].capabilities.add[0]", `"SYS_TIME"`, "words of the check"),
		{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Severity: scan.SeverityCritical, Reason: "one is open", Paths: []string{"escape-root"}, Pods: 1}},
		{End: &scan.End{Workloads: 1}},
	}
	const want = `
EXPOSED  ns/DaemonSet/agent  critical  1 pod  refused by PSS
  CRITICAL  escape-root         a, b  spec.volumes[0].hostPath (it)  / → remove  also hostPathVolumes
            mounts the host's /
  HIGH      capabilities        a     capabilities.add[0]  "NET_RAW" → remove
  HIGH      capabilities        b     capabilities.add[0]  "SYS_TIME" → remove
  HIGH      hostPathVolumes ×2  spec.volumes[*].hostPath  /etc, /var → remove
`
	text := tableText(t, TableOptions{Width: 120}, events)
	if !strings.HasPrefix(text, want) {
		t.Errorf("want %s\ngot %s", want, text)
	}
	if !strings.Contains(text, "WAYS OUT  1 escape-root\n") {
		t.Errorf("no overview in %s", text)
	}
	if n := strings.Count(tableText(t, TableOptions{}, events), "→ remove"); n != 7 {
		t.Errorf("%d lines in a pipe, want one a finding", n)
	}
}
