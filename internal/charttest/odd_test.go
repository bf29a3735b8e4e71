package charttest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// find is the object of a kind whose name ends so, as its type.
func find[T any](t *testing.T, objects []*unstructured.Unstructured, kind, name string) *T {
	t.Helper()
	i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
	if i < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	into := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(objects[i].Object, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// Whatever the values look like, the objects are of the API, and what the chart needs for
// itself is as it was.
func TestOddValues(t *testing.T) {
	t.Parallel()
	text, err := Helm(t, "template", "567", Chart, "--namespace", "890", "--values", "testdata/odd-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checkObjects(t, text)
	objects := Objects(t, text)
	audit := find[batchv1.CronJob](t, objects, "CronJob", "567-1234-audit").Spec.JobTemplate.Spec.Template
	watch := find[appsv1.Deployment](t, objects, "Deployment", "567-1234-watch").Spec
	probe := find[appsv1.DaemonSet](t, objects, "DaemonSet", "567-1234-node-probe").Spec
	for component, meta := range map[string]metav1.ObjectMeta{"audit": audit.ObjectMeta, "watch": watch.Template.ObjectMeta, "node-probe": probe.Template.ObjectMeta} {
		if meta.Labels["app.kubernetes.io/component"] != component || meta.Labels["team"] != "1" {
			t.Errorf("%s: labels %v", component, meta.Labels)
		}
	}
	if annotations := watch.Template.Annotations; len(annotations) != 2 || annotations["checksum/config"] == "mine" {
		t.Errorf("annotations of the watch: %v", annotations)
	}
	for key, value := range watch.Selector.MatchLabels {
		if watch.Template.Labels[key] != value {
			t.Errorf("the watch selects %s=%s, and its pods have %q", key, value, watch.Template.Labels[key])
		}
	}
	for _, want := range []string{
		`--selector=app in (a, b), name!="{{ .Release.Name }}"`, `--output=sarif=s3://123/a"b'c{date}.sarif`, "--cluster-name=1e3", "--probe={{ y }}", "- a: b",
	} {
		if args := audit.Spec.Containers[0].Args; !slices.Contains(args, want) {
			t.Errorf("%q is not in %q", want, args)
		}
	}
	if args := watch.Template.Spec.Containers[0].Args; !slices.Contains(args, "--kubearmor-server-name=a: b\nc") {
		t.Errorf("arguments of the watch: %q", args)
	}
	monitor := find[metav1.PartialObjectMetadata](t, objects, "ServiceMonitor", "567-1234-watch")
	if label := monitor.Labels["app.kubernetes.io/instance"]; label != "mine" {
		t.Errorf("a Prometheus that looks for the label mine finds %q", label)
	}
}

// Releases in one namespace share nothing but a node probe, nor the Lease by which replicas
// choose who writes: of two watches with one Lease one would be silent.
func TestReleasesShareNothing(t *testing.T) {
	t.Parallel()
	owner := map[string]string{}
	for _, release := range []string{Release, "team-a"} {
		// Also with names of the user's own, which Helm knows nothing of.
		for _, flags := range [][]string{nil, {"--set", "fullnameOverride=own-" + release}} {
			text, err := Helm(t, append([]string{"template", release, Chart, "--namespace", Namespace, "--set", "kubearmor.enabled=true,watch.reports=auto"}, flags...)...)
			if err != nil {
				t.Fatal(err)
			}
			objects := Objects(t, text)
			names := []string{"Lease of " + leaseOf(t, objects)}
			for _, o := range objects {
				names = append(names, o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName())
			}
			for _, name := range names {
				if other := owner[name]; other != "" {
					t.Errorf("%s %q and %s: both have %s", release, flags, other, name)
				}
				owner[name] = fmt.Sprintf("%s %q", release, flags)
			}
		}
	}
}

// leaseOf is the Lease that a rendering has its watch use.
func leaseOf(t *testing.T, objects []*unstructured.Unstructured) string {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		for _, arg := range find[appsv1.Deployment](t, objects, "Deployment", o.GetName()).Spec.Template.Spec.Containers[0].Args {
			if name, ok := strings.CutPrefix(arg, "--lease-name="); ok {
				return name
			}
		}
	}
	t.Fatal("the watch has no Lease of its own")
	return ""
}

// In a namespace that the chart did not make, nobody's pods but the probe's are cut off.
func TestProbePolicyIsForTheProbe(t *testing.T) {
	t.Parallel()
	objects := Objects(t, Render(t, "", "--set", "nodeProbe.enabled=true,nodeProbe.namespace.create=false,nodeProbe.namespace.name=shared"))
	policy := find[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy", Release+"-node-probe")
	if policy.Namespace != "shared" || policy.Spec.PodSelector.MatchLabels["app.kubernetes.io/component"] != "node-probe" {
		t.Errorf("in %s it selects %v", policy.Namespace, policy.Spec.PodSelector)
	}
}

// Go is told of the limit in whatever unit it is.
func TestMemoryLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ limit, want string }{
		{`"256Mi"`, "230MiB"},
		{`"1.5Gi"`, "1382MiB"},
		{`"512M"`, "439MiB"},
		{"536870912", "460MiB"},
		{`"536870912"`, "460MiB"},
		{"null", ""},
	} {
		t.Run(test.limit, func(t *testing.T) {
			t.Parallel()
			text := Render(t, "", "--set-json", "watch.resources.limits.memory="+test.limit, "--show-only", "templates/watch.yaml")
			watch := find[appsv1.Deployment](t, Objects(t, text), "Deployment", Release+"-watch")
			have := ""
			for _, v := range watch.Spec.Template.Spec.Containers[0].Env {
				if v.Name == "GOMEMLIMIT" {
					have = v.Value
				}
			}
			if have != test.want {
				t.Errorf("GOMEMLIMIT is %q, want %q", have, test.want)
			}
		})
	}
}
