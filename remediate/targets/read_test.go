package targets_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
)

// readDump reads a dump of a whole cluster.
func readDump(t *testing.T, text io.Reader) *snapshot.Dump {
	t.Helper()
	dump, err := snapshot.ReadDump(t.Context(), manifest.Inputs{Paths: []string{manifest.Stdin}, Stdin: text})
	if err != nil {
		t.Fatal(err)
	}
	dump.Complete = true
	return dump
}

func demoDump(t *testing.T) *snapshot.Dump {
	t.Helper()
	names, err := fs.Glob(demo.Files(), "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, name := range names {
		text, err := fs.ReadFile(demo.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString("---\n")
		all.Write(text)
		all.WriteString("\n")
	}
	return readDump(t, &all)
}

func read(t *testing.T, cluster scan.Cluster, scope targets.Scope, opts targets.Options) *targets.Inventory {
	t.Helper()
	inventory, err := targets.Read(t.Context(), cluster, scope, opts)
	if err != nil {
		t.Fatal(err)
	}
	return inventory
}

// The demo cluster, in which nothing is missing.
func TestReadDemo(t *testing.T) {
	t.Parallel()
	inventory := checkWhole(t, demoDump(t))
	noFailures(t, inventory)
	if len(inventory.Containers) == 0 {
		t.Error("no containers on any node")
	}
	found := slices.ContainsFunc(inventory.Workloads, func(w targets.Workload) bool {
		return w.String() == "monitoring/Deployment/grafana" && w.Selector["app.kubernetes.io/name"] == "grafana"
	})
	if !found {
		t.Error("no grafana")
	}
}

// The situations of the scan's tests are small clusters with every odd pod there is.
func TestReadSituations(t *testing.T) {
	t.Parallel()
	const dir = "../../testdata/situations"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, e := range entries {
		files, err := filepath.Glob(filepath.Join(dir, e.Name(), "*.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		files = slices.DeleteFunc(files, func(name string) bool { return filepath.Base(name) == "expect.yaml" })
		if len(files) == 0 {
			continue
		}
		read++
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			dump, err := snapshot.ReadDump(t.Context(), manifest.Inputs{Paths: files})
			if err != nil {
				t.Fatal(err)
			}
			dump.Complete = true
			checkWhole(t, dump)
		})
	}
	if read < 100 {
		t.Errorf("only %d situations", read)
	}
}

// checkWhole reads a dump: every pod is in one workload that its selector selects,
// and none is in a namespace that is always left out.
func checkWhole(t *testing.T, dump *snapshot.Dump) *targets.Inventory {
	t.Helper()
	inventory := read(t, dump, targets.Scope{}, targets.Options{})
	want := 0
	if err := dump.Pods(t.Context(), "", func(page scan.PodPage) error {
		for i := range page.Items {
			p := &page.Items[i]
			if !slices.Contains(targets.Always(), p.Namespace) && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				want++
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got, seen := 0, map[string]bool{}
	for i := range inventory.Workloads {
		w := &inventory.Workloads[i]
		if slices.Contains(targets.Always(), w.Namespace) {
			t.Errorf("%s is in scope", w.Workload)
		}
		if seen[w.String()] {
			t.Errorf("%s comes twice", w.Workload)
		}
		seen[w.String()] = true
		if len(w.Specimens) == 0 {
			t.Errorf("%s has no specimens", w.Workload)
		}
		for _, s := range w.Specimens {
			got += s.Live
			if !carries(s.Pod.Labels, w.Selector) {
				t.Errorf("%s: %v does not select %v", w.Workload, w.Selector, s.Pod.Labels)
			}
		}
	}
	if got != want {
		t.Errorf("%d pods in workloads, want %d", got, want)
	}
	return inventory
}

func carries(labels, selector map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// broken is a cluster of which some things cannot be read.
type broken struct {
	scan.Cluster
	pods    func(ctx context.Context, namespace string, visit func(scan.PodPage) error) error
	objects func(kind schema.GroupKind) error
}

func (b broken) Pods(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
	if b.pods != nil {
		return b.pods(ctx, namespace, visit)
	}
	return b.Cluster.Pods(ctx, namespace, visit)
}

func (b broken) Objects(ctx context.Context, kind schema.GroupKind, visit func([]byte) error) error {
	if b.objects != nil {
		if err := b.objects(kind); err != nil {
			return err
		}
	}
	return b.Cluster.Objects(ctx, kind, visit)
}

var errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))

// What cannot be read is said, and the rest is read all the same.
func TestReadFailures(t *testing.T) {
	t.Parallel()
	demo := demoDump(t)
	all := len(read(t, &demo.Snapshot, targets.Scope{}, targets.Options{}).Workloads)

	t.Run("pods all at once", func(t *testing.T) {
		t.Parallel()
		cluster := broken{Cluster: &demo.Snapshot, pods: func(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
			switch namespace {
			case "":
				return errForbidden
			case "kube-system":
				t.Error("pods of kube-system are asked for, which is out of scope")
			}
			return demo.Pods(ctx, namespace, visit)
		}}
		inventory := read(t, cluster, targets.Scope{}, targets.Options{})
		if len(inventory.Workloads) != all {
			t.Errorf("%d workloads, want %d", len(inventory.Workloads), all)
		}
		if len(inventory.Failures) != 1 || !strings.Contains(inventory.Failures[0].Affects, "containers") || len(inventory.Unseen) != 0 {
			t.Errorf("failures: %+v", inventory.Failures)
		}
	})
	t.Run("pods from the middle on", func(t *testing.T) {
		t.Parallel()
		cluster := broken{Cluster: &demo.Snapshot, pods: func(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
			if namespace != "" {
				t.Errorf("pods of %s are read a second time", namespace)
			}
			return errors.Join(demo.Pods(ctx, namespace, visit), errForbidden)
		}}
		inventory := read(t, cluster, targets.Scope{}, targets.Options{Failures: []scan.Failure{{Subject: "before"}}})
		if len(inventory.Failures) != 2 || inventory.Failures[0].Subject != "before" || inventory.Failures[1].Subject != "pods" ||
			len(inventory.Unseen) != 1 || inventory.Unseen[0].Subject != "pods" {
			t.Errorf("failures: %+v", inventory.Failures)
		}
		if len(inventory.Workloads) != all {
			t.Errorf("%d workloads, want %d", len(inventory.Workloads), all)
		}
	})
	t.Run("kinds", func(t *testing.T) {
		t.Parallel()
		cluster := broken{Cluster: &demo.Snapshot, objects: func(kind schema.GroupKind) error {
			switch kind.Kind {
			case "Job":
				return scan.ErrNotServed
			case "CronJob":
				return scan.ErrNotRecorded
			}
			return nil
		}}
		inventory := read(t, cluster, targets.Scope{}, targets.Options{})
		if len(inventory.Failures) != 1 || inventory.Failures[0].Subject != "CronJob" || inventory.Failures[0].Reason != scan.FailureNotFound || len(inventory.Unseen) != 1 {
			t.Errorf("failures: %+v", inventory.Failures)
		}
	})
	t.Run("a namespace that is not there", func(t *testing.T) {
		t.Parallel()
		inventory := read(t, demo, targets.Scope{Namespaces: []string{"shopp"}}, targets.Options{})
		if len(inventory.Failures) != 1 || !strings.Contains(inventory.Failures[0].Message, `"shopp" does not exist`) || len(inventory.Workloads) != 0 {
			t.Errorf("got %+v", inventory)
		}
	})
}

func TestReadEnds(t *testing.T) {
	t.Parallel()
	demo := demoDump(t)
	ctx, cancel := context.WithCancel(t.Context())
	cluster := broken{Cluster: demo, pods: func(ctx context.Context, namespace string, visit func(scan.PodPage) error) error {
		cancel()
		return demo.Pods(ctx, namespace, visit)
	}}
	if _, err := targets.Read(ctx, cluster, targets.Scope{}, targets.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := targets.Read(t.Context(), demo, targets.Scope{Namespaces: []string{"kyverno"}}, targets.Options{}); err == nil {
		t.Error("a wrong scope was read")
	}
}

// crowded is a cluster of very many pods, made as they are asked for. It serves no
// controllers but by their metadata.
type crowded struct {
	scan.Cluster
	kubetest.Crowd
}

func (c crowded) Namespaces(context.Context) ([]corev1.Namespace, error) { return nil, nil }

func (c crowded) Objects(context.Context, schema.GroupKind, func([]byte) error) error {
	return errForbidden
}

func (c crowded) Pods(_ context.Context, _ string, visit func(scan.PodPage) error) error {
	for i := range c.Deployments {
		deployment := c.Deployment(i)
		var page scan.PodPage
		for set := range c.ReplicaSets {
			replicas := c.ReplicaSet(deployment, i, set)
			for k := range c.Crowd.Pods {
				page.Items = append(page.Items, *c.Pod(replicas, i, k))
			}
		}
		if err := visit(page); err != nil {
			return err
		}
	}
	return nil
}

func (c crowded) Owners(_ context.Context, _ string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	var page []scan.Owner
	for i := range c.Deployments {
		deployment := c.Deployment(i)
		if kind.Kind == "Deployment" {
			page = append(page, scan.OwnerOf(&deployment.ObjectMeta))
			continue
		}
		for set := range c.ReplicaSets {
			page = append(page, scan.OwnerOf(&c.ReplicaSet(deployment, i, set).ObjectMeta))
		}
	}
	return visit(page)
}

// Of 10,000 pods no more is held than what tells them apart, also across a rollout that
// changes nothing that counts.
func TestReadManyPods(t *testing.T) {
	t.Parallel()
	crowd := kubetest.Crowd{Namespaces: 10, Deployments: 100, ReplicaSets: 2, Pods: 50}
	inventory := read(t, crowded{Crowd: crowd}, targets.Scope{}, targets.Options{})
	if len(inventory.Workloads) != crowd.Deployments {
		t.Fatalf("%d workloads, want %d", len(inventory.Workloads), crowd.Deployments)
	}
	for i := range inventory.Workloads {
		w := &inventory.Workloads[i]
		if w.Kind != "Deployment" || len(w.Specimens) != 1 || w.Specimens[0].Live != crowd.ReplicaSets*crowd.Pods {
			t.Errorf("%s: %d specimens, the first of %d pods", w.Workload, len(w.Specimens), w.Specimens[0].Live)
		}
		if w.Selector["app"] != w.Name || w.Selector["pod-template-hash"] != "" {
			t.Errorf("%s: selector %v", w.Workload, w.Selector)
		}
	}
}
