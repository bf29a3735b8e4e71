package scan

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// aggravations are no ways out by themselves: they take away what would stand in
// the way of another.
func aggravations() []escapePath {
	table := []escapePath{
		{
			Rule: Rule{
				ID: "escape-seccomp-unconfined", Title: "No seccomp profile beside an open way out", Severity: SeverityMedium,
				Description: "The container has a way out and no seccomp profile: Unconfined is set, or nothing is, which means unconfined unless the kubelet runs with seccompDefault.",
				Attack:      "mount, unshare, bpf, open_by_handle_at and the kernel's least tested system calls go through unfiltered.",
				Remediation: "Set seccompProfile.type to RuntimeDefault.",
				MITRE:       []string{"T1611"}, CIS: cis("5.6.2"), CWE: []int{693},
			},
			find: findSeccompUnconfined, sandbox: inOwnKernel(),
		},
		{
			Rule: Rule{
				ID: "escape-apparmor-unconfined", Title: "AppArmor switched off beside an open way out", Severity: SeverityMedium,
				Description: "The container has a way out and its AppArmor profile is set to Unconfined: the runtime's default profile, which forbids mounts and writes below /proc/sys, does not apply.",
				Attack:      "Mounts and writes to kernel settings that the default profile refuses go through.",
				Remediation: "Remove the profile or annotation, or set it to RuntimeDefault.",
				MITRE:       []string{"T1611"}, CWE: []int{693},
			},
			find: findAppArmorUnconfined, sandbox: inOwnKernel(),
		},
		{
			Rule: Rule{
				ID: "escape-selinux-unconfined", Title: "SELinux confinement switched off beside an open way out", Severity: SeverityMedium,
				Description: "The container has a way out and an SELinux type that is not confined (spc_t, unconfined_t).",
				Attack:      "Files and processes of the host that SELinux keeps from containers are in reach.",
				Remediation: "Remove seLinuxOptions.type.",
				MITRE:       []string{"T1611"}, CWE: []int{693},
			},
			find: findSELinuxUnconfined, sandbox: inOwnKernel(),
		},
	}
	for i := range table {
		table[i].Aggravates = true
	}
	return table
}

// findSeccompUnconfined leaves privileged containers out: the runtime applies no
// profile to them, whatever is set.
func findSeccompUnconfined(d *draft) []hit {
	const missing = "no seccomp profile is set: unconfined unless the kubelet runs with seccompDefault"
	pod := d.podContext.SeccompProfile
	inherited := false
	var hits []hit
	for i := range d.containers {
		c := &d.containers[i]
		own := c.SecurityContext.SeccompProfile
		switch {
		case c.privileged():
		case own == nil:
			inherited = true
		case own.Type == corev1.SeccompProfileTypeUnconfined:
			hits = append(hits, hit{repair: repairSeccomp(c, c.path(), &c.SecurityContext.SeccompProfile), message: "seccomp is switched off"})
		}
	}
	switch {
	case !inherited:
	case pod == nil:
		hits = append(hits, hit{repair: repairSeccomp(nil, "spec", &d.podContext.SeccompProfile), message: missing, severity: SeverityLow})
	case pod.Type == corev1.SeccompProfileTypeUnconfined:
		hits = append(hits, hit{repair: repairSeccomp(nil, "spec", &d.podContext.SeccompProfile), message: "seccomp is switched off"})
	}
	return hits
}

func findAppArmorUnconfined(d *draft) []hit {
	return unconfined(repairsAppArmor(d), "AppArmor is switched off", func(now string) bool {
		return strings.EqualFold(now, `"unconfined"`)
	})
}

func findSELinuxUnconfined(d *draft) []hit {
	return unconfined(repairsSELinux(d), "SELinux does not confine this type", func(now string) bool {
		return now == `"spc_t"` || now == `"unconfined_t"` || now == `"container_runtime_t"`
	})
}

func unconfined(repairs []repair, message string, is func(now string) bool) []hit {
	return asHits(slices.DeleteFunc(repairs, func(r repair) bool { return !is(string(r.now)) }), message)
}
