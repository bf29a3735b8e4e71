package scan

import (
	"fmt"
	"slices"
	"testing"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// conformance counts how far repairs reach.
type conformance struct {
	// refused counts refusals by single controls, repaired those with a repair, and
	// proven those that the official check takes back once it is made.
	refused, repaired, proven int
	// newest counts the pods that the newest restricted refuses, closed those that
	// it allows once all repairs are made.
	newest, closed int
}

// The official checks are asked again about every repair, which is made on the
// pod's own JSON by nothing but its path and value.
func TestConformance(t *testing.T) {
	engines := map[string]*Engine{}
	var count conformance
	for _, c := range oracle.ConformancePods(t, "*", "*") {
		key := fmt.Sprint(c.Level, c.Version)
		engine := engines[key]
		if engine == nil {
			var err error
			if engine, err = NewEngine(c.Level, c.Version); err != nil {
				t.Fatal(err)
			}
			engines[key] = engine
		}
		before := c.Pod.DeepCopy()
		j := engine.Judge(podOf(c.Pod), Facts{})
		if !equalJSON(t, before, c.Pod) {
			t.Fatalf("%s: judging changed the pod", c.Name)
		}
		if j.Allowed != c.Pass {
			t.Errorf("%s: allowed = %v", c.Name, j.Allowed)
		}
		want := oracle.Controls(c.Level, c.Version, c.Pod)
		if got := slices.Sorted(slices.Values(j.Controls)); !slices.Equal(got, want) {
			t.Errorf("%s: controls %v, official %v", c.Name, got, want)
		}
		if !c.Pass {
			count.repairs(t, c, want, j.Findings)
		}
	}
	t.Logf("controls refused: %d, with a repair: %d (%.1f %%), repair proven by the official check: %d",
		count.refused, count.repaired, 100*float64(count.repaired)/float64(count.refused), count.proven)
	t.Logf("restricted/%s/fail: %d of %d pass restricted after all repairs", NewestPSS(), count.closed, count.newest)
	if float64(count.repaired) < 0.95*float64(count.refused) {
		t.Errorf("repairs cover %d of %d refusals, want 95 %%", count.repaired, count.refused)
	}
	if count.newest != 76 || count.closed < 72 {
		t.Errorf("%d of %d pods pass restricted once repaired, want 72 of 76", count.closed, count.newest)
	}
}

// repairs makes the repairs of one pod that the controls refuse: those of each
// control alone, and all together where the newest restricted is asked.
func (count *conformance) repairs(t *testing.T, c oracle.Pod, controls []string, findings []Finding) {
	t.Helper()
	var fixes []Finding
	for _, f := range findings {
		if f.Category == CategoryPSS && f.Fix != nil {
			fixes = append(fixes, f)
		}
	}
	for _, id := range controls {
		count.refused++
		mine := slices.DeleteFunc(slices.Clone(fixes), func(f Finding) bool { return f.Rule != id })
		if len(mine) == 0 {
			t.Logf("%s: no repair for %s", c.Name, id)
			continue
		}
		count.repaired++
		if slices.Contains(oracle.Controls(c.Level, c.Version, applyFixes(t, c.Pod, mine)), id) {
			t.Errorf("%s: %s still refuses after %+v", c.Name, id, mine)
			continue
		}
		count.proven++
	}
	if c.Level != psa.LevelRestricted || c.Version != NewestPSS() {
		return
	}
	count.newest++
	if left := oracle.Controls(c.Level, c.Version, applyFixes(t, c.Pod, fixes)); len(left) > 0 {
		t.Logf("%s: refused by %v after all repairs", c.Name, left)
		return
	}
	count.closed++
}
