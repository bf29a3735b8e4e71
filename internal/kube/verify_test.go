package kube

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

func TestAcceptance(t *testing.T) {
	t.Parallel()
	const vap = "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: a, generation: 3}\n"
	const rules = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a, generation: 3}\n"
	const cel = "apiVersion: policies.kyverno.io/v1\nkind: ValidatingPolicy\nmetadata: {name: a, generation: 3}\n"
	for _, test := range []struct {
		name, object string
		want         kernel.Answer
		says         string
		settled      bool
	}{
		{"not checked", vap, kernel.Unknown, "controller manager", false},
		{"checked before it changed", vap + "status: {observedGeneration: 2, typeChecking: {}}", kernel.Unknown, "controller manager", false},
		{"checked", vap + "status: {observedGeneration: 3, typeChecking: {}}", kernel.Yes, "type-checked", true},
		{"complains", vap + "status: {observedGeneration: 3, typeChecking: {expressionWarnings: [{fieldRef: 'spec.validations[0].expression', warning: \"undefined\\n  field 'nothing'\"}]}}", kernel.No, "spec.validations[0].expression: undefined field 'nothing'", true},

		{"no status", rules, kernel.Unknown, "controller running", false},
		{"ready", rules + "status: {conditions: [{type: Ready, status: 'True'}]}", kernel.Yes, "ready", true},
		{"ready before it changed", rules + "status: {conditions: [{type: Ready, status: 'True', observedGeneration: 2}]}", kernel.Unknown, "controller running", false},
		{"not ready", rules + "status: {conditions: [{type: Ready, status: 'False', message: no webhook}]}", kernel.No, "no webhook", false},

		{"no status of CEL", cel, kernel.Unknown, "controller running", false},
		{"configured", cel + "status: {conditionStatus: {ready: true, conditions: [{type: WebhookConfigured, status: 'True'}]}}", kernel.Yes, "ready", true},
		{"no rights to report", cel + "status: {conditionStatus: {ready: false, conditions: [{type: WebhookConfigured, status: 'True'}, {type: RBACPermissionsGranted, status: 'False'}]}}", kernel.Yes, "ready", true},
		{"does not compile", cel + "status: {conditionStatus: {ready: false, conditions: [{type: PolicyCached, status: 'False', message: no such key}, {type: WebhookConfigured, status: 'True'}]}}", kernel.No, "no such key", false},
		{"only not ready", cel + "status: {conditionStatus: {ready: false}}", kernel.No, "not ready", false},
		{"nonsense", cel + "status: {conditionStatus: 1}", kernel.Unknown, "", true},
	} {
		object := objectOf(t, test.object)
		a, settled := acceptance(remediate.RefOf(object))(object)
		if a.is != test.want || settled != test.settled || !strings.Contains(a.why, test.says) {
			t.Errorf("%s: %+v, settled %v; want %s with %q, settled %v", test.name, a, settled, test.want, test.says, test.settled)
		}
	}
	if acceptance(remediate.RefOf(objectOf(t, "{apiVersion: v1, kind: Namespace, metadata: {name: a}}"))) != nil {
		t.Error("nobody accepts a namespace's labels")
	}
}

func TestAgentsOn(t *testing.T) {
	t.Parallel()
	node := func(name, os string) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{OperatingSystem: os}}}
	}
	agent := func(namespace, node string, ready corev1.ConditionStatus) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "agent-" + node},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "kubearmor"}}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
		}
	}
	a, b, win := node("a", "linux"), node("b", "linux"), node("win", "windows")
	var many []corev1.Node
	for i := range 9 {
		many = append(many, node(fmt.Sprintf("n%d", i), "linux"))
	}
	for _, test := range []struct {
		name  string
		nodes []corev1.Node
		pods  []corev1.Pod
		want  kernel.Answer
		says  string
	}{
		{"nothing", nil, nil, kernel.Unknown, "no Linux node"},
		{"Windows alone", []corev1.Node{win}, nil, kernel.Unknown, "no Linux node"},
		{"nowhere", []corev1.Node{a, b}, nil, kernel.No, "none of 2 nodes"},
		{"everywhere", []corev1.Node{a, b, win}, []corev1.Pod{agent("kubearmor", "a", "True"), agent("kubearmor", "b", "True")}, kernel.Yes, "all 2 nodes"},
		{"one is not ready", []corev1.Node{a, b}, []corev1.Pod{agent("kubearmor", "a", "True"), agent("kubearmor", "b", "False")}, kernel.No, "on 1 of 2 nodes"},
		{"anybody's label", []corev1.Node{a}, []corev1.Pod{agent("team", "a", "True")}, kernel.Unknown, "on 1 of 1 nodes"},
		{"many", many, []corev1.Pod{agent("kubearmor", "n0", "True")}, kernel.No, "n1, n2, n3, n4, n5 and 3 more"},
	} {
		got, settled := agentsOn(test.nodes, test.pods, time.Time{})
		if got.is != test.want || !strings.Contains(got.why, test.says) || settled != (test.want == kernel.Yes) {
			t.Errorf("%s: %+v, settled %v; want %s with %q", test.name, got, settled, test.want, test.says)
		}
	}
}

func TestProofKnowsItsOwn(t *testing.T) {
	t.Parallel()
	form := func(apiVersion, kind, name string) *unstructured.Unstructured {
		return objectOf(t, fmt.Sprintf("{apiVersion: %s, kind: %s, metadata: {name: %s}}", apiVersion, kind, name))
	}
	for _, test := range []struct {
		form *unstructured.Unstructured
		text string
		want bool
	}{
		{form("v1", "Namespace", "a"), `violates PodSecurity "baseline:latest": host namespaces`, true},
		{form("v1", "Namespace", "a"), `would violate PodSecurity "baseline:latest": host namespaces`, true},
		{form("v1", "Namespace", "a"), `ValidatingAdmissionPolicy 'a' with binding 'a' denied request: no`, false},
		{form("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "a"), `ValidatingAdmissionPolicy 'a' with binding 'a' denied request: no`, true},
		{form("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "a"), `Validation failed for ValidatingAdmissionPolicy 'a' with binding 'a': no`, true},
		{form("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "a"), `ValidatingAdmissionPolicy 'aa' with binding 'a' denied request: a no`, false},
		{form("policies.kyverno.io/v1", "ValidatingPolicy", "set-host"), `admission webhook "vpol.validate.kyverno.svc-fail" denied the request: Policy set-host failed: no`, true},
		{form("policies.kyverno.io/v1", "ValidatingPolicy", "set-host"), `admission webhook "vpol.validate.kyverno.svc-fail" denied the request: Policy set-host-ports failed: no`, false},
		{form("policies.kyverno.io/v1", "ValidatingPolicy", "set-host"), `ValidatingAdmissionPolicy 'vpol-set-host' with binding 'vpol-set-host-binding' denied request: no`, true},
		{form("policies.kyverno.io/v1", "ValidatingPolicy", "set-host"), `Policy set-host-ports failed: my-set-host and set-host.`, true},
		{form("kyverno.io/v1", "ClusterPolicy", "set-pod-security"), "admission webhook \"validate.kyverno.svc-fail\" denied the request: \n\nresource Pod/a/b was blocked due to the following policies \n\nset-pod-security:\n  baseline: no", true},
	} {
		p := &proof{forms: []*unstructured.Unstructured{test.form}}
		if got := p.ours(test.text); got != test.want {
			t.Errorf("%s %s: %v for %q", test.form.GetKind(), test.form.GetName(), got, test.text)
		}
	}
}
