package scan

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is what rules judge: a pod, or the pod that a template makes, with the API
// server's defaults applied.
type Pod struct {
	Meta *metav1.ObjectMeta
	Spec *corev1.PodSpec
	// HostPaths gives, by the name of the pod's volume, the path of the host behind
	// a persistent volume claim. The Pod Security Standards do not look there.
	HostPaths map[string]string
}

// containerRef is one container of a pod and where it stands.
type containerRef struct {
	*corev1.Container
	kind  ContainerKind
	index int
	// at is kept by path.
	at string
}

// path is the field path of the container.
func (c *containerRef) path() string {
	if c.at == "" {
		list := "spec.containers["
		switch c.kind {
		case KindInit, KindSidecar:
			list = "spec.initContainers["
		case KindEphemeral:
			list = "spec.ephemeralContainers["
		case KindContainer:
		}
		c.at = list + strconv.Itoa(c.index) + "]"
	}
	return c.at
}

// privileged reports whether the container asks for all of the host's rights.
func (c *containerRef) privileged() bool {
	p := c.SecurityContext.Privileged
	return p != nil && *p
}

// defaultCapability reports whether containerd gives the capability to a container
// that asks for nothing. CRI-O leaves out AUDIT_WRITE, MKNOD, NET_RAW and
// SYS_CHROOT; the larger set is assumed, as the spec does not name the runtime.
func defaultCapability(name string) bool {
	switch name {
	case "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
		"NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT":
		return true
	}
	return false
}

// holds reports whether the container's processes can hold the capability. The
// runtimes take names in any case. "CAP_" in front means to CRI-O what it says and
// to containerd nothing: what is added so counts, what is dropped so does not.
func (c *containerRef) holds(name string) bool {
	if c.privileged() {
		return true
	}
	has := defaultCapability(name)
	caps := c.SecurityContext.Capabilities
	// The runtimes handle ALL in either list first, then single names: what is
	// added by name survives "drop: [ALL]", what is dropped by name does not
	// survive "add: [ALL]". Where ALL is in both, containerd and CRI-O drop all and
	// Docker adds all.
	switch {
	case indexCapability(caps.Add, "ALL") >= 0:
		has = true
	case drops(caps.Drop, "ALL"):
		has = false
	}
	if indexCapability(caps.Add, name) >= 0 {
		has = true
	}
	if drops(caps.Drop, name) {
		has = false
	}
	return has
}

// noNewPrivileges reports whether setuid and file-capability programs of the image
// give the container's processes nothing.
func (c *containerRef) noNewPrivileges() bool {
	if c == nil {
		return false
	}
	allow := c.SecurityContext.AllowPrivilegeEscalation
	return allow != nil && !*allow && !c.privileged()
}

// addedAt is the index in capabilities.add that gives the capability, by its name
// or as ALL, or -1.
func (c *containerRef) addedAt(name string) int {
	if i := indexCapability(c.SecurityContext.Capabilities.Add, name); i >= 0 {
		return i
	}
	return indexCapability(c.SecurityContext.Capabilities.Add, "ALL")
}

func drops(list []corev1.Capability, name string) bool {
	return slices.ContainsFunc(list, func(c corev1.Capability) bool { return strings.EqualFold(string(c), name) })
}

func indexCapability(list []corev1.Capability, name string) int {
	for i, c := range list {
		if sameCapability(c, name) {
			return i
		}
	}
	return -1
}

func sameCapability(c corev1.Capability, name string) bool {
	s := string(c)
	if len(s) > 4 && strings.EqualFold(s[:4], "CAP_") {
		s = s[4:]
	}
	return strings.EqualFold(s, name)
}

// draft is a working copy of a pod that repairs change and take back. Every
// container and the pod have a security context, every container a capabilities
// struct, so that a repair is one assignment to a leaf; the checks treat an empty
// struct as an absent one.
type draft struct {
	meta       metav1.ObjectMeta
	spec       corev1.PodSpec
	podContext corev1.PodSecurityContext
	contexts   []corev1.SecurityContext
	caps       []corev1.Capabilities
	containers []containerRef
	// mounts is kept by hostMounts.
	mounts     []hostMount
	mountsRead bool
	lists      draftLists
	// pod is the original.
	pod Pod
	// findings and repairs collect what is found, the repairs control by control.
	findings []Finding
	repairs  [][]repair
}

// read makes an empty draft one of the pod: a copy of what repairs may change. What
// else lies behind pointers is shared with pod: repairs replace it, never write to
// it. The lists are those of an earlier pod where they are long enough.
func (d *draft) read(pod Pod) {
	d.pod, d.meta, d.spec = pod, *pod.Meta, *pod.Spec
	d.podContext = corev1.PodSecurityContext{}
	if pod.Spec.SecurityContext != nil {
		d.podContext = *pod.Spec.SecurityContext
		d.podContext.SELinuxOptions = d.podContext.SELinuxOptions.DeepCopy()
		d.podContext.WindowsOptions = d.podContext.WindowsOptions.DeepCopy()
	}
	d.spec.SecurityContext = &d.podContext
	d.spec.Volumes = append(d.lists.volumes, pod.Spec.Volumes...)
	d.spec.InitContainers = append(d.lists.init, pod.Spec.InitContainers...)
	d.spec.Containers = append(d.lists.containers, pod.Spec.Containers...)
	d.spec.EphemeralContainers = append(d.lists.ephemeral, pod.Spec.EphemeralContainers...)

	n := len(d.spec.InitContainers) + len(d.spec.Containers) + len(d.spec.EphemeralContainers)
	// Pointers into these are handed out, so they must not grow later.
	d.contexts = slices.Grow(d.contexts, n)
	d.caps = slices.Grow(d.caps, n)
	d.containers = slices.Grow(d.containers, n)
	for i := range d.spec.InitContainers {
		kind := KindInit
		c := &d.spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = KindSidecar
		}
		d.add(c, kind, i)
	}
	for i := range d.spec.Containers {
		d.add(&d.spec.Containers[i], KindContainer, i)
	}
	for i := range d.spec.EphemeralContainers {
		d.add((*corev1.Container)(&d.spec.EphemeralContainers[i].EphemeralContainerCommon), KindEphemeral, i)
	}
}

// draftLists is room for the lists of a spec.
type draftLists struct {
	volumes          []corev1.Volume
	init, containers []corev1.Container
	ephemeral        []corev1.EphemeralContainer
}

// found makes room for one more finding.
func (d *draft) found() *Finding {
	d.findings = append(d.findings, Finding{})
	return &d.findings[len(d.findings)-1]
}

// keep copies the findings for the judgement, which lives as long as the scan: no
// room to grow, and fixes apart from the repairs that they are of.
func (d *draft) keep() []Finding {
	if len(d.findings) == 0 {
		return nil
	}
	kept := slices.Clone(d.findings)
	fixes := make([]Fix, len(kept))
	for i := range kept {
		if kept[i].Fix != nil {
			fixes[i] = *kept[i].Fix
			kept[i].Fix = &fixes[i]
		}
	}
	return kept
}

// forget empties the draft and keeps the room of its lists.
func (d *draft) forget() {
	d.lists = draftLists{d.spec.Volumes[:0], d.spec.InitContainers[:0], d.spec.Containers[:0], d.spec.EphemeralContainers[:0]}
	d.contexts, d.caps, d.containers = d.contexts[:0], d.caps[:0], d.containers[:0]
	d.mounts, d.mountsRead = d.mounts[:0], false
	d.findings, d.repairs = d.findings[:0], d.repairs[:0]
}

func (d *draft) add(c *corev1.Container, kind ContainerKind, index int) {
	sc, caps := corev1.SecurityContext{}, corev1.Capabilities{}
	if c.SecurityContext != nil {
		sc = *c.SecurityContext
		sc.SELinuxOptions = sc.SELinuxOptions.DeepCopy()
		sc.WindowsOptions = sc.WindowsOptions.DeepCopy()
		if sc.Capabilities != nil {
			caps = *sc.Capabilities
		}
	}
	d.caps = append(d.caps, caps)
	sc.Capabilities = &d.caps[len(d.caps)-1]
	d.contexts = append(d.contexts, sc)
	c.SecurityContext = &d.contexts[len(d.contexts)-1]
	d.containers = append(d.containers, containerRef{Container: c, kind: kind, index: index})
}

// inUserNamespace reports whether the pod's users are not the host's.
func (d *draft) inUserNamespace() bool { return d.spec.HostUsers != nil && !*d.spec.HostUsers }

// nonRoot reports whether the container starts as a user other than root, and by
// which field that is known; where the image decides it is not. Without a container
// it asks for all of the pod's.
func (d *draft) nonRoot(c *containerRef) (by string, yes bool) {
	if c == nil {
		for i := range d.containers {
			if _, yes := d.nonRoot(&d.containers[i]); !yes {
				return "", false
			}
		}
		return "no container runs as root", len(d.containers) > 0
	}
	uid := c.SecurityContext.RunAsUser
	if uid == nil {
		uid = d.podContext.RunAsUser
	}
	if uid != nil {
		if *uid == 0 {
			return "", false
		}
		return "runAsUser: " + strconv.FormatInt(*uid, 10), true
	}
	must := c.SecurityContext.RunAsNonRoot
	if must == nil {
		must = d.podContext.RunAsNonRoot
	}
	return "runAsNonRoot: true", must != nil && *must
}

// onWindows reports whether the pod says that it is one of Windows.
func (d *draft) onWindows() bool {
	if d.spec.OS != nil {
		return d.spec.OS.Name == corev1.Windows
	}
	hostProcess := func(o *corev1.WindowsSecurityContextOptions) bool {
		return o != nil && o.HostProcess != nil && *o.HostProcess
	}
	if hostProcess(d.podContext.WindowsOptions) {
		return true
	}
	for i := range d.containers {
		if hostProcess(d.containers[i].SecurityContext.WindowsOptions) {
			return true
		}
	}
	return false
}
