package scan

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The functions here list, for each control of the Pod Security Standards, the
// single-field repairs that could help. They may list too many: toBlame keeps
// those that the official check asks for.

// nonRootUID is the UID that is offered in the place of 0: "nonroot" of the
// distroless images.
const nonRootUID int64 = 65532

func repairsPrivileged(d *draft) []repair {
	var out []repair
	for i := range d.containers {
		if c := &d.containers[i]; c.privileged() {
			out = append(out, repairPrivileged(c))
		}
	}
	return out
}

func repairsHostNamespaces(d *draft) []repair {
	var out []repair
	for _, f := range []struct {
		name string
		leaf *bool
	}{
		{"hostNetwork", &d.spec.HostNetwork},
		{"hostPID", &d.spec.HostPID},
		{"hostIPC", &d.spec.HostIPC},
	} {
		if *f.leaf {
			out = append(out, repairHostFlag(f.name, f.leaf))
		}
	}
	return out
}

// repairsVolumes takes away the sources that a volume may not have. A volume
// without a source is an emptyDir to the API server.
func repairsVolumes(sources func(*corev1.VolumeSource) []volumeSource) func(*draft) []repair {
	return func(d *draft) []repair {
		var out []repair
		for i := range d.spec.Volumes {
			v := &d.spec.Volumes[i]
			for _, src := range sources(&v.VolumeSource) {
				out = append(out, repair{
					edit:  &emptied{d, i},
					field: volumeField(i, src.name), item: v.Name, now: jsonText(src.value),
					fix: Fix{Op: FixRemove, Note: "the volume becomes an emptyDir; for data that must be kept use a persistentVolumeClaim or csi volume"},
				})
			}
		}
		return out
	}
}

func volumeField(i int, source string) string {
	return "spec.volumes[" + strconv.Itoa(i) + "]." + source
}

type volumeSource struct {
	name  string
	value any
}

func hostPathSource(v *corev1.VolumeSource) []volumeSource {
	if v.HostPath == nil {
		return nil
	}
	return []volumeSource{{"hostPath", v.HostPath}}
}

// restrictedSources are the inline sources that restricted does not allow.
func restrictedSources(v *corev1.VolumeSource) []volumeSource {
	var out []volumeSource
	add := func(is bool, name string, value any) {
		if is {
			out = append(out, volumeSource{name, value})
		}
	}
	add(v.HostPath != nil, "hostPath", v.HostPath)
	add(v.GCEPersistentDisk != nil, "gcePersistentDisk", v.GCEPersistentDisk)
	add(v.AWSElasticBlockStore != nil, "awsElasticBlockStore", v.AWSElasticBlockStore)
	add(v.GitRepo != nil, "gitRepo", v.GitRepo)
	add(v.NFS != nil, "nfs", v.NFS)
	add(v.ISCSI != nil, "iscsi", v.ISCSI)
	add(v.Glusterfs != nil, "glusterfs", v.Glusterfs)
	add(v.RBD != nil, "rbd", v.RBD)
	add(v.FlexVolume != nil, "flexVolume", v.FlexVolume)
	add(v.Cinder != nil, "cinder", v.Cinder)
	add(v.CephFS != nil, "cephfs", v.CephFS)
	add(v.Flocker != nil, "flocker", v.Flocker)
	add(v.FC != nil, "fc", v.FC)
	add(v.AzureFile != nil, "azureFile", v.AzureFile)
	add(v.VsphereVolume != nil, "vsphereVolume", v.VsphereVolume)
	add(v.Quobyte != nil, "quobyte", v.Quobyte)
	add(v.AzureDisk != nil, "azureDisk", v.AzureDisk)
	add(v.PhotonPersistentDisk != nil, "photonPersistentDisk", v.PhotonPersistentDisk)
	add(v.PortworxVolume != nil, "portworxVolume", v.PortworxVolume)
	add(v.ScaleIO != nil, "scaleIO", v.ScaleIO)
	add(v.StorageOS != nil, "storageos", v.StorageOS)
	return out
}

func repairsHostPorts(d *draft) []repair {
	var out []repair
	for i := range d.containers {
		c := &d.containers[i]
		copied := false
		for j := range c.Ports {
			if c.Ports[j].HostPort == 0 {
				continue
			}
			if !copied {
				c.Ports, copied = append([]corev1.ContainerPort(nil), c.Ports...), true
			}
			r := repair{
				edit: assign(&c.Ports[j].HostPort, 0), container: c,
				field: c.path() + ".ports[" + strconv.Itoa(j) + "].hostPort",
				item:  strconv.Itoa(int(c.Ports[j].HostPort)), now: jsonText(c.Ports[j].HostPort),
				fix: Fix{Op: FixRemove, Note: "publish the port with a Service"},
			}
			if d.spec.HostNetwork {
				r.related = []string{"spec.hostNetwork"}
				r.why = "the API server sets it because hostNetwork is true, and it goes when hostNetwork does"
			}
			out = append(out, r)
		}
	}
	return out
}

func repairsHostProbes(d *draft) []repair {
	var out []repair
	host := func(c *containerRef, path string, leaf *string) {
		if *leaf != "" {
			out = append(out, repair{
				edit: assign(leaf, ""), container: c, field: c.path() + path, now: jsonText(*leaf),
				fix: Fix{Op: FixRemove, Note: "without it the kubelet asks the pod's own address"},
			})
		}
	}
	handler := func(c *containerRef, path string, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) {
		if get != nil {
			host(c, path+".httpGet.host", &get.Host)
		}
		if tcp != nil {
			host(c, path+".tcpSocket.host", &tcp.Host)
		}
	}
	for i := range d.containers {
		c := &d.containers[i]
		for _, p := range []struct {
			name  string
			probe **corev1.Probe
		}{
			{".livenessProbe", &c.LivenessProbe}, {".readinessProbe", &c.ReadinessProbe}, {".startupProbe", &c.StartupProbe},
		} {
			if *p.probe != nil {
				*p.probe = (*p.probe).DeepCopy()
				handler(c, p.name, (*p.probe).HTTPGet, (*p.probe).TCPSocket)
			}
		}
		if c.Lifecycle != nil {
			c.Lifecycle = c.Lifecycle.DeepCopy()
			if h := c.Lifecycle.PostStart; h != nil {
				handler(c, ".lifecycle.postStart", h.HTTPGet, h.TCPSocket)
			}
			if h := c.Lifecycle.PreStop; h != nil {
				handler(c, ".lifecycle.preStop", h.HTTPGet, h.TCPSocket)
			}
		}
	}
	return out
}

// repairsAddedCapabilities takes away every added capability but the one that all
// levels allow.
func repairsAddedCapabilities(d *draft) []repair {
	var out []repair
	for i := range d.containers {
		c := &d.containers[i]
		add := c.SecurityContext.Capabilities.Add
		if len(add) == 0 {
			continue
		}
		cut := newCuts(&c.SecurityContext.Capabilities.Add)
		for j, name := range add {
			if name != "NET_BIND_SERVICE" {
				out = append(out, repair{
					edit: cut.without(j), container: c,
					field: c.path() + ".securityContext.capabilities.add[" + strconv.Itoa(j) + "]",
					item:  string(name), now: jsonText(string(name)),
					fix: Fix{Op: FixRemove},
				})
			}
		}
	}
	return out
}

func repairsRestrictedCapabilities(d *draft) []repair {
	out := repairsAddedCapabilities(d)
	for i := range d.containers {
		c := &d.containers[i]
		drop := &c.SecurityContext.Capabilities.Drop
		if slices.Contains(*drop, "ALL") {
			continue
		}
		now := jsonText(nil)
		if len(*drop) > 0 {
			now = jsonText(*drop)
		}
		out = append(out, repair{
			edit: assign(drop, []corev1.Capability{"ALL"}), container: c,
			field: c.path() + ".securityContext.capabilities.drop", now: now,
			fix: Fix{Op: FixSet, Value: jsonText([]string{"ALL"})},
		})
	}
	return out
}

func repairsProcMount(d *draft) []repair {
	var out []repair
	for i := range d.containers {
		c := &d.containers[i]
		if p := &c.SecurityContext.ProcMount; *p != nil && **p != corev1.DefaultProcMount {
			out = append(out, repair{
				edit: assign(p, new(corev1.DefaultProcMount)), container: c,
				field: c.path() + ".securityContext.procMount", now: jsonText(**p),
				fix: Fix{Op: FixSet, Value: jsonText(corev1.DefaultProcMount)},
			})
		}
	}
	return out
}

func repairsAppArmor(d *draft) []repair {
	var out []repair
	profile := func(c *containerRef, prefix string, leaf **corev1.AppArmorProfile) {
		if *leaf != nil {
			out = append(out, repair{
				edit:      assign(leaf, &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}),
				container: c, field: prefix + ".securityContext.appArmorProfile.type", now: jsonText((*leaf).Type),
				fix: Fix{Op: FixSet, Value: jsonText(corev1.AppArmorProfileTypeRuntimeDefault)},
			})
		}
	}
	profile(nil, "spec", &d.podContext.AppArmorProfile)
	for i := range d.containers {
		profile(&d.containers[i], d.containers[i].path(), &d.containers[i].SecurityContext.AppArmorProfile)
	}
	return append(out, repairsAnnotations(d, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix)...)
}

// repairsAnnotations sets every annotation that starts with prefix to the
// runtime's own profile.
func repairsAnnotations(d *draft, prefix string) []repair {
	const value = "runtime/default"
	var out []repair
	for _, key := range slices.Sorted(maps.Keys(d.meta.Annotations)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		r := repair{
			edit:  &annotation{d, key, value, d.meta.Annotations[key]},
			field: "metadata.annotations[" + key + "]", now: jsonText(d.meta.Annotations[key]),
			fix: Fix{Op: FixSet, Value: jsonText(value)},
		}
		for i := range d.containers {
			if prefix+d.containers[i].Name == key {
				r.container = &d.containers[i]
			}
		}
		out = append(out, r)
	}
	return out
}

func repairsSELinux(d *draft) []repair {
	var out []repair
	options := func(c *containerRef, prefix string, leaf **corev1.SELinuxOptions) {
		if *leaf == nil {
			return
		}
		for _, f := range []struct {
			name string
			leaf *string
		}{{"type", &(*leaf).Type}, {"user", &(*leaf).User}, {"role", &(*leaf).Role}} {
			if *f.leaf != "" {
				out = append(out, repair{
					edit: assign(f.leaf, ""), container: c,
					field: prefix + ".securityContext.seLinuxOptions." + f.name, now: jsonText(*f.leaf),
					fix: Fix{Op: FixRemove},
				})
			}
		}
	}
	options(nil, "spec", &d.podContext.SELinuxOptions)
	for i := range d.containers {
		options(&d.containers[i], d.containers[i].path(), &d.containers[i].SecurityContext.SELinuxOptions)
	}
	return out
}

const (
	seccompPodAnnotation       = "seccomp.security.alpha.kubernetes.io/pod"
	seccompContainerAnnotation = "container.seccomp.security.alpha.kubernetes.io/"
)

func repairSeccomp(c *containerRef, prefix string, leaf **corev1.SeccompProfile) repair {
	now := jsonText(nil)
	if *leaf != nil {
		now = jsonText((*leaf).Type)
	}
	return repair{
		edit:      assign(leaf, &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}),
		container: c, field: prefix + ".securityContext.seccompProfile.type", now: now,
		fix: Fix{Op: FixSet, Value: jsonText(corev1.SeccompProfileTypeRuntimeDefault)},
	}
}

func repairsSeccomp(d *draft) []repair {
	out := []repair{repairSeccomp(nil, "spec", &d.podContext.SeccompProfile)}
	for i := range d.containers {
		if c := &d.containers[i]; c.SecurityContext.SeccompProfile != nil {
			out = append(out, repairSeccomp(c, c.path(), &c.SecurityContext.SeccompProfile))
		}
	}
	out = append(out, repairsAnnotations(d, seccompPodAnnotation)...)
	return append(out, repairsAnnotations(d, seccompContainerAnnotation)...)
}

func repairsSysctls(d *draft) []repair {
	sysctls := d.podContext.Sysctls
	cut := newCuts(&d.podContext.Sysctls)
	out := make([]repair, 0, len(sysctls))
	for i, s := range sysctls {
		out = append(out, repair{
			edit: cut.without(i), field: "spec.securityContext.sysctls[" + strconv.Itoa(i) + "]",
			item: s.Name, now: jsonText(s), fix: Fix{Op: FixRemove},
		})
	}
	return out
}

func repairsWindowsHostProcess(d *draft) []repair {
	var out []repair
	options := func(c *containerRef, prefix string, leaf **corev1.WindowsSecurityContextOptions) {
		if *leaf == nil || (*leaf).HostProcess == nil || !*(*leaf).HostProcess {
			return
		}
		out = append(out, repair{
			edit: assign(&(*leaf).HostProcess, new(false)), container: c,
			field: prefix + ".securityContext.windowsOptions.hostProcess", now: jsonText(true),
			fix: Fix{Op: FixSet, Value: jsonText(false)},
		})
	}
	options(nil, "spec", &d.podContext.WindowsOptions)
	for i := range d.containers {
		options(&d.containers[i], d.containers[i].path(), &d.containers[i].SecurityContext.WindowsOptions)
	}
	return out
}

func repairsPrivilegeEscalation(d *draft) []repair {
	var out []repair
	for i := range d.containers {
		c := &d.containers[i]
		p := &c.SecurityContext.AllowPrivilegeEscalation
		if *p != nil && !**p {
			continue
		}
		out = append(out, repair{
			edit: assign(p, new(false)), container: c,
			field: c.path() + ".securityContext.allowPrivilegeEscalation", now: jsonText(*p),
			fix: Fix{Op: FixSet, Value: jsonText(false)},
		})
	}
	return out
}

func repairsRunAsNonRoot(d *draft) []repair {
	const note = "the image must start as a user other than root"
	pod := &d.podContext.RunAsNonRoot
	out := []repair{{
		edit: assign(pod, new(true)), field: "spec.securityContext.runAsNonRoot", now: jsonText(*pod),
		fix: Fix{Op: FixSet, Value: jsonText(true), Note: note},
	}}
	for i := range d.containers {
		c := &d.containers[i]
		if p := &c.SecurityContext.RunAsNonRoot; *p != nil {
			out = append(out, repair{
				edit: assign(p, new(true)), container: c,
				field: c.path() + ".securityContext.runAsNonRoot", now: jsonText(*p),
				fix: Fix{Op: FixSet, Value: jsonText(true), Note: note},
			})
		}
	}
	return out
}

func repairsRunAsUser(d *draft) []repair {
	var out []repair
	user := func(c *containerRef, prefix string, leaf **int64) {
		if *leaf != nil && **leaf == 0 {
			out = append(out, repair{
				edit: assign(leaf, new(nonRootUID)), container: c,
				field: prefix + ".securityContext.runAsUser", now: jsonText(**leaf),
				fix: Fix{Op: FixSet, Value: jsonText(nonRootUID), Note: "any UID but 0; the files that the program writes must be open to it"},
			})
		}
	}
	user(nil, "spec", &d.podContext.RunAsUser)
	for i := range d.containers {
		user(&d.containers[i], d.containers[i].path(), &d.containers[i].SecurityContext.RunAsUser)
	}
	return out
}
