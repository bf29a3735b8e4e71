package set

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// A scan finds nothing wrong with what is rendered, and that it refuses nothing yet in
// the form that audits.
func TestScanFindsNoFaultWithTheCEL(t *testing.T) {
	t.Parallel()
	for _, r := range renderings() {
		for _, action := range []Action{ActionBlock, ActionAudit} {
			o := celOptions("set", psa.LevelRestricted, "latest")
			o.Action = action
			o.Scope.Labels = map[string]string{"app": "web"}
			policies := read(t, r.mustRender(t, o))
			var faults []admission.Toothless
			for _, vap := range policies.vaps {
				faults = append(faults, vap.Faults()...)
			}
			for _, vpol := range policies.kyverno {
				faults = append(faults, vpol.Faults()...)
			}
			audits := len(faults) > 0 && !slices.ContainsFunc(faults, func(f admission.Toothless) bool {
				return f.Cause != admission.CauseVAPNotEnforced && f.Cause != admission.CauseKyvernoAudit
			})
			if (action == ActionBlock && len(faults) > 0) || (action == ActionAudit && !audits) {
				t.Errorf("%s, %s: %+v", r.name, action, faults)
			}
		}
	}
}

// The expressions are such that API servers know from the first version on that has
// ValidatingAdmissionPolicy for all.
func TestOldAPIServersKnowTheCEL(t *testing.T) {
	t.Parallel()
	byKind := map[string][][]byte{}
	o := celOptions("set", psa.LevelRestricted, "latest", "team")
	o.Scope.Labels = map[string]string{"app": "web"}
	for _, object := range renderings()[0].mustRender(t, o) {
		data, err := json.Marshal(object.Final())
		if err != nil {
			t.Fatal(err)
		}
		byKind[object.Final().GetKind()] = append(byKind[object.Final().GetKind()], data)
	}
	bad := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bad", Namespace: "team", Labels: o.Scope.Labels}, Spec: badSpec()}
	for _, server := range []string{"v1.30.0", "v1.31.0", "v1.33.0", "v1.35.0", "v1.37.0", "v1.45.0"} {
		vaps, errs := admission.NewVAPs(byKind["ValidatingAdmissionPolicy"], byKind["ValidatingAdmissionPolicyBinding"], nil, server)
		if len(errs) > 0 || len(vaps) != 2 {
			t.Fatalf("%d policies, errors %v", len(vaps), errs)
		}
		rulings := vaps[0].Rule(admission.Subject{
			Pod: bad, OwnerKind: "Pod", OwnerName: "bad",
			Namespace: &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Labels: map[string]string{corev1.LabelMetadataName: "team"}}},
		})
		if len(rulings) != 1 || rulings[0].Answer != admission.Refuses || !slices.Contains(named(t, rulings[0].Message), "privileged") {
			t.Errorf("%s: %+v", server, rulings)
		}
	}
}

// No name is one that Kyverno could not make a label's key of, or that two objects
// have.
func TestNamesOfCELFit(t *testing.T) {
	t.Parallel()
	for _, r := range renderings() {
		for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
			seen := map[string]bool{}
			for _, object := range r.mustRender(t, celOptions(strings.Repeat("a", maxName), level, "latest")) {
				name := object.Final().GetName()
				if msgs := validation.IsDNS1123Label(name); len(msgs) > 0 {
					t.Errorf("%s: %q", name, msgs)
				}
				if key := object.Final().GetKind() + " " + name; seen[key] {
					t.Errorf("%s: twice", key)
				} else {
					seen[key] = true
				}
			}
		}
	}
}

func TestVersionsOfTheCEL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"latest": "know is v1.37", "v1.37": "", "v1.24": "", "v1.38": "do not know v1.38", "1.24": "error", "": "error",
	} {
		for _, r := range renderings() {
			_, notes, err := r.render(celOptions("set", psa.LevelBaseline, text))
			said := strings.Join(notes, " ")
			switch {
			case want == "error":
				if err == nil || !strings.Contains(err.Error(), "version of the Pod Security Standards") {
					t.Errorf("%s, %q: %v", r.name, text, err)
				}
			case err != nil:
				t.Errorf("%s, %q: %v", r.name, text, err)
			case want == "" && strings.Contains(said, "know"), !strings.Contains(said, want):
				t.Errorf("%s, %q: notes %q", r.name, text, notes)
			}
		}
	}
}
