package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/escape-scanner/escape-scanner/internal/charttest"
	"github.com/escape-scanner/escape-scanner/internal/kube"
)

// rightSet are rights, each as VERB RESOURCE and where.
type rightSet map[string]bool

func rightsOf(perms []kube.Permission) rightSet {
	set := rightSet{}
	for _, p := range perms {
		set.add(p)
	}
	return set
}

func (s rightSet) add(p kube.Permission) { s[p.String()+" in "+p.Namespace] = true }

// reduced leaves out what is held everywhere already.
func (s rightSet) reduced() []string {
	var list []string
	for right := range s {
		what, namespace, _ := strings.Cut(right, " in ")
		if namespace == "" || !s[what+" in "] {
			list = append(list, right)
		}
	}
	slices.Sort(list)
	return list
}

// rightsOfRules spells the rules of a role out.
func rightsOfRules(rules []rbacv1.PolicyRule, namespace string) []kube.Permission {
	var perms []kube.Permission
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				resource, sub, _ := strings.Cut(resource, "/")
				for _, verb := range rule.Verbs {
					for _, name := range names {
						perms = append(perms, kube.Permission{Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name, Namespace: namespace})
					}
				}
			}
		}
	}
	return perms
}

// typed turns an object into its type.
func typed[T any](t *testing.T, o *unstructured.Unstructured) *T {
	t.Helper()
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// granted are the rights that the bindings give to a subject.
func (r *rendering) granted(subject rbacv1.Subject) rightSet {
	r.Helper()
	rules := map[string][]rbacv1.PolicyRule{}
	for _, o := range r.objects {
		switch o.GetKind() {
		case "ClusterRole":
			rules["ClusterRole/"+o.GetName()] = typed[rbacv1.ClusterRole](r.T, o).Rules
		case "Role":
			rules["Role/"+o.GetNamespace()+"/"+o.GetName()] = typed[rbacv1.Role](r.T, o).Rules
		}
	}
	set := rightSet{}
	for _, o := range r.objects {
		if o.GetKind() != "ClusterRoleBinding" && o.GetKind() != "RoleBinding" {
			continue
		}
		// The two differ in nothing that is read here.
		binding := typed[rbacv1.RoleBinding](r.T, o)
		role := binding.RoleRef.Kind + "/"
		if binding.RoleRef.Kind == "Role" {
			role += o.GetNamespace() + "/"
		}
		held, ok := rules[role+binding.RoleRef.Name]
		if !ok {
			r.Errorf("%s %s binds %s, which is not there", o.GetKind(), o.GetName(), role+binding.RoleRef.Name)
		}
		if !slices.Contains(binding.Subjects, subject) {
			continue
		}
		for _, p := range rightsOfRules(held, o.GetNamespace()) {
			set.add(p)
		}
	}
	return set
}

// armorNamespace is where a rendering has KubeArmor.
func (r *rendering) armorNamespace() string {
	for _, o := range r.objects {
		if o.GetKind() == "Role" && (strings.HasSuffix(o.GetName(), "-relay") || strings.HasSuffix(o.GetName(), "-kubearmor-exec")) {
			return o.GetNamespace()
		}
	}
	return usualNamespace
}

// The ServiceAccounts of the chart may do what the program says that it needs, with the
// very flags of the pods, and nothing else.
func TestChartRolesAreWhatIsNeeded(t *testing.T) {
	t.Parallel()
	renderings(t, func(r *rendering) {
		accounts := map[string]bool{}
		for _, component := range []string{"audit", "watch"} {
			pod := r.pod(component)
			if pod == nil {
				continue
			}
			accounts[pod.ServiceAccountName] = true
			a, args := r.run(pod)
			var perms []kube.Permission
			if component == "audit" {
				f, cfg := r.scanOf(a, args)
				work := scanWork(f, cfg)
				work.Looks.AgentNamespace = r.armorNamespace()
				work.KubeArmor = r.armorNamespace()
				perms = kube.ScanNeeds(work)
			} else {
				f, cfg := r.watchOf(a, args)
				work, err := a.watchWork(f, cfg)
				if err != nil {
					r.Fatal(err)
				}
				work.KubeArmor = r.armorNamespace()
				perms = kube.WatchNeeds(work)
			}
			perms = slices.DeleteFunc(perms, func(p kube.Permission) bool {
				// In the cluster the relay is reached by its Service.
				return p.Subresource == "portforward"
			})
			have := r.granted(rbacv1.Subject{Kind: "ServiceAccount", Name: pod.ServiceAccountName, Namespace: charttest.Namespace})
			compareRights(r.T, component, have.reduced(), rightsOf(perms).reduced())
		}
		r.nobodyElse(accounts)
	})
}

// nobodyElse checks that no other ServiceAccount of the chart is bound.
func (r *rendering) nobodyElse(accounts map[string]bool) {
	r.Helper()
	for _, o := range r.objects {
		if o.GetKind() != "ServiceAccount" || accounts[o.GetName()] {
			continue
		}
		have := r.granted(rbacv1.Subject{Kind: "ServiceAccount", Name: o.GetName(), Namespace: o.GetNamespace()})
		if len(have) > 0 {
			r.Errorf("ServiceAccount %s may %q", o.GetName(), slices.Sorted(maps.Keys(have)))
		}
	}
}

func compareRights(t *testing.T, who string, have, want []string) {
	t.Helper()
	for _, right := range have {
		if !slices.Contains(want, right) {
			t.Errorf("%s may %s, and does not need it", who, right)
		}
	}
	for _, right := range want {
		if !slices.Contains(have, right) {
			t.Errorf("%s may not %s, and needs it", who, right)
		}
	}
	if len(want) == 0 {
		t.Errorf("%s needs nothing", who)
	}
}

// Without asking for more the chart's pods read, and write nothing but Events and a Lease.
func TestChartDefaultsOnlyRead(t *testing.T) {
	t.Parallel()
	r := &rendering{T: t, text: charttest.Render(t, "")}
	r.objects = charttest.Objects(t, r.text)
	for _, component := range []string{"audit", "watch"} {
		pod := r.pod(component)
		for right := range r.granted(rbacv1.Subject{Kind: "ServiceAccount", Name: pod.ServiceAccountName, Namespace: charttest.Namespace}) {
			verb, what, _ := strings.Cut(right, " ")
			harmless := slices.Contains([]string{"get", "list", "watch"}, verb) && !strings.Contains(what, "secrets") && !strings.Contains(what, "configmaps")
			if !harmless && !strings.HasPrefix(what, "events.events.k8s.io ") && !ownLease(verb, what) {
				t.Errorf("%s may %s", component, right)
			}
		}
	}
}

// ownLease tells whether a right is one to the watch's own Lease. Which one is made cannot
// be limited.
func ownLease(verb, what string) bool {
	return strings.HasPrefix(what, "leases.coordination.k8s.io/"+charttest.Release+"-watch ") || verb == "create" && strings.HasPrefix(what, "leases.coordination.k8s.io ")
}

// The roles for remediate are those that it prints, for the whole cluster and for some
// namespaces of it, by whatever mechanism.
func TestChartRemediateRoles(t *testing.T) {
	t.Parallel()
	text := charttest.Render(t, "", "--set", "remediate.enabled=true,audit.enabled=false,watch.enabled=false,remediate.subjects[0].kind=User,remediate.subjects[0].name=jo")
	r := &rendering{T: t, text: text, objects: charttest.Objects(t, text)}
	var want []kube.Permission
	for _, scope := range [][]string{{}, {"-n", anyNamespace}} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"remediate", "rbac", "--fit", "precise"}, scope...)
		if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr, testDeps("")); code != exitOK {
			t.Fatalf("exit code %d\n%s", code, stderr.Bytes())
		}
		for _, o := range charttest.Objects(t, stdout.Bytes()) {
			namespace := o.GetNamespace()
			if namespace == anyNamespace {
				namespace = ""
			}
			want = append(want, rightsOfRules(typed[rbacv1.Role](t, o).Rules, namespace)...)
		}
	}
	have := r.granted(rbacv1.Subject{Kind: "User", Name: "jo"})
	compareRights(t, "remediate", have.reduced(), rightsOf(want).reduced())
}
