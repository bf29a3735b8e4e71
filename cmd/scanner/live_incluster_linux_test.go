package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/internal/s3test"
)

// serviceAccountDir is where every pod finds what it is told of itself.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// becomePod makes this process see the files of a service account where a pod has them, a
// root that is read-only, and no /tmp. The mounts are its own, and gone with it.
func becomePod(files string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts of its own: %w", err)
	}
	at, err := filepath.EvalSymlinks("/var/run")
	if err != nil {
		return err
	}
	texts := map[string][]byte{}
	for _, name := range []string{"token", "ca.crt", "namespace"} {
		if texts[name], err = os.ReadFile(filepath.Join(files, name)); err != nil {
			return err
		}
	}
	for _, dir := range []string{at, "/tmp"} {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll(serviceAccountDir, 0o755); err != nil {
		return err
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(serviceAccountDir, name), text, 0o400); err != nil {
			return err
		}
	}
	for _, dir := range []string{at, "/tmp", "/"} {
		if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make %s read-only: %w", dir, err)
		}
	}
	return os.Chdir("/")
}

// inPod runs the program as a pod does: no home, no kubeconfig, no directory to write to.
func inPod(t *testing.T, server *kubetest.Server, namespace, account string, environ []string, args ...string) liveResult {
	t.Helper()
	config := server.Config()
	token, err := server.Client().CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	for name, text := range map[string]string{"token": token.Status.Token, "ca.crt": string(config.CAData), "namespace": namespace} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, err := url.Parse(config.Host)
	if err != nil || host.Port() == "" {
		t.Fatalf("API server %s: %v", config.Host, err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append([]string{
		asProgram + "=1", asPod + "=" + files, "KUBERNETES_SERVICE_HOST=" + host.Hostname(), "KUBERNETES_SERVICE_PORT=" + host.Port(),
	}, environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this machine gives nobody mounts of their own")
	}
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return liveResult{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// What a CronJob does: it audits the cluster by its service account, keeps reports in it,
// and puts the result into a bucket, with nothing of a machine to lean on.
func TestLiveInCluster(t *testing.T) {
	server := liveServers.Server(t)
	server.InstallCRDs(t, kubetest.OpenReports)
	home, shop := server.Namespace(t, nil), server.Namespace(t, nil)
	server.ApplyYAML(t, fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: audit, namespace: %[1]s}
---
apiVersion: v1
kind: Pod
metadata: {name: out, namespace: %[2]s}
spec: {containers: [{name: c, image: x, securityContext: {privileged: true}}]}
`, home, shop))
	user := "system:serviceaccount:" + home + ":audit"
	bucket := s3test.New(t, "audits", false)
	environ := []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey, "ESCAPE_SCANNER_CLUSTER_NAME=prod"}
	args := []string{
		"scan", "-n", shop, "--fail-on", "none", "--allow-incomplete", "-o", "json", "-o", "sarif=s3://audits/{cluster}/{date}.sarif",
		"--s3-endpoint", bucket.URL, "--reports", "openreports",
	}
	server.Allow(t, user, "", rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods", "nodes", "namespaces"}, Verbs: []string{"list"}})

	// Without the right to write reports the outputs are there, and the end tells.
	refused := inPod(t, server, home, "audit", environ, args...)
	if refused.code != exitUsage || !strings.Contains(refused.stderr, "error: reports: ") || !strings.Contains(refused.stderr, "forbidden") {
		t.Errorf("without rights: exit %d: %s", refused.code, refused.stderr)
	}
	server.Allow(t, user, shop, kube.WatchRights(kube.WatchReports)...)
	result := inPod(t, server, home, "audit", environ, args...)
	if result.code != exitOK {
		t.Fatalf("exit %d: %s", result.code, result.stderr)
	}
	var run struct {
		Start struct{ Cluster string }
	}
	if err := json.Unmarshal([]byte(result.stdout), &run); err != nil || run.Start.Cluster != "prod" {
		t.Errorf("the cluster is %q (%v)", run.Start.Cluster, err)
	}
	objects := bucket.Objects()
	for key, object := range objects {
		if !strings.HasPrefix(key, "prod/20") || !strings.Contains(string(object.Body), `"escape-scanner/prod/"`) {
			t.Errorf("object %s of %d bytes", key, len(object.Body))
		}
	}
	if len(objects) == 0 || !strings.Contains(result.stderr, "note: wrote s3://audits/prod/") {
		t.Errorf("%d objects: %s", len(objects), result.stderr)
	}
	if text := result.stdout + result.stderr + refused.stderr; strings.Contains(text, s3test.SecretKey) {
		t.Error("the secret is told")
	}

	// The same again changes nothing; what is gone loses its report, and only that.
	before := reportVersions(t, server, shop)
	if len(before) != 1 {
		t.Fatalf("%d reports", len(before))
	}
	if again := inPod(t, server, home, "audit", environ, args...); again.code != exitOK {
		t.Fatalf("again: exit %d: %s", again.code, again.stderr)
	}
	if after := reportVersions(t, server, shop); !slices.Equal(before, after) {
		t.Errorf("a run that found the same wrote: %v, then %v", before, after)
	}
	if err := server.Client().CoreV1().Pods(shop).Delete(t.Context(), "out", metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}); err != nil {
		t.Fatal(err)
	}
	if elsewhere := inPod(t, server, home, "audit", environ, append(args, "-l", "app=none")...); elsewhere.code != exitOK || len(reportVersions(t, server, shop)) != 1 {
		t.Errorf("a run that did not look: exit %d, %d reports", elsewhere.code, len(reportVersions(t, server, shop)))
	}
	if gone := inPod(t, server, home, "audit", environ, args...); gone.code != exitOK || len(reportVersions(t, server, shop)) != 0 {
		t.Errorf("what is gone: exit %d, %d reports: %s", gone.code, len(reportVersions(t, server, shop)), gone.stderr)
	}

	// What is wrong is told before anything is read.
	for want, more := range map[string][]string{
		"NoSuchBucket": {"-o", "html=s3://another/x"},
		"wgpolicyk8s.io/v1alpha2, which reports are to be written as": {"--reports", "policyreport"},
	} {
		if r := inPod(t, server, home, "audit", environ, append(slices.Clone(args), more...)...); r.code != exitUsage || !strings.Contains(r.stderr, want) || r.stdout != "" {
			t.Errorf("%q: exit %d: %s", more, r.code, r.stderr)
		}
	}
}

// reportVersions are the reports of a namespace, each with its version.
func reportVersions(t *testing.T, server *kubetest.Server, namespace string) []string {
	t.Helper()
	client, err := dynamic.NewForConfig(server.Config())
	if err != nil {
		t.Fatal(err)
	}
	list, err := client.Resource(schema.GroupVersionResource{Group: "openreports.io", Version: "v1alpha1", Resource: "reports"}).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, nameAndVersion(&item))
	}
	return names
}

func nameAndVersion(u *unstructured.Unstructured) string {
	return u.GetName() + " " + u.GetResourceVersion()
}
