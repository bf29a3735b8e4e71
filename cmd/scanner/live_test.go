package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// liveServers is the control plane that the tests of live scans share. These tests
// do not run in parallel: a scan of all namespaces would meet the pods of others. Those
// of a watch do: each has a server of its own.
var liveServers = kubetest.NewShared()

// asPod is the variable that has the test binary make its surroundings those of a pod
// before it is the program: the directory with the files of the service account.
const asPod = "TEST_AS_POD"

func TestMain(m *testing.M) {
	if pods := os.Getenv(memoryPods); pods != "" {
		os.Exit(measureMemory(pods))
	}
	if os.Getenv(asProgram) != "" {
		if files := os.Getenv(asPod); files != "" {
			if err := becomePod(files); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(100)
			}
			// The program knows nothing of it.
			_ = os.Unsetenv(asPod)
		}
		main()
	}
	os.Exit(liveServers.Run(m))
}

// liveResult is what one run of the program left.
type liveResult struct {
	code           int
	stdout, stderr string
}

// liveRun runs the program in a folder of its own.
func liveRun(t *testing.T, args ...string) liveResult {
	t.Helper()
	code, stdout, stderr := invoke(t.Context(), testDeps(t.TempDir()), strings.NewReader(""), args...)
	return liveResult{code, stdout, stderr}
}

// liveAudit are the events of one scan.
type liveAudit struct {
	liveResult
	start    scan.Start
	nodes    []scan.Node
	findings []scan.Finding
	verdicts []scan.WorkloadVerdict
	failures []scan.Failure
	end      scan.End
}

// liveScan scans with what -o jsonl then says. The scan must have begun.
func liveScan(t *testing.T, config *rest.Config, args ...string) *liveAudit {
	t.Helper()
	return liveScanFile(t, kubetest.Kubeconfig(t, config), args...)
}

func liveScanFile(t *testing.T, kubeconfig string, args ...string) *liveAudit {
	t.Helper()
	args = append([]string{"scan", "--kubeconfig", kubeconfig, "-o", "jsonl"}, args...)
	return liveParse(t, liveRun(t, args...))
}

func liveParse(t *testing.T, result liveResult) *liveAudit {
	t.Helper()
	a := &liveAudit{liveResult: result}
	ended := false
	for line := range strings.Lines(result.stdout) {
		var e scan.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("output: %v in %q", err, line)
		}
		switch {
		case e.Start != nil:
			a.start = *e.Start
		case e.Node != nil:
			a.nodes = append(a.nodes, *e.Node)
		case e.Finding != nil:
			a.findings = append(a.findings, *e.Finding)
		case e.Verdict != nil:
			a.verdicts = append(a.verdicts, *e.Verdict)
		case e.Failure != nil:
			a.failures = append(a.failures, *e.Failure)
		case e.End != nil:
			a.end, ended = *e.End, true
		}
	}
	if !ended {
		t.Fatalf("exit %d without an end event\nstderr: %s", result.code, result.stderr)
	}
	return a
}

// rows are the verdicts, one a line: "NAMESPACE/KIND/NAME verdict pods".
func (a *liveAudit) rows() []string {
	var rows []string
	for _, v := range a.verdicts {
		rows = append(rows, fmt.Sprintf("%s %s %d", v.Workload, v.Verdict, v.Pods))
	}
	slices.Sort(rows)
	return rows
}

// verdict is the one verdict on a workload ("NAMESPACE/KIND/NAME").
func (a *liveAudit) verdict(t *testing.T, workload string) *scan.WorkloadVerdict {
	t.Helper()
	var found []*scan.WorkloadVerdict
	for i := range a.verdicts {
		if a.verdicts[i].Workload.String() == workload {
			found = append(found, &a.verdicts[i])
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: %d verdicts, want 1; there are:\n%s", workload, len(found), strings.Join(a.rows(), "\n"))
	}
	return found[0]
}

// finding is the first finding of a rule on a workload.
func (a *liveAudit) finding(t *testing.T, workload, rule string) *scan.Finding {
	t.Helper()
	for i := range a.findings {
		if f := &a.findings[i]; f.Workload.String() == workload && f.Rule == rule {
			return f
		}
	}
	t.Fatalf("%s: no finding of %s; there are:\n%s", workload, rule, strings.Join(a.rows(), "\n"))
	return nil
}

// failed are the failures: "SUBJECT[ in NAMESPACE]: REASON".
func (a *liveAudit) failed() []string {
	var list []string
	for _, f := range a.failures {
		s := f.Subject
		if f.Namespace != "" {
			s += " in " + f.Namespace
		}
		list = append(list, s+": "+string(f.Reason))
	}
	return list
}

// wantRows compares the verdicts with "KIND/NAME verdict pods" in the namespace.
func (a *liveAudit) wantRows(t *testing.T, namespace string, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = namespace + "/" + want[i]
	}
	slices.Sort(want)
	if got := a.rows(); !slices.Equal(got, want) {
		t.Errorf("verdicts:\n%s\nwant:\n%s\nfailures: %q\nstderr: %s",
			strings.Join(got, "\n"), strings.Join(want, "\n"), a.failed(), a.stderr)
	}
}

// wantComplete checks that nothing is missing, and the exit code.
func (a *liveAudit) wantComplete(t *testing.T, code int) {
	t.Helper()
	if a.code != code || a.end.Incomplete || len(a.failures) > 0 {
		t.Errorf("exit %d (want %d), incomplete %v, failures %+v, stderr %q", a.code, code, a.end.Incomplete, a.failures, a.stderr)
	}
}

// liveSpace is a namespace to make things in.
type liveSpace struct {
	*testing.T
	server *kubetest.Server
	name   string
}

func newLiveSpace(t *testing.T) liveSpace {
	t.Helper()
	server := liveServers.Server(t)
	return liveSpace{t, server, server.Namespace(t, nil)}
}

// podChange makes of a good pod another one.
type podChange func(*corev1.Pod)

func privileged(p *corev1.Pod) {
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
}

func labelled(key, value string) podChange {
	return func(p *corev1.Pod) { metav1.SetMetaDataLabel(&p.ObjectMeta, key, value) }
}

// ownedBy makes the owner the pod's controller, and for a ReplicaSet's hash puts
// the label on the pod that the controller would.
func ownedBy(ref metav1.OwnerReference, hash string) podChange {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{ref}
		if hash != "" {
			metav1.SetMetaDataLabel(&p.ObjectMeta, "pod-template-hash", hash)
		}
	}
}

// livePod is a pod that passes restricted, changed.
func livePod(name string, changes ...podChange) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: goodPodSpec()}
	for _, change := range changes {
		change(p)
	}
	return p
}

func goodPodSpec() corev1.PodSpec {
	return corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "app", Image: "registry.example/app:1",
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false),
				Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}

// pod creates a pod.
func (s liveSpace) pod(name string, changes ...podChange) *corev1.Pod {
	s.Helper()
	p, err := s.server.Client().CoreV1().Pods(s.name).Create(s.Context(), livePod(name, changes...), metav1.CreateOptions{})
	if err != nil {
		s.Fatalf("pod %s: %v", name, err)
	}
	return p
}

// workload is the name of a workload here, as verdicts have it.
func (s liveSpace) workload(kindAndName string) string { return s.name + "/" + kindAndName }

// cleanup is a context for what a test takes back, which its own has not.
func (s liveSpace) cleanup() context.Context { return context.WithoutCancel(s.Context()) }
