package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// storm changes a cluster at random: pods and what stands around them come, change and
// go.
type storm struct {
	t          *testing.T
	rand       *rand.Rand
	client     kubernetes.Interface
	dynamic    dynamic.Interface
	namespaces []string
	crowd      kubetest.Crowd
	made       int
}

func newStorm(t *testing.T, config *rest.Config, namespaces []string) *storm {
	t.Helper()
	config = rest.CopyConfig(config)
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &storm{t: t, rand: rand.New(rand.NewPCG(5, 5)), client: client, dynamic: dyn, namespaces: namespaces, crowd: kubetest.Crowd{Namespaces: 1}}
}

// rage makes so many changes.
func (s *storm) rage(changes int) {
	s.t.Helper()
	for range changes {
		deeds := []func(context.Context, string) error{
			s.makePod, s.makePod, s.makePod, s.changePod, s.changePod, s.endPod, s.endPod,
			s.labelNamespace, s.node, s.replicaSet, s.facts, s.policy, s.agent,
		}
		ns := s.namespaces[s.rand.IntN(len(s.namespaces))]
		err := deeds[s.rand.IntN(len(deeds))](s.t.Context(), ns)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			s.t.Fatal(err)
		}
	}
}

func (s *storm) name() string { return fmt.Sprintf("thing-%d", s.rand.IntN(12)) }

func (s *storm) makePod(ctx context.Context, ns string) error {
	s.made++
	owner := s.crowd.ReplicaSet(s.crowd.Deployment(s.made%8), s.made%8, 0)
	pod := s.crowd.Pod(owner, s.made%8, s.made)
	pod.Namespace = ns
	pod.Annotations[corev1.LastAppliedConfigAnnotation] = "{}"
	// Some are like those of a StatefulSet or a DaemonSet.
	switch s.rand.IntN(4) {
	case 0:
		pod.Spec.Hostname = pod.Name
	case 1:
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{pod.Spec.NodeName}}}}},
		}}}
	}
	_, err := s.client.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{})
	return err
}

// some is one of the pods of a namespace, nil where there is none.
func (s *storm) some(ctx context.Context, ns string) (*corev1.Pod, error) {
	list, err := s.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return nil, err
	}
	return &list.Items[s.rand.IntN(len(list.Items))], nil
}

func (s *storm) changePod(ctx context.Context, ns string) error {
	pod, err := s.some(ctx, ns)
	if pod == nil {
		return err
	}
	if s.rand.IntN(2) == 0 {
		metav1.SetMetaDataLabel(&pod.ObjectMeta, "tier", s.name())
		metav1.SetMetaDataAnnotation(&pod.ObjectMeta, "note", s.name())
		_, err = s.client.CoreV1().Pods(ns).Update(ctx, pod, metav1.UpdateOptions{})
		return err
	}
	pod.Status.Phase = []corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded}[s.rand.IntN(3)]
	pod.Status.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		status := corev1.ContainerStatus{Name: c.Name, RestartCount: int32(s.rand.IntN(9))}
		if pod.Status.Phase == corev1.PodRunning {
			status.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Now()}
		}
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status)
	}
	_, err = s.client.CoreV1().Pods(ns).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}

func (s *storm) endPod(ctx context.Context, ns string) error {
	pod, err := s.some(ctx, ns)
	if pod == nil {
		return err
	}
	return s.client.CoreV1().Pods(ns).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
}

func (s *storm) labelNamespace(ctx context.Context, ns string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{"tier":%q}}}`, s.name())
	_, err := s.client.CoreV1().Namespaces().Patch(ctx, ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func (s *storm) node(ctx context.Context, _ string) error {
	nodes, name := s.client.CoreV1().Nodes(), s.name()
	switch s.rand.IntN(3) {
	case 0:
		return nodes.Delete(ctx, name, metav1.DeleteOptions{})
	case 1:
		patch := fmt.Sprintf(`{"metadata":{"labels":{"kubearmor.io/enforcer":%q}}}`, s.name())
		_, err := nodes.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{ProviderID: "kind://" + name}}
	node.Status.NodeInfo = corev1.NodeSystemInfo{KernelVersion: "6.1.0-" + s.name(), Architecture: "amd64"}
	_, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	return err
}

func (s *storm) replicaSet(ctx context.Context, ns string) error {
	sets, n := s.client.AppsV1().ReplicaSets(ns), s.rand.IntN(8)
	set := s.crowd.ReplicaSet(s.crowd.Deployment(n), n, 0)
	if s.rand.IntN(3) == 0 {
		return sets.Delete(ctx, set.Name, metav1.DeleteOptions{})
	}
	set.Namespace = ns
	_, err := sets.Create(ctx, set, metav1.CreateOptions{})
	return err
}

func (s *storm) facts(ctx context.Context, ns string) error {
	classes, volumes, name := s.client.NodeV1().RuntimeClasses(), s.client.CoreV1().PersistentVolumes(), s.name()
	switch s.rand.IntN(4) {
	case 0:
		return classes.Delete(ctx, name, metav1.DeleteOptions{})
	case 1:
		_, err := classes.Create(ctx, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: "runsc"}, metav1.CreateOptions{})
		return err
	case 2:
		return volumes.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	}
	_, err := volumes.Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/" + name}},
		ClaimRef:               &corev1.ObjectReference{Namespace: ns, Name: name},
	}}, metav1.CreateOptions{})
	return err
}

func (s *storm) policy(ctx context.Context, ns string) error {
	policies := s.dynamic.Resource(schema.GroupVersionResource{Group: kindKSP.Group, Version: "v1", Resource: "kubearmorpolicies"}).Namespace(ns)
	name := s.name()
	switch s.rand.IntN(3) {
	case 0:
		return policies.Delete(ctx, name, metav1.DeleteOptions{})
	case 1:
		patch := fmt.Sprintf(`{"spec":{"message":%q}}`, s.name())
		_, err := policies.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	policy := objectOf(s.t, "{apiVersion: security.kubearmor.com/v1, kind: KubeArmorPolicy, metadata: {name: "+name+"}, spec: {selector: {matchLabels: {app: web}}, capabilities: {matchCapabilities: [{capability: sys_admin}]}, action: Block, severity: 5}}")
	_, err := policies.Create(ctx, policy, metav1.CreateOptions{})
	return err
}

func (s *storm) agent(ctx context.Context, ns string) error {
	pods, name := s.client.CoreV1().Pods(ns), "agent-"+s.name()
	if s.rand.IntN(3) == 0 {
		return pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	}
	labels := map[string]string{"kubearmor-app": "kubearmor"}
	if s.rand.IntN(2) == 0 {
		labels = map[string]string{"app.kubernetes.io/component": "admission-controller"}
	}
	_, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "kubearmor", Image: "kubearmor"}}},
	}, metav1.CreateOptions{})
	return err
}

// storms makes namespaces to rage in.
func storms(t *testing.T, server *kubetest.Server) *storm {
	t.Helper()
	return newStorm(t, server.Config(), []string{server.Namespace(t, nil), server.Namespace(t, nil), server.Namespace(t, nil)})
}

func TestLiveMirrorIsTheClusterWhateverHappens(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	s := storms(t, server)
	s.rage(60)
	m := follow(t, server.Config(), Options{PageSize: 7}, MirrorOptions{})
	cluster := liveCluster(t, server, Options{})
	kinds := append(scan.ObjectKinds(), schema.GroupKind{Kind: "ConfigMap"})
	same := func(what string) {
		t.Helper()
		t.Run(what, func(t *testing.T) { matches(t, m, cluster, []string{""}, kinds) })
	}
	same("at first")
	if changes := m.Take(); !changes.Empty() {
		t.Errorf("what was read at first is no change: %+v", changes)
	}
	s.rage(100)
	same("after a storm")

	// What is told of changes is enough to keep up.
	checkTold(t, s, m, server)

	// A crash, and changes that no watch brought, some of which are forgotten.
	server.Kill(t)
	eventually(t, "it is stale", func() bool { return len(m.Stale()) > 10 && !m.StaleSince().IsZero() })
	before := readAll(t, m, []string{""}, kinds)
	if again := differences(before, readAll(t, m, []string{""}, kinds)); len(before.pods) < 10 || len(again) > 0 {
		t.Errorf("%d pods while the server is away; %q", len(before.pods), again)
	}
	m.Take()
	server.Restart(t)
	s.rage(50)
	server.Compact(t)
	s.rage(50)
	same("after a crash")
	eventually(t, "it is followed again", func() bool { return len(m.Stale()) == 0 && m.StaleSince().IsZero() })

	installAndRemove(t, server, m)
}

// checkTold keeps a picture of the pods by what the mirror says of changes alone.
func checkTold(t *testing.T, s *storm, m *Mirror, server *kubetest.Server) {
	t.Helper()
	picture := map[scan.PodName]*corev1.Pod{}
	note := func(name scan.PodName) {
		delete(picture, name)
		if p := m.Pod(name.Namespace, name.Name); p != nil {
			picture[name] = p
		}
	}
	m.Take()
	err := m.Pods(t.Context(), "", func(page scan.PodPage) error {
		for i := range page.Items {
			note(scan.PodName{Namespace: page.Items[i].Namespace, Name: page.Items[i].Name})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.rage(100)
	eventually(t, "the picture is the cluster", func() bool {
		for _, name := range m.Take().Pods {
			note(name)
		}
		list, err := server.Client().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != len(picture) {
			return false
		}
		for i := range list.Items {
			p := cutForReading(&list.Items[i])
			if !equality.Semantic.DeepEqual(picture[scan.PodName{Namespace: p.Namespace, Name: p.Name}], p) {
				return false
			}
		}
		return true
	})
}

// smallCRD is as much of Kyverno as it takes to be served.
const smallCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: clusterpolicies.kyverno.io}
spec:
  group: kyverno.io
  scope: Cluster
  names: {kind: ClusterPolicy, plural: clusterpolicies}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`

// installAndRemove has a kind come to be served, and go.
func installAndRemove(t *testing.T, server *kubetest.Server, m *Mirror) {
	t.Helper()
	count := func(kind schema.GroupKind) (n int, err error) {
		err = m.Objects(t.Context(), kind, func([]byte) error { n++; return nil })
		return n, err
	}
	if _, err := count(kindKyverno); !isNotServed(err) {
		t.Errorf("before the kind is served: %v", err)
	}
	m.Take()
	client := newStorm(t, server.Config(), nil).dynamic
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	if _, err := crds.Create(t.Context(), objectOf(t, smallCRD), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	policies := client.Resource(schema.GroupVersionResource{Group: kindKyverno.Group, Version: "v1", Resource: "clusterpolicies"})
	eventually(t, "the kind takes objects", func() bool {
		_, err := policies.Create(t.Context(), objectOf(t, "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: late}}"), metav1.CreateOptions{})
		return err == nil
	})
	c := &told{m: m}
	c.until(t, "the policy is there", func() bool { n, err := count(kindKyverno); return n == 1 && err == nil && c.changes.Around })

	if err := crds.Delete(t.Context(), "clusterpolicies.kyverno.io", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c = &told{m: m}
	c.until(t, "the kind is gone", func() bool { _, err := count(kindKyverno); return isNotServed(err) && c.changes.Around })
	if _, err := count(kindKSP); err != nil {
		t.Errorf("another kind: %v", err)
	}
	if stale := m.Stale(); slices.ContainsFunc(stale, func(f scan.Failure) bool { return f.Subject == "watch of "+kindKyverno.String() }) {
		t.Errorf("stale: %+v", stale)
	}
}

func TestLiveMirrorFollowsOwnersOfAnyKind(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	ns := server.Namespace(t, nil)
	m := follow(t, server.Config(), Options{}, MirrorOptions{})
	configMap := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	if _, err := m.Owner(t.Context(), ns, configMap, "owner"); !apierrors.IsNotFound(err) {
		t.Errorf("before there is one: %v", err)
	}
	c := &told{m: m}
	made, err := server.Client().CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.until(t, "an owner that came is told", func() bool {
		return slices.Contains(c.changes.Owners, scan.OwnerName{Kind: configMap, Namespace: ns, Name: "owner"})
	})
	if o, err := m.Owner(t.Context(), ns, configMap, "owner"); err != nil || o.UID != made.UID {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := m.Owner(t.Context(), ns, schema.GroupVersionKind{Group: "no.such", Version: "v1", Kind: "Thing"}, "x"); !apierrors.IsNotFound(err) {
		t.Errorf("of a kind that nobody serves: %v", err)
	}

	// A pod may be seen before its owner: what the watch did not bring yet is asked for.
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "fresh"},
		Spec: appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}},
	}
	if _, err := server.Client().AppsV1().ReplicaSets(ns).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Owner(t.Context(), ns, schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}, "fresh"); err != nil {
		t.Errorf("an owner that is a moment old: %v", err)
	}
}
