package report

import (
	"bytes"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/escape-scanner/escape-scanner/scan"
)

const diffSchemaFile = "../docs/diff.schema.json"

// diffSideOf is the picture that a stream leads to.
func diffSideOf(t testing.TB, events []scan.Event) *scan.DiffSide {
	t.Helper()
	side := scan.NewDiffSide()
	h := Picture(side)
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return side
}

// sampleDiff is a scan against the watch that came after it, with everything in it that
// a comparison can tell, and an enemy's words in all of it.
func sampleDiff(t testing.TB) *Comparison {
	t.Helper()
	old, new := layeredEvents(), watchEvents()
	end := new[len(new)-1]
	return compared(diffSideOf(t, diffBefore(old)), diffSideOf(t, append(diffAfter(new[:len(new)-1]), end)))
}

func compared(old, new *scan.DiffSide) *Comparison {
	return &Comparison{Tool: "escape-scanner", Version: "v0.1.0", Time: sampleTime(), OldFile: "old " + evil + ".jsonl", NewFile: "new.jsonl", Diff: scan.Compare(old, new)}
}

// diffBefore adds to a scan what is there no more, or otherwise, in the watch.
func diffBefore(events []scan.Event) []scan.Event {
	end := events[len(events)-1]
	excepted := watchFinding("front", "escape-nsenter", scan.SeverityHigh)
	excepted.Excepted = &scan.Excepted{Reason: "until " + evil, Expires: "2026-11-01"}
	gone := watchFinding(evil, "escape-"+evil, scan.SeverityCritical)
	unread := watchVerdict("ledger-2", "", scan.VerdictExposed)
	unread.Workload.Namespace = "payments"
	lost := watchFinding("ledger-2", "escape-nsenter", scan.SeverityHigh)
	lost.Workload.Namespace = "payments"
	events = append(events[:len(events)-1:len(events)-1],
		scan.Event{Failure: &scan.Failure{Subject: "lab " + evil, Namespace: "lab", Reason: scan.FailureTimeout, Message: evil}},
		scan.Event{Finding: excepted}, scan.Event{Finding: watchFinding("front", "escape-privileged", scan.SeverityMedium)},
		scan.Event{Finding: watchFinding("front", "escape-closed", scan.SeverityMedium)}, scan.Event{Finding: watchFinding("front", "escape-known", scan.SeverityLow)},
		scan.Event{Verdict: watchVerdict("front", "", scan.VerdictGuarded)},
		scan.Event{Finding: gone}, scan.Event{Verdict: watchVerdict(evil, "", scan.VerdictExposed)},
		scan.Event{Verdict: watchVerdict("back", "", scan.VerdictExposed)}, scan.Event{Verdict: watchVerdict("dim", "", scan.VerdictClosed)},
		scan.Event{Finding: lost}, scan.Event{Verdict: unread})
	return append(events, end)
}

// diffAfter adds to a watch what is new, or otherwise, since the scan.
func diffAfter(events []scan.Event) []scan.Event {
	known := watchFinding("front", "escape-known", scan.SeverityLow)
	known.Excepted = &scan.Excepted{Reason: evil, Expires: "2026-12-31"}
	new := watchFinding("new-"+evil, "escape-"+evil, scan.SeverityCritical)
	new.Workload.Namespace = "lab"
	new.Now = []byte(`"` + "\\u001b[31m" + `"`)
	exposed := watchVerdict("front", "", scan.VerdictExposed)
	exposed.Reason = "escape-nsenter is open: " + evil
	start := *events[0].Start
	start.PSSVersion, start.Cluster = "v1.35", "prod-"+evil
	kept := []scan.Event{{Time: events[0].Time, Start: &start}}
	for _, e := range events[1:] {
		if !stormy(e) {
			kept = append(kept, e)
		}
	}
	verdict := watchVerdict("new-"+evil, "", scan.VerdictExposed)
	verdict.Workload.Namespace = "lab"
	return append(kept,
		scan.Event{Failure: &scan.Failure{Subject: "pods", Namespace: "payments", Reason: scan.FailureForbidden, Message: evil, Affects: evil}},
		scan.Event{Finding: watchFinding("front", "escape-nsenter", scan.SeverityHigh)}, scan.Event{Finding: watchFinding("front", "escape-privileged", scan.SeverityCritical)},
		scan.Event{Finding: known}, scan.Event{Finding: watchFinding("front", "escape-fresh", scan.SeverityHigh)}, scan.Event{Verdict: exposed},
		scan.Event{Finding: new}, scan.Event{Verdict: verdict},
		scan.Event{Verdict: watchVerdict("back", "", scan.VerdictClosed)}, scan.Event{Verdict: watchVerdict("dim", "", scan.VerdictUnknown)})
}

// stormy reports whether an event is of the many workloads of a storm, but for two.
func stormy(e scan.Event) bool {
	name := ""
	switch {
	case e.Finding != nil:
		name = e.Finding.Workload.Name
	case e.Verdict != nil:
		name = e.Verdict.Workload.Name
	}
	return strings.HasPrefix(name, "app-") && name != "app-00" && name != "app-01"
}

func TestDiffGolden(t *testing.T) {
	t.Parallel()
	c := sampleDiff(t)
	for file, opts := range map[string]TableOptions{
		"diff-pipe.txt": {}, "diff-120.txt": {Width: 120}, "diff-80.txt": {Width: 80}, "diff-40.txt": {Width: 40}, "diff-color.txt": {Width: 100, Color: true},
	} {
		t.Run(file, func(t *testing.T) { compareGolden(t, file, diffAsText(t, c, opts)) })
	}
	t.Run("diff.json", func(t *testing.T) { compareGolden(t, "diff-run.json", diffOut(t, c, WriteDiffJSON)) })
	t.Run("diff.html", func(t *testing.T) { compareGolden(t, "diff-body.html", pageBody(t, diffOut(t, c, WriteDiffHTML))) })
}

func diffOut(t testing.TB, c *Comparison, write func(io.Writer, *Comparison) error) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out, c); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func diffAsText(t testing.TB, c *Comparison, opts TableOptions) []byte {
	t.Helper()
	return diffOut(t, c, func(w io.Writer, c *Comparison) error { return WriteDiff(w, c, opts) })
}

// pageBody is the main part of a document: the rest is that of every document.
func pageBody(t *testing.T, html []byte) []byte {
	t.Helper()
	_, body, ok := bytes.Cut(html, []byte("<main"))
	body, _, closed := bytes.Cut(body, []byte("</main>"))
	if !ok || !closed {
		t.Fatal("no main part")
	}
	return append(body, '\n')
}

// No line is wider than the terminal, and nothing of what others chose acts on it.
func TestDiffFitsAndIsHarmless(t *testing.T) {
	t.Parallel()
	c := sampleDiff(t)
	for _, width := range []int{0, 20, 40, 80, 200} {
		for line := range strings.Lines(string(diffAsText(t, c, TableOptions{Width: width}))) {
			line = strings.TrimSuffix(line, "\n")
			if Clean(line) != line || !utf8.ValidString(line) {
				t.Errorf("at %d: %q is not clean", width, line)
			}
			if width > 0 && cells(line) > width {
				t.Errorf("at %d: %d cells: %q", width, cells(line), line)
			}
		}
	}
	if text := string(diffOut(t, c, WriteDiffJSON)); strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && hidden(r) }) {
		t.Error("the JSON has hidden characters")
	}
	color := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(string(diffAsText(t, c, TableOptions{Width: 100, Color: true})), "")
	if strings.Contains(color, "\x1b") {
		t.Error("an escape sequence that is no colour")
	}
	html := string(diffOut(t, c, WriteDiffHTML))
	for _, bad := range []string{"<script>alert", "\x1b", "\u202e", "\u200b", "ZgotmplZ", " style=", " onclick="} {
		if strings.Contains(html, bad) {
			t.Errorf("the HTML has %q", bad)
		}
	}
	if !strings.Contains(html, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the enemy's words are not in the HTML: this tries nothing")
	}
}

// In a pipe each line begins with what happened, and names what it happened to.
func TestDiffInAPipeIsForGrep(t *testing.T) {
	t.Parallel()
	c := sampleDiff(t)
	d := c.Diff
	want := map[string]int{
		"VERDICT": len(d.Verdicts), "OPENED": len(d.Opened), "CLOSED": len(d.Closed), "EXCEPTED": len(d.Excepted), "UNEXCEPTED": len(d.Unexcepted),
		"SEVERITY": len(d.Severities), "CAME": len(d.Came), "WENT": len(d.Went), "POLICY": len(d.Policies), "NODE": len(d.Nodes),
		"UNREAD": len(d.Unread), "READABLE": len(d.Readable), "NOT-KNOWN": len(c.unknownThings()),
	}
	lines := strings.Split(string(diffAsText(t, c, TableOptions{})), "\n")
	for word, n := range want {
		got := 0
		for _, line := range lines {
			if strings.HasPrefix(line, word+" ") {
				got++
			}
		}
		if got != n || n == 0 {
			t.Errorf("%d lines of %s, want %d, and some", got, word, n)
		}
	}
	for i := range d.Opened {
		w := Clean(d.Opened[i].Now.Workload.String())
		found := false
		for _, line := range lines {
			found = found || strings.HasPrefix(line, "OPENED ") && strings.Contains(line, w)
		}
		if !found {
			t.Errorf("no line says what opened in %s", w)
		}
	}
}

// Nothing changed says so, and no more than is known.
func TestDiffOfTheSame(t *testing.T) {
	t.Parallel()
	whole := []scan.Event{{Start: &scan.Start{Schema: 1}}, {Verdict: watchVerdict("cart", "", scan.VerdictClosed)}, {End: &scan.End{Workloads: 1}}}
	broken := []scan.Event{whole[0], {Failure: &scan.Failure{Subject: "pods"}}, {End: &scan.End{Incomplete: true, Failures: 1}}}
	for _, c := range []struct {
		events []scan.Event
		want   string
	}{{whole, "Nothing changed."}, {broken, "Nothing changed in what was read."}} {
		same := compared(diffSideOf(t, c.events), diffSideOf(t, c.events))
		for _, width := range []int{0, 80} {
			if text := string(diffAsText(t, same, TableOptions{Width: width})); !strings.Contains(text, c.want) || strings.Contains(text, "CHANGES") {
				t.Errorf("no %q in %s", c.want, text)
			}
		}
		if html := string(diffOut(t, same, WriteDiffHTML)); !strings.Contains(html, c.want) {
			t.Errorf("no %q in the HTML", c.want)
		}
		if text := string(diffOut(t, same, WriteDiffJSON)); !strings.Contains(text, `"changed": false`) {
			t.Error("the JSON says that something changed")
		}
	}
}

func TestDiffFollowsTheSchema(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	const home = "https://github.com/escape-scanner/escape-scanner/docs/"
	for _, file := range []string{schemaFile, diffSchemaFile} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(home+strings.TrimPrefix(file, "../docs/"), text); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(home + "diff.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	c := sampleDiff(t)
	back := compared(c.Diff.New, c.Diff.Old)
	same := compared(c.Diff.Old, c.Diff.Old)
	for _, c := range []*Comparison{c, back, same} {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(diffOut(t, c, WriteDiffJSON)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(value); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{`{}`, `[]`, strings.Replace(string(diffOut(t, same, WriteDiffJSON)), `"changed": false`, `"changed": "no"`, 1),
		strings.Replace(string(diffOut(t, c, WriteDiffJSON)), `"turn": "worse"`, `"turn": "nice"`, 1)} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(value) == nil {
			t.Errorf("%.200s passes", text)
		}
	}
}

func TestDiffSchemaHasEveryField(t *testing.T) {
	t.Parallel()
	describesTypes(t, diffSchemaFile, map[string]reflect.Type{
		"diff": reflect.TypeFor[diffJSON](), "run": reflect.TypeFor[diffRunJSON](), "difference": reflect.TypeFor[scan.Difference](),
		"findingPair": reflect.TypeFor[diffFindingJSON](), "verdictPair": reflect.TypeFor[diffVerdictJSON](), "workloadPair": reflect.TypeFor[diffWorkloadJSON](),
		"policyPair": reflect.TypeFor[diffPolicyJSON](), "nodePair": reflect.TypeFor[diffNodeJSON](), "failurePair": reflect.TypeFor[diffFailureJSON](),
		"notKnown": reflect.TypeFor[diffNotKnownJSON](),
	})
}

// BenchmarkDiff writes what changed between two runs of 10,000 workloads.
func BenchmarkDiff(b *testing.B) {
	events := manyLayers(10_000)
	end := events[len(events)-1]
	half := append(events[:len(events)/2:len(events)/2], end)
	start := *events[0].Start
	start.Source = scan.SourceCluster
	events[0].Start, half[0].Start = &start, &start
	c := compared(diffSideOf(b, half), diffSideOf(b, events))
	for name, write := range map[string]func(io.Writer, *Comparison) error{
		"json": WriteDiffJSON, "html": WriteDiffHTML,
		"table": func(w io.Writer, c *Comparison) error { return WriteDiff(w, c, TableOptions{Width: 120}) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := write(io.Discard, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
