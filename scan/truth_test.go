package scan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"
)

// armed is the layered cluster with a DaemonSet of one pod with the spec.
func armed(spec corev1.PodSpec) *memory {
	m := layered()
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "web", spec)
	return m
}

// second adds a DaemonSet "other" of one pod on the node.
func (m *memory) second(node string, spec corev1.PodSpec) *corev1.Pod {
	m.has("shop", "DaemonSet/other", "", "")
	spec.NodeName = node
	m.runs(1, "shop", "oth", "DaemonSet/other", "", spec)
	return &m.pods[len(m.pods)-1]
}

// unreadClaimsCluster is a cluster whose persistent volumes may not be read.
type unreadClaimsCluster struct{ *memory }

func (unreadClaimsCluster) HostVolumes(context.Context) (map[Claim]string, error) {
	return nil, forbidden("persistentvolumes")
}

// ksp is a policy that blocks one capability.
func ksp(name, selector, capability string) string {
	return fmt.Sprintf(`{"metadata":{"namespace":"shop","name":%q},"spec":{"selector":{"matchLabels":%s},"capabilities":{"matchCapabilities":[{"capability":%q}]},"action":"Block"}}`, name, selector, capability)
}

// TestClaimsThatCouldNotBeRead: what is guarded as far as it is seen may have a way
// out that is not.
func TestClaimsThatCouldNotBeRead(t *testing.T) {
	spec := adding("SYS_ADMIN")
	spec.Volumes = []corev1.Volume{{Name: "d", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}}}
	r := &recorder{}
	if err := ScanCluster(t.Context(), unreadClaimsCluster{armed(spec)}, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, NewTally(r)); err != nil {
		t.Fatal(err)
	}
	if v := verdictOf(t, r, "agents"); v.Verdict != VerdictUnknown || v.Reason != unreadClaims {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}

// TestSandboxes: KubeArmor sees nothing of what goes on in one.
func TestSandboxes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*memory)
		want   string
	}{
		"gVisor":    {func(m *memory) { m.runtimeClasses = map[string]string{"box": "runsc"} }, "does not see into the sandbox"},
		"not known": {func(m *memory) { m.runtimeErr = forbidden("runtimeclasses") }, "is not known"},
	} {
		spec := plain()
		spec.RuntimeClassName = new("box")
		m := armed(spec)
		m.namespaces[0].Labels = map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}
		test.change(m)
		if v := verdictOf(t, scanned(t, m), "agents"); v.Verdict != VerdictClosed || !strings.Contains(v.Reason, test.want) {
			t.Errorf("%s: %s: %s", name, v.Verdict, v.Reason)
		}
	}
}

// TestPoliciesOfOneName: a folder of overlays may hold the same name twice.
func TestPoliciesOfOneName(t *testing.T) {
	m := armed(adding("SYS_ADMIN"))
	m.objects = map[schema.GroupKind][]string{kindKSP: {ksp("caps", `{"app":"a"}`, "sys_admin"), ksp("caps", `{"app":"b"}`, "sys_module")}}
	m.second("n1", adding("SYS_ADMIN")).Labels = map[string]string{"app": "b"}
	for i := range m.pods {
		if m.pods[i].Name == "web-0" && m.pods[i].OwnerReferences[0].Name == "agents" {
			m.pods[i].Labels = map[string]string{"app": "a"}
		}
	}
	r := scanned(t, m)
	if v := verdictOf(t, r, "agents"); v.Verdict != VerdictGuarded {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
	if v := verdictOf(t, r, "other"); v.Verdict != VerdictExposed {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}

// TestNodesByName: the node that is named is one where the pods run, also where
// another of its kind was asked first.
func TestNodesByName(t *testing.T) {
	m := armed(adding("SYS_ADMIN"))
	m.second("n2", adding("SYS_ADMIN"))
	l := verdictOf(t, scanned(t, m), "other").Layers
	if by := l.Paths[0].Kernel.By; l.Kernel.Worst != "n2" || len(by) != 1 || by[0] != "n2" {
		t.Errorf("worst %s, by %v", l.Kernel.Worst, by)
	}
}

// TestCellsOfDifferentPods: each cell is the worst of all pods, not of those that
// decide.
func TestCellsOfDifferentPods(t *testing.T) {
	m := layered()
	m.objects = nil
	m.blocks("shop", `{"app":"x"}`)
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "a", adding("SYS_ADMIN"))
	m.on("n3", "b", adding("SYS_ADMIN"))
	m.pods[len(m.pods)-1].Labels = map[string]string{"app": "x"}
	m.nodes = append(m.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n3", Labels: bpf()}})
	for _, p := range verdictOf(t, scanned(t, m), "agents").Layers.Paths {
		if p.Kernel.Answer != StopsNo || p.Runtime.Answer != StopsNo {
			t.Errorf("%+v", p)
		}
	}
}

// TestPodsThatEnded: where a pod ran that runs no more does not count, unless there is
// no other.
func TestPodsThatEnded(t *testing.T) {
	m := armed(adding("SYS_ADMIN"))
	m.on("gone", "zzz", adding("SYS_ADMIN"))
	m.pods[len(m.pods)-1].Status.Phase = corev1.PodFailed
	if v := verdictOf(t, scanned(t, m), "agents"); v.Verdict != VerdictGuarded {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
	for i := range m.pods {
		if m.pods[i].Name == "web-0" {
			m.pods[i].Status.Phase = corev1.PodSucceeded
		}
	}
	if v := verdictOf(t, scanned(t, m), "agents"); v.Verdict != VerdictUnknown {
		t.Errorf("all ended: %s: %s", v.Verdict, v.Reason)
	}
}

// TestCapabilityForAnother: the kernel takes SYS_ADMIN for BPF.
func TestCapabilityForAnother(t *testing.T) {
	m := armed(adding("SYS_ADMIN", "BPF"))
	m.objects = map[schema.GroupKind][]string{kindKSP: {ksp("x", "{}", "bpf")}}
	for _, p := range verdictOf(t, scanned(t, m), "agents").Layers.Paths {
		if p.State != PathOpen {
			t.Errorf("%+v", p)
		}
	}
	m.objects[kindKSP] = append(m.objects[kindKSP], ksp("y", "{}", "sys_admin"))
	if v := verdictOf(t, scanned(t, m), "agents"); v.Verdict != VerdictGuarded {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}

// TestIncompleteLowersNothing: a finding is not lowered where the verdict is unknown.
func TestIncompleteLowersNothing(t *testing.T) {
	m := armed(adding("SYS_ADMIN"))
	m.pageSize, m.podsBefore = 100, 1
	m.podsErr = map[string]error{"": errors.New("cut")}
	r := scanned(t, m)
	if v := verdictOf(t, r, "agents"); v.Verdict != VerdictUnknown {
		t.Fatalf("%s: %s", v.Verdict, v.Reason)
	}
	for _, e := range r.events {
		if f := e.Finding; f != nil && f.Rule == "escape-cap-sys-admin" && (f.Guarded || f.Severity != SeverityCritical) {
			t.Errorf("%+v", f)
		}
	}
}

// TestSameEventsEachRun: what is found for many nodes at once does not hang on which
// was first.
func TestSameEventsEachRun(t *testing.T) {
	m := layered()
	m.has("shop", "DaemonSet/agents", "", "")
	for i := range 20 {
		node := fmt.Sprintf("w%02d", i)
		m.equip(node, bpf(), i%3 != 0)
		m.on(node, "web-"+node, adding("SYS_ADMIN"))
	}
	first := scanned(t, m).jsonLines(t)
	for range 10 {
		if again := scanned(t, m).jsonLines(t); again != first {
			t.Fatal("two runs differ")
		}
	}
}

// TestUnscheduledBesideWindows: a Linux pod does not land on a node of Windows.
func TestUnscheduledBesideWindows(t *testing.T) {
	m := armed(adding("SYS_ADMIN"))
	m.nodes = append(m.nodes, corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "win"}, Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{OperatingSystem: "windows"}},
	})
	m.second("", adding("SYS_ADMIN"))
	if v := verdictOf(t, scanned(t, m), "other"); v.Verdict != VerdictGuarded {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}

// TestUnsureHalfOfARollout: what is unsure of one half does not become certain by the
// other.
func TestUnsureHalfOfARollout(t *testing.T) {
	m := armed(adding("SYS_ADMIN"))
	m.runtimeErr = forbidden("runtimeclasses")
	boxed := adding("SYS_RAWIO")
	boxed.RuntimeClassName = new("box")
	m.on("n1", "new", boxed)
	m.pods[len(m.pods)-1].Labels = map[string]string{"controller-revision-hash": "2"}
	if v := verdictOf(t, scanned(t, m), "agents"); v.Verdict != VerdictUnknown {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}

// TestNamesakes: of two containers with one name nobody knows which is meant.
func TestNamesakes(t *testing.T) {
	spec := adding("SYS_ADMIN")
	spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(spec.Containers[0])}}
	if v := verdictOf(t, scanned(t, armed(spec)), "agents"); v.Verdict != VerdictUnknown {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}
