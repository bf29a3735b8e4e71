package set

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

var writeRequests = flag.String("requests", "", "write what Kyverno is to be asked into this folder")

// kyvernoRequest is what Kyverno was asked, with the controls that must refuse it.
type kyvernoRequest struct {
	Name        string         `json:"name"`
	Resource    string         `json:"resource"`
	Subresource string         `json:"subresource,omitempty"`
	Operation   string         `json:"operation"`
	Object      map[string]any `json:"object"`
	Old         map[string]any `json:"old,omitempty"`

	controls []string
}

// object is a pod as Kyverno gets it.
func object(t *testing.T, pod *corev1.Pod) map[string]any {
	t.Helper()
	p := pod.DeepCopy()
	p.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(p)
	if err != nil {
		t.Fatal(err)
	}
	fields["metadata"].(map[string]any)["namespace"] = "team"
	delete(fields, "status")
	return fields
}

// kyvernoRequests are the creation of the conformance pods and of random ones, alone and
// as templates of controllers, and what changes pods and templates.
func kyvernoRequests(t *testing.T, level psa.Level) []kyvernoRequest {
	t.Helper()
	newest := psa.MajorMinorVersion(1, newestStandards)
	var requests []kyvernoRequest
	d := dice{rand.New(rand.NewPCG(1, 2))}
	pods := []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "good"}, Spec: goodSpec()}}
	for _, p := range oracle.ConformancePods(t, string(level), newest.String()) {
		p.Pod.Name = filepath.Base(filepath.Dir(p.File)) + "-" + p.Pod.Name
		pods = append(pods, p.Pod)
	}
	for i := range 60 {
		pods = append(pods, d.pod(i))
	}
	kinds := []string{"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"}
	for i, pod := range pods {
		controls := oracle.Controls(level, newest, pod)
		requests = append(requests, kyvernoRequest{Name: pod.Name, Resource: "pods", Operation: "CREATE", Object: object(t, pod), controls: controls})
		kind := kinds[i%len(kinds)]
		made := workload(t, kind, "team", pod.Name, nil, pod.Spec).Object
		if level == psa.LevelBaseline && len(pod.Annotations) > 0 {
			annotate(t, made, kind, pod.Annotations)
		} else {
			bare := pod.DeepCopy()
			bare.Annotations = nil
			controls = oracle.Controls(level, newest, bare)
		}
		requests = append(requests, kyvernoRequest{
			Name: pod.Name + "/" + kind, Resource: strings.ToLower(kind) + "s", Operation: "CREATE", Object: made, controls: controls,
		})
	}
	return append(requests, kyvernoUpdates(t, level)...)
}

func annotate(t *testing.T, object map[string]any, kind string, annotations map[string]string) {
	t.Helper()
	for _, field := range append(templateKinds()[kind], "metadata") {
		object = object[field].(map[string]any)
	}
	fields := map[string]any{}
	for key, value := range annotations {
		fields[key] = value
	}
	object["annotations"] = fields
}

// kyvernoUpdates are updates of a pod and of a Deployment that no level allows, those
// that matter and those that do not.
func kyvernoUpdates(t *testing.T, level psa.Level) []kyvernoRequest {
	t.Helper()
	bad := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bad", Finalizers: []string{"example.com/held"}}, Spec: badSpec()}
	refused := oracle.Controls(level, psa.MajorMinorVersion(1, newestStandards), bad)
	change := func(name, subresource string, controls []string, change func(*corev1.Pod)) kyvernoRequest {
		changed := bad.DeepCopy()
		change(changed)
		return kyvernoRequest{
			Name: "update/" + name, Resource: "pods", Subresource: subresource, Operation: "UPDATE",
			Object: object(t, changed), Old: object(t, bad), controls: controls,
		}
	}
	roll := func(name string, controls []string, change func(*corev1.PodSpec), labels map[string]string) kyvernoRequest {
		spec := badSpec()
		change(&spec)
		old, changed := workload(t, "Deployment", "team", "bad", nil, badSpec()), workload(t, "Deployment", "team", "bad", labels, spec)
		changed.SetLabels(map[string]string{"own": name})
		return kyvernoRequest{
			Name: "update/Deployment/" + name, Resource: "deployments", Operation: "UPDATE", Object: changed.Object, Old: old.Object, controls: controls,
		}
	}
	return []kyvernoRequest{
		change("labels", "", nil, func(p *corev1.Pod) { p.Labels = map[string]string{"more": "x"} }),
		change("finalizers", "", nil, func(p *corev1.Pod) { p.Finalizers = nil }),
		change("image", "", refused, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }),
		change("debugging", "ephemeralcontainers", refused, func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debugger", Image: "busybox"}}}
		}),
		roll("nothing", nil, func(*corev1.PodSpec) {}, nil),
		roll("label", refused, func(*corev1.PodSpec) {}, map[string]string{"more": "x"}),
		roll("image", refused, func(s *corev1.PodSpec) { s.Containers[0].Image = "other" }, nil),
		roll("account", refused, func(s *corev1.PodSpec) { s.ServiceAccountName = "other" }, nil),
	}
}

// Kyverno itself refuses by our policies what the official evaluator refuses: its
// answers were recorded from its own code.
func TestRecordedKyvernoRefusesWhatTheStandardsRefuse(t *testing.T) {
	t.Parallel()
	for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			requests := kyvernoRequests(t, level)
			file := "kyverno-" + string(level)
			if *writeRequests != "" {
				data, err := json.Marshal(requests)
				if err == nil {
					err = os.WriteFile(filepath.Join(*writeRequests, file+".json"), data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				t.Skip("the requests are written; let Kyverno answer them")
			}
			checkRecording(t, file, requests)
		})
	}
}

func checkRecording(t *testing.T, file string, requests []kyvernoRequest) {
	t.Helper()
	var recorded struct {
		Policies string
		Warnings []string
		Answers  map[string][]string
	}
	data, err := os.ReadFile(filepath.Join("testdata", "cel", "recorded", file+".json"))
	if err == nil {
		err = json.Unmarshal(data, &recorded)
	}
	if err != nil {
		t.Fatal(err)
	}
	policies, err := os.ReadFile(filepath.Join("testdata", "cel", file+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(policies); recorded.Policies != hex.EncodeToString(sum[:]) {
		t.Errorf("%s.yaml is not what Kyverno was asked about: record its answers again (testdata/cel/README.md)", file)
	}
	if len(recorded.Warnings) > 0 || len(recorded.Answers) != len(requests) {
		t.Errorf("%d answers to %d requests, Kyverno warns %q", len(recorded.Answers), len(requests), recorded.Warnings)
	}
	refused := 0
	for _, q := range requests {
		got := []string{}
		for _, message := range recorded.Answers[q.Name] {
			got = append(got, named(t, message)...)
		}
		slices.Sort(got)
		if refused += min(1, len(got)); !slices.Equal(got, q.controls) {
			t.Errorf("%s: Kyverno refuses it for %q, want %q", q.Name, got, q.controls)
		}
	}
	if refused < len(requests)/4 || refused > len(requests)*9/10 {
		t.Errorf("%d of %d refused: this proves too little", refused, len(requests))
	}
}
