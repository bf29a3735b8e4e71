package remediate_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
)

func (w *world) mustPlanRollback() *remediate.Plan {
	w.Helper()
	plan, err := remediate.NewRollback(w.Context(), w.writer, w.name, w.opts)
	if err != nil {
		w.Fatal(err)
	}
	return plan
}

// What controllers note on a namespace between the plan of a rollback and the rollback
// stays.
func TestAnnotatedMeanwhile(t *testing.T) {
	w := newWorld(t)
	annotate := func(notes map[string]string) {
		w.edit(namespaceKind(), "", w.one, "controller", func(u *unstructured.Unstructured) { u.SetAnnotations(notes) })
	}
	annotate(map[string]string{"quota": "1", "goes": "soon"})
	w.must(w.setOf(w.labelled(w.one)))
	plan := w.mustPlanRollback()
	annotate(map[string]string{"quota": "2", "came": "late"})
	if _, err := plan.Apply(t.Context(), w.writer, applyOptions()); err != nil {
		t.Fatal(err)
	}
	got := w.get(namespaceRef(w.one)).GetAnnotations()
	if len(got) != 2 || got["quota"] != "2" || got["came"] != "late" {
		t.Errorf("the annotations are %v", got)
	}
}

// An upgrade takes away the version in which a policy was applied, and not the policy:
// status does not say that it is gone, and a rollback takes it away.
func TestServedInAnotherVersion(t *testing.T) {
	w := newWorld(t)
	versions := func(old string) *unstructured.Unstructured {
		return parse(t, `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: validatingpolicies.policies.kyverno.io},
			spec: {group: policies.kyverno.io, scope: Cluster, names: {plural: validatingpolicies, singular: validatingpolicy, kind: ValidatingPolicy, listKind: ValidatingPolicyList}, versions: [
			{name: v1alpha1, served: `+old+`, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}},
			{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}`)
	}
	crds := w.other.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := crds.Create(t.Context(), versions("true"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	text := "{apiVersion: policies.kyverno.io/v1alpha1, kind: ValidatingPolicy, metadata: {name: " + w.name + "-policy}, spec: {evaluation: {background: {enabled: true}}}}"
	s := w.setOf(w.both("admission", "", text))
	before := w.dump()
	ref := remediate.RefOf(s.Objects[0].Enforce)
	for t.Context().Err() == nil && len(w.mustPlan(s).Blocked()) > 0 {
		// The API server does not serve it yet.
	}
	w.must(s)
	w.edit(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}, "", "validatingpolicies.policies.kyverno.io", "helm", func(u *unstructured.Unstructured) {
		u.Object["spec"] = versions("false").Object["spec"]
	})
	for t.Context().Err() == nil {
		cluster, err := kube.NewCluster(shared.Server(t).Config(), kube.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w.writer = cluster.Writer()
		if _, err := w.writer.Get(t.Context(), ref); err != nil {
			if _, ok := errors.AsType[*remediate.OtherVersionError](err); !ok {
				t.Fatal(err)
			}
			break
		}
	}
	if o := w.standing(ref); o.State != remediate.StateUnreadable || o.Message == "" {
		t.Errorf("it is %q: %q", o.State, o.Message)
	}
	if blocked := w.mustPlan(s).Blocked(); len(blocked) != 1 || blocked[0].Block.By != remediate.BlockedByMissingKind {
		t.Errorf("blocked are %+v", blocked)
	}
	w.must(nil)
	ref.APIVersion = "policies.kyverno.io/v1"
	if w.get(ref) != nil {
		t.Error("the policy is there still, and its record is gone")
	}
	w.wantDump(before)
}

// What a finalizer holds back is there still, and so is its record.
func TestHeldByAFinalizer(t *testing.T) {
	w := newWorld(t)
	before := w.dump()
	w.must(w.setOf(w.tools(w.two), w.labelled(w.one)))
	ref := armorRef(w.two, w.name+"-tools")
	finalizers := func(names ...string) {
		w.edit(armorKind(), w.two, ref.Name, "controller", func(u *unstructured.Unstructured) { u.SetFinalizers(names) })
	}
	finalizers("example.com/holds")
	for range 2 {
		if result, err := w.run(w.writer, nil); err == nil || !strings.Contains(err.Error(), "example.com/holds") || result.Left != 1 {
			t.Errorf("rollback: %v, %+v", err, result)
		}
		if o := w.standing(ref); o.State != remediate.StateInPlace || !strings.Contains(o.Message, "being deleted") {
			t.Errorf("it is %q: %q", o.State, o.Message)
		}
	}
	finalizers()
	w.must(nil)
	w.wantDump(before)
}
