package scan

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	psa "k8s.io/pod-security-admission/api"
)

// crowdedCluster has 10,000 pods of 2,000 workloads in 50 namespaces on 200 nodes.
func crowdedCluster(b *testing.B) *memory {
	b.Helper()
	m := &memory{version: "v1.36.3", pageSize: 500}
	for n := range 50 {
		m.namespaces = append(m.namespaces, namespace(fmt.Sprintf("ns-%d", n)))
	}
	for n := range 200 {
		m.equip(fmt.Sprintf("node-%d", n), bpf(), true)
	}
	specs := benchPods(b)
	for w := range 2000 {
		ns, name := fmt.Sprintf("ns-%d", w%50), fmt.Sprintf("app-%d", w)
		m.has(ns, "Deployment/"+name, "", "")
		m.has(ns, "ReplicaSet/"+name+"-1a", "Deployment/"+name, "1a")
		first := len(m.pods)
		m.runs(5, ns, name+"-1a", "ReplicaSet/"+name+"-1a", "1a", specs[w%len(specs)].Spec)
		for i := first; i < len(m.pods); i++ {
			p := &m.pods[i]
			p.Labels["app"], p.Labels["tier"], p.Labels["app.kubernetes.io/name"] = name, fmt.Sprintf("tier-%d", w%7), name
			p.Spec.NodeName = fmt.Sprintf("node-%d", i%200)
			p.Status.Phase = corev1.PodRunning
		}
	}
	return m
}

// withPolicies adds 500 policies, of which every pod is selected by about five.
func (m *memory) withPolicies() {
	m.objects = map[schema.GroupKind][]string{}
	for i := range 420 {
		m.blocks(fmt.Sprintf("ns-%d", i%50), fmt.Sprintf(`{"app":"app-%d"}`, i), "sys_admin")
	}
	for i := range 50 {
		m.blocks(fmt.Sprintf("ns-%d", i), fmt.Sprintf(`{"tier":"tier-%d"}`, i%7), "sys_module")
	}
	for i := range 30 {
		m.objects[kindCSP] = append(m.objects[kindCSP], fmt.Sprintf(
			`{"kind":"KubeArmorClusterPolicy","metadata":{"name":"csp-%d"},"spec":{"selector":{"matchExpressions":[{"key":"namespace","operator":"NotIn","values":["ns-%d"]}]},"capabilities":{"matchCapabilities":[{"capability":"dac_override"}]},"action":"Block"}}`, i, i))
	}
}

// BenchmarkJoin scans a cluster with 500 policies and the same one without any, by
// turns: the difference is what joining policies costs. Its share of the whole scan
// is said without the time that the API server takes, which only makes it smaller.
func BenchmarkJoin(b *testing.B) {
	bare, armed := crowdedCluster(b), crowdedCluster(b)
	armed.withPolicies()
	run := func(m *memory) time.Duration {
		start := time.Now()
		err := ScanCluster(b.Context(), m, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, HandlerFunc(func(Event) error { return nil }))
		if err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	var with, without time.Duration
	for b.Loop() {
		without += run(bare)
		with += run(armed)
	}
	b.ReportMetric(100*float64(with-without)/float64(with), "%join")
	b.ReportMetric(float64(with.Microseconds())/float64(b.N)/10_000, "µs/pod")
}
