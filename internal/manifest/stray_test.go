package manifest_test

import (
	"fmt"
	"strings"
	"testing"
)

// What a custom kind starts is not skipped in silence because its pods stand where nobody
// looks for them.
func TestContainersElsewhereAreNotPassedBy(t *testing.T) {
	t.Parallel()
	const containers = "containers: [{name: c, image: i}]"
	for name, test := range map[string]struct{ apiVersion, kind, spec, at string }{
		"several templates":     {"ray.io/v1", "RayCluster", "head: {template: {spec: {" + containers + "}}}", "spec.head.template.spec.containers"},
		"a list of templates":   {"ray.io/v1", "RayCluster", "workers: [{}, {template: {spec: {" + containers + "}}}]", "spec.workers[1].template.spec.containers"},
		"by an alias":           {"ray.io/v1", "RayCluster", "a: &a {" + containers + "}\n  b: *a", "spec.a.containers"},
		"by a merge key":        {"ray.io/v1", "RayCluster", "a: [&a {" + containers + "}]\n  b: {<<: *a}", "spec.a[0].containers"},
		"a workflow":            {"argoproj.io/v1alpha1", "Workflow", "templates: [{name: t, container: {image: i}}]", "spec.templates[0].container"},
		"a JobSet":              {"jobset.x-k8s.io/v1alpha2", "JobSet", "replicatedJobs: [{template: {spec: {template: {spec: {" + containers + "}}}}}]", "spec.replicatedJobs[0].template.spec.template.spec.containers"},
		"values of a chart":     {"helm.toolkit.fluxcd.io/v2", "HelmRelease", "values: {sidecars: {" + containers + "}}", "spec.values.sidecars.containers"},
		"no image":              {"example.com/v1", "Thing", "containers: [{name: c}]", ""},
		"no name":               {"example.com/v1", "Thing", "containers: [{image: i}]", ""},
		"blobs":                 {"example.com/v1", "Thing", "containers: [a, b]", ""},
		"a container of blobs":  {"example.com/v1", "Thing", "container: backups", ""},
		"images with a mapping": {"example.com/v1", "Thing", "container: {image: {tag: x}}", ""},
		"a policy":              {"kyverno.io/v1", "ClusterPolicy", "rules: [{validate: {pattern: {spec: {" + containers + "}}}}]", ""},
		"a schema":              {"apiextensions.k8s.io/v1", "CustomResourceDefinition", "example: {" + containers + "}", ""},
		"Kubernetes itself":     {"v1", "Thing", containers, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: x}\nspec:\n  %s\n", test.apiVersion, test.kind, test.spec)
			want := []string{"1: skipped: no pod template", fmt.Sprintf("%d: -/Pod/p", strings.Count(text, "\n")+2)}
			if test.at != "" {
				want[0] = "5: invalid: line 5: " + test.at + ": in a " + test.kind + " no pod template is looked for there…"
			}
			expect(t, records(t, text+"---\n"+pod), want)
		})
	}
}
