package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// right is a right as a request uses it, and a role grants it.
type right struct{ verb, group, resource, namespace string }

func (r right) String() string {
	return fmt.Sprintf("%s %s.%s in %q", r.verb, r.resource, r.group, r.namespace)
}

// rightOf is what a request needs, false where everybody may ask.
func rightOf(r *http.Request) (right, bool) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	is := right{}
	switch {
	case len(parts) > 3 && parts[0] == "apis":
		is.group, parts = parts[1], parts[3:]
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	default:
		return right{}, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		is.namespace, parts = parts[1], parts[2:]
	}
	is.resource = parts[0]
	if len(parts) > 2 {
		is.resource += "/" + parts[2]
	}
	switch {
	case r.Method == http.MethodGet && len(parts) > 1:
		is.verb = "get"
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		is.verb = "watch"
	case r.Method == http.MethodGet:
		is.verb = "list"
	default:
		is.verb = map[string]string{http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	}
	return is, true
}

// gate stands before the API server, notes what is used and what is refused, and refuses
// what a test wants refused.
type gate struct {
	mu      sync.Mutex
	used    map[right]bool
	refused map[right]bool
	shut    func(right) bool
}

// noted is an answer whose code is noted.
type noted struct {
	http.ResponseWriter
	code func(int)
}

func (n noted) WriteHeader(code int) {
	n.code(code)
	n.ResponseWriter.WriteHeader(code)
}

func (n noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func (g *gate) hook(r *http.Request) kubetest.Action {
	is, counts := rightOf(r)
	if !counts {
		return kubetest.Pass()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil && g.shut(is) {
		return kubetest.Forbidden(fmt.Sprintf("%s is forbidden: cannot %s", is.resource, is.verb))
	}
	g.used[is] = true
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(noted{w, func(code int) {
			if code == http.StatusForbidden {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.refused[is] = true
			}
		}}, r)
	}
}

func (g *gate) refuse(shut func(right) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

// printedRoles are the roles that a command with --rbac prints, by namespace.
func printedRoles(t *testing.T, command string, flags ...string) map[string][]rbacv1.PolicyRule {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), testDeps(t.TempDir()), strings.NewReader(""), append([]string{command, "--rbac"}, flags...)...)
	if code != exitOK {
		t.Fatalf("it ends with %d: %s", code, stderr)
	}
	rules := map[string][]rbacv1.PolicyRule{}
	reader := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(stdout)), 4096)
	for {
		var role rbacv1.ClusterRole
		err := reader.Decode(&role)
		if errors.Is(err, io.EOF) {
			return rules
		}
		if err != nil {
			t.Fatal(err)
		}
		rules[role.Namespace] = append(rules[role.Namespace], role.Rules...)
	}
}

// watchAs starts a watch by a user who may do what the roles for its flags grant.
func watchAs(t *testing.T, server *kubetest.Server, name string, more []string, flags ...string) (*watched, *gate, []right) {
	t.Helper()
	var granted []right
	for namespace, rules := range printedRoles(t, "watch", flags...) {
		server.Allow(t, name, namespace, rules...)
		for _, rule := range rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					granted = append(granted, right{verb, rule.APIGroups[0], resource, namespace})
				}
			}
		}
	}
	g := &gate{used: map[right]bool{}, refused: map[right]bool{}}
	proxy := kubetest.NewProxy(t, server.User(t, name), g.hook)
	w := startWatch(t, proxy.Config(), append(flags, more...)...)
	return w, g, granted
}

// unused are the rights of what was granted that no request took.
func (g *gate) unused(granted []right) (list []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, is := range granted {
		took := func(u right) bool {
			// Where a watch can begin with a list, the list is left for servers that are older.
			return (u.verb == is.verb || u.verb == "watch" && is.verb == "list") && u.group == is.group && u.resource == is.resource && (is.namespace == "" || u.namespace == is.namespace)
		}
		found := false
		for u := range g.used {
			found = found || took(u)
		}
		if !found {
			list = append(list, is.String())
		}
	}
	slices.Sort(list)
	return list
}

// wantNothingRefused fails where a right was missing.
func wantNothingRefused(t *testing.T, w *watched, g *gate) {
	t.Helper()
	g.mu.Lock()
	for is := range g.refused {
		t.Errorf("it may not %s", is)
	}
	g.mu.Unlock()
	w.mu.Lock()
	for _, f := range w.state.Failures() {
		t.Errorf("it says that it fails: %+v", f)
	}
	w.mu.Unlock()
	if said := w.said(); strings.Contains(said, "warning") {
		t.Errorf("it warns:\n%s", said)
	}
}

func reportsIn(t *testing.T, config *rest.Config, namespace string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{Group: "openreports.io", Version: "v1alpha1", Resource: "reports"}).Namespace(namespace)
}

// touchReport changes the one report of a namespace.
func touchReport(t *testing.T, config *rest.Config, namespace string) {
	t.Helper()
	reports := reportsIn(t, config, namespace)
	list, err := reports.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("reports: %v, %v", list, err)
	}
	patch := []byte(`{"metadata":{"annotations":{"who":"somebody"}}}`)
	if _, err := reports.Patch(t.Context(), list.Items[0].GetName(), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// reportsAbout counts the reports about workloads of a name.
func reportsAbout(t *testing.T, config *rest.Config, namespace, name string) int {
	t.Helper()
	list, err := reportsIn(t, config, namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), fmt.Sprintf(`"scope":{"apiVersion":"v1","kind":"Pod","name":%q`, name))
}

const rightsPod = `
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec: {nodeName: node1, hostPID: true, containers: [{name: web, image: registry.example/web}]}
`

// TestLiveWatchRights follows a cluster with the rights that are printed for it: they are
// enough, there is none among them that is not used, and where one is missing it is said.
func TestLiveWatchRights(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	server.InstallCRDs(t, kubetest.OpenReports)
	for _, name := range []string{"shop", "other", "kubearmor", "lease"} {
		server.NamedNamespace(t, name, nil)
	}
	flags := []string{"--reports", "auto", "--events", "--leader-elect", "--lease-namespace", "lease", "--lease-name", "rights"}
	t.Run("of the cluster", func(t *testing.T) {
		w, g := testWatchRights(t, server, "other", flags...)
		testRefused(t, server, w, g)
		if code := w.stop(); code != exitOK {
			t.Errorf("it ends with %d", code)
		}
	})
	t.Run("of a namespace", func(t *testing.T) {
		testWatchRights(t, server, "shop", append(flags, "-n", "shop")...)
	})
}

// testWatchRights has a watch do all that it may, in a namespace.
func testWatchRights(t *testing.T, server *kubetest.Server, namespace string, flags ...string) (*watched, *gate) {
	t.Helper()
	relay := armortest.New(t, armortest.Options{})
	flags = append(flags, "--kubearmor", relay.Address())
	w, g, granted := watchAs(t, server, "watch-"+namespace, []string{"--leader-id", "watch-" + namespace}, flags...)
	w.untilPicture()
	relay.Await(1)
	server.ApplyYAML(t, fmt.Sprintf(rightsPod, "one", namespace))
	awaited(t, "a report", func() bool { return reportsAbout(t, server.Config(), namespace, "one") == 1 })
	awaited(t, "an Event", func() bool { return eventsAbout(t, server, namespace, "one") > 0 })
	attack := armortest.Recording(t, "../../testdata/alerts/block-nothrottle.jsonl")[:20]
	for _, a := range attack {
		a.NamespaceName, a.PodName, a.ContainerName = namespace, "one", "web"
	}
	relay.Send(attack...)

	// What somebody else did to a report is read before it is written again.
	touchReport(t, server.Config(), namespace)
	label := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"baseline"}}}`)
	if _, err := server.Client().CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	uses := func(verb, group, resource string) func() bool {
		return func() bool { return len(g.unused([]right{{verb, group, resource, namespace}})) == 0 }
	}
	awaited(t, "an update of the report", uses("update", "openreports.io", "reports"))
	awaited(t, "a look at the report", uses("get", "openreports.io", "reports"))
	relay.Send(attack...)
	awaited(t, "an Event that is repeated", uses("patch", "events.k8s.io", "events"))
	now := int64(0)
	if err := server.Client().CoreV1().Pods(namespace).Delete(t.Context(), "one", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	awaited(t, "no report", func() bool { return reportsAbout(t, server.Config(), namespace, "one") == 0 })
	wantNothingRefused(t, w, g)
	for _, is := range g.unused(granted) {
		if !slices.ContainsFunc(nothingThere, func(part string) bool { return strings.Contains(is, part) }) {
			t.Errorf("it may %s, and does not", is)
		}
	}
	return w, g
}

// nothingThere are rights to what this cluster has none of.
var nothingThere = []string{
	".kyverno.io", ".policies.kyverno.io", ".wgpolicyk8s.io", " clusterreports.",
	"get replicationcontrollers.", "get namespaces.", "get deployments.", "get replicasets.", "get statefulsets.", "get daemonsets.",
	"get jobs.", "get cronjobs.", "get kubearmorpolicies.", "get kubearmorclusterpolicies.",
	// Of some namespaces the owners are read where pods have one.
	`.apps in "shop"`, `.batch in "shop"`, `replicationcontrollers. in "shop"`, `events.events.k8s.io in "default"`,
	`create leases.coordination.k8s.io`,
}

// testRefused takes rights away from a watch that had them. That those to read are missed
// is told where the mirror is tried.
func testRefused(t *testing.T, server *kubetest.Server, w *watched, g *gate) {
	t.Helper()
	g.refuse(func(is right) bool {
		return is.verb == "create" && is.resource == "reports" || is.verb == "get" && is.resource == "pods" || is.verb == "update" && is.resource == "leases"
	})
	server.ApplyYAML(t, fmt.Sprintf(rightsPod, "two", "lease"))
	for _, part := range []string{"warning: reports: ", "warning: events: without its UID", "warning: lease "} {
		awaited(t, part, func() bool { return strings.Contains(w.said(), part) })
	}
	g.refuse(func(is right) bool { return is.verb == "create" && is.resource == "events" })
	server.ApplyYAML(t, fmt.Sprintf(rightsPod, "three", "lease"))
	awaited(t, "an Event that may not be", func() bool { return strings.Contains(w.said(), "warning: events: create event") })
	g.refuse(nil)
	awaited(t, "the report after all", func() bool { return reportsAbout(t, server.Config(), "lease", "two") == 1 })
	awaited(t, "its end is told", func() bool { return strings.Contains(w.said(), "note: reports: works again") })
}

func eventsAbout(t *testing.T, server *kubetest.Server, namespace, name string) (n int) {
	t.Helper()
	list, err := server.Client().EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].ReportingController == "escape-scanner" && list.Items[i].Regarding.Name == name {
			n++
		}
	}
	return n
}
