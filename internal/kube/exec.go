package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	clientexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// maxStderr is how much of a command's complaints an error quotes.
const maxStderr = 512

// errTooLong ends a command that writes more than is wanted.
var errTooLong = errors.New("it wrote more than it should")

// Exec runs a command in a container and returns what it writes to standard output:
// at most limit bytes, and an error where it is more. It takes no longer than one
// request may.
func (c *Cluster) Exec(ctx context.Context, namespace, pod, container string, command []string, limit int64) ([]byte, error) {
	return c.exec(ctx, place{namespace, pod, container}, command, "", limit)
}

// place is one container.
type place struct{ namespace, pod, container string }

func (p place) String() string {
	return fmt.Sprintf("exec in pod %s/%s, container %s", p.namespace, p.pod, p.container)
}

func (c *Cluster) exec(ctx context.Context, at place, command []string, stdin string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	// A copier that fails stops to read, and the command would wait for it: the
	// command is ended instead.
	stdout := &boundedBuffer{limit: limit, full: func() { stop(errTooLong) }}
	stderr := &boundedBuffer{limit: maxStderr, full: func() {}}
	streams := remotecommand.StreamOptions{Stdout: stdout, Stderr: stderr}
	if stdin != "" {
		streams.Stdin = strings.NewReader(stdin)
	}
	// Neither protocol heeds the context while it connects. What hangs then is left
	// behind, with all that it may still write to.
	done := make(chan error, 1)
	go func() { done <- c.stream(ctx, at, command, streams) }()
	var err error
	select {
	case err = <-done:
		if cause := context.Cause(ctx); errors.Is(cause, errTooLong) || err != nil && cause != nil {
			err = cause
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		if said := strings.TrimSpace(strings.ToValidUTF8(string(stderr.taken()), "�")); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return stdout.taken(), nil
}

// stream speaks WebSocket, and SPDY with servers before 1.30 and where something on
// the way does not let WebSocket through, as kubectl does. Before 1.35 the two need
// different rights: get for the one and create for the other.
func (c *Cluster) stream(ctx context.Context, at place, command []string, streams remotecommand.StreamOptions) error {
	url := c.client.CoreV1().RESTClient().Post().Timeout(0).
		Namespace(at.namespace).Resource("pods").Name(at.pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: at.container, Command: command, Stdin: streams.Stdin != nil, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec).URL()
	overWebSocket, err := remotecommand.NewWebSocketExecutor(c.config, "GET", url.String())
	if err != nil {
		return err
	}
	refusal, again := spdyInstead(overWebSocket.StreamWithContext(ctx, streams))
	if !again {
		return refusal
	}
	overSPDY, err := remotecommand.NewSPDYExecutor(c.config, "POST", url)
	if err != nil {
		return err
	}
	return retold(overSPDY.StreamWithContext(ctx, streams), refusal)
}

// spdyInstead tells whether SPDY may do what WebSocket could not, and otherwise what
// the error is.
func spdyInstead(err error) (refusal error, again bool) {
	refused, ok := errors.AsType[*httpstream.UpgradeFailureError](err)
	if !ok {
		return err, httpstream.IsHTTPSProxyError(err)
	}
	if apierrors.IsNotFound(refused.Cause) || apierrors.IsUnauthorized(refused.Cause) {
		return refused.Cause, false
	}
	return refused.Cause, true
}

// retold is an error of SPDY, which of the API server's refusal keeps no more than the
// words, with what WebSocket was told of the refusal's kind.
func retold(err, refusal error) error {
	var status apierrors.APIStatus
	if err == nil || !errors.As(refusal, &status) {
		return err
	}
	if message, ok := strings.CutPrefix(err.Error(), "unable to upgrade connection: "); ok {
		s := status.Status()
		s.Message = message
		return &apierrors.StatusError{ErrStatus: s}
	}
	return err
}

// boundedBuffer takes so many bytes, drops the rest, and tells once that there is a
// rest. client-go may still write to it when it has returned.
type boundedBuffer struct {
	limit int64
	full  func()

	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.limit - int64(b.buffer.Len())
	if int64(len(p)) > room {
		b.buffer.Write(p[:room])
		b.full()
		return len(p), nil
	}
	return b.buffer.Write(p)
}

func (b *boundedBuffer) taken() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buffer.Bytes())
}

// noSuchCommand reports whether the container lacks the command that was to run.
// Runtimes say so in words of their own, or by the exit codes of a shell.
func noSuchCommand(err error) bool {
	if exit, ok := errors.AsType[clientexec.CodeExitError](err); ok {
		return exit.Code == 126 || exit.Code == 127
	}
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "executable file") && strings.Contains(text, "not found") ||
		strings.Contains(text, "no such file or directory")
}
