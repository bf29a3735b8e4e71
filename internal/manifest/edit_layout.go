package manifest

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// layout tells where nodes begin and end in a text. The parser gives the beginning
// only; the end is read off the text.
//
// Its methods return 0 after the first error, which stays in err.
type layout struct {
	text []byte
	// starts are the offsets of the lines; base is the line that nodes give the first.
	starts []int
	base   int
	// marks are, for lines that were asked for, the offset of every markEvery-th
	// character: a line may be as long as the text.
	marks map[int][]int
	err   error
}

const markEvery = 64

func newLayout(text []byte, base int) *layout {
	l := &layout{text: text, starts: []int{0}, base: base}
	for i, c := range text {
		if c == '\n' {
			l.starts = append(l.starts, i+1)
		}
	}
	return l
}

func (l *layout) fail(format string, args ...any) int {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
	return 0
}

// strangeLines tells whether a text has ends of lines that only YAML knows, by which
// its lines would be counted otherwise than here.
func strangeLines(text []byte) bool {
	for i, c := range text {
		if c == '\r' && (i+1 == len(text) || text[i+1] != '\n') {
			return true
		}
	}
	return bytes.ContainsAny(text, "\u0085\u2028\u2029")
}

// at is where a node begins, its anchor and tag included.
func (l *layout) at(n *yaml.Node) int {
	line := n.Line - l.base
	if line < 0 {
		return l.fail("it is written in another item of the List, behind an anchor")
	}
	if line >= len(l.starts) || n.Column < 1 {
		return l.fail("its place in the text is not known")
	}
	marks := l.marksOf(line)
	mark := (n.Column - 1) / markEvery
	if mark >= len(marks) {
		return l.fail("its place in the text is not known")
	}
	off := marks[mark]
	for range (n.Column - 1) % markEvery {
		off += runeSize(l.text, off)
	}
	return off
}

func (l *layout) marksOf(line int) []int {
	marks, ok := l.marks[line]
	if ok {
		return marks
	}
	off, end := l.starts[line], l.lineNext(l.starts[line])
	for i := 0; off < end || i == 0; i++ {
		if i%markEvery == 0 {
			marks = append(marks, off)
		}
		off += runeSize(l.text, off)
	}
	if l.marks == nil {
		l.marks = map[int][]int{}
	}
	l.marks[line] = marks
	return marks
}

// content is where a node begins behind its anchor and tag.
func (l *layout) content(n *yaml.Node) int {
	off := l.propertiesEnd(n)
	if isEmptyScalar(n) || off == l.at(n) {
		return off
	}
	return l.skip(off)
}

// propertiesEnd is where the anchor and tag of a node end, its beginning where it has
// none.
func (l *layout) propertiesEnd(n *yaml.Node) int {
	end := l.at(n)
	for off := end; off < len(l.text) && (l.text[off] == '&' || l.text[off] == '!'); off = l.skip(off) {
		for off < len(l.text) && !isSpace(l.text[off]) && strings.IndexByte(",]}", l.text[off]) < 0 {
			off++
		}
		end = off
	}
	return end
}

// isEmptyScalar tells a null that is written as nothing at all.
func isEmptyScalar(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.Style&quotedStyles == 0
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// skip passes over white space and comments.
func (l *layout) skip(off int) int {
	for off < len(l.text) {
		switch c := l.text[off]; {
		case isSpace(c):
			off++
		case c == '#' && (off == 0 || isSpace(l.text[off-1])):
			off = l.lineEnd(off)
		default:
			return off
		}
	}
	return off
}

// lineStart is where the line of an offset begins.
func (l *layout) lineStart(off int) int { return bytes.LastIndexByte(l.text[:off], '\n') + 1 }

// lineEnd is where the text of the line of an offset ends, lineNext where the next
// line begins.
func (l *layout) lineEnd(off int) int {
	end := l.lineNext(off)
	if end > off && l.text[end-1] == '\n' {
		end--
	}
	if end > off && l.text[end-1] == '\r' {
		end--
	}
	return end
}

func (l *layout) lineNext(off int) int { return lineNext(l.text, off) }

func lineNext(text []byte, off int) int {
	if i := bytes.IndexByte(text[off:], '\n'); i >= 0 {
		return off + i + 1
	}
	return len(text)
}

// runeSize is how many bytes the character at an offset has, 0 at the end.
func runeSize(text []byte, off int) int {
	if off >= len(text) {
		return 0
	}
	_, size := utf8.DecodeRune(text[off:])
	return size
}

// indent is how far into its line an offset is.
func (l *layout) indent(off int) int { return utf8.RuneCount(l.text[l.lineStart(off):off]) }

// opensLine tells whether nothing stands before an offset on its line.
func (l *layout) opensLine(off int) bool {
	return len(bytes.TrimLeft(l.text[l.lineStart(off):off], " \t")) == 0
}

// closesLine tells whether nothing but a comment follows an offset on its line.
func (l *layout) closesLine(off int) bool {
	end := l.lineEnd(off)
	rest := bytes.TrimLeft(l.text[off:end], " \t")
	return len(rest) == 0 || rest[0] == '#' && (len(rest) < end-off || off == l.lineStart(off))
}

// commented tells whether a comment follows an offset on its line.
func (l *layout) commented(off int) bool {
	return l.closesLine(off) && bytes.IndexByte(l.text[off:l.lineEnd(off)], '#') >= 0
}

// isFlow tells whether a mapping or list is written in brackets.
func (l *layout) isFlow(n *yaml.Node) bool {
	off := l.content(n)
	return off < len(l.text) && (n.Kind == yaml.MappingNode && l.text[off] == '{' || n.Kind == yaml.SequenceNode && l.text[off] == '[')
}

// column is how far in a block mapping or list stands.
func (l *layout) column(n *yaml.Node) int {
	if n.Kind == yaml.MappingNode && len(n.Content) > 0 {
		return l.indent(l.at(n.Content[0]))
	}
	return l.indent(l.content(n))
}

// end is where a node ends. An empty one ends at after; indent is the column of the
// block mapping or list around it.
func (l *layout) end(n *yaml.Node, after, indent int) int {
	switch {
	case l.err != nil:
		return 0
	case n.Kind == yaml.AliasNode:
		return l.at(n) + 1 + len(n.Value)
	case isEmptyScalar(n):
		if n.Anchor != "" || n.Style&yaml.TaggedStyle != 0 {
			return l.content(n)
		}
		return after
	case n.Kind == yaml.ScalarNode:
		return l.scalarEnd(n, indent)
	}
	all := l.children(n)
	off := l.content(n)
	if !l.isFlow(n) {
		if len(all) == 0 {
			return l.fail("its place in the text is not known")
		}
		return all[len(all)-1].end
	}
	off++
	if len(all) > 0 {
		off = all[len(all)-1].end
	}
	for off = l.skip(off); off < len(l.text) && l.text[off] == ','; {
		off = l.skip(off + 1)
	}
	if off >= len(l.text) || l.text[off] != ']' && l.text[off] != '}' {
		return l.fail("its end in the text is not known")
	}
	return off + 1
}

// child is one entry of a mapping, or one item of a list.
type child struct {
	// key is nil for an item.
	key, value *yaml.Node
	// start is where the key begins, or the dash, or the item itself in brackets.
	start int
	// colon is behind the colon or the dash, or the start where there is neither.
	colon int
	end   int
	// bare is set for a key in brackets that has no colon.
	bare bool
}

// children lists what is in a mapping or list.
func (l *layout) children(n *yaml.Node) []child {
	if l.err != nil {
		return nil
	}
	flow := l.isFlow(n)
	indent := -1
	if !flow && len(n.Content) > 0 {
		indent = l.column(n)
	}
	if n.Kind == yaml.SequenceNode {
		return l.items(n, flow, indent)
	}
	all := make([]child, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && l.err == nil; i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			l.fail("a key beside it is no plain one")
			break
		}
		c := child{key: k, value: v, start: l.at(k)}
		keyEnd := l.end(k, c.start, indent)
		c.colon = l.skip(keyEnd)
		switch {
		case l.err != nil:
			return nil
		case c.colon < len(l.text) && l.text[c.colon] == ':':
			c.colon++
		case flow && isEmptyScalar(v):
			c.colon, c.bare = keyEnd, true
		default:
			l.fail("a key beside it is no plain one")
		}
		if !flow && !l.isKeyOfLine(c.start, indent) {
			l.fail("a key beside it is no plain one")
		}
		c.end = l.end(v, c.colon, indent)
		all = append(all, c)
	}
	return all
}

// isKeyOfLine tells whether a key of a block mapping stands as they commonly do: at
// the column of the mapping, without a question mark.
func (l *layout) isKeyOfLine(start, indent int) bool {
	before := bytes.TrimRight(l.text[l.lineStart(start):start], " \t")
	return l.indent(start) == indent && (len(before) == 0 || before[len(before)-1] != '?')
}

// items lists what is in a list.
func (l *layout) items(n *yaml.Node, flow bool, indent int) []child {
	all := make([]child, 0, len(n.Content))
	off := l.content(n)
	for _, v := range n.Content {
		if l.err != nil {
			return nil
		}
		c := child{value: v}
		if flow {
			c.start = l.at(v)
			c.colon = c.start
		} else {
			c.start = l.skip(off)
			if c.start >= len(l.text) || l.text[c.start] != '-' {
				l.fail("its place in the text is not known")
				return nil
			}
			c.colon = c.start + 1
		}
		c.end = l.end(v, c.colon, indent)
		off = c.end
		all = append(all, c)
	}
	return all
}

// scalarEnd is where a scalar ends that is not empty.
func (l *layout) scalarEnd(n *yaml.Node, indent int) int {
	off := l.content(n)
	switch {
	case l.err != nil || off >= len(l.text):
		return l.fail("its place in the text is not known")
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return l.blockScalarEnd(off, indent)
	case l.text[off] == '"':
		for i := off + 1; i < len(l.text); i++ {
			switch l.text[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
	case l.text[off] == '\'':
		for i := off + 1; i < len(l.text); i++ {
			if l.text[i] != '\'' {
				continue
			}
			if i+1 == len(l.text) || l.text[i+1] != '\'' {
				return i + 1
			}
			i++
		}
	default:
		return l.plainEnd(off, n.Value)
	}
	return l.fail("its end in the text is not known")
}

// plainEnd follows the words of a plain scalar, which may go over several lines.
func (l *layout) plainEnd(off int, value string) int {
	for value != "" {
		word := value
		if i := strings.IndexAny(value, " \t\n"); i >= 0 {
			word = value[:i]
		}
		if !bytes.HasPrefix(l.text[off:], []byte(word)) {
			return l.fail("its end in the text is not known")
		}
		off += len(word)
		value = strings.TrimLeftFunc(value[len(word):], unicode.IsSpace)
		if value == "" {
			return off
		}
		for off < len(l.text) && isSpace(l.text[off]) {
			off++
		}
	}
	return off
}

// blockScalarEnd is the end of the last line of a block scalar whose header stands
// at an offset. Blank lines behind it belong to it only where it keeps them.
func (l *layout) blockScalarEnd(off, indent int) int {
	header := l.text[off:l.lineEnd(off)]
	if i := bytes.IndexByte(header, '#'); i >= 0 {
		header = header[:i]
	}
	keep := bytes.IndexByte(header, '+') >= 0
	column := -1
	if i := bytes.IndexAny(header, "123456789"); i >= 0 {
		column = max(indent, 0) + int(header[i]-'0')
	}
	end := l.lineEnd(off)
	for at := l.lineNext(off); at < len(l.text); at = l.lineNext(at) {
		line := l.text[at:l.lineEnd(at)]
		spaces := len(line) - len(bytes.TrimLeft(line, " "))
		if spaces == len(line) {
			if keep {
				end = at + len(line)
			}
			continue
		}
		if column < 0 {
			column = max(spaces, indent+1)
		}
		if spaces < column {
			break
		}
		end = at + len(line)
	}
	return end
}
