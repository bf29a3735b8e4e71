package main

import (
	"encoding/json"
	"slices"
	"testing"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate"
	"github.com/escape-scanner/escape-scanner/remediate/preview"
	"github.com/escape-scanner/escape-scanner/remediate/set"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
)

// testByProgram goes through the life of a set in the busy cluster as people do.
func testByProgram(t *testing.T, server *kubetest.Server) {
	records := server.Namespace(t, nil)
	c := &cure{T: t, server: server, records: records, opts: set.Options{
		Name: "by-program", Scope: targets.Scope{Exclude: []string{records}}, Admission: set.AdmissionVAP,
		Level: psa.LevelBaseline, PSSVersion: "latest", Action: set.ActionBlock, Fit: set.FitFull,
	}}
	policiesOfOthers(t, server, c.opts.Name)
	kinds := dumpKinds(t, server)
	before := dumpObjects(t, server, kinds, nil)
	cluster := []string{"--kubeconfig", kubetest.Kubeconfig(t, server.Config()), "--set", c.opts.Name, "--record-namespace", records}
	whom := []string{"-A", "--exclude", records, "--admission", "vap", "--level", "baseline"}
	run := func(code int, verb string, args ...string) string {
		t.Helper()
		result := liveRun(t, slices.Concat([]string{"remediate", verb}, cluster, args)...)
		if result.code != code {
			t.Fatalf("%s %q: exit %d, want %d: %s", verb, args, result.code, code, result.stderr)
		}
		return result.stdout
	}
	same := func() {
		t.Helper()
		wantSameObjects(t, before, dumpObjects(t, server, kinds, nil))
	}

	run(exitFindings, "status")
	// What others own stops it, whatever else there is to say.
	run(exitIncomplete, "plan", whom...)
	run(exitIncomplete, "apply", append(whom, "--yes")...)
	whom = append(whom, "--force-conflicts")
	var planned struct{ Preview *preview.Report }
	if err := json.Unmarshal([]byte(run(exitFindings, "plan", append(whom, "-o", "json")...)), &planned); err != nil {
		t.Fatal(err)
	}
	run(exitFindings, "apply", append(whom, "--yes")...)
	same()

	refused := planned.Preview.Refused()
	if len(planned.Preview.Workloads) != 200 || len(refused) == 0 || len(refused) == 200 {
		t.Fatalf("%d workloads, and %d of them would break", len(planned.Preview.Workloads), len(refused))
	}
	for _, w := range refused {
		whom = append(whom, "--accept", w.Workload.String())
	}
	run(exitOK, "plan", whom...)
	same()
	apply := append(whom, "--wait", "100ms", "--yes")
	// Nobody type-checks here, and no agent runs: not all can be verified.
	run(exitIncomplete, "apply", apply...)
	c.wantAll(c.status(), remediate.StateInPlace)
	run(exitOK, "status")
	run(exitOK, "apply", apply...)
	driftPolicies(c)
	run(exitFindings, "status")
	run(exitIncomplete, "apply", apply...)
	c.wantAll(c.status(), remediate.StateInPlace)
	run(exitOK, "rollback", "--yes")
	same()
	run(exitOK, "rollback", "--yes")
	run(exitFindings, "status")
}
