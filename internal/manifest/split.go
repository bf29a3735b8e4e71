package manifest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"unicode"
	"unicode/utf8"

	"github.com/escape-scanner/escape-scanner/scan"
)

// readSize is how much of a file is read at once.
const readSize = 64 << 10

// splitter cuts one file into chunks without holding more of it than one chunk.
// What separates documents can be told from the text alone: in YAML no scalar can
// hold a line that begins with "---" or "...".
type splitter struct {
	ctx   context.Context
	file  string
	named bool
	limit int
	r     *bufio.Reader
	out   func(*chunk) error

	// line is the line being read, column how many characters of it were.
	line, column int
	// doc is the text of the document, or of a List without its items.
	doc piece
	// marker and content say that the document has begun: by "---", by anything
	// that is not blank or a comment. directives says that it has some.
	marker, content, directives bool
	// began is the line on which the content begins.
	began int
	list  listState
}

// piece is text on its way to becoming a chunk.
type piece struct {
	text   []byte
	lines  []segment
	column int
	// next is the line of the text that comes next.
	next int
	// over is set when the text passed the limit and was let go.
	over bool
}

// split reads all of r.
func split(ctx context.Context, in source, r io.Reader, limit int, out func(*chunk) error) error {
	s := &splitter{
		ctx: ctx, file: in.name, named: in.named, limit: limit,
		r: bufio.NewReaderSize(r, readSize), out: out, line: 1,
	}
	if enc := s.encoding(); enc != "" {
		return s.fail(1, scan.FailureInvalid, "is "+enc+": save it as UTF-8")
	}
	err := s.run()
	if readErr, ok := errors.AsType[*readError](err); ok && ctx.Err() == nil {
		return s.fail(s.line, readReason(readErr.err), readErr.err.Error())
	}
	return err
}

// readError is an error of the file, as opposed to one of the receiver.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

func (e *readError) Unwrap() error { return e.err }

func readReason(err error) scan.FailureReason {
	if errors.Is(err, fs.ErrPermission) {
		return scan.FailureForbidden
	}
	return scan.FailureRead
}

// encoding names the encoding of a file that is not UTF-8, and skips the mark
// that UTF-8 may begin with.
func (s *splitter) encoding() string {
	head, _ := s.r.Peek(4)
	switch {
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE, 0, 0}), bytes.HasPrefix(head, []byte{0, 0, 0xFE, 0xFF}):
		return "UTF-32"
	case bytes.HasPrefix(head, []byte{0xFF, 0xFE}), bytes.HasPrefix(head, []byte{0xFE, 0xFF}):
		return "UTF-16"
	case bytes.HasPrefix(head, byteOrderMark):
		_, _ = s.r.Discard(len(byteOrderMark))
	}
	return ""
}

var byteOrderMark = []byte{0xEF, 0xBB, 0xBF}

func (s *splitter) run() error {
	atStart := true
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if !s.content {
			c, err := s.peek()
			if err != nil {
				return err
			}
			if c == '{' || c == '[' {
				if err := s.json(); err != nil {
					return err
				}
				atStart = s.column == 0
				continue
			}
		}
		frag, err := s.r.ReadSlice('\n')
		if len(frag) > 0 {
			if ferr := s.fragment(frag, atStart); ferr != nil {
				return ferr
			}
			atStart = frag[len(frag)-1] == '\n'
		}
		switch {
		case errors.Is(err, io.EOF):
			return s.finish()
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return &readError{err}
		}
	}
}

// peek is the first byte on the rest of the line that is not blank, 0 if there is
// none near.
func (s *splitter) peek() (byte, error) {
	for i := 1; i < readSize; i++ {
		b, err := s.r.Peek(i)
		if len(b) < i {
			if err != nil && !errors.Is(err, io.EOF) {
				return 0, &readError{err}
			}
			return 0, nil
		}
		if c := b[i-1]; c != ' ' && c != '\t' {
			return c, nil
		}
	}
	return 0, nil
}

// fragment takes a line, or a part of one that is longer than the buffer.
func (s *splitter) fragment(frag []byte, atStart bool) error {
	if atStart {
		if err := s.startOfLine(frag); err != nil {
			return err
		}
	} else {
		if !s.content && !isBlank(frag) {
			s.content, s.began = true, s.line
		}
		s.add(frag)
	}
	s.count(frag)
	return nil
}

// count moves line and column over a text.
func (s *splitter) count(text []byte) {
	if i := bytes.LastIndexByte(text, '\n'); i >= 0 {
		s.line += bytes.Count(text, []byte{'\n'})
		s.column = 0
		text = text[i+1:]
	}
	for _, c := range text {
		if c&0xC0 != 0x80 {
			s.column++
		}
	}
}

// startOfLine takes a text that begins a line.
func (s *splitter) startOfLine(l []byte) error {
	if rest, ok := bytes.CutPrefix(l, byteOrderMark); ok && (!s.content || isMarker(rest, "---")) {
		// Files that were joined carry the mark of each at its beginning.
		l = rest
	}
	switch {
	case isMarker(l, "---"):
		return s.separator(l)
	case isMarker(l, "..."):
		if s.content {
			s.add(l)
		}
		return s.finish()
	case !s.content && l[0] == '%' && !s.marker:
		s.directives = true
		s.add(l)
		return nil
	}
	blank := isBlank(l)
	if !blank && !s.content {
		s.content, s.began = true, s.line
		s.list.possible = !s.directives && isPlainKey(l)
	}
	return s.contentLine(l, blank)
}

// separator begins a new document.
func (s *splitter) separator(l []byte) error {
	if s.content || s.marker {
		if err := s.finish(); err != nil {
			return err
		}
	}
	if !s.directives {
		s.doc = piece{}
	}
	s.marker = true
	rest := l[3:]
	s.content, s.began = !isBlank(rest), s.line
	s.add(l)
	return nil
}

// add appends to the text that is being collected.
func (s *splitter) add(text []byte) {
	if s.list.broken {
		return
	}
	if s.list.mode == listItems || s.list.mode == listFirst {
		s.list.item.add(text, s.line, s.column, s.limit)
		return
	}
	s.doc.add(text, s.line, s.column, s.limit)
}

func (p *piece) add(text []byte, line, column, limit int) {
	if p.next == 0 {
		p.next = 1
		p.column = column
	}
	if len(p.lines) == 0 || fileLine(p.lines, p.next) != line {
		p.lines = append(p.lines, segment{p.next, line})
	}
	p.next += bytes.Count(text, []byte{'\n'})
	if p.over {
		return
	}
	if len(p.text)+len(text) > limit {
		p.over, p.text = true, nil
		return
	}
	p.text = append(p.text, text...)
}

// line is the line of the file on which the piece begins.
func (p *piece) line() int { return fileLine(p.lines, 1) }

// finish ends the document and makes ready for the next.
func (s *splitter) finish() error {
	err := s.flushList()
	if err == nil && !s.list.broken && (s.content || s.directives || s.doc.over) {
		what := partDocument
		if s.list.cut {
			what = partHeader
		}
		err = s.flush(&s.doc, what)
	}
	s.doc = piece{}
	s.list = listState{}
	s.marker, s.content, s.directives = false, false, false
	return err
}

// flush hands out a piece, or the failure that it was too large.
func (s *splitter) flush(p *piece, what part) error {
	if p.over {
		line := p.line()
		if what != partItem {
			line = max(line, s.began)
		}
		return s.fail(line, scan.FailureTooLarge,
			fmt.Sprintf("the document is larger than %d bytes", s.limit))
	}
	return s.out(&chunk{
		file: s.file, named: s.named, part: what, text: p.text, lines: p.lines, column: p.column,
		list: s.list.listing, weight: int64(len(p.text)),
	})
}

func (s *splitter) fail(line int, reason scan.FailureReason, msg string) error {
	return s.out(&chunk{file: s.file, failure: failureAt(s.file, line, 1, reason, msg)})
}

// isMarker tells whether a line is a marker of three characters, with or without
// more behind it.
func isMarker(l []byte, marker string) bool {
	if len(l) < 3 || string(l[:3]) != marker {
		return false
	}
	return len(l) == 3 || bytes.IndexByte([]byte(" \t\r\n"), l[3]) >= 0
}

// isBlank tells whether a line has nothing on it but a comment. A comment with
// control characters or an end of line that only YAML knows is not let pass so: it
// is for the parser to refuse, or to find what stands behind it.
func isBlank(l []byte) bool {
	l = bytes.Trim(l, " \t\r\n")
	if len(l) == 0 {
		return true
	}
	return l[0] == '#' && utf8.Valid(l) && !bytes.ContainsFunc(l, func(r rune) bool {
		return r != '\t' && unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
	})
}

// isTemplate tells whether a text has the actions of a Go template. What is no text has
// such bytes by chance.
func isTemplate(text []byte) bool {
	return bytes.Contains(text, []byte("{{")) && bytes.IndexByte(text, 0) < 0 && utf8.Valid(text)
}
