package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// Thirty namespaces of a real cluster, in three and in seven parts: what merge writes is
// what one scan writes, to the byte and in every format.
func TestLiveShards(t *testing.T) {
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.KubeArmor)
	crowd := kubetest.Crowd{Namespaces: 30, Deployments: 32, ReplicaSets: 1, Pods: 2}
	crowd.Create(t, server)
	server.ApplyYAML(t, `
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: caps, namespace: team-003}
spec:
  selector: {matchLabels: {app.kubernetes.io/part-of: crowd}}
  capabilities: {matchCapabilities: [{capability: sys_admin}]}
  action: Block
---
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: nobody, namespace: team-004}
spec:
  selector: {matchLabels: {no: such}}
  capabilities: {matchCapabilities: [{capability: sys_admin}]}
  action: Block
`)
	kubeconfig := kubetest.Kubeconfig(t, server.Config())
	dir := t.TempDir()
	outputs := []string{"json", "jsonl", "sarif", "html"}
	runIn := func(want string, args ...string) {
		t.Helper()
		for _, format := range outputs {
			args = append(args, "-o", format+"="+filepath.Join(dir, want+"."+format))
		}
		code, stdout, stderr := invoke(t.Context(), testDeps(dir), bytes.NewReader(nil), append(args, "-o", "table")...)
		if code != exitFindings {
			t.Fatalf("%s: exit %d\n%s", want, code, stderr)
		}
		if err := os.WriteFile(filepath.Join(dir, want+".table"), []byte(stdout), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	runIn("whole", "scan", "--kubeconfig", kubeconfig)
	for _, n := range []int{3, 7} {
		args := []string{"merge"}
		for i := range n {
			file := fmt.Sprintf("%d-%d.jsonl", n, i)
			d := testDeps(dir)
			d.environ = []string{fmt.Sprintf("%s=%d", envJobIndex, i)}
			code, _, stderr := invoke(t.Context(), d, bytes.NewReader(nil), "scan", "--kubeconfig", kubeconfig, "--shards", fmt.Sprint(n), "-o", "jsonl="+file)
			if code != exitOK {
				t.Fatalf("part %d of %d: exit %d\n%s", i, n, code, stderr)
			}
			args = append(args, file)
		}
		runIn("joined", args...)
		for _, format := range append(outputs, "table") {
			want, got := mustRead(t, filepath.Join(dir, "whole."+format)), mustRead(t, filepath.Join(dir, "joined."+format))
			if !bytes.Equal(want, got) {
				at := 0
				for at < min(len(want), len(got)) && want[at] == got[at] {
					at++
				}
				t.Errorf("%d parts, %s: differs at byte %d of %d: %q, want %q", n, format, at, len(want), got[at:min(at+200, len(got))], want[at:min(at+200, len(want))])
			}
		}
	}
	refusesOtherLooks(t, kubeconfig)
}

// refusesOtherLooks: parts of which one looked closer than the next are no run.
func refusesOtherLooks(t *testing.T, kubeconfig string) {
	t.Helper()
	dir := t.TempDir()
	for i, flags := range [][]string{{"--ask-server"}, {"--node-probe-logs=kube-system"}, {"--node-probe-logs=default"}} {
		args := append([]string{"scan", "--kubeconfig", kubeconfig, "--allow-incomplete", fmt.Sprintf("--shard=%d/3", i), "-o", fmt.Sprintf("jsonl=%d.jsonl", i)}, flags...)
		if code, _, stderr := invoke(t.Context(), testDeps(dir), bytes.NewReader(nil), args...); code != exitOK {
			t.Fatalf("part %d: exit %d\n%s", i, code, stderr)
		}
	}
	for _, test := range []struct{ first, second, want string }{
		{"0", "1", `["--ask-server"] and ["--node-probe-logs=kube-system"]`},
		{"1", "2", `["--node-probe-logs=kube-system"] and ["--node-probe-logs=default"]`},
	} {
		code, _, stderr := invoke(t.Context(), testDeps(dir), bytes.NewReader(nil), "merge", test.first+".jsonl", test.second+".jsonl")
		if code != exitUsage || !strings.Contains(stderr, test.first+".jsonl and "+test.second+".jsonl are not of one run: flags to look closer "+test.want) {
			t.Errorf("exit %d: %s", code, stderr)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
