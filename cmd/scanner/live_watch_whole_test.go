package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// awaited asks again until it is so. What it waits for is in the cluster, or in another
// process, and says nothing by itself.
func awaited(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ; !is(); <-again.C {
		if time.Now().After(deadline) {
			tb.Fatalf("never so: %s", what)
		}
	}
}

// hook is a receiver of webhooks that checks signatures.
type hook struct {
	mu     sync.Mutex
	bodies []string
	forged int
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bodies = append(h.bodies, string(body))
	mac := hmac.New(sha256.New, []byte("a secret"))
	mac.Write([]byte(r.Header.Get("Webhook-Id") + "." + r.Header.Get("Webhook-Timestamp") + "."))
	mac.Write(body)
	if r.Header.Get("Webhook-Signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
		h.forged++
	}
}

func (h *hook) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(strings.Join(h.bodies, "\n"), text)
}

// TestLiveWatchWhole runs a watch as a Deployment would: with everything that it can
// write to, on a real API server, with a relay that speaks KubeArmor's protocol.
func TestLiveWatchWhole(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	server.InstallCRDs(t, kubetest.OpenReports)
	server.ApplyYAML(t, `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: importer, namespace: shop, labels: {app: importer}}
spec:
  nodeName: node1
  containers:
  - {name: web, image: registry.example/importer, securityContext: {capabilities: {add: [SYS_ADMIN]}}}
`)
	relay := armortest.New(t, armortest.Options{})
	received := &hook{}
	receiver := httptest.NewServer(received)
	t.Cleanup(receiver.Close)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	configFile := write("config.yaml", "level: baseline\n")
	w := startWatch(t, server.Config(), "--config", configFile, "--kubearmor", relay.Address(), "--listen", "127.0.0.1:0",
		"--reports", "auto", "--events", "--leader-elect", "--lease-namespace", "default", "--lease-name", "the.whole", "--leader-id", "one",
		"--webhook", receiver.URL+"/in?token=hidden", "--webhook-secret-file", write("secret", "a secret\n"), "--record", filepath.Join(dir, "alerts.jsonl"))
	w.untilPicture()
	relay.Await(1)

	t.Log("an alert is joined to its workload, and goes everywhere")
	attack := armortest.Recording(t, "../../testdata/alerts/block-nothrottle.jsonl")
	for _, a := range attack {
		a.NamespaceName, a.PodName, a.ContainerName = "shop", "importer", "web"
	}
	relay.Send(attack...)
	importer := scan.Workload{Cluster: contextOf(t, w), Namespace: "shop", Kind: "Pod", Name: "importer"}
	w.until("an incident of the pod", func(s *scan.State) bool {
		for a := range s.Alerts() {
			if a.Incident && a.Workload == importer && a.Verdict == scan.VerdictExposed && len(a.Paths) > 0 {
				return true
			}
		}
		return false
	})
	awaited(t, "the webhook got the incident", func() bool { return received.has(`"incident":true`) })

	base := regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`).FindString(w.said())
	get := func(path string) (int, string) {
		answer, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := get(path); code != http.StatusOK {
			t.Errorf("%s answers %d: %s", path, code, text)
		}
	}
	awaited(t, "the metrics count incidents and name the leader", func() bool {
		_, text := get("/metrics")
		return regexp.MustCompile(`(?m)^escape_scanner_alerts_total\{[^}]*incident="true"[^}]*\} [1-9]`).MatchString(text) &&
			strings.Contains(text, "escape_scanner_leader 1")
	})

	client, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	kind := schema.GroupVersionResource{Group: "openreports.io", Version: "v1alpha1", Resource: "reports"}
	reports := func() []openreports.Report {
		list, err := client.Resource(kind).Namespace("shop").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var typed openreports.ReportList
		if err := json.Unmarshal(text, &typed); err != nil {
			t.Fatal(err)
		}
		return typed.Items
	}
	awaited(t, "a report of the pod that fails", func() bool {
		all := reports()
		return len(all) == 1 && all[0].Summary.Fail > 0 && all[0].Scope != nil && all[0].Scope.Name == "importer"
	})
	awaited(t, "an Event on the pod", func() bool {
		list, err := server.Client().EventsV1().Events("shop").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if list.Items[i].ReportingController == "escape-scanner" && list.Items[i].Regarding.Name == "importer" {
				return true
			}
		}
		return false
	})

	t.Log("an exception of the configuration file takes effect")
	write("config.yaml", "exceptions:\n- {rule: escape-cap-sys-admin, namespace: shop, workload: Pod/importer, reason: it mounts}\n")
	w.until("the finding is excepted", func(s *scan.State) bool {
		for _, f := range s.Findings(scan.RowRef{Workload: importer}) {
			if f.Rule == "escape-cap-sys-admin" && f.Excepted != nil {
				return true
			}
		}
		return false
	})

	t.Log("a gap is told, and its end")
	relay.HangUp()
	relay.Await(1)
	w.until("the gap that ended", func(s *scan.State) bool {
		for l := range s.Lost() {
			if l.Reason == scan.LostDeaf && !l.To.IsZero() {
				return true
			}
		}
		return false
	})

	t.Log("a pod that is gone takes its report along")
	now := int64(0)
	if err := server.Client().CoreV1().Pods("shop").Delete(t.Context(), "importer", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	w.until("the pod is gone", func(s *scan.State) bool { return s.Verdict(scan.RowRef{Workload: importer}) == nil })
	awaited(t, "no report is left", func() bool { return len(reports()) == 0 })

	if code := w.stop(); code != exitOK {
		t.Errorf("it ends with %d", code)
	}
	if err := replayable(w); err != nil {
		t.Errorf("what it wrote cannot be read back: %v", err)
	}
	if received.forged > 0 {
		t.Errorf("%d posts were not signed as they should be", received.forged)
	}
	if said := w.said(); strings.Contains(said, "hidden") || strings.Contains(said, "a secret") {
		t.Errorf("it told a secret:\n%s", said)
	}
	lease, err := server.Client().CoordinationV1().Leases("default").Get(t.Context(), "the.whole", metav1.GetOptions{})
	if err != nil || held(lease) {
		t.Errorf("the Lease is not given free: %v %+v", err, lease.Spec)
	}

	t.Log("the recording plays back")
	played := liveRun(t, "watch", "--demo", "--replay", filepath.Join(dir, "alerts.jsonl"), "-o", "jsonl")
	if n := strings.Count(played.stdout, `"alert"`); played.code != exitOK || n == 0 {
		t.Errorf("it ends with %d and %d alerts: %s", played.code, n, played.stderr)
	}
}

func held(lease *coordinationv1.Lease) bool {
	return lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != ""
}

// contextOf is the cluster's name in what a watch tells.
func contextOf(t *testing.T, w *watched) string {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Start() == nil {
		t.Fatal("no start was told")
	}
	return w.state.Start().Cluster
}

// TestLiveWatchOutage kills the API server under a watch, and takes the pods' right away
// for a while: nothing is told to be gone that is not.
func TestLiveWatchOutage(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	crowd := kubetest.Crowd{Namespaces: 3, Deployments: 12, ReplicaSets: 2, Pods: 3}
	crowd.Create(t, server)
	w := startWatch(t, server.Config(), "--no-alerts")
	w.untilPicture()
	w.mu.Lock()
	var taken []string
	w.told = append(w.told, func(e scan.Event, _ time.Time) {
		if e.Resolved != nil && e.Resolved.What != scan.ResolvedFailure {
			text, _ := json.Marshal(e.Resolved)
			taken = append(taken, string(text))
		}
	})
	w.mu.Unlock()
	server.Kill(t)
	w.until("it says that it does not see", func(s *scan.State) bool { return len(s.Failures()) > 0 && stale(s) })
	server.Restart(t)
	server.Compact(t)
	w.until("it sees again", func(s *scan.State) bool { return !stale(s) })
	w.untilEqual(server.Config())
	w.mu.Lock()
	if len(taken) > 0 {
		t.Errorf("told to be gone: %s", strings.Join(taken, "\n"))
	}
	w.mu.Unlock()
	// And it follows.
	for pod := range 3 {
		name := fmt.Sprintf("late-%d", pod)
		server.ApplyYAML(t, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: %s}\nspec: {hostPID: true, containers: [{name: c, image: i}]}\n", name, crowd.Namespace(0)))
	}
	w.untilEqual(server.Config())
	if code := w.stop(); code != exitOK {
		t.Errorf("it ends with %d", code)
	}
}

// stale reports whether something is not followed.
func stale(s *scan.State) bool {
	for _, f := range s.Failures() {
		if strings.HasPrefix(f.Subject, "watch of ") {
			return true
		}
	}
	return false
}
