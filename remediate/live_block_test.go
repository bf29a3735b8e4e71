package remediate_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// webhook is a webhook that nobody answers for, or one that a policy stands in for.
func (w *world) webhook() {
	w.Helper()
	hooks := parse(w, `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: `+w.name+`}, webhooks: [{
		name: nobody.escape-scanner.test, sideEffects: None, admissionReviewVersions: [v1], timeoutSeconds: 1, failurePolicy: Fail,
		clientConfig: {url: "https://127.0.0.1:1/"}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: `+w.two+`}},
		rules: [{apiGroups: [security.kubearmor.com], apiVersions: ["*"], operations: ["*"], resources: ["*"]}]}]}`)
	w.make("validatingwebhookconfigurations", hooks)
}

func (w *world) denial() {
	w.Helper()
	w.make("validatingadmissionpolicies", parse(w, `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: no-`+w.name+`}, spec: {
		matchConstraints: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: `+w.two+`}}, resourceRules: [{apiGroups: [security.kubearmor.com], apiVersions: ["*"], operations: ["*"], resources: ["*"]}]},
		validations: [{expression: "false", message: not here}]}}`))
	w.make("validatingadmissionpolicybindings", parse(w, `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: no-`+w.name+`}, spec: {policyName: no-`+w.name+`, validationActions: [Deny]}}`))
}

// make makes an object of the cluster for as long as the test runs.
func (w *world) make(resource string, u *unstructured.Unstructured) {
	w.Helper()
	client := w.other.Resource(admissionKind(resource))
	if _, err := client.Create(w.Context(), u, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := client.Delete(context.WithoutCancel(w.Context()), u.GetName(), metav1.DeleteOptions{}); err != nil {
			w.Error(err)
		}
	})
}

// reader is somebody who may only read.
func (w *world) reader() remediate.Cluster {
	w.Helper()
	server := shared.Server(w)
	config := server.User(w, w.name)
	rbac := server.Client().RbacV1()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: w.name}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}}}}
	if _, err := rbac.ClusterRoles().Create(w.Context(), role, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: w.name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: w.name}, Subjects: []rbacv1.Subject{{Kind: "User", Name: w.name}}}
	if _, err := rbac.ClusterRoleBindings().Create(w.Context(), binding, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		ctx := context.WithoutCancel(w.Context())
		if err := errors.Join(rbac.ClusterRoleBindings().Delete(ctx, w.name, metav1.DeleteOptions{}), rbac.ClusterRoles().Delete(ctx, w.name, metav1.DeleteOptions{})); err != nil {
			w.Error(err)
		}
	})
	cluster, err := kube.NewCluster(config, kube.Options{})
	if err != nil {
		w.Fatal(err)
	}
	return cluster.Writer()
}

// What stands in the way is told for what it is, with the object's name, and then
// nothing at all is changed.
func TestBlocked(t *testing.T) {
	for _, test := range []struct {
		name    string
		set     func(*world) *set.Set
		cluster func(*world) remediate.Cluster
		by      remediate.BlockedBy
		message string
	}{
		{"a label that somebody else owns", func(w *world) *set.Set {
			w.opts.Force = false
			w.edit(namespaceKind(), "", w.two, "kubectl-label", func(u *unstructured.Unstructured) { u.SetLabels(map[string]string{psa.WarnLevelLabel: "privileged"}) })
			return w.setOf(w.labelled(w.two), w.tools(w.one))
		}, nil, remediate.BlockedByConflict, `conflict with "kubectl-label"`},
		{"an object of another set", func(w *world) *set.Set {
			theirs := parse(w, w.armor(w.two, "tools", "Audit", ""))
			theirs.SetLabels(map[string]string{set.LabelSet: "others"})
			delete(theirs.Object["spec"].(map[string]any), "process")
			if _, err := w.other.Resource(armorKind()).Namespace(w.two).Create(w.Context(), theirs, metav1.CreateOptions{}); err != nil {
				w.Fatal(err)
			}
			return w.setOf(w.tools(w.two), w.tools(w.one))
		}, nil, remediate.BlockedByConflict, `belongs to set "others"`},
		{"no such namespace", func(w *world) *set.Set { return w.setOf(w.labelled(w.two+"x"), w.tools(w.one)) }, nil, remediate.BlockedByNamespace, "does not exist"},
		{"a policy in no namespace", func(w *world) *set.Set { return w.setOf(w.tools(w.two+"x"), w.tools(w.one)) }, nil, remediate.BlockedByNamespace, "not found"},
		{"no such kind", func(w *world) *set.Set {
			kyverno := "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: " + w.name + "-pod-security}, spec: {}}"
			return w.setOf(w.both(set.PartAdmission, kyverno, kyverno), w.tools(w.one))
		}, nil, remediate.BlockedByMissingKind, "does not serve this kind"},
		{"what the schema refuses", func(w *world) *set.Set {
			return w.setOf(w.both(set.PartTools, "", w.armor(w.two, "tools", "Maul", "{path: /usr/bin/apt}")), w.tools(w.one))
		}, nil, remediate.BlockedByInvalid, "Maul"},
		{"a webhook that nobody answers for", func(w *world) *set.Set { return w.setOf(w.tools(w.two), w.tools(w.one)) }, func(w *world) remediate.Cluster {
			w.webhook()
			w.until(remediate.BlockedByWebhook)
			return w.writer
		}, remediate.BlockedByWebhook, "nobody.escape-scanner.test"},
		{"a policy that denies", func(w *world) *set.Set { return w.setOf(w.tools(w.two), w.tools(w.one)) }, func(w *world) remediate.Cluster {
			w.denial()
			w.until(remediate.BlockedByAdmission)
			return w.writer
		}, remediate.BlockedByAdmission, "not here"},
		{"no rights", func(w *world) *set.Set { return w.setOf(w.tools(w.two)) }, (*world).reader, remediate.BlockedByForbidden, "cannot patch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			s := test.set(w)
			c := w.writer
			if test.cluster != nil {
				c = test.cluster(w)
			}
			before := w.dump()
			plan, err := w.plan(c, s)
			if err != nil {
				t.Fatal(err)
			}
			blocked := plan.Blocked()
			if len(blocked) == 0 {
				t.Fatalf("nothing is blocked: %+v", plan.Changes)
			}
			if i := slices.IndexFunc(plan.Changes, func(c remediate.Change) bool {
				return c.Object == blocked[0].Object && c.Action != remediate.Blocked
			}); i >= 0 {
				t.Errorf("in one stage it is blocked, and in the other %+v", plan.Changes[i])
			}
			for _, b := range blocked {
				if b.Block.By != test.by || !strings.Contains(b.Block.Message, test.message) || b.Block.Mend == "" || b.Object != remediate.RefOf(s.Objects[0].Enforce) {
					t.Errorf("%s is blocked by %s: %q, %q", b.Object, b.Block.By, b.Block.Message, b.Block.Mend)
				}
			}
			result, err := plan.Apply(t.Context(), c, applyOptions())
			if err == nil || !strings.Contains(err.Error(), blocked[0].Object.String()) || result.Left == 0 {
				t.Errorf("apply: %v, %+v", err, result)
			}
			w.wantDump(before)
		})
	}
}

// until waits for the API server to heed a new webhook or policy.
func (w *world) until(by remediate.BlockedBy) {
	w.Helper()
	s := w.setOf(w.tools(w.two))
	for w.Context().Err() == nil {
		if blocked := w.mustPlan(s).Blocked(); len(blocked) > 0 && blocked[0].Block.By == by {
			return
		}
	}
	w.Fatal(w.Context().Err())
}

// A rollback puts back what it can, and the rest when it can.
func TestRollbackGoesOn(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	w.must(w.whole())
	w.denial()
	w.until(remediate.BlockedByAdmission)
	result, err := w.run(w.writer, nil)
	if err == nil || !strings.Contains(err.Error(), w.name+"-tools") || result.Left != 1 {
		t.Errorf("rollback: %v, %+v", err, result)
	}
	counts := states(w.status())
	if counts[remediate.StateRestored] != len(w.whole().Objects)-1 || counts[remediate.StateInPlace] != 1 {
		t.Errorf("status: %v", counts)
	}
	// The policy that denies goes, and what it denied is possible by and by.
	w.edit(admissionKind("validatingadmissionpolicybindings"), "", "no-"+w.name, "test", func(u *unstructured.Unstructured) {
		u.Object["spec"].(map[string]any)["validationActions"] = []any{"Audit"}
	})
	for t.Context().Err() == nil {
		if _, err = w.run(w.writer, nil); err == nil {
			break
		}
	}
	after := w.dump()
	for name := range after {
		if strings.HasSuffix(name, " no-"+w.name) {
			delete(after, name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d objects are there, and before there were %d", len(after), len(before))
	}
}

// Of two applies at a time the second is told.
func TestTwoAtATime(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	s := w.whole()
	first, second := w.mustPlan(s), w.mustPlan(s)
	if _, err := first.Apply(t.Context(), w.writer, applyOptions()); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Apply(t.Context(), w.writer, applyOptions()); !errors.Is(err, remediate.ErrConcurrent) {
		t.Errorf("the second apply: %v", err)
	}
	third, err := remediate.NewRollback(t.Context(), w.writer, w.name, w.opts)
	if err != nil {
		t.Fatal(err)
	}
	w.must(nil)
	if _, err := third.Apply(t.Context(), w.writer, applyOptions()); !errors.Is(err, remediate.ErrConcurrent) {
		t.Errorf("the second rollback: %v", err)
	}
	w.wantDump(before)
}

// An apply that another one takes the record from ends before its next stage.
func TestTakenFrom(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	s := w.whole()
	plan := w.mustPlan(s)
	opts := applyOptions()
	opts.Verify = func(ctx context.Context, stage remediate.Stage, _ []set.Object) []remediate.Check {
		if stage == remediate.StageAudit {
			w.must(s)
		}
		return nil
	}
	if _, err := plan.Apply(t.Context(), w.writer, opts); !errors.Is(err, remediate.ErrConcurrent) {
		t.Errorf("the first apply: %v", err)
	}
	if status := w.status(); status.Phase != remediate.PhaseApplied {
		t.Errorf("status: %+v", status)
	}
	w.must(nil)
	w.wantDump(before)
}

// What the audit stage shows to be wrong keeps the enforce stage from beginning.
func TestVerify(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	s := w.whole()
	var stages []remediate.Stage
	var told []remediate.Progress
	answer := kernel.No
	opts := applyOptions()
	opts.Verify = func(_ context.Context, stage remediate.Stage, objects []set.Object) []remediate.Check {
		stages = append(stages, stage)
		if stage == remediate.StageAudit && len(objects) != len(s.Objects)-1 {
			t.Errorf("%d objects are to be verified in the audit stage", len(objects))
		}
		return []remediate.Check{{Subject: "policy", Answer: answer, Message: "not accepted"}}
	}
	opts.Progress = func(p remediate.Progress) { told = append(told, p) }
	result, err := w.mustPlan(s).Apply(t.Context(), w.writer, opts)
	if err == nil || !strings.Contains(err.Error(), "not accepted") || result.Left != len(s.Objects)-1 || len(result.Checks) != 1 {
		t.Errorf("apply: %v, %+v", err, result)
	}
	if len(stages) != 1 || len(told) != len(s.Objects) || told[len(told)-1].Check == nil {
		t.Errorf("stages %v, progress %+v", stages, told)
	}
	if counts := states(w.status()); counts[remediate.StateInPlace] > 1 || counts[remediate.StateNotBegun] != 1 {
		t.Errorf("status: %v", counts)
	}
	answer = kernel.Unknown
	if result, err = w.mustPlan(s).Apply(t.Context(), w.writer, opts); err != nil || result.Left != 0 || len(result.Checks) != 2 {
		t.Errorf("apply: %v, %+v", err, result)
	}
	w.must(nil)
	w.wantDump(before)
}

// tampered changes the record as who may write there could.
func (w *world) tampered(change func(data map[string]any, u *unstructured.Unstructured)) {
	w.Helper()
	w.edit(corev1.SchemeGroupVersion.WithResource("configmaps"), w.records, "escape-scanner-"+w.name, "kubectl-edit", func(u *unstructured.Unstructured) {
		change(u.Object["data"].(map[string]any), u)
	})
}

// A record that is not what we write is refused, and nothing follows from it.
func TestTamperedRecords(t *testing.T) {
	replace := func(key, old, new string) func(map[string]any, *unstructured.Unstructured) {
		return func(data map[string]any, _ *unstructured.Unstructured) {
			text, ok := data[key].(string)
			if !ok || !strings.Contains(text, old) {
				t.Errorf("%s has no %q:\n%s", key, old, text)
			}
			data[key] = strings.Replace(text, old, new, 1)
		}
	}
	for _, test := range []struct {
		name   string
		change func(map[string]any, *unstructured.Unstructured)
		want   string
	}{
		{"no head", func(data map[string]any, _ *unstructured.Unstructured) { delete(data, "head") }, "it has no head"},
		{"no JSON", func(data map[string]any, _ *unstructured.Unstructured) { data["head"] = "{" }, "its head"},
		{"a newer form", replace("head", `"schema":1`, `"schema":2`), "written by a newer version"},
		{"another set", replace("head", `"set":"`, `"set":"x`), `it is of set "x`},
		{"a field that we do not know", replace("head", `"schema":1`, `"schema":1,"force":true`), `unknown field "force"`},
		{"a field twice", replace("head", `"schema":1`, `"schema":1,"phase":"applied"`), `duplicate field "phase"`},
		{"no phase", replace("head", `"phase":"applied"`, `"phase":"gone"`), `phase "gone" is none`},
		{"a ConfigMap of others", replace("head", `"by"`, `"stale":["kube-root-ca.crt"],"by"`), `"kube-root-ca.crt" is no name of a part`},
		{"a step less", func(data map[string]any, _ *unstructured.Unstructured) { delete(data, "step-00002") }, "it has 1 steps and should have 2"},
		{"a key too many", func(data map[string]any, _ *unstructured.Unstructured) { data["x"] = "{}" }, "it has 3 steps and should have 2"},
		{"another kind", replace("step-00002", `"kind":"KubeArmorPolicy"`, `"kind":"Secret"`), "a set has nothing of this kind"},
		{"another group", replace("step-00002", `"apiVersion":"security.kubearmor.com/v1"`, `"apiVersion":"apps/v1"`), "a set has nothing of this kind"},
		{"another name", func(data map[string]any, _ *unstructured.Unstructured) {
			data["step-00002"] = strings.ReplaceAll(data["step-00002"].(string), "-tools", "")
			data["step-00002"] = strings.ReplaceAll(data["step-00002"].(string), `"name":"s`, `"name":"other-s`)
		}, "the names of the set's objects begin with"},
		{"another label", replace("step-00001", `["metadata","labels","`+psa.EnforceLevelLabel+`"]`, `["metadata","labels","owner"]`), "a set does not touch metadata.labels.owner"},
		{"finalizers", replace("step-00001", `["metadata","labels","`+psa.EnforceLevelLabel+`"]`, `["spec","finalizers"]`), "a set does not touch spec.finalizers"},
		{"all labels", replace("step-00001", `"before":[`, `"before":[{"path":["metadata","labels"],"value":{"owner":"me"}},`), "a set does not touch metadata.labels"},
		{"all labels of a policy", replace("step-00002", `"existed":false`, `"existed":true,"uid":"u","before":[{"path":["metadata","annotations"],"absent":true}]`), "a set does not touch metadata.annotations"},
		{"a namespace that is always left out", func(data map[string]any, _ *unstructured.Unstructured) {
			text := data["step-00001"].(string)
			name := text[strings.Index(text, `"name":"`)+len(`"name":"`):]
			data["step-00001"] = strings.ReplaceAll(text, `"name":"`+name[:strings.Index(name, `"`)], `"name":"kube-system`)
		}, "no set is for namespace kube-system"},
		{"a namespace to delete", replace("step-00001", `"existed":true`, `"existed":false`), "a set makes no namespaces"},
		{"whose object it was", replace("step-00001", `"uid":"`, `"uid":"","x":"`), `unknown field "x"`},
		{"no labels", func(_ map[string]any, u *unstructured.Unstructured) { u.SetLabels(nil) }, "it is none of ours"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			s := w.setOf(w.labelled(w.one), w.tools(w.two))
			w.must(s)
			w.tampered(test.change)
			before := w.dump()
			_, planErr := w.plan(w.writer, s)
			_, rollbackErr := remediate.NewRollback(t.Context(), w.writer, w.name, w.opts)
			_, statusErr := remediate.ReadStatus(t.Context(), w.writer, w.name, w.opts)
			for _, err := range []error{planErr, rollbackErr, statusErr} {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "record of set "+w.name) {
					t.Errorf("got %v, want %q", err, test.want)
				}
			}
			w.wantDump(before)
		})
	}
}

// Sets are found by their records, and records of several ConfigMaps once.
func TestSets(t *testing.T) {
	w := newWorld(t)
	w.opts = remediate.WithRecordLimit(w.opts, 2500)
	w.must(w.whole())
	names, err := remediate.Sets(t.Context(), w.writer, w.records)
	if err != nil || len(names) != 1 || names[0] != w.name {
		t.Errorf("sets are %v: %v", names, err)
	}
	w.must(nil)
	if names, err := remediate.Sets(t.Context(), w.writer, w.records); err != nil || len(names) != 0 {
		t.Errorf("sets are %v: %v", names, err)
	}
}

// A part of the record that is not there is told, not passed over.
func TestLostPart(t *testing.T) {
	w := newWorld(t)
	w.opts = remediate.WithRecordLimit(w.opts, 2500)
	w.must(w.whole())
	configMaps := w.other.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(w.records)
	list, err := configMaps.List(t.Context(), metav1.ListOptions{LabelSelector: set.LabelSet + "=" + w.name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if strings.Contains(list.Items[i].GetName(), ".") {
			uid := types.UID(list.Items[i].GetUID())
			if err := configMaps.Delete(t.Context(), list.Items[i].GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if _, err := remediate.ReadStatus(t.Context(), w.writer, w.name, w.opts); err == nil || !strings.Contains(err.Error(), "its part escape-scanner-"+w.name+".") {
		t.Errorf("status: %v", err)
	}
}
