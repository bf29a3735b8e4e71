package main

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// armoured is a node with an agent of KubeArmor that is ready: nothing is to be waited for.
const armoured = `
apiVersion: v1
kind: Namespace
metadata: {name: kubearmor}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Node
metadata: {name: worker, labels: {kubearmor.io/enforcer: bpf, kubernetes.io/os: linux}}
status: {nodeInfo: {kernelVersion: 6.8.0, operatingSystem: linux}}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: kubearmor, labels: {kubearmor-app: kubearmor}}
spec: {nodeName: worker, containers: [{name: kubearmor, image: "kubearmor/kubearmor:stable"}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
`

// The screen moves as the cluster does, changes it after the right word only, and says
// what it sees no more.
func TestTerminalOfACluster(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	server.ApplyYAML(t, armoured)
	pods := server.Client().CoreV1().Pods("shop")
	create := func(p *corev1.Pod) {
		if _, err := pods.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create(livePod("resident"))
	proxy := kubetest.NewProxy(t, server.Config(), nil)
	m := newTmuxTerminal(t)
	m.run("escape-scanner tui --no-alerts --kubeconfig " + kubetest.Kubeconfig(t, proxy.Config()))
	m.until("● live", "2 workloads")
	m.keys("2")
	m.until("Pod/resident")
	create(livePod("intruder", privileged))
	m.untilMatch(`E exposed .*Pod/intruder`)
	if err := pods.Delete(t.Context(), "intruder", metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	m.untilGone("Pod/intruder")

	// made are the policies that stand in the cluster.
	made := func() (names []string) {
		list, err := server.Client().AdmissionregistrationV1().ValidatingAdmissionPolicies().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	}
	m.keys("6", "Down", "Down", "Down", "Space")
	m.until("[chosen ones]", "[ ] shop")
	m.keys("Down", "Down", "Space")
	m.until("1 namespace chosen", "[x] shop")
	m.keys("p")
	m.until("Plan for", "+ create", "a apply")
	m.keys("a")
	m.until("and press enter. esc changes nothing.")
	m.write("yes")
	m.keys("Enter")
	m.until("is not \"kubetest\": nothing was changed.")
	if names := made(); len(names) > 0 {
		t.Errorf("the wrong word makes %q", names)
	}
	m.keys("BSpace", "BSpace", "BSpace")
	m.write("kubetest")
	m.keys("Enter")
	// Nobody checks the types of the policies here, so it would wait for that.
	m.until("applying to kubetest", "KubeArmorPolicy shop/escape-to-host-tools created", "x stops")
	m.keys("x")
	m.until("STOPPED in kubetest", "r plans a rollback")
	if names := made(); !slices.Equal(names, []string{"escape-to-host", "escape-to-host-templates"}) {
		t.Errorf("made are %q", names)
	}
	m.keys("r")
	m.until("Rollback of escape-to-host", "- delete")
	m.keys("a")
	m.until("Roll back in ", "and press enter")
	m.write("kubetest")
	m.keys("Enter")
	m.until("Rolled back in ")
	if names := made(); len(names) > 0 {
		t.Errorf("after the rollback there are %q", names)
	}

	proxy.Close()
	m.keys("1")
	m.untilMatch(`\? \d+ unread  \? stale`)
	m.until("could not be read", "watch of Deployment  unreachable", "are not seen", "2 workloads")
	m.keys("q")
	m.ended(exitOK)
}
