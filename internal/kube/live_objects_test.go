package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

var (
	kindKSP     = schema.GroupKind{Group: "security.kubearmor.com", Kind: "KubeArmorPolicy"}
	kindKyverno = schema.GroupKind{Group: "kyverno.io", Kind: "ClusterPolicy"}
	kindVAP     = schema.GroupKind{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}
)

// objectNames reads the objects of a kind: what of each a reader of JSON needs.
func objectNames(t *testing.T, config *rest.Config, opts Options, kind schema.GroupKind) ([]string, error) {
	t.Helper()
	cluster, err := NewCluster(config, opts)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = cluster.Objects(t.Context(), kind, func(object []byte) error {
		var o struct {
			metav1.TypeMeta
			metav1.ObjectMeta `json:"metadata"`
			Spec              map[string]any
		}
		if err := json.Unmarshal(object, &o); err != nil {
			return err
		}
		if len(o.Spec) == 0 {
			t.Errorf("%s: no spec", object)
		}
		names = append(names, strings.Join([]string{o.APIVersion, o.Kind, o.Namespace, o.Name}, " "))
		return nil
	})
	return names, err
}

func policies(namespace string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `---
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: policy-%03d, namespace: %s}
spec: {selector: {matchLabels: {app: web}}, process: {matchPaths: [{path: /usr/bin/curl}]}, action: Block}
`, i, namespace)
	}
	return b.String()
}

func TestLiveObjectsAreReadWholeAndPageByPage(t *testing.T) {
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	namespace := server.Namespace(t, nil)
	server.ApplyYAML(t, policies(namespace, 7))
	server.ApplyYAML(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: objects-test}
spec: {matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}, validations: [{expression: "true"}]}
`)
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("security.kubearmor.com/v1 KubeArmorPolicy %s policy-%03d", namespace, i))
	}
	for _, size := range []int64{1, 3, 7, 500} {
		got, err := objectNames(t, server.Config(), Options{PageSize: size}, kindKSP)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q, want %q (%v)", size, got, want, err)
		}
	}
	// Of a kind of its own the server leaves out what the list says already.
	got, err := objectNames(t, server.Config(), Options{}, kindVAP)
	if want := "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy  objects-test"; err != nil || !slices.Contains(got, want) {
		t.Errorf("%q, want %q (%v)", got, want, err)
	}
}

func TestLiveObjectsOfAKindThatIsNotServed(t *testing.T) {
	for _, kind := range []schema.GroupKind{kindKyverno, {Group: kindVAP.Group, Kind: "NoSuchKind"}} {
		_, err := objectNames(t, live.Server(t).Config(), Options{}, kind)
		if !errors.Is(err, scan.ErrNotServed) {
			t.Errorf("%s: %v, want that it is not served", kind, err)
		}
	}
}

func TestLiveObjectsForbidden(t *testing.T) {
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	user := server.User(t, "objects-nobody")
	if _, err := objectNames(t, user, Options{}, kindKSP); !apierrors.IsForbidden(err) {
		t.Errorf("without rights: %v, want forbidden", err)
	}
	server.Allow(t, "objects-nobody", "", rbacv1.PolicyRule{APIGroups: []string{kindKSP.Group}, Resources: []string{"kubearmorpolicies"}, Verbs: []string{"list"}})
	if _, err := objectNames(t, user, Options{}, kindKSP); err != nil {
		t.Errorf("allowed: %v", err)
	}
	// Who may not even know what is served does not know that it is not.
	refuse := kubetest.NewProxy(t, user, func(r *http.Request) kubetest.Action {
		if r.URL.Path == "/apis" || r.URL.Path == "/api" {
			return kubetest.Forbidden("no discovery")
		}
		return kubetest.Pass()
	})
	if _, err := objectNames(t, refuse.Config(), Options{}, kindKyverno); err == nil || errors.Is(err, scan.ErrNotServed) {
		t.Errorf("without discovery: %v, want an error that says nothing of what is served", err)
	}
}

func TestLiveObjectsGoOnInANewerSnapshot(t *testing.T) {
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	namespace := server.Namespace(t, nil)
	server.ApplyYAML(t, policies(namespace, 5))
	for _, token := range []bool{true, false} {
		t.Run(fmt.Sprintf("token=%v", token), func(t *testing.T) {
			expired := false
			proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
				next := r.URL.Query().Get("continue")
				if next == "" || expired || !strings.HasSuffix(r.URL.Path, "/kubearmorpolicies") {
					return kubetest.Pass()
				}
				expired = true
				if !token {
					next = ""
				}
				return kubetest.Gone(next)
			})
			got, err := objectNames(t, proxy.Config(), Options{PageSize: 2}, kindKSP)
			if err != nil || len(got) != 5 || !expired {
				t.Errorf("%q, want 5 policies once each (%v), expired %v", got, err, expired)
			}
		})
	}
}

// A server of another group that is down does not tell what it serves: its kinds are
// not absent.
func TestLiveObjectsOfABrokenAPIServiceAreNotAbsent(t *testing.T) {
	server := live.Server(t)
	server.ApplyYAML(t, `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.policies.kyverno.io}
spec: {group: policies.kyverno.io, version: v1, groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true, service: {name: gone, namespace: default}}
`)
	// Until the API server has taken that in there is no such group.
	awaitGroup(t, server, "policies.kyverno.io")
	kind := schema.GroupKind{Group: "policies.kyverno.io", Kind: "ValidatingPolicy"}
	if _, err := objectNames(t, server.Config(), Options{}, kind); err == nil || errors.Is(err, scan.ErrNotServed) {
		t.Errorf("%v, want an error that does not say that there are none", err)
	}
	// The other groups are not touched by it.
	if _, err := objectNames(t, server.Config(), Options{}, kindVAP); err != nil {
		t.Error(err)
	}
	if _, err := objectNames(t, server.Config(), Options{}, kindKyverno); !errors.Is(err, scan.ErrNotServed) {
		t.Errorf("%v, want that it is not served", err)
	}
}

func TestLiveObjectsStopWhenTheVisitorFails(t *testing.T) {
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	server.ApplyYAML(t, policies(server.Namespace(t, nil), 3))
	cluster := liveCluster(t, server, Options{PageSize: 1})
	stop := apierrors.NewNotFound(schema.GroupResource{}, "of the visitor's own")
	visits := 0
	err := cluster.Objects(t.Context(), kindKSP, func([]byte) error {
		visits++
		return stop
	})
	if visits != 1 || !errors.Is(err, stop) || errors.Is(err, scan.ErrNotServed) {
		t.Errorf("%d visits and %v", visits, err)
	}
}

func TestRawItemsOfAnAnswerThatIsNoList(t *testing.T) {
	for _, text := range []string{
		"", "null ", "<html>", `{"items": []}`, `{"kind": "Status"}`,
		`{"kind": "XList", "items": 1}`, `{"kind": "XList", "items": [1]}`, `{"kind": "XList", "items": [null]}`,
		`{"kind": "XList", "items": [{"metadata": []}]}`,
	} {
		objects, _, err := rawItems([]byte(text), kindKSP.WithVersion("v1"))
		if err == nil {
			t.Errorf("%q gave %q and no error", text, objects)
		}
	}
}

// BenchmarkLiveObjects reads 500 policies of KubeArmor.
func BenchmarkLiveObjects(b *testing.B) {
	server := live.Server(b)
	server.InstallCRDs(b, kubetest.KubeArmor)
	server.ApplyYAML(b, policies(server.Namespace(b, nil), 500))
	cluster, err := NewCluster(server.Config(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n := 0
		if err := cluster.Objects(b.Context(), kindKSP, func([]byte) error { n++; return nil }); err != nil || n != 500 {
			b.Fatalf("%d policies: %v", n, err)
		}
	}
}

// awaitGroup waits until the API server lists a group, in the form of the list that clients
// ask for.
func awaitGroup(t *testing.T, server *kubetest.Server, group string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		list, err := server.Client().Discovery().RESTClient().Get().AbsPath("/apis").
			SetHeader("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList").DoRaw(t.Context())
		if err == nil && strings.Contains(string(list), fmt.Sprintf("%q", group)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("group %s: %v", group, err)
		}
	}
}
