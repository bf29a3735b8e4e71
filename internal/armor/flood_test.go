package armor_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// encoded are the alerts of a recording as they are on the wire.
func encoded(tb testing.TB, file string) [][]byte {
	tb.Helper()
	var all [][]byte
	for _, a := range armortest.Recording(tb, file) {
		message, err := proto.Marshal(a)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, message)
	}
	return all
}

// flooded is what a listener was told in a flood.
type flooded struct {
	visited int
	// dropped are the alerts of each gap, as last told; open are those not told to be over.
	dropped map[string]int
	open    map[string]bool
	others  []scan.Lost
	heap    uint64
}

// flood listens until everything was received that send sends.
func flood(tb testing.TB, visit func(visited int), send func(*armortest.Server)) *flooded {
	tb.Helper()
	relay := armortest.New(tb, armortest.Options{})
	f := &flooded{dropped: map[string]int{}, open: map[string]bool{}}
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	ended, over := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- reader.Listen(ctx, []reader.Target{target(relay)}, reader.Listener{
			Alert: func(armor.Alert) {
				f.visited++
				if f.visited%10_000 == 0 {
					f.heap = max(f.heap, heap())
				}
				visit(f.visited)
			},
			Lost: func(l scan.Lost) {
				if l.Reason != scan.LostDropped {
					f.others = append(f.others, l)
					return
				}
				f.dropped[l.ID], f.open[l.ID] = l.Alerts, l.To.IsZero()
			},
			State: func(_ string, _ bool, err error) {
				if errors.Is(err, reader.ErrStreamEnded) {
					relay.SetBehaviour(armortest.Behaviour{Away: true})
					close(over)
				}
			},
		})
	}()
	relay.Await(1)
	send(relay)
	relay.HangUp() // Which arrives behind all that was sent.
	<-over
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		tb.Errorf("listening ended with %v", err)
	}
	return f
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (f *flooded) missing() int {
	n := 0
	for _, alerts := range f.dropped {
		n += alerts
	}
	return n
}

// Every alert of a flood is visited or counted, whoever visits; and what waits for a
// visitor that stands still is bounded.
func TestListenToAFlood(t *testing.T) { //nolint:paralleltest // It looks at the memory of the whole process.
	// The race detector makes it slow. No queue holds as many as have to be sent at least.
	const least, most, patience = 40_000, 200_000, 2 * time.Second
	messages := encoded(t, "testdata/burst.jsonl")
	for name, still := range map[string]bool{"a quick visitor": false, "one that stands still": true} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			alerts, sent := 0, make(chan struct{})
			f := flood(t, func(visited int) {
				if still && visited == 1 {
					<-sent
				}
			}, func(relay *armortest.Server) {
				defer close(sent)
				for began := time.Now(); alerts < least || alerts < most && time.Since(began) < patience; alerts++ {
					relay.SendRaw(messages[alerts%len(messages)])
				}
			})
			dropped := f.missing()
			if f.visited+dropped != alerts {
				t.Errorf("%d visited and %d dropped are not %d", f.visited, dropped, alerts)
			}
			for id, open := range f.open {
				if open {
					t.Errorf("gap %s has no end", id)
				}
			}
			if len(f.others) == 0 || f.others[0].Reason != scan.LostDeaf {
				t.Errorf("told of %+v", f.others)
			}
			if still && dropped == 0 || !still && dropped > alerts/2 {
				t.Errorf("%d of %d dropped", dropped, alerts)
			}
			if f.heap > before && f.heap-before > 96<<20 {
				t.Errorf("the heap grew by %d MiB", (f.heap-before)>>20)
			}
			t.Logf("%d alerts: %d visited, %d dropped in %d gaps, heap %d MiB more", alerts, f.visited, dropped, len(f.dropped), (max(f.heap, before)-before)>>20)
		})
	}
}

// BenchmarkListen tells what 10 seconds of 50,000 alerts a second take, and how many a
// second pass at most. The relay runs in the same process, on the same processors.
func BenchmarkListen(b *testing.B) {
	messages := encoded(b, filepath.Join("testdata", "burst.jsonl"))
	for name, rate := range map[string]int{"50000 a second": 50_000, "as many as pass": 0} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				sent := 0
				began := time.Now()
				f := flood(b, func(int) { spin(time.Microsecond) }, func(relay *armortest.Server) {
					for until := began.Add(10 * time.Second); time.Now().Before(until); {
						due := sent + 1000
						if rate > 0 {
							due = int(time.Since(began).Seconds() * float64(rate))
						}
						for ; sent < due; sent++ {
							relay.SendRaw(messages[sent%len(messages)])
						}
						if rate > 0 {
							<-time.After(time.Millisecond)
						}
					}
				})
				if f.visited+f.missing() != sent {
					b.Errorf("%d visited and %d dropped are not %d", f.visited, f.missing(), sent)
				}
				b.ReportMetric(float64(f.visited)/time.Since(began).Seconds(), "alerts/s")
				b.ReportMetric(float64(f.missing()), "dropped")
				b.ReportMetric(float64(f.heap)/(1<<20), "heap-MiB")
			}
		})
	}
}

// spin takes as long as folding an alert does.
func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}
