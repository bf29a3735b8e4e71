package alerts_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	psa "k8s.io/pod-security-admission/api"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// recordingDirs are where the recordings of a real KubeArmor lie.
var recordingDirs = []string{"../../testdata/alerts", "../armor/testdata/recordings", "../../internal/armor/testdata"}

func recording(tb testing.TB, name string) []byte {
	tb.Helper()
	for _, dir := range recordingDirs {
		if text, err := os.ReadFile(filepath.Join(dir, name+".jsonl")); err == nil {
			return text
		}
	}
	tb.Fatalf("there is no recording %s", name)
	return nil
}

// recorded is an alert with what of it only the tests read.
type recorded struct {
	armor.Alert
	received time.Time
	// source is the command line of the program that did it, or of its caller.
	source string
}

func read(tb testing.TB, name string) []recorded {
	tb.Helper()
	text := recording(tb, name)
	var all []recorded
	err := reader.ReadRecording(tb.Context(), bytes.NewReader(text), func(a armor.Alert) error {
		all = append(all, recorded{Alert: a})
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	i := 0
	for line := range bytes.Lines(text) {
		var raw struct {
			Received time.Time
			Msg      struct {
				Source string
			}
		}
		if err := json.Unmarshal(line, &raw); err != nil {
			tb.Fatal(err)
		}
		all[i].received, all[i].source = raw.Received, raw.Msg.Source
		i++
	}
	return all
}

// world is what the scanner says of the cluster of the recordings.
type world struct {
	state *scan.State
	pods  map[scan.PodName]scan.Pod
	rows  map[scan.PodName]scan.RowRef
}

// recordedWorld is the cluster of the recordings with the whole set in force.
func recordedWorld(tb testing.TB) *world {
	tb.Helper()
	text, err := os.ReadFile("../../testdata/alerts/cluster.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return newWorld(tb, text)
}

func newWorld(tb testing.TB, manifests []byte) *world {
	tb.Helper()
	cluster, err := snapshot.Load(tb.Context(), fstest.MapFS{"cluster.yaml": {Data: manifests}}, "v1.36.3")
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{state: scan.NewState(), pods: map[scan.PodName]scan.Pod{}, rows: map[scan.PodName]scan.RowRef{}}
	var mu sync.Mutex
	err = scan.ScanCluster(tb.Context(), cluster, scan.ClusterOptions{
		Start: scan.Start{Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}, Level: psa.LevelBaseline,
	}, scan.HandlerFunc(func(e scan.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if e.Failure != nil {
			tb.Errorf("not read: %+v", *e.Failure)
		}
		return w.state.Handle(e)
	}))
	if err != nil {
		tb.Fatal(err)
	}
	err = cluster.Pods(tb.Context(), "", func(page scan.PodPage) error {
		for i := range page.Items {
			p := &page.Items[i]
			w.pods[scan.PodName{Namespace: p.Namespace, Name: p.Name}] = scan.Pod{Meta: &p.ObjectMeta, Spec: &p.Spec}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// place is that of a pod, as the tracker gives it. The workloads of the recordings have
// the names that their pods begin with.
func (w *world) place(namespace, pod string) (scan.Place, bool) {
	name := scan.PodName{Namespace: namespace, Name: pod}
	p, ok := w.pods[name]
	if !ok {
		return scan.Place{}, false
	}
	for _, ref := range w.state.Rows() {
		v := w.state.Verdict(ref)
		if v == nil || ref.Workload.Namespace != namespace || !owns(ref.Workload, pod) {
			continue
		}
		return scan.Place{Workload: ref.Workload, Claims: ref.Claims, Verdict: v, Findings: w.state.Findings(ref), Pod: &p}, true
	}
	return scan.Place{}, false
}

func owns(w scan.Workload, pod string) bool {
	if w.Kind == "Pod" {
		return w.Name == pod
	}
	return len(pod) > len(w.Name) && pod[:len(w.Name)+1] == w.Name+"-"
}
