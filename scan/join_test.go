package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// TestJoinRefuses: what is not all of one cluster, each shard once, is an error.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	m := web()
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}
	for name, test := range map[string]struct {
		change func([]ShardRun) []ShardRun
		want   string
	}{
		"none":        {func([]ShardRun) []ShardRun { return nil }, "no shard"},
		"missing":     {func(r []ShardRun) []ShardRun { return r[:2] }, "shard 2/3 is missing: 2 of 3 were given"},
		"first gone":  {func(r []ShardRun) []ShardRun { return r[1:] }, "shard 0/3 is missing"},
		"twice":       {func(r []ShardRun) []ShardRun { return append(r, r[1]) }, "are both shard 1/3"},
		"no shard":    {func(r []ShardRun) []ShardRun { r[1].Start.Shard = nil; return r }, "shard-1.jsonl: not the run of a shard"},
		"no counts":   {func(r []ShardRun) []ShardRun { r[1].Counts = nil; return r }, "shard-1.jsonl: parts are missing"},
		"no parts":    {func(r []ShardRun) []ShardRun { r[1].Counts, r[1].Around = nil, nil; return r }, "shard-1.jsonl: parts are missing"},
		"other of":    {func(r []ShardRun) []ShardRun { r[1].Start.Shard = &Shard{1, 4}; return r }, "the number of shards 3 and 4"},
		"other tool":  {func(r []ShardRun) []ShardRun { r[2].Start.Version = "v9"; return r }, "shard-0.jsonl and shard-2.jsonl are not of one run: version of the tool"},
		"other level": {func(r []ShardRun) []ShardRun { r[2].Start.Level = "restricted"; return r }, "level baseline and restricted"},
		"other look":  {func(r []ShardRun) []ShardRun { r[2].Start.Looks = []string{"--ask-server"}; return r }, `shard-0.jsonl and shard-2.jsonl are not of one run: flags to look closer [] and ["--ask-server"]`},
		"alerts":      {func(r []ShardRun) []ShardRun { r[1].Start.Alerts = true; return r }, "shard-1.jsonl: not the run of a shard"},
		"watch":       {func(r []ShardRun) []ShardRun { r[0].Start.Watch = true; return r }, "shard-0.jsonl: not the run of a shard"},
		"manifests":   {func(r []ShardRun) []ShardRun { r[1].Start.Source = SourceManifests; return r }, "shard-1.jsonl: not the run of a shard"},
		"stopped":     {func(r []ShardRun) []ShardRun { r[1].End.Interrupted = true; return r }, "shard-1.jsonl: parts of a run that was interrupted"},
		"so many":     {func(r []ShardRun) []ShardRun { r[1].End.Pods = math.MaxInt; return r }, "shard-1.jsonl: end: a number that is none of pods"},
		"a b": {func(r []ShardRun) []ShardRun {
			r[0].Start.Namespaces, r[1].Start.Namespaces, r[2].Start.Namespaces = []string{"a", "b"}, []string{"a", "b"}, []string{"a b"}
			return r
		}, `namespaces ["a" "b"] and ["a b"]`},
		"of a cluster": {func(r []ShardRun) []ShardRun {
			for i := range r {
				if r[i].Start.Shard.Has("shop") {
					r[i].Rows = listed2([]*ShardRow{{Workload: Workload{Cluster: "other", Namespace: "shop", Kind: "Pod", Name: "a"}}})
				}
			}
			return r
		}, `workload shop/Pod/a is of cluster "other"`},
		"other scope": {func(r []ShardRun) []ShardRun { r[2].Start.Namespaces = []string{"a"}; return r }, `namespaces [] and ["a"]`},
		"of another": {func(r []ShardRun) []ShardRun {
			for i := range r {
				r[i].Rows = listed2([]*ShardRow{{Workload: Workload{Namespace: "shop", Kind: "Pod", Name: "a"}}})
			}
			return r
		}, "workload shop/Pod/a is not of shard"},
		"out of order": {func(r []ShardRun) []ShardRun {
			row := &ShardRow{Workload: Workload{Namespace: "shop", Kind: "Pod", Name: "a"}}
			for i := range r {
				if r[i].Start.Shard.Has("shop") {
					r[i].Rows = listed2([]*ShardRow{row, row})
				}
			}
			return r
		}, "out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Join(test.change(divided(t, m, opts, 3)), JoinOptions{}, NewTally(&recorder{}))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestJoinOfOneLook: shards that looked at their pods in other ways are not joined, for
// the verdicts of one would be of less evidence than those of the next; how they looked
// is in no result.
func TestJoinOfOneLook(t *testing.T) {
	t.Parallel()
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}
	all := Probes{
		ProbeData: func(context.Context, kernel.Agent) (*kernel.Probe, error) { return nil, errors.New("probe data: none") },
		Machines: func(context.Context, []string) (map[string]*kernel.Machine, map[string]string, error) {
			return nil, nil, nil
		},
		MachinesBy: "--node-probe-logs=probes",
		AskServer: func(context.Context, *corev1.Pod) (admission.Ruling, error) {
			return admission.Ruling{Answer: admission.Admits}, nil
		},
		Inspect: func(context.Context, string, string, string, []string) (map[string]string, error) { return nil, nil },
	}
	m := web()
	runs := map[string][]ShardRun{"[]": divided(t, m, opts, 2)}
	of := reflect.TypeFor[Probes]()
	for i := range of.NumField() {
		if of.Field(i).Type.Kind() != reflect.Func {
			continue
		}
		one := Probes{MachinesBy: "--node-probe-logs=probes"}
		reflect.ValueOf(&one).Elem().Field(i).Set(reflect.ValueOf(all).Field(i))
		flag := fmt.Sprintf("%q", one.flags())
		if runs[flag] != nil {
			t.Errorf("%s is not told apart: %s", of.Field(i).Name, flag)
		}
		opts.Probes = one
		runs[flag] = divided(t, m, opts, 2)
	}
	for flags, first := range runs {
		for other, second := range runs {
			want := ""
			if flags != other {
				want = "shard-0.jsonl and shard-1.jsonl are not of one run: flags to look closer " + flags + " and " + other
			}
			if err := Join([]ShardRun{first[0], second[1]}, JoinOptions{}, NewTally(&recorder{})); fmt.Sprint(err) != cmp.Or(want, "<nil>") {
				t.Errorf("%s and %s: %v", flags, other, err)
			}
		}
	}
	sameWhenDivided(t, layered(), ClusterOptions{Probes: all}, 1, 3)
}

// TestJoinSaysWhatChanged: shards that saw other things around them, and that began at
// other times.
func TestJoinSaysWhatChanged(t *testing.T) {
	t.Parallel()
	m := layered()
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Start: Start{Time: time.Unix(200, 0)}}
	runs := divided(t, m, opts, 3)
	m.blocks("shop", `{"a":"b"}`, "NET_RAW")
	m.nodes = m.nodes[:1]
	opts.Start.Time = time.Unix(100, 0)
	runs[1] = divided(t, m, opts, 3)[1]
	joined := &recorder{}
	if err := Join(runs, JoinOptions{}, NewTally(joined)); err != nil {
		t.Fatal(err)
	}
	start := joined.events[0].Start
	notes := strings.Join(start.Notes, "\n")
	if !strings.Contains(notes, "the same policies") || !strings.Contains(notes, "as shard-0.jsonl did") {
		t.Errorf("notes are %q", notes)
	}
	if !start.Time.Equal(time.Unix(100, 0)) || start.Shard != nil {
		t.Errorf("start is %+v", start)
	}
}

// TestJoinSaysWhatIsOld: a part that an earlier run left is like one of this run but for
// its time.
func TestJoinSaysWhatIsOld(t *testing.T) {
	t.Parallel()
	runs := divided(t, web(), ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Start: Start{Time: time.Unix(100_000, 0)}}, 3)
	for _, test := range []struct {
		apart time.Duration
		want  []string
	}{
		{time.Hour, nil},
		{25*time.Hour + time.Second, []string{"the shards were not read at one time: shard-2.jsonl is 25h0m0s older than shard-0.jsonl, and what is told of its namespaces is as they were then"}},
	} {
		runs[2].Start.Time = time.Unix(100_000, 0).Add(-test.apart)
		joined := &recorder{}
		if err := Join(runs, JoinOptions{}, NewTally(joined)); err != nil {
			t.Fatal(err)
		}
		if start := joined.events[0].Start; !slices.Equal(start.Notes, test.want) || !start.Time.Equal(runs[2].Start.Time) {
			t.Errorf("%s apart: the start is %+v", test.apart, start)
		}
	}
}

// TestPartsNobodyWrote are refused one by one.
func TestPartsNobodyWrote(t *testing.T) {
	t.Parallel()
	at := Workload{Namespace: "shop", Kind: "Pod", Name: "a"}
	other := at
	other.Cluster = "other"
	row := func(pods int, findings ...Finding) *Part {
		return &Part{Row: &ShardRow{
			Workload: at, Pods: pods, Findings: findings, Layers: []*Layers{{}}, Admitted: []Admitted{{}}, Sources: []ShardSource{{}},
			Nodes: []string{""}, Places: [][2]int{{0, 0}},
		}}
	}
	for _, good := range []*Part{row(1), row(1<<40, Finding{Workload: at, Pods: 1 << 40})} {
		if err := good.Check(); err != nil {
			t.Error(err)
		}
	}
	for name, bad := range map[string]*Part{
		"pods": row(math.MaxInt), "no pods": row(-1), "other": row(1, Finding{Workload: other}),
		"its pods": row(1, Finding{Workload: at, Pods: -1}), "counts": {Counts: &ShardCounts{Pods: math.MaxInt}},
	} {
		if err := bad.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestJoinWithInterruptedShard: nothing is told of its namespaces, and nothing that hangs
// on all pods is taken for known.
func TestJoinWithInterruptedShard(t *testing.T) {
	t.Parallel()
	m := layered()
	m.blocks("lab", `{"no":"such"}`, "NET_RAW")
	m.namespaces = append(m.namespaces, namespace("lab"))
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}
	for stopped := range 3 {
		runs := divided(t, m, opts, 3)
		ctx, stop := context.WithCancel(t.Context())
		opts.Shard = &Shard{stopped, 3}
		r := &recorder{}
		handler := NewTally(HandlerFunc(func(e Event) error { stop(); return r.Handle(e) }))
		if err := ScanCluster(ctx, m, opts, handler); err != nil {
			t.Fatal(err)
		}
		runs[stopped] = recordedRun(t, "stopped.jsonl", r)
		joined := &recorder{}
		if err := Join(runs, JoinOptions{}, NewTally(joined)); err != nil {
			t.Fatal(err)
		}
		if end := joined.end(t); !end.Interrupted || !end.Incomplete {
			t.Errorf("the end is %+v", end)
		}
		wantLines(t, joined.failures(), fmt.Sprintf("shard %d/3: interrupted", stopped))
		for _, e := range joined.events {
			if w := e.Verdict; w != nil && opts.Shard.Has(w.Workload.Namespace) {
				t.Errorf("a verdict on %s", w.Workload)
			}
			if opts.Shard.Has("lab") && e.Finding != nil && e.Finding.Rule == "policy-selects-nothing" && e.Finding.Workload.Namespace == "lab" {
				t.Errorf("of a policy in lab is said that it selects nothing")
			}
		}
	}
}
