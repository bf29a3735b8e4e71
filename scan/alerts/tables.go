package alerts

import (
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

var (
	deviceProgram    = program{class: scan.ClassEscape, step: stepDevice, techniques: []string{mitreEscape}}
	hostFileProgram  = program{class: scan.ClassEscape, step: stepHostFile, dual: true, techniques: []string{mitreEscape}}
	traceProgram     = program{class: scan.ClassEscape, step: stepTrace, dual: true, techniques: []string{mitreEscape, mitreInject}}
	namespaceProgram = program{class: scan.ClassEscape, step: stepNamespace, dual: true, techniques: []string{mitreEscape}}
)

// fileRows are the files that are known by their names.
var fileRows = []fileRow{
	{
		ends: []string{
			"/sys/kernel/core_pattern", "/sys/kernel/modprobe", "/sys/kernel/hotplug", "/sysrq-trigger", "/uevent_helper",
			"/release_agent", "/notify_on_release", "/binfmt_misc/register",
		},
		program: program{class: scan.ClassEscape, step: stepKernel, techniques: []string{mitreEscape}},
	},
	{
		ends: []string{
			"/docker.sock", "/containerd.sock", "/crio.sock", "/cri-dockerd.sock", "/dockershim.sock", "/podman.sock", "/buildkitd.sock",
			"/containerd.sock.ttrpc", "/systemd/private",
		},
		program: program{class: scan.ClassEscape, step: stepRuntime, dual: true, techniques: []string{mitreEscape, mitreDeploy}},
	},
	{
		holds:   []string{"/etc/kubernetes/manifests/"},
		program: program{class: scan.ClassEscape, step: stepHostFile, techniques: []string{mitreEscape, mitreDeploy}},
	},
	{
		holds:   []string{"/var/lib/kubelet/", "/etc/kubernetes/", "/var/lib/etcd/", "/var/lib/rancher/"},
		program: program{class: scan.ClassEscape, step: stepHostFile, dual: true, techniques: []string{mitreEscape, mitreCredential}},
	},
}

// capabilityTechniques are those of the ways out that a capability opens.
func capabilityTechniques(name string) []string {
	switch name {
	case "SYS_MODULE":
		return []string{mitreEscape, mitreModule}
	case "SYS_PTRACE":
		return []string{mitreEscape, mitreInject}
	case "SYS_BOOT":
		return []string{mitreEscape, mitreReboot}
	case "BPF", "PERFMON":
		return []string{mitreEscape, mitreRootkit}
	case "NET_ADMIN":
		return []string{mitreEscape, mitreSniff, mitreMiddle}
	case "SYS_ADMIN", "DAC_READ_SEARCH", "SYS_RAWIO", "MKNOD", "SYS_CHROOT":
		return []string{mitreEscape}
	}
	return []string{mitreElevation}
}

// ofFiles tells whether a capability is asked for in the ordinary handling of files.
func ofFiles(capability string) bool {
	switch capability {
	case "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "CHOWN", "SETFCAP":
		return true
	}
	return false
}

// ofHost tells whether the kernel asks for a capability in the host's user namespace
// only, and no file system asks for it on behalf of others: a container that does not
// hold it is refused before KubeArmor hears of it.
func ofHost(capability string) bool {
	switch capability {
	case "SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "BPF", "PERFMON", "SYSLOG", "MAC_ADMIN", "MAC_OVERRIDE", "SYS_TIME":
		return true
	}
	return false
}

// ofRuntime tells whether a container's runtime asks for a capability when it puts
// another process into a container.
func ofRuntime(capability string) bool {
	switch capability {
	case "SYS_ADMIN", "SYS_PTRACE", "DAC_OVERRIDE", "DAC_READ_SEARCH", "SETUID", "SETGID", "SETPCAP", "SYS_RESOURCE":
		return true
	}
	return false
}

// service says which deeds are steps of an escape path.
type service struct {
	path string
	// everything: any capability and any step serves it.
	everything   bool
	capabilities []string
	steps        []step
}

// fileCapabilities open files of others, where files of the host are in reach.
var fileCapabilities = []string{"DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "CHOWN", "SYS_CHROOT"}

// services has a row for every escape path, and the test of it misses none.
var services = []service{
	{path: "escape-privileged", everything: true},
	{path: "escape-nsenter", capabilities: []string{"SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT"}, steps: []step{stepNamespace, stepTrace, stepHostFile, stepChroot, stepMount}},
	{path: "escape-hostpid-ptrace", capabilities: []string{"SYS_PTRACE", "SYS_CHROOT"}, steps: []step{stepNamespace, stepTrace, stepHostFile, stepChroot}},
	{path: "escape-hostpid", capabilities: []string{"SYS_PTRACE", "KILL", "DAC_OVERRIDE", "DAC_READ_SEARCH", "SYS_CHROOT"}, steps: []step{stepNamespace, stepTrace, stepHostFile, stepChroot}},
	{path: "escape-hostnetwork", capabilities: []string{"NET_RAW"}, steps: []step{stepRuntime}},
	{path: "escape-hostnetwork-admin", capabilities: []string{"NET_ADMIN", "NET_RAW"}},
	{path: "escape-hostipc", capabilities: []string{"IPC_OWNER"}},
	{path: "escape-windows-hostprocess", everything: true},
	{path: "escape-unmasked-proc", steps: []step{stepKernel}},
	{path: "escape-gitrepo-volume"},
	{path: "escape-cap-sys-admin", capabilities: []string{"SYS_ADMIN", "SYS_CHROOT"}, steps: []step{stepNamespace, stepMount, stepKernel, stepChroot, stepBPF}},
	{path: "escape-cap-sys-module", capabilities: []string{"SYS_MODULE"}, steps: []step{stepModule}},
	{path: "escape-cap-dac-read-search", capabilities: []string{"DAC_READ_SEARCH"}},
	{path: "escape-cap-sys-rawio", capabilities: []string{"SYS_RAWIO"}, steps: []step{stepDevice}},
	{path: "escape-cap-sys-boot", capabilities: []string{"SYS_BOOT"}, steps: []step{stepBoot}},
	{path: "escape-cap-bpf", capabilities: []string{"BPF", "PERFMON", "SYS_ADMIN"}, steps: []step{stepBPF}},
	{path: "escape-cap-mknod-device", capabilities: []string{"MKNOD"}, steps: []step{stepDevice}},
	{path: "escape-host-root", capabilities: slices.Concat(fileCapabilities, []string{"MKNOD"}), steps: []step{stepChroot, stepHostFile, stepKernel, stepDevice, stepRuntime}},
	{path: "escape-host-proc", capabilities: slices.Concat(fileCapabilities, []string{"SYS_PTRACE"}), steps: []step{stepChroot, stepHostFile, stepKernel, stepTrace}},
	{path: "escape-host-sys", capabilities: fileCapabilities, steps: []step{stepKernel, stepHostFile}},
	{path: "escape-host-dev", capabilities: slices.Concat(fileCapabilities, []string{"MKNOD", "SYS_RAWIO"}), steps: []step{stepDevice, stepHostFile, stepMount}},
	{path: "escape-host-var-log", capabilities: fileCapabilities, steps: []step{stepHostFile}},
	{path: "escape-runtime-socket", capabilities: []string{"DAC_OVERRIDE"}, steps: []step{stepRuntime}},
	{path: "escape-kubelet-dir", capabilities: fileCapabilities, steps: []step{stepHostFile, stepRuntime}},
	{path: "escape-static-pods", capabilities: fileCapabilities, steps: []step{stepHostFile}},
	{path: "escape-etcd-dir", capabilities: fileCapabilities, steps: []step{stepHostFile}},
	{path: "escape-host-system", capabilities: fileCapabilities, steps: []step{stepHostFile, stepChroot}},
	{path: "escape-host-secrets", capabilities: fileCapabilities, steps: []step{stepHostFile}},
	{path: "escape-hostpath-write", capabilities: fileCapabilities, steps: []step{stepHostFile, stepChroot}},
}

// serves tells whether a deed is a step of the escape path. A path that the table does
// not know may be served by anything.
func (d *deed) serves(path string) bool {
	at := slices.IndexFunc(services, func(s service) bool { return s.path == path })
	if at < 0 {
		return strings.HasPrefix(path, "escape-")
	}
	s := &services[at]
	switch {
	case d.step == stepKit:
		return true
	case s.everything:
		return d.capability != "" || d.step != "" && d.step != stepTool
	case d.capability != "":
		return slices.Contains(s.capabilities, d.capability)
	}
	return slices.Contains(s.steps, d.step)
}

// known tells whether there is a capability of that name.
func known(capability string) bool {
	switch capability {
	case "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
		"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
		"SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
		"AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
		"PERFMON", "BPF", "CHECKPOINT_RESTORE":
		return true
	}
	return false
}
