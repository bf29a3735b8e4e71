package manifest

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Default gives a pod from a manifest the values that the API server would give it
// and that rules read. Defaults that no verdict depends on are left out.
func Default(_ *metav1.ObjectMeta, spec *corev1.PodSpec) {
	for i := range spec.Volumes {
		// The restricted level lists the types of volumes that it allows, and a
		// volume without a source would be of none of them.
		if v := &spec.Volumes[i]; v.VolumeSource == (corev1.VolumeSource{}) {
			v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
	for i := range spec.InitContainers {
		defaultPorts(spec.InitContainers[i].Ports, spec.HostNetwork)
	}
	for i := range spec.Containers {
		defaultPorts(spec.Containers[i].Ports, spec.HostNetwork)
	}
	for i := range spec.EphemeralContainers {
		// The API server refuses ports here. They are judged as they stand.
		defaultPorts(spec.EphemeralContainers[i].Ports, false)
	}
}

func defaultPorts(ports []corev1.ContainerPort, hostNetwork bool) {
	for i := range ports {
		p := &ports[i]
		// Findings name ports as "8080/TCP".
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		// In the host's network every port of a container is a port of the host,
		// which the baseline level forbids by itself.
		if hostNetwork && p.HostPort == 0 {
			p.HostPort = p.ContainerPort
		}
	}
}
