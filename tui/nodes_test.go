package tui

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// manyNodes are events of a run with so many nodes, which enforce more and more.
func manyNodes(n int) []scan.Event {
	events := []scan.Event{{Start: &scan.Start{Schema: scan.SchemaVersion, Level: "baseline"}}}
	answers := []kernel.Answer{kernel.No, kernel.Unknown, kernel.Yes}
	for i := range n {
		a := answers[i*len(answers)/n]
		events = append(events, scan.Event{Node: &scan.Node{
			Name: fmt.Sprintf("node-%03d", i), KernelVersion: "6.1.0", OSImage: "Debian GNU/Linux 12",
			Enforcement: &kernel.Enforcement{Capabilities: a, Processes: a, Agent: kernel.Yes, Grade: kernel.Claimed, Enforcer: "bpf", Reason: "the label says so"},
		}})
	}
	return append(events, scan.Event{End: &scan.End{}})
}

func TestNodesGoldens(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		golden := func(name string, change func(*Options), keys ...string) {
			s := seeing(t, viewNodes, size.width, size.height, nil, change)
			for _, k := range keys {
				s.press(k)
				s.text()
			}
			s.golden("nodes-" + name + "-" + size.name)
			s.harmless()
		}
		still := withFeed(eventsOf(t, layersRun), true, nil)
		golden("list", still)
		golden("ladder", withFeed(eventsOf(t, layersRun), true, nil), "j", "enter")
		golden("proven", withFeed(eventsOf(t, layersRun), true, nil), "G", "enter", "j")
		golden("hostile", withFeed(eventsOf(t, layersRun), true, nil), "j", "j", "j", "enter")
		golden("unjudged", withFeed(eventsOf(t, plainRun), true, nil))
		golden("filtered", withFeed(manyNodes(300), true, nil), "/", "node-29", "enter", "down")
		golden("nomatch", withFeed(eventsOf(t, layersRun), true, nil), "/", "windows")
		golden("waiting", withFeed(nil, false, nil))
		golden("stopped", withFeed(readingEvents(t), true, errors.New("read pods: connection refused")))
	}
}

func TestNodesKeys(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewNodes, 80, 24, manyNodes(100), nil)
	v := s.screens[viewNodes].(*nodes)
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
		if v.list.cursor != step.want || v.at != fmt.Sprintf("node-%03d", step.want) {
			t.Errorf("%s leads to %d (%s), want %d", step.key, v.list.cursor, v.at, step.want)
		}
	}
	for _, step := range []struct {
		key  string
		want bool
	}{{"enter", true}, {"esc", false}, {"right", true}, {"left", false}, {"l", true}, {"h", false}, {"enter", true}, {"backspace", false}} {
		s.press(step.key)
		s.text()
		if v.inside != step.want {
			t.Errorf("after %s the evidence is seen: %v", step.key, v.inside)
		}
	}
	s.press("/")
	if !v.typing() {
		t.Fatal("/ does not let type")
	}
	s.press("node-09q")
	s.wants("No node matches the filter.", "0 of 100")
	s.press("backspace", "enter")
	if v.typing() || len(v.shown) != 10 {
		t.Errorf("%d nodes match, typing %v", len(v.shown), v.typing())
	}
	part, note := v.selection(s.desk)
	if len(part.Nodes) != 10 || part.Rows != nil || note != "nodes only, only what matches node-09" {
		t.Errorf("e exports %d nodes, %q", len(part.Nodes), note)
	}
	s.press("c")
	if len(v.shown) != 100 {
		t.Errorf("c leaves %d nodes", len(v.shown))
	}
	s.press("/", "node-01", "enter", "esc")
	if len(v.shown) != 100 {
		t.Errorf("esc leaves %d nodes", len(v.shown))
	}
	s.send(gotoMsg{viewNodes, "node-042"})
	if len(v.shown) != 1 || v.at != "node-042" {
		t.Errorf("going to a node shows %d, at %s", len(v.shown), v.at)
	}
}

// TestNodesLadder: the evidence of a node scrolls, and each piece can be copied.
func TestNodesLadder(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewNodes, 80, 24, eventsOf(t, layersRun), nil)
	v := s.screens[viewNodes].(*nodes)
	s.press("j", "enter")
	s.wants("node-3", "! Contradictions: 1", "◂ decides", "12 days before the run")
	if text := s.text(); strings.Index(text, "CLAIMED") > strings.Index(text, "HINTED") {
		t.Error("what is hinted stands before what is claimed")
	}
	if got := s.copies("y"); got != "node-3: enforces processes, not capabilities (apparmor, claimed). KubeArmor enforces with AppArmor there, which cannot refuse capabilities" {
		t.Errorf("y copies %q", got)
	}
	s.press("j", "j")
	if got := s.copies("y"); got != "claimed, says no, decides: node label kubearmor.io/enforcer = apparmor: capability rules cannot be relied on (2026-11-10T10:30:00Z, 12 days before the run)" {
		t.Errorf("y copies %q", got)
	}
	if got := s.copies("Y"); !strings.HasPrefix(got, "to turn BPF-LSM on (Ubuntu):\n1. add lsm=") {
		t.Errorf("Y copies %q", got)
	}
	s.press("end")
	s.wants("kubelet      v1.36.3")
	s.press("k", "k")
	if got := s.copies("y"); got != "add lsm=lockdown,capability,landlock,yama,apparmor,bpf to GRUB_CMDLINE_LINUX in /etc/default/grub" {
		t.Errorf("y copies %q", got)
	}
	s.press("home")
	if v.ladder.top != 0 {
		t.Errorf("home leads to line %d", v.ladder.top)
	}
	s.press("esc")
	if got := s.copies("y"); !strings.Contains(got, "node-3\nenforces processes") || !strings.Contains(got, "! the kernel has BPF-LSM compiled in") {
		t.Errorf("y copies %q of a node", got)
	}
	s.press("G")
	if got := s.copies("Y"); got != "" {
		t.Errorf("Y copies %q where nothing is to be turned on", got)
	}
}

func TestNodesMouse(t *testing.T) {
	t.Parallel()
	for _, width := range []int{80, 120} {
		s := seeing(t, viewNodes, width, 24, manyNodes(100), nil)
		v := s.screens[viewNodes].(*nodes)
		s.clicks(3, 5)
		if v.at != "node-004" || v.inside {
			t.Errorf("a click leads to %s, inside %v", v.at, v.inside)
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
		s.clicks(3, 0)
		if v.inside {
			t.Error("a click on the head opens")
		}
	}
	s := seeing(t, viewNodes, 120, 16, eventsOf(t, layersRun), nil)
	v := s.screens[viewNodes].(*nodes)
	s.press("j")
	s.text()
	s.wheels(100, 5, tea.MouseButtonWheelDown)
	if v.ladder.top == 0 || v.list.top != 0 || v.inside {
		t.Errorf("the wheel over the evidence leads to line %d, in the list to %d, inside %v", v.ladder.top, v.list.top, v.inside)
	}
	s.clicks(100, 5)
	if !v.inside {
		t.Error("a click on the evidence does not lead into it")
	}
}

// TestNodesFollow: the cursor stays on its node when others come, change and go.
func TestNodesFollow(t *testing.T) {
	t.Parallel()
	s := seeing(t, viewNodes, 120, 40, nil, withFeed(eventsOf(t, layersRun), false, nil))
	v := s.screens[viewNodes].(*nodes)
	s.press("G", "k", "enter")
	s.wants("›node-1")
	node := *v.current()
	e := *node.Enforcement
	e.Capabilities, e.Reason = kernel.No, "the agent was stopped"
	node.Enforcement = &e
	s.feed(scan.Event{Node: &scan.Node{Name: "a-new-one"}}, scan.Event{Node: &node})
	s.wants("›node-1", "the agent was stopped")
	if !v.inside {
		t.Error("a change leads out of the evidence")
	}
	s.feed(scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedNode, Node: "node-1"}})
	if strings.Contains(s.text(), "node-1") || v.inside {
		t.Error("a node that is gone is still seen")
	}
}

func TestNodesResize(t *testing.T) {
	t.Parallel()
	for _, events := range [][]scan.Event{eventsOf(t, layersRun), manyNodes(80), {{Node: &scan.Node{Name: strings.Repeat("日本", 60), OSImage: hostile}}}} {
		s := seeing(t, viewNodes, 80, 24, events, nil)
		s.press("G")
		s.resizes()
		s.press("enter", "G")
		s.resizes()
		s.press("esc", "/", "n")
		s.resizes()
		s.harmless()
	}
}
