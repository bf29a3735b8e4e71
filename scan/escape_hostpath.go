package scan

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// notMounted is the state of a hostPath volume that no container mounts.
func notMounted() *effect {
	return &effect{to: SeverityLow, closes: true,
		reason: "it takes an ephemeral container or a changed pod to use it"}
}

// fileOwner is what a user other than root does to a writable path of the host.
func fileOwner(to Severity) *effect {
	return &effect{to: to, reason: "only what that user and its groups may read or write on the host is in reach"}
}

// hostPathRow is a row of the table that looks at one mount at a time.
type hostPathRow struct {
	Rule
	// match tells whether the row speaks of the mount.
	match func(m *hostMount) (note, bool)
	lowerings
}

// note is what a row says of one mount beyond its record; the zero value is
// nothing.
type note struct {
	severity Severity
	why      string
	related  []string
	nonRoot  *effect
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
			Rule: row.Rule, find: row.find, lowerings: row.lowerings,
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
		if m.gone() {
			continue
		}
		n, yes := row.match(m)
		if !yes {
			continue
		}
		h := hit{repair: m.repair(), message: m.means(), severity: cmp.Or(n.severity, row.Severity), nonRoot: n.nonRoot}
		h.related = append(h.related, n.related...)
		if n.why != "" {
			h.message += "; " + n.why
		}
		if m.container == nil {
			h.shut, h.by = notMounted(), "not mounted"
		}
		same := slices.IndexFunc(hits, h.samePlace)
		switch {
		case same < 0:
			hits = append(hits, h)
		case h.worse(&hits[same]):
			hits[same] = h
		}
	}
	return hits
}

// worse compares two hits in one place: of equal ones, that which a user other than
// root lowers less.
func (h *hit) worse(than *hit) bool {
	if h.severity != than.severity {
		return h.severity.Rank() > than.severity.Rank()
	}
	return than.nonRoot != nil && h.nonRoot == nil
}

func (h *hit) samePlace(other hit) bool {
	return other.field == h.field && other.item == h.item && other.container == h.container
}

// socketAcrossKernels is what a sandbox does to a socket: it has no end on the
// other side of the file system that is shared.
func socketAcrossKernels() *effect {
	return &effect{to: SeverityMedium, reason: "a unix socket does not connect across the sandbox's file sharing unless the runtime is told to allow it; other files in the folder do reach the container"}
}

// writable speaks of mounts of the places that can be written to.
func writable(list []place) func(*hostMount) (note, bool) {
	return func(m *hostMount) (note, bool) { return note{}, !m.readOnly && m.touches(list) }
}

// specialHostPaths are the rows of paths with a meaning of their own.
func specialHostPaths() []hostPathRow {
	return slices.Concat(kernelHostPaths(), serviceHostPaths(), fileHostPaths())
}

// kernelHostPaths are the root and what the kernel shows as files.
func kernelHostPaths() []hostPathRow {
	return []hostPathRow{
		{
			Rule: Rule{
				ID: "escape-host-root", Title: "The host's root directory", Severity: SeverityCritical,
				Description: "The root of the node's file system is mounted: everything the node is made of. Read-only changes little: connecting to the runtime's socket below it is no write, and without recursiveReadOnly /run and /proc stay writable.",
				Attack:      "Writes a cron job, a unit file or a key for root, or uses the runtime's socket below it; chroot into it is only one of the ways, so blocking chroot closes nothing.",
				Remediation: "Mount the one folder that is needed, read-only, or none.",
				Steps:       []Step{{StepFile, "/etc/cron.d, /root/.ssh, /run sockets"}, {StepBinary, "chroot"}},
				KubeHound:   "EXPLOIT_HOST_WRITE",
			},
			match: matchRoot, lowerings: lowerings{nonRoot: fileOwner(SeverityHigh)},
		},
		{
			Rule: Rule{
				ID: "escape-host-proc", Title: "The host's /proc", Severity: SeverityCritical,
				Description: "The node's /proc is mounted. Its kernel settings belong to UID 0 and ask for no capability; with SYS_PTRACE the files of every process of the node are in reach, read-only or not.",
				Attack:      "Writes |/proc/PID/root/… to sys/kernel/core_pattern and crashes a program: the kernel runs the attacker's file as root on the node. With SYS_PTRACE goes through PID/root into the node's file system.",
				Remediation: "Remove the mount; most exporters do with their own /proc, or with single files, read-only.",
				Steps:       []Step{{StepFile, "/proc/sys/kernel/core_pattern"}, {StepFile, "/proc/sysrq-trigger"}},
				KubeHound:   "CE_UMH_CORE_PATTERN",
			},
			match: matchProc,
			lowerings: lowerings{
				userNamespace: settingsOfTheHost(),
				sandbox:       &effect{to: SeverityHigh, reason: "the sandbox hands writes to the mounted files on to the host"},
				nonRoot:       fileOwner(SeverityMedium),
			},
		},
		{
			Rule: Rule{
				ID: "escape-host-sys", Title: "The host's /sys, writable", Severity: SeverityHigh,
				Description: "The node's /sys or a part of it is mounted writable, or read-only without recursiveReadOnly: cgroup, debugfs and the BPF file system are mounted below it.",
				Attack:      "Writes kernel/uevent_helper or a cgroup's release_agent: the kernel runs the attacker's file as root on the node.",
				Remediation: "Remove the mount, or mount it read-only with recursiveReadOnly: Enabled.",
				Steps:       []Step{{StepFile, "/sys/kernel/uevent_helper"}, {StepFile, "release_agent"}},
			},
			match: func(m *hostMount) (note, bool) {
				n := note{}
				// What cgroup and the BPF file system allow asks for a capability beside.
				if m.readOnly || m.inside("/sys/fs/cgroup") || m.inside("/sys/fs/bpf") {
					n.severity = SeverityMedium
				}
				return n, isSys(m)
			},
			lowerings: lowerings{
				userNamespace: settingsOfTheHost(),
				nonRoot:       fileOwner(SeverityLow),
			},
		},
		{
			Rule: Rule{
				ID: "escape-host-dev", Title: "Devices of the host", Severity: SeverityMedium,
				Description: "The node's /dev or a device is mounted. What a container that is not privileged may open is up to the runtime's device cgroup; shared memory and sockets below /dev are open to it.",
				Attack:      "Opens the host's disk or memory where the device cgroup lets it; /dev/shm of the host is shared with its programs.",
				Remediation: "Hand out the single device with a device plugin or dynamic resource allocation.",
				Steps:       []Step{{StepFile, "devices below /dev"}},
			},
			match: func(m *hostMount) (note, bool) {
				return note{severity: deviceSeverity(m)}, m.inside("/dev") || m.isDevice()
			},
			lowerings: lowerings{
				userNamespace: &effect{to: SeverityLow, reason: "the node's devices belong to nobody in the pod's own user namespace: only those open to everyone are in reach"},
				nonRoot:       fileOwner(SeverityLow),
			},
		},
	}
}

// serviceHostPaths are those of the kubelet and the runtime.
func serviceHostPaths() []hostPathRow {
	sockets, kubelet, manifests := runtimeSockets(), kubeletDirs(), staticPodDirs()
	return []hostPathRow{
		{
			Rule: Rule{
				ID: "escape-host-var-log", Title: "The host's /var/log, writable", Severity: SeverityHigh,
				Description: "The node's log folder is mounted writable. The kubelet serves it over its API and follows links in it.",
				Attack:      "Plants a link to / and reads any file of the node as root through the kubelet's /logs endpoint (it takes the right to nodes/log or nodes/proxy), or puts a link in the place of a container's log (pods/log).",
				Remediation: "Mount it read-only, or only /var/log/pods and /var/log/containers, read-only.",
				Steps:       []Step{{StepFile, "symlink below /var/log"}, {StepNetwork, "kubelet /logs/"}},
				KubeHound:   "CE_VAR_LOG_SYMLINK",
			},
			match:     matchVarLog,
			lowerings: lowerings{nonRoot: fileOwner(SeverityMedium)},
		},
		{
			Rule: Rule{
				ID: "escape-runtime-socket", Title: "Socket of the container runtime", Severity: SeverityCritical,
				Description: "The socket of containerd, CRI-O, Docker, BuildKit, Podman, NRI, systemd, D-Bus or another manager of the node can be reached. Mounting it read-only changes nothing: connecting is no write.",
				Attack:      "Asks the runtime to start a privileged container with the host's root mounted, or, as a plugin of NRI, puts that mount into the next container that it starts.",
				Remediation: "Remove the mount. Build images with a rootless builder; read container data from the kubelet's API.",
				Steps:       []Step{{StepFile, "unix socket of the runtime"}, {StepBinary, "docker, ctr, crictl"}},
				MITRE:       []string{"T1610"}, KubeHound: "EXPLOIT_CONTAINERD_SOCK",
			},
			match:     func(m *hostMount) (note, bool) { return note{}, m.shows(sockets) || isRuntimeSocket(m) },
			lowerings: lowerings{sandbox: socketAcrossKernels(), nonRoot: fileOwner(SeverityHigh)},
		},
		{
			Rule: Rule{
				ID: "escape-kubelet-dir", Title: "The kubelet's directory, writable", Severity: SeverityCritical,
				Description: "The folder of the kubelet is mounted writable: its keys, the volumes of every pod of the node, the sockets at which plugins register.",
				Attack:      "Takes the kubelet's client key, changes other pods' volumes, or registers a device plugin or CSI driver that the kubelet then trusts.",
				Remediation: "Only node plugins need it: keep them in a namespace of their own, and mount the one plugin folder.",
				Steps:       []Step{{StepFile, "/var/lib/kubelet/pki, /pods, /plugins_registry, /device-plugins"}},
				MITRE:       []string{"T1552.001"}, KubeHound: "EXPLOIT_HOST_TRAVERSE",
			},
			match: func(m *hostMount) (note, bool) {
				return note{severity: kubeletSeverity(m, kubelet)}, !m.readOnly && m.touches(kubelet)
			},
			lowerings: lowerings{nonRoot: fileOwner(SeverityMedium)},
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
			match: writable(manifests), lowerings: lowerings{nonRoot: fileOwner(SeverityMedium)},
		},
	}
}

// fileHostPaths are folders by what lies in them.
func fileHostPaths() []hostPathRow {
	kubelet, manifests := kubeletDirs(), staticPodDirs()
	etcd, secrets, system := etcdDirs(), hostSecrets(), systemDirs()
	return []hostPathRow{
		{
			Rule: Rule{
				ID: "escape-etcd-dir", Title: "etcd's data or keys", Severity: SeverityCritical,
				Description: "The folder of etcd's data, or its client keys, is mounted: the whole cluster's state, secrets included. Reading is enough.",
				Attack:      "Reads every secret out of the database file, or connects to etcd with its own keys and writes a cluster-admin.",
				Remediation: "Only etcd itself and its backup belong there; keep both on control-plane nodes.",
				Steps:       []Step{{StepFile, "/var/lib/etcd/member/snap/db"}, {StepFile, "/etc/kubernetes/pki/etcd"}},
				MITRE:       []string{"T1552.001"}, KubeHound: "EXPLOIT_HOST_READ",
			},
			match: func(m *hostMount) (note, bool) {
				n := note{}
				if m.path == "/etc" || m.path == "/etc/ssl" || m.path == "/var" || m.path == "/var/lib" {
					n.severity, n.why = SeverityHigh, "etcd's folder lies below it where the pod runs on a control-plane node"
				}
				return n, m.touches(etcd)
			},
			lowerings: lowerings{nonRoot: fileOwner(SeverityMedium)},
		},
		{
			Rule: Rule{
				ID: "escape-host-system", Title: "System folder of the host, writable", Severity: SeverityCritical,
				Description: "A folder is mounted writable from which the node runs programs or reads its configuration. What the rules about the kubelet, static pods and etcd name is left to them.",
				Attack:      "Writes a cron job, unit file, CNI plugin, shared library or a key for root: code as root on the node within minutes.",
				Remediation: "Mount it read-only, or mount the one file below it that is needed.",
				Steps:       []Step{{StepFile, "a file that the node runs or reads"}},
				MITRE:       []string{"T1543", "T1053.003"}, KubeHound: "EXPLOIT_HOST_WRITE",
			},
			match: func(m *hostMount) (note, bool) {
				return note{}, !m.readOnly && isSystem(m, system) && !m.insideAny(manifests) && !m.insideAny(etcd)
			},
			lowerings: lowerings{nonRoot: fileOwner(SeverityMedium)},
		},
		{
			Rule: Rule{
				ID: "escape-host-secrets", Title: "Secrets of the host", Severity: SeverityHigh,
				Description: "A file or folder with keys, tokens or password hashes of the node can be read. Where the same mount can be written to and another rule says so, this one is silent.",
				Attack:      "Takes the kubelet's keys, other pods' tokens, SSH keys or password hashes, and comes back as the node.",
				Remediation: "Mount the one file that is needed; give programs their own secrets as Secret or projected volumes.",
				Steps:       []Step{{StepFile, "/etc/shadow, /etc/kubernetes, /var/lib/kubelet/pods/*/volumes"}},
				MITRE:       []string{"T1552.001"}, KubeHound: "EXPLOIT_HOST_READ",
			},
			match: func(m *hostMount) (note, bool) {
				n := note{}
				if m.inside("/var/lib/docker/containers") || m.inside("/etc/cni/net.d") {
					n.severity = SeverityMedium
				}
				if withoutSecrets(m, kubelet) || !m.readOnly && (isSystem(m, system) || m.touches(kubelet)) {
					return n, false
				}
				return n, m.touches(secrets)
			},
			lowerings: lowerings{nonRoot: fileOwner(SeverityMedium)},
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
		match: func(m *hostMount) (note, bool) {
			// That an ordinary folder serves as a persistent volume is an administrator's
			// choice, not the pod's.
			if m.claim || m.readOnly || slices.ContainsFunc(special, func(row hostPathRow) bool {
				_, yes := row.match(m)
				return yes
			}) {
				return note{}, false
			}
			n := note{}
			if harmless(m) && !certificates(m) {
				n.severity = SeverityLow
			}
			return n, true
		},
		lowerings: lowerings{nonRoot: fileOwner(SeverityLow)},
	}
}

// matchRoot lowers a read-only root for a user who is not root: no socket below it
// opens to that user.
func matchRoot(m *hostMount) (note, bool) {
	n := note{}
	if m.readOnly {
		n.nonRoot = fileOwner(SeverityMedium)
		n.why = "the sockets below it can be connected to all the same"
	}
	return n, m.path == "/"
}

// matchProc weighs a mount of the host's /proc by what can be written below it, and
// by SYS_PTRACE, which opens the files of every process listed there.
func matchProc(m *hostMount) (note, bool) {
	if !isProc(m) {
		return note{}, false
	}
	c := m.container
	switch {
	case c != nil && !c.privileged() && !m.inside("/proc/sys") && c.holds("SYS_PTRACE"):
		return note{
			why:     "with SYS_PTRACE the node's file system is in reach through PID/root",
			related: []string{grantField(c, "SYS_PTRACE")}, nonRoot: boundOnly(SeverityHigh),
		}, true
	case m.readOnly:
		return note{severity: SeverityMedium, nonRoot: fileOwner(SeverityLow)}, true
	case !kernelHelpers(m):
		return note{severity: SeverityMedium, nonRoot: fileOwner(SeverityLow)}, true
	}
	return note{}, true
}

// matchVarLog finds the folder that the kubelet serves, and any below it: links are
// followed there too, but what the kubelet does not write itself takes a right to
// the node to be read.
func matchVarLog(m *hostMount) (note, bool) {
	n := note{}
	if m.inside("/var/log") && m.path != "/var/log" && !m.inside("/var/log/pods") && !m.inside("/var/log/containers") {
		n.severity = SeverityMedium
	}
	return n, !m.readOnly && (m.path == "/var" || m.inside("/var/log"))
}

// kubeletSeverity lowers the folders that node plugins are made to write to.
func kubeletSeverity(m *hostMount, kubelet []place) Severity {
	switch kubeletFolder(m, kubelet) {
	case "pod-resources":
		return SeverityMedium
	case "plugins", "plugins_registry", "device-plugins", "seccomp":
		return SeverityHigh
	}
	return ""
}

// withoutSecrets knows the folders of the kubelet's that hold no keys and no volumes:
// to read in them, or to connect to what listens there, gives nothing away.
func withoutSecrets(m *hostMount, kubelet []place) bool {
	return slices.Contains([]string{"pod-resources", "plugins_registry", "device-plugins", "seccomp"}, kubeletFolder(m, kubelet))
}

// kubeletFolder is the folder of the kubelet's in which the mount lies, empty for all
// of them and for what is not the kubelet's.
func kubeletFolder(m *hostMount, kubelet []place) string {
	for i := range kubelet {
		if rest, ok := strings.CutPrefix(m.path, kubelet[i].path+"/"); ok {
			name, _, _ := strings.Cut(rest, "/")
			return name
		}
	}
	return ""
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
