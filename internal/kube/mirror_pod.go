package kube

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// pod is what is kept of a pod. The pods of one template share nearly all of it.
type pod struct {
	spec *corev1.PodSpec
	look *metav1.ObjectMeta
	// own is the encoding of what is the pod's own, or likely to be: of hundreds of
	// bytes in many small pieces it makes one piece.
	own string
	// token is the name of the volume that the API server gave the pod for its token,
	// which ends at random; in spec it is called tokenPlaceholder.
	token string
}

// tokenPlaceholder is no name that a volume can have.
const tokenPlaceholder = "\x00token"

// lastApplied is kubectl's copy of the manifest: as large as the pod, and nothing that
// a rule reads.
const lastApplied = corev1.LastAppliedConfigAnnotation

// podCutter cuts pods down to what is read of them, and has them share what is equal.
// The spec stays whole, because policies in CEL read what they like of it. Of the
// metadata there stay names, labels, annotations (but kubectl's copy), owners,
// finalizers, UID and the time of creation; of the status the phase and which
// containers run.
type podCutter struct {
	specs intern[corev1.PodSpec]
	looks intern[metav1.ObjectMeta]
}

// cut takes a pod apart. It may keep parts of p, which must be the caller's own.
func (c *podCutter) cut(object runtime.Object) (pod, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return pod{}, unexpected(object)
	}
	own := ownPart(p)
	shared := p.Spec
	shared.NodeName, shared.Hostname = "", ""
	if own.Spec.Affinity != nil {
		shared.Affinity = nil
	}
	token := tokenVolumeOf(&shared)
	if token != "" {
		shared = renameVolume(shared, token, tokenPlaceholder)
	}
	look := &metav1.ObjectMeta{
		GenerateName: p.GenerateName, Labels: p.Labels, OwnerReferences: p.OwnerReferences, Finalizers: p.Finalizers,
	}
	ownBytes, err := own.Marshal()
	if err != nil {
		return pod{}, err
	}
	specBytes, err := shared.Marshal()
	if err != nil {
		return pod{}, err
	}
	lookBytes, err := look.Marshal()
	if err != nil {
		return pod{}, err
	}
	return pod{
		spec: c.specs.one(specBytes, &shared), look: c.looks.one(lookBytes, look),
		own: string(bytes.Clone(ownBytes)), token: strings.Clone(token),
	}, nil
}

// ownPart is what other pods of the same template have otherwise.
func ownPart(p *corev1.Pod) *corev1.Pod {
	own := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			UID: p.UID, CreationTimestamp: p.CreationTimestamp, Annotations: maps.Clone(p.Annotations),
		},
		Spec:   corev1.PodSpec{NodeName: p.Spec.NodeName, Hostname: p.Spec.Hostname},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}
	delete(own.Annotations, lastApplied)
	if boundToNode(p.Spec.Affinity) {
		own.Spec.Affinity = p.Spec.Affinity
	}
	for i := range p.Status.ContainerStatuses {
		status := &p.Status.ContainerStatuses[i]
		kept := corev1.ContainerStatus{Name: status.Name}
		if status.State.Running != nil {
			kept.State.Running = &corev1.ContainerStateRunning{}
		}
		own.Status.ContainerStatuses = append(own.Status.ContainerStatuses, kept)
	}
	return own
}

// boundToNode reports whether an affinity names a node, as a DaemonSet's pods do.
func boundToNode(a *corev1.Affinity) bool {
	return a != nil && a.NodeAffinity != nil && a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution != nil &&
		slices.ContainsFunc(a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms,
			func(t corev1.NodeSelectorTerm) bool { return len(t.MatchFields) > 0 })
}

// samePod reports whether two pods are the same to a reader.
func samePod(a, b pod) bool { return a == b }

// whole puts a pod together. What pods share is not to be changed.
func (p pod) whole(namespace, name string) *corev1.Pod {
	var out corev1.Pod
	if err := out.Unmarshal([]byte(p.own)); err != nil {
		// It was encoded by the same code and never left the memory.
		panic("a pod of the mirror: " + err.Error())
	}
	node, host, affinity := out.Spec.NodeName, out.Spec.Hostname, out.Spec.Affinity
	out.Spec = *p.spec
	if p.token != "" {
		out.Spec = renameVolume(out.Spec, tokenPlaceholder, p.token)
	}
	out.Spec.NodeName, out.Spec.Hostname = node, host
	if affinity != nil {
		out.Spec.Affinity = affinity
	}
	out.Namespace, out.Name = namespace, name
	out.GenerateName, out.Labels, out.OwnerReferences, out.Finalizers = p.look.GenerateName, p.look.Labels, p.look.OwnerReferences, p.look.Finalizers
	return &out
}

// tokenVolumeOf is the name of the volume that the API server gave a pod for its
// token, "" where it has none or that is not plain.
func tokenVolumeOf(spec *corev1.PodSpec) string {
	name := ""
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.Projected == nil || !strings.HasPrefix(v.Name, tokenVolume) {
			continue
		}
		if name != "" {
			return ""
		}
		name = v.Name
	}
	return name
}

// renameVolume gives a volume and its mounts another name. Nothing of the spec that is
// given is changed.
func renameVolume(spec corev1.PodSpec, from, to string) corev1.PodSpec {
	spec.Volumes = slices.Clone(spec.Volumes)
	for i := range spec.Volumes {
		if spec.Volumes[i].Name == from {
			spec.Volumes[i].Name = to
		}
	}
	spec.InitContainers = renameMounts(spec.InitContainers, from, to)
	spec.Containers = renameMounts(spec.Containers, from, to)
	spec.EphemeralContainers = slices.Clone(spec.EphemeralContainers)
	for i := range spec.EphemeralContainers {
		c := &spec.EphemeralContainers[i]
		c.VolumeMounts = renamed(c.VolumeMounts, from, to)
	}
	return spec
}

func renameMounts(containers []corev1.Container, from, to string) []corev1.Container {
	containers = slices.Clone(containers)
	for i := range containers {
		containers[i].VolumeMounts = renamed(containers[i].VolumeMounts, from, to)
	}
	return containers
}

func renamed(mounts []corev1.VolumeMount, from, to string) []corev1.VolumeMount {
	if !slices.ContainsFunc(mounts, func(m corev1.VolumeMount) bool { return m.Name == from }) {
		return mounts
	}
	mounts = slices.Clone(mounts)
	for i := range mounts {
		if mounts[i].Name == from {
			mounts[i].Name = to
		}
	}
	return mounts
}
