package manifest

import (
	"bytes"
	"errors"
	"io"

	"github.com/escape-scanner/escape-scanner/scan"
)

// jsonSplitter follows the brackets and strings of JSON to find where a value
// ends, and where the items of a List do. It does not judge whether the JSON is
// right: what it cuts is parsed afterwards.
type jsonSplitter struct {
	s *splitter
	// window is what is being read, and from what of it was not handed on yet.
	window []byte
	from   int
	depth  int
	inStr  bool
	esc    bool
	// word is true inside of a number, true, false or null.
	word bool
	// sig is the last byte that was not white space or inside of a string.
	sig byte
	// str is the beginning of the last string near the root, key the last key of
	// the root.
	str, key         []byte
	kind, apiVersion string
	// items is true inside of the root's items. first holds while it is not known
	// whether they are cut; firstKind and firstVersion are what was seen in the
	// first of them.
	items, first            bool
	firstKind, firstVersion bool
	item                    piece
	inItem                  bool
}

// json reads one value of JSON. It turns out to be flow style of YAML when it
// holds what JSON cannot: then the document goes on as YAML.
func (s *splitter) json() error {
	if !s.directives {
		s.doc = piece{}
	}
	s.content, s.began = true, s.line
	j := &jsonSplitter{s: s}
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if _, err := s.r.Peek(1); err != nil {
			if !errors.Is(err, io.EOF) {
				return &readError{err}
			}
			return j.finish()
		}
		if s.column == 0 && j.depth > 0 && s.atMarker() {
			// A value that was never closed must not swallow the documents after it.
			return j.finish()
		}
		window, _ := s.r.Peek(s.r.Buffered())
		n, done, err := j.scan(window)
		if err != nil {
			return err
		}
		_, _ = s.r.Discard(n)
		if done {
			return nil
		}
	}
}

// atMarker tells whether the marker of a new document comes next.
func (s *splitter) atMarker() bool {
	head, _ := s.r.Peek(4)
	return isMarker(head, "---")
}

// scan reads a window and returns how much of it was used, and whether the value
// is over.
func (j *jsonSplitter) scan(w []byte) (int, bool, error) {
	j.window, j.from = w, 0
	for i, c := range w {
		switch {
		case j.inStr && c != '\n':
			j.inString(c)
		case c == '-' && i > 0 && w[i-1] == '\n':
			j.pass(i) // perhaps a marker: json looks
			return i, false, nil
		case j.betweenItems(c):
			j.pass(i)
			j.s.count(w[i : i+1])
			j.from = i + 1
		case j.inStr || !isJSONByte(c) || c == '"' && j.word:
			j.pass(i)
			return i, true, j.notJSON()
		default:
			if done, err := j.token(c, i); done || err != nil {
				return i + 1, true, err
			}
		}
	}
	j.pass(len(w))
	return len(w), false, nil
}

// pass hands the window up to an offset to the piece that it belongs to.
func (j *jsonSplitter) pass(to int) {
	text := j.window[j.from:to]
	j.from = to
	if len(text) == 0 {
		return
	}
	s := j.s
	if j.inItem {
		j.item.add(text, s.line, s.column, s.limit)
	} else {
		s.doc.add(text, s.line, s.column, s.limit)
	}
	s.count(text)
}

// token takes a byte outside of strings, and tells whether the value ends with it.
func (j *jsonSplitter) token(c byte, i int) (done bool, err error) {
	j.word = isWordByte(c)
	switch c {
	case '"':
		j.inStr, j.str = true, j.str[:0]
		return false, nil // sig is what stands in front of the string
	case '{', '[':
		if j.itemStarts() {
			j.pass(i)
			j.inItem = true
		}
		j.depth++
		if j.itemsStart(c) {
			j.pass(i + 1)
			j.startItems()
		}
	case '}', ']':
		j.depth--
		if done, err = j.closes(i); done || err != nil {
			return done, err
		}
	case ':':
		j.colon()
	}
	if c > ' ' {
		j.sig = c
	}
	return false, nil
}

// closes takes a closing bracket, already counted.
func (j *jsonSplitter) closes(i int) (done bool, err error) {
	switch {
	case j.depth <= 0:
		j.pass(i + 1)
		return true, j.finish()
	case j.items && j.depth == 2 && j.inItem:
		j.pass(i + 1)
		return false, j.itemEnds()
	case j.items && j.depth == 1:
		j.items = false
	}
	return false, nil
}

// colon takes the string before it as a key.
func (j *jsonSplitter) colon() {
	if j.depth == 1 {
		j.key = append(j.key[:0], j.str...)
	}
	if j.items && j.first && j.depth == 3 {
		j.firstKind = j.firstKind || string(j.str) == "kind"
		j.firstVersion = j.firstVersion || string(j.str) == "apiVersion"
	}
}

// inString takes a byte of a string.
func (j *jsonSplitter) inString(c byte) {
	const enough = 253 // the longest name in Kubernetes
	switch {
	case j.esc:
		j.esc = false
	case c == '\\':
		j.esc = true
	case c == '"':
		j.inStr = false
		if j.depth == 1 && j.sig == ':' {
			switch string(j.key) {
			case "kind":
				j.kind = string(j.str)
			case "apiVersion":
				j.apiVersion = string(j.str)
			}
		}
		j.sig = '"'
		return
	}
	if len(j.str) < enough {
		j.str = append(j.str, c)
	}
}

// itemStarts tells whether the bracket at hand begins an item.
func (j *jsonSplitter) itemStarts() bool { return j.items && j.depth == 2 && !j.inItem }

// itemsStart tells whether the bracket at hand, already counted, opens the items
// of what is, or may be, a List.
func (j *jsonSplitter) itemsStart(c byte) bool {
	return c == '[' && j.depth == 2 && j.sig == ':' && string(j.key) == "items" &&
		!j.s.list.cut && (j.kind == "" || isList(j.kind))
}

// betweenItems tells whether the byte at hand separates items: it belongs neither to
// an item nor to the List without its items.
func (j *jsonSplitter) betweenItems(c byte) bool {
	return j.items && j.depth == 2 && !j.inItem && (c == ',' || c <= ' ')
}

func (j *jsonSplitter) startItems() {
	j.items, j.first = true, true
	if isList(j.kind) {
		j.startCut()
	}
}

func (j *jsonSplitter) startCut() {
	j.first = false
	j.s.list.cut = true
	j.s.list.listing = &listing{apiVersion: j.apiVersion, kind: j.kind}
}

// itemEnds hands out an item, or decides on the first of them that they are not
// to be cut.
func (j *jsonSplitter) itemEnds() error {
	item := j.item
	j.item, j.inItem = piece{}, false
	if j.first {
		if !j.firstKind || !j.firstVersion {
			j.items = false
			j.s.doc.join(item, j.s.limit)
			return nil
		}
		j.startCut()
	}
	return j.s.flush(&item, partItem)
}

// notJSON goes on as YAML, which the text seems to be. After items were cut it is
// too late for that.
func (j *jsonSplitter) notJSON() error {
	s := j.s
	if j.inItem {
		s.doc.join(j.item, s.limit)
	}
	s.list.possible = false
	if !s.list.cut {
		return nil
	}
	s.doc, s.list.broken = piece{}, true
	return s.fail(s.line, scan.FailureInvalid, "is a List in JSON with something else in it; the rest of it was not read")
}

// finish hands out what was read at the end of the value, or of the file.
func (j *jsonSplitter) finish() error {
	if j.inItem {
		item := j.item
		j.item, j.inItem = piece{}, false
		if j.s.list.cut {
			if err := j.s.flush(&item, partItem); err != nil {
				return err
			}
		} else {
			j.s.doc.join(item, j.s.limit)
		}
	}
	return j.s.finish()
}

// isJSONByte tells whether a byte can stand in JSON outside of strings.
func isJSONByte(c byte) bool {
	return isWordByte(c) || bytes.IndexByte([]byte("{}[],:\" \t\r\n"), c) >= 0
}

// isWordByte tells whether a byte can stand in a number, true, false or null.
func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || bytes.IndexByte([]byte("+-.eEtrufalsn"), c) >= 0
}
