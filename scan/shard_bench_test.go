package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"
)

// crowdOf is a cluster of many pods, which it makes as they are asked for.
type crowdOf struct {
	*memory
	namespacesOf, workloads, pods int
	spec                          []corev1.PodSpec
}

// Pods makes each pod as a client does that decodes it: with nothing shared.
func (c *crowdOf) Pods(ctx context.Context, namespace string, visit func(PodPage) error) error {
	var page PodPage
	for ns := range c.namespacesOf {
		name := fmt.Sprintf("team-%03d", ns)
		if namespace != "" && namespace != name {
			continue
		}
		for w := range c.workloads / c.namespacesOf {
			for p := range c.pods {
				pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Namespace: name, Name: fmt.Sprintf("w-%d-%d", w, p), Labels: map[string]string{"app": fmt.Sprint(w)},
					OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: fmt.Sprint("w-", w), UID: "u", Controller: new(true)}},
				}}
				c.spec[w%len(c.spec)].DeepCopyInto(&pod.Spec)
				pod.Spec.NodeName = fmt.Sprintf("n%d", (w+p)%len(c.nodes))
				if page.Items = append(page.Items, pod); len(page.Items) == 500 {
					if err := visit(page); err != nil {
						return err
					}
					page = PodPage{}
				}
			}
		}
	}
	if len(page.Items) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	return visit(page)
}

// BenchmarkShards compares one scan of 100,000 pods in 2,000 workloads with the slowest
// of several shards and the merge of their files. What the API server takes is not in it.
func BenchmarkShards(b *testing.B) {
	m := layered()
	m.nodes = nil
	for i := range 300 {
		m.equip(fmt.Sprintf("n%d", i), bpf(), true)
	}
	c := &crowdOf{memory: m, namespacesOf: 200, workloads: 2000, pods: 50, spec: []corev1.PodSpec{plain(), privileged(), adding("SYS_ADMIN"), plain(), plain()}}
	for i := range c.namespacesOf {
		m.namespaces = append(m.namespaces, namespace(fmt.Sprintf("team-%03d", i)))
	}
	for _, n := range []int{3, 7} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { c.compare(b, n) })
	}
}

func (c *crowdOf) compare(b *testing.B, n int) {
	var whole, slowest, merge time.Duration
	var size, heap int
	for b.Loop() {
		whole += c.timed(b, nil, &bytes.Buffer{})
		files := make([]bytes.Buffer, n)
		most := time.Duration(0)
		for i := range n {
			most = max(most, c.timed(b, &Shard{i, n}, &files[i]))
		}
		slowest += most
		began := time.Now()
		runs := make([]ShardRun, n)
		for i := range files {
			size += files[i].Len()
			runs[i] = readBench(b, files[i].Bytes())
		}
		before, events := heapNow(), 0
		out := json.NewEncoder(discard{})
		if err := Join(runs, JoinOptions{}, NewTally(HandlerFunc(func(e Event) error {
			if events++; events%2000 == 0 {
				heap = max(heap, heapNow()-before)
			}
			return out.Encode(e)
		}))); err != nil {
			b.Fatal(err)
		}
		merge += time.Since(began)
	}
	ms := func(d time.Duration) float64 { return float64(d.Milliseconds()) / float64(b.N) }
	b.ReportMetric(ms(whole), "ms-whole")
	b.ReportMetric(ms(slowest), "ms-slowest")
	b.ReportMetric(ms(merge), "ms-merge")
	b.ReportMetric(float64(whole)/float64(slowest+merge), "times-faster")
	b.ReportMetric(float64(size)/float64(b.N)/1e6, "MB-files")
	b.ReportMetric(float64(heap)/1e6, "MB-merge")
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func heapNow() int {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// timed scans, and writes what a scan writes.
func (c *crowdOf) timed(b *testing.B, shard *Shard, to *bytes.Buffer) time.Duration {
	b.Helper()
	began, enc := time.Now(), json.NewEncoder(to)
	opts := ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer, Shard: shard}
	if err := ScanCluster(context.Background(), c, opts, NewTally(HandlerFunc(func(e Event) error { return enc.Encode(e) }))); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// readBench reads a file twice, as merge does.
func readBench(b *testing.B, file []byte) ShardRun {
	b.Helper()
	run := ShardRun{Name: "file"}
	each := func(visit func(*Event) bool) {
		for line := range bytes.Lines(file) {
			var e Event
			if err := json.Unmarshal(line, &e); err != nil {
				b.Fatal(err)
			}
			if !visit(&e) {
				return
			}
		}
	}
	each(func(e *Event) bool {
		switch p := e.Part; {
		case e.Start != nil:
			run.Start = *e.Start
		case e.End != nil:
			run.End = *e.End
		case p == nil || p.Row != nil:
		case p.Counts != nil:
			run.Counts = p.Counts
		case run.Around == nil:
			run.Around = p.Around
		default:
			run.Around.Add(p.Around)
		}
		return true
	})
	run.Rows = func(yield func(*ShardRow, error) bool) {
		each(func(e *Event) bool { return e.Part == nil || e.Part.Row == nil || yield(e.Part.Row, nil) })
	}
	return run
}
