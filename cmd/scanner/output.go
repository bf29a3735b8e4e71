package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/s3"
	"github.com/escape-scanner/escape-scanner/report"
	"github.com/escape-scanner/escape-scanner/scan"
)

const projectURL = "https://github.com/escape-scanner/escape-scanner"

// destination is where an output goes that is there as a whole, or not at all.
type destination interface {
	io.Writer
	// commit puts what was written in its place. The run is what the output tells of.
	commit(ctx context.Context, run scan.Start) error
	// discard drops what was written. After a commit it does nothing.
	discard()
}

// outputs are the places that one run writes to.
type outputs struct {
	handler scan.Handler
	places  []destination
	// run is how the run that is written began.
	run scan.Start
	// unexplained is why there is nothing to explain, nil when there is.
	unexplained error
}

// openOutputs makes a handler for every output that was asked for. Files are
// opened now, and buckets looked at, so that a wrong place ends the run before anything
// is read.
//
// With a workload to explain, that is what standard output gets.
func (a *app) openOutputs(ctx context.Context, cfg *config.Config, explain string) (*outputs, error) {
	o := &outputs{}
	handlers := []scan.Handler{scan.HandlerFunc(o.began)}
	opener := a.opener(cfg)
	streaming := false
	for _, out := range cfg.Outputs() {
		w := a.stdout
		if out.File != "" {
			place, err := opener.open(ctx, out)
			if err != nil {
				o.discard()
				return nil, fmt.Errorf("output %s: %w", out.Format, err)
			}
			o.places = append(o.places, place)
			w = place
		} else if out.Format == "jsonl" {
			streaming = true
		}
		if explain != "" && out.File == "" {
			handlers = append(handlers, o.explain(report.NewExplain(w, explain, a.width(w))))
			continue
		}
		handlers = append(handlers, a.newHandler(cfg, out.Format, w))
	}
	if _, terminal := a.terminalWidth(a.stderr); terminal && !streaming {
		// First, so that its line is gone before anything else is written.
		handlers = append([]scan.Handler{report.NewProgress(a.stderr)}, handlers...)
	}
	o.handler = report.Tee(handlers...)
	return o, nil
}

// explain keeps the error of an explanation apart: it is about what the user asked
// for, not about writing.
func (o *outputs) explain(h scan.Handler) scan.Handler {
	return scan.HandlerFunc(func(e scan.Event) error {
		err := h.Handle(e)
		if err != nil {
			o.unexplained = err
		}
		return err
	})
}

// path is a path of the user's, from the directory that the run is in.
func (a *app) path(name string) string {
	if a.workDir == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(a.workDir, name)
}

func (a *app) newHandler(cfg *config.Config, format string, w io.Writer) scan.Handler {
	switch format {
	case "json":
		return report.NewJSON(w)
	case "jsonl":
		return report.NewJSONL(w)
	case "sarif":
		return report.NewSARIF(w, report.SARIFOptions{
			Rules: scan.Rules(), Version: a.version, InformationURI: projectURL, Category: sarifCategory(cfg),
			OnTruncate: func(msg string) { a.complain("warning", msg) },
		})
	case "html":
		return report.NewHTML(w, report.HTMLOptions{Rules: scan.Rules()})
	default:
		return report.NewTable(w, report.TableOptions{Width: a.width(w), Color: a.color(cfg.Color, w)})
	}
}

// sarifCategory tells the uploads of several clusters for one commit apart, as the runs of a
// fleet are.
func sarifCategory(cfg *config.Config) string {
	if cfg.ClusterName == "" {
		return cfg.SARIFCategory
	}
	return cfg.SARIFCategory + "/" + cfg.ClusterName
}

// began notes how the run that is written began.
func (o *outputs) began(e scan.Event) error {
	if e.Start != nil {
		o.run = *e.Start
	}
	return nil
}

// commit puts all that was written in its places; one that fails keeps none of the others
// from theirs.
func (o *outputs) commit(ctx context.Context) error {
	var errs []error
	for _, p := range o.places {
		errs = append(errs, p.commit(ctx, o.run))
	}
	return errors.Join(errs...)
}

// discard drops what was not committed.
func (o *outputs) discard() {
	for _, p := range o.places {
		p.discard()
	}
}

// opener opens the places of outputs.
type opener struct {
	app *app
	cfg *config.S3
	// service is that of the first output in a bucket, nil before.
	service *s3.Service
}

func (a *app) opener(cfg *config.Config) *opener { return &opener{app: a, cfg: &cfg.S3} }

func (o *opener) open(ctx context.Context, out config.Output) (destination, error) {
	if out.InBucket() {
		return o.inBucket(ctx, out)
	}
	return openOutput(o.app.path(out.File))
}

// outputFile is a file that appears whole, or not at all: readers never see half
// of a report, and an older one stays until the new one is there.
type outputFile struct {
	*bufio.Writer
	file *os.File
	// path is where the file goes at the end; empty when it is written in place.
	path string
}

func openOutput(path string) (*outputFile, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s is a directory", path)
	case err == nil && (!info.Mode().IsRegular() || isOpenFile(path)):
		// What others hold open cannot be replaced, and what they wrote stays.
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return nil, err
		}
		return &outputFile{Writer: bufio.NewWriter(f), file: f}, nil
	}
	// A link stays one: what it leads to is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		// The error names a file that the user never heard of.
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &outputFile{Writer: bufio.NewWriter(f), file: f, path: path}, nil
}

// isOpenFile reports whether a path stands for a file that is open already, as
// /dev/stdout does, which may be a regular file at the other end.
func isOpenFile(path string) bool {
	path = filepath.Clean(path)
	return strings.HasPrefix(path, "/dev/") || strings.HasPrefix(path, "/proc/")
}

// commit puts the file in its place. It is quick, and done even where the run was
// interrupted: what was read is told.
func (f *outputFile) commit(context.Context, scan.Start) error { return f.put() }

func (f *outputFile) put() error {
	err := errors.Join(f.Flush(), f.file.Close())
	if err != nil || f.path == "" {
		return err
	}
	// CreateTemp makes files for their owner alone; a report is read by others too.
	mode := os.FileMode(0o644)
	if info, err := os.Stat(f.path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.Chmod(f.file.Name(), mode); err != nil {
		return err
	}
	return os.Rename(f.file.Name(), f.path)
}

func (f *outputFile) discard() {
	_ = f.file.Close()
	if f.path != "" {
		_ = os.Remove(f.file.Name())
	}
}
