package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Change is a change of one field of a pod.
type Change struct {
	// Field is the path from the root of the pod, as in Locate. Elements of lists are
	// meant by their index.
	Field string
	// Value is what the field is set to, as JSON; nil takes the field away.
	Value json.RawMessage
	// Key, with Value, puts a neighbour of that name in the place of the field.
	Key string
	// Here keeps a change from going through an alias or a merge key to the place that
	// others share: what is set is set beside it.
	Here bool
}

// Edit puts a text in the place of a part of another. Start and End are offsets.
type Edit struct {
	Start, End int
	Text       string
}

// Editor is the text of a document that is open for changes. A change makes a new
// editor and leaves the old one as it is.
type Editor struct {
	chunk *chunk
	sel   selector
	// document, object and others are what the text reads as: the document itself, the
	// object that it is, and the other objects that stand in the same text.
	document *Document
	object   json.RawMessage
	others   [][]byte
	root     *yaml.Node
	parsed   parsed
	// pieces are what the text is made of: parts of the original and new ones.
	pieces []textPiece
	// size is that of the original.
	size int
}

// textPiece is a part of the original, or a new text.
type textPiece struct {
	start, end int
	text       string
}

func (p *textPiece) size() int { return p.end - p.start + len(p.text) }

// Edit opens the text of a document for changes.
func (d *Document) Edit() (*Editor, error) {
	if d.chunk == nil {
		return nil, errors.New("the text was not kept")
	}
	if len(d.chunk.lines) != 1 {
		return nil, errors.New("the document is in several pieces of the file")
	}
	if strangeLines(d.chunk.text) {
		return nil, errors.New("the document has ends of lines that only YAML knows")
	}
	e := &Editor{chunk: d.chunk, sel: d.sel, pieces: []textPiece{{end: len(d.chunk.text)}}, size: len(d.chunk.text)}
	return e, e.read()
}

// Document is the document as the text now reads. It is not to be changed.
func (e *Editor) Document() *Document { return e.document }

// Object is the whole object as JSON.
func (e *Editor) Object() json.RawMessage { return e.object }

// KeepsAnchors tells whether what anchors stand for is what it was before a change, as
// far as other items of a List may refer to it.
func (e *Editor) KeepsAnchors(before *Editor) bool {
	return e.chunk.part != partItem || slices.EqualFunc(e.anchors(), before.anchors(), bytes.Equal)
}

// anchors are the anchors of the object with their values, in the order of the text.
func (e *Editor) anchors() [][]byte {
	if !mayAnchor.Match(e.chunk.text) {
		return nil
	}
	var all [][]byte
	var c converter
	var walk func(n *yaml.Node, depth int)
	walk = func(n *yaml.Node, depth int) {
		if n.Anchor != "" {
			c.next()
			// What could not be converted would not have been read.
			_ = c.node(n)
			all = append(all, append([]byte(n.Anchor+" "), c.buf...))
		}
		if depth > maxDepth {
			return
		}
		for _, child := range n.Content {
			walk(child, depth+1)
		}
	}
	walk(e.root, 0)
	return all
}

// Text is the text as it now is.
func (e *Editor) Text() []byte { return e.chunk.text }

// Place is where the text stands in the file: its line, counted from 1, and how many
// characters of it come before.
func (e *Editor) Place() (line, column int) { return fileLine(e.chunk.lines, 1), e.chunk.column }

// Edits are what makes the present text of the original one, in order.
func (e *Editor) Edits() []Edit {
	var edits []Edit
	at, text := 0, ""
	for _, p := range append(slices.Clip(e.pieces), textPiece{start: e.size, end: e.size}) {
		if p.text != "" {
			text += p.text
			continue
		}
		if p.start > at || text != "" {
			edits = append(edits, Edit{Start: at, End: p.start, Text: text})
		}
		at, text = p.end, ""
	}
	return edits
}

// read parses the text.
func (e *Editor) read() error {
	var r objectReader
	var err error
	found := false
	r.visit = func(o *object) {
		switch {
		case err != nil:
		case o.failure != nil:
			err = errors.New(o.failure.Message)
		case o.sel.tree == e.sel.tree && slices.Equal(o.sel.items, e.sel.items):
			found = true
			err = e.keep(&r, o)
		case o.skip == SkipForeign:
		default:
			raw := r.raw(o)
			if raw.Failure != nil {
				err = errors.New(raw.Failure.Message)
			}
			e.others = append(e.others, raw.JSON)
		}
	}
	r.read(e.chunk)
	if err == nil && !found {
		err = errors.New("the document is gone")
	}
	return err
}

// keep takes in the object that the editor is of.
func (e *Editor) keep(r *objectReader, o *object) error {
	raw := r.rawWithPod(o)
	switch {
	case raw.Failure != nil:
		return errors.New(raw.Failure.Message)
	case raw.Document == nil:
		return errors.New("the document has no pod any more")
	}
	e.document, e.object = raw.Document, raw.JSON
	e.root, e.parsed = o.pos, r.parsed
	// Editors do not live long: fields may be located without parsing again.
	e.document.live = &liveNodes{root: e.root, parsed: &e.parsed}
	return nil
}

// Apply makes a change. The error says why it cannot be made.
func (e *Editor) Apply(c Change) (*Editor, error) {
	edits, err := e.plan(c)
	if err != nil {
		return nil, err
	}
	next := *e
	next.others, next.document, next.object = nil, nil, nil
	chunk := *e.chunk
	next.chunk = &chunk
	if err := next.splice(edits); err != nil {
		return nil, err
	}
	if err := next.read(); err != nil {
		if strings.Contains(err.Error(), "unknown anchor") {
			return nil, errors.New("it holds an anchor that is used elsewhere")
		}
		return nil, errors.New("the text would not be read as before: " + err.Error())
	}
	if !slices.EqualFunc(e.others, next.others, bytes.Equal) {
		return nil, errors.New("another object would change with it")
	}
	return &next, nil
}

// splice puts edits into the text.
func (e *Editor) splice(edits []Edit) error {
	slices.SortStableFunc(edits, func(a, b Edit) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End)) })
	var text []byte
	var pieces []textPiece
	rest := e.pieces
	at := 0
	for _, edit := range edits {
		if edit.Start < at || edit.End < edit.Start || edit.End > len(e.chunk.text) {
			return errors.New("its places in the text run into each other")
		}
		text = append(append(text, e.chunk.text[at:edit.Start]...), edit.Text...)
		kept, behind := cutPieces(rest, edit.Start-at)
		_, rest = cutPieces(behind, edit.End-edit.Start)
		pieces = append(pieces, kept...)
		if edit.Text != "" {
			pieces = append(pieces, textPiece{text: edit.Text})
		}
		at = edit.End
	}
	e.chunk.text = append(text, e.chunk.text[at:]...)
	e.chunk.weight = int64(len(e.chunk.text))
	e.pieces = append(pieces, rest...)
	return nil
}

// cutPieces cuts a list of pieces in two behind so many bytes.
func cutPieces(pieces []textPiece, n int) (before, behind []textPiece) {
	for i, p := range pieces {
		size := p.size()
		switch {
		case n >= size:
			n -= size
			before = append(before, p)
			continue
		case n == 0:
			return before, append(behind, pieces[i:]...)
		}
		left, right := p, p
		if p.text != "" {
			left.text, right.text = p.text[:n], p.text[n:]
		} else {
			left.end, right.start = p.start+n, p.start+n
		}
		before = append(before, left)
		return before, append(append(behind, right), pieces[i+1:]...)
	}
	return before, nil
}
