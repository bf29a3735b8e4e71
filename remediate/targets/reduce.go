package targets

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// digest identifies what tells specimens apart.
type digest [sha256.Size]byte

// reduced makes a specimen's pod of a live one or of a template. Values of the
// environment, which may be secrets, are dropped, and what only its one pod is about.
// The original is not changed; what lies behind pointers is shared with it.
func reduced(m *metav1.ObjectMeta, spec *corev1.PodSpec) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, Labels: m.Labels, OwnerReferences: m.OwnerReferences},
		Spec:       *spec,
	}
	for key, value := range m.Annotations {
		if !keptAnnotation(key) {
			continue
		}
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[key] = value
	}
	pod.Spec.NodeName = ""
	pod.Spec.InitContainers = withoutValues(spec.InitContainers, func(c *corev1.Container) *[]corev1.EnvVar { return &c.Env })
	pod.Spec.Containers = withoutValues(spec.Containers, func(c *corev1.Container) *[]corev1.EnvVar { return &c.Env })
	pod.Spec.EphemeralContainers = withoutValues(spec.EphemeralContainers, func(c *corev1.EphemeralContainer) *[]corev1.EnvVar { return &c.Env })
	return pod
}

// keptAnnotation reports whether a layer reads the annotation: how a pod is confined,
// and what it may ask of KubeArmor and Kyverno. Others can be many, and differ in
// every pod.
func keptAnnotation(key string) bool {
	for _, prefix := range []string{
		corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix,
		"container.seccomp.security.alpha.kubernetes.io/", "seccomp.security.alpha.kubernetes.io/pod",
		"kubearmor", "pod-policies.kyverno.io/", corev1.MirrorPodAnnotationKey,
	} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

func withoutValues[C any](containers []C, env func(*C) *[]corev1.EnvVar) []C {
	if containers == nil {
		return nil
	}
	out := slices.Clone(containers)
	for i := range out {
		vars := env(&out[i])
		*vars = slices.Clone(*vars)
		for k := range *vars {
			(*vars)[k].Value = ""
		}
	}
	return out
}

// instanceLabels are those that controllers put on pods to tell them apart.
var instanceLabels = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation",
	"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
	"batch.kubernetes.io/controller-uid", "controller-uid", "batch.kubernetes.io/job-completion-index",
	labelJob, "job-name",
}

func withoutInstance(labels map[string]string) map[string]string {
	kept := maps.Clone(labels)
	for _, key := range instanceLabels {
		delete(kept, key)
	}
	return kept
}

// digestOf identifies what of a specimen's pod could be judged otherwise. It names
// the fields that count, so that what the API server and the scheduler add to a pod
// does not tell it from its template.
func digestOf(pod *corev1.Pod) digest {
	spec := &pod.Spec
	tokens := tokenVolumes(spec.Volumes)
	essence := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Labels: withoutInstance(pod.Labels), Annotations: pod.Annotations},
		Spec: corev1.PodSpec{
			HostNetwork: spec.HostNetwork, HostPID: spec.HostPID, HostIPC: spec.HostIPC, HostUsers: spec.HostUsers,
			ShareProcessNamespace: spec.ShareProcessNamespace, RuntimeClassName: spec.RuntimeClassName, OS: spec.OS,
			NodeSelector: spec.NodeSelector, SecurityContext: spec.SecurityContext,
			InitContainers: essences(spec.InitContainers, tokens), Containers: essences(spec.Containers, tokens),
		},
	}
	if spec.ServiceAccountName != "default" {
		essence.Spec.ServiceAccountName = spec.ServiceAccountName
	}
	if sc := spec.SecurityContext; sc != nil && sc.Size() == 0 {
		essence.Spec.SecurityContext = nil
	}
	for i := range spec.EphemeralContainers {
		c := essenceOf((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), tokens)
		essence.Spec.EphemeralContainers = append(essence.Spec.EphemeralContainers,
			corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c)})
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i]; !tokens[v.Name] {
			essence.Spec.Volumes = append(essence.Spec.Volumes, volumeEssence(v))
		}
	}
	// A StatefulSet puts the claims of its pods before the other volumes.
	slices.SortFunc(essence.Spec.Volumes, func(a, b corev1.Volume) int { return cmp.Compare(a.Name, b.Name) })
	// The generated encoders write maps in the order of their keys.
	text, err := essence.Marshal()
	if err != nil {
		// Marshal fails only when its own size was miscounted.
		panic("digest of a pod: " + err.Error())
	}
	return sha256.Sum256(text)
}

// tokenVolumes are the volumes with the token of the service account that the API
// server gives every pod, under a name of its own.
func tokenVolumes(volumes []corev1.Volume) map[string]bool {
	var names map[string]bool
	for i := range volumes {
		if v := &volumes[i]; v.Projected != nil && strings.HasPrefix(v.Name, "kube-api-access-") {
			if names == nil {
				names = map[string]bool{}
			}
			names[v.Name] = true
		}
	}
	return names
}

// volumeEssence leaves of what may be a volume of each pod's own, as a claim of a
// StatefulSet's is, no more than its type.
func volumeEssence(v corev1.Volume) corev1.Volume {
	if v.PersistentVolumeClaim != nil {
		v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{ReadOnly: v.PersistentVolumeClaim.ReadOnly}
	}
	if v.Ephemeral != nil {
		v.Ephemeral = &corev1.EphemeralVolumeSource{}
	}
	return v
}

func essences(containers []corev1.Container, tokens map[string]bool) []corev1.Container {
	if len(containers) == 0 {
		return nil
	}
	out := make([]corev1.Container, len(containers))
	for i := range containers {
		out[i] = essenceOf(&containers[i], tokens)
	}
	return out
}

func essenceOf(c *corev1.Container, tokens map[string]bool) corev1.Container {
	out := corev1.Container{
		Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, WorkingDir: c.WorkingDir,
		Ports: c.Ports, RestartPolicy: c.RestartPolicy, Lifecycle: c.Lifecycle, VolumeDevices: c.VolumeDevices,
		LivenessProbe: probeEssence(c.LivenessProbe), ReadinessProbe: probeEssence(c.ReadinessProbe), StartupProbe: probeEssence(c.StartupProbe),
	}
	if sc := c.SecurityContext; sc != nil && sc.Size() > 0 {
		out.SecurityContext = sc
	}
	for i := range c.VolumeMounts {
		if !tokens[c.VolumeMounts[i].Name] {
			out.VolumeMounts = append(out.VolumeMounts, c.VolumeMounts[i])
		}
	}
	return out
}

func probeEssence(p *corev1.Probe) *corev1.Probe {
	if p == nil {
		return nil
	}
	return &corev1.Probe{ProbeHandler: p.ProbeHandler}
}
