package targets_test

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/remediate/targets"
	"github.com/escape-scanner/escape-scanner/scan"
)

var live = kubetest.NewShared()

func TestMain(m *testing.M) { os.Exit(live.Run(m)) }

//go:embed testdata/cluster.yaml
var manifests string

func newCluster(tb testing.TB, server *kubetest.Server) *kube.Cluster {
	tb.Helper()
	cluster, err := kube.NewCluster(server.Config(), kube.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return cluster
}

// describe writes the workloads of an inventory down, a line each and one for each
// specimen.
func describe(inventory *targets.Inventory) string {
	var b strings.Builder
	for i := range inventory.Workloads {
		w := &inventory.Workloads[i]
		fmt.Fprintf(&b, "%s/%s %v\n", w.Kind, w.Name, w.Selector)
		for _, s := range w.Specimens {
			var images []string
			for _, c := range s.Pod.Spec.Containers {
				images = append(images, strings.TrimPrefix(c.Image, "example.com/"))
			}
			fmt.Fprintf(&b, "  %q %s live=%d %v\n", s.Pod.Name, strings.Join(images, "+"), s.Live, s.Nodes)
		}
	}
	return b.String()
}

func noFailures(tb testing.TB, inventory *targets.Inventory) {
	tb.Helper()
	for _, f := range inventory.Failures {
		tb.Errorf("failure: %+v", f)
	}
}

const wantLive = `ConfigMap/game map[app:game]
  "game-pod" game:2 live=1 []
  "" game:1 live=0 []
CronJob/nightly map[app:nightly]
  "" nightly:2 live=0 []
  "nightly-1-x" nightly:1 live=0 []
DaemonSet/agent map[app:agent x:z]
  "" agent:1 live=0 []
Deployment/web map[app:web]
  "web-new-a" web:2 live=2 [NS-n1 NS-n2]
  "web-new-c" web:2+mesh:1 live=1 [NS-n1]
Job/once map[batch.kubernetes.io/job-name:once]
  "" once:1 live=0 []
Pod/bare map[run:bare]
  "bare" bare:1 live=1 []
Pod/forged-name map[app:web]
  "forged-name" forged:1 live=1 []
Pod/forged-uid map[app:web]
  "forged-uid" forged:1 live=1 []
Pod/static map[]
  "static" static:1 live=1 [NS-n1]
ReplicationController/legacy map[app:legacy]
  "" legacy:1 live=0 []
StatefulSet/db map[app:db]
  "db-0" db:1 live=2 []
`

// The workloads of a real API server, with every kind of owner.
func TestRead(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	const ns = "targets-read"
	server.ApplyYAML(t, strings.ReplaceAll(manifests, "NS", ns))

	var mu sync.Mutex
	var looked []string
	inventory, err := targets.Read(t.Context(), newCluster(t, server), targets.Scope{Namespaces: []string{ns}}, targets.Options{
		Inspect: func(_ context.Context, namespace, pod, container string, paths []string) (map[string]string, error) {
			mu.Lock()
			defer mu.Unlock()
			looked = append(looked, strings.Join([]string{namespace, pod, container}, "/"))
			if container == "mesh" {
				return nil, errors.New("no shell")
			}
			if !slices.Contains(paths, "/usr/sbin/chroot") {
				t.Errorf("asked for %v", paths)
			}
			return map[string]string{"/usr/sbin/chroot": "/bin/busybox"}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll(wantLive, "NS", ns)
	if got := describe(inventory); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(inventory.Failures) != 1 || !strings.Contains(inventory.Failures[0].Subject, ns+"/web-new-c mesh") {
		t.Errorf("failures: %+v", inventory.Failures)
	}
	slices.Sort(looked)
	if want := []string{ns + "/web-new-a/web", ns + "/web-new-c/mesh", ns + "/web-new-c/web"}; !slices.Equal(looked, want) {
		t.Errorf("looked into %v, want %v", looked, want)
	}
	if got := inventory.Containers; got[ns+"-n1"] != 4 || got[ns+"-n2"] != 0 {
		t.Errorf("containers of nodes: %v", got)
	}
	if inventory.Namespaces[ns] == nil || inventory.Namespaces[ns].Labels["team"] != "a" || inventory.Namespaces["kube-system"] == nil {
		t.Errorf("namespaces: %v", inventory.Namespaces)
	}
	for i := range inventory.Workloads {
		if w := &inventory.Workloads[i]; w.Name == "web" {
			checkWeb(t, w)
		}
	}
}

// checkWeb looks at what of a pod is kept and what is not.
func checkWeb(t *testing.T, w *targets.Workload) {
	t.Helper()
	for _, s := range w.Specimens {
		text, err := s.Pod.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "hunter") {
			t.Error("a value of the environment was kept")
		}
		c := s.Pod.Spec.Containers[0]
		if len(c.Env) != 1 || c.Env[0].Name != "PASSWORD" || c.Args[0] != "--listen=:80" || c.ReadinessProbe.Exec.Command[0] != "curl" ||
			c.Lifecycle.PreStop.Exec == nil || c.TerminationMessagePath == "" {
			t.Errorf("container: %+v", c)
		}
		if s.Pod.Namespace == "" || len(s.Pod.OwnerReferences) != 1 || s.Pod.Spec.NodeName != "" {
			t.Errorf("pod: %+v", s.Pod.ObjectMeta)
		}
	}
	if got := w.Specimens[0].Inspected["web"]["/usr/sbin/chroot"]; got != "/bin/busybox" {
		t.Errorf("inspected: %v", w.Specimens[0].Inspected)
	}
	if got := w.Specimens[1].Inspected; len(got) != 1 || got["web"] == nil {
		t.Errorf("inspected of the second: %v", got)
	}
}

// Labels are the pods': what does not carry them is left out of its workload.
func TestReadByLabel(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	const ns = "targets-label"
	server.ApplyYAML(t, strings.ReplaceAll(manifests, "NS", ns))
	scope := targets.Scope{Namespaces: []string{ns}, Labels: map[string]string{"job-name": "nightly-1"}}
	inventory, err := targets.Read(t.Context(), newCluster(t, server), scope, targets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	noFailures(t, inventory)
	if got, want := describe(inventory), "CronJob/nightly map[app:nightly]\n  \"nightly-1-x\" nightly:1 live=0 ["+"]\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Who may read one namespace only still learns of the pods there, and what is missing.
func TestReadWithFewRights(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	const ns = "targets-rights"
	server.ApplyYAML(t, strings.ReplaceAll(manifests, "NS", ns))
	config := server.User(t, "targets-few")
	server.Allow(t, "targets-few", ns, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}})
	server.Allow(t, "targets-few", ns, rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"replicasets", "deployments"}, Verbs: []string{"list"}})
	cluster, err := kube.NewCluster(config, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	inventory, err := targets.Read(t.Context(), cluster, targets.Scope{Namespaces: []string{ns}}, targets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := describe(inventory)
	for _, want := range []string{"Deployment/web map[app:web tier:front]\n", "StatefulSet/db map[app:db]\n", "Job/nightly-1 "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if inventory.Namespaces != nil {
		t.Error("namespaces that could not be read are known")
	}
	var subjects []string
	for _, f := range inventory.Failures {
		if f.Reason != scan.FailureForbidden || f.Affects == "" {
			t.Errorf("failure: %+v", f)
		}
		subjects = append(subjects, f.Subject)
	}
	for _, want := range []string{"namespaces", "pods", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicaSet", "ReplicationController"} {
		if !slices.Contains(subjects, want) {
			t.Errorf("no failure about %s: %v", want, subjects)
		}
	}
}

// BenchmarkRead reads 10,000 pods of 400 Deployments with 2,000 ReplicaSets from a
// real API server. held-MB is what the inventory takes in the end.
func BenchmarkRead(b *testing.B) {
	server := kubetest.New(b)
	crowd := kubetest.Crowd{Namespaces: 20, Deployments: 400, ReplicaSets: 5, Pods: 25}
	crowd.Create(b, server)
	cluster := newCluster(b, server)
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / 1e6
	}
	var held float64
	for b.Loop() {
		before := heap()
		inventory, err := targets.Read(b.Context(), cluster, targets.Scope{}, targets.Options{})
		if err != nil {
			b.Fatal(err)
		}
		held = heap() - before
		noFailures(b, inventory)
		if len(inventory.Workloads) != crowd.Deployments {
			b.Fatalf("%d workloads, want %d", len(inventory.Workloads), crowd.Deployments)
		}
		for i := range inventory.Workloads {
			w := &inventory.Workloads[i]
			// The template names the volume of the token in its own way, and stands beside.
			if len(w.Specimens) != 2 || w.Specimens[0].Live != crowd.Pods {
				b.Fatalf("%s: %d specimens, %d pods", w.Workload, len(w.Specimens), w.Specimens[0].Live)
			}
		}
	}
	b.ReportMetric(held, "held-MB")
}
