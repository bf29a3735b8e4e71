package main

import (
	"strings"
	"testing"
	"time"

	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// A plan listens at several places, also by TLS, and what it did not hear of the time
// is told with it.
func TestObserve(t *testing.T) {
	t.Parallel()
	ca := armortest.NewCA(t)
	cert, key := ca.Client()
	config, err := source.TLSConfig(source.Certificates{CA: ca.Cert, Cert: cert, Key: key, ServerName: "relay"})
	if err != nil {
		t.Fatal(err)
	}
	alerts := armortest.Recording(t, "../../internal/armor/testdata/burst.jsonl")
	secured := armortest.New(t, armortest.Options{TLS: ca.Server("relay"), Alerts: alerts})
	shaky := armortest.New(t, armortest.Options{})
	a := &app{deps: testDeps(""), stderr: &strings.Builder{}}
	go func() {
		shaky.Await(1)
		shaky.HangUp()
	}()
	keeper := &alertKeeper{}
	failures, err := a.observe(t.Context(), []source.Target{
		{Address: secured.Address(), TLS: config}, {Address: shaky.Address()}, {Address: "127.0.0.1:1"},
	}, 3*time.Second, keeper, a.liveLine())
	if err != nil || keeper.raised != len(alerts) {
		t.Errorf("%d alerts of %d: %v", keeper.raised, len(alerts), err)
	}
	want := map[string]string{"alerts of 127.0.0.1:1": "connection refused", "alerts of " + shaky.Address(): "not connected 1 time, last: "}
	for _, f := range failures {
		if want[f.Subject] == "" || !strings.Contains(f.Message, want[f.Subject]) || f.Reason != scan.FailureUnreachable || f.Affects != unseenBreaks {
			t.Errorf("failure %+v", f)
		}
	}
	if len(failures) != len(want) {
		t.Errorf("%d failures, want %d", len(failures), len(want))
	}
}
