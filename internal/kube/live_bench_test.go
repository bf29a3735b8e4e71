package kube

import (
	"context"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// BenchmarkLiveScan scans 10,000 pods of 400 Deployments with 2,000 ReplicaSets
// from a real API server, and by turns merely lists and decodes the same pages with
// the same client, one after the other. ratio is the time of the scan to that of
// listing, in the median of the pairs; the aim is 1.3 at most.
func BenchmarkLiveScan(b *testing.B) {
	server := kubetest.New(b)
	crowd := kubetest.Crowd{Namespaces: 20, Deployments: 400, ReplicaSets: 5, Pods: 25}
	crowd.Create(b, server)
	cluster, err := NewCluster(server.Config(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	want := crowd.Deployments * crowd.Pods

	list := func() {
		pods := 0
		options := cluster.page()
		for {
			page, err := cluster.client.CoreV1().Pods(metav1.NamespaceAll).List(b.Context(), options)
			if err != nil {
				b.Fatal(err)
			}
			pods += len(page.Items)
			if options.Continue = page.Continue; options.Continue == "" {
				break
			}
		}
		if pods != want {
			b.Fatalf("listed %d pods, want %d", pods, want)
		}
	}
	scanAll := func() {
		verdicts := 0
		err := scan.ScanCluster(b.Context(), cluster, benchOptions(), scan.HandlerFunc(func(e scan.Event) error {
			switch {
			case e.Verdict != nil:
				verdicts++
			case e.Failure != nil:
				b.Fatalf("failure: %+v", e.Failure)
			case e.End != nil && e.End.Pods != want:
				b.Fatalf("scanned %d pods, want %d", e.End.Pods, want)
			}
			return nil
		}))
		if err != nil || verdicts != crowd.Deployments {
			b.Fatalf("%d verdicts, want %d: %v", verdicts, crowd.Deployments, err)
		}
	}
	timed := func(f func()) time.Duration {
		began := time.Now()
		f()
		return time.Since(began)
	}

	list()
	scanAll()
	var listing, scanning, ratios []float64
	for b.Loop() {
		// A machine that does other things too would make chance of one pair.
		for round := range 8 {
			// What the first of a pair leaves behind is not always on the other.
			var l, s time.Duration
			if round%2 == 0 {
				l, s = timed(list), timed(scanAll)
			} else {
				s, l = timed(scanAll), timed(list)
			}
			listing, scanning = append(listing, l.Seconds()), append(scanning, s.Seconds())
			ratios = append(ratios, s.Seconds()/l.Seconds())
		}
	}
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(listing)*1000, "list-ms")
	b.ReportMetric(median(scanning)*1000, "scan-ms")
	b.ReportMetric(float64(podSize(b, cluster)), "B/pod")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func benchOptions() scan.ClusterOptions {
	return scan.ClusterOptions{Level: psa.LevelBaseline, PSSVersion: scan.PSSServer}
}

// podSize is how many bytes a pod takes on the way.
func podSize(b *testing.B, cluster *Cluster) int {
	b.Helper()
	page, err := cluster.client.CoreV1().Pods(metav1.NamespaceAll).List(context.Background(), metav1.ListOptions{Limit: 100})
	if err != nil {
		b.Fatal(err)
	}
	return page.Size() / len(page.Items)
}
