package scan

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// The fixtures of the rules: testdata/rules/RULE/{fail,pass,fixed}/NAME.yaml.
//
// Comments at the head of a pod say what is expected of it. In fail, each "field:"
// begins one finding of the rule, and there must be no other; "container:",
// "severity:", "open:" and "lowered:" (what it is lowered by) belong to the field
// above them. An escape path is expected to be open, an aggravation is not.
// "runtimeHandlers: CLASS=HANDLER" is what the cluster is known to run. fixed is
// the pod of the same name in fail after the rule's own fixes, made by -update.

const rulesDir = "../testdata/rules"

// fixture is one pod of a rule's folder.
type fixture struct {
	rule, kind, name string
	pod              *corev1.Pod
	facts            Facts
	want             []expectation
}

// expectation is a finding that a fixture must have.
type expectation struct {
	field, container, lowered string
	severity                  Severity
	open                      bool
}

func (f *fixture) path() string { return filepath.Join(rulesDir, f.rule, f.kind, f.name) }

func fixtureRules() []Rule {
	return slices.DeleteFunc(Rules(), func(r Rule) bool { return r.Category != CategoryPSS && r.Category != CategoryEscape })
}

// fixtures reads the pods of one rule and kind.
func fixtures(t testing.TB, rule Rule, kind string) []fixture {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(rulesDir, rule.ID, kind, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	list := make([]fixture, 0, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f := fixture{rule: rule.ID, kind: kind, name: filepath.Base(file), pod: &corev1.Pod{}}
		if err := yaml.UnmarshalStrict(data, f.pod); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		oracle.DefaultVolumes(f.pod)
		if err := f.readHead(string(data), rule); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, f)
	}
	return list
}

// readHead reads the comments before the pod.
func (f *fixture) readHead(text string, rule Rule) error {
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			return nil
		}
		key, value, _ := strings.Cut(comment, ": ")
		last := len(f.want) - 1
		switch {
		case key == "field":
			f.want = append(f.want, expectation{field: value, open: rule.Category == CategoryEscape && !rule.Aggravates})
		case key == "runtimeHandlers":
			class, handler, ok := strings.Cut(value, "=")
			if !ok {
				return fmt.Errorf("%s: want CLASS=HANDLER", comment)
			}
			f.facts = Facts{RuntimeHandlers: map[string]string{class: handler}, RuntimeHandlersKnown: true}
		case !slices.Contains([]string{"container", "severity", "open", "lowered"}, key):
		case last < 0:
			return fmt.Errorf("%s: there is no field above it", comment)
		case key == "container":
			f.want[last].container = value
		case key == "severity":
			f.want[last].severity = Severity(value)
		case key == "open":
			f.want[last].open = value == "true"
		case key == "lowered":
			f.want[last].lowered = value
		}
	}
	return nil
}

// findingsOf judges the fixture's pod at the rule's own level.
func findingsOf(t testing.TB, rule Rule, pod *corev1.Pod, facts Facts) []Finding {
	t.Helper()
	engine, err := NewEngine(psa.Level(cmp.Or(rule.Level, string(psa.LevelBaseline))), psa.LatestVersion())
	if err != nil {
		t.Fatal(err)
	}
	j := engine.Judge(podOf(pod), facts)
	return slices.DeleteFunc(j.Findings, func(f Finding) bool { return f.Rule != rule.ID })
}

func podOf(pod *corev1.Pod) Pod { return Pod{Meta: &pod.ObjectMeta, Spec: &pod.Spec} }

func TestFixtures(t *testing.T) {
	for _, rule := range fixtureRules() {
		t.Run(rule.ID, func(t *testing.T) {
			fails, passes := fixtures(t, rule, "fail"), fixtures(t, rule, "pass")
			if len(fails) == 0 || len(passes) == 0 {
				t.Fatalf("%d pods that fail and %d that pass: want at least one of each in testdata/rules/%s/{fail,pass}", len(fails), len(passes), rule.ID)
			}
			for _, f := range passes {
				for _, found := range findingsOf(t, rule, f.pod, f.facts) {
					t.Errorf("%s: found %s in %q: %s", f.path(), found.Field, found.Container, found.Message)
				}
			}
			for _, f := range fails {
				found := findingsOf(t, rule, f.pod, f.facts)
				f.compare(t, found)
				f.compareFixed(t, rule, found)
			}
		})
	}
}

// compare compares what was found with what the comments say.
func (f *fixture) compare(t *testing.T, found []Finding) {
	t.Helper()
	if len(f.want) == 0 {
		t.Errorf("%s: no comment says which field is to be found", f.path())
	}
	places := func(field, container string) string { return field + " in " + container }
	var want, got []string
	for _, w := range f.want {
		want = append(want, places(w.field, w.container))
	}
	for _, g := range found {
		got = append(got, places(g.Field, g.Container))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("%s: found %q, want %q", f.path(), got, want)
		return
	}
	for _, w := range f.want {
		g := found[slices.IndexFunc(found, func(g Finding) bool { return g.Field == w.field && g.Container == w.container })]
		if w.severity != "" && g.Severity != w.severity {
			t.Errorf("%s: %s is %s, want %s", f.path(), w.field, g.Severity, w.severity)
		}
		if g.Open != w.open {
			t.Errorf("%s: %s: open is %v, want %v (lowered %+v)", f.path(), w.field, g.Open, w.open, g.Lowered)
		}
		if w.lowered != "" && !slices.ContainsFunc(g.Lowered, func(l Lowering) bool { return l.By == w.lowered }) {
			t.Errorf("%s: %s is not lowered by %q but by %+v", f.path(), w.field, w.lowered, g.Lowered)
		}
		if g.Fix == nil {
			t.Errorf("%s: %s has no fix", f.path(), w.field)
		}
	}
}

// TestMain defines -update, which writes the fixed pods anew.
func TestMain(m *testing.M) {
	flag.Bool("update", false, "write testdata/rules/*/fixed anew")
	flag.Parse()
	os.Exit(m.Run())
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// compareFixed makes the rule's fixes and compares the pod with the one in fixed,
// where the rule must be silent.
func (f *fixture) compareFixed(t *testing.T, rule Rule, found []Finding) {
	t.Helper()
	fixed := applyFixes(t, f.pod, oncePerField(found))
	if left := findingsOf(t, rule, fixed, f.facts); len(left) > 0 {
		t.Errorf("%s: still found after its own fix: %s", f.path(), left[0].Message)
	}
	file := filepath.Join(rulesDir, f.rule, "fixed", f.name)
	text := podText(t, fixed)
	if updating() {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v; run go test ./scan -run TestFixtures -update and review it", err)
		return
	}
	if string(want) != text {
		t.Errorf("%s: the fixed pod differs:\n%s", file, text)
	}
}

// oncePerField leaves one finding of those that blame the same field.
func oncePerField(found []Finding) []Finding {
	var once []Finding
	for _, f := range found {
		if !slices.ContainsFunc(once, func(o Finding) bool { return o.Field == f.Field }) {
			once = append(once, f)
		}
	}
	return once
}

// podText is the pod as YAML without what the Go types add.
func podText(t *testing.T, pod *corev1.Pod) string {
	t.Helper()
	raw, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc, "status")
	if meta, ok := doc["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
		containers, _ := doc["spec"].(map[string]any)[list].([]any)
		for _, c := range containers {
			delete(c.(map[string]any), "resources")
		}
	}
	if raw, err = yaml.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestFixturesBelongToRules finds folders without a rule, and fixed pods without
// the one that was fixed.
func TestFixturesBelongToRules(t *testing.T) {
	rules := fixtureRules()
	folders, err := os.ReadDir(rulesDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if !slices.ContainsFunc(rules, func(r Rule) bool { return r.ID == folder.Name() }) {
			t.Errorf("%s: there is no such rule", folder.Name())
		}
	}
	for _, rule := range rules {
		fails := fixtures(t, rule, "fail")
		for _, f := range fixtures(t, rule, "fixed") {
			if !slices.ContainsFunc(fails, func(o fixture) bool { return o.name == f.name }) {
				t.Errorf("%s: there is no such pod in fail", f.path())
			}
		}
	}
}
