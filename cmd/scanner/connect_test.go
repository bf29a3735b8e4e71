package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestWhatNobodyNamedIsSaid(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	const said = "no kubeconfig has a current context"
	for name, errorOf := range map[string]func(string, error) error{"audit": clusterError, "remediate": noCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := errorOf(clientcmd.ClusterDefaults.Server, refused); !strings.Contains(err.Error(), said) {
				t.Errorf("%q does not say that %s", err, said)
			}
			if err := errorOf("prod", refused); strings.Contains(err.Error(), said) {
				t.Errorf("%q says that %s, and prod is one", err, said)
			}
		})
	}
}
