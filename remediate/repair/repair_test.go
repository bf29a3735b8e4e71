package repair_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/oracle"
	"github.com/escape-scanner/escape-scanner/remediate/repair"
	"github.com/escape-scanner/escape-scanner/scan"
)

// repairer repairs everything that a level at a version asks for, and escape paths.
func repairer(t testing.TB, level psa.Level, version psa.Version, exceptions ...scan.Exception) *repair.Repairer {
	t.Helper()
	engine, err := scan.NewEngine(level, version)
	if err != nil {
		t.Fatal(err)
	}
	return &repair.Repairer{Judge: repair.NewJudge(engine, exceptions, time.Now())}
}

// texts reads files as the command does.
func texts(t testing.TB, paths ...string) []manifest.Text {
	t.Helper()
	var all []manifest.Text
	err := manifest.Texts(t.Context(), manifest.Inputs{Paths: paths}, func(text manifest.Text) error {
		all = append(all, text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every pod that pod-security-admission ships as refused is allowed after the repair,
// with nothing left to repair.
func TestConformancePods(t *testing.T) {
	t.Parallel()
	for _, pod := range oracle.ConformancePods(t, "*", "*") {
		if pod.Pass {
			continue
		}
		r := repairer(t, pod.Level, pod.Version)
		data, err := os.ReadFile(pod.File)
		if err != nil {
			t.Fatal(err)
		}
		f, err := r.File(t.Context(), manifest.Text{File: pod.File, Data: data}, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Failures) > 0 || len(f.Documents) != 1 || f.Documents[0].Skipped != "" || !f.Changed() {
			t.Errorf("%s: %+v", pod.Name, f)
			continue
		}
		for _, left := range f.Documents[0].Left {
			t.Errorf("%s: %s %s: %s", pod.Name, left.Finding.Rule, left.Finding.Field, left.Reason)
		}
		if bytes.Contains(f.After, []byte("\r")) || strings.Count(string(f.After), "\n\n") > 0 {
			t.Errorf("%s: %s", pod.Name, f.After)
		}
	}
}
