package armor_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Whatever a test watched, nothing of it is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// relay is a relay of KubeArmor's that tells what it is given.
type relay struct {
	protobuf.UnimplementedLogServiceServer
	// tell sends the alerts; the stream ends when it returns.
	tell  func(stream grpc.ServerStreamingServer[protobuf.Alert]) error
	wrong int32
}

func (r *relay) HealthCheck(_ context.Context, nonce *protobuf.NonceMessage) (*protobuf.ReplyMessage, error) {
	return &protobuf.ReplyMessage{Retval: nonce.GetNonce() + r.wrong}, nil
}

func (r *relay) WatchAlerts(request *protobuf.RequestMessage, stream grpc.ServerStreamingServer[protobuf.Alert]) error {
	if request.GetFilter() != "policy" {
		return nil // As a real one does.
	}
	return r.tell(stream)
}

// replay tells the alerts, and nothing more until the client goes.
func replay(alerts []*protobuf.Alert) func(grpc.ServerStreamingServer[protobuf.Alert]) error {
	return func(stream grpc.ServerStreamingServer[protobuf.Alert]) error {
		for _, a := range alerts {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		return nil
	}
}

// start starts a relay, which ends with the test.
func start(t *testing.T, r *relay, wrap func(net.Listener) net.Listener, options ...grpc.ServerOption) reader.Target {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if wrap != nil {
		listener = wrap(listener)
	}
	server := grpc.NewServer(options...)
	if r != nil {
		protobuf.RegisterLogServiceServer(server, r)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	return reader.Target{Address: address}
}

var errEnough = errors.New("enough")

// watchFor watches until so many alerts have come.
func watchFor(t *testing.T, target reader.Target, n int) ([]armor.Alert, error) {
	t.Helper()
	var alerts []armor.Alert
	err := reader.Watch(t.Context(), target, func(a armor.Alert) error {
		if alerts = append(alerts, a); len(alerts) == n {
			return errEnough
		}
		return nil
	})
	return alerts, err
}

// Every alert of the recordings arrives, in order, and as it is read from the file.
func TestWatch(t *testing.T) {
	t.Parallel()
	for _, file := range recordings(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			sent := messages(t, file)
			var connected atomic.Int32
			target := start(t, &relay{tell: replay(sent)}, nil)
			target.Connected = func() { connected.Add(1) }
			got, err := watchFor(t, target, len(sent))
			if !errors.Is(err, errEnough) || connected.Load() != 1 {
				t.Errorf("connected %d times: %v", connected.Load(), err)
			}
			if len(got) != len(sent) {
				t.Fatalf("%d alerts, want %d", len(got), len(sent))
			}
			for i := range got {
				if want := reader.DecodeAlert(sent[i]); !sameAlert(got[i], want) {
					t.Errorf("alert %d\n%+v\nwant\n%+v", i, got[i], want)
				}
			}
		})
	}
}

// A flood is taken at the visitor's pace; nothing is dropped on this side.
func TestWatchFlood(t *testing.T) {
	t.Parallel()
	var flood []*protobuf.Alert
	one := messages(t, "testdata/smoke.jsonl")[0]
	for range 20_000 {
		flood = append(flood, one)
	}
	got, err := watchFor(t, start(t, &relay{tell: replay(flood)}, nil), len(flood))
	if !errors.Is(err, errEnough) || len(got) != len(flood) {
		t.Errorf("%d alerts of %d: %v", len(got), len(flood), err)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	mute := func(t *testing.T) reader.Target {
		t.Helper()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		return reader.Target{Address: listener.Addr().String()}
	}
	cause := errors.New("the user is gone")
	for _, test := range []struct {
		name   string
		target func(*testing.T) reader.Target
		// when is waited for before the context ends; nil for at once.
		connected bool
	}{
		{"while nothing is told", func(t *testing.T) reader.Target { t.Helper(); return start(t, &relay{tell: replay(nil)}, nil) }, true},
		{"while nobody answers", mute, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			target := test.target(t)
			dialed := make(chan struct{}, 8)
			if test.connected {
				target.Connected = func() { dialed <- struct{}{} }
			} else {
				target.Dial = func(ctx context.Context, address string) (net.Conn, error) {
					conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
					dialed <- struct{}{}
					return conn, err
				}
			}
			ended := make(chan error, 1)
			go func() { ended <- reader.Watch(ctx, target, func(armor.Alert) error { return nil }) }()
			<-dialed
			cancel(cause)
			if err := <-ended; !errors.Is(err, cause) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Who takes the connection and never answers is given up. Time is made up here.
func TestWatchOfSomebodyMute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var taken []net.Conn
		target := reader.Target{Address: "relay:32767", Dial: func(context.Context, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			taken = append(taken, theirs)
			go func() { _, _ = io.Copy(io.Discard, theirs) }()
			return ours, nil
		}}
		began := time.Now()
		_, err := watchFor(t, target, 1)
		if err == nil || !strings.Contains(err.Error(), "KubeArmor at relay:32767: ") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("gave up after %v", took)
		}
		for _, conn := range taken {
			_ = conn.Close()
		}
	})
}

// cutting closes a connection when so many bytes were written to it.
type cutting struct {
	net.Listener
	after int64
}

func (l cutting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &cutConn{Conn: conn}
	c.left.Store(l.after)
	return c, nil
}

type cutConn struct {
	net.Conn
	left atomic.Int64
}

func (c *cutConn) Write(p []byte) (int, error) {
	left := c.left.Add(-int64(len(p)))
	if left >= 0 {
		return c.Conn.Write(p)
	}
	n, _ := c.Conn.Write(p[:max(0, len(p)+int(left))])
	_ = c.Conn.Close()
	return n, net.ErrClosed
}

// A connection that breaks, wherever, is an error, and what came before it came whole.
func TestWatchIsCut(t *testing.T) {
	t.Parallel()
	sent := messages(t, "testdata/burst.jsonl")
	for _, after := range []int64{0, 10, 100, 500, 1000, 1500, 2500, 4000} {
		target := start(t, &relay{tell: replay(sent)}, func(l net.Listener) net.Listener { return cutting{l, after} })
		got, err := watchFor(t, target, len(sent)+1)
		if err == nil || errors.Is(err, errEnough) || errors.Is(err, reader.ErrStreamEnded) || !strings.HasPrefix(err.Error(), "KubeArmor at "+target.Address) {
			t.Errorf("cut after %d bytes: got %v", after, err)
		}
		if len(got) >= len(sent) {
			t.Errorf("cut after %d bytes: all %d alerts came", after, len(got))
		}
		for i := range got {
			if want := reader.DecodeAlert(sent[i]); !sameAlert(got[i], want) {
				t.Errorf("cut after %d bytes: alert %d\n%+v\nwant\n%+v", after, i, got[i], want)
			}
		}
	}
}

func TestWatchErrors(t *testing.T) {
	t.Parallel()
	closed := func(t *testing.T) reader.Target {
		t.Helper()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		return reader.Target{Address: listener.Addr().String()}
	}
	huge := &protobuf.Alert{Type: "MatchedPolicy", Resource: strings.Repeat("x", 2<<20)}
	secured := httptest.NewTLSServer(nil)
	t.Cleanup(secured.Close)
	withTLS := grpc.Creds(credentials.NewServerTLSFromCert(&secured.TLS.Certificates[0]))
	for _, test := range []struct {
		name   string
		target func(*testing.T) reader.Target
		want   string
	}{
		{"nobody is there", closed, "connection refused"},
		{"the stream is ended", func(t *testing.T) reader.Target {
			t.Helper()
			return start(t, &relay{tell: func(grpc.ServerStreamingServer[protobuf.Alert]) error { return nil }}, nil)
		}, reader.ErrStreamEnded.Error()},
		{"an alert that is too large", func(t *testing.T) reader.Target {
			t.Helper()
			return start(t, &relay{tell: replay([]*protobuf.Alert{huge})}, nil)
		}, "ResourceExhausted: "},
		{"another service", func(t *testing.T) reader.Target { t.Helper(); return start(t, nil, nil) }, "Unimplemented: unknown service feeder.LogService"},
		{"something that answers anything", func(t *testing.T) reader.Target {
			t.Helper()
			return start(t, &relay{wrong: 1, tell: replay(nil)}, nil)
		}, "what answers there is not KubeArmor"},
		{"TLS that was not expected", func(t *testing.T) reader.Target {
			t.Helper()
			return start(t, &relay{tell: replay(nil)}, nil, withTLS)
		}, "does it want TLS"},
		{"a certificate that nobody knows", func(t *testing.T) reader.Target {
			t.Helper()
			target := start(t, &relay{tell: replay(nil)}, nil, withTLS)
			target.TLS = &tls.Config{}
			return target
		}, "certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			target := test.target(t)
			got, err := watchFor(t, target, 1)
			if err == nil || len(got) > 0 || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "rpc error") {
				t.Errorf("%d alerts: %v", len(got), err)
			}
		})
	}
}

func TestWatchWithTLS(t *testing.T) {
	t.Parallel()
	secured := httptest.NewTLSServer(nil)
	t.Cleanup(secured.Close)
	sent := messages(t, "testdata/burst.jsonl")
	target := start(t, &relay{tell: replay(sent)}, nil, grpc.Creds(credentials.NewServerTLSFromCert(&secured.TLS.Certificates[0])))
	roots := x509.NewCertPool()
	roots.AddCert(secured.Certificate())
	target.TLS = &tls.Config{RootCAs: roots, ServerName: "example.com"}
	if got, err := watchFor(t, target, len(sent)); !errors.Is(err, errEnough) {
		t.Errorf("%d alerts: %v", len(got), err)
	}
}
