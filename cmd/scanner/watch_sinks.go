package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/k8sevents"
	"github.com/escape-scanner/escape-scanner/internal/sink/metrics"
	"github.com/escape-scanner/escape-scanner/internal/sink/reports"
	"github.com/escape-scanner/escape-scanner/internal/sink/webhook"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// handler is who is told everything. With several replicas only the figures are kept by
// each; the rest comes with the Lease.
func (w *watcher) handler() scan.Handler {
	all := []scan.Handler{w.progress, w.metrics}
	if w.cfg.Watch.LeaderElect {
		return report.Tee(all...)
	}
	// What takes long comes last: those who read the outputs need not be quick.
	for _, r := range w.shared.runners {
		all = append(all, r)
	}
	return report.Tee(append(all, w.outs.handlers...)...)
}

// startSinks starts what goes on beside the loop.
func (w *watcher) startSinks(ctx context.Context, group *errgroup.Group) {
	if w.cfg.Watch.Listen != "" {
		group.Go(func() error { return w.serve(ctx) })
	}
	if w.cfg.Watch.LeaderElect {
		group.Go(func() error { return w.lead(ctx) })
		return
	}
	w.metrics.SetLeader(true)
	for _, r := range w.shared.runners {
		group.Go(func() error { return r.Run(ctx) })
	}
}

// lead writes as long as this replica holds the Lease, and tries for it otherwise.
func (w *watcher) lead(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := w.cluster.Lead(ctx, kube.LeaseOptions{
		Namespace: w.leaseNamespace(), Name: w.cfg.Watch.LeaseName, Identity: w.identity(),
		Changed: w.leadership,
		Failed: func(err error) {
			if err != nil {
				w.complain("warning", err.Error())
				return
			}
			w.complain("note", "lease "+w.cfg.Watch.LeaseName+": works again")
		},
	}, func(leading context.Context) { w.write(leading, stop) })
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// write tells the outputs and the shared sinks the picture and what changes, until this
// replica leads no more.
func (w *watcher) write(leading context.Context, stop context.CancelCauseFunc) {
	runners, err := w.shared.make(w)
	if err != nil {
		stop(err)
		return
	}
	group, running := errgroup.WithContext(leading)
	var leave []func()
	for _, r := range runners {
		leave = append(leave, w.loop.Attach(r, func(err error) { stop(err) }))
		group.Go(func() error { return r.Run(running) })
	}
	for _, h := range w.outs.handlers {
		leave = append(leave, w.loop.Attach(h, func(err error) { stop(err) }))
	}
	<-running.Done()
	for _, f := range leave {
		f()
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		stop(err)
	}
}

func (w *watcher) leadership(l kube.Leadership) {
	w.metrics.SetLeader(l.Leading)
	led := w.shared.leads
	w.shared.leads = l.Leading
	switch {
	case led && !l.Leading:
		w.complain("note", "this replica leads no more, and writes nothing")
	case l.Leading:
		w.complain("note", "this replica leads, and writes")
	case l.Leader != "":
		w.complain("note", "replica "+l.Leader+" leads")
	}
}

func (w *watcher) leaseNamespace() string {
	if ns := w.cfg.Watch.LeaseNamespace; ns != "" {
		return ns
	}
	return w.ownNamespace
}

// identity is what no other replica has, whatever its host or its flags are called: two
// of one identity would both lead.
func (w *watcher) identity() string { return w.replicaName() + "_" + w.shared.unique }

func (w *watcher) replicaName() string {
	if w.flags.leaderID != "" {
		return w.flags.leaderID
	}
	// The pod's name, in a pod.
	host, _ := os.Hostname()
	return host
}

// sharedSinks are those of which one is enough, however many replicas there are.
type sharedSinks struct {
	runners []sink.Runner
	secret  []byte
	ca      []byte
	// unique makes the identity of this replica, which leads or not, differ from others.
	unique string
	leads  bool

	mu      sync.Mutex
	webhook *webhook.Sink
}

// read reads the files that the sinks need, and makes the sinks that are there from the
// start.
func (s *sharedSinks) read(w *watcher) error {
	c := &w.cfg.Watch
	s.unique = strings.ToLower(rand.Text()[:8])
	for _, f := range []struct {
		what, path string
		into       *[]byte
	}{{"webhook's secret", c.WebhookSecretFile, &s.secret}, {"webhook's CA", c.WebhookCA, &s.ca}} {
		if f.path == "" {
			continue
		}
		text, err := os.ReadFile(w.path(f.path))
		if err != nil {
			return fmt.Errorf("%s: %w", f.what, err)
		}
		*f.into = bytes.TrimRight(text, "\r\n")
	}
	// What is wrong with them is found now, also where they are made later.
	made, err := s.make(w)
	if err != nil {
		return err
	}
	if c.LeaderElect {
		if w.leaseNamespace() == "" {
			return errors.New("--leader-elect: outside of a pod, say with --lease-namespace where the Lease is")
		}
		if w.replicaName() == "" {
			return errors.New("--leader-elect: the host has no name: give one with --leader-id")
		}
		return nil
	}
	s.runners = made
	return nil
}

// make makes the sinks anew: each lives for one time of leading.
func (s *sharedSinks) make(w *watcher) ([]sink.Runner, error) {
	var made []sink.Runner
	c := &w.cfg.Watch
	if c.Reports != "off" {
		made = append(made, reports.New(reports.Options{Store: w.cluster.ReportStore(), API: reports.API(c.Reports), Notify: w.notice}))
	}
	if c.Events {
		made = append(made, k8sevents.New(k8sevents.Options{Writer: w.cluster.EventWriter(), Instance: w.replicaName(), Notify: w.notice}))
	}
	if c.Webhook == "" {
		return made, nil
	}
	hook, err := webhook.New(webhook.Options{
		URL: c.Webhook, Secret: s.secret, CA: s.ca, Cluster: w.name, Version: w.version,
		MinSeverity: scan.Severity(c.WebhookSeverity), Notify: w.notice, Now: w.now,
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.webhook = hook
	s.mu.Unlock()
	return append(made, hook), nil
}

// measure tells the metrics what waits to be sent.
func (s *sharedSinks) measure(m *metrics.Metrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.webhook != nil {
		m.SetQueue("webhook", s.webhook.Waiting())
	}
}
