package armor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/kubearmor/KubeArmor/protobuf"
	"go.uber.org/goleak"

	reader "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// Whatever a test listened to, nothing of it is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// state is what a Listener was told of a target.
type state struct {
	address   string
	connected bool
	err       error
}

// heard keeps what a Listener is told.
type heard struct {
	mu     sync.Mutex
	alerts []armor.Alert
	lines  []string
	losts  []scan.Lost
	states []state
	// changed is closed, and made anew, with each.
	changed chan struct{}
	ended   chan error
	cancel  context.CancelCauseFunc
}

var errOver = errors.New("the test is over")

// listen listens until the test ends, or until stop.
func listen(t testing.TB, targets ...reader.Target) *heard {
	t.Helper()
	h := &heard{changed: make(chan struct{}), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancelCause(t.Context())
	h.cancel = cancel
	go func() {
		h.ended <- reader.Listen(ctx, targets, reader.Listener{
			Alert: func(a armor.Alert) { h.note(func() { h.alerts = append(h.alerts, a) }) },
			Raw:   func(line []byte) { h.note(func() { h.lines = append(h.lines, string(line)) }) },
			Lost:  func(l scan.Lost) { h.note(func() { h.losts = append(h.losts, l) }) },
			State: func(address string, connected bool, err error) {
				h.note(func() { h.states = append(h.states, state{address, connected, err}) })
			},
		})
	}()
	return h
}

// now is a copy of what was heard by now.
func (h *heard) now() *heard {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &heard{alerts: slices.Clone(h.alerts), lines: slices.Clone(h.lines), losts: slices.Clone(h.losts), states: slices.Clone(h.states)}
}

func (h *heard) note(what func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what()
	close(h.changed)
	h.changed = make(chan struct{})
}

// until waits for something to be true of what was heard.
func (h *heard) until(t testing.TB, what string, enough func() bool) {
	t.Helper()
	for {
		h.mu.Lock()
		done, changed := enough(), h.changed
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("the test ends before %s: %s", what, h)
		}
	}
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d alerts, losts %+v, states %+v", len(h.alerts), h.losts, h.states)
}

// connected waits until so many connections were made.
func (h *heard) connected(t testing.TB, times int) {
	t.Helper()
	h.until(t, "it is connected", func() bool { return h.connections() >= times })
}

func (h *heard) connections() int {
	n := 0
	for _, s := range h.states {
		if s.connected {
			n++
		}
	}
	return n
}

// stop ends the listening and waits for it.
func (h *heard) stop(t testing.TB) {
	t.Helper()
	h.cancel(errOver)
	if err := <-h.ended; !errors.Is(err, errOver) {
		t.Errorf("listening ended with %v", err)
	}
}

// gaps are the last that was told of each gap.
func (h *heard) gaps(reason scan.LostReason) []scan.Lost {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	last := map[string]scan.Lost{}
	for _, l := range h.losts {
		if l.Reason != reason {
			continue
		}
		if _, ok := last[l.ID]; !ok {
			ids = append(ids, l.ID)
		}
		last[l.ID] = l
	}
	var gaps []scan.Lost
	for _, id := range ids {
		gaps = append(gaps, last[id])
	}
	return gaps
}

func target(s *armortest.Server) reader.Target {
	return reader.Target{Address: s.Address(), Dial: s.Dial}
}

func alertNamed(name string) *protobuf.Alert {
	return &protobuf.Alert{Type: "MatchedPolicy", Operation: "Process", Resource: name}
}
