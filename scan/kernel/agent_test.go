package kernel

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// agentPod is a ready pod of KubeArmor's DaemonSet, with tweaks.
func agentPod(tweaks ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kubearmor", Name: "agent-1"}}
	p.Spec = corev1.PodSpec{
		NodeName: "n1", NodeSelector: map[string]string{"kubearmor.io/enforcer": "bpf"},
		Containers: []corev1.Container{
			{Name: "sidecar", Image: "other"},
			{Name: "kubearmor", Image: "kubearmor/kubearmor:v1.7.2", SecurityContext: &corev1.SecurityContext{
				Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SETUID", "SYS_ADMIN"}, Drop: []corev1.Capability{"ALL"}},
			}},
		},
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(yesterday)},
	}
	for _, tweak := range tweaks {
		tweak(p)
	}
	return p
}

func unready(p *corev1.Pod) {
	p.Status.Conditions[1].Status = corev1.ConditionFalse
	p.Status.Conditions[1].Reason, p.Status.Conditions[1].Message = "ContainersNotReady", "containers with unready status: [kubearmor]"
}

func waits(reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		unready(p)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "kubearmor", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}
	}
}

func TestAgentOf(t *testing.T) {
	for _, test := range []struct {
		name     string
		pod      *corev1.Pod
		notReady string
	}{
		{"ready", agentPod(), ""},
		{"privileged is as good as SYS_ADMIN", agentPod(func(p *corev1.Pod) {
			p.Spec.Containers[1].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
		}), ""},
		{"CAP_BPF in lower case", agentPod(func(p *corev1.Pod) {
			p.Spec.Containers[1].SecurityContext.Capabilities.Add = []corev1.Capability{"cap_bpf"}
		}), ""},
		{"not ready", agentPod(unready), "it is not ready (ContainersNotReady: containers with unready status: [kubearmor])"},
		{"crashes", agentPod(waits("CrashLoopBackOff", "back-off 5m0s")), "its container kubearmor waits (CrashLoopBackOff: back-off 5m0s)"},
		{"its image cannot be pulled", agentPod(waits("ImagePullBackOff", "")), "its container kubearmor waits (ImagePullBackOff)"},
		{"is being created", agentPod(waits("ContainerCreating", "")), "it is not ready (ContainersNotReady: containers with unready status: [kubearmor])"},
		{"its init container failed", agentPod(unready, func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "init", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error"}}}}
		}), "its container init ended with exit code 2 (Error)"},
		{"an endless message is cut", agentPod(waits("CrashLoopBackOff", strings.Repeat("ä", 5000))), "its container kubearmor waits (CrashLoopBackOff: " + strings.Repeat("ä", 91) + "…)"},
		{"has no conditions", agentPod(func(p *corev1.Pod) { p.Status = corev1.PodStatus{} }), "its status does not say that it is ready"},
		{"is pending", agentPod(func(p *corev1.Pod) {
			p.Spec.NodeName = ""
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available"}}
		}), "it is not scheduled (Unschedulable: 0/3 nodes are available)"},
		{"has failed, though the last condition says ready", agentPod(func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }), "it has ended (Failed: Evicted)"},
		{"is being deleted, and ready for a moment more", agentPod(func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(now)) }), "it is being deleted"},
		{"an empty pod", &corev1.Pod{}, "it is not scheduled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := AgentOf(test.pod)
			if a.NotReady != test.notReady {
				t.Errorf("not ready %q\nwant      %q", a.NotReady, test.notReady)
			}
			if a.Ready != (test.notReady == "") || a.Ready != a.Since.Equal(yesterday) {
				t.Errorf("ready %t since %s", a.Ready, a.Since)
			}
		})
	}
}

func TestAgentOfReadsThePod(t *testing.T) {
	want := Agent{Namespace: "kubearmor", Name: "agent-1", Node: "n1", Ready: true, Since: yesterday, Image: "kubearmor/kubearmor:v1.7.2", Enforcer: "bpf"}
	if got := AgentOf(agentPod()); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	renamed := agentPod(func(p *corev1.Pod) { p.Spec.Containers[1].Name = "armor" })
	if got := AgentOf(renamed).Image; got != "other" {
		t.Errorf("without a container of that name the image is that of the first, not %q", got)
	}
}

// A pod that could not be an agent is told from one that could, and counts all the
// same: labels are all that the API shows.
func TestAgentOfATenant(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"SYS_PTRACE only": func(p *corev1.Pod) {
			p.Spec.Containers[1].SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_PTRACE"}
		},
		"no security context": func(p *corev1.Pod) { p.Spec.Containers[1].SecurityContext = nil },
	} {
		a := AgentOf(agentPod(change))
		if !a.Ready || a.Doubt == "" {
			t.Errorf("%s: %+v", name, a)
		}
		e := Assess(Node{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{labelEnforcer: enforcerBPF}}}, Agents: []Agent{a}}, now)
		if e.Capabilities != Yes || !slices.ContainsFunc(e.Contradictions, func(c string) bool { return strings.Contains(c, a.Doubt) }) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	foreign := AgentOf(agentPod(func(p *corev1.Pod) {
		p.Namespace = "shop"
		p.Spec.Containers[1].SecurityContext = nil
	}))
	e := Assess(Node{Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{labelEnforcer: enforcerBPF}}}, Agents: []Agent{foreign}}, now)
	if e.Capabilities != Unknown || e.Agent != Unknown || !strings.Contains(e.Reason, "shop/") {
		t.Errorf("in a namespace of others: %+v", e)
	}
	if a := AgentOf(agentPod()); a.Doubt != "" {
		t.Errorf("KubeArmor's own pod: %s", a.Doubt)
	}
}

// managed is an entry of managedFields.
func managed(at time.Time, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{Manager: "m", Operation: metav1.ManagedFieldsOperationUpdate, Time: new(metav1.NewTime(at)), FieldsV1: metav1.NewFieldsV1(fields)}
}

func TestAges(t *testing.T) {
	const owns = `{"f:metadata":{"f:labels":{".":{},"f:kubearmor.io/enforcer":{},"f:kubearmor.io/rand":{}}}}`
	n := nodeOf("kubearmor.io/enforcer=bpf")
	n.ManagedFields = []metav1.ManagedFieldsEntry{
		managed(now.Add(-time.Minute), `{"f:metadata":{"f:labels":{"f:beta.kubernetes.io/arch":{}}}}`),
		managed(now.Add(-72*time.Hour), owns),
		managed(now.Add(-48*time.Hour), owns),
		managed(now.Add(-time.Second), `{"f:metadata":[1,`),
		managed(now.Add(-time.Second), `{"f:metadata":"strange"}`),
		{Manager: "no fields", Time: new(metav1.NewTime(now))},
		{Manager: "no time", FieldsV1: metav1.NewFieldsV1(owns)},
	}
	p := probe("BPFLSM", true)
	p.Read = now.Add(-5 * time.Second)
	got := Assess(Node{Node: n, Agents: []Agent{readyAgent()}, Probe: p, Machine: machine(withBPF, Yes, Yes)}, now)
	want := map[string]time.Duration{
		"pod kubearmor/agent-1":                         0,
		"KubeArmor probe data of pod kubearmor/agent-1": 5 * time.Second,
		"check of the node":                             24 * time.Hour,
		"no-op LSM program":                             24 * time.Hour,
		"node label kubearmor.io/enforcer":              48 * time.Hour,
		"node info: kernel version":                     0,
	}
	for _, e := range got.Evidence {
		age, ok := want[e.Source]
		if !ok {
			continue
		}
		delete(want, e.Source)
		if e.Observed == nil || !e.Observed.Equal(now.Add(-age)) || e.AgeSeconds != int64(age/time.Second) {
			t.Errorf("%s: observed %v, %d s old, want %s", e.Source, e.Observed, e.AgeSeconds, age)
		}
	}
	if len(want) > 0 {
		t.Errorf("no evidence of %v", want)
	}
}

func TestAgeThatNobodyKnows(t *testing.T) {
	got := Assess(Node{Node: nodeOf("kubearmor.io/enforcer=bpf"), Agents: []Agent{readyAgent()}}, now)
	for _, e := range got.Evidence {
		if e.Source == sourceLabel && (e.Observed != nil || e.AgeSeconds != 0 || !strings.Contains(e.Meaning, "at a time that is not known")) {
			t.Errorf("a label without managed fields has an age: %+v", e)
		}
	}
}

// A clock of a node can be ahead of ours.
func TestEvidenceOfTheFutureIsNotNegativelyOld(t *testing.T) {
	p := probe("BPFLSM", true)
	p.Read = now.Add(time.Hour)
	for _, e := range Assess(Node{Node: nodeOf(), Agents: []Agent{readyAgent()}, Probe: p}, now).Evidence {
		if e.AgeSeconds < 0 {
			t.Errorf("%s is %d s old", e.Source, e.AgeSeconds)
		}
	}
}
