package set_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// celRenderings are the sets of policies in CEL that have a golden file. Kyverno's own
// answers were recorded for those that begin with kyverno.
func celRenderings() map[string]set.Options {
	only := func(change func(*set.Options)) set.Options {
		o := options(change)
		o.Only = []string{"admission"}
		return o
	}
	shop := targets.Scope{Namespaces: []string{"web", "shop"}}
	return map[string]set.Options{
		"vap-cluster": only(func(o *set.Options) {
			o.Admission, o.Level, o.Scope = set.AdmissionVAP, psa.LevelRestricted, targets.Scope{Exclude: []string{"infra"}, Own: "scanner"}
		}),
		"vap-namespaces-labels": only(func(o *set.Options) {
			o.Admission, o.PSSVersion, o.Scope = set.AdmissionVAP, "v1.36", shop
			o.Scope.Labels = map[string]string{"app.kubernetes.io/name": "web", "empty": ""}
		}),
		"vap-audit": only(func(o *set.Options) {
			o.Admission, o.PSSVersion, o.Action = set.AdmissionVAP, "v1.40", set.ActionAudit
		}),
		"kyverno-baseline":   only(func(o *set.Options) { o.Admission = set.AdmissionKyvernoCEL }),
		"kyverno-restricted": only(func(o *set.Options) { o.Admission, o.Level = set.AdmissionKyvernoCEL, psa.LevelRestricted }),
		"kyverno-labels": only(func(o *set.Options) {
			o.Admission, o.Scope.Labels = set.AdmissionKyvernoCEL, map[string]string{"app.kubernetes.io/name": "web", "empty": ""}
		}),
		"kyverno-namespaces": only(func(o *set.Options) {
			o.Admission, o.Scope, o.PSSVersion, o.Action = set.AdmissionKyvernoCEL, targets.Scope{Namespaces: []string{"shop"}}, "v1.24", set.ActionAudit
		}),
	}
}

func TestRenderedCEL(t *testing.T) {
	t.Parallel()
	golden, err := filepath.Glob(filepath.Join("testdata", "cel", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	wanted := celRenderings()
	for _, file := range golden {
		if _, ok := wanted[filepath.Base(file[:len(file)-len(".yaml")])]; !ok {
			t.Errorf("%s: nothing renders it", file)
		}
	}
	for name, o := range wanted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := render(t, o, set.Facts{})
			var b bytes.Buffer
			for _, note := range s.Notes {
				b.WriteString("# Note: " + note + "\n")
			}
			if err := s.WriteYAML(&b, set.FormFinal); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "cel", name+".yaml")
			if *update {
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%s is not what is rendered: run the test with -update and look at the difference", file)
			}
		})
	}
}

// Each stage has the same objects, and only actions differ between them.
func TestStagesOfCELDifferInActions(t *testing.T) {
	t.Parallel()
	actions := map[string][2][]string{
		"ValidatingAdmissionPolicy":        {},
		"ValidatingAdmissionPolicyBinding": {{"Warn", "Audit"}, {"Deny", "Audit"}},
		"ValidatingPolicy":                 {{"Audit"}, {"Deny"}},
	}
	for _, admission := range []set.Admission{set.AdmissionVAP, set.AdmissionKyvernoCEL} {
		s := render(t, options(func(o *set.Options) { o.Admission, o.Only = admission, []string{"admission"} }), set.Facts{})
		for _, object := range s.Objects {
			for i, form := range []map[string]any{object.Audit.Object, object.Enforce.Object} {
				spec := form["spec"].(map[string]any)
				var got []string
				listed, _ := spec["validationActions"].([]any)
				for _, action := range listed {
					got = append(got, action.(string))
				}
				if want := actions[object.Audit.GetKind()][i]; !slices.Equal(got, want) || object.Part != set.PartAdmission {
					t.Errorf("%s %s: part %s, actions %q, want %q", object.Audit.GetKind(), object.Audit.GetName(), object.Part, got, want)
				}
				delete(spec, "validationActions")
			}
			if !bytes.Equal(mustJSON(t, object.Audit), mustJSON(t, object.Enforce)) {
				t.Errorf("%s %s: the forms differ in more than actions", object.Audit.GetKind(), object.Audit.GetName())
			}
		}
	}
}

func mustJSON(t *testing.T, object interface{ MarshalJSON() ([]byte, error) }) []byte {
	t.Helper()
	data, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
