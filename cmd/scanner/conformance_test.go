package main

import (
	"encoding/json"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Of every pod that pod-security-admission ships, with the answer in the folder's
// name, the command says what the folder says, and refuses it by the controls by
// which the official checks, asked one by one, refuse it.
func TestConformanceThroughTheCommand(t *testing.T) {
	folders := map[string][]oracle.Pod{}
	for _, pod := range oracle.ConformancePods(t, "*", "*") {
		folder := filepath.Dir(pod.File)
		folders[folder] = append(folders[folder], pod)
	}
	for folder, pods := range folders {
		t.Run(path.Dir(pods[0].Name), func(t *testing.T) {
			t.Parallel()
			checkFolder(t, folder, pods)
		})
	}
}

// checkFolder scans one folder LEVEL/VERSION/ANSWER and checks what is said of
// each of its pods.
func checkFolder(t *testing.T, folder string, pods []oracle.Pod) {
	code, stdout, stderr := invoke(t.Context(), testDeps(""), nil,
		"scan", "-f", folder, "--level", string(pods[0].Level), "--pss-version", pods[0].Version.String(), "-o", "jsonl", "--fail-on", "none")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	verdicts := map[string]*scan.WorkloadVerdict{}
	controls := map[string]map[string]bool{}
	for line := range strings.Lines(stdout) {
		var e scan.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case e.Verdict != nil:
			if verdicts[e.Verdict.Location.File] != nil {
				t.Errorf("%s: two verdicts", e.Verdict.Location.File)
			}
			verdicts[e.Verdict.Location.File] = e.Verdict
		case e.Finding != nil && e.Finding.Category == scan.CategoryPSS:
			file := e.Finding.Location.File
			if controls[file] == nil {
				controls[file] = map[string]bool{}
			}
			controls[file][e.Finding.Rule] = true
		}
	}
	for _, pod := range pods {
		file := pod.File
		v := verdicts[file]
		if v == nil {
			t.Errorf("%s: no verdict", file)
			continue
		}
		if v.PSSAllowed != pod.Pass || v.PSSAllowed != (len(controls[file]) == 0) {
			t.Errorf("%s: allowed %v with the controls %v", file, v.PSSAllowed, controls[file])
		}
		want := oracle.Controls(pod.Level, pod.Version, pod.Pod)
		if got := slices.Sorted(maps.Keys(controls[file])); !slices.Equal(got, want) || !slices.Equal(slices.Sorted(slices.Values(v.Controls)), want) {
			t.Errorf("%s: findings of %v, a verdict by %v, the official checks by %v", file, got, v.Controls, want)
		}
	}
	if len(verdicts) != len(pods) {
		t.Errorf("%d verdicts on %d pods", len(verdicts), len(pods))
	}
}
