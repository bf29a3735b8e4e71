package tui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// nasty is a text of an attacker: escapes, a line of its own, a reversed direction.
const nasty = "\x1b[2J\x1b]0;owned\x07red\n ✓ all safe \u202etxt<script>"

func policyOf(name, action string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy",
		"metadata": map[string]any{"namespace": "shop", "name": name},
		"spec": map[string]any{
			"action": action, "severity": "8", "selector": map[string]any{"matchLabels": map[string]any{"app": "cart"}},
			"process": map[string]any{"matchPaths": []any{map[string]any{"path": "/usr/bin/apt"}, map[string]any{"path": "/usr/bin/curl"}}},
		},
	}}
}

func changeOf(stage remediate.Stage, part set.Part, action remediate.Action, before, after *unstructured.Unstructured) remediate.Change {
	named := after
	if named == nil {
		named = before
	}
	return remediate.Change{Stage: stage, Part: part, Action: action, Object: remediate.RefOf(named), Before: before, After: after}
}

// plainPlan may be applied: four changes, one workload that breaks and is accepted.
func plainPlan() *RemedyPlan {
	audited, blocks := policyOf("escape-to-host-tools", "Audit"), policyOf("escape-to-host-tools", "Block")
	exec := preview.Effect{Outcome: preview.MayBreak, Part: set.PartCapabilities, Element: "sys_admin", What: "kubectl exec and kubectl cp are refused", Why: "joining a container takes SYS_ADMIN there", Mend: "kubectl debug still works"}
	probe := preview.Effect{
		Outcome: preview.Breaks, Part: set.PartCapabilities, Element: "sys_admin", Container: "app", ContainerKind: scan.KindContainer,
		Field: "spec.containers[0].readinessProbe.exec", What: "its readiness probe can never succeed", Why: "the runtime needs SYS_ADMIN to join the container",
		Mend: "use an httpGet probe", Pods: 3,
	}
	other := probe
	other.Field = "spec.containers[0].livenessProbe.exec"
	bare := preview.Effect{Outcome: preview.NotCovered, Part: preview.PartRuntime, Container: "setup", ContainerKind: scan.KindInit, What: "is not covered", Why: "KubeArmor does not cover init containers"}
	work := func(name string, outcome preview.Outcome, pods int, effects ...preview.Effect) preview.Workload {
		return preview.Workload{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: name}, Outcome: outcome, Pods: pods, Effects: effects}
	}
	cart := work("cart", preview.Breaks, 3, exec, probe, other)
	cart.Accepted = "exception: moves to httpGet in December"
	return &RemedyPlan{
		Word: "prod-eu", Command: "escape-scanner remediate apply -A --level baseline --action block",
		View: report.Remediation{
			Tool: "escape-scanner", Version: "v0.1.0", Time: testTime, Cluster: "prod-eu", ServerVersion: "v1.36.3",
			Admission: "no ValidatingPolicy of Kyverno's is served",
			Set: &set.Set{
				Options: set.Options{Name: "escape-to-host", Admission: set.AdmissionVAP, Level: "baseline", PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull},
				Objects: []set.Object{{Part: set.PartTools, Audit: audited, Enforce: blocks, Why: []string{"shop/Deployment/cart has curl"}}},
				Notes:   []string{"Never in scope: the namespaces kube-system, kubearmor, kyverno."},
			},
			Plan: &remediate.Plan{Set: "escape-to-host", Changes: []remediate.Change{
				changeOf(remediate.StageAudit, set.PartTools, remediate.Created, nil, audited),
				changeOf(remediate.StageEnforce, set.PartTools, remediate.Changed, audited, blocks),
				changeOf(remediate.StageEnforce, set.PartCapabilities, remediate.Created, nil, policyOf("escape-to-host-capabilities", "Block")),
				changeOf(remediate.StageEnforce, set.PartAdmission, remediate.Unchanged, policyOf("one", "x"), policyOf("one", "x")),
				changeOf(remediate.StageEnforce, set.PartChroot, remediate.Restored, policyOf("old", "Block"), nil),
			}},
			Preview: &preview.Report{
				Counts: map[preview.Outcome]int{preview.Breaks: 1, preview.MayBreak: 2, preview.NotCovered: 1, preview.Safe: 1},
				Workloads: []preview.Workload{
					cart, work("api", preview.MayBreak, 2, exec), work("web", preview.MayBreak, 1, exec),
					work("init", preview.NotCovered, 0, bare), work("quiet", preview.Safe, 4),
				},
			},
			Next: []string{"escape-scanner remediate apply -A"},
		},
	}
}

// refusedPlan may not be applied, and has texts of attackers wherever there are texts.
func refusedPlan() *RemedyPlan {
	p := plainPlan()
	p.Refused = "nothing was changed: 2 workloads would break (exit code 1)\nshop/Deployment/" + nasty + ": calls curl\nfor each there are three ways on: repair it (the plan says how), accept that it breaks (--accept NAMESPACE/KIND/NAME), or give it an exception with a reason in the configuration"
	p.Command = "escape-scanner remediate apply -A " + nasty
	v := &p.View
	v.Plan.Unfinished = "an apply by ann came to 1 of 4 changes"
	v.Plan.Notes = []string{nasty}
	blocked := changeOf(remediate.StageEnforce, set.PartChroot, remediate.Blocked, nil, policyOf("escape-to-host-chroot", "Block"))
	blocked.After = nil
	blocked.Block = &remediate.Block{By: remediate.BlockedByAdmission, Message: "admission webhook \"policies.example.com\" denied the request: " + nasty, Mend: "ask who runs the webhook"}
	v.Plan.Changes = append(v.Plan.Changes, blocked)
	drifted := &v.Plan.Changes[1]
	drifted.Notes, drifted.Warnings = []string{"taken over: .spec.action of kubectl-patch"}, []string{"unknown field " + nasty}
	drifted.After.Object["spec"].(map[string]any)["message"] = nasty
	v.Preview.Counts[preview.Breaks]++
	v.Preview.Workloads = append([]preview.Workload{{
		Workload: scan.Workload{Namespace: "lab", Kind: "Deployment", Name: nasty}, Outcome: preview.Breaks, Pods: 1,
		Effects: []preview.Effect{{Outcome: preview.Breaks, Part: set.PartTools, Element: "curl", Container: nasty, What: "calls " + nasty, Why: nasty, Mend: nasty}},
	}}, v.Preview.Workloads...)
	v.Preview.Failures = []scan.Failure{{Subject: "pods", Namespace: "lab", Reason: scan.FailureForbidden, Message: "pods is forbidden: " + nasty, Affects: "workloads that were not seen"}}
	v.Set.Options.Scope = targets.Scope{Namespaces: []string{"shop", "lab"}}
	v.Set.Spared = []set.Spared{{Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "api"}, Reason: "it is dropped"}}
	return p
}

// rollbackPlan puts back what was before.
func rollbackPlan() *RemedyPlan {
	p := plainPlan()
	p.Command = "escape-scanner remediate rollback"
	p.View.Set, p.View.Preview, p.View.Admission, p.View.Next = nil, nil, "", nil
	p.View.Plan = &remediate.Plan{Set: "escape-to-host", Rollback: true, Changes: []remediate.Change{
		changeOf("", set.PartTools, remediate.Restored, policyOf("escape-to-host-tools", "Block"), nil),
		changeOf("", set.PartAdmission, remediate.Restored, policyOf("theirs", "Block"), policyOf("theirs", "Allow")),
	}}
	return p
}

// idlePlan has nothing to do.
func idlePlan() *RemedyPlan {
	p := plainPlan()
	p.Idle = true
	p.View.Plan.Changes = p.View.Plan.Changes[3:4]
	return p
}

// remedyChecks are of every answer.
func remedyChecks() []remediate.Check {
	return []remediate.Check{
		{Subject: "refuses: a privileged pod", Answer: kernel.Yes, Message: "refused in namespace shop (a dry run)"},
		{Subject: "KubeArmor's agents", Answer: kernel.No, Message: "on none of 3 nodes an agent is ready: " + nasty},
		{Subject: "accepted: ValidatingAdmissionPolicy escape-to-host", Answer: kernel.Unknown, Message: "its expressions have not been type-checked"},
	}
}

// fakeRemedy plans and applies what a test wants, and remembers what it was asked.
type fakeRemedy struct {
	plan     func(ctx context.Context, ask RemedyAsk) (*RemedyPlan, error)
	rollback func(ctx context.Context) (*RemedyPlan, error)
	apply    func(ctx context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error)

	mu            sync.Mutex
	asks          []RemedyAsk
	rollbacks     int
	applied       []*RemedyPlan
	running, most int
}

func (f *fakeRemedy) enter() func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running++
	f.most = max(f.most, f.running)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running--
	}
}

// state is how often it was asked for a plan, how many calls are at work, and how many
// ever were at once.
func (f *fakeRemedy) state() (asked, running, most int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asks), f.running, f.most
}

func (f *fakeRemedy) Plan(ctx context.Context, ask RemedyAsk) (*RemedyPlan, error) {
	defer f.enter()()
	f.mu.Lock()
	f.asks = append(f.asks, ask)
	f.mu.Unlock()
	if f.plan == nil {
		return plainPlan(), nil
	}
	return f.plan(ctx, ask)
}

func (f *fakeRemedy) Rollback(ctx context.Context) (*RemedyPlan, error) {
	defer f.enter()()
	f.mu.Lock()
	f.rollbacks++
	f.mu.Unlock()
	if f.rollback == nil {
		return rollbackPlan(), nil
	}
	return f.rollback(ctx)
}

func (f *fakeRemedy) Apply(ctx context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
	defer f.enter()()
	f.mu.Lock()
	f.applied = append(f.applied, p)
	f.mu.Unlock()
	if f.apply == nil {
		return applyAll(ctx, p, progress)
	}
	return f.apply(ctx, p, progress)
}

// applyAll makes every change, and says so.
func applyAll(_ context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
	r := &remediate.Result{}
	changes := p.View.Plan.Changes
	for i := range changes {
		r.Changes = append(r.Changes, changes[i])
		progress(remediate.Progress{Stage: changes[i].Stage, Done: i + 1, Total: len(changes), Change: &changes[i]})
	}
	r.Checks = remedyChecks()[:1]
	progress(remediate.Progress{Stage: remediate.StageEnforce, Done: len(changes), Total: len(changes), Check: &r.Checks[0]})
	return r, nil
}

// failAt makes so many changes, and then no more.
func failAt(n int, err error) func(context.Context, *RemedyPlan, func(remediate.Progress)) (*remediate.Result, error) {
	return func(_ context.Context, p *RemedyPlan, progress func(remediate.Progress)) (*remediate.Result, error) {
		r := &remediate.Result{}
		changes := p.View.Plan.Changes
		for i := range n {
			r.Changes = append(r.Changes, changes[i])
			progress(remediate.Progress{Stage: changes[i].Stage, Done: i + 1, Total: len(changes), Change: &changes[i]})
		}
		broken := changes[n]
		broken.Action, broken.After = remediate.Blocked, nil
		broken.Block = &remediate.Block{By: remediate.BlockedByConflict, Message: "it was changed since it was planned: " + nasty, Mend: "see the status, then plan again"}
		r.Changes = append(r.Changes, broken)
		progress(remediate.Progress{Stage: broken.Stage, Done: n + 1, Total: len(changes), Change: &broken})
		r.Left, r.Checks = len(changes)-n, remedyChecks()
		return r, err
	}
}

var errHalfWay = errors.New("KubeArmorPolicy shop/escape-to-host-capabilities: it was changed since it was planned: plan again: " + nasty)

// remedyStageOf is the view with a fake, at a size. Its commands run where they are made.
func remedyStageOf(t testing.TB, width, height int, f *fakeRemedy) *stage {
	t.Helper()
	s := newStage(t, width, height, eventsOf(t, layersRun), func(o *Options) {
		if f != nil {
			o.Remedy, o.NoRemedy = f, ""
		}
	})
	s.press("6")
	s.text()
	return s
}

func (s *stage) remedy() *remedyView {
	v, _ := s.screens[viewRemediate].(*remedyView)
	return v
}

// theatre is a stage whose commands run beside it, as the program's do. It is for tests
// in a bubble of synctest.
type theatre struct {
	*stage
	brought chan tea.Msg
}

func theatreOf(t testing.TB, width, height int, f *fakeRemedy) *theatre {
	t.Helper()
	return &theatre{stage: remedyStageOf(t, width, height, f), brought: make(chan tea.Msg, 10_000)}
}

func (s *theatre) send(msg tea.Msg) {
	s.t.Helper()
	switch msg := msg.(type) {
	case tea.QuitMsg:
		s.quit = true
		return
	case tea.BatchMsg:
		for _, cmd := range msg {
			s.run(cmd)
		}
		return
	}
	_, cmd := s.Update(msg)
	s.run(cmd)
}

func (s *theatre) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	go func() {
		if msg := cmd(); msg != nil {
			s.brought <- msg
		}
	}()
}

// settle runs until nothing moves any more.
func (s *theatre) settle() {
	s.t.Helper()
	for {
		synctest.Wait()
		select {
		case msg := <-s.brought:
			s.send(msg)
		default:
			s.text()
			return
		}
	}
}

func (s *theatre) press(keys ...string) {
	s.t.Helper()
	for _, k := range keys {
		if msg, ok := keyNamed(k); ok {
			s.send(msg)
			s.settle()
			continue
		}
		for _, r := range k {
			s.send(tea.KeyMsg{Type: tea.KeyRunes, Runes: []rune{r}})
			s.settle()
		}
	}
}

// later lets the clock of the screen go on.
func (s *theatre) later(by time.Duration) { s.desk.now = s.desk.now.Add(by) }

// wantStage fails unless the view is at a stage.
func (s *stage) wantStage(want remedyStage) {
	s.t.Helper()
	if got := s.remedy().stage; got != want {
		s.t.Fatalf("stage %d, want %d:\n%s", got, want, s.text())
	}
}

// wantHarmless fails where something of an attacker could act on the terminal.
func (s *stage) wantHarmless() {
	s.t.Helper()
	for i, line := range strings.Split(s.View(), "\n") {
		if report.Clean(line) != line {
			s.t.Errorf("line %d is not clean: %q", i, line)
		}
	}
}

// manyWorkloads is a preview of so many.
func manyWorkloads(n int) *preview.Report {
	r := &preview.Report{Counts: map[preview.Outcome]int{}}
	for _, outcome := range preview.Outcomes() {
		for i := range n / 4 {
			r.Counts[outcome]++
			r.Workloads = append(r.Workloads, preview.Workload{
				Workload: scan.Workload{Namespace: fmt.Sprintf("team-%d", i%7), Kind: "Deployment", Name: fmt.Sprintf("service-%03d", i)}, Outcome: outcome, Pods: i,
				Effects: []preview.Effect{{Outcome: outcome, Part: set.PartTools, Element: "curl", What: "calls curl", Why: "its command does", Mend: "use a library"}},
			})
		}
	}
	return r
}
