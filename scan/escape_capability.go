package scan

import (
	"slices"
	"strconv"
)

// inOwnUsers is what a user namespace does to a capability that the kernel asks
// for in the host's.
func inOwnUsers(what string) *effect {
	return &effect{to: SeverityLow, closes: true,
		reason: "the capability holds in the pod's own user namespace only, and " + what + " asks for it in the host's"}
}

// capabilityLowerings are those of a path that goes through a capability.
func capabilityLowerings(nonRoot Severity, userNamespace *effect) lowerings {
	return lowerings{userNamespace: userNamespace, sandbox: inOwnKernel(), nonRoot: boundOnly(nonRoot), bounded: outOfReach()}
}

// boundOnly is what a user other than root does to a capability: it stays in the
// bounding set, where setuid programs of the image can still pick it up.
func boundOnly(to Severity) *effect {
	return &effect{to: to, reason: "a user other than root gets the capability only through a setuid or file-capability program in the image"}
}

// outOfReach is what is left of a capability in the bounding set of a process that
// cannot gain privileges.
func outOfReach() *effect {
	return &effect{to: SeverityLow, closes: true,
		reason: "a user other than root starts without the capability, and with no_new_privs no program of the image can give it"}
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
			lowerings: capabilityLowerings(SeverityHigh, &effect{to: SeverityMedium,
				reason: "the capability holds in the pod's own user namespace only: the host's file systems cannot be mounted, the kernel's attack surface stays"}),
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
			find:      findCapability("SYS_MODULE", "may load kernel modules"),
			lowerings: capabilityLowerings(SeverityHigh, inOwnUsers("loading a module")),
		},
		{
			Rule: Rule{
				ID: "escape-cap-dac-read-search", Title: "CAP_DAC_READ_SEARCH: reads any file of the host", Severity: SeverityHigh,
				Description: "DAC_READ_SEARCH allows files to be opened by handle, past every directory, on any file system of which the container has a file mounted.",
				Attack:      "open_by_handle_at(2) with a guessed handle, starting from any file that the runtime bind-mounts from the host (/etc/hosts, /etc/resolv.conf): reads /etc/shadow and the kubelet's keys (\"Shocker\").",
				Remediation: "Remove DAC_READ_SEARCH. Backups are better taken from volumes.",
				Steps:       []Step{{StepCapability, "DAC_READ_SEARCH"}, {StepSyscall, "open_by_handle_at(2)"}},
				MITRE:       []string{"T1611"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:      findCapability("DAC_READ_SEARCH", "may open any file of the host by its handle"),
			lowerings: capabilityLowerings(SeverityMedium, inOwnUsers("opening by handle on the host's file systems")),
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
			find:      findCapability("SYS_RAWIO", "may use I/O ports and raw device commands"),
			lowerings: capabilityLowerings(SeverityMedium, inOwnUsers("raw I/O")),
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
			find:      findCapability("SYS_BOOT", "may load another kernel"),
			lowerings: capabilityLowerings(SeverityMedium, inOwnUsers("kexec")),
		},
		{
			Rule: Rule{
				ID: "escape-cap-bpf", Title: "CAP_BPF or CAP_PERFMON: programs in the kernel", Severity: SeverityHigh,
				Description: "BPF allows programs to be loaded into the kernel, PERFMON allows its memory to be read by tracing. Either alone is less than both.",
				Attack:      "With both, reads kernel memory and the data of every process on the node; bugs of the verifier give the kernel itself away.",
				Remediation: "Remove BPF and PERFMON; leave kernel tracing to a node agent in a namespace of its own.",
				Steps:       []Step{{StepCapability, "BPF"}, {StepCapability, "PERFMON"}, {StepSyscall, "bpf(2)"}},
				MITRE:       []string{"T1611", "T1014"}, CIS: cis("5.2.9"), CWE: []int{250},
			},
			find:      findBPF,
			lowerings: capabilityLowerings(SeverityMedium, inOwnUsers("loading a program")),
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
			find: findMknodDevice,
			lowerings: lowerings{
				userNamespace: inOwnUsers("making a device node"), sandbox: inOwnKernel(),
				// A virtual machine may be handed the device that is mounted.
				guest: unchanged(), nonRoot: boundOnly(SeverityLow), bounded: outOfReach(),
			},
		},
	}
}

func addField(c *containerRef, i int) string {
	return c.path() + ".securityContext.capabilities.add[" + strconv.Itoa(i) + "]"
}

// findCapability finds what gives containers a capability, by name or as ALL.
// Privileged containers have a row of their own.
func findCapability(capability, means string) func(*draft) []hit {
	return func(d *draft) []hit {
		var hits []hit
		for i := range d.containers {
			c := &d.containers[i]
			// None of the table's capabilities is a default one.
			if len(c.SecurityContext.Capabilities.Add) == 0 || c.privileged() || !c.holds(capability) {
				continue
			}
			hits = append(hits, asHits(repairsGrant(c, capability), means)...)
		}
		return hits
	}
}

// repairsGrant takes away, one by one, the elements of capabilities.add that give
// one of the capabilities.
func repairsGrant(c *containerRef, capabilities ...string) []repair {
	add := c.SecurityContext.Capabilities.Add
	cut := newCuts(&c.SecurityContext.Capabilities.Add)
	var out []repair
	for i, name := range add {
		if !sameCapability(name, "ALL") && !slices.ContainsFunc(capabilities, func(s string) bool { return sameCapability(name, s) }) {
			continue
		}
		out = append(out, repair{
			edit: cut.without(i), container: c, field: addField(c, i), item: string(name), now: jsonText(string(name)),
			fix: Fix{Op: FixRemove},
		})
	}
	return out
}

func findBPF(d *draft) []hit {
	var hits []hit
	for i := range d.containers {
		c := &d.containers[i]
		if len(c.SecurityContext.Capabilities.Add) == 0 || c.privileged() {
			continue
		}
		var held []string
		for _, capability := range []string{"BPF", "PERFMON"} {
			if c.holds(capability) {
				held = append(held, capability)
			}
		}
		if len(held) == 0 {
			continue
		}
		found := asHits(repairsGrant(c, held...), "may load programs into the kernel and trace it")
		if len(held) == 1 {
			for k := range found {
				found[k].severity = SeverityMedium
				found[k].message = "may load programs into the kernel, or trace it: " + held[0] + " without the other"
			}
		}
		hits = append(hits, found...)
	}
	return hits
}

// findMknodDevice needs a device of the host beside the capability: a hostPath to
// a device, or to a folder of devices.
func findMknodDevice(d *draft) []hit {
	var hits []hit
	mounts := hostMounts(d)
	for i := range mounts {
		m := &mounts[i]
		if m.gone() || m.container == nil || m.container.privileged() || m.granted || !m.isDevice() || !m.container.holds("MKNOD") {
			continue
		}
		h := hit{repair: m.repair(), message: "may make device nodes and mounts the host's " + m.path}
		h.related = []string{grantField(m.container, "MKNOD")}
		if !slices.ContainsFunc(hits, h.samePlace) {
			hits = append(hits, h)
		}
	}
	return hits
}
