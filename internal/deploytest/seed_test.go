package deploytest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// seed makes the demo cluster real, with all that there is in it: workloads of every
// kind, policies of every kind that the server has, nodes, runtime classes and volumes.
func seed(t *testing.T, server *kubetest.Server) {
	t.Helper()
	installKinds(t, server)
	objects := demoObjects(t)
	makeAccounts(t, server, objects)
	var text bytes.Buffer
	for _, o := range objects {
		document, err := sigsyaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString("---\n")
		text.Write(document)
	}
	server.Apply(t, fstest.MapFS{"demo.yaml": {Data: text.Bytes()}})
}

// demoObjects are those of the demo, without what a server gives by itself.
func demoObjects(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	names, err := fs.Glob(demo.Files(), "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	known := map[string]bool{}
	for _, name := range names {
		text, err := fs.ReadFile(demo.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range decode(t, text) {
			known[string(o.GetUID())] = true
			objects = append(objects, o)
		}
	}
	for _, o := range objects {
		owners := o.GetOwnerReferences()
		for i := range owners {
			if known[string(owners[i].UID)] {
				owners[i].UID = ""
			}
		}
		if len(owners) > 0 {
			o.SetOwnerReferences(owners)
		}
		// A server that has no swap says nothing of it.
		unstructured.RemoveNestedField(o.Object, "status", "nodeInfo", "swap")
		// They are added to pods that run.
		unstructured.RemoveNestedField(o.Object, "spec", "ephemeralContainers")
		unstructured.RemoveNestedField(o.Object, "status", "ephemeralContainerStatuses")
		if o.GetKind() == "Job" {
			// Its selector has the uid that it had.
			o.Object["spec"].(map[string]any)["manualSelector"] = true
		}
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"} {
			unstructured.RemoveNestedField(o.Object, "metadata", field)
		}
	}
	return objects
}

// makeAccounts makes the namespaces and ServiceAccounts of the pods, without which the
// server admits none.
func makeAccounts(t *testing.T, server *kubetest.Server, objects []*unstructured.Unstructured) {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() != "Pod" {
			continue
		}
		name, _, err := unstructured.NestedString(o.Object, "spec", "serviceAccountName")
		if err != nil {
			t.Fatal(err)
		}
		if name == "" {
			name = "default"
		}
		makeAccount(t, server, o.GetNamespace(), name)
	}
}

func makeAccount(t *testing.T, server *kubetest.Server, namespace, name string) {
	t.Helper()
	client := server.Client().CoreV1()
	_, err := client.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	_, err = client.ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// decode reads the objects of a YAML text, those of Lists as well.
func decode(tb testing.TB, text []byte) []*unstructured.Unstructured {
	tb.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var objects []*unstructured.Unstructured
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			tb.Fatal(err)
		}
		switch {
		case len(o.Object) == 0:
		case o.IsList():
			if err := o.EachListItem(func(item runtime.Object) error {
				objects = append(objects, item.(*unstructured.Unstructured))
				return nil
			}); err != nil {
				tb.Fatal(err)
			}
		default:
			objects = append(objects, o)
		}
	}
}

// rolloutCRD is an owner of a kind that is not Kubernetes' own.
const rolloutCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rollouts.argoproj.io}
spec:
  group: argoproj.io
  scope: Namespaced
  names: {plural: rollouts, singular: rollout, kind: Rollout, listKind: RolloutList}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`
