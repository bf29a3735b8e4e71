package main

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// TestLiveRemediate brings sets into a cluster and out of it again. It has a server of
// its own, which gets kinds that others must not have.
func TestLiveRemediate(t *testing.T) {
	server := kubetest.New(t)
	t.Run("missing kinds", func(t *testing.T) { testMissingKinds(t, server) })
	server.InstallCRDs(t, kubetest.KubeArmor)
	t.Run("whole cluster", func(t *testing.T) { testWholeCluster(t, server) })
	t.Run("by the program", func(t *testing.T) { testByProgram(t, server) })
	t.Run("by the screen", func(t *testing.T) { testByScreen(t, server) })
	t.Run("by the node probe", func(t *testing.T) { testByNodeProbe(t, server) })
	t.Run("plans write nothing", func(t *testing.T) { testPlansWriteNothing(t, server) })
	t.Run("rights", func(t *testing.T) { testRemediateRights(t, server) })
	t.Run("cut", func(t *testing.T) { testCut(t, server) })
	t.Run("trouble", func(t *testing.T) { testTrouble(t, server) })
	t.Run("killed", func(t *testing.T) { testKilled(t, server) })
	t.Run("half of Kyverno", func(t *testing.T) { testHalfOfKyverno(t, server) })
}

// busyCluster makes 200 workloads in 20 namespaces, some with labels of others.
func busyCluster(t *testing.T, server *kubetest.Server) {
	t.Helper()
	kubetest.Crowd{Namespaces: 20, Deployments: 200, ReplicaSets: 1, Pods: 1}.Create(t, server)
	namespaces := server.Client().CoreV1().Namespaces()
	for _, by := range []struct {
		namespace, manager, labels string
		patch                      types.PatchType
	}{
		{"team-001", "gitops", `"pod-security.kubernetes.io/enforce":"privileged","team":"one"`, types.ApplyPatchType},
		{"team-002", "kubectl-label", `"pod-security.kubernetes.io/warn":"baseline","pod-security.kubernetes.io/warn-version":"latest"`, types.MergePatchType},
		{"team-003", "gitops", `"pod-security.kubernetes.io/enforce":"restricted","pod-security.kubernetes.io/enforce-version":"v1.30"`, types.ApplyPatchType},
		{"team-004", "kubectl-edit", `"app.kubernetes.io/managed-by":"Helm","pod-security.kubernetes.io/audit":"privileged"`, types.MergePatchType},
		{"team-005", "terraform", `"pod-security.kubernetes.io/enforce":"baseline","pod-security.kubernetes.io/enforce-version":"latest"`, types.ApplyPatchType},
	} {
		text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"labels":{%s}}}`, by.namespace, by.labels)
		if _, err := namespaces.Patch(t.Context(), by.namespace, by.patch, []byte(text), metav1.PatchOptions{FieldManager: by.manager}); err != nil {
			t.Fatal(err)
		}
	}
	// A policy under another name.
	server.ApplyYAML(t, `
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: theirs, namespace: team-001}
spec:
  process: {matchPaths: [{path: /usr/bin/theirs}]}
`)
}

// policiesOfOthers stand under names of the set.
func policiesOfOthers(t *testing.T, server *kubetest.Server, name string) {
	t.Helper()
	server.ApplyYAML(t, `
apiVersion: security.kubearmor.com/v1
kind: KubeArmorClusterPolicy
metadata: {name: `+name+`-tools-cluster, labels: {team: platform}}
spec:
  selector: {matchExpressions: [{key: namespace, operator: In, values: [team-001]}]}
  process: {matchPaths: [{path: /usr/bin/theirs}]}
  message: theirs
  action: Audit
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: `+name+`, labels: {team: platform}}
spec:
  failurePolicy: Ignore
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [services]}]}
  validations: [{expression: "object.metadata.name != 'no'"}]
`)
}

// testWholeCluster goes through the life of a set: plan, apply, drift, status, apply
// again, and rollback. All of the cluster is then what it was.
func testWholeCluster(t *testing.T, server *kubetest.Server) {
	busyCluster(t, server)
	kinds := dumpKinds(t, server)
	records := server.Namespace(t, nil)
	for _, test := range []struct {
		admission set.Admission
		// theirs are the objects that a plan without force is stopped by.
		theirs []string
		drift  func(*cure) []string
	}{
		{set.AdmissionPSA, []string{"KubeArmorClusterPolicy whole-psa-tools-cluster", "Namespace team-001", "Namespace team-004"}, driftLabels},
		{set.AdmissionVAP, []string{"KubeArmorClusterPolicy whole-vap-tools-cluster", "ValidatingAdmissionPolicy whole-vap"}, driftPolicies},
	} {
		t.Run(string(test.admission), func(t *testing.T) {
			c := &cure{T: t, server: server, records: records, opts: set.Options{
				Name: "whole-" + string(test.admission), Scope: targets.Scope{Exclude: []string{records}}, Admission: test.admission,
				Level: psa.LevelBaseline, PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull,
			}}
			policiesOfOthers(t, server, c.opts.Name)
			before := dumpObjects(t, server, kinds, nil)
			if len(before) < 600 {
				t.Fatalf("%d objects: the cluster is not busy", len(before))
			}
			if theirs := slices.Sorted(maps.Keys(blocked(c.plan(server.Config())))); !slices.Equal(theirs, test.theirs) {
				t.Errorf("without force %q are blocked, want %q", theirs, test.theirs)
			}
			wantSameObjects(t, before, dumpObjects(t, server, kinds, nil))

			c.force = true
			c.mustApply()
			c.wantAll(c.status(), remediate.StateInPlace)
			c.wantNothingLeftToDo()
			drifted := test.drift(c)
			status := c.status()
			for object, state := range states(status) {
				want := remediate.StateInPlace
				if slices.Contains(drifted, object) {
					want = remediate.StateDrifted
				} else if slices.Contains(drifted, object+" gone") {
					want = remediate.StateMissing
				}
				if state != want {
					t.Errorf("%s is %q, want %q", object, state, want)
				}
			}
			for _, o := range status.Objects {
				// Nobody owns what is not there any more.
				taken := o.Object.Name == "team-007"
				if o.State == remediate.StateDrifted && (len(o.Diff) == 0 || !taken && !slices.Contains(o.By, "kubectl-edit")) {
					t.Errorf("%s drifted: by %q, %+v", o.Object, o.By, o.Diff)
				}
			}
			c.mustApply()
			c.wantAll(c.status(), remediate.StateInPlace)
			c.wantNothingLeftToDo()
			c.mustRollback()
			wantSameObjects(t, before, dumpObjects(t, server, kinds, nil))
			if status := c.status(); status.Phase != remediate.PhaseNone || len(status.Objects) > 0 {
				t.Errorf("after the rollback: %+v", status)
			}
		})
	}
}

// wantNothingLeftToDo checks that one more apply finds all unchanged and writes nothing.
func (c *cure) wantNothingLeftToDo() {
	c.Helper()
	k := &cutter{nth: 1, when: beforeIt, then: func() { c.Error("an apply writes where nothing is to be done") }}
	plan, _, err := c.apply(c.Context(), kubetest.NewProxy(c, c.server.Config(), k.hook).Config())
	if err != nil {
		c.Fatal(err)
	}
	for _, change := range plan.Changes {
		if change.Action != remediate.Unchanged {
			c.Errorf("once more, %s is %s in stage %s", change.Object, change.Action, change.Stage)
		}
	}
}

// driftLabels changes labels by hand, and policies.
func driftLabels(c *cure) []string {
	namespaces := c.server.Client().CoreV1().Namespaces()
	for namespace, labels := range map[string]string{
		"team-006": `"pod-security.kubernetes.io/enforce":"privileged"`,
		"team-007": `"pod-security.kubernetes.io/enforce":null`,
		"team-001": `"pod-security.kubernetes.io/enforce-version":"v1.20"`,
	} {
		text := fmt.Sprintf(`{"metadata":{"labels":{%s}}}`, labels)
		if _, err := namespaces.Patch(c.Context(), namespace, types.MergePatchType, []byte(text), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			c.Fatal(err)
		}
	}
	return append(driftArmor(c), "Namespace team-006", "Namespace team-007", "Namespace team-001")
}

// driftPolicies switches a policy off, takes a binding away, and changes others.
func driftPolicies(c *cure) []string {
	vaps, bindings := c.dynamic().Resource(cureKinds()[2]), c.dynamic().Resource(cureKinds()[3])
	text := []byte(`{"spec":{"failurePolicy":"Ignore","validations":[{"expression":"true"}]}}`)
	if _, err := vaps.Patch(c.Context(), c.opts.Name, types.MergePatchType, text, metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		c.Fatal(err)
	}
	if err := bindings.Delete(c.Context(), c.opts.Name, metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
	return append(driftArmor(c), "ValidatingAdmissionPolicy "+c.opts.Name, "ValidatingAdmissionPolicyBinding "+c.opts.Name+" gone")
}

// driftArmor excepts a namespace from one policy by hand, and takes another away.
func driftArmor(c *cure) []string {
	policies := c.dynamic().Resource(cureKinds()[5])
	tools, err := policies.Get(c.Context(), c.opts.Name+"-tools-cluster", metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	expressions, _, err := unstructured.NestedSlice(tools.Object, "spec", "selector", "matchExpressions")
	if err != nil || len(expressions) == 0 {
		c.Fatalf("selector: %v, %v", expressions, err)
	}
	expressions = append(expressions, map[string]any{"key": "namespace", "operator": "NotIn", "values": []any{"team-009"}})
	if err := unstructured.SetNestedSlice(tools.Object, expressions, "spec", "selector", "matchExpressions"); err != nil {
		c.Fatal(err)
	}
	if _, err := policies.Update(c.Context(), tools, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		c.Fatal(err)
	}
	if err := policies.Delete(c.Context(), c.opts.Name+"-chroot-cluster", metav1.DeleteOptions{}); err != nil {
		c.Fatal(err)
	}
	return []string{"KubeArmorClusterPolicy " + c.opts.Name + "-tools-cluster", "KubeArmorClusterPolicy " + c.opts.Name + "-chroot-cluster gone"}
}
