package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// Where only specs were judged, nothing pretends that the layers were.
func TestTableWithoutLayersDoesNotSpeakOfThem(t *testing.T) {
	for _, width := range []int{0, 40, 120} {
		text := tableText(t, TableOptions{Width: width}, sampleEvents())
		for _, word := range []string{"ADM ", "RUN ", "KRN", "LAYERS", "POLICIES", "enforce", "--explain", "guarded)"} {
			if strings.Contains(text, word) {
				t.Errorf("width %d: %q in\n%s", width, word, text)
			}
		}
	}
}

func TestLayerColumns(t *testing.T) {
	paths := func(answers ...scan.Stops) []scan.PathLayers {
		rows := make([]scan.PathLayers, len(answers))
		for i, a := range answers {
			rows[i].Runtime.Answer = a
		}
		return rows
	}
	both := func(a kernel.Answer, g kernel.Grade) scan.KernelLayer {
		return scan.KernelLayer{Capabilities: a, Processes: a, Grade: g}
	}
	for name, tc := range map[string]struct {
		layers scan.Layers
		want   string
		worst  style
	}{
		"open and all of it stopped": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Refuses}, Paths: paths("stops", "stops"), Kernel: both("yes", "proven")},
			"ADM refuses, RUN stops 2/2, KRN proven", green,
		},
		"some stopped, some unknown": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Admits}, Paths: paths("lets through", "stops", "unknown"), Kernel: both("yes", "claimed")},
			"ADM admits, RUN stops 1/3, 1 unknown, KRN claimed", red,
		},
		"what is unknown is not a pass": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Unknown}, Paths: paths("unknown"), Kernel: both("unknown", "hinted")},
			"ADM unknown, RUN stops 0/1, 1 unknown, KRN unknown", doubtful,
		},
		"a yes that is only hinted is unknown": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Unknown}, Paths: paths("unknown"), Kernel: both("yes", "hinted")},
			"ADM unknown, RUN stops 0/1, 1 unknown, KRN unknown hinted", doubtful,
		},
		"words that are missing are unknown": {scan.Layers{}, "ADM unknown, RUN unknown, KRN unknown", doubtful},
		"AppArmor stops no capabilities": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Admits}, Paths: paths("stops"), Kernel: scan.KernelLayer{Capabilities: "no", Processes: "yes", Grade: "claimed"}},
			"ADM admits, RUN stops 1/1, KRN no caps", red,
		},
		"nothing enforces": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Admits}, Paths: paths("stops"), Kernel: both("no", "proven")},
			"ADM admits, RUN stops 1/1, KRN none", red,
		},
		"processes are not known": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Refuses}, Paths: paths("stops"), Kernel: scan.KernelLayer{Capabilities: "yes", Processes: "unknown"}},
			"ADM refuses, RUN stops 1/1, KRN caps only", yellow,
		},
		"closed and sealed up": {
			scan.Layers{Reopen: admission.Refuses, Runtime: scan.RuntimeLayer{Set: "yes"}, Kernel: both("yes", "proven")},
			"ADM keeps shut, RUN full set, KRN proven", green,
		},
		"closed and easily reopened": {
			scan.Layers{Admission: admission.Decision{Answer: admission.Admits}, Reopen: admission.Admits, Reopens: []string{"a", "b"}, Runtime: scan.RuntimeLayer{Set: "no"}, Kernel: both("yes", "proven")},
			"ADM lets in 2, RUN no full set, KRN proven", yellow,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var texts []string
			styles := map[style]bool{}
			for _, s := range layerSpans(&tc.layers) {
				texts = append(texts, s.text)
				styles[s.style] = true
			}
			if got := strings.Join(texts, ", "); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if !styles[tc.worst] {
				t.Errorf("styles %v, want %q among them", styles, tc.worst)
			}
			if tc.worst != green && len(styles) == 1 && styles[green] {
				t.Error("all green")
			}
		})
	}
}

// On a terminal each workload has its columns and the reason of the worst path; in a
// pipe they stand on the verdict's own line.
func TestTableColumnsAndReason(t *testing.T) {
	text := tableText(t, TableOptions{Width: 120}, layeredEvents())
	want := `EXPOSED  kube-system/DaemonSet/node-agent  critical  5 pods  refused by PSS baseline
         ADM admits      RUN stops 0/2  KRN none
         escape-nsenter: no KubeArmor policy takes effect in a pod with hostPID
`
	if !strings.Contains(text, want) {
		t.Errorf("no\n%sin\n%s", want, text)
	}
	for line := range strings.Lines(tableText(t, TableOptions{}, layeredEvents())) {
		for _, v := range scan.Verdicts() {
			if strings.HasPrefix(line, strings.ToUpper(string(v))+" ") && (!strings.Contains(line, "  ADM ") || !strings.Contains(line, "  RUN ") || !strings.Contains(line, "  KRN ")) {
				t.Errorf("no columns in %q", line)
			}
		}
	}
}

// The sentence is that of a path that is open, whatever the order of the rows.
func TestTheReasonIsOfTheWorstPath(t *testing.T) {
	v := &scan.WorkloadVerdict{Verdict: scan.VerdictExposed, Reason: "of the verdict", Layers: &scan.Layers{Paths: []scan.PathLayers{
		{Path: "escape-a", State: scan.PathStopped, Reason: "stopped"}, {Path: "escape-b", State: scan.PathUnknown, Reason: "unknown"}, {Path: "escape-c", State: scan.PathOpen, Reason: "open"},
	}}}
	if got := Decides(v); got != "escape-c: open" {
		t.Errorf("got %q", got)
	}
	for _, other := range []scan.Verdict{scan.VerdictUnknown, scan.VerdictGuarded, scan.VerdictSealed} {
		v.Verdict = other
		if got := Decides(v); got != "of the verdict" {
			t.Errorf("%s: got %q", other, got)
		}
	}
}

func TestTableFoldsSealedApartFromClosed(t *testing.T) {
	text := tableText(t, TableOptions{Width: 120}, layeredEvents())
	for _, want := range []string{
		"CLOSED   10 workloads without findings  not sealed:  ADM may reopen 10,  RUN no full set on 10\n",
		"SEALED   3 workloads without findings\n",
		"VERDICTS  3 exposed  1 unknown  1 guarded  10 closed  3 sealed\n",
		"2 escape-cap-sys-admin (1 guarded)",
		"POLICIES  6 found  1 bite  2 partly  2 not  1 unknown\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestTableMarksWhatIsGuarded(t *testing.T) {
	for _, width := range []int{0, 120} {
		marked := 0
		for line := range strings.Lines(tableText(t, TableOptions{Width: width}, layeredEvents())) {
			if strings.Contains(line, "  guarded") && strings.HasPrefix(strings.TrimSpace(line), "LOW ") {
				marked++
			}
		}
		if marked < 2 {
			t.Errorf("width %d: %d findings are marked as guarded", width, marked)
		}
	}
}

// One cause is one entry on a terminal, with its policies, the workloads where it was
// seen and the mend; in a pipe each finding is a line that has all of it.
func TestTablePoliciesThatDoNotBite(t *testing.T) {
	finding := func(rule string, w scan.Workload, container, message, mend string, policies ...string) scan.Event {
		return scan.Event{Finding: &scan.Finding{
			Rule: rule, Category: scan.CategoryPolicy, Severity: scan.SeverityHigh, Workload: w, Container: container, ContainerKind: scan.KindInit,
			Field: "spec", Message: message, Mend: mend, Policies: policies,
		}}
	}
	pod := func(ns string) scan.Workload { return scan.Workload{Namespace: ns, Kind: "Pod", Name: "seer"} }
	audit := scan.Workload{Kind: "ClusterPolicy", Name: "psa"}
	events := []scan.Event{
		finding("policy-hostpid", pod("a"), "", "no effect with hostPID", "drop hostPID", "KubeArmorPolicy a/p"),
		finding("policy-hostpid", pod("b"), "", "no effect with hostPID", "drop hostPID", "KubeArmorPolicy b/p", "KubeArmorClusterPolicy c"),
		finding("policy-init-container", pod("b"), "prepare", "not covered", "an ordinary container", "KubeArmorClusterPolicy c"),
		finding("policy-kyverno-audit", audit, "", "failureAction is Audit", "set Enforce", "ClusterPolicy psa"),
		finding("policy-psa-not-enforced", scan.Workload{Namespace: "a", Kind: "Namespace", Name: "a"}, "", "the label only warns", "set enforce"),
	}
	for _, ns := range []string{"b", "a"} {
		ruling := func(cause admission.Cause) admission.Ruling {
			return admission.Ruling{By: admission.Ref{Mechanism: admission.KyvernoPolicy, Kind: "ClusterPolicy", Name: "psa", Rule: "r"}, Toothless: &admission.Toothless{Cause: cause, Mend: "set Enforce"}}
		}
		events = append(events, scan.Event{Verdict: &scan.WorkloadVerdict{
			Workload: pod(ns), Verdict: scan.VerdictExposed,
			Layers: &scan.Layers{Admission: admission.Decision{Rulings: []admission.Ruling{ruling(admission.CauseKyvernoAudit), ruling(admission.CauseExcluded)}}},
		}})
	}
	events = append(events, scan.Event{End: &scan.End{Workloads: 2}})
	want := `
POLICIES THAT DO NOT BITE
  HIGH      policy-hostpid  KubeArmorPolicy a/p, KubeArmorPolicy b/p, KubeArmorClusterPolicy c
            no effect with hostPID
            on 2 workloads: a/Pod/seer, b/Pod/seer
            mend: drop hostPID
  HIGH      policy-init-container  KubeArmorClusterPolicy c
            not covered
            on 1 workload: b/Pod/seer prepare (init)
            mend: an ordinary container
  HIGH      policy-kyverno-audit  ClusterPolicy psa
            failureAction is Audit
            on 2 workloads: a/Pod/seer, b/Pod/seer
            mend: set Enforce
  HIGH      policy-psa-not-enforced  a/Namespace/a
            the label only warns
            mend: set enforce
`
	if text := tableText(t, TableOptions{Width: 100}, events); !strings.Contains(text, want) {
		t.Errorf("want %s\nin %s", want, text)
	}
	piped := tableText(t, TableOptions{}, events)
	for _, line := range []string{
		"HIGH      policy-hostpid  a/Pod/seer  spec  no effect with hostPID  policies: KubeArmorPolicy a/p  mend: drop hostPID\n",
		"HIGH      policy-init-container  b/Pod/seer  prepare (init)  spec  not covered  policies: KubeArmorClusterPolicy c  mend: an ordinary container\n",
		"HIGH      policy-kyverno-audit  -/ClusterPolicy/psa  spec  failureAction is Audit  on 2 workloads: a/Pod/seer, b/Pod/seer  mend: set Enforce\n",
	} {
		if !strings.Contains(piped, line) {
			t.Errorf("no %sin %s", line, piped)
		}
	}
}

func TestTablePolicies(t *testing.T) {
	var events []scan.Event
	for i := range 60 {
		p := &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Namespace: "ns", Name: fmt.Sprintf("p-%02d", i), Action: "Block", Workloads: 1, Pods: 2, Bites: scan.BitesYes}
		if i%2 == 0 {
			p.Bites, p.Reasons = scan.BitesPartly, []string{"init containers are not covered"}
		}
		events = append(events, scan.Event{Policy: p})
	}
	events = append(events, scan.Event{End: &scan.End{Workloads: 1}})
	screen := tableText(t, TableOptions{Width: 80}, events)
	if strings.Contains(screen, "p-01") || !strings.Contains(screen, "  PARTLY    ns/KubeArmorPolicy/p-00  Block  1 workload  2 pods\n") || !strings.Contains(screen, "and 10 more") {
		t.Errorf("on a terminal\n%s", screen)
	}
	if n := strings.Count(screen, "init containers are not covered"); n != 1 {
		t.Errorf("the reason stands there %d times", n)
	}
	piped := tableText(t, TableOptions{}, events)
	if n := strings.Count(piped, "POLICY    "); n != 60 {
		t.Errorf("%d policies in a pipe", n)
	}
	if want := "POLICY    PARTLY    ns/KubeArmorPolicy/p-58  Block  1 workload  2 pods  runtime  init containers are not covered\n"; !strings.Contains(piped, want) {
		t.Errorf("no %sin %s", want, piped)
	}
}

// Nodes that enforce alike are one entry; what is wrong with one of them is said.
func TestTableNodesThatEnforce(t *testing.T) {
	var events []scan.Event
	for i := range 30 {
		e := &kernel.Enforcement{Capabilities: "yes", Processes: "yes", Grade: "claimed", Enforcer: "bpf", Agent: "yes", Reason: fmt.Sprintf("agent kubearmor-%d says so", i)}
		switch i {
		case 3:
			e.Contradictions = []string{"lockdown is on"}
		case 7:
			e.Capabilities, e.Processes, e.Agent, e.Reason, e.TurnOn = "no", "no", "no", "bpf is not in the LSM list", ubuntuTurnOn()
		}
		events = append(events, scan.Event{Node: &scan.Node{Name: fmt.Sprintf("n-%02d", i), OSImage: "Debian", Enforcement: e}})
	}
	events = append(events, scan.Event{End: &scan.End{Workloads: 1}})
	want := `
NODES     1  Debian  does not enforce (bpf, claimed)  no KubeArmor ready  n-07
            bpf is not in the LSM list
            to turn BPF-LSM on (Ubuntu):
              add lsm=lockdown,capability,landlock,yama,apparmor,bpf to GRUB_CMDLINE_LINUX in /etc/default/grub
              run update-grub and reboot the node
              source: https://docs.kubearmor.io/kubearmor/documentation/kubearmor-security-enhancements
NODES     29  Debian  enforces (bpf, claimed)  KubeArmor ready
          n-00, n-01, n-02, n-03, n-04, n-05, n-06, n-08, n-09, n-10 and 19 more
            contradiction: n-03: lockdown is on
`
	if text := tableText(t, TableOptions{Width: 120}, events); !strings.Contains(text, want) {
		t.Errorf("want %s\nin %s", want, text)
	}
	piped := tableText(t, TableOptions{}, events)
	for i := range 30 {
		if n := strings.Count(piped, fmt.Sprintf("n-%02d\n", i)); n != 1 {
			t.Errorf("node %d has %d lines in a pipe", i, n)
		}
	}
}

// Who pastes the line that explains must not run what an enemy called a workload.
func TestTableSuggestsOnlyHarmlessCommands(t *testing.T) {
	for name, want := range map[string]bool{"app": true, "a;reboot": false, "$(reboot)": false, "a b": false, "é": false} {
		events := []scan.Event{
			{Start: &scan.Start{Schema: 1, Tool: "escape-scanner"}},
			{Verdict: &scan.WorkloadVerdict{Workload: scan.Workload{Namespace: "ns", Kind: "Pod", Name: name}, Verdict: scan.VerdictExposed, Paths: []string{"escape-x"}, Layers: &scan.Layers{}}},
			{End: &scan.End{Workloads: 1}},
		}
		if got := strings.Contains(tableText(t, TableOptions{Width: 100}, events), "--explain ns/Pod/"); got != want {
			t.Errorf("%q: suggested %v", name, got)
		}
	}
}
