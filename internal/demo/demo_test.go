package demo_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/demo"
)

// forgedPod is the one pod that claims an owner which did not make it. Its
// ReplicaSet exists, so that only its spec tells it from its siblings.
const forgedPod = "monitoring/grafana-7849d9777b-tjjgc"

// customGroups are the API groups whose types are not the API server's own.
var customGroups = []string{"argoproj.io", "kyverno.io", "policies.kyverno.io", "security.kubearmor.com"}

type document struct {
	file string
	// typed is nil for a custom resource.
	typed runtime.Object
	meta  *unstructured.Unstructured
}

func (d document) String() string {
	return fmt.Sprintf("%s: %s %s", d.file, d.meta.GetKind(), path.Join(d.meta.GetNamespace(), d.meta.GetName()))
}

// documents decodes the whole snapshot, strictly: an unknown or a doubled field
// fails the test.
func documents(t *testing.T) []document {
	t.Helper()
	docs, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// load runs once for all tests, which only read.
var load = sync.OnceValues(func() ([]document, error) {
	strict := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	names, err := fs.Glob(demo.Files(), "*.yaml")
	if err != nil {
		return nil, err
	}
	var docs []document
	var errs []error
	for _, name := range names {
		data, err := fs.ReadFile(demo.Files(), name)
		if err != nil {
			return nil, err
		}
		reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
		for {
			raw, err := reader.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			d := document{file: name, meta: &unstructured.Unstructured{}}
			if err := yaml.UnmarshalStrict(raw, &d.meta.Object); err != nil {
				return nil, fmt.Errorf("%s: %w in\n%s", name, err, raw)
			}
			if !slices.Contains(customGroups, d.meta.GroupVersionKind().Group) {
				if d.typed, _, err = strict.Decode(raw, nil, nil); err != nil {
					errs = append(errs, fmt.Errorf("%v: %w", d, err))
				}
			}
			docs = append(docs, d)
		}
	}
	return docs, errors.Join(errs...)
})

func byUID(docs []document) map[types.UID]document {
	m := make(map[types.UID]document, len(docs))
	for _, d := range docs {
		m[d.meta.GetUID()] = d
	}
	return m
}

func pods(docs []document) []*corev1.Pod {
	var out []*corev1.Pod
	for _, d := range docs {
		if pod, ok := d.typed.(*corev1.Pod); ok {
			out = append(out, pod)
		}
	}
	return out
}

func key(o metav1.Object) string { return path.Join(o.GetNamespace(), o.GetName()) }

// top is the workload that a pod belongs to: the end of its owner chain, short of
// a node.
func top(all map[types.UID]document, o metav1.Object) string {
	kind, controller := "Pod", metav1.GetControllerOf(o)
	for controller != nil && controller.Kind != "Node" {
		kind, o = controller.Kind, all[controller.UID].meta
		controller = metav1.GetControllerOf(o)
	}
	return path.Join(o.GetNamespace(), kind, o.GetName())
}

func TestObjectsLookLive(t *testing.T) {
	docs := documents(t)
	uids, names := map[types.UID]string{}, map[string]bool{}
	for _, d := range docs {
		name := fmt.Sprintf("%s %s", d.meta.GroupVersionKind().GroupKind(), key(d.meta))
		if names[name] {
			t.Errorf("%v: stands there twice", d)
		}
		names[name] = true
		uid := d.meta.GetUID()
		if len(uid) != 36 {
			t.Errorf("%v: UID %q", d, uid)
		}
		if other, ok := uids[uid]; ok {
			t.Errorf("%v: has the UID of %s", d, other)
		}
		uids[uid] = d.String()
		if d.meta.GetResourceVersion() == "" {
			t.Errorf("%v: no resourceVersion", d)
		}
		created := d.meta.GetCreationTimestamp()
		if created.IsZero() {
			t.Errorf("%v: no creationTimestamp", d)
		}
		if d.meta.GetManagedFields() != nil {
			t.Errorf("%v: managedFields are noise", d)
		}
	}
	for _, d := range docs {
		if ns := d.meta.GetNamespace(); ns != "" && !names["Namespace "+ns] {
			t.Errorf("%v: its namespace is missing", d)
		}
	}
}

func TestOwnersResolveByUID(t *testing.T) {
	docs := documents(t)
	all := byUID(docs)
	for _, d := range docs {
		for _, ref := range d.meta.GetOwnerReferences() {
			owner, ok := all[ref.UID]
			if !ok {
				t.Errorf("%v: owner %s %s has no object", d, ref.Kind, ref.Name)
				continue
			}
			if owner.meta.GetKind() != ref.Kind || owner.meta.GetAPIVersion() != ref.APIVersion || owner.meta.GetName() != ref.Name {
				t.Errorf("%v: owner %s %s is really %v", d, ref.Kind, ref.Name, owner)
			}
			if ns := owner.meta.GetNamespace(); ns != "" && ns != d.meta.GetNamespace() {
				t.Errorf("%v: owner %v in another namespace", d, owner)
			}
			if owner.meta.GetCreationTimestamp().After(d.meta.GetCreationTimestamp().Time) {
				t.Errorf("%v: older than its owner %v", d, owner)
			}
		}
	}
}

// A pod looks like its owner's template, but for the one that is forged.
func TestPodsMatchTheirTemplates(t *testing.T) {
	docs := documents(t)
	all := byUID(docs)
	forged := 0
	for _, pod := range pods(docs) {
		owner := metav1.GetControllerOf(pod)
		if owner == nil || owner.Kind == "Node" {
			continue
		}
		spec, found, err := unstructured.NestedMap(all[owner.UID].meta.Object, "spec", "template", "spec")
		if err != nil || !found {
			t.Fatalf("%s: template of %s: %v", key(pod), owner.Name, err)
		}
		var template corev1.PodSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &template); err != nil {
			t.Fatal(err)
		}
		same := len(template.Containers) == len(pod.Spec.Containers)
		for i := range template.Containers {
			a, b := template.Containers[i], pod.Spec.Containers[min(i, len(pod.Spec.Containers)-1)]
			same = same && a.Image == b.Image && fmt.Sprint(a.SecurityContext) == fmt.Sprint(b.SecurityContext)
		}
		same = same && template.HostPID == pod.Spec.HostPID && template.HostNetwork == pod.Spec.HostNetwork
		if isForged := key(pod) == forgedPod; same == isForged {
			t.Errorf("%s: same as its template is %v", key(pod), same)
		} else if isForged {
			forged++
		}
	}
	if forged != 1 {
		t.Errorf("%s: seen %d times", forgedPod, forged)
	}
}

func TestPodsAreAsTheAPIServerReturnsThem(t *testing.T) {
	docs := documents(t)
	nodes, claims := map[string]bool{}, map[string]bool{}
	for _, d := range docs {
		switch o := d.typed.(type) {
		case *corev1.Node:
			nodes[o.Name] = true
		case *corev1.PersistentVolumeClaim:
			claims[key(o)] = true
		}
	}
	if len(nodes) != 5 {
		t.Errorf("%d nodes, want 5", len(nodes))
	}
	for _, pod := range pods(docs) {
		name := key(pod)
		if !nodes[pod.Spec.NodeName] && (pod.Spec.NodeName != "" || pod.Status.Phase != corev1.PodPending) {
			t.Errorf("%s: node %q does not exist", name, pod.Spec.NodeName)
		}
		if pod.Spec.SecurityContext == nil || pod.Spec.DNSPolicy == "" || pod.Spec.SchedulerName == "" || pod.Spec.Priority == nil || pod.Spec.EnableServiceLinks == nil {
			t.Errorf("%s: not defaulted", name)
		}
		mirror := pod.Annotations[corev1.MirrorPodAnnotationKey] != ""
		wantToken := !mirror && (pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken)
		token := slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Projected != nil && strings.HasPrefix(v.Name, "kube-api-access-")
		})
		if token != wantToken {
			t.Errorf("%s: service account token mounted is %v, want %v", name, token, wantToken)
		}
		if !mirror && len(pod.Spec.Tolerations) < 2 {
			t.Errorf("%s: admission's tolerations are missing", name)
		}
		for _, v := range pod.Spec.Volumes {
			if v.VolumeSource == (corev1.VolumeSource{}) {
				t.Errorf("%s: volume %s has no source", name, v.Name)
			}
			if c := v.PersistentVolumeClaim; c != nil && !claims[path.Join(pod.Namespace, c.ClaimName)] {
				t.Errorf("%s: claim %s does not exist", name, c.ClaimName)
			}
		}
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if c.ImagePullPolicy == "" || c.TerminationMessagePath == "" {
				t.Errorf("%s: container %s is not defaulted", name, c.Name)
			}
			for _, m := range c.VolumeMounts {
				if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
					t.Errorf("%s: container %s mounts %s, which is no volume", name, c.Name, m.Name)
				}
			}
		}
		if pod.Status.Phase == corev1.PodRunning &&
			(len(pod.Status.ContainerStatuses) != len(pod.Spec.Containers) ||
				len(pod.Status.InitContainerStatuses) != len(pod.Spec.InitContainers) ||
				len(pod.Status.EphemeralContainerStatuses) != len(pod.Spec.EphemeralContainers)) {
			t.Errorf("%s: status and spec name different containers", name)
		}
	}
}

func TestVolumesAreBoundBothWays(t *testing.T) {
	docs := documents(t)
	all := byUID(docs)
	hostPaths := 0
	for _, d := range docs {
		pv, ok := d.typed.(*corev1.PersistentVolume)
		if !ok {
			continue
		}
		claim, ok := all[pv.Spec.ClaimRef.UID].typed.(*corev1.PersistentVolumeClaim)
		if !ok || claim.Name != pv.Spec.ClaimRef.Name || claim.Spec.VolumeName != pv.Name {
			t.Errorf("%v: claim %s is not bound to it", d, pv.Spec.ClaimRef.Name)
		}
		if pv.Spec.HostPath != nil {
			hostPaths++
		}
	}
	if hostPaths != 1 {
		t.Errorf("%d volumes of type hostPath, want 1", hostPaths)
	}
}

// What a live cluster could hold: a pod that its namespace refuses is older than
// the label, and there is one such pod, on purpose.
func TestNamespacesHoldWhatTheyAdmit(t *testing.T) {
	docs := documents(t)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	all := byUID(docs)
	serverVersion, err := psa.ParseVersion(demo.ServerVersion[:strings.LastIndex(demo.ServerVersion, ".")])
	if err != nil {
		t.Fatal(err)
	}
	enforced := map[string]psa.LevelVersion{}
	for _, d := range docs {
		if ns, ok := d.typed.(*corev1.Namespace); ok {
			p, errs := psa.PolicyToEvaluate(ns.Labels, psa.Policy{Enforce: psa.LevelVersion{Level: psa.LevelPrivileged, Version: serverVersion}})
			if len(errs) > 0 {
				t.Errorf("%v: %v", d, errs)
			}
			if p.Enforce.Version.Latest() {
				p.Enforce.Version = serverVersion
			}
			enforced[ns.Name] = p.Enforce
		}
	}
	allowed := func(pod *corev1.Pod, lv psa.LevelVersion) bool {
		return policy.AggregateCheckResults(evaluator.EvaluatePod(lv, &pod.ObjectMeta, &pod.Spec)).Allowed
	}
	var refused []string
	restricted := map[string]bool{}
	for _, pod := range pods(docs) {
		workload := top(all, pod)
		if !allowed(pod, enforced[pod.Namespace]) {
			refused = append(refused, workload)
		}
		if key(pod) != forgedPod && allowed(pod, psa.LevelVersion{Level: psa.LevelRestricted, Version: serverVersion}) {
			restricted[workload] = true
		}
	}
	if want := []string{"payments/Deployment/invoice-renderer"}; !slices.Equal(refused, want) {
		t.Errorf("refused by their own namespaces: %q, want %q", refused, want)
	}
	if len(restricted) < 8 {
		t.Errorf("%d workloads pass restricted, want at least 8: %v", len(restricted), restricted)
	}
}

func TestSizeAndKinds(t *testing.T) {
	docs := documents(t)
	all := byUID(docs)
	workloads, kinds := map[string]bool{}, map[string]int{}
	for _, d := range docs {
		kinds[d.meta.GetKind()]++
	}
	for _, pod := range pods(docs) {
		workloads[top(all, pod)] = true
	}
	if n := len(workloads); n < 35 || n > 45 {
		t.Errorf("%d workloads, want about 40", n)
	}
	for _, kind := range []string{
		"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job", "ReplicationController", "Rollout", "Pod",
		"Node", "Namespace", "RuntimeClass", "PersistentVolume", "PersistentVolumeClaim",
		"KubeArmorPolicy", "KubeArmorClusterPolicy", "ClusterPolicy", "Policy", "ValidatingPolicy",
		"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
	} {
		if kinds[kind] == 0 {
			t.Errorf("no %s in the snapshot", kind)
		}
	}
	t.Logf("%d workloads, %d pods, %d objects", len(workloads), kinds["Pod"], len(docs))
}
