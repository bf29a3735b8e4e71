package kube

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// unarmed is a cluster of which no policy is seen.
type unarmed struct{ *Cluster }

func (unarmed) Objects(context.Context, schema.GroupKind, func([]byte) error) error {
	return scan.ErrNotServed
}

// BenchmarkLiveJoin scans 10,000 pods of 400 Deployments with 500 KubeArmor policies
// from a real API server, and by turns the same pods as if there were no policies.
// join-% is what reading and joining the policies takes of the whole scan, in the
// median of the pairs; the aim is 20 at most.
func BenchmarkLiveJoin(b *testing.B) {
	server := kubetest.New(b)
	server.InstallCRDs(b, kubetest.KubeArmor)
	crowd := kubetest.Crowd{Namespaces: 20, Deployments: 400, ReplicaSets: 5, Pods: 25}
	crowd.Create(b, server)
	var policies strings.Builder
	for i := range 500 {
		selector := fmt.Sprintf("{matchLabels: %s}", firstLabel(crowd, i))
		if i >= crowd.Deployments {
			selector = "{}"
		}
		fmt.Fprintf(&policies, `---
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: p%d, namespace: %s}
spec:
  selector: %s
  capabilities: {matchCapabilities: [{capability: sys_admin}, {capability: sys_module}]}
  process: {matchPaths: [{path: /usr/bin/curl}, {path: /usr/sbin/chroot}]}
  action: Block
`, i, crowd.Namespace(i%crowd.Deployments), selector)
	}
	server.ApplyYAML(b, policies.String())
	cluster, err := NewCluster(server.Config(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	timed := func(cluster scan.Cluster) float64 {
		began, policies := time.Now(), 0
		err := scan.ScanCluster(b.Context(), cluster, benchOptions(), scan.HandlerFunc(func(e scan.Event) error {
			if e.Policy != nil && e.Policy.Pods > 0 {
				policies++
			}
			return nil
		}))
		if _, none := cluster.(unarmed); err != nil || !none && policies != 500 || none && policies > 0 {
			b.Fatalf("%d policies select pods: %v", policies, err)
		}
		return time.Since(began).Seconds()
	}
	timed(cluster)
	var shares, scans []float64
	for b.Loop() {
		for range 8 {
			with, without := timed(cluster), timed(unarmed{cluster})
			shares, scans = append(shares, 100*(with-without)/with), append(scans, with)
		}
	}
	b.ReportMetric(median(shares), "join-%")
	b.ReportMetric(median(scans)*1000, "scan-ms")
}

// firstLabel is a label of a Deployment's pods, as YAML.
func firstLabel(c kubetest.Crowd, deployment int) string {
	d := c.Deployment(deployment % c.Deployments)
	for key, value := range d.Spec.Selector.MatchLabels {
		return fmt.Sprintf("{%s: %s}", key, value)
	}
	return "{}"
}
