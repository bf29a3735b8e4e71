package deploytest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// rendering is what somebody applies: a file of deploy/manifests, or the chart with a
// file of values.
type rendering struct {
	name    string
	objects []*unstructured.Unstructured
}

// manifests are the files of deploy/manifests.
func manifests(t *testing.T) []*rendering {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy", "manifests", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	var all []*rendering
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue // It names the others.
		}
		all = append(all, manifest(t, filepath.Base(file)))
	}
	return all
}

func manifest(t *testing.T, name string) *rendering {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "manifests", name))
	if err != nil {
		t.Fatal(err)
	}
	return &rendering{name, decode(t, text)}
}

// chartValues are the files of values that the chart is tried with.
func chartValues(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy", "chart", "ci", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Errorf("no values to try the chart with: %v", err)
	}
	return files
}

// release is the chart's, with these flags of helm.
func release(t *testing.T, name, namespace string, flags ...string) *rendering {
	t.Helper()
	helm, err := filepath.Abs(filepath.Join(root, "bin", "helm"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(helm); err != nil {
		t.Fatalf(`%v: run "make helm" to get what tests need`, err)
	}
	args := append([]string{"template", name, filepath.Join(root, "deploy", "chart"), "--namespace", namespace}, flags...)
	cmd := exec.CommandContext(t.Context(), helm, args...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %q: %v\n%s", args, err, complaint.String())
	}
	return &rendering{"chart " + strings.Join(flags, " "), decode(t, text)}
}

// workload is something that makes pods.
type workload struct {
	kind, namespace, name string
	template              *corev1.PodTemplateSpec
}

func (w workload) String() string { return w.kind + " " + w.namespace + "/" + w.name }

// workloads are those of a rendering.
func (r *rendering) workloads(t *testing.T) []workload {
	t.Helper()
	var all []workload
	for _, o := range r.objects {
		w := workload{kind: o.GetKind(), namespace: o.GetNamespace(), name: o.GetName()}
		switch o.GetKind() {
		case "Deployment":
			w.template = &as[appsv1.Deployment](t, o).Spec.Template
		case "DaemonSet":
			w.template = &as[appsv1.DaemonSet](t, o).Spec.Template
		case "Job":
			w.template = &as[batchv1.Job](t, o).Spec.Template
		case "CronJob":
			w.template = &as[batchv1.CronJob](t, o).Spec.JobTemplate.Spec.Template
		case "Pod", "StatefulSet", "ReplicaSet", "ReplicationController":
			t.Fatalf("%s: a %s, which no test looks at", r.name, o.GetKind())
		default:
			continue
		}
		all = append(all, w)
	}
	return all
}

// workload is the one of a component.
func (r *rendering) workload(t *testing.T, component string) workload {
	t.Helper()
	for _, w := range r.workloads(t) {
		if w.template.Labels["app.kubernetes.io/component"] == component {
			return w
		}
	}
	t.Fatalf("%s: no workload of the component %s", r.name, component)
	return workload{}
}

// as is an object of a kind that Kubernetes has a type for.
func as[T any](tb testing.TB, o *unstructured.Unstructured) *T {
	tb.Helper()
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, typed, true); err != nil {
		tb.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return typed
}

// account is a ServiceAccount.
type account struct{ namespace, name string }

func (a account) String() string { return a.namespace + "/" + a.name }

// grant is a rule of a role, and where it holds: everywhere when namespace is empty.
type grant struct {
	role, namespace string
	rule            rbacv1.PolicyRule
}

// grants are what the roles of a rendering grant to each of its ServiceAccounts.
func (r *rendering) grants(t *testing.T) map[account][]grant {
	t.Helper()
	roles := map[string][]rbacv1.PolicyRule{}
	all := map[account][]grant{}
	for _, o := range r.objects {
		switch o.GetKind() {
		case "ServiceAccount":
			all[account{o.GetNamespace(), o.GetName()}] = nil
		case "Role", "ClusterRole":
			roles[o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName()] = as[rbacv1.ClusterRole](t, o).Rules
		}
	}
	bound := map[string]bool{}
	for _, o := range r.objects {
		if o.GetKind() != "RoleBinding" && o.GetKind() != "ClusterRoleBinding" {
			continue
		}
		b := as[rbacv1.RoleBinding](t, o)
		role := b.RoleRef.Kind + " /" + b.RoleRef.Name
		if b.RoleRef.Kind == "Role" {
			role = "Role " + b.Namespace + "/" + b.RoleRef.Name
		}
		rules, ok := roles[role]
		if !ok {
			t.Errorf("%s: %s %s binds %s, which is not rendered", r.name, o.GetKind(), o.GetName(), role)
		}
		bound[role] = true
		for _, s := range b.Subjects {
			who := account{s.Namespace, s.Name}
			if o.GetLabels()["app.kubernetes.io/component"] == "remediate" {
				// These are people, whom the values name.
				continue
			}
			if _, ok := all[who]; !ok || s.Kind != "ServiceAccount" {
				t.Errorf("%s: %s %s is for %s %s, which is not rendered", r.name, o.GetKind(), o.GetName(), s.Kind, who)
			}
			for _, rule := range rules {
				all[who] = append(all[who], grant{role, o.GetNamespace(), rule})
			}
		}
	}
	for role := range roles {
		if !bound[role] {
			t.Errorf("%s: nobody is given %s", r.name, role)
		}
	}
	return all
}

// accounts are the ServiceAccounts of a rendering, in order.
func accountsOf(grants map[account][]grant) []account {
	return slices.SortedFunc(maps.Keys(grants), func(a, b account) int { return strings.Compare(a.String(), b.String()) })
}

func (g grant) String() string {
	where := "everywhere"
	if g.namespace != "" {
		where = "in " + g.namespace
	}
	return fmt.Sprintf("%s %v of %v %v %s", g.role, g.rule.Verbs, g.rule.APIGroups, g.rule.Resources, where)
}
