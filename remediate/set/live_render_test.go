package set_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// A real API server with the real CRDs takes every object that is rendered, in both
// forms, and keeps every field of it.
func TestLiveServerTakesWhatIsRendered(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor, kubetest.Kyverno)
	for _, ns := range []string{"shop", "web", "infra"} {
		server.NamedNamespace(t, ns, nil)
	}
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(clientset.Discovery()))
	apply := func(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		gvk := u.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return nil, err
		}
		// Forced only because the sets of this test follow each other on the same namespaces.
		return client.Resource(mapping.Resource).Namespace(u.GetNamespace()).
			Apply(t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: remediate.FieldManager, Force: true})
	}
	applied := map[string]int{}
	for name, r := range renderings(t) {
		s := render(t, r.opts, r.facts)
		for i := range s.Objects {
			for _, u := range []*unstructured.Unstructured{s.Objects[i].Audit, s.Objects[i].Enforce} {
				if u == nil {
					continue
				}
				got, err := apply(u.DeepCopy())
				if err != nil {
					t.Errorf("%s: %s %s: %v", name, u.GetKind(), u.GetName(), err)
					continue
				}
				if lost := missing("", u.Object, got.Object); len(lost) > 0 {
					t.Errorf("%s: of %s %s the server did not keep %s", name, u.GetKind(), u.GetName(), strings.Join(lost, ", "))
				}
				applied[u.GetKind()]++
			}
		}
	}
	for _, kind := range []string{"Namespace", "ClusterPolicy", "Policy", "KubeArmorPolicy", "KubeArmorClusterPolicy"} {
		if applied[kind] == 0 {
			t.Errorf("no %s was applied", kind)
		}
	}
	// The test can fail: what the schema does not know is refused.
	broken := render(t, options(func(o *set.Options) { o.Only = []string{"capabilities"} }), set.Facts{}).Objects[0].Enforce
	if err := unstructured.SetNestedField(broken.Object, "Deny", "spec", "action"); err != nil {
		t.Fatal(err)
	}
	if _, err := apply(broken); !apierrors.IsInvalid(err) {
		t.Errorf("an unknown action: %v", err)
	}
}

// missing are the fields of want that got lacks or has another value for.
func missing(at string, want, got any) []string {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		var lost []string
		for key, value := range w {
			lost = append(lost, missing(at+"."+key, value, g[key])...)
		}
		slices.Sort(lost)
		return lost
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return []string{at}
		}
		var lost []string
		for i := range w {
			lost = append(lost, missing(fmt.Sprintf("%s[%d]", at, i), w[i], g[i])...)
		}
		return lost
	}
	if !reflect.DeepEqual(want, got) {
		return []string{at}
	}
	return nil
}
