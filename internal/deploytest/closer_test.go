package deploytest

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// closer is a release whose audit does more than read, in a cluster with one exposed pod.
func closer(t *testing.T, namespace string, values ...string) (*node, workload, []grant) {
	t.Helper()
	n := newNode(t)
	installKinds(t, n.server)
	makeNamespace(t, n.server, "watched-shop")
	makeAccount(t, n.server, "watched-shop", "default")
	n.server.ApplyYAML(t, exposedPod)
	flags := []string{"--set", "watch.enabled=false", "--set", "audit.outputs.stdout=json"}
	for _, v := range values {
		flags = append(flags, "--set", v)
	}
	r := release(t, namespace, namespace, flags...)
	restricted(t, n.server, namespace)
	newInstaller(t).install(r)
	w := r.workload(t, "audit")
	who := account{namespace, w.template.Spec.ServiceAccountName}
	grants := r.grants(t)[who]
	n.settled(who, grants)
	return n, w, grants
}

// without is an account with all of the rights but those of a role.
func (n *node) without(w workload, grants []grant, role string) string {
	n.Helper()
	const name = "without"
	var rules []rbacv1.PolicyRule
	var left []grant
	for _, g := range grants {
		if g.namespace == "" && !strings.Contains(g.role, role) {
			rules, left = append(rules, g.rule), append(left, grant{name, "", g.rule})
		}
	}
	makeAccount(n.T, n.server, w.namespace, name)
	bindAll(n.T, n.server, account{w.namespace, name}, rules)
	n.settled(account{w.namespace, name}, left)
	return name
}

// TestReports has the audit keep reports in the cluster: it makes its own, takes them
// away, and leaves those of others. Without the role it says so.
func TestReports(t *testing.T) {
	n, w, grants := closer(t, "reporting", "audit.outputs.reports=auto")
	n.server.ApplyYAML(t, `
apiVersion: openreports.io/v1alpha1
kind: Report
metadata: {name: of-others, namespace: watched-shop}
source: another-tool
summary: {pass: 1}
`)
	if a := n.run(w, n.without(w, grants, "-reports")); a.code != exitWrong || !strings.Contains(a.stderr, "reports") {
		t.Errorf("without the right to reports: exit %d, %s", a.code, a.stderr)
	}
	if left := n.reports("watched-shop"); len(left) != 1 {
		t.Errorf("without the right to reports there are %d, want the one of others", len(left))
	}
	if a := n.run(w, ""); a.code != exitOK {
		t.Errorf("exit %d: %s", a.code, a.stderr)
	}
	about := func(o unstructured.Unstructured) bool {
		text, err := json.Marshal(o.Object["scope"])
		return err == nil && strings.Contains(string(text), `"open"`)
	}
	if now := n.reports("watched-shop"); len(now) != 2 || !slices.ContainsFunc(now, about) {
		t.Errorf("reports: %v", now)
	}
	gone := int64(0)
	if err := n.server.Client().CoreV1().Pods("watched-shop").Delete(t.Context(), "open", metav1.DeleteOptions{GracePeriodSeconds: &gone}); err != nil {
		t.Fatal(err)
	}
	if a := n.run(w, ""); a.code != exitOK {
		t.Errorf("exit %d: %s", a.code, a.stderr)
	}
	if now := n.reports("watched-shop"); len(now) != 1 || now[0].GetName() != "of-others" {
		t.Errorf("reports once the pod is gone: %v", now)
	}
}

// TestAskServer has the audit ask whether the pod would be made again, which takes the
// role for it, and makes no pod.
func TestAskServer(t *testing.T) {
	n, w, grants := closer(t, "asking", "audit.askServer=true")
	whole := n.run(w, "")
	if whole.code != exitOK || len(whole.failures) > 0 {
		t.Errorf("exit %d, failures %+v: %s", whole.code, whole.failures, whole.stderr)
	}
	pods, err := n.server.Client().CoreV1().Pods("watched-shop").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Errorf("pods: %v, %v", pods, err)
	}
	a := n.run(w, n.without(w, grants, "-ask-server"))
	const not = "not allowed to ask: "
	if a.code != exitIncomplete || len(a.failures) == 0 || !strings.Contains(a.stdout, not) || strings.Contains(whole.stdout, not) {
		t.Errorf("without the right to create pods: exit %d, failures %+v, %s", a.code, a.failures, a.stdout)
	}
}

// TestNodeProbe runs the probe's container, which has no token, and has the audit read
// its log by the role for that.
func TestNodeProbe(t *testing.T) {
	n, w, _ := closer(t, "probing", "nodeProbe.enabled=true")
	r := release(t, "probing", "probing", "--set", "nodeProbe.enabled=true")
	probe := r.workload(t, "node-probe")
	pod := n.admitted(probe.namespace, probe.name, probe.template)
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil {
			t.Errorf("the probe is given a token: %+v", v)
		}
		if _, err := os.Stat(v.HostPath.Path); err != nil {
			t.Skipf("this machine has no %s: %v", v.HostPath.Path, err)
		}
	}
	pod.Spec.NodeName = "probed-node"
	running := n.start(pod)
	awaited(t, "a report", func() bool { return strings.Contains(running.stdout.String(), "\n") || running.ended() })
	kubelet := &kubetest.Kubelet{Logs: func(_, _, _ string) (string, error) { return running.stdout.String(), nil }}
	kubelet.Start(t)
	kubelet.Serve(t, n.server, "probed-node")
	real := podOf(probe)
	real.Spec.NodeName = "probed-node"
	pods := n.server.Client().CoreV1().Pods(probe.namespace)
	set, err := n.server.Client().AppsV1().DaemonSets(probe.namespace).Get(t.Context(), probe.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	real.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))}
	made, err := pods.Create(t.Context(), real, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	made.Status.Phase = corev1.PodRunning
	made.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "node", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}}}
	if _, err := pods.UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	a := n.run(w, "")
	if a.code != exitOK || len(a.failures) > 0 {
		t.Errorf("exit %d, failures %+v: %s", a.code, a.failures, a.stderr)
	}
	if !strings.Contains(a.stdout, `"check of the node, in the log of pod `) || strings.Contains(a.stdout, "could not be done") {
		t.Errorf("nothing of what the probe found is told: %s", a.stdout)
	}
	if code := running.stop(); code != exitOK {
		t.Errorf("the probe ends with %d: %s", code, running.stderr.String())
	}
}

// TestFiles has the audit write files to its volume, with a configuration from its
// ConfigMap. That its root cannot be written to does not matter.
func TestFiles(t *testing.T) {
	n, w, _ := closer(t, "filing", "audit.outputs.files.enabled=true", "audit.outputs.files.subPath=audits", "exceptions[0].rule=escape-hostpid",
		"exceptions[0].namespace=watched-shop", "exceptions[0].reason=a reason of the chart's")
	r := n.start(n.admitted(w.namespace, w.name, w.template))
	if code := r.wait(); code != exitOK {
		t.Errorf("exit %d: %s", code, r.stderr.String())
	}
	for suffix, want := range map[string]string{"sarif": `"2.1.0"`, "html": "<html", "jsonl": "a reason of the chart's"} {
		text, err := os.ReadFile(r.file("/reports/" + w.name + "." + suffix))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, and no %s in %d bytes", suffix, err, want, len(text))
		}
	}
}
