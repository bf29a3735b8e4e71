package scan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pathLayer is what the layers can do about an escape path.
type pathLayer struct {
	// gates are capabilities of which every known way along the path asks for one that
	// the container holds: where all of these are blocked at run time, the path is
	// shut. Empty where some way asks for none of them (measured, FACTS §4): no policy
	// of KubeArmor's shuts such a path.
	gates []string
	// ungated says why not.
	ungated string
	// controls are the Pod Security Standards' controls that refuse the path; empty
	// where none does.
	controls []string
	// reopen puts the path into a pod that has none.
	reopen func(*corev1.PodSpec)
}

// Why no capability shuts a path.
const (
	ungatedPrivileged = "the host's devices and kernel settings are within reach without any of the capabilities that a policy could block"
	ungatedHostPID    = "no KubeArmor policy takes effect in a pod with hostPID"
	ungatedFiles      = "reading and writing files of the host asks for no capability"
	ungatedNetwork    = "talking to what listens on the host asks for no capability"
	ungatedMemory     = "the host's shared memory asks for no capability"
	ungatedKubelet    = "the kubelet does it for the pod, outside of the container"
	ungatedWindows    = "KubeArmor and BPF-LSM are of Linux"
)

// pathLayerOf is what the layers can do about the path with the ID.
func pathLayerOf(id string) pathLayer {
	switch id {
	case "escape-privileged":
		return pathLayer{ungated: ungatedPrivileged, controls: []string{"privileged"}, reopen: openPrivileged}
	case "escape-nsenter", "escape-hostpid-ptrace":
		return pathLayer{ungated: ungatedHostPID, controls: []string{"hostNamespaces"}, reopen: openHostPIDWith}
	case "escape-hostpid":
		return pathLayer{ungated: ungatedHostPID, controls: []string{"hostNamespaces"}, reopen: func(s *corev1.PodSpec) { s.HostPID = true }}
	case "escape-hostnetwork":
		return pathLayer{ungated: ungatedNetwork, controls: []string{"hostNamespaces"}, reopen: func(s *corev1.PodSpec) { s.HostNetwork = true }}
	case "escape-hostnetwork-admin":
		return pathLayer{gates: []string{"NET_ADMIN"}, controls: []string{"hostNamespaces", "capabilities_baseline", "capabilities_restricted"}, reopen: func(s *corev1.PodSpec) {
			s.HostNetwork = true
			openCapability("NET_ADMIN")(s)
		}}
	case "escape-hostipc":
		return pathLayer{ungated: ungatedMemory, controls: []string{"hostNamespaces"}, reopen: func(s *corev1.PodSpec) { s.HostIPC = true }}
	case "escape-windows-hostprocess":
		return pathLayer{ungated: ungatedWindows, controls: []string{"windowsHostProcess"}, reopen: openWindowsHostProcess}
	case "escape-unmasked-proc":
		return pathLayer{ungated: ungatedFiles, controls: []string{"procMount", "procMount_restricted"}, reopen: func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext.ProcMount = new(corev1.UnmaskedProcMount)
			asRoot(s)
		}}
	case "escape-gitrepo-volume":
		return pathLayer{ungated: ungatedKubelet, controls: []string{"restrictedVolumes"}, reopen: func(s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: "reopen", VolumeSource: corev1.VolumeSource{GitRepo: &corev1.GitRepoVolumeSource{Repository: "https://example.com/x.git"}}})
		}}
	}
	if l, ok := capabilityLayer(id); ok {
		return l
	}
	if path, ok := hostPathOfRule(id); ok {
		return pathLayer{ungated: ungatedFiles, controls: []string{"hostPathVolumes", "restrictedVolumes"}, reopen: openHostPath(path)}
	}
	return pathLayer{ungated: "what this path needs is not known"}
}

// capabilityLayer is pathLayerOf for the paths that are one capability.
func capabilityLayer(id string) (pathLayer, bool) {
	refused := []string{"capabilities_baseline", "capabilities_restricted"}
	for _, c := range []struct {
		id    string
		gates []string
		// also are capabilities that the kernel takes for one of the gates.
		also []string
	}{
		{"escape-cap-sys-admin", []string{"SYS_ADMIN"}, nil},
		{"escape-cap-sys-module", []string{"SYS_MODULE"}, nil},
		{"escape-cap-dac-read-search", []string{"DAC_READ_SEARCH"}, nil},
		{"escape-cap-sys-rawio", []string{"SYS_RAWIO"}, nil},
		{"escape-cap-sys-boot", []string{"SYS_BOOT"}, nil},
		{"escape-cap-bpf", []string{"BPF", "PERFMON"}, []string{"SYS_ADMIN"}},
	} {
		if c.id == id {
			return pathLayer{gates: slices.Concat(c.gates, c.also), controls: refused, reopen: openCapability(c.gates...)}, true
		}
	}
	if id == "escape-cap-mknod-device" {
		// The device is mounted already: what MKNOD adds to it can be blocked.
		return pathLayer{gates: []string{"MKNOD"}, controls: []string{"hostPathVolumes", "restrictedVolumes"}, reopen: func(s *corev1.PodSpec) {
			openHostPath("/dev/sda")(s)
			s.Containers[0].SecurityContext.Capabilities.Drop = nil
			asRoot(s)
		}}, true
	}
	return pathLayer{}, false
}

// hostPathOfRule is a path of the host by which the rule is found.
func hostPathOfRule(id string) (string, bool) {
	for _, p := range [][2]string{
		{"escape-host-root", "/"},
		{"escape-host-proc", "/proc"},
		{"escape-host-sys", "/sys"},
		{"escape-host-dev", "/dev"},
		{"escape-host-var-log", "/var/log"},
		{"escape-runtime-socket", "/run/containerd/containerd.sock"},
		{"escape-kubelet-dir", "/var/lib/kubelet"},
		{"escape-static-pods", "/etc/kubernetes/manifests"},
		{"escape-etcd-dir", "/var/lib/etcd"},
		{"escape-host-system", "/etc"},
		{"escape-host-secrets", "/var/lib/kube-proxy"},
		{"escape-hostpath-write", "/srv/reopen"},
	} {
		if p[0] == id {
			return p[1], true
		}
	}
	return "", false
}

// reopenings lists the escape paths of which Pod Security baseline refuses every
// instance, in the order of the table: what admission must keep out for a workload
// to be sealed.
func reopenings() []string {
	var ids []string
	for _, p := range escapeTable() {
		if p.Aggravates {
			continue
		}
		// Only restricted refuses gitRepo, and kubelets no longer serve it.
		if p.ID != "escape-gitrepo-volume" {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// cleanPod is a pod that Pod Security restricted allows, with the identity of one
// of a workload's own.
func cleanPod(meta metav1.ObjectMeta) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta,
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			SchedulerName: corev1.DefaultSchedulerName, TerminationGracePeriodSeconds: new(int64(30)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "reopen", Image: "registry.k8s.io/pause:3.10", ImagePullPolicy: corev1.PullIfNotPresent,
				TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// asRoot takes away what a user other than root would take from a path.
func asRoot(s *corev1.PodSpec) {
	s.SecurityContext.RunAsNonRoot = nil
	s.SecurityContext.RunAsUser = new(int64(0))
	s.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil
}

func openPrivileged(s *corev1.PodSpec) {
	s.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	asRoot(s)
}

func openHostPIDWith(s *corev1.PodSpec) {
	s.HostPID = true
	openCapability("SYS_ADMIN", "SYS_PTRACE")(s)
}

func openCapability(names ...string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		for _, n := range names {
			caps := s.Containers[0].SecurityContext.Capabilities
			caps.Add = append(caps.Add, corev1.Capability(n))
		}
		asRoot(s)
	}
}

func openHostPath(path string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		s.Volumes = append(s.Volumes, corev1.Volume{Name: "reopen", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: path, Type: new(corev1.HostPathUnset)},
		}})
		c := &s.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "reopen", MountPath: "/reopen"})
		asRoot(s)
	}
}

func openWindowsHostProcess(s *corev1.PodSpec) {
	s.OS = &corev1.PodOS{Name: corev1.Windows}
	s.HostNetwork = true
	s.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: &corev1.WindowsSecurityContextOptions{HostProcess: new(true)}}
	s.Containers[0].SecurityContext = nil
}
