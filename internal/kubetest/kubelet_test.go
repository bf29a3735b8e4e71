package kubetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

func TestKubeletServesExecAndLogsBehindTheAPIServer(t *testing.T) {
	server := cluster.Server(t)
	namespace := server.Namespace(t, nil)
	kubelet := &kubetest.Kubelet{
		Run: func(_ context.Context, c kubetest.Command) (int, error) {
			if c.Args[0] == "missing" {
				return 0, errors.New(`exec: "missing": executable file not found in $PATH`)
			}
			in, err := io.ReadAll(c.Stdin)
			_, _ = io.WriteString(c.Stdout, strings.Join(c.Args, " ")+" "+string(in)+" in "+c.Pod+"/"+c.Container)
			_, _ = io.WriteString(c.Stderr, "complaint")
			return 3, err
		},
		Logs: func(namespace, pod, container string) (string, error) {
			return strings.Join([]string{namespace, pod, container}, "/"), nil
		},
	}
	kubelet.Start(t)
	kubelet.Serve(t, server, "kubelet-node")
	pod := privilegedPod()
	pod.Spec.NodeName = "kubelet-node"
	if err := createPod(t, server.Config(), namespace, pod); err != nil {
		t.Fatal(err)
	}
	pods, err := server.Client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Fatal(err)
	}
	name, container := pods.Items[0].Name, pods.Items[0].Spec.Containers[0].Name

	text, err := server.Client().CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if want := namespace + "/" + name + "/" + container; err != nil || string(text) != want {
		t.Errorf("logs %q, want %q (%v)", text, want, err)
	}

	run := func(args ...string) (stdout, stderr string, err error) {
		url := server.Client().CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(name).SubResource("exec").
			VersionedParams(&corev1.PodExecOptions{Command: args, Stdin: true, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
		executor, err := remotecommand.NewWebSocketExecutor(server.Config(), "GET", url.String())
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		err = executor.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("input"), Stdout: &out, Stderr: &errs})
		return out.String(), errs.String(), err
	}
	stdout, stderr, err := run("echo", "a b")
	var exit clientexec.CodeExitError
	if want := "echo a b input in " + name + "/" + container; stdout != want || stderr != "complaint" || !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("exec gave %q, %q and %v", stdout, stderr, err)
	}
	if _, _, err := run("missing"); err == nil || errors.As(err, &exit) || !strings.Contains(err.Error(), "not found in $PATH") {
		t.Errorf("a command that is not there: %v", err)
	}
}
