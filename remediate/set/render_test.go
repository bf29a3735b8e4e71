package set_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

var update = flag.Bool("update", false, "write the golden files anew")

// options are those of a full set that blocks in the whole cluster, changed.
func options(change func(*set.Options)) set.Options {
	o := set.Options{
		Name: set.DefaultName, Admission: set.AdmissionNone, Level: psa.LevelBaseline, PSSVersion: "latest",
		Action: set.ActionBlock, Fit: set.FitFull,
	}
	if change != nil {
		change(&o)
	}
	return o
}

func render(t testing.TB, o set.Options, facts set.Facts) *set.Set {
	t.Helper()
	s, err := set.Render(o, facts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rendered is one golden file: a set and how it is written.
type rendered struct {
	opts  set.Options
	facts set.Facts
	form  set.Form
}

func renderings(t testing.TB) map[string]rendered {
	shop := targets.Scope{Namespaces: []string{"web", "shop"}}
	labels := map[string]string{"app.kubernetes.io/name": "web", "empty": "", "size": "1000"}
	facts := set.Facts{
		Namespaces:      []string{"shop", "kube-system", "web", "infra", "default"},
		NamespaceLabels: map[string]map[string]string{"shop": {psa.EnforceLevelLabel: "restricted", psa.WarnLevelLabel: "baseline"}},
	}
	return map[string]rendered{
		"namespaces-psa": {options(func(o *set.Options) { o.Scope, o.Admission = shop, set.AdmissionPSA }), facts, set.FormFinal},
		"namespaces-psa-audit": {options(func(o *set.Options) {
			o.Scope, o.Admission, o.Action, o.PSSVersion = shop, set.AdmissionPSA, set.ActionAudit, "v1.36"
		}), facts, set.FormFinal},
		"cluster-kyverno": {options(func(o *set.Options) {
			o.Scope, o.Admission = targets.Scope{Exclude: []string{"infra"}, Own: "scanner"}, set.AdmissionKyverno
			o.Level, o.PSSVersion = psa.LevelRestricted, "v1.36"
		}), set.Facts{}, set.FormFinal},
		"namespaces-kyverno": {options(func(o *set.Options) {
			o.Scope, o.Scope.Labels = shop, map[string]string{"app": "web"}
			o.Admission, o.Only = set.AdmissionKyverno, []string{"admission", "curl"}
		}), set.Facts{}, set.FormFinal},
		"cluster-kyverno-first-stage": {options(func(o *set.Options) { o.Admission = set.AdmissionKyverno }), set.Facts{}, set.FormAudit},
		"labels-kyverno": {options(func(o *set.Options) {
			o.Scope, o.Admission, o.Only = targets.Scope{Labels: labels}, set.AdmissionKyverno, []string{"admission"}
		}), set.Facts{}, set.FormFinal},
		"cluster-labels": {options(func(o *set.Options) {
			o.Scope.Labels, o.Without = labels, []string{"tools", "dac_override"}
		}), facts, set.FormFinal},
		"cluster-label": {options(func(o *set.Options) {
			o.Scope.Labels, o.Only = map[string]string{"app": "web"}, []string{"CAP_SYS_ADMIN", "chroot", "curl"}
		}), set.Facts{}, set.FormFinal},
		"precise": {options(func(o *set.Options) { o.Fit = set.FitPrecise }), preciseFacts(t), set.FormFinal},
	}
}

func TestRenderedYAML(t *testing.T) {
	t.Parallel()
	for name, r := range renderings(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := render(t, r.opts, r.facts)
			var b bytes.Buffer
			for _, note := range s.Notes {
				b.WriteString("# Note: " + note + "\n")
			}
			for _, spared := range s.Spared {
				var names []string
				for _, e := range spared.Elements {
					names = append(names, e.Name)
				}
				b.WriteString("# Spared: " + spared.Workload.Kind + " " + spared.Workload.Namespace + "/" + spared.Workload.Name + ": " + strings.Join(names, ", ") + ": " + spared.Reason + "\n")
			}
			if err := s.WriteYAML(&b, r.form); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".yaml")
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
				t.Errorf("%s differs; run the test with -update and look at the change\n%s", file, b.String())
			}
		})
	}
}

// What is written is what is applied: every object once, in order, in the form asked
// for, with nothing that holds nothing.
func TestYAMLIsTheObjects(t *testing.T) {
	t.Parallel()
	for name, r := range renderings(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := render(t, r.opts, r.facts)
			for _, form := range []set.Form{set.FormAudit, set.FormFinal} {
				var b bytes.Buffer
				if err := s.WriteYAML(&b, form); err != nil {
					t.Fatal(err)
				}
				var want []map[string]any
				for i := range s.Objects {
					u := s.Objects[i].Final()
					if form == set.FormAudit {
						u = s.Objects[i].Audit
					}
					if u != nil {
						want = append(want, u.Object)
					}
				}
				var got []map[string]any
				for _, document := range strings.Split(b.String(), "---\n")[1:] {
					u := &unstructured.Unstructured{}
					data, err := yaml.YAMLToJSONStrict([]byte(document))
					if err == nil {
						err = u.UnmarshalJSON(data)
					}
					if err != nil {
						t.Fatalf("%v in\n%s", err, document)
					}
					got = append(got, u.Object)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %d documents for %d objects, or others", form, len(got), len(want))
				}
				for _, object := range want {
					if text, _ := json.Marshal(object); strings.Contains(string(text), "{}") || strings.Contains(string(text), "null") || strings.Contains(string(text), "[]") {
						t.Errorf("holds what holds nothing: %s", text)
					}
				}
			}
		})
	}
	if err := render(t, options(nil), set.Facts{}).WriteYAML(&bytes.Buffer{}, "loud"); err == nil {
		t.Error("an unknown form is no error")
	}
}

// Names are distinct in every kind and namespace, and each object says whose it is.
func TestObjectsAreMarkedAndDistinct(t *testing.T) {
	t.Parallel()
	for name, r := range renderings(t) {
		seen := map[string]bool{}
		cluster := map[string]bool{}
		s := render(t, r.opts, r.facts)
		for i := range s.Objects {
			for _, u := range []*unstructured.Unstructured{s.Objects[i].Audit, s.Objects[i].Enforce} {
				if u == nil {
					continue
				}
				labels := u.GetLabels()
				manager := set.ManagedBy
				if u.GetKind() == "Namespace" {
					manager = ""
				}
				if labels[set.LabelSet] != r.opts.Name || labels[set.LabelVersion] != set.Version || labels[set.LabelManagedBy] != manager {
					t.Errorf("%s: %s has the labels %v", name, u.GetName(), labels)
				}
			}
			u := s.Objects[i].Final()
			key := u.GetKind() + " " + u.GetNamespace() + "/" + u.GetName()
			if seen[key] {
				t.Errorf("%s: two objects are %s", name, key)
			}
			seen[key] = true
			// KubeArmor finds policies by their names alone.
			if strings.HasPrefix(u.GetKind(), "KubeArmor") {
				ofCluster := u.GetNamespace() == ""
				if was, ok := cluster[u.GetName()]; ok && was != ofCluster {
					t.Errorf("%s: a policy of the cluster and one of a namespace are named %s", name, u.GetName())
				}
				cluster[u.GetName()] = ofCluster
			}
			if audit, enforce := s.Objects[i].Audit, s.Objects[i].Enforce; audit != nil && enforce != nil &&
				(audit.GetName() != enforce.GetName() || audit.GetNamespace() != enforce.GetNamespace() || audit.GetKind() != enforce.GetKind()) {
				t.Errorf("%s: the forms of %s are two objects", name, key)
			}
		}
	}
}

func TestRenderIsRepeatable(t *testing.T) {
	t.Parallel()
	for name, r := range renderings(t) {
		first := render(t, r.opts, r.facts)
		for range 5 {
			facts := r.facts
			// In whatever order a cluster lists them.
			facts.Namespaces = slices.Clone(facts.Namespaces)
			slices.Reverse(facts.Namespaces)
			facts.Workloads = slices.Clone(facts.Workloads)
			slices.Reverse(facts.Workloads)
			again := render(t, r.opts, facts)
			if !reflect.DeepEqual(first.Objects, again.Objects) || !slices.Equal(first.Notes, again.Notes) {
				t.Errorf("%s: rendered twice, and different", name)
			}
		}
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	block := render(t, options(func(o *set.Options) { o.Admission = set.AdmissionKyverno }), set.Facts{})
	for i := range block.Objects {
		o := &block.Objects[i]
		if o.Enforce == nil || (o.Audit == nil) != (o.Part == set.PartCapabilities) {
			t.Errorf("block, %s: audit form %v, enforce form %v", o.Part, o.Audit != nil, o.Enforce != nil)
		}
	}
	audit := render(t, options(func(o *set.Options) { o.Admission, o.Action = set.AdmissionKyverno, set.ActionAudit }), set.Facts{})
	for i := range audit.Objects {
		o := &audit.Objects[i]
		if o.Enforce != nil || o.Audit == nil || o.Part == set.PartCapabilities || o.Final() != o.Audit {
			t.Errorf("audit, %s: audit form %v, enforce form %v", o.Part, o.Audit != nil, o.Enforce != nil)
		}
	}
	if !slices.ContainsFunc(audit.Notes, func(n string) bool { return strings.Contains(n, "capabilities under Audit") }) {
		t.Errorf("nothing says that capabilities are left out: %q", audit.Notes)
	}
	if len(audit.Chosen(set.PartCapabilities)) > 0 || len(block.Chosen(set.PartCapabilities)) != 5 || len(block.Chosen()) != 21 {
		t.Errorf("chosen: %d, %d, %d", len(audit.Chosen(set.PartCapabilities)), len(block.Chosen(set.PartCapabilities)), len(block.Chosen()))
	}
}

func TestRenderSaysWhatItMisses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*set.Options)
		want   string
	}{
		"auto is not settled":           {func(o *set.Options) { o.Admission = set.AdmissionAuto }, "must be settled"},
		"the cluster by psa":            {func(o *set.Options) { o.Admission = set.AdmissionPSA }, "namespaces are not known"},
		"the cluster by several labels": {func(o *set.Options) { o.Scope.Labels = map[string]string{"a": "b", "c": "d"} }, "namespaces are not known"},
		"precise":                       {func(o *set.Options) { o.Fit = set.FitPrecise }, "are not known"},
		"invalid options":               {func(o *set.Options) { o.Level = "tight" }, `level "tight"`},
	} {
		if _, err := set.Render(options(test.change), set.Facts{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
