package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// faultyPods makes seven pods, which are four pages of two: p-1 is privileged, the
// others are not.
func (s liveSpace) faultyPods() {
	s.Helper()
	for i := range 7 {
		if i == 1 {
			s.pod("p-1", privileged)
			continue
		}
		s.pod(fmt.Sprintf("p-%d", i))
	}
}

// pageOf tells which page of pods a request asks for: 1 for the first, 2 for any
// other, 0 for another kind of request.
func pageOf(r *http.Request) int {
	switch {
	case r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/pods"):
		return 0
	case r.URL.Query().Get("continue") == "":
		return 1
	}
	return 2
}

// onPage does one thing to requests for the page, the first so many times, and
// passes the others.
func onPage(page, times int, action kubetest.Action) kubetest.Hook {
	var done atomic.Int32
	return func(r *http.Request) kubetest.Action {
		if pageOf(r) == page && int(done.Add(1)) <= times {
			return action
		}
		return kubetest.Pass()
	}
}

const always = 1 << 20

// onPath does one thing to requests whose path ends so.
func onPath(suffix string, action kubetest.Action) kubetest.Hook {
	return func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, suffix) {
			return action
		}
		return kubetest.Pass()
	}
}

// through scans the namespace by pages of two through a proxy.
func (s liveSpace) through(hook kubetest.Hook, args ...string) *liveAudit {
	s.Helper()
	proxy := kubetest.NewProxy(s, s.server.Config(), hook)
	return liveScan(s.T, proxy.Config(), append([]string{"-n", s.name, "--page-size", "2"}, args...)...)
}

func allFaultyRows() []string {
	return []string{"Pod/p-0 closed 1", "Pod/p-1 exposed 1", "Pod/p-2 closed 1", "Pod/p-3 closed 1", "Pod/p-4 closed 1", "Pod/p-5 closed 1", "Pod/p-6 closed 1"}
}

// What passes by itself leaves no trace: every pod is found, and once.
func TestLivePassingFaultsChangeNothing(t *testing.T) {
	s := newLiveSpace(t)
	s.faultyPods()
	first, err := s.server.Client().CoreV1().Pods(s.name).List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		hook kubetest.Hook
	}{
		{"none", nil},
		{"410 with a token", onPage(2, 1, kubetest.Gone(first.Continue))},
		{"410 without a token", onPage(2, 1, kubetest.Gone(""))},
		{"410 twice", onPage(2, 2, kubetest.Gone(""))},
		{"429 that says how long", onPage(2, 1, kubetest.TooManyRequests(1))},
		{"429 that does not", onPage(1, 2, kubetest.TooManyRequests(0))},
		{"500", onPage(2, 2, kubetest.InternalError("etcd: leader changed"))},
		{"503", onPage(2, 1, kubetest.Respond(apierrors.NewServiceUnavailable("starting").ErrStatus))},
		{"cut before the answer", onPage(2, 1, kubetest.Cut())},
		{"cut in the answer", onPage(2, 1, kubetest.CutAfter(100))},
		{"cut at the start", onPage(1, 1, kubetest.CutAfter(0))},
		{"500 for the version", func() kubetest.Hook {
			var asked atomic.Int32
			return func(r *http.Request) kubetest.Action {
				if r.URL.Path == "/version" && asked.Add(1) == 1 {
					return kubetest.InternalError("starting")
				}
				return kubetest.Pass()
			}
		}()},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := liveSpace{t, s.server, s.name}.through(test.hook)
			a.wantComplete(t, exitFindings)
			a.wantRows(t, s.name, allFaultyRows()...)
			if a.end.Pods != 7 {
				t.Errorf("%d pods, want 7", a.end.Pods)
			}
		})
	}
}

// A list that ends early is said to be one: what was found stays found, and nothing
// is called closed any more.
func TestLiveLastingFaultsAreNoPass(t *testing.T) {
	s := newLiveSpace(t)
	s.faultyPods()
	firstPage := []string{"Pod/p-0 unknown 1", "Pod/p-1 exposed 1"}
	nothing := []string{"Namespace/" + s.name + " unknown 0"}
	for _, test := range []struct {
		name   string
		hook   kubetest.Hook
		args   []string
		reason string
		rows   []string
	}{
		{"403 on the second page", onPage(2, always, kubetest.Forbidden("no more")), nil, "forbidden", firstPage},
		{"401 on the second page", onPage(2, always, kubetest.Respond(apierrors.NewUnauthorized("token expired").ErrStatus)), nil, "forbidden", firstPage},
		{"410 for ever", onPage(2, always, kubetest.Gone("")), nil, "read error", firstPage},
		{"500 for ever", onPage(2, always, kubetest.InternalError("etcd")), nil, "read error", firstPage},
		{"cut for ever", onPage(2, always, kubetest.CutAfter(50)), nil, "read error", firstPage},
		{"silence on the second page", onPage(2, always, kubetest.Hold(nil, kubetest.Pass())), []string{"--request-timeout", "300ms"}, "timeout", firstPage},
		{"silence from the start", onPage(1, always, kubetest.Hold(nil, kubetest.Pass())), []string{"--request-timeout", "300ms"}, "timeout", nothing},
		{"no JSON", onPage(1, always, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>Sign in to the network\x1b[2J</html>")
		}), nil, "read error", nothing},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := liveSpace{t, s.server, s.name}.through(test.hook, test.args...)
			a.wantRows(t, s.name, slices.Clone(test.rows)...)
			want := []string{"pods in " + s.name + ": " + test.reason}
			if len(test.rows) == len(nothing) {
				// The fault meets every first page of pods, that of KubeArmor's too.
				want = append(want, "pods of KubeArmor: "+test.reason)
			}
			if got := a.failed(); a.code != exitIncomplete || !a.end.Incomplete || !slices.Equal(got, want) {
				t.Errorf("exit %d, failures %q, want %q", a.code, got, want)
			}
			if strings.ContainsRune(a.stdout+a.stderr, '\x1b') {
				t.Error("the server's words reach the terminal")
			}
		})
	}
}

// Everywhere at once, the first page counts once, and all of the cluster is
// unknown that was not seen to be open.
func TestLiveFaultsOfAScanOfEverything(t *testing.T) {
	s := newLiveSpace(t)
	s.faultyPods()
	for _, fault := range []kubetest.Action{kubetest.Forbidden("no more"), kubetest.Hold(nil, kubetest.Pass())} {
		proxy := kubetest.NewProxy(t, s.server.Config(), onPage(2, always, fault))
		a := liveScan(t, proxy.Config(), "--page-size", "2", "--request-timeout", "500ms")
		a.wantRows(t, s.name, "Pod/p-0 unknown 1", "Pod/p-1 exposed 1")
		if a.code != exitIncomplete || len(a.failures) != 1 || a.failures[0].Subject != "pods" || a.end.Pods != 2 {
			t.Errorf("exit %d, failures %+v, %d pods", a.code, a.failures, a.end.Pods)
		}
		code := liveScan(t, proxy.Config(), "--page-size", "2", "--request-timeout", "500ms", "--allow-incomplete").code
		if code != exitFindings {
			t.Errorf("--allow-incomplete: exit %d", code)
		}
	}
}

// goesAway is a way to the server that ends after the first page of pods; gone is closed
// then.
func goesAway(t *testing.T, server *kubetest.Server) (proxy *kubetest.Proxy, gone <-chan struct{}) {
	t.Helper()
	closed := make(chan struct{})
	proxy = kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if pageOf(r) != 2 {
			return kubetest.Pass()
		}
		// Close waits for the handlers, of which this is one.
		go func() {
			defer close(closed)
			proxy.Close()
		}()
		return kubetest.Hold(nil, kubetest.Pass())
	})
	return proxy, closed
}

func TestLiveServerGoesAway(t *testing.T) {
	s := newLiveSpace(t)
	s.faultyPods()
	proxy, gone := goesAway(t, s.server)
	a := liveScan(t, proxy.Config(), "-n", s.name, "--page-size", "2")
	<-gone
	a.wantRows(t, s.name, "Pod/p-0 unknown 1", "Pod/p-1 exposed 1")
	if a.code != exitIncomplete || !slices.Equal(a.failed(), []string{"pods in " + s.name + ": unreachable"}) {
		t.Errorf("exit %d, failures %+v", a.code, a.failures)
	}
}

// kindsForbidden are the failures where no kind of policy may be read, sorted.
func kindsForbidden() []string {
	var failed []string
	for _, kind := range scan.ObjectKinds() {
		failed = append(failed, kind.String()+": forbidden")
	}
	slices.Sort(failed)
	return failed
}

// What is read beside the pods can fail by itself.
func TestLiveFaultsBesideThePods(t *testing.T) {
	s := newLiveSpace(t)
	s.pod("web-5d8f-a", ownedBy(s.replicaSet(s.deployment("web"), "5d8f"), "5d8f"))
	refuse := kubetest.Forbidden("no")
	for _, test := range []struct {
		name   string
		hook   kubetest.Hook
		failed []string
		row    string
	}{
		{"nodes time out", onPath("/nodes", kubetest.Hold(nil, kubetest.Pass())), []string{"nodes: timeout"}, "Deployment/web closed 1"},
		{"version is forbidden", onPath("/version", refuse), []string{"server version: forbidden"}, "Deployment/web closed 1"},
		{"owners time out", onPath("/replicasets", kubetest.Hold(nil, kubetest.Pass())), []string{"ReplicaSet in " + s.name + ": timeout"}, "Deployment/web closed 1"},
		{"owners of owners are cut", onPath("/deployments", kubetest.CutAfter(10)), []string{"Deployment in " + s.name + ": read error"}, "ReplicaSet/web-5d8f closed 1"},
		{"kinds are forbidden", onPath("/apis", refuse), slices.Insert(kindsForbidden(), 7, "ReplicaSet in "+s.name+": forbidden"), "Deployment/web closed 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := liveSpace{t, s.server, s.name}.through(test.hook, "--request-timeout", "1s")
			a.wantRows(t, s.name, test.row)
			if got := a.failed(); a.code != exitIncomplete || !slices.Equal(got, test.failed) {
				t.Errorf("exit %d, failures %+v, want %q", a.code, a.failures, test.failed)
			}
		})
	}
}

func TestLiveNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "https://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := newLiveSpace(t)
	silent := kubetest.NewProxy(t, s.server.Config(), onPath("/version", kubetest.Hold(nil, kubetest.Pass())))
	otherCA := s.server.Config()
	otherCA.CAData = silent.Config().CAData

	for _, test := range []struct {
		name   string
		config *rest.Config
		want   string
	}{
		{"nobody listens", &rest.Config{Host: nobody}, "connection refused"},
		{"nobody answers", silent.Config(), "imeout"},
		{"somebody else answers", otherCA, "certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			kubeconfig := kubetest.Kubeconfig(t, test.config)
			for _, args := range [][]string{{"-o", "table"}, {"-o", "json"}, {"--preflight"}} {
				out := filepath.Join(t.TempDir(), "out.sarif")
				if args[0] == "-o" {
					args = append(args, "-o", "sarif="+out)
				} else if test.name == "nobody answers" {
					continue // Rights are asked for without the version.
				}
				result := liveRun(t, append([]string{"scan", "--kubeconfig", kubeconfig, "--request-timeout", "300ms"}, args...)...)
				if result.code != exitUsage || result.stdout != "" || !strings.Contains(result.stderr, test.want) {
					t.Errorf("%q: %+v", args, result)
				}
				if lines := strings.Count(result.stderr, "\n"); lines != 1 {
					t.Errorf("%q: %d lines of complaint:\n%s", args, lines, result.stderr)
				}
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); len(left) > 0 {
					t.Errorf("%q: half a report is left: %q", args, left)
				}
			}
		})
	}
}

// withToken writes a kubeconfig of a user with a bearer token.
func withToken(t *testing.T, config *rest.Config, token string) string {
	t.Helper()
	file := clientcmdapi.NewConfig()
	file.CurrentContext = "token"
	file.Contexts["token"] = &clientcmdapi.Context{Cluster: "token", AuthInfo: "token"}
	file.Clusters["token"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["token"] = &clientcmdapi.AuthInfo{Token: token}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*file, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLiveTokens(t *testing.T) {
	s := newLiveSpace(t)
	s.pod("a")
	const secret = "eyJhbGciOiJSUzI1NiJ9.expired.signature"
	result := liveRun(t, "scan", "--kubeconfig", withToken(t, s.server.Config(), secret))
	if result.code != exitUsage || result.stdout != "" || !strings.Contains(strings.ToLower(result.stderr), "credentials") {
		t.Errorf("token that is not valid: %+v", result)
	}
	if strings.Contains(result.stderr, secret) {
		t.Error("the token is in the message")
	}

	// Nobody in particular may ask for the version and for nothing else.
	a := liveScanFile(t, withToken(t, s.server.Config(), ""))
	if a.code != exitIncomplete || len(a.verdicts) != 0 || !slices.Equal(a.failed(), append(kindsForbidden(), "namespaces: forbidden", "nodes: forbidden", "pods: forbidden", "pods of KubeArmor: forbidden")) {
		t.Errorf("anonymous: exit %d, failures %+v", a.code, a.failures)
	}
}

func TestLiveInterrupted(t *testing.T) {
	s := newLiveSpace(t)
	set := s.replicaSet(s.deployment("web"), "5d8f")
	for i := range 6 {
		s.pod(fmt.Sprintf("web-5d8f-%d", i), ownedBy(set, "5d8f"), func(p *corev1.Pod) { p.Spec.HostPID = i == 0 })
	}
	for _, test := range []struct {
		name string
		at   func(*http.Request) bool
		// begun tells whether the stream has begun by then.
		begun bool
	}{
		{"at the version", func(r *http.Request) bool { return r.URL.Path == "/version" }, false},
		{"at the nodes", func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/nodes") }, true},
		{"at the first page", func(r *http.Request) bool { return pageOf(r) == 1 }, true},
		{"at another page", func(r *http.Request) bool { return pageOf(r) == 2 }, true},
		{"at the owners", func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/replicasets") }, true},
		{"at the kinds", func(r *http.Request) bool { return r.URL.Path == "/apis" }, true},
		{"while trying again", func(r *http.Request) bool { return false }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			proxy := kubetest.NewProxy(t, s.server.Config(), func(r *http.Request) kubetest.Action {
				switch {
				case test.name == "while trying again" && pageOf(r) == 2:
					time.AfterFunc(10*time.Millisecond, cancel)
					return kubetest.InternalError("etcd")
				case test.at(r):
					cancel()
					return kubetest.Hold(nil, kubetest.Pass())
				}
				return kubetest.Pass()
			})
			file := filepath.Join(t.TempDir(), "out.sarif")
			began := time.Now()
			code, stdout, stderr := invoke(ctx, testDeps(t.TempDir()), strings.NewReader(""),
				"scan", "--kubeconfig", kubetest.Kubeconfig(t, proxy.Config()), "-n", s.name, "--page-size", "2", "-o", "jsonl", "-o", "sarif="+file)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v to end", took)
			}
			if code != exitInterrupted {
				t.Errorf("exit %d, stderr %q", code, stderr)
			}
			if !test.begun {
				if stdout != "" {
					t.Errorf("output: %s", stdout)
				}
			} else if a := liveParse(t, liveResult{code, stdout, stderr}); !a.end.Interrupted || !a.end.Incomplete || len(a.verdicts) > 0 ||
				!slices.Contains(a.failed(), "scan: interrupted") {
				t.Errorf("end %+v, failures %+v, verdicts %q", a.end, a.failures, a.rows())
			}
			if left := goroutinesOf("escape-scanner/scan.", "escape-scanner/internal/kube."); left != "" {
				t.Errorf("still running:\n%s", left)
			}
		})
	}
}

// goroutinesOf gives the stacks of goroutines that still run code of the packages a
// moment after it should have ended.
func goroutinesOf(packages ...string) string {
	var left string
	err := wait.PollUntilContextTimeout(context.Background(), 5*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		buf := make([]byte, 1<<20)
		left = ""
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if slices.ContainsFunc(packages, func(p string) bool { return strings.Contains(stack, p) }) {
				left += stack + "\n\n"
			}
		}
		return left == "", nil
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err.Error()
	}
	return left
}
