package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// smokeShop is a namespace with labels of others, a workload that the set breaks and
// one that it leaves alone.
const smokeShop = `
apiVersion: v1
kind: Namespace
metadata: {name: smoke, labels: {team: a, pod-security.kubernetes.io/warn: privileged}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: legacy, namespace: smoke}
spec:
  selector: {matchLabels: {app: legacy}}
  template:
    metadata: {labels: {app: legacy}}
    spec:
      containers:
      - {name: app, image: "registry.example/app:1", securityContext: {privileged: true}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: quiet, namespace: smoke}
spec:
  selector: {matchLabels: {app: quiet}}
  template:
    metadata: {labels: {app: quiet}}
    spec:
      containers:
      - {name: app, image: "registry.example/app:1", command: [/app]}
`

// smoke runs remediate against a server, with admission alone: KubeArmor is not there.
func smoke(t *testing.T, kubeconfig, verb string, args ...string) liveResult {
	t.Helper()
	all := append([]string{"remediate", verb, "--kubeconfig", kubeconfig}, args...)
	return liveRun(t, all...)
}

func (r liveResult) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%q is missing in\n%s\n%s", text, r.stdout, r.stderr)
		}
	}
}

// TestLiveRemediateSmoke is what a new user does first: look, be refused, accept, look
// whether it is there, and take it back.
func TestLiveRemediateSmoke(t *testing.T) {
	server := liveServers.Server(t)
	server.ApplyYAML(t, smokeShop)
	kubeconfig := kubetest.Kubeconfig(t, server.Config())
	before := namespaceLabels(t, server)
	set := []string{"-n", "smoke", "--admission", "psa", "--only", "admission"}

	smoke(t, kubeconfig, "status").want(t, 1, "no set: namespace kube-system has no record of one")
	smoke(t, kubeconfig, "plan", set...).want(t, 3, "! BLOCKED    Namespace smoke  admission  by conflict:", "pod-security.kubernetes.io/warn",
		"blocked: 2 changes of the plan cannot be made", "--force-conflicts   takes over what others own")
	smoke(t, kubeconfig, "apply", append(set, "--yes")...).want(t, 3, "blocked: nothing was changed")
	set = append(set, "--force-conflicts")
	smoke(t, kubeconfig, "plan", set...).want(t, 1,
		"~ change     Namespace smoke", "    +    pod-security.kubernetes.io/enforce: baseline", "    -    pod-security.kubernetes.io/warn: privileged",
		"BREAKS       smoke/Deployment/legacy  privileged", "SAFE  smoke/Deployment/quiet",
		"next:  escape-scanner remediate apply", "--accept smoke/Deployment/legacy")
	smoke(t, kubeconfig, "apply", set...).want(t, 2, "standard input is no terminal")
	smoke(t, kubeconfig, "apply", append(set, "--yes")...).want(t, 1,
		"refused: nothing was changed: 1 workload would break", "smoke/Deployment/legacy: ", "three ways on")
	smoke(t, kubeconfig, "apply", append(set, "--yes", "--accept", "smoke/Deployment/quite")...).want(t, 2, "no such workload is in scope")
	if got := namespaceLabels(t, server); got != before {
		t.Fatalf("a refused apply has changed %s to %s", before, got)
	}

	accepted := append(set, "--yes", "--accept", "smoke/deployment/legacy")
	smoke(t, kubeconfig, "apply", accepted...).want(t, 0, "accepted: --accept", "enforce: Namespace smoke changed", "yes  ", "done:  2 changed")
	smoke(t, kubeconfig, "apply", accepted...).want(t, 0, "plan:  2 unchanged")
	smoke(t, kubeconfig, "status").want(t, 0, "set escape-to-host  applied", "IN PLACE     Namespace smoke", "status:  1 in place")
	// Other options may mean the same objects: the record tells them all the same.
	smoke(t, kubeconfig, "apply", append(accepted, "--without", "curl")...).want(t, 0, "only brings the record of the set up to date")
	smoke(t, kubeconfig, "status").want(t, 0, "without curl", "status:  1 in place")
	smoke(t, kubeconfig, "apply", accepted...).want(t, 0)
	// A record that nobody can read does not hide the other sets.
	broken := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "escape-scanner-broken", Labels: map[string]string{"app.kubernetes.io/managed-by": "escape-scanner", "escape-scanner.github.io/set": "broken"}}}
	records := server.Client().CoreV1().ConfigMaps("kube-system")
	if _, err := records.Create(t.Context(), broken, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	smoke(t, kubeconfig, "status").want(t, 3, "set broken", "it has no head", "status:  1 in place")
	smoke(t, kubeconfig, "rollback", "--set", "broken", "--yes").want(t, 3, "record of set broken", "it has no head")
	if err := records.Delete(t.Context(), broken.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	_, err := server.Client().CoreV1().Namespaces().Patch(t.Context(), "smoke", "application/merge-patch+json",
		[]byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"privileged","team":"b"}}}`), metav1.PatchOptions{FieldManager: "kubectl-label"})
	if err != nil {
		t.Fatal(err)
	}
	smoke(t, kubeconfig, "status").want(t, 1, "DRIFTED      Namespace smoke", "changed by kubectl-label", "+    pod-security.kubernetes.io/enforce: privileged",
		"next:  escape-scanner remediate apply --kubeconfig", " -n smoke --admission psa --only admission   brings it in place")

	smoke(t, kubeconfig, "rollback").want(t, 2, "standard input is no terminal")
	smoke(t, kubeconfig, "rollback", "--yes").want(t, 0, "< put back   Namespace smoke", "Namespace smoke  as before", "done:  1 put back")
	if got, want := namespaceLabels(t, server), strings.Replace(before, `"team":"a"`, `"team":"b"`, 1); got != want {
		t.Errorf("after the rollback %s, want %s", got, want)
	}
	if _, err := server.Client().CoreV1().ConfigMaps("kube-system").Get(t.Context(), "escape-scanner-escape-to-host", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the record: %v", err)
	}
	smoke(t, kubeconfig, "rollback", "--yes").want(t, 0, "nothing to do")
}

func namespaceLabels(t *testing.T, server *kubetest.Server) string {
	t.Helper()
	ns, err := server.Client().CoreV1().Namespaces().Get(t.Context(), "smoke", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(ns.Labels)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// answering is a terminal on which somebody types.
func answering(t *testing.T) deps {
	t.Helper()
	d := testDeps(t.TempDir())
	d.terminalInput = func(io.Reader) bool { return true }
	return d
}

// TestLiveRemediateAsks: nothing but a yes changes something.
func TestLiveRemediateAsks(t *testing.T) {
	server := liveServers.Server(t)
	server.ApplyYAML(t, strings.ReplaceAll(smokeShop, "privileged: true", "privileged: false"))
	kubeconfig := kubetest.Kubeconfig(t, server.Config())
	before := namespaceLabels(t, server)
	args := []string{"remediate", "apply", "--kubeconfig", kubeconfig, "-n", "smoke", "--admission", "psa", "--only", "admission", "--force-conflicts"}
	for typed, code := range map[string]int{"\n": 1, "n\n": 1, "": 1, "yeah\n": 1} {
		got, stdout, stderr := invoke(t.Context(), answering(t), strings.NewReader(typed), args...)
		if got != code || !strings.Contains(stderr, "[y/N]") || !strings.Contains(stderr, "nothing was changed") || namespaceLabels(t, server) != before {
			t.Errorf("%q: exit %d, %s\n%s", typed, got, stdout, stderr)
		}
	}
	// Who is asked has seen the plan, also where standard output is for a document.
	_, stdout, stderr := invoke(t.Context(), answering(t), strings.NewReader("n\n"), append(slices.Clone(args), "-o", "json")...)
	if plan, _, asked := strings.Cut(stderr, "[y/N]"); !asked || !strings.Contains(plan, "Namespace smoke") || stdout != "" {
		t.Errorf("with -o json: %s\n%s", stdout, stderr)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	stdin := &interruptingReader{strings.NewReader(""), interrupt, t.Context().Done()}
	got, _, stderr := invoke(ctx, answering(t), stdin, args...)
	if got != exitInterrupted || !strings.Contains(stderr, "interrupted: nothing was changed") || namespaceLabels(t, server) != before {
		t.Errorf("interrupted: exit %d, %s", got, stderr)
	}

	got, stdout, stderr = invoke(t.Context(), answering(t), strings.NewReader("y\n"), args...)
	if got != 0 || namespaceLabels(t, server) == before {
		t.Errorf("yes: exit %d, %s\n%s", got, stdout, stderr)
	}
	smoke(t, kubeconfig, "rollback", "--yes").want(t, 0, "done:")
	if got := namespaceLabels(t, server); got != before {
		t.Errorf("after the rollback %s, want %s", got, before)
	}
}

// interruptingWriter presses Ctrl-C when something is said.
type interruptingWriter struct {
	strings.Builder
	at        string
	interrupt context.CancelFunc
}

func (w *interruptingWriter) Write(p []byte) (int, error) {
	n, err := w.Builder.Write(p)
	if strings.Contains(w.String(), w.at) {
		w.interrupt()
	}
	return n, err
}

// TestLiveRemediateInterrupted: an apply that is stopped says how to go on, and both
// ways lead on.
func TestLiveRemediateInterrupted(t *testing.T) {
	server := liveServers.Server(t)
	server.ApplyYAML(t, strings.ReplaceAll(smokeShop, "privileged: true", "privileged: false"))
	kubeconfig := kubetest.Kubeconfig(t, server.Config())
	args := []string{"-n", "smoke", "--admission", "vap", "--only", "admission", "--yes", "--wait", "1s"}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	stderr := &interruptingWriter{at: "1/8 audit", interrupt: interrupt}
	var stdout strings.Builder
	code := run(ctx, append([]string{"remediate", "apply", "--kubeconfig", kubeconfig}, args...), strings.NewReader(""), &stdout, stderr, testDeps(t.TempDir()))
	liveResult{code, stdout.String(), stderr.String()}.want(t, exitInterrupted, "done:  1 created", "interrupted: stopped between two changes, ",
		"the same command again finishes it, and rollback undoes it")
	if text := stdout.String() + stderr.String(); strings.Contains(text, "context canceled") || strings.Contains(text, "BLOCKED") {
		t.Errorf("the interrupt looks like a failure:\n%s", text)
	}
	smoke(t, kubeconfig, "status").want(t, 1, "set escape-to-host  applying", "UNFINISHED", "NOT BEGUN    ValidatingAdmissionPolicyBinding",
		" -n smoke --admission vap --only admission   brings it in place", "remediate rollback --kubeconfig")
	// No controller manager type-checks the policies here, so not all is verified.
	smoke(t, kubeconfig, "apply", args...).want(t, 3, "UNFINISHED", "refuses: a privileged pod", "unverified: all changes were made")
	smoke(t, kubeconfig, "status").want(t, 0, "status:  4 in place")
	smoke(t, kubeconfig, "rollback", "--yes").want(t, 0, "4 to delete", "gone, as before", "done:  4 deleted")
	smoke(t, kubeconfig, "status").want(t, 1, "no set")
}
