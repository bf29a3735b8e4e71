package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader turns nodes into values and notes what is wrong with them.
type reader struct {
	path string
	all  *problems
}

// wrong notes a problem at a node's line.
func (r reader) wrong(n *yaml.Node, format string, args ...any) {
	r.all.addf("%s:%d: "+format, append([]any{harmless(r.path), n.Line}, args...)...)
}

// mapping calls take for every key of m that is known and there once.
func (r reader) mapping(m *yaml.Node, known []string, take func(name string, key, value *yaml.Node)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		name := resolved(key)
		if name.Kind != yaml.ScalarNode {
			r.wrong(key, "want a key, have %s", describe(name))
			continue
		}
		if line, twice := lines[name.Value]; twice {
			r.wrong(key, "key %s is there twice, first in line %d", quoted(name.Value), line)
			continue
		}
		lines[name.Value] = key.Line
		if !slices.Contains(known, name.Value) {
			r.wrong(key, "unknown key %s%s", quoted(name.Value), hint{word: name.Value, known: known, list: true})
			continue
		}
		take(name.Value, key, value)
	}
}

// value reads the value of k; a key with nothing behind it is as good as absent.
func (r reader) value(k key, n *yaml.Node) (any, bool) {
	v := resolved(n)
	if isNull(v) {
		return nil, false
	}
	switch k.fallback.(type) {
	case bool:
		var b bool
		if isScalar(v, "!!bool") && v.Decode(&b) == nil {
			return b, true
		}
	case int:
		var i int
		if isScalar(v, "!!int") && v.Decode(&i) == nil {
			return i, true
		}
	case []string:
		if v.Kind == yaml.SequenceNode {
			return r.strings(k.name, v)
		}
	default:
		if isScalar(v, "!!str") {
			return v.Value, true
		}
	}
	r.wrong(n, "%s: want %s, have %s", k.name, typeName(k.fallback), describe(v))
	return nil, false
}

func (r reader) strings(name string, list *yaml.Node) ([]string, bool) {
	out, ok := make([]string, 0, len(list.Content)), true
	for i, n := range list.Content {
		v := resolved(n)
		if !isScalar(v, "!!str") {
			r.wrong(n, "%s[%d]: want a string, have %s", name, i, describe(v))
			ok = false
			continue
		}
		out = append(out, v.Value)
	}
	return out, ok
}

// resolved follows an alias to what it stands for. It goes one step, and callers
// go down a fixed number of levels: an alias that holds itself leads nowhere.
func resolved(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func isScalar(n *yaml.Node, tag string) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == tag
}

func isNull(n *yaml.Node) bool { return isScalar(n, "!!null") }

// describe says what stands there, for a message that says what should.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
	default:
		return "something else"
	}
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return "nothing"
	case "!!str":
		return "the string " + quoted(n.Value)
	case "!!bool", "!!int", "!!float", "!!timestamp":
		what := map[string]string{"!!bool": "true or false", "!!int": "a number", "!!float": "a number", "!!timestamp": "a date"}[tag]
		return what + " (" + quoted(n.Value) + " without quotes)"
	default:
		return quoted(strings.TrimSpace(tag + " " + n.Value))
	}
}
