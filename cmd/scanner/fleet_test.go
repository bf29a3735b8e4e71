package main

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Who reads a cluster of a fleet may be another than the kubeconfig says, as with kubectl.
func TestFleetImpersonates(t *testing.T) {
	t.Parallel()
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	kubeconfig.Contexts["a"] = &clientcmdapi.Context{Cluster: "c"}
	kube := genericclioptions.NewConfigFlags(true)
	flags := newFlagSet()
	kube.AddFlags(flags)
	if err := flags.Parse([]string{"--as", "reader", "--as-uid", "7", "--as-group", "audit", "--as-user-extra", "scopes=read", "--as-user-extra", "scopes=a=b", "--as-user-extra", "none"}); err != nil {
		t.Fatal(err)
	}
	config, err := contextConfig(kubeconfig, "a", kube)
	if err != nil {
		t.Fatal(err)
	}
	got := config.Impersonate
	if got.UserName != "reader" || got.UID != "7" || !slices.Equal(got.Groups, []string{"audit"}) ||
		!maps.EqualFunc(got.Extra, map[string][]string{"scopes": {"read", "a=b"}}, slices.Equal) {
		t.Errorf("%+v", got)
	}
	if !slices.Contains(forAll(), "as-user-extra") {
		t.Error("--as-user-extra is refused, and --as is not")
	}
}

// Clusters that nobody began on, as the scan was stopped, are not out of reach.
func TestConcludeStoppedFleet(t *testing.T) {
	t.Parallel()
	gone := scan.ClusterRun{Name: "gone", End: scan.End{Incomplete: true}}
	left := scan.ClusterRun{Name: "left", End: scan.End{Incomplete: true, Interrupted: true}}
	for _, test := range []struct {
		runs []scan.ClusterRun
		code int
	}{
		{[]scan.ClusterRun{gone, left}, 0}, {[]scan.ClusterRun{left, gone}, 0}, {[]scan.ClusterRun{gone, gone}, exitIncomplete},
	} {
		var stderr bytes.Buffer
		a := &app{stderr: &stderr}
		troubles := newClusterTroubles(nil)
		troubles.why["gone"] = &scan.Failure{Reason: scan.FailureUnreachable, Message: "refused"}
		code := 0
		if exit, ok := errors.AsType[*exitError](a.concludeFleet(test.runs, troubles)); ok {
			code = exit.code
		}
		if none := strings.Contains(stderr.String(), "no cluster could be scanned"); code != test.code || none != (code != 0) {
			t.Errorf("%v: code %d:\n%s", test.runs, code, stderr.String())
		}
	}
}
