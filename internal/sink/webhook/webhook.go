// Package webhook posts what happens in a watch to a URL, as JSON, signed.
// docs/webhook.md describes what arrives there.
package webhook

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

const (
	defaultBatch      = 100
	defaultBatchBytes = 512 << 10
	defaultDelay      = time.Second
	defaultQueue      = 10_000
	defaultQueueBytes = 16 << 20
	defaultTimeout    = 10 * time.Second
	defaultBackoff    = time.Second
	defaultMaxBackoff = 2 * time.Minute
	defaultGrace      = 5 * time.Second
	defaultCatchUp    = time.Minute
)

// Options say where events go, which, and how many wait. What is 0 has a default.
type Options struct {
	// URL takes the POSTs: http or https. Of it nothing but scheme and host is ever
	// shown: path, query and user may be secret.
	URL string
	// Secret is the key of the signature; without one nothing is signed.
	Secret []byte
	// CA are the certificates, in PEM, that the server's must come from, instead of the
	// system's.
	CA []byte
	// Cluster names the cluster to the receiver; where it is empty, as Start does.
	Cluster string
	// Version is that of the program.
	Version string

	// Kinds are the events to send, DefaultKinds where there are none. MinSeverity keeps
	// back what is less; everything passes where it is empty.
	Kinds       []Kind
	MinSeverity scan.Severity
	// CatchUp is how old an incident of the picture may be to be sent, a minute where it
	// is 0: who takes over from another that died cannot know what that one has sent.
	// Nothing else of the picture is.
	CatchUp time.Duration

	// Batch and BatchBytes bound one POST, Delay is how long events wait for others to
	// go along; an incident does not wait.
	Batch      int
	BatchBytes int
	Delay      time.Duration
	// Queue and QueueBytes bound what waits to be sent.
	Queue      int
	QueueBytes int
	// Timeout is how long one POST may take, Backoff the first wait after one that
	// failed and MaxBackoff the longest.
	Timeout    time.Duration
	Backoff    time.Duration
	MaxBackoff time.Duration
	// Grace is how long Run goes on delivering when its context has ended.
	Grace time.Duration

	// Notify is told of trouble and of what was given up, one call at a time; nil for
	// nobody.
	Notify func(sink.Notice)
	// Now is the clock, time.Now where it is nil.
	Now func() time.Time
}

// Sink is a webhook.
type Sink struct {
	o      Options
	url    *url.URL
	client *http.Client
	filter filter
	tell   *teller

	// The encoder is Handle's own.
	line    bytes.Buffer
	encoder scan.Handler

	mu      sync.Mutex
	queue   *queue
	cluster string
	// lost counts what was given up since the last batch that arrived.
	lost int
	// wake is signalled when something was put in the queue.
	wake chan struct{}
}

// New returns a webhook. Its Run sends what Handle takes.
func New(o Options) (*Sink, error) {
	target, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	for _, k := range o.Kinds {
		if !slices.Contains(Kinds(), k) {
			return nil, fmt.Errorf("webhook: kind %q: want one of %q", k, Kinds())
		}
	}
	if o.MinSeverity != "" && !slices.Contains(scan.Severities(), o.MinSeverity) {
		return nil, fmt.Errorf("webhook: severity %q: want one of %q", o.MinSeverity, scan.Severities())
	}
	var roots *x509.CertPool
	if len(o.CA) > 0 {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("webhook: CA: no certificate in PEM in it")
		}
	}
	s := &Sink{
		o: o, url: target, client: newClient(roots), cluster: o.Cluster,
		filter: newFilter(o), queue: newQueue(o.Queue, o.QueueBytes), wake: make(chan struct{}, 1),
		tell: newTeller(o.Notify),
	}
	s.encoder = report.NewJSONL(&s.line)
	return s, nil
}

func (o Options) withDefaults() Options {
	if len(o.Kinds) == 0 {
		o.Kinds = DefaultKinds()
	}
	for _, d := range []struct {
		value *int
		is    int
	}{
		{&o.Batch, defaultBatch}, {&o.BatchBytes, defaultBatchBytes}, {&o.Queue, defaultQueue}, {&o.QueueBytes, defaultQueueBytes},
	} {
		if *d.value <= 0 {
			*d.value = d.is
		}
	}
	for _, d := range []struct {
		value *time.Duration
		is    time.Duration
	}{
		{&o.CatchUp, defaultCatchUp}, {&o.Delay, defaultDelay}, {&o.Timeout, defaultTimeout},
		{&o.Backoff, defaultBackoff}, {&o.MaxBackoff, defaultMaxBackoff}, {&o.Grace, defaultGrace},
	} {
		if *d.value <= 0 {
			*d.value = d.is
		}
	}
	o.BatchBytes = min(o.BatchBytes, o.QueueBytes)
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// parse reads the URL. Its errors do not repeat it: it may hold a password.
func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("webhook: the URL cannot be read")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("webhook: the URL: want http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("webhook: the URL names no host")
	case u.Fragment != "":
		return nil, errors.New("webhook: the URL: a fragment (#) is not sent")
	}
	return u, nil
}

// Handle keeps an event that is to be sent. It waits for nobody.
func (s *Sink) Handle(e scan.Event) error {
	if e.Start != nil && s.o.Cluster == "" {
		s.mu.Lock()
		s.cluster = e.Start.Cluster
		s.mu.Unlock()
	}
	rank, wanted := s.filter.take(e, s.o.Now())
	if !wanted {
		return nil
	}
	s.line.Reset()
	if err := s.encoder.Handle(e); err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	i := item{rank: rank, body: bytes.Clone(bytes.TrimSuffix(s.line.Bytes(), []byte("\n")))}
	switch {
	case e.Alert != nil:
		i.name = "alert " + e.Alert.ID
	case e.Lost != nil:
		i.name = "lost " + e.Lost.ID
	}
	s.mu.Lock()
	dropped := 1
	if len(i.body) <= s.o.BatchBytes {
		dropped = s.queue.put(i)
	}
	s.lost += dropped
	s.mu.Unlock()
	s.tell.dropped(dropped)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// Waiting counts the events in the queue.
func (s *Sink) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue.length
}

// Run delivers, one batch after the other, until the context ends, and what is left
// for a few seconds more. It is called once.
func (s *Sink) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	sending, cancel := graced(ctx, s.o.Grace)
	defer cancel()
	var told sync.WaitGroup
	told.Go(s.tell.run)
	defer told.Wait()
	defer s.tell.end()
	for s.gather(ctx) {
		s.deliver(ctx, sending)
	}
	for sending.Err() == nil && s.Waiting() > 0 {
		s.deliver(ctx, sending)
	}
	s.mu.Lock()
	left := s.queue.clear()
	s.lost += left
	s.mu.Unlock()
	s.tell.dropped(left)
	return nil
}

// gather waits for a batch to be due. It returns false when the context has ended.
func (s *Sink) gather(ctx context.Context) bool {
	var due <-chan time.Time
	for {
		s.mu.Lock()
		now, some := s.queue.ready(s.o.Batch, s.o.BatchBytes), s.queue.length > 0
		s.mu.Unlock()
		if now {
			return ctx.Err() == nil
		}
		if some && due == nil {
			timer := time.NewTimer(s.o.Delay)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return false
		case <-due:
			return true
		case <-s.wake:
		}
	}
}

// graced is a context that ends a while after another.
func graced(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-sending.Done():
		}
	})
	return sending, func() {
		stop()
		cancel()
	}
}
