package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	source "github.com/escape-scanner/escape-scanner/internal/armor"
	"github.com/escape-scanner/escape-scanner/internal/demo"
	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/armor"
)

// demoGap is the longest that the demo waits for its next alert.
const demoGap = 3 * time.Second

// hearing is where the alerts of a watch come from.
type hearing interface {
	// hear gives the alerts to the folder until the context ends or there are no more.
	hear(ctx context.Context) error
}

// streams are KubeArmor's relays, or its agents.
type streams struct {
	w       *watcher
	targets []source.Target
	record  *recording
}

func (s *streams) hear(ctx context.Context) error {
	take := s.w.taker()
	l := source.Listener{
		Alert: func(alert armor.Alert) { take(alert, s.w.now()) },
		Lost:  s.w.folder.Lost,
		State: s.w.heardState,
	}
	if s.record != nil {
		l.Raw = s.record.write
	}
	err := source.Listen(ctx, s.targets, l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// taker takes in alerts, unless they are about what was not chosen.
func (w *watcher) taker() func(alert armor.Alert, seen time.Time) {
	namespaces := splitNames(*w.flags.kube.Namespace)
	return func(alert armor.Alert, seen time.Time) {
		if concerns(namespaces, &alert) {
			w.folder.Add(alert, seen)
		}
	}
}

// heardState says that KubeArmor is listened to, or why it is not.
func (w *watcher) heardState(address string, connected bool, err error) {
	w.metrics.Connected(address, connected)
	if connected {
		w.complain("note", "listening to KubeArmor at "+address)
		return
	}
	w.complain("warning", "not listening to KubeArmor: "+err.Error())
}

// recording is the file of --record. A line that cannot be written is said once.
type recording struct {
	a    *app
	file *os.File

	mu     sync.Mutex
	failed bool
}

// newRecording begins the file anew; one that is there is not overwritten.
func (a *app) newRecording(name string) (*recording, error) {
	// Alerts show the command lines of everybody's processes.
	file, err := os.OpenFile(a.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &recording{a: a, file: file}, nil
}

func (r *recording) write(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.file.Write(append(bytes.Clone(line), '\n')); err != nil && !r.failed {
		r.failed = true
		r.a.complain("warning", "the recording is not whole: "+err.Error())
	}
}

func (r *recording) close() error { return r.file.Close() }

// replay plays a recording and ends with it.
type replay struct {
	w    *watcher
	name string
	in   io.ReadCloser
	pace source.Pace
}

// openReplay opens what is played: the demo's own, a file, or standard input.
func (w *watcher) openReplay() (*replay, error) {
	f := w.flags
	r := &replay{w: w, name: f.replay, pace: source.Pace{Speed: f.pace}}
	switch f.replay {
	case "":
		r.name, r.in = "the demo's alerts", io.NopCloser(bytes.NewReader(demo.Alerts()))
		r.pace.MaxGap = demoGap
	case "-":
		r.in = io.NopCloser(w.stdin)
	default:
		file, err := w.open(f.replay)
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		r.in = file
	}
	return r, nil
}

// hear implements hearing. Lines that are no alerts are evidence that is lost.
func (r *replay) hear(ctx context.Context) error {
	defer r.in.Close()
	began, take := r.w.now(), r.w.taker()
	err := source.Replay(ctx, r.in, r.pace, func(alert armor.Alert, received time.Time) error {
		if received.IsZero() {
			received = r.w.now()
		}
		take(alert, received)
		return nil
	})
	bad, isBad := errors.AsType[*source.BadLinesError](err)
	switch {
	case ctx.Err() != nil:
		return nil
	case isBad:
		r.w.folder.Lost(scan.Lost{
			Reason: scan.LostUnreadable, From: began.UTC(), To: r.w.now().UTC(), Source: r.name, Alerts: bad.Lines, Message: bad.Error(),
		})
		r.w.badLines = fmt.Errorf("replay %s: %w", r.name, bad)
		return nil
	case err != nil:
		return fmt.Errorf("replay %s: %w", r.name, err)
	}
	return nil
}
