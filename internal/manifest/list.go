package manifest

import (
	"bytes"
	"regexp"
	"strings"
)

// listMode is where the splitter stands in a document that may be a List.
type listMode int

const (
	// listNone: outside of the items.
	listNone listMode = iota
	// listPending: behind "items:".
	listPending
	// listFirst: in the first item, and it is not known yet whether to cut.
	listFirst
	// listItems: in the items of a List that is cut.
	listItems
)

// listState follows a document of YAML that may be a List, to hand out its items
// one by one. A List is cut where its text shows the items by their indentation.
// That is safe: what cannot be cut so, such as a quoted string that runs across
// two items, leaves a piece that does not parse, and so a failure.
type listState struct {
	// possible is true for a document that begins as a mapping in block style.
	possible bool
	mode     listMode
	// cut is true once the items are handed out one by one, broken when that went
	// wrong and the rest of the document is let go.
	cut, broken bool
	// indent is the column of the dashes.
	indent           int
	item             piece
	apiVersion, kind string
	listing          *listing
	anchors          anchorText
	// reread is how much may still be parsed again for the sake of anchors: in all
	// as much as one document may have.
	reread int
}

// contentLine takes a line of the body of a document.
func (s *splitter) contentLine(l []byte, blank bool) error {
	if blank || !s.list.possible {
		s.add(l)
		return nil
	}
	indent := len(l) - len(bytes.TrimLeft(l, " "))
	dash := isDash(l[indent:])
	switch s.list.mode {
	case listNone:
		if indent == 0 {
			s.topLevel(l)
		}
	case listPending:
		s.list.mode = listNone
		if dash {
			s.list.mode, s.list.indent = listFirst, indent
			if isList(s.list.kind) {
				s.startCut()
			}
		}
	case listFirst, listItems:
		switch {
		case indent == s.list.indent && dash:
			if err := s.nextItem(); err != nil {
				return err
			}
		case indent == 0:
			if err := s.flushList(); err != nil {
				return err
			}
			s.topLevel(l)
		}
	}
	s.add(l)
	return nil
}

// topLevel looks at a line that begins a field of the document itself.
func (s *splitter) topLevel(l []byte) {
	key, value, ok := strings.Cut(string(l[:min(len(l), 256)]), ":")
	if !ok {
		return
	}
	switch key {
	case "kind":
		s.list.kind = simpleValue(value)
	case "apiVersion":
		s.list.apiVersion = simpleValue(value)
	case "items":
		// Once only: twice the same key is for the parser to refuse.
		if isBlank([]byte(value)) && !s.list.cut && (s.list.kind == "" || isList(s.list.kind)) {
			s.list.mode = listPending
		}
	}
}

var simpleScalar = regexp.MustCompile(`^\s*["']?([A-Za-z0-9./-]+)["']?\s*(?:\s#.*)?$`)

// simpleValue is the text of a scalar on the line of its key, or what cannot be a
// kind if it is anything more.
func simpleValue(s string) string {
	m := simpleScalar.FindStringSubmatch(s)
	if m == nil {
		return "?"
	}
	return m[1]
}

// isList tells whether a kind is that of a list of objects.
func isList(kind string) bool { return strings.HasSuffix(kind, "List") }

// isDash tells whether a line, without its indentation, begins an item.
func isDash(l []byte) bool {
	return l[0] == '-' && (len(l) == 1 || bytes.IndexByte([]byte(" \t\r\n"), l[1]) >= 0)
}

// isPlainKey tells whether a line begins a mapping in block style at the margin.
func isPlainKey(l []byte) bool {
	c := l[0]
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// startCut decides that the items are handed out one by one.
func (s *splitter) startCut() {
	s.list.mode, s.list.cut = listItems, true
	s.list.listing = &listing{apiVersion: s.list.apiVersion, kind: s.list.kind}
	s.list.reread = s.limit
	s.list.anchors = anchorText{
		text:  append([]byte(nil), s.doc.text...),
		lines: append([]segment(nil), s.doc.lines...),
		lost:  s.doc.over,
	}
}

// nextItem ends the item before a dash.
func (s *splitter) nextItem() error {
	if s.list.mode == listFirst && !s.decide() {
		return nil
	}
	return s.flushItem()
}

// decide looks at a first item in a document whose kind is not known yet: kubectl
// writes it last. An item that is an object by itself makes it a List.
func (s *splitter) decide() bool {
	if isObjectItem(s.list.item.text, s.list.indent) {
		s.startCut()
		return true
	}
	item := s.list.item
	s.list.mode, s.list.item = listNone, piece{}
	s.list.possible = false
	s.doc.join(item, s.limit)
	return false
}

// join appends another piece, which follows in the file.
func (p *piece) join(q piece, limit int) {
	if q.next == 0 {
		return
	}
	p.add(q.text, q.line(), 0, limit)
	if q.over {
		p.over, p.text = true, nil
	}
}

// isObjectItem tells whether the item of a list has a kind and an apiVersion of
// its own.
func isObjectItem(item []byte, indent int) bool {
	inner := -1
	var kind, version bool
	for l := range bytes.Lines(item) {
		if isBlank(l) || len(l) <= indent {
			continue
		}
		var body []byte
		switch {
		case inner < 0: // the rest of the line with the dash
			body = bytes.TrimLeft(l[indent+1:], " ")
			if isBlank(body) {
				continue
			}
			inner = len(l) - len(body)
		case len(l)-len(bytes.TrimLeft(l, " ")) == inner:
			body = l[inner:]
		default:
			continue
		}
		kind = kind || bytes.HasPrefix(body, []byte("kind:"))
		version = version || bytes.HasPrefix(body, []byte("apiVersion:"))
	}
	return kind && version
}

// flushList ends the items.
func (s *splitter) flushList() error {
	var err error
	if s.list.mode == listFirst {
		s.decide()
	}
	if s.list.mode == listItems {
		err = s.flushItem()
	}
	s.list.mode = listNone
	return err
}

// flushItem hands out the item that was collected.
func (s *splitter) flushItem() error {
	item := s.list.item
	s.list.item = piece{}
	if item.next == 0 {
		return nil
	}
	if item.over {
		return s.flush(&item, partItem)
	}
	c := &chunk{
		file: s.file, named: s.named, part: partItem, text: item.text, lines: item.lines, column: item.column,
		list: s.list.listing, anchors: s.anchorsFor(item), weight: int64(len(item.text)),
	}
	s.keepAnchors(item)
	return s.out(c)
}

// anchorsFor is the text in which the aliases of an item are looked up.
func (s *splitter) anchorsFor(item piece) anchorText {
	if bytes.IndexByte(item.text, '*') < 0 || !mayAlias.Match(item.text) {
		return anchorText{lost: true}
	}
	if s.list.reread -= len(s.list.anchors.text) + len(item.text); s.list.reread < 0 {
		return anchorText{lost: true}
	}
	return s.list.anchors
}

// keepAnchors adds an item to the text in which anchors are looked up, if it may
// hold one. What was handed out before keeps its own, shorter view of that text.
func (s *splitter) keepAnchors(item piece) {
	a := &s.list.anchors
	if a.lost || bytes.IndexByte(item.text, '&') < 0 || !mayAnchor.Match(item.text) {
		return
	}
	if len(a.text)+len(item.text) > s.limit {
		a.lost, a.text = true, nil
		return
	}
	a.lines = append(a.lines, segment{lineAt(a.text, len(a.text)), item.line()})
	a.text = append(a.text, item.text...)
}

var (
	mayAnchor = regexp.MustCompile(`(?:^|[\s,\[{:?-])&[^\s,\[\]{}]`)
	mayAlias  = regexp.MustCompile(`(?:^|[\s,\[{:?-])\*[^\s,\[\]{}]`)
)
