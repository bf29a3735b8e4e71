package armor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const (
	// pingInterval is more than the five minutes in which a relay takes one ping: it
	// hangs up on who asks more often. It pings by itself every second, TCP notices a
	// machine that is gone, and a session asks for more.
	pingInterval = 6 * time.Minute
	// window is how much may be on its way to us. The relay drops alerts when it has to
	// wait: it shall not have to.
	window = 1 << 20
)

// Target is where alerts come from: KubeArmor's relay, or one of its agents.
type Target struct {
	// Address is HOST:PORT.
	Address string
	// Dial connects to the address; nil for TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// TLS is how the connection is secured; nil for not at all, KubeArmor's default.
	TLS *tls.Config
	// Secure, where not nil, says so anew for each connection, in place of TLS:
	// certificates are changed while somebody watches.
	Secure func(ctx context.Context) (*tls.Config, error)
}

func (t *Target) secured(ctx context.Context) (*tls.Config, error) {
	if t.Secure == nil {
		return t.TLS, nil
	}
	return t.Secure(ctx)
}

// connection is a connection of gRPC's that knows when the other side was last heard of
// and what dialling it said.
type connection struct {
	*grpc.ClientConn
	last    atomic.Int64
	dialErr atomic.Pointer[error]
	secured bool
}

func dial(ctx context.Context, target Target) (*connection, error) {
	config, err := target.secured(ctx)
	if err != nil {
		return nil, err
	}
	secured := insecure.NewCredentials()
	if config != nil {
		secured = credentials.NewTLS(config)
	}
	connect := target.Dial
	if connect == nil {
		dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
		connect = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	c := &connection{secured: config != nil}
	c.ClientConn, err = grpc.NewClient("passthrough:///"+target.Address,
		grpc.WithTransportCredentials(secured),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := connect(ctx, address)
			if err != nil {
				c.dialErr.Store(&err)
				return nil, err
			}
			return &heardConn{Conn: conn, last: &c.last}, nil
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: answerTimeout}),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAlert)),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
	)
	return c, err
}

// heard is when something last came from the other side, zero where nothing ever did.
func (c *connection) heard() time.Time {
	if last := c.last.Load(); last > 0 {
		return time.Unix(0, last)
	}
	return time.Time{}
}

// why is the reason behind an error, as far as it is known here; up is true where the
// connection was one.
func (c *connection) why(err error, up bool) error {
	if up || status.Code(err) != codes.Unavailable {
		return err
	}
	// gRPC makes words of what dialling said.
	if dialErr := c.dialErr.Load(); dialErr != nil && c.last.Load() == 0 {
		return *dialErr
	}
	// Since TLS 1.3 a server judges the client's certificate when the client is content
	// already, and what it says may be lost as it hangs up.
	if c.secured && c.last.Load() > 0 && !strings.Contains(err.Error(), "handshake") {
		return fmt.Errorf("%w (does it take our certificate?)", err)
	}
	return err
}

// heardConn notes when something was read of it.
type heardConn struct {
	net.Conn
	last *atomic.Int64
}

// Read implements net.Conn.
func (c *heardConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.last.Store(time.Now().UnixNano())
	}
	return n, err
}

// said makes an error of gRPC one that speaks for itself.
func said(err error) error {
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	return &grpcError{status: s, err: err}
}

// grpcError is an error of gRPC without the words that tell that it is one.
type grpcError struct {
	status *status.Status
	err    error
}

func (e *grpcError) Error() string {
	if e.status.Code() == codes.Unavailable {
		message := e.status.Message()
		if strings.Contains(message, "server preface") {
			message += " (does it want TLS, or not want it?)"
		}
		return message
	}
	return e.status.Code().String() + ": " + e.status.Message()
}

func (e *grpcError) Unwrap() error { return e.err }
