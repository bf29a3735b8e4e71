package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// blocked are the changes of a plan that something stands in the way of, by their
// objects.
func blocked(plan *remediate.Plan) map[string]*remediate.Block {
	found := map[string]*remediate.Block{}
	for _, change := range plan.Changes {
		if change.Action == remediate.Blocked {
			found[change.Object.String()] = change.Block
		}
	}
	return found
}

// wantBlocked checks that the objects of a kind are blocked, and no others.
func wantBlocked(t *testing.T, plan *remediate.Plan, kind string, by remediate.BlockedBy, says string) {
	t.Helper()
	found := 0
	for _, change := range plan.Changes {
		if change.Object.Kind != kind {
			if change.Action == remediate.Blocked {
				t.Errorf("%s is blocked too: %+v", change.Object, change.Block)
			}
			continue
		}
		found++
		if change.Action != remediate.Blocked || change.Block == nil || change.Block.By != by || !strings.Contains(change.Block.Message, says) {
			t.Errorf("%s is %s, blocked by %+v; want by %s with %q", change.Object, change.Action, change.Block, by, says)
		}
	}
	if found == 0 {
		t.Errorf("the plan has no %s", kind)
	}
}

func (c *cure) plan(config *rest.Config) *remediate.Plan {
	c.Helper()
	plan, err := remediate.NewPlan(c.Context(), c.writer(config), c.set(), c.planOptions())
	if err != nil {
		c.Fatal(err)
	}
	return plan
}

func (c *cure) dynamic() dynamic.Interface {
	c.Helper()
	config := c.server.Config()
	config.WarningHandler = rest.NoWarnings{}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		c.Fatal(err)
	}
	return client
}

// What stands in the way is in the plan, with the object; it keeps nothing else from
// being undone.
func testTrouble(t *testing.T, server *kubetest.Server) {
	for name, test := range map[string]func(*testing.T, *kubetest.Server){
		"forbidden":             testForbidden,
		"forbidden on the way":  testForbiddenOnTheWay,
		"conflict":              testConflict,
		"changed since":         testChangedSince,
		"webhook":               testWebhook,
		"verified by dry runs":  testVerified,
		"missing namespace":     testMissingNamespace,
		"somebody else's":       testSomebodyElses,
		"changes of others":     testChangesOfOthers,
		"deleted and made anew": testDeletedAndMadeAnew,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, server)
		})
	}
}

func testForbidden(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, nil)
	user := "remediate-" + c.opts.Name
	config := server.User(t, user)
	kinds := map[string][]string{"admissionregistration.k8s.io": {"validatingadmissionpolicies"}, "security.kubearmor.com": {"*"}, "": {"configmaps", "namespaces"}}
	for group, resources := range kinds {
		server.Allow(t, user, "", rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"*"}})
	}
	server.Allow(t, user, "", rbacv1.PolicyRule{APIGroups: []string{"admissionregistration.k8s.io"}, Resources: []string{"validatingadmissionpolicybindings"}, Verbs: []string{"get", "list"}})
	before := c.dump()
	plan := c.plan(config)
	wantBlocked(t, plan, "ValidatingAdmissionPolicyBinding", remediate.BlockedByForbidden, user)
	wantSameObjects(t, before, c.dump())
}

// after calls do at the nth write, before that goes on to the server.
func after(nth int, do func()) kubetest.Hook {
	var mu sync.Mutex
	count := 0
	return func(r *http.Request) kubetest.Action {
		mu.Lock()
		defer mu.Unlock()
		if isWrite(r) {
			if count++; count == nth {
				do()
			}
		}
		return kubetest.Pass()
	}
}

// stopped checks what is left of an apply that was stopped by an error, and that both
// ways lead out.
func (c *cure) stopped(before map[string]string, err error, says string, mend func()) {
	c.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		c.Errorf("error %v, want one with %q", err, says)
	}
	status := c.wantTruth(before)
	if status.Phase != remediate.PhaseApplying || status.Unfinished == "" {
		c.Errorf("phase %q, unfinished %q", status.Phase, status.Unfinished)
	}
	c.mustRollback()
	wantSameObjects(c, before, c.dump())
	mend()
	c.mustApply()
	c.wantAll(c.status(), remediate.StateInPlace)
	c.mustRollback()
	wantSameObjects(c, before, c.dump())
}

// Rights that are taken away in the middle.
func testForbiddenOnTheWay(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, nil)
	before := c.dump()
	proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if isWrite(r) && strings.Contains(r.URL.Path, "/kubearmorpolicies/") {
			return kubetest.Forbidden("kubearmorpolicies is forbidden: User \"nobody\" cannot patch resource")
		}
		return kubetest.Pass()
	})
	_, result, err := c.apply(t.Context(), proxy.Config())
	if !apierrors.IsForbidden(err) || result == nil || result.Left == 0 {
		t.Errorf("result %+v, %v", result, err)
	}
	c.stopped(before, err, "KubeArmorPolicy "+c.namespace()+"/"+c.opts.Name, func() {})
}

// What stands there already under one of the names, made by somebody else, is a
// conflict; taken over by force it is what it was after a rollback.
func testSomebodyElses(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, nil)
	c.server.ApplyYAML(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: `+c.opts.Name+`, labels: {team: platform}, annotations: {note: "do not touch"}}
spec:
  failurePolicy: Ignore
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [services]}]}
  validations: [{expression: "object.metadata.name != 'no'"}]
`)
	before := c.dump()
	plan := c.plan(server.Config())
	name := "ValidatingAdmissionPolicy " + c.opts.Name
	if block := blocked(plan)[name]; block == nil || block.By != remediate.BlockedByConflict || len(blocked(plan)) != 1 {
		t.Fatalf("blocked: %+v", blocked(plan))
	}
	if _, err := carryOut(t.Context(), c.writer(server.Config()), plan); err == nil {
		t.Error("carried out all the same")
	}
	wantSameObjects(t, before, c.dump())

	c.force = true
	c.mustApply()
	c.wantAll(c.status(), remediate.StateInPlace)
	c.mustRollback()
	wantSameObjects(t, before, c.dump())
}

// A label of another manager's on a namespace.
func testConflict(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, func(o *set.Options) { o.Admission, o.Only = set.AdmissionPSA, []string{"admission"} })
	_, err := server.Client().CoreV1().Namespaces().Patch(t.Context(), c.namespace(), types.ApplyPatchType,
		[]byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"`+c.namespace()+`","labels":{"pod-security.kubernetes.io/enforce":"privileged"}}}`),
		metav1.PatchOptions{FieldManager: "gitops"})
	if err != nil {
		t.Fatal(err)
	}
	before := c.dump()
	plan := c.plan(server.Config())
	block := blocked(plan)["Namespace "+c.namespace()]
	if block == nil || block.By != remediate.BlockedByConflict || !strings.Contains(block.Message, "gitops") || !strings.Contains(block.Message, "enforce") {
		t.Errorf("blocked by %+v", block)
	}
	c.force = true
	c.mustApply()
	c.wantAll(c.status(), remediate.StateInPlace)
	c.mustRollback()
	wantSameObjects(t, before, c.dump())
}

// An object that changes between the plan and the write.
func testChangedSince(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, func(o *set.Options) { o.Admission, o.Only = set.AdmissionPSA, []string{"admission"} })
	label := func(text string) {
		_, err := server.Client().CoreV1().Namespaces().Patch(context.WithoutCancel(t.Context()), c.namespace(), types.MergePatchType, []byte(text), metav1.PatchOptions{FieldManager: "kubectl-label"})
		if err != nil {
			t.Error(err)
		}
	}
	before := c.dump()
	// The first write is that of the record.
	proxy := kubetest.NewProxy(t, server.Config(), after(2, func() { label(`{"metadata":{"labels":{"new":"label"}}}`) }))
	_, _, err := c.apply(t.Context(), proxy.Config())
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), "Namespace "+c.namespace()) {
		t.Errorf("apply: %v", err)
	}
	c.status()
	c.mustRollback()
	// What others have changed stays.
	label(`{"metadata":{"labels":{"new":null}}}`)
	wantSameObjects(t, before, c.dump())
	c.mustApply()
	c.mustRollback()
	wantSameObjects(t, before, c.dump())
}

// hanging is a webhook that does not answer.
func hanging(t *testing.T) *httptest.Server {
	t.Helper()
	done := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(done); server.Close() })
	return server
}

// caBundle is the certificate of a server as manifests hold it.
func caBundle(server *httptest.Server) string {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return base64.StdEncoding.EncodeToString(block)
}

// A webhook that takes longer than it may, on the objects of one kind.
func testWebhook(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, func(o *set.Options) { o.Only = []string{"admission", "tools"} })
	before := c.dump()
	w := c.writer(server.Config())
	plan := c.plan(server.Config())
	webhook := hanging(t)
	server.ApplyYAML(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: slow-`+c.opts.Name+`}
webhooks:
- name: slow.example.com
  clientConfig: {url: "`+webhook.URL+`", caBundle: `+caBundle(webhook)+`}
  failurePolicy: Fail
  timeoutSeconds: 1
  sideEffects: None
  admissionReviewVersions: [v1]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: `+c.namespace()+`}}
  rules: [{apiGroups: [security.kubearmor.com], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [kubearmorpolicies]}]
`)
	var object *unstructured.Unstructured
	for _, o := range c.set().Objects {
		if o.Final().GetKind() == "KubeArmorPolicy" {
			object = o.Final()
		}
	}
	eventually(t, "the webhook is asked", func() bool {
		_, err := w.Apply(t.Context(), object, remediate.WriteOptions{DryRun: true})
		return err != nil
	})
	// It came after the plan: it stops the apply at that object.
	_, err := carryOut(t.Context(), w, plan)
	gone := func() {
		ctx := context.WithoutCancel(t.Context())
		err := server.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(ctx, "slow-"+c.opts.Name, metav1.DeleteOptions{})
		if err != nil {
			t.Error(err)
		}
		eventually(t, "the webhook is not asked any more", func() bool {
			_, err := w.Apply(ctx, object, remediate.WriteOptions{DryRun: true})
			return err == nil
		})
	}
	// Now a plan tells of it.
	again, planErr := remediate.NewPlan(t.Context(), w, c.set(), c.planOptions())
	if planErr != nil {
		t.Fatal(planErr)
	}
	wantBlocked(t, again, "KubeArmorPolicy", remediate.BlockedByWebhook, "slow.example.com")
	c.stopped(before, err, "KubeArmorPolicy "+remediate.RefOf(object).Namespace+"/"+object.GetName(), gone)
}

// eventually waits for what the API server learns by and by.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return holds(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// A set bites when it is in place, and says so.
func testVerified(t *testing.T, server *kubetest.Server) {
	for _, admission := range []set.Admission{set.AdmissionVAP, set.AdmissionPSA} {
		c := newCure(t, server, nil, func(o *set.Options) { o.Admission, o.Only = admission, []string{"admission"} })
		cluster, err := kube.NewCluster(server.Config(), kube.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := cluster.Writer()
		plan := c.plan(server.Config())
		verifier := kube.NewVerifier(cluster, kube.VerifyOptions{Set: c.opts, Timeout: 30 * time.Second})
		result, err := plan.Apply(t.Context(), w, remediate.ApplyOptions{By: "test", Now: testTime, Verify: verifier.Verify, Progress: c.typeChecks})
		if err != nil || result.Left != 0 {
			t.Fatalf("apply: %v", err)
		}
		proven := 0
		for _, check := range result.Checks {
			if check.Answer != kernel.Yes {
				t.Errorf("%s: %+v", admission, check)
			}
			if !strings.HasPrefix(check.Subject, "accepted: ") {
				proven++
			}
		}
		if proven != 4 {
			t.Errorf("%s: %d things were proven, want 4: %+v", admission, proven, result.Checks)
		}
		c.mustRollback()
	}
}

// typeChecks does what the controller manager would, when a policy is applied.
func (c *cure) typeChecks(p remediate.Progress) {
	if p.Change == nil || p.Change.Object.Kind != "ValidatingAdmissionPolicy" || p.Change.Action == remediate.Unchanged {
		return
	}
	_, err := c.server.Client().AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(c.Context(), p.Change.Object.Name,
		types.MergePatchType, []byte(`{"status":{"observedGeneration":1,"typeChecking":{}}}`), metav1.PatchOptions{}, "status")
	if err != nil {
		c.Error(err)
	}
}

func testMissingNamespace(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, func(o *set.Options) {
		o.Scope.Namespaces, o.Only = append(o.Scope.Namespaces, "not-there-"+o.Name), []string{"tools"}
	})
	plan := c.plan(server.Config())
	missing := 0
	for object, block := range blocked(plan) {
		if missing++; !strings.Contains(object, " not-there-") || block.By != remediate.BlockedByNamespace {
			t.Errorf("%s: %+v", object, block)
		}
	}
	if missing != 1 {
		t.Errorf("%d are blocked", missing)
	}
	// Labels make no namespace either.
	c.opts.Admission, c.opts.Only = set.AdmissionPSA, []string{"admission"}
	if block := blocked(c.plan(server.Config()))["Namespace "+c.opts.Scope.Namespaces[1]]; block == nil || block.By != remediate.BlockedByNamespace {
		t.Errorf("%+v", block)
	}
}

// What others add or change meanwhile, where nothing is ours, stays.
func testChangesOfOthers(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, map[string]string{"team": "a"}, func(o *set.Options) { o.Admission = set.AdmissionPSA })
	namespaces := server.Client().CoreV1().Namespaces()
	c.mustApply()
	text := []byte(`{"metadata":{"labels":{"team":"b","new":"label"},"annotations":{"note":"theirs"}}}`)
	if _, err := namespaces.Patch(t.Context(), c.namespace(), types.MergePatchType, text, metav1.PatchOptions{FieldManager: "kubectl-label"}); err != nil {
		t.Fatal(err)
	}
	c.wantAll(c.status(), remediate.StateInPlace)
	c.mustRollback()
	now, err := namespaces.Get(t.Context(), c.namespace(), metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(now.Labels) != 3 || now.Labels["team"] != "b" || now.Labels["new"] != "label" || now.Annotations["note"] != "theirs" {
		t.Errorf("labels %v, annotations %v", now.Labels, now.Annotations)
	}
}

// An object of ours that somebody deletes, and makes as they like, is theirs: a rollback
// leaves it alone, and says so.
func testDeletedAndMadeAnew(t *testing.T, server *kubetest.Server) {
	c := newCure(t, server, nil, func(o *set.Options) { o.Only = []string{"tools"} })
	c.mustApply()
	resource := c.dynamic().Resource(cureKinds()[4]).Namespace(c.namespace())
	name := c.opts.Name + "-tools"
	if err := resource.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if s := states(c.status()); s["KubeArmorPolicy "+c.namespace()+"/"+name] != remediate.StateMissing {
		t.Errorf("%+v", s)
	}
	theirs := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"process": map[string]any{"matchPaths": []any{map[string]any{"path": "/bin/theirs"}}}, "action": "Audit"},
	}}
	if _, err := resource.Create(t.Context(), theirs, metav1.CreateOptions{FieldManager: "kubectl-create"}); err != nil {
		t.Fatal(err)
	}
	if s := states(c.status()); s["KubeArmorPolicy "+c.namespace()+"/"+name] != remediate.StateDrifted {
		t.Errorf("%+v", s)
	}
	_, _, err := c.rollback(t.Context(), server.Config())
	if blocked := errBlocked(nil); err != nil && !errors.As(err, &blocked) {
		t.Error(err)
	}
	if _, err := resource.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
		t.Errorf("a rollback took away what somebody else made: %v", err)
	}
}
