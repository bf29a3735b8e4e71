package deploytest

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// warnings collects what a server warns of.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

// take gives the warnings since it was asked last.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

// installer applies renderings as kubectl apply --server-side --validate=strict does.
type installer struct {
	*testing.T
	server   *kubetest.Server
	client   dynamic.Interface
	typed    kubernetes.Interface
	mapper   meta.RESTMapper
	warnings *warnings
}

func newInstaller(t *testing.T) *installer {
	t.Helper()
	in := &installer{T: t, server: cluster.Server(t), warnings: &warnings{}}
	config := in.server.Config()
	config.WarningHandler = in.warnings
	var err error
	if in.client, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if in.typed, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	in.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(in.typed.Discovery()))
	return in
}

// install applies a rendering, in its order but for namespaces, which come first. What
// there was not before is removed when the test ends.
func (in *installer) install(r *rendering) {
	in.Helper()
	objects := slices.Clone(r.objects)
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	for _, o := range objects {
		if o.GetKind() == "Namespace" {
			makeNamespace(in.T, in.server, o.GetName())
		}
		if ns := o.GetNamespace(); ns != "" {
			makeNamespace(in.T, in.server, ns)
		}
		in.apply(r, o)
	}
}

func rank(o *unstructured.Unstructured) int {
	if o.GetKind() == "Namespace" {
		return 0
	}
	return 1
}

// makeNamespace makes a namespace that there is not yet, for as long as the test lasts.
func makeNamespace(t *testing.T, server *kubetest.Server, name string) {
	t.Helper()
	_, err := server.Client().CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		server.NamedNamespace(t, name, nil)
	case err != nil:
		t.Fatal(err)
	}
}

// apply applies one object.
func (in *installer) apply(r *rendering, o *unstructured.Unstructured) {
	in.Helper()
	what := fmt.Sprintf("%s: %s %s", r.name, o.GetKind(), o.GetName())
	gvk := o.GroupVersionKind()
	mapping, err := in.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		in.Fatalf("%s: %v", what, err)
	}
	var resource dynamic.ResourceInterface = in.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if o.GetNamespace() == "" {
			in.Fatalf("%s: it has no namespace", what)
		}
		resource = in.client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	text, err := json.Marshal(o.Object)
	if err != nil {
		in.Fatal(err)
	}
	_, err = resource.Patch(in.Context(), o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{
		FieldManager: "deploytest", FieldValidation: metav1.FieldValidationStrict, Force: new(true),
	})
	if err != nil {
		in.Errorf("%s: %v", what, err)
	}
	for _, text := range in.warnings.take() {
		in.Errorf("%s: the server warns: %s", what, text)
	}
	if o.GetKind() == "Namespace" {
		return
	}
	in.Cleanup(func() {
		ctx := context.WithoutCancel(in.Context())
		if o.GetKind() == "PersistentVolumeClaim" {
			// A controller would have let it go.
			if _, err := resource.Patch(ctx, o.GetName(), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
				in.Error(err)
			}
		}
		err := resource.Delete(ctx, o.GetName(), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			in.Errorf("%s: removing it: %v", what, err)
		}
	})
}

// restricted are the labels of a namespace that takes, and is silent about, only pods of
// the strictest level.
func restricted(t *testing.T, server *kubetest.Server, namespace string) {
	t.Helper()
	makeAccount(t, server, namespace, "default")
	labels := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted","pod-security.kubernetes.io/warn":"restricted","pod-security.kubernetes.io/audit":"restricted"}}}`)
	if _, err := server.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, labels, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// The server's own memory of the labels may lag.
	awaited(t, namespace+" refuses what is privileged", func() bool {
		return refusal(t, server.Client(), namespace, privilegedPod()) != nil
	})
}

// refusal is why a pod is not admitted.
func refusal(t *testing.T, client kubernetes.Interface, namespace string, pod *corev1.Pod) error {
	t.Helper()
	_, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil && !apierrors.IsForbidden(err) {
		t.Fatalf("pod in %s: %v", namespace, err)
	}
	if err != nil && !strings.Contains(err.Error(), "violates PodSecurity") {
		return nil
	}
	return err
}

func privilegedPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "privileged"},
		Spec: corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{
			Name: "c", Image: "registry.example/c", SecurityContext: &corev1.SecurityContext{Privileged: new(true)},
		}}},
	}
}

// TestApplied applies everything that deploy/ ships to a server that admits restricted
// pods only, where their namespaces are.
func TestApplied(t *testing.T) {
	server := cluster.Server(t)
	installKinds(t, server)
	all := manifests(t)
	const namespace = "chart"
	for _, file := range chartValues(t) {
		r := release(t, "escape", namespace, "-f", file)
		r.name = "chart with " + filepath.Base(file)
		all = append(all, r)
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			in := newInstaller(t)
			if strings.HasPrefix(r.name, "chart") {
				restricted(t, server, namespace)
			}
			in.install(r)
			in.pods(r)
		})
	}
}

// pods makes a pod of every template, which nobody else would, for there is no
// controller. It is admitted as it is, and refused when it is privileged.
func (in *installer) pods(r *rendering) {
	in.Helper()
	for _, w := range r.workloads(in.T) {
		in.priorityClass(w.template.Spec.PriorityClassName)
		pod := podOf(w)
		in.settled(w, pod)
		client := in.typed.CoreV1().Pods(w.namespace)
		made, err := client.Create(in.Context(), pod, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if err != nil {
			in.Errorf("%s: a pod of it: %v", w, err)
			continue
		}
		for _, text := range in.warnings.take() {
			in.Errorf("%s: the server warns of its pod: %s", w, text)
		}
		now := int64(0)
		if err := client.Delete(in.Context(), made.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
			in.Error(err)
		}
		if isProbe(w) && w.namespace == namespaceOf(r) {
			in.Errorf("%s is in the namespace of pods that are restricted", w)
		}
	}
}

// isProbe tells whether a workload reads files of its host, and so cannot be restricted.
func isProbe(w workload) bool {
	return w.template.Labels["app.kubernetes.io/component"] == "node-probe"
}

// settled waits until admission, which learns by and by, knows the classes of pods and
// refuses in the namespace a pod that is privileged but otherwise the same.
func (in *installer) settled(w workload, pod *corev1.Pod) {
	in.Helper()
	client := in.typed.CoreV1().Pods(w.namespace)
	if isProbe(w) {
		awaited(in, w.String()+": its class is known", func() bool {
			_, err := client.Create(in.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil || !strings.Contains(err.Error(), "no PriorityClass")
		})
	} else {
		bad := pod.DeepCopy()
		bad.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
		awaited(in, w.String()+": its namespace refuses privileged pods", func() bool {
			return refusal(in.T, in.typed, w.namespace, bad) != nil
		})
	}
	in.warnings.take()
}

// priorityClass makes a class that the values name, which is the user's to make.
func (in *installer) priorityClass(name string) {
	in.Helper()
	if name == "" || strings.HasPrefix(name, "system-") {
		return
	}
	classes := in.server.Client().SchedulingV1().PriorityClasses()
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: 1}
	if _, err := classes.Create(in.Context(), class, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		in.Fatal(err)
	}
}

// namespaceOf is the namespace of all but the node probe.
func namespaceOf(r *rendering) string {
	for _, o := range r.objects {
		if o.GetKind() == "CronJob" || o.GetKind() == "Deployment" || o.GetKind() == "Job" {
			return o.GetNamespace()
		}
	}
	return ""
}

func podOf(w workload) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *w.template.ObjectMeta.DeepCopy(), Spec: *w.template.Spec.DeepCopy()}
	pod.Name = w.name
	return pod
}

// installKinds has the server know the kinds that the scanner reads and writes, and that
// of the operator of Prometheus.
func installKinds(t *testing.T, server *kubetest.Server) {
	t.Helper()
	server.InstallCRDs(t, kubetest.KubeArmor, kubetest.Kyverno, kubetest.OpenReports, kubetest.PolicyReport)
	installKind(t, server, serviceMonitorCRD)
	installKind(t, server, rolloutCRD)
}

// installKind has the server know one kind more, for as long as it runs.
func installKind(t *testing.T, server *kubetest.Server, text string) {
	t.Helper()
	client, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	crd := decode(t, []byte(text))[0]
	if _, err := crds.Create(t.Context(), crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	awaited(t, crd.GetName()+" is served", func() bool {
		found, err := crds.Get(t.Context(), crd.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// There may be none yet.
		conditions, _, _ := unstructured.NestedSlice(found.Object, "status", "conditions")
		return slices.ContainsFunc(conditions, func(c any) bool {
			condition, ok := c.(map[string]any)
			return ok && condition["type"] == "Established" && condition["status"] == "True"
		})
	})
}

// serviceMonitorCRD is what the operator of Prometheus reads.
const serviceMonitorCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {plural: servicemonitors, singular: servicemonitor, kind: ServiceMonitor, listKind: ServiceMonitorList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`
