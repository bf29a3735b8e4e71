package scan

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	psa "k8s.io/pod-security-admission/api"
)

// benchWatch watches a cluster of 10,000 pods in 2,000 workloads with 500 policies.
func benchWatch(b *testing.B) (*watching, *mirrored) {
	b.Helper()
	cluster := crowdedCluster(b)
	cluster.withPolicies()
	m := mirror(cluster)
	for i := range m.pods {
		m.pods[i].ResourceVersion = "1"
	}
	m.index()
	return watch(b, m, ClusterOptions{}), m
}

// scanOnce is what a new scan of the cluster takes.
func scanOnce(b *testing.B, m *mirrored) time.Duration {
	b.Helper()
	start := time.Now()
	err := ScanCluster(b.Context(), m, ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, HandlerFunc(func(Event) error { return nil }))
	if err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// BenchmarkTracker is what changes cost, in all and in the longest step, beside a scan.
func BenchmarkTracker(b *testing.B) {
	for _, bench := range []struct {
		name   string
		change func(m *mirrored, i int) Changes
	}{
		{"nothing", func(*mirrored, int) Changes { return Changes{Around: true} }},
		{"one pod", func(m *mirrored, i int) Changes { return m.turn(1, i) }},
		{"50 pods", func(m *mirrored, i int) Changes { return m.turn(50, i) }},
		{"label of a namespace", func(m *mirrored, i int) Changes {
			m.namespaces[7].Labels = map[string]string{"pod-security.kubernetes.io/enforce": []string{"baseline", "privileged"}[i%2]}
			return Changes{Around: true}
		}},
		{"policy of KubeArmor", func(m *mirrored, i int) Changes {
			m.objects[kindKSP] = m.objects[kindKSP][:470-i%2]
			return Changes{Around: true}
		}},
		{"ValidatingAdmissionPolicy", func(m *mirrored, i int) Changes {
			m.objects[kindVAP], m.objects[kindVAPBinding] = nil, nil
			if i%2 == 0 {
				m.inCEL("own", "pods", noPath("false"))
			}
			return Changes{Around: true}
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			w, m := benchWatch(b)
			w.state = NewState()
			once := scanOnce(b, m)
			var total, longest time.Duration
			i := 0
			for b.Loop() {
				b.StopTimer()
				c := bench.change(m, i)
				i++
				w.now = w.now.Add(time.Minute)
				b.StartTimer()
				for more := true; more; c = (Changes{}) {
					var err error
					start := time.Now()
					if more, err = w.tracker.Update(b.Context(), c, HandlerFunc(func(Event) error { return nil })); err != nil {
						b.Fatal(err)
					}
					step := time.Since(start)
					total += step
					longest = max(longest, step)
				}
			}
			b.ReportMetric(float64(total.Microseconds())/float64(i)/1000, "ms/change")
			b.ReportMetric(float64(longest.Microseconds())/1000, "ms/longest-step")
			b.ReportMetric(float64(once)/(float64(total)/float64(i)), "changes/scan")
		})
	}
}

// turn gives n pods the other one of two specs.
func (m *mirrored) turn(n, i int) Changes {
	var c Changes
	for k := range n {
		name := PodName{m.pods[k*97].Namespace, m.pods[k*97].Name}
		pod := m.byName[name].DeepCopy()
		pod.ResourceVersion = fmt.Sprint("r", i)
		pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(i%2 == 0)}
		m.byName[name] = pod
		c.Pods = append(c.Pods, name)
	}
	return c
}

// BenchmarkTrackerBegin is the first picture, beside a scan.
func BenchmarkTrackerBegin(b *testing.B) {
	_, m := benchWatch(b)
	var begins, scans time.Duration
	for b.Loop() {
		scans += scanOnce(b, m)
		start := time.Now()
		tracker := NewTracker(m, TrackerOptions{Cluster: ClusterOptions{Level: psa.LevelBaseline, PSSVersion: PSSServer}, Now: time.Now})
		if err := tracker.Begin(b.Context(), HandlerFunc(func(Event) error { return nil })); err != nil {
			b.Fatal(err)
		}
		begins += time.Since(start)
	}
	b.ReportMetric(float64(begins)/float64(scans), "scans")
}
