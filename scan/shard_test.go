package scan

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// TestShardOfANamespace: the division is the same in every version.
func TestShardOfANamespace(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"": 2, "default": 6, "kube-system": 1, "shop": 5, "lab": 1, "payments": 6} {
		var has []int
		for i := range 7 {
			if (Shard{i, 7}).Has(name) {
				has = append(has, i)
			}
		}
		if !slices.Equal(has, []int{want}) {
			t.Errorf("%q is in shards %v of 7, want %d", name, has, want)
		}
		if !(Shard{0, 1}).Has(name) {
			t.Errorf("%q is not in the only shard", name)
		}
	}
	for _, s := range []Shard{{}, {-1, 3}, {3, 3}, {0, -1}} {
		if s.Valid() || s.Has("shop") {
			t.Errorf("%s passes for a shard", s)
		}
	}
}

// recordedRun is a run of a shard as it is after it was saved and read again.
func recordedRun(t *testing.T, name string, r *recorder) ShardRun {
	t.Helper()
	run := ShardRun{Name: name}
	var rows []*ShardRow
	for _, e := range r.events {
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Event
		if err := json.Unmarshal(raw, &back); err != nil {
			t.Fatal(err)
		}
		switch p := back.Part; {
		case back.Start != nil:
			run.Start = *back.Start
		case back.End != nil:
			run.End = *back.End
		case p == nil:
		default:
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			sameAfterSaving(t, e.Part, p)
			if p.Row != nil {
				rows = append(rows, p.Row)
				continue
			}
			switch {
			case p.Counts != nil:
				run.Counts = p.Counts
			case run.Around == nil:
				run.Around = p.Around
			default:
				run.Around.Add(p.Around)
			}
		}
	}
	run.Rows = listed2(rows)
	return run
}

// sameAfterSaving compares a part with what it is after it was saved: the text of both
// and, but for lists that are empty and not nil, all that is in them.
func sameAfterSaving(t *testing.T, was, is *Part) {
	t.Helper()
	if !reflect.DeepEqual(withoutEmpty(reflect.ValueOf(was)).Interface(), withoutEmpty(reflect.ValueOf(is)).Interface()) {
		a, _ := json.Marshal(was)
		b, _ := json.Marshal(is)
		t.Errorf("a part is other after it was saved:\n%s\n%s", a, b)
	}
}

// withoutEmpty is a copy in which lists and maps without anything in them are nil.
func withoutEmpty(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		made := reflect.New(v.Type().Elem())
		made.Elem().Set(withoutEmpty(v.Elem()))
		return made
	case reflect.Struct:
		made := reflect.New(v.Type()).Elem()
		made.Set(v)
		for i := range v.NumField() {
			if made.Field(i).CanSet() {
				made.Field(i).Set(withoutEmpty(v.Field(i)))
			}
		}
		return made
	case reflect.Slice:
		if v.Len() == 0 {
			return reflect.Zero(v.Type())
		}
		made := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			made.Index(i).Set(withoutEmpty(v.Index(i)))
		}
		return made
	case reflect.Map:
		if v.Len() == 0 {
			return reflect.Zero(v.Type())
		}
		return v
	default:
		return v
	}
}

func listed2(rows []*ShardRow) iter.Seq2[*ShardRow, error] {
	return func(yield func(*ShardRow, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// divided scans the cluster in n shards.
func divided(t *testing.T, cluster Cluster, opts ClusterOptions, n int) []ShardRun {
	t.Helper()
	runs := make([]ShardRun, n)
	for i := range n {
		r := &recorder{}
		opts.Shard = &Shard{i, n}
		if err := ScanCluster(t.Context(), cluster, opts, NewTally(r)); err != nil {
			t.Fatal(err)
		}
		runs[i] = recordedRun(t, fmt.Sprintf("shard-%d.jsonl", i), r)
	}
	return runs
}

// sameWhenDivided compares what a scan sends with what shards come to.
func sameWhenDivided(t *testing.T, cluster Cluster, opts ClusterOptions, shards ...int) {
	t.Helper()
	opts.Level, opts.PSSVersion = psa.LevelBaseline, PSSServer
	single := &recorder{}
	if err := ScanCluster(t.Context(), cluster, opts, NewTally(single)); err != nil {
		t.Fatal(err)
	}
	single.events = slices.DeleteFunc(single.events, func(e Event) bool { return e.Progress != nil })
	for _, n := range shards {
		joined := &recorder{}
		runs := divided(t, cluster, opts, n)
		rand.New(rand.NewPCG(1, uint64(n))).Shuffle(n, func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		if err := Join(runs, JoinOptions{}, NewTally(joined)); err != nil {
			t.Fatal(err)
		}
		got, want := strings.Split(joined.jsonLines(t), "\n"), strings.Split(single.jsonLines(t), "\n")
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Fatalf("%d shards: event %d\n got %s\nwant %s", n, i, strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""), strings.Join(want[min(i, len(want)):min(i+1, len(want))], ""))
			}
		}
	}
}

// fill lets containers run on a node, in pods of each of the namespaces.
func (m *memory) fill(node string, each int, namespaces ...string) {
	for _, ns := range namespaces {
		for i := range each {
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprintf("filler-%s-%d", node, i)}, Spec: plain()}
			pod.Spec.NodeName = node
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
			m.pods = append(m.pods, pod)
		}
	}
}

// TestShardsOfAnyCluster divides clusters that were changed at random, and of which this
// and that cannot be read.
func TestShardsOfAnyCluster(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			opts := []ClusterOptions{{}, {}, {Namespaces: []string{"shop", "nowhere", "lab"}}, {Start: Start{Selector: "app"}}}[seed%4]
			s := weather(t, seed+100, opts)
			for batch := range 3 {
				for range 8 {
					s.change()
				}
				if batch == 1 && seed < 2 {
					// Too many in sum, and not in one namespace alone.
					s.m.fill("n1", armor.MaxContainersPerNode/2, "shop", "lab", "ops")
				}
				s.possible()
				s.m.index()
				opts.Start.Time, opts.Start.Cluster = s.now, "somewhere"
				sameWhenDivided(t, s.m.memory, opts, []int{1, 3, 7}[batch%3])
			}
		})
	}
}

// possible makes of the cluster one that an API server could show: without pods in
// namespaces that do not exist, and where all pods may be read, those of each namespace.
func (s *storm) possible() {
	m := s.m.memory
	for _, pod := range m.pods {
		if !slices.ContainsFunc(m.namespaces, func(ns corev1.Namespace) bool { return ns.Name == pod.Namespace }) {
			m.namespaces = append(m.namespaces, namespace(pod.Namespace))
		}
	}
	if m.podsErr[""] == nil {
		clear(m.podsErr)
	}
}

// TestCrowdedInSum: a node that no shard sees crowded is, and what runs there is judged
// so.
func TestCrowdedInSum(t *testing.T) {
	t.Parallel()
	m := layered()
	m.namespaces = append(m.namespaces, namespace("ops"))
	m.has("shop", "DaemonSet/agents", "", "")
	m.on("n1", "web", adding("SYS_ADMIN"))
	m.fill("n1", armor.MaxContainersPerNode/2, "shop", "lab", "ops")
	sameWhenDivided(t, m, ClusterOptions{}, 3, 7)
	joined := &recorder{}
	if err := Join(divided(t, m, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, 7), JoinOptions{}, NewTally(joined)); err != nil {
		t.Fatal(err)
	}
	if v := verdictOf(t, joined, "agents"); v.Verdict != VerdictUnknown || !strings.Contains(v.Reason, "more than 256 containers") {
		t.Errorf("%s: %s", v.Verdict, v.Reason)
	}
}

// countedLists counts which namespaces are listed.
type countedLists struct {
	*memory
	pods, owners map[string]int
}

func (c *countedLists) Pods(ctx context.Context, namespace string, visit func(PodPage) error) error {
	c.pods[namespace]++
	return c.memory.Pods(ctx, namespace, visit)
}

func (c *countedLists) Owners(ctx context.Context, namespace string, kind schema.GroupVersionKind, visit func([]Owner) error) error {
	c.mu.Lock()
	c.owners[namespace]++
	c.mu.Unlock()
	return c.memory.Owners(ctx, namespace, kind, visit)
}

// TestShardReadsItsNamespaces: a shard reads the pods and owners of its own namespaces,
// and of all others nothing.
func TestShardReadsItsNamespaces(t *testing.T) {
	t.Parallel()
	m := web()
	for i := range 20 {
		ns := fmt.Sprintf("team-%d", i)
		m.namespaces = append(m.namespaces, namespace(ns))
		m.has(ns, "ReplicaSet/web-1", "", "1")
		m.runs(2, ns, "web-1", "ReplicaSet/web-1", "1", plain())
	}
	for i := range 3 {
		c := &countedLists{m, map[string]int{}, map[string]int{}}
		r := &recorder{}
		shard := Shard{i, 3}
		if err := ScanCluster(t.Context(), c, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Shard: &shard}, r); err != nil {
			t.Fatal(err)
		}
		for _, ns := range m.namespaces {
			want := 0
			if shard.Has(ns.Name) {
				want = 1
			}
			if c.pods[ns.Name] != want {
				t.Errorf("shard %s lists the pods of %s %d times, want %d", shard, ns.Name, c.pods[ns.Name], want)
			}
			if want == 0 && c.owners[ns.Name] > 0 {
				t.Errorf("shard %s lists owners in %s", shard, ns.Name)
			}
		}
	}
}

// FuzzPart: whatever a file says, joining it is an error or goes well.
func FuzzPart(f *testing.F) {
	m := layered()
	r := &recorder{}
	if err := ScanCluster(context.Background(), m, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Shard: &Shard{0, 1}}, r); err != nil {
		f.Fatal(err)
	}
	for _, e := range r.events {
		if e.Part != nil {
			raw, err := json.Marshal(e.Part)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var p Part
		if json.Unmarshal(raw, &p) != nil || p.Check() != nil {
			return
		}
		run := ShardRun{Name: "a", Start: Start{Shard: &Shard{0, 1}}, Around: &Outline{}, Counts: &ShardCounts{}, Rows: listed2(nil)}
		switch {
		case p.Around != nil:
			run.Around = p.Around
		case p.Counts != nil:
			run.Counts = p.Counts
		default:
			run.Rows = listed2([]*ShardRow{p.Row})
		}
		joined := &recorder{}
		if err := Join([]ShardRun{run}, JoinOptions{}, NewTally(joined)); err != nil {
			t.Fatal(err)
		}
		joined.end2(t)
	})
}

func (r *recorder) end2(t *testing.T) {
	t.Helper()
	if len(r.events) == 0 || r.events[len(r.events)-1].End == nil {
		t.Error("no end")
	}
}
