package main

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

// probeLogs stands for the logs of a node probe. A tick that falls on the same instant as
// the test's own does not come after it for the race detector: reads and reports are locked.
type probeLogs struct {
	why map[string]string
	err error

	mu      sync.Mutex
	reports map[string]*kernel.Machine
	reads   int
}

func (p *probeLogs) read(context.Context, string, time.Time) (map[string]*kernel.Machine, map[string]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	return maps.Clone(p.reports), p.why, p.err
}

// timesRead is how often the logs were read.
func (p *probeLogs) timesRead() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reads
}

// say has the probe of a node report now.
func (p *probeLogs) say(node string, conclusion kernel.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reports[node] = &kernel.Machine{Node: node, Time: time.Now(), EverySeconds: 3600, Conclusion: conclusion}
}

func keeperOf(p *probeLogs) *probeKeeper {
	return &probeKeeper{namespace: "probes", now: time.Now, read: p.read}
}

// A watch without a node probe asks none.
func TestNoProbeKeeper(t *testing.T) {
	t.Parallel()
	if probes := (*probeKeeper)(nil).probes(); probes.Machines != nil {
		t.Error("there is a check of the nodes")
	}
}

// What a probe says again is nothing new, but newer.
func TestProbeKeeperTellsWhatIsOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := &probeLogs{reports: map[string]*kernel.Machine{}}
		keeper := keeperOf(logs)
		look := func(when string, want bool) {
			t.Helper()
			if other := keeper.look(t.Context()); other != want {
				t.Errorf("%s: other is %t", when, other)
			}
		}
		look("nothing", false)
		logs.say("a", kernel.No)
		look("the first report", true)
		<-time.After(time.Hour)
		logs.say("a", kernel.No)
		look("the same an hour later", false)
		reports, why, err := keeper.probes().Machines(t.Context(), []string{"a", "b"})
		if err != nil || reports["a"] == nil || !reports["a"].Time.Equal(time.Now()) {
			t.Errorf("have %v, %v", reports, err)
		}
		if !strings.Contains(why["b"], "no pod of the node probe runs there (namespace probes)") || why["a"] != "" {
			t.Errorf("why: %v", why)
		}
		logs.say("a", kernel.Yes)
		look("another conclusion", true)
		logs.why = map[string]string{"b": "its image cannot be pulled"}
		look("another reason", true)
		if _, why, _ := keeper.probes().Machines(t.Context(), []string{"b"}); why["b"] != "its image cannot be pulled" {
			t.Errorf("why: %v", why)
		}
		delete(logs.reports, "a")
		look("no report", true)
	})
}

// What was read holds while nothing can be read, for as long as it may be believed, and
// then it is not taken for a node without a probe.
func TestProbeKeeperInTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := &probeLogs{reports: map[string]*kernel.Machine{}}
		keeper := keeperOf(logs)
		logs.say("a", kernel.No)
		keeper.look(t.Context())
		logs.reports, logs.err = nil, errors.New("pods of the node probe: connection refused")
		if !keeper.look(t.Context()) {
			t.Error("that nothing can be read is not told")
		}
		reports, why, err := keeper.machines(t.Context(), []string{"a", "b"})
		if err == nil || reports["a"] == nil {
			t.Errorf("have %v, %v", reports, err)
		}
		if !strings.Contains(why["b"], "could not be read") {
			t.Errorf("why: %v", why)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		logs.err = nil
		if keeper.look(stopped) {
			t.Error("a look that was stopped counts")
		}
		<-time.After(3 * time.Hour)
		logs.err = errors.New("pods of the node probe: connection refused")
		if !keeper.look(t.Context()) {
			t.Error("that a report is too old is not told")
		}
		reports, why, _ = keeper.machines(t.Context(), []string{"a"})
		if len(reports) > 0 || !strings.Contains(why["a"], "could not be read") {
			t.Errorf("have %v, %v", reports, why)
		}
	})
}

// It looks every five minutes, and speaks only of what is other.
func TestProbeKeeperFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := &probeLogs{reports: map[string]*kernel.Machine{}}
		keeper := keeperOf(logs)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var told atomic.Int32
		ended := make(chan error, 1)
		go func() { ended <- keeper.follow(ctx, func() { told.Add(1) }) }()
		wait := func(reads int, tellings int32) {
			t.Helper()
			<-time.After(probesEvery)
			synctest.Wait()
			if logs.timesRead() != reads || told.Load() != tellings {
				t.Errorf("%d reads and told %d times, want %d and %d", logs.timesRead(), told.Load(), reads, tellings)
			}
		}
		wait(1, 0)
		logs.say("a", kernel.No)
		wait(2, 1)
		wait(3, 1)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
