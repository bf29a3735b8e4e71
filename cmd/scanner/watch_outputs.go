package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/sink/logfile"
	"github.com/escape-scanner/escape-scanner/internal/watch"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

// watchOutputs are the texts that a watch writes: to standard output, and to files.
type watchOutputs struct {
	handlers []scan.Handler
	files    []*logfile.File
}

// open opens the outputs of the configuration.
func (o *watchOutputs) open(w *watcher) error {
	for _, out := range w.cfg.Watch.Outputs() {
		if out.File == "" {
			o.handlers = append(o.handlers, w.formatted(out, w.stdout, w.width(w.stdout)))
			continue
		}
		file, err := logfile.Open(logfile.Options{
			// What reads logs need not be who writes them.
			Path: w.path(out.File), Mode: 0o640, Size: int64(w.cfg.Watch.RotateSize) << 20, Keep: w.cfg.Watch.RotateKeep,
			Header: func() []byte { return w.header(out) }, Notify: w.notice, Now: w.now,
		})
		if err != nil {
			return fmt.Errorf("output %s: %w", out.Format, err)
		}
		o.files = append(o.files, file)
		o.handlers = append(o.handlers, w.formatted(out, file, 0))
	}
	return nil
}

func (o *watchOutputs) close() error {
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// formatted is the handler of an output. What it writes is there at the end of each
// batch, in whole lines.
func (w *watcher) formatted(out config.Output, to io.Writer, width int) scan.Handler {
	lines := &batched{to: to}
	if out.Format == "jsonl" {
		lines.Handler = report.NewJSONL(&lines.text)
		return lines
	}
	zone := time.UTC
	if width > 0 {
		zone = w.now().Location()
	}
	lines.Handler = report.NewWatchText(&lines.text, report.WatchTextOptions{
		Width: width, Color: out.File == "" && w.color(w.cfg.Color, to), AllAlerts: w.flags.allAlerts, Now: w.now, Location: zone,
	})
	return lines
}

// header is what a new file begins with, so that it can be read alone. Text needs none.
func (w *watcher) header(out config.Output) []byte {
	if out.Format != "jsonl" {
		return nil
	}
	var text bytes.Buffer
	// Memory takes everything.
	_ = w.loop.Tell(report.NewJSONL(&text))
	return text.Bytes()
}

// mostBatched is how much is kept before it is written, whatever is to come.
const mostBatched = 1 << 20

// batched writes what its handler wrote, at the end of each batch.
type batched struct {
	scan.Handler
	text bytes.Buffer
	to   io.Writer
}

var _ watch.Flusher = (*batched)(nil)

// Handle implements scan.Handler.
func (b *batched) Handle(e scan.Event) error {
	if err := b.Handler.Handle(e); err != nil {
		return err
	}
	if b.text.Len() > mostBatched {
		return b.write()
	}
	return nil
}

// Flush implements watch.Flusher.
func (b *batched) Flush() error {
	if f, ok := b.Handler.(watch.Flusher); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	return b.write()
}

func (b *batched) write() error {
	if b.text.Len() == 0 {
		return nil
	}
	_, err := b.to.Write(b.text.Bytes())
	b.text.Reset()
	return err
}
