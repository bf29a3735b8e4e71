package kube

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// reported is a report as the node probe writes it, changed.
func reported(t *testing.T, at time.Time, change func(*kernel.Machine)) string {
	t.Helper()
	m := kernel.Machine{Node: "n1", Time: at, EverySeconds: 3600, Kernel: "6.1.0", BPFListed: kernel.No, Loads: kernel.Unknown, Conclusion: kernel.No}
	if change != nil {
		change(&m)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// What a log says counts only where its pod can have said it, of its node, lately.
func TestReportsInLogs(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)
	started := now.Add(-24 * time.Hour)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "probe-x"}, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: probeContainer}}}}
	loads := func(m *kernel.Machine) { m.Loads = kernel.Yes }
	lately, long := now.Add(-time.Hour), strings.Repeat("x", 5000)
	for name, test := range map[string]struct{ log, want string }{
		"a report":                {reported(t, lately, nil), ""},
		"of the pod's host name":  {reported(t, lately, func(m *kernel.Machine) { m.Node = "probe-x" }), ""},
		"the last of several":     {reported(t, started, loads) + reported(t, lately, nil), ""},
		"behind noise":            {"warning: {\n" + reported(t, lately, nil) + "level=info\n", ""},
		"cut at the end":          {reported(t, lately, nil) + `{"node":"n1","time":"20`, ""},
		"long":                    {reported(t, lately, func(m *kernel.Machine) { m.Reason, m.Load.Error = long, long }), ""},
		"nothing":                 {"", "no report at its end"},
		"noise":                   {"hello\n", `no report at its end: "hello"`},
		"not a report":            {"{}\n", "not one of this version"},
		"another thing":           {`{"conclusion": 1}` + "\n", "no report at its end"},
		"another machine":         {reported(t, lately, func(m *kernel.Machine) { m.Node = "n2" }), `another machine, "n2"`},
		"without an interval":     {reported(t, lately, func(m *kernel.Machine) { m.EverySeconds = 0 }), "--every"},
		"of the future":           {reported(t, now.Add(time.Hour), nil), "yet to come"},
		"of another container":    {reported(t, started.Add(-time.Hour), func(m *kernel.Machine) { m.EverySeconds = 86400 }), "before its container was started"},
		"old":                     {reported(t, now.Add(-3*time.Hour), nil), "one is due every 1h0m0s"},
		"old by its own interval": {reported(t, started, func(m *kernel.Machine) { m.EverySeconds = 1 << 60 }), ""},
		"of what it cannot do":    {reported(t, lately, loads), "a BPF program that its pod may not load"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := lastLine([]byte(test.log))
			if err == nil {
				err = believe(m, pod, started, now)
			}
			switch {
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("have %v, want %q", err, test.want)
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want == "" && len(m.Reason)+len(m.Load.Error) > 2*maxAnswer+10:
				t.Errorf("texts of %d and %d bytes", len(m.Reason), len(m.Load.Error))
			}
		})
	}
	able := pod.DeepCopy()
	able.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"CAP_BPF"}}}
	if m, err := lastLine([]byte(reported(t, lately, loads))); err != nil || believe(m, able, started, now) != nil {
		t.Errorf("with the capability: %v", err)
	}
}

// The pods of the node probe are read as they are in a cluster, with no right beyond it.
func TestLiveProbeLogs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]string{"good": "", "twice": "", "bare": "", "waits": ""}, nil)
	now := time.Now()
	running := fmt.Sprintf(`{phase: Running, containerStatuses: [{name: node, image: x, imageID: "", ready: true, restartCount: 0, state: {running: {startedAt: %q}}}]}`, now.Add(-time.Minute).UTC().Format(time.RFC3339))
	const owner = `ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: probe, uid: 6a1b, controller: true}]`
	pod := func(name, node, owner, status string) {
		f.logs[name] = reported(t, now, func(m *kernel.Machine) { m.Node = f.node(node) })
		f.server.ApplyYAML(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app.kubernetes.io/part-of: escape-scanner, app.kubernetes.io/component: node-probe}, %s}
spec: {nodeName: %s, containers: [{name: node, image: x}]}
status: %s
`, name, f.namespace, owner, f.node(node), status))
	}
	pod("good", "good", owner, running)
	// What comes before the last report is long, and cuts nothing off it.
	f.logs["good"] = strings.Repeat(reported(t, now.Add(-time.Second), func(m *kernel.Machine) { m.Node, m.Reason = f.node("good"), strings.Repeat("x", 4<<10) }), 30) + f.logs["good"]
	pod("twice-a", "twice", owner, running)
	pod("twice-b", "twice", owner, running)
	pod("bare", "bare", "annotations: {}", running)
	pod("waits", "waits", owner, `{phase: Pending, containerStatuses: [{name: node, image: x, imageID: "", ready: false, restartCount: 0, state: {waiting: {reason: ImagePullBackOff}}}]}`)

	user := f.server.User(t, "probe-logs")
	f.server.Allow(t, "probe-logs", f.namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}})
	cluster, err := NewCluster(user, Options{PageSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	reports, why, err := cluster.ProbeLogs(t.Context(), f.namespace, now)
	if err != nil {
		t.Fatal(err)
	}
	m := reports[f.node("good")]
	if len(reports) != 1 || m == nil || m.Node != f.node("good") || m.Pod != f.namespace+"/good" || !m.Time.Equal(now) || m.Conclusion != kernel.No {
		t.Errorf("have %+v", reports)
	}
	for node, want := range map[string]string{"twice": "2 pods are labelled", "bare": "no DaemonSet owns it", "waits": "ImagePullBackOff"} {
		if !strings.Contains(why[f.node(node)], want) {
			t.Errorf("%s: %q", node, why[f.node(node)])
		}
	}
	if _, _, err := cluster.ProbeLogs(t.Context(), "elsewhere", now); err == nil || !strings.Contains(err.Error(), "pods of the node probe in namespace elsewhere") {
		t.Errorf("without rights: %v", err)
	}
}
