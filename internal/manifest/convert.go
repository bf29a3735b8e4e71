package manifest

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds the nesting of a document. Kubernetes objects stay under 30.
	maxDepth = 1000
	// maxExpansion bounds what aliases may add to a document, in bytes. The API
	// server takes 3 MiB in all.
	maxExpansion = 8 << 20
)

// nodeError is an error in one place of a document.
type nodeError struct {
	node *yaml.Node
	msg  string
}

func (e *nodeError) Error() string { return e.msg }

func errorAt(n *yaml.Node, format string, args ...any) error {
	return &nodeError{node: n, msg: fmt.Sprintf(format, args...)}
}

// span is where the JSON of a node stands in the buffer.
type span struct {
	node       *yaml.Node
	start, end int
}

// converter writes nodes of YAML as JSON. It is the place where a document is
// checked: keys are unique, nesting and aliases are bounded.
type converter struct {
	buf []byte
	// marks are the nodes whose JSON is wanted by itself.
	marks []span
	// keys is a stack of the keys of the open mappings.
	keys     []string
	depth    int
	aliases  int
	expanded int
	// tagged is set when a scalar carries a tag, which this converter does not read.
	tagged bool
}

// reset makes c ready for another document.
func (c *converter) reset() {
	*c = converter{buf: c.buf[:0], marks: c.marks[:0], keys: c.keys[:0]}
}

// next makes c ready for another object of the same document: what aliases expand
// to is counted for all of them together.
func (c *converter) next() {
	expanded, aliases := c.expanded, c.aliases
	c.reset()
	c.expanded, c.aliases = expanded, aliases
}

// mark asks for the JSON of n and of its like, to be had from marked later.
func (c *converter) mark(n *yaml.Node) {
	if n != nil {
		c.marks = append(c.marks, span{node: n})
	}
}

// marked is the JSON of a node that mark named.
func (c *converter) marked(n *yaml.Node) []byte {
	for _, m := range c.marks {
		if m.node == n {
			return c.buf[m.start:m.end]
		}
	}
	return nil
}

// node appends the JSON of n.
func (c *converter) node(n *yaml.Node) error {
	if err := c.enter(n); err != nil {
		return err
	}
	defer c.leave()
	start := len(c.buf)
	var err error
	switch n.Kind {
	case yaml.MappingNode:
		err = c.mapping(n)
	case yaml.SequenceNode:
		err = c.sequence(n)
	case yaml.ScalarNode:
		err = c.scalar(n)
	case yaml.AliasNode:
		c.aliases++
		err = c.node(n.Alias)
		c.aliases--
	default:
		err = errorAt(n, "unexpected node")
	}
	if err != nil {
		return err
	}
	for i := range c.marks {
		if c.marks[i].node == n {
			c.marks[i].start, c.marks[i].end = start, len(c.buf)
		}
	}
	return nil
}

// enter counts one level of nesting and, inside of aliases, what they add.
func (c *converter) enter(n *yaml.Node) error {
	c.depth++
	if c.depth > maxDepth {
		return errorAt(n, "nested deeper than %d levels, or an alias contains itself", maxDepth)
	}
	if c.aliases > 0 {
		c.expanded += len(n.Value) + 1
		if c.expanded > maxExpansion {
			return errorAt(n, "aliases expand to more than %d MiB", maxExpansion>>20)
		}
	}
	return nil
}

func (c *converter) leave() { c.depth-- }

func (c *converter) sequence(n *yaml.Node) error {
	c.buf = append(c.buf, '[')
	for i, child := range n.Content {
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		if err := c.node(child); err != nil {
			return err
		}
	}
	c.buf = append(c.buf, ']')
	return nil
}

func (c *converter) scalar(n *yaml.Node) error {
	if n.Style&yaml.TaggedStyle != 0 {
		c.tagged = true
		c.buf = appendString(c.buf, n.Value)
		return nil
	}
	switch s := resolve(n); s.kind {
	case kindString:
		c.buf = appendString(c.buf, s.text)
	case kindInfinite:
		return errorAt(n, "%s has no form in JSON", s.text)
	default:
		c.buf = append(c.buf, s.text...)
	}
	return nil
}

func (c *converter) mapping(n *yaml.Node) error {
	if hasMerge(n) {
		return c.mergedMapping(n)
	}
	base := len(c.keys)
	var seen map[string]struct{}
	c.buf = append(c.buf, '{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, err := c.key(n.Content[i])
		if err != nil {
			return err
		}
		if seen, err = c.unique(base, seen, key, n.Content[i]); err != nil {
			return err
		}
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = append(appendString(c.buf, key), ':')
		if err := c.node(n.Content[i+1]); err != nil {
			return err
		}
	}
	c.keys = c.keys[:base]
	c.buf = append(c.buf, '}')
	return nil
}

// unique checks that key is new among the keys from base on. Small mappings are
// searched, large ones have a set.
func (c *converter) unique(base int, seen map[string]struct{}, key string, n *yaml.Node) (map[string]struct{}, error) {
	const small = 16
	open := c.keys[base:]
	c.keys = append(c.keys, key)
	if seen == nil {
		if slices.Contains(open, key) {
			return nil, errorAt(n, "key %q stands twice in one mapping", key)
		}
		if len(open) < small {
			return nil, nil
		}
		seen = make(map[string]struct{}, 4*small)
		for _, k := range c.keys[base:] {
			seen[k] = struct{}{}
		}
		return seen, nil
	}
	if _, ok := seen[key]; ok {
		return seen, errorAt(n, "key %q stands twice in one mapping", key)
	}
	seen[key] = struct{}{}
	return seen, nil
}

// key is the text that a key has in JSON.
func (c *converter) key(n *yaml.Node) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		return "", errorAt(n, "a mapping or a list cannot be a key")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		c.tagged = true
		return n.Value, nil
	}
	s := resolve(n)
	if s.kind == kindNull {
		return "", errorAt(n, "null cannot be a key")
	}
	return s.key, nil
}

// pair is one entry of a mapping once its merge keys are followed.
type pair struct {
	key   string
	value *yaml.Node
	// alias is true when the entry came in through a merge key.
	alias bool
}

func (c *converter) mergedMapping(n *yaml.Node) error {
	pairs, err := c.flatten(n)
	if err != nil {
		return err
	}
	c.buf = append(c.buf, '{')
	for i, p := range pairs {
		if i > 0 {
			c.buf = append(c.buf, ',')
		}
		c.buf = append(appendString(c.buf, p.key), ':')
		if p.alias {
			c.aliases++
		}
		err := c.node(p.value)
		if p.alias {
			c.aliases--
		}
		if err != nil {
			return err
		}
	}
	c.buf = append(c.buf, '}')
	return nil
}

// flatten lists the entries of a mapping, following merge keys in the order in
// which they stand: as with kubectl, the last one to set a key wins.
func (c *converter) flatten(n *yaml.Node) ([]pair, error) {
	if err := c.enter(n); err != nil {
		return nil, err
	}
	defer c.leave()
	pairs := make([]pair, 0, len(n.Content)/2)
	index := make(map[string]int, len(n.Content)/2)
	own := make(map[string]struct{}, len(n.Content)/2)
	set := func(p pair) {
		if i, ok := index[p.key]; ok {
			pairs[i] = p
			return
		}
		index[p.key] = len(pairs)
		pairs = append(pairs, p)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if isMerge(k) {
			if err := c.merge(v, set); err != nil {
				return nil, err
			}
			continue
		}
		key, err := c.key(k)
		if err != nil {
			return nil, err
		}
		if _, ok := own[key]; ok {
			return nil, errorAt(k, "key %q stands twice in one mapping", key)
		}
		own[key] = struct{}{}
		set(pair{key: key, value: v})
	}
	return pairs, nil
}

// merge hands the entries of the mappings that a merge key names to set.
func (c *converter) merge(v *yaml.Node, set func(pair)) error {
	c.aliases++
	defer func() { c.aliases-- }()
	for _, source := range mergeSources(v) {
		if source.Kind != yaml.MappingNode {
			return errorAt(v, "a merge key wants a mapping or a list of mappings")
		}
		pairs, err := c.flatten(source)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			if c.expanded += len(p.key); c.expanded > maxExpansion {
				return errorAt(v, "merge keys expand to more than %d MiB", maxExpansion>>20)
			}
			p.alias = true
			set(p)
		}
	}
	return nil
}

// mergeSources lists what a merge key names, in the order in which it is applied:
// of a list the first takes precedence, so it comes last.
func mergeSources(v *yaml.Node) []*yaml.Node {
	switch v.Kind {
	case yaml.AliasNode:
		return []*yaml.Node{v.Alias}
	case yaml.SequenceNode:
		sources := make([]*yaml.Node, 0, len(v.Content))
		for _, source := range slices.Backward(v.Content) {
			sources = append(sources, deref(source))
		}
		return sources
	default:
		return []*yaml.Node{v}
	}
}

// deref follows an alias.
func deref(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isMerge(k *yaml.Node) bool {
	return k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Tag == "!!merge"
}

func hasMerge(n *yaml.Node) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if isMerge(n.Content[i]) {
			return true
		}
	}
	return false
}
