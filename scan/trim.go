package scan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Digest identifies what the rules read of a pod: pods with equal digests are
// judged alike.
type Digest [sha256.Size]byte

// Trim makes a pod of nothing but what the rules read. It shares memory with the
// original and changes nothing there.
func Trim(pod Pod) Pod {
	spec := pod.Spec
	trimmed := &corev1.PodSpec{
		HostNetwork: spec.HostNetwork, HostPID: spec.HostPID, HostIPC: spec.HostIPC, HostUsers: spec.HostUsers,
		RuntimeClassName: spec.RuntimeClassName, OS: spec.OS,
		SecurityContext: trimPodContext(spec.SecurityContext),
		InitContainers:  trimContainers(spec.InitContainers, pod),
		Containers:      trimContainers(spec.Containers, pod),
		Volumes:         trimVolumes(pod),
	}
	for i := range spec.EphemeralContainers {
		c := trimContainer((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), pod)
		trimmed.EphemeralContainers = append(trimmed.EphemeralContainers,
			corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c)})
	}
	meta := &metav1.ObjectMeta{}
	for k, v := range pod.Meta.Annotations {
		if readAnnotation(k) {
			if meta.Annotations == nil {
				meta.Annotations = map[string]string{}
			}
			meta.Annotations[k] = v
		}
	}
	return Pod{Meta: meta, Spec: trimmed, HostPaths: pod.HostPaths}
}

// readAnnotation reports whether a rule reads the annotation.
func readAnnotation(key string) bool {
	return strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) ||
		strings.HasPrefix(key, seccompContainerAnnotation) || key == seccompPodAnnotation
}

func trimPodContext(sc *corev1.PodSecurityContext) *corev1.PodSecurityContext {
	if sc == nil {
		return nil
	}
	return &corev1.PodSecurityContext{
		SELinuxOptions: sc.SELinuxOptions, WindowsOptions: sc.WindowsOptions,
		RunAsUser: sc.RunAsUser, RunAsNonRoot: sc.RunAsNonRoot,
		Sysctls: sc.Sysctls, SeccompProfile: sc.SeccompProfile, AppArmorProfile: sc.AppArmorProfile,
	}
}

func trimContainers(list []corev1.Container, pod Pod) []corev1.Container {
	if len(list) == 0 {
		return nil
	}
	trimmed := make([]corev1.Container, len(list))
	for i := range list {
		trimmed[i] = trimContainer(&list[i], pod)
	}
	return trimmed
}

func trimContainer(c *corev1.Container, pod Pod) corev1.Container {
	trimmed := corev1.Container{
		Name: c.Name, Image: c.Image, RestartPolicy: c.RestartPolicy,
		SecurityContext: c.SecurityContext, VolumeMounts: trimMounts(c.VolumeMounts, pod), VolumeDevices: trimDevices(c.VolumeDevices, pod),
		LivenessProbe: trimProbe(c.LivenessProbe), ReadinessProbe: trimProbe(c.ReadinessProbe), StartupProbe: trimProbe(c.StartupProbe),
	}
	for _, p := range c.Ports {
		if p.HostPort != 0 {
			// The indexes of ports are named in findings, so all of them stay.
			trimmed.Ports = c.Ports
			break
		}
	}
	if c.Lifecycle != nil {
		trimmed.Lifecycle = &corev1.Lifecycle{PostStart: trimHandler(c.Lifecycle.PostStart), PreStop: trimHandler(c.Lifecycle.PreStop)}
	}
	return trimmed
}

// trimMounts keeps the mounts of paths of the host in their places. The others are
// blank: the names of some end in a random suffix of each pod's own.
func trimMounts(mounts []corev1.VolumeMount, pod Pod) []corev1.VolumeMount {
	var trimmed []corev1.VolumeMount
	volumes := pod.Spec.Volumes
	for i := range volumes {
		if volumes[i].HostPath == nil && pod.HostPaths[volumes[i].Name] == "" {
			continue
		}
		for k := range mounts {
			if mounts[k].Name != volumes[i].Name {
				continue
			}
			if trimmed == nil {
				trimmed = make([]corev1.VolumeMount, len(mounts))
			}
			trimmed[k] = mounts[k]
		}
	}
	return trimmed
}

// trimDevices is trimMounts for devices. Those of the host come by claims alone.
func trimDevices(devices []corev1.VolumeDevice, pod Pod) []corev1.VolumeDevice {
	for i := range devices {
		if pod.HostPaths[devices[i].Name] != "" {
			return devices
		}
	}
	return nil
}

func trimProbe(p *corev1.Probe) *corev1.Probe {
	if p == nil || (p.HTTPGet == nil && p.TCPSocket == nil) {
		return nil
	}
	if (p.HTTPGet == nil || p.HTTPGet.Host == "") && (p.TCPSocket == nil || p.TCPSocket.Host == "") {
		return nil
	}
	return &corev1.Probe{ProbeHandler: p.ProbeHandler}
}

func trimHandler(h *corev1.LifecycleHandler) *corev1.LifecycleHandler {
	if h == nil || (h.HTTPGet == nil && h.TCPSocket == nil) {
		return nil
	}
	return h
}

// trimVolumes keeps every volume, as findings name them by index, but of the
// sources only what tells them apart and what differs between the pods of one
// workload least: a StatefulSet's pods each have a claim of their own.
func trimVolumes(pod Pod) []corev1.Volume {
	volumes := pod.Spec.Volumes
	if len(volumes) == 0 {
		return nil
	}
	trimmed := make([]corev1.Volume, len(volumes))
	for i := range volumes {
		v := &trimmed[i]
		*v = volumes[i]
		claim := v.PersistentVolumeClaim
		blankSources(&v.VolumeSource)
		if pod.HostPaths[v.Name] != "" {
			v.PersistentVolumeClaim = claim
		}
		// The API server ends the name of its own with a random suffix.
		if v.Projected != nil && v.HostPath == nil && strings.HasPrefix(v.Name, "kube-api-access-") {
			v.Name = "kube-api-access"
		}
	}
	return trimmed
}

// blankSources empties the sources of which the rules read no more than that they
// are there. A manifest may set two of them, so each is looked at.
func blankSources(v *corev1.VolumeSource) {
	if v.Projected != nil {
		v.Projected = &corev1.ProjectedVolumeSource{}
	}
	if v.Secret != nil {
		v.Secret = &corev1.SecretVolumeSource{}
	}
	if v.ConfigMap != nil {
		v.ConfigMap = &corev1.ConfigMapVolumeSource{}
	}
	if v.EmptyDir != nil {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	if v.DownwardAPI != nil {
		v.DownwardAPI = &corev1.DownwardAPIVolumeSource{}
	}
	if v.PersistentVolumeClaim != nil {
		v.PersistentVolumeClaim = &corev1.PersistentVolumeClaimVolumeSource{}
	}
	if v.CSI != nil {
		v.CSI = &corev1.CSIVolumeSource{Driver: v.CSI.Driver}
	}
	if v.Ephemeral != nil {
		v.Ephemeral = &corev1.EphemeralVolumeSource{}
	}
	if v.Image != nil {
		v.Image = &corev1.ImageVolumeSource{}
	}
}

// DigestOf is the digest of a trimmed pod.
func DigestOf(trimmed Pod) Digest {
	// The generated protobuf encoders write maps in the order of their keys, so
	// equal values make equal bytes.
	h := sha256.New()
	spec, err := trimmed.Spec.Marshal()
	if err != nil {
		// Marshal fails only when its own size was miscounted.
		panic("digest of a pod: " + err.Error())
	}
	h.Write(spec)
	if len(trimmed.Meta.Annotations) > 0 {
		meta, err := trimmed.Meta.Marshal()
		if err != nil {
			panic("digest of a pod: " + err.Error())
		}
		h.Write([]byte{0})
		h.Write(meta)
	}
	for _, name := range slices.Sorted(maps.Keys(trimmed.HostPaths)) {
		fmt.Fprintf(h, "%q=%q", name, trimmed.HostPaths[name])
	}
	var d Digest
	h.Sum(d[:0])
	return d
}
