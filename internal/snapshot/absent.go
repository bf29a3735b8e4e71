package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/scan"
)

// absences are what a dump that is no inventory shows to lack: nil where all that
// is referred to is there.
type absences struct {
	namespaces, nodes, pods, classes, volumes error
	owners                                    map[schema.GroupKind]error
}

// whole is the error that a reading of the dump ends with: what the inventory says,
// else what the dump itself shows.
func (s *Snapshot) whole(scope Scope, shown func(absences) error) error {
	switch {
	case s.Complete:
		return nil
	case s.inventory.begin != nil:
		if r := s.inventory.find(scope); r != nil {
			return r.Failed.err()
		}
		return fmt.Errorf("%s: %w", scope, scan.ErrNotRecorded)
	}
	return shown(s.absences())
}

// String names what is read, for messages.
func (s Scope) String() string {
	words := []string{s.Of}
	if s.Kind != "" {
		words = []string{schema.GroupKind{Group: s.Group, Kind: s.Kind}.String()}
	}
	for _, w := range []string{s.Name, s.Selector} {
		if w != "" {
			words = append(words, w)
		}
	}
	if s.Namespace != "" {
		words = append(words, "in namespace", s.Namespace)
	}
	return strings.Join(words, " ")
}

func (s *Snapshot) absences() absences {
	s.lostOnce.Do(func() { s.lost = s.findAbsences() })
	return s.lost
}

// absent says that the dump has nothing of a kind, or not those that are named.
func absent(what string, names ...string) error {
	const most = 3
	slices.Sort(names)
	switch {
	case len(names) == 0:
	case len(names) > most:
		what += fmt.Sprintf(" %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	default:
		what += " " + strings.Join(names, ", ")
	}
	return fmt.Errorf("%s: %w", what, scan.ErrNotRecorded)
}

// findAbsences looks for what the objects of the dump refer to.
func (s *Snapshot) findAbsences() absences {
	namespaces, nodes := map[string]bool{}, map[string]bool{}
	for i := range s.namespaces {
		namespaces[s.namespaces[i].Name] = true
	}
	for i := range s.nodes {
		nodes[s.nodes[i].Name] = true
	}
	noNamespace, noNode, noClass, noVolume := names{}, names{}, names{}, names{}
	for i := range s.pods {
		p := &s.pods[i]
		noNamespace.add(p.Namespace, !namespaces[p.Namespace])
		noNode.add(p.Spec.NodeName, !nodes[p.Spec.NodeName])
		if class := p.Spec.RuntimeClassName; class != nil {
			_, known := s.handlers[*class]
			noClass.add(*class, !known)
		}
		for k := range p.Spec.Volumes {
			if name, ok := scan.ClaimOf(p.Name, &p.Spec.Volumes[k]); ok {
				claim := scan.Claim{Namespace: p.Namespace, Name: name}
				_, bound := s.volumes[claim]
				noVolume.add(claim.Namespace+"/"+claim.Name, !bound && !s.unbound[claim])
			}
		}
	}
	a := absences{
		namespaces: noNamespace.err("namespaces", len(namespaces) == 0),
		nodes:      noNode.err("nodes", len(nodes) == 0),
		// Documents that are no pods may name any class.
		classes: noClass.err("runtime classes", len(s.pods) == 0),
		volumes: noVolume.err("persistent volumes of claims", false),
		owners:  s.absentOwners(),
	}
	if len(s.pods) == 0 {
		a.pods = absent("pods")
	}
	return a
}

// absentOwners are, by kind, the controllers that objects name and the dump lacks.
func (s *Snapshot) absentOwners() map[schema.GroupKind]error {
	missing := map[schema.GroupKind]names{}
	look := func(namespace string, ref *metav1.OwnerReference) {
		if ref == nil {
			return
		}
		gk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
		_, there := s.owners[gk][types.NamespacedName{Namespace: namespace, Name: ref.Name}]
		if missing[gk] == nil {
			missing[gk] = names{}
		}
		missing[gk].add(namespace+"/"+ref.Name, !there)
	}
	for i := range s.pods {
		look(s.pods[i].Namespace, scan.ControllerOf(s.pods[i].OwnerReferences))
	}
	for _, kind := range s.owners {
		for _, o := range kind {
			look(o.Namespace, o.Controller)
		}
	}
	errs := map[schema.GroupKind]error{}
	for gk, names := range missing {
		errs[gk] = names.err(gk.Kind, false)
	}
	return errs
}

// names are the names of objects that are missing.
type names map[string]bool

func (n names) add(name string, missing bool) {
	if missing && name != "" {
		n[name] = true
	}
}

// err says that they are missing, or that there is nothing of the kind at all.
func (n names) err(what string, none bool) error {
	if none {
		return absent(what)
	}
	if len(n) == 0 {
		return nil
	}
	return absent(what, slices.Collect(maps.Keys(n))...)
}
