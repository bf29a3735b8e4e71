package scan

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// hostMount is one path of the host in one container, or a volume of the host that
// no container mounts.
type hostMount struct {
	// path is the host's, as hostPathOf makes it.
	path string
	// windows is true when the path is one of Windows.
	windows  bool
	readOnly bool
	// shallow is true when only the top of a read-only mount is: what is mounted
	// below it on the host stays writable.
	shallow bool
	// at is the path in the container.
	at     string
	volume *corev1.Volume
	index  int
	// claim is true when the path lies behind a persistent volume claim.
	claim bool
	// granted is true for a device that the container gets as one, by volumeDevices.
	granted bool
	// container is nil when no container mounts the volume.
	container *containerRef
	mount     int
	draft     *draft
	// now is the volume's source as it stands in the pod.
	now json.RawMessage
}

// hostMounts lists every mount of a hostPath volume, and of a claim that is bound to
// one. It is read once: a mount whose volume was repaired since is gone.
func hostMounts(d *draft) []hostMount {
	if !d.mountsRead {
		d.mountsRead = true
		d.readHostMounts()
	}
	return d.mounts
}

// gone reports whether a repair has taken the path away.
func (m *hostMount) gone() bool {
	return m.volume.HostPath == nil && (!m.claim || m.volume.PersistentVolumeClaim == nil && m.volume.Ephemeral == nil)
}

func (d *draft) readHostMounts() {
	for i := range d.spec.Volumes {
		v := &d.spec.Volumes[i]
		from, ok := d.hostSource(v)
		if !ok {
			continue
		}
		from.volume, from.index, from.draft = v, i, d
		used := false
		for k := range d.containers {
			c := &d.containers[k]
			for n := range c.VolumeMounts {
				m := &c.VolumeMounts[n]
				if m.Name != v.Name {
					continue
				}
				used = true
				mount := from.in(c, n, m.MountPath, m.SubPath)
				mount.readOnly = from.readOnly || m.ReadOnly
				mount.shallow = mount.readOnly && !recursivelyReadOnly(m)
				d.mounts = append(d.mounts, mount)
			}
			for n := range c.VolumeDevices {
				device := &c.VolumeDevices[n]
				if device.Name != v.Name {
					continue
				}
				used = true
				mount := from.in(c, n, device.DevicePath, "")
				mount.granted = true
				d.mounts = append(d.mounts, mount)
			}
		}
		if !used {
			from.path, from.windows = hostPathOf(from.path, "")
			d.mounts = append(d.mounts, from)
		}
	}
}

// in is the mount of a volume in a container, the nth of its kind there.
func (m hostMount) in(c *containerRef, n int, at, subPath string) hostMount {
	m.path, m.windows = hostPathOf(m.path, subPath)
	m.at, m.container, m.mount = at, c, n
	return m
}

// hostSource begins a mount of the volume, if it is one of the host.
func (d *draft) hostSource(v *corev1.Volume) (hostMount, bool) {
	if v.HostPath != nil {
		return hostMount{path: v.HostPath.Path, now: jsonText(v.HostPath)}, true
	}
	p := d.pod.HostPaths[v.Name]
	switch claim := v.PersistentVolumeClaim; {
	case p == "":
	case claim != nil:
		return hostMount{path: p, now: jsonText(claim), claim: true, readOnly: claim.ReadOnly}, true
	case v.Ephemeral != nil:
		return hostMount{path: p, now: jsonText(v.Ephemeral), claim: true}, true
	}
	return hostMount{}, false
}

func recursivelyReadOnly(m *corev1.VolumeMount) bool {
	return m.RecursiveReadOnly != nil && *m.RecursiveReadOnly == corev1.RecursiveReadOnlyEnabled
}

// pathOnHost is the path on the host of a volume.
func pathOnHost(volume string) string {
	p, _ := hostPathOf(volume, "")
	return p
}

// hostPathOf is the path on the host that a mount shows: cleaned, with the mount's
// subPath, without the links that lead to the same place under another name. A
// subPathExpr is not known before the container starts, so the whole volume is
// assumed.
func hostPathOf(volume, subPath string) (p string, windows bool) {
	p, windows = unixPath(volume)
	p = path.Clean("/" + p)
	if subPath != "" {
		// Cleaning below the root keeps ".." from leaving the volume.
		p = path.Join(p, path.Clean("/"+subPath))
	}
	p = pastProc(p)
	// /var/run links to /run on every current distribution.
	if below(p, "/var/run") {
		p = strings.TrimPrefix(p, "/var")
	}
	return p, windows
}

// unixPath writes a path of Windows as one of Unix: without its drive, and in lower
// case, as Windows does not tell. A named pipe lies in /pipe.
func unixPath(p string) (unix string, windows bool) {
	drive := len(p) >= 2 && p[1] == ':' && (p[0]|0x20) >= 'a' && (p[0]|0x20) <= 'z'
	if !drive && !strings.HasPrefix(p, `\\.\`) && !strings.HasPrefix(p, "//./") {
		return p, false
	}
	return strings.ToLower(strings.ReplaceAll(p[min(len(p), 2):], `\`, "/")), true
}

// pastProc follows /proc/PID/root, which is the host's root under another name.
func pastProc(p string) string {
	for {
		rest, ok := strings.CutPrefix(p, "/proc/")
		if !ok {
			return p
		}
		pid, rest, ok := strings.Cut(rest, "/")
		if !ok || (pid != "self" && pid != "thread-self" && strings.Trim(pid, "0123456789") != "") {
			return p
		}
		if !below(rest, "root") && !below(rest, "cwd") {
			return p
		}
		_, rest, _ = strings.Cut(rest, "/")
		p = "/" + rest
	}
}

// inside reports whether the mounted path is dir or lies below it.
func (m *hostMount) inside(dir string) bool { return below(m.path, dir) }

// shows reports whether the mounted path is a place or a folder above it, the root
// left out: a mount of the root has a row of its own.
func (m *hostMount) shows(list []place) bool {
	for i := range list {
		if to := &list[i]; below(to.path, m.path) && (to.top == "" || m.inside(to.top)) {
			return true
		}
	}
	return false
}

// insideAny reports whether the mounted path is one of the places or lies in one.
func (m *hostMount) insideAny(list []place) bool {
	return slices.ContainsFunc(list, func(to place) bool { return m.inside(to.path) })
}

func (m *hostMount) touches(list []place) bool { return m.insideAny(list) || m.shows(list) }

// repair takes the hostPath away: the volume becomes an emptyDir.
func (m *hostMount) repair() repair {
	r := repair{
		edit: &emptied{m.draft, m.index}, container: m.container,
		field: volumeField(m.index, "hostPath"), item: m.volume.Name, now: m.now,
		fix: Fix{Op: FixRemove, Note: "the volume becomes an emptyDir; for data that must be kept use a persistentVolumeClaim or csi volume"},
	}
	if m.claim {
		r.field = volumeField(m.index, "persistentVolumeClaim")
		if m.volume.PersistentVolumeClaim == nil {
			r.field = volumeField(m.index, "ephemeral")
		}
		r.fix.Note = "the volume becomes an emptyDir; for data that must be kept bind the claim to a volume that is no path of the host"
	}
	if m.container != nil {
		list := ".volumeMounts["
		if m.granted {
			list = ".volumeDevices["
			r.fix.Note += "; volumeDevices become volumeMounts"
		}
		r.related = []string{m.container.path() + list + strconv.Itoa(m.mount) + "]"}
	}
	return r
}

// mountsBelow reports whether nodes have other file systems mounted below the path.
func (m *hostMount) mountsBelow() bool {
	switch m.path {
	case "/", "/run", "/var", "/var/lib", "/proc", "/sys", "/sys/fs", "/sys/kernel", "/dev":
		return true
	}
	return m.insideAny([]place{{path: "/var/lib/kubelet"}, {path: "/run/containerd"}, {path: "/var/lib/docker"}, {path: "/var/lib/containers"}}) &&
		!isRuntimeSocket(m)
}

// means describes the mount for a finding's message.
func (m *hostMount) means() string {
	what := "the host's " + m.path
	if m.claim {
		what += ", which its persistent volume is,"
	}
	switch {
	case m.container == nil:
		return "names " + what + ", which no container mounts"
	case m.granted:
		return "is given " + what + " as the device " + m.at
	case m.shallow && m.mountsBelow():
		return "mounts " + what + " at " + m.at + " read-only, without recursiveReadOnly: what is mounted below it on the host stays writable"
	case m.readOnly:
		return "mounts " + what + " at " + m.at + " read-only"
	default:
		return "mounts " + what + " at " + m.at + ", writable"
	}
}
