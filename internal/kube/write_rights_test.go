package kube

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/escape-scanner/escape-scanner/remediate"
)

// granted are the rights that roles grant, as "VERB RESOURCE.GROUP NAMESPACE".
func granted(t *testing.T, verb Verb, perms []Permission) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, object := range Roles("escape-scanner-remediate-"+string(verb), perms) {
		kind := "ClusterRole"
		if object.GetNamespace() != "" {
			kind = "Role"
		}
		if object.GetKind() != kind || object.GetName() != "escape-scanner-remediate-"+string(verb) {
			t.Errorf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						right := Permission{Verb: verb, Group: group, Resource: resource, Name: strings.Join(rule.ResourceNames, ",")}.String() + " " + object.GetNamespace()
						if found[right] {
							t.Errorf("%s is granted twice", right)
						}
						found[right] = true
					}
				}
			}
		}
	}
	return found
}

func TestRolesGrantWhatIsNeeded(t *testing.T) {
	t.Parallel()
	policy := func(namespace string) remediate.Ref {
		return remediate.Ref{APIVersion: "security.kubearmor.com/v1", Kind: "KubeArmorPolicy", Namespace: namespace, Name: "x"}
	}
	vap := remediate.Ref{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy", Name: "x"}
	namespace := remediate.Ref{APIVersion: "v1", Kind: "Namespace", Name: "a"}
	const (
		vaps = "validatingadmissionpolicies.admissionregistration.k8s.io "
		ksps = "kubearmorpolicies.security.kubearmor.com "
	)
	here := Work{Objects: []remediate.Ref{policy("a"), vap, namespace}, Namespaces: []string{"a"}, RecordNamespace: "records"}
	everywhere := Work{Objects: []remediate.Ref{policy("")}, RecordNamespace: "records", Looks: Looks{Agents: true}, Observe: true}
	for _, test := range []struct {
		name      string
		verb      Verb
		work      Work
		has, lack []string
	}{
		{"plan", VerbPlan, here,
			[]string{"list pods ", "list nodes ", "get " + ksps + "a", "create " + ksps + "a", "delete " + ksps + "a", "patch " + vaps, "patch namespaces ", "get configmaps records"},
			[]string{"patch " + ksps, "create namespaces ", "delete namespaces ", "create configmaps records", "list configmaps records", "create pods a", "create pods.exec "}},
		{"apply", VerbApply, here,
			[]string{"create pods a", "create configmaps records", "update configmaps records", "update namespaces "}, []string{"create pods ", "list configmaps records", "get configmaps "}},
		{"rollback", VerbRollback, here,
			[]string{"get " + vaps, "update " + vaps, "delete " + vaps, "update namespaces ", "delete configmaps records"}, []string{"list pods ", "patch " + vaps, "create " + vaps, "create pods a", "delete namespaces "}},
		{"status", VerbStatus, here,
			[]string{"list pods ", "get " + vaps, "get " + ksps + "a", "list configmaps records"}, []string{"update " + vaps, "patch namespaces ", "delete configmaps records"}},
		{"apply everywhere", VerbApply, everywhere, []string{"create pods ", "patch " + ksps, "create pods/exec ", "create pods/portforward kubearmor", "get secrets/kubearmor-ca kubearmor"},
			[]string{"patch " + vaps, "create pods/portforward ", "get secrets kubearmor", "get secrets "}},
		{"status everywhere", VerbStatus, everywhere, []string{"create pods/exec "}, []string{"create pods/portforward kubearmor", "get secrets/kubearmor-ca kubearmor", "create pods "}},
		{"rollback everywhere", VerbRollback, everywhere, []string{"delete " + ksps}, []string{"create pods/exec "}},
	} {
		perms := Needs(test.verb, test.work)
		got := granted(t, test.verb, perms)
		for _, right := range test.has {
			if !got[right] {
				t.Errorf("%s: no right to %q", test.name, right)
			}
		}
		for _, right := range test.lack {
			if got[right] {
				t.Errorf("%s: a right to %q, which nothing needs", test.name, right)
			}
		}
		if len(got) != len(perms) {
			t.Errorf("%s: %d rights are granted and %d needed", test.name, len(got), len(perms))
		}
		if slices.ContainsFunc(perms, func(p Permission) bool { return p.For == "" || p.Resource == "secrets" && p.Name == "" }) {
			t.Errorf("%s: %+v", test.name, perms)
		}
	}
}
