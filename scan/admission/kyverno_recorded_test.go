package admission

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// recorded reads what Kyverno's own code answered (testdata/kyverno/README.md).
func recorded[T any](t *testing.T, file string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "kyverno", file))
	if err != nil {
		t.Fatal(err)
	}
	var cases []T
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// Of conformance pods, under every level, several versions and random excludes,
// exactly those controls refuse that Kyverno names.
func TestPodSecurityRulesRefuseAsKyvernoDoes(t *testing.T) {
	type recording struct {
		kyvernoPodSecurity
		Pod     string   `json:"pod"`
		Twin    bool     `json:"twin"`
		Refused []string `json:"refused"`
	}
	pods := map[string]*corev1.Pod{}
	for _, p := range oracle.ConformancePods(t, "*", "*") {
		pods[p.Name] = p.Pod
	}
	excluded, passed := 0, 0
	for i, r := range recorded[recording](t, "podsecurity.json") {
		pod := pods[r.Pod]
		if pod == nil {
			t.Fatalf("%d: no conformance pod %s", i, r.Pod)
		}
		if r.Twin {
			twin := *pod.Spec.Containers[0].DeepCopy()
			twin.Name, twin.Image = "twin", "other/twin"
			pod = pod.DeepCopy()
			pod.Spec.Containers = append(pod.Spec.Containers, twin)
		}
		lv, err := r.levelVersion()
		if err != nil {
			t.Fatal(err)
		}
		checks := kyvernoStandards(lv)
		before, _ := json.Marshal(pod)
		got := kyvernoRefusals(checks, pod, r.Exclude)
		slices.Sort(got)
		if !slices.Equal(got, r.Refused) {
			t.Errorf("%d: %s at %s, excluded %+v:\n got %q\nwant %q", i, r.Pod, lv.String(), r.Exclude, got, r.Refused)
		}
		if after, _ := json.Marshal(pod); string(after) != string(before) {
			t.Fatalf("%d: %s was changed by being judged", i, r.Pod)
		}
		if len(r.Exclude) > 0 {
			excluded++
			if len(r.Refused) < len(kyvernoRefusals(checks, pod, nil)) {
				passed++
			}
		}
	}
	t.Logf("%d with excludes, %d of them take something out", excluded, passed)
	if passed < 200 {
		t.Errorf("excludes take something out of %d pods: this proves too little", passed)
	}
}

// Random policies match, enforce and derive rules for controllers as Kyverno does.
func TestRulesMatchAsKyvernoDoes(t *testing.T) {
	type recording struct {
		Policy          json.RawMessage     `json:"policy"`
		Kind            string              `json:"kind"`
		Name            string              `json:"name"`
		Namespace       string              `json:"namespace"`
		Labels          map[string]string   `json:"labels"`
		Annotations     map[string]string   `json:"annotations"`
		NamespaceLabels map[string]string   `json:"namespaceLabels"`
		Matched         []string            `json:"matched"`
		Blocked         []string            `json:"blocked"`
		Controllers     map[string][]string `json:"controllers"`
	}
	matching, blocking, derived := 0, 0, 0
	for i, r := range recorded[recording](t, "match.json") {
		p, err := DecodeKyverno(r.Kind, r.Policy)
		if err != nil {
			t.Fatal(err)
		}
		tg := targetOf(Subject{
			Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				Name: r.Name, Namespace: r.Namespace, Labels: r.Labels, Annotations: r.Annotations,
			}},
			Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace, Labels: r.NamespaceLabels}},
		})
		var matched, blocked []string
		for j := range p.spec.Rules {
			rule := &p.spec.Rules[j]
			if rule.Validate == nil {
				continue
			}
			is, excluded := p.matches(rule, tg)
			if is.is == maybe || excluded.is == maybe {
				t.Errorf("%d: rule %s: all is known, and the answer is not", i, rule.Name)
			}
			if p.asked && is.is == yes && excluded.is == no {
				matched = append(matched, rule.Name)
				if p.enforced(rule, tg).is == yes {
					blocked = append(blocked, rule.Name)
				}
			}
			var controllers []string
			for _, kind := range podControllers() {
				if p.judgesController(rule, kind) {
					controllers = append(controllers, kind)
				}
			}
			if !slices.Equal(controllers, r.Controllers[rule.Name]) {
				t.Errorf("%d: rule %s of %s\nderives for %q, Kyverno for %q", i, rule.Name, r.Policy, controllers, r.Controllers[rule.Name])
			}
			derived += len(controllers)
		}
		if !slices.Equal(matched, r.Matched) || !slices.Equal(blocked, r.Blocked) {
			t.Errorf("%d: %s\npod %s/%s %v %v in %v\nmatches %q, Kyverno %q; refuses by %q, Kyverno %q",
				i, r.Policy, r.Namespace, r.Name, r.Labels, r.Annotations, r.NamespaceLabels, matched, r.Matched, blocked, r.Blocked)
		}
		matching += len(r.Matched)
		blocking += len(r.Blocked)
	}
	t.Logf("%d matches, %d of them enforced, %d rules for controllers", matching, blocking, derived)
	if matching < 100 || blocking < 50 || derived < 100 {
		t.Error("this proves too little")
	}
}
