package set_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

func TestPodSecurityLabels(t *testing.T) {
	t.Parallel()
	facts := set.Facts{Namespaces: []string{"web", "shop", "kube-system", "infra"}, NamespaceLabels: map[string]map[string]string{}}
	s := render(t, options(func(o *set.Options) {
		o.Admission, o.Only, o.Scope.Exclude = set.AdmissionPSA, []string{"admission"}, []string{"infra"}
	}), facts)
	var names []string
	for i := range s.Objects {
		o := &s.Objects[i]
		names = append(names, o.Enforce.GetName())
		in := subject(o.Enforce.GetName(), nil, "Pod", true)
		in.Namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Enforce.GetName(), Labels: o.Enforce.GetLabels()}}
		if d := (&admission.Set{Server: psa.MajorMinorVersion(1, 36)}).Decide(in); d.Answer != admission.Refuses {
			t.Errorf("%s with %v: %s", o.Enforce.GetName(), o.Enforce.GetLabels(), d.Answer)
		}
		in.Namespace.Labels = o.Audit.GetLabels()
		if d := (&admission.Set{Server: psa.MajorMinorVersion(1, 36)}).Decide(in); d.Answer != admission.Admits || len(o.Audit.GetLabels()) != 6 {
			t.Errorf("%s, audited, with %v: %s", o.Enforce.GetName(), o.Audit.GetLabels(), d.Answer)
		}
		if spec, ok := o.Enforce.Object["spec"]; ok || len(o.Enforce.GetAnnotations()) > 0 {
			t.Errorf("more than labels: %v", spec)
		}
	}
	if !slices.Equal(names, []string{"shop", "web"}) {
		t.Errorf("labelled are %v", names)
	}
	if !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "namespaces to come are not labelled") }) {
		t.Errorf("nothing is said of namespaces to come: %q", s.Notes)
	}
}

// A stricter label stays as it is, version and all, and is applied so: left out, it would
// go when an earlier apply of the set had made it.
func TestStricterLabelsStay(t *testing.T) {
	t.Parallel()
	there := map[string]string{psa.EnforceLevelLabel: "restricted", psa.EnforceVersionLabel: "v1.30", psa.WarnLevelLabel: "restricted", psa.AuditLevelLabel: "privileged"}
	facts := set.Facts{NamespaceLabels: map[string]map[string]string{"shop": there}}
	s := render(t, options(func(o *set.Options) {
		o.Admission, o.Only, o.Scope.Namespaces = set.AdmissionPSA, []string{"admission"}, []string{"shop"}
	}), facts)
	labels := s.Objects[0].Enforce.GetLabels()
	for key, want := range map[string]string{
		psa.EnforceLevelLabel: "restricted", psa.EnforceVersionLabel: "v1.30", psa.WarnLevelLabel: "restricted", psa.WarnVersionLabel: "",
		psa.AuditLevelLabel: "baseline", psa.AuditVersionLabel: "latest",
	} {
		if got, ok := labels[key]; got != want || ok != (want != "") {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "Namespace shop has enforce at restricted already") }) {
		t.Errorf("it is not said: %q", s.Notes)
	}
}
