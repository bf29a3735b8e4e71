package scan

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// inOwnUsers is what a user namespace does to a capability that the kernel asks
// for in the host's.
func inOwnUsers(what string) *effect {
	return &effect{to: SeverityLow, closes: true,
		reason: "the capability holds in the pod's own user namespace only, and " + what + " asks for it in the host's"}
}

// boundOnly is what a user other than root does to a capability: it stays in the
// bounding set, where setuid programs of the image can still pick it up.
func boundOnly(to Severity) *effect {
	return &effect{to: to, reason: "a user other than root gets the capability only through a setuid or file-capability program in the image"}
}

func capabilityPaths() []escapePath {
	return []escapePath{
		{
			Rule: Rule{
				ID: "escape-cap-sys-admin", Title: "CAP_SYS_ADMIN: mounts and namespaces", Severity: SeverityCritical,
				Description: "SYS_ADMIN allows mount, setns, unshare and much more: it is the largest of the capabilities.",
				Attack:      "Mounts a cgroup v1 hierarchy and writes its release_agent, mounts the host's file systems, or opens the kernel's least tested code through new namespaces.",
				Remediation: "Remove SYS_ADMIN. For FUSE use a device plugin, for mounts a CSI driver; or set hostUsers to false.",
				Steps:       []Step{{StepCapability, "SYS_ADMIN"}, {StepMount, "mount(2) of a cgroup or disk"}, {StepSyscall, "unshare(2)"}},
				MITRE:       []string{"T1611"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find: findCapability("SYS_ADMIN", "may mount file systems and enter namespaces"),
			userNamespace: &effect{to: SeverityMedium,
				reason: "the capability holds in the pod's own user namespace only: the host's file systems cannot be mounted, the kernel's attack surface stays"},
			sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityHigh),
		},
		{
			Rule: Rule{
				ID: "escape-cap-sys-module", Title: "CAP_SYS_MODULE: kernel modules", Severity: SeverityCritical,
				Description: "SYS_MODULE allows kernel modules to be loaded.",
				Attack:      "Loads a module of its own making: code in the kernel of the node.",
				Remediation: "Remove SYS_MODULE; load the module on the node.",
				Steps:       []Step{{StepCapability, "SYS_MODULE"}, {StepSyscall, "init_module(2)"}, {StepBinary, "insmod"}},
				MITRE:       []string{"T1611", "T1547.006"}, KubeHound: "CE_MODULE_LOAD", CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:          findCapability("SYS_MODULE", "may load kernel modules"),
			userNamespace: inOwnUsers("loading a module"), sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityHigh),
		},
		{
			Rule: Rule{
				ID: "escape-cap-dac-read-search", Title: "CAP_DAC_READ_SEARCH: reads any file of the host", Severity: SeverityHigh,
				Description: "DAC_READ_SEARCH allows files to be opened by handle, past every directory, on any file system that a file of the container lies on.",
				Attack:      "open_by_handle_at(2) with a guessed handle, starting from any file that the runtime bind-mounts from the host (/etc/hosts, /etc/resolv.conf): reads /etc/shadow and the kubelet's keys (\"Shocker\").",
				Remediation: "Remove DAC_READ_SEARCH. Backups are better taken from volumes.",
				Steps:       []Step{{StepCapability, "DAC_READ_SEARCH"}, {StepSyscall, "open_by_handle_at(2)"}},
				MITRE:       []string{"T1611"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:          findCapability("DAC_READ_SEARCH", "may open any file of the host by its handle"),
			userNamespace: inOwnUsers("opening by handle on the host's file systems"), sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-cap-sys-rawio", Title: "CAP_SYS_RAWIO: raw memory and ports", Severity: SeverityHigh,
				Description: "SYS_RAWIO allows I/O ports, raw SCSI commands and, where the device is there, /dev/mem.",
				Attack:      "Writes the host's memory or disk below the file system. The escapeToHost set does not name this capability, so no policy of it closes the path.",
				Remediation: "Remove SYS_RAWIO.",
				Steps:       []Step{{StepCapability, "SYS_RAWIO"}, {StepSyscall, "iopl(2)"}, {StepFile, "/dev/mem"}},
				MITRE:       []string{"T1611"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:          findCapability("SYS_RAWIO", "may use I/O ports and raw device commands"),
			userNamespace: inOwnUsers("raw I/O"), sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-cap-sys-boot", Title: "CAP_SYS_BOOT: loads another kernel", Severity: SeverityHigh,
				Description: "SYS_BOOT allows reboot(2) and, where the kernel is not locked down, kexec.",
				Attack:      "kexec_load(2) puts a kernel of the attacker's in the place of the node's.",
				Remediation: "Remove SYS_BOOT.",
				Steps:       []Step{{StepCapability, "SYS_BOOT"}, {StepSyscall, "kexec_load(2)"}},
				MITRE:       []string{"T1611", "T1529"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:          findCapability("SYS_BOOT", "may load another kernel"),
			userNamespace: inOwnUsers("kexec"), sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-cap-bpf", Title: "CAP_BPF or CAP_PERFMON: programs in the kernel", Severity: SeverityHigh,
				Description: "BPF and PERFMON allow programs to be loaded into the kernel and its memory to be read by tracing.",
				Attack:      "With both, reads kernel memory and the data of every process on the node; bugs of the verifier give the kernel itself away.",
				Remediation: "Remove BPF and PERFMON; leave kernel tracing to a node agent in a namespace of its own.",
				Steps:       []Step{{StepCapability, "BPF"}, {StepCapability, "PERFMON"}, {StepSyscall, "bpf(2)"}},
				MITRE:       []string{"T1611", "T1014"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:          findBPF,
			userNamespace: inOwnUsers("loading a program"), sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityMedium),
		},
		{
			Rule: Rule{
				ID: "escape-cap-mknod-device", Title: "CAP_MKNOD with a device of the host", Severity: SeverityMedium,
				Description: "The container may make device nodes (a default capability) and mounts devices of the host. Only the runtime's device cgroup stands between it and the node's disks.",
				Attack:      "Makes a node for the host's disk and reads it. containerd and CRI-O refuse to open what they did not grant; a runtime or device plugin that grants more opens the disk. A privileged container has no such limit.",
				Remediation: "Drop MKNOD (capabilities.drop: [ALL] does) and hand out the single device with a device plugin.",
				Steps:       []Step{{StepCapability, "MKNOD"}, {StepSyscall, "mknod(2)"}, {StepFile, "block devices"}},
				MITRE:       []string{"T1611"}, CIS: cis("5.2.9", "5.2.12"), CWE: []int{250, 668},
			},
			find:          findMknodDevice,
			userNamespace: inOwnUsers("making a device node"), sandbox: inOwnKernel(), nonRoot: boundOnly(SeverityLow),
		},
	}
}

func addField(c *containerRef, i int) string {
	return c.path() + ".securityContext.capabilities.add[" + strconv.Itoa(i) + "]"
}

// findCapability finds containers that were given a capability by name or as ALL.
// Privileged containers have a row of their own.
func findCapability(capability, means string) func(*draft) []hit {
	return func(d *draft) []hit {
		return eachContainer(d, func(c *containerRef) (hit, bool) {
			if c.privileged() || !c.holds(capability) {
				return hit{}, false
			}
			return hit{repair: repairAdded(c, capability), message: means}, true
		})
	}
}

// repairAdded takes away every element of capabilities.add that gives the
// capability, and blames the first.
func repairAdded(c *containerRef, capability string) repair {
	at := c.addedAt(capability)
	add := &c.SecurityContext.Capabilities.Add
	name := (*add)[at]
	return repair{
		edit: assign(add, without(*add, capability, "ALL")), field: addField(c, at), item: string(name), now: jsonText(string(name)),
		fix: Fix{Op: FixRemove},
	}
}

func sameCapability(c corev1.Capability, name string) bool {
	return indexCapability([]corev1.Capability{c}, name) == 0
}

func findBPF(d *draft) []hit {
	return eachContainer(d, func(c *containerRef) (hit, bool) {
		if c.privileged() {
			return hit{}, false
		}
		for _, capability := range []string{"BPF", "PERFMON"} {
			if c.holds(capability) {
				r := repairAdded(c, capability)
				if at := c.addedAt("PERFMON"); capability == "BPF" && at >= 0 && addField(c, at) != r.field {
					add := &c.SecurityContext.Capabilities.Add
					r.related = []string{addField(c, at)}
					r.edit = assign(add, without(*add, "BPF", "PERFMON", "ALL"))
				}
				return hit{repair: r, message: "may load programs into the kernel or trace it"}, true
			}
		}
		return hit{}, false
	})
}

func without(list []corev1.Capability, names ...string) []corev1.Capability {
	kept := make([]corev1.Capability, 0, len(list))
next:
	for _, c := range list {
		for _, name := range names {
			if sameCapability(c, name) {
				continue next
			}
		}
		kept = append(kept, c)
	}
	return kept
}

// findMknodDevice needs a device of the host beside the capability: a hostPath to
// a device, or to a folder of devices.
func findMknodDevice(d *draft) []hit {
	var hits []hit
	for _, m := range hostMounts(d) {
		if m.container == nil || m.container.privileged() || !m.container.holds("MKNOD") || !m.isDevice() {
			continue
		}
		c := m.container
		h := hit{repair: m.repair(), message: "may make device nodes and mounts the host's " + m.path}
		h.related = []string{grantField(c, "MKNOD")}
		hits = append(hits, h)
	}
	return hits
}
