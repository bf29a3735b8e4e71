package scan

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// TestPathLayers: what is said of a path holds for the pod that reopens it.
func TestPathLayers(t *testing.T) {
	engine, err := NewEngine(psa.LevelRestricted, psa.LatestVersion())
	if err != nil {
		t.Fatal(err)
	}
	baseline, err := NewEngine(psa.LevelBaseline, psa.LatestVersion())
	if err != nil {
		t.Fatal(err)
	}
	judge := func(e *Engine, pod *corev1.Pod) *Judgement {
		return e.Judge(Pod{Meta: &pod.ObjectMeta, Spec: &pod.Spec}, Facts{})
	}
	clean := cleanPod(metav1.ObjectMeta{Name: "x", Namespace: "x"})
	if j := judge(engine, clean); !j.Allowed || len(j.Findings) > 0 {
		t.Errorf("the clean pod: %v %+v", j.Controls, j.Findings)
	}
	refused := reopenings()
	for _, p := range escapeTable() {
		if p.Aggravates {
			continue
		}
		l := pathLayerOf(p.ID)
		if l.reopen == nil {
			t.Errorf("%s: no pod reopens it: it needs a row in scan/escape_layers.go", p.ID)
			continue
		}
		if (len(l.gates) == 0) == (l.ungated == "") {
			t.Errorf("%s: gates %v and %q: want one of them", p.ID, l.gates, l.ungated)
		}
		pod := cleanPod(metav1.ObjectMeta{Name: "x", Namespace: "x"})
		l.reopen(&pod.Spec)
		j := judge(engine, pod)
		if !slices.Contains(j.Paths, p.ID) {
			t.Errorf("%s: its pod opens %v", p.ID, j.Paths)
		}
		if !slices.ContainsFunc(j.Controls, func(id string) bool { return slices.Contains(l.controls, id) }) {
			t.Errorf("%s: refused by %v, none of %v", p.ID, j.Controls, l.controls)
		}
		if allowed := judge(baseline, pod).Allowed; allowed == slices.Contains(refused, p.ID) {
			t.Errorf("%s: baseline allows its pod: %v", p.ID, allowed)
		}
	}
}

// A path that no row knows is not taken for one that admission keeps out.
func TestPathWithoutARow(t *testing.T) {
	t.Parallel()
	answer, because := (&doorman{}).reopening(admission.Subject{}, "escape-new", cast{}, nil, nil)
	if answer != admission.Unknown || because == "" {
		t.Errorf("%s, because %q", answer, because)
	}
}
