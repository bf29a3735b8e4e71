package reports_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/scan"
)

// live is the API server of the tests that keep to their own namespaces. It serves both
// APIs.
var live = kubetest.NewShared()

func TestMain(m *testing.M) { os.Exit(live.Run(m)) }

var (
	reportsOf        = map[reports.API]schema.GroupVersionResource{reports.APIOpenReports: openreports.SchemeGroupVersion.WithResource("reports"), reports.APIPolicyReport: {Group: "wgpolicyk8s.io", Version: "v1alpha2", Resource: "policyreports"}}
	clusterReportsOf = map[reports.API]schema.GroupVersionResource{reports.APIOpenReports: openreports.SchemeGroupVersion.WithResource("clusterreports"), reports.APIPolicyReport: {Group: "wgpolicyk8s.io", Version: "v1alpha2", Resource: "clusterpolicyreports"}}
)

// notices collects what a sink says of itself.
type notices struct {
	mu  sync.Mutex
	all []sink.Notice
}

func (n *notices) take(notice sink.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, notice)
}

// texts are the notices, "well" for the end of a trouble.
func (n *notices) texts() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var texts []string
	for _, notice := range n.all {
		if notice.Err == nil {
			texts = append(texts, "well")
			continue
		}
		texts = append(texts, notice.Err.Error())
	}
	return texts
}

func (n *notices) have(part string) bool {
	return slices.ContainsFunc(n.texts(), func(s string) bool { return strings.Contains(s, part) })
}

// running is a sink at work.
type running struct {
	*reports.Sink
	notices *notices
	stop    func()
}

// start runs a sink that is quick, on a cluster as the config's user sees it.
func start(t *testing.T, config *rest.Config, o reports.Options) *running {
	t.Helper()
	cluster, err := kube.NewCluster(config, kube.Options{PageSize: 20})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{notices: &notices{}}
	o.Store, o.Notify = cluster.ReportStore(), r.notices.take
	o.Settle, o.Every = cmp.Or(o.Settle, 20*time.Millisecond), cmp.Or(o.Every, 50*time.Millisecond)
	o.Retry, o.QPS = cmp.Or(o.Retry, 50*time.Millisecond), cmp.Or(o.QPS, 1000)
	r.Sink = reports.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the sink ended: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) tell(t *testing.T, events ...scan.Event) {
	t.Helper()
	for _, e := range events {
		if err := r.Handle(e); err != nil {
			t.Error(err)
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return holds(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func dynamicOf(t *testing.T, config *rest.Config) dynamic.Interface {
	t.Helper()
	config.WarningHandler = rest.NoWarnings{}
	config.QPS, config.Burst = 1000, 1000
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// inCluster are the reports of an API by namespace and name, decoded so that a field which
// the type lacks is an error.
func inCluster(t *testing.T, client dynamic.Interface, api reports.API, namespace string) map[string]*openreports.Report {
	t.Helper()
	found := map[string]*openreports.Report{}
	resources := []schema.GroupVersionResource{reportsOf[api]}
	if namespace == "" {
		resources = append(resources, clusterReportsOf[api])
	}
	for _, resource := range resources {
		list, err := client.Resource(resource).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			r := decode(t, &list.Items[i])
			found[r.Namespace+"/"+r.Name] = r
		}
	}
	return found
}

func decode(t *testing.T, u *unstructured.Unstructured) *openreports.Report {
	t.Helper()
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	r := &openreports.Report{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

// demoEvents is the picture of the demo cluster, as a watch tells it.
func demoEvents(t *testing.T) []scan.Event {
	t.Helper()
	cluster, err := snapshot.Load(t.Context(), demo.Files(), demo.ServerVersion)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var events []scan.Event
	err = scan.ScanCluster(t.Context(), cluster, scan.ClusterOptions{
		Start: scan.Start{Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Watch: true}, Level: psa.LevelBaseline,
	}, scan.HandlerFunc(func(e scan.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if e.End != nil {
			e = scan.Event{Picture: e.End}
		}
		events = append(events, e)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func stateOf(t *testing.T, events []scan.Event) *scan.State {
	t.Helper()
	s := scan.NewState()
	for _, e := range events {
		if err := s.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// makeNamespaces makes those of the state's workloads that are not there.
func makeNamespaces(t *testing.T, server *kubetest.Server, s *scan.State) {
	t.Helper()
	made := map[string]bool{}
	for _, row := range s.Rows() {
		ns := row.Workload.Namespace
		if ns == "" || made[ns] {
			continue
		}
		made[ns] = true
		_, err := server.Client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			server.NamedNamespace(t, ns, nil)
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// wantState fails where the reports say anything else than the state.
func wantState(t *testing.T, got map[string]*openreports.Report, s *scan.State) {
	t.Helper()
	verdicts := map[scan.Verdict]openreports.Result{
		scan.VerdictExposed: "fail", scan.VerdictUnknown: "error", scan.VerdictGuarded: "warn", scan.VerdictClosed: "pass", scan.VerdictSealed: "pass",
	}
	of := map[scan.RowRef]*openreports.Report{}
	for name, r := range got {
		if !strings.HasPrefix(r.Name, "escape-scanner-") || len(r.Name) > 253 || r.Labels["app.kubernetes.io/managed-by"] != "escape-scanner" {
			t.Errorf("%s: name or labels: %v", name, r.Labels)
		}
		var sum openreports.ReportSummary
		for _, result := range r.Results {
			switch result.Result {
			case "pass":
				sum.Pass++
			case "fail":
				sum.Fail++
			case "warn":
				sum.Warn++
			case "error":
				sum.Error++
			case "skip":
				sum.Skip++
			}
			if result.Source != "escape-scanner" || result.Policy == "" || result.Rule == "" || result.Description == "" || len(result.Description) > 1024 {
				t.Errorf("%s: result %+v", name, result)
			}
		}
		if sum != r.Summary {
			t.Errorf("%s: summary %+v, its results say %+v", name, r.Summary, sum)
		}
		if r.Scope == nil {
			t.Errorf("%s: no scope", name)
			continue
		}
		ref := scan.RowRef{Workload: scan.Workload{Namespace: r.Scope.Namespace, Kind: r.Scope.Kind, Name: r.Scope.Name}, Claims: r.Results[0].Properties["claims"]}
		if of[ref] != nil {
			t.Errorf("%v has two reports", ref)
		}
		of[ref] = r
	}
	rows := s.Rows()
	if len(rows) != len(got) {
		t.Errorf("%d reports, want %d", len(got), len(rows))
	}
	for _, row := range rows {
		ref := row
		ref.Workload.Cluster = ""
		if ref.Workload.Kind == "Namespace" {
			ref.Workload.Namespace = ""
		}
		r := of[ref]
		if r == nil {
			t.Errorf("%v has no report", ref)
			continue
		}
		results := r.Results
		if v := s.Verdict(row); v != nil {
			first := results[0]
			results = results[1:]
			if first.Rule != "verdict" || first.Result != verdicts[v.Verdict] || first.Properties["verdict"] != string(v.Verdict) || !strings.HasPrefix(first.Description, string(v.Verdict)+": ") {
				t.Errorf("%v: %+v, want the verdict %s", row, first, v.Verdict)
			}
			if r.Namespace != row.Workload.Namespace {
				t.Errorf("%v: its report is in namespace %q", row, r.Namespace)
			}
		}
		findings := map[string]*scan.Finding{}
		for _, f := range s.Findings(row) {
			findings[f.Fingerprint()] = f
		}
		for _, result := range results {
			f := findings[result.Properties["fingerprint"]]
			delete(findings, result.Properties["fingerprint"])
			if f == nil || result.Rule != f.Rule || string(result.Severity) != string(f.Severity) || result.Properties["container"] != f.Container || (f.Excepted != nil) != (result.Result == "skip") {
				t.Errorf("%v: result %+v is none of its findings", row, result)
			}
		}
		if len(findings) > 0 {
			t.Errorf("%v: %d findings are not in its report", row, len(findings))
		}
	}
}

// writes counts the requests that change something.
func writes(n *atomic.Int64) kubetest.Hook {
	return func(r *http.Request) kubetest.Action {
		if r.Method != http.MethodGet {
			n.Add(1)
		}
		return kubetest.Pass()
	}
}

// The life of a cluster's reports: first in the API that there is, then in the one that
// comes later, written once, cleaned up, and nobody else's touched.
func TestReportsOfACluster(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.PolicyReport)
	admin := dynamicOf(t, server.Config())
	events := demoEvents(t)
	state := stateOf(t, events)
	makeNamespaces(t, server, state)
	user := server.User(t, "reporter")
	server.Allow(t, "reporter", "", kube.WatchRights(kube.WatchReports)...)

	// Two that are not ours: by their label, and by their source.
	foreign := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "wgpolicyk8s.io/v1alpha2", "kind": "PolicyReport", "metadata": map[string]any{"name": "theirs", "namespace": "default"},
		"results": []any{map[string]any{"policy": "p", "source": "escape-scanner", "result": "fail"}},
	}}
	for _, change := range []func(){func() {}, func() {
		foreign.SetName("theirs-too")
		foreign.SetLabels(map[string]string{"app.kubernetes.io/managed-by": "escape-scanner"})
		foreign.Object["results"] = []any{map[string]any{"policy": "p", "source": "kyverno", "result": "fail"}}
	}} {
		change()
		if _, err := admin.Resource(reportsOf[reports.APIPolicyReport]).Namespace("default").Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ours := func(api reports.API) map[string]*openreports.Report {
		all := inCluster(t, admin, api, "")
		for name := range all {
			if strings.HasPrefix(name, "default/theirs") {
				delete(all, name)
			}
		}
		return all
	}

	first := start(t, user, reports.Options{})
	first.tell(t, events...)
	eventually(t, "PolicyReports", func() bool { return len(ours(reports.APIPolicyReport)) == len(state.Rows()) })
	first.stop()
	wantState(t, ours(reports.APIPolicyReport), state)
	if texts := first.notices.texts(); len(texts) > 0 {
		t.Errorf("notices: %q", texts)
	}

	server.InstallCRDs(t, kubetest.OpenReports)
	second := start(t, user, reports.Options{})
	second.tell(t, events...)
	eventually(t, "OpenReports", func() bool {
		return len(ours(reports.APIOpenReports)) == len(state.Rows()) && len(ours(reports.APIPolicyReport)) == 0
	})
	second.stop()
	wantState(t, ours(reports.APIOpenReports), state)
	if n := len(inCluster(t, admin, reports.APIPolicyReport, "")); n != 2 {
		t.Errorf("%d reports of others are left, want 2", n)
	}

	// A third run has nothing to write but what changed, and what is gone.
	var n atomic.Int64
	proxy := kubetest.NewProxy(t, user, writes(&n))
	third := start(t, proxy.Config(), reports.Options{Parallel: 1})
	gone := state.Rows()[0]
	kept := slices.DeleteFunc(slices.Clone(events), func(e scan.Event) bool {
		return e.Verdict != nil && e.Verdict.Workload == gone.Workload || e.Finding != nil && e.Finding.Workload == gone.Workload
	})
	third.tell(t, kept...)
	last := state.Rows()[1]
	v := *state.Verdict(last)
	v.Was, v.Verdict, v.Reason = v.Verdict, scan.VerdictUnknown, "its nodes could not be read"
	third.tell(t, scan.Event{Verdict: &v})
	stateKept := stateOf(t, append(kept, scan.Event{Verdict: &v}))
	eventually(t, "the change", func() bool {
		return len(ours(reports.APIOpenReports)) == len(state.Rows())-1 && slices.ContainsFunc(values(ours(reports.APIOpenReports)), func(r *openreports.Report) bool {
			return strings.Contains(r.Results[0].Description, v.Reason)
		})
	})
	wantState(t, ours(reports.APIOpenReports), stateKept)
	if n.Load() != 2 {
		t.Errorf("%d writes, want one change and one deletion", n.Load())
	}

	// The API is taken away, and comes back.
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	crd, err := admin.Resource(crds).Get(t.Context(), "reports.openreports.io", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Resource(crds).Delete(t.Context(), crd.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var flips atomic.Int64
	eventually(t, "reports in the other API", func() bool {
		// Something must change for anybody to notice.
		u := v
		u.Reason = fmt.Sprintf("its nodes could not be read (%d)", flips.Add(1))
		third.tell(t, scan.Event{Verdict: &u})
		return len(ours(reports.APIPolicyReport)) == len(stateKept.Rows())
	})
	third.stop()
}

func values[K comparable, V any](m map[K]V) []V {
	var all []V
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
