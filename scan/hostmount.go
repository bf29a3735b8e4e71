package scan

import (
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostMount is one path of the host in one container, or a hostPath volume that
// no container mounts.
type hostMount struct {
	// path is the host's, cleaned, with the mount's subPath, and with /var/run as
	// /run, which it links to on every current distribution.
	path     string
	readOnly bool
	// shallow is true when only the top of a read-only mount is: what is mounted
	// below it on the host stays writable.
	shallow bool
	// at is the path in the container.
	at     string
	volume *corev1.Volume
	index  int
	// container is nil when no container mounts the volume.
	container *containerRef
	mount     int
}

// hostMounts lists every mount of a hostPath volume.
func hostMounts(d *draft) []hostMount {
	var mounts []hostMount
	for i := range d.spec.Volumes {
		v := &d.spec.Volumes[i]
		if v.HostPath == nil {
			continue
		}
		used := false
		for k := range d.containers {
			c := &d.containers[k]
			for n := range c.VolumeMounts {
				m := &c.VolumeMounts[n]
				if m.Name != v.Name {
					continue
				}
				used = true
				mounts = append(mounts, hostMount{
					path: hostPathOf(v.HostPath.Path, m.SubPath), at: m.MountPath,
					readOnly: m.ReadOnly, shallow: m.ReadOnly && !recursivelyReadOnly(m),
					volume: v, index: i, container: c, mount: n,
				})
			}
		}
		if !used {
			mounts = append(mounts, hostMount{path: hostPathOf(v.HostPath.Path, ""), volume: v, index: i})
		}
	}
	return mounts
}

func recursivelyReadOnly(m *corev1.VolumeMount) bool {
	return m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled
}

// hostPathOf is the path on the host that a mount shows. A subPathExpr is not
// known before the container starts, so the whole volume is assumed.
func hostPathOf(volume, subPath string) string {
	p := path.Clean("/" + volume)
	if subPath != "" {
		// Cleaning below the root keeps ".." from leaving the volume.
		p = path.Join(p, path.Clean("/"+subPath))
	}
	if p == "/var/run" || strings.HasPrefix(p, "/var/run/") {
		p = strings.TrimPrefix(p, "/var")
	}
	return p
}

// inside reports whether the mounted path is dir or lies below it.
func (m *hostMount) inside(dir string) bool {
	return m.path == dir || strings.HasPrefix(m.path, dir+"/")
}

// shows reports whether the mounted path is target or a folder above it, the root
// left out: a mount of the root has a row of its own.
func (m *hostMount) shows(target string) bool {
	return m.path == target || (m.path != "/" && strings.HasPrefix(target, m.path+"/"))
}

func (m *hostMount) touches(target string) bool { return m.inside(target) || m.shows(target) }

// isDevice reports whether the mount is a device node or the folder of them.
func (m *hostMount) isDevice() bool {
	if t := m.volume.HostPath.Type; t != nil && (*t == corev1.HostPathBlockDev || *t == corev1.HostPathCharDev) {
		return true
	}
	return m.inside("/dev") && !m.inside("/dev/shm") && !m.inside("/dev/hugepages") && !m.inside("/dev/log")
}

// repair takes the hostPath away: the volume becomes an emptyDir.
func (m *hostMount) repair() repair {
	r := repair{
		edit:      assign(&m.volume.VolumeSource, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}),
		container: m.container,
		field:     "spec.volumes[" + strconv.Itoa(m.index) + "].hostPath", item: m.volume.Name,
		now: jsonText(m.volume.HostPath),
		fix: Fix{Op: FixRemove, Note: "the volume becomes an emptyDir; for data that must be kept use a persistentVolumeClaim or csi volume"},
	}
	if m.container != nil {
		r.related = []string{m.container.path() + ".volumeMounts[" + strconv.Itoa(m.mount) + "]"}
	}
	return r
}

// means describes the mount for a finding's message.
func (m *hostMount) means() string {
	switch {
	case m.container == nil:
		return "names the host's " + m.path + ", which no container mounts"
	case m.shallow:
		return "mounts the host's " + m.path + " at " + m.at + " read-only, without recursiveReadOnly: what is mounted below it on the host stays writable"
	case m.readOnly:
		return "mounts the host's " + m.path + " at " + m.at + " read-only"
	default:
		return "mounts the host's " + m.path + " at " + m.at + ", writable"
	}
}
