package scan

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// sideOfFleet is the picture of a scan of the members.
func sideOfFleet(t *testing.T, members ...Member) *DiffSide {
	t.Helper()
	r, _ := fleetScanned(t, t.Context(), 2, members...)
	return sideOf(t, r.events)
}

func sideOf(t *testing.T, events []Event) *DiffSide {
	t.Helper()
	side := NewDiffSide()
	for _, e := range events {
		if err := side.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return side
}

// sideOfOne is the picture of a scan of one cluster.
func sideOfOne(t *testing.T, m Member) *DiffSide {
	t.Helper()
	r := &recorder{}
	if err := m.Scan(t.Context(), NewTally(r)); err != nil {
		t.Fatal(err)
	}
	return sideOf(t, r.events)
}

// diffLines is what is other, one a line, with the doubt.
func diffLines(d *Diff) []string {
	var lines []string
	add := func(kind string, w Workload, what, doubt string) {
		line := fmt.Sprintf("%s %s %s %s", kind, w.Cluster, w, what)
		if doubt != "" {
			line += ": " + doubt
		}
		lines = append(lines, line)
	}
	for _, list := range []struct {
		kind  string
		pairs []FindingPair
	}{{"opened", d.Opened}, {"closed", d.Closed}, {"not known", d.NotKnown.Findings}} {
		for i := range list.pairs {
			f := list.pairs[i].Either()
			add(list.kind, f.Workload, f.Rule, list.pairs[i].Doubt)
		}
	}
	for _, list := range []struct {
		kind  string
		pairs []Pair[WorkloadVerdict]
	}{{"came", d.Came}, {"went", d.Went}, {"not known", d.NotKnown.Workloads}} {
		for i := range list.pairs {
			v := list.pairs[i].Either()
			add(list.kind, v.Workload, string(v.Verdict), list.pairs[i].Doubt)
		}
	}
	for _, f := range d.Unread {
		lines = append(lines, "unread "+f.Cluster+" "+f.Subject)
	}
	for _, f := range d.Readable {
		lines = append(lines, "readable "+f.Cluster+" "+f.Subject)
	}
	for i := range d.NotKnown.Failures {
		p := &d.NotKnown.Failures[i]
		lines = append(lines, "not known "+p.Was.Cluster+" "+p.Was.Subject+": "+p.Doubt)
	}
	for _, x := range d.Differences {
		lines = append(lines, fmt.Sprintf("%s: %q, %q", x.What, x.Old, x.New))
	}
	return lines
}

// noFindings are the lines about workloads, without their findings.
func noFindings(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return strings.Contains(s, " escape-") || strings.Contains(s, " privileged") })
}

func TestDiffOfFleets(t *testing.T) {
	a, b := func() Member { return member("a", exposed("x")) }, func() Member { return member("b", web()) }
	both := func() *DiffSide { return sideOfFleet(t, a(), b()) }
	if d := Compare(both(), both()); !d.Empty() || len(d.Differences) > 0 {
		t.Errorf("the same twice differs: %q", diffLines(d))
	}
	// What leaves one cluster and appears in another under the same name is no move.
	d := Compare(both(), sideOfFleet(t, member("a", web()), member("b", exposed("x"))))
	wantLines(t, diffLines(d),
		"opened b lab/Pod/x-0 escape-privileged", "opened b lab/Pod/x-0 privileged",
		"closed a lab/Pod/x-0 escape-privileged", "closed a lab/Pod/x-0 privileged",
		"came b lab/Pod/x-0 exposed", "went a lab/Pod/x-0 exposed",
	)
	if findings, _ := d.AtLeast(SeverityCritical); findings != 2 {
		t.Errorf("%d critical findings opened", findings)
	}
	upgraded := exposed("x")
	upgraded.version = "v1.35.0"
	d = Compare(both(), sideOfFleet(t, b(), member("a", upgraded)))
	wantLines(t, diffLines(d),
		`clusters: "a, b", "b, a"`,
		`server version of a: "v1.36.3", "v1.35.0"`, `version of the Pod Security Standards of a: "v1.36", "v1.35"`)
	if !d.Empty() {
		t.Error("another order is taken for a change")
	}
}

// A cluster that a run did not read, or does not have, has lost nothing.
func TestDiffOfFleetsWithoutACluster(t *testing.T) {
	whole := sideOfFleet(t, member("a", exposed("x")), member("b", web()))
	dark := sideOfFleet(t, broken("a", forbidden("all")), member("b", web()))
	part := sideOfFleet(t, member("b", web()))

	const unread, unseen = "could not read cluster a (forbidden)", "did not look at cluster a"
	d := Compare(whole, dark)
	wantLines(t, noFindings(diffLines(d)),
		"not known a lab/Pod/x-0 exposed: the new run "+unread, "not known a shop/Deployment/web closed: the new run "+unread, "unread a cluster")
	if len(d.Closed) > 0 || len(d.NotKnown.Findings) != 2 {
		t.Errorf("closed %d, not known %d", len(d.Closed), len(d.NotKnown.Findings))
	}
	d = Compare(dark, whole)
	wantLines(t, noFindings(diffLines(d)),
		"came a lab/Pod/x-0 exposed: the old run "+unread, "came a shop/Deployment/web closed: the old run "+unread, "readable a cluster")
	if len(d.Opened) != 2 || d.Opened[0].Doubt != "the old run "+unread {
		t.Errorf("opened %+v", d.Opened)
	}
	d = Compare(whole, part)
	wantLines(t, noFindings(diffLines(d)),
		"not known a lab/Pod/x-0 exposed: the new run "+unseen, "not known a shop/Deployment/web closed: the new run "+unseen,
		`clusters: "a, b", "b"`)
	d = Compare(part, whole)
	wantLines(t, noFindings(diffLines(d)),
		"came a lab/Pod/x-0 exposed: the old run "+unseen, "came a shop/Deployment/web closed: the old run "+unseen,
		`clusters: "b", "a, b"`)
	d = Compare(dark, part)
	wantLines(t, noFindings(diffLines(d)), "not known a cluster: the new run "+unseen, `clusters: "a, b", "b"`)

	// A list that breaks off in one cluster puts nothing in doubt in another.
	gone := exposed("x")
	gone.pageSize, gone.podsBefore, gone.podsErr = 2, 1, map[string]error{"": forbidden("pods")}
	d = Compare(whole, sideOfFleet(t, member("a", gone), member("b", &memory{version: "v1.36.3"})))
	lines := noFindings(diffLines(d))
	if !slices.Contains(lines, "not known a lab/Pod/x-0 exposed: the new run could not read pods (forbidden)") || !slices.Contains(lines, "went b shop/Deployment/web closed") {
		t.Errorf("%q", lines)
	}
}

// A fleet and one of its clusters are compared by that cluster.
func TestDiffOfAFleetAndOne(t *testing.T) {
	fleet := func() *DiffSide { return sideOfFleet(t, member("a", exposed("x")), member("b", exposed("y"))) }
	d := Compare(sideOfOne(t, member("a", web())), fleet())
	wantLines(t, noFindings(diffLines(d)),
		"came a lab/Pod/x-0 exposed", "came b lab/Pod/y-0 exposed: the old run did not look at cluster b",
		"came b shop/Deployment/web closed: the old run did not look at cluster b",
		`source: "cluster", "fleet"`, `clusters: "a", "a, b"`)
	d = Compare(fleet(), sideOfOne(t, member("b", web())))
	wantLines(t, noFindings(diffLines(d)),
		"went b lab/Pod/y-0 exposed", "not known a lab/Pod/x-0 exposed: the new run did not look at cluster a",
		"not known a shop/Deployment/web closed: the new run did not look at cluster a",
		`source: "fleet", "cluster"`, `clusters: "a, b", "b"`)
}

func TestComparable(t *testing.T) {
	one, other := sideOfOne(t, member("a", web())), sideOfOne(t, member("c", web()))
	fleet, apart := sideOfFleet(t, member("a", web()), member("b", web())), sideOfFleet(t, member("c", web()))
	files := sideOf(t, []Event{{Start: &Start{Source: SourceManifests, Cluster: "a"}}, {End: &End{}}})
	for _, test := range []struct {
		old, new *DiffSide
		want     string
	}{
		{one, other, ""}, {one, files, ""}, {one, fleet, ""}, {fleet, one, ""}, {fleet, fleet, ""},
		{other, fleet, "no cluster in common: the old one is of c, the new one of a, b"},
		{fleet, apart, "no cluster in common"}, {fleet, files, "manifests"}, {files, fleet, "manifests"},
	} {
		err := Comparable(test.old, test.new)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}

// Whether an exception is used is a matter of all clusters.
func TestDiffOfExceptionsInAFleet(t *testing.T) {
	unused := Exception{Rule: "escape-privileged", Namespace: "nowhere"}
	side := func(exceptions []Exception, members ...Member) *DiffSide {
		r := &recorder{}
		err := ScanFleet(t.Context(), FleetOptions{Parallel: 1}, members, Except(exceptions, day(t, "2026-11-22T00:00:00Z"), NewTally(r)))
		if err != nil {
			t.Fatal(err)
		}
		return sideOf(t, r.events)
	}
	a, b := member("a", web()), member("b", web())
	with := []Exception{unused}
	if d := Compare(side(with, a, b), side(nil, a, b)); len(d.Closed) != 1 || d.Closed[0].Was.Category != CategoryException {
		t.Errorf("%q", diffLines(d))
	}
	if d := Compare(side(nil, a, b), side(with, a, b)); len(d.Opened) != 1 || d.Opened[0].Doubt != "" {
		t.Errorf("%q", diffLines(d))
	}
	if d := Compare(side(with, a, b), side(nil, a)); len(d.Closed) != 0 || len(d.NotKnown.Findings) != 1 || !strings.Contains(d.NotKnown.Findings[0].Doubt, "cluster b") {
		t.Errorf("%q", diffLines(d))
	}
}

// A State tells a fleet as its scan did: cluster by cluster, in its order.
func TestStateOfAFleet(t *testing.T) {
	r, _ := fleetScanned(t, t.Context(), 2, member("b", exposed("x")), broken("c", forbidden("all")), member("a", web()))
	unused := &Finding{Rule: ruleExceptionUnused, Category: CategoryException, Workload: Workload{Kind: exceptionKind, Name: "x"}}
	events := slices.Insert(slices.Clone(r.events), len(r.events)-1, Event{Finding: unused})
	s := NewState()
	for _, e := range events {
		if err := s.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	var want, got []string
	for _, e := range events[:len(events)-1] {
		want = append(want, jsonOf(t, e))
	}
	for e := range s.Events() {
		got = append(got, jsonOf(t, e))
	}
	wantLines(t, got, want...)
	if runs := s.Clusters(); len(runs) != 3 || runs[1].Name != "c" {
		t.Errorf("clusters %+v", runs)
	}
	if d := Compare(DiffSideOf(s), sideOf(t, events)); !d.Empty() {
		t.Errorf("the picture differs from the stream: %q", diffLines(d))
	}
}
