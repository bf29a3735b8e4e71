package scan

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

// benchPods is a realistic mix: the pods of the demo cluster and the fixtures of
// the rules, each spec once.
func benchPods(b *testing.B) []*corev1.Pod {
	b.Helper()
	var files []string
	for _, pattern := range []string{"../internal/demo/cluster/*.yaml", "../testdata/rules/*/*/*.yaml"} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, matches...)
	}
	seen := map[Digest]bool{}
	var pods []*corev1.Pod
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		for _, pod := range podsIn(b, file, data) {
			if d := DigestOf(Trim(podOf(pod))); !seen[d] {
				seen[d] = true
				pods = append(pods, pod)
			}
		}
	}
	if len(pods) < 200 {
		b.Fatalf("%d pods are no mix", len(pods))
	}
	return pods
}

// podsIn reads the pods of a multi-document file.
func podsIn(b *testing.B, file string, data []byte) []*corev1.Pod {
	b.Helper()
	var pods []*corev1.Pod
	docs := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return pods
		}
		if err != nil {
			b.Fatalf("%s: %v", file, err)
		}
		pod := &corev1.Pod{}
		if err := yaml.Unmarshal(doc, pod); err != nil || pod.Kind != "Pod" {
			continue
		}
		oracle.DefaultVolumes(pod)
		pods = append(pods, pod)
	}
}

// eachPod runs f over all pods again and again, and reports what one of them costs
// on the clock and in processor time, the garbage collector's included.
func eachPod(b *testing.B, pods []*corev1.Pod, f func(Pod)) {
	b.Helper()
	b.ReportAllocs()
	passes, cpu := 0, cpuTime()
	for b.Loop() {
		for _, pod := range pods {
			f(podOf(pod))
		}
		passes++
	}
	cpu = cpuTime() - cpu
	perPod := func(d time.Duration) float64 {
		return float64(d.Nanoseconds()) / float64(passes) / float64(len(pods)) / 1000
	}
	b.ReportMetric(perPod(b.Elapsed()), "µs/pod")
	b.ReportMetric(perPod(cpu), "cpu-µs/pod")
}

// BenchmarkJudge judges distinct pods, one after the other on one processor.
func BenchmarkJudge(b *testing.B) {
	for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
		b.Run(string(level), func(b *testing.B) {
			pods := benchPods(b)
			engine, err := NewEngine(level, psa.LatestVersion())
			if err != nil {
				b.Fatal(err)
			}
			eachPod(b, pods, func(pod Pod) { engine.Judge(pod, Facts{}) })
		})
	}
}

// BenchmarkTrimDigest is what every pod costs, also one that was judged before.
func BenchmarkTrimDigest(b *testing.B) {
	eachPod(b, benchPods(b), func(pod Pod) { DigestOf(Trim(pod)) })
}

// BenchmarkOfficial is the official evaluator on the same pods, which says yes or
// no and names no field: what judging costs beyond it is ours.
func BenchmarkOfficial(b *testing.B) {
	for _, level := range []psa.Level{psa.LevelBaseline, psa.LevelRestricted} {
		b.Run(string(level), func(b *testing.B) {
			pods := benchPods(b)
			official, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
			if err != nil {
				b.Fatal(err)
			}
			asked := psa.LevelVersion{Level: level, Version: psa.LatestVersion()}
			eachPod(b, pods, func(pod Pod) { official.EvaluatePod(asked, pod.Meta, pod.Spec) })
		})
	}
}
