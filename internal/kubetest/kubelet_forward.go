package kubetest

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// portForwardProtocol is what kubelets call the protocol.
const portForwardProtocol = "portforward.k8s.io"

// PortConn is a connection to a port of a pod that somebody made through the API server.
type PortConn struct {
	Namespace, Pod string
	Port           int
	io.ReadWriter
}

// forward speaks what kubelets speak with API servers: for each connection a stream
// with data and one with what is wrong, all in one SPDY connection.
func (k *Kubelet) forward(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{portForwardProtocol}); err != nil {
		return // Handshake has answered.
	}
	arrived := make(chan httpstream.Stream)
	ctx, cancel := context.WithCancel(k.ended)
	defer cancel()
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, replied <-chan struct{}) error {
		go func() {
			<-replied
			select {
			case arrived <- stream:
			case <-ctx.Done():
			}
		}()
		return nil
	})
	if conn == nil {
		return // The upgrader has answered.
	}
	defer conn.Close()
	k.commands.Add(1)
	defer k.commands.Done()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	waiting := map[string]map[string]httpstream.Stream{}
	for {
		select {
		case <-conn.CloseChan():
			return
		case <-ctx.Done():
			return
		case s := <-arrived:
			id := s.Headers().Get(corev1.PortForwardRequestIDHeader)
			pair := waiting[id]
			if pair == nil {
				pair = map[string]httpstream.Stream{}
				waiting[id] = pair
			}
			pair[s.Headers().Get(corev1.StreamType)] = s
			if len(pair) < 2 {
				continue
			}
			delete(waiting, id)
			connections.Go(func() { k.connect(ctx, r, pair[corev1.StreamTypeData], pair[corev1.StreamTypeError]) })
		}
	}
}

func (k *Kubelet) connect(ctx context.Context, r *http.Request, data, complaints httpstream.Stream) {
	defer complaints.Close()
	defer data.Close()
	port, err := strconv.Atoi(data.Headers().Get(corev1.PortHeader))
	if err == nil {
		err = k.Forward(ctx, PortConn{Namespace: r.PathValue("namespace"), Pod: r.PathValue("pod"), Port: port, ReadWriter: data})
	}
	if err != nil {
		_, _ = io.WriteString(complaints, err.Error()) // A client that has gone needs no answer.
	}
}
