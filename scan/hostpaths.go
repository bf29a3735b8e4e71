package scan

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// place is a path of the host that matters.
type place struct {
	path string
	// top is the folder of the one distribution that has the path. A mount of what
	// lies above it says nothing: /var holds microk8s on few nodes.
	top string
}

func places(paths ...string) []place {
	tops := []string{"/var/snap", "/var/lib/rancher", "/var/lib/k0s", "/var/lib/minikube", "/var/lib/lxd", "/system"}
	list := make([]place, len(paths))
	for i, p := range paths {
		list[i].path = p
		for _, top := range tops {
			if below(p, top) {
				list[i].top = top
			}
		}
	}
	return list
}

// below reports whether p is dir or lies in it.
func below(p, dir string) bool {
	return strings.HasPrefix(p, dir) && (len(p) == len(dir) || p[len(dir)] == '/')
}

// runtimeSockets give whoever connects to them root on the node: runtimes and
// builders, plugins of theirs that change what they start (NRI), systemd (by itself
// or over D-Bus), and managers of virtual machines, snaps and whole nodes.
func runtimeSockets() []place {
	return places(
		"/run/docker.sock", "/run/docker/containerd/containerd.sock", "/run/cri-dockerd.sock", "/run/dockershim.sock",
		"/run/containerd/containerd.sock", "/run/containerd/containerd.sock.ttrpc", "/run/containerd/s",
		"/run/crio/crio.sock", "/run/frakti.sock", "/run/podman/podman.sock", "/run/buildkit/buildkitd.sock",
		"/run/k3s/containerd/containerd.sock", "/run/k0s/containerd.sock", "/run/k0s/containerd/containerd.sock",
		"/run/host-containerd/containerd.sock", "/run/api.sock", "/run/nri/nri.sock",
		"/system/run/containerd/containerd.sock", "/system/run/machined/machine.sock",
		"/var/snap/microk8s/common/run/containerd.sock", "/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket",
		"/run/systemd/private", "/run/dbus/system_bus_socket", "/run/snapd.socket", "/run/libvirt/libvirt-sock",
		"/pipe/docker_engine", "/pipe/containerd-containerd", "/pipe/rancher_wins",
	)
}

// isRuntimeSocket knows a runtime's socket by its name too, wherever it lies.
func isRuntimeSocket(m *hostMount) bool {
	switch path.Base(m.path) {
	case "docker.sock", "containerd.sock", "crio.sock", "cri-dockerd.sock", "podman.sock", "buildkitd.sock", "nri.sock":
		return true
	}
	return false
}

func kubeletDirs() []place {
	return places("/var/lib/kubelet", "/var/lib/k0s/kubelet", "/var/snap/microk8s/common/var/lib/kubelet")
}

func staticPodDirs() []place {
	return places(
		"/etc/kubernetes/manifests", "/etc/kubernetes/static-pods", "/etc/kubelet.d",
		"/var/lib/rancher/k3s/server/manifests", "/var/lib/rancher/k3s/agent/pod-manifests",
		"/var/lib/rancher/rke2/server/manifests", "/var/lib/rancher/rke2/agent/pod-manifests",
		"/var/lib/k0s/manifests",
	)
}

func etcdDirs() []place {
	return places(
		"/var/lib/etcd", "/etc/kubernetes/pki/etcd", "/etc/etcd", "/etc/ssl/etcd",
		"/var/lib/rancher/k3s/server/db", "/var/lib/rancher/rke2/server/db",
		"/var/lib/k0s/etcd", "/var/lib/k0s/db", "/var/lib/minikube/etcd",
		"/var/snap/microk8s/current/var/kubernetes/backend",
	)
}

func hostSecrets() []place {
	return places(
		"/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/kubernetes", "/etc/rancher", "/etc/cni/net.d", "/root", "/home",
		"/etc/ssl/private", "/srv/kubernetes", "/var/lib/kubelet", "/var/lib/kube-proxy", "/var/lib/docker", "/var/lib/containerd",
		"/var/lib/containers", "/var/lib/cloud", "/var/lib/waagent", "/run/secrets", "/run/credentials", "/run/containerd/io.containerd.runtime.v2.task",
		"/var/lib/rancher", "/var/lib/k0s", "/var/lib/minikube/certs", "/system/secrets", "/system/state",
		"/var/snap/microk8s/current/certs", "/var/snap/microk8s/current/credentials", "/var/snap/microk8s/common/var/lib",
	)
}

// systemDirs hold what the node runs or reads as root.
func systemDirs() []place {
	return places(
		"/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/boot", "/root",
		"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local",
		"/usr/share/containers", "/opt/bin", "/opt/cni", "/opt/containerd", "/opt/nri", "/home/kubernetes", "/sysroot", "/ostree", "/local", "/system", "/.bottlerocket",
		"/srv/kubernetes", "/var/spool/cron", "/var/spool/at", "/var/lib/systemd", "/var/lib/cloud", "/var/lib/waagent",
		"/var/lib/dpkg", "/var/lib/rpm", "/var/lib/snapd", "/var/lib/cni/bin", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers",
		"/var/lib/rancher/k3s/agent", "/var/lib/rancher/k3s/data", "/var/lib/rancher/k3s/server", "/var/lib/rancher/rke2/agent", "/var/lib/rancher/rke2/bin", "/var/lib/rancher/rke2/data", "/var/lib/rancher/rke2/server",
		"/var/lib/k0s/bin", "/var/lib/k0s/containerd", "/var/lib/k0s/pki", "/var/snap/microk8s",
		"/run/systemd", "/run/udev", "/run/cdi", "/run/containerd", "/run/crio", "/run/docker", "/run/runc", "/run/k3s", "/run/k0s",
	)
}

// isSystem reports whether the node runs or reads as root what lies in the mount.
func isSystem(m *hostMount, dirs []place) bool {
	windows := []string{"/windows", "/program files", "/program files (x86)", "/programdata", "/users", "/k", "/etc"}
	if m.windows && slices.ContainsFunc(windows, m.inside) {
		return true
	}
	if harmless(m) || m.inside("/usr/share/zoneinfo") {
		return false
	}
	if m.touches(dirs) {
		return true
	}
	// A home, or what a login reads in it, but not the data beside.
	if rest, ok := strings.CutPrefix(m.path, "/home/"); ok {
		_, file, deep := strings.Cut(rest, "/")
		return !deep || strings.HasPrefix(file, ".")
	}
	return m.path == "/home"
}

// harmless are single files and lists that charts mount writable only because
// nobody wrote readOnly: changing them confuses the node and gives nobody its
// rights.
func harmless(m *hostMount) bool {
	return slices.Contains([]string{
		"/etc/localtime", "/etc/timezone", "/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf",
		"/etc/os-release", "/etc/lsb-release", "/usr/lib/os-release", "/run/xtables.lock",
	}, m.path) || certificates(m)
}

// certificates are the folders of the authorities that the node's programs trust.
func certificates(m *hostMount) bool {
	return m.inside("/etc/ssl/certs") || m.inside("/etc/ca-certificates") || m.inside("/etc/pki")
}

// hostPathType is what the volume says that its path is, empty when it says nothing.
func (m *hostMount) hostPathType() corev1.HostPathType {
	if m.volume.HostPath == nil || m.volume.HostPath.Type == nil {
		return corev1.HostPathUnset
	}
	return *m.volume.HostPath.Type
}

// isDevice reports whether the mount is a device node or a folder of them.
func (m *hostMount) isDevice() bool {
	if t := m.hostPathType(); t == corev1.HostPathBlockDev || t == corev1.HostPathCharDev {
		return true
	}
	if !m.inside("/dev") {
		return false
	}
	return !slices.ContainsFunc([]string{"/dev/shm", "/dev/hugepages", "/dev/mqueue", "/dev/log"}, m.inside)
}

// deviceSeverity is medium for what holds the node's disks and memory, and low for
// the single devices that programs ask for (/dev/fuse, /dev/kvm, /dev/net/tun).
func deviceSeverity(m *hostMount) Severity {
	if m.hostPathType() == corev1.HostPathBlockDev {
		return SeverityMedium
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(m.path, "/dev"), "/"), "/")
	switch name {
	case "", "shm", "mem", "kmem", "port", "disk", "mapper", "block":
		return SeverityMedium
	}
	for _, disk := range []string{"sd", "vd", "xvd", "hd", "nvme", "dm-", "md", "loop", "mmcblk"} {
		if rest, ok := strings.CutPrefix(name, disk); ok && rest != "" {
			return SeverityMedium
		}
	}
	return SeverityLow
}

// isProc leaves out the harmless single files, such as /proc/cpuinfo.
func isProc(m *hostMount) bool {
	switch m.path {
	case "/proc", "/proc/sysrq-trigger", "/proc/kcore", "/proc/kmem", "/proc/self", "/proc/thread-self":
		return true
	}
	if m.inside("/proc/sys") {
		return true
	}
	return len(m.path) > len("/proc/") && m.inside("/proc") && m.path[len("/proc/")] >= '0' && m.path[len("/proc/")] <= '9'
}

// kernelHelpers reports whether a write below the mount makes the kernel run a
// program: core_pattern and modprobe below kernel, binfmt_misc below fs.
func kernelHelpers(m *hostMount) bool {
	return !m.inside("/proc/sys") || m.path == "/proc/sys" || m.inside("/proc/sys/kernel") || m.inside("/proc/sys/fs")
}

// isSys needs a way to write: what is mounted below a read-only /sys (cgroup,
// debugfs, the BPF file system) stays writable unless the mount says otherwise.
func isSys(m *hostMount) bool {
	if !m.inside("/sys") {
		return false
	}
	return !m.readOnly || (m.shallow && (m.path == "/sys" || m.path == "/sys/fs" || m.path == "/sys/kernel"))
}

// spokenOf reports whether a special row speaks of the path as a persistent volume.
// Folders that provisioners of local storage hand out one by one hold nothing but
// such volumes.
func spokenOf(volume string, special []hostPathRow) bool {
	p, windows := hostPathOf(volume, "")
	for _, dir := range []string{
		"/opt/local-path-provisioner/", "/var/local-path-provisioner/", "/var/lib/rancher/k3s/storage/",
		"/tmp/hostpath-provisioner/", "/tmp/hostpath_pv/", "/var/snap/microk8s/common/default-storage/",
		"/var/openebs/local/", "/mnt/",
	} {
		if strings.HasPrefix(p, dir) {
			return false
		}
	}
	// Mounted read-only it may be spoken of by other rows than writable.
	for _, readOnly := range []bool{false, true} {
		m := &hostMount{path: p, windows: windows, claim: true, readOnly: readOnly, shallow: readOnly, volume: &corev1.Volume{}}
		for i := range special {
			if _, yes := special[i].match(m); yes {
				return true
			}
		}
	}
	return false
}
