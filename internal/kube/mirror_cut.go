package kube

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/escape-scanner/escape-scanner/scan"
)

func unexpected(object runtime.Object) error {
	return fmt.Errorf("unexpected object of type %T", object)
}

// cutNode keeps of a node what is read of nodes. A kubelet's heartbeats are no change.
func cutNode(object runtime.Object) (*corev1.Node, error) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return nil, unexpected(object)
	}
	out := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.Name, UID: n.UID, CreationTimestamp: n.CreationTimestamp, Labels: n.Labels,
			ManagedFields: labelFields(n.ManagedFields),
		},
		Spec: corev1.NodeSpec{ProviderID: n.Spec.ProviderID},
	}
	out.Status.NodeInfo = n.Status.NodeInfo
	return out, nil
}

// labelFields keeps who set which label, and when: of evidence in a label, its age is
// read there.
func labelFields(fields []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	var kept []metav1.ManagedFieldsEntry
	for _, f := range fields {
		if f.FieldsV1 == nil || f.Subresource != "" {
			continue
		}
		var owned struct {
			Metadata struct {
				Labels map[string]struct{} `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &owned) != nil || len(owned.Metadata.Labels) == 0 {
			continue
		}
		raw, err := json.Marshal(map[string]any{"f:metadata": map[string]any{"f:labels": owned.Metadata.Labels}})
		if err != nil {
			continue
		}
		f.FieldsV1 = &metav1.FieldsV1{}
		f.FieldsV1.SetRawBytes(raw)
		kept = append(kept, f)
	}
	return kept
}

// cutNamespace keeps all of a namespace but who wrote it.
func cutNamespace(object runtime.Object) (*corev1.Namespace, error) {
	n, ok := object.(*corev1.Namespace)
	if !ok {
		return nil, unexpected(object)
	}
	n.ManagedFields, n.ResourceVersion = nil, ""
	delete(n.Annotations, lastApplied)
	return n, nil
}

// cutAgent keeps all of a pod but who wrote it.
func cutAgent(object runtime.Object) (*corev1.Pod, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return nil, unexpected(object)
	}
	p.ManagedFields, p.ResourceVersion = nil, ""
	delete(p.Annotations, lastApplied)
	return p, nil
}

func equal[T any](a, b T) bool { return equality.Semantic.DeepEqual(a, b) }

// cutRuntimeClass keeps the handler.
func cutRuntimeClass(object runtime.Object) (string, error) {
	r, ok := object.(*nodev1.RuntimeClass)
	if !ok {
		return "", unexpected(object)
	}
	return r.Handler, nil
}

// hostVolume is what is read of a persistent volume. It is empty for one that is no
// path of the host.
type hostVolume struct {
	claim scan.Claim
	path  string
}

func cutVolume(object runtime.Object) (hostVolume, error) {
	v, ok := object.(*corev1.PersistentVolume)
	if !ok {
		return hostVolume{}, unexpected(object)
	}
	claim, path, ok := scan.HostVolume(v)
	if !ok {
		return hostVolume{}, nil
	}
	return hostVolume{claim, path}, nil
}

func identical[T comparable](a, b T) bool { return a == b }

// cutOwner keeps what following owners reads.
func cutOwner(object runtime.Object) (scan.Owner, error) {
	m, err := meta.Accessor(object)
	if err != nil {
		return scan.Owner{}, err
	}
	return scan.OwnerOf(&metav1.ObjectMeta{
		Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUID(), Labels: m.GetLabels(), OwnerReferences: m.GetOwnerReferences(),
	}), nil
}

// cutObject keeps an object as JSON, without who wrote it and its version, which
// changes when nothing else does.
func cutObject(object runtime.Object) (string, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return "", unexpected(object)
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "managedFields")
	unstructured.RemoveNestedField(u.Object, "metadata", "resourceVersion")
	text, err := json.Marshal(u.Object)
	return string(text), err
}
