package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Load reads a cluster that is whole from the files at the top of a file system. A
// file that cannot be read as a whole is an error: a snapshot with holes would be
// taken for a cluster without them.
func Load(ctx context.Context, files fs.FS, version string) (*Snapshot, error) {
	s := &Snapshot{Version: version, Complete: true}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	for _, e := range entries {
		f, err := files.Open(e.Name())
		if err != nil {
			return nil, fmt.Errorf("snapshot: %w", err)
		}
		err = errors.Join(s.read(ctx, f), f.Close())
		if err != nil {
			return nil, fmt.Errorf("snapshot: %s: %w", e.Name(), err)
		}
	}
	return s, nil
}

func (s *Snapshot) read(ctx context.Context, r io.Reader) error {
	in := manifest.Inputs{Paths: []string{manifest.Stdin}, Stdin: r}
	return manifest.Objects(ctx, in, func(raw manifest.Raw) error {
		if raw.Failure != nil {
			return errors.New(raw.Failure.Message)
		}
		if err := s.Add(raw.APIVersion, raw.Kind, raw.JSON); err != nil {
			return fmt.Errorf("line %d: %w", raw.Line, err)
		}
		return nil
	})
}

// Dump is a dump of a cluster as files hold it.
type Dump struct {
	Snapshot
	// Places finds the documents that declare the workloads.
	Places *manifest.Index
	// Failures are the documents that could not be read.
	Failures []scan.Failure

	// templates are the documents with a pod template, in the order of the files.
	templates []*manifest.Document
	begins    place
}

// place is where an object stands.
type place struct {
	file string
	line int
}

// ReadDump reads a dump. Documents that are broken are Failures of it, with their
// places. The error is one of the inputs as a whole, ErrTwoInventories or ErrVersion.
func ReadDump(ctx context.Context, in manifest.Inputs) (*Dump, error) {
	d := &Dump{Places: manifest.NewIndex()}
	err := manifest.ObjectsAndPods(ctx, in, func(raw manifest.Raw) error {
		if raw.Failure != nil {
			d.Failures = append(d.Failures, *raw.Failure)
			return nil
		}
		return d.take(raw, d.keep)
	})
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	d.seal()
	return d, nil
}

// ReadContext reads of the inputs only what manifests are judged in: namespaces,
// nodes, policies and what an inventory says of itself. What is wrong with other
// documents is left to those who read them.
func ReadContext(ctx context.Context, in manifest.Inputs) (*Dump, error) {
	d := &Dump{Places: manifest.NewIndex(), Snapshot: Snapshot{manifests: true}}
	kinds := append(Kinds(), "RuntimeClass", "PersistentVolume")
	err := manifest.ObjectsOf(ctx, in, kinds, func(raw manifest.Raw) error {
		if raw.Failure != nil {
			return nil // It is met again when the documents are judged.
		}
		return d.take(raw, func(manifest.Raw) {})
	})
	if err != nil {
		return nil, fmt.Errorf("manifests: %w", err)
	}
	return d, nil
}

// Kinds are the names of the kinds by which manifests show to be more than pods and
// their templates.
func Kinds() []string {
	kinds := []string{Kind, "Namespace", "Node"}
	for _, gk := range scan.ObjectKinds() {
		kinds = append(kinds, gk.Kind)
	}
	return kinds
}

// take takes an object in, and hands it on where that went well.
func (d *Dump) take(raw manifest.Raw, keep func(manifest.Raw)) error {
	err := d.Add(raw.APIVersion, raw.Kind, raw.JSON)
	if errors.Is(err, ErrTwoInventories) || errors.Is(err, ErrVersion) {
		return fmt.Errorf("%s: line %d: %w", raw.File, raw.Line, err)
	}
	if err != nil {
		d.fail(place{raw.File, raw.Line}, err.Error(), "what the object says of the cluster")
		return nil
	}
	if d.inventory.begin != nil && d.begins == (place{}) {
		d.begins = place{raw.File, raw.Line}
	}
	keep(raw)
	return nil
}

// keep remembers where workloads are declared.
func (d *Dump) keep(raw manifest.Raw) {
	if raw.Document == nil {
		return
	}
	doc := raw.Document
	switch {
	case doc.TemplatePath != "":
		d.templates = append(d.templates, doc)
	case d.inventory.begin != nil || scan.ControllerOf(doc.Meta.OwnerReferences) != nil:
		// There may be many, and few of them are ever asked for a place.
		doc = doc.WithoutText()
	}
	d.Places.Add(doc)
}

// seal finds an inventory that was cut off.
func (d *Dump) seal() {
	if d.inventory.begin != nil && !d.inventory.ended {
		d.fail(d.begins, "the inventory has no end: it was cut off", "all that stood behind it")
	}
}

func (d *Dump) fail(at place, msg, affects string) {
	d.Failures = append(d.Failures, scan.Failure{
		Subject: at.file, Reason: scan.FailureInvalid, Message: fmt.Sprintf("line %d: %s", at.line, msg), Affects: affects,
		Location: &scan.Location{File: at.file, Line: at.line, Column: 1},
	})
}
