package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
	"github.com/escape-scanner/escape-scanner/tui"
)

// screenOf is the remedy of a screen on a cluster.
func screenOf(t *testing.T, args ...string) *screenRemedy {
	t.Helper()
	a := &app{deps: testDeps(t.TempDir()), stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}}
	f, cmd := tuiOf(t, a, args...)
	return a.remedy(f, cmd)
}

// tuiOf parses the arguments of tui as the program does.
func tuiOf(t *testing.T, a *app, args ...string) (*tuiFlags, *cobra.Command) {
	t.Helper()
	f, cmd := &tuiFlags{watchFlags: newWatchFlags()}, &cobra.Command{Use: "tui"}
	f.addFlags(cmd, a)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return f, cmd
}

// testByScreen plans, applies and takes back as the screen does, with the flags that it
// was called with.
func testByScreen(t *testing.T, server *kubetest.Server) {
	server.ApplyYAML(t, strings.ReplaceAll(strings.ReplaceAll(smokeShop, "smoke", "screen"), "privileged: true", "privileged: false"))
	kubeconfig := kubetest.Kubeconfig(t, server.Config())
	r := screenOf(t, "--kubeconfig", kubeconfig)
	// Nobody acts on the policies, and what does not come is waited for in vain.
	r.verifyTime = 3 * time.Second
	ask := tui.RemedyAsk{Namespaces: []string{"screen"}, Level: psa.LevelBaseline, Action: set.ActionBlock}
	part := ask
	part.Only = []set.Part{set.PartAdmission}
	stale, err := r.Plan(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stale.Command, "--only admission") || slices.ContainsFunc(stale.View.Set.Objects, func(o set.Object) bool { return o.Part != set.PartAdmission }) {
		t.Errorf("%q is not of admission alone", stale.Command)
	}
	plan, err := r.Plan(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Refused != "" || plan.Word == "" || plan.View.Plan.Pending() == 0 || plan.View.Preview == nil {
		t.Fatalf("plan of %q, refused %q, %d pending", plan.Word, plan.Refused, plan.View.Plan.Pending())
	}
	for _, part := range []string{"escape-scanner remediate apply", "--kubeconfig", "-n screen", "--level baseline", "--action block"} {
		if !strings.Contains(plan.Command, part) {
			t.Errorf("%q is not in the command %q", part, plan.Command)
		}
	}
	if _, err := r.Apply(t.Context(), stale, nil); err == nil || !strings.Contains(err.Error(), "plan again") {
		t.Errorf("a plan that is not the last one: %v", err)
	}
	if _, err := r.Apply(t.Context(), plan, nil); err == nil {
		t.Error("a plan is carried out although another was tried")
	}
	if plan, err = r.Plan(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	made := 0
	result, err := r.Apply(t.Context(), plan, func(p remediate.Progress) {
		if p.Change != nil {
			made++
		}
	})
	if err != nil || result.Left != 0 || made == 0 {
		t.Fatalf("%d told, %+v, %v", made, result, err)
	}
	if _, err := r.Apply(t.Context(), plan, nil); err == nil {
		t.Error("a plan is carried out twice")
	}
	smoke(t, kubeconfig, "status").want(t, 0, "set escape-to-host  applied", "screen")

	back, err := r.Rollback(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(back.Command, "remediate rollback --kubeconfig") || !back.View.Plan.Rollback {
		t.Errorf("command %q", back.Command)
	}
	result, err = r.Apply(t.Context(), back, func(remediate.Progress) {})
	if err != nil || result.Left != 0 || slices.ContainsFunc(result.Checks, func(c remediate.Check) bool { return c.Answer != kernel.Yes }) {
		t.Errorf("rollback: %+v, %v", result, err)
	}
	smoke(t, kubeconfig, "status").want(t, 1, "no set")
}

// The demo can be planned for, and nothing more.
func TestScreenOfDemo(t *testing.T) {
	t.Parallel()
	r := screenOf(t, "--demo")
	plan, err := r.Plan(t.Context(), tui.RemedyAsk{Level: psa.LevelBaseline, Action: set.ActionBlock})
	if err != nil {
		t.Fatal(err)
	}
	if plan.View.Preview == nil || len(plan.View.Preview.Workloads) == 0 || !strings.Contains(plan.Refused, "demo") || !strings.HasSuffix(plan.Command, "--demo") {
		t.Errorf("refused %q, command %q", plan.Refused, plan.Command)
	}
	if _, err := r.Apply(t.Context(), plan, nil); err == nil {
		t.Error("the demo is changed")
	}
	if _, err := r.Rollback(t.Context()); err == nil {
		t.Error("the demo is rolled back")
	}
}
