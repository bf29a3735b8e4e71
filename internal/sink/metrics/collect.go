package metrics

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/escape-scanner/escape-scanner/scan"
)

const prefix = "escape_scanner_"

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// figure describes one name.
type figure struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
}

// figures are the names. Those of the picture are absent until the first picture is
// complete: what is not known yet is not zero.
func figures() []figure {
	return []figure{
		{"open_escape_paths", "Escape paths that specs leave open. Guarded: every known step is blocked at run time. Excepted: the configuration excuses it.", gauge, []string{"rule", "severity", "guarded", "excepted"}},
		{"findings", "Findings, by rule.", gauge, []string{"rule", "severity", "category", "excepted"}},
		{"workloads", "Workloads, by verdict.", gauge, []string{"verdict"}},
		{"pods", "Pods that were judged.", gauge, nil},
		{"nodes", "Nodes, by whether rules about capabilities and processes are enforced there, and how well that is founded.", gauge, []string{"capabilities", "processes", "grade"}},
		{"policies", "Policies, by layer and by whether they have their effect.", gauge, []string{"layer", "bites"}},
		{"unread", "What should be read and cannot be, by reason: where it is not 0, absence of findings proves nothing.", gauge, []string{"reason"}},
		{"picture_timestamp_seconds", "When the last full picture was complete.", gauge, nil},
		{"stale_seconds", "For how long something in the cluster has not been followed.", gauge, nil},

		{"events_total", "Events told, by kind.", counter, []string{"kind"}},
		{"alerts_total", "Alerts of KubeArmor, every repeat counted.", counter, []string{"class", "blocked", "incident"}},
		{"incidents_total", "Deeds that are incidents; repeats of one are not counted.", counter, []string{"severity"}},
		{"evidence_gaps_total", "Times of which alerts are missing.", counter, []string{"reason"}},
		{"evidence_gaps_open", "Times of which alerts are missing and that last.", gauge, []string{"reason"}},
		{"evidence_gap_seconds_total", "Seconds of which alerts are missing, summed over the gaps.", counter, []string{"reason"}},
		{"evidence_lost_alerts_total", "Alerts that are known to be missing; not every gap can be counted.", counter, []string{"reason"}},

		{"kubearmor_connected", "1 where a KubeArmor is listened to. Other: all of the rest are.", gauge, []string{"source"}},
		{"leader", "1 where this replica is the one that tells.", gauge, nil},
		{"queue_length", "What waits, by queue.", gauge, []string{"queue"}},
		{"sink_dropped_events_total", "Events that a sink gave up.", counter, []string{"sink"}},
		{"sink_errors_total", "Troubles that a sink told of.", counter, []string{"sink"}},
		{"sink_failing", "1 where the last that a sink told of was trouble.", gauge, []string{"sink"}},
	}
}

// described is a figure as Prometheus has it.
type described struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func describe() map[string]described {
	all := map[string]described{}
	for _, f := range figures() {
		all[f.name] = described{prometheus.NewDesc(prefix+f.name, f.help, f.labels, nil), f.kind}
	}
	return all
}

// Describe is for Prometheus.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range m.figures {
		to <- d.desc
	}
}

// Collect is for Prometheus. Nobody who scrapes can hold up the watch: the figures are
// read in one go, and handed over after that.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	for _, metric := range m.read() {
		to <- metric
	}
}

func (m *Metrics) read() []prometheus.Metric {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &scrape{figures: m.figures}
	now := m.now()
	if m.shown != nil {
		s.picture(m.shown, &m.known)
		s.put("picture_timestamp_seconds", seconds(m.pictureAt))
	}
	stale := 0.0
	if !m.staleSince.IsZero() {
		stale = max(now.Sub(m.staleSince).Seconds(), 0)
	}
	s.put("stale_seconds", stale)
	for kind, n := range m.events {
		s.put("events_total", float64(n), kind)
	}
	m.evidence.until(now)
	s.evidence(&m.evidence)
	m.connections(s)
	s.put("leader", number(m.leader))
	for queue, n := range m.queues {
		s.put("queue_length", float64(n), queue)
	}
	for name, state := range m.sinks {
		s.put("sink_dropped_events_total", float64(state.dropped), name)
		s.put("sink_errors_total", float64(state.errors), name)
		s.put("sink_failing", number(state.failing), name)
	}
	return s.out
}

// connections tells which sources are connected. All that are not ours are one: it is
// connected when each of them is.
func (m *Metrics) connections(s *scrape) {
	for source, connected := range m.sources {
		s.put("kubearmor_connected", number(connected), source)
	}
	if _, taken := m.sources[other]; len(m.strangers) > 0 && !taken {
		broken := slices.Contains(slices.Collect(maps.Values(m.strangers)), false)
		s.put("kubearmor_connected", number(!broken), other)
	}
}

// scrape is what one scrape is given.
type scrape struct {
	figures map[string]described
	out     []prometheus.Metric
}

func (s *scrape) put(name string, value float64, labels ...string) {
	f := s.figures[name]
	s.out = append(s.out, prometheus.MustNewConstMetric(f.desc, f.kind, value, labels...))
}

// picture tells a whole picture. A rule that finds nothing stands there with 0, at the
// rule's own severity, so that a graph can tell nothing found from nothing known.
func (s *scrape) picture(p *picture, k *known) {
	paths, findings := maps.Clone(p.paths), maps.Clone(p.findings)
	for i := range k.rules {
		rule, severity := k.rules[i].ID, string(k.rules[i].Severity)
		findings[findingKey{rule, severity, string(k.rules[i].Category), false}] += 0
		if k.rules[i].Category == scan.CategoryEscape && !k.rules[i].Aggravates {
			paths[pathKey{rule, severity, false, false}] += 0
		}
	}
	for key, n := range paths {
		s.put("open_escape_paths", float64(n), key.rule, key.severity, strconv.FormatBool(key.guarded), strconv.FormatBool(key.excepted))
	}
	for key, n := range findings {
		s.put("findings", float64(n), key.rule, key.severity, key.category, strconv.FormatBool(key.excepted))
	}
	for verdict, n := range withZeros(p.verdicts, scan.Verdicts()) {
		s.put("workloads", float64(n), verdict)
	}
	s.put("pods", float64(p.pods))
	for key, n := range p.byNode {
		s.put("nodes", float64(n), key.capabilities, key.processes, key.grade)
	}
	policies := maps.Clone(p.byPolicy)
	for _, l := range layers() {
		for _, b := range bites() {
			policies[policyKey{string(l), string(b)}] += 0
		}
	}
	for key, n := range policies {
		s.put("policies", float64(n), key.layer, key.bites)
	}
	for reason, n := range withZeros(p.byFailure, failureReasons()) {
		s.put("unread", float64(n), reason)
	}
}

// evidence tells the counters, each from 0 on, so that the first alert is a rise.
func (s *scrape) evidence(v *evidence) {
	alerts := maps.Clone(v.alerts)
	for _, class := range scan.AlertClasses() {
		for _, blocked := range []bool{false, true} {
			for _, incident := range []bool{false, true} {
				alerts[alertKey{string(class), blocked, incident}] += 0
			}
		}
	}
	for key, n := range alerts {
		s.put("alerts_total", float64(n), key.class, strconv.FormatBool(key.blocked), strconv.FormatBool(key.incident))
	}
	for severity, n := range withZeros(v.incidents, scan.Severities()) {
		s.put("incidents_total", float64(n), severity)
	}
	open := tally[string]{}
	for _, h := range v.open {
		open.add(h.reason, 1)
	}
	missing := withZeros(v.missing, lostReasons())
	open = withZeros(open, lostReasons())
	for reason, n := range withZeros(v.gaps, lostReasons()) {
		s.put("evidence_gaps_total", float64(n), reason)
		s.put("evidence_gaps_open", float64(open[reason]), reason)
		s.put("evidence_gap_seconds_total", v.seconds[reason], reason)
		s.put("evidence_lost_alerts_total", float64(missing[reason]), reason)
	}
}

func withZeros[T ~string](t tally[string], all []T) tally[string] {
	full := maps.Clone(t)
	for _, name := range all {
		full[string(name)] += 0
	}
	return full
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
