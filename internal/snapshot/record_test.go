package snapshot_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/admission"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

var recordedAt = time.Date(2026, time.November, 22, 12, 0, 0, 0, time.UTC)

// events is what a scan says, without the places, one line of JSON each.
func events(t testing.TB, c scan.Cluster, opts scan.ClusterOptions) []string {
	t.Helper()
	opts.Level, opts.PSSVersion = psa.LevelRestricted, "server"
	var lines []string
	err := scan.ScanCluster(t.Context(), c, opts, scan.HandlerFunc(func(e scan.Event) error {
		switch {
		case e.Progress != nil:
			return nil
		case e.Finding != nil:
			f := *e.Finding
			f.Location, e.Finding = nil, &f
		case e.Verdict != nil:
			v := *e.Verdict
			v.Location, e.Verdict = nil, &v
		}
		line, err := json.Marshal(e)
		lines = append(lines, string(line))
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// recorded scans the cluster while it is recorded. The scan must not notice.
func recorded(t testing.TB, c scan.Cluster, opts scan.ClusterOptions) (text string, lines []string) {
	t.Helper()
	var file bytes.Buffer
	r := snapshot.NewRecorder(&file, snapshot.Begin{
		Tool: "test", Time: recordedAt, Cluster: opts.Start.Cluster, Namespaces: opts.Namespaces, Selector: opts.Start.Selector,
	}, c, scan.Probes{})
	lines = events(t, r, opts)
	// What only the layers ask for.
	for _, kind := range scan.ObjectKinds() {
		_ = r.Objects(t.Context(), kind, func([]byte) error { return nil })
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	return file.String(), lines
}

// readBack reads a dump that is sound.
func readBack(t *testing.T, text string) *snapshot.Dump {
	t.Helper()
	d, err := snapshot.ReadDump(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text)})
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Failures) > 0 {
		t.Fatalf("failures: %+v", d.Failures)
	}
	return d
}

func wantSame(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Fatalf("event %d\nread back %s\nlive      %s", i, g, w)
		}
	}
}

func demoCluster(t testing.TB) *snapshot.Snapshot {
	t.Helper()
	c, err := snapshot.Load(t.Context(), demo.Files(), demo.ServerVersion)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnInventoryReadsBackToTheSameEvents(t *testing.T) {
	for name, opts := range map[string]scan.ClusterOptions{
		"all":                {Start: scan.Start{Cluster: "demo"}},
		"some namespaces":    {Start: scan.Start{Cluster: "demo"}, Namespaces: []string{"ci", "shop"}},
		"a selector":         {Start: scan.Start{Selector: "app.kubernetes.io/name=runner"}},
		"a wrong namespace":  {Namespaces: []string{"ci", "nowhere"}},
		"a selector of none": {Start: scan.Start{Selector: "app=none"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := demoCluster(t)
			var err error
			if c.Selector, err = labels.Parse(opts.Start.Selector); err != nil {
				t.Fatal(err)
			}
			direct := events(t, c, opts)
			text, live := recorded(t, c, opts)
			wantSame(t, live, direct)
			d := readBack(t, text)
			if about := d.About(); about == nil || !about.Time.Equal(recordedAt) || about.Cluster != opts.Start.Cluster || !slices.Equal(about.Namespaces, opts.Namespaces) {
				t.Fatalf("about: %+v", about)
			}
			wantSame(t, events(t, d, opts), live)
			for line := range strings.Lines(text) {
				if !json.Valid([]byte(line)) {
					t.Fatalf("no JSON: %s", line)
				}
			}
			// It can be recorded again, and nothing is lost on the way.
			again, lines := recorded(t, d, opts)
			wantSame(t, lines, live)
			if a, b := sorted(again), sorted(text); !slices.Equal(a, b) {
				for i := range a {
					if i >= len(b) || a[i] != b[i] {
						t.Fatalf("recorded again:\n%s\nfirst:\n%s", a[i], b[min(i, len(b)-1)])
					}
				}
			}
		})
	}
}

func sorted(text string) []string { return slices.Sorted(strings.Lines(text)) }

// broken fails as its functions say.
type broken struct {
	*snapshot.Snapshot
	fail func(of string) error
}

func (b broken) Namespaces(ctx context.Context) ([]corev1.Namespace, error) {
	list, err := b.Snapshot.Namespaces(ctx)
	if f := b.fail("namespaces"); f != nil {
		return nil, f
	}
	return list, err
}

func (b broken) Nodes(ctx context.Context) ([]corev1.Node, error) {
	list, err := b.Snapshot.Nodes(ctx)
	return list, cmp.Or(b.fail("nodes"), err) // the first pages came
}

func (b broken) RuntimeClasses(ctx context.Context) (map[string]string, error) {
	if f := b.fail("classes"); f != nil {
		return nil, f
	}
	return b.Snapshot.RuntimeClasses(ctx)
}

func (b broken) HostVolumes(ctx context.Context) (map[scan.Claim]string, error) {
	if f := b.fail("volumes"); f != nil {
		return nil, f
	}
	return b.Snapshot.HostVolumes(ctx)
}

func (b broken) Pods(ctx context.Context, ns string, visit func(scan.PodPage) error) error {
	if f := b.fail("pods " + ns); f != nil {
		return f
	}
	return b.Snapshot.Pods(ctx, ns, visit)
}

func (b broken) Owners(ctx context.Context, ns string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	if f := b.fail(kind.Kind); f != nil {
		return f
	}
	return b.Snapshot.Owners(ctx, ns, kind, visit)
}

func (b broken) Owner(ctx context.Context, ns string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	if f := b.fail(kind.Kind); f != nil {
		return scan.Owner{}, f
	}
	return b.Snapshot.Owner(ctx, ns, kind, name)
}

func (b broken) Objects(ctx context.Context, kind schema.GroupKind, visit func([]byte) error) error {
	if f := b.fail(kind.String()); f != nil {
		return f
	}
	return b.Snapshot.Objects(ctx, kind, visit)
}

func forbid(what string) error {
	return fmt.Errorf("list %s: %w", what, apierrors.NewForbidden(schema.GroupResource{Resource: what}, "", errors.New(`user "x" may not`)))
}

func TestWhatCouldNotBeReadReadsBackAsThat(t *testing.T) {
	netErr := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	for name, fail := range map[string]func(of string) error{
		"all forbidden": forbid,
		"each kind by a kind of error": func(of string) error {
			return map[string]error{
				"nodes": fmt.Errorf("list nodes: %w", context.DeadlineExceeded), "namespaces": forbid("namespaces"),
				"classes": netErr, "volumes": errors.New("strange"), "ReplicaSet": apierrors.NewServerTimeout(schema.GroupResource{}, "list", 1),
				"Rollout": forbid("rollouts"),
			}[of]
		},
		"pods of one namespace": func(of string) error {
			if of == "pods " || of == "pods shop" {
				return forbid("pods")
			}
			return nil
		},
		"an owner that is gone": func(of string) error {
			if of == "Rollout" {
				return apierrors.NewNotFound(schema.GroupResource{Resource: "rollouts"}, "x")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, live := recorded(t, broken{demoCluster(t), fail}, scan.ClusterOptions{})
			wantSame(t, events(t, readBack(t, text), scan.ClusterOptions{}), live)
		})
	}
}

// The objects of a kind are read back as they ended: whole, not served, not asked
// for, or failed in the middle.
func TestObjectsReadBackAsTheyEnded(t *testing.T) {
	kinds := scan.ObjectKinds()
	empty := &snapshot.Snapshot{Complete: true}
	c := broken{empty, func(of string) error {
		switch of {
		case kinds[1].String():
			return fmt.Errorf("list: %w", scan.ErrNotServed)
		case kinds[2].String():
			return forbid("policies")
		}
		return nil
	}}
	var file bytes.Buffer
	r := snapshot.NewRecorder(&file, snapshot.Begin{}, c, scan.Probes{})
	for _, kind := range kinds[:3] {
		_ = r.Objects(t.Context(), kind, func([]byte) error { return nil })
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	d := readBack(t, file.String())
	for i, want := range []func(error) bool{
		func(err error) bool { return err == nil },
		func(err error) bool { return errors.Is(err, scan.ErrNotServed) },
		apierrors.IsForbidden,
		func(err error) bool { return errors.Is(err, scan.ErrNotRecorded) },
	} {
		if err := d.Objects(t.Context(), kinds[i], func([]byte) error { return nil }); !want(err) {
			t.Errorf("%s: %v", kinds[i], err)
		}
	}
	// A policy that is put into the file, to see what it would do, is served.
	text := file.String() + `{"apiVersion":"security.kubearmor.com/v1","kind":"KubeArmorClusterPolicy","metadata":{"name":"p"},"spec":{}}`
	if err := readBack(t, text).Objects(t.Context(), kinds[1], func([]byte) error { return nil }); err != nil {
		t.Errorf("added: %v", err)
	}
}

func TestProbesAnswerAsTheyDid(t *testing.T) {
	agent := kernel.Agent{Namespace: "kubearmor", Name: "agent-1"}
	pod := func(env string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Args: []string{env}, Env: []corev1.EnvVar{{Name: "A", Value: env}}}}},
		}
	}
	p := scan.Probes{
		ProbeData: func(_ context.Context, a kernel.Agent) (*kernel.Probe, error) {
			if a != agent {
				return nil, forbid("pods/exec")
			}
			return &kernel.Probe{Pod: "kubearmor/agent-1", ActiveLSM: "BPFLSM"}, nil
		},
		Machines: func(context.Context, []string) (map[string]*kernel.Machine, map[string]string, error) {
			return map[string]*kernel.Machine{"a": {Node: "a", Loads: kernel.Yes}}, map[string]string{"b": "no room"}, context.DeadlineExceeded
		},
		AskServer: func(_ context.Context, p *corev1.Pod) (admission.Ruling, error) {
			return admission.Ruling{Answer: admission.Refuses, Message: p.Name}, nil
		},
		Inspect: func(_ context.Context, _, _, container string, paths []string) (map[string]string, error) {
			if container != "c" {
				return nil, forbid("pods/exec")
			}
			found := map[string]string{}
			for _, path := range paths {
				found[path] = "/bin/busybox"
			}
			return found, nil
		},
	}
	var file bytes.Buffer
	r := snapshot.NewRecorder(&file, snapshot.Begin{}, &snapshot.Snapshot{Complete: true}, p)
	ask := func(p scan.Probes) string {
		var out strings.Builder
		ctx := t.Context()
		for _, a := range []kernel.Agent{agent, {Namespace: "kubearmor", Name: "agent-2"}} {
			data, err := p.ProbeData(ctx, a)
			fmt.Fprintf(&out, "%+v %v %v\n", data, err, apierrors.IsForbidden(err))
		}
		reports, why, err := p.Machines(ctx, []string{"a", "b"})
		fmt.Fprintf(&out, "%+v %v %v %v\n", reports["a"], why, err, errors.Is(err, context.DeadlineExceeded))
		ruling, err := p.AskServer(ctx, pod("x"))
		fmt.Fprintf(&out, "%+v %v\n", ruling, err)
		for _, container := range []string{"c", "d"} {
			for _, paths := range [][]string{{"/a"}, {"/b", "/c"}} {
				found, err := p.Inspect(ctx, "shop", "web", container, paths)
				fmt.Fprintf(&out, "%v %v\n", found, err)
			}
		}
		return out.String()
	}
	want := ask(r.Probes())
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	d := readBack(t, file.String())
	back := d.Probes()
	if got := ask(back); got != want {
		t.Errorf("read back\n%s\nlive\n%s", got, want)
	}
	// The server's answer belongs to the pod as it was recorded, without its secrets.
	if _, err := back.AskServer(t.Context(), pod("y")); err != nil {
		t.Errorf("another value of the environment: %v", err)
	}
	other := pod("x")
	other.Spec.HostPID = true
	if _, err := back.AskServer(t.Context(), other); !errors.Is(err, scan.ErrNotRecorded) {
		t.Errorf("a pod that nobody asked about: %v", err)
	}
	if _, err := back.Inspect(t.Context(), "shop", "web", "c", []string{"/z"}); !errors.Is(err, scan.ErrNotRecorded) {
		t.Errorf("a path that nobody asked about: %v", err)
	}
	// Without consent then there is none now.
	text, _ := recorded(t, &snapshot.Snapshot{Complete: true}, scan.ClusterOptions{})
	if none := readBack(t, text).Probes(); !reflect.ValueOf(none).IsZero() {
		t.Errorf("probes: %+v", none)
	}
}

// crowd is a cluster of many pods, made page by page.
type crowd struct {
	*snapshot.Snapshot
	pods int
}

func (c crowd) Pods(_ context.Context, _ string, visit func(scan.PodPage) error) error {
	var template corev1.Pod
	if err := json.Unmarshal([]byte(pod("web", "data", "null", "{}")), &template); err != nil {
		return err
	}
	for i := 0; i < c.pods; i += 500 {
		page := scan.PodPage{Items: make([]corev1.Pod, 500)}
		for k := range page.Items {
			template.DeepCopyInto(&page.Items[k])
			page.Items[k].Name = fmt.Sprintf("web-%d", i+k)
		}
		if err := visit(page); err != nil {
			return err
		}
	}
	return nil
}

// Recording keeps nothing of the pods that pass by.
func TestRecordingTakesNoMemoryForPods(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	r := snapshot.NewRecorder(io.Discard, snapshot.Begin{}, crowd{&snapshot.Snapshot{}, 20_000}, scan.Probes{})
	before := heap()
	if err := r.Pods(t.Context(), "", func(scan.PodPage) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if after := heap(); after > before+1<<20 {
		t.Errorf("%d KiB more for 20,000 pods", (after-before)>>10)
	}
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
}

type fullDisk struct{ left int }

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.left -= len(p); d.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestAFullDiskIsAnErrorInTheEnd(t *testing.T) {
	r := snapshot.NewRecorder(&fullDisk{2000}, snapshot.Begin{}, demoCluster(t), scan.Probes{})
	events(t, r, scan.ClusterOptions{})
	if err := r.Finish(); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("finish: %v", err)
	}
}
