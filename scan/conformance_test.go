package scan

import (
	"fmt"
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
)

// conformancePod is one of the pods that pod-security-admission ships with the
// answer in its folder's name.
type conformancePod struct {
	file    string
	level   psa.Level
	version psa.Version
	pass    bool
	pod     *corev1.Pod
}

func conformancePods(t testing.TB) []conformancePod {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatalf("find the module: %v", err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "test", "testdata")
	files, err := filepath.Glob(filepath.Join(root, "*", "v*", "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	pods := make([]conformancePod, 0, len(files))
	for _, file := range files {
		rel, _ := filepath.Rel(root, file)
		parts := strings.Split(filepath.ToSlash(rel), "/")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{}
		if err := yaml.UnmarshalStrict(data, pod); err != nil {
			t.Fatalf("%s: %v", rel, err)
		}
		defaultVolumes(pod)
		version, err := psa.ParseVersion(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		pods = append(pods, conformancePod{rel, psa.Level(parts[0]), version, parts[2] == "pass", pod})
	}
	if len(pods) != 4537 {
		t.Fatalf("found %d conformance pods, want 4537", len(pods))
	}
	return pods
}

// officialControls asks the official checks one by one, with overrides honoured.
func officialControls(level psa.Level, version psa.Version, pod *corev1.Pod) []string {
	refused := map[policy.CheckID]bool{}
	overridden := map[policy.CheckID]bool{}
	for _, c := range policy.DefaultChecks() {
		if c.Level == psa.LevelRestricted && level == psa.LevelBaseline {
			continue
		}
		var newest *policy.VersionedCheck
		for i := range c.Versions {
			if !version.Older(c.Versions[i].MinimumVersion) {
				newest = &c.Versions[i]
			}
		}
		if newest == nil {
			continue
		}
		for _, id := range newest.OverrideCheckIDs {
			overridden[id] = true
		}
		if !newest.CheckPod(&pod.ObjectMeta, &pod.Spec).Allowed {
			refused[c.ID] = true
		}
	}
	var ids []string
	for id := range refused {
		if !overridden[id] {
			ids = append(ids, string(id))
		}
	}
	slices.Sort(ids)
	return ids
}

func TestConformance(t *testing.T) {
	engines := map[string]*Engine{}
	official, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	fails, repaired, proven := 0, 0, 0
	newestFail, newestRepaired := 0, 0
	for _, c := range conformancePods(t) {
		key := fmt.Sprint(c.level, c.version)
		engine := engines[key]
		if engine == nil {
			if engine, err = NewEngine(c.level, c.version); err != nil {
				t.Fatal(err)
			}
			engines[key] = engine
		}
		before := c.pod.DeepCopy()
		j := engine.Judge(Pod{Meta: &c.pod.ObjectMeta, Spec: &c.pod.Spec}, Facts{})
		if !equalJSON(t, before, c.pod) {
			t.Fatalf("%s: judging changed the pod", c.file)
		}
		if j.Allowed != c.pass {
			t.Errorf("%s: allowed = %v", c.file, j.Allowed)
		}
		want := officialControls(c.level, c.version, c.pod)
		got := slices.Sorted(slices.Values(j.Controls))
		if !slices.Equal(got, want) {
			t.Errorf("%s: controls %v, official %v", c.file, got, want)
		}
		if c.pass {
			continue
		}
		// Every fix is made on the pod's own JSON, by nothing but its path and value.
		newest := c.level == psa.LevelRestricted && c.version == NewestPSS()
		var fixes []Finding
		for _, f := range j.Findings {
			if f.Category != CategoryPSS {
				continue
			}
			fixes = append(fixes, f)
		}
		for _, id := range want {
			fails++
			var mine []Finding
			for _, f := range fixes {
				if f.Rule == id && f.Fix != nil {
					mine = append(mine, f)
				}
			}
			if len(mine) == 0 {
				t.Logf("%s: no repair for %s", c.file, id)
				continue
			}
			repaired++
			fixed := applyFixes(t, c.pod, mine)
			if slices.Contains(officialControls(c.level, c.version, fixed), id) {
				t.Errorf("%s: %s still refuses after %+v", c.file, id, mine)
				continue
			}
			proven++
		}
		if newest {
			newestFail++
			fixed := applyFixes(t, c.pod, fixes)
			ok := true
			for _, r := range official.EvaluatePod(psa.LevelVersion{Level: c.level, Version: c.version}, &fixed.ObjectMeta, &fixed.Spec) {
				ok = ok && r.Allowed
			}
			if ok {
				newestRepaired++
			} else {
				t.Logf("%s: not restricted after all repairs", c.file)
			}
		}
	}
	t.Logf("controls refused: %d, with a repair: %d (%.1f %%), repair proven by the official check: %d", fails, repaired, 100*float64(repaired)/float64(fails), proven)
	t.Logf("restricted/%s/fail: %d of %d pass restricted after all repairs", NewestPSS(), newestRepaired, newestFail)
	if float64(repaired) < 0.95*float64(fails) {
		t.Errorf("repairs cover %d of %d refusals, want 95 %%", repaired, fails)
	}
	if newestFail != 76 || newestRepaired < 72 {
		t.Errorf("%d of %d pods pass restricted once repaired, want 72 of 76", newestRepaired, newestFail)
	}
}
