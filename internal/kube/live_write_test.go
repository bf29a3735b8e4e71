package kube

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

func liveWriter(t *testing.T, config *rest.Config) *Writer {
	t.Helper()
	return clusterOf(t, config).Writer()
}

func objectOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	content, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = u.UnmarshalJSON(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// settings is a ConfigMap with one key.
func settings(t *testing.T, namespace, name, key, value string) *unstructured.Unstructured {
	t.Helper()
	return objectOf(t, "{apiVersion: v1, kind: ConfigMap, metadata: {namespace: "+namespace+", name: "+name+"}, data: {"+key+": "+value+"}}")
}

// wantData compares what the server holds.
func wantData(t *testing.T, w *Writer, ref remediate.Ref, want map[string]string) *unstructured.Unstructured {
	t.Helper()
	u, err := w.Get(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := unstructured.NestedStringMap(u.Object, "data")
	if err != nil || len(got) != len(want) {
		t.Errorf("%s holds %v, want %v (%v)", ref, got, want, err)
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s holds %v, want %v", ref, got, want)
		}
	}
	return u
}

func TestLiveWrites(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	w := liveWriter(t, server.Config())
	ctx := t.Context()
	object := settings(t, ns, "a", "k", "v")
	ref := remediate.RefOf(object)

	// A dry run tells what would be, and keeps nothing.
	written, err := w.Apply(ctx, object, remediate.WriteOptions{DryRun: true})
	if err != nil || written.Object.GetName() != "a" {
		t.Fatalf("dry run: %v", err)
	}
	if _, err := w.Get(ctx, ref); !apierrors.IsNotFound(err) || errors.Is(err, scan.ErrNotServed) {
		t.Fatalf("after a dry run: %v", err)
	}
	written, err = w.Apply(ctx, object, remediate.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if m := written.Object.GetManagedFields(); len(m) != 1 || m[0].Manager != remediate.FieldManager || m[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managed by %+v", m)
	}
	if _, err := w.Create(ctx, object, remediate.WriteOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("creating what is there: %v", err)
	}

	// Somebody else changes it: whoever saw the state before is told.
	stale := object.DeepCopy()
	stale.SetResourceVersion(written.Object.GetResourceVersion())
	changed := written.Object.DeepCopy()
	_ = unstructured.SetNestedField(changed.Object, "theirs", "data", "other")
	kubectl := dynamicOf(t, server).Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(ns)
	if _, err := kubectl.Update(ctx, changed, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(ctx, stale, remediate.WriteOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("applying over a change that was not seen: %v", err)
	}
	if _, err := w.Update(ctx, written.Object, remediate.WriteOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("replacing over a change that was not seen: %v", err)
	}
	if _, err := w.Update(ctx, object, remediate.WriteOptions{}); err == nil || !strings.Contains(err.Error(), "resourceVersion") {
		t.Errorf("replacing whatever is there: %v", err)
	}

	// A field of somebody else's is a conflict that names them, and can be taken over.
	mine := settings(t, ns, "a", "other", "ours")
	_, err = w.Apply(ctx, mine, remediate.WriteOptions{})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "kubectl-edit") || !strings.Contains(err.Error(), "ConfigMap "+ns+"/a") {
		t.Errorf("a field of another: %v", err)
	}
	if _, err = w.Apply(ctx, mine, remediate.WriteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	now := wantData(t, w, ref, map[string]string{"other": "ours"})

	// Only this object, and only as it was seen.
	if err := w.Delete(ctx, ref, "", "", remediate.WriteOptions{}); err == nil {
		t.Error("deleted whatever has the name")
	}
	if err := w.Delete(ctx, ref, types.UID("00000000-0000-0000-0000-000000000000"), "", remediate.WriteOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("deleting another object: %v", err)
	}
	if err := w.Delete(ctx, ref, now.GetUID(), written.Object.GetResourceVersion(), remediate.WriteOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("deleting what has changed: %v", err)
	}
	if err := w.Delete(ctx, ref, now.GetUID(), now.GetResourceVersion(), remediate.WriteOptions{DryRun: true}); err != nil {
		t.Error(err)
	}
	wantData(t, w, ref, map[string]string{"other": "ours"})
	if err := w.Delete(ctx, ref, now.GetUID(), now.GetResourceVersion(), remediate.WriteOptions{}); err != nil {
		t.Error(err)
	}
	if err := w.Delete(ctx, ref, now.GetUID(), "", remediate.WriteOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("deleting twice: %v", err)
	}
}

func dynamicOf(t *testing.T, server *kubetest.Server) dynamic.Interface {
	t.Helper()
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestLiveWritesToTheClustersOwn(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	w := liveWriter(t, server.Config())
	policy := objectOf(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: live-writes, labels: {live: writes}}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: "object.spec.nothing == 1"}]
`)
	written, err := w.Create(t.Context(), policy, remediate.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ref := remediate.RefOf(policy)
	t.Cleanup(func() {
		if err := w.Delete(context.WithoutCancel(t.Context()), ref, written.Object.GetUID(), "", remediate.WriteOptions{}); err != nil {
			t.Error(err)
		}
	})
	list, err := w.List(t.Context(), ref.GroupKind(), "", "live=writes")
	if err != nil || len(list) != 1 || remediate.RefOf(&list[0]) != ref {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, err = w.List(t.Context(), ref.GroupKind(), "", "live=reads"); err != nil || len(list) != 0 {
		t.Errorf("list of others: %v, %v", list, err)
	}
	// A namespace that warns: what the server says along comes back.
	ns := server.Namespace(t, map[string]string{"pod-security.kubernetes.io/warn": "baseline"})
	pod := objectOf(t, "{apiVersion: v1, kind: Pod, metadata: {namespace: "+ns+", name: p}, spec: {hostPID: true, containers: [{name: a, image: b}]}}")
	said, err := w.Create(t.Context(), pod, remediate.WriteOptions{DryRun: true})
	if err != nil || !slices.ContainsFunc(said.Warnings, func(s string) bool { return strings.Contains(s, "hostPID=true") }) {
		t.Errorf("warnings %+v, %v", said, err)
	}
}

func TestLiveWritesThatCannotBe(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	w := liveWriter(t, server.Config())
	for _, test := range []struct {
		name, object, want string
		is                 func(error) bool
	}{
		{"kind", "{apiVersion: gone.example/v1, kind: Gone, metadata: {name: a}}", "Gone a: the API server does not serve", func(err error) bool { return errors.Is(err, scan.ErrNotServed) }},
		{"version", "{apiVersion: apps/v1beta1, kind: Deployment, metadata: {name: a, namespace: b}}", "v1beta1", func(err error) bool {
			other, ok := errors.AsType[*remediate.OtherVersionError](err)
			return ok && other.Served == "apps/v1" && !errors.Is(err, scan.ErrNotServed)
		}},
		{"namespace", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: not-here}}", "ConfigMap not-here/a", apierrors.IsNotFound},
		{"no namespace", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}", "none is given", nil},
		{"a namespace too much", "{apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: b}}", "in no namespace", nil},
		{"no name", "{apiVersion: v1, kind: Namespace, metadata: {generateName: a}}", "without a name", nil},
		{"path", "{apiVersion: v1, kind: ConfigMap, metadata: {name: ../../secrets/a, namespace: " + ns + "}}", "invalid", nil},
		{"unknown field", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: " + ns + "}, daata: {a: b}}", "daata", nil},
		{"invalid", "{apiVersion: v1, kind: ConfigMap, metadata: {name: A, namespace: " + ns + "}}", "ConfigMap " + ns + "/A", apierrors.IsInvalid},
	} {
		for verb, write := range map[string]func(context.Context, *unstructured.Unstructured, remediate.WriteOptions) (*remediate.Written, error){"apply": w.Apply, "create": w.Create} {
			if test.name == "path" && verb == "create" {
				continue // The name is not in the path then, and invalid as any.
			}
			_, err := write(t.Context(), objectOf(t, test.object), remediate.WriteOptions{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), verb+" ") || test.is != nil && !test.is(err) {
				t.Errorf("%s of a wrong %s: %v", verb, test.name, err)
			}
		}
	}
	user := liveWriter(t, server.User(t, "writes-nothing"))
	if _, err := user.Apply(t.Context(), settings(t, ns, "a", "k", "v"), remediate.WriteOptions{}); !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), "apply ConfigMap "+ns+"/a: ") {
		t.Errorf("without rights: %v", err)
	}
}

// A kind that comes and goes while the program runs is seen.
func TestLiveWritesKindThatComesAndGoes(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	w := liveWriter(t, server.Config())
	fruit := objectOf(t, "{apiVersion: fruits.example/v1, kind: Fruit, metadata: {name: a}}")
	if _, err := w.Get(t.Context(), remediate.RefOf(fruit)); !errors.Is(err, scan.ErrNotServed) {
		t.Fatalf("before: %v", err)
	}
	crd := objectOf(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fruits.fruits.example}
spec:
  group: fruits.example
  scope: Cluster
  names: {plural: fruits, singular: fruit, kind: Fruit, listKind: FruitList}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`)
	made, err := w.Create(t.Context(), crd, remediate.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kind is served", func() bool {
		_, err := w.Get(t.Context(), remediate.RefOf(fruit))
		return apierrors.IsNotFound(err) && !errors.Is(err, scan.ErrNotServed)
	})
	if err := w.Delete(t.Context(), remediate.RefOf(crd), made.Object.GetUID(), "", remediate.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kind is gone", func() bool {
		_, err := w.Apply(t.Context(), fruit, remediate.WriteOptions{DryRun: true})
		return errors.Is(err, scan.ErrNotServed)
	})
}

// A write is made once whatever comes back, a read as often as elsewhere.
func TestLiveWritesOnce(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	for name, action := range map[string]kubetest.Action{
		"cut":      kubetest.Cut(),
		"wait":     kubetest.TooManyRequests(1),
		"broken":   kubetest.InternalError("no"),
		"cut late": kubetest.CutAfter(10),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var writes, reads atomic.Int64
			proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
				if !strings.Contains(r.URL.Path, "/configmaps") {
					return kubetest.Pass()
				}
				if r.Method == http.MethodGet {
					if reads.Add(1) == 1 {
						return action
					}
					return kubetest.Pass()
				}
				writes.Add(1)
				return action
			})
			w := liveWriter(t, proxy.Config())
			object := settings(t, ns, "once-"+strings.ReplaceAll(name, " ", "-"), "k", "v")
			ref := remediate.RefOf(object)
			if _, err := w.Apply(t.Context(), object, remediate.WriteOptions{}); err == nil || !strings.HasPrefix(err.Error(), "apply "+ref.String()+": ") {
				t.Errorf("apply: %v", err)
			}
			_, err := w.Get(t.Context(), ref)
			if cameThrough := name == "cut late"; cameThrough != (err == nil) || err != nil && !apierrors.IsNotFound(err) {
				t.Errorf("afterwards: %v", err)
			}
			if writes.Load() != 1 || reads.Load() < 2 {
				t.Errorf("%d writes, %d reads", writes.Load(), reads.Load())
			}
		})
	}
}

// A webhook that does not answer is told with the object's name.
func TestLiveWritesWebhookTimeout(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, map[string]string{"webhook": "writes"})
	server.ApplyYAML(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: live-writes-nowhere}
webhooks:
- name: nowhere.example.com
  clientConfig: {url: "https://127.0.0.1:1/nowhere"}
  failurePolicy: Fail
  timeoutSeconds: 1
  sideEffects: None
  admissionReviewVersions: [v1]
  namespaceSelector: {matchLabels: {webhook: writes}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
`)
	w := liveWriter(t, server.Config())
	eventually(t, "the webhook is asked", func() bool {
		_, err := w.Create(t.Context(), settings(t, ns, "a", "k", "v"), remediate.WriteOptions{DryRun: true})
		return err != nil && strings.HasPrefix(err.Error(), "create ConfigMap "+ns+"/a: ") && strings.Contains(err.Error(), "nowhere.example.com")
	})
}

func TestLiveWritesWithRightsToThem(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	user := server.User(t, "writes-some")
	server.Allow(t, "writes-some", ns, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "patch", "create"}})
	w := liveWriter(t, user)
	object := settings(t, ns, "a", "k", "v")
	if _, err := w.Apply(t.Context(), object, remediate.WriteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := w.Apply(t.Context(), object, remediate.WriteOptions{}); err != nil {
		t.Error(err)
	}
}
