package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/escape-scanner/escape-scanner/scan"
)

// WatchTextOptions are the choices of the log of a watch.
type WatchTextOptions struct {
	// Width is the number of cells of the terminal. 0 is for pipes and logs: times are
	// whole, nothing is wrapped, and every line says what it is about.
	Width int
	// Color switches colours on. What they say stands in words too.
	Color bool
	// AllAlerts lists alerts that are no incidents too; without it they are counted once
	// a minute.
	AllAlerts bool
	// Now is the clock; without one, the times of the events are.
	Now func() time.Time
	// Location is the time zone of what is shown, nil for UTC.
	Location *time.Location
	// Burst is how many things are listed in a few seconds before the rest becomes a
	// number; 0 means 10.
	Burst int
}

const (
	defaultBurst = 10
	// burstWindow is how long a burst is collected: what it exceeds is counted then.
	burstWindow = 2 * time.Second
	// most findings of one workload in one change are listed, on a terminal and in a log.
	mostFindings, mostLogged = 3, 10
	// watchHang is where the lines below a change begin: behind the time.
	watchHang = len("15:04:05") + gap
)

// WatchText is the log of a watch for people: the picture in a few lines, then what
// changes. It writes one batch at each Flush, and incidents at once; nothing grows
// with what floods.
type WatchText struct {
	layout
	w    io.Writer
	opts WatchTextOptions
	// state is what was told so far.
	state *scan.State
	// pictured is true once the first picture was written.
	pictured bool
	// clock is the latest time that was seen, day the last date that was written.
	clock time.Time
	day   string
	batch batch
	// burst began at that time, and left is how many things it may still list.
	burst time.Time
	left  int
	heard minute
}

// NewWatchText returns the log of a watch.
func NewWatchText(w io.Writer, opts WatchTextOptions) *WatchText {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, narrowest)
	}
	if opts.Location == nil {
		opts.Location = time.UTC
	}
	if opts.Burst <= 0 {
		opts.Burst = defaultBurst
	}
	return &WatchText{
		layout: layout{width: opts.Width, color: opts.Color}, w: w, opts: opts,
		state: scan.NewState(), batch: newBatch(), left: opts.Burst,
	}
}

// Handle takes in an event. What stands alone is written at once, the rest at the next
// Flush.
func (t *WatchText) Handle(e scan.Event) error {
	t.tick(e.Time)
	if e.Start != nil {
		t.begin(e.Start)
	}
	if t.pictured && e.End == nil {
		// Before the state forgets what it was.
		t.note(e)
	}
	if e.Alert == nil && e.Lost == nil {
		// A State never fails.
		_ = t.state.Handle(e)
	}
	switch {
	case e.Picture != nil && !t.pictured:
		t.summary(e.Picture)
	case e.End != nil:
		t.end(e.End)
	}
	return t.send()
}

// Flush writes what changed since the last time.
func (t *WatchText) Flush() error {
	t.settle(false)
	now := t.clock
	if t.opts.Now != nil {
		now = t.opts.Now()
	}
	t.tick(now)
	return t.send()
}

// tick moves the clock, and ends what has had its time. All events of a batch carry one
// time: none of them parts a workload from its findings.
func (t *WatchText) tick(at time.Time) {
	if !at.IsZero() && at.Before(t.clock.Add(-time.Minute)) {
		t.putBack(at)
	}
	t.clock = later(t.clock, at)
	if t.clock.Sub(t.burst) >= burstWindow {
		t.settle(true)
		t.burst, t.left = t.clock, t.opts.Burst
	}
	if t.heard.over(t.clock) {
		t.minute()
	}
}

// putBack follows a clock that was put back: what waits for a time must not wait for it
// twice.
func (t *WatchText) putBack(at time.Time) {
	t.settle(true)
	t.minute()
	t.clock, t.burst, t.left = at, at, t.opts.Burst
}

// send writes the lines that are ready.
func (t *WatchText) send() error {
	if t.out.Len() == 0 {
		return nil
	}
	defer t.out.Reset()
	if _, err := t.w.Write(t.out.Bytes()); err != nil {
		return fmt.Errorf("text: %w", err)
	}
	return nil
}

// begin starts the log, or starts it again.
func (t *WatchText) begin(s *scan.Start) {
	t.settle(true)
	t.pictured, t.batch, t.heard = false, newBatch(), minute{}
	t.clock = later(t.clock, s.Time)
	t.burst, t.left = t.clock, t.opts.Burst
	t.day = t.clock.In(t.opts.Location).Format(time.DateOnly)
	t.head(s, t.clock.In(t.opts.Location).Format("2006-01-02 15:04:05 MST"))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// at is the time in front of a line. On a terminal a new day has a line of its own.
func (t *WatchText) at(when time.Time) span {
	if when.IsZero() {
		when = t.clock
	}
	when = when.In(t.opts.Location)
	if t.width == 0 {
		return span{text: when.Format(time.RFC3339), style: dim}
	}
	if day := when.Format(time.DateOnly); day != t.day {
		t.day = day
		t.row(0, 0, span{text: day, style: dim})
	}
	return span{text: when.Format(time.TimeOnly), style: dim}
}

// line writes a line that begins with a time.
func (t *WatchText) line(when time.Time, spans ...span) {
	t.row(0, watchHang, append([]span{t.at(when)}, spans...)...)
}

// below writes what belongs to the line before: in a log it stands in that line.
func (t *WatchText) below(spans ...span) {
	t.row(watchHang, watchHang+2, spans...)
}

// summary is the first picture in a few lines.
func (t *WatchText) summary(end *scan.End) {
	t.pictured = true
	t.unread(end)
	verdicts, findings := t.counts()
	t.row(0, summaryHang, verdictCounts(verdicts)...)
	t.row(0, summaryHang, findingSpans(findings)...)
	nodeSummary(&t.layout, t.state.Nodes())
	t.policySummary()
	text := "what changes follows"
	if s := t.state.Start(); s != nil && s.Alerts {
		text = "what changes follows, and what KubeArmor reports"
	}
	t.row(0, summaryHang, span{text: "WATCHING", style: bold}, span{text: text})
	if t.width > 0 {
		t.newline()
	}
}

// counts are those of what there is now.
func (t *WatchText) counts() (map[scan.Verdict]int, *scan.End) {
	verdicts, end := map[scan.Verdict]int{}, &scan.End{Findings: map[scan.Severity]int{}}
	for _, ref := range t.state.Rows() {
		if v := t.state.Verdict(ref); v != nil {
			verdicts[v.Verdict]++
		}
		for _, f := range t.state.Findings(ref) {
			if f.Excepted != nil {
				end.Excepted++
				continue
			}
			end.Findings[f.Severity]++
		}
	}
	return verdicts, end
}

// unread is what is missing from the picture.
func (t *WatchText) unread(end *scan.End) {
	failures := t.state.Failures()
	if len(failures) == 0 && !end.Incomplete && !end.Interrupted {
		return
	}
	names := make([]string, 0, len(failures))
	for _, f := range failures {
		names = append(names, Clean(fmt.Sprintf("%s (%s)", subject(f), f.Reason)))
	}
	t.row(0, summaryHang,
		span{text: "NOT READ", style: alarm},
		span{text: plural(len(failures), "thing") + ":", style: bold},
		span{text: t.few(names)},
		span{text: "What is not listed is not proven absent."})
}

// few joins names; those beyond a handful become a number, on a terminal.
func (t *WatchText) few(names []string) string {
	if limit := maxListed / 2; t.width > 0 && len(names) > limit {
		return strings.Join(names[:limit], ", ") + fmt.Sprintf(" and %d more", len(names)-limit)
	}
	return strings.Join(names, ", ")
}

// policySummary counts the policies, and names those that do not bite.
func (t *WatchText) policySummary() {
	policies := t.state.Policies()
	var dull []string
	for _, p := range policies {
		if p.Bites == scan.BitesNo {
			dull = append(dull, Clean(policyName(p)))
		}
	}
	spans := policyCounts(policies)
	if len(dull) > 0 {
		spans = append(spans, span{text: "without effect: " + t.few(dull)})
	}
	if len(spans) > 0 {
		t.row(0, summaryHang, spans...)
	}
}

// end says how it stands at the end.
func (t *WatchText) end(end *scan.End) {
	t.settle(true)
	t.minute()
	if !t.pictured {
		t.summary(end)
	}
	text := "the watch is over"
	style := bold
	if end.Interrupted {
		text, style = "the watch was cut short: what came after this is not known", alarm
	}
	verdicts, _ := t.counts()
	t.line(time.Time{}, append([]span{{text: "END", style: style}, {text: text}}, verdictCounts(verdicts)[1:]...)...)
}
