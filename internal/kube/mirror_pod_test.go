package kube

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// crowdPods are the pods of a crowd as they come from a server, each in memory of its
// own.
func crowdPods(tb testing.TB, crowd kubetest.Crowd, visit func(*corev1.Pod)) {
	tb.Helper()
	for d := range crowd.Deployments {
		set := crowd.ReplicaSet(crowd.Deployment(d), d, crowd.ReplicaSets-1)
		for n := range crowd.Pods {
			p := crowd.Pod(set, d, n)
			p.UID = types.UID(fmt.Sprintf("0d2f9a3e-0000-4000-8000-%012d", d*1000+n))
			p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(fmt.Sprintf(`{"f:status":{"f:podIP":{},"n":%d}}`, n))}}
			p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", ContainerStatuses: []corev1.ContainerStatus{
				{Name: "app", ImageID: "sha256:1234", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}, {Name: "proxy"},
			}}
			bytes, err := p.Marshal()
			if err != nil {
				tb.Fatal(err)
			}
			var fresh corev1.Pod
			if err := fresh.Unmarshal(bytes); err != nil {
				tb.Fatal(err)
			}
			visit(&fresh)
		}
	}
}

// size is how many values there are.
func (in *intern[T]) size() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.by)
}

func newPods(cutter *podCutter) *stock[pod] {
	return &stock[pod]{cut: cutter.cut, same: samePod, tell: func(string, string) {}, complete: func() {}}
}

func TestPodsOfOneTemplateShareIt(t *testing.T) {
	t.Parallel()
	cutter := &podCutter{}
	pods := newPods(cutter)
	crowd := kubetest.Crowd{Namespaces: 2, Deployments: 10, ReplicaSets: 1, Pods: 7}
	want := map[string]*corev1.Pod{}
	crowdPods(t, crowd, func(p *corev1.Pod) {
		want[p.Name] = cutForReading(p)
		if err := pods.Add(p); err != nil {
			t.Fatal(err)
		}
	})
	if specs, looks := cutter.specs.size(), cutter.looks.size(); specs != 10 || looks != 10 {
		t.Errorf("%d specs and %d looks of 10 templates", specs, looks)
	}
	comeBack(t, pods, want)

	// What no pod has any more is let go.
	pods.empty()
	for range 50 {
		runtime.GC()
		if cutter.specs.size() == 0 && cutter.looks.size() == 0 {
			return
		}
	}
	t.Errorf("%d specs and %d looks of no pods", cutter.specs.size(), cutter.looks.size())
}

func comeBack(t *testing.T, pods *stock[pod], want map[string]*corev1.Pod) {
	t.Helper()
	list := pods.list("")
	for _, k := range list {
		if got := k.value.whole(k.namespace, k.name); !equality.Semantic.DeepEqual(got, want[k.name]) {
			t.Errorf("%s came back as\n%v, want\n%v", k.name, got, want[k.name])
		}
	}
	if len(list) != len(want) {
		t.Errorf("%d pods, want %d", len(list), len(want))
	}
}

func TestPodsWithUnusualVolumesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	token := func(name string) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}}
	}
	mounts := []corev1.VolumeMount{{Name: "kube-api-access-abcde", MountPath: tokenMount}, {Name: "x", MountPath: "/x"}}
	for name, spec := range map[string]corev1.PodSpec{
		"no volumes": {Containers: []corev1.Container{{Name: "c"}}},
		"two tokens": {Volumes: []corev1.Volume{token("kube-api-access-abcde"), token("kube-api-access-fghij")}, Containers: []corev1.Container{{Name: "c", VolumeMounts: mounts}}},
		"all kinds of containers": {
			Volumes:             []corev1.Volume{token("kube-api-access-abcde")},
			InitContainers:      []corev1.Container{{Name: "i", VolumeMounts: mounts}},
			Containers:          []corev1.Container{{Name: "c", VolumeMounts: mounts}, {Name: "d"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", VolumeMounts: mounts}}},
		},
		"a name that only looks so": {Volumes: []corev1.Volume{{Name: "kube-api-access-mine"}}, Containers: []corev1.Container{{Name: "c"}}},
		"an affinity of its own": {Hostname: "web-0", NodeName: "n", Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name"}}}}},
		}}},
		"an affinity of all": {Affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutter := &podCutter{}
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: spec}
			kept, err := cutter.cut(p.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got := kept.whole("ns", "p"); !equality.Semantic.DeepEqual(got, p) {
					t.Errorf("came back as\n%v, want\n%v", got, p)
				}
			}
		})
	}
}

// heap is what is in use.
func heap() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMirrorMemory holds 10,000 pods of 2,000 workloads, and says how many bytes
// of memory each takes. The aim is 60 MiB for all.
func BenchmarkMirrorMemory(b *testing.B) {
	crowd := kubetest.Crowd{Namespaces: 50, Deployments: 2000, ReplicaSets: 1, Pods: 5}
	for b.Loop() {
		before := heap()
		pods := newPods(&podCutter{})
		crowdPods(b, crowd, func(p *corev1.Pod) {
			if err := pods.Add(p); err != nil {
				b.Fatal(err)
			}
		})
		used := float64(heap() - before)
		b.ReportMetric(used/float64(len(pods.list(""))), "B/pod")
		b.ReportMetric(used/(1<<20), "MiB")
	}
}

// BenchmarkMirrorPod cuts a pod and puts it together again.
func BenchmarkMirrorPod(b *testing.B) {
	var one *corev1.Pod
	crowdPods(b, kubetest.Crowd{Namespaces: 1, Deployments: 1, ReplicaSets: 1, Pods: 1}, func(p *corev1.Pod) { one = p })
	cutter := &podCutter{}
	kept, err := cutter.cut(one.DeepCopy())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("cut", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := cutter.cut(one); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			kept.whole("ns", "p")
		}
	})
}
