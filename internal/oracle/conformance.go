package oracle

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// Conformance is how many pods pod-security-admission ships.
const Conformance = 4537

// Pod is a conformance pod with the answer that its folder's name gives.
type Pod struct {
	// File is the pod's path, Name its place: LEVEL/VERSION/ANSWER/FILE.
	File, Name string
	Level      psa.Level
	Version    psa.Version
	// Pass tells whether the level at the version allows the pod.
	Pass bool
	Pod  *corev1.Pod
}

// ConformanceDir is the folder of the conformance pods, with the folders
// LEVEL/VERSION/ANSWER below it.
func ConformanceDir(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(moduleDir(tb, "k8s.io/pod-security-admission"), "test", "testdata")
}

// ConformancePods reads the pods of a level and a version, each "*" for all, with
// the API server's defaults.
func ConformancePods(tb testing.TB, level, version string) []Pod {
	tb.Helper()
	root := ConformanceDir(tb)
	files, err := filepath.Glob(filepath.Join(root, level, version, "*", "*.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) == 0 || (level == "*" && version == "*" && len(files) != Conformance) {
		tb.Fatalf("found %d conformance pods for %s %s", len(files), level, version)
	}
	pods := make([]Pod, len(files))
	for i, file := range files {
		name, err := filepath.Rel(root, file)
		if err != nil {
			tb.Fatal(err)
		}
		name = filepath.ToSlash(name)
		parts := strings.Split(name, "/")
		parsed, err := psa.ParseVersion(parts[1])
		if err != nil {
			tb.Fatal(err)
		}
		pods[i] = Pod{
			File: file, Name: name, Level: psa.Level(parts[0]), Version: parsed, Pass: parts[2] == "pass", Pod: readPod(tb, file),
		}
	}
	return pods
}

func readPod(tb testing.TB, file string) *corev1.Pod {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(data, pod); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	DefaultVolumes(pod)
	return pod
}

// DefaultVolumes gives volumes without a source what the API server gives them: the
// checks expect pods as they are there.
func DefaultVolumes(pod *corev1.Pod) {
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.VolumeSource == (corev1.VolumeSource{}) {
			v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
}

// Controls asks the official checks one by one, with overrides honoured, and gives
// the IDs of those that refuse the pod, sorted.
func Controls(level psa.Level, version psa.Version, pod *corev1.Pod) []string {
	var refused, overridden []string
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
			overridden = append(overridden, string(id))
		}
		if !newest.CheckPod(&pod.ObjectMeta, &pod.Spec).Allowed {
			refused = append(refused, string(check.ID))
		}
	}
	refused = slices.DeleteFunc(refused, func(id string) bool { return slices.Contains(overridden, id) })
	slices.Sort(refused)
	return refused
}
