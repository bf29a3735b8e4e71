package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/set"
)

// asProgram is the variable that makes of the test binary the program itself, so that
// it can be killed.
const asProgram = "TEST_AS_ESCAPE_SCANNER"

// program is a verb of remediate in a process of its own.
func (c *cure) program(config *rest.Config, verb string) *exec.Cmd {
	c.Helper()
	args := []string{
		"remediate", verb, "--kubeconfig", kubetest.Kubeconfig(c, config),
		"--set", c.opts.Name, "--record-namespace", c.records,
	}
	switch verb {
	case "apply":
		args = append(args, "-n", strings.Join(c.opts.Scope.Namespaces, ","), "--admission", string(c.opts.Admission), "--level", string(c.opts.Level),
			"--only", strings.Join(c.opts.Only, ","), "--wait", "100ms", "--yes")
	case "rollback":
		args = append(args, "--yes")
	}
	cmd := exec.CommandContext(c.Context(), os.Args[0], args...)
	cmd.Env = []string{asProgram + "=1", "HOME=" + c.TempDir()}
	return cmd
}

// wantExit runs a verb in a process of its own.
func (c *cure) wantExit(verb string, code int) string {
	c.Helper()
	cmd := c.program(c.server.Config(), verb)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The exit code tells what the error would.
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != code {
		c.Errorf("%s ends with %d, want %d: %s", verb, got, code, out.String())
	}
	return out.String()
}

// kill kills a verb when its nth write was carried out, before it is told of it.
func (c *cure) kill(verb string, nth int) {
	c.Helper()
	started := make(chan *os.Process, 1)
	k := &cutter{nth: nth, when: afterIt, then: func() {
		if err := (<-started).Kill(); err != nil {
			c.Error(err)
		}
	}}
	cmd := c.program(kubetest.NewProxy(c, c.server.Config(), k.hook).Config(), verb)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	started <- cmd.Process
	if err := cmd.Wait(); err == nil || k.writes() != nth || cmd.ProcessState.Exited() {
		c.Fatalf("%s was not killed at write %d of %d: %v %s", verb, nth, k.writes(), err, out.String())
	}
}

// The program itself is killed (SIGKILL) in the middle of an apply and of a rollback.
func testKilled(t *testing.T, server *kubetest.Server) {
	for _, test := range []struct {
		verb string
		nth  int
	}{{"apply", 1}, {"apply", 4}, {"apply", 9}, {"rollback", 1}, {"rollback", 4}, {"rollback", 7}} {
		t.Run(fmt.Sprintf("%s %d", test.verb, test.nth), func(t *testing.T) {
			t.Parallel()
			c := newCure(t, server, nil, func(o *set.Options) { o.Only = []string{"admission", "chroot"} })
			before := c.dump()
			if test.verb == "rollback" {
				// Nobody type-checks policies here, which is not verified then.
				c.wantExit("apply", exitIncomplete)
			}
			c.kill(test.verb, test.nth)
			status := c.wantTruth(before)
			if gone := test.verb == "rollback" && test.nth == 7; gone != (status.Phase == remediate.PhaseNone) {
				t.Errorf("phase %q", status.Phase)
			}
			if test.nth%2 == 0 {
				c.wantExit("apply", exitIncomplete)
				c.wantAll(c.status(), remediate.StateInPlace)
			}
			c.wantExit("rollback", exitOK)
			wantSameObjects(t, before, c.dump())
		})
	}
}
