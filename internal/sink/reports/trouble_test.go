package reports_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
	"github.com/escape-scanner/escape-scanner/scan"
)

// picture is a picture of some workloads, all exposed, by a watch of their namespaces.
func picture(rows ...scan.Workload) []scan.Event {
	start := &scan.Start{Schema: scan.SchemaVersion, Watch: true}
	events := []scan.Event{{Start: start}}
	for _, w := range rows {
		if !slices.Contains(start.Namespaces, w.Namespace) {
			start.Namespaces = append(start.Namespaces, w.Namespace)
		}
		events = append(events, exposed(w, "privileged", ""))
	}
	return append(events, scan.Event{Picture: &scan.End{Workloads: len(rows)}})
}

func exposed(w scan.Workload, reason string, was scan.Verdict) scan.Event {
	return scan.Event{Verdict: &scan.WorkloadVerdict{Workload: w, Verdict: scan.VerdictExposed, Was: was, Reason: reason, Severity: scan.SeverityCritical, Paths: []string{"privileged"}}}
}

func deployment(namespace, name string) scan.Workload {
	return scan.Workload{Namespace: namespace, Kind: "Deployment", Name: name}
}

// bothAPIs is the shared server with all CRDs.
func bothAPIs(t *testing.T) *kubetest.Server {
	t.Helper()
	server := live.Server(t)
	server.InstallCRDs(t, kubetest.PolicyReport, kubetest.OpenReports)
	return server
}

// Who may not write says so once, and writes as soon as it may.
func TestForbidden(t *testing.T) {
	t.Parallel()
	server := bothAPIs(t)
	ns := server.Namespace(t, nil)
	user := server.User(t, "may-only-read")
	read := rbacv1.PolicyRule{APIGroups: []string{"openreports.io"}, Resources: []string{"reports"}, Verbs: []string{"list", "get"}}
	server.Allow(t, "may-only-read", ns, read)
	r := start(t, user, reports.Options{Retry: 20 * time.Millisecond})
	r.tell(t, picture(deployment(ns, "a"), deployment(ns, "b"), deployment(ns, "c"))...)
	eventually(t, "a notice", func() bool { return r.notices.have("forbidden") })

	server.Allow(t, "may-only-read", ns, kube.WatchRights(kube.WatchReports)...)
	admin := dynamicOf(t, server.Config())
	eventually(t, "the reports", func() bool { return len(inCluster(t, admin, reports.APIOpenReports, ns)) == 3 })
	eventually(t, "the end of trouble", func() bool { return r.notices.have("well") })
	r.stop()
	if texts := r.notices.texts(); len(texts) != 2 || texts[1] != "well" {
		t.Errorf("notices %q, want one of the trouble and one of its end", texts)
	}
}

// The rights that are asked for are those that are used: without any one of them the
// work is not done.
func TestRightsAreAllUsed(t *testing.T) {
	t.Parallel()
	server := bothAPIs(t)
	admin := dynamicOf(t, server.Config())
	var used []string
	user := server.User(t, "rights")
	server.Allow(t, "rights", "", kube.WatchRights(kube.WatchReports)...)
	verbs := make(chan string, 1000)
	proxy := kubetest.NewProxy(t, user, func(r *http.Request) kubetest.Action {
		if strings.Contains(r.URL.Path, "openreports.io/v1alpha1/namespaces/") {
			verbs <- r.Method + " " + fmt.Sprint(strings.Count(r.URL.Path, "/"))
		}
		return kubetest.Pass()
	})
	ns := server.Namespace(t, nil)
	r := start(t, proxy.Config(), reports.Options{Settle: time.Millisecond, Every: time.Millisecond})
	a := deployment(ns, "a")
	r.tell(t, picture(a)...)
	only := func() *unstructured.Unstructured {
		list, err := admin.Resource(reportsOf[reports.APIOpenReports]).Namespace(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 {
			return nil
		}
		return &list.Items[0]
	}
	eventually(t, "the report", func() bool { return only() != nil })
	// Somebody else was there in between: it is read again before it is written.
	u := only()
	u.SetAnnotations(map[string]string{"seen": "yes"})
	if _, err := admin.Resource(reportsOf[reports.APIOpenReports]).Namespace(ns).Update(t.Context(), u, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.tell(t, exposed(a, "another reason", scan.VerdictExposed))
	eventually(t, "the change", func() bool {
		return only() != nil && strings.Contains(decode(t, only()).Results[0].Description, "another reason")
	})
	r.tell(t, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &a}})
	eventually(t, "no report", func() bool {
		list, err := admin.Resource(reportsOf[reports.APIOpenReports]).Namespace(ns).List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) == 0
	})
	r.stop()
	close(verbs)
	for v := range verbs {
		if !slices.Contains(used, v) {
			used = append(used, v)
		}
	}
	slices.Sort(used)
	// Lists and creations are of the collection, the others of one report.
	if want := []string{"DELETE 7", "GET 6", "GET 7", "POST 6", "PUT 7"}; !slices.Equal(used, want) {
		t.Errorf("requests %q, want %q", used, want)
	}
	if texts := r.notices.texts(); len(texts) > 0 {
		t.Errorf("notices: %q", texts)
	}
}

// A namespace that is about to go takes no reports. That is no trouble to anybody, and
// keeps no other report waiting.
func TestNamespaceGoing(t *testing.T) {
	t.Parallel()
	server := bothAPIs(t)
	going, staying := server.Namespace(t, nil), server.Namespace(t, nil)
	if err := server.Client().CoreV1().Namespaces().Delete(t.Context(), going, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r := start(t, server.Config(), reports.Options{Parallel: 1})
	r.tell(t, picture(deployment(going, "a"), deployment("never-there", "b"), deployment(staying, "c"))...)
	admin := dynamicOf(t, server.Config())
	eventually(t, "the report", func() bool { return len(inCluster(t, admin, reports.APIOpenReports, staying)) == 1 })
	r.tell(t, exposed(deployment(staying, "d"), "privileged", ""))
	eventually(t, "the next report", func() bool { return len(inCluster(t, admin, reports.APIOpenReports, staying)) == 2 })
	r.stop()
	if texts := r.notices.texts(); len(texts) > 0 {
		t.Errorf("notices: %q", texts)
	}
	if n := len(inCluster(t, admin, reports.APIOpenReports, going)); n != 0 {
		t.Errorf("%d reports in the namespace that goes", n)
	}
}

// A thousand findings in one workload make a report that is small enough, holds the
// worst, and says how much it does not hold.
func TestThousandFindings(t *testing.T) {
	t.Parallel()
	for _, api := range []reports.API{reports.APIOpenReports, reports.APIPolicyReport} {
		t.Run(string(api), func(t *testing.T) {
			t.Parallel()
			server := bothAPIs(t)
			ns := server.Namespace(t, nil)
			w := deployment(ns, "crowded")
			events := picture(w)
			last := events[len(events)-1]
			events = events[:len(events)-1]
			for i := range 1000 {
				f := &scan.Finding{
					Rule: fmt.Sprintf("rule-%d", i), Category: scan.CategoryPSS, Title: "a rule", Severity: scan.SeverityMedium, Workload: w,
					Container: strings.Repeat("c", 63), Field: "spec.containers[0]", Now: json.RawMessage("null"),
					// The worst that a text can be: each byte becomes four.
					Message: strings.Repeat("\x1b", 2000),
				}
				if i%100 == 99 {
					f.Severity, f.Excepted = scan.SeverityCritical, &scan.Excepted{Reason: "known"}
				}
				if i == 500 {
					f.Severity = scan.SeverityHigh
				}
				events = append(events, scan.Event{Finding: f})
			}
			r := start(t, server.Config(), reports.Options{API: api})
			r.tell(t, append(events, last)...)
			admin := dynamicOf(t, server.Config())
			eventually(t, "the report", func() bool { return len(inCluster(t, admin, api, ns)) == 1 })
			r.stop()
			report := values(inCluster(t, admin, api, ns))[0]
			text, err := json.Marshal(report)
			if err != nil {
				t.Fatal(err)
			}
			if len(text) > 512<<10 || len(text) < 256<<10 {
				t.Errorf("%d bytes", len(text))
			}
			if s := report.Summary; s.Fail != 991 || s.Skip != 10 || s.Error+s.Warn+s.Pass != 0 {
				t.Errorf("summary %+v", s)
			}
			out := report.Results[len(report.Results)-1]
			held := len(report.Results) - 1
			if want := fmt.Sprintf("%d results are left out", 1001-held); out.Rule != "left-out" || out.Result != "fail" || !strings.HasPrefix(out.Description, want) {
				t.Errorf("the last result is %+v, want %q", out, want)
			}
			if report.Results[0].Rule != "verdict" || report.Results[1].Rule != "rule-500" {
				t.Errorf("the first are %s and %s, want the verdict and the worst", report.Results[0].Rule, report.Results[1].Rule)
			}
			if (report.Configuration != nil) != (api == reports.APIOpenReports) {
				t.Errorf("configuration %+v", report.Configuration)
			}
		})
	}
}

// What has the name of one of our reports and is none stays as it is.
func TestForeignReportOfOurName(t *testing.T) {
	t.Parallel()
	server := bothAPIs(t)
	ns := server.Namespace(t, nil)
	admin := dynamicOf(t, server.Config()).Resource(reportsOf[reports.APIOpenReports]).Namespace(ns)
	w := deployment(ns, "a")
	first := start(t, server.Config(), reports.Options{})
	first.tell(t, picture(w)...)
	var ours *unstructured.Unstructured
	eventually(t, "the report", func() bool {
		list, err := admin.List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) == 1 {
			ours = &list.Items[0]
		}
		return ours != nil
	})
	first.stop()
	ours.SetLabels(nil)
	theirs, err := admin.Update(t.Context(), ours, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, server.Config(), reports.Options{})
	second.tell(t, picture(w)...)
	second.tell(t, exposed(w, "another", scan.VerdictExposed))
	eventually(t, "a notice", func() bool { return second.notices.have("is not ours") })
	second.tell(t, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &w}})
	eventually(t, "the end of trouble", func() bool { return second.notices.have("well") })
	second.stop()
	now, err := admin.Get(t.Context(), theirs.GetName(), metav1.GetOptions{})
	if err != nil || now.GetResourceVersion() != theirs.GetResourceVersion() {
		t.Errorf("it was touched: %v", err)
	}
}

// A server that goes away is no reason to forget anything: when it is back, the reports
// say what is true by then.
func TestServerAway(t *testing.T) {
	t.Parallel()
	server := bothAPIs(t)
	ns := server.Namespace(t, nil)
	var away atomic.Bool
	proxy := kubetest.NewProxy(t, server.Config(), func(*http.Request) kubetest.Action {
		if away.Load() {
			return kubetest.Cut()
		}
		return kubetest.Pass()
	})
	admin := dynamicOf(t, server.Config())
	count := func() int { return len(inCluster(t, admin, reports.APIOpenReports, ns)) }
	a, b := deployment(ns, "a"), deployment(ns, "b")
	r := start(t, proxy.Config(), reports.Options{})
	r.tell(t, picture(a)...)
	eventually(t, "the report", func() bool { return count() == 1 })
	away.Store(true)
	proxy.CutConnections()
	r.tell(t, exposed(b, "privileged", ""), scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedWorkload, Workload: &a}})
	eventually(t, "a notice", func() bool { return len(r.notices.texts()) > 0 })
	if count() != 1 {
		t.Error("the report did not stay")
	}
	away.Store(false)
	eventually(t, "the end of trouble", func() bool { return r.notices.have("well") })
	eventually(t, "the other report", func() bool {
		all := values(inCluster(t, admin, reports.APIOpenReports, ns))
		return len(all) == 1 && all[0].Scope.Name == "b"
	})
	r.stop()
	if texts := r.notices.texts(); len(texts) != 2 {
		t.Errorf("notices %q, want one of the trouble and one of its end", texts)
	}
}

// What cannot be seen is not taken for gone: reports of earlier runs stay until what hides
// their workloads can be read.
func TestUnreadableIsNotGone(t *testing.T) {
	t.Parallel()
	server := bothAPIs(t)
	ns := server.Namespace(t, nil)
	admin := dynamicOf(t, server.Config())
	names := func() string {
		var all []string
		for _, r := range inCluster(t, admin, reports.APIOpenReports, ns) {
			all = append(all, r.Scope.Name)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	first := start(t, server.Config(), reports.Options{})
	first.tell(t, picture(deployment(ns, "a"), deployment(ns, "b"))...)
	eventually(t, "both", func() bool { return names() == "a b" })
	first.stop()

	second := start(t, server.Config(), reports.Options{Parallel: 1})
	failure := scan.Failure{Subject: "pods", Namespace: ns, Reason: scan.FailureForbidden, Message: "forbidden"}
	policies := scan.Failure{Subject: "KubeArmorPolicy.security.kubearmor.com", Reason: scan.FailureForbidden, Message: "forbidden"}
	events := picture(deployment(ns, "a"))
	second.tell(t, events[0], scan.Event{Failure: &failure}, scan.Event{Failure: &policies})
	second.tell(t, events[1:]...)
	second.tell(t, exposed(deployment(ns, "c"), "privileged", ""))
	eventually(t, "all three", func() bool { return names() == "a b c" })
	ref := failure.Ref()
	second.tell(t, scan.Event{Resolved: &scan.Resolved{What: scan.ResolvedFailure, Failure: &ref}})
	eventually(t, "those that there are", func() bool { return names() == "a c" })
	second.stop()
}

// An API that nobody serves is said to be missing, once, and used when it comes.
func TestNoAPI(t *testing.T) {
	t.Parallel()
	r := &running{notices: &notices{}}
	store := &empty{}
	r.Sink = reports.New(reports.Options{Store: store, Retry: time.Millisecond, Notify: r.notices.take})
	r.tell(t, picture(deployment("shop", "a"))...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	eventually(t, "ten questions", func() bool { return store.asked.Load() > 10 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if texts := r.notices.texts(); len(texts) != 1 || !strings.Contains(texts[0], "neither OpenReports nor PolicyReports") {
		t.Errorf("notices %q", texts)
	}
	if err := reports.New(reports.Options{API: "both", Store: store}).Run(t.Context()); err == nil {
		t.Error("an API that there is not was taken")
	}
}

// empty is a cluster that serves no API for reports.
type empty struct {
	reports.Store
	asked atomic.Int64
}

func (e *empty) Serves(context.Context, schema.GroupVersionKind) (bool, error) {
	e.asked.Add(1)
	return false, nil
}
