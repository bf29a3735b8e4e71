package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/tui"
)

// screenSource is a run that a screen shows.
type screenSource struct {
	name string
	// noRemedy says why nothing can be changed, empty where something can.
	noRemedy string
	// run feeds the screen until the context ends, or there is no more.
	run   func(ctx context.Context) error
	close func()
}

// onto is the program with what it says on standard error said on a screen.
func (a *app) onto(feed *tui.Feed) *app {
	quiet := *a
	quiet.stderr = &notices{say: feed.Say}
	quiet.terminalWidth = func(io.Writer) (int, bool) { return 0, false }
	return &quiet
}

// notices takes lines of standard error.
type notices struct {
	say  func(string)
	mu   sync.Mutex
	rest []byte
}

// Write implements io.Writer.
func (n *notices) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rest = append(n.rest, p...)
	for {
		line, rest, whole := bytes.Cut(n.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		n.say(strings.TrimPrefix(string(line), "escape-scanner: "))
		n.rest = bytes.Clone(rest)
	}
}

// source opens what the flags name. What is wrong with it is found before the screen is
// taken.
func (a *app) source(ctx context.Context, f *tuiFlags, cfg *config.Config, file string, reload loader, feed *tui.Feed) (*screenSource, error) {
	if f.still() != "" {
		return a.stillSource(f, cfg, feed)
	}
	saveMemory()
	w := &watcher{
		app: a, flags: &f.watchFlags, cfg: cfg, file: file, reload: reload, screen: feed,
		progress: &beginning{w: a.stderr, line: &liveLine{}},
	}
	if err := w.prepare(ctx); err != nil {
		w.close()
		return nil, err
	}
	return &screenSource{name: w.name, close: w.close, run: func(ctx context.Context) error {
		err := w.run(ctx)
		if exit := (&exitError{}); errors.As(err, &exit) && ctx.Err() != nil {
			// That it was stopped is how it ends.
			return exit.err
		}
		return err
	}}, nil
}

// stillSource is what does not change: manifests, or an earlier run.
func (a *app) stillSource(f *tuiFlags, cfg *config.Config, feed *tui.Feed) (*screenSource, error) {
	name := func(path string) string {
		if path == "-" {
			return "standard input"
		}
		return path
	}
	names := make([]string, len(f.files))
	for i, path := range f.files {
		names[i] = name(path)
	}
	s := &screenSource{close: func() {}, name: strings.Join(names, ", ")}
	if f.from != "" {
		s.name, s.noRemedy = name(f.from), "an earlier run is looked at: changes are planned for a cluster that is there"
		if f.from != "-" {
			// It is read from its beginning, once the screen is there.
			file, err := a.open(f.from)
			if err != nil {
				return nil, err
			}
			if err := file.Close(); err != nil {
				return nil, err
			}
		}
		s.run = func(context.Context) error { return a.replayWhole(f.from, feed) }
		return s, nil
	}
	s.noRemedy = "manifests are looked at: \"escape-scanner remediate manifests\" repairs files"
	s.run = func(ctx context.Context) error {
		return a.scanManifests(ctx, f.files, cfg, scan.Except(exceptions(cfg), a.now(), scan.NewTally(feed)))
	}
	return s, nil
}

// demoRefusal is why nothing is changed in the demo.
const demoRefusal = "the demo cluster is part of the program: nothing can be changed there"
