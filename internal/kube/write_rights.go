package kube

import (
	"maps"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Verb is a verb of remediate.
type Verb string

// The verbs that talk to a cluster. All others need no rights.
const (
	VerbPlan     Verb = "plan"
	VerbApply    Verb = "apply"
	VerbRollback Verb = "rollback"
	VerbStatus   Verb = "status"
)

// Verbs lists the verbs that talk to a cluster.
func Verbs() []Verb { return []Verb{VerbPlan, VerbApply, VerbRollback, VerbStatus} }

// Work is what a verb is to be done on.
type Work struct {
	// Objects are those of the set.
	Objects []remediate.Ref
	// Namespaces are those in scope, none for the whole cluster.
	Namespaces []string
	// RecordNamespace is where the record is kept.
	RecordNamespace string
	// Looks are the ways of looking closer that are used.
	Looks Looks
	// Observe listens to KubeArmor's alerts through the API server.
	Observe bool
}

// Needs are the rights that a verb uses, and no others. A dry run takes the rights of
// what it rehearses, so a plan takes those of an apply, without the record's.
func Needs(verb Verb, work Work) []Permission {
	n := &rightsNeeded{}
	if verb != VerbRollback {
		n.reading()
	}
	for _, ref := range work.Objects {
		n.object(verb, ref)
	}
	n.record(verb, work.RecordNamespace)
	if verb != VerbRollback {
		n.looks(verb, work)
	}
	if verb == VerbApply {
		n.verifying(work)
	}
	return n.list
}

// rightsNeeded collects rights, each once.
type rightsNeeded struct{ list []Permission }

func (n *rightsNeeded) add(p Permission) {
	if !slices.ContainsFunc(n.list, p.same) {
		n.list = append(n.list, p)
	}
}

// reading is what a preview and the layers follow from. Whom a set is for is some
// namespaces, but what stops their pods belongs to the cluster, and so do the nodes
// that others run on too.
func (n *rightsNeeded) reading() {
	for _, p := range needs(nil) {
		n.add(p)
	}
	for _, kind := range scan.ObjectKinds() {
		n.add(Permission{Verb: "list", Group: kind.Group, Resource: resourceOf(kind), For: "which policies there are already"})
	}
}

// object are the rights to one object of the set. To restore an object is to update it,
// or to delete one that was not there.
func (n *rightsNeeded) object(verb Verb, ref remediate.Ref) {
	kind := ref.GroupKind()
	verbs := map[Verb][]string{
		VerbPlan:     {"get", "patch", "create", "update", "delete"},
		VerbApply:    {"get", "patch", "create", "update", "delete"},
		VerbRollback: {"get", "update", "delete"},
		VerbStatus:   {"get"},
	}[verb]
	for _, v := range verbs {
		if kind.Kind == "Namespace" && kind.Group == "" && (v == "create" || v == "delete") {
			// Only labels are ours.
			continue
		}
		n.add(Permission{Verb: v, Group: kind.Group, Resource: resourceOf(kind), Namespace: ref.Namespace, For: "the objects of the set: " + purpose(v)})
	}
}

func purpose(verb string) string {
	switch verb {
	case "get":
		return "what is there"
	case "patch", "create":
		return "to apply them"
	case "delete":
		return "to take away those that were not there before"
	}
	return "to restore what was before"
}

// record are the rights to the record of what was before.
func (n *rightsNeeded) record(verb Verb, namespace string) {
	// Apply takes away what a record does not need any more that went into several.
	verbs := map[Verb][]string{
		VerbPlan:     {"get"},
		VerbApply:    {"get", "create", "update", "delete"},
		VerbRollback: {"get", "update", "delete"},
		VerbStatus:   {"get", "list"},
	}[verb]
	for _, v := range verbs {
		n.add(Permission{Verb: v, Resource: "configmaps", Namespace: namespace, For: "the record of what was before"})
	}
}

// verifying are the rights to prove that a set bites.
func (n *rightsNeeded) verifying(work Work) {
	namespaces := work.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, ns := range namespaces {
		n.add(Permission{Verb: "create", Resource: "pods", Namespace: ns, For: "whether a pod that violates the level is refused (a dry run)"})
	}
}

// looks are the rights that looking closer takes.
func (n *rightsNeeded) looks(verb Verb, work Work) {
	for _, p := range needsOf(work.Looks, work.Namespaces) {
		n.add(p)
	}
	if work.Observe && verb != VerbStatus {
		n.hear(relayNamespace, true, true)
	}
}

// resourceOf is the resource of one of the kinds that a set is made of, whose plurals
// are all regular.
func resourceOf(kind schema.GroupKind) string {
	resource, _ := meta.UnsafeGuessKindToResource(kind.WithVersion(""))
	return resource.Resource
}

// Roles are the ClusterRole and Roles that grant the rights, one for each namespace in
// which there are some, all of one name. Whom they are bound to is the user's.
func Roles(name string, perms []Permission) []*unstructured.Unstructured {
	byNamespace := map[string][]Permission{}
	for _, p := range perms {
		byNamespace[p.Namespace] = append(byNamespace[p.Namespace], p)
	}
	var roles []*unstructured.Unstructured
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		kind, metadata := "ClusterRole", map[string]any{"name": name}
		if namespace != "" {
			kind, metadata["namespace"] = "Role", namespace
		}
		roles = append(roles, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": rbacv1.SchemeGroupVersion.String(), "kind": kind, "metadata": metadata,
			"rules": rulesOf(byNamespace[namespace]),
		}})
	}
	return roles
}

// rulesOf are the rules of a role. Resources of one group with the same verbs stand in
// one rule.
func rulesOf(perms []Permission) []any {
	type target struct{ group, resource, name string }
	verbs := map[target][]string{}
	var targets []target
	for _, p := range perms {
		t := target{p.Group, p.Resource, p.Name}
		if p.Subresource != "" {
			t.resource += "/" + p.Subresource
		}
		if verbs[t] == nil {
			targets = append(targets, t)
		}
		verbs[t] = append(verbs[t], p.Verb)
	}
	var rules []any
	for len(targets) > 0 {
		first := targets[0]
		var resources []any
		targets = slices.DeleteFunc(targets, func(t target) bool {
			same := t.group == first.group && t.name == first.name && slices.Equal(verbs[t], verbs[first])
			if same {
				resources = append(resources, t.resource)
			}
			return same
		})
		rule := map[string]any{"apiGroups": []any{first.group}, "resources": resources, "verbs": anyOf(verbs[first])}
		if first.name != "" {
			rule["resourceNames"] = []any{first.name}
		}
		rules = append(rules, rule)
	}
	return rules
}

func anyOf(words []string) []any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = w
	}
	return list
}
