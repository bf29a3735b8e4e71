package manifest

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// removeFlow plans that a child of a mapping or list in brackets is gone, and the
// comma that it needs no more.
func (p *planner) removeFlow(node *yaml.Node, all []child, at int) {
	c := all[at]
	comma := p.commaAfter(c.end)
	if len(all) == 1 {
		open := p.content(node) + 1
		end := p.end(node, 0, 0) - 1
		p.replace(open, end, "")
		return
	}
	behind := c.end
	if comma >= 0 {
		behind = comma + 1
	}
	if p.opensLine(c.start) && p.closesLine(behind) {
		if comma < 0 && p.style.json {
			before := p.commaAfter(all[at-1].end)
			p.replace(before, before+1, "")
		}
		p.replace(p.headStart(c.start, p.limit(node, all, at)), p.lineNext(p.lineEnd(behind)), "")
		return
	}
	switch {
	case at+1 < len(all) && p.lineStart(all[at+1].start) == p.lineStart(behind):
		p.replace(c.start, all[at+1].start, "")
	case at > 0 && p.skipsComment(all[at-1].end, c.start):
		p.fail("a comment stands between it and its neighbour")
	case at > 0:
		p.replace(all[at-1].end, c.end, "")
	default:
		for behind < len(p.text) && (p.text[behind] == ' ' || p.text[behind] == '\t') {
			behind++
		}
		p.replace(c.start, behind, "")
	}
}

// commaAfter is the place of the comma behind a child, -1 if there is none.
func (p *planner) commaAfter(end int) int {
	if at := p.skip(end); at < len(p.text) && p.text[at] == ',' {
		return at
	}
	return -1
}

func (p *planner) skipsComment(from, to int) bool {
	return bytes.IndexByte(p.text[from:to], '#') >= 0
}

// insertFlow plans a new entry of a mapping in brackets.
func (p *planner) insertFlow(node *yaml.Node, all []child, key string, value any) {
	open := p.content(node)
	s := p.style.like(p.text, all)
	if len(all) == 0 {
		p.insertFirst(node, open, s, key, value)
		return
	}
	last := all[len(all)-1]
	if !p.opensLine(last.start) {
		s.tight = s.tight || s.json && len(all) > 1 && p.text[last.start-1] == ','
		p.replace(last.end, last.end, s.comma()+s.key(key)+s.colon()+s.flow(value))
		return
	}
	indent := string(p.text[p.lineStart(last.start):last.start])
	text := indent + s.lines(key, value, indent)
	comma := p.commaAfter(last.end)
	behind := last.end
	if comma >= 0 {
		behind = comma + 1
	}
	if !p.closesLine(behind) {
		p.replace(last.end, last.end, ","+s.eol+text)
		return
	}
	if comma < 0 {
		p.replace(last.end, last.end, ",")
	} else {
		text += ","
	}
	end := p.lineEnd(behind)
	p.replace(end, end, s.eol+text)
}

// insertFirst plans the first entry of an empty mapping. In a block it becomes a
// block, unless a comment stands behind the brackets.
func (p *planner) insertFirst(node *yaml.Node, open int, s style, key string, value any) {
	end := p.end(node, open, 0)
	if p.err != nil {
		return
	}
	line := p.lineIndent(open)
	before := bytes.TrimRight(p.text[line:open], " \t")
	ownLine := len(before) > 0 && before[len(before)-1] == ':'
	switch {
	case p.skipsComment(open, end):
		p.fail("a comment stands in the empty brackets")
	case s.json && p.style.multiline(p.text) && p.style.step > 0:
		indent := string(p.text[p.lineStart(open):line])
		inner := indent + strings.Repeat(" ", s.step)
		if strings.HasPrefix(indent, "\t") {
			inner = indent + "\t"
		}
		p.replace(open+1, end-1, s.eol+inner+s.lines(key, value, inner)+s.eol+indent)
	case !s.json && ownLine && node.Anchor == "" && p.closesLine(end) && !p.commented(end) && !p.inFlow:
		column := p.keyColumn(line) + max(s.step, 1)
		if c := p.text[p.keyStart(line)]; c == '"' || c == '\'' {
			s.quote = c
		}
		p.replace(p.lineStart(open)+len(bytes.TrimRight(p.text[p.lineStart(open):open], " \t")), end,
			s.eol+strings.Repeat(" ", column)+s.block(key, value, column))
	default:
		p.replace(open+1, end-1, s.key(key)+s.colon()+s.flow(value))
	}
}

// multiline tells whether a text has more than one line.
func (s style) multiline(text []byte) bool {
	return bytes.IndexByte(bytes.TrimSpace(text), '\n') >= 0
}

// keyStart is where the key begins on a line that may begin with dashes.
func (p *planner) keyStart(line int) int {
	for p.text[line] == '-' && line+1 < len(p.text) && isSpace(p.text[line+1]) {
		line++
		for p.text[line] == ' ' {
			line++
		}
	}
	return line
}

func (p *planner) keyColumn(line int) int { return p.indent(p.keyStart(line)) }
