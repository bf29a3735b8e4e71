package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
