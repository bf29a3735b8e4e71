package armor_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/protobuf/proto"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Wherever a connection is cut, and however, what came before came whole, the gap is
// told, and alerts come again.
func TestListenIsCut(t *testing.T) {
	t.Parallel()
	sent := armortest.Recording(t, "testdata/burst.jsonl")
	for _, reset := range []bool{false, true} {
		for _, after := range []int64{-1, 1, 9, 40, 90, 150, 400, 800, 1200, 2000, 3000, 5000} {
			t.Run(fmt.Sprintf("after %d bytes, reset %t", after, reset), func(t *testing.T) {
				t.Parallel()
				relay := armortest.New(t, armortest.Options{Behaviour: armortest.Behaviour{CutAfter: after, Reset: reset}})
				h := listen(t, target(relay))
				h.until(t, "a beginning", func() bool { return len(h.states) > 0 })
				if h.now().states[0].connected {
					relay.Send(sent...)
				}
				h.until(t, "it is cut", func() bool { return len(h.losts) > 0 })
				came := h.now().alerts
				if len(came) >= len(sent) {
					t.Errorf("all %d alerts came", len(came))
				}
				for i := range came {
					if want := reader.DecodeAlert(sent[i]); !sameAlert(came[i], want) {
						t.Errorf("alert %d\n%+v\nwant\n%+v", i, came[i], want)
					}
				}
				relay.SetBehaviour(armortest.Behaviour{})
				h.until(t, "it is back", func() bool { return !h.losts[len(h.losts)-1].To.IsZero() })
				relay.Await(1)
				relay.Send(sent...)
				h.until(t, "all alerts have come", func() bool { return len(h.alerts) == len(came)+len(sent) })
				h.stop(t)
				if len(h.gaps(scan.LostUnreadable)) > 0 {
					t.Errorf("heard %s", h)
				}
			})
		}
	}
}

// Who speaks another language is told as such, and nothing of it is an alert.
func TestListenToStrangers(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 64<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	for name, says := range map[string]string{
		"HTTP/1.1": "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "SSH": "SSH-2.0-OpenSSH_9.2p1\r\n", "noise": string(noise),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, says)
					_, _ = io.Copy(io.Discard, conn) // Until the other side has enough.
					_ = conn.Close()
				}
			}()
			h := listen(t, reader.Target{Address: listener.Addr().String()})
			h.until(t, "it is told", func() bool { return len(h.states) > 0 && len(h.losts) > 0 })
			h.stop(t)
			if err := listener.Close(); err != nil {
				t.Error(err)
			}
			<-served
			if h.states[0].connected || len(h.alerts) > 0 || !strings.Contains(h.states[0].err.Error(), "does it want TLS") {
				t.Errorf("heard %s", h)
			}
		})
	}
}

// slowly speaks gRPC by hand: its alert is as long as it says, and never ends.
func slowly(t *testing.T, length uint32, chunk int) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		prefix := make([]byte, 5)
		if r.URL.Path == protobuf.LogService_HealthCheck_FullMethodName {
			body, _ := io.ReadAll(r.Body)
			var nonce protobuf.NonceMessage
			if len(body) < 5 || proto.Unmarshal(body[5:], &nonce) != nil {
				return
			}
			answer, _ := proto.Marshal(&protobuf.ReplyMessage{Retval: nonce.GetNonce()})
			binary.BigEndian.PutUint32(prefix[1:], uint32(len(answer)))
			_, _ = w.Write(append(prefix, answer...))
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			return
		}
		binary.BigEndian.PutUint32(prefix[1:], length)
		_, _ = w.Write(prefix)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, chunk)); err != nil {
				return
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return
			}
			if length <= 1<<20 {
				<-r.Context().Done() // The rest never comes.
			}
		}
	}))
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols = protocols
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// An alert that goes on for ever is not waited for where it says so, and keeps nobody
// from leaving where it does not.
func TestListenToAnEndlessAlert(t *testing.T) {
	t.Parallel()
	t.Run("of four gigabytes", func(t *testing.T) {
		t.Parallel()
		h := listen(t, reader.Target{Address: slowly(t, 1<<32-1, 32<<10)})
		h.until(t, "it is told to be too long", func() bool {
			return len(h.losts) > 1 && len(h.states) > 0 && !h.states[len(h.states)-1].connected
		})
		h.stop(t)
		if gaps := h.gaps(scan.LostUnreadable); len(gaps) != 1 || gaps[0].Alerts == 0 || !strings.Contains(gaps[0].Message, "longer than 1024 KiB") {
			t.Errorf("heard %s", h)
		}
	})
	t.Run("that stops in the middle", func(t *testing.T) {
		t.Parallel()
		h := listen(t, reader.Target{Address: slowly(t, 1<<20, 100)})
		h.connected(t, 1)
		h.stop(t)
		if len(h.alerts) > 0 || len(h.losts) > 0 {
			t.Errorf("heard %s", h)
		}
	})
}
