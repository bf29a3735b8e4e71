package snapshot

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

var _ scan.Templates = (*Dump)(nil)

// IsInventory tells whether the dump is one that a Recorder wrote.
func (d *Dump) IsInventory() bool { return d.inventory.begin != nil }

// IsCluster tells whether the dump is one of a cluster: it has nodes, or says so.
func (d *Dump) IsCluster() bool { return d.IsInventory() || len(d.nodes) > 0 }

// HasContext tells whether the dump has what manifests are judged in: namespaces or
// policies, or what should have been one of them.
func (d *Dump) HasContext() bool {
	return len(d.namespaces) > 0 || len(d.objects) > 0 || len(d.Failures) > 0
}

// About is what the inventory says of itself; nil where the dump is none.
func (d *Dump) About() *Begin { return d.inventory.begin }

// Templates visits the pod templates of the dump. What was made from one of them in
// its turn, an older one perhaps, is left to that.
func (d *Dump) Templates(ctx context.Context, visit func(scan.Template) error) error {
	declared := map[objectName]bool{}
	for _, doc := range d.templates {
		declared[nameOf(doc)] = true
	}
	for _, doc := range d.templates {
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.below(nameOf(doc), declared) {
			continue
		}
		t := scan.Template{Workload: doc.Workload, Pod: scan.Pod{Meta: doc.Meta, Spec: doc.Spec}, Declaration: doc}
		if err := visit(t); err != nil {
			return err
		}
	}
	return nil
}

// objectName names an object whatever its version.
type objectName struct {
	kind schema.GroupKind
	types.NamespacedName
}

func nameOf(doc *manifest.Document) objectName {
	w := doc.Workload
	return objectName{
		schema.FromAPIVersionAndKind(doc.APIVersion, w.Kind).GroupKind(),
		types.NamespacedName{Namespace: w.Namespace, Name: w.Name},
	}
}

// below tells whether the object was made from one of those declared, at the top of
// a chain of owners that ends.
func (d *Dump) below(name objectName, declared map[objectName]bool) bool {
	const longest = 10
	for depth := range longest {
		above, ok := d.controller(name)
		if !ok || !declared[above] {
			return depth > 0
		}
		name = above
	}
	return false
}

// controller is the object's own controller, if the dump has it.
func (d *Dump) controller(of objectName) (objectName, bool) {
	ref := d.owners[of.kind][of.NamespacedName].Controller
	if ref == nil {
		return objectName{}, false
	}
	above := objectName{
		schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind(),
		types.NamespacedName{Namespace: of.Namespace, Name: ref.Name},
	}
	owner, ok := d.owners[above.kind][above.NamespacedName]
	return above, ok && owner.UID == ref.UID && above != of
}
