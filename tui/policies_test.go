package tui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
)

// manyPolicies are events of a run with so many policies.
func manyPolicies(n int) []scan.Event {
	events := []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion, Level: "baseline"}}}
	bites := []scan.Bite{scan.BitesNo, scan.BitesPartly, scan.BitesUnknown, scan.BitesYes}
	for i := range n {
		events = append(events, scan.Event{Policy: &scan.Policy{
			Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: fmt.Sprintf("team-%d", i%7), Name: fmt.Sprintf("policy-%03d", i),
			Action: "Block", Workloads: i, Pods: 2 * i, Bites: bites[i*len(bites)/n],
		}})
	}
	return append(events, scan.Event{End: &scan.End{}})
}

func TestPoliciesGoldens(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		golden := func(name string, change func(*Options), keys ...string) {
			s := seeing(t, viewPolicies, size.width, size.height, nil, change)
			for _, k := range keys {
				s.press(k)
				s.text()
			}
			s.golden("policies-" + name + "-" + size.name)
			s.harmless()
		}
		layers := func() func(*Options) { return withFeed(eventsOf(t, layersRun), true, nil) }
		golden("list", layers())
		golden("sorted", layers(), "s", "s", "s", "S")
		golden("filtered", layers(), "/", "bites:no layer:runtime", "enter")
		golden("wrong", layers(), "/", "bites:maybe")
		golden("partly", layers(), "j", "j", "enter")
		golden("idle", layers(), "j", "enter")
		golden("hostile", layers(), "j", "j", "j", "enter", "G")
		golden("nothing", withFeed(eventsOf(t, plainRun), true, nil))
		golden("waiting", withFeed(nil, false, nil))
		golden("stopped", withFeed(readingEvents(t), true, errors.New("read pods: connection refused")))
	}
}

func TestPoliciesKeys(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewPolicies, 80, 24, manyPolicies(100), nil)
	v := s.screens[viewPolicies].(*policies)
	page := v.list.height
	for _, step := range []struct {
		key  string
		want int
	}{
		{"down", 1}, {"j", 2}, {"up", 1}, {"k", 0}, {"k", 0}, {"pgdown", page}, {"pgup", 0}, {"ctrl+f", page}, {"ctrl+b", 0},
		{"ctrl+d", (page + 1) / 2}, {"ctrl+u", 0}, {"end", 99}, {"down", 99}, {"home", 0}, {"G", 99}, {"g", 0},
	} {
		s.press(step.key)
		s.text()
		if v.list.cursor != step.want || v.at != v.shown[step.want].Ref() {
			t.Errorf("%s leads to %d (%v), want %d", step.key, v.list.cursor, v.at, step.want)
		}
	}
	for _, step := range []struct {
		key  string
		want bool
	}{{"enter", true}, {"esc", false}, {"right", true}, {"left", false}, {"l", true}, {"h", false}, {"enter", true}, {"backspace", false}} {
		s.press(step.key)
		s.text()
		if v.inside != step.want {
			t.Errorf("after %s a policy is seen alone: %v", step.key, v.inside)
		}
	}
}

// TestPoliciesSort: each column is sorted by in turn, and the cursor stays on its policy.
func TestPoliciesSort(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewPolicies, 120, 40, eventsOf(t, layersRun), nil)
	v := s.screens[viewPolicies].(*policies)
	names := func() string {
		var list []string
		for _, p := range v.shown {
			if !strings.Contains(p.Name, "evil") {
				list = append(list, p.Name)
			}
		}
		return strings.Join(list, " ")
	}
	byBites := "psa-baseline old-rules disallow-tools no-privileged disallow-capabilities"
	if names() != byBites {
		t.Errorf("at first they are %s", names())
	}
	s.press("j", "k")
	at := v.at
	for _, want := range []string{
		"LAYER↓ psa-baseline no-privileged old-rules disallow-tools disallow-capabilities",
		"KIND↓ psa-baseline disallow-tools old-rules disallow-capabilities no-privileged",
		"POLICY↓ disallow-tools no-privileged psa-baseline disallow-capabilities old-rules",
		"ACTION↓ psa-baseline old-rules disallow-tools disallow-capabilities no-privileged",
		"WORK↓ psa-baseline no-privileged disallow-tools disallow-capabilities old-rules",
		"PODS↓ psa-baseline no-privileged disallow-tools disallow-capabilities old-rules",
		"BITES↓ " + byBites,
	} {
		s.press("s")
		head, list, _ := strings.Cut(want, " ")
		s.wants(head)
		if names() != list {
			t.Errorf("%s are %s, want %s", head, names(), list)
		}
		if v.at != at || v.current().Ref() != at {
			t.Errorf("sorted by %s the cursor stands on %v", head, v.current().Ref())
		}
	}
	before := slices.Clone(v.shown)
	s.press("S")
	s.wants("BITES↑")
	slices.Reverse(before)
	if !slices.Equal(before, v.shown) {
		t.Errorf("the other way round they are %s", names())
	}
}

func TestPoliciesFilter(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewPolicies, 120, 40, eventsOf(t, layersRun), nil)
	v := s.screens[viewPolicies].(*policies)
	for _, c := range []struct {
		filter string
		want   int
	}{
		{"bites:no", 2}, {"bites:no,partly", 4}, {"bites:unknown", 1}, {"layer:admission", 2}, {"layer:runtime bites:yes", 1},
		{"ns:shop", 2}, {"ns:-", 3}, {"kind:clusterpolicy", 1}, {"action:deny", 1}, {"tools", 1}, {"!block", 3}, {"shop/old", 1}, {"nothing", 0},
	} {
		s.press("/")
		s.press(c.filter, "enter")
		if len(v.shown) != c.want || v.typing() {
			t.Errorf("%s shows %d, want %d", c.filter, len(v.shown), c.want)
		}
		part, note := v.selection(s.desk)
		if len(part.Policies) != c.want || note != "policies only, only what matches "+c.filter {
			t.Errorf("e exports %d of %q", len(part.Policies), note)
		}
		s.press("c")
		if len(v.shown) != 6 {
			t.Errorf("c leaves %d", len(v.shown))
		}
	}
	s.press("/", "bites:maybe")
	s.wants(`bites: "maybe" is none of no, partly, unknown, yes`)
	s.press("esc", "esc")
	if len(v.shown) != 6 || v.bar.text != "" {
		t.Errorf("esc leaves %d of %q", len(v.shown), v.bar.text)
	}
	s.send(gotoMsg{viewPolicies, "bites:partly"})
	if len(v.shown) != 2 {
		t.Errorf("a filter of another view shows %d", len(v.shown))
	}
}

// TestPoliciesDetail: a policy shows its reasons, the findings that name it with their
// mends, and leads to the workloads.
func TestPoliciesDetail(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewPolicies, 80, 40, eventsOf(t, layersRun), nil)
	v := s.screens[viewPolicies].(*policies)
	s.press("j", "j", "enter")
	s.wants("KubeArmorClusterPolicy disallow-tools", "bites: partly", "init containers are not covered",
		"HIGH      policy-hostpid", "take hostPID from the pod; nothing else makes a policy bite", "kube-system/DaemonSet/node-agent",
		"policy-init-container", "do the work of prepare in an ordinary container", "batch/CronJob/report")
	if strings.Contains(s.text(), "policy-kyverno-audit") {
		t.Error("a finding about another policy is shown")
	}
	if got := s.copies("y"); got != "KubeArmorClusterPolicy disallow-tools: it takes no effect in pods with hostPID" {
		t.Errorf("y copies %q", got)
	}
	for range 3 {
		s.press("j")
		s.text()
	}
	want := openMsg{scan.RowRef{Workload: scan.Workload{Cluster: "prod-eu", Namespace: "kube-system", Kind: "DaemonSet", Name: "node-agent"}}}
	for _, key := range []string{"enter", "w"} {
		if got := s.asks(key); got != want {
			t.Errorf("%s asks for %v at %v", key, got, v.detail.stop())
		}
	}
	if got := s.copies("Y"); got != "take hostPID from the pod; nothing else makes a policy bite" {
		t.Errorf("Y copies %q", got)
	}
	part, note := v.selection(s.desk)
	if len(part.Policies) != 1 || len(part.Rows) < 2 || !strings.Contains(note, "disallow-tools") {
		t.Errorf("e exports %d policies, %d rows: %q", len(part.Policies), len(part.Rows), note)
	}
	s.press("esc")
	if got := s.copies("y"); !strings.Contains(got, "disallow-tools: bites partly\n- it takes no effect") || !strings.Contains(got, "\nmend: take hostPID") {
		t.Errorf("y copies %q of a policy", got)
	}
	if got := s.copies("Y"); !strings.Contains(got, "take hostPID from the pod; nothing else makes a policy bite\n") {
		t.Errorf("Y copies %q of a policy", got)
	}
	s.press("k", "enter")
	s.wants("policy-selects-nothing", "correct the selector, or delete the policy")
}

func TestPoliciesMouse(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewPolicies, 80, 24, manyPolicies(100), nil)
	v := s.screens[viewPolicies].(*policies)
	s.clicks(3, 5)
	if v.list.cursor != 4 || v.inside {
		t.Errorf("a click leads to %d, inside %v", v.list.cursor, v.inside)
	}
	s.clicks(3, 5)
	if !v.inside {
		t.Error("a second click does not open")
	}
	s.press("esc")
	s.wheels(3, 5, tea.MouseButtonWheelDown)
	if v.list.top != 3 {
		t.Errorf("the wheel leads to line %d", v.list.top)
	}
	s.wheels(3, 5, tea.MouseButtonWheelUp)
	if v.list.top != 0 {
		t.Errorf("the wheel leads back to line %d", v.list.top)
	}
	s = seeing(t, viewPolicies, 80, 40, eventsOf(t, layersRun), nil)
	s.press("j", "j", "enter")
	y := s.lineOf("kube-system/DaemonSet/node-agent")
	s.clicks(8, y)
	if s.view != viewPolicies {
		t.Fatal("one click leaves the view")
	}
	s.clicks(8, y)
	if s.view != viewWorkloads {
		t.Errorf("a second click leads to %s", s.view)
	}
}

// TestPoliciesFollow: the cursor stays on its policy, and what is said of it is as new as
// the rest.
func TestPoliciesFollow(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewPolicies, 120, 40, nil, withFeed(eventsOf(t, layersRun), false, nil))
	v := s.screens[viewPolicies].(*policies)
	s.press("j", "enter")
	s.wants("KubeArmorPolicy shop/old-rules", "bites: NO", "policy-selects-nothing")
	ref := v.at
	var gone *scan.Finding
	for _, r := range s.desk.snap.Rows {
		for _, f := range r.Findings {
			if f.Rule == "policy-selects-nothing" {
				gone = f
			}
		}
	}
	finding := gone.Ref()
	s.feed(scan.Event{Policy: &scan.Policy{Layer: ref.Layer, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Action: "Block", Workloads: 1, Pods: 1, Bites: scan.BitesYes}},
		scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFinding, Workload: &gone.Workload, Finding: &finding}})
	s.wants("KubeArmorPolicy shop/old-rules", "bites: yes", "No finding speaks of it.")
	s.feed(scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedPolicy, Policy: &ref}})
	if strings.Contains(s.text(), "old-rules") || v.inside {
		t.Error("a policy that is gone is still seen")
	}
}

func TestPoliciesResize(t *testing.T) {
	t.Parallel()
	for _, events := range [][]scan.Event{eventsOf(t, layersRun), manyPolicies(80), {{Policy: &scan.Policy{Kind: hostile, Name: strings.Repeat("日本", 60), Reasons: []string{hostile}}}}} {
		s := seeing(t, viewPolicies, 80, 24, events, nil)
		s.press("G")
		s.resizes()
		s.press("enter", "G")
		s.resizes()
		s.press("esc", "/", "p")
		s.resizes()
		s.harmless()
	}
}
