package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
)

// planTexts are the texts of remediation, by the beginnings of their golden files.
func planTexts() map[string]func(io.Writer, PlanOptions) error {
	return map[string]func(io.Writer, PlanOptions) error{
		"plan": func(w io.Writer, o PlanOptions) error { return WritePlan(w, samplePlan(), o) },
		"rollback": func(w io.Writer, o PlanOptions) error {
			r := samplePlan()
			r.Set, r.Preview = nil, nil
			for i := range r.Plan.Changes {
				r.Plan.Changes[i].Stage = ""
			}
			return WritePlan(w, r, o)
		},
		"preview": func(w io.Writer, o PlanOptions) error { return writePreview(w, samplePreview(), o) },
		"result":  func(w io.Writer, o PlanOptions) error { return WriteResult(w, sampleResult(), o) },
		"status":  func(w io.Writer, o PlanOptions) error { return WriteStatus(w, sampleStandings(), o) },
	}
}

// writePreview writes what a plan says of workloads, without the plan.
func writePreview(w io.Writer, r *preview.Report, opts PlanOptions) error {
	t := newPlanText(opts)
	t.preview(r)
	return t.write(w)
}

func planned(t *testing.T, write func(io.Writer, PlanOptions) error, opts PlanOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := write(&out, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPlanGolden(t *testing.T) {
	t.Parallel()
	for name, write := range planTexts() {
		for suffix, opts := range map[string]PlanOptions{
			"pipe": {}, "100": {Width: 100}, "40": {Width: 40}, "color": {Width: 100, Color: true},
		} {
			file := "remediate-" + name + "-" + suffix + ".txt"
			t.Run(file, func(t *testing.T) {
				opts.Diffs = DiffsAuto
				compareGolden(t, file, planned(t, write, opts))
			})
		}
	}
	for file, opts := range map[string]PlanOptions{
		"remediate-plan-verbose.txt": {Width: 100, Diffs: DiffsAuto, Verbose: true},
		"remediate-plan-full.txt":    {Width: 100, Diffs: DiffsFull},
		"remediate-plan-none.txt":    {Width: 100, Diffs: DiffsNone},
	} {
		t.Run(file, func(t *testing.T) { compareGolden(t, file, planned(t, planTexts()["plan"], opts)) })
	}
}

// No line is wider than the terminal, and nothing of what others chose acts on it.
func TestPlanFitsAndIsHarmless(t *testing.T) {
	t.Parallel()
	for name, write := range planTexts() {
		for _, width := range []int{0, 20, 40, 80, 200} {
			for _, diffs := range []Diffs{DiffsAuto, DiffsFull} {
				text := string(planned(t, write, PlanOptions{Width: width, Diffs: diffs, Verbose: diffs == DiffsFull}))
				for line := range strings.Lines(text) {
					line = strings.TrimSuffix(line, "\n")
					if Clean(line) != line || !utf8.ValidString(line) {
						t.Errorf("%s at %d: %q is not clean", name, width, line)
					}
					if width > 0 && len(line) > 0 && cells(line) > width {
						t.Errorf("%s at %d: %d cells: %q", name, width, cells(line), line)
					}
				}
			}
		}
	}
}

func cells(line string) int { return width(line) }

// A pipe has a line for every effect, which names its workload, and every failure.
func TestPlanInAPipeIsForGrep(t *testing.T) {
	t.Parallel()
	text := string(planned(t, planTexts()["plan"], PlanOptions{Diffs: DiffsAuto}))
	lines := strings.Split(text, "\n")
	judged := samplePreview()
	for i := range judged.Workloads {
		w := &judged.Workloads[i]
		n := 0
		for _, line := range lines {
			if strings.Contains(line, Clean(w.Workload.String())) && strings.HasPrefix(line, strings.ToUpper(string(w.Outcome))) {
				n++
			}
		}
		worst := 0
		for _, e := range w.Effects {
			if e.Outcome == w.Outcome {
				worst++
			}
		}
		if n != max(worst, 1) {
			t.Errorf("%s has %d lines, want %d", w.Workload, n, max(worst, 1))
		}
	}
}

// On a terminal 200 workloads that may break for one reason are one paragraph, and
// those that break are each there.
func TestPlanFolds(t *testing.T) {
	t.Parallel()
	r := &preview.Report{Counts: map[preview.Outcome]int{}}
	for i := range 200 {
		outcome := preview.MayBreak
		if i%20 == 0 {
			outcome = preview.Breaks
		}
		r.Counts[outcome]++
		r.Workloads = append(r.Workloads, preview.Workload{
			Workload: planWorkload("shop", fmt.Sprintf("w-%03d", i)), Outcome: outcome,
			Effects: []preview.Effect{{Outcome: outcome, Part: "tools", Element: "curl", What: "it may call curl", Why: "its image has it", Mend: "use another"}},
		})
	}
	write := func(w io.Writer, o PlanOptions) error { return writePreview(w, r, o) }
	short := strings.Split(string(planned(t, write, PlanOptions{Width: 100})), "\n")
	if len(short) > 60 {
		t.Errorf("%d lines", len(short))
	}
	for i := 0; i < 200; i += 20 {
		if name := fmt.Sprintf("w-%03d", i); !strings.Contains(strings.Join(short, "\n"), name) {
			t.Errorf("%s breaks and is not named", name)
		}
	}
	if all := string(planned(t, write, PlanOptions{Width: 100, Verbose: true})); strings.Count(all, "it may call curl") != 200 {
		t.Errorf("verbose has %d of 200 effects", strings.Count(all, "it may call curl"))
	}
}

func TestRemediateDocumentsFollowTheSchema(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(remediateSchemaFile)
	if err != nil {
		t.Fatal(err)
	}
	bare := &Remediation{Tool: "escape-scanner", Version: "v1", Time: sampleTime(), Plan: &remediate.Plan{Set: "s"}, Preview: &preview.Report{Counts: map[preview.Outcome]int{}}, Result: &remediate.Result{}}
	for name, write := range map[string]func(io.Writer) error{
		"plan":           func(w io.Writer) error { return WritePlanJSON(w, samplePlan()) },
		"result":         func(w io.Writer) error { return WritePlanJSON(w, sampleResult()) },
		"nothing":        func(w io.Writer) error { return WritePlanJSON(w, bare) },
		"status":         func(w io.Writer) error { return WriteStatusJSON(w, sampleStandings()) },
		"status of none": func(w io.Writer) error { return WriteStatusJSON(w, &Standings{Tool: "escape-scanner"}) },
	} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Contains(out.String(), "\x1b") || strings.Contains(out.String(), ": null") {
			t.Errorf("%s: has an escape or a null\n%s", name, &out)
		}
		value, err := jsonschema.UnmarshalJSON(&out)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := schema.Validate(value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, wrong := range []string{`{}`, `{"schema":1,"tool":"t","version":"v","time":"2026-11-22T12:00:00Z"}`,
		`{"schema":2,"tool":"t","version":"v","time":"2026-11-22T12:00:00Z","plan":{"set":"s","changes":[]}}`,
		`{"schema":1,"tool":"t","version":"v","time":"now","plan":{"set":"s","changes":[]}}`,
		`{"schema":1,"tool":"t","version":"v","time":"2026-11-22T12:00:00Z","plan":{"set":"s","changes":[{"stage":"audit","part":"tools","object":{"apiVersion":"v1","kind":"K","name":"n"},"action":"maybe"}]}}`,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(wrong))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(value) == nil {
			t.Errorf("%s passes", wrong)
		}
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	changes := samplePlan().Plan.Changes
	for _, test := range []struct {
		p    remediate.Progress
		want string
	}{
		{remediate.Progress{Stage: remediate.StageAudit, Done: 1, Total: 8, Change: &changes[0]}, "1/8 audit: KubeArmorPolicy shop/escape-to-host-tools created"},
		{remediate.Progress{Done: 6, Total: 8, Change: &changes[5]}, "6/8: KubeArmorPolicy shop/old deleted"},
		{remediate.Progress{Done: 7, Total: 8, Change: &changes[6]}, "7/8: KubeArmorPolicy shop/theirs put back"},
		{remediate.Progress{Stage: remediate.StageEnforce, Done: 8, Total: 8, Check: &sampleResult().Result.Checks[0]}, "8/8 enforce: refuses: a privileged pod: yes"},
	} {
		if got := ProgressLine(&test.p); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if got := ProgressLine(&remediate.Progress{Change: &changes[7]}); Clean(got) != got || !strings.Contains(got, "blocked by admission") {
		t.Errorf("%q", got)
	}
}
