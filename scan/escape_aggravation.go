package scan

import (
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
			find: findSeccompUnconfined, lowerings: lowerings{sandbox: inOwnKernel()},
		},
		{
			Rule: Rule{
				ID: "escape-apparmor-unconfined", Title: "AppArmor switched off beside an open way out", Severity: SeverityMedium,
				Description: "The container has a way out and its AppArmor profile is set to Unconfined: the runtime's default profile, which forbids mounts and writes below /proc/sys, does not apply.",
				Attack:      "Mounts and writes to kernel settings that the default profile refuses go through.",
				Remediation: "Remove the profile or annotation, or set it to RuntimeDefault.",
				MITRE:       []string{"T1611"}, CWE: []int{693},
			},
			find: findAppArmorUnconfined, lowerings: lowerings{sandbox: inOwnKernel()},
		},
		{
			Rule: Rule{
				ID: "escape-selinux-unconfined", Title: "SELinux confinement switched off beside an open way out", Severity: SeverityMedium,
				Description: "The container has a way out and an SELinux type that is not confined (spc_t, unconfined_t and their like).",
				Attack:      "Files and processes of the host that SELinux keeps from containers are in reach.",
				Remediation: "Remove seLinuxOptions.type.",
				MITRE:       []string{"T1611"}, CWE: []int{693},
			},
			find: findSELinuxUnconfined, lowerings: lowerings{sandbox: inOwnKernel()},
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
	if d.onWindows() {
		return nil
	}
	pod := d.podContext.SeccompProfile
	var inherited []string
	var hits []hit
	for i := range d.containers {
		c := &d.containers[i]
		own := c.SecurityContext.SeccompProfile
		switch {
		case c.privileged():
		case own == nil:
			inherited = append(inherited, c.Name)
		case own.Type == corev1.SeccompProfileTypeUnconfined:
			hits = append(hits, hit{repair: repairSeccomp(c, c.path(), &c.SecurityContext.SeccompProfile), message: "seccomp is switched off", among: []string{c.Name}})
		}
	}
	switch {
	case len(inherited) == 0:
	case pod == nil:
		hits = append(hits, hit{repair: repairSeccomp(nil, "spec", &d.podContext.SeccompProfile), message: missing, severity: SeverityLow, among: inherited})
	case pod.Type == corev1.SeccompProfileTypeUnconfined:
		hits = append(hits, hit{repair: repairSeccomp(nil, "spec", &d.podContext.SeccompProfile), message: "seccomp is switched off", among: inherited})
	}
	return hits
}

func findAppArmorUnconfined(d *draft) []hit {
	return unconfined(d, repairsAppArmor(d), "AppArmor is switched off",
		func(now string) bool { return strings.EqualFold(now, `"unconfined"`) },
		func(c *containerRef) bool { return c.SecurityContext.AppArmorProfile != nil })
}

func findSELinuxUnconfined(d *draft) []hit {
	return unconfined(d, repairsSELinux(d), "SELinux does not confine this type",
		func(now string) bool {
			switch now {
			// The last two are Bottlerocket's.
			case `"spc_t"`, `"unconfined_t"`, `"unconfined_service_t"`, `"container_runtime_t"`, `"super_t"`, `"control_t"`:
				return true
			}
			return false
		},
		func(c *containerRef) bool { return c.SecurityContext.SELinuxOptions != nil })
}

// unconfined makes hits of the repairs of what is so set. Privileged containers are
// left out: the runtime confines them in no case. A field of the pod reaches the
// containers that set none of their own.
func unconfined(d *draft, repairs []repair, message string, is func(now string) bool, own func(*containerRef) bool) []hit {
	var hits []hit
	for _, r := range repairs {
		if !is(string(r.now)) {
			continue
		}
		h := hit{repair: r, message: message}
		for i := range d.containers {
			c := &d.containers[i]
			if !c.privileged() && (r.container == c || (r.container == nil && !own(c))) {
				h.among = append(h.among, c.Name)
			}
		}
		if len(h.among) > 0 {
			hits = append(hits, h)
		}
	}
	return hits
}
