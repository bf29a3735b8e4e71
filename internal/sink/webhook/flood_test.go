package webhook_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/sink/webhook"
	"github.com/escape-scanner/escape-scanner/scan"
)

// A flood to a server that is dead takes no more memory than it may, nothing is lost
// uncounted, and what is important is what is left.
func TestFlood(t *testing.T) {
	t.Parallel()
	const events = 100_000
	alive := make(chan struct{})
	r, n := newReceiver(t), &notices{}
	taken := r.Config.Handler
	r.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		select {
		case <-alive:
			taken.ServeHTTP(w, request)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	o := options(r.URL)
	o.Notify, o.Queue, o.QueueBytes = n.take, 2000, 400_000
	o.Kinds = append(webhook.DefaultKinds(), webhook.KindPolicy)
	s, running := start(t, o)
	low := scan.Event{Policy: &scan.Policy{Layer: scan.LayerRuntime, Kind: "KubeArmorPolicy", Name: "a", Bites: scan.BitesNo}}
	high := finding("b", scan.SeverityHigh)
	for i := range events {
		e := low
		switch {
		case i%1000 == 0:
			e = incident(fmt.Sprint(i), 1)
		case i%100 == 0:
			e = high
		}
		feed(t, s, e)
		if waiting, bytes := webhook.Held(s); waiting > 2000 || bytes > 400_000 {
			t.Fatalf("%d events wait, %d bytes", waiting, bytes)
		}
	}
	close(alive)
	arrived, incidents, highs, dropped := 0, 0, 0, 0
	for s.Waiting() > 0 || arrived+dropped < events {
		d := r.next(t)
		arrived += len(d.Events)
		dropped += d.Dropped
		for _, e := range d.Events {
			switch {
			case e.Alert != nil:
				incidents++
			case e.Finding != nil:
				highs++
			}
		}
	}
	running.end(t)
	if incidents != events/1000 {
		t.Errorf("%d incidents arrived, want %d", incidents, events/1000)
	}
	if highs == 0 {
		t.Error("no finding of high severity arrived")
	}
	if arrived+dropped != events || n.dropped() != dropped {
		t.Errorf("%d arrived, %d dropped as the deliveries say, %d as is told; want %d in all", arrived, dropped, n.dropped(), events)
	}
}
