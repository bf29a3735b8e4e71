package kube

import (
	"os"
	"testing"

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
