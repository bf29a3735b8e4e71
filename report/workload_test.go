package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

func explainText(t testing.TB, workload string, width int, events []scan.Event) (string, error) {
	t.Helper()
	var out bytes.Buffer
	h := NewExplain(&out, workload, width)
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			return out.String(), err
		}
	}
	return out.String(), nil
}

// squash takes line breaks and blanks out of text, so that wrapping does not matter.
func squash(s string) string { return strings.Join(strings.Fields(s), "") }

// Everything that the layers say of a workload stands in its explanation, at every
// width, and no line is wider than asked.
func TestExplainWorkloadLeavesNothingOut(t *testing.T) {
	for name, workload := range explanations() {
		for _, width := range []int{0, 1, 40, 80, 100, 500} {
			t.Run(fmt.Sprint(name, width), func(t *testing.T) {
				text, err := explainText(t, workload, width, layeredEvents())
				if err != nil {
					t.Fatal(err)
				}
				if r, bad := harmful(text); bad {
					t.Errorf("lets %U through", r)
				}
				if width > 0 {
					checkLines(t, text, max(width, narrowest))
				}
				squashed := strings.ToLower(squash(text))
				for _, e := range layeredEvents() {
					if e.Verdict == nil || !strings.EqualFold(e.Verdict.Workload.String(), workload) {
						continue
					}
					eachString(reflect.ValueOf(e.Verdict.Layers), func(v reflect.Value) {
						if !strings.Contains(squashed, strings.ToLower(squash(Clean(v.String())))) && !strings.HasPrefix(v.String(), "/") {
							t.Errorf("%s %q is missing", v.Type(), v.String())
						}
					})
				}
			})
		}
	}
}

// The nodes that decide are there with every piece of evidence, and no other.
func TestExplainWorkloadNodes(t *testing.T) {
	text, err := explainText(t, "shop/Deployment/checkout", 0, layeredEvents())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range layeredEvents() {
		if e.Node == nil {
			continue
		}
		concerned := e.Node.Name == "node-1" || e.Node.Name == "node-2"
		if got := strings.Contains(text, "\n  "+Clean(e.Node.Name)+"  "); got != concerned {
			t.Errorf("node %s is shown: %v", Clean(e.Node.Name), got)
		}
		for _, ev := range e.Node.Enforcement.Evidence {
			if concerned && !strings.Contains(text, Clean(ev.Source)+": "+Clean(ev.Value)) {
				t.Errorf("%s is missing", ev.Source)
			}
		}
	}
	for _, want := range []string{"DECIDES", "12 days before the run", "of unknown age", "proven   says yes"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// Where no node is named and the pods run on all of them, all are shown.
func TestExplainWorkloadOnAllNodes(t *testing.T) {
	events := []scan.Event{
		{Node: &scan.Node{Name: "n-1"}}, {Node: &scan.Node{Name: "n-2"}},
		{Verdict: &scan.WorkloadVerdict{Workload: sampleWorkload("a", "Pod", "p"), Verdict: scan.VerdictUnknown, Layers: &scan.Layers{Kernel: scan.KernelLayer{Nodes: 2}}}},
		{End: &scan.End{}},
	}
	text, err := explainText(t, "a/pod/p", 80, events)
	if err != nil || !strings.Contains(text, "n-1") || !strings.Contains(text, "n-2") || !strings.Contains(text, "what it enforces was not judged") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestExplainWorkloadFindsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		workload string
		want     []string
	}{
		"as it is written":         {"shop/Deployment/checkout", nil},
		"the kind in another case": {"shop/dePLOYment/checkout", nil},
		"a letter off":             {"shop/Deployment/chekout", []string{"no such workload was judged", "did you mean shop/Deployment/checkout?"}},
		"another namespace":        {"prod/Deployment/checkout", []string{"did you mean shop/Deployment/checkout?"}},
		"another kind":             {"shop/Pod/checkout", []string{"did you mean shop/Deployment/checkout?"}},
		"the name's own case":      {"shop/Deployment/Checkout", []string{"did you mean shop/Deployment/checkout?"}},
		"nothing like it":          {"shop/Deployment/zzzzzzzzzzzz", []string{"no such workload was judged; the run is incomplete, PolicyException.kyverno.io could not be read (forbidden)"}},
		"several near":             {"web/Deployment/site-9", []string{"did you mean web/Deployment/site-09, web/Deployment/site-"}},
		"no kind":                  {"shop/checkout", []string{"want NAMESPACE/KIND/NAME"}},
		"no name":                  {"shop/Deployment/", []string{"want NAMESPACE/KIND/NAME"}},
		"an enemy's words":         {"shop/Deployment/\x1b[31m\u202e", []string{`shop/Deployment/\x1b[31m\u202e`}},
		"a finding's node":         {"-/Node/node-4", []string{"no such workload was judged"}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := explainText(t, tc.workload, 80, layeredEvents())
			if tc.want == nil {
				if err != nil || !strings.HasPrefix(text, "shop/Deployment/checkout in prod-eu\nGUARDED") {
					t.Errorf("%v\n%s", err, text)
				}
				return
			}
			if err == nil || text != "" {
				t.Fatalf("got %v and %q", err, text)
			}
			if strings.Contains(tc.want[0], "no such") && !errors.Is(err, ErrNoWorkload) {
				t.Errorf("%v is not ErrNoWorkload", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %s", err, want)
				}
			}
			if r, bad := harmful(err.Error()); bad {
				t.Errorf("lets %U through", r)
			}
		})
	}
}

func TestExplainWorkloadWithoutNamespace(t *testing.T) {
	events := []scan.Event{
		{Verdict: &scan.WorkloadVerdict{Workload: scan.Workload{Kind: "Pod", Name: "p"}, Verdict: scan.VerdictClosed, PSSAllowed: true, Reason: "no path"}},
		{End: &scan.End{}},
	}
	text, err := explainText(t, "-/pod/p", 0, events)
	if err != nil || !strings.HasPrefix(text, "-/Pod/p\nCLOSED\n  no path\n") || !strings.Contains(text, "Only the spec was judged") {
		t.Errorf("%v\n%s", err, text)
	}
}

// Pods that differ are rows of their own, and each has its reasoning.
func TestExplainWorkloadRows(t *testing.T) {
	row := func(v scan.Verdict, pods int, reason string) scan.Event {
		return scan.Event{Verdict: &scan.WorkloadVerdict{Workload: sampleWorkload("a", "Deployment", "d"), Verdict: v, Pods: pods, Reason: reason,
			Layers: &scan.Layers{Admission: admission.Decision{Answer: admission.Admits, Reason: "admission of " + reason}}}}
	}
	text, err := explainText(t, "a/Deployment/d", 0, []scan.Event{row(scan.VerdictClosed, 3, "the old ones"), row(scan.VerdictExposed, 1, "the new one"), {End: &scan.End{}}})
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, want := range []string{"EXPOSED  1 pod  row 1 of 2", "CLOSED  3 pods  row 2 of 2", "ROW 1 OF 2  EXPOSED", "admission of the new one", "ROW 2 OF 2  CLOSED", "admission of the old ones"} {
		at := strings.Index(text, want)
		if at <= last {
			t.Errorf("%q is at %d, want it after %d in\n%s", want, at, last, text)
		}
		last = at
	}
}

// What would make it better follows from what is missing, verdict by verdict.
func TestExplainWorkloadSaysWhatWouldBeBetter(t *testing.T) {
	for workload, wants := range map[string][]string{
		"kube-system/DaemonSet/node-agent": {
			"escape-nsenter: runtime: no KubeArmor policy takes effect in a pod with hostPID; kernel: no KubeArmor agent is ready on node-4",
			"KubeArmorClusterPolicy disallow-tools, KubeArmorPolicy kube-system/agents: take hostPID from the pod; nothing else makes a policy bite (hostpid)",
			"node node-4: no KubeArmor agent is ready on the node", "escape-nsenter: set spec.hostPID to false", "set failureAction to Enforce (kyverno-audit)",
		},
		"batch/CronJob/report": {
			"escape-cap-sys-admin in container prepare: runtime: no policy in force blocks capability sys_admin in container prepare (init containers are not covered by any policy)",
		},
		"payments/Deployment/ledger": {
			"let the scan read what it could not", "it is not known whether capability sys_module is blocked in container app",
			"node node-5: only the OS image speaks for it",
		},
		"shop/Deployment/checkout": {"escape-cap-sys-admin: remove spec.containers[0].securityContext.capabilities.add[0] in container app"},
		"web/Deployment/site-00": {
			"admission has to refuse a pod with escape-host-root, escape-privileged (the labels of web enforce nothing)",
			"in container web a policy in force has to block sys_admin, sys_ptrace, sys_module, dac_read_search, dac_override, chroot",
		},
		"web/Deployment/site-10": {"Nothing: no verdict is better than sealed."},
	} {
		text, err := explainText(t, workload, 0, layeredEvents())
		if err != nil {
			t.Fatal(err)
		}
		_, better, _ := strings.Cut(text, "WHAT WOULD MAKE IT BETTER\n")
		for _, want := range wants {
			if !strings.Contains(better, want) {
				t.Errorf("%s: no %q in\n%s", workload, want, better)
			}
		}
		if strings.Contains(better, "container main: runtime") {
			t.Errorf("%s: asks for what is stopped already", workload)
		}
	}
}

func TestExplainWorkloadPassesErrorsOn(t *testing.T) {
	full := errors.New("disk full")
	err := ExplainWorkload(failing{full}, Explained{Workload: sampleWorkload("a", "Pod", "p")}, 80)
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

func TestAge(t *testing.T) {
	for seconds, want := range map[int64]string{1: "1 second", 90: "90 seconds", 150: "2 minutes", 7200: "2 hours", 100_000: "27 hours", 200_000: "2 days"} {
		if got := age(seconds); got != want {
			t.Errorf("%d: %s, want %s", seconds, got, want)
		}
	}
}

// FuzzExplainWorkload puts one hostile text wherever an outsider could have put it.
func FuzzExplainWorkload(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, s string) {
		in := Explained{Workload: scan.Workload{Cluster: s, Namespace: s, Kind: s, Name: s}}
		for _, e := range hostileEvents(s) {
			switch {
			case e.Start != nil:
				in.Start = e.Start
			case e.Finding != nil:
				in.Findings = append(in.Findings, e.Finding)
			case e.Verdict != nil:
				in.Verdicts = append(in.Verdicts, e.Verdict)
			case e.Policy != nil:
				in.Policies = append(in.Policies, e.Policy)
			case e.Node != nil:
				in.Nodes = append(in.Nodes, e.Node)
			case e.Failure != nil:
				in.Failures = append(in.Failures, e.Failure)
			}
		}
		for _, width := range []int{0, 40, 100} {
			var out bytes.Buffer
			if err := ExplainWorkload(&out, in, width); err != nil {
				t.Fatal(err)
			}
			if r, bad := harmful(out.String()); bad {
				t.Errorf("width %d lets %U through", width, r)
			}
			if width > 0 {
				checkLines(t, out.String(), width)
			}
		}
		h := NewExplain(io.Discard, s, 80)
		for _, e := range hostileEvents(s) {
			if err := h.Handle(e); err != nil {
				if r, bad := harmful(err.Error()); bad {
					t.Errorf("the error lets %U through", r)
				}
				break
			}
		}
	})
}

func TestNearestKeepsTheNearestFew(t *testing.T) {
	n := nearest{to: scan.Workload{Namespace: "a", Kind: "Pod", Name: "checkout"}}
	for i := range 50_000 {
		n.add(scan.Workload{Namespace: "b", Kind: "Pod", Name: fmt.Sprintf("checkout%d", i%10)})
		n.add(scan.Workload{Namespace: "b", Kind: "Pod", Name: strings.Repeat("x", 1000)})
	}
	n.add(scan.Workload{Namespace: "a", Kind: "Pod", Name: "checkin"})
	n.add(scan.Workload{Namespace: "a", Kind: "Job", Name: "checkout"})
	if got := strings.Join(n.names(), " "); got != "a/Job/checkout b/Pod/checkout0 b/Pod/checkout1" {
		t.Errorf("got %s", got)
	}
}

func TestEnforcementRankPutsTheWorstFirst(t *testing.T) {
	last := -1
	for _, answers := range [][2]kernel.Answer{{"no", "no"}, {"no", "unknown"}, {"unknown", "unknown"}, {"yes", "unknown"}, {"yes", "yes"}} {
		rank := enforcementRank(&kernel.Enforcement{Capabilities: answers[0], Processes: answers[1]})
		if rank <= last {
			t.Errorf("%v ranks %d", answers, rank)
		}
		last = rank
	}
}

// What happens later, or was done at run time, is no part of the reasoning; of a watch
// it is that of its end.
func TestExplainOfAWatch(t *testing.T) {
	name := explanations()["explain-guarded"]
	want := write(t, explains(name, 100), layeredEvents())
	events := layeredEvents()
	for _, e := range watchEvents() {
		if e.Alert != nil || e.Lost != nil {
			events = slices.Insert(events, len(events)-1, e)
		}
	}
	if got := write(t, explains(name, 100), events); !bytes.Equal(got, want) {
		t.Error(firstDifference(got, want))
	}
	watch := format{"explain", func(w io.Writer) scan.Handler { return Picture(NewExplain(w, name, 100)) }}
	got := string(write(t, watch, watchEvents()))
	// The policy that guarded it selects nothing at the end of that watch.
	if !strings.Contains(got, "GUARDED") || !strings.Contains(got, "its selector matches no pod") {
		t.Errorf("%s", got)
	}
}
