package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	psa "k8s.io/pod-security-admission/api"

	"github.com/escape-scanner/escape-scanner/config"
	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/internal/snapshot"
	"github.com/escape-scanner/escape-scanner/remediate/repair"
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

// scanManifests judges every pod and pod template of the files. Where they are the
// dump of a cluster, they are read as a cluster is; otherwise each document is
// judged as it passes by, in what the files tell of namespaces and policies.
func (a *app) scanManifests(ctx context.Context, paths []string, cfg *config.Config, h scan.Handler) error {
	s := &manifestScan{app: a, cfg: cfg, next: h, name: strings.Join(a.inputs(paths).Paths, ",")}
	in, release, err := manifest.Hold(ctx, a.inputs(paths))
	defer func() {
		if err := release(); err != nil {
			a.complain("warning", "temporary file: "+err.Error())
		}
	}()
	if err == nil {
		s.in = in
		err = s.survey(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return s.interrupted()
	case err != nil:
		return err
	case s.dump != nil && s.dump.IsCluster():
		return s.scanDump(ctx)
	}
	return s.scanDocuments(ctx)
}

// manifestScan is one scan of manifests.
type manifestScan struct {
	*app
	cfg  *config.Config
	next scan.Handler
	in   manifest.Inputs
	// name is what the inputs are called.
	name string
	// dump is what the documents are judged in, or the whole dump of a cluster; nil
	// for plain manifests.
	dump *snapshot.Dump
}

// survey finds out what the inputs are.
func (s *manifestScan) survey(ctx context.Context) error {
	more, err := manifest.Mentions(ctx, s.in, snapshot.Kinds())
	if err != nil || !more {
		return err
	}
	dump, err := snapshot.ReadContext(ctx, s.in)
	if err != nil {
		return err
	}
	if dump.IsCluster() {
		s.dump, err = snapshot.ReadDump(ctx, s.in)
		return err
	}
	if dump.HasContext() {
		s.dump = dump
	}
	return nil
}

// begin makes the engine of the scan and its first event.
func (s *manifestScan) begin() (*scan.Engine, scan.Start, error) {
	return scan.Begin(s.start(scan.SourceManifests, s.name), psa.Level(s.cfg.Level), s.cfg.PSSVersion, "")
}

// interrupted is the stream of a scan that was stopped before it judged anything.
func (s *manifestScan) interrupted() error {
	_, start, err := s.begin()
	if err != nil {
		return err
	}
	if err := s.next.Handle(scan.Event{Start: &start}); err != nil {
		return err
	}
	if err := s.next.Handle(wasInterrupted("the documents")); err != nil {
		return err
	}
	return s.next.Handle(scan.Event{End: &scan.End{Interrupted: true, Incomplete: true}})
}

func wasInterrupted(affects string) scan.Event {
	return scan.Event{Failure: &scan.Failure{
		Subject: "scan", Reason: scan.FailureInterrupted, Message: "the scan was interrupted", Affects: affects,
	}}
}

// scanDocuments judges the documents one by one, as they pass by.
func (s *manifestScan) scanDocuments(ctx context.Context) error {
	engine, start, err := s.begin()
	if err != nil {
		return err
	}
	h := s.next
	if err := h.Handle(scan.Event{Start: &start}); err != nil {
		return err
	}
	j, err := s.judge(ctx, engine, start)
	if err != nil {
		return err
	}
	end := scan.End{Incomplete: len(j.failures) > 0}
	for i := range j.failures {
		if err := h.Handle(scan.Event{Failure: &j.failures[i]}); err != nil {
			return err
		}
	}
	err = manifest.Each(ctx, s.in, j.document, func(rec manifest.Record[judgedDocument]) error {
		j.count(rec.Value)
		return emitRecord(rec, &end, h)
	})
	switch {
	case ctx.Err() != nil:
		end.Interrupted, end.Incomplete = true, true
		err = h.Handle(wasInterrupted("the rest of the documents"))
	case err == nil && end.Documents == 0 && !end.Incomplete:
		end.Incomplete = true
		err = h.Handle(scan.Event{Failure: &scan.Failure{
			Subject: s.name, Reason: scan.FailureNotFound, Affects: "everything: nothing was judged",
			Message: fmt.Sprintf("no pod and no pod template was found (%s)", counted(end.Skipped, "other document")),
		}})
	case err == nil:
		err = handleAll(h, j.policies())
	}
	if err != nil {
		return err
	}
	return h.Handle(scan.Event{End: &end})
}

func handleAll(h scan.Handler, events []scan.Event) error {
	for _, e := range events {
		if err := h.Handle(e); err != nil {
			return err
		}
	}
	return nil
}

// documentJudge judges single documents.
type documentJudge struct {
	// document is called concurrently, count is not.
	document func(*manifest.Document) judgedDocument
	count    func(judgedDocument)
	// policies are the events of what stands around the documents.
	policies func() []scan.Event
	failures []scan.Failure
}

// judgedDocument is what became of one document.
type judgedDocument struct {
	events []scan.Event
	// document is nil where nothing stands around it.
	document *scan.Document
}

// judge makes the judge of plain manifests, or of manifests in what the others tell.
func (s *manifestScan) judge(ctx context.Context, engine *scan.Engine, start scan.Start) (*documentJudge, error) {
	addEdits := s.editor(engine)
	if s.dump == nil {
		return &documentJudge{
			document: func(d *manifest.Document) judgedDocument {
				j := engine.Judge(scan.Pod{Meta: d.Meta, Spec: d.Spec}, scan.Facts{})
				return judgedDocument{events: addEdits(d, scan.DocumentEvents(d.Workload, j, d))}
			},
			count:    func(judgedDocument) {},
			policies: func() []scan.Event { return nil },
		}, nil
	}
	// The name of the source is no name of a cluster that workloads would carry.
	start.Cluster = ""
	around, err := scan.NewContext(ctx, s.dump, engine, scan.ClusterOptions{Start: start, Level: psa.Level(s.cfg.Level), PSSVersion: s.cfg.PSSVersion})
	if err != nil {
		return nil, err
	}
	return &documentJudge{
		document: func(d *manifest.Document) judgedDocument {
			judged := around.Judge(ctx, d.Workload, scan.Pod{Meta: d.Meta, Spec: d.Spec}, d)
			return judgedDocument{addEdits(d, judged.Events()), judged}
		},
		count: func(j judgedDocument) {
			if j.document != nil {
				around.Count(j.document)
			}
		},
		policies: around.Events,
		failures: slices.Concat(s.dump.Failures, around.Failures()),
	}, nil
}

// editor makes what adds to the findings of a document the edits that repair its file.
// It takes longer than all else, so that it is done where an output has room for them.
func (s *manifestScan) editor(engine *scan.Engine) func(*manifest.Document, []scan.Event) []scan.Event {
	if !slices.ContainsFunc(s.cfg.Outputs(), func(o config.Output) bool { return o.Format == "sarif" }) {
		return func(_ *manifest.Document, events []scan.Event) []scan.Event { return events }
	}
	r := repair.Repairer{Judge: repair.NewJudge(engine, nil, s.now())}
	return func(d *manifest.Document, events []scan.Event) []scan.Event {
		if s.inChart(d.File) {
			return events
		}
		var findings []*scan.Finding
		for _, e := range events {
			if e.Finding != nil {
				findings = append(findings, e.Finding)
			}
		}
		r.Edits(d, findings)
		return events
	}
}

// scanDump reads the dump as a cluster is read.
func (s *manifestScan) scanDump(ctx context.Context) error {
	opts := scan.ClusterOptions{
		Start: s.start(scan.SourceManifests, s.name), Level: psa.Level(s.cfg.Level), PSSVersion: s.cfg.PSSVersion,
		Declarations: s.dump.Places, Failures: s.dump.Failures, Probes: s.dump.Probes(),
	}
	if about := s.dump.About(); about != nil {
		opts.Start.Cluster = cmp.Or(about.Cluster, s.name)
		opts.Start.Selector, opts.Namespaces = about.Selector, about.Namespaces
		// What evidence is worth hangs on its age when it was recorded.
		opts.Start.Time = about.Time
		opts.Start.Notes = append(opts.Start.Notes, fmt.Sprintf("the inventory %s was recorded at %s and is judged as of then",
			s.name, about.Time.UTC().Format(time.RFC3339)))
	}
	return scan.ScanCluster(ctx, s.dump, opts, s.next)
}

// emitRecord sends what became of one document.
func emitRecord(rec manifest.Record[judgedDocument], end *scan.End, h scan.Handler) error {
	switch {
	case rec.Failure != nil:
		end.Incomplete = true
		return h.Handle(scan.Event{Failure: rec.Failure})
	case rec.Skipped != "":
		end.Skipped++
		return nil
	}
	end.Documents++
	if err := handleAll(h, rec.Value.events); err != nil {
		return err
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
