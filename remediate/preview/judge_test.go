package preview_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// rendered is a set for namespace shop.
func rendered(t testing.TB, change func(*set.Options)) *set.Set {
	t.Helper()
	options := set.Options{
		Name: set.DefaultName, Scope: targets.Scope{Namespaces: []string{"shop"}}, Admission: set.AdmissionPSA,
		Level: psa.LevelBaseline, PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull,
	}
	if change != nil {
		change(&options)
	}
	s, err := set.Render(options, set.Facts{Namespaces: []string{"shop"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// only is a set with nothing but these parts or elements.
func only(t testing.TB, names ...string) *set.Set {
	t.Helper()
	return rendered(t, func(o *set.Options) { o.Only = names })
}

// enforcing is a node that enforces everything, blind one of which nothing is known, and
// toothless one that enforces nothing.
func enforcing() kernel.Enforcement {
	return kernel.Enforcement{Capabilities: kernel.Yes, Processes: kernel.Yes, Agent: kernel.Yes, Grade: kernel.Proven, Enforcer: "bpf"}
}

func blind() kernel.Enforcement {
	return kernel.Enforcement{Capabilities: kernel.Unknown, Processes: kernel.Unknown, Agent: kernel.Unknown, Reason: "nobody looked"}
}

func toothless() kernel.Enforcement {
	return kernel.Enforcement{Capabilities: kernel.No, Processes: kernel.No, Agent: kernel.Yes, Enforcer: "none", Reason: "bpf is not in the list"}
}

// podOf is a pod of namespace shop with this spec, as YAML.
func podOf(t testing.TB, spec string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-x", Labels: map[string]string{"app": "web"}}}
	if err := yaml.UnmarshalStrict([]byte(spec), &pod.Spec); err != nil {
		t.Fatal(err)
	}
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == "" {
			pod.Spec.Containers[i].Name = "web"
		}
	}
	return pod
}

func workloadOf(kind, name string, specimens ...targets.Specimen) targets.Workload {
	return targets.Workload{
		Workload:  scan.Workload{Namespace: "shop", Kind: kind, Name: name},
		Specimens: specimens, Selector: map[string]string{"app": name},
	}
}

func inputOf(s *set.Set, workloads ...targets.Workload) preview.Input {
	return preview.Input{
		Set: s, Workloads: workloads,
		Namespaces: map[string]*corev1.Namespace{"shop": {ObjectMeta: metav1.ObjectMeta{Name: "shop"}}},
		Nodes:      map[string]kernel.Enforcement{"node1": enforcing()},
	}
}

// judged is what the set does to one live pod on a node that enforces.
func judged(t testing.TB, s *set.Set, spec string, change ...func(*preview.Input)) preview.Workload {
	t.Helper()
	in := inputOf(s, workloadOf("Deployment", "web", targets.Specimen{Pod: podOf(t, spec), Live: 2, Nodes: []string{"node1"}}))
	for _, c := range change {
		c(&in)
	}
	return preview.Judge(in).Workloads[0]
}

// lines are effects in short: outcome, part, element, container, field.
func lines(w preview.Workload) []string {
	var out []string
	for _, e := range w.Effects {
		line := fmt.Sprintf("%s|%s|%s|%s|%s", e.Outcome, e.Part, e.Element, e.Container, e.Field)
		out = append(out, line)
	}
	return out
}

func wantLines(t *testing.T, w preview.Workload, want ...string) {
	t.Helper()
	got := lines(w)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func nodes(all map[string]kernel.Enforcement) func(*preview.Input) {
	return func(in *preview.Input) { in.Nodes = maps.Clone(all) }
}

// Effects of a workload's specimens that are the same are one, the worst of them, and its
// pods are counted.
func TestSpecimensAreFolded(t *testing.T) {
	t.Parallel()
	plain, injected := podOf(t, `containers: [{name: web, image: app, command: [sh, -c, "a; curl x"]}]`),
		podOf(t, `containers: [{name: proxy, image: envoy, command: [envoy]}, {name: web, image: app, command: [sh, -c, "a; curl x"]}]`)
	in := inputOf(only(t, "curl"), workloadOf("Deployment", "web",
		targets.Specimen{Pod: plain},
		targets.Specimen{Pod: plain, Live: 1, Nodes: []string{"blind"}},
		targets.Specimen{Pod: injected, Live: 2, Nodes: []string{"node1"}},
	))
	in.Nodes["blind"] = blind()
	w := preview.Judge(in).Workloads[0]
	if w.Pods != 3 || w.Outcome != preview.Breaks {
		t.Errorf("%d pods, %s", w.Pods, w.Outcome)
	}
	call := w.Effects[0]
	if call.Outcome != preview.Breaks || call.Element != "curl" || call.Pods != 3 || call.Container != "web" {
		t.Errorf("%+v", call)
	}
}

func TestReportIsSortedAndCounted(t *testing.T) {
	t.Parallel()
	var all []targets.Workload
	for _, w := range []struct{ name, spec string }{
		{"safe", `containers: [{image: app, command: [app]}]`},
		{"breaks-b", `containers: [{image: app, command: [sh, -c, "a; curl x"]}]`},
		{"hidden", `{hostPID: true, containers: [{image: app, command: [app]}]}`},
		{"may", `containers: [{image: app, command: [curl]}]`},
		{"breaks-a", `containers: [{image: app, command: [sh, -c, "a; curl x"]}]`},
	} {
		all = append(all, workloadOf("Deployment", w.name, targets.Specimen{Pod: podOf(t, w.spec), Live: 1, Nodes: []string{"node1"}}))
	}
	in := inputOf(only(t, "curl"), all...)
	in.Accepted = []scan.Workload{{Namespace: "shop", Kind: "Deployment", Name: "breaks-a"}}
	in.Excepted = func(w scan.Workload) (string, bool) { return "they know", w.Name == "may" }
	in.Failures = []scan.Failure{{Subject: "nodes", Reason: scan.FailureForbidden, Message: "no"}}
	r := preview.Judge(in)
	var got []string
	for _, w := range r.Workloads {
		got = append(got, fmt.Sprintf("%s %s %q", w.Workload.Name, w.Outcome, w.Accepted))
	}
	want := []string{`breaks-a breaks "--accept"`, `breaks-b breaks ""`, `may may break "they know"`, `hidden not covered ""`, `safe safe ""`}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	counts := map[preview.Outcome]int{preview.Breaks: 2, preview.MayBreak: 1, preview.NotCovered: 1, preview.Safe: 1}
	if !maps.Equal(r.Counts, counts) {
		t.Errorf("counts %v", r.Counts)
	}
	if refused := r.Refused(); len(refused) != 1 || refused[0].Workload.Name != "breaks-b" {
		t.Errorf("refused %v", refused)
	}
	if len(r.Failures) != 1 {
		t.Errorf("failures %v", r.Failures)
	}
	slices.Reverse(in.Workloads)
	if again := preview.Judge(in); !reflect.DeepEqual(r, again) {
		t.Error("another order of workloads makes another report")
	}
}

// An object that cannot be read back leaves open what it does.
func TestUnreadableObjectIsAFailure(t *testing.T) {
	t.Parallel()
	s := rendered(t, func(o *set.Options) { o.Admission = set.AdmissionKyverno })
	for i := range s.Objects {
		if err := unstructured.SetNestedField(s.Objects[i].Enforce.Object, "text", "spec", "selector"); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedField(s.Objects[i].Enforce.Object, "text", "spec", "rules"); err != nil {
			t.Fatal(err)
		}
	}
	in := inputOf(s, workloadOf("Deployment", "web", targets.Specimen{Pod: podOf(t, `containers: [{image: app, command: [app]}]`), Live: 1}))
	r := preview.Judge(in)
	if len(r.Failures) != len(s.Objects) {
		t.Errorf("%d failures of %d objects: %v", len(r.Failures), len(s.Objects), r.Failures)
	}
	if w := r.Workloads[0]; w.Outcome != preview.MayBreak {
		t.Errorf("%s: %v", w.Outcome, w.Effects)
	}
}

// specimen is the pod of a template that nothing runs of.
func specimen(t testing.TB, spec string) targets.Specimen {
	t.Helper()
	return targets.Specimen{Pod: podOf(t, spec)}
}

// What is not known is no pass.
func TestWorkloadWithoutSpecimens(t *testing.T) {
	t.Parallel()
	wantLines(t, preview.Judge(inputOf(rendered(t, nil), workloadOf("Deployment", "web"))).Workloads[0], "may break|runtime|||")
}
