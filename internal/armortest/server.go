// Package armortest is a relay of KubeArmor's for tests. It speaks KubeArmor's protocol
// and misbehaves on demand.
package armortest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // The codec that bytes are let past.
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
)

// Behaviour is how a Server behaves to those who come after it was set; the zero value is
// that of a relay.
type Behaviour struct {
	// Away resets every connection as it is made.
	Away bool
	// Deaf takes connections and neither reads nor writes.
	Deaf bool
	// HangUp ends the stream of alerts as soon as it is asked for.
	HangUp bool
	// Refuse, where not nil, is the answer to who asks for alerts.
	Refuse error
	// NoHealthCheck is a service without a health check, MuteHealthCheck does not answer it,
	// and WrongHealthCheck answers it wrongly.
	NoHealthCheck, MuteHealthCheck, WrongHealthCheck bool
	// CutAfter, where not 0, closes each connection when so many bytes were written to it;
	// less than 0 is before the first. With Reset it does so without a farewell.
	CutAfter int64
	Reset    bool
}

// Options are what a Server begins with.
type Options struct {
	// TLS is how it secures its connections; nil for not at all.
	TLS *tls.Config
	// InMemory has it listen nowhere: it is reached by Dial alone, also in a bubble of
	// testing/synctest.
	InMemory bool
	// NoPings leaves out the pings that a relay sends every second.
	NoPings bool
	// Behaviour is the first one.
	Behaviour Behaviour
	// Alerts are told to everybody who watches, at first.
	Alerts []*protobuf.Alert
}

// Server is a relay that sends what it is told to. It ends with its test.
type Server struct {
	protobuf.UnimplementedLogServiceServer

	tb       testing.TB
	alerts   []*protobuf.Alert
	listener *listener
	memory   *bufconn.Listener
	server   *grpc.Server

	mu        sync.Mutex
	behaviour Behaviour
	watchers  map[*watcher]bool
	// changed is closed, and made anew, when watchers come or go.
	changed  chan struct{}
	asked    int
	deadline time.Time
}

// watcher is a client that asked for alerts.
type watcher struct {
	messages chan any
	gone     chan struct{}
	end      chan struct{}
	once     sync.Once
}

// New starts a relay.
func New(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{tb: tb, alerts: o.Alerts, behaviour: o.Behaviour, watchers: map[*watcher]bool{}, changed: make(chan struct{})}
	var inner net.Listener
	if o.InMemory {
		s.memory = bufconn.Listen(256 << 10)
		inner = s.memory
	} else {
		var err error
		if inner, err = (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0"); err != nil {
			tb.Fatal(err)
		}
	}
	s.listener = &listener{Listener: inner, behaviour: s.current, conns: map[*conn]bool{}}
	// As the relay has it, but with more patience: machines that run tests are busy.
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2("proto")}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{PermitWithoutStream: true}),
	}
	if !o.NoPings {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: time.Minute}))
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.server = grpc.NewServer(options...)
	protobuf.RegisterLogServiceServer(s.server, s)
	served := make(chan error, 1)
	go func() { served <- s.server.Serve(s.listener) }()
	tb.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Errorf("relay: %v", err)
		}
	})
	return s
}

// Address is where it listens.
func (s *Server) Address() string {
	if s.memory != nil {
		return "relay.memory:32767"
	}
	return s.listener.Addr().String()
}

// Dial connects to it, whatever the address.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	if s.memory != nil {
		return s.memory.DialContext(ctx)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", s.Address())
}

// SetBehaviour changes how it behaves to those who come next.
func (s *Server) SetBehaviour(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behaviour = b
}

func (s *Server) current() Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behaviour
}

// Stop ends it and all its connections.
func (s *Server) Stop() {
	s.listener.thaw()
	s.listener.cut(true)
	s.server.Stop()
}

// Cut breaks all connections, without a farewell.
func (s *Server) Cut() { s.listener.cut(true) }

// Freeze has the connections that there are neither read nor write any more, as the relay
// of a machine that hangs.
func (s *Server) Freeze() { s.listener.freeze() }

// HangUp ends all streams of alerts. The connections stay.
func (s *Server) HangUp() {
	for _, w := range s.watching() {
		w.once.Do(func() { close(w.end) })
	}
}

func (s *Server) watching() []*watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*watcher
	for w := range s.watchers {
		all = append(all, w)
	}
	return all
}

// Await waits until so many watch.
func (s *Server) Await(watchers int) {
	s.tb.Helper()
	s.await(func() bool { return len(s.watchers) == watchers })
}

// AwaitAsked waits until alerts were asked for so often, with whatever success.
func (s *Server) AwaitAsked(times int) {
	s.tb.Helper()
	s.await(func() bool { return s.asked >= times })
}

func (s *Server) await(enough func() bool) {
	s.tb.Helper()
	for {
		s.mu.Lock()
		done, changed := enough(), s.changed
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-s.tb.Context().Done():
			s.tb.Fatal("relay: the test has ended")
		}
	}
}

// Deadline is when whoever asked for alerts last said that they end; zero for never.
func (s *Server) Deadline() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadline
}

// Send tells alerts to all who watch, and has told them when it returns. Nobody watching,
// nobody is told.
func (s *Server) Send(alerts ...*protobuf.Alert) {
	for _, w := range s.watching() {
		for _, a := range alerts {
			w.tell(a)
		}
	}
}

// SendRaw tells messages as they are, which may be no alerts.
func (s *Server) SendRaw(messages ...[]byte) {
	for _, w := range s.watching() {
		for _, m := range messages {
			w.tell(m)
		}
	}
}

func (w *watcher) tell(message any) {
	select {
	case w.messages <- message:
	case <-w.gone:
	}
}

// HealthCheck implements protobuf.LogServiceServer.
func (s *Server) HealthCheck(ctx context.Context, nonce *protobuf.NonceMessage) (*protobuf.ReplyMessage, error) {
	b := s.current()
	answer := nonce.GetNonce()
	switch {
	case b.NoHealthCheck:
		return nil, status.Error(codes.Unimplemented, "method HealthCheck not implemented")
	case b.MuteHealthCheck:
		<-ctx.Done()
		return nil, ctx.Err()
	case b.WrongHealthCheck:
		answer++
	}
	return &protobuf.ReplyMessage{Retval: answer}, nil
}

// WatchAlerts implements protobuf.LogServiceServer.
func (s *Server) WatchAlerts(request *protobuf.RequestMessage, stream grpc.ServerStreamingServer[protobuf.Alert]) error {
	if request.GetFilter() != "policy" && request.GetFilter() != "all" {
		return nil // As a real one does.
	}
	b := s.current()
	w := &watcher{messages: make(chan any), gone: make(chan struct{}), end: make(chan struct{})}
	stays := !b.HangUp && b.Refuse == nil
	s.change(func() {
		s.asked++
		s.deadline, _ = stream.Context().Deadline()
		if stays {
			s.watchers[w] = true
		}
	})
	if !stays {
		return b.Refuse
	}
	defer s.change(func() { delete(s.watchers, w) })
	defer close(w.gone)
	for _, a := range s.alerts {
		if err := stream.Send(a); err != nil {
			return err
		}
	}
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case <-w.end:
			return nil
		case m := <-w.messages:
			if err := stream.SendMsg(m); err != nil {
				return err
			}
		}
	}
}

func (s *Server) change(how func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how()
	close(s.changed)
	s.changed = make(chan struct{})
}

// codec lets bytes pass as they are.
type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if message, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(message)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Recording reads the alerts of a recording as KubeArmor sends them.
func Recording(tb testing.TB, file string) []*protobuf.Alert {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var all []*protobuf.Alert
	for line := range bytes.Lines(text) {
		var recorded struct{ Msg json.RawMessage }
		if err := json.Unmarshal(line, &recorded); err != nil {
			tb.Fatal(err)
		}
		message := &protobuf.Alert{}
		if err := protojson.Unmarshal(recorded.Msg, message); err != nil {
			tb.Fatal(err)
		}
		all = append(all, message)
	}
	return all
}
