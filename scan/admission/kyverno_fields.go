package admission

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ofPod lists the fields of the pod itself.
func (l *faultList) ofPod() {
	spec, security := &l.pod.Spec, l.pod.Spec.SecurityContext
	switch l.id {
	case "hostNamespaces":
		for _, f := range []struct {
			name string
			set  bool
		}{{"hostNetwork", spec.HostNetwork}, {"hostPID", spec.HostPID}, {"hostIPC", spec.HostIPC}} {
			if f.set {
				l.add("", "spec."+f.name, "true")
			}
		}
	case "hostPathVolumes":
		for _, v := range spec.Volumes {
			if v.HostPath != nil {
				l.add("", "spec.volumes[*].hostPath", v.HostPath.Path)
			}
		}
	case "restrictedVolumes":
		for _, v := range spec.Volumes {
			if l.refuses(corev1.PodSpec{Volumes: []corev1.Volume{v}}) {
				l.add("", "spec.volumes[*]."+volumeType(&v))
			}
		}
	case "appArmorProfile":
		l.annotations(corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)
	case "seccompProfile_baseline":
		l.annotations("seccomp.security.alpha.kubernetes.io/pod")
		for _, name := range containerNames(spec) {
			l.annotations("container.seccomp.security.alpha.kubernetes.io/" + name)
		}
	}
	if security != nil {
		l.ofPodSecurity(security)
	}
}

func (l *faultList) ofPodSecurity(security *corev1.PodSecurityContext) {
	const path = "spec.securityContext."
	switch l.id {
	case "windowsHostProcess":
		if o := security.WindowsOptions; o != nil && isTrue(o.HostProcess) {
			l.add("", path+"windowsOptions.hostProcess", "true")
		}
	case "seLinuxOptions":
		l.ofSELinux("", path, security.SELinuxOptions)
	case "seccompProfile_baseline", "seccompProfile_restricted":
		if p := security.SeccompProfile; p != nil && l.byFields() && !allowedSeccomp(p) {
			l.add("", path+"seccompProfile.type", string(p.Type))
		}
	case "appArmorProfile":
		if p := security.AppArmorProfile; p != nil && !allowedAppArmor(p) {
			l.add("", path+"appArmorProfile.type", string(p.Type))
		}
	case "sysctls":
		for _, s := range security.Sysctls {
			if l.refuses(corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{s}}}) {
				l.add("", path+"sysctls[*].name", s.Name)
			}
		}
	case "runAsNonRoot":
		if r := security.RunAsNonRoot; r != nil && !*r {
			l.add("", path+"runAsNonRoot", "false")
		}
	case "runAsUser":
		if u := security.RunAsUser; u != nil && *u == 0 {
			l.add("", path+"runAsUser", "0")
		}
	}
}

// ofContainer lists the fields of one container.
func (l *faultList) ofContainer(path string, c *corev1.Container) {
	security := c.SecurityContext
	if security == nil {
		security = &corev1.SecurityContext{}
	}
	at := path + ".securityContext."
	switch l.id {
	case "privileged":
		if isTrue(security.Privileged) {
			l.add(c.Name, at+"privileged", "true")
		}
	case "hostPorts":
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				l.add(c.Name, path+".ports[*].hostPort", strconv.Itoa(int(p.HostPort)))
			}
		}
	case "procMount":
		if m := security.ProcMount; m != nil && *m != corev1.DefaultProcMount {
			l.add(c.Name, at+"procMount", string(*m))
		}
	case "windowsHostProcess":
		if o := security.WindowsOptions; o != nil && isTrue(o.HostProcess) {
			l.add(c.Name, at+"windowsOptions.hostProcess", "true")
		}
	case "seLinuxOptions":
		l.ofSELinux(c.Name, at, security.SELinuxOptions)
	case "capabilities_baseline", "capabilities_restricted":
		l.ofCapabilities(c.Name, at, security.Capabilities)
	case "appArmorProfile":
		if p := security.AppArmorProfile; p != nil && !allowedAppArmor(p) {
			l.add(c.Name, at+"appArmorProfile.type", string(p.Type))
		}
	default:
		l.ofInherited(c, at, security)
	}
}

// ofInherited lists the fields that a container takes from the pod where it has none
// of its own, and those that restricted wants to be set.
func (l *faultList) ofInherited(c *corev1.Container, at string, security *corev1.SecurityContext) {
	switch l.id {
	case "allowPrivilegeEscalation":
		switch allowed := security.AllowPrivilegeEscalation; {
		case c.SecurityContext == nil:
			l.add(c.Name, at+"allowPrivilegeEscalation")
		case allowed == nil:
			l.add(c.Name, at+"allowPrivilegeEscalation", "nil")
		case *allowed:
			l.add(c.Name, at+"allowPrivilegeEscalation", "true")
		}
	case "runAsUser":
		if u := security.RunAsUser; u != nil && *u == 0 {
			l.add(c.Name, at+"runAsUser", "0")
		}
	case "runAsNonRoot":
		own, pods := security.RunAsNonRoot, l.pod.Spec.SecurityContext
		switch {
		case own != nil && !*own:
			l.add(c.Name, at+"runAsNonRoot", "false")
		case own == nil && (pods == nil || !isTrue(pods.RunAsNonRoot)):
			l.add(c.Name, at+"runAsNonRoot")
		}
	case "seccompProfile_baseline", "seccompProfile_restricted":
		switch own := security.SeccompProfile; {
		case own != nil && l.byFields() && !allowedSeccomp(own):
			l.add(c.Name, at+"seccompProfile.type", string(own.Type))
		case own == nil && l.id == "seccompProfile_restricted" && !l.badSeccomp():
			if pods := l.pod.Spec.SecurityContext; pods == nil || pods.SeccompProfile == nil {
				l.add(c.Name, at+"seccompProfile.type")
			}
		}
	}
}

// badSeccomp tells whether a profile is set that restricted refuses: the check then
// speaks of those alone, and not of containers that have none.
func (l *faultList) badSeccomp() bool {
	bad := func(p *corev1.SeccompProfile) bool { return p != nil && !allowedSeccomp(p) }
	if pods := l.pod.Spec.SecurityContext; pods != nil && bad(pods.SeccompProfile) {
		return true
	}
	for c := range containersOf(&l.pod.Spec) {
		if c.SecurityContext != nil && bad(c.SecurityContext.SeccompProfile) {
			return true
		}
	}
	return false
}

func (l *faultList) ofCapabilities(container, at string, capabilities *corev1.Capabilities) {
	restricted := l.id == "capabilities_restricted"
	if capabilities == nil {
		if restricted {
			l.add(container, at+"capabilities.drop")
		}
		return
	}
	if restricted && !slices.Contains(capabilities.Drop, "ALL") {
		l.add(container, at+"capabilities.drop", texts(capabilities.Drop)...)
	}
	// Whether one may be added, the check says.
	forbidden := slices.DeleteFunc(slices.Clone(capabilities.Add), func(c corev1.Capability) bool {
		return !l.refuses(corev1.PodSpec{Containers: []corev1.Container{{SecurityContext: &corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{c}, Drop: []corev1.Capability{"ALL"}},
		}}}})
	})
	if len(forbidden) > 0 {
		l.add(container, at+"capabilities.add", texts(forbidden)...)
	}
}

func texts(capabilities []corev1.Capability) []string {
	var texts []string
	for _, c := range capabilities {
		texts = append(texts, string(c))
	}
	return texts
}

func (l *faultList) ofSELinux(container, at string, options *corev1.SELinuxOptions) {
	if options == nil {
		return
	}
	typed := &corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Type: options.Type}}
	if l.refuses(corev1.PodSpec{SecurityContext: typed}) {
		l.add(container, at+"seLinuxOptions.type", options.Type)
	}
	if options.User != "" {
		l.add(container, at+"seLinuxOptions.user", options.User)
	}
	if options.Role != "" {
		l.add(container, at+"seLinuxOptions.role", options.Role)
	}
}

// annotations lists the annotations below a prefix that the check refuses.
func (l *faultList) annotations(prefix string) {
	for key, value := range l.pod.Annotations {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		meta := &metav1.ObjectMeta{Annotations: map[string]string{key: value}}
		name := strings.TrimPrefix(key, "container.seccomp.security.alpha.kubernetes.io/")
		if spec := (corev1.PodSpec{Containers: []corev1.Container{{Name: name}}}); !l.check(meta, &spec).Allowed {
			l.add("", "metadata.annotations["+key+"]", value)
		}
	}
}

// byFields tells whether the check of seccomp reads fields: before 1.19 it read
// annotations.
func (l *faultList) byFields() bool {
	unconfined := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
	return l.refuses(corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{SeccompProfile: unconfined}})
}

func allowedSeccomp(p *corev1.SeccompProfile) bool {
	return p.Type == corev1.SeccompProfileTypeLocalhost || p.Type == corev1.SeccompProfileTypeRuntimeDefault
}

func allowedAppArmor(p *corev1.AppArmorProfile) bool {
	return p.Type == corev1.AppArmorProfileTypeLocalhost || p.Type == corev1.AppArmorProfileTypeRuntimeDefault
}

// volumeType is the name of the source that a volume has.
func volumeType(v *corev1.Volume) string {
	source := reflect.ValueOf(v.VolumeSource)
	for i := range source.NumField() {
		if !source.Field(i).IsZero() {
			name, _, _ := strings.Cut(source.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return "unknown"
}

func isTrue(b *bool) bool { return b != nil && *b }

// containersOf are the containers of all kinds.
func containersOf(spec *corev1.PodSpec) func(yield func(*corev1.Container) bool) {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
		for i := range spec.EphemeralContainers {
			if !yield((*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon)) {
				return
			}
		}
	}
}

func containerNames(spec *corev1.PodSpec) []string {
	var names []string
	for c := range containersOf(spec) {
		names = append(names, c.Name)
	}
	return names
}
