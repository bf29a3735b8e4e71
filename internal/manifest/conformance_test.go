package manifest_test

import (
	"path/filepath"
	"strings"
	"testing"

	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// Every conformance pod, read and defaulted by us, is judged by the official
// evaluator as its folder says.
func TestConformancePodsKeepTheirVerdict(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	root := oracle.ConformanceDir(t)
	count := 0
	err = manifest.Each(t.Context(), manifest.Inputs{Paths: []string{root}},
		func(d *manifest.Document) string {
			// .../baseline/v1.36/fail/name.yaml
			parts := strings.Split(filepath.ToSlash(d.File), "/")
			n := len(parts)
			version, err := psa.ParseVersion(parts[n-3])
			if err != nil {
				return err.Error()
			}
			level := psa.LevelVersion{Level: psa.Level(parts[n-4]), Version: version}
			allowed := policy.AggregateCheckResults(evaluator.EvaluatePod(level, d.Meta, d.Spec)).Allowed
			if allowed != (parts[n-2] == "pass") {
				return "judged otherwise"
			}
			return ""
		},
		func(r manifest.Record[string]) error {
			count++
			if r.Document == nil || r.Value != "" {
				t.Errorf("%s: %q, failure %v, skipped %q", r.File, r.Value, r.Failure, r.Skipped)
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if count != oracle.Conformance {
		t.Errorf("%d conformance pods, want %d", count, oracle.Conformance)
	}
}
