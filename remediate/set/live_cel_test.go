package set

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// celSpace is an API server of its own: policies hold for all of a server.
type celSpace struct {
	*testing.T
	server  *kubetest.Server
	client  kubernetes.Interface
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	// warned are the warnings of the server.
	warned *warnings
}

// warnings collects what the server warns of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

// take gives what was collected, and begins anew.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}

func newCELSpace(t *testing.T) *celSpace {
	t.Helper()
	s := &celSpace{T: t, server: kubetest.New(t), warned: &warnings{}}
	config := s.server.Config()
	config.QPS, config.WarningHandler = -1, s.warned
	var err error
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if s.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	s.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.client.Discovery()))
	return s
}

// resource is where objects of an object's kind are.
func (s *celSpace) resource(object *unstructured.Unstructured) dynamic.ResourceInterface {
	s.Helper()
	gvk := object.GroupVersionKind()
	mapping, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		s.Fatal(err)
	}
	if object.GetNamespace() == "" {
		return s.dynamic.Resource(mapping.Resource)
	}
	return s.dynamic.Resource(mapping.Resource).Namespace(object.GetNamespace())
}

// install applies objects as a set is applied, one form of them.
func (s *celSpace) install(objects []Object, form func(*Object) *unstructured.Unstructured) {
	s.Helper()
	for i := range objects {
		object := form(&objects[i])
		_, err := s.resource(object).Apply(s.Context(), object.GetName(), object, metav1.ApplyOptions{FieldManager: "escape-scanner"})
		if err != nil {
			s.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}

// try asks the server whether it would take an object.
func (s *celSpace) try(object *unstructured.Unstructured) error {
	s.Helper()
	_, err := s.resource(object).Create(s.Context(), object, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// inForce waits until a pod and a template that no level allows are refused in the
// namespace.
func (s *celSpace) inForce(namespace string, labels map[string]string) {
	s.Helper()
	for _, kind := range []string{"Pod", "ReplicationController"} {
		bad := workload(s.T, kind, namespace, "probe", labels, badSpec())
		s.until(namespace+": "+kind, func() bool { return denied(s.try(bad)) })
	}
}

func (s *celSpace) until(what string, done func() bool) {
	s.Helper()
	err := wait.PollUntilContextTimeout(s.Context(), 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) { return done(), nil })
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// denied tells whether a ValidatingAdmissionPolicy refused a request.
func denied(err error) bool {
	return apierrors.IsInvalid(err) && strings.Contains(err.Error(), "ValidatingAdmissionPolicy")
}

func goodSpec() corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/app:1"}}}
}

func badSpec() corev1.PodSpec {
	spec := goodSpec()
	spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	return spec
}

// templateKinds are the kinds that have a template of pods, with the path to it.
func templateKinds() map[string][]string {
	below := []string{"spec", "template"}
	return map[string][]string{
		"ReplicationController": below, "PodTemplate": {"template"}, "ReplicaSet": below, "Deployment": below,
		"StatefulSet": below, "DaemonSet": below, "Job": below, "CronJob": {"spec", "jobTemplate", "spec", "template"},
	}
}

// workload is an object of a kind that is a pod or has a template, with labels on its
// pods only.
func workload(t *testing.T, kind, namespace, name string, labels map[string]string, spec corev1.PodSpec) *unstructured.Unstructured {
	t.Helper()
	version, fields := "v1", map[string]any{}
	always := map[string]string{"of": name}
	maps.Copy(always, labels)
	selector := map[string]any{"matchLabels": map[string]any{"of": name}}
	switch kind {
	case "ReplicationController":
		fields["spec"] = map[string]any{"selector": map[string]any{"of": name}}
	case "Deployment", "ReplicaSet", "DaemonSet", "StatefulSet":
		version = "apps/v1"
		fields["spec"] = map[string]any{"selector": selector}
	case "Job":
		version, spec.RestartPolicy = "batch/v1", corev1.RestartPolicyNever
	case "CronJob":
		version, spec.RestartPolicy = "batch/v1", corev1.RestartPolicyNever
		fields["spec"] = map[string]any{"schedule": "0 0 * * *"}
	}
	pod := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: always}, Spec: spec}
	template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&pod)
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: fields}
	if kind == "Pod" {
		object.Object = template
	} else if err := unstructured.SetNestedMap(fields, template, templateKinds()[kind]...); err != nil {
		t.Fatal(err)
	}
	object.SetAPIVersion(version)
	object.SetKind(kind)
	object.SetNamespace(namespace)
	object.SetName(name)
	return object
}

// Of all conformance pods of a version, a real API server with our policies refuses
// those that the official evaluator refuses, for the very same controls.
func TestLiveVAPRefusesWhatTheStandardsRefuse(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	info, err := s.client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	running := version.MustParseGeneric(info.GitVersion)
	own := fmt.Sprintf("v%d.%d", running.Major(), running.Minor())
	for _, minor := range []string{own, "v1.18", "v1.22", "v1.26", "v1.30", "v1.33", "v1.34", "v1.37"} {
		for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
			name := string(level) + "-" + strings.ReplaceAll(minor, ".", "-")
			s.server.NamedNamespace(t, name, nil)
			objects, _, err := renderVAP(celOptions(name, level, minor, name))
			if err != nil {
				t.Fatal(err)
			}
			s.install(objects, (*Object).Final)
			s.inForce(name, nil)
			t.Run(name, func(t *testing.T) { s.compareConformance(t, name, level, minor) })
		}
	}
}

func (s *celSpace) compareConformance(t *testing.T, namespace string, level psa.Level, version string) {
	pods := oracle.ConformancePods(t, string(level), version)
	errs := make([]error, len(pods))
	var group sync.WaitGroup
	next := make(chan int)
	for range 8 {
		group.Go(func() {
			for i := range next {
				pod := pods[i].Pod.DeepCopy()
				pod.Name = strings.ReplaceAll(pod.Name, "_", "-")
				_, errs[i] = s.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			}
		})
	}
	for i := range pods {
		next <- i
	}
	close(next)
	group.Wait()
	var invalid []string
	// What validation refuses in any case, no policy is asked about.
	admitted, seen := 0, map[string]bool{}
	for i, p := range pods {
		want, got := oracle.Controls(level, p.Version, p.Pod), []string{}
		switch err := errs[i]; {
		case denied(err):
			got = named(t, err.Error())
			slices.Sort(got)
		case apierrors.IsInvalid(err):
			invalid = append(invalid, filepath.Base(p.File))
			if got = want; p.Pass {
				t.Errorf("%s: %v", p.Name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", p.Name, err)
			continue
		default:
			admitted++
		}
		for _, id := range got {
			seen[id] = true
		}
		if !slices.Equal(got, want) || p.Pass != (len(want) == 0) {
			t.Errorf("%s: the server refuses it for %q, the official evaluator for %q", p.Name, got, want)
		}
	}
	t.Logf("%d pods, %d admitted, %d not valid: %q", len(pods), admitted, len(invalid), invalid)
	if len(invalid) > 2 || admitted < 10 {
		t.Error("this proves too little")
	}
	for _, r := range standards(level, pods[0].Version) {
		if !seen[r.id] {
			t.Errorf("no pod was refused for %s", r.id)
		}
	}
}

// The definitions of Kyverno's policies take what is rendered, whole.
func TestLiveKyvernoTakesThePolicies(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	s.server.InstallCRDs(t, kubetest.Kyverno)
	s.server.NamedNamespace(t, "team", nil)
	for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
		for _, namespaces := range [][]string{nil, {"team"}} {
			o := celOptions(string(level), level, "latest", namespaces...)
			objects, _, err := renderKyvernoCEL(o)
			if err != nil {
				t.Fatal(err)
			}
			for i := range objects {
				for _, object := range []*unstructured.Unstructured{objects[i].Audit, objects[i].Enforce} {
					taken, err := s.resource(object).Create(t.Context(), object, metav1.CreateOptions{
						DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
					})
					if err != nil {
						t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
					} else if !includes(taken.Object["spec"], object.Object["spec"]) {
						t.Errorf("%s %s: the server made of\n%v\nthis:\n%v", object.GetKind(), object.GetName(), object.Object["spec"], taken.Object["spec"])
					}
				}
			}
		}
	}
}

// includes tells whether a value has all that another one has.
func includes(value, wanted any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		fields, ok := value.(map[string]any)
		for key := range wanted {
			ok = ok && includes(fields[key], wanted[key])
		}
		return ok
	case []any:
		items, ok := value.([]any)
		ok = ok && len(items) == len(wanted)
		for i := range wanted {
			ok = ok && includes(items[i], wanted[i])
		}
		return ok
	}
	return value == wanted
}
