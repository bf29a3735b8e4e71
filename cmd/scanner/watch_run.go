package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/internal/kube"
	"github.com/escape-scanner/escape-scanner/internal/sink"
	"github.com/escape-scanner/escape-scanner/internal/sink/metrics"
	"github.com/escape-scanner/escape-scanner/internal/sink/web"
	"github.com/escape-scanner/escape-scanner/internal/watch"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/alerts"
)

// watcher is one run of watch: it puts together what the packages do.
type watcher struct {
	*app
	flags *watchFlags
	cfg   *config.Config
	// file is the configuration file, empty when there is none, and reload reads the
	// configuration again.
	file   string
	reload loader

	// name is the cluster's, for people. cluster and live are nil for the demo.
	name    string
	cluster *kube.Cluster
	live    *kube.Mirror
	mirror  scan.Mirror

	// probes keeps what the node probe says, nil where its logs are not read.
	probes  *probeKeeper
	folder  *alerts.Folder
	heard   hearing
	metrics *metrics.Metrics
	outs    *watchOutputs
	// screen is told everything instead of the outputs of the configuration; nil for them.
	screen  scan.Handler
	shared  sharedSinks
	loop    *watch.Loop
	closers []func() error
	// progress says how far the first picture has come.
	progress *beginning
	// badLines is what was wrong with a recording.
	badLines error
}

// prepare opens everything that can be wrong, before anything is read.
func (w *watcher) prepare(ctx context.Context) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	if err := w.shared.read(w); err != nil {
		return err
	}
	if err := w.listenTo(ctx); err != nil {
		return err
	}
	w.outs = &watchOutputs{}
	if w.screen != nil {
		w.outs.handlers = []scan.Handler{w.screen}
		return nil
	}
	w.closers = append(w.closers, w.outs.close)
	return w.outs.open(w)
}

// connect makes the mirror of the cluster that is followed.
func (w *watcher) connect(ctx context.Context) error {
	if w.flags.demo {
		w.name = demo.ClusterName
		mirror, err := demoMirror(ctx, w.flags.selector)
		w.mirror = mirror
		return err
	}
	f := &scanFlags{kube: w.flags.kube, selector: w.flags.selector}
	var err error
	if w.cluster, w.name, err = connect(f, w.cfg); err != nil {
		return err
	}
	if ns := w.flags.probeLogs; ns != "" {
		w.probes = &probeKeeper{namespace: ns, now: w.now, read: w.cluster.ProbeLogs}
	}
	w.live = w.cluster.Mirror(kube.MirrorOptions{Namespaces: splitNames(*w.flags.kube.Namespace)})
	w.mirror = w.live
	return nil
}

// listenTo finds where alerts come from.
func (w *watcher) listenTo(ctx context.Context) error {
	opts := metrics.Options{Version: w.version, RuleSet: scan.RuleSetVersion, Now: w.now}
	defer func() { w.metrics = metrics.New(opts) }()
	if w.flags.noAlerts {
		return nil
	}
	w.folder = alerts.NewFolder(alerts.Options{Cluster: w.name})
	if w.flags.demo || w.flags.replay != "" {
		played, err := w.openReplay()
		if err != nil {
			return err
		}
		w.closers = append(w.closers, played.in.Close)
		w.heard = played
		return nil
	}
	targets, err := w.kubeArmorTargets(ctx, w.cluster, &w.cfg.Watch)
	if err != nil {
		return err
	}
	s := &streams{w: w, targets: targets}
	for _, t := range targets {
		opts.Sources = append(opts.Sources, t.Address)
	}
	w.heard = s
	if w.flags.record == "" {
		return nil
	}
	if s.record, err = w.newRecording(w.flags.record); err != nil {
		return err
	}
	w.closers = append(w.closers, s.record.close)
	return nil
}

func (w *watcher) close() {
	for _, f := range slices.Backward(w.closers) {
		// What was written is whole, line by line; what was read loses nothing.
		_ = f()
	}
}

// run follows until the context ends or a recording is over.
func (w *watcher) run(ctx context.Context) error {
	tracker := scan.NewTracker(w.mirror, scan.TrackerOptions{
		Cluster: scan.ClusterOptions{
			Start: w.startOfWatch(), Namespaces: splitNames(*w.flags.kube.Namespace),
			Level: psa.Level(w.cfg.Level), PSSVersion: w.cfg.PSSVersion, Probes: w.probes.probes(),
		},
		Exceptions: exceptions(w.cfg), Now: w.now,
	})
	over := make(chan struct{})
	opts := watch.Options{
		Posture: tracker, Handler: w.handler(), Now: w.now, Done: over,
		Observe: func(t watch.Turn) { w.metrics.ObserveUpdate(t.Duration) },
	}
	if w.folder != nil {
		opts.Alerts = w.folder
	}
	if r, ok := w.heard.(*replay); ok && r.pace.Speed == 0 {
		// What is played at once is told at once, not in two halves.
		opts.AlertsEvery = 5 * time.Second
	}
	if w.live != nil {
		opts.Feed = w.live
	}
	w.loop = watch.New(opts)

	// What feeds the loop ends with it, and the sinks once they have the last of it.
	feeding, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	writing, stopWriting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWriting()
	group, feeding := errgroup.WithContext(feeding)
	sinks, writing := errgroup.WithContext(writing)
	// A sink that cannot go on ends the watch.
	defer context.AfterFunc(writing, stopFeeding)()
	w.startSinks(writing, sinks)
	err := w.startFeeding(feeding, group, over)
	if err == nil {
		err = bounded(feeding, loopPatience, func() error { return w.loop.Run(feeding) })
	}
	stopFeeding()
	stopWriting()
	err = w.first(clusterError(w.name, err), group.Wait(), bounded(writing, sinkPatience, sinks.Wait))
	return w.conclude(ctx, err)
}

const (
	// loopPatience is how long the outputs may take for what is left when a watch is
	// stopped, and sinkPatience how long the sinks; a pod has half a minute for both.
	loopPatience = 5 * time.Second
	sinkPatience = 15 * time.Second
)

// errStuck says that an output kept the watch from ending well.
var errStuck = errors.New("an output takes nothing: what was still to be written is lost")

// bounded waits for f, but not for ever once the context has ended: an output that takes
// nothing must not keep the program from ending.
func bounded(ctx context.Context, patience time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case err := <-done:
		return err
	case <-wait.C:
		return errStuck
	}
}

// first is the first error that is none of stopping.
func (w *watcher) first(errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

// conclude turns the end of a watch into an exit code. That it was stopped is its
// usual end.
func (w *watcher) conclude(ctx context.Context, err error) error {
	switch {
	case err != nil:
		return err
	case w.loop == nil || !w.loop.Pictured():
		w.complain("interrupted", "the watch was stopped before its first picture was complete")
		return &exitError{code: exitInterrupted}
	case w.badLines != nil && ctx.Err() == nil:
		w.complain("incomplete", w.badLines.Error())
		return &exitError{code: exitIncomplete}
	}
	return nil
}

func (w *watcher) startOfWatch() scan.Start {
	kind := scan.SourceCluster
	if w.flags.demo {
		kind = scan.SourceDemo
	}
	start := w.start(kind, w.name)
	start.Watch, start.Alerts, start.Selector = true, w.heard != nil, w.flags.selector
	return start
}

// startFeeding starts what the loop lives on. It returns when the first picture can be
// drawn.
func (w *watcher) startFeeding(ctx context.Context, group *errgroup.Group, over chan<- struct{}) error {
	if w.live != nil {
		group.Go(func() error { return w.live.Run(ctx) })
		if err := w.live.Sync(ctx); err != nil {
			return err
		}
	}
	if w.probes != nil {
		w.probes.look(ctx)
		group.Go(func() error { return w.probes.follow(ctx, w.loop.LookAround) })
	}
	if w.heard != nil {
		group.Go(func() error {
			err := w.heard.hear(ctx)
			if err == nil && ctx.Err() == nil {
				// A recording is over; those who listen never are.
				close(over)
			}
			return err
		})
	}
	group.Go(func() error {
		w.followExceptions(ctx, loadedFrom(w.cfg, w.file), w.reload, w.loop.SetExceptions)
		return nil
	})
	group.Go(func() error { return w.measure(ctx) })
	return nil
}

// measure tells the metrics what is no event.
func (w *watcher) measure(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w.live != nil {
			w.metrics.SetStale(w.live.StaleSince())
		}
		if w.folder != nil {
			w.metrics.SetQueue("alerts", w.folder.Counts().Folds)
		}
		w.shared.measure(w.metrics)
	}
}

// serve answers /metrics, /healthz and /readyz.
func (w *watcher) serve(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", w.cfg.Watch.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	w.complain("note", fmt.Sprintf("serving /metrics, /healthz and /readyz at http://%s", listener.Addr()))
	return web.New(web.Options{
		Listener: listener, Metrics: w.metrics.Handler(), Alive: w.alive, Notify: w.notice, Now: w.now,
		Ready: func() error {
			if !w.loop.Pictured() {
				return errors.New("the first picture is not complete")
			}
			return nil
		},
	}).Run(ctx)
}

// alive is when the watch last got on. To read the cluster takes its time: whether that
// is done is another question.
func (w *watcher) alive() time.Time {
	if at := w.loop.Alive(); !at.IsZero() {
		return at
	}
	return w.now()
}

// notice says what a sink has to say of itself.
func (w *watcher) notice(n sink.Notice) {
	w.metrics.Notice(n)
	switch {
	case n.Err != nil && n.Dropped > 0:
		w.complain("warning", fmt.Sprintf("%s: %s dropped: %v", n.Sink, counted(n.Dropped, "event"), n.Err))
	case n.Err != nil:
		w.complain("warning", fmt.Sprintf("%s: %v", n.Sink, n.Err))
	case n.Dropped > 0:
		w.complain("warning", fmt.Sprintf("%s: %s dropped", n.Sink, counted(n.Dropped, "event")))
	default:
		w.complain("note", n.Sink+": works again")
	}
}
