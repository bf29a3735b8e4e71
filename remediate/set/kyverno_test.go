package set_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/admission"
)

// kyvernoRules reads the Kyverno policies of a set as a scan reads them.
func kyvernoRules(t testing.TB, s *set.Set, form func(*set.Object) *unstructured.Unstructured) []*admission.KyvernoRules {
	t.Helper()
	var all []*admission.KyvernoRules
	for i := range s.Objects {
		if s.Objects[i].Part != set.PartAdmission {
			continue
		}
		u := form(&s.Objects[i])
		data, err := u.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		p, err := admission.DecodeKyverno(u.GetKind(), data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// subject is a pod that baseline refuses, or one that restricted refuses only.
func subject(namespace string, labels map[string]string, owner string, bad bool) admission.Subject {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p", Labels: labels},
		Spec:       corev1.PodSpec{HostPID: bad, Containers: []corev1.Container{{Name: "c", Image: "nginx"}}},
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	return admission.Subject{Pod: pod, Namespace: ns, OwnerKind: owner, OwnerName: "w"}
}

func TestKyvernoPolicyRefusesWhatIsInScope(t *testing.T) {
	t.Parallel()
	two := map[string]string{"app": "web", "tier": ""}
	for name, test := range map[string]struct {
		scope  targets.Scope
		inside []admission.Subject
		out    []admission.Subject
	}{
		"the cluster": {
			targets.Scope{Exclude: []string{"infra"}, Own: "scanner"},
			[]admission.Subject{subject("shop", nil, "Deployment", true), subject("to-come", two, "CronJob", true)},
			[]admission.Subject{subject("infra", nil, "Pod", true), subject("kubearmor", nil, "Pod", true), subject("scanner", nil, "Pod", true), subject("shop", nil, "Pod", false)},
		},
		"namespaces": {
			targets.Scope{Namespaces: []string{"shop", "web"}},
			[]admission.Subject{subject("shop", nil, "StatefulSet", true), subject("web", nil, "Pod", true)},
			[]admission.Subject{subject("other", nil, "Pod", true)},
		},
		"labels": {
			targets.Scope{Labels: two},
			[]admission.Subject{subject("shop", two, "Deployment", true), subject("web", map[string]string{"app": "web", "tier": "", "more": "x"}, "CronJob", true)},
			[]admission.Subject{
				subject("shop", nil, "Pod", true), subject("shop", map[string]string{"app": "web"}, "Deployment", true),
				subject("shop", map[string]string{"app": "web", "tier": "x"}, "Pod", true), subject("kube-system", two, "Pod", true),
			},
		},
	} {
		s := render(t, options(func(o *set.Options) {
			o.Scope, o.Admission, o.Only = test.scope, set.AdmissionKyverno, []string{"admission"}
		}), set.Facts{})
		enforcing := kyvernoRules(t, s, (*set.Object).Final)
		for _, p := range enforcing {
			if faults := p.Faults(); len(faults) > 0 || p.Action() != "Enforce" {
				t.Errorf("%s: %s %s has faults: %v", name, p.Action(), p.Ref(), faults)
			}
		}
		auditing := kyvernoRules(t, s, func(o *set.Object) *unstructured.Unstructured { return o.Audit })
		for _, in := range test.inside {
			d := (&admission.Set{Kyverno: enforcing}).Decide(in)
			if d.Answer != admission.Refuses || slices.ContainsFunc(d.Rulings, func(r admission.Ruling) bool { return r.Toothless != nil }) {
				t.Errorf("%s: %s in %s with %v: %s, %s %v", name, in.OwnerKind, in.Pod.Namespace, in.Pod.Labels, d.Answer, d.Reason, d.Rulings)
			}
			if d := (&admission.Set{Kyverno: auditing}).Decide(in); d.Answer != admission.Admits || len(d.Rulings) == 0 {
				t.Errorf("%s: the audit form %s %v", name, d.Answer, d.Rulings)
			}
		}
		for _, out := range test.out {
			if d := (&admission.Set{Kyverno: enforcing}).Decide(out); d.Answer != admission.Admits {
				t.Errorf("%s: %s in %s with %v: %s, %s", name, out.OwnerKind, out.Pod.Namespace, out.Pod.Labels, d.Answer, d.Reason)
			}
			// The same labels mean the same pods in every part.
			if out.Pod.Spec.HostPID && test.scope.Includes(out.Pod.Namespace, out.Pod.Labels) {
				t.Errorf("%s: in scope, and taken for outside: %s %v", name, out.Pod.Namespace, out.Pod.Labels)
			}
		}
	}
}

func TestKyvernoLevelAndVersion(t *testing.T) {
	t.Parallel()
	for asked, want := range map[string]string{"latest": "latest", "v1.25": "v1.25", "v1.32": "v1.32", "v1.33": "latest", "v1.36": "latest"} {
		s := render(t, options(func(o *set.Options) {
			o.Admission, o.PSSVersion, o.Level = set.AdmissionKyverno, asked, psa.LevelRestricted
		}), set.Facts{})
		rules, _, err := unstructured.NestedSlice(s.Objects[0].Enforce.Object, "spec", "rules")
		if err != nil {
			t.Fatal(err)
		}
		level, _, _ := unstructured.NestedString(rules[0].(map[string]any), "validate", "podSecurity", "level")
		version, _, _ := unstructured.NestedString(rules[0].(map[string]any), "validate", "podSecurity", "version")
		said := slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, "latest stands for "+asked) })
		if level != "restricted" || version != want || said != (asked != want) {
			t.Errorf("%s: %s %s, said %v", asked, level, version, said)
		}
	}
}

// Kyverno's own code asks the set's rules about exactly the pods with the labels, and
// about the controllers whose templates have them, whatever labels of their own they have
// (testdata/kyverno/README.md).
func TestKyvernoAsksAboutThePodsInScope(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "kyverno", "labels.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recording struct {
		Invalid  string   `json:"invalid"`
		Warnings []string `json:"warnings"`
		Answers  []struct {
			Kind   string            `json:"kind"`
			Labels map[string]string `json:"labels"`
			Asked  []string          `json:"asked"`
		} `json:"answers"`
	}
	if err := json.Unmarshal(data, &recording); err != nil {
		t.Fatal(err)
	}
	if recording.Invalid != "" || len(recording.Warnings) > 0 || len(recording.Answers) < 50 {
		t.Fatalf("recorded: %q %q, %d answers", recording.Invalid, recording.Warnings, len(recording.Answers))
	}
	file, err := os.ReadFile(filepath.Join("testdata", "labels-kyverno.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := yaml.YAMLToJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	p, err := admission.DecodeKyverno("ClusterPolicy", policy)
	if err != nil {
		t.Fatal(err)
	}
	scope := renderings(t)["labels-kyverno"].opts.Scope
	asked := 0
	for _, a := range recording.Answers {
		in := scope.Includes("shop", a.Labels)
		refuses := (&admission.Set{Kyverno: []*admission.KyvernoRules{p}}).Decide(subject("shop", a.Labels, a.Kind, true)).Answer == admission.Refuses
		if (len(a.Asked) == 1) != in || refuses != in {
			t.Errorf("%s with %v: Kyverno asks %v, the scan refuses %v, in scope %v", a.Kind, a.Labels, a.Asked, refuses, in)
		}
		asked += len(a.Asked)
	}
	if asked == 0 {
		t.Error("nothing is asked about")
	}
}
