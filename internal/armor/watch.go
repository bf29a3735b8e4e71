package armor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/escape-scanner/escape-scanner/scan/armor"
)

const (
	// answerTimeout is how long the relay may take to answer at first.
	answerTimeout = 20 * time.Second
	// pingInterval is more than the five minutes in which a relay takes one ping: it
	// hangs up on who asks more often. It pings by itself every second, and TCP notices
	// a machine that is gone.
	pingInterval = 6 * time.Minute
)

// Target is where alerts come from: KubeArmor's relay, or one of its agents.
type Target struct {
	// Address is HOST:PORT.
	Address string
	// Dial connects to the address; nil for TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// TLS is how the connection is secured; nil for not at all, KubeArmor's default.
	TLS *tls.Config
	// Connected, where not nil, is called as soon as alerts are asked for: what happened
	// before is never told.
	Connected func()
}

// ErrStreamEnded says that the other side has ended the stream of alerts.
var ErrStreamEnded = errors.New("the stream of alerts was ended by KubeArmor")

// Watch calls visit with every alert as it comes, until the context ends, the
// connection breaks, or visit fails. It never returns nil: the error is the context's,
// ErrStreamEnded, that of the connection, or visit's as it is. Nothing of it is left
// when it returns. visit has to be quick: the relay holds one alert for each client and
// drops, without a word, what comes meanwhile.
func Watch(ctx context.Context, target Target, visit func(armor.Alert) error) error {
	conn, err := dial(target)
	if err != nil {
		return fmt.Errorf("KubeArmor at %s: %w", target.Address, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	err = watch(ctx, protobuf.NewLogServiceClient(conn), target, visit)
	var stopped visitError
	switch {
	case errors.As(err, &stopped):
		return stopped.err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("KubeArmor at %s: %w", target.Address, err)
}

// visitError is an error of the visitor, whatever its kind.
type visitError struct{ err error }

func (e visitError) Error() string { return e.err.Error() }

func dial(target Target) (*grpc.ClientConn, error) {
	secured := insecure.NewCredentials()
	if target.TLS != nil {
		secured = credentials.NewTLS(target.TLS)
	}
	connect := target.Dial
	if connect == nil {
		dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
		connect = func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}
	}
	return grpc.NewClient("passthrough:///"+target.Address,
		grpc.WithTransportCredentials(secured),
		grpc.WithContextDialer(connect),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: answerTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAlert)),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
	)
}

func watch(ctx context.Context, client protobuf.LogServiceClient, target Target, visit func(armor.Alert) error) error {
	if err := healthy(ctx, client); err != nil {
		return err
	}
	// Without a filter that it knows, the relay ends the stream at once.
	stream, err := client.WatchAlerts(ctx, &protobuf.RequestMessage{Filter: "policy"})
	if err != nil {
		return said(err)
	}
	if target.Connected != nil {
		target.Connected()
	}
	for {
		message, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return ErrStreamEnded
		case err != nil:
			return said(err)
		}
		if err := visit(DecodeAlert(message)); err != nil {
			return visitError{err}
		}
	}
}

// healthy asks whether KubeArmor is there at all. The stream would not tell: it says
// nothing before the first alert.
func healthy(ctx context.Context, client protobuf.LogServiceClient) error {
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	nonce := rand.Int32()
	answer, err := client.HealthCheck(asking, &protobuf.NonceMessage{Nonce: nonce})
	switch {
	case status.Code(err) == codes.Unimplemented:
		// The service is deprecated and may go. The stream is asked for all the same.
		return nil
	case err != nil && asking.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("no answer in %s: %w", answerTimeout, said(err))
	case err != nil:
		return said(err)
	case answer.GetRetval() != nonce:
		return errors.New("what answers there is not KubeArmor")
	}
	return nil
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
