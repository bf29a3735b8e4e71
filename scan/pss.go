package scan

import (
	"fmt"
	"slices"

	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// control is one control of the Pod Security Standards: our record and repairs
// beside the official check.
type control struct {
	Rule
	// repairs lists what could make the check pass. The check decides.
	repairs func(*draft) []repair
	// check is the official function for the engine's version of the standards.
	check policy.CheckPodFn
}

// controlsFor returns the controls that the level asks for at the version,
// baseline first, each with the check of that version. A check that another
// overrides (capabilities_restricted over capabilities_baseline) is left out, as
// the API server does. A version newer than the library's newest check means its
// newest.
func controlsFor(level psa.Level, version psa.Version) ([]control, error) {
	records := map[string]control{}
	for _, c := range controlTable() {
		records[c.ID] = c
	}
	overridden := map[policy.CheckID]bool{}
	var active []control
	for _, check := range policy.DefaultChecks() {
		record, ok := records[string(check.ID)]
		if !ok {
			return nil, fmt.Errorf("control %s: the library has it and the table of rules has not", check.ID)
		}
		if check.Level == psa.LevelRestricted && level != psa.LevelRestricted {
			continue
		}
		for _, v := range slices.Backward(check.Versions) {
			if version.Older(v.MinimumVersion) {
				continue
			}
			record.check = v.CheckPod
			active = append(active, record)
			for _, id := range v.OverrideCheckIDs {
				overridden[id] = true
			}
			break
		}
	}
	active = slices.DeleteFunc(active, func(c control) bool { return overridden[policy.CheckID(c.ID)] })
	slices.SortFunc(active, func(a, b control) int { return compareControls(a.Rule, b.Rule) })
	return active, nil
}

func compareControls(a, b Rule) int {
	if a.Level != b.Level {
		if a.Level == string(psa.LevelBaseline) {
			return -1
		}
		return 1
	}
	if a.ID < b.ID {
		return -1
	}
	return 1
}

// NewestPSS is the newest version of the Pod Security Standards that has a check
// of its own in the library.
func NewestPSS() psa.Version {
	newest := psa.MajorMinorVersion(1, 0)
	for _, c := range policy.DefaultChecks() {
		for _, v := range c.Versions {
			if newest.Older(v.MinimumVersion) {
				newest = v.MinimumVersion
			}
		}
	}
	return newest
}

func cis(ids ...string) []CISRef {
	refs := make([]CISRef, len(ids))
	for i, id := range ids {
		refs[i] = CISRef{Version: "1.11", ID: id}
	}
	return refs
}

const standardsURL = "https://kubernetes.io/docs/concepts/security/pod-security-standards/"

// controlTable is the record of every control, by its official ID.
func controlTable() []control {
	table := slices.Concat(baselineControls(), restrictedControls())
	for i := range table {
		c := &table[i]
		c.Category = CategoryPSS
		c.SecuritySeverity = c.Severity.securitySeverity()
		c.HelpURL = standardsURL + "#" + c.Level
	}
	return table
}

func baselineControls() []control {
	table := []control{
		{Rule: Rule{
			ID: "appArmorProfile", Title: "AppArmor profile overridden or switched off", Severity: SeverityMedium,
			Description: "On hosts with AppArmor the runtime's default profile applies to every container. Baseline allows no profile, RuntimeDefault and Localhost, in the securityContext fields and in the older annotations; anything else, Unconfined above all, is refused.",
			Attack:      "Without the profile the container may mount, write below /proc/sys and trace other processes as far as its capabilities reach.",
			Remediation: "Remove the field, or set appArmorProfile.type to RuntimeDefault or Localhost.",
			MITRE:       []string{"T1611"}, CWE: []int{693},
		}, repairs: repairsAppArmor},
		{Rule: Rule{
			ID: "capabilities_baseline", Title: "Capabilities beyond the default set", Severity: SeverityHigh,
			Description: "A container adds Linux capabilities that the runtime does not give by default.",
			Attack:      "Many capabilities are root on the host in all but name: SYS_ADMIN mounts, SYS_MODULE loads kernel modules, SYS_PTRACE takes over processes.",
			Remediation: "Remove the capability from capabilities.add; if the program needs it, give it to a workload of its own.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.8", "5.2.9"), CWE: []int{250},
		}, repairs: repairsAddedCapabilities},
		{Rule: Rule{
			ID: "hostNamespaces", Title: "Shares a namespace of the host", Severity: SeverityHigh,
			Description: "The pod runs in the host's network, PID or IPC namespace.",
			Attack:      "In the host's PID namespace every process of the host can be seen and, with the right capability, entered; in its network namespace services that listen on localhost only are in reach.",
			Remediation: "Set hostNetwork, hostPID and hostIPC to false, or leave them out.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.3", "5.2.4", "5.2.5"), CWE: []int{668},
		}, repairs: repairsHostNamespaces},
		{Rule: Rule{
			ID: "hostPathVolumes", Title: "Mounts a path of the host", Severity: SeverityHigh,
			Description: "The pod has a hostPath volume. It counts even when no container mounts it: an ephemeral container can.",
			Attack:      "What can be written there runs or is read on the host: cron jobs, unit files, binaries, static pods. What can be read there are other pods' tokens and the kubelet's keys.",
			Remediation: "Use emptyDir for scratch data, a persistentVolumeClaim for data to keep, configMap, secret or projected for configuration.",
			MITRE:       []string{"T1611"}, KubeHound: "EXPLOIT_HOST_WRITE", CIS: cis("5.2.12"), CWE: []int{668},
		}, repairs: repairsVolumes(hostPathSource)},
		{Rule: Rule{
			ID: "hostPorts", Title: "Binds a port of the host", Severity: SeverityMedium,
			Description: "A container asks for a port of the node. With hostNetwork the API server sets hostPort for every port that a container names.",
			Attack:      "A host port can shadow a service of the node and gets round network policies.",
			Remediation: "Remove hostPort and publish the port with a Service.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.13"), CWE: []int{668},
		}, repairs: repairsHostPorts},
		{Rule: Rule{
			ID: "hostProbesAndHostLifecycle", Title: "Probe or lifecycle hook names a host", Severity: SeverityMedium,
			Description: "The host field of an httpGet or tcpSocket probe or lifecycle hook makes the kubelet connect to an address of the pod author's choice. Baseline refuses it from 1.34 on.",
			Attack:      "The kubelet runs in the host's network: the author of a pod makes it ask services that only the node reaches.",
			Remediation: "Remove the host field; the kubelet then asks the pod's own address.",
			MITRE:       []string{"T1611"}, CWE: []int{668},
		}, repairs: repairsHostProbes},
		{Rule: Rule{
			ID: "privileged", Title: "Privileged container", Severity: SeverityCritical,
			Description: "A privileged container holds every capability and every device of the host, without seccomp and AppArmor.",
			Attack:      "Mounts the host's disk, loads a kernel module, writes core_pattern: root on the node in one command.",
			Remediation: "Set privileged to false and grant what the program needs, one capability or device at a time.",
			MITRE:       []string{"T1611"}, KubeHound: "CE_PRIV_MOUNT", CIS: cis("5.2.2"), CWE: []int{250},
		}, repairs: repairsPrivileged},
		{Rule: Rule{
			ID: "procMount", Title: "/proc is not masked", Severity: SeverityHigh,
			Description: "procMount other than Default shows the container the parts of /proc that runtimes hide. From 1.35 on baseline allows it in a pod with its own user namespace.",
			Attack:      "Kernel settings, keys and timers below /proc come into reach.",
			Remediation: "Remove procMount, or set it to Default.",
			MITRE:       []string{"T1611"}, CWE: []int{668},
		}, repairs: repairsProcMount},
		{Rule: Rule{
			ID: "seLinuxOptions", Title: "SELinux options beyond the allowed", Severity: SeverityMedium,
			Description: "An SELinux type other than the container types, or an SELinux user or role, is set.",
			Attack:      "A type such as spc_t takes the container out of SELinux confinement altogether.",
			Remediation: "Remove type, user and role, or use container_t, container_init_t, container_kvm_t (from 1.31 on also container_engine_t).",
			MITRE:       []string{"T1611"}, CWE: []int{693},
		}, repairs: repairsSELinux},
		{Rule: Rule{
			ID: "seccompProfile_baseline", Title: "Seccomp switched off", Severity: SeverityMedium,
			Description: "A seccomp profile other than RuntimeDefault or Localhost is set. Before 1.19 the same stood in annotations.",
			Attack:      "All system calls are in reach, among them those that kernel exploits and namespace tricks start with.",
			Remediation: "Remove the field, or set seccompProfile.type to RuntimeDefault or Localhost.",
			MITRE:       []string{"T1611"}, CIS: cis("5.6.2"), CWE: []int{693},
		}, repairs: repairsSeccomp},
		{Rule: Rule{
			ID: "sysctls", Title: "Sysctls beyond the safe set", Severity: SeverityMedium,
			Description: "The pod sets kernel parameters that are not known to be safe: they may reach beyond the pod.",
			Attack:      "Kernel parameters of the node change under the other pods.",
			Remediation: "Remove the sysctl; set it on the node if it is needed.",
			MITRE:       []string{"T1611"}, CWE: []int{668},
		}, repairs: repairsSysctls},
		{Rule: Rule{
			ID: "windowsHostProcess", Title: "Windows host process", Severity: SeverityCritical,
			Description: "hostProcess runs the container on the Windows node itself.",
			Attack:      "The process is one of the node's, with the rights of the user that it names, up to SYSTEM.",
			Remediation: "Set windowsOptions.hostProcess to false.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.11"), CWE: []int{250},
		}, repairs: repairsWindowsHostProcess},
	}
	return atLevel(table, psa.LevelBaseline)
}

func restrictedControls() []control {
	table := []control{
		{Rule: Rule{
			ID: "allowPrivilegeEscalation", Title: "Privilege escalation is allowed", Severity: SeverityMedium,
			Description: "allowPrivilegeEscalation is not false, so no_new_privs is not set and setuid binaries work.",
			Attack:      "A setuid or file-capability binary in the image turns a plain user into root of the container.",
			Remediation: "Set securityContext.allowPrivilegeEscalation to false on every container.",
			MITRE:       []string{"T1548"}, CIS: cis("5.2.6"), CWE: []int{250},
		}, repairs: repairsPrivilegeEscalation},
		{Rule: Rule{
			ID: "capabilities_restricted", Title: "Capabilities are not dropped", Severity: SeverityMedium,
			Description: "Restricted wants every container to drop ALL capabilities and to add none but NET_BIND_SERVICE. It stands in the place of capabilities_baseline.",
			Attack:      "The default set still holds what escapes build on: MKNOD, SYS_CHROOT, DAC_OVERRIDE, NET_RAW.",
			Remediation: "Set capabilities.drop to [ALL] and add at most NET_BIND_SERVICE.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.8", "5.2.9", "5.2.10"), CWE: []int{250},
		}, repairs: repairsRestrictedCapabilities},
		{Rule: Rule{
			ID: "procMount_restricted", Title: "/proc is not masked (restricted)", Severity: SeverityHigh,
			Description: "Restricted refuses any procMount but Default, in user namespaces too.",
			Attack:      "Kernel settings, keys and timers below /proc come into reach.",
			Remediation: "Remove procMount, or set it to Default.",
			MITRE:       []string{"T1611"}, CWE: []int{668},
		}, repairs: repairsProcMount},
		{Rule: Rule{
			ID: "restrictedVolumes", Title: "Volume type that restricted does not allow", Severity: SeverityHigh,
			Description: "Restricted allows configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected and secret volumes only.",
			Attack:      "hostPath opens the host; the old in-tree drivers mount with the kubelet's rights what the pod's author names.",
			Remediation: "Use a persistentVolumeClaim or csi volume for data to keep, emptyDir for scratch data.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.12"), CWE: []int{668},
		}, repairs: repairsVolumes(restrictedSources)},
		{Rule: Rule{
			ID: "runAsNonRoot", Title: "May run as root", Severity: SeverityMedium,
			Description: "Nothing makes the kubelet refuse an image that starts as root. From 1.35 on a pod with its own user namespace is exempt.",
			Attack:      "Root in the container is root on the host as soon as anything else gives way.",
			Remediation: "Set securityContext.runAsNonRoot to true for the pod, and build images with a USER.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.7"), CWE: []int{250},
		}, repairs: repairsRunAsNonRoot},
		{Rule: Rule{
			ID: "runAsUser", Title: "Runs as UID 0", Severity: SeverityMedium,
			Description: "runAsUser is 0. From 1.35 on a pod with its own user namespace is exempt.",
			Attack:      "Root in the container is root on the host as soon as anything else gives way.",
			Remediation: "Set runAsUser to a UID other than 0, or leave it to the image.",
			MITRE:       []string{"T1611"}, CIS: cis("5.2.7"), CWE: []int{250},
		}, repairs: repairsRunAsUser},
		{Rule: Rule{
			ID: "seccompProfile_restricted", Title: "No seccomp profile", Severity: SeverityMedium,
			Description: "Restricted wants seccompProfile RuntimeDefault or Localhost to be set, for the pod or for every container. It stands in the place of seccompProfile_baseline.",
			Attack:      "All system calls are in reach, among them those that kernel exploits and namespace tricks start with.",
			Remediation: "Set securityContext.seccompProfile.type to RuntimeDefault for the pod.",
			MITRE:       []string{"T1611"}, CIS: cis("5.6.2"), CWE: []int{693},
		}, repairs: repairsSeccomp},
	}
	return atLevel(table, psa.LevelRestricted)
}

func atLevel(table []control, level psa.Level) []control {
	for i := range table {
		table[i].Level = string(level)
	}
	return table
}
