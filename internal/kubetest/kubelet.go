package kubetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Command is a command that somebody runs in a container through the API server.
type Command struct {
	Namespace, Pod, Container string
	Args                      []string
	// Stdin is empty where the client gives none.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Kubelet is the part of a kubelet that the API server talks to: it runs commands
// in containers, gives their logs and forwards their ports, as the functions say. It is no part of a
// node otherwise: tests make pods and their status themselves.
type Kubelet struct {
	// Run runs a command and returns its exit code. An error is one of the container
	// runtime, which could not start it. The context ends with the connection.
	Run func(ctx context.Context, c Command) (code int, err error)
	// Logs are what a container wrote.
	Logs func(namespace, pod, container string) (string, error)
	// Forward serves a connection to a port of a pod until it is over. An error is told
	// to the client. The context ends with the connection.
	Forward func(ctx context.Context, c PortConn) error

	server *httptest.Server
	// ended is closed when the test ends, for what still runs then.
	ended    context.Context
	commands sync.WaitGroup
}

// Start begins to serve; it ends with the test.
func (k *Kubelet) Start(tb testing.TB) {
	tb.Helper()
	ended, end := context.WithCancel(context.WithoutCancel(tb.Context()))
	k.ended = ended
	mux := http.NewServeMux()
	mux.HandleFunc("/portForward/{namespace}/{pod}", k.forward)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.exec)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.logs)
	k.server = httptest.NewUnstartedServer(mux)
	k.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	k.server.StartTLS()
	tb.Cleanup(func() {
		end()
		k.commands.Wait()
		k.server.Close()
	})
}

// Serve makes the API server ask this kubelet about the pods of a node, which is
// made when there is none of that name and then removed when the test ends.
func (k *Kubelet) Serve(tb testing.TB, s *Server, node string) {
	tb.Helper()
	nodes := s.client.CoreV1().Nodes()
	_, err := nodes.Create(tb.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	switch {
	case err == nil:
		removeAtEnd(tb, "node "+node, nodes.Delete, node)
	case !apierrors.IsAlreadyExists(err):
		tb.Fatalf("node %s: %v", node, err)
	}
	host, port, err := net.SplitHostPort(k.server.Listener.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	patch := fmt.Sprintf(`{"status": {"addresses": [{"type": "InternalIP", "address": %q}], "daemonEndpoints": {"kubeletEndpoint": {"Port": %s}}}}`, host, port)
	if _, err := nodes.Patch(tb.Context(), node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status"); err != nil {
		tb.Fatalf("node %s: %v", node, err)
	}
}

func (k *Kubelet) logs(w http.ResponseWriter, r *http.Request) {
	text, err := k.Logs(r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	// As kubelets do it: first the last lines, then of those the first bytes.
	if tail, err := strconv.Atoi(r.URL.Query().Get("tailLines")); err == nil {
		lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
		text = strings.Join(lines[max(0, len(lines)-tail):], "")
	}
	if limit, err := strconv.Atoi(r.URL.Query().Get("limitBytes")); err == nil {
		text = text[:min(limit, len(text))]
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, text) // A client that has gone needs no answer.
}

// exec speaks what kubelets speak with API servers: a stream each for standard
// input, output, error and the outcome, in one SPDY connection.
func (k *Kubelet) exec(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return // Handshake has answered.
	}
	query := r.URL.Query()
	want := wantedStreams(query)
	arrived := make(chan httpstream.Stream, len(want))
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, replied <-chan struct{}) error {
		go func() {
			<-replied
			arrived <- stream
		}()
		return nil
	})
	if conn == nil {
		return // The upgrader has answered.
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(k.ended)
	defer cancel()
	go func() {
		select {
		case <-conn.CloseChan():
			cancel()
		case <-ctx.Done():
		}
	}()
	streams := map[string]httpstream.Stream{}
	for len(streams) < len(want) {
		select {
		case s := <-arrived:
			streams[s.Headers().Get(corev1.StreamType)] = s
		case <-ctx.Done():
			return
		case <-time.After(startTimeout):
			return
		}
	}
	k.commands.Add(1)
	defer k.commands.Done()
	command := Command{
		Namespace: r.PathValue("namespace"), Pod: r.PathValue("pod"), Container: r.PathValue("container"),
		Args: query["command"], Stdin: bytes.NewReader(nil), Stdout: io.Discard, Stderr: io.Discard,
	}
	if s := streams[corev1.StreamTypeStdin]; s != nil {
		command.Stdin = s
	}
	if s := streams[corev1.StreamTypeStdout]; s != nil {
		command.Stdout = s
	}
	if s := streams[corev1.StreamTypeStderr]; s != nil {
		command.Stderr = s
	}
	status, err := json.Marshal(outcome(k.Run(ctx, command)))
	if err != nil {
		panic(err)
	}
	_, _ = streams[corev1.StreamTypeError].Write(status) // A client that has gone needs no answer.
}

// wantedStreams are those that the client is going to open.
func wantedStreams(query url.Values) []string {
	want := []string{corev1.StreamTypeError}
	for parameter, stream := range map[string]string{
		corev1.ExecStdinParam: corev1.StreamTypeStdin, corev1.ExecStdoutParam: corev1.StreamTypeStdout, corev1.ExecStderrParam: corev1.StreamTypeStderr,
	} {
		if on := query.Get(parameter); on == "1" || strings.EqualFold(on, "true") {
			want = append(want, stream)
		}
	}
	return want
}

// outcome is what a kubelet says of a command in the end.
func outcome(code int, err error) metav1.Status {
	switch {
	case err != nil:
		return apierrors.NewInternalError(fmt.Errorf("error executing command in container: %w", err)).ErrStatus
	case code != 0:
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: remotecommand.ExitCodeCauseType, Message: strconv.Itoa(code)}}},
		}
	}
	return metav1.Status{Status: metav1.StatusSuccess}
}
