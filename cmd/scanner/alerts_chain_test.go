package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf8"

	"github.com/kubearmor/KubeArmor/protobuf"
	"google.golang.org/protobuf/proto"
	psa "k8s.io/pod-security-admission/api"

	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/armortest"
	"github.com/escape-scanner/escape-scanner/internal/watch"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// chain is all that an alert passes in a watch: a relay's stream, the folder, the loop
// with the verdicts of a cluster, and who keeps the picture.
type chain struct {
	testing.TB
	relay  *armortest.Server
	folder *alerts.Folder

	mu    sync.Mutex
	state *scan.State
	// counts are those of the folds and of the gaps, as each was told last.
	counts, missing map[string]int
	changed         *sync.Cond
	// connections are how many there were.
	connections int

	stopListening, stopLoop context.CancelFunc
	listened, looped        chan error
}

// startChain begins to listen to a relay, in the cluster of the recordings.
func startChain(tb testing.TB, o alerts.Options, also ...scan.Handler) *chain {
	tb.Helper()
	manifests, err := os.ReadFile("../../testdata/alerts/cluster.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	cluster, err := newStill(tb.Context(), fstest.MapFS{"cluster.yaml": {Data: manifests}}, "v1.36.3")
	if err != nil {
		tb.Fatal(err)
	}
	c := &chain{
		TB: tb, relay: armortest.New(tb, armortest.Options{}), connections: 1,
		folder: alerts.NewFolder(o),
		state:  scan.NewState(), counts: map[string]int{}, missing: map[string]int{}, listened: make(chan error, 1), looped: make(chan error, 1),
	}
	c.changed = sync.NewCond(&c.mu)
	loop := watch.New(watch.Options{
		Posture: scan.NewTracker(cluster, scan.TrackerOptions{Cluster: scan.ClusterOptions{Level: psa.LevelBaseline}, Now: time.Now}),
		Alerts:  c.folder, Handler: report.Tee(append(also, scan.HandlerFunc(c.take))...), Now: time.Now,
	})
	var looping, listening context.Context
	looping, c.stopLoop = context.WithCancel(tb.Context())
	listening, c.stopListening = context.WithCancel(tb.Context())
	go func() { c.looped <- loop.Run(looping) }()
	go func() {
		c.listened <- source.Listen(listening, []source.Target{{Address: c.relay.Address()}}, source.Listener{
			Alert: func(a armor.Alert) { c.folder.Add(a, time.Now()) }, Lost: c.folder.Lost,
		})
	}()
	c.relay.Await(1)
	return c
}

func (c *chain) take(e scan.Event) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.Alert != nil:
		if e.Alert.Count < c.counts[e.Alert.ID] {
			c.Errorf("alert %s was told %d times, and now %d", e.Alert.ID, c.counts[e.Alert.ID], e.Alert.Count)
		}
		c.counts[e.Alert.ID] = e.Alert.Count
	case e.Lost != nil:
		c.missing[e.Lost.ID] = e.Lost.Alerts
	}
	c.changed.Broadcast()
	return c.state.Handle(e)
}

// sum is how many alerts were told, and how many were told to be missing.
func (c *chain) sum() (told, missing int) {
	for _, n := range c.counts {
		told += n
	}
	for _, n := range c.missing {
		missing += n
	}
	return told, missing
}

// until waits for all alerts to be told of, in one way or the other.
func (c *chain) until(sent int) {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		told, missing := c.sum()
		switch {
		case told+missing == sent:
			return
		case told+missing > sent:
			c.Fatalf("%d told and %d missing, and only %d were sent", told, missing, sent)
		}
		c.changed.Wait()
	}
}

// untilDeaf waits until so many gaps of the connection were told.
func (c *chain) untilDeaf(times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		deaf := 0
		for l := range c.state.Lost() {
			if l.Reason == scan.LostDeaf {
				deaf++
			}
		}
		if deaf >= times {
			return
		}
		c.changed.Wait()
	}
}

// end stops listening and then the loop: all that was received is told.
func (c *chain) end() {
	c.Helper()
	c.stopListening()
	if err := <-c.listened; !errors.Is(err, context.Canceled) {
		c.Errorf("listening ended with %v", err)
	}
	c.stopLoop()
	if err := <-c.looped; err != nil {
		c.Errorf("the loop ended with %v", err)
	}
}

// again has the relay end the connection and waits for the next.
func (c *chain) again(cut func()) {
	c.connections++
	cut()
	c.relay.AwaitAsked(c.connections)
	c.relay.Await(1)
}

// Every recording of a real KubeArmor passes the whole chain, and each alert of it is
// called what its experiment says.
func TestRecordingsThroughTheChain(t *testing.T) {
	t.Parallel()
	classes := map[string]scan.AlertClass{
		"escape-caps": scan.ClassCapability, "escape-chroot": scan.ClassChroot, "escape-pkg": scan.ClassTool, "entrypoint": scan.ClassOther,
	}
	for name, want := range map[string]struct{ incidents, throttled int }{
		"testdata/alerts/legit-block":                 {0, 0},
		"testdata/alerts/block-nothrottle":            {85, 0},
		"scan/armor/testdata/recordings/escape-block": {46, 0},
		"scan/armor/testdata/recordings/audit":        {14, 0},
		"scan/armor/testdata/recordings/entrypoint":   {0, 0},
		"internal/armor/testdata/burst":               {11, 1},
		"internal/armor/testdata/smoke":               {1, 0},
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			sent := armortest.Recording(t, filepath.Join("..", "..", name+".jsonl"))
			c := startChain(t, alerts.Options{})
			c.relay.Send(sent...)
			c.until(len(sent) - want.throttled)
			c.end()
			incidents, throttled := 0, 0
			for a := range c.state.Alerts() {
				if a.Class != classes[a.Policy] || a.Blocked != !strings.HasSuffix(name, "audit") || a.Class != scan.ClassOther && len(a.Techniques) == 0 {
					t.Errorf("%s by %s is %s %v, blocked %v", a.Policy, a.Process, a.Class, a.Techniques, a.Blocked)
				}
				if owned := a.Workload.Kind == "Deployment" && strings.HasPrefix(a.Pod, a.Workload.Name+"-") || a.Workload.Kind == "Pod" && a.Workload.Name == a.Pod; !owned || a.Workload.Namespace != "shop" || a.Verdict == "" {
					t.Errorf("of pod %s told as %s, which is %q", a.Pod, a.Workload, a.Verdict)
				}
				if a.Incident {
					incidents += a.Count
				}
			}
			for l := range c.state.Lost() {
				if l.Reason == scan.LostThrottled {
					throttled++
				} else {
					t.Errorf("lost %+v", *l)
				}
			}
			if incidents != want.incidents || throttled != want.throttled {
				t.Errorf("%d alerts are incidents, want %d; throttled %d times, want %d", incidents, want.incidents, throttled, want.throttled)
			}
		})
	}
}

// crowd gives the alerts of an attack on so many pods, on the wire, one after the other.
// Neighbours are of different pods, as they are in a cluster.
func crowd(tb testing.TB, pods int) func(i int) []byte {
	tb.Helper()
	attack := armortest.Recording(tb, "../../testdata/alerts/block-nothrottle.jsonl")
	return func(i int) []byte {
		a := attack[i/pods%len(attack)]
		a.PodName = fmt.Sprintf("pod-%d", i%pods)
		return encodedAlert(tb, a)
	}
}

func encodedAlert(tb testing.TB, a proto.Message) []byte {
	tb.Helper()
	message, err := proto.Marshal(a)
	if err != nil {
		tb.Fatal(err)
	}
	return message
}

// Whatever a relay says, lying or not: nothing of it acts on a terminal, makes a line of its
// own, or is longer than what is of use, and what is true beside it is told.
func TestForgedAlerts(t *testing.T) {
	t.Parallel()
	honest := armortest.Recording(t, "../../internal/armor/testdata/smoke.jsonl")[0]
	honest.NamespaceName, honest.PodName = "shop", "plain-66ff6989d4-vgdqc"
	var log, lines bytes.Buffer
	c := startChain(t, alerts.Options{}, report.NewWatchText(&log, report.WatchTextOptions{AllAlerts: true}), report.NewJSONL(&lines))
	sent := 0
	nasty := []string{"\x1b[2J\x1b]0;owned\a", "a\nINCIDENT  CRITICAL", "\u202egnp", strings.Repeat("\u200b", 1000), strings.Repeat("x", 900<<10), "", "shop", "/runc", "\x00"}
	for i, text := range nasty {
		for _, operation := range []string{"Process", "Capabilities", "File", "AlertThreshold", text} {
			forged := &protobuf.Alert{
				Type: "MatchedPolicy", Operation: operation, HostName: text, NamespaceName: text, PodName: text, ContainerName: text, PolicyName: text,
				Action: text, Result: text, Enforcer: text, Resource: text, ProcessName: text, ParentProcessName: text, Labels: text,
				Owner: &protobuf.Podowner{Ref: text, Name: text, Namespace: text}, Timestamp: int64(i) << 40, UpdatedTime: []string{"2100-01-01T00:00:00Z", "1970-01-01T01:00:00Z", text}[i%3],
			}
			if len(text) > 100_000 { // As much as passes in one message.
				forged = &protobuf.Alert{Type: "MatchedPolicy", Operation: operation[:min(len(operation), 100)], ProcessName: text}
			}
			c.relay.Send(forged)
			if forged.Operation != "AlertThreshold" {
				sent++
			}
		}
	}
	// Invalid UTF-8, which no honest relay can send, is no alert.
	raw := encodedAlert(t, &protobuf.Alert{Type: "MatchedPolicy", PodName: "bad-utf8"})
	c.relay.SendRaw(bytes.Replace(raw, []byte("bad-utf8"), []byte("bad\xff\xfeutf"), 1))
	c.relay.Send(honest)
	sent += 2
	c.until(sent)
	c.end()
	for r := range strings.SplitSeq(log.String(), "") {
		if r != "\n" && report.Clean(r) != r {
			t.Errorf("%q is in the log", r)
		}
	}
	for line := range strings.Lines(log.String()) {
		if len(line) > 8<<10 || strings.HasPrefix(line, "INCIDENT") {
			t.Errorf("a line of nobody: %.200q", line)
		}
	}
	for line := range bytes.Lines(lines.Bytes()) {
		if !utf8.Valid(line) || len(line) > 32<<10 {
			t.Errorf("a line of %d bytes: %.200q", len(line), line)
		}
	}
	found := false
	for a := range c.state.Alerts() {
		found = found || a.Incident && a.Workload.String() == "shop/Deployment/plain"
		if now := time.Now(); a.Last.After(now.Add(time.Hour)) || a.First.Year() < 2020 {
			t.Errorf("told to be of %s to %s", a.First, a.Last)
		}
	}
	if !found {
		t.Error("the true incident was not told")
	}
}

func lastPod(i int) string { return fmt.Sprintf("last-%d", i) }

// What was sent is what was told and what was dropped, to the last alert, however often
// the connection is cut; and a cut in the middle loses what was not received, and
// nothing of it twice.
func TestNothingIsLostUncounted(t *testing.T) {
	t.Parallel()
	alert := crowd(t, 20)
	// There is room for a few alerts only, and repeats are told soon.
	c := startChain(t, alerts.Options{Most: 100, Window: time.Second})
	sent := 0
	storm := func() {
		for range 4000 {
			c.relay.SendRaw(alert(sent))
			sent++
		}
	}
	storm()
	c.again(c.relay.HangUp) // Which arrives behind all that was sent.
	storm()
	c.until(sent)
	c.again(c.relay.Cut)
	storm()
	c.until(sent)
	c.mu.Lock()
	_, missing := c.sum()
	c.mu.Unlock()

	// In the middle of a message, or between two: the beginning came.
	one := armortest.Recording(t, "../../internal/armor/testdata/smoke.jsonl")[0]
	const last = 1000
	for i := range last {
		one.PodName = lastPod(i)
		c.relay.SendRaw(encodedAlert(t, one))
		if i == last/2 {
			c.again(c.relay.Cut)
		}
	}
	c.relay.HangUp()
	c.untilDeaf(4)
	c.end()
	told, dropped := c.sum()
	came := map[string]int{}
	for a := range c.state.Alerts() {
		came[a.Pod] += a.Count
	}
	holes := 0
	for i := range last {
		switch n := came[lastPod(i)]; {
		case n > 1:
			t.Errorf("%s was told %d times", lastPod(i), n)
		case n == 0 && i > 0 && came[lastPod(i-1)] == 1:
			holes++
		}
	}
	// What was dropped can make more of them.
	if holes > 1 && dropped == missing {
		t.Errorf("%d holes around one cut", holes)
	}
	if told+dropped > sent+last || told+dropped <= sent {
		t.Errorf("%d told and %d dropped of %d", told, dropped, sent+last)
	}
	deaf := 0
	for l := range c.state.Lost() {
		if l.Reason == scan.LostDeaf && !l.To.IsZero() {
			deaf++
		}
	}
	if counts := c.folder.Counts(); counts.Dropped == 0 || int(counts.Told) != told || int(counts.Dropped) != dropped {
		t.Errorf("%d told and %d dropped, counted as %+v", told, dropped, counts)
	}
	if deaf != 4 {
		t.Errorf("%d gaps were told, of 4 cuts", deaf)
	}
	t.Logf("%d sent, %d told, %d dropped", sent+last, told, dropped)
}

// BenchmarkAlertStorm tells what 10 seconds of 50,000 alerts a second come to through the
// whole chain: of the attacks on 100 pods, and of pods that are never the same. The relay
// runs in the same process, on the same processors.
func BenchmarkAlertStorm(b *testing.B) {
	const rate, long = 50_000, 10 * time.Second
	for name, pods := range map[string]int{"100 pods": 100, "ever other pods": 5000} {
		b.Run(name, func(b *testing.B) {
			alert := crowd(b, pods)
			for range b.N {
				c := startChain(b, alerts.Options{})
				runtime.GC()
				var before runtime.MemStats
				runtime.ReadMemStats(&before)
				sent, peak := 0, uint64(0)
				began := time.Now()
				for second := 1; time.Since(began) < long; {
					for due := int(time.Since(began).Seconds() * rate); sent < due; sent++ {
						c.relay.SendRaw(alert(sent))
					}
					if time.Since(began) > time.Duration(second)*time.Second {
						second++
						var now runtime.MemStats
						runtime.ReadMemStats(&now)
						peak = max(peak, now.HeapInuse)
					}
					<-time.After(time.Millisecond)
				}
				took := time.Since(began)
				c.relay.HangUp()
				c.until(sent)
				c.end()
				told, missing := c.sum()
				counts := c.folder.Counts()
				if told+missing != sent || counts.Waiting != 0 || counts.Told+counts.Dropped != counts.Raised {
					b.Errorf("%d told and %d missing of %d; %+v", told, missing, sent, counts)
				}
				b.ReportMetric(float64(sent)/took.Seconds(), "sent/s")
				b.ReportMetric(float64(told), "told")
				b.ReportMetric(float64(missing), "dropped")
				b.ReportMetric(float64(counts.Folded), "folded")
				b.ReportMetric(float64(peak-min(peak, before.HeapInuse))/(1<<20), "heap-MiB")
			}
		})
	}
}
