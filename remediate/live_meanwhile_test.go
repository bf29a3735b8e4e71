package remediate_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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
