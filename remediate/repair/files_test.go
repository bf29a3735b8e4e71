package repair_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/remediate/repair"
	"github.com/escape-scanner/escape-scanner/scan"
)

var update = flag.Bool("update", false, "write the golden files anew")

const samples = "../../testdata/repair"

// Of every sample, in the folder itself everything is repaired, in left something or
// everything is left alone with a reason. In all of them the scan is clean of what was
// repaired, the object changed where it was to change, no line was touched that no
// repair is on, and a second repair finds nothing to do.
func TestSamples(t *testing.T) {
	t.Parallel()
	for _, text := range texts(t, samples) {
		for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
			t.Run(filepath.Base(text.File)+"/"+string(level), func(t *testing.T) {
				t.Parallel()
				r := repairer(t, level, psa.LatestVersion())
				f, err := r.File(t.Context(), text, false)
				if err != nil {
					t.Fatal(err)
				}
				if len(f.Failures) > 0 {
					t.Fatal(f.Failures)
				}
				checkLeft(t, f, strings.Contains(text.File, "/left/"))
				checkClean(t, f, text, level)
				checkObjects(t, f, text)
				checkLines(t, f, text)
				again := text
				again.Data = f.After
				if second, err := r.File(t.Context(), again, false); err != nil || second.Changed() {
					t.Errorf("a second repair: %v\n%s", err, second.After)
				}
			})
		}
	}
}

// checkLeft checks that everything is repaired, or that something is not, with a
// reason.
func checkLeft(t *testing.T, f *repair.File, want bool) {
	t.Helper()
	left := false
	for _, d := range f.Documents {
		left = left || d.Skipped != "" || len(d.Left) > 0
		for _, l := range d.Left {
			if l.Reason == "" {
				t.Errorf("line %d: %s at %s is left without a reason", d.Line, l.Finding.Rule, l.Finding.Field)
			} else if !want {
				t.Errorf("line %d: %s at %s is left: %s", d.Line, l.Finding.Rule, l.Finding.Field, l.Reason)
			}
		}
		if d.Skipped != "" && !want {
			t.Errorf("line %d: %s", d.Line, d.Skipped)
		}
	}
	if want && len(f.Documents) > 0 && !left {
		t.Error("nothing is left alone")
	}
}

// checkClean scans the repaired text as the command scans, and asks the official
// checks about every pod in it.
func checkClean(t *testing.T, f *repair.File, text manifest.Text, level psa.Level) {
	t.Helper()
	engine, err := scan.NewEngine(level, psa.LatestVersion())
	if err != nil {
		t.Fatal(err)
	}
	text.Data = f.After
	at := 0
	err = manifest.Each(t.Context(), text.Inputs(), func(*manifest.Document) int { return 0 }, func(rec manifest.Record[int]) error {
		if rec.Document == nil {
			return nil
		}
		d := f.Documents[at]
		at++
		if d.Skipped != "" {
			return nil
		}
		left := map[string]bool{}
		for _, l := range d.Left {
			left[l.Finding.Rule] = true
		}
		meta, spec := rec.Document.Meta, rec.Document.Spec
		for _, finding := range engine.Judge(scan.Pod{Meta: meta, Spec: spec}, scan.Facts{}).Findings {
			if !left[finding.Rule] && !shut(&finding) {
				t.Errorf("line %d: %s is still found at %s", rec.Line, finding.Rule, finding.Field)
			}
		}
		for _, id := range oracle.Controls(level, psa.LatestVersion(), &corev1.Pod{ObjectMeta: *meta, Spec: *spec}) {
			if !left[id] {
				t.Errorf("line %d: the official check %s refuses", rec.Line, id)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func shut(f *scan.Finding) bool {
	return slices.ContainsFunc(f.Lowered, func(l scan.Lowering) bool { return l.Closes })
}

// checkObjects compares the objects before and after: they may differ below the fields
// that were to be repaired.
func checkObjects(t *testing.T, f *repair.File, text manifest.Text) {
	t.Helper()
	before := objects(t, text)
	text.Data = f.After
	after := objects(t, text)
	if len(before) != len(after) {
		t.Fatalf("%d objects, and %d after the repair", len(before), len(after))
	}
	allowed := map[int][]string{}
	for _, d := range f.Documents {
		for _, finding := range d.Repaired {
			allowed[d.Line] = append(allowed[d.Line], finding.Field)
		}
	}
	for i := range before {
		for _, path := range differences("", before[i].value, after[i].value) {
			if !slices.ContainsFunc(allowed[before[i].line], func(field string) bool { return concerns(path, field) }) {
				t.Errorf("line %d: %s changed, and %v were to", before[i].line, path, allowed[before[i].line])
			}
		}
	}
}

// concerns tells whether a path is that of a field of a pod, or one that the repair of
// the field touches: a profile's file beside its type, the emptyDir in the place of
// another source.
func concerns(path, field string) bool {
	at := strings.LastIndex(path, strings.SplitN(field, ".", 2)[0]+".")
	for ; at >= 0; at = strings.LastIndex(path[:at], strings.SplitN(field, ".", 2)[0]+".") {
		own := path[at:]
		own = strings.TrimSuffix(own, ".emptyDir")
		own = strings.ReplaceAll(own, ".localhostProfile", ".type")
		if strings.HasPrefix(own, field) || strings.HasPrefix(field, own) && own != "spec" {
			return true
		}
	}
	return false
}

type sampleObject struct {
	line  int
	value any
}

func objects(t *testing.T, text manifest.Text) []sampleObject {
	t.Helper()
	var all []sampleObject
	err := manifest.Objects(t.Context(), text.Inputs(), func(raw manifest.Raw) error {
		var v any
		if raw.Failure == nil {
			if err := json.Unmarshal(raw.JSON, &v); err != nil {
				return err
			}
		}
		all = append(all, sampleObject{raw.Line, v})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differences lists the paths at which two values differ. What is empty is as good as
// absent, and a list of another length differs as a whole.
func differences(path string, a, b any) []string {
	if isEmpty(a) && isEmpty(b) || reflect.DeepEqual(a, b) {
		return nil
	}
	x, isMap := a.(map[string]any)
	y, both := b.(map[string]any)
	if isMap && both || isMap && isEmpty(b) || both && isEmpty(a) {
		var all []string
		keys := maps.Clone(x)
		if keys == nil {
			keys = map[string]any{}
		}
		maps.Copy(keys, y)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			p := key
			if path != "" {
				p = path + "." + key
			}
			if strings.Contains(key, ".") {
				p = path + "[" + key + "]"
			}
			all = append(all, differences(p, x[key], y[key])...)
		}
		return all
	}
	v, isList := a.([]any)
	w, both := b.([]any)
	if isList && both && len(v) == len(w) {
		var all []string
		for i := range v {
			all = append(all, differences(path+"["+string(rune('0'+i))+"]", v[i], w[i])...)
		}
		return all
	}
	return []string{path}
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// Some diffs, to be read.
func TestGoldenDiffs(t *testing.T) {
	t.Parallel()
	golden, err := filepath.Glob(filepath.Join(samples, "golden", "*.diff"))
	if err != nil || len(golden) < 15 {
		t.Fatal(golden, err)
	}
	for _, file := range golden {
		name := strings.TrimSuffix(filepath.Base(file), ".diff")
		text := texts(t, filepath.Join(samples, name))[0]
		f, err := repairer(t, psa.LevelRestricted, psa.LatestVersion()).File(t.Context(), text, false)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		for _, l := range f.Diff() {
			b.WriteString(string(l.Op) + l.Text)
		}
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s: -update writes what it is now:\n%s", name, b.String())
		}
	}
}
