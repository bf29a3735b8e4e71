package set

import psa "k8s.io/pod-security-admission/api"

// controls are the Pod Security Standards, one record a control, by level and ID. An
// expression holds for a pod that the official check allows. What no container can
// say otherwise is not asked: validation keeps such pods away before any policy.
func controls() []control {
	return append(baseline(), restricted()...)
}

func baseline() []control {
	return []control{
		{
			id: "appArmorProfile", level: psa.LevelBaseline,
			message: "an AppArmor profile must be RuntimeDefault or Localhost, in fields (appArmorProfile.type) and in annotations (runtime/default, localhost/*)",
			versions: []controlVersion{{0, profiles("appArmorProfile") + ` &&
variables.annotations.all(k, !k.startsWith('container.apparmor.security.beta.kubernetes.io/') ||
  variables.annotations[k] in ['', 'runtime/default'] || variables.annotations[k].startsWith('localhost/'))`}},
		},
		{
			id: "capabilities_baseline", level: psa.LevelBaseline,
			message: "containers must not add capabilities beyond those that they have by default (securityContext.capabilities.add)",
			versions: []controlVersion{{0, "variables.contexts.all(s, s.?capabilities.?add.orValue([]).all(c, c in " + list(
				"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
				"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT") + "))"}},
		},
		{
			id: "hostNamespaces", level: psa.LevelBaseline,
			message:  "the pod must not set hostNetwork, hostPID or hostIPC",
			versions: []controlVersion{{0, "['hostNetwork', 'hostPID', 'hostIPC'].all(n, !variables.spec[?n].orValue(false))"}},
		},
		{
			id: "hostPathVolumes", level: psa.LevelBaseline,
			message:  "volumes must not be of type hostPath",
			versions: []controlVersion{{0, "variables.volumes.all(v, !has(v.hostPath))"}},
		},
		{
			id: "hostPorts", level: psa.LevelBaseline,
			message:  "containers must not set ports[*].hostPort",
			versions: []controlVersion{{0, "variables.containers.all(c, c.?ports.orValue([]).all(p, p.?hostPort.orValue(0) == 0))"}},
		},
		{
			id: "hostProbesAndHostLifecycle", level: psa.LevelBaseline,
			message: "probes and lifecycle hooks must not set httpGet.host or tcpSocket.host",
			versions: []controlVersion{{34, `variables.containers.all(c,
  [c.?livenessProbe, c.?readinessProbe, c.?startupProbe, c.?lifecycle.?postStart, c.?lifecycle.?preStop].all(h,
    h.?httpGet.?host.orValue('') == '' && h.?tcpSocket.?host.orValue('') == ''))`}},
		},
		{
			id: "privileged", level: psa.LevelBaseline,
			message:  "containers must not set securityContext.privileged",
			versions: []controlVersion{{0, "variables.contexts.all(s, !s.?privileged.orValue(false))"}},
		},
		{
			id: "procMount", level: psa.LevelBaseline,
			message:  "containers must not set securityContext.procMount to anything but Default",
			versions: []controlVersion{{0, procMount}, {35, orUserNamespace(procMount)}},
		},
		{
			id: "seLinuxOptions", level: psa.LevelBaseline,
			message: "seLinuxOptions must not set user or role, nor a type that is not for containers",
			versions: []controlVersion{
				{0, seLinux("", "container_t", "container_init_t", "container_kvm_t")},
				{31, seLinux("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")},
			},
		},
		{
			id: "seccompProfile_baseline", level: psa.LevelBaseline,
			message: "a seccomp profile must be RuntimeDefault or Localhost (seccompProfile.type)",
			versions: []controlVersion{
				{0, `(['seccomp.security.alpha.kubernetes.io/pod'] +
  variables.containers.map(c, 'container.seccomp.security.alpha.kubernetes.io/' + c.name)).all(k,
    !(k in variables.annotations) || variables.annotations[k] in ['runtime/default', 'docker/default'] ||
    variables.annotations[k].startsWith('localhost/'))`},
				{19, profiles("seccompProfile")},
			},
		},
		{
			id: "sysctls", level: psa.LevelBaseline,
			message:  "securityContext.sysctls must only name sysctls that are safe",
			versions: sysctls(),
		},
		{
			id: "windowsHostProcess", level: psa.LevelBaseline,
			message:  "the pod and its containers must not set securityContext.windowsOptions.hostProcess",
			versions: []controlVersion{{0, "variables.allContexts.all(s, !s.?windowsOptions.?hostProcess.orValue(false))"}},
		},
	}
}

func restricted() []control {
	const (
		escalation   = "variables.contexts.all(s, !s.?allowPrivilegeEscalation.orValue(true))"
		capabilities = "variables.contexts.all(s, 'ALL' in s.?capabilities.?drop.orValue([]) &&\n" +
			"  s.?capabilities.?add.orValue([]).all(c, c == 'NET_BIND_SERVICE'))"
		nonRoot = "variables.podContext.?runAsNonRoot.orValue(true) &&\n" +
			"variables.contexts.all(s, s.?runAsNonRoot.orValue(variables.podContext.?runAsNonRoot.orValue(false)))"
		user = "variables.allContexts.all(s, s.?runAsUser.orValue(1) != 0)"
	)
	seccomp := profiles("seccompProfile") +
		" &&\n(has(variables.podContext.seccompProfile) || variables.contexts.all(s, has(s.seccompProfile)))"
	return []control{
		{
			id: "allowPrivilegeEscalation", level: psa.LevelRestricted,
			message:  "containers must set securityContext.allowPrivilegeEscalation: false",
			versions: []controlVersion{{8, escalation}, {25, orWindows(escalation)}},
		},
		{
			id: "capabilities_restricted", level: psa.LevelRestricted, overrides: []string{"capabilities_baseline"},
			message:  `containers must set securityContext.capabilities.drop: ["ALL"] and must not add any but NET_BIND_SERVICE`,
			versions: []controlVersion{{22, capabilities}, {25, orWindows(capabilities)}},
		},
		{
			id: "procMount_restricted", level: psa.LevelRestricted, overrides: []string{"procMount"},
			message:  "containers must not set securityContext.procMount to anything but Default",
			versions: []controlVersion{{35, procMount}},
		},
		{
			id: "restrictedVolumes", level: psa.LevelRestricted, overrides: []string{"hostPathVolumes"},
			message: "volumes must be of type configMap, csi, downwardAPI, emptyDir, ephemeral, image, persistentVolumeClaim, projected or secret",
			versions: []controlVersion{{0, `variables.volumes.all(v,
  has(v.configMap) || has(v.csi) || has(v.downwardAPI) || has(v.emptyDir) || has(v.ephemeral) || has(v.image) ||
  has(v.persistentVolumeClaim) || has(v.projected) || has(v.secret))`}},
		},
		{
			id: "runAsNonRoot", level: psa.LevelRestricted,
			message:  "the pod or each container must set securityContext.runAsNonRoot: true, and none false",
			versions: []controlVersion{{0, nonRoot}, {35, orUserNamespace(nonRoot)}},
		},
		{
			id: "runAsUser", level: psa.LevelRestricted,
			message:  "the pod and its containers must not set securityContext.runAsUser: 0",
			versions: []controlVersion{{23, user}, {35, orUserNamespace(user)}},
		},
		{
			id: "seccompProfile_restricted", level: psa.LevelRestricted, overrides: []string{"seccompProfile_baseline"},
			message:  "the pod or each container must set securityContext.seccompProfile.type to RuntimeDefault or Localhost",
			versions: []controlVersion{{19, seccomp}, {25, orWindows(seccomp)}},
		},
	}
}

const procMount = "variables.contexts.all(s, s.?procMount.orValue('Default') == 'Default')"

// orWindows exempts the pods of Windows, where validation forbids the field.
func orWindows(expression string) string { return "variables.windows || (" + expression + ")" }

// orUserNamespace exempts pods in a user namespace of their own.
func orUserNamespace(expression string) string {
	return "variables.userNamespace || (" + expression + ")"
}

// profiles allows profiles of the pod and of containers that do not switch protection
// off.
func profiles(field string) string {
	return "variables.allContexts.all(s, !has(s." + field + ") || s." + field + ".?type.orValue('') in ['RuntimeDefault', 'Localhost'])"
}

func seLinux(types ...string) string {
	return "variables.allContexts.all(s, s.?seLinuxOptions.?type.orValue('') in " + list(types...) + " &&\n" +
		"  s.?seLinuxOptions.?user.orValue('') == '' && s.?seLinuxOptions.?role.orValue('') == '')"
}

// sysctls are the allowed ones, of which there are more from version to version.
func sysctls() []controlVersion {
	var versions []controlVersion
	var allowed []string
	for _, more := range []struct {
		since int
		names []string
	}{
		{0, []string{
			"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
			"net.ipv4.ping_group_range", "net.ipv4.tcp_syncookies",
		}},
		{27, []string{"net.ipv4.ip_local_reserved_ports"}},
		{29, []string{
			"net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
		}},
		{32, []string{"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}},
		{37, []string{"net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_slow_start_after_idle"}},
	} {
		allowed = append(allowed, more.names...)
		versions = append(versions, controlVersion{more.since, "variables.podContext.?sysctls.orValue([]).all(s, s.name in " + list(allowed...) + ")"})
	}
	return versions
}
