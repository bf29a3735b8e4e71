package scan

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// notMounted is the state of a hostPath volume that no container mounts.
func notMounted() *effect {
	return &effect{to: SeverityLow, closes: true,
		reason: "it takes an ephemeral container or a changed pod to use it"}
}

// fileOwner is what a user other than root does to a writable path of the host.
func fileOwner(to Severity) *effect {
	return &effect{to: to, reason: "only what that user may write or read on the host is in reach"}
}

// hostPathRow is a row of the table that looks at one mount at a time.
type hostPathRow struct {
	Rule
	// match says whether the row speaks of the mount, and adds to the message.
	match            func(m *hostMount) (why string, yes bool)
	severity         func(m *hostMount) Severity
	sandbox, nonRoot *effect
}

// hostPathPaths are the rows about paths of the host. A mount that none of the
// special rows speaks of falls to the row of any writable path.
func hostPathPaths() []escapePath {
	special := specialHostPaths()
	rows := append(special, otherHostPath(special))
	paths := make([]escapePath, 0, len(rows)+1)
	for _, row := range rows {
		row.MITRE = append([]string{"T1611"}, row.MITRE...)
		row.CIS, row.CWE = cis("5.2.12"), []int{668}
		paths = append(paths, escapePath{
			Rule: row.Rule, find: row.find, sandbox: row.sandbox, nonRoot: row.nonRoot,
		})
	}
	return append(paths, gitRepoPath())
}

// find makes one hit of each volume and container, the worst of its mounts.
func (row hostPathRow) find(d *draft) []hit {
	var hits []hit
	mounts := hostMounts(d)
	for i := range mounts {
		m := &mounts[i]
		why, yes := row.match(m)
		if !yes {
			continue
		}
		h := hit{repair: m.repair(), message: m.means(), severity: row.Severity}
		if why != "" {
			h.message += ": " + why
		}
		if row.severity != nil {
			h.severity = row.severity(m)
		}
		if m.container == nil {
			h.shut, h.by = notMounted(), "not mounted"
		}
		same := slices.IndexFunc(hits, func(o hit) bool { return o.field == h.field && o.container == h.container })
		switch {
		case same < 0:
			hits = append(hits, h)
		case h.severity.Rank() > hits[same].severity.Rank():
			hits[same] = h
		}
	}
	return hits
}

// socketAcrossKernels is what a sandbox does to a socket: it has no end on the
// other side of the file system that is shared.
func socketAcrossKernels() *effect {
	return &effect{to: SeverityMedium, reason: "a unix socket does not connect across the sandbox's file sharing unless the runtime is told to allow it; other files in the folder do reach the container"}
}

func runtimeSockets() []string {
	return []string{
		"/run/docker.sock", "/run/containerd/containerd.sock", "/run/containerd/containerd.sock.ttrpc", "/run/crio/crio.sock",
		"/run/cri-dockerd.sock", "/run/dockershim.sock", "/run/k3s/containerd/containerd.sock", "/run/k0s/containerd.sock",
		"/run/podman/podman.sock", "/run/buildkit/buildkitd.sock", "/run/frakti.sock",
		"/var/snap/microk8s/common/run/containerd.sock", "/run/systemd/private", "/run/dbus/system_bus_socket",
	}
}

func matchAny(test func(*hostMount, string) bool, writable bool, targets ...string) func(*hostMount) (string, bool) {
	return func(m *hostMount) (string, bool) {
		if writable && m.readOnly {
			return "", false
		}
		for _, t := range targets {
			if test(m, t) {
				return "", true
			}
		}
		return "", false
	}
}

func specialHostPaths() []hostPathRow {
	const kubelet = "/var/lib/kubelet"
	touches := (*hostMount).touches
	manifests := []string{"/etc/kubernetes/manifests", "/etc/kubelet.d", "/var/lib/rancher/k3s/server/manifests", "/var/lib/rancher/k3s/agent/pod-manifests", "/var/lib/rancher/rke2/agent/pod-manifests", "/var/lib/rancher/rke2/server/manifests"}
	etcd := []string{"/var/lib/etcd", "/etc/kubernetes/pki/etcd", "/var/lib/rancher/k3s/server/db", "/var/lib/rancher/rke2/server/db"}
	return []hostPathRow{
		{
			Rule: Rule{
				ID: "escape-host-root", Title: "The host's root directory", Severity: SeverityCritical,
				Description: "The root of the node's file system is mounted: everything the node is made of.",
				Attack:      "Writes a cron job, a unit file or a key for root, or uses the runtime's socket below it; chroot into it is only one of the ways, so blocking chroot closes nothing.",
				Remediation: "Mount the one folder that is needed, read-only, or none.",
				Steps:       []Step{{StepFile, "/etc/cron.d, /root/.ssh, /run sockets"}, {StepBinary, "chroot"}},
				KubeHound:   "EXPLOIT_HOST_WRITE",
			},
			match:    func(m *hostMount) (string, bool) { return "", m.path == "/" },
			severity: lowerWhen(func(m *hostMount) bool { return m.readOnly }, SeverityHigh, SeverityCritical),
			nonRoot:  fileOwner(SeverityHigh),
		},
		{
			Rule: Rule{
				ID: "escape-host-proc", Title: "The host's /proc", Severity: SeverityCritical,
				Description: "The node's /proc is mounted. Its kernel settings belong to UID 0 and ask for no capability.",
				Attack:      "Writes |/proc/PID/root/… to sys/kernel/core_pattern and crashes a program: the kernel runs the attacker's file as root on the node.",
				Remediation: "Remove the mount; most exporters do with their own /proc, or with single files, read-only.",
				Steps:       []Step{{StepFile, "/proc/sys/kernel/core_pattern"}, {StepFile, "/proc/sysrq-trigger"}},
				KubeHound:   "CE_UMH_CORE_PATTERN",
			},
			match:    func(m *hostMount) (string, bool) { return "", isProc(m) },
			severity: lowerWhen(func(m *hostMount) bool { return m.readOnly }, SeverityMedium, SeverityCritical),
			sandbox:  &effect{to: SeverityHigh, reason: "the sandbox hands writes to the mounted files on to the host"},
			nonRoot:  fileOwner(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-host-sys", Title: "The host's /sys, writable", Severity: SeverityHigh,
				Description: "The node's /sys or a part of it is mounted writable, or read-only without recursiveReadOnly: cgroup, debugfs and the BPF file system are mounted below it.",
				Attack:      "Writes kernel/uevent_helper or a cgroup's release_agent: the kernel runs the attacker's file as root on the node.",
				Remediation: "Remove the mount, or mount it read-only with recursiveReadOnly: Enabled.",
				Steps:       []Step{{StepFile, "/sys/kernel/uevent_helper"}, {StepFile, "release_agent"}},
				MITRE:       []string{"T1068"},
			},
			match: func(m *hostMount) (string, bool) {
				return "", m.inside("/sys") && (!m.readOnly || (m.shallow && (m.path == "/sys" || m.path == "/sys/fs" || m.path == "/sys/kernel")))
			},
			severity: lowerWhen(func(m *hostMount) bool { return m.readOnly }, SeverityMedium, SeverityHigh),
			nonRoot:  fileOwner(SeverityLow),
		},
		{
			Rule: Rule{
				ID: "escape-host-dev", Title: "Devices of the host", Severity: SeverityMedium,
				Description: "The node's /dev or a device is mounted. What a container that is not privileged may open is up to the runtime's device cgroup; shared memory and sockets below /dev are open to it.",
				Attack:      "Opens the host's disk or memory where the device cgroup lets it; /dev/shm of the host is shared with its programs.",
				Remediation: "Hand out the single device with a device plugin or dynamic resource allocation.",
				Steps:       []Step{{StepFile, "devices below /dev"}},
			},
			match:   func(m *hostMount) (string, bool) { return "", m.inside("/dev") || m.isDevice() },
			nonRoot: fileOwner(SeverityLow),
		},
		{
			Rule: Rule{
				ID: "escape-host-var-log", Title: "The host's /var/log, writable", Severity: SeverityHigh,
				Description: "The node's log folder is mounted writable. The kubelet serves it over its API and follows links in it.",
				Attack:      "Plants a link to / and reads any file of the node as root through the kubelet's /logs endpoint (it takes the right to nodes/log or nodes/proxy).",
				Remediation: "Mount /var/log read-only, or /var/log/pods and /var/log/containers, read-only.",
				Steps:       []Step{{StepFile, "symlink below /var/log"}, {StepNetwork, "kubelet /logs/"}},
				KubeHound:   "CE_VAR_LOG_SYMLINK",
			},
			match:   matchAny(touches, true, "/var/log"),
			nonRoot: fileOwner(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-runtime-socket", Title: "Socket of the container runtime", Severity: SeverityCritical,
				Description: "The socket of containerd, CRI-O, Docker, BuildKit, Podman or systemd can be reached. Mounting it read-only changes nothing: connecting is no write.",
				Attack:      "Asks the runtime to start a privileged container with the host's root mounted.",
				Remediation: "Remove the mount. Build images with a rootless builder; read container data from the kubelet's API.",
				Steps:       []Step{{StepFile, "unix socket of the runtime"}, {StepBinary, "docker, ctr, crictl"}},
				MITRE:       []string{"T1610"}, KubeHound: "EXPLOIT_CONTAINERD_SOCK",
			},
			match: matchAny((*hostMount).shows, false, runtimeSockets()...), sandbox: socketAcrossKernels(),
			nonRoot: fileOwner(SeverityHigh),
		},
		{
			Rule: Rule{
				ID: "escape-kubelet-dir", Title: "The kubelet's directory, writable", Severity: SeverityCritical,
				Description: "The folder of the kubelet is mounted writable: its keys, the volumes of every pod of the node, the sockets at which plugins register.",
				Attack:      "Takes the kubelet's client key, changes other pods' volumes, or registers a device plugin or CSI driver that the kubelet then trusts.",
				Remediation: "Only node plugins need it: keep them in a namespace of their own, and mount the one plugin folder.",
				Steps:       []Step{{StepFile, kubelet + "/pki, /pods, /plugins_registry, /device-plugins"}},
				MITRE:       []string{"T1552.001"}, KubeHound: "EXPLOIT_HOST_WRITE",
			},
			match:    matchAny(touches, true, kubelet),
			severity: lowerWhen(pluginDir, SeverityHigh, SeverityCritical), nonRoot: fileOwner(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-static-pods", Title: "Folder of static pods, writable", Severity: SeverityCritical,
				Description: "The kubelet starts every pod whose manifest lies in this folder, past admission.",
				Attack:      "Writes a manifest of a privileged pod; the kubelet runs it, and no admission policy is asked.",
				Remediation: "Remove the mount, or make it read-only.",
				Steps:       []Step{{StepFile, "a manifest in the folder of static pods"}},
				MITRE:       []string{"T1610"}, KubeHound: "EXPLOIT_HOST_WRITE",
			},
			match: matchAny(touches, true, manifests...), nonRoot: fileOwner(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-etcd-dir", Title: "etcd's data or keys", Severity: SeverityCritical,
				Description: "The folder of etcd's data, or its client keys, is mounted: the whole cluster's state, secrets included. Reading is enough.",
				Attack:      "Reads every secret out of the database file, or connects to etcd with its own keys and writes a cluster-admin.",
				Remediation: "Only etcd itself and its backup belong there; keep both on control-plane nodes.",
				Steps:       []Step{{StepFile, "/var/lib/etcd/member/snap/db"}, {StepFile, "/etc/kubernetes/pki/etcd"}},
				MITRE:       []string{"T1552.001"}, KubeHound: "EXPLOIT_HOST_READ",
			},
			match: matchAny(touches, false, etcd...), nonRoot: fileOwner(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-host-system", Title: "System folder of the host, writable", Severity: SeverityCritical,
				Description: "A folder is mounted writable from which the node runs programs or reads its configuration.",
				Attack:      "Writes a cron job, unit file, CNI plugin, shared library or a key for root: code as root on the node within minutes.",
				Remediation: "Mount it read-only, or mount the one file below it that is needed.",
				Steps:       []Step{{StepFile, "a file that the node runs or reads"}},
				MITRE:       []string{"T1543", "T1053.003"}, KubeHound: "EXPLOIT_HOST_WRITE",
			},
			match:   func(m *hostMount) (string, bool) { return "", !m.readOnly && isSystem(m) },
			nonRoot: fileOwner(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-host-secrets", Title: "Secrets of the host, read-only", Severity: SeverityHigh,
				Description: "A folder with keys, tokens or password hashes of the node is mounted read-only.",
				Attack:      "Takes the kubelet's keys, other pods' tokens, SSH keys or password hashes, and comes back as the node.",
				Remediation: "Mount the one file that is needed; give programs their own secrets as Secret or projected volumes.",
				Steps:       []Step{{StepFile, "/etc/shadow, /etc/kubernetes, /var/lib/kubelet/pods/*/volumes"}},
				MITRE:       []string{"T1552.001"}, KubeHound: "EXPLOIT_HOST_READ",
			},
			match: matchAny(touches, false, hostSecrets()...), nonRoot: fileOwner(SeverityMedium),
			severity: lowerWhen(func(m *hostMount) bool { return m.inside("/var/lib/docker/containers") }, SeverityMedium, SeverityHigh),
		},
	}
}

// otherHostPath is the row of every writable mount that no special row speaks of.
func otherHostPath(special []hostPathRow) hostPathRow {
	return hostPathRow{
		Rule: Rule{
			ID: "escape-hostpath-write", Title: "Path of the host, writable", Severity: SeverityMedium,
			Description: "A path of the node is mounted writable. What it is good for depends on what on the node reads it.",
			Attack:      "Plants files that a program of the node reads or runs, leaves setuid programs for a user of the node, fills the node's disk.",
			Remediation: "Use an emptyDir or a persistentVolumeClaim, or mount it read-only.",
			Steps:       []Step{{StepFile, "files below the path"}},
			KubeHound:   "EXPLOIT_HOST_WRITE",
		},
		match: func(m *hostMount) (string, bool) {
			if m.readOnly && m.container != nil {
				return "", false
			}
			return "", !slices.ContainsFunc(special, func(row hostPathRow) bool {
				_, yes := row.match(m)
				return yes
			})
		},
		nonRoot: fileOwner(SeverityLow),
	}
}

func lowerWhen(test func(*hostMount) bool, yes, no Severity) func(*hostMount) Severity {
	return func(m *hostMount) Severity {
		if test(m) {
			return yes
		}
		return no
	}
}

// isProc leaves out the harmless single files, such as /proc/cpuinfo.
func isProc(m *hostMount) bool {
	if m.path == "/proc" || m.inside("/proc/sys") || m.path == "/proc/sysrq-trigger" || m.path == "/proc/kcore" || m.path == "/proc/kmem" {
		return true
	}
	return len(m.path) > len("/proc/") && m.inside("/proc") && m.path[6] >= '0' && m.path[6] <= '9'
}

// pluginDir reports whether the mount is one of the folders that node plugins are
// made to write to.
func pluginDir(m *hostMount) bool {
	for _, dir := range []string{"plugins", "plugins_registry", "device-plugins", "pod-resources"} {
		if m.inside("/var/lib/kubelet/" + dir) {
			return true
		}
	}
	return false
}

// isSystem reports whether the node runs or reads what lies in the mount.
func isSystem(m *hostMount) bool {
	for _, dir := range []string{"/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/root", "/home", "/boot", "/var/spool/cron", "/run/systemd", "/run/udev", "/var/lib/cloud", "/var/lib/dpkg", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers", "/var/lib/rancher", "/run/containerd", "/run/crio"} {
		if m.inside(dir) {
			return true
		}
	}
	// Above the folders that matter: /var, /var/lib, /var/spool, /run.
	return m.path != "/" && (m.shows("/var/spool/cron") || m.shows("/var/lib/docker") || m.shows("/run/systemd"))
}

func hostSecrets() []string {
	return []string{
		"/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/kubernetes", "/etc/rancher", "/root", "/home",
		"/var/lib/kubelet", "/var/lib/rancher", "/var/lib/docker", "/var/lib/containerd", "/var/lib/containers",
		"/var/lib/cloud", "/run/secrets", "/run/containerd/io.containerd.runtime.v2.task",
	}
}

func gitRepoPath() escapePath {
	return escapePath{
		Rule: Rule{
			ID: "escape-gitrepo-volume", Title: "gitRepo volume: the kubelet clones what the pod names", Severity: SeverityHigh,
			Description: "The kubelet runs git on the node for a gitRepo volume. The type is deprecated and off by default from 1.33 on.",
			Attack:      "A repository with a hook in a submodule runs its code on the node (CVE-2024-10220).",
			Remediation: "Clone in an init container into an emptyDir.",
			MITRE:       []string{"T1611", "T1203"}, CWE: []int{250},
			HelpURL: "https://nvd.nist.gov/vuln/detail/CVE-2024-10220",
		},
		find: func(d *draft) []hit {
			if !slices.ContainsFunc(d.spec.Volumes, func(v corev1.Volume) bool { return v.GitRepo != nil }) {
				return nil
			}
			return asHits(repairsVolumes(gitRepoSource)(d), "has the kubelet run git on the node")
		},
	}
}

func gitRepoSource(v *corev1.VolumeSource) []volumeSource {
	if v.GitRepo == nil {
		return nil
	}
	return []volumeSource{{"gitRepo", v.GitRepo}}
}
