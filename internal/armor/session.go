package armor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // The codec that rawCodec is made of.
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

const (
	// answerTimeout is how long the relay may take to answer.
	answerTimeout = 20 * time.Second
	// quietTime is how long nothing may come before the relay is asked whether it is
	// still there. A relay without alerts says nothing, and one that hangs as well.
	quietTime = time.Minute
	// holdTime is how long a stream has to hold for somebody to be listening: who takes
	// every call and hangs up does so at once.
	holdTime = 200 * time.Millisecond
	// askAgainAfter is how old a stream has to be for a new one to take its place on the
	// same connection.
	askAgainAfter = time.Second
)

var (
	// ErrStreamEnded says that the other side has ended the stream of alerts.
	ErrStreamEnded = errors.New("the stream of alerts was ended by KubeArmor")

	errTooLong = fmt.Errorf("an alert is longer than %d KiB", maxAlert>>10)
)

// hooks are what a session does with what comes.
type hooks struct {
	// take is called with every message as it came, which is its own from then on.
	take func(message []byte)
	// connected is called once, before anything is taken, as soon as it is certain that
	// alerts are listened to, and since when.
	connected func(since time.Time)
	// tooLong is told of alerts that nobody reads to their end, at which gRPC ends the
	// stream.
	tooLong func(error)
}

// session is one connection to KubeArmor.
type session struct {
	hooks
	conn *connection
	once sync.Once
	up   atomic.Bool
	// taken counts the messages since it was last looked at.
	taken atomic.Int64
	// ended is closed when the stream has, for the reason that endErr is.
	ended  chan struct{}
	endErr error
}

// runSession listens at the target until the context ends or something else ends it.
// heard is when the other side was last heard of, zero where it never was. Nothing of
// the session is left when it returns.
func runSession(ctx context.Context, target Target, h hooks) (heard time.Time, err error) {
	conn, err := dial(ctx, target)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	s := &session{hooks: h, conn: conn, ended: make(chan struct{})}
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(s.ended)
		s.endErr = s.receive(listening)
	}()
	err = s.guard(listening)
	cancel()
	<-s.ended
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return conn.heard(), conn.why(err, s.up.Load())
}

// guard sees to it that the other side is there, and returns when it is not or when the
// stream has ended.
func (s *session) guard(ctx context.Context) error {
	client := protobuf.NewLogServiceClient(s.conn)
	// The stream would not tell: it says nothing before the first alert.
	if err := healthy(ctx, client); err != nil && s.taken.Load() == 0 {
		return err
	}
	since := time.Now()
	hold := time.NewTimer(holdTime)
	defer hold.Stop()
	select {
	case <-s.ended:
		return s.endErr
	case <-hold.C:
		s.isUp(since)
	}
	tick := time.NewTicker(quietTime)
	defer tick.Stop()
	for {
		select {
		case <-s.ended:
			return s.endErr
		case <-tick.C:
			if s.taken.Swap(0) > 0 {
				continue
			}
			if err := healthy(ctx, client); err != nil {
				return fmt.Errorf("it fell silent: %w", err)
			}
		}
	}
}

func (s *session) isUp(since time.Time) { s.once.Do(func() { s.up.Store(true); s.connected(since) }) }

// receive takes what comes until the stream ends.
func (s *session) receive(ctx context.Context) error {
	for {
		asked := time.Now()
		err := s.stream(ctx)
		if !errors.Is(err, errTooLong) {
			return err
		}
		s.tooLong(err)
		if time.Since(asked) < askAgainAfter {
			return err
		}
	}
}

func (s *session) stream(ctx context.Context) error {
	// A stream that is left is ended here; the connection may live on.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, protobuf.LogService_WatchAlerts_FullMethodName,
		grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")}))
	if err != nil {
		return said(err)
	}
	// Without a filter that it knows, the relay ends the stream at once.
	err = stream.SendMsg(&protobuf.RequestMessage{Filter: "policy"})
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil && !errors.Is(err, io.EOF) { // Which RecvMsg explains.
		return said(err)
	}
	for {
		var message []byte
		switch err := stream.RecvMsg(&message); {
		case errors.Is(err, io.EOF):
			return ErrStreamEnded
		case status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max"):
			return fmt.Errorf("%w: %w", errTooLong, said(err))
		case err != nil:
			return said(err)
		}
		if s.taken.Add(1) == 1 {
			s.isUp(time.Now())
		}
		s.take(message)
	}
}

// rawCodec leaves messages as they are where they are received into bytes. One that
// cannot be decoded does not end the stream then, as gRPC would.
type rawCodec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if message, ok := v.(*[]byte); ok {
		*message = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// healthy asks whether KubeArmor is there at all.
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
