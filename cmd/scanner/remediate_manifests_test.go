package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/remediate/repair"
)

const repairSamples = "../../testdata/repair"

// sarifRun is what of a SARIF file the tests read.
type sarifRun struct {
	Runs []struct {
		Results []sarifResult `json:"results"`
	} `json:"runs"`
}

type sarifResult struct {
	RuleID string `json:"ruleId"`
	Prints struct {
		Line string `json:"primaryLocationLineHash"`
	} `json:"partialFingerprints"`
	Locations []struct {
		Physical struct {
			Artifact sarifArtifact `json:"artifactLocation"`
		} `json:"physicalLocation"`
	} `json:"locations"`
	Fixes []struct {
		Changes []struct {
			Artifact     sarifArtifact      `json:"artifactLocation"`
			Replacements []sarifReplacement `json:"replacements"`
		} `json:"artifactChanges"`
	} `json:"fixes"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifReplacement struct {
	Region struct {
		StartLine, StartColumn, EndLine, EndColumn int
	} `json:"deletedRegion"`
	Inserted struct {
		Text string `json:"text"`
	} `json:"insertedContent"`
}

// scanSARIF scans one file and checks the report against the schema.
func scanSARIF(t *testing.T, s schemas, file, level string) []sarifResult {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), testDeps(""), nil, "scan", "-f", file, "--level", level, "-o", "sarif", "--fail-on", "none", "--allow-incomplete")
	if code != exitOK {
		t.Fatalf("%s: exit code %d, %s", file, code, stderr)
	}
	if err := s.validate("sarif", stdout); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var run sarifRun
	if err := json.Unmarshal([]byte(stdout), &run); err != nil {
		t.Fatal(err)
	}
	return run.Runs[0].Results
}

// replaced makes the replacements as an editor would: by lines and columns.
func replaced(t *testing.T, text string, changes []sarifReplacement) string {
	t.Helper()
	mark := strings.HasPrefix(text, "\ufeff")
	lines := strings.SplitAfter(strings.TrimPrefix(text, "\ufeff"), "\n")
	offset := func(line, column int) int {
		off := 0
		for _, l := range lines[:line-1] {
			off += len(l)
		}
		if column == 1 {
			return off
		}
		return off + len(string([]rune(lines[line-1])[:column-1]))
	}
	out := strings.Join(lines, "")
	for _, c := range slices.Backward(changes) {
		r := c.Region
		out = out[:offset(r.StartLine, r.StartColumn)] + c.Inserted.Text + out[offset(r.EndLine, r.EndColumn):]
	}
	if mark {
		out = "\ufeff" + out
	}
	return out
}

// printsOf are the fingerprints of what is found in a file.
func printsOf(t *testing.T, file, level string) map[string]bool {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), testDeps(""), nil, "scan", "-f", file, "--level", level, "-o", "jsonl", "--fail-on", "none", "--allow-incomplete")
	if code != exitOK {
		t.Fatalf("%s: exit code %d, %s", file, code, stderr)
	}
	prints := map[string]bool{}
	for line := range strings.Lines(stdout) {
		var e struct {
			Finding *struct {
				Fingerprint string `json:"fingerprint"`
			} `json:"finding"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Finding != nil {
			prints[e.Finding.Fingerprint] = true
		}
	}
	return prints
}

// Every fix in SARIF, made by itself with nothing but the report in hand, takes its
// result away and brings none.
func TestSARIFFixes(t *testing.T) {
	t.Parallel()
	s := loadSchemas(t)
	for _, file := range sampleFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			checkFixes(t, s, file, "restricted")
		})
	}
}

func sampleFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(repairSamples, func(path string, d fs.DirEntry, err error) error {
		if err == nil && slices.Contains([]string{".yaml", ".json"}, filepath.Ext(path)) && !strings.Contains(path, "/left/") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 60 {
		t.Fatal(len(files), err)
	}
	return files
}

func checkFixes(t *testing.T, s schemas, file, level string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	results := scanSARIF(t, s, file, level)
	before := printsOf(t, file, level)
	dir, tried, without := t.TempDir(), map[string]bool{}, 0
	for _, r := range results {
		if len(r.Fixes) == 0 {
			without++
			continue
		}
		change := r.Fixes[0].Changes[0]
		if change.Artifact != r.Locations[0].Physical.Artifact {
			t.Errorf("%s: the fix is of %v, the result in %v", r.RuleID, change.Artifact, r.Locations[0].Physical.Artifact)
		}
		fixed := replaced(t, string(text), change.Replacements)
		key := r.RuleID + fixed
		if tried[key] {
			continue
		}
		tried[key] = true
		copied := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(copied, []byte(fixed), 0o600); err != nil {
			t.Fatal(err)
		}
		after := printsOf(t, copied, level)
		if print, _, _ := strings.Cut(r.Prints.Line, ":"); after[print] {
			t.Errorf("%s is found all the same after its fix:\n%s", r.RuleID, fixed)
		}
		for print := range after {
			if !before[print] {
				t.Errorf("the fix of %s brings %s:\n%s", r.RuleID, print, fixed)
			}
		}
	}
	if 3*without > 2*len(results) {
		t.Errorf("%d of %d results have no fix", without, len(results))
	}
}

// The command repairs every pod that pod-security-admission ships as refused, in place,
// and a scan then finds nothing more to refuse.
func TestConformanceRepairedInPlace(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1.0", "v1.25", "v1.36"} {
		for _, level := range []string{"baseline", "restricted"} {
			t.Run(level+"/"+version, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				count := 0
				for _, pod := range oracle.ConformancePods(t, level, version) {
					if pod.Pass {
						continue
					}
					data, err := os.ReadFile(pod.File)
					if err == nil {
						err = os.WriteFile(filepath.Join(dir, filepath.Base(pod.File)), data, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
					count++
				}
				args := []string{"-f", dir, "--level", level, "--pss-version", version}
				code, stdout, stderr := invoke(t.Context(), testDeps(""), nil, append([]string{"remediate", "manifests", "--write"}, args...)...)
				if code != exitOK || stdout != "" || strings.Count(stderr, ": repaired: ") != count {
					t.Fatalf("exit code %d on %d pods, %s%s", code, count, stdout, stderr)
				}
				code, stdout, stderr = invoke(t.Context(), testDeps(""), nil, append([]string{"scan", "-o", "jsonl"}, args...)...)
				if code != exitOK || strings.Contains(stdout, `"category":"pss"`) {
					t.Errorf("exit code %d, %s%s", code, stderr, stdout)
				}
			})
		}
	}
}

// A file that somebody else changed in the meantime is not written over.
func TestChangedFilesAreNotWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pod.yaml")
	if err := os.WriteFile(path, []byte("of somebody else\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &manifestsRun{app: &app{deps: testDeps(dir)}, write: true}
	err := r.writeFile(&repair.File{Name: "pod.yaml", Before: []byte("as it was read\n"), After: []byte("repaired\n")})
	if err == nil || !strings.Contains(err.Error(), "changed since it was read") {
		t.Errorf("error %v", err)
	}
	now, err := os.ReadFile(path)
	if err != nil || string(now) != "of somebody else\n" {
		t.Errorf("%q, %v", now, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A document with more findings than are repaired in one is no success.
func TestManyFindingsAreNotRepairedInSilence(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString("apiVersion: v1\nkind: Pod\nmetadata: {name: many}\nspec:\n  containers:\n")
	for i := range 2001 {
		fmt.Fprintf(&text, "  - {name: c%d, image: x, securityContext: {capabilities: {add: [SYS_TIME]}}}\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, "pod.yaml"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := invoke(t.Context(), testDeps(dir), nil, "remediate", "manifests", "-f", ".")
	if code != exitIncomplete || stdout != "" || !strings.Contains(stderr, "2001 findings could not be repaired") {
		t.Errorf("exit code %d, %d bytes, %s", code, len(stdout), stderr)
	}
}
