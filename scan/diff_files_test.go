package scan_test

import (
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// manifestRun is a run of the manifests at paths, with the findings of one workload in a
// file.
func manifestRun(paths, file string, rest ...scan.Event) *scan.DiffSide {
	events := rest
	if file != "" {
		at := &scan.Location{File: file, Line: 1}
		f, v := shopFinding("privileged", scan.CategoryPSS, "high"), shopVerdict(scan.VerdictExposed)
		f.Location, v.Verdict.Location = at, at
		events = append([]scan.Event{{Finding: f}, v}, rest...)
	}
	return sideOf(ended(events, func(s *scan.Start, _ *scan.End) { s.Source, s.Cluster = scan.SourceManifests, paths }))
}

// What is in a file that the new run was not given is not gone; of files that lie in
// another place now nothing such is known.
func TestDiffOfFewerFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		old, file, new, why string
	}{
		{"deploy", "deploy/b.yaml", "deploy", ""},
		{"deploy", "deploy/b.yaml", "deploy/a.yaml", "the new run did not read deploy/b.yaml"},
		{"deploy", "deploy/b.yaml", "./deploy/", ""},
		{"deploy,charts", "charts/b.yaml", "deploy", "the new run did not read charts/b.yaml"},
		{"deploy,charts", "deploy/b.yaml", "deploy", ""},
		{".", "deploy/b.yaml", "charts", "the new run did not read deploy/b.yaml"},
		{"deploy/a.yaml", "deploy/a.yaml", "deploy", ""},
		{"deploy", "deploy/b.yaml", ".", ""},
		{"/main/deploy", "/main/deploy/b.yaml", "/branch/deploy", ""},
		{"deploy", "deploy/b.yaml", "deployments", ""},
		{"a,b.yaml", "a,b.yaml", "a,b.yaml", ""},
		{"deploy,-", "standard input", "deploy", "the new run did not read standard input"},
	} {
		broken := scan.Event{Failure: &scan.Failure{Subject: c.file, Reason: scan.FailureInvalid}}
		policy := scan.Event{Policy: &scan.Policy{Kind: "ClusterPolicy", Name: "p"}}
		d := scan.Compare(manifestRun(c.old, c.file, broken, policy), manifestRun(c.new, ""))
		if c.why == "" {
			if len(d.Closed) != 1 || len(d.Went) != 1 || len(d.Readable) != 1 {
				t.Errorf("%s, then %s: %s: not said to be gone", c.old, c.new, c.file)
			}
			continue
		}
		n := &d.NotKnown
		if len(d.Closed)+len(d.Went)+len(d.Readable)+len(d.Policies) > 0 || len(n.Findings) != 1 || len(n.Workloads) != 1 || len(n.Failures) != 1 || len(n.Policies) != 1 {
			t.Errorf("%s, then %s: %s is said to be gone", c.old, c.new, c.file)
			continue
		}
		for _, why := range []string{n.Findings[0].Doubt, n.Workloads[0].Doubt, n.Failures[0].Doubt} {
			if why != c.why {
				t.Errorf("%s, then %s: %q, want %q", c.old, c.new, why, c.why)
			}
		}
	}
}

// Of findings with one fingerprint that is gone which is not there any more.
func TestDiffOfFindingsAlike(t *testing.T) {
	t.Parallel()
	in := func(file string, excepted bool) *scan.Finding {
		f := shopFinding("privileged", scan.CategoryPSS, "high")
		f.Location = &scan.Location{File: file, Line: 1}
		if excepted {
			f.Excepted = &scan.Excepted{Reason: "known"}
		}
		return f
	}
	run := func(list ...*scan.Finding) *scan.DiffSide {
		events := []scan.Event{shopVerdict(scan.VerdictExposed)}
		for _, f := range list {
			events = append(events, scan.Event{Finding: f})
		}
		return sideOf(ended(events, nil))
	}
	both, second := run(in("a.yaml", false), in("b.yaml", true)), run(in("b.yaml", true))
	d := scan.Compare(both, second)
	if len(d.Closed) != 1 || d.Closed[0].Was.Location.File != "a.yaml" || len(d.Excepted) > 0 {
		t.Errorf("closed %+v, excepted %d, want that of a.yaml closed", d.Closed, len(d.Excepted))
	}
	d = scan.Compare(second, both)
	if len(d.Opened) != 1 || d.Opened[0].Now.Location.File != "a.yaml" || len(d.Unexcepted) > 0 {
		t.Errorf("opened %+v, excepted no more %d, want that of a.yaml opened", d.Opened, len(d.Unexcepted))
	}
	// The same in another directory.
	d = scan.Compare(both, run(in("branch/b.yaml", true)))
	if len(d.Closed) != 1 || d.Closed[0].Was.Excepted != nil || len(d.Excepted) > 0 {
		t.Errorf("closed %+v, excepted %d, want that which was not excepted closed", d.Closed, len(d.Excepted))
	}
	// At another line, one covered by an exception now.
	moved := in("b.yaml", true)
	moved.Location.Line = 7
	d = scan.Compare(run(in("a.yaml", false), in("b.yaml", false)), run(in("a.yaml", false), moved))
	if len(d.Closed)+len(d.Opened) > 0 || len(d.Excepted) != 1 || d.Excepted[0].Was.Location.File != "b.yaml" {
		t.Errorf("%d closed, %d opened, excepted %+v, want that of b.yaml excepted", len(d.Closed), len(d.Opened), d.Excepted)
	}
}

// A file that is called otherwise now, or lies elsewhere, may be the one that is broken.
func TestDiffOfABrokenFileElsewhere(t *testing.T) {
	t.Parallel()
	verdict := shopVerdict(scan.VerdictClosed)
	verdict.Verdict.Location = &scan.Location{File: "branch/a.yaml", Line: 1}
	broken := scan.Event{Failure: &scan.Failure{Subject: "branch/b.yaml", Reason: scan.FailureInvalid}}
	d := scan.Compare(manifestRun("main", "main/b.yaml"), manifestRun("branch", "", verdict, broken))
	if len(d.Closed) > 0 || len(d.NotKnown.Findings) != 1 {
		t.Error("what stood in main/b.yaml is said to be closed, and branch/b.yaml could not be read")
	}
}

// A policy that bites otherwise where fewer namespaces were looked at may be as it was,
// whichever of the runs looked at fewer.
func TestDiffOfPoliciesInFewerNamespaces(t *testing.T) {
	t.Parallel()
	run := func(bites scan.Bite, namespaces ...string) *scan.DiffSide {
		return sideOf(ended([]scan.Event{{Policy: &scan.Policy{Kind: "ClusterPolicy", Name: "p", Bites: bites}}}, func(s *scan.Start, _ *scan.End) { s.Namespaces = namespaces }))
	}
	all, some := run(scan.BitesYes), run(scan.BitesUnknown, "ci")
	for _, d := range []*scan.Diff{scan.Compare(all, some), scan.Compare(some, all)} {
		if len(d.Policies) != 1 || d.Policies[0].Doubt == "" {
			t.Errorf("no doubt about %+v", d.Policies)
		}
	}
	if d := scan.Compare(run(scan.BitesYes, "ci"), run(scan.BitesNo, "ci")); len(d.Policies) != 1 || d.Policies[0].Doubt != "" {
		t.Errorf("doubt about %+v", d.Policies)
	}
}
