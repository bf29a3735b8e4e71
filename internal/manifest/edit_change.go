package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// planner makes the edits of one change.
type planner struct {
	*layout
	change Change
	style  style
	edits  []Edit
	// above is the entry or item that the mapping or list at hand is the value of.
	above child
	// inFlow is set once the path leads through brackets, as far as above its end.
	inFlow bool
}

// plan finds the edits that a change takes.
func (e *Editor) plan(c Change) ([]Edit, error) {
	base := e.parsed.lines[len(e.parsed.lines)-1].textLine
	p := &planner{layout: newLayout(e.chunk.text, base), change: c}
	p.style = p.styleOf(e.root)
	steps := parsePath(join(e.document.TemplatePath, c.Field))
	if len(steps) == 0 {
		return nil, errors.New("no field is named")
	}
	if err := p.walk(e.root, steps); err != nil {
		return nil, err
	}
	return p.edits, p.err
}

func (p *planner) replace(start, end int, text string) {
	p.edits = append(p.edits, Edit{Start: start, End: end, Text: text})
}

// walk follows the path to the field, and plans the change there.
func (p *planner) walk(root *yaml.Node, steps []step) error {
	node := root
	for i := range steps {
		last := i == len(steps)-1
		all := p.children(node)
		if p.err != nil {
			return p.err
		}
		at, err := p.find(node, all, &steps[i])
		switch {
		case err != nil:
			return err
		case at < 0:
			return p.missing(node, all, steps[i:])
		case last:
			return p.leaf(node, all, at)
		}
		c := all[at]
		p.above = c
		p.inFlow = p.inFlow || p.isFlow(node)
		if next := p.into(c.value); next != nil {
			node = next
			continue
		}
		if c.value.Kind == yaml.AliasNode {
			return p.besideAlias(c, steps[i+1:])
		}
		if !isEmpty(c.value) {
			return errors.New("what stands above it in the file is neither a mapping nor a list")
		}
		if p.change.Value == nil || p.change.Key != "" {
			return errNotWritten
		}
		return p.fill(node, c, steps[i+1:])
	}
	return nil
}

var errNotWritten = errors.New("it is not written in the file")

// into is the mapping or list that a value is; nil where it is none.
func (p *planner) into(value *yaml.Node) *yaml.Node {
	if value.Kind == yaml.AliasNode {
		if p.change.Here {
			return nil
		}
		value = value.Alias
	}
	if value.Kind == yaml.MappingNode || value.Kind == yaml.SequenceNode {
		return value
	}
	return nil
}

// find looks for the child that a step means: -1 if it is not there. What comes in
// through a merge key is changed where it is written, or set beside the merge key.
func (p *planner) find(node *yaml.Node, all []child, s *step) (int, error) {
	if node.Kind == yaml.SequenceNode {
		if s.index < 0 || s.index >= len(all) {
			return 0, fmt.Errorf("there is no element %s", s.key)
		}
		return s.index, nil
	}
	_, keyNode := lookup(node, s.key, 0)
	if keyNode == nil {
		return -1, nil
	}
	for i := range all {
		if all[i].key == keyNode {
			return i, nil
		}
	}
	if p.change.Value == nil || p.change.Key != "" {
		return 0, errors.New("it comes in through a merge key")
	}
	return -1, nil
}

// leaf plans the change of a field that is there.
func (p *planner) leaf(node *yaml.Node, all []child, at int) error {
	switch {
	case p.change.Value == nil:
		p.remove(node, all, at)
	case p.change.Key != "":
		p.rename(node, all, at)
	default:
		value, err := decodeValue(p.change.Value)
		if err != nil {
			return err
		}
		p.set(node, all[at], value)
	}
	return p.err
}

// missing plans the change of a field that is not there: with what is missing above
// it, it is put into the mapping.
func (p *planner) missing(node *yaml.Node, all []child, steps []step) error {
	if p.change.Value == nil || p.change.Key != "" {
		return errNotWritten
	}
	value, err := p.nested(steps[1:])
	if err != nil {
		return err
	}
	p.insert(node, all, steps[0].key, value)
	return p.err
}

// besideAlias sets a field of what an alias stands for without changing that: the
// alias is merged into a mapping of its own.
func (p *planner) besideAlias(c child, steps []step) error {
	if p.change.Value == nil || len(steps) != 1 || c.value.Alias.Kind != yaml.MappingNode {
		return errors.New("it is shared through an alias")
	}
	value, err := decodeValue(p.change.Value)
	if err != nil {
		return err
	}
	start := p.at(c.value)
	text := "{<<: " + string(p.text[start:c.end]) + ", " + p.style.key(steps[0].key) + ": " + p.style.flow(value) + "}"
	p.replace(start, c.end, text)
	return p.err
}

// member is one entry of a mapping that is to be written.
type member struct {
	key   string
	value any
}

// nested is the value with what the steps put around it.
func (p *planner) nested(steps []step) (any, error) {
	value, err := decodeValue(p.change.Value)
	if err != nil {
		return nil, err
	}
	for _, s := range slices.Backward(steps) {
		if s.index >= 0 && s.bracket {
			return nil, errors.New("the list above it is not in the file")
		}
		value = member{s.key, value}
	}
	return value, nil
}

// decodeValue reads the value of a change.
func decodeValue(raw json.RawMessage) (any, error) {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("value %s: %w", raw, err)
	}
	if !plainValue(v, 0) {
		return nil, fmt.Errorf("value %s: want a plain value, a list of such, or what is empty", raw)
	}
	return v, nil
}

// plainValue tells whether a value is one that is written here.
func plainValue(v any, depth int) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return depth == 0 && !slices.ContainsFunc(v, func(item any) bool { return !plainValue(item, depth+1) })
	}
	return true
}
