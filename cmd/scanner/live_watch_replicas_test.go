package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/escape-scanner/escape-scanner/internal/kubetest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// TestLiveWatchReplicas kills the one of two replicas that leads. The other takes over,
// begins with the picture, writes no report anew that is as it should be, and misses
// nothing that changed in between. That both have one name does not make both lead.
func TestLiveWatchReplicas(t *testing.T) {
	t.Parallel()
	server := kubetest.New(t)
	server.InstallCRDs(t, kubetest.OpenReports)
	server.NamedNamespace(t, "shop", nil)
	server.ApplyYAML(t, fmt.Sprintf(rightsPod, "before", "shop"))
	flags := []string{"--no-alerts", "--reports", "auto", "--leader-elect", "--lease-namespace", "default", "--leader-id", "same"}
	first := startWatch(t, server.Config(), flags...)
	first.untilPicture()
	awaited(t, "a report", func() bool { return reportsAbout(t, server.Config(), "shop", "before") == 1 })
	version := func() string {
		list, err := reportsIn(t, server.Config(), "shop").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			if text, _ := json.Marshal(list.Items[i].Object["scope"]); strings.Contains(string(text), `"before"`) {
				return list.Items[i].GetResourceVersion()
			}
		}
		return "none"
	}
	was := version()

	second := startWatch(t, server.Config(), flags...)
	awaited(t, "the second knows who leads", func() bool { return strings.Contains(second.said(), " leads") })
	second.mu.Lock()
	early := second.lines.Len()
	var beginning []scan.Event
	second.told = append(second.told, func(e scan.Event, _ time.Time) { beginning = append(beginning, e) })
	second.mu.Unlock()
	if early > 0 {
		t.Error("both write")
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := first.wait(); err == nil {
		t.Error("it was killed, and ends well")
	}
	server.ApplyYAML(t, fmt.Sprintf(rightsPod, "between", "shop"))
	second.untilPicture()
	second.mu.Lock()
	if len(beginning) == 0 || beginning[0].Start == nil {
		t.Error("it does not begin with the start")
	}
	second.mu.Unlock()
	awaited(t, "a report of what came between", func() bool { return reportsAbout(t, server.Config(), "shop", "between") == 1 })
	if now := version(); now != was {
		t.Errorf("the report was written anew: %s, was %s", now, was)
	}
	second.untilEqual(server.Config())
	if code := second.stop(); code != exitOK {
		t.Errorf("it ends with %d", code)
	}
}
