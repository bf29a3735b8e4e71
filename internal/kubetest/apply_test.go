package kubetest_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"testing/fstest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

var (
	kubeArmorPolicies = schema.GroupVersionResource{Group: "security.kubearmor.com", Version: "v1", Resource: "kubearmorpolicies"}
	clusterPolicies   = schema.GroupVersionResource{Group: "kyverno.io", Version: "v1", Resource: "clusterpolicies"}
)

const situation = `
apiVersion: v1
kind: Pod
metadata:
  {name: web-5d9-x, namespace: situation, labels: {app: web}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d9, controller: true}]}
spec:
  nodeName: situation-node
  hostPID: true
  containers: [{name: web, image: nginx, securityContext: {privileged: true}}]
status:
  phase: Running
  conditions: [{type: Ready, status: "True"}]
  containerStatuses: [{name: web, ready: true, image: nginx, imageID: "", restartCount: 0, containerID: containerd://1}]
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: web-5d9, namespace: situation}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: nginx}]}}
---
apiVersion: v1
kind: Node
metadata: {name: situation-node, labels: {kubearmor.io/enforcer: bpf}}
status: {nodeInfo: {kernelVersion: 6.1.0, osImage: Debian, architecture: amd64, operatingSystem: linux, bootID: "", containerRuntimeVersion: "", kubeProxyVersion: "", kubeletVersion: "", machineID: "", systemUUID: ""}}
---
apiVersion: v1
kind: Namespace
metadata: {name: situation, labels: {team: a, pod-security.kubernetes.io/enforce: restricted}}
`

const situationPolicies = `
apiVersion: v1
kind: List
items:
- apiVersion: security.kubearmor.com/v1
  kind: KubeArmorPolicy
  metadata: {name: caps, namespace: situation}
  spec: {selector: {matchLabels: {app: web}}, capabilities: {matchCapabilities: [{capability: sys_admin}]}, action: Block}
- apiVersion: kyverno.io/v1
  kind: ClusterPolicy
  metadata: {name: situation-baseline}
  spec:
    rules:
    - {name: baseline, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {failureAction: Enforce, podSecurity: {level: baseline, version: latest}}}
- apiVersion: v1
  kind: Namespace
  metadata: {name: kube-system, labels: {situation: "yes"}}
`

func TestApplyMakesAClusterThatWasThereBeforeItsRules(t *testing.T) {
	server := cluster.Server(t)
	server.InstallCRDs(t, kubetest.KubeArmor, kubetest.Kyverno)
	server.InstallCRDs(t, kubetest.KubeArmor, kubetest.PolicyReport)
	config := server.Config()
	config.WarningHandler = rest.NoWarnings{}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	core := server.Client().CoreV1()

	t.Run("while the test runs", func(t *testing.T) {
		server.Apply(t, fstest.MapFS{
			"a.yaml":      {Data: []byte(situation)},
			"sub/b.yml":   {Data: []byte(situationPolicies)},
			"expect.json": {Data: []byte(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "as-json", "namespace": "situation"}}`)},
			"README.md":   {Data: []byte("no manifest")},
		})
		pod, err := core.Pods("situation").Get(t.Context(), "web-5d9-x", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		owner, err := server.Client().AppsV1().ReplicaSets("situation").Get(t.Context(), "web-5d9", metav1.GetOptions{})
		if err != nil || len(pod.OwnerReferences) != 1 || pod.OwnerReferences[0].UID != owner.UID {
			t.Errorf("owners %+v, want the ReplicaSet (%v)", pod.OwnerReferences, err)
		}
		if s := pod.Status; s.Phase != "Running" || len(s.ContainerStatuses) != 1 || s.QOSClass == "" {
			t.Errorf("status of the pod: %+v", s)
		}
		node, err := core.Nodes().Get(t.Context(), "situation-node", metav1.GetOptions{})
		if err != nil || node.Status.NodeInfo.KernelVersion != "6.1.0" || node.Labels["kubearmor.io/enforcer"] != "bpf" {
			t.Errorf("node: %+v (%v)", node, err)
		}
		ns, err := core.Namespaces().Get(t.Context(), "situation", metav1.GetOptions{})
		if err != nil || ns.Labels["pod-security.kubernetes.io/enforce"] != "restricted" || ns.Labels["team"] != "a" {
			t.Errorf("namespace: %+v (%v)", ns, err)
		}
		err = createPod(t, server.Config(), "situation", privilegedPod())
		if !apierrors.IsForbidden(err) {
			t.Errorf("another privileged pod: %v, want a refusal", err)
		}
		if _, err := objects.Resource(kubeArmorPolicies).Namespace("situation").Get(t.Context(), "caps", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
		if _, err := objects.Resource(clusterPolicies).Get(t.Context(), "situation-baseline", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
		if ns, err := core.Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{}); err != nil || ns.Labels["situation"] != "yes" {
			t.Errorf("kube-system: %v (%v)", ns.Labels, err)
		}
	})

	if _, err := core.Namespaces().Get(t.Context(), "situation", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace after the test: %v", err)
	}
	if _, err := core.Nodes().Get(t.Context(), "situation-node", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("node after the test: %v", err)
	}
	if list, err := objects.Resource(clusterPolicies).List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("policies after the test: %v (%v)", list, err)
	}
	if ns, err := core.Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{}); err != nil || ns.Labels["situation"] != "" {
		t.Errorf("kube-system after the test: %v (%v)", ns.Labels, err)
	}
}

// The CRDs are those of the version of KubeArmor whose code is linked.
func TestCRDsAreOfTheLinkedVersion(t *testing.T) {
	version := regexp.MustCompile(`(?m)^\s*github\.com/kubearmor/KubeArmor/pkg/KubeArmorController (\S+)`)
	var versions []string
	for _, file := range []string{"../../go.mod", "../../hack/crds/go.mod"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := version.FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s requires no KubeArmorController", file)
		}
		versions = append(versions, string(found[1]))
	}
	if len(slices.Compact(versions)) != 1 {
		t.Errorf("go.mod and hack/crds/go.mod require %v", versions)
	}
}
