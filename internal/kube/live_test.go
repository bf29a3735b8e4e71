package kube

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
)

// live is the API server of the tests. It does not serve Kyverno's kinds.
var live = kubetest.NewShared()

func TestMain(m *testing.M) { os.Exit(live.Run(m)) }

func liveCluster(t *testing.T, server *kubetest.Server, opts Options) *Cluster {
	t.Helper()
	cluster, err := NewCluster(server.Config(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

// eventually waits for what the API server learns by and by.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) { return holds(), nil })
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// caBundle is the certificate of a server as manifests hold it.
func caBundle(server *httptest.Server) string {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return base64.StdEncoding.EncodeToString(block)
}
