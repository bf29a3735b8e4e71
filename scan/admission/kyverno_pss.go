package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// kyvernoNewest is the version at which Kyverno's copy of the checks was taken: it
// has nothing of 1.35, neither what user namespaces relax nor procMount_restricted.
func kyvernoNewest() psa.Version { return psa.MajorMinorVersion(1, 34) }

// levelVersion is what a podSecurity rule asks for.
func (s *kyvernoPodSecurity) levelVersion() (psa.LevelVersion, error) {
	level, err := psa.ParseLevel(s.Level)
	if err != nil {
		return psa.LevelVersion{}, fmt.Errorf("podSecurity.level %q: %w", s.Level, err)
	}
	if s.Version == "" {
		return psa.LevelVersion{Level: level, Version: psa.LatestVersion()}, nil
	}
	version, err := psa.ParseVersion(s.Version)
	if err != nil {
		return psa.LevelVersion{}, fmt.Errorf("podSecurity.version %q: %w", s.Version, err)
	}
	return psa.LevelVersion{Level: level, Version: version}, nil
}

// kyvernoStandards are the checks that Kyverno makes. They are not those of the API
// server: a check younger than the version is made all the same, in its first form;
// no check overrides another; and privileged asks for all of them, restricted's too.
func kyvernoStandards(lv psa.LevelVersion) standards {
	var checks standards
	for _, c := range policy.DefaultChecks() {
		if lv.Level == psa.LevelBaseline && c.Level != psa.LevelBaseline {
			continue
		}
		first := c.Versions[0]
		if newest := kyvernoNewest(); newest.Older(first.MinimumVersion) {
			continue
		}
		chosen := first
		for _, v := range c.Versions {
			if newest := kyvernoNewest(); !lv.Version.Older(v.MinimumVersion) && !newest.Older(v.MinimumVersion) {
				chosen = v
			}
		}
		checks = append(checks, standard{id: c.ID, level: c.Level, check: chosen.CheckPod})
	}
	checks.sort()
	return checks
}

// kyvernoControl is a check that refuses a pod, with the fields that it blames.
type kyvernoControl struct {
	id     policy.CheckID
	faults []fieldFault
	// unnamed: the check names no field, so nothing takes it out.
	unnamed bool
}

// kyvernoRefusals are the checks that refuse a pod, the excluded ones taken out.
// Kyverno asks the checks again about the containers that an exclude names, and takes
// each fault that this finds off those of the whole pod.
func kyvernoRefusals(checks standards, pod *corev1.Pod, excludes []kyvernoStandard) []string {
	refused := checks.judge(pod).ids
	if len(refused) == 0 || len(excludes) == 0 {
		return refused
	}
	controls := checks.faultsOf(pod)
	for i := range excludes {
		x := &excludes[i]
		part := x.part(pod)
		for _, found := range checks.faultsOf(part) {
			if !slices.Contains(controlIDs(x.ControlName), found.id) {
				continue
			}
			for _, fault := range found.faults {
				if x.covers(fault) {
					controls = takeOff(controls, found.id, fault, len(x.Images) > 0)
				}
			}
		}
	}
	left := make([]string, len(controls))
	for i, c := range controls {
		left[i] = string(c.id)
	}
	return left
}

// faultsOf are the checks that refuse the pod, with their fields.
func (s standards) faultsOf(pod *corev1.Pod) []kyvernoControl {
	var controls []kyvernoControl
	for _, c := range s {
		if c.check(&pod.ObjectMeta, &pod.Spec).Allowed {
			continue
		}
		faults := faultsOf(c, pod)
		controls = append(controls, kyvernoControl{c.id, faults, len(faults) == 0})
	}
	return controls
}

// takeOff removes one fault like the one found: of the same field, and of the same
// container where the exclude is about containers. A control without faults is gone.
func takeOff(controls []kyvernoControl, id policy.CheckID, found fieldFault, byContainer bool) []kyvernoControl {
	at := slices.IndexFunc(controls, func(c kyvernoControl) bool { return c.id == id })
	if at < 0 || controls[at].unnamed {
		return controls
	}
	c := &controls[at]
	like := func(f fieldFault) bool {
		return f.field == found.field && (!byContainer || f.container == found.container)
	}
	if i := slices.IndexFunc(c.faults, like); i >= 0 {
		c.faults = slices.Delete(c.faults, i, i+1)
	}
	if len(c.faults) == 0 {
		return slices.Delete(controls, at, at+1)
	}
	return controls
}

// part is what of the pod an exclude is about: the containers with its images and
// nothing of the pod, or else the pod with a bare container in the place of its own.
func (x *kyvernoStandard) part(pod *corev1.Pod) *corev1.Pod {
	if len(x.Images) == 0 {
		part := *pod
		part.Spec.Containers = []corev1.Container{{Name: "fake"}}
		part.Spec.InitContainers, part.Spec.EphemeralContainers = nil, nil
		return &part
	}
	part := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace}}
	for _, c := range pod.Spec.Containers {
		if wildAny(x.Images, c.Image) {
			part.Spec.Containers = append(part.Spec.Containers, c)
		}
	}
	for _, c := range pod.Spec.InitContainers {
		if wildAny(x.Images, c.Image) {
			part.Spec.InitContainers = append(part.Spec.InitContainers, c)
		}
	}
	for _, c := range pod.Spec.EphemeralContainers {
		if wildAny(x.Images, c.Image) {
			part.Spec.EphemeralContainers = append(part.Spec.EphemeralContainers, c)
		}
	}
	return part
}

// covers tells whether an exclude takes a fault out: its field is meant, and every
// value at fault is one of those allowed.
func (x *kyvernoStandard) covers(f fieldFault) bool {
	if x.RestrictedField != "" && x.RestrictedField != f.field {
		return false
	}
	return len(x.Values) == 0 || !slices.ContainsFunc(f.values, func(value string) bool { return !wildAny(x.Values, value) })
}

// controlIDs are the checks behind Kyverno's name of a control.
func controlIDs(name string) []policy.CheckID {
	switch name {
	case "Capabilities":
		return []policy.CheckID{"capabilities_baseline", "capabilities_restricted"}
	case "Seccomp":
		return []policy.CheckID{"seccompProfile_baseline", "seccompProfile_restricted"}
	case "Privileged Containers":
		return []policy.CheckID{"privileged"}
	case "Host Ports":
		return []policy.CheckID{"hostPorts"}
	case "/proc Mount Type":
		return []policy.CheckID{"procMount"}
	case "HostProcess":
		return []policy.CheckID{"windowsHostProcess"}
	case "SELinux":
		return []policy.CheckID{"seLinuxOptions"}
	case "Host Namespaces":
		return []policy.CheckID{"hostNamespaces"}
	case "HostPath Volumes":
		return []policy.CheckID{"hostPathVolumes"}
	case "Sysctls":
		return []policy.CheckID{"sysctls"}
	case "AppArmor":
		return []policy.CheckID{"appArmorProfile"}
	case "Privilege Escalation":
		return []policy.CheckID{"allowPrivilegeEscalation"}
	case "Running as Non-root":
		return []policy.CheckID{"runAsNonRoot"}
	case "Running as Non-root user":
		return []policy.CheckID{"runAsUser"}
	case "Volume Types":
		return []policy.CheckID{"restrictedVolumes"}
	}
	return nil
}

// fieldFault is a field that a check blames, as Kyverno writes it: every number in
// the path is an asterisk.
type fieldFault struct {
	field string
	// container is empty for a field of the pod.
	container string
	// values are those at fault, none where a value is missing.
	values []string
}

// faultsOf lists the fields that a check blames. Only what the check refuses may be
// asked.
func faultsOf(c standard, pod *corev1.Pod) []fieldFault {
	l := &faultList{standard: c, pod: pod}
	l.ofPod()
	l.visit("spec.initContainers[*]", pod.Spec.InitContainers)
	l.visit("spec.containers[*]", pod.Spec.Containers)
	for i := range pod.Spec.EphemeralContainers {
		l.ofContainer("spec.ephemeralContainers[*]", (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return l.faults
}

type faultList struct {
	standard
	pod    *corev1.Pod
	faults []fieldFault
}

func (l *faultList) visit(path string, containers []corev1.Container) {
	for i := range containers {
		l.ofContainer(path, &containers[i])
	}
}

func (l *faultList) add(container, field string, values ...string) {
	values = slices.DeleteFunc(values, func(v string) bool { return v == "" })
	l.faults = append(l.faults, fieldFault{starred(field), container, values})
}

// starred writes an asterisk for every number in a path.
func starred(field string) string {
	var b strings.Builder
	digits := false
	for _, r := range field {
		digit := r >= '0' && r <= '9'
		switch {
		case !digit:
			b.WriteRune(r)
		case !digits:
			b.WriteByte('*')
		}
		digits = digit
	}
	return b.String()
}

// refuses asks the check about a pod with but this in it.
func (l *faultList) refuses(spec corev1.PodSpec) bool {
	return !l.check(&metav1.ObjectMeta{}, &spec).Allowed
}
