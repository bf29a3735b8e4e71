package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// story is the stream of a watch in the making: each moment is one batch.
type story struct {
	events []scan.Event
	now    time.Time
	// batches are the places behind which a batch ends.
	batches map[int]bool
}

// at begins a batch that much later.
func (s *story) at(after time.Duration, events ...scan.Event) {
	s.now = s.now.Add(after)
	for _, e := range events {
		e.Time = s.now
		s.events = append(s.events, e)
	}
	s.batches[len(s.events)] = true
}

// watchEvents is a watch that has everything in it: the picture of layeredEvents, then
// workloads that come, change and go, a storm, a cluster that cannot be read for a
// while, incidents, floods, gaps, and an enemy's words everywhere.
func watchEvents() []scan.Event { return watchStory().events }

func watchStory() *story {
	s := &story{now: sampleTime(), batches: map[int]bool{}}
	var first []scan.Event
	for _, e := range layeredEvents() {
		switch {
		case e.Start != nil:
			start := *e.Start
			start.Watch, start.Alerts = true, true
			e.Start = &start
		case e.End != nil:
			e = scan.Event{Picture: e.End}
		}
		first = append(first, e)
	}
	s.at(0, first...)
	s.posture()
	s.storm()
	s.alerts()
	s.at(30*time.Minute, scan.Event{End: first[len(first)-1].Picture})
	return s
}

func watchVerdict(name string, was, verdict scan.Verdict) *scan.WorkloadVerdict {
	v := &scan.WorkloadVerdict{
		Workload: sampleWorkload("shop", "Deployment", name), Verdict: verdict, Was: was,
		Reason: "no escape path is open in the spec", PSSAllowed: true, Pods: 3,
	}
	if verdict == scan.VerdictExposed {
		v.Reason, v.Severity, v.PSSAllowed = "1 escape path is open and nothing is known that stops it", scan.SeverityCritical, false
		v.Paths = []string{"escape-nsenter"}
	}
	return v
}

func watchFinding(name, rule string, severity scan.Severity) *scan.Finding {
	return &scan.Finding{
		Rule: rule, Category: scan.CategoryEscape, Title: "t", Severity: severity, Open: true,
		Workload: sampleWorkload("shop", "Deployment", name), Container: "app", ContainerKind: scan.KindContainer,
		Field: "spec.containers[0].securityContext.privileged", Item: rule, Now: []byte("true"),
		Fix: &scan.Fix{Op: scan.FixSet, Value: []byte("false")}, Message: "sees the host's processes", Pods: 3,
	}
}

// posture is what changes in the cluster, one thing at a time.
func (s *story) posture() {
	cart := func(f *scan.Finding) *scan.Resolved {
		ref := f.Ref()
		return &scan.Resolved{What: scan.ResolvedFinding, Reason: "its pods have it no more", Workload: &f.Workload, Finding: &ref}
	}
	open, second := watchFinding("cart", "escape-nsenter", scan.SeverityCritical), watchFinding("cart", "escape-privileged", scan.SeverityHigh)
	s.at(4*time.Second,
		scan.Event{Finding: open}, scan.Event{Finding: second}, scan.Event{Finding: watchFinding("cart", "privileged", scan.SeverityHigh)},
		scan.Event{Finding: watchFinding("cart", "runAsNonRoot", scan.SeverityMedium)}, scan.Event{Finding: watchFinding("cart", "seccompProfile_baseline", scan.SeverityMedium)},
		scan.Event{Verdict: watchVerdict("cart", "", scan.VerdictExposed)})
	recount := *watchVerdict("cart", scan.VerdictExposed, scan.VerdictExposed)
	recount.Recount, recount.Pods = true, 9
	s.at(10*time.Second, scan.Event{Verdict: &recount})
	excepted := *second
	excepted.Excepted = &scan.Excepted{Reason: "until the agent is rebuilt", Expires: "2026-12-31"}
	s.at(10*time.Second, scan.Event{Finding: &excepted}, scan.Event{Verdict: watchVerdict("cart", scan.VerdictExposed, scan.VerdictExposed)})
	s.at(10*time.Second, scan.Event{Resolved: cart(open)}, scan.Event{Resolved: cart(&excepted)}, scan.Event{Verdict: watchVerdict("cart", scan.VerdictExposed, scan.VerdictClosed)})
	w := sampleWorkload("shop", "Deployment", "cart")
	s.at(10*time.Second, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Reason: "the workload is gone", Workload: &w, Was: scan.VerdictClosed}})

	broken := &scan.Failure{Subject: "watch of pods", Reason: scan.FailureUnreachable, Message: "connection refused", Affects: "changes since 10:30:44Z are not seen"}
	ref := broken.Ref()
	s.at(20*time.Second, scan.Event{Failure: broken})
	s.at(30*time.Second, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Reason: "it is followed again", Failure: &ref}})

	policy := *layeredPolicies()[0].Policy
	policy.Bites, policy.Reasons = scan.BitesNo, []string{"its selector matches no pod"}
	gone := layeredPolicies()[2].Policy.Ref()
	node := *layeredNodes()[0].Node
	weak := *node.Enforcement
	weak.Capabilities, weak.Processes, weak.Enforcer, weak.Reason = "no", "no", "", "no KubeArmor agent is ready on the node"
	node.Enforcement = &weak
	fresh := *layeredNodes()[1].Node
	fresh.Name = "node-9"
	s.at(10*time.Second,
		scan.Event{Policy: &policy}, scan.Event{Node: &node}, scan.Event{Node: &fresh},
		scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedPolicy, Reason: "the policy is gone", Policy: &gone}},
		scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedNode, Reason: "the node is gone", Node: "node-5"}},
		scan.Event{Finding: &scan.Finding{
			Rule: "policy-selects-nothing", Category: scan.CategoryPolicy, Title: "Policy that selects no pod", Severity: scan.SeverityLow,
			Workload: sampleWorkload("shop", "KubeArmorPolicy", "disallow-capabilities"), Field: "spec.selector", Now: []byte("null"), Message: "no pod has what the selector asks for",
		}})
	hostile := layeredHostile(evil)
	for i := range hostile {
		if v := hostile[i].Verdict; v != nil {
			again := *v
			again.Was, again.Reason = scan.VerdictExposed, evil+" again"
			hostile[i].Verdict = &again
		}
	}
	s.at(10*time.Second, hostile...)
}

// storm is one label of a namespace that changes many workloads.
func (s *story) storm() {
	var events []scan.Event
	for i := range 40 {
		name := fmt.Sprintf("app-%02d", i)
		was := scan.VerdictClosed
		if i >= 30 {
			was = ""
		}
		events = append(events, scan.Event{Finding: watchFinding(name, "escape-nsenter", scan.SeverityCritical)}, scan.Event{Verdict: watchVerdict(name, was, scan.VerdictExposed)})
	}
	s.at(time.Minute, events...)
	s.at(200*time.Millisecond, scan.Event{Verdict: watchVerdict("late", "", scan.VerdictClosed)})
}

func watchAlert(id string) *scan.Alert {
	at := sampleTime().Add(5 * time.Minute)
	return &scan.Alert{
		ID: id, Class: scan.ClassCapability, Incident: true, Severity: scan.SeverityCritical,
		Reason: "SYS_ADMIN was used, a step of escape-cap-sys-admin, which shop/Deployment/app-00 leaves open", Techniques: []string{"T1611"},
		Workload: sampleWorkload("shop", "Deployment", "app-00"), Verdict: scan.VerdictExposed, Paths: []string{"escape-cap-sys-admin"},
		Node: "node-1", Pod: "app-00-7d9f", Container: "app", Operation: "Capabilities", Policy: "disallow-capabilities", Action: "Block",
		Result: "Passed", Enforcer: "BPFLSM", Resource: "CAP_SYS_ADMIN", Process: "/usr/bin/unshare", Parent: "/bin/sh", Count: 1, First: at, Last: at,
	}
}

// alerts are incidents, notes, floods and gaps.
func (s *story) alerts() {
	note := func(id string, class scan.AlertClass, count int) scan.Event {
		a := watchAlert(id)
		a.Class, a.Incident, a.Severity, a.Blocked, a.Count = class, false, scan.SeverityLow, true, count
		a.Verdict, a.Paths, a.Techniques = scan.VerdictSealed, nil, nil
		a.Reason, a.Resource, a.Process = "it was stopped, and the workload is sealed", "/usr/bin/curl https://example.com", "/usr/bin/curl"
		return scan.Event{Alert: a}
	}
	again := *watchAlert("a-1")
	again.Count, again.Last = 27, again.Last.Add(10*time.Second)
	s.at(time.Minute, scan.Event{Alert: watchAlert("a-1")}, note("n-1", scan.ClassTool, 1))
	s.at(10*time.Second, scan.Event{Alert: &again}, note("n-1", scan.ClassTool, 120), note("n-2", scan.ClassChroot, 3))
	var flood []scan.Event
	for i := range 30 {
		a := watchAlert(fmt.Sprintf("flood-%02d", i))
		a.Blocked, a.Severity, a.Verdict, a.Class = true, scan.SeverityHigh, "", scan.ClassChroot
		flood = append(flood, scan.Event{Alert: a})
	}
	s.at(20*time.Second, flood...)
	from := s.now
	gap := &scan.Lost{ID: "l-1", Reason: scan.LostDeaf, From: from, Source: "kubearmor:32767", Message: "connection refused"}
	closed := *gap
	closed.To = from.Add(45 * time.Second)
	w := sampleWorkload("shop", "Deployment", "app-00")
	s.at(10*time.Second, scan.Event{Lost: gap}, scan.Event{Lost: &scan.Lost{
		ID: "l-2", Reason: scan.LostThrottled, From: from, To: from.Add(30 * time.Second), Workload: &w, Node: "node-1", Pod: "app-00-7d9f", Container: "app", Alerts: 412,
		Message: "KubeArmor keeps quiet about the container for 30 s",
	}})
	s.at(45*time.Second, scan.Event{Lost: &closed})
	s.at(time.Minute, hostileAlert(evil), hostileLost(evil))
}

// hostileAlert has s wherever an alert has text that others choose.
func hostileAlert(s string) scan.Event {
	return scan.Event{Alert: &scan.Alert{
		ID: "hostile " + s, Class: scan.ClassEscape, Incident: true, Severity: scan.SeverityHigh, Reason: s, Techniques: []string{s},
		Workload: scan.Workload{Cluster: s, Namespace: s, Kind: s, Name: s}, Claims: s, Verdict: scan.VerdictUnknown, Paths: []string{s}, Node: s, Pod: s, Container: s,
		Operation: s, Policy: s, Action: s, Result: s, Enforcer: s, Resource: s, Process: s, Parent: s, Count: 2, First: sampleTime(), Last: sampleTime(),
	}}
}

// hostileLost is a gap of that kind.
func hostileLost(s string) scan.Event {
	return scan.Event{Lost: &scan.Lost{
		ID: "hostile " + s, Reason: scan.LostUnreadable, From: sampleTime(), Source: s, Workload: &scan.Workload{Cluster: s, Namespace: s, Kind: s, Name: s},
		Node: s, Pod: s, Container: s, Message: s,
	}}
}

// auditEvents is a scan of one workload with a window of alerts.
func auditEvents() []scan.Event {
	start := *layeredEvents()[0].Start
	start.Alerts = true
	var told alertLog
	for _, e := range watchEvents() {
		if e.Alert == nil || !strings.HasPrefix(e.Alert.ID, "flood-") || e.Alert.ID < "flood-03" {
			told.keep(e)
		}
	}
	events := append([]scan.Event{{Start: &start}}, layeredCheckout()...)
	for _, a := range told.alerts {
		events = append(events, scan.Event{Alert: a})
	}
	for _, l := range told.lost {
		events = append(events, scan.Event{Lost: l})
	}
	return append(events, scan.Event{End: &scan.End{
		Pods: 8, Workloads: 1, Findings: map[scan.Severity]int{scan.SeverityLow: 1}, Verdicts: map[scan.Verdict]int{scan.VerdictGuarded: 1},
	}})
}
