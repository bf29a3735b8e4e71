package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// fleet are nodes, and what a cluster does with the pods of DaemonSets on them.
type fleet struct {
	server    *kubetest.Server
	namespace string
	// pods says what becomes of a node's pod; a node that is not in it gets none.
	pods map[string]corev1.PodStatus
	logs map[string]string

	mu   sync.Mutex
	sets []*appsv1.DaemonSet
}

func newFleet(t *testing.T, nodes map[string]string, labels map[string]string) *fleet {
	t.Helper()
	f := &fleet{server: live.Server(t), pods: map[string]corev1.PodStatus{}, logs: map[string]string{}}
	f.namespace = f.server.Namespace(t, labels)
	kubelet := &kubetest.Kubelet{Logs: func(_, pod, _ string) (string, error) { return f.logs[pod], nil }}
	kubelet.Start(t)
	for node, status := range nodes {
		f.server.ApplyYAML(t, fmt.Sprintf("{apiVersion: v1, kind: Node, metadata: {name: %s}, status: {%s}}", f.node(node), status))
		kubelet.Serve(t, f.server, f.node(node))
	}
	return f
}

func (f *fleet) node(name string) string { return f.namespace + "-" + name }

// run does the work of the DaemonSet controller until the test ends.
func (f *fleet) run(t *testing.T) {
	t.Helper()
	client := f.server.Client()
	sets, err := client.AppsV1().DaemonSets(f.namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range sets.ResultChan() {
			set, ok := event.Object.(*appsv1.DaemonSet)
			if !ok || event.Type != "ADDED" || set.Annotations["ignore"] != "" {
				continue
			}
			f.mu.Lock()
			f.sets = append(f.sets, set)
			f.mu.Unlock()
			for node, status := range f.pods {
				if err := f.start(t.Context(), set, node, status); err != nil && t.Context().Err() == nil {
					t.Errorf("pod of node %s: %v", node, err)
				}
			}
		}
	}()
	t.Cleanup(func() {
		sets.Stop()
		<-done
	})
}

func (f *fleet) start(ctx context.Context, set *appsv1.DaemonSet, node string, status corev1.PodStatus) error {
	pod := &corev1.Pod{ObjectMeta: *set.Spec.Template.ObjectMeta.DeepCopy(), Spec: *set.Spec.Template.Spec.DeepCopy()}
	pod.Name = node
	pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{
			Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{f.node(node)},
		}}}},
	}}}
	if len(status.ContainerStatuses) > 0 {
		pod.Spec.NodeName = f.node(node)
	}
	pods := f.server.Client().CoreV1().Pods(f.namespace)
	made, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = status
	_, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// left are the names of the DaemonSets that exist now.
func (f *fleet) left(t *testing.T) []string {
	t.Helper()
	list, err := f.server.Client().AppsV1().DaemonSets(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names
}

func (f *fleet) probe(t *testing.T, change func(*ProbeOptions)) *NodeProbe {
	t.Helper()
	opts := ProbeOptions{Image: "registry.invalid/escape-scanner:1", Namespace: f.namespace, Timeout: 30 * time.Second, Poll: 20 * time.Millisecond}
	if change != nil {
		change(&opts)
	}
	probe, err := NewNodeProbe(opts)
	if err != nil {
		t.Fatal(err)
	}
	return probe
}

func ended(code int32) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
}

func running(states ...corev1.ContainerState) corev1.PodStatus {
	status := corev1.ContainerStatus{Name: probeContainer, State: states[0]}
	if len(states) > 1 {
		status.LastTerminationState = states[1]
	}
	return corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{status}}
}

func report(t *testing.T, kernelVersion string) string {
	t.Helper()
	text, err := json.MarshalIndent(kernel.Machine{
		Node: "a pod's host name", Time: time.Now(), Kernel: kernelVersion,
		BPFListed: kernel.Yes, Loads: kernel.Unknown, Conclusion: kernel.Yes, Reason: "bpf is listed",
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLiveProbeNodes(t *testing.T) {
	f := newFleet(t, map[string]string{
		"good": "", "again": "", "warned": "", "pull": "", "full": "", "garbage": "", "slow": "", "nopod": "",
		"windows":  "nodeInfo: {operatingSystem: windows, architecture: amd64, bootID: '', containerRuntimeVersion: '', kernelVersion: '', kubeProxyVersion: '', kubeletVersion: '', machineID: '', osImage: '', systemUUID: ''}",
		"notready": "conditions: [{type: Ready, status: Unknown, reason: NodeStatusUnknown, message: Kubelet stopped posting node status.}]",
	}, nil)
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	f.pods = map[string]corev1.PodStatus{
		"good":    running(ended(0)),
		"again":   running(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, ended(1)),
		"warned":  running(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, ended(0)),
		"garbage": running(ended(2)),
		"pull":    running(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such host"}}),
		"full": {Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "Insufficient memory",
		}}},
		"slow": {Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{Name: probeContainer, State: waiting}}},
	}
	f.logs = map[string]string{
		"good": report(t, "6.1.0"), "again": report(t, "6.2.0"), "warned": "warning: {odd}\n" + report(t, "6.3.0"), "garbage": "unknown command \"node\"\n",
	}
	f.run(t)
	cluster := liveCluster(t, f.server, Options{})
	var nodes []string
	for _, name := range []string{"good", "again", "warned", "pull", "full", "garbage", "slow", "nopod", "windows", "notready", "gone"} {
		nodes = append(nodes, f.node(name))
	}
	probe := f.probe(t, func(o *ProbeOptions) { o.Timeout = 3 * time.Second })
	reports, why, err := cluster.ProbeNodes(t.Context(), probe, nodes)
	if err != nil {
		t.Fatal(err)
	}
	for name, version := range map[string]string{"good": "6.1.0", "again": "6.2.0", "warned": "6.3.0"} {
		if m := reports[f.node(name)]; m == nil || m.Kernel != version || m.Node != f.node(name) || why[f.node(name)] != "" {
			t.Errorf("%s: %+v, want kernel %s", name, m, version)
		}
	}
	for name, words := range map[string][]string{
		"pull": {"ImagePullBackOff", "no such host"}, "full": {"cannot be scheduled", "Insufficient memory"},
		"garbage": {"no report", "unknown command", "exit code 2"}, "slow": {"no report within 3s", "ContainerCreating"},
		"nopod": {"no pod of the check was started"}, "windows": {"windows"}, "notready": {"not ready", "Kubelet stopped posting"},
		"gone": {"no such node"},
	} {
		for _, word := range words {
			if !strings.Contains(why[f.node(name)], word) {
				t.Errorf("%s: %q, want %q in it", name, why[f.node(name)], word)
			}
		}
	}
	if len(reports)+len(why) != len(nodes) {
		t.Errorf("%d reports and %d reasons for %d nodes", len(reports), len(why), len(nodes))
	}
	if left := f.left(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sets) != 1 {
		t.Fatalf("%d DaemonSets were made", len(f.sets))
	}
	wantManifest(t, probe, f.sets[0])
}

// wantManifest compares what was shown before with what was made.
func wantManifest(t *testing.T, probe *NodeProbe, made *appsv1.DaemonSet) {
	t.Helper()
	text, err := probe.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	shown := &appsv1.DaemonSet{}
	if err := yaml.UnmarshalStrict(text, shown); err != nil {
		t.Fatal(err)
	}
	pod, got := shown.Spec.Template.Spec, made.Spec.Template.Spec
	if shown.Name != made.Name || shown.Namespace != made.Namespace || !maps.Equal(shown.Labels, made.Labels) ||
		len(pod.Containers) != 1 || !slices.Equal(pod.Containers[0].Args, got.Containers[0].Args) ||
		pod.Containers[0].SecurityContext.String() != got.Containers[0].SecurityContext.String() || len(pod.Volumes) != len(got.Volumes) {
		t.Errorf("shown:\n%s\nmade: %+v", text, made)
	}
	for _, mount := range got.Containers[0].VolumeMounts {
		if !mount.ReadOnly {
			t.Errorf("%s is not read-only", mount.MountPath)
		}
	}
	if got.AutomountServiceAccountToken == nil || *got.AutomountServiceAccountToken || got.HostPID || got.HostNetwork || got.HostIPC {
		t.Errorf("the pod has more than it needs: %+v", got)
	}
}

func TestLiveProbeNodesCleansUp(t *testing.T) {
	setup := func(t *testing.T) *fleet {
		f := newFleet(t, map[string]string{"a": ""}, nil)
		f.pods["a"] = corev1.PodStatus{Phase: corev1.PodPending}
		return f
	}
	t.Run("when it is interrupted", func(t *testing.T) {
		f := setup(t)
		f.run(t)
		ctx, cancel := context.WithCancel(t.Context())
		proxy := kubetest.NewProxy(t, f.server.Config(), func(r *http.Request) kubetest.Action {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods") {
				cancel()
			}
			return kubetest.Pass()
		})
		_, _, err := clusterOf(t, proxy.Config()).ProbeNodes(ctx, f.probe(t, nil), []string{f.node("a")})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that it was cancelled", err)
		}
		if left := f.left(t); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("when the answer to the creation is lost", func(t *testing.T) {
		f := setup(t)
		f.run(t)
		proxy := kubetest.NewProxy(t, f.server.Config(), func(r *http.Request) kubetest.Action {
			if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/daemonsets") {
				return kubetest.CutAfter(0)
			}
			return kubetest.Pass()
		})
		_, _, err := clusterOf(t, proxy.Config()).ProbeNodes(t.Context(), f.probe(t, nil), []string{f.node("a")})
		if err == nil {
			t.Error("no error")
		}
		eventually(t, "it was made", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.sets) == 1
		})
		if left := f.left(t); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	t.Run("or says that it could not", func(t *testing.T) {
		f := setup(t)
		user := f.server.User(t, "probe-no-delete")
		f.server.Allow(t, "probe-no-delete", "", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}})
		f.server.Allow(t, "probe-no-delete", f.namespace,
			rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, Verbs: []string{"create"}},
			rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}})
		probe := f.probe(t, func(o *ProbeOptions) { o.Timeout = 100 * time.Millisecond })
		_, why, err := clusterOf(t, user).ProbeNodes(t.Context(), probe, []string{f.node("a")})
		left := f.left(t)
		if len(left) != 1 || err == nil || !strings.Contains(err.Error(), "kubectl delete daemonset -n "+f.namespace+" "+left[0]) || !apierrors.IsForbidden(err) {
			t.Errorf("%v, with %v left behind", err, left)
		}
		if why[f.node("a")] == "" {
			t.Errorf("no reason for the node: %v", why)
		}
	})
	t.Run("what earlier runs left behind, and nothing else", func(t *testing.T) {
		f := setup(t)
		f.pods["a"], f.logs["a"] = running(ended(0)), report(t, "6.1.0")
		old := func(name, lifetime string, labels map[string]string) {
			set := f.probe(t, nil).set.DeepCopy()
			set.Name, set.Labels = name, labels
			set.Annotations = map[string]string{lifetimeAnnotation: lifetime, "ignore": "yes"}
			if _, err := f.server.Client().AppsV1().DaemonSets(f.namespace).Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		old(probePrefix+"over", "-1s", probeLabels())
		old(probePrefix+"under-way", "1h", probeLabels())
		old(probePrefix+"no-lifetime", "", probeLabels())
		old(probePrefix+"of-others", "-1s", nil)
		old("another-name", "-1s", probeLabels())
		f.run(t)
		var notes []string
		probe := f.probe(t, func(o *ProbeOptions) { o.Note = func(s string) { notes = append(notes, s) } })
		if reports, why, err := liveCluster(t, f.server, Options{}).ProbeNodes(t.Context(), probe, []string{f.node("a")}); err != nil || len(reports) != 1 {
			t.Errorf("%v, %v, %v", reports, why, err)
		}
		want := []string{"another-name", probePrefix + "no-lifetime", probePrefix + "of-others", probePrefix + "under-way"}
		if left := f.left(t); !slices.Equal(left, want) {
			t.Errorf("left: %v, want %v", left, want)
		}
		if len(notes) != 1 || !strings.Contains(notes[0], probePrefix+"over") {
			t.Errorf("notes: %q", notes)
		}
	})
}

func clusterOf(t *testing.T, config *rest.Config) *Cluster {
	t.Helper()
	cluster, err := NewCluster(config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func TestLiveProbeNodesWhereItMayNot(t *testing.T) {
	t.Run("the namespace refuses such pods", func(t *testing.T) {
		f := newFleet(t, map[string]string{"a": ""}, map[string]string{"pod-security.kubernetes.io/enforce": "baseline"})
		_, _, err := liveCluster(t, f.server, Options{}).ProbeNodes(t.Context(), f.probe(t, nil), []string{f.node("a")})
		if err == nil || !strings.Contains(err.Error(), "does not admit") || !strings.Contains(err.Error(), "hostPath") {
			t.Errorf("%v, want that PodSecurity refuses hostPath volumes", err)
		}
	})
	t.Run("the user may make no DaemonSet", func(t *testing.T) {
		f := newFleet(t, map[string]string{"a": ""}, nil)
		user := f.server.User(t, "probe-nobody")
		f.server.Allow(t, "probe-nobody", "", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}})
		_, _, err := clusterOf(t, user).ProbeNodes(t.Context(), f.probe(t, nil), []string{f.node("a")})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "create DaemonSet") || strings.Contains(err.Error(), "left behind") {
			t.Errorf("%v, want forbidden, and that nothing is left behind", err)
		}
	})
	t.Run("no node is left to check", func(t *testing.T) {
		f := newFleet(t, nil, nil)
		reports, why, err := liveCluster(t, f.server, Options{}).ProbeNodes(t.Context(), f.probe(t, nil), []string{f.node("gone")})
		if err != nil || len(reports) != 0 || len(why) != 1 {
			t.Errorf("%v, %v, %v", reports, why, err)
		}
	})
}

func TestNodeProbePodIsAsSmallAsItCanBe(t *testing.T) {
	if _, err := NewNodeProbe(ProbeOptions{Image: " "}); err == nil {
		t.Error("no image was taken for one")
	}
	for _, load := range []bool{false, true} {
		probe, err := NewNodeProbe(ProbeOptions{Image: "i", Load: load})
		if err != nil {
			t.Fatal(err)
		}
		container := probe.set.Spec.Template.Spec.Containers[0]
		caps := container.SecurityContext.Capabilities
		if !slices.Equal(caps.Drop, []corev1.Capability{"ALL"}) || (len(caps.Add) > 0) != load || container.SecurityContext.Privileged != nil {
			t.Errorf("load %v: capabilities %+v", load, caps)
		}
		if !slices.Contains(container.Args, fmt.Sprintf("--load=%v", load)) {
			t.Errorf("load %v: %q", load, container.Args)
		}
	}
}

func TestDecodeReport(t *testing.T) {
	good := report(t, "6.1.0")
	if m, err := decodeReport([]byte(good + "\nafterwards\n")); err != nil || m.Kernel != "6.1.0" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, text := range []string{"", "{}", "no", "{", good[:len(good)/2], "x " + strings.ReplaceAll(good, "\n", " "), `{"time": "2026-11-22T11:00:00Z", "conclusion": "maybe"}`, strings.Repeat("{", 1<<16)} {
		if m, err := decodeReport([]byte(text)); err == nil {
			t.Errorf("%.40q: %+v", text, m)
		}
	}
}
