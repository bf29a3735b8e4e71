package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// stormNodes counts the nodes that come, go and change under a storm.
const stormNodes = 5

func stormNode(n int) string { return fmt.Sprintf("node-%03d", n%stormNodes) }

// stormAround changes, under a storm of pods, what stands around them: who owns them,
// where they run, and what rules on them.
type stormAround struct{ *storm }

func (s *storm) around() stormAround { return stormAround{s} }

// begin makes what has to be there before anything changes.
func (s stormAround) begin(ctx context.Context) {
	s.Helper()
	for n := range stormNodes {
		s.node(ctx, n)
	}
	for _, ns := range []string{"kubearmor", "rollouts", "limits"} {
		_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
		s.check("namespace", err)
	}
}

// blow changes it until the context ends.
func (s stormAround) blow(ctx context.Context, wg *sync.WaitGroup) {
	for _, change := range []struct {
		every time.Duration
		do    func(context.Context, int)
	}{
		{1100 * time.Millisecond, s.rollout}, {700 * time.Millisecond, s.changeNode},
		{900 * time.Millisecond, s.agent}, {1700 * time.Millisecond, s.namespaces},
		// These are about every pod of the cluster.
		{s.length / 12, s.expression}, {s.length / 14, s.kyverno},
	} {
		wg.Go(func() { s.every(ctx, change.every, change.do) })
	}
}

// check takes only what cannot happen for an error.
func (s stormAround) check(what string, err error) {
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsForbidden(err) {
		s.Errorf("%s: %v", what, err)
	}
}

// node makes a node.
func (s stormAround) node(ctx context.Context, n int) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: stormNode(n), Labels: map[string]string{"kubearmor.io/enforcer": "bpf"}}}
	node.Status.NodeInfo = corev1.NodeSystemInfo{KernelVersion: "6.1.0", OperatingSystem: "linux"}
	_, err := s.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	s.check("node", err)
}

// changeNode changes a node, or takes it away, or brings it back.
func (s stormAround) changeNode(ctx context.Context, i int) {
	nodes := s.client.CoreV1().Nodes()
	switch i % 4 {
	case 0, 1:
		enforcer := []string{"bpf", "apparmor", "none"}[i%3]
		_, err := nodes.Patch(ctx, stormNode(i), types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"kubearmor.io/enforcer":%q}}}`, enforcer), metav1.PatchOptions{})
		s.check("node", err)
	case 2:
		s.check("node", nodes.Delete(ctx, stormNode(i), metav1.DeleteOptions{}))
	case 3:
		s.node(ctx, i-1)
	}
}

// agent has a KubeArmor agent come, become ready and go.
func (s stormAround) agent(ctx context.Context, i int) {
	pods, name := s.client.CoreV1().Pods("kubearmor"), "agent-"+stormNode(i/3)
	switch i % 3 {
	case 0:
		_, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubearmor-app": "kubearmor"}},
			Spec:       corev1.PodSpec{NodeName: stormNode(i / 3), Containers: []corev1.Container{{Name: "kubearmor", Image: "kubearmor/kubearmor:stable"}}},
		}, metav1.CreateOptions{})
		s.check("agent", err)
	case 1:
		_, err := pods.Patch(ctx, name, types.MergePatchType, []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status")
		s.check("agent", err)
	case 2:
		if i%2 == 0 {
			s.check("agent", pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
		}
	}
}

// rollout rolls a Deployment out: the new ReplicaSet and its pods come, the old ones go.
// Now and then the owner goes first, or comes again under its name as another one.
func (s stormAround) rollout(ctx context.Context, i int) {
	sets, pods := s.client.AppsV1().ReplicaSets("rollouts"), s.client.CoreV1().Pods("rollouts")
	crowd := kubetest.Crowd{Namespaces: 1, Deployments: 3, ReplicaSets: 64, Pods: 3}
	n, now := i%crowd.Deployments, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}
	deployment := crowd.Deployment(n)
	deployment.Namespace, deployment.UID = "rollouts", ""
	owner, err := s.client.AppsV1().Deployments("rollouts").Create(ctx, deployment, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		owner, err = s.client.AppsV1().Deployments("rollouts").Get(ctx, deployment.Name, metav1.GetOptions{})
	}
	if err != nil {
		s.check("deployment", err)
		return
	}
	set := crowd.ReplicaSet(owner, n, i/crowd.Deployments%crowd.ReplicaSets)
	set.Namespace, set.UID = "rollouts", ""
	made, err := sets.Create(ctx, set, metav1.CreateOptions{})
	if err != nil {
		s.check("replicaset", err)
		return
	}
	for p := range crowd.Pods {
		pod := crowd.Pod(made, n, p)
		pod.Namespace, pod.Spec.NodeName = "rollouts", stormNode(p)
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		s.check("pod of a rollout", err)
	}
	if i < crowd.Deployments {
		return
	}
	old := crowd.ReplicaSet(owner, n, (i/crowd.Deployments-1)%crowd.ReplicaSets)
	if i%2 == 0 {
		s.check("replicaset", sets.Delete(ctx, old.Name, now))
	}
	for p := range crowd.Pods - i%2 {
		s.check("pod of a rollout", pods.Delete(ctx, crowd.Pod(old, n, p).Name, now))
	}
	switch i % 7 {
	case 3:
		s.check("deployment", s.client.AppsV1().Deployments("rollouts").Delete(ctx, owner.Name, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)}))
	case 5:
		// Its pods name an owner that is another one now.
		s.check("replicaset", sets.Delete(ctx, set.Name, now))
		_, err := sets.Create(ctx, set, metav1.CreateOptions{})
		s.check("replicaset", err)
	}
}

// expression has a policy in CEL, its binding and its parameters come and go.
func (s stormAround) expression(ctx context.Context, i int) {
	vap := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingadmissionpolicies"}
	binding := vap.GroupVersion().WithResource("validatingadmissionpolicybindings")
	switch name := fmt.Sprintf("storm-%d", i/4%2); i % 4 {
	case 0:
		s.make(ctx, vap, "", fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":%q},"spec":{
			"failurePolicy":"Fail","paramKind":{"apiVersion":"v1","kind":"ConfigMap"},
			"matchConstraints":{"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["pods"]}]},
			"validations":[{"expression":"object.metadata.?labels.?n.orValue('') != params.data.n"}]}}`, name))
	case 1:
		s.make(ctx, schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "limits",
			fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"limits","name":"storm"},"data":{"n":"%d"}}`, i%10))
	case 2:
		s.make(ctx, binding, "", fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":%q},"spec":{
			"policyName":%q,"validationActions":["Deny"],"paramRef":{"namespace":"limits","name":"storm","parameterNotFoundAction":"Allow"}}}`, name, name))
	case 3:
		s.check("configmap", s.client.CoreV1().ConfigMaps("limits").Delete(ctx, "storm", metav1.DeleteOptions{}))
		gone := []schema.GroupVersionResource{vap, binding}[i/4%2]
		s.check(gone.Resource, s.dyn.Resource(gone).Delete(ctx, name, metav1.DeleteOptions{}))
	}
}

// kyverno has a policy of Kyverno, an exception to it and Kyverno itself come and go.
func (s stormAround) kyverno(ctx context.Context, i int) {
	policies := schema.GroupVersionResource{Group: "kyverno.io", Version: "v1", Resource: "clusterpolicies"}
	exceptions := schema.GroupVersionResource{Group: "kyverno.io", Version: "v2", Resource: "policyexceptions"}
	switch i % 6 {
	case 0:
		s.make(ctx, policies, "", `{"apiVersion":"kyverno.io/v1","kind":"ClusterPolicy","metadata":{"name":"storm"},"spec":{"rules":[{"name":"r",
			"match":{"any":[{"resources":{"kinds":["Pod"],"selector":{"matchLabels":{"app":"storm"}}}}]},
			"validate":{"failureAction":"Enforce","podSecurity":{"level":"baseline","version":"latest"}}}]}}`)
	case 1:
		s.make(ctx, exceptions, "limits", fmt.Sprintf(`{"apiVersion":"kyverno.io/v2","kind":"PolicyException","metadata":{"namespace":"limits","name":"storm"},"spec":{
			"exceptions":[{"policyName":"storm","ruleNames":["r"]}],"match":{"any":[{"resources":{"kinds":["Pod"],"namespaces":[%q]}}]}}}`, s.crowd.Namespace(i)))
	case 2:
		s.check("exception", s.dyn.Resource(exceptions).Namespace("limits").Delete(ctx, "storm", metav1.DeleteOptions{}))
	case 3:
		s.admissionController(ctx)
	case 4:
		s.check("Kyverno", s.client.CoreV1().Pods("limits").Delete(ctx, "kyverno", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
	case 5:
		s.check("policy", s.dyn.Resource(policies).Delete(ctx, "storm", metav1.DeleteOptions{}))
	}
}

// admissionController has Kyverno run.
func (s stormAround) admissionController(ctx context.Context) {
	pods := s.client.CoreV1().Pods("limits")
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "kyverno", Labels: map[string]string{"app.kubernetes.io/component": "admission-controller"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kyverno", Image: "kyverno/kyverno:v1.19.1"}}},
	}, metav1.CreateOptions{})
	s.check("Kyverno", err)
	_, err = pods.Patch(ctx, "kyverno", types.MergePatchType, []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`), metav1.PatchOptions{}, "status")
	s.check("Kyverno", err)
}

// namespaces has a namespace come with a pod in it, and go, or go and come again at once.
func (s stormAround) namespaces(ctx context.Context, i int) {
	name := fmt.Sprintf("passing-%d", i/3%4)
	spaces, pods := s.client.CoreV1().Namespaces(), s.client.CoreV1().Pods(name)
	come := func(image string) {
		_, err := spaces.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pod-security.kubernetes.io/warn": "baseline"}}}, metav1.CreateOptions{})
		s.check("namespace", err)
		_, err = pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "passing"}, Spec: corev1.PodSpec{HostPID: true, Containers: []corev1.Container{{Name: "c", Image: image}}}}, metav1.CreateOptions{})
		s.check("pod of a namespace", err)
	}
	goes := func() {
		s.check("namespace", spaces.Delete(ctx, name, metav1.DeleteOptions{}))
		s.check("pod of a namespace", pods.Delete(ctx, "passing", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}))
		space, err := spaces.Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			space.Spec.Finalizers = nil
			_, err = spaces.Finalize(ctx, space, metav1.UpdateOptions{})
		}
		s.check("namespace", err)
	}
	switch i % 3 {
	case 0:
		come("registry.example/first")
	case 1:
		goes()
		come("registry.example/second")
	case 2:
		goes()
	}
}

// make makes an object, in the place of one of its name.
func (s stormAround) make(ctx context.Context, kind schema.GroupVersionResource, namespace, text string) {
	var object unstructured.Unstructured
	if err := json.Unmarshal([]byte(text), &object.Object); err != nil {
		s.Error(err)
		return
	}
	api := s.dyn.Resource(kind).Namespace(namespace)
	s.check(kind.Resource, api.Delete(ctx, object.GetName(), metav1.DeleteOptions{}))
	_, err := api.Create(ctx, &object, metav1.CreateOptions{})
	s.check(kind.Resource, err)
}
