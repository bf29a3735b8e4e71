package scan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	psa "k8s.io/pod-security-admission/api"
)

// member is a cluster in memory as one of a fleet.
func member(name string, m *memory) Member {
	return Member{Name: name, Scan: func(ctx context.Context, next Handler) error {
		opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Start: Start{Source: SourceCluster, Cluster: name}}
		return ScanCluster(ctx, m, opts, next)
	}}
}

// broken is a cluster that no scan begins on.
func broken(name string, err error) Member {
	return Member{Name: name, Scan: func(context.Context, Handler) error { return err }}
}

// exposed is a cluster with one more workload, which is privileged.
func exposed(name string) *memory {
	m := web()
	m.runs(1, "lab", name, "", "", privileged())
	return m
}

// fleetScanned scans the members and returns the events but for progress, of which it
// returns the last.
func fleetScanned(t *testing.T, ctx context.Context, parallel int, members ...Member) (*recorder, Progress) {
	t.Helper()
	r, last := &recorder{}, Progress{}
	opts := FleetOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Parallel: parallel, Start: Start{Tool: "test"}}
	err := ScanFleet(ctx, opts, members, NewTally(HandlerFunc(func(e Event) error {
		if e.Progress != nil {
			if e.Progress.Pods < last.Pods {
				t.Errorf("progress goes back from %d pods to %d", last.Pods, e.Progress.Pods)
			}
			last = *e.Progress
			return nil
		}
		return r.Handle(e)
	})))
	if err != nil {
		t.Fatal(err)
	}
	return r, last
}

// fleetLines are the events of a fleet, one a line, without findings.
func fleetLines(r *recorder) []string {
	var lines []string
	for _, e := range r.events {
		switch {
		case e.Start != nil:
			lines = append(lines, fmt.Sprintf("start %s %s %s", e.Start.Source, strings.Join(e.Start.Clusters, ","), e.Start.PSSVersion))
		case e.Node != nil:
			lines = append(lines, e.Node.Cluster+" node "+e.Node.Name)
		case e.Failure != nil:
			lines = append(lines, fmt.Sprintf("%s failure %s: %s: %s", e.Failure.Cluster, e.Failure.Subject, e.Failure.Reason, e.Failure.Affects))
		case e.Verdict != nil:
			lines = append(lines, fmt.Sprintf("%s %s %s", e.Verdict.Workload.Cluster, e.Verdict.Workload, e.Verdict.Verdict))
		case e.Cluster != nil:
			version := "not begun"
			if e.Cluster.Start != nil {
				version = e.Cluster.Start.ServerVersion + " " + e.Cluster.Start.PSSVersion
			}
			lines = append(lines, fmt.Sprintf("cluster %s %s: %s", e.Cluster.Name, version, endLine(&e.Cluster.End)))
		case e.End != nil:
			lines = append(lines, "end "+endLine(e.End))
		}
	}
	return lines
}

func endLine(end *End) string {
	line := fmt.Sprintf("%d pods, %d workloads, %d failures", end.Pods, end.Workloads, end.Failures)
	if end.Incomplete {
		line += ", incomplete"
	}
	if end.Interrupted {
		line += ", interrupted"
	}
	return line
}

func TestFleet(t *testing.T) {
	old := exposed("old")
	old.version = "v1.31.0"
	r, last := fleetScanned(t, t.Context(), 4, member("b", exposed("breaker")), broken("c", forbidden("all")), member("a", old))
	wantLines(t, fleetLines(r),
		"start fleet b,c,a server",
		"b lab/Pod/breaker-0 exposed", "b shop/Deployment/web closed", "cluster b v1.36.3 v1.36: 3 pods, 2 workloads, 0 failures",
		"c failure cluster: forbidden: everything in it", "cluster c not begun: 0 pods, 0 workloads, 1 failures, incomplete",
		"a lab/Pod/old-0 exposed", "a shop/Deployment/web closed", "cluster a v1.31.0 v1.31: 3 pods, 2 workloads, 0 failures",
		"end 6 pods, 4 workloads, 1 failures, incomplete",
	)
	if last.Pods != 6 {
		t.Errorf("progress ends at %d pods", last.Pods)
	}
	// What is told of a cluster is what a scan of it alone tells.
	var alone recorder
	if err := member("b", exposed("breaker")).Scan(t.Context(), NewTally(&alone)); err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, e := range alone.events {
		if e.Finding != nil || e.Verdict != nil {
			want = append(want, jsonOf(t, e))
		}
	}
	for _, e := range r.events {
		if e.Finding != nil && e.Finding.Workload.Cluster == "b" || e.Verdict != nil && e.Verdict.Workload.Cluster == "b" {
			got = append(got, jsonOf(t, e))
		}
	}
	wantLines(t, got, want...)
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The clusters are let through their pages in every order: the stream is the same.
func TestFleetIsTheSameWhoeverIsFirst(t *testing.T) {
	want := ""
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1, 3, 0, 2}} {
		gates := make([]chan struct{}, 4)
		done := make([]chan struct{}, 4)
		members := make([]Member, 4)
		for i := range members {
			gates[i], done[i] = make(chan struct{}), make(chan struct{})
			m := exposed(fmt.Sprintf("pod%d", i))
			m.onPage = func(int) { <-gates[i] }
			members[i] = member(fmt.Sprintf("c%d", i), m)
			if i == 2 {
				members[i] = Member{Name: "c2", Scan: func(context.Context, Handler) error {
					<-gates[i]
					return errors.New("gone")
				}}
			}
			scanned := members[i].Scan
			members[i].Scan = func(ctx context.Context, next Handler) error {
				defer close(done[i])
				return scanned(ctx, next)
			}
		}
		go func() {
			for _, i := range order {
				close(gates[i])
				<-done[i]
			}
		}()
		r, _ := fleetScanned(t, t.Context(), 4, members...)
		got := jsonOf(t, r.events)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("in the order %v:\n%s\nwant\n%s", order, got, want)
		}
	}
}

// Of the cluster whose turn it is the events pass while it is scanned.
func TestFleetStreamsTheFirst(t *testing.T) {
	seen := make(chan struct{})
	first := Member{Name: "first", Scan: func(_ context.Context, next Handler) error {
		if err := next.Handle(Event{Start: &Start{}}); err != nil {
			return err
		}
		if err := next.Handle(Event{Node: &Node{Name: "n"}}); err != nil {
			return err
		}
		select {
		case <-seen:
		case <-t.Context().Done():
		}
		return next.Handle(Event{End: &End{}})
	}}
	err := ScanFleet(t.Context(), FleetOptions{Parallel: 2}, []Member{first, member("second", web())}, HandlerFunc(func(e Event) error {
		if e.Node != nil {
			close(seen)
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}

func TestFleetIsBounded(t *testing.T) {
	for _, parallel := range []int{0, 1, 3, 50} {
		limit := min(max(parallel, 1), 8)
		running := make(chan struct{}, limit)
		var members []Member
		for i := range 8 {
			members = append(members, Member{Name: fmt.Sprint(i), Scan: func(_ context.Context, next Handler) error {
				select {
				case running <- struct{}{}:
				default:
					t.Errorf("parallel %d: more than %d at a time", parallel, limit)
				}
				err := next.Handle(Event{End: &End{}})
				<-running
				return err
			}})
		}
		if r, _ := fleetScanned(t, t.Context(), parallel, members...); len(r.events) != 10 {
			t.Errorf("parallel %d: %d events", parallel, len(r.events))
		}
	}
}

// A cluster that goes away keeps what was told of it.
func TestFleetWithAClusterThatBreaks(t *testing.T) {
	gone := exposed("gone")
	gone.podsBefore, gone.podsErr = 1, map[string]error{"": errors.New("cut")}
	silent := Member{Name: "silent", Scan: func(_ context.Context, next Handler) error {
		return errors.Join(next.Handle(Event{Start: &Start{ServerVersion: "v1.36.0"}}), next.Handle(Event{Node: &Node{Name: "n"}}))
	}}
	r, _ := fleetScanned(t, t.Context(), 2, silent, member("gone", gone), member("whole", web()))
	wantLines(t, fleetLines(r),
		"start fleet silent,gone,whole server",
		"silent node n", "silent failure cluster: read error: what was not told of it before", "cluster silent v1.36.0 : 0 pods, 0 workloads, 1 failures, incomplete",
		"gone failure pods: read error: workloads that were not seen, and whether the others are closed",
		"gone lab/Pod/gone-0 exposed", "gone shop/Deployment/web unknown", "cluster gone v1.36.3 v1.36: 3 pods, 2 workloads, 1 failures, incomplete",
		"whole shop/Deployment/web closed", "cluster whole v1.36.3 v1.36: 2 pods, 1 workloads, 0 failures",
		"end 5 pods, 3 workloads, 2 failures, incomplete",
	)
}

func TestFleetInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	second := exposed("second")
	second.onPage = func(int) { cancel() }
	r, _ := fleetScanned(t, ctx, 1, member("first", web()), member("second", second), member("third", web()))
	lines := fleetLines(r)
	wantLines(t, slices.DeleteFunc(lines, func(s string) bool { return strings.HasPrefix(s, "first ") }),
		"start fleet first,second,third server", "cluster first v1.36.3 v1.36: 2 pods, 1 workloads, 0 failures",
		"second failure scan: interrupted: everything but 0 pods, which were read and are not reported",
		"cluster second v1.36.3 v1.36: 0 pods, 0 workloads, 1 failures, incomplete, interrupted",
		"third failure cluster: interrupted: everything in it", "cluster third not begun: 0 pods, 0 workloads, 1 failures, incomplete, interrupted",
		"end 2 pods, 1 workloads, 2 failures, incomplete, interrupted",
	)
	for _, e := range r.events {
		if e.Failure != nil && !strings.Contains(e.Failure.Message, "interrupted") {
			t.Errorf("the failure says %q", e.Failure.Message)
		}
	}
}

// Where the result cannot be written all scans stop.
func TestFleetThatCannotBeWritten(t *testing.T) {
	full := errors.New("no space left")
	waits := Member{Name: "waits", Scan: func(ctx context.Context, _ Handler) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	err := ScanFleet(t.Context(), FleetOptions{Level: psa.LevelBaseline, Parallel: 2}, []Member{member("a", web()), waits}, HandlerFunc(func(e Event) error {
		if e.Verdict != nil {
			return full
		}
		return nil
	}))
	if !errors.Is(err, full) || !errors.Is(err, errHandler) {
		t.Errorf("error %v", err)
	}
}

func TestFleetOfWrongMembers(t *testing.T) {
	never := func(Event) error { t.Error("something is sent"); return nil }
	for want, members := range map[string][]Member{
		`two clusters named "a"`: {member("a", web()), member("b", web()), member("a", web())},
		"without a name":         {member("", web())},
	} {
		if err := ScanFleet(t.Context(), FleetOptions{}, members, HandlerFunc(never)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if err := ScanFleet(t.Context(), FleetOptions{PSSVersion: "1.x"}, []Member{member("a", web())}, HandlerFunc(never)); err == nil {
		t.Error("a version that is none is taken")
	}
	// A workload of another cluster would be told of the wrong one.
	mixed := member("b", web())
	mixed.Name = "a"
	err := ScanFleet(t.Context(), FleetOptions{}, []Member{mixed}, &recorder{})
	if err == nil || !strings.Contains(err.Error(), `is of cluster "b"`) {
		t.Errorf("error %v", err)
	}
	watch := Member{Name: "a", Scan: func(_ context.Context, next Handler) error { return next.Handle(Event{Picture: &End{}}) }}
	if err := ScanFleet(t.Context(), FleetOptions{}, []Member{watch}, &recorder{}); err == nil {
		t.Error("a watch is taken for a scan")
	}
}

// known is an error that knows its class.
type classed struct{ error }

func (classed) FailureReason() FailureReason { return FailureInvalid }

func TestFleetSaysWhyAClusterCannotBeScanned(t *testing.T) {
	for want, err := range map[FailureReason]error{
		FailureForbidden: fmt.Errorf("server version: %w", apierrors.NewUnauthorized("the token has expired")),
		FailureTimeout:   fmt.Errorf("server version: %w", context.DeadlineExceeded),
		FailureInvalid:   fmt.Errorf("context a: %w", classed{errors.New("no such cluster")}),
		FailureRead:      errors.New("what is this"),
	} {
		r, _ := fleetScanned(t, t.Context(), 1, broken("a", err))
		f := r.events[1].Failure
		if f == nil || f.Reason != want || f.Message != err.Error() || f.Subject != SubjectCluster || f.Cluster != "a" {
			t.Errorf("%v: %+v", err, f)
		}
	}
}
