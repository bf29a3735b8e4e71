package remediate_test

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan"
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
		_, err = w.writer.Get(t.Context(), ref)
		if _, ok := errors.AsType[*remediate.OtherVersionError](err); ok {
			break
		}
		if errors.Is(err, scan.ErrNotServed) {
			t.Fatal(err)
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

// A rollback goes through while an apply is at work. What that apply writes afterwards
// is not without a record.
func TestRolledBackMeanwhile(t *testing.T) {
	for _, test := range []struct {
		name string
		// when is whether the rollback runs right before the object is written, or has only
		// been planned then and runs after it.
		planned bool
	}{{"it is over", false}, {"it is at work", true}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			before := w.dump()
			s := w.setOf(w.chroot(w.one), w.tools(w.two))
			w.opts.Stages = []remediate.Stage{remediate.StageEnforce}
			plan, opts := w.mustPlan(s), applyOptions()
			var rollback *remediate.Plan
			made := 0
			opts.Progress = func(remediate.Progress) {
				switch made++; {
				case made == 1 && test.planned:
					rollback = w.mustPlanRollback()
				case made == 1:
					w.must(nil)
				case made == 2 && test.planned:
					if _, err := rollback.Apply(t.Context(), w.writer, applyOptions()); !errors.Is(err, remediate.ErrConcurrent) {
						t.Errorf("the rollback: %v", err)
					}
				}
			}
			if _, err := plan.Apply(t.Context(), w.writer, opts); !errors.Is(err, remediate.ErrConcurrent) {
				t.Errorf("the apply: %v", err)
			}
			if o := w.standing(armorRef(w.two, w.name+"-tools")); o.State != remediate.StateInPlace {
				t.Errorf("what was written last is %q", o.State)
			}
			w.must(nil)
			w.wantDump(before)
		})
	}
}

// What a set is not for any more, and is gone anyway, leaves the record too.
func TestOnlyTheRecordChanges(t *testing.T) {
	w := newWorld(t)
	w.must(w.setOf(w.labelled(w.one), w.tools(w.two)))
	if err := w.other.Resource(armorKind()).Namespace(w.two).Delete(t.Context(), w.name+"-tools", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	smaller := w.setOf(w.labelled(w.one))
	plan := w.mustPlan(smaller)
	if plan.Pending() != 0 || plan.Idle() {
		t.Errorf("%d changes are pending, and idle is %t", plan.Pending(), plan.Idle())
	}
	w.must(smaller)
	if status := w.status(); len(status.Objects) != 1 || !w.mustPlan(smaller).Idle() {
		t.Errorf("status: %+v", states(status))
	}
}

// A namespace comes back from a backup, with what the set made of it. What was before
// the set is known still.
func TestFromABackup(t *testing.T) {
	w := newWorld(t)
	s := w.setOf(w.tools(w.two), w.labelled(w.one))
	w.must(s)
	w.tampered(func(data map[string]any, _ *unstructured.Unstructured) {
		// Nobody ends namespaces here, so it is the record that has another UID.
		uid := string(w.get(namespaceRef(w.one)).GetUID())
		data["step-00002"] = strings.Replace(data["step-00002"].(string), uid, "another", 1)
	})
	w.must(s)
	w.must(nil)
	labels := w.get(namespaceRef(w.one)).GetLabels()
	if labels[psa.EnforceLevelLabel] != "privileged" || labels[set.LabelSet] != "" {
		t.Errorf("the labels are %v", labels)
	}
}
