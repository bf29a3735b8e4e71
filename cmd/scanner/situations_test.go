package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/scan"
)

// situationsDir has a folder for each situation: the manifests of a small cluster, and
// in expect.yaml what must be said of it. Files that several have are links into the
// folder shared. Beside each NAME is NAME-twin, in which what does not bite does.
//
// What is around them all is the same: a namespace elsewhere with a policy of every
// kind. A folder without it would leave unknown whether there are any.
const (
	situationsDir  = "../../testdata/situations"
	situationFile  = "expect.yaml"
	situationTwin  = "-twin"
	situationParts = "shared"
	situationRest  = "elsewhere.yaml"
)

// situation is one folder.
type situation struct {
	name, dir string
	objects   []*unstructured.Unstructured
	// written is how many of the objects are in the folder: the rest are repeated.
	written int
	// around are the objects of every situation.
	around []*unstructured.Unstructured
	expect situationExpectation
}

// situationExpectation is what must be said. All verdicts must be named but those of
// KubeArmor, Kyverno and elsewhere, all policies but those of elsewhere, which bite, and
// all findings about policies and nodes: what is not named must not be there. Policies
// may be named by a pattern, which stands for all that the folder has.
type situationExpectation struct {
	situationOutcome
	// Differs are the places at which a twin differs from its sibling, objects or
	// fields of them.
	Differs []string `json:"differs"`
	// Repeat makes as many of an object.
	Repeat map[string]int `json:"repeat"`
	// Refused is an object that the API server does not store: then the situation is
	// one of files only.
	Refused string `json:"refused"`
	// Files is what differs where the same cluster is read from files, and Why.
	Files *struct {
		Why string `json:"why"`
		situationOutcome
	} `json:"files"`
}

type situationOutcome struct {
	// Workloads are by NAMESPACE/KIND/NAME, Policies by KIND NAMESPACE/NAME.
	Workloads  map[string]workloadExpectation `json:"workloads"`
	Policies   map[string]scan.Bite           `json:"policies"`
	Findings   []findingExpectation           `json:"findings"`
	Incomplete bool                           `json:"incomplete"`
}

type workloadExpectation struct {
	Verdict scan.Verdict `json:"verdict"`
	// Reason is a part of it, in any case.
	Reason string `json:"reason"`
	// The others are looked at where they are given.
	Pods      int                       `json:"pods"`
	Severity  scan.Severity             `json:"severity"`
	Admission string                    `json:"admission"`
	Set       string                    `json:"set"`
	Grade     string                    `json:"grade"`
	Paths     map[string]scan.PathState `json:"paths"`
}

type findingExpectation struct {
	Rule     string   `json:"rule"`
	At       string   `json:"at"`
	Policies []string `json:"policies"`
}

// situations are all folders, in order, read once. What they hold is not to be changed.
var situations = sync.OnceValues(func() ([]situation, error) {
	entries, err := os.ReadDir(situationsDir)
	if err != nil {
		return nil, err
	}
	var all []situation
	for _, e := range entries {
		if !e.IsDir() || e.Name() == situationParts {
			continue
		}
		s, err := loadSituation(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		all = append(all, s)
	}
	return all, nil
})

func loadSituations(tb testing.TB) []situation {
	tb.Helper()
	all, err := situations()
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func loadSituation(name string) (situation, error) {
	s := situation{name: name, dir: filepath.Join(situationsDir, name)}
	files := os.DirFS(s.dir)
	text, err := fs.ReadFile(files, situationFile)
	if err != nil {
		return s, err
	}
	if !strings.HasPrefix(string(text), "# ") {
		return s, fmt.Errorf("%s does not begin with what the situation teaches", situationFile)
	}
	if err := yaml.UnmarshalStrict(text, &s.expect); err != nil {
		return s, fmt.Errorf("%s: %w", situationFile, err)
	}
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return s, err
	}
	for _, file := range names {
		if file == situationFile {
			continue
		}
		objects, err := readObjects(filepath.Join(s.dir, file))
		switch {
		case err != nil:
			return s, err
		case file == situationRest:
			s.around = objects
		default:
			s.objects = append(s.objects, objects...)
		}
	}
	return s, s.repeat()
}

func readObjects(file string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(doc), &object.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

// around is what is around every situation.
var around = sync.OnceValues(func() ([]*unstructured.Unstructured, error) {
	return readObjects(filepath.Join(situationsDir, situationParts, situationRest))
})

func readAround(tb testing.TB) []*unstructured.Unstructured {
	tb.Helper()
	objects, err := around()
	if err != nil {
		tb.Fatal(err)
	}
	return objects
}

// repeat makes the copies that the situation asks for.
func (s *situation) repeat() error {
	s.written = len(s.objects)
	for name, times := range s.expect.Repeat {
		i := slices.IndexFunc(s.objects, func(o *unstructured.Unstructured) bool { return objectName(o) == name })
		if i < 0 {
			return fmt.Errorf("repeat: there is no %s", name)
		}
		for n := range times - 1 {
			twin := s.objects[i].DeepCopy()
			twin.SetName(twin.GetName() + "-" + strconv.Itoa(n+2))
			s.objects = append(s.objects, twin)
		}
	}
	return nil
}

// objectName is KIND NAMESPACE/NAME, or KIND NAME for what belongs to the cluster.
func objectName(o *unstructured.Unstructured) string {
	return strings.Join([]string{o.GetKind(), path.Join(o.GetNamespace(), o.GetName())}, " ")
}

// asList is objects as one document.
func asList(tb testing.TB, objects []*unstructured.Unstructured) string {
	tb.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// expand gives the names that a pattern stands for.
func (s *situation) expand(tb testing.TB, pattern string) []string {
	tb.Helper()
	if !strings.Contains(pattern, "*") {
		return []string{pattern}
	}
	var names []string
	for _, o := range s.objects {
		if ok, err := path.Match(pattern, objectName(o)); err != nil || ok {
			names = append(names, objectName(o))
		}
	}
	if len(names) == 0 {
		tb.Errorf("%s: %q stands for nothing", s.name, pattern)
	}
	return names
}

// TestSituationsInFiles scans every folder as it is.
func TestSituationsInFiles(t *testing.T) {
	for _, s := range loadSituations(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.check(t, s.scanFiles(t, s.around), s.forFiles())
		})
	}
}

// scanFiles scans the folder, where copies are asked for with them in it, and where it
// is to lack what is around it without that.
func (s *situation) scanFiles(t *testing.T, around []*unstructured.Unstructured) *said {
	t.Helper()
	dir := s.dir
	if len(s.expect.Repeat) > 0 || len(around) != len(s.around) {
		dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "cluster.json"), []byte(asList(t, slices.Concat(s.objects, around))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := invoke(t.Context(), testDeps(""), strings.NewReader(""), "scan", "-f", dir, "-o", "jsonl")
	return parseSaid(t, liveResult{code, stdout, stderr})
}

// A dump that does not have every kind says nothing better than one that has, and
// nothing worse: what it lacks is unknown, not absent.
func TestSituationsOfWhichNotAllIsKnown(t *testing.T) {
	weaker := map[scan.Verdict]scan.Verdict{
		scan.VerdictExposed: scan.VerdictUnknown, scan.VerdictGuarded: scan.VerdictUnknown, scan.VerdictSealed: scan.VerdictClosed,
	}
	for _, s := range loadSituations(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			got := s.scanFiles(t, nil)
			if !got.end.Incomplete {
				t.Error("it is complete")
			}
			for name, w := range s.forFiles().Workloads {
				if v := got.verdict(t, name); v.Verdict != w.Verdict && v.Verdict != weaker[w.Verdict] {
					t.Errorf("%s: %s (%s), want %s, or less", name, v.Verdict, v.Reason, w.Verdict)
				}
			}
		})
	}
}

// Of every situation there are two, and they differ in nothing but what they say. So
// it is that one thing which makes the difference.
func TestSituationsAndTheirTwinsDifferInOneThing(t *testing.T) {
	all := map[string]situation{}
	for _, s := range loadSituations(t) {
		all[s.name] = s
	}
	for name, s := range all {
		base, isTwin := strings.CutSuffix(name, situationTwin)
		switch {
		case isTwin && all[base].dir == "":
			t.Errorf("%s: a twin of nothing", name)
		case isTwin:
			other := all[base]
			checkDifferences(t, &other, &s)
		case all[name+situationTwin].dir == "":
			t.Errorf("%s: has no twin", name)
		case len(s.expect.Differs) > 0:
			t.Errorf("%s: what differs stands with the twin", name)
		}
	}
	if n := len(all) / 2; n < 40 {
		t.Errorf("%d situations, want at least 40", n)
	}
}

func checkDifferences(t *testing.T, base, twin *situation) {
	t.Helper()
	used := map[string]bool{}
	before, after := base.leaves(t), twin.leaves(t)
	for place := range union(before, after) {
		if before[place] == after[place] {
			continue
		}
		i := slices.IndexFunc(twin.expect.Differs, func(d string) bool {
			rest, ok := strings.CutPrefix(place, d)
			return ok && (rest == "" || strings.Contains(" .[", rest[:1]))
		})
		if i < 0 {
			t.Errorf("%s: differs from %s in %s: %q and %q", twin.name, base.name, place, before[place], after[place])
			continue
		}
		used[twin.expect.Differs[i]] = true
	}
	for _, d := range twin.expect.Differs {
		if !used[d] {
			t.Errorf("%s: does not differ from %s in %s", twin.name, base.name, d)
		}
	}
	if len(twin.expect.Differs) == 0 {
		t.Errorf("%s: does not say in what it differs", twin.name)
	}
}

func union(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// leaves are the values of all fields, by "KIND NAMESPACE/NAME PATH".
func (s *situation) leaves(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, o := range s.objects[:s.written] {
		name := objectName(o)
		if all[name] != "" {
			t.Errorf("%s: two objects are %s", s.name, name)
		}
		all[name] = "there"
		addLeaves(all, name+" ", o.Object)
		if times := s.expect.Repeat[name]; times > 0 {
			all[name+" repeat"] = strconv.Itoa(times)
		}
	}
	return all
}

func addLeaves(all map[string]string, at string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, child := range v {
			sep := "."
			if strings.HasSuffix(at, " ") {
				sep = ""
			}
			addLeaves(all, at+sep+key, child)
		}
	case []any:
		for i, child := range v {
			addLeaves(all, at+"["+strconv.Itoa(i)+"]", child)
		}
	default:
		all[at] = fmt.Sprint(v)
	}
}

// Every reason for which the program says that a policy does not bite, or a node does
// not enforce, is in a situation, and is not in its twin.
func TestSituationsShowEveryReasonNotToBite(t *testing.T) {
	shown := map[string][]string{}
	for _, s := range loadSituations(t) {
		for _, f := range s.expect.Findings {
			shown[f.Rule] = append(shown[f.Rule], s.name)
		}
	}
	for _, rule := range scan.Rules() {
		if rule.Category != scan.CategoryPolicy && rule.Category != scan.CategoryKernel {
			continue
		}
		names := shown[rule.ID]
		if !slices.ContainsFunc(names, func(name string) bool {
			return !strings.HasSuffix(name, situationTwin) && !slices.Contains(names, name+situationTwin)
		}) {
			t.Errorf("%s: no situation has it without its twin having it: %q", rule.ID, names)
		}
		delete(shown, rule.ID)
	}
	for rule, names := range shown {
		t.Errorf("%s, of %q, is no rule", rule, names)
	}
}
