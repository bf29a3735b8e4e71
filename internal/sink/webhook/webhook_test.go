package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/webhook"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func now() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

func secret() []byte { return []byte("the key of the signature") }

// delivery is a POST that arrived.
type delivery struct {
	header http.Header
	body   []byte

	Version int
	ID      string
	Cluster string
	Dropped int
	Events  []scan.Event
}

// receiver is a server that takes deliveries.
type receiver struct {
	*httptest.Server
	arrived chan delivery
}

// newReceiver answers what the answers say, one after the other, and 200 from there on.
// It hands out what it answered with 2xx.
func newReceiver(t *testing.T, answers ...http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{arrived: make(chan delivery, 10_000)}
	var mu sync.Mutex
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		d := read(t, request)
		mu.Lock()
		answer := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { r.arrived <- d })
		if len(answers) > 0 {
			answer, answers = answers[0], answers[1:]
		}
		mu.Unlock()
		answer(w, request)
	}))
	t.Cleanup(r.Close)
	return r
}

func read(t *testing.T, request *http.Request) delivery {
	d := delivery{header: request.Header.Clone()}
	var err error
	if d.body, err = io.ReadAll(request.Body); err != nil {
		t.Errorf("a body that cannot be read: %v", err)
	}
	if err := json.Unmarshal(d.body, &d); err != nil {
		t.Errorf("%v in %s", err, d.body)
	}
	return d
}

func (r *receiver) next(t *testing.T) delivery {
	t.Helper()
	select {
	case d := <-r.arrived:
		return d
	case <-time.After(20 * time.Second):
		t.Fatal("nothing arrives")
		return delivery{}
	}
}

func answer(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// options wait for nothing that a test would have to wait for.
func options(url string) webhook.Options {
	return webhook.Options{
		URL: url, Secret: secret(), Version: "v1.2.3", Now: now,
		Delay: time.Millisecond, Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, Timeout: 5 * time.Second,
	}
}

// running is the Run of a sink.
type running struct {
	cancel context.CancelFunc
	done   chan error
}

func (r running) end(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// start runs a sink that has been told an empty picture.
func start(t *testing.T, o webhook.Options) (*webhook.Sink, running) {
	t.Helper()
	s, err := webhook.New(o)
	if err != nil {
		t.Fatal(err)
	}
	feed(t, s, scan.Event{Start: &scan.Start{Cluster: "demo"}}, scan.Event{Picture: &scan.End{}})
	return s, run(t, s)
}

func run(t *testing.T, s *webhook.Sink) running {
	ctx, cancel := context.WithCancel(t.Context())
	r := running{cancel, make(chan error, 1)}
	go func() { r.done <- s.Run(ctx) }()
	return r
}

func feed(t *testing.T, h scan.Handler, events ...scan.Event) {
	t.Helper()
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			t.Fatal(err)
		}
	}
}

// notices are what was told.
type notices struct {
	mu  sync.Mutex
	all []sink.Notice
}

func (n *notices) take(of sink.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, of)
}

func (n *notices) told() []sink.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.all)
}

// dropped sums what was told to be given up.
func (n *notices) dropped() (sum int) {
	for _, one := range n.told() {
		sum += one.Dropped
	}
	return sum
}

func exposed(name string) scan.Event {
	return scan.Event{Time: now(), Verdict: &scan.WorkloadVerdict{
		Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: name}, Verdict: scan.VerdictExposed, Was: scan.VerdictClosed,
		Reason: "it is open", Severity: scan.SeverityCritical, Paths: []string{"escape-privileged"},
	}}
}

func finding(name string, severity scan.Severity) scan.Event {
	return scan.Event{Time: now(), Finding: &scan.Finding{
		Rule: "escape-privileged", Category: scan.CategoryEscape, Title: "Privileged", Severity: severity, Open: true,
		Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: name}, Field: "spec.x", Message: "it is set",
	}}
}

func incident(id string, count int) scan.Event {
	return scan.Event{Time: now(), Alert: &scan.Alert{
		ID: id, Class: scan.ClassChroot, Incident: true, Severity: scan.SeverityCritical, Reason: "a step out",
		Workload: scan.Workload{Namespace: "shop", Kind: "Deployment", Name: "api"}, Count: count, First: now(), Last: now(),
	}}
}

// schema is that of a body.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	for _, name := range []string{"events.schema.json", "webhook.schema.json"} {
		file, err := os.Open("../../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(file)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource("https://github.com/escape-scanner/escape-scanner/docs/"+name, document); err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := compiler.Compile("https://github.com/escape-scanner/escape-scanner/docs/webhook.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// What happens arrives in its order, in JSON that its schema describes, signed.
func TestDelivery(t *testing.T) {
	t.Parallel()
	r, n := newReceiver(t), &notices{}
	o := options(r.URL)
	o.Notify, o.Batch = n.take, 7
	s, running := start(t, o)
	evil := "evil\x1b[2J\u202e\u200b\xff<script>"
	for i := range 100 {
		feed(t, s, finding(fmt.Sprintf("%s-%d", evil, i), scan.SeverityHigh))
	}
	lost := scan.Event{Time: now(), Lost: &scan.Lost{ID: "gap", Reason: scan.LostDeaf, From: now(), Message: evil}}
	feed(t, s, incident("a", 3), lost)
	valid, ids := schema(t), map[string]bool{}
	var events []scan.Event
	for len(events) < 102 {
		d := r.next(t)
		if ids[d.ID] || d.ID == "" || d.header.Get("webhook-id") != d.ID {
			t.Errorf("the ID %q is new: %t, and %q in the header", d.ID, !ids[d.ID], d.header.Get("webhook-id"))
		}
		ids[d.ID] = true
		if d.Version != 1 || d.Cluster != "demo" || d.Dropped != 0 || len(d.Events) > 7 {
			t.Errorf("version %d, cluster %q, %d dropped, %d events", d.Version, d.Cluster, d.Dropped, len(d.Events))
		}
		if d.header.Get("Content-Type") != "application/json" || d.header.Get("User-Agent") != "escape-scanner/v1.2.3" {
			t.Errorf("headers: %v", d.header)
		}
		if err := Verify(secret(), d.header, d.body, now()); err != nil {
			t.Error(err)
		}
		for _, c := range d.body {
			if c < ' ' || c > '~' {
				t.Fatalf("%#x in the body %q", c, d.body)
			}
		}
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(d.body)))
		if err != nil {
			t.Fatal(err)
		}
		if err := valid.Validate(document); err != nil {
			t.Errorf("%v\n%s", err, d.body)
		}
		events = append(events, d.Events...)
	}
	for i, e := range events[:100] {
		// What is not UTF-8 cannot be in JSON.
		if want := strings.ToValidUTF8(evil, "\uFFFD") + fmt.Sprint("-", i); e.Finding == nil || e.Finding.Workload.Name != want {
			t.Fatalf("event %d is %+v, want the finding on %q", i, e, want)
		}
	}
	if events[100].Alert == nil || events[101].Lost == nil || !events[100].Time.Equal(now()) {
		t.Errorf("the last are %+v", events[100:])
	}
	running.end(t)
	if told := n.told(); len(told) > 0 {
		t.Errorf("told %v", told)
	}
}

// A delivery that fails is the same when it is tried again, and arrives once.
func TestRetries(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var seen []string
	again := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Header.Get("webhook-id"))
			h(w, r)
		}
	}
	r, n := newReceiver(t,
		again(answer(http.StatusInternalServerError)),
		again(answer(http.StatusTooManyRequests)),
		again(answer(http.StatusRequestTimeout)),
		again(answer(http.StatusServiceUnavailable)),
		// It takes the request and says nothing.
		again(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-release:
			}
		}),
		// It hangs up.
		again(func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				err = c.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}),
		// It hangs up in the middle of its answer's head.
		again(func(w http.ResponseWriter, _ *http.Request) {
			c, b, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = b.WriteString("HTTP/1.1 200 ")
				err = errors.Join(b.Flush(), c.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}),
	), &notices{}
	o := options(r.URL)
	// All attempts but the one that hangs have to be answered in that time.
	o.Notify, o.Timeout = n.take, 2*time.Second
	s, running := start(t, o)
	feed(t, s, exposed("a"))
	d := r.next(t)
	close(release)
	running.end(t)
	if len(seen) != 7 || slices.ContainsFunc(seen, func(id string) bool { return id != d.ID }) || len(d.Events) != 1 || d.Dropped != 0 {
		t.Errorf("attempts %v, then %+v", seen, d)
	}
	select {
	case d := <-r.arrived:
		t.Errorf("arrived once more: %+v", d)
	default:
	}
	told := n.told()
	if last := told[len(told)-1]; last.Err != nil || last.Dropped != 0 || n.dropped() != 0 {
		t.Errorf("told %v", told)
	}
	for _, want := range []string{"answered 500 Internal Server Error", "answered 429 Too Many Requests", "no answer within 2s", "EOF"} {
		if !slices.ContainsFunc(told, func(n sink.Notice) bool { return n.Err != nil && strings.Contains(n.Err.Error(), want) }) {
			t.Errorf("not told %q: %v", want, told)
		}
	}
}

// What the server will not have is given up, and the next that it takes says so.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, code := range []int{400, 401, 403, 404, 410, 413, 422, 304} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			refused := make(chan struct{})
			r, n := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				close(refused)
			}), &notices{}
			o := options(r.URL)
			o.Notify = n.take
			s, running := start(t, o)
			feed(t, s, exposed("a"))
			<-refused
			feed(t, s, exposed("b"))
			d := r.next(t)
			feed(t, s, exposed("c"))
			last := r.next(t)
			running.end(t)
			if d.Dropped != 1 || d.Events[0].Verdict.Workload.Name != "b" || last.Dropped != 0 {
				t.Errorf("then arrived %+v and %+v", d, last)
			}
			if n.dropped() != 1 || !strings.Contains(fmt.Sprint(n.told()), fmt.Sprint("answered ", code)) {
				t.Errorf("told %v", n.told())
			}
		})
	}
}

// At the end what waits is delivered, however long it would have waited.
func TestEnd(t *testing.T) {
	t.Parallel()
	r, n := newReceiver(t, answer(http.StatusServiceUnavailable)), &notices{}
	o := options(r.URL)
	o.Notify, o.Delay, o.Backoff, o.MaxBackoff = n.take, time.Hour, time.Hour, time.Hour
	s, running := start(t, o)
	for i := range 250 {
		feed(t, s, exposed(fmt.Sprint(i)))
	}
	running.end(t)
	got := 0
	for range 3 {
		got += len(r.next(t).Events)
	}
	if got != 250 || n.dropped() != 0 {
		t.Errorf("%d arrived, told %v", got, n.told())
	}
}

// Of the picture nothing is sent but the incidents of just now.
func TestPicture(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s, err := webhook.New(options(r.URL))
	if err != nil {
		t.Fatal(err)
	}
	state := scan.NewState()
	old := incident("old", 1)
	old.Alert.Last = now().Add(-2 * time.Minute)
	feed(t, state, scan.Event{Start: &scan.Start{Cluster: "demo"}}, exposed("a"), finding("a", scan.SeverityCritical), old, incident("new", 1),
		scan.Event{Failure: &scan.Failure{Subject: "nodes", Reason: scan.FailureForbidden}})
	for e := range state.Events() {
		feed(t, s, e)
	}
	feed(t, s, scan.Event{Picture: &scan.End{}}, exposed("b"))
	running := run(t, s)
	var events []scan.Event
	for len(events) < 2 {
		events = append(events, r.next(t).Events...)
	}
	running.end(t)
	if len(events) != 2 || events[0].Alert == nil || events[0].Alert.ID != "new" || events[1].Verdict == nil || events[1].Verdict.Workload.Name != "b" {
		t.Errorf("arrived %+v", events)
	}
}

// An event is either in what is sent or counted, also one that no delivery could carry.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	r, n := newReceiver(t), &notices{}
	o := options(r.URL)
	o.Notify, o.BatchBytes = n.take, 2000
	s, running := start(t, o)
	large := exposed("large")
	large.Verdict.Reason = strings.Repeat("x", 3000)
	feed(t, s, large, exposed("b"))
	d := r.next(t)
	running.end(t)
	if d.Dropped != 1 || n.dropped() != 1 || d.Events[0].Verdict.Workload.Name != "b" {
		t.Errorf("arrived %+v, told %v", d, n.told())
	}
}

// The lines are those of the jsonl format.
func TestEventsAreThoseOfTheStream(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	s, running := start(t, options(r.URL))
	e := finding("a", scan.SeverityHigh)
	feed(t, s, e)
	d := r.next(t)
	running.end(t)
	var line strings.Builder
	feed(t, report.NewJSONL(&line), e)
	if !strings.Contains(string(d.body), `"events":[`+strings.TrimSuffix(line.String(), "\n")+"]") {
		t.Errorf("%s\nis not in\n%s", line.String(), d.body)
	}
}
