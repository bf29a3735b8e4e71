package main

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// forFiles is what must be said where the cluster is read from files.
func (s *situation) forFiles() situationOutcome {
	want := s.expect.situationOutcome
	files := s.expect.Files
	if files == nil {
		return want
	}
	want.Workloads, want.Policies = maps.Clone(want.Workloads), maps.Clone(want.Policies)
	maps.Copy(want.Workloads, files.Workloads)
	maps.Copy(want.Policies, files.Policies)
	if files.Findings != nil {
		want.Findings = files.Findings
	}
	want.Incomplete = files.Incomplete
	return want
}

// said is what a run said of a situation.
type said struct {
	*liveAudit
	policies []scan.Policy
}

func parseSaid(t *testing.T, result liveResult) *said {
	t.Helper()
	a := &said{liveAudit: liveParse(t, result)}
	for line := range strings.Lines(result.stdout) {
		var e scan.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Policy != nil {
			a.policies = append(a.policies, *e.Policy)
		}
	}
	return a
}

// check compares what was said with what must be.
func (s *situation) check(t *testing.T, got *said, want situationOutcome) {
	t.Helper()
	s.checkVerdicts(t, got, want.Workloads)
	s.checkPolicies(t, got, want.Policies)
	s.checkFindings(t, got, want.Findings)
	if got.end.Incomplete != want.Incomplete {
		t.Errorf("incomplete %v, want %v: %+v", got.end.Incomplete, want.Incomplete, got.failures)
	}
}

// theirs are the namespaces whose workloads need not be named.
var theirs = []string{"kubearmor", "kyverno", "elsewhere"}

func (s *situation) checkVerdicts(t *testing.T, got *said, want map[string]workloadExpectation) {
	t.Helper()
	seen := map[string]bool{}
	for i := range got.verdicts {
		v := &got.verdicts[i]
		name := v.Workload.String()
		w, ok := want[name]
		switch {
		case !ok && slices.Contains(theirs, v.Workload.Namespace):
			continue
		case !ok:
			t.Errorf("%s: %s (%s), and nothing was expected of it", name, v.Verdict, v.Reason)
			continue
		case seen[name]:
			t.Errorf("%s: has two verdicts", name)
		}
		seen[name] = true
		w.check(t, v)
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("%s: no verdict; there are\n%s", name, strings.Join(got.rows(), "\n"))
		}
	}
}

func (w *workloadExpectation) check(t *testing.T, v *scan.WorkloadVerdict) {
	t.Helper()
	name := v.Workload.String()
	if v.Verdict != w.Verdict {
		t.Errorf("%s: %s (%s), want %s", name, v.Verdict, v.Reason, w.Verdict)
	}
	if !strings.Contains(strings.ToLower(v.Reason), strings.ToLower(w.Reason)) {
		t.Errorf("%s: the reason does not speak of %q: %s", name, w.Reason, v.Reason)
	}
	if v.Layers == nil {
		t.Errorf("%s: no layers", name)
		return
	}
	for what, pair := range map[string][2]string{
		"severity":  {string(v.Severity), string(w.Severity)},
		"admission": {string(v.Layers.Admission.Answer), w.Admission},
		"set":       {string(v.Layers.Runtime.Set), w.Set},
		"grade":     {string(v.Layers.Kernel.Grade), w.Grade},
	} {
		if pair[1] != "" && pair[0] != pair[1] {
			t.Errorf("%s: %s is %q, want %q (%s; %s)", name, what, pair[0], pair[1], v.Layers.Admission.Reason, v.Layers.Runtime.Reason)
		}
	}
	if w.Pods > 0 && v.Pods != w.Pods {
		t.Errorf("%s: %d pods, want %d", name, v.Pods, w.Pods)
	}
	for id, state := range w.Paths {
		i := slices.IndexFunc(v.Layers.Paths, func(p scan.PathLayers) bool { return p.Path == id })
		if i < 0 {
			t.Errorf("%s: no path %s in %v", name, id, v.Paths)
		} else if p := v.Layers.Paths[i]; p.State != state {
			t.Errorf("%s: %s is %s (%s), want %s", name, id, p.State, p.Reason, state)
		}
	}
}

func (s *situation) checkPolicies(t *testing.T, got *said, want map[string]scan.Bite) {
	t.Helper()
	left := map[string]scan.Bite{}
	for pattern, bites := range want {
		for _, name := range s.expand(t, pattern) {
			left[name] = bites
		}
	}
	for _, o := range readAround(t) {
		if name := objectName(o); slices.ContainsFunc(got.policies, func(p scan.Policy) bool { return policyName(p) == name }) {
			left[name] = scan.BitesYes
		}
	}
	for _, p := range got.policies {
		name := policyName(p)
		bites, ok := left[name]
		switch {
		case !ok:
			t.Errorf("policy %s: bites %s, and nothing was expected of it", name, p.Bites)
		case p.Bites != bites:
			t.Errorf("policy %s: bites %s (%q), want %s", name, p.Bites, p.Reasons, bites)
		}
		delete(left, name)
	}
	for name := range left {
		t.Errorf("policy %s: nothing is said of it", name)
	}
}

func policyName(p scan.Policy) string { return p.Kind + " " + path.Join(p.Namespace, p.Name) }

func (s *situation) checkFindings(t *testing.T, got *said, want []findingExpectation) {
	t.Helper()
	want = slices.Clone(want)
	for i := range got.findings {
		f := &got.findings[i]
		if f.Category != scan.CategoryPolicy && f.Category != scan.CategoryKernel {
			continue
		}
		at := slices.IndexFunc(want, func(w findingExpectation) bool { return w.Rule == f.Rule && w.At == f.Workload.String() })
		if at < 0 {
			t.Errorf("finding %s on %s was not expected: %s", f.Rule, f.Workload, f.Message)
			continue
		}
		var policies []string
		for _, pattern := range want[at].Policies {
			policies = append(policies, s.expand(t, pattern)...)
		}
		slices.Sort(policies)
		if have := slices.Sorted(slices.Values(f.Policies)); policies != nil && !slices.Equal(have, policies) {
			t.Errorf("finding %s on %s is about %q, want %q", f.Rule, f.Workload, have, policies)
		}
		if f.Message == "" || f.Mend == "" {
			t.Errorf("finding %s on %s: message %q, mend %q", f.Rule, f.Workload, f.Message, f.Mend)
		}
		want = slices.Delete(want, at, at+1)
	}
	for _, w := range want {
		t.Errorf("no finding %s on %s", w.Rule, w.At)
	}
}
