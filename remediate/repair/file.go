package repair

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// File is what became of one file.
type File struct {
	Name          string
	Before, After []byte
	Documents     []*Document
	// Failures are what of it could not be read.
	Failures []scan.Failure
	// edits are what makes After of Before.
	edits []manifest.Edit
	// pods are those of the documents that could be read.
	pods []*Document
}

// Changed tells whether the file is to be written.
func (f *File) Changed() bool { return !bytes.Equal(f.Before, f.After) }

// File repairs the documents of a file. Chart says that the file is a template of a
// chart: it is then left alone.
func (r *Repairer) File(ctx context.Context, text manifest.Text, chart bool) (*File, error) {
	f := &File{Name: text.File, Before: text.Data, After: text.Data}
	if text.Failure != nil {
		f.Failures = []scan.Failure{*text.Failure}
		return f, nil
	}
	if chart {
		f.Documents = []*Document{{Line: 1, Skipped: "it stands in a Helm chart: repair the template or its values by hand, or what it renders to"}}
		return f, nil
	}
	err := manifest.Each(ctx, text.Inputs(), r.Document, func(rec manifest.Record[*Document]) error {
		switch {
		case rec.Failure != nil && isTemplate(text.Data):
			f.Documents = append(f.Documents, &Document{Line: rec.Line, Skipped: templateReason})
		case rec.Failure != nil:
			f.Failures = append(f.Failures, *rec.Failure)
		case rec.Document != nil:
			f.Documents, f.pods = append(f.Documents, rec.Value), append(f.pods, rec.Value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, f.assemble(ctx, text)
}

// assemble puts the repaired documents together, as far as all others then read as
// before.
func (f *File) assemble(ctx context.Context, text manifest.Text) error {
	if !slices.ContainsFunc(f.Documents, (*Document).changed) {
		return nil
	}
	before, err := objects(ctx, text)
	if err != nil {
		return err
	}
	p := assembly{File: f, text: text, before: before}
	reason, err := p.take(ctx, f.Documents)
	if err != nil || reason == "" {
		return err
	}
	var kept []*Document
	for _, d := range f.Documents {
		if !d.changed() {
			continue
		}
		reason, err := p.take(ctx, append(slices.Clip(kept), d))
		switch {
		case err != nil:
			return err
		case reason != "":
			d.giveUp(reason)
		default:
			kept = append(kept, d)
		}
	}
	return nil
}

func (d *Document) changed() bool { return d.editor != nil }

// giveUp leaves a document as it was.
func (d *Document) giveUp(reason string) {
	for _, f := range d.Repaired {
		d.Left = append(d.Left, Left{f, reason})
	}
	d.Repaired, d.editor = nil, nil
}

// object is one object of a file.
type object struct {
	line int
	pod  bool
	json []byte
}

// objects reads what is in a text. What cannot be read is an object without JSON.
func objects(ctx context.Context, text manifest.Text) ([]object, error) {
	var all []object
	err := manifest.ObjectsAndPods(ctx, text.Inputs(), func(raw manifest.Raw) error {
		all = append(all, object{raw.Line, raw.Document != nil, raw.JSON})
		return nil
	})
	return all, err
}

// assembly is the proof of a file as a whole.
type assembly struct {
	*File
	text   manifest.Text
	before []object
}

// take puts the changes of some documents, and no others, into the file. The reason
// says why it does not: the file would not be what it should be.
func (p *assembly) take(ctx context.Context, documents []*Document) (reason string, err error) {
	edits, err := p.collect(documents)
	if err != nil {
		return err.Error(), nil
	}
	after := splice(p.Before, edits)
	text := p.text
	text.Data = after
	now, err := objects(ctx, text)
	if err != nil {
		return "", err
	}
	if len(now) != len(p.before) {
		return "the file would not read as before", nil
	}
	pod := -1
	for i := range now {
		if p.before[i].pod {
			pod++
		}
		want := p.before[i].json
		if p.before[i].pod && pod < len(p.pods) {
			if d := p.pods[pod]; d.changed() && slices.Contains(documents, d) {
				want = d.editor.Object()
			}
		}
		if !bytes.Equal(want, now[i].json) || p.before[i].pod != now[i].pod {
			return "another document of the file would change with it", nil
		}
	}
	p.After, p.edits = after, edits
	return "", nil
}

// collect gathers the changes of some documents, by their offsets in the file.
func (p *assembly) collect(documents []*Document) ([]manifest.Edit, error) {
	var all []manifest.Edit
	for _, d := range documents {
		if !d.changed() {
			continue
		}
		line, column := d.from.Place()
		off, err := p.text.Find(line, column, d.from.Text())
		if err != nil {
			return nil, err
		}
		for _, e := range d.editor.Edits() {
			all = append(all, manifest.Edit{Start: off + e.Start, End: off + e.End, Text: e.Text})
		}
	}
	slices.SortStableFunc(all, func(a, b manifest.Edit) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(all); i++ {
		if all[i].Start < all[i-1].End {
			return nil, errors.New("two documents would be changed in one place")
		}
	}
	return all, nil
}

// splice puts edits, in order, into a text.
func splice(text []byte, edits []manifest.Edit) []byte {
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(append(out, text[at:e.Start]...), e.Text...)
		at = e.End
	}
	return append(out, text[at:]...)
}
