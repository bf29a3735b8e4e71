package main

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volume creates a persistent volume for a claim here.
func (s liveSpace) volume(claim string, source corev1.PersistentVolumeSource) {
	s.Helper()
	volumes := s.server.Client().CoreV1().PersistentVolumes()
	name := s.name + "-" + claim
	_, err := volumes.Create(s.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeSource: source, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: s.name, Name: claim},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("volume %s: %v", name, err)
	}
	s.Cleanup(func() {
		// There is no controller to take its finalizer away.
		_, err := volumes.Patch(s.cleanup(), name, "application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil {
			s.Error(err)
		}
		if err := volumes.Delete(s.cleanup(), name, metav1.DeleteOptions{}); err != nil {
			s.Error(err)
		}
	})
}

func claiming(claim string) podChange {
	return func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	}
}

// A claim may lead to the host as a hostPath does, which the pod does not show.
func TestLiveClaimsThatLeadToTheHostDoNotHide(t *testing.T) {
	s := newLiveSpace(t)
	other := newLiveSpace(t)
	s.volume("root", corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}})
	s.volume("nfs", corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nfs.example", Path: "/"}})
	s.pod("root", claiming("root"))
	s.pod("nfs", claiming("nfs"))
	s.pod("unbound", claiming("nothing"))
	s.pod("plain")
	// A claim of that name elsewhere is another claim.
	other.pod("root", claiming("root"))

	a := liveScan(t, s.server.Config(), "--page-size", "1")
	a.wantComplete(t, exitFindings)
	want := []string{
		s.workload("Pod/root exposed 1"), s.workload("Pod/nfs closed 1"), s.workload("Pod/unbound closed 1"), s.workload("Pod/plain closed 1"),
		other.workload("Pod/root closed 1"),
	}
	slices.Sort(want)
	if got := a.rows(); !slices.Equal(got, want) {
		t.Errorf("verdicts %q, want %q", got, want)
	}

	blind := liveScan(t, userWithout(t, s.server, "live-no-volumes", "persistentvolumes"), "-n", s.name)
	blind.wantRows(t, s.name, "Pod/root unknown 1", "Pod/nfs unknown 1", "Pod/unbound unknown 1", "Pod/plain closed 1")
	if got := blind.failed(); blind.code != exitIncomplete || !slices.Equal(got, []string{"persistent volumes: forbidden"}) {
		t.Errorf("exit %d, failures %q", blind.code, got)
	}
}

// kubectl's flags of users are those of the scan.
func TestLiveAsSomebodyElse(t *testing.T) {
	s := newLiveSpace(t)
	s.pod("a")
	s.server.Allow(t, "live-as", s.name, liveRights()["pods"])
	a := liveScan(t, s.server.Config(), "--as", "live-as", "-n", s.name)
	if got := a.failed(); a.code != exitIncomplete || !slices.Contains(got, "nodes: forbidden") {
		t.Errorf("exit %d, failures %+v", a.code, a.failures)
	}
	for _, f := range a.failures {
		if !strings.Contains(f.Message, "live-as") {
			t.Errorf("not asked as the other user: %+v", f)
		}
	}
	a.wantRows(t, s.name, "Pod/a closed 1")
}
