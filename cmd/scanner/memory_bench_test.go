package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// memoryPods is the variable that makes of the test binary one that scans so many
// pods and prints how much memory it took.
const memoryPods = "ESCAPE_SCANNER_TEST_MEMORY_PODS"

// memoryClusters is the variable that makes it scan so many such clusters at once.
const memoryClusters = "ESCAPE_SCANNER_TEST_MEMORY_CLUSTERS"

// BenchmarkLiveMemory scans clusters of 2,000 workloads, in processes of their own:
// of 10,000 pods, and of 100,000, which may take 250 MiB at most. Memory grows with
// workloads and not with pods.
func BenchmarkLiveMemory(b *testing.B) {
	for _, pods := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			if peak := peakOfChild(b, memoryPods+"="+strconv.Itoa(pods)); peak >= 250 {
				b.Errorf("%d pods took %.0f MiB, want less than 250", pods, peak)
			}
		})
	}
}

// BenchmarkLiveFleetMemory scans ten clusters of 2,000 workloads and 10,000 pods each, in
// a process of its own, four at a time.
func BenchmarkLiveFleetMemory(b *testing.B) {
	if peak := peakOfChild(b, memoryPods+"=10000", memoryClusters+"=10"); peak >= 600 {
		b.Errorf("ten clusters took %.0f MiB, want less than 600", peak)
	}
}

// peakOfChild is how many MiB a process takes at most that scans what the variables say.
func peakOfChild(b *testing.B, variables ...string) float64 {
	b.Helper()
	peak := 0.0
	for b.Loop() {
		child := exec.CommandContext(b.Context(), os.Args[0])
		child.Env = append(os.Environ(), variables...)
		child.Stderr = os.Stderr
		out, err := child.Output()
		if err != nil {
			b.Fatal(err)
		}
		kib, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			b.Fatal(err)
		}
		peak = max(peak, kib/1024)
	}
	b.ReportMetric(peak, "peak-MiB")
	return peak
}

// measureMemory is the child: it scans with the table of a terminal and SARIF as
// outputs, as a nightly run would.
func measureMemory(pods string) int {
	n, err := strconv.Atoi(pods)
	if err == nil {
		err = scanCrowd(n)
	}
	peak := 0
	if err == nil {
		peak, err = peakMemory()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, peak)
	return 0
}

func scanCrowd(pods int) error {
	crowd := kubetest.Crowd{Namespaces: 50, Deployments: 2000, ReplicaSets: 1, Pods: pods / 2000}
	a := &app{deps: testDeps(""), stdout: io.Discard, stderr: io.Discard}
	cfg := &config.Config{Level: "baseline", PSSVersion: "server"}
	tally := scan.NewTally(scan.HandlerFunc(func(e scan.Event) error { return nil }))
	outputs := report.Tee(a.newHandler(cfg, "table", io.Discard), a.newHandler(cfg, "sarif", io.Discard), tally)
	clusters, err := strconv.Atoi(cmp.Or(os.Getenv(memoryClusters), "1"))
	if err != nil {
		return err
	}
	if clusters == 1 {
		err = a.scanSource(context.Background(), crowdCluster{crowd}, scan.ClusterOptions{Level: "baseline"}, "", cfg, outputs)
	} else {
		err = scanCrowds(crowd, clusters, outputs)
	}
	if err != nil {
		return err
	}
	if end := tally.End(); end.Pods != clusters*pods || end.Workloads != clusters*crowd.Deployments || end.Incomplete || len(end.Findings) == 0 {
		return fmt.Errorf("%d pods of %d, %d workloads, findings %v", end.Pods, pods, end.Workloads, end.Findings)
	}
	return nil
}

// scanCrowds scans so many clusters of a crowd each.
func scanCrowds(crowd kubetest.Crowd, clusters int, h scan.Handler) error {
	members := make([]scan.Member, clusters)
	for i := range members {
		name := fmt.Sprintf("cluster-%d", i)
		members[i] = scan.Member{Name: name, Scan: func(ctx context.Context, next scan.Handler) error {
			opts := scan.ClusterOptions{Level: "baseline", Start: scan.Start{Source: scan.SourceCluster, Cluster: name}}
			return scan.ScanCluster(ctx, crowdCluster{crowd}, opts, next)
		}}
	}
	return scan.ScanFleet(context.Background(), scan.FleetOptions{Level: "baseline", Parallel: config.Default().Parallel}, members, h)
}

// peakMemory is how many KiB of memory the process had at most.
func peakMemory() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if errors.Is(err, os.ErrNotExist) {
		// What the runtime took of the system, which it seldom gives back.
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.Sys / 1024), nil
	}
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	words := bytes.Fields(rest)
	if len(words) == 0 {
		return 0, errors.New("no peak in /proc/self/status")
	}
	return strconv.Atoi(string(words[0]))
}

// crowdCluster is a crowd that needs no server. Every page is decoded anew, so that
// it leaves the garbage behind that a page from a server does.
type crowdCluster struct{ kubetest.Crowd }

const crowdPage = 500

func (crowdCluster) ServerVersion(context.Context) (string, error)          { return "v1.36.3", nil }
func (crowdCluster) Namespaces(context.Context) ([]corev1.Namespace, error) { return nil, nil }
func (crowdCluster) Nodes(context.Context) ([]corev1.Node, error)           { return nil, nil }
func (crowdCluster) RuntimeClasses(context.Context) (map[string]string, error) {
	return map[string]string{}, nil
}

func (crowdCluster) HostVolumes(context.Context) (map[scan.Claim]string, error) { return nil, nil }

func (c crowdCluster) Pods(ctx context.Context, _ string, visit func(scan.PodPage) error) error {
	page := corev1.PodList{}
	flush := func() error {
		data, err := page.Marshal()
		if err != nil {
			return err
		}
		page = corev1.PodList{}
		var decoded corev1.PodList
		if err := decoded.Unmarshal(data); err != nil {
			return err
		}
		return visit(scan.PodPage{Items: decoded.Items})
	}
	for deployment := range c.Deployments {
		set := c.ReplicaSet(c.Deployment(deployment), deployment, 0)
		for pod := range c.Crowd.Pods {
			page.Items = append(page.Items, *c.Pod(set, deployment, pod))
			if len(page.Items) == crowdPage {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return errors.Join(flush(), ctx.Err())
}

func (c crowdCluster) Owners(_ context.Context, _ string, kind schema.GroupVersionKind, visit func([]scan.Owner) error) error {
	var page []scan.Owner
	for n := range c.Deployments {
		deployment := c.Deployment(n)
		switch kind.Kind {
		case "Deployment":
			page = append(page, scan.OwnerOf(&deployment.ObjectMeta))
		case "ReplicaSet":
			for set := range c.ReplicaSets {
				page = append(page, scan.OwnerOf(&c.ReplicaSet(deployment, n, set).ObjectMeta))
			}
		}
		if len(page) >= crowdPage || n == c.Deployments-1 {
			if err := visit(page); err != nil {
				return err
			}
			page = nil
		}
	}
	return nil
}

func (crowdCluster) Owner(_ context.Context, _ string, kind schema.GroupVersionKind, name string) (scan.Owner, error) {
	return scan.Owner{}, apierrors.NewNotFound(schema.GroupResource{Group: kind.Group, Resource: kind.Kind}, name)
}

func (crowdCluster) Objects(context.Context, schema.GroupKind, func([]byte) error) error {
	return scan.ErrNotServed
}

func (crowdCluster) LabelledPods(context.Context, string) ([]corev1.Pod, error) { return nil, nil }
