package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// liveFleet scans the contexts of a kubeconfig and returns the runs by their names too.
func liveFleet(t *testing.T, kubeconfig string, args ...string) (*liveAudit, map[string]scan.ClusterRun) {
	t.Helper()
	a := liveScanFile(t, kubeconfig, args...)
	runs := map[string]scan.ClusterRun{}
	for line := range strings.Lines(a.stdout) {
		var e scan.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Cluster != nil {
			runs[e.Cluster.Name] = *e.Cluster
		}
	}
	return a, runs
}

// resultsOf are the verdicts and findings of a cluster, as JSON lines.
func resultsOf(t *testing.T, a *liveAudit, cluster string) []string {
	t.Helper()
	var lines []string
	for _, v := range a.verdicts {
		if v.Workload.Cluster == cluster {
			lines = append(lines, jsonLine(t, v))
		}
	}
	for _, f := range a.findings {
		if f.Workload.Cluster == cluster {
			lines = append(lines, jsonLine(t, f))
		}
	}
	return lines
}

func jsonLine(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Two real clusters: a scan of both says what a scan of each does, one that is killed
// midway takes nothing from the other, and of those that cannot be scanned it is said why.
func TestLiveFleet(t *testing.T) {
	west := newLiveSpace(t)
	east := kubetest.New(t)
	eastern := liveSpace{t, east, east.Namespace(t, nil)}
	west.faultyPods()
	eastern.pod("e-1")
	eastern.pod("e-2", privileged)
	contexts := []kubetest.Context{{Name: "west", Config: west.server.Config()}, {Name: "east", Config: east.Config()}}
	kubeconfig := kubetest.KubeconfigOf(t, contexts...)

	t.Run("whole", func(t *testing.T) {
		a, runs := liveFleet(t, kubeconfig, "--contexts", "west,east")
		a.wantComplete(t, exitFindings)
		if a.start.Source != scan.SourceFleet || !slices.Equal(a.start.Clusters, []string{"west", "east"}) || len(runs) != 2 {
			t.Errorf("start %+v, %d clusters", a.start, len(runs))
		}
		pods := 0
		for _, name := range []string{"west", "east"} {
			one := liveScanFile(t, kubeconfig, "--context", name)
			if got, want := resultsOf(t, a, name), resultsOf(t, one, name); len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("%s: in the fleet\n%s\nalone\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if got, want := jsonLine(t, runs[name].End), jsonLine(t, one.end); got != want {
				t.Errorf("%s: in the fleet %s, alone %s", name, got, want)
			}
			if run := runs[name]; run.Start == nil || run.Start.ServerVersion != one.start.ServerVersion || run.Start.PSSVersion != one.start.PSSVersion {
				t.Errorf("%s: begun as %+v, alone as %+v", name, run.Start, one.start)
			}
			pods += one.end.Pods
		}
		if a.end.Pods != pods || pods != 9 {
			t.Errorf("%d pods in the fleet, %d one by one", a.end.Pods, pods)
		}
	})
	t.Run("killed", func(t *testing.T) { liveFleetKilled(t, west, eastern) })
	t.Run("broken", func(t *testing.T) { liveFleetBroken(t, contexts, west) })
}

// liveFleetKilled has the server of the west go away after the first page of pods.
func liveFleetKilled(t *testing.T, west, eastern liveSpace) {
	t.Helper()
	proxy, gone := goesAway(t, west.server)
	kubeconfig := kubetest.KubeconfigOf(t, kubetest.Context{Name: "west", Config: proxy.Config()}, kubetest.Context{Name: "east", Config: eastern.server.Config()})
	a, runs := liveFleet(t, kubeconfig, "--all-contexts", "--page-size", "2")
	<-gone
	if a.code != exitIncomplete || !a.end.Incomplete || a.end.Interrupted {
		t.Errorf("exit %d, end %+v", a.code, a.end)
	}
	if run := runs["east"]; run.End.Incomplete || run.End.Pods != 2 || run.End.Verdicts[scan.VerdictExposed] != 1 {
		t.Errorf("east ends as %+v", run.End)
	}
	if run := runs["west"]; run.Start == nil || !run.End.Incomplete || run.End.Failures == 0 {
		t.Errorf("west ends as %+v", run.End)
	}
	for _, want := range []string{"p-0 unknown", "p-1 exposed"} {
		// What was read before stays, and is no pass.
		if !slices.ContainsFunc(a.rows(), func(row string) bool { return strings.HasPrefix(row, west.workload("Pod/"+want)) }) {
			t.Errorf("%q is missing:\n%s", want, strings.Join(a.rows(), "\n"))
		}
	}
	for _, f := range a.failures {
		if f.Cluster != "west" {
			t.Errorf("failure of %q: %+v", f.Cluster, f)
		}
	}
	if !strings.Contains(a.stderr, "cluster west: ") || strings.Contains(a.stderr, "cluster east: ") {
		t.Errorf("stderr %s", a.stderr)
	}
}

// liveFleetBroken has five clusters beside those that can be scanned that cannot.
func liveFleetBroken(t *testing.T, contexts []kubetest.Context, west liveSpace) {
	t.Helper()
	file, err := clientcmd.LoadFromFile(kubetest.KubeconfigOf(t, contexts...))
	if err != nil {
		t.Fatal(err)
	}
	server := func(c *rest.Config) *clientcmdapi.Cluster {
		return &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	}
	other := kubetest.NewProxy(t, west.server.Config(), nil)
	stranger := west.server.Config()
	stranger.CAData = other.Config().CAData
	file.Clusters["stranger"] = server(stranger)
	file.Clusters["nobody"] = &clientcmdapi.Cluster{Server: nobodyListens(t)}
	const token = "eyJhbGciOiJSUzI1NiJ9.expired.signature"
	file.AuthInfos["expired"] = &clientcmdapi.AuthInfo{Token: token}
	file.AuthInfos["program"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: filepath.Join(t.TempDir(), "no-such-program"), InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}}
	for name, c := range map[string]clientcmdapi.Context{
		"a-nobody": {Cluster: "nobody", AuthInfo: "west"}, "b-stranger": {Cluster: "stranger", AuthInfo: "west"},
		"c-expired": {Cluster: "west", AuthInfo: "expired"}, "d-program": {Cluster: "west", AuthInfo: "program"}, "e-missing": {Cluster: "missing", AuthInfo: "west"},
	} {
		file.Contexts[name] = &c
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	a, runs := liveFleet(t, path, "--all-contexts", "--parallel", "3")
	want := []string{"a-nobody", "b-stranger", "c-expired", "d-program", "e-missing"}
	if a.code != exitIncomplete || !slices.Equal(a.start.Clusters, append(slices.Clone(want), "east", "west")) {
		t.Errorf("exit %d, clusters %q", a.code, a.start.Clusters)
	}
	for _, name := range []string{"east", "west"} {
		if run := runs[name]; run.Start == nil || run.End.Incomplete || run.End.Workloads == 0 {
			t.Errorf("%s ends as %+v", name, run.End)
		}
	}
	reasons := map[string]string{
		"a-nobody": "connection refused", "b-stranger": "certificate", "c-expired": "credentials", "d-program": "no-such-program", "e-missing": `no cluster "missing"`,
	}
	var failed []string
	for _, f := range a.failures {
		failed = append(failed, f.Cluster)
		if f.Subject != scan.SubjectCluster || !strings.Contains(f.Message, reasons[f.Cluster]) || runs[f.Cluster].Start != nil || !runs[f.Cluster].End.Incomplete {
			t.Errorf("%+v, the cluster ends as %+v", f, runs[f.Cluster])
		}
		if !strings.Contains(a.stderr, "cluster "+f.Cluster+": could not be scanned") {
			t.Errorf("%s is not on stderr: %s", f.Cluster, a.stderr)
		}
	}
	if !slices.Equal(failed, want) {
		t.Errorf("failures of %q", failed)
	}
	if notes := strings.Join(a.start.Notes, "\n"); !strings.Contains(notes, "c-expired, d-program, west lead to the same API server") {
		t.Errorf("notes %q", notes)
	}
	if strings.Contains(a.stdout+a.stderr, token) {
		t.Error("the token is in the output")
	}
}

// nobodyListens is the address of a server that is not there.
func nobodyListens(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "https://" + listener.Addr().String()
}

// Ctrl-C ends all clusters: what is whole stays, and of the others it is said that they
// are not.
func TestLiveFleetInterrupted(t *testing.T) {
	s := newLiveSpace(t)
	for i := range 3 {
		s.pod(fmt.Sprintf("p-%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	proxy := kubetest.NewProxy(t, s.server.Config(), func(r *http.Request) kubetest.Action {
		if pageOf(r) == 1 {
			cancel()
			return kubetest.Hold(nil, kubetest.Pass())
		}
		return kubetest.Pass()
	})
	kubeconfig := kubetest.KubeconfigOf(t, kubetest.Context{Name: "a", Config: s.server.Config()}, kubetest.Context{Name: "b", Config: proxy.Config()},
		kubetest.Context{Name: "c", Config: s.server.Config()})
	code, stdout, stderr := invoke(ctx, testDeps(t.TempDir()), strings.NewReader(""),
		"scan", "--kubeconfig", kubeconfig, "--all-contexts", "--parallel", "1", "-n", s.name, "-o", "jsonl")
	a := liveParse(t, liveResult{code, stdout, stderr})
	if code != exitInterrupted || !a.end.Interrupted || len(a.verdicts) != 3 {
		t.Errorf("exit %d, end %+v, %d verdicts", code, a.end, len(a.verdicts))
	}
	for _, want := range []string{"cluster b: was stopped before its end", "cluster c: was not begun", "the scan was stopped before its end"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing on stderr: %s", want, stderr)
		}
	}
	if strings.Contains(stderr, "cluster a") {
		t.Errorf("stderr %s", stderr)
	}
}
