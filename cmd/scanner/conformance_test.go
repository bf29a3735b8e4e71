package main

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Of every pod that pod-security-admission ships, with the answer in the folder's
// name, the command says what the folder says, and refuses it by the controls by
// which the official checks, asked one by one, refuse it.
func TestConformanceThroughTheCommand(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "test", "testdata")
	folders, err := filepath.Glob(filepath.Join(root, "*", "v*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	pods := 0
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		pods += len(files)
		name, _ := filepath.Rel(root, folder)
		t.Run(filepath.ToSlash(name), func(t *testing.T) {
			t.Parallel()
			checkFolder(t, folder, files)
		})
	}
	if pods != 4537 {
		t.Errorf("found %d conformance pods, want 4537", pods)
	}
}

// checkFolder scans one folder LEVEL/VERSION/ANSWER and checks what is said of
// each of its files.
func checkFolder(t *testing.T, folder string, files []string) {
	answer := filepath.Base(folder)
	version := filepath.Base(filepath.Dir(folder))
	level := filepath.Base(filepath.Dir(filepath.Dir(folder)))
	code, stdout, stderr := invoke(t.Context(), testDeps(""), nil,
		"scan", "-f", folder, "--level", level, "--pss-version", version, "-o", "jsonl", "--fail-on", "none")
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
	parsed, err := psa.ParseVersion(version)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		v := verdicts[file]
		if v == nil {
			t.Errorf("%s: no verdict", file)
			continue
		}
		if v.PSSAllowed != (answer == "pass") || v.PSSAllowed != (len(controls[file]) == 0) {
			t.Errorf("%s: allowed %v with the controls %v", file, v.PSSAllowed, controls[file])
		}
		want := officialControls(t, psa.Level(level), parsed, file)
		if got := slices.Sorted(maps.Keys(controls[file])); !slices.Equal(got, want) || !slices.Equal(slices.Sorted(slices.Values(v.Controls)), want) {
			t.Errorf("%s: findings of %v, a verdict by %v, the official checks by %v", file, got, v.Controls, want)
		}
	}
	if len(verdicts) != len(files) {
		t.Errorf("%d verdicts on %d files", len(verdicts), len(files))
	}
}

// officialControls asks the official checks one by one about the pod in a file.
func officialControls(t *testing.T, level psa.Level, version psa.Version, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(data, &pod); err != nil {
		t.Fatal(err)
	}
	// The checks expect pods as the API server has them.
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.VolumeSource == (corev1.VolumeSource{}) {
			v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
	refused, overridden := map[string]bool{}, map[string]bool{}
	for _, check := range policy.DefaultChecks() {
		if check.Level == psa.LevelRestricted && level == psa.LevelBaseline {
			continue
		}
		var newest *policy.VersionedCheck
		for i := range check.Versions {
			if !version.Older(check.Versions[i].MinimumVersion) {
				newest = &check.Versions[i]
			}
		}
		if newest == nil {
			continue
		}
		for _, id := range newest.OverrideCheckIDs {
			overridden[string(id)] = true
		}
		if !newest.CheckPod(&pod.ObjectMeta, &pod.Spec).Allowed {
			refused[string(check.ID)] = true
		}
	}
	maps.DeleteFunc(refused, func(id string, _ bool) bool { return overridden[id] })
	return slices.Sorted(maps.Keys(refused))
}
