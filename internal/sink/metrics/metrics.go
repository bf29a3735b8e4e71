// Package metrics counts what a watch tells, for Prometheus.
//
// No label holds what a stranger may choose: no workload, pod, namespace, image or
// message. So the number of series has a bound, however large the cluster is and
// whoever attacks it.
package metrics

import (
	"net/http"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	// other is the label of all that has no label of its own.
	other = "other"
	// maxNames bounds the sources, sinks and queues that have labels of their own.
	maxNames = 32
	// maxScrapes are served at once; the next is told to come later.
	maxScrapes = 4
)

// Options say what is counted.
type Options struct {
	// Version is that of the program, RuleSet that of the table of rules.
	Version, RuleSet string
	// Sources are the addresses of KubeArmor that are listened to. They are not
	// connected before Connected says so; others are joined as "other".
	Sources []string
	// Now is the clock, time.Now where it is nil.
	Now func() time.Time
}

// Metrics is a sink that keeps the figures. Handle is called from one goroutine;
// everything else may be called from any, also while it is scraped.
type Metrics struct {
	now      func() time.Time
	registry *prometheus.Registry
	updates  prometheus.Histogram
	known    known
	figures  map[string]described

	mu sync.Mutex
	// shown is the picture that a scrape shows, nil before the first is complete.
	// drawn is one that is not complete yet: until it is, the one before is shown.
	shown, drawn *picture
	pictureAt    time.Time
	events       tally[string]
	evidence     evidence
	leader       bool
	staleSince   time.Time
	sources      map[string]bool
	strangers    map[string]bool
	queues       map[string]int
	sinks        map[string]*sinkState
}

// sinkState is what a sink has said of itself.
type sinkState struct {
	dropped, errors int
	failing         bool
}

// New returns figures of nothing.
func New(o Options) *Metrics {
	m := &Metrics{
		now: o.Now, registry: prometheus.NewRegistry(), known: newKnown(), figures: describe(), events: tally[string]{},
		evidence: newEvidence(), sources: map[string]bool{}, strangers: map[string]bool{},
		queues: map[string]int{}, sinks: map[string]*sinkState{},
	}
	if m.now == nil {
		m.now = time.Now
	}
	for _, s := range o.Sources {
		if len(m.sources) < maxNames {
			m.sources[label(s)] = false
		}
	}
	m.updates = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: prefix + "update_duration_seconds", Help: "How long it took to judge what had changed.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "build_info", Help: "1; the labels are the versions of the program, its rules and Go.",
		ConstLabels: prometheus.Labels{"version": label(o.Version), "rule_set": label(o.RuleSet), "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m, m.updates, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the figures in the formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true, ErrorHandling: promhttp.HTTPErrorOnError,
	})
}

// Gatherer gives the figures to who wants them otherwise.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handle takes in an event. It never fails.
func (m *Metrics) Handle(e scan.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events.add(kindOf(e), 1)
	switch {
	case e.Start != nil:
		m.drawn = newPicture()
	case e.Alert != nil:
		m.evidence.alert(e.Alert)
	case e.Lost != nil:
		m.evidence.gap(e.Lost)
	case e.Picture != nil, e.End != nil:
		if m.drawn != nil {
			m.shown, m.drawn = m.drawn, nil
			m.pictureAt = m.now()
		}
	case m.drawn != nil:
		m.drawn.take(e, &m.known)
	case m.shown != nil:
		m.shown.take(e, &m.known)
	}
	return nil
}

// SetLeader says whether this replica is the one that tells.
func (m *Metrics) SetLeader(leads bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.leader = leads
}

// SetStale says since when something is not followed; zero where all is.
func (m *Metrics) SetStale(since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.staleSince = since
}

// ObserveUpdate counts how long it took to judge what had changed.
func (m *Metrics) ObserveUpdate(took time.Duration) { m.updates.Observe(max(took, 0).Seconds()) }

// SetQueue says how much waits in a queue.
func (m *Metrics) SetQueue(queue string, length int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queues[slot(m.queues, queue)] = length
}

// Connected says whether a KubeArmor is listened to.
func (m *Metrics) Connected(source string, connected bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	source = label(source)
	if _, ours := m.sources[source]; ours {
		m.sources[source] = connected
		return
	}
	if _, met := m.strangers[source]; met || len(m.strangers) < maxNames {
		m.strangers[source] = connected
	}
}

// Notice counts what a sink says of itself.
func (m *Metrics) Notice(n sink.Notice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := slot(m.sinks, n.Sink)
	s := m.sinks[name]
	if s == nil {
		s = &sinkState{}
		m.sinks[name] = s
	}
	s.dropped += max(n.Dropped, 0)
	s.failing = n.Err != nil
	if n.Err != nil {
		s.errors++
	}
}

// slot is the label under which a name is counted: its own as long as there are few.
func slot[V any](of map[string]V, name string) string {
	name = label(name)
	if _, met := of[name]; met || len(of) < maxNames {
		return name
	}
	return other
}

// label is a text that Prometheus takes: one label that it does not would cost the
// whole scrape.
func label(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// kindOf names the kind of an event.
func kindOf(e scan.Event) string {
	switch {
	case e.Start != nil:
		return "start"
	case e.Progress != nil:
		return "progress"
	case e.Node != nil:
		return "node"
	case e.Policy != nil:
		return "policy"
	case e.Finding != nil:
		return "finding"
	case e.Resolved != nil:
		return "resolved"
	case e.Verdict != nil:
		return "verdict"
	case e.Failure != nil:
		return "failure"
	case e.Alert != nil:
		return "alert"
	case e.Lost != nil:
		return "lost"
	case e.Picture != nil:
		return "picture"
	case e.End != nil:
		return "end"
	default:
		return other
	}
}
