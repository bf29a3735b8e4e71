package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

const (
	// maxComplaint is how much is quoted of why a pod's port cannot be reached, and
	// complaintTime how long a connection that ended waits for it.
	maxComplaint  = 512
	complaintTime = time.Second
)

// DialPod connects to a port of a pod through the API server, as kubectl port-forward
// does, but opens no port here. Only the context of dialling is bound to ctx.
func (c *Cluster) DialPod(ctx context.Context, namespace, pod string, port int) (net.Conn, error) {
	what := fmt.Sprintf("port %d of pod %s/%s", port, namespace, pod)
	dialing, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	type dialed struct {
		conn *podConn
		err  error
	}
	// Neither protocol heeds a context. What connects too late is closed.
	done := make(chan dialed)
	go func() {
		conn, err := c.forward(podAddr(what), namespace, pod, port)
		select {
		case done <- dialed{conn, err}:
		case <-dialing.Done():
			if err == nil {
				_ = conn.Close() // Nobody has it, so nobody asks.
			}
		}
	}()
	select {
	case d := <-done:
		if d.err != nil {
			return nil, fmt.Errorf("%s: %w", what, d.err)
		}
		return d.conn, nil
	case <-dialing.Done():
		return nil, fmt.Errorf("%s: %w", what, context.Cause(dialing))
	}
}

// forward speaks SPDY through WebSocket, and SPDY alone with servers before 1.31 and
// where something on the way does not let WebSocket through.
func (c *Cluster) forward(name podAddr, namespace, pod string, port int) (*podConn, error) {
	url := c.client.CoreV1().RESTClient().Post().Timeout(0).
		Namespace(namespace).Resource("pods").Name(pod).SubResource("portforward").URL()
	overWebSocket, err := portforward.NewSPDYOverWebsocketDialerForStreaming(url, c.config)
	if err != nil {
		return nil, err
	}
	conn, protocol, err := overWebSocket.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		refusal, again := spdyInstead(err)
		if !again {
			return nil, refusal
		}
		transport, upgrader, err := spdy.RoundTripperFor(c.config)
		if err != nil {
			return nil, err
		}
		overSPDY := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
		conn, protocol, err = overSPDY.Dial(portforward.PortForwardProtocolV1Name)
		if err != nil {
			return nil, retold(err, refusal)
		}
	}
	if protocol != portforward.PortForwardProtocolV1Name {
		return nil, errors.Join(fmt.Errorf("the API server speaks %q, not %q", protocol, portforward.PortForwardProtocolV1Name), conn.Close())
	}
	return newPodConn(name, conn, port)
}

// podConn is one connection to a pod's port: a stream of a connection to the API
// server that carries nothing else.
type podConn struct {
	name podAddr
	conn httpstream.Connection
	data httpstream.Stream

	// complained is closed when complaint is what the other side had to say.
	complained chan struct{}
	complaint  string

	close    sync.Once
	mu       sync.Mutex
	expired  bool
	readers  *time.Timer
	writers  *time.Timer
	closeErr error
}

var _ net.Conn = (*podConn)(nil)

func newPodConn(name podAddr, conn httpstream.Connection, port int) (*podConn, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(port))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	complaints, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	// Nothing is written to it.
	_ = complaints.Close()
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	p := &podConn{name: name, conn: conn, data: data, complained: make(chan struct{})}
	go func() {
		defer close(p.complained)
		text, _ := io.ReadAll(io.LimitReader(complaints, maxComplaint)) // What it said before it broke is all there is.
		p.complaint = strings.TrimSpace(strings.ToValidUTF8(string(text), "�"))
		if p.complaint != "" {
			_ = p.data.Reset() // Whoever reads shall not wait for data.
		}
	}()
	return p, nil
}

// Read implements net.Conn. A connection that ended because the port could not be
// reached says so.
func (p *podConn) Read(b []byte) (int, error) {
	n, err := p.data.Read(b)
	if err == nil || n > 0 {
		return n, err
	}
	// A kubelet says what is wrong before it ends its streams, but which of them ends
	// first here is chance.
	wait := time.NewTimer(complaintTime)
	defer wait.Stop()
	select {
	case <-p.complained:
	case <-wait.C:
	}
	return 0, p.why(err)
}

// Write implements net.Conn.
func (p *podConn) Write(b []byte) (int, error) {
	n, err := p.data.Write(b)
	if err != nil {
		err = p.why(err)
	}
	return n, err
}

// why is the reason behind an error of the stream.
func (p *podConn) why(err error) error {
	p.mu.Lock()
	expired := p.expired
	p.mu.Unlock()
	if expired {
		return os.ErrDeadlineExceeded
	}
	select {
	case <-p.complained:
		if p.complaint != "" {
			return fmt.Errorf("%s: %s", p.name, p.complaint)
		}
	default:
	}
	return err
}

// Close implements net.Conn.
func (p *podConn) Close() error {
	p.close.Do(func() {
		_ = p.SetDeadline(time.Time{})
		_ = p.data.Reset() // The whole connection ends anyway.
		p.closeErr = p.conn.Close()
		<-p.complained
	})
	return p.closeErr
}

// LocalAddr implements net.Conn.
func (p *podConn) LocalAddr() net.Addr { return podAddr("the API server") }

// RemoteAddr implements net.Conn.
func (p *podConn) RemoteAddr() net.Addr { return p.name }

// SetDeadline implements net.Conn. A deadline that passes ends the connection: streams
// know none.
func (p *podConn) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn, as SetDeadline says.
func (p *podConn) SetReadDeadline(t time.Time) error { return p.endAt(&p.readers, t) }

// SetWriteDeadline implements net.Conn, as SetDeadline says.
func (p *podConn) SetWriteDeadline(t time.Time) error { return p.endAt(&p.writers, t) }

func (p *podConn) endAt(timer **time.Timer, t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	if !t.IsZero() {
		*timer = time.AfterFunc(time.Until(t), p.expire)
	}
	return nil
}

func (p *podConn) expire() {
	p.mu.Lock()
	p.expired = true
	p.mu.Unlock()
	_ = p.data.Reset()
}

// podAddr names a port of a pod.
type podAddr string

// Network implements net.Addr.
func (podAddr) Network() string { return "pod" }

func (a podAddr) String() string { return string(a) }
