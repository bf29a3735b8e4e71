package armor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// What is told is what was sent, and what is recorded reads back to the same.
func TestListen(t *testing.T) {
	t.Parallel()
	for _, file := range recordings(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			sent := armortest.Recording(t, file)
			relay := armortest.New(t, armortest.Options{})
			h := listen(t, target(relay))
			relay.Await(1)
			relay.Send(sent...)
			h.until(t, "all alerts have come", func() bool { return len(h.alerts) == len(sent) })
			h.stop(t)
			if len(h.losts) > 0 || len(h.states) != 1 || !h.states[0].connected {
				t.Errorf("heard %s", h)
			}
			back, err := collect(t, strings.NewReader(strings.Join(h.lines, "\n")))
			if err != nil || len(back) != len(sent) {
				t.Fatalf("%d alerts of %d in the recording: %v", len(back), len(sent), err)
			}
			for i := range sent {
				want := reader.DecodeAlert(sent[i])
				if !sameAlert(h.alerts[i], want) || !sameAlert(back[i], want) {
					t.Errorf("alert %d\n%+v\nrecorded\n%+v\nwant\n%+v", i, h.alerts[i], back[i], want)
				}
			}
		})
	}
}

// A line of ours has all fields of one that KubeArmor's own messages make.
func TestListenRecordsAllFields(t *testing.T) {
	t.Parallel()
	relay := armortest.New(t, armortest.Options{})
	h := listen(t, target(relay))
	relay.Await(1)
	relay.Send(armortest.Recording(t, "testdata/smoke.jsonl")...)
	h.until(t, "the alert has come", func() bool { return len(h.lines) == 1 })
	h.stop(t)
	fields := func(line []byte) map[string]any {
		var recorded struct {
			Received time.Time
			Msg      map[string]any
		}
		if err := json.Unmarshal(line, &recorded); err != nil || recorded.Received.IsZero() {
			t.Fatalf("%s: %v", line, err)
		}
		return recorded.Msg
	}
	got, want := fields([]byte(h.lines[0])), fields(readFile(t, "testdata/smoke.jsonl"))
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("recorded\n%v\nwant\n%v", got, want)
	}
}

// A connection that breaks is made again. The time in between is told when it begins and
// when it is over.
func TestListenAgain(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*armortest.Server){
		"reset": (*armortest.Server).Cut, "the stream is ended": (*armortest.Server).HangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relay := armortest.New(t, armortest.Options{})
			h := listen(t, target(relay))
			relay.Await(1)
			relay.Send(alertNamed("before"))
			h.until(t, "the first alert", func() bool { return len(h.alerts) == 1 })
			began := time.Now()
			cut(relay)
			h.connected(t, 2)
			relay.Await(1)
			relay.Send(alertNamed("after"))
			h.until(t, "the second alert", func() bool { return len(h.alerts) == 2 })
			h.stop(t)
			if len(h.losts) != 2 || h.losts[0].ID != h.losts[1].ID || !h.losts[0].To.IsZero() || h.losts[1].To.Before(began) ||
				h.losts[1].From.After(h.losts[1].To) || h.losts[1].Source != relay.Address() || !strings.Contains(h.losts[1].Message, "back after") {
				t.Errorf("heard %s", h)
			}
			if len(h.states) != 3 || h.states[1].connected || h.states[1].err == nil || !h.states[2].connected {
				t.Errorf("heard %s", h)
			}
		})
	}
}

// Whatever keeps a target from being listened to is said once, in words of its own, and
// the time is told to be missing from the start. When it is over, alerts come. Time is
// made up here.
func TestListenToWhoMisbehaves(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		behaviour armortest.Behaviour
		says      string
	}{
		{"it closes every connection", armortest.Behaviour{Away: true}, ""},
		{"it takes the connection and says nothing", armortest.Behaviour{Deaf: true}, ""},
		{"it hangs up", armortest.Behaviour{HangUp: true}, reader.ErrStreamEnded.Error()},
		{"it refuses", armortest.Behaviour{Refuse: status.Error(codes.PermissionDenied, "not you")}, "PermissionDenied: not you"},
		{"its health check is mute", armortest.Behaviour{MuteHealthCheck: true}, "no answer in 20s"},
		{"it answers anything", armortest.Behaviour{WrongHealthCheck: true}, "not KubeArmor"},
		{"it is cut in its first words", armortest.Behaviour{CutAfter: 10, Reset: true}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				relay := armortest.New(t, armortest.Options{InMemory: true, Behaviour: test.behaviour})
				var dialled atomic.Int32
				to := target(relay)
				to.Dial = func(ctx context.Context, address string) (net.Conn, error) {
					dialled.Add(1)
					return relay.Dial(ctx, address)
				}
				began := time.Now()
				h := listen(t, to)
				<-time.After(10 * time.Minute)
				synctest.Wait()
				now := h.now()
				if len(now.states) == 0 || now.states[0].connected || !strings.HasPrefix(now.states[0].err.Error(), "KubeArmor at relay.memory:32767: ") || !strings.Contains(now.states[0].err.Error(), test.says) {
					t.Errorf("heard %s", h)
				}
				deaf := h.gaps(scan.LostDeaf)
				if len(deaf) != 1 || !deaf[0].From.Equal(began) || !deaf[0].To.IsZero() {
					t.Errorf("heard %s", h)
				}
				// In ten minutes of waits between 15 and 30 seconds, after the first few.
				if n := dialled.Load(); n < 10 || n > 60 {
					t.Errorf("%d tries in 10 minutes", n)
				}
				if len(now.states) > 3 {
					t.Errorf("%d times told of the same: %s", len(now.states), h)
				}
				relay.SetBehaviour(armortest.Behaviour{})
				h.connected(t, 1)
				relay.Await(1)
				relay.Send(alertNamed("at last"))
				h.until(t, "an alert", func() bool { return len(h.alerts) == 1 })
				h.stop(t)
				if deaf := h.gaps(scan.LostDeaf); len(deaf) != 1 || deaf[0].To.Before(began.Add(10*time.Minute)) {
					t.Errorf("heard %s", h)
				}
				relay.Stop()
			})
		})
	}
}

// A relay without a health check is listened to all the same.
func TestListenWithoutHealthCheck(t *testing.T) {
	t.Parallel()
	relay := armortest.New(t, armortest.Options{Behaviour: armortest.Behaviour{NoHealthCheck: true}})
	h := listen(t, target(relay))
	h.connected(t, 1)
	relay.Await(1)
	relay.Send(alertNamed("one"))
	h.until(t, "an alert", func() bool { return len(h.alerts) == 1 })
	h.stop(t)
}

// A relay that hangs, with its connections open, is noticed, whether it used to ping or
// not; one that has nothing to tell is left alone. Time is made up here.
func TestListenToSilence(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]armortest.Options{"a relay": {InMemory: true}, "one without pings": {InMemory: true, NoPings: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				relay := armortest.New(t, o)
				h := listen(t, target(relay))
				<-time.After(2 * time.Hour)
				synctest.Wait()
				if now := h.now(); len(now.states) != 1 || len(now.losts) > 0 {
					t.Errorf("after two hours of peace: %s", h)
				}
				frozen := time.Now()
				relay.Freeze()
				<-time.After(2 * time.Minute)
				synctest.Wait()
				h.connected(t, 2)
				h.stop(t)
				deaf := h.gaps(scan.LostDeaf)
				if len(deaf) != 1 || deaf[0].From.After(frozen.Add(time.Second)) || deaf[0].From.Before(frozen.Add(-time.Minute)) || deaf[0].To.Sub(frozen) > 2*time.Minute {
					t.Errorf("frozen at %s: %s", frozen, h)
				}
				if len(h.states) != 3 || !strings.Contains(h.states[1].err.Error(), "it fell silent: no answer in 20s") {
					t.Errorf("heard %s", h)
				}
				relay.Stop()
			})
		})
	}
}

// The wait begins anew after a connection that held, and grows while none does.
func TestListenWaitsLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		relay := armortest.New(t, armortest.Options{InMemory: true})
		h := listen(t, target(relay))
		h.connected(t, 1)
		var waits []time.Duration
		for i := range 8 {
			if i == 6 {
				<-time.After(time.Minute)
			} else {
				<-time.After(time.Second) // Which is not long.
			}
			synctest.Wait()
			cut := time.Now()
			relay.Cut()
			h.connected(t, i+2)
			gaps := h.gaps(scan.LostDeaf)
			waits = append(waits, gaps[i].To.Sub(cut))
		}
		h.stop(t)
		for i, bounds := range [][2]int64{{250, 500}, {500, 1000}, {1000, 2000}, {2000, 4000}, {4000, 8000}, {8000, 16000}, {250, 500}, {500, 1000}} {
			if w := waits[i].Milliseconds(); w < bounds[0] || w > bounds[1] {
				t.Errorf("wait %d: %d ms, want %v; all: %v", i, w, bounds, waits)
			}
		}
		relay.Stop()
	})
}

// Messages that are no alerts are counted, and the stream goes on.
func TestListenToGarbage(t *testing.T) {
	t.Parallel()
	relay := armortest.New(t, armortest.Options{})
	h := listen(t, target(relay))
	relay.Await(1)
	relay.Send(alertNamed("first"))
	relay.SendRaw([]byte("\xff\xff\xff"), nil, []byte("\x0a\x05abc"), []byte("GET / HTTP/1.1\r\n\r\n"))
	relay.Send(alertNamed("last"), &protobuf.Alert{Type: "ContainerLog", Operation: "Process"})
	h.until(t, "the last alert", func() bool { return len(h.alerts) == 2 })
	h.until(t, "the gap is over", func() bool { return len(h.losts) > 0 && !h.losts[len(h.losts)-1].To.IsZero() })
	h.stop(t)
	gaps := h.gaps(scan.LostUnreadable)
	if len(gaps) != 1 || gaps[0].Alerts != 4 || gaps[0].Source != relay.Address() || gaps[0].To.Before(gaps[0].From) || !strings.Contains(gaps[0].Message, "no alert") {
		t.Errorf("heard %s", h)
	}
	if len(h.states) != 1 || len(h.lines) != 2 {
		t.Errorf("heard %s", h)
	}
}

// An alert that is too long is counted, and asking for alerts again does not take a new
// connection, unless there are many.
func TestListenToTooLongAlerts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		relay := armortest.New(t, armortest.Options{InMemory: true})
		dialled := 0
		to := target(relay)
		to.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			dialled++
			return relay.Dial(ctx, address)
		}
		h := listen(t, to)
		h.connected(t, 1)
		<-time.After(time.Minute)
		relay.SendRaw(make([]byte, 2<<20))
		relay.AwaitAsked(2)
		synctest.Wait()
		relay.Send(alertNamed("after"))
		h.until(t, "the next alert", func() bool { return len(h.alerts) == 1 })
		if dialled != 1 || len(h.gaps(scan.LostDeaf)) > 0 {
			t.Errorf("%d connections: %s", dialled, h)
		}
		relay.SendRaw(make([]byte, 2<<20))
		h.connected(t, 2)
		<-time.After(time.Minute)
		h.stop(t)
		gaps := h.gaps(scan.LostUnreadable)
		if len(gaps) != 1 || gaps[0].Alerts != 2 || gaps[0].To.IsZero() || !strings.Contains(gaps[0].Message, "longer than 1024 KiB") {
			t.Errorf("heard %s", h)
		}
		if deaf := h.gaps(scan.LostDeaf); dialled != 2 || len(deaf) != 1 {
			t.Errorf("%d connections: %s", dialled, h)
		}
		relay.Stop()
	})
}

// Several are listened to at once, and one that is away keeps no other waiting.
func TestListenToMany(t *testing.T) {
	t.Parallel()
	var targets []reader.Target
	var relays []*armortest.Server
	for i := range 3 {
		relays = append(relays, armortest.New(t, armortest.Options{Behaviour: armortest.Behaviour{Away: i == 2}}))
		targets = append(targets, target(relays[i]))
	}
	h := listen(t, targets...)
	h.connected(t, 2)
	for i, relay := range relays[:2] {
		relay.Await(1)
		relay.Send(alertNamed(fmt.Sprint("relay ", i)))
	}
	h.until(t, "an alert of each", func() bool { return len(h.alerts) == 2 })
	h.until(t, "the third is told to be away", func() bool {
		return slices.ContainsFunc(h.losts, func(l scan.Lost) bool { return l.Source == relays[2].Address() }) &&
			slices.ContainsFunc(h.states, func(s state) bool { return s.address == relays[2].Address() && !s.connected })
	})
	h.stop(t)
	for _, l := range h.losts {
		if l.Source != relays[2].Address() {
			t.Errorf("heard %s", h)
		}
	}
	if gaps := h.gaps(scan.LostDeaf); len(gaps) != 1 || gaps[0].To.IsZero() {
		t.Errorf("at the end: %s", h)
	}
}

// What dialling says is what is told, once for each reason, and can be told by its kind.
func TestListenWhereNobodyIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		noRelay := errors.New("there is no relay")
		tries := 0
		h := listen(t, reader.Target{Address: "relay.x:1", Dial: func(context.Context, string) (net.Conn, error) {
			tries++
			if tries > 5 {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("127.0.0.1:%d->10.0.0.1:1: it is full", tries)}
			}
			return nil, fmt.Errorf("try it: %w", noRelay)
		}})
		<-time.After(30 * time.Minute)
		h.stop(t)
		if len(h.states) != 2 || !errors.Is(h.states[0].err, noRelay) || h.states[0].err.Error() != "KubeArmor at relay.x:1: try it: there is no relay" {
			t.Errorf("%d tries: %s", tries, h)
		}
	})
}

// Who is long in answering is told to be missing before anything is known.
func TestListenIsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		relay := armortest.New(t, armortest.Options{InMemory: true})
		to := target(relay)
		to.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			<-time.After(10 * time.Second)
			return relay.Dial(ctx, address)
		}
		began := time.Now()
		h := listen(t, to)
		<-time.After(6 * time.Second)
		synctest.Wait()
		if losts := h.now().losts; len(losts) != 1 || !losts[0].From.Equal(began) || !strings.Contains(losts[0].Message, "has not answered yet") {
			t.Errorf("heard %s", h)
		}
		h.connected(t, 1)
		h.stop(t)
		if gaps := h.gaps(scan.LostDeaf); len(gaps) != 1 || gaps[0].To.Sub(began) != 10*time.Second {
			t.Errorf("heard %s", h)
		}
		relay.Stop()
	})
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	for want, targets := range map[string][]reader.Target{
		"no address":       nil,
		"an empty address": {{Address: "a:1"}, {}},
		"a:1 is named":     {{Address: "a:1"}, {Address: "b:1"}, {Address: "a:1"}},
	} {
		if err := reader.Listen(t.Context(), targets, reader.Listener{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The other side is not told when the listening ends: it would hang up by its own clock,
// and a window would seem to be cut off at its end.
func TestListenTellsNoDeadline(t *testing.T) {
	t.Parallel()
	relay := armortest.New(t, armortest.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := reader.Listen(ctx, []reader.Target{target(relay)}, reader.Listener{
		Lost: func(l scan.Lost) { t.Errorf("lost %+v", l) },
		State: func(_ string, connected bool, err error) {
			if deadline := relay.Deadline(); !connected || !deadline.IsZero() {
				t.Errorf("connected %v, until %s: %v", connected, deadline, err)
			}
		},
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("listening ended with %v", err)
	}
}
