package set

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	psa "k8s.io/pod-security-admission/api"
)

// patch changes an object by a merge patch, dry.
func (s *celSpace) patch(object *unstructured.Unstructured, patch string) error {
	s.Helper()
	_, err := s.resource(object).Patch(s.Context(), object.GetName(), types.MergePatchType, []byte(patch), metav1.PatchOptions{DryRun: dryRunAll})
	return err
}

// templatePatch changes the annotations of an object's template, and its first
// container if there is one.
func templatePatch(kind, container string) string {
	template := `{"metadata": {"annotations": {"note": "x"}}}`
	if container != "" {
		template = `{"metadata": {"annotations": {"note": "x"}}, "spec": {"containers": [` + container + `]}}`
	}
	path := templateKinds()[kind]
	for _, field := range slices.Backward(path) {
		template = `{"` + field + `": ` + template + `}`
	}
	return template
}

// A template that makes bad pods is refused itself; what was there before can be
// scaled, labelled and mended.
func TestLiveCELJudgesTemplates(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	for _, namespace := range []string{"ours", "kyverno-form"} {
		s.server.NamedNamespace(t, namespace, nil)
		for kind := range templateKinds() {
			s.make(workload(t, kind, namespace, "before", nil, badSpec()))
		}
	}
	s.install(renderings()[0].mustRender(t, celOptions("ours", psa.LevelBaseline, "latest", "ours")), (*Object).Final)
	s.actAsKyverno(t, celOptions("kyv", psa.LevelBaseline, "latest", "kyverno-form"))
	s.inForce("ours", nil)
	for kind := range templateKinds() {
		// For these two Kyverno rewrites nothing.
		if kind == "ReplicationController" || kind == "PodTemplate" {
			continue
		}
		s.until("kyverno-form: "+kind, func() bool { return denied(s.try(workload(t, kind, "kyverno-form", "probe", nil, badSpec()))) })
	}
	for kind := range templateKinds() {
		t.Run(kind, func(t *testing.T) {
			s.judgesTemplate(t, "ours", kind)
			if kind != "ReplicationController" && kind != "PodTemplate" {
				s.judgesTemplate(t, "kyverno-form", kind)
			}
		})
	}
}

func (s *celSpace) judgesTemplate(t *testing.T, namespace, kind string) {
	t.Helper()
	s.admits(t, s.try(workload(t, kind, namespace, "new", nil, goodSpec())))
	s.refuses(t, s.try(workload(t, kind, namespace, "new", nil, badSpec())), "privileged")
	before := workload(t, kind, namespace, "before", nil, goodSpec())
	s.admits(t, s.patch(before, `{"metadata": {"labels": {"more": "x"}, "finalizers": ["example.com/held"]}}`))
	switch kind {
	case "Deployment", "ReplicaSet", "StatefulSet", "ReplicationController":
		s.admits(t, s.patch(before, `{"spec": {"replicas": 3}}`))
	case "Job", "CronJob":
		s.admits(t, s.patch(before, `{"spec": {"suspend": true}}`))
	}
	if kind != "Job" { // The template of a Job never changes.
		s.refuses(t, s.patch(before, templatePatch(kind, "")), "privileged")
		s.admits(t, s.patch(before, templatePatch(kind, `{"name": "main", "image": "registry.example/app:1"}`)))
	}
}

// A set for the cluster is not for the namespaces that are left out.
func TestLiveVAPLeavesNamespacesOut(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	for _, namespace := range []string{"team", "free", "scanner", "kubearmor", "kyverno"} {
		s.server.NamedNamespace(t, namespace, nil)
	}
	o := celOptions("whole", psa.LevelBaseline, "latest")
	o.Scope.Exclude, o.Scope.Own = []string{"free"}, "scanner"
	objects := renderings()[0].mustRender(t, o)

	t.Run("audit", func(t *testing.T) {
		s.install(objects, func(object *Object) *unstructured.Unstructured { return object.Audit })
		for _, kind := range []string{"Pod", "Deployment"} {
			bad := workload(t, kind, "team", "bad", nil, badSpec())
			s.until("warnings", func() bool {
				s.warned.take()
				s.admits(t, s.try(bad))
				return slices.ContainsFunc(s.warned.take(), func(text string) bool { return strings.Contains(text, "privileged: containers must not") })
			})
		}
	})
	t.Run("enforce", func(t *testing.T) {
		s.install(objects, (*Object).Final)
		s.inForce("team", nil)
		// What one container of a thousand says is found, and no limit on costs is met.
		for _, last := range []corev1.PodSpec{goodSpec(), badSpec()} {
			spec := corev1.PodSpec{}
			for i := range 1000 {
				spec.Containers = append(spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "registry.example/app:1"})
			}
			spec.Containers = append(spec.Containers, last.Containers...)
			err := s.try(workload(t, "Deployment", "team", "large", nil, spec))
			if last.Containers[0].SecurityContext == nil {
				s.admits(t, err)
			} else {
				s.refuses(t, err, "privileged")
			}
		}
		for _, kind := range []string{"Pod", "Deployment"} {
			s.refuses(t, s.try(workload(t, kind, metav1.NamespaceDefault, "bad", nil, badSpec())), "privileged")
			for _, namespace := range []string{"free", "scanner", "kubearmor", "kyverno", metav1.NamespaceSystem} {
				s.admits(t, s.try(workload(t, kind, namespace, "bad", nil, badSpec())))
			}
		}
	})
}

// Labels mean pods, in templates too, and a pod that gets them comes into scope.
func TestLiveCELSelectsByLabels(t *testing.T) {
	t.Parallel()
	s := newCELSpace(t)
	labels := map[string]string{"app": "web", "tier": ""}
	half := map[string]string{"app": "web"}
	for _, namespace := range []string{"ours", "kyverno-form"} {
		s.server.NamedNamespace(t, namespace, nil)
		s.make(workload(t, "Pod", namespace, "in-scope", labels, badSpec()))
		s.make(workload(t, "Pod", namespace, "out-of-scope", half, badSpec()))
		s.make(workload(t, "Pod", namespace, "good", half, goodSpec()))
	}
	o := celOptions("ours", psa.LevelBaseline, "latest", "ours")
	o.Scope.Labels = labels
	s.install(renderings()[0].mustRender(t, o), (*Object).Final)
	s.inForce("ours", labels)
	o.Name, o.Scope.Namespaces = "kyv", []string{"kyverno-form"}
	s.actAsKyverno(t, o)
	for _, kind := range []string{"Pod", "Deployment", "CronJob"} {
		s.until(kind, func() bool { return denied(s.try(workload(t, kind, "kyverno-form", "probe", labels, badSpec()))) })
	}
	for _, namespace := range []string{"ours", "kyverno-form"} {
		t.Run(namespace, func(t *testing.T) {
			for _, kind := range []string{"Pod", "Deployment", "CronJob"} {
				s.refuses(t, s.try(workload(t, kind, namespace, "new", labels, badSpec())), "privileged")
				s.admits(t, s.try(workload(t, kind, namespace, "new", labels, goodSpec())))
				s.admits(t, s.try(workload(t, kind, namespace, "new", half, badSpec())))
			}
			outside := workload(t, "Deployment", namespace, "labelled-itself", half, badSpec())
			outside.SetLabels(labels)
			s.admits(t, s.try(outside))

			join, leave := `{"metadata": {"labels": {"tier": ""}}}`, `{"metadata": {"labels": {"tier": null}}}`
			pod := func(name string) *unstructured.Unstructured {
				return workload(t, "Pod", namespace, name, nil, corev1.PodSpec{})
			}
			s.admits(t, s.patch(pod("good"), join))
			s.refuses(t, s.patch(pod("out-of-scope"), join), "privileged")
			s.admits(t, s.patch(pod("in-scope"), `{"metadata": {"labels": {"more": "x"}}}`))
			s.admits(t, s.patch(pod("in-scope"), leave))
		})
	}
}
