package scan

import "slices"

// inOwnKernel is what a sandboxed runtime does to ways out that go through the
// kernel: it is not the host's.
func inOwnKernel() *effect {
	return &effect{to: SeverityLow, closes: true,
		reason: "the system calls go to the sandbox's own kernel, not to the host's"}
}

// inOwnProcesses is what a sandboxed runtime does to the host's process and IPC
// namespaces: it has its own, whatever the pod asks for.
func inOwnProcesses(what string) *effect {
	return &effect{to: SeverityLow, closes: true, reason: "the sandbox has " + what + " of its own: the host's are not seen there"}
}

// settingsOfTheHost is what a user namespace does to the kernel's settings.
func settingsOfTheHost() *effect {
	return &effect{to: SeverityLow, closes: true, reason: "root of the pod's user namespace may not write the host's kernel settings"}
}

// unchanged is the effect of a property that takes nothing.
func unchanged() *effect { return &effect{to: SeverityCritical} }

func processPaths() []escapePath {
	return []escapePath{
		{
			Rule: Rule{
				ID: "escape-privileged", Title: "Privileged container", Severity: SeverityCritical,
				Description: "privileged: true gives the container every capability, every device of the node, an unmasked /proc and /sys, and takes seccomp and AppArmor away.",
				Attack:      "Reads and writes the node's disk through its device node, writes /proc/sys/kernel/core_pattern, mounts a cgroup with a release_agent, loads a kernel module. None of the capabilities of the escapeToHost set has to be used for the first two, so no runtime policy closes this path.",
				Remediation: "Set privileged to false. Grant the one capability or device that is needed, or move the work to a node agent in a namespace of its own.",
				Steps:       []Step{{StepFile, "block devices below /dev"}, {StepFile, "/proc/sys/kernel/core_pattern"}, {StepMount, "mount(2) of a cgroup or disk"}, {StepCapability, "SYS_ADMIN"}, {StepCapability, "SYS_MODULE"}},
				MITRE:       []string{"T1611"}, KubeHound: "CE_PRIV_MOUNT", CIS: cis("5.2.2"), CWE: []int{250},
			},
			find: findPrivileged,
			lowerings: lowerings{
				userNamespace: &effect{to: SeverityHigh,
					reason: "the capabilities hold in the pod's own user namespace only and the node's devices belong to nobody there; the kernel's whole attack surface stays open"},
				sandbox: inOwnKernel(),
				guest: &effect{to: SeverityHigh,
					reason: "the system calls go to the guest's kernel; the node's devices are handed to the guest unless the runtime is set to privileged_without_host_devices"},
			},
		},
		{
			Rule: Rule{
				ID: "escape-nsenter", Title: "Can enter the host's namespaces (nsenter)", Severity: SeverityCritical,
				Description: "The container sees the host's processes (hostPID) and holds SYS_ADMIN, by itself or by being privileged.",
				Attack:      "nsenter -t 1 -m -u -i -n -p: a shell in the namespaces of the host's first process; without SYS_PTRACE, in those of any process of the host that holds no more than the container.",
				Remediation: "Set hostPID to false. KubeArmor does not help: no policy takes effect in a pod with hostPID.",
				Steps:       []Step{{StepSyscall, "setns(2)"}, {StepBinary, "nsenter"}, {StepCapability, "SYS_ADMIN"}},
				MITRE:       []string{"T1611"}, KubeHound: "CE_NSENTER", CIS: cis("5.2.2", "5.2.3"), CWE: []int{250, 668},
			},
			find:      findNsenter,
			lowerings: lowerings{sandbox: inOwnProcesses("processes"), nonRoot: boundOnly(SeverityHigh), bounded: outOfReach()},
		},
		{
			Rule: Rule{
				ID: "escape-hostpid-ptrace", Title: "Can trace the host's processes", Severity: SeverityCritical,
				Description: "The container sees the host's processes (hostPID) and holds SYS_PTRACE.",
				Attack:      "Attaches to a process of root on the host and runs code in it, or reads its memory and files through /proc/PID/root.",
				Remediation: "Set hostPID to false, or take SYS_PTRACE away. KubeArmor does not help: no policy takes effect in a pod with hostPID.",
				Steps:       []Step{{StepSyscall, "ptrace(2)"}, {StepFile, "/proc/PID/root"}, {StepCapability, "SYS_PTRACE"}},
				MITRE:       []string{"T1611", "T1055"}, KubeHound: "CE_SYS_PTRACE", CIS: cis("5.2.3", "5.2.9"), CWE: []int{250, 668},
			},
			find:      findHostPIDPtrace,
			lowerings: lowerings{sandbox: inOwnProcesses("processes"), nonRoot: boundOnly(SeverityHigh), bounded: outOfReach()},
		},
		{
			Rule: Rule{
				ID: "escape-hostpid", Title: "Shares the host's process namespace", Severity: SeverityHigh,
				Description: "hostPID shows the container every process of the node, and makes KubeArmor lose sight of the container: it tells containers apart by their PID and mount namespaces, so none of its policies takes effect there.",
				Attack:      "Reads command lines and, as root, the environment and open files of processes with no more rights than its own; kills processes of the node.",
				Remediation: "Set hostPID to false, or leave it out.",
				Steps:       []Step{{StepFile, "/proc/PID/environ"}, {StepFile, "/proc/PID/root"}, {StepSyscall, "kill(2)"}},
				MITRE:       []string{"T1611", "T1057"}, CIS: cis("5.2.3"), CWE: []int{668},
			},
			find: findHostPID,
			lowerings: lowerings{
				sandbox: inOwnProcesses("processes"),
				nonRoot: &effect{to: SeverityMedium, reason: "only processes with the same UID, on the host and in other pods, can be read and signalled; the others show their command lines"},
			},
		},
		{
			Rule: Rule{
				ID: "escape-hostnetwork", Title: "Shares the host's network", Severity: SeverityMedium,
				Description: "hostNetwork puts the container in the node's network namespace, beside everything that listens there on localhost, and out of reach of network policies.",
				Attack:      "Talks to services bound to localhost (etcd, kubelet, debug ports), to abstract unix sockets of the node's daemons, and to the cloud's metadata service as the node. With NET_RAW, a default capability of containerd, listens to the node's traffic and forges packets.",
				Remediation: "Set hostNetwork to false; publish ports with a Service.",
				Steps:       []Step{{StepNetwork, "127.0.0.1 and abstract sockets of the node"}},
				MITRE:       []string{"T1611", "T1552.005"}, CIS: cis("5.2.5"), CWE: []int{668},
			},
			find: findHostNetwork,
		},
		{
			Rule: Rule{
				ID: "escape-hostnetwork-admin", Title: "Can change or listen to the host's network", Severity: SeverityHigh,
				Description: "The container is in the host's network namespace and holds NET_ADMIN.",
				Attack:      "Redirects the node's traffic, listens to it, takes tokens and credentials out of it.",
				Remediation: "Set hostNetwork to false, or take NET_ADMIN away.",
				Steps:       []Step{{StepCapability, "NET_ADMIN"}, {StepNetwork, "netlink"}},
				MITRE:       []string{"T1611", "T1040", "T1557"}, CIS: cis("5.2.5", "5.2.9"), CWE: []int{250, 668},
			},
			find: findHostNetworkAdmin,
			lowerings: lowerings{
				userNamespace: inOwnUsers("a change of the host's network"),
				nonRoot:       boundOnly(SeverityMedium), bounded: outOfReach(),
			},
		},
		{
			Rule: Rule{
				ID: "escape-hostipc", Title: "Shares the host's IPC namespace", Severity: SeverityMedium,
				Description: "hostIPC lets the container use the shared memory, semaphores and message queues of the node's processes.",
				Attack:      "Reads and changes shared memory of processes on the node (databases, GPU daemons), as far as its permissions allow.",
				Remediation: "Set hostIPC to false, or leave it out.",
				Steps:       []Step{{StepSyscall, "shmat(2)"}, {StepFile, "/dev/shm"}},
				MITRE:       []string{"T1611"}, CIS: cis("5.2.4"), CWE: []int{668},
			},
			find: findHostIPC,
			lowerings: lowerings{
				sandbox: &effect{to: SeverityLow, reason: "the sandbox has System V memory and queues of its own; files in the host's /dev/shm may still be shared"},
				nonRoot: &effect{to: SeverityLow, reason: "only what is open to that UID, or to everyone, is in reach"},
			},
		},
		{
			Rule: Rule{
				ID: "escape-windows-hostprocess", Title: "Runs on the Windows host itself", Severity: SeverityCritical,
				Description: "A HostProcess container is a process of the Windows node, not a container.",
				Attack:      "Has nothing to escape from: it runs on the node with the rights of the user that it names, up to SYSTEM.",
				Remediation: "Set windowsOptions.hostProcess to false.",
				MITRE:       []string{"T1611"}, CIS: cis("5.2.11"), CWE: []int{250},
			},
			find: findWindowsHostProcess,
		},
		{
			Rule: Rule{
				ID: "escape-unmasked-proc", Title: "Kernel settings in /proc are not masked", Severity: SeverityHigh,
				Description: "procMount: Unmasked shows the container the parts of /proc that runtimes hide or make read-only. Where AppArmor or SELinux confines the container, their default profiles still refuse the worst.",
				Attack:      "As root of the host's user namespace writes /proc/sys/kernel/core_pattern or /proc/sysrq-trigger and so runs a program on the node.",
				Remediation: "Remove procMount, or set hostUsers to false as well, which is what the field is for.",
				Steps:       []Step{{StepFile, "/proc/sys/kernel/core_pattern"}, {StepFile, "/proc/sysrq-trigger"}},
				MITRE:       []string{"T1611"}, KubeHound: "CE_UMH_CORE_PATTERN", CWE: []int{668},
			},
			find: findUnmaskedProc,
			lowerings: lowerings{
				userNamespace: settingsOfTheHost(),
				sandbox:       inOwnKernel(),
				nonRoot:       &effect{to: SeverityLow, reason: "only UID 0 may write there"},
			},
		},
	}
}

func eachContainer(d *draft, find func(c *containerRef) (hit, bool)) []hit {
	var hits []hit
	for i := range d.containers {
		if h, ok := find(&d.containers[i]); ok {
			h.container = &d.containers[i]
			hits = append(hits, h)
		}
	}
	return hits
}

func repairPrivileged(c *containerRef) repair {
	return repair{
		edit: assign(&c.SecurityContext.Privileged, new(false)), container: c,
		field: c.path() + ".securityContext.privileged", now: jsonText(true),
		fix: Fix{Op: FixSet, Value: jsonText(false), Note: "grant the single capabilities or devices that the program needs instead"},
	}
}

func repairHostFlag(name string, leaf *bool) repair {
	return repair{
		edit: assign(leaf, false), field: "spec." + name, now: jsonText(true),
		fix: Fix{Op: FixSet, Value: jsonText(false)},
	}
}

func findPrivileged(d *draft) []hit {
	return asHits(repairsPrivileged(d), "runs with all rights and devices of the host")
}

func asHits(repairs []repair, message string) []hit {
	hits := make([]hit, len(repairs))
	for i, r := range repairs {
		hits[i] = hit{repair: r, message: message}
	}
	return hits
}

// findNsenter blames hostPID: without it the way is closed for every container.
func findNsenter(d *draft) []hit {
	return hostFlagWith(d, "hostPID", &d.spec.HostPID, "SYS_ADMIN", "sees the host's processes and may enter their namespaces")
}

func findHostPIDPtrace(d *draft) []hit {
	return withoutPrivileged(hostFlagWith(d, "hostPID", &d.spec.HostPID, "SYS_PTRACE", "sees the host's processes and may trace them"))
}

// hostFlagWith finds the containers that hold a capability in a pod that shares a
// namespace of the host, and blames the sharing.
func hostFlagWith(d *draft, flag string, leaf *bool, capability, message string) []hit {
	if !*leaf {
		return nil
	}
	return eachContainer(d, func(c *containerRef) (hit, bool) {
		if !c.holds(capability) {
			return hit{}, false
		}
		h := hit{repair: repairHostFlag(flag, leaf), message: message}
		h.related = []string{grantField(c, capability)}
		return h, true
	})
}

// withoutPrivileged leaves out what the rows of privileged containers say.
func withoutPrivileged(hits []hit) []hit {
	return slices.DeleteFunc(hits, func(h hit) bool { return h.container.privileged() })
}

// grantField is the field that gives a container the capability.
func grantField(c *containerRef, capability string) string {
	if c.privileged() {
		return c.path() + ".securityContext.privileged"
	}
	if i := c.addedAt(capability); i >= 0 {
		return addField(c, i)
	}
	return c.path() + ".securityContext.capabilities.drop"
}

func findHostPID(d *draft) []hit {
	return hostFlag("hostPID", &d.spec.HostPID, "sees every process of the node; KubeArmor policies take no effect in this pod")
}

func findHostNetwork(d *draft) []hit {
	return hostFlag("hostNetwork", &d.spec.HostNetwork, "reaches what listens on the node's localhost")
}

func findHostNetworkAdmin(d *draft) []hit {
	return withoutPrivileged(hostFlagWith(d, "hostNetwork", &d.spec.HostNetwork, "NET_ADMIN", "may change the node's routes, addresses and packet filters"))
}

func findHostIPC(d *draft) []hit {
	return hostFlag("hostIPC", &d.spec.HostIPC, "shares memory and semaphores with the node's processes")
}

func hostFlag(name string, leaf *bool, message string) []hit {
	if !*leaf {
		return nil
	}
	return []hit{{repair: repairHostFlag(name, leaf), message: message}}
}

func findWindowsHostProcess(d *draft) []hit {
	return asHits(repairsWindowsHostProcess(d), "is a process of the Windows node")
}

func findUnmaskedProc(d *draft) []hit {
	return withoutPrivileged(asHits(repairsProcMount(d), "sees the parts of /proc that runtimes hide"))
}
