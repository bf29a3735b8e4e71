package manifest

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// set plans a new value for an entry or item.
func (p *planner) set(node *yaml.Node, c child, value any) {
	v := c.value
	s := p.style.like(p.text, p.children(node))
	switch {
	case v.Kind == yaml.AliasNode:
		p.replace(p.at(v), c.end, s.flow(value))
	case isEmptyScalar(v):
		p.replace(c.end, c.end, c.gap()+s.flow(value))
	case v.Kind == yaml.ScalarNode:
		p.replace(p.content(v), c.end, p.scalarLike(v, value))
	case p.isFlow(v):
		if all := p.children(v); len(all) > 0 && all[0].key == nil {
			s.quote = quoteOf(all[0].value, s.quote)
		}
		p.replace(p.content(v), c.end, s.flow(value))
	default:
		p.setBlock(v, c, value, s)
	}
}

// gap is what comes between an entry without a value and the one that it gets.
func (c *child) gap() string {
	if c.bare {
		return ": "
	}
	return " "
}

// scalarLike writes a value with the quotes of the one before.
func (p *planner) scalarLike(before *yaml.Node, value any) string {
	if text, ok := value.(string); ok {
		return word(text, quoteOf(before, 0))
	}
	return p.style.flow(value)
}

func quoteOf(n *yaml.Node, other byte) byte {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return '"'
	case n.Style&yaml.SingleQuotedStyle != 0:
		return '\''
	case n.Kind == yaml.ScalarNode:
		return 0
	}
	return other
}

// setBlock puts a value in the place of a block mapping or list. Comments that stand
// inside of it go with it.
func (p *planner) setBlock(v *yaml.Node, c child, value any, s style) {
	start := p.content(v)
	end := p.entryEnd(c.end, p.column(v))
	if list, ok := value.([]any); ok && len(list) > 0 && v.Kind == yaml.SequenceNode {
		if all := p.children(v); len(all) > 0 {
			s.quote = quoteOf(all[0].value, 0)
		}
		p.replace(start, end, s.items(list, p.indent(start)))
		return
	}
	if p.lineStart(start) == p.lineStart(c.colon) {
		p.replace(start, end, s.flow(value))
		return
	}
	p.replace(c.colon, c.colon, " "+s.flow(value))
	p.replace(p.lineEnd(c.colon), end, "")
}

// entryEnd is the end of the lines of what ends at an offset: with the comment behind
// it, and those below it that are indented more than it is.
func (p *planner) entryEnd(end, column int) int {
	if !p.closesLine(end) {
		return end
	}
	end = p.lineEnd(end)
	for next := p.lineNext(end); next < len(p.text); next = p.lineNext(next) {
		at, ok := p.commentLine(next)
		if !ok || p.indent(at) <= column {
			break
		}
		end = p.lineEnd(next)
	}
	return end
}

// commentLine tells whether a line holds a comment only, and where that begins.
func (l *layout) commentLine(start int) (int, bool) {
	line := l.text[start:l.lineEnd(start)]
	trimmed := bytes.TrimLeft(line, " \t")
	return start + len(line) - len(trimmed), len(trimmed) > 0 && trimmed[0] == '#'
}

// headStart is where the comment lines begin that stand directly above what begins a
// line at an offset, at its column. They are looked for no further up than a limit.
func (p *planner) headStart(start, limit int) int {
	first, column := p.lineStart(start), p.indent(start)
	for first > 0 {
		above := p.lineStart(first - 1)
		at, ok := p.commentLine(above)
		if above < limit || !ok || p.indent(at) != column {
			break
		}
		first = above
	}
	return first
}

// limit is the first line that cannot hold comments of a child: the one behind what
// stands before it.
func (p *planner) limit(node *yaml.Node, all []child, at int) int {
	if at > 0 {
		return p.lineNext(all[at-1].end)
	}
	if p.isFlow(node) {
		return p.lineNext(p.content(node))
	}
	// The first child stands at the beginning of its parent: what is above belongs to
	// that where nothing but comments of the same column is between.
	return 0
}

// remove plans that a child is gone.
func (p *planner) remove(node *yaml.Node, all []child, at int) {
	if p.isFlow(node) {
		p.removeFlow(node, all, at)
		return
	}
	c := all[at]
	end := p.entryEnd(c.end, p.indent(c.start))
	switch {
	case p.err != nil:
	case !p.closesLine(c.end):
		p.fail("something else stands on its line")
	case len(all) == 1:
		p.empty(node, c, end)
	case p.opensLine(c.start):
		start := p.headStart(c.start, p.limit(node, all, at))
		p.replace(start, p.lineNext(end), "")
		p.dropFirstLine(start, p.lineNext(end))
	case at > 0 || c.key == nil:
		p.fail("something else stands on its line")
	default:
		p.removeInline(c, all[1], end)
	}
}

// dropFirstLine takes the end of the line before away where the last line of a text
// that has no end itself is removed.
func (p *planner) dropFirstLine(start, end int) {
	if end < len(p.text) || bytes.HasSuffix(p.text, []byte("\n")) || start == 0 {
		return
	}
	p.edits[len(p.edits)-1].Start = p.lineEnd(start - 1)
}

// removeInline removes the first entry of a mapping that begins on the line of a
// dash: the next one takes its place.
func (p *planner) removeInline(c, next child, end int) {
	if p.lineNext(end) == p.lineStart(next.start) {
		p.replace(c.start, next.start, "")
		return
	}
	// Comments in between stay where they are, below the dash.
	from := c.start
	for from > 0 && (p.text[from-1] == ' ' || p.text[from-1] == '\t') {
		from--
	}
	p.replace(from, end, "")
}

// empty removes the only child of a block mapping or list.
func (p *planner) empty(node *yaml.Node, c child, end int) {
	text := "{}"
	if node.Kind == yaml.SequenceNode {
		text = "[]"
	}
	at := p.above.colon
	if node.Anchor != "" || node.Style&yaml.TaggedStyle != 0 {
		at = p.propertiesEnd(node)
	}
	if at == 0 || p.lineStart(at) == p.lineStart(c.start) {
		p.replace(c.start, end, text)
		return
	}
	p.replace(at, at, " "+text)
	p.replace(p.lineEnd(at), end, "")
}

// rename puts another entry in the place of one.
func (p *planner) rename(node *yaml.Node, all []child, at int) {
	value, err := decodeValue(p.change.Value)
	c := all[at]
	if err != nil || c.key == nil {
		p.fail("it cannot be named otherwise")
		return
	}
	s := p.style.like(p.text, all)
	text := s.key(p.change.Key) + s.colon() + s.flow(value)
	if p.isFlow(node) {
		p.replace(c.start, c.end, text)
		return
	}
	end := p.entryEnd(c.end, p.indent(c.start))
	start := c.start
	if p.opensLine(c.start) {
		start = p.headStart(c.start, p.limit(node, all, at))
		text = string(p.text[p.lineStart(c.start):c.start]) + text
	}
	p.replace(start, end, text)
}

// insert plans a new entry.
func (p *planner) insert(node *yaml.Node, all []child, key string, value any) {
	if p.isFlow(node) {
		p.insertFlow(node, all, key, value)
		return
	}
	if p.err != nil || len(all) == 0 {
		p.fail("its place in the text is not known")
		return
	}
	s := p.style.like(p.text, all)
	if m, ok := value.(member); ok || !s.flowLists {
		s.flowLists = p.listsNear(all, m, s.flowLists)
	}
	column := p.column(node)
	text := s.block(key, value, column)
	at := p.placeFor(all, key)
	if at < 0 {
		start := p.headStart(all[0].start, 0)
		p.replace(start, start, strings.Repeat(" ", column)+text+s.eol)
		return
	}
	end := p.entryEnd(all[at].end, column)
	if !p.closesLine(all[at].end) {
		p.fail("something else stands on the line above it")
		return
	}
	p.replace(end, end, s.eol+strings.Repeat(" ", column)+text)
}

// listsNear tells whether the lists beside a new one stand in brackets.
func (p *planner) listsNear(all []child, m member, other bool) bool {
	if m.key != "" {
		return other
	}
	for _, c := range all {
		if c.value.Kind == yaml.SequenceNode && len(c.value.Content) > 0 && c.value.Content[0].Kind == yaml.ScalarNode {
			return p.isFlow(c.value)
		}
	}
	return other
}

// placeFor chooses the entry behind which a new one comes, -1 for none: in the order
// of the alphabet where the others are, else the security context of a pod before its
// containers, and all else at the end.
func (p *planner) placeFor(all []child, key string) int {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.key.Value
	}
	last := len(all) - 1
	if len(all) > 2 && slices.IsSorted(names) {
		at, _ := slices.BinarySearch(names, key)
		if at > 0 || p.opensLine(all[0].start) {
			return at - 1
		}
		return 0
	}
	for i, name := range names {
		if key == "securityContext" && (name == "initContainers" || name == "containers") {
			if i > 0 || p.opensLine(all[0].start) {
				return i - 1
			}
		}
	}
	return last
}

// fill gives an entry without a value one.
func (p *planner) fill(node *yaml.Node, c child, steps []step) error {
	value, err := p.nested(steps[1:])
	if err != nil {
		return err
	}
	s := p.style.like(p.text, p.children(node))
	inner := member{steps[0].key, value}
	if !p.isFlow(node) && isEmptyScalar(c.value) && c.key != nil && c.value.Anchor == "" && !p.commented(c.end) && p.opensBlock(c) {
		column := p.indent(c.start) + s.step
		p.replace(c.end, c.end, s.eol+strings.Repeat(" ", column)+s.block(inner.key, inner.value, column))
		return p.err
	}
	if isEmptyScalar(c.value) {
		p.replace(c.end, c.end, c.gap()+s.flow(inner))
		return p.err
	}
	p.replace(p.content(c.value), c.end, s.flow(inner))
	return p.err
}

// opensBlock tells whether a block can begin on the line below an entry.
func (p *planner) opensBlock(c child) bool { return p.closesLine(c.end) }
