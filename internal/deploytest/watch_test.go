package deploytest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
)

const exposedPod = `
apiVersion: v1
kind: Pod
metadata: {name: open, namespace: watched-shop}
spec: {automountServiceAccountToken: false, hostPID: true, containers: [{name: web, image: registry.example/web}]}
`

// TestWatch runs the two replicas of the watch, as the manifests have them: one leads, and
// writes reports and Events; both serve what the Service and the probes ask for.
func TestWatch(t *testing.T) {
	n := newNode(t)
	installKinds(t, n.server)
	makeNamespace(t, n.server, "watched-shop")
	makeAccount(t, n.server, "watched-shop", "default")
	r := manifest(t, "all.yaml")
	newInstaller(t).install(r)
	w := r.workload(t, "watch")
	who := account{w.namespace, w.template.Spec.ServiceAccountName}
	n.settled(who, r.grants(t)[who])

	first := n.start(n.admitted(w.namespace, w.name+"-first", w.template))
	awaited(t, "one leads", func() bool { return n.serves(first, "escape_scanner_leader 1") })
	second := n.start(n.admitted(w.namespace, w.name+"-second", w.template))
	awaited(t, "the other knows who leads", func() bool { return strings.Contains(second.stderr.String(), w.name+"-first") })
	for _, replica := range []*running{first, second} {
		n.probe(w, replica)
	}
	if n.serves(second, "escape_scanner_leader 1") {
		t.Error("both lead")
	}
	n.service(r, w)
	n.server.ApplyYAML(t, exposedPod)
	awaited(t, "a report", func() bool { return len(n.reports("watched-shop")) == 1 })
	awaited(t, "an Event", func() bool { return n.events("watched-shop") > 0 })
	// That KubeArmor is not there is no missing right.
	for _, replica := range []*running{first, second} {
		if said := replica.stderr.String(); strings.Contains(said, "forbidden") {
			t.Errorf("it lacks a right:\n%s", said)
		}
	}
	if code := first.stop(); code != exitOK {
		t.Errorf("the first ends with %d:\n%s", code, first.stderr.String())
	}
	awaited(t, "the other leads", func() bool { return n.serves(second, "escape_scanner_leader 1") })
	now := int64(0)
	if err := n.server.Client().CoreV1().Pods("watched-shop").Delete(t.Context(), "open", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	awaited(t, "no report of a pod that is gone", func() bool { return len(n.reports("watched-shop")) == 0 })
	if code := second.stop(); code != exitOK {
		t.Errorf("the second ends with %d:\n%s", code, second.stderr.String())
	}
}

// get asks a replica.
func (n *node) get(r *running, path string) (int, string) {
	n.Helper()
	request, err := http.NewRequestWithContext(n.Context(), http.MethodGet, "http://"+r.address()+path, nil)
	if err != nil {
		n.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		n.Fatalf("%v; it said:\n%s", err, r.stderr.String())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// serves tells whether there is such a line in the metrics.
func (n *node) serves(r *running, line string) bool {
	n.Helper()
	code, body := n.get(r, "/metrics")
	return code == http.StatusOK && strings.Contains("\n"+body, "\n"+line+"\n")
}

// probe asks what a kubelet would ask, and waits until the answers are good.
func (n *node) probe(w workload, r *running) {
	n.Helper()
	c := w.template.Spec.Containers[0]
	port := containerPort(n.T, c, intstr.FromString("metrics"))
	if args := strings.Join(c.Args, " "); !strings.Contains(args, fmt.Sprintf("--listen=:%d ", port)) {
		n.Errorf("%s has the port %d, and listens elsewhere: %s", w, port, args)
	}
	for name, probe := range map[string]*corev1.Probe{"liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			n.Fatalf("%s has no probe of %s", w, name)
		}
		if at := containerPort(n.T, c, probe.HTTPGet.Port); at != port {
			n.Errorf("%s is probed for %s at port %d, and serves at %d", w, name, at, port)
		}
		awaited(n, name, func() bool {
			code, _ := n.get(r, probe.HTTPGet.Path)
			return code == http.StatusOK
		})
	}
}

// service checks that the Service leads to the pods, at a port that they have.
func (n *node) service(r *rendering, w workload) {
	n.Helper()
	found := 0
	for _, o := range r.objects {
		if o.GetKind() != "Service" {
			continue
		}
		found++
		s := as[corev1.Service](n, o)
		for key, value := range s.Spec.Selector {
			if w.template.Labels[key] != value {
				n.Errorf("Service %s selects %s=%s, which %s has not", s.Name, key, value, w)
			}
		}
		for _, p := range s.Spec.Ports {
			containerPort(n.T, w.template.Spec.Containers[0], p.TargetPort)
		}
	}
	if found == 0 {
		n.Error("there is no Service")
	}
}

// containerPort is the number of a port of a container.
func containerPort(t *testing.T, c corev1.Container, port intstr.IntOrString) int32 {
	t.Helper()
	for _, p := range c.Ports {
		if port.Type == intstr.String && p.Name == port.StrVal || port.Type == intstr.Int && p.ContainerPort == port.IntVal {
			return p.ContainerPort
		}
	}
	t.Fatalf("container %s has no port %s", c.Name, port.String())
	return 0
}

// reports are the OpenReports of a namespace, of whatever tool.
func (n *node) reports(namespace string) []unstructured.Unstructured {
	n.Helper()
	client, err := dynamic.NewForConfig(n.server.Config())
	if err != nil {
		n.Fatal(err)
	}
	list, err := client.Resource(schema.GroupVersionResource{Group: "openreports.io", Version: "v1alpha1", Resource: "reports"}).
		Namespace(namespace).List(n.Context(), metav1.ListOptions{})
	if err != nil {
		n.Fatal(err)
	}
	return list.Items
}

// events counts what the watch told of objects in a namespace.
func (n *node) events(namespace string) (count int) {
	n.Helper()
	list, err := n.server.Client().EventsV1().Events(namespace).List(n.Context(), metav1.ListOptions{})
	if err != nil {
		n.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].ReportingController == "escape-scanner" {
			count++
		}
	}
	return count
}
