package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// style is how a file is written.
type style struct {
	// json is set where only JSON will do, tight where it is without spaces.
	json, tight bool
	// quote is what stands around keys, 0 for nothing.
	quote byte
	// step is how far mappings are indented, dash how far the dashes of lists.
	step, dash int
	// flowLists is set where lists of plain values stand in brackets.
	flowLists bool
	eol       string
}

// styleOf reads the style off a document.
func (l *layout) styleOf(root *yaml.Node) style {
	s := style{step: 2, eol: "\n"}
	if i := bytes.IndexByte(l.text, '\n'); i > 0 && l.text[i-1] == '\r' {
		s.eol = "\r\n"
	}
	s.json = isJSONNode(root)
	if s.json {
		s.quote = '"'
	}
	count := styleCount{steps: map[int]int{}, dashes: map[int]int{}}
	l.count(root, &count, 0)
	s.step = most(count.steps, 2)
	s.dash = most(count.dashes, 0)
	s.flowLists = count.flow > count.block
	s.tight = s.json && !bytes.Contains(l.text, []byte(`": `))
	return s
}

// isJSONNode tells whether nodes came from JSON: those of YAML have a tag.
func isJSONNode(n *yaml.Node) bool {
	return n.Tag == "" && (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode)
}

// styleCount counts what a document does how often.
type styleCount struct {
	steps, dashes map[int]int
	flow, block   int
}

func (l *layout) count(n *yaml.Node, c *styleCount, depth int) {
	if n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Kind == yaml.ScalarNode {
		if n.Style&yaml.FlowStyle != 0 || isJSONNode(n) && n.Content[0].Line == n.Line {
			c.flow++
		} else {
			c.block++
		}
	}
	if depth > maxDepth || l.err != nil {
		return
	}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && len(child.Content) > 0 && child.Line > n.Content[i-1].Line {
			by := child.Column - n.Content[i-1].Column
			switch {
			case isJSONNode(child):
			case child.Kind == yaml.MappingNode && child.Style&yaml.FlowStyle == 0:
				c.steps[by]++
			case child.Kind == yaml.SequenceNode && child.Style&yaml.FlowStyle == 0:
				c.dashes[by]++
			}
		}
		l.count(child, c, depth+1)
	}
	if isJSONNode(n) && len(n.Content) > 0 && n.Content[0].Line > n.Line && n.Line >= l.base {
		open := l.indent(l.lineIndent(l.at(n)))
		c.steps[l.indent(l.at(n.Content[0]))-open]++
	}
}

// lineIndent is where the first character of the line of an offset stands.
func (l *layout) lineIndent(off int) int {
	start := l.lineStart(off)
	return start + len(l.text[start:off]) - len(bytes.TrimLeft(l.text[start:off], " \t"))
}

// most is the number that was counted most often, the smallest of several.
func most(counts map[int]int, other int) int {
	best := -1
	for n, times := range counts {
		if n >= 0 && (best < 0 || times > counts[best] || times == counts[best] && n < best) {
			best = n
		}
	}
	if best < 0 {
		return other
	}
	return best
}

// like is the style with the quotes of the keys of a mapping.
func (s style) like(text []byte, all []child) style {
	if s.json || len(all) == 0 || all[0].key == nil {
		return s
	}
	s.quote = 0
	if c := text[all[0].start]; c == '"' || c == '\'' {
		s.quote = c
	}
	return s
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`)

// word writes a string, in the quotes given where it can.
func word(s string, quote byte) string {
	switch {
	case quote == '\'' && strings.IndexFunc(s, func(r rune) bool { return r < ' ' }) < 0:
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	case quote == 0 && plainWord.MatchString(s) && resolve(&yaml.Node{Kind: yaml.ScalarNode, Value: s}).kind == kindString:
		return s
	}
	return string(appendString(nil, s))
}

func (s style) key(name string) string { return word(name, s.quote) }

// colon separates a key from a value on its line, comma two members.
func (s style) colon() string {
	if s.tight {
		return ":"
	}
	return ": "
}

func (s style) comma() string {
	if s.tight {
		return ","
	}
	return ", "
}

// flow writes a value on one line.
func (s style) flow(v any) string {
	switch v := v.(type) {
	case member:
		return "{" + s.key(v.key) + s.colon() + s.flow(v.value) + "}"
	case map[string]any:
		return "{}"
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = s.flow(item)
		}
		return "[" + strings.Join(parts, s.comma()) + "]"
	case string:
		return word(v, s.quote)
	case nil:
		return "null"
	case json.Number:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}

// block writes an entry of a block mapping at a column, without the indentation and
// the end of its first and last line.
func (s style) block(key string, v any, column int) string {
	switch v := v.(type) {
	case member:
		inner := column + max(s.step, 1)
		return s.key(key) + ":" + s.eol + strings.Repeat(" ", inner) + s.block(v.key, v.value, inner)
	case []any:
		if len(v) > 0 && !s.flowLists {
			dash := column + s.dash
			return s.key(key) + ":" + s.eol + strings.Repeat(" ", dash) + s.items(v, dash)
		}
	}
	return s.key(key) + ": " + s.flow(v)
}

// items writes a block list whose dashes stand at a column, likewise.
func (s style) items(list []any, column int) string {
	lines := make([]string, len(list))
	for i, item := range list {
		lines[i] = "- " + s.flow(item)
	}
	return strings.Join(lines, s.eol+strings.Repeat(" ", column))
}

// lines writes a member of an object of JSON over several lines, likewise.
func (s style) lines(key string, v any, indent string) string {
	step := strings.Repeat(" ", max(s.step, 1))
	if strings.HasPrefix(indent, "\t") {
		step = "\t"
	}
	m, ok := v.(member)
	if !ok {
		list, isList := v.([]any)
		if !isList || len(list) == 0 || s.flowLists {
			return s.key(key) + s.colon() + s.flow(v)
		}
		items := make([]string, len(list))
		for i, item := range list {
			items[i] = s.eol + indent + step + s.flow(item)
		}
		return s.key(key) + s.colon() + "[" + strings.Join(items, ",") + s.eol + indent + "]"
	}
	return s.key(key) + s.colon() + "{" + s.eol + indent + step + s.lines(m.key, m.value, indent+step) + s.eol + indent + "}"
}
