package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// progressEvery is how many documents pass between two progress events.
const progressEvery = 1000

// inputs are the manifests that the user names. Findings carry the paths that
// reports compare with those of a repository, so a path below the directory of the
// run is named from there.
func (a *app) inputs(paths []string) manifest.Inputs {
	in := manifest.Inputs{Stdin: a.stdin, Files: workDirFiles{a}}
	for _, p := range paths {
		if filepath.IsAbs(p) {
			if rel, err := filepath.Rel(a.here(), p); err == nil && filepath.IsLocal(rel) {
				p = rel
			}
		}
		in.Paths = append(in.Paths, p)
	}
	return in
}

// here is the directory of the run, empty if it is not known.
func (a *app) here() string {
	if a.workDir != "" {
		return a.workDir
	}
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

// workDirFiles is the file system as it looks from the directory of the run.
type workDirFiles struct{ *app }

func (w workDirFiles) Open(name string) (io.ReadCloser, error) {
	return manifest.OS{}.Open(w.path(name))
}
func (w workDirFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	return manifest.OS{}.ReadDir(w.path(name))
}
func (w workDirFiles) Stat(name string) (fs.FileInfo, error) { return manifest.OS{}.Stat(w.path(name)) }
func (w workDirFiles) RealPath(name string) (string, error) {
	return manifest.OS{}.RealPath(w.path(name))
}

// scanManifests judges every pod and pod template of the files, as they pass by.
func (a *app) scanManifests(ctx context.Context, paths []string, cfg *config.Config, h scan.Handler) error {
	in := a.inputs(paths)
	engine, start, err := scan.Begin(a.start(scan.SourceManifests, strings.Join(in.Paths, ",")), psa.Level(cfg.Level), cfg.PSSVersion, "")
	if err != nil {
		return err
	}
	if err := h.Handle(scan.Event{Start: &start}); err != nil {
		return err
	}
	judge := func(d *manifest.Document) []scan.Event {
		j := engine.Judge(scan.Pod{Meta: d.Meta, Spec: d.Spec}, scan.Facts{})
		return scan.DocumentEvents(d.Workload, j, d)
	}
	end := scan.End{}
	err = manifest.Each(ctx, in, judge, func(rec manifest.Record[[]scan.Event]) error {
		return emitRecord(rec, &end, h)
	})
	switch {
	case ctx.Err() != nil:
		end.Interrupted, end.Incomplete = true, true
		err = h.Handle(scan.Event{Failure: &scan.Failure{
			Subject: "scan", Reason: scan.FailureInterrupted, Message: "the scan was interrupted", Affects: "the rest of the documents",
		}})
	case err == nil && end.Documents == 0 && !end.Incomplete:
		end.Incomplete = true
		err = h.Handle(scan.Event{Failure: &scan.Failure{
			Subject: strings.Join(in.Paths, ","), Reason: scan.FailureNotFound, Affects: "everything: nothing was judged",
			Message: fmt.Sprintf("no pod and no pod template was found (%s)", counted(end.Skipped, "other document")),
		}})
	}
	if err != nil {
		return err
	}
	return h.Handle(scan.Event{End: &end})
}

// emitRecord sends what became of one document.
func emitRecord(rec manifest.Record[[]scan.Event], end *scan.End, h scan.Handler) error {
	switch {
	case rec.Failure != nil:
		end.Incomplete = true
		return h.Handle(scan.Event{Failure: rec.Failure})
	case rec.Skipped != "":
		end.Skipped++
		return nil
	}
	end.Documents++
	for _, e := range rec.Value {
		if err := h.Handle(e); err != nil {
			return err
		}
	}
	if end.Documents%progressEvery == 0 {
		return h.Handle(scan.Event{Progress: &scan.Progress{Documents: end.Documents}})
	}
	return nil
}

// declarations reads the documents that declare the cluster's workloads.
func (a *app) declarations(ctx context.Context, paths []string) (scan.Declarations, []scan.Failure, error) {
	index := manifest.NewIndex()
	var failures []scan.Failure
	keep := func(d *manifest.Document) *manifest.Document { return d }
	err := manifest.Each(ctx, a.inputs(paths), keep, func(rec manifest.Record[*manifest.Document]) error {
		switch {
		case rec.Failure != nil:
			f := *rec.Failure
			f.Affects = "where workloads are declared"
			failures = append(failures, f)
		case rec.Document != nil:
			index.Add(rec.Document)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manifests: %w", err)
	}
	return index, failures, nil
}
