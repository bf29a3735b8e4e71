package preview_test

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// ran is an alert of a program that ran in workload web.
func ran(change ...func(*armor.Alert)) armor.Alert {
	a := armor.Alert{
		Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Namespace: "shop", Pod: "web-1", Container: "web",
		OwnerKind: "Deployment", OwnerName: "web", Type: "MatchedPolicy", Operation: "Process", Policy: "audit", Action: "Audit",
		Result: "Passed", Resource: "/usr/bin/curl -f http://x", Process: "/usr/bin/curl", Parent: "/usr/bin/dash",
	}
	for _, c := range change {
		c(&a)
	}
	return a
}

const quiet = `containers: [{image: app, command: [app], securityContext: {readOnlyRootFilesystem: true, privileged: true}}]`

func TestAlerts(t *testing.T) {
	t.Parallel()
	labelled := func(a *armor.Alert) {
		a.OwnerKind, a.OwnerName, a.Pod, a.Labels = "ReplicaSet", "web-5d", "web-5d-x", map[string]string{"app": "web", "pod-template-hash": "5d"}
	}
	const held = "may break|capabilities|sys_admin|web|spec.containers[0].securityContext.privileged"
	for _, test := range []struct {
		name   string
		change []func(*armor.Alert)
		want   []string
		why    string
	}{
		{name: "a program ran", want: []string{"breaks|tools|curl|web|", held}, why: "reported it once, at 2026-11-22T10:00:00Z; called by /usr/bin/dash"},
		{name: "it was refused already", change: []func(*armor.Alert){func(a *armor.Alert) { a.Action, a.Result = "Block", "Permission denied" }},
			want: []string{"breaks|tools|curl|web|", held}, why: "once it was refused already"},
		{name: "from outside", change: []func(*armor.Alert){func(a *armor.Alert) { a.Parent = "/usr/bin/runc" }},
			want: []string{"breaks|tools|curl|web|", held}, why: "the container's runtime started it"},
		{name: "known by its labels", change: []func(*armor.Alert){labelled}, want: []string{"breaks|tools|curl|web|", held}},
		{name: "known by the pod's name", change: []func(*armor.Alert){func(a *armor.Alert) { a.OwnerKind, a.OwnerName, a.Pod = "", "", "web-x" }},
			want: []string{"breaks|tools|curl|web|", held}},
		{name: "labels of others", change: []func(*armor.Alert){labelled, func(a *armor.Alert) { a.Labels = map[string]string{"app": "other"} }},
			want: []string{held}},
		{name: "another workload", change: []func(*armor.Alert){func(a *armor.Alert) { a.OwnerName = "other" }}, want: []string{held}},
		{name: "another namespace", change: []func(*armor.Alert){func(a *armor.Alert) { a.Namespace = "else" }}, want: []string{held}},
		{name: "a program that is not of the set", change: []func(*armor.Alert){func(a *armor.Alert) { a.Process = "/usr/bin/nmap" }}, want: []string{held}},
		{name: "one that was left out", change: []func(*armor.Alert){func(a *armor.Alert) { a.Process = "/usr/bin/make" }}, want: []string{held}},
		{name: "a copy of it elsewhere", change: []func(*armor.Alert){func(a *armor.Alert) { a.Process = "/tmp/curl" }}, want: []string{held}},
		{name: "no policy's alert", change: []func(*armor.Alert){func(a *armor.Alert) { a.Type = "MatchedHostPolicy" }}, want: []string{held}},
		{name: "a container that is gone", change: []func(*armor.Alert){func(a *armor.Alert) { a.Container = "old" }}, want: []string{held}},
		{name: "alerts were dropped", change: []func(*armor.Alert){func(a *armor.Alert) { a.Type, a.Operation = "SystemEvent", "AlertThreshold" }},
			want: []string{"may break|runtime||web|", held}},
		{name: "a capability was asked for", change: []func(*armor.Alert){func(a *armor.Alert) {
			a.Operation, a.Resource, a.Process = "Capabilities", "CAP_SYS_ADMIN", "/usr/bin/find"
		}}, want: []string{"may break|capabilities|sys_admin|web|", held}, why: "by /usr/bin/find"},
		{name: "by the runtime", change: []func(*armor.Alert){func(a *armor.Alert) {
			a.Operation, a.Resource, a.Process, a.Parent = "Capabilities", "CAP_SYS_ADMIN", "/runc", ""
		}}, want: []string{"may break|capabilities|sys_admin|web|", held}, why: "the runtime's own process"},
		{name: "one that the set leaves alone", change: []func(*armor.Alert){func(a *armor.Alert) {
			a.Operation, a.Resource = "Capabilities", "CAP_NET_RAW"
		}}, want: []string{held}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := judged(t, only(t, "curl", "sys_admin"), quiet, func(in *preview.Input) { in.Alerts = []armor.Alert{ran(test.change...)} })
			wantLines(t, w, test.want...)
			if !strings.Contains(w.Effects[0].Why, test.why) {
				t.Errorf("why is %q, want %q", w.Effects[0].Why, test.why)
			}
		})
	}
}

// Many alerts of one thing are one effect, whatever their order, with their count, their
// callers and the time between the first and the last.
func TestAlertsAreJoined(t *testing.T) {
	t.Parallel()
	in := inputOf(only(t, "curl"), workloadOf("Deployment", "web", targets.Specimen{Pod: podOf(t, quiet), Live: 2, Nodes: []string{"node1"}}))
	for i := range 6 {
		in.Alerts = append(in.Alerts, ran(func(a *armor.Alert) {
			a.Time = a.Time.Add(time.Duration((i*5)%6) * time.Hour)
			a.Pod = []string{"web-1", "web-2"}[i%2]
			a.Parent = []string{"/bin/b", "/bin/a", "/bin/a"}[i%3]
		}))
	}
	r := preview.Judge(in)
	e := r.Workloads[0].Effects[0]
	const want = "KubeArmor reported it 6 times, from 2026-11-22T10:00:00Z to 2026-11-22T15:00:00Z; called by /bin/a, /bin/b"
	if e.Why != want || e.Pods != 2 {
		t.Errorf("%+v", e)
	}
	slices.Reverse(in.Alerts)
	if again := preview.Judge(in); !reflect.DeepEqual(r, again) {
		t.Error("another order of alerts makes another report")
	}
}

// What an attacker chose does not fill the report.
func TestAlertsOfAnAttacker(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<16)
	w := judged(t, only(t, "curl"), quiet, func(in *preview.Input) {
		for range 100 {
			long += "y"
			in.Alerts = append(in.Alerts, ran(func(a *armor.Alert) { a.Parent = "/" + long }))
		}
	})
	if len(w.Effects) != 1 || len(w.Effects[0].Why) > 2000 {
		t.Errorf("%d effects, %d bytes", len(w.Effects), len(w.Effects[0].Why))
	}
}

// Where nobody knows what is enforced, what was seen may break.
func TestAlertsOnUnknownNodes(t *testing.T) {
	t.Parallel()
	w := judged(t, only(t, "curl"), quiet, func(in *preview.Input) {
		in.Nodes["node1"] = blind()
		in.Alerts = []armor.Alert{ran()}
	})
	wantLines(t, w, "may break|tools|curl|web|", "not covered|tools||web|")
}

// The flood that KubeArmor makes of ordinary programs under a block proves nothing.
func TestRecordedFlood(t *testing.T) {
	t.Parallel()
	s, pods := recordedSet(t, "escape-block.yaml"), recordedPods(t, "escape-pods.yaml")
	var all []targets.Workload
	for name, pod := range pods {
		w := workloadOf("Pod", name, targets.Specimen{Pod: pod, Live: 1, Nodes: []string{"node1"}})
		all = append(all, w)
	}
	in := inputOf(s, all...)
	without := preview.Judge(in)
	in.Alerts = alertsOf(t, filepath.Join(recordings, "escape-block.jsonl"))
	with := preview.Judge(in)
	seen := 0
	for _, w := range with.Workloads {
		for _, e := range w.Effects {
			if strings.HasPrefix(e.What, "was seen to ask") || strings.HasPrefix(e.What, "kubectl exec or") {
				seen++
				if e.Outcome != preview.MayBreak || e.Part != set.PartCapabilities {
					t.Errorf("%s: %+v", w.Workload.Name, e)
				}
			}
		}
	}
	if seen == 0 || reflect.DeepEqual(without, with) {
		t.Error("no alert of a capability was taken into account")
	}
}

func TestRecordedThreshold(t *testing.T) {
	t.Parallel()
	s, pods := recordedSet(t, "escape-block.yaml"), recordedPods(t, "apps.yaml")
	in := inputOf(s, workloadOf("Deployment", "priv", targets.Specimen{Pod: pods["priv"], Live: 1, Nodes: []string{"node1"}}))
	in.Alerts = alertsOf(t, "../../internal/armor/testdata/burst.jsonl")
	w := preview.Judge(in).Workloads[0]
	if !slices.ContainsFunc(w.Effects, func(e preview.Effect) bool { return strings.Contains(e.What, "dropped alerts") }) {
		t.Errorf("%+v", w.Effects)
	}
}
