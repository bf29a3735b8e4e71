package main

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// liveRights are the rights that a scan of everything uses, by resource.
func liveRights() map[string]rbacv1.PolicyRule {
	rights := map[string]rbacv1.PolicyRule{}
	for group, resources := range map[string][]string{
		"":                             {"nodes", "namespaces", "pods", "replicationcontrollers", "persistentvolumes"},
		"apps":                         {"replicasets", "deployments", "statefulsets", "daemonsets"},
		"batch":                        {"jobs", "cronjobs"},
		"node.k8s.io":                  {"runtimeclasses"},
		"admissionregistration.k8s.io": {"validatingadmissionpolicies", "validatingadmissionpolicybindings"},
		rolloutKind.Group:              {"rollouts"},
	} {
		for _, resource := range resources {
			verb := "list"
			if resource == "rollouts" {
				verb = "get"
			}
			rights[resource] = rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: []string{verb}}
		}
	}
	return rights
}

// userWithout makes a user who has every right but those named.
func userWithout(t *testing.T, server *kubetest.Server, name string, without ...string) *rest.Config {
	t.Helper()
	rights := liveRights()
	for _, resource := range without {
		if _, ok := rights[resource]; !ok {
			t.Fatalf("no right to %s", resource)
		}
		delete(rights, resource)
	}
	server.Allow(t, name, "", slices.Collect(maps.Values(rights))...)
	return server.User(t, name)
}

func TestLiveWithoutOneRight(t *testing.T) {
	s := newLiveSpace(t)
	s.installRollouts()
	runtimes := s.server.Client().NodeV1().RuntimeClasses()
	class := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "boxed"}, Handler: "runsc"}
	if _, err := runtimes.Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtimes.Delete(s.cleanup(), "boxed", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"))
	s.pod("web-5d8f-b", ownedBy(set, "5d8f"))
	s.pod("web-5d8f-c", ownedBy(set, "5d8f"), privileged)
	s.pod("shop-a", ownedBy(s.rollout("shop"), ""))
	// Of the class nothing but its handler tells that it is a sandbox.
	s.pod("boxed", func(p *corev1.Pod) { p.Spec.RuntimeClassName, p.Spec.HostPID = new("boxed"), true })

	const unverified = " (not verified: could not be read)"
	for _, test := range []struct {
		without string
		failed  string
		rows    []string
		claims  map[string]string
	}{
		{without: "nodes", failed: "nodes: forbidden"},
		{without: "namespaces", failed: "namespaces: forbidden"},
		// What would be closed by a sandbox hangs on whether it is one.
		{without: "runtimeclasses", failed: "runtime classes: forbidden", rows: []string{
			"Deployment/web closed 2", "Rollout/shop closed 1", "Pod/boxed unknown 1",
		}},
		{
			without: "replicasets", failed: "ReplicaSet: forbidden",
			claims: map[string]string{"Deployment/web": "Deployment/web (not verified: its ReplicaSets could not be read)"},
		},
		{
			without: "deployments", failed: "Deployment: forbidden",
			rows:   []string{"ReplicaSet/web-5d8f closed 2", "Rollout/shop closed 1", "Pod/boxed closed 1"},
			claims: map[string]string{"ReplicaSet/web-5d8f": "Deployment/web" + unverified},
		},
		{
			without: "rollouts", failed: "Rollout: forbidden",
			claims: map[string]string{"Rollout/shop": "Rollout/shop" + unverified},
		},
	} {
		t.Run(test.without, func(t *testing.T) {
			user := userWithout(t, s.server, "live-without-"+test.without, test.without)
			rows := test.rows
			if rows == nil {
				rows = []string{"Deployment/web closed 2", "Rollout/shop closed 1", "Pod/boxed closed 1"}
			}
			rows = append(rows, "Pod/web-5d8f-c exposed 1")

			a := liveScan(t, user)
			a.wantRows(t, s.name, rows...)
			if got := a.failed(); a.code != exitIncomplete || !a.end.Incomplete || !slices.Equal(got, []string{test.failed}) {
				t.Errorf("exit %d, failures %q, want %q", a.code, got, test.failed)
			}
			for _, f := range a.failures {
				if !strings.Contains(f.Message, "live-without-"+test.without) || f.Affects == "" || strings.Contains(f.Message, "\n") {
					t.Errorf("failure: %+v", f)
				}
			}
			for workload, claims := range test.claims {
				if got := a.verdict(t, s.workload(workload)).Claims; got != claims {
					t.Errorf("%s claims %q, want %q", workload, got, claims)
				}
			}
			if code := liveScan(t, user, "--allow-incomplete").code; code != exitFindings {
				t.Errorf("--allow-incomplete: exit %d", code)
			}
			if code := liveScan(t, user, "--allow-incomplete", "--fail-on", "none").code; code != exitOK {
				t.Errorf("--allow-incomplete --fail-on none: exit %d", code)
			}
		})
	}

	all := liveScan(t, userWithout(t, s.server, "live-without-nothing"))
	all.wantComplete(t, exitFindings)
	// Only a class that was read takes force from a finding.
	if f := all.finding(t, s.workload("Pod/boxed"), "hostNamespaces"); len(f.Lowered) > 0 {
		t.Errorf("a control of the standards was lowered: %+v", f)
	}
}

// What a class of runtimes would take from a finding is not taken when the class
// could not be read.
func TestLiveUnreadRuntimeClassLowersNothing(t *testing.T) {
	s := newLiveSpace(t)
	user := userWithout(t, s.server, "live-no-classes", "runtimeclasses")
	s.pod("plain")
	// Nobody asks for classes when no pod names one.
	liveScan(t, user).wantComplete(t, exitOK)
}

// Who has the roles that scan --rbac prints sees what an administrator sees, with the
// flags that it was given and no others.
func TestLiveWithThePrintedRoles(t *testing.T) {
	s := newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"))
	s.pod("open", privileged)
	for name, flags := range map[string][]string{"all": nil, "some": {"-n", s.name}, "asking": {"-n", s.name, "--ask-server"}} {
		t.Run(name, func(t *testing.T) {
			for namespace, rules := range printedRoles(t, "scan", flags...) {
				s.server.Allow(t, "live-printed-"+name, namespace, rules...)
			}
			user := s.server.User(t, "live-printed-"+name)
			have, want := liveScan(t, user, flags...), liveScan(t, s.server.Config(), flags...)
			have.wantComplete(t, exitFindings)
			if len(want.rows()) == 0 || !slices.Equal(have.rows(), want.rows()) {
				t.Errorf("have %q, want %q", have.rows(), want.rows())
			}
		})
	}
}

func TestLivePodsOfSomeNamespaces(t *testing.T) {
	one, two := newLiveSpace(t), newLiveSpace(t)
	one.pod("seen", privileged)
	two.pod("unseen", privileged)
	user := userWithout(t, one.server, "live-some", "pods")
	one.server.Allow(t, "live-some", one.name, liveRights()["pods"])

	a := liveScan(t, user)
	if a.code != exitIncomplete {
		t.Errorf("exit %d", a.code)
	}
	if got := a.verdict(t, one.workload("Pod/seen")); got.Verdict != "exposed" {
		t.Errorf("the pod that may be read: %+v", got)
	}
	unread := a.verdict(t, two.workload("Namespace/"+two.name))
	if unread.Verdict != "unknown" || unread.PSSAllowed {
		t.Errorf("the namespace that may not: %+v", unread)
	}
	failed := a.failed()
	if !slices.Contains(failed, "pods in "+two.name+": forbidden") || slices.Contains(failed, "pods in "+one.name+": forbidden") {
		t.Errorf("failures: %q", failed)
	}
	// The namespaces of the system are as unknown as the other one; that there is no
	// telling where KubeArmor runs is the one failure without a row.
	const agents = "pods of KubeArmor: forbidden"
	if want := len(failed); len(a.verdicts) != want || !slices.Contains(failed, agents) {
		t.Errorf("failures %q, rows %q, want %d", failed, a.rows(), want)
	}

	a = liveScan(t, user, "-n", one.name)
	a.wantRows(t, one.name, "Pod/seen exposed 1")
	if a.code != exitIncomplete || !slices.Equal(a.failed(), []string{agents}) {
		t.Errorf("-n: exit %d, failures %q", a.code, a.failed())
	}
	a = liveScan(t, user, "-n", two.name)
	if a.code != exitIncomplete || !slices.Equal(a.failed(), []string{"pods in " + two.name + ": forbidden", agents}) ||
		!slices.Equal(a.rows(), []string{two.name + "/Namespace/" + two.name + " unknown 0"}) {
		t.Errorf("-n: exit %d, failures %q, rows %q", a.code, a.failed(), a.rows())
	}
}

// A user of one namespace, who may read what is in it and nothing else.
func TestLiveUserOfOneNamespace(t *testing.T) {
	s, other := newLiveSpace(t), newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"))
	other.pod("unseen", privileged)
	s.server.Allow(t, "live-tenant", s.name, slices.Collect(maps.Values(liveRights()))...)
	user := s.server.User(t, "live-tenant")

	around := []string{
		"ValidatingAdmissionPolicy.admissionregistration.k8s.io: forbidden", "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io: forbidden",
		"namespaces: forbidden", "nodes: forbidden", "pods of KubeArmor: forbidden",
	}
	a := liveScan(t, user, "-n", s.name)
	a.wantRows(t, s.name, "Deployment/web closed 1")
	if got := a.failed(); a.code != exitIncomplete || !slices.Equal(got, around) {
		t.Errorf("-n: exit %d, failures %q", a.code, got)
	}
	// Whether admission would keep it closed hangs on what may not be read.
	if v := a.verdict(t, s.workload("Deployment/web")); v.Layers == nil || v.Layers.Reopen != admission.Unknown || v.Layers.Kernel.Capabilities != kernel.Unknown {
		t.Errorf("layers: %+v", v.Layers)
	}
	a = liveScan(t, user)
	if got := a.failed(); a.code != exitIncomplete || !slices.Equal(got, slices.Insert(slices.Clone(around), 4, "pods: forbidden")) {
		t.Errorf("all: exit %d, failures %q", a.code, got)
	}
	if len(a.verdicts) != 0 {
		t.Errorf("all: %q", a.rows())
	}
	// Whether the namespace is empty or misspelt cannot be told.
	a = liveScan(t, user, "-n", s.name, "-l", "none=such")
	if a.code != exitIncomplete || !slices.Contains(a.failed(), "namespace "+s.name+" in "+s.name+": forbidden") {
		t.Errorf("-n and -l: exit %d, failures %q", a.code, a.failed())
	}
}

// Pods may be listed namespace by namespace and their owners likewise: what is
// forbidden in the namespaces without a pod to be seen is no loss of its own.
func TestLiveOwnersOfSomeNamespaces(t *testing.T) {
	s, other := newLiveSpace(t), newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	s.pod("web-5d8f-a", ownedBy(set, "5d8f"))
	other.pod("unseen", privileged)
	rights := liveRights()
	s.server.Allow(t, "live-cautious", "", rights["namespaces"], rights["nodes"])
	s.server.Allow(t, "live-cautious", s.name, slices.Collect(maps.Values(rights))...)

	a := liveScan(t, s.server.User(t, "live-cautious"))
	if v := a.verdict(t, s.workload("Deployment/web")); v.Claims != "" || v.Pods != 1 {
		t.Errorf("workload: %+v", v)
	}
	owners := []string{"ReplicaSet", "Deployment"}
	for _, f := range a.failures {
		if slices.Contains(owners, f.Subject) {
			t.Errorf("failure: %+v", f)
		}
	}
	if failed := a.failed(); !slices.Contains(failed, "pods in "+other.name+": forbidden") || slices.Contains(failed, "pods in "+s.name+": forbidden") {
		t.Errorf("failures: %q", failed)
	}
}

// preflightRow is a permission as -o json writes it.
type preflightRow struct {
	Verb      string `json:"verb"`
	Group     string `json:"group"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace"`
	For       string `json:"for"`
	Allowed   bool   `json:"allowed"`
	Reason    string `json:"reason"`
}

func TestLivePreflightSaysWhatTheServerAllows(t *testing.T) {
	s, other := newLiveSpace(t), newLiveSpace(t)
	for _, test := range []struct {
		user    string
		without []string
		// inOne are rights in one namespace.
		inOne []string
		code  int
	}{
		{user: "live-pre-all", code: exitOK},
		{user: "live-pre-nodes", without: []string{"nodes"}, code: exitIncomplete},
		{user: "live-pre-pods", without: []string{"pods", "replicasets"}, inOne: []string{"pods"}, code: exitIncomplete},
		{user: "live-pre-none", without: slices.Collect(maps.Keys(liveRights())), code: exitIncomplete},
	} {
		t.Run(test.user, func(t *testing.T) {
			config := userWithout(t, s.server, test.user, test.without...)
			for _, resource := range test.inOne {
				s.server.Allow(t, test.user, s.name, liveRights()[resource])
			}
			kubeconfig := kubetest.Kubeconfig(t, config)
			for _, args := range [][]string{nil, {"-n", s.name + "," + other.name}} {
				args = append([]string{"scan", "--kubeconfig", kubeconfig, "--preflight"}, args...)
				table := liveRun(t, args...)
				result := liveRun(t, append(args, "-o", "json")...)
				var rows []preflightRow
				if err := json.Unmarshal([]byte(result.stdout), &rows); err != nil {
					t.Fatalf("%v: %+v", err, result)
				}
				if !strings.Contains(result.stdout, `"verb": "list"`) {
					t.Errorf("keys are not those of an API: %s", result.stdout)
				}
				code := exitOK
				for _, row := range rows {
					if may := s.may(test.user, row); may != row.Allowed {
						t.Errorf("%+v: the server says %v", row, may)
					}
					if !row.Allowed {
						code = exitIncomplete
					}
					if row.For == "" {
						t.Errorf("%+v: what for?", row)
					}
					wantPreflightLine(t, table.stdout, row)
				}
				if len(rows) < 9 || len(rows)+1 != strings.Count(table.stdout, "\n") {
					t.Errorf("%d permissions, and a table of\n%s", len(rows), table.stdout)
				}
				if result.code != code || table.code != code {
					t.Errorf("%q: exit %d as json and %d as table, want %d", args, result.code, table.code, code)
				}
				if len(args) == 4 && code != test.code {
					t.Errorf("exit %d, want %d", code, test.code)
				}
				if code := liveRun(t, append(args, "--allow-incomplete")...).code; code != exitOK {
					t.Errorf("--allow-incomplete: exit %d", code)
				}
			}
		})
	}
}

// may asks the server as its administrator.
func (s liveSpace) may(user string, row preflightRow) bool {
	s.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: row.Verb, Group: row.Group, Resource: row.Resource, Namespace: row.Namespace,
		},
	}}
	answer, err := s.server.Client().AuthorizationV1().SubjectAccessReviews().Create(s.Context(), review, metav1.CreateOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return answer.Status.Allowed
}

// wantPreflightLine looks for the line that says of a permission what row says.
func wantPreflightLine(t *testing.T, table string, row preflightRow) {
	t.Helper()
	allowed, resource, namespace := "NO", row.Resource, "(all)"
	if row.Allowed {
		allowed = "yes"
	}
	if row.Group != "" {
		resource += "." + row.Group
	}
	if row.Namespace != "" {
		namespace = row.Namespace
	}
	want := []string{allowed, row.Verb, resource, namespace}
	for line := range strings.Lines(table) {
		if words := strings.Fields(line); len(words) > len(want) && slices.Equal(words[:len(want)], want) {
			return
		}
	}
	t.Errorf("no line %q in\n%s", want, table)
}
