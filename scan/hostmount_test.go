package scan

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
)

// TestHostVolume: what a pod gets of a local volume is its path, the device or the file
// system on it.
func TestHostVolume(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		source corev1.PersistentVolumeSource
		mode   *corev1.PersistentVolumeMode
		want   string
	}{
		"a folder":                      {corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/etc"}}, nil, "/etc"},
		"the file system of a device":   {corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/dev/sdb"}}, nil, ""},
		"asked for as a file system":    {corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/dev/sdb"}}, new(corev1.PersistentVolumeFilesystem), ""},
		"a device":                      {corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/dev/sdb"}}, new(corev1.PersistentVolumeBlock), "/dev/sdb"},
		"the folder of devices":         {corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/dev/"}}, nil, "/dev/"},
		"shared memory":                 {corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: "/dev/shm"}}, nil, "/dev/shm"},
		"a hostPath is what it names":   {corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/dev/sdb"}}, nil, "/dev/sdb"},
		"a volume that is not the host": {corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Path: "/etc"}}, nil, ""},
	} {
		pv := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{
			ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "c"}, VolumeMode: test.mode, PersistentVolumeSource: test.source,
		}}
		claim, path, ok := HostVolume(pv)
		if path != test.want || ok != (test.want != "") || claim != (Claim{"shop", "c"}) {
			t.Errorf("%s: %v, %q, %v, want %q", name, claim, path, ok, test.want)
		}
	}
}

// TestClaimsOfTheHost: a device that a container is given is no volume that nobody
// mounts, and an ephemeral volume has a claim too.
func TestClaimsOfTheHost(t *testing.T) {
	t.Parallel()
	claimed := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}
	ephemeral := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{}}}}
	device := corev1.Container{Name: "app", Image: "x", VolumeDevices: []corev1.VolumeDevice{{Name: "v", DevicePath: "/dev/xvda"}}}
	mount := corev1.Container{Name: "app", Image: "x", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/d"}}}
	for name, test := range map[string]struct {
		volume                           corev1.Volume
		container                        corev1.Container
		path, rule, field, related, told string
	}{
		"a device":            {claimed, device, "/dev/sda", "escape-host-dev", "spec.volumes[0].persistentVolumeClaim", "volumeDevices[0]", "as the device /dev/xvda"},
		"an ephemeral volume": {ephemeral, mount, "/usr/lib", "escape-host-system", "spec.volumes[0].ephemeral", "volumeMounts[0]", "at /d, writable"},
	} {
		pod := Pod{
			Meta: podOf(&corev1.Pod{}).Meta, HostPaths: map[string]string{"v": test.path},
			Spec: &corev1.PodSpec{Containers: []corev1.Container{test.container}, Volumes: []corev1.Volume{test.volume}},
		}
		engine, err := NewEngine(psa.LevelBaseline, psa.LatestVersion())
		if err != nil {
			t.Fatal(err)
		}
		j := engine.Judge(Trim(pod), Facts{})
		if len(j.Paths) != 1 || j.Paths[0] != test.rule {
			t.Errorf("%s: paths %v, want %s", name, j.Paths, test.rule)
			continue
		}
		f := j.Findings[0]
		if f.Field != test.field || f.Container != "app" || f.Fix == nil || len(f.Related) == 0 || !strings.HasSuffix(f.Related[0], test.related) || !strings.Contains(f.Message, test.told) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// TestClaimOf: the claim of an ephemeral volume is named for its pod.
func TestClaimOf(t *testing.T) {
	t.Parallel()
	v := &corev1.Volume{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}}
	if name, ok := ClaimOf("web-0", v); !ok || name != "web-0-scratch" {
		t.Errorf("%q, %v", name, ok)
	}
}
