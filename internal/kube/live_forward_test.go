package kube

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// relayPods are a relay with two pods, of which one is ready, and its Service.
const relayPods = `
apiVersion: v1
kind: Namespace
metadata: {name: NS}
---
apiVersion: v1
kind: Pod
metadata: {name: relay-a, namespace: NS, labels: {kubearmor-app: RELAY}}
spec: {nodeName: NS-node, containers: [{name: relay, image: "example.com/relay:1"}]}
status: {phase: Running, conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: relay-b, namespace: NS, labels: {kubearmor-app: RELAY}}
spec: {nodeName: NS-node, containers: [{name: relay, image: "example.com/relay:1"}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: another, namespace: NS}
spec: {selector: {app: another}, ports: [{port: 32767}]}
---
apiVersion: v1
kind: Service
metadata: {name: kubearmor, namespace: NS}
spec: {selector: {kubearmor-app: RELAY}, ports: [{name: metrics, port: 9090}, {name: grpc, port: 443, targetPort: 32767}]}
`

// forwardTo is a kubelet's port-forward to an address.
func forwardTo(address string) func(context.Context, kubetest.PortConn) error {
	return func(ctx context.Context, c kubetest.PortConn) error {
		if c.Port != relayPort {
			return errors.New("connect: connection refused in the pod")
		}
		to, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		var both sync.WaitGroup
		both.Go(func() {
			_, _ = io.Copy(to, c)
			_ = to.Close()
		})
		_, _ = io.Copy(c, to)
		_ = to.Close()
		if s, ok := c.ReadWriter.(interface{ Reset() error }); ok {
			_ = s.Reset()
		}
		both.Wait()
		return nil
	}
}

// forwarding starts a relay behind a kubelet behind the API server.
func forwarding(t *testing.T, server *kubetest.Server, namespace string, alerts int) {
	t.Helper()
	told := &protobuf.Alert{Type: "MatchedPolicy", Resource: strings.Repeat("x", 4000)}
	relay := armortest.New(t, armortest.Options{Alerts: slices.Repeat([]*protobuf.Alert{told}, alerts)})
	kubelet := &kubetest.Kubelet{Forward: forwardTo(relay.Address())}
	kubelet.Start(t)
	kubelet.Serve(t, server, namespace+"-node")
	server.ApplyYAML(t, strings.NewReplacer("NS", namespace, "RELAY", "kubearmor-relay").Replace(relayPods))
}

// A server of its own: pods of a relay are looked for in all namespaces.
func TestRelay(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	t.Run("none", func(t *testing.T) { noRelay(t, server) })
	t.Run("ready", func(t *testing.T) { alertsThroughTheAPIServer(t, server) })
	t.Run("two", func(t *testing.T) { anotherRelayPod(t, server) })
}

// alertsThroughTheAPIServer has alerts come through the API server and a kubelet,
// without a port being opened here. Where WebSocket is not let through, by SPDY.
func alertsThroughTheAPIServer(t *testing.T, server *kubetest.Server) {
	t.Helper()
	const alerts = 300
	forwarding(t, server, "kubearmor-far", alerts)
	noWebSocket := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, "/portforward") && r.Method == http.MethodGet {
			return kubetest.Respond(metav1.Status{Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: "no WebSocket here"})
		}
		return kubetest.Pass()
	})
	for name, config := range map[string]*rest.Config{"WebSocket": server.Config(), "SPDY": noWebSocket.Config()} {
		t.Run(name, func(t *testing.T) {
			cluster, err := NewCluster(config, Options{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			enough := errors.New("enough")
			got := 0
			err = reader.Listen(ctx, []reader.Target{{Address: "relay", Dial: cluster.RelayDialer()}}, reader.Listener{Alert: func(a armor.Alert) {
				if len(a.Resource) != 4000 {
					t.Errorf("an alert of %d bytes", len(a.Resource))
				}
				if got++; got == alerts {
					cancel(enough) // And nothing more comes.
				}
			}})
			if !errors.Is(err, enough) || got != alerts {
				t.Errorf("%d alerts of %d: %v", got, alerts, err)
			}
		})
	}
	t.Run("in the cluster", func(t *testing.T) {
		address, err := liveCluster(t, server, Options{}).relayService(t.Context())
		if want := "kubearmor.kubearmor-far.svc:443"; err != nil || address != want {
			t.Errorf("relay %s, want %s: %v", address, want, err)
		}
	})
	t.Run("another port", func(t *testing.T) {
		conn, err := liveCluster(t, server, Options{}).DialPod(t.Context(), "kubearmor-far", "relay-b", 1)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = io.ReadAll(conn)
		if err == nil || !strings.Contains(err.Error(), "port 1 of pod kubearmor-far/relay-b: connect: connection refused in the pod") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a deadline", func(t *testing.T) {
		conn, err := liveCluster(t, server, Options{}).DialPod(t.Context(), "kubearmor-far", "relay-b", relayPort)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := errors.Join(conn.Close(), conn.Close()); err != nil {
			t.Errorf("closing it twice: %v", err)
		}
	})
}

func noRelay(t *testing.T, server *kubetest.Server) {
	t.Helper()
	cluster := liveCluster(t, server, Options{})
	if _, err := cluster.RelayDialer()(t.Context(), "relay"); !errors.Is(err, ErrNoRelay) || !strings.Contains(err.Error(), "no pods labelled") {
		t.Errorf("no pods to dial: %v", err)
	}
	if _, err := cluster.RelayNamespace(t.Context()); !errors.Is(err, ErrNoRelay) {
		t.Errorf("no pods anywhere: %v", err)
	}
	yaml := strings.NewReplacer("NS", "kubearmor-none", "RELAY", "kubearmor-relay").Replace(relayPods)
	documents := strings.Split(yaml, "---\n")
	server.ApplyYAML(t, documents[0]+"---\n"+documents[1])
	if _, err := cluster.RelayDialer()(t.Context(), "relay"); !errors.Is(err, ErrNoRelay) || !strings.Contains(err.Error(), "none is ready, kubearmor-none/relay-a") {
		t.Errorf("none ready: %v", err)
	}
	server.ApplyYAML(t, documents[2]+"---\n"+documents[3])
	if _, err := cluster.relayService(t.Context()); !errors.Is(err, ErrNoRelay) || !strings.Contains(err.Error(), "no Service in namespace kubearmor-none") {
		t.Errorf("no Service: %v", err)
	}
	if _, err := cluster.DialPod(t.Context(), "kubearmor-none", "gone", relayPort); !apierrors.IsNotFound(err) {
		t.Errorf("a pod that is gone: %v", err)
	}

	few, err := NewCluster(server.User(t, "forward-few"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := few.RelayDialer()(t.Context(), "relay"); !apierrors.IsForbidden(err) {
		t.Errorf("without rights: %v", err)
	}
	if _, err := few.DialPod(t.Context(), "kubearmor-none", "relay-b", relayPort); !apierrors.IsForbidden(err) {
		t.Errorf("without rights: %v", err)
	}
}

// Dialling ends with its context, also while the API server keeps it waiting.
func TestDialPodEndsWithItsContext(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	defer close(release)
	proxy := kubetest.NewProxy(t, server.Config(), func(r *http.Request) kubetest.Action {
		if strings.HasSuffix(r.URL.Path, "/portforward") {
			select {
			case asked <- struct{}{}:
			default:
			}
			return kubetest.Hold(release, kubetest.Pass())
		}
		return kubetest.Pass()
	})
	cluster, err := NewCluster(proxy.Config(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := cluster.DialPod(ctx, "default", "relay", relayPort); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
