package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/protobuf/proto"

	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// attackOn are the alerts of a recorded attack, as if they came from a container.
func attackOn(t *testing.T, namespace, pod, container string) []*protobuf.Alert {
	t.Helper()
	all := armortest.Recording(t, "../../testdata/alerts/block-nothrottle.jsonl")
	for _, a := range all {
		a.NamespaceName, a.PodName, a.ContainerName = namespace, pod, container
	}
	return all
}

// heardScan is what a scan with alerts wrote.
type heardScan struct {
	liveResult
	Alerts   []scan.Alert
	Lost     []scan.Lost
	Failures []scan.Failure
	End      scan.End
}

// scanWithAlerts scans a namespace and listens for a moment, and while it does, does
// something.
func scanWithAlerts(t *testing.T, server *kubetest.Server, namespace string, meanwhile func(stop context.CancelFunc), args ...string) *heardScan {
	t.Helper()
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if meanwhile != nil {
			meanwhile(stop)
		}
	}()
	args = append([]string{"scan", "--kubeconfig", kubetest.Kubeconfig(t, server.Config()), "-n", namespace, "--fail-on", "none", "-o", "table", "-o", "json=out.json"}, args...)
	code, stdout, stderr := invoke(ctx, testDeps(dir), strings.NewReader(""), args...)
	<-done
	s := &heardScan{liveResult: liveResult{code, stdout, stderr}}
	if err := json.Unmarshal([]byte(readText(t, dir, "out.json")), s); err != nil {
		t.Fatalf("%v; it ends with %d: %s", err, code, stderr)
	}
	return s
}

// TestLiveScanAlerts listens beside scans of a real API server, to relays that speak
// KubeArmor's protocol.
func TestLiveScanAlerts(t *testing.T) { //nolint:paralleltest // Its parts are, in namespaces of their own.
	server := liveServers.Server(t)
	namespace := server.Namespace(t, nil)
	server.ApplyYAML(t, `
apiVersion: v1
kind: Pod
metadata: {name: importer, namespace: `+namespace+`}
spec:
  nodeName: node1
  containers:
  - {name: web, image: registry.example/importer, securityContext: {capabilities: {add: [SYS_ADMIN]}}}
`)
	attack := attackOn(t, namespace, "importer", "web")
	elsewhere := attackOn(t, "kube-system", "another", "web")[:5]
	gone := attackOn(t, namespace, "gone", "web")
	for _, a := range gone {
		a.Owner = &protobuf.Podowner{Ref: "Pod", Name: "importer", Namespace: namespace}
	}
	threshold := proto.Clone(attack[0]).(*protobuf.Alert)
	threshold.Type, threshold.Operation, threshold.Result, threshold.Action = "SystemEvent", "AlertThreshold", "", ""
	const window = "3s"

	t.Run("joined to its workload", func(t *testing.T) {
		t.Parallel()
		relay := armortest.New(t, armortest.Options{Alerts: slices.Concat(attack, gone, elsewhere)})
		s := scanWithAlerts(t, server, namespace, nil, "--alerts", window, "--kubearmor", relay.Address())
		if s.code != exitOK || len(s.Lost)+len(s.Failures) > 0 {
			t.Errorf("it ends with %d: %s\nlost %+v, failures %+v", s.code, s.stderr, s.Lost, s.Failures)
		}
		count, incidents := 0, 0
		for _, a := range s.Alerts {
			count += a.Count
			if a.Workload.String() != namespace+"/Pod/importer" || a.Verdict != scan.VerdictExposed {
				t.Errorf("of %s, which is %s: %s", a.Workload, a.Verdict, a.Reason)
			}
			if a.Incident && slices.Contains(a.Paths, "escape-cap-sys-admin") {
				incidents++
			}
		}
		if count != len(attack)+len(gone) || incidents == 0 {
			t.Errorf("%d alerts of %d, %d incidents", count, len(attack)+len(gone), incidents)
		}
		if !strings.Contains(s.stdout, "INCIDENT  ") || !strings.Contains(s.stdout, namespace+"/Pod/importer") {
			t.Errorf("the table tells of no incident:\n%s", s.stdout)
		}
	})
	t.Run("throttled", func(t *testing.T) {
		t.Parallel()
		relay := armortest.New(t, armortest.Options{Alerts: append(slices.Clone(attack), threshold)})
		s := scanWithAlerts(t, server, namespace, nil, "--alerts", window, "--kubearmor", relay.Address())
		if s.code != exitIncomplete || len(s.Lost) != 1 || s.Lost[0].Reason != scan.LostThrottled || s.Lost[0].Workload.String() != namespace+"/Pod/importer" ||
			!strings.Contains(s.stdout, "EVIDENCE LOST") || !strings.Contains(s.stdout, "KubeArmor kept quiet") {
			t.Errorf("it ends with %d: %s\nlost %+v\n%s", s.code, s.stderr, s.Lost, s.stdout)
		}
	})
	t.Run("cut off for a while", func(t *testing.T) {
		t.Parallel()
		relay := armortest.New(t, armortest.Options{})
		s := scanWithAlerts(t, server, namespace, func(context.CancelFunc) {
			relay.Await(1)
			relay.HangUp()
			relay.AwaitAsked(2)
			relay.Await(1)
			relay.Send(attack...)
		}, "--alerts", window, "--kubearmor", relay.Address())
		if s.code != exitIncomplete || len(s.Lost) != 1 || s.Lost[0].Reason != scan.LostDeaf || s.Lost[0].To.IsZero() || len(s.Alerts) == 0 ||
			len(s.Failures) != 1 || !strings.Contains(s.Failures[0].Message, "not connected 1 time") {
			t.Errorf("it ends with %d: %s\nlost %+v, failures %+v", s.code, s.stderr, s.Lost, s.Failures)
		}
	})
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nobody at the address":   {[]string{"--kubearmor", "127.0.0.1:1"}, "connection refused"},
		"no relay in the cluster": {nil, "no pods labelled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scanWithAlerts(t, server, namespace, nil, append(test.args, "--alerts", "1s")...)
			if s.code != exitIncomplete || len(s.Failures) != 1 || !strings.Contains(s.Failures[0].Message, test.want) || !strings.Contains(s.stdout, test.want) || len(s.Lost) != 1 {
				t.Errorf("it ends with %d: %s\nlost %+v, failures %+v", s.code, s.stderr, s.Lost, s.Failures)
			}
		})
	}
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		relay := armortest.New(t, armortest.Options{})
		s := scanWithAlerts(t, server, namespace, func(stop context.CancelFunc) {
			relay.Await(1)
			relay.Send(attack...)
			stop()
		}, "--alerts", "1h", "--kubearmor", relay.Address())
		if s.code != exitInterrupted || !s.End.Interrupted || !s.End.Incomplete {
			t.Errorf("it ends with %d: %s\n%+v", s.code, s.stderr, s.End)
		}
	})
}
