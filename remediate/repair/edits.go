package repair

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// Edits gives each finding of a document that has a fix the edits that make it, each
// by itself, where that is proven. The fixes that the findings came with stay as they
// are: those with edits are new ones.
func (r *Repairer) Edits(d *manifest.Document, findings []*scan.Finding) {
	var all []scan.Finding
	for _, f := range findings {
		if f.Fix != nil && (f.Category == scan.CategoryPSS || f.Category == scan.CategoryEscape) {
			all = append(all, *f)
		}
	}
	if len(all) == 0 || len(all) > maxFindings {
		return
	}
	editor, err := d.Edit()
	if err != nil || notToEdit(d, editor) != "" {
		return
	}
	w := &work{Repairer: r, base: d.TemplatePath, before: editor, now: editor, findings: all}
	had := countPrints(w.judge(editor))
	known := make(map[string]*scan.Fix, len(all))
	for _, f := range findings {
		if f.Fix == nil || had[f.Fingerprint()] == 0 {
			continue
		}
		key := f.Field + "=" + string(f.Fix.Value)
		fix, ok := known[key]
		if !ok {
			fix = w.alone(f)
			known[key] = fix
		}
		if fix != nil {
			with := *f.Fix
			with.Edits, with.With = fix.Edits, fix.With
			f.Fix = &with
		}
	}
}

// alone makes one change by itself, for all findings that ask for it, and with it only
// what it does not go without.
func (w *work) alone(f *scan.Finding) *scan.Fix {
	asked := w.asking(func(other *scan.Finding) bool {
		return other.Field == f.Field && bytes.Equal(other.Fix.Value, f.Fix.Value)
	})
	now, with, ok := w.uncovering(w.before, asked)
	if ok && contradiction(w.before, now) != "" {
		now, with, ok = w.uncovering(w.before, append(asked, w.asking(func(other *scan.Finding) bool {
			return other.Field != f.Field && contradicts(other) && (f.Container == "" || other.Container == "" || f.Container == other.Container)
		})...))
	}
	if !ok || now == w.before || !now.KeepsAnchors(w.before) || w.fault(w.before, now, asked) != "" {
		return nil
	}
	fix := &scan.Fix{Edits: w.placed(now)}
	for _, field := range with {
		if field != f.Field && !slices.Contains(fix.With, field) {
			fix.With = append(fix.With, field)
		}
	}
	return fix
}

// contradicts tells whether a field may stand in the way of others.
func contradicts(f *scan.Finding) bool {
	return strings.HasSuffix(f.Field, ".privileged") || strings.HasSuffix(f.Field, ".runAsUser") || string(f.Now) == `"CAP_SYS_ADMIN"`
}

// asking are the findings of the document that ask for a change.
func (w *work) asking(is func(*scan.Finding) bool) []scan.Finding {
	return slices.DeleteFunc(slices.Clone(w.findings), func(f scan.Finding) bool { return !is(&f) })
}

// uncovering makes changes, and those of what comes to light then. The fields are those
// of the changes that were made, also of those that came along where a place is shared.
func (w *work) uncovering(from *manifest.Editor, findings []scan.Finding) (now *manifest.Editor, fields []string, ok bool) {
	had := countPrints(w.judge(from))
	now = from
	all := stepsFor(w.base, w.findings)
	for range maxRounds {
		steps := stepsFor(w.base, findings)
		for i := range steps {
			next, reason := w.make(now, &steps[i], all)
			if reason != "" {
				return from, nil, false
			}
			fields = append(fields, steps[i].field)
			now = next
		}
		findings = slices.DeleteFunc(slices.Clone(w.judge(now)), func(f scan.Finding) bool {
			return f.Fix == nil || !w.wants(&f) || had[f.Fingerprint()] > 0
		})
		if len(findings) == 0 {
			break
		}
	}
	return now, append(fields, w.cameAlong(from, now, all)...), true
}

// cameAlong are the fields of changes that were made with others.
func (w *work) cameAlong(from, to *manifest.Editor, steps []step) []string {
	before, err := decode(from.Object())
	after, err2 := decode(to.Object())
	if err != nil || err2 != nil {
		return nil
	}
	var fields []string
	for i := range steps {
		if steps[i].done(after) && !steps[i].done(before) {
			fields = append(fields, steps[i].field)
		}
	}
	return fields
}

// placed are the edits of a document by their lines and columns in the file.
func (w *work) placed(e *manifest.Editor) []scan.Edit {
	text := w.before.Text()
	firstLine, firstColumn := w.before.Place()
	place := func(off int) (line, column int) {
		start := bytes.LastIndexByte(text[:off], '\n') + 1
		line, column = firstLine+bytes.Count(text[:off], []byte{'\n'}), 1+utf8.RuneCount(text[start:off])
		if start == 0 {
			column += firstColumn
		}
		return line, column
	}
	var edits []scan.Edit
	for _, edit := range e.Edits() {
		at := scan.Edit{Text: edit.Text}
		at.Line, at.Column = place(edit.Start)
		at.EndLine, at.EndColumn = place(edit.End)
		edits = append(edits, at)
	}
	return edits
}
