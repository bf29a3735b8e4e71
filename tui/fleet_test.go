package tui

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

func TestFleetGoldens(t *testing.T) {
	t.Parallel()
	fleet := withFeed(eventsOf(t, fleetRun), true, nil)
	for _, size := range sizes {
		golden := func(name string, view viewID, keys ...string) {
			s := seeing(t, view, size.width, size.height, nil, fleet)
			for _, k := range keys {
				s.press(k)
				s.text()
			}
			s.golden("fleet-" + name + "-" + size.name)
			s.harmless()
		}
		golden("overview", viewOverview)
		golden("workloads", viewWorkloads)
		golden("flat", viewWorkloads, "o", "s", "s")
		golden("filtered", viewWorkloads, "/", "cluster:prod-us", "enter")
		golden("workload", viewWorkloads, "/", "cluster:prod-us ns:kube-system", "enter", "j", "enter")
		golden("nodes", viewNodes)
		golden("policies", viewPolicies)
	}
}

// The counts of the screen are those of the run, in all and of each cluster.
func TestFleetCounts(t *testing.T) {
	t.Parallel()
	events := eventsOf(t, fleetRun)
	end := events[len(events)-1].End
	snap := fleetSnapshot(t, events)
	if fmt.Sprint(snap.Verdicts) != fmt.Sprint(without0(end.Verdicts)) || fmt.Sprint(snap.Findings) != fmt.Sprint(without0(end.Findings)) || snap.Excepted != end.Excepted {
		t.Errorf("counted %v, %v, %d excepted; the run says %+v", snap.Verdicts, snap.Findings, snap.Excepted, end)
	}
	nodes := map[string]bool{}
	for _, n := range snap.Nodes {
		nodes[nodeName(n)] = true
	}
	if len(nodes) != len(snap.Nodes) || len(nodes) != 12 {
		t.Errorf("%d nodes of %d names, want 12", len(snap.Nodes), len(nodes))
	}
	if len(snap.Policies) != 12 || len(snap.Clusters) != 5 {
		t.Errorf("%d policies, %d clusters", len(snap.Policies), len(snap.Clusters))
	}
}

func without0[K comparable](counts map[K]int) map[K]int {
	some := map[K]int{}
	for k, n := range counts {
		if n > 0 {
			some[k] = n
		}
	}
	return some
}

func fleetSnapshot(t *testing.T, events []scan.Event) *Snapshot {
	t.Helper()
	feed := NewFeed(nil)
	for _, e := range events {
		if err := feed.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return feed.Snapshot()
}

// What is exported of a fleet, all or a part, is the stream of a fleet again.
func TestFleetExportsAreReplayed(t *testing.T) {
	t.Parallel()
	events := eventsOf(t, fleetRun)
	snap := fleetSnapshot(t, events)
	var some Selection
	for _, r := range snap.Rows {
		if r.Cluster == "prod-us" {
			some.Rows = append(some.Rows, r)
		}
	}
	for name, tc := range map[string]struct {
		part     Selection
		verdicts map[string]int
	}{
		"all":  {snap.All(), map[string]int{"prod-eu": 18, "prod-us": 18, "edge-of-the-world-with-a-long-name": 16, "staging": 0}},
		"part": {some, map[string]int{"prod-eu": 0, "prod-us": 18, "edge-of-the-world-with-a-long-name": 0, "staging": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			h := report.NewJSONL(&out)
			for _, e := range snap.Events(tc.part, "") {
				if err := h.Handle(e); err != nil {
					t.Fatal(err)
				}
			}
			runs := map[string]*scan.ClusterRun{}
			err := report.Replay(&out, scan.HandlerFunc(func(e scan.Event) error {
				if e.Cluster != nil {
					runs[e.Cluster.Name] = e.Cluster
				}
				return nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			for cluster, want := range tc.verdicts {
				if run := runs[cluster]; run == nil || run.End.Workloads != want {
					t.Errorf("%s: %+v, want %d workloads", cluster, run, want)
				}
			}
			if !runs["staging"].End.Incomplete || !runs["prod-us"].End.Incomplete || runs["prod-eu"].End.Incomplete {
				t.Error("which clusters are complete is another")
			}
		})
	}
}

// A filter by cluster holds for workloads, nodes and policies alike.
func TestFleetFilter(t *testing.T) {
	t.Parallel()
	for _, view := range []viewID{viewWorkloads, viewNodes, viewPolicies} {
		s := seeing(t, view, 120, 40, nil, withFeed(eventsOf(t, fleetRun), true, nil))
		if text := s.text(); !strings.Contains(text, "prod-eu: ") || !strings.Contains(text, "prod-us: ") {
			t.Errorf("%s does not name both clusters:\n%s", view, text)
		}
		for _, k := range []string{"/", "cluster:prod-us", "enter"} {
			s.press(k)
		}
		if text := s.text(); strings.Contains(text, "prod-eu: ") || !strings.Contains(text, "prod-us: ") {
			t.Errorf("%s, narrowed to prod-us:\n%s", view, text)
		}
	}
}
