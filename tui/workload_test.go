package tui

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/scan"
)

// workloadStage is one workload of a run, which a part of its name names.
func workloadStage(t testing.TB, width, height int, events []scan.Event, name string) (*stage, *workload) {
	t.Helper()
	s, v := workloadsStage(t, width, height, events)
	for _, r := range s.desk.snap.Rows {
		if r.Verdict != nil && strings.Contains(r.Ref.Workload.String(), name) {
			s.send(openMsg{r.Ref})
			s.View()
			return s, v.one
		}
	}
	t.Fatalf("no workload %s", name)
	return nil, nil
}

func (v *workload) under() string { return v.items[v.cursor()].name }

// alerted is a watch of one exposed workload that has alerts.
func alerted() []scan.Event {
	events := watched(shop()...)
	events[0].Start.Alerts = true
	for i, class := range []scan.AlertClass{scan.ClassChroot, scan.ClassCapability, scan.ClassTool, scan.ClassOther, scan.ClassEscape, scan.ClassChroot} {
		events = append(events, scan.Event{Time: testTime, Alert: &scan.Alert{
			ID: string(class) + string(rune('0'+i)), Class: class, Incident: i == 5, Blocked: i%2 == 0, Workload: shop()[1].Workload,
			Severity: scan.SeverityHigh, Resource: "/usr/bin/chroot /host", Count: i + 1, Last: testTime.Add(time.Duration(i-10) * time.Minute),
		}})
	}
	return events
}

func TestWorkloadGoldens(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		open := func(events []scan.Event, name string, keys ...string) *stage {
			s, _ := workloadStage(t, size.width, size.height, events, name)
			for _, k := range keys {
				s.press(k)
				s.text()
			}
			return s
		}
		golden := func(state string, s *stage) { s.golden("workload-" + state + "-" + size.name) }
		golden("exposed", open(eventsOf(t, layersRun), "node-agent", "j"))
		golden("end", open(eventsOf(t, layersRun), "node-agent", "G"))
		golden("finding", open(eventsOf(t, layersRun), "report", "n", " "))
		golden("unknown", open(eventsOf(t, layersRun), "ledger"))
		golden("sealed", open(eventsOf(t, layersRun), "site-12", "j", " "))
		golden("hostile", open(eventsOf(t, layersRun), "evil"))
		golden("spec-only", open(eventsOf(t, plainRun), "node-agent"))
		golden("alerts", open(alerted(), "pay", "G"))
		s := open(alerted(), "pay")
		gone := shop()[1].Workload
		s.feed(scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &gone, Reason: "the workload is gone"}})
		golden("gone", s)
		s.send(openMsg{scan.RowRef{Workload: scan.Workload{Namespace: "x", Kind: "Pod", Name: "never"}}})
		golden("nothing", s)
	}
}

// TestWorkloadKeys: what each key does, where the cursor is before and after.
func TestWorkloadKeys(t *testing.T) {
	t.Parallel()
	s, v := workloadStage(t, 120, 60, eventsOf(t, layersRun), "node-agent")
	for _, step := range []struct{ key, under string }{
		{"", "path/escape-nsenter/"},
		{"j", "path/escape-privileged/agent"},
		{"enter", "finding/escape-privileged/agent/spec.containers[0].securityContext.privileged/"},
		{"n", "finding/policy-hostpid//spec.hostPID/"},
		{"n", "finding/escape-nsenter//spec.hostPID/"},
		{"N", "finding/policy-hostpid//spec.hostPID/"},
		{"j", "layer/Admission"},
		{"k", "finding/policy-hostpid//spec.hostPID/"},
		{"g", "path/escape-nsenter/"},
		{"k", "path/escape-nsenter/"},
		{"G", "What would make it better"},
		{"j", "What would make it better"},
	} {
		if step.key != "" {
			s.press(step.key)
			s.text()
		}
		if got := v.under(); got != step.under {
			t.Errorf("after %q on %s, want %s", step.key, got, step.under)
		}
	}
	s.press("g", "j")
	s.wants("escape-privileged is open: ")
	s.press("n", " ")
	s.wants("What an attacker does", "How to fix it", "References")
	s.press("h")
	if strings.Contains(s.text(), "What an attacker does") {
		t.Error("the rule is not folded")
	}
	s.press("l")
	s.wants("What an attacker does")
	s.press(" ", "n", "n", "j", " ")
	s.wants("ADMITS: nothing that is known refuses it", "does not bite (kyverno-audit)")
	s.press("esc")
	if list, _ := s.screens[viewWorkloads].(*workloads); list.one != nil {
		t.Error("esc does not lead back")
	}
}

// TestWorkloadIsScrolled: on the smallest screen every line can be seen by going down,
// and by pages.
func TestWorkloadIsScrolled(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"down", "pgdown", "ctrl+d", "wheel"} {
		s, v := workloadStage(t, 40, 12, eventsOf(t, layersRun), "report")
		seen, last := map[int]bool{}, -1
		for range 400 {
			from, to := v.page.part()
			for i := from; i < to; i++ {
				seen[i] = true
			}
			at := v.cursor()
			if at < last {
				t.Fatalf("%s goes back from %d to %d", key, last, at)
			}
			last = at
			if key == "wheel" {
				s.send(tea.MouseMsg{X: 1, Y: 5, Button: tea.MouseButtonWheelDown, Action: tea.MouseActionPress})
			} else {
				s.press(key)
			}
			s.text()
		}
		if _, to := v.page.part(); to != len(v.lines) {
			t.Errorf("%s ends at %d of %d", key, to, len(v.lines))
		}
		if key == "down" && len(seen) < len(v.lines) {
			t.Errorf("%d of %d lines were seen", len(seen), len(v.lines))
		}
		for range 400 {
			s.press("up")
		}
		if v.page.top != 0 || v.cursor() != 0 {
			t.Errorf("up leads to %d, item %d", v.page.top, v.cursor())
		}
	}
}

func TestWorkloadMouse(t *testing.T) {
	t.Parallel()
	s, v := workloadStage(t, 120, 60, eventsOf(t, layersRun), "node-agent")
	click := func(item int) {
		s.send(tea.MouseMsg{X: 4, Y: s.headHeight() + v.head + v.items[item].from - v.page.top, Button: tea.MouseButtonLeft, Action: tea.MouseActionPress})
		s.text()
	}
	click(3)
	if v.cursor() != 3 || v.open[v.items[3].name] {
		t.Errorf("a click leads to %s", v.under())
	}
	click(3)
	if !v.open[v.items[3].name] {
		t.Error("a second click does not unfold")
	}
}

// TestWorkloadAlerts: their number is right, and a key shows them.
func TestWorkloadAlerts(t *testing.T) {
	t.Parallel()
	s, v := workloadStage(t, 120, 40, alerted(), "pay")
	s.wants("21 alerts in 6 folds, last 10:30:00 (5m), 1 incident", "! 10:30:00 ×6  chroot, not blocked: /usr/bin/chroot /host", "and 1 older")
	s.press("a")
	if s.view != viewAlerts {
		t.Errorf("a leads to %s", s.view)
	}
	s.wants("shop/Deployment/pay")
	s.send(openMsg{v.ref})
	s.View()
	s.press("G", "enter")
	if s.view != viewAlerts {
		t.Errorf("enter leads to %s", s.view)
	}
}

// TestWorkloadGoes: what was known stays, and that it is gone is said until it is back.
func TestWorkloadGoes(t *testing.T) {
	t.Parallel()
	s, v := workloadStage(t, 120, 40, watched(shop()...), "pay")
	gone := v.ref.Workload
	s.feed(scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &gone, Reason: "the workload is gone"}})
	s.wants("Gone since 10:35:00", "E exposed  shop/Deployment/pay")
	back := verdictOf("shop/Deployment/pay", scan.VerdictClosed, 1)
	back.Was = scan.VerdictExposed
	s.feed(scan.Event{Verdict: back})
	s.wants("C closed", "before, it was exposed")
	if strings.Contains(s.text(), "Gone") {
		t.Error("it is back, and said to be gone")
	}
}

// TestWorkloadIsFound: by who does not know of its cluster.
func TestWorkloadIsFound(t *testing.T) {
	t.Parallel()
	s, _ := workloadsStage(t, 80, 24, watched(shop()...))
	s.send(openMsg{scan.RowRef{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "pay"}}})
	s.wants("E exposed  shop/Deployment/pay")
	s.send(openMsg{scan.RowRef{Workload: scan.Workload{Namespace: "x", Kind: "Pod", Name: "never"}}})
	s.wants("? no verdict  x/Pod/never", "Nothing is known of this workload")
	s.press("j", "k", "n", "N", " ", "enter", "G", "g", "y", "Y", "pgdown")
	s.feed(scan.Event{Verdict: verdictOf("x/Pod/never", scan.VerdictClosed, 1)})
	s.text()
}

func TestWorkloadCopies(t *testing.T) {
	t.Parallel()
	s, v := workloadStage(t, 120, 40, eventsOf(t, layersRun), "node-agent")
	if _, text := v.copied(s.desk, false); !strings.HasPrefix(text, "kube-system/DaemonSet/node-agent (exposed)\nescape-nsenter is open: ") ||
		!strings.Contains(text, "\nkernel lets through (proven): no KubeArmor agent is ready on node-4, by node-4") {
		t.Error(text)
	}
	s.press("n", "n")
	what, text := v.copied(s.desk, false)
	want := `kube-system/DaemonSet/node-agent (exposed)
escape-privileged: Privileged container (critical)
container agent
spec.containers[0].securityContext.privileged is true
has the host's devices
fix: set spec.containers[0].securityContext.privileged to false`
	if what != "the finding" || text != want {
		t.Errorf("%s: %s", what, text)
	}
	what, text = v.copied(s.desk, true)
	want = `# kube-system/DaemonSet/node-agent: escape-privileged
spec:
  template:
    spec:
      containers:
        - name: agent
          securityContext:
            privileged: false
`
	if what != "the fix" || text != want {
		t.Errorf("%s: %s", what, text)
	}
	s.press("n")
	if _, text = v.copied(s.desk, true); text != "" {
		t.Errorf("a finding without a fix has %s", text)
	}
	part, note := v.selection()
	if len(part.Rows) != 1 || part.Rows[0] != v.row || note != "only kube-system/DaemonSet/node-agent" {
		t.Errorf("exported: %+v, %s", part, note)
	}
}

// TestFixYAML: every fix is YAML that says it at its place, whatever the names are.
func TestFixYAML(t *testing.T) {
	t.Parallel()
	set := func(value string) *scan.Fix { return &scan.Fix{Op: scan.FixSet, Value: json.RawMessage(value)} }
	for name, test := range map[string]struct {
		finding scan.Finding
		want    string // As JSON: null is what goes, and nothing else may be.
	}{
		"pod":          {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Field: "spec.hostPID", Fix: set("false")}, `{"spec":{"hostPID":false}}`},
		"cron job":     {scan.Finding{Workload: scan.Workload{Kind: "CronJob"}, Field: "spec.hostPID", Fix: set("false")}, `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"hostPID":false}}}}}}`},
		"container":    {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Container: "yes", Field: "spec.initContainers[3].securityContext.runAsUser", Fix: set("1000")}, `{"spec":{"initContainers":[{"name":"yes","securityContext":{"runAsUser":1000}}]}}`},
		"mount":        {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Container: "c", Item: "logs", Field: "spec.containers[0].volumeMounts[0].readOnly", Fix: set("true")}, `{"spec":{"containers":[{"name":"c","volumeMounts":[{"readOnly":true}]}]}}`},
		"list":         {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Container: "c", Field: "spec.containers[0].securityContext.capabilities.drop", Fix: set(`["ALL"]`)}, `{"spec":{"containers":[{"name":"c","securityContext":{"capabilities":{"drop":["ALL"]}}}]}}`},
		"element":      {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Field: "spec.supplementalGroups[1]", Fix: set("5")}, `{"spec":{"supplementalGroups":[5]}}`},
		"removed":      {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Container: "c", Item: "SYS_ADMIN", Field: "spec.containers[0].securityContext.capabilities.add[1]", Fix: &scan.Fix{Op: scan.FixRemove}}, `{"spec":{"containers":[{"name":"c","securityContext":{"capabilities":{}}}]}}`},
		"removed key":  {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Item: "v", Field: "spec.volumes[0].hostPath", Fix: &scan.Fix{Op: scan.FixRemove}}, `{"spec":{"volumes":[{"hostPath":null,"name":"v"}]}}`},
		"in a probe":   {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Container: "c", Field: "spec.containers[0].livenessProbe.httpGet.host", Fix: &scan.Fix{Op: scan.FixRemove}}, `{"spec":{"containers":[{"name":"c","livenessProbe":{"httpGet":{"host":null}}}]}}`},
		"of a pod":     {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Item: "s", Field: "spec.securityContext.sysctls[0]", Fix: &scan.Fix{Op: scan.FixRemove}}, `{"spec":{"securityContext":{}}}`},
		"in unnamed":   {scan.Finding{Workload: scan.Workload{Kind: "Pod"}, Item: "80", Field: "spec.ports[0].hostPort", Fix: &scan.Fix{Op: scan.FixRemove}}, `{"spec":{"ports":[{"hostPort":null}]}}`},
		"annotation":   {scan.Finding{Workload: scan.Workload{Kind: "Deployment"}, Field: `metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]`, Fix: set(`"runtime/default"`)}, `{"spec":{"template":{"metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/c":"runtime/default"}}}}}`},
		"hostile name": {scan.Finding{Workload: scan.Workload{Kind: "Pod", Name: "x\ny: z"}, Container: "a\": b\n- #\u202e\x1b", Field: "spec.containers[0].tty", Fix: set("false")}, `{"spec":{"containers":[{"name":"a\": b\n- #\u202e\u001b","tty":false}]}}`},
	} {
		text := fixYAML(&test.finding)
		got, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Errorf("%s: %v in\n%s", name, err, text)
			continue
		}
		var have, want any
		if json.Unmarshal(got, &have) != nil || json.Unmarshal([]byte(test.want), &want) != nil {
			t.Fatal(name, test.want)
		}
		a, _ := json.Marshal(have)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("%s: %s, want %s, of\n%s", name, a, b, text)
		}
		if strings.ContainsAny(text, "\x1b\u202e") {
			t.Errorf("%s: raw text in %q", name, text)
		}
	}
	for _, f := range []scan.Finding{{Field: "spec.x"}, {Field: "", Fix: set("1"), Workload: scan.Workload{Kind: "Pod"}},
		{Field: "spec[", Fix: set("1")}, {Field: "a..b", Fix: set("1")}, {Field: "[0]", Fix: set("1"), Workload: scan.Workload{Kind: "Pod"}}} {
		if text := fixYAML(&f); text != "" {
			t.Errorf("%q: %s", f.Field, text)
		}
	}
}
