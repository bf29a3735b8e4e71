package armor_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"go.uber.org/goleak"
	"google.golang.org/grpc"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Whatever a test watched, nothing of it is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// telling starts a relay that tells the alerts, and nothing more.
func telling(t *testing.T, alerts ...*protobuf.Alert) reader.Target {
	t.Helper()
	return reader.Target{Address: armortest.New(t, armortest.Options{Alerts: alerts}).Address()}
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
			sent := armortest.Recording(t, file)
			var connected atomic.Int32
			target := telling(t, sent...)
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
	one := armortest.Recording(t, "testdata/smoke.jsonl")[0]
	for range 20_000 {
		flood = append(flood, one)
	}
	got, err := watchFor(t, telling(t, flood...), len(flood))
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
		{"while nothing is told", func(t *testing.T) reader.Target { t.Helper(); return telling(t) }, true},
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

// A connection that breaks, wherever, is an error, and what came before it came whole.
func TestWatchIsCut(t *testing.T) {
	t.Parallel()
	sent := armortest.Recording(t, "testdata/burst.jsonl")
	for _, after := range []int64{-1, 10, 100, 500, 1000, 1500, 2500, 4000} {
		relay := armortest.New(t, armortest.Options{Alerts: sent, Behaviour: armortest.Behaviour{CutAfter: after}})
		target := reader.Target{Address: relay.Address()}
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

func behaving(t *testing.T, b armortest.Behaviour) reader.Target {
	t.Helper()
	return reader.Target{Address: armortest.New(t, armortest.Options{Behaviour: b}).Address()}
}

// stranger is a server of another service.
func stranger(t *testing.T) reader.Target {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("stranger: %v", err)
		}
	})
	return reader.Target{Address: listener.Addr().String()}
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
	withTLS := armortest.NewCA(t).Server("relay")
	for _, test := range []struct {
		name   string
		target func(*testing.T) reader.Target
		want   string
	}{
		{"nobody is there", closed, "connection refused"},
		{"the stream is ended", func(t *testing.T) reader.Target {
			t.Helper()
			return behaving(t, armortest.Behaviour{HangUp: true})
		}, reader.ErrStreamEnded.Error()},
		{"an alert that is too large", func(t *testing.T) reader.Target {
			t.Helper()
			return telling(t, huge)
		}, "ResourceExhausted: "},
		{"another service", func(t *testing.T) reader.Target { t.Helper(); return stranger(t) }, "Unimplemented: unknown service feeder.LogService"},
		{"something that answers anything", func(t *testing.T) reader.Target {
			t.Helper()
			return behaving(t, armortest.Behaviour{WrongHealthCheck: true})
		}, "what answers there is not KubeArmor"},
		{"TLS that was not expected", func(t *testing.T) reader.Target {
			t.Helper()
			return reader.Target{Address: armortest.New(t, armortest.Options{TLS: withTLS}).Address()}
		}, "does it want TLS"},
		{"a certificate that nobody knows", func(t *testing.T) reader.Target {
			t.Helper()
			target := reader.Target{Address: armortest.New(t, armortest.Options{TLS: withTLS}).Address()}
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
