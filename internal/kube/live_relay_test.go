package kube

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/kubearmor/KubeArmor/protobuf"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// secretYAML is a Secret with the data given.
func secretYAML(namespace, name string, data map[string]string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ndata:\n", name, namespace)
	for key, value := range data {
		fmt.Fprintf(&text, "  %s: %s\n", key, base64.StdEncoding.EncodeToString([]byte(value)))
	}
	return text.String()
}

const relayNamespaceYAML = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS}\n"

// Only the two Secrets are asked for, by name, and that of the CA only where it is needed.
func TestRelayTLS(t *testing.T) {
	t.Parallel()
	server := live.Server(t)
	all := map[string]string{"ca.crt": "CA", "tls.crt": "CERT", "tls.key": "KEY"}
	pair := map[string]string{"tls.crt": "CERT", "tls.key": "KEY"}
	ca := map[string]string{"tls.crt": "CA", "tls.key": "CAKEY"}
	both := []string{relayClientSecret, relayCASecret}
	for _, test := range []struct {
		name       string
		client, ca map[string]string
		may        []string
		want       RelayTLS
		asked      []string
	}{
		{name: "none", may: both, asked: both},
		{name: "all", client: all, ca: ca, may: both, asked: both[:1], want: RelayTLS{
			CA: []byte("CA"), Cert: []byte("CERT"), Key: []byte("KEY"), Found: both[:1]}},
		{name: "apart", client: pair, ca: ca, may: both, asked: both, want: RelayTLS{
			CA: []byte("CA"), Cert: []byte("CERT"), Key: []byte("KEY"), Found: both}},
		{name: "ca", ca: ca, may: both, asked: both, want: RelayTLS{
			CA: []byte("CA"), CAKey: []byte("CAKEY"), Found: both[1:]}},
		{name: "half", client: map[string]string{"ca.crt": "OLD", "tls.crt": "CERT"}, ca: ca, may: both, asked: both, want: RelayTLS{
			CA: []byte("CA"), CAKey: []byte("CAKEY"), Found: both}},
		{name: "may-one", client: pair, ca: ca, may: both[:1], asked: both, want: RelayTLS{
			Cert: []byte("CERT"), Key: []byte("KEY"), Found: both[:1], Forbidden: both[1:]}},
		{name: "may-nothing", client: all, ca: ca, asked: both, want: RelayTLS{Forbidden: both}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			namespace := "relay-tls-" + test.name
			yaml := strings.ReplaceAll(relayNamespaceYAML, "NS", namespace)
			if test.client != nil {
				yaml += secretYAML(namespace, relayClientSecret, test.client)
			}
			if test.ca != nil {
				yaml += secretYAML(namespace, relayCASecret, test.ca)
			}
			server.ApplyYAML(t, yaml)
			config := server.User(t, namespace)
			if len(test.may) > 0 {
				server.Allow(t, namespace, namespace, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: test.may})
			}
			var mu sync.Mutex
			var asked []string
			proxy := kubetest.NewProxy(t, config, func(r *http.Request) kubetest.Action {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, r.Method+" "+r.URL.Path)
				return kubetest.Pass()
			})
			cluster, err := NewCluster(proxy.Config(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := cluster.RelayTLS(t.Context(), namespace)
			if err != nil {
				t.Fatal(err)
			}
			test.want.ServerName = "kubearmor." + namespace + ".svc"
			if show(*got) != show(test.want) {
				t.Errorf("got %s\nwant %s", show(*got), show(test.want))
			}
			for _, verb := range []string{"%v", "%+v", "%#v"} {
				if said := fmt.Sprintf(verb, *got) + fmt.Sprintf(verb, got); strings.Contains(said, "KEY") || strings.Contains(said, "75 69 89") {
					t.Errorf("%s prints %s", verb, said)
				}
			}
			var want []string
			for _, name := range test.asked {
				want = append(want, "GET /api/v1/namespaces/"+namespace+"/secrets/"+name)
			}
			if !slices.Equal(asked, want) {
				t.Errorf("asked %v, want %v", asked, want)
			}
		})
	}
}

// show is all of it, which its own String does not tell.
func show(t RelayTLS) string {
	return fmt.Sprintf("%s|%s|%s|%s|%s|%v|%v", t.CA, t.Cert, t.Key, t.CAKey, t.ServerName, t.Found, t.Forbidden)
}

// An API server that does not answer is no relay without TLS.
func TestRelayTLSFails(t *testing.T) {
	t.Parallel()
	proxy := kubetest.NewProxy(t, live.Server(t).Config(), func(*http.Request) kubetest.Action {
		return kubetest.Respond(metav1.Status{Code: http.StatusUnauthorized, Reason: metav1.StatusReasonUnauthorized, Message: "who are you"})
	})
	cluster, err := NewCluster(proxy.Config(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := cluster.RelayTLS(t.Context(), "kubearmor")
	if got != nil || !apierrors.IsUnauthorized(err) || !strings.HasPrefix(err.Error(), "read secret kubearmor-client-certs in namespace kubearmor: ") {
		t.Errorf("%v, %v", got, err)
	}
}

// twoRelays are both ready.
const twoRelays = relayNamespaceYAML + `
---
apiVersion: v1
kind: Pod
metadata: {name: relay-a, namespace: NS, labels: {kubearmor-app: kubearmor-relay}}
spec: {nodeName: NS-node, containers: [{name: relay, image: "example.com/relay:1"}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: relay-b, namespace: NS, labels: {kubearmor-app: kubearmor-relay}}
spec: {nodeName: NS-node, containers: [{name: relay, image: "example.com/relay:1"}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
`

// anotherRelayPod has the relay that is listened to, through the API server and with TLS,
// go away, and its certificates be renewed: the other pod tells the rest.
func anotherRelayPod(t *testing.T, server *kubetest.Server) {
	t.Helper()
	const namespace = "kubearmor"
	secured := func(ca *armortest.CA) map[string]string {
		cert, key := ca.Client()
		return map[string]string{"ca.crt": string(ca.Cert), "tls.crt": string(cert), "tls.key": string(key)}
	}
	first, second := armortest.NewCA(t), armortest.NewCA(t)
	relays := map[string]*armortest.Server{
		"relay-a": armortest.New(t, armortest.Options{TLS: first.Server(RelayServerName(namespace))}),
		"relay-b": armortest.New(t, armortest.Options{TLS: second.Server(RelayServerName(namespace))}),
	}
	kubelet := &kubetest.Kubelet{Forward: func(ctx context.Context, c kubetest.PortConn) error {
		return forwardTo(relays[c.Pod].Address())(ctx, c)
	}}
	kubelet.Start(t)
	kubelet.Serve(t, server, namespace+"-node")
	// Somebody else's pods with the same label come after those of the usual namespace.
	server.ApplyYAML(t, strings.ReplaceAll(twoRelays, "NS", "a-trap"))
	cluster := liveCluster(t, server, Options{})
	dial := cluster.RelayDialer()
	if found, err := cluster.RelayNamespace(t.Context()); err != nil || found != "a-trap" {
		t.Errorf("alone: %s, %v", found, err)
	}
	server.ApplyYAML(t, strings.ReplaceAll(twoRelays, "NS", namespace)+secretYAML(namespace, relayClientSecret, secured(first)))

	target := reader.Target{Address: "relay", Dial: dial, Secure: func(ctx context.Context) (*tls.Config, error) {
		where, err := cluster.RelayNamespace(ctx)
		if err != nil {
			return nil, err
		}
		found, err := cluster.RelayTLS(ctx, where)
		if err != nil {
			return nil, err
		}
		return reader.TLSConfig(reader.Certificates{CA: found.CA, Cert: found.Cert, Key: found.Key, ServerName: found.ServerName})
	}}
	alerts, losts, ended := make(chan string, 10), make(chan scan.Lost, 100), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- reader.Listen(ctx, []reader.Target{target}, reader.Listener{
			Alert: func(a armor.Alert) { alerts <- a.Resource },
			Lost:  func(l scan.Lost) { losts <- l },
		})
	}()
	relays["relay-a"].Await(1)
	relays["relay-a"].Send(&protobuf.Alert{Type: "MatchedPolicy", Resource: "of a"})
	if got := <-alerts; got != "of a" {
		t.Errorf("got %s", got)
	}
	renewed := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: relayClientSecret}, StringData: secured(second)}
	if _, err := server.Client().CoreV1().Secrets(namespace).Update(t.Context(), renewed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := server.Client().CoreV1().Pods(namespace).Delete(t.Context(), "relay-a", *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	relays["relay-a"].Stop()
	relays["relay-b"].Await(1)
	relays["relay-b"].Send(&protobuf.Alert{Type: "MatchedPolicy", Resource: "of b"})
	if got := <-alerts; got != "of b" {
		t.Errorf("got %s", got)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("listening ended with %v", err)
	}
	close(losts)
	var told []scan.Lost
	for l := range losts {
		told = append(told, l)
	}
	if len(told) != 2 || told[0].ID != told[1].ID || told[1].To.IsZero() || told[1].Reason != scan.LostDeaf {
		t.Errorf("told of %+v", told)
	}
}
