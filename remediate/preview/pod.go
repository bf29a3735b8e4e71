package preview

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// container is one container of a pod and where it stands.
type container struct {
	*corev1.Container
	kind scan.ContainerKind
	path string
}

// containersOf are all containers of a pod: init containers, ordinary ones, ephemeral
// ones.
func containersOf(spec *corev1.PodSpec) []container {
	all := make([]container, 0, len(spec.InitContainers)+len(spec.Containers)+len(spec.EphemeralContainers))
	for i := range spec.InitContainers {
		c := container{&spec.InitContainers[i], scan.KindInit, fmt.Sprintf("spec.initContainers[%d]", i)}
		if p := c.RestartPolicy; p != nil && *p == corev1.ContainerRestartPolicyAlways {
			c.kind = scan.KindSidecar
		}
		all = append(all, c)
	}
	for i := range spec.Containers {
		all = append(all, container{&spec.Containers[i], scan.KindContainer, fmt.Sprintf("spec.containers[%d]", i)})
	}
	for i := range spec.EphemeralContainers {
		// The two types are laid out alike so that they can be converted.
		c := (*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon)
		all = append(all, container{c, scan.KindEphemeral, fmt.Sprintf("spec.ephemeralContainers[%d]", i)})
	}
	return all
}

func (c *container) privileged() bool {
	return c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
}

// readOnly tells whether the image's file system cannot be written to anyway.
func (c *container) readOnly() bool {
	s := c.SecurityContext
	return s != nil && s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem
}

// armorContainer is the container as KubeArmor's policies see it.
func (c *container) armorContainer(found map[string]map[string]string) armor.Container {
	return armor.Container{
		Name: c.Name, Image: c.Image, Kind: armor.ContainerKind(c.kind),
		Command: slices.Concat(c.Command, c.Args), Paths: found[c.Name],
	}
}

// writableMounts says where the container has volumes to write to, as "emptyDir at
// /tmp".
func (c *container) writableMounts(spec *corev1.PodSpec) []string {
	var mounts []string
	for _, m := range c.VolumeMounts {
		at := slices.IndexFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 || m.ReadOnly {
			continue
		}
		if source := writableSource(&spec.Volumes[at]); source != "" {
			mounts = append(mounts, source+" at "+m.MountPath)
		}
	}
	slices.Sort(mounts)
	return mounts
}

// writableSource names what is behind a volume that can be written to, empty where it
// cannot.
func writableSource(v *corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "emptyDir"
	case v.PersistentVolumeClaim != nil:
		return "claim " + v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return "ephemeral volume"
	case v.HostPath != nil:
		return "hostPath " + v.HostPath.Path
	case v.ConfigMap != nil, v.Secret != nil, v.DownwardAPI != nil, v.Projected != nil, v.Image != nil:
		return ""
	}
	return "volume " + v.Name
}

// list shows the first few of many.
func list(names []string) string {
	const most = 4
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

// shorten keeps a text that somebody else chose from filling a line.
func shorten(text string) string {
	const most = 120
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}

// sentences joins what is not empty.
func sentences(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
