package manifest

import (
	"errors"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Skip is a reason why a document holds nothing to judge.
type Skip string

// The reasons.
const (
	// SkipNoPod: a Kubernetes object without a pod or a pod template.
	SkipNoPod Skip = "no pod template"
	// SkipForeign: no Kubernetes object, having neither apiVersion nor kind.
	SkipForeign Skip = "not a Kubernetes object"
)

// selector is the way to an object in a chunk: which of its documents, and which
// item of each List on the way.
type selector struct {
	tree  int
	items []int
}

// object is one object of a chunk, or the failure or reason in its place.
type object struct {
	tree
	sel              selector
	apiVersion, kind string
	line, column     int
	failure          *scan.Failure
	skip             Skip
}

// objectReader finds the objects of one chunk after another.
type objectReader struct {
	conv   converter
	chunk  *chunk
	parsed parsed
	visit  func(*object)
	// exploded is set when aliases made too many items of too few.
	exploded bool
}

// aliasItemCost is what an item of a List that came in through an alias adds to what
// aliases expand to, beside its text.
const aliasItemCost = 256

// read parses a chunk and hands out its objects. Items of Lists are objects of
// their own, the List itself is none.
func (r *objectReader) read(c *chunk) {
	r.conv.reset()
	r.chunk, r.parsed, r.exploded = c, parsed{}, false
	defer func() { r.chunk, r.parsed = nil, parsed{} }()
	if c.failure != nil {
		line := 0
		if c.failure.Location != nil {
			line = c.failure.Location.Line
		}
		r.visit(&object{line: line, failure: c.failure})
		return
	}
	p, err := c.parse()
	r.parsed = p
	if err != nil {
		f := c.fail(&p, err)
		r.visit(&object{line: f.Location.Line, failure: f})
		return
	}
	apiVersion, kind := "", ""
	if c.part == partItem && c.list != nil {
		apiVersion, kind = c.list.apiVersion, itemKind(c.list.kind)
	}
	for i, t := range p.trees {
		r.document(t, selector{tree: i}, apiVersion, kind)
	}
}

// itemKind is the kind of the items of a list such as PodList, which do not say it
// themselves.
func itemKind(list string) string {
	if list == "List" || !isList(list) {
		return ""
	}
	return list[:len(list)-len("List")]
}

// fail hands out a failure.
func (r *objectReader) fail(o *object, err error) {
	o.failure = r.chunk.fail(&r.parsed, err)
	r.visit(o)
}

// document takes what stands where an object should. The kind and apiVersion given
// are those that it has if it does not say.
func (r *objectReader) document(t tree, sel selector, apiVersion, kind string) {
	if t.val.Kind == yaml.AliasNode {
		r.conv.aliases++
		defer func() { r.conv.aliases-- }()
	}
	if r.conv.aliases > 0 {
		if r.conv.expanded += aliasItemCost; r.conv.expanded > maxExpansion {
			r.exploded = true
			r.fail(&object{}, errorAt(t.pos, "aliases expand to too many items: the rest of them was not read"))
			return
		}
	}
	t = tree{val: deref(t.val), pos: deref(t.pos)}
	o := &object{tree: t, sel: sel}
	o.line, o.column = r.parsed.place(t.pos)
	if len(sel.items) > maxDepth {
		r.fail(o, errorAt(t.pos, "Lists are nested deeper than %d levels", maxDepth))
		return
	}
	if t.val.Kind != yaml.MappingNode {
		r.notMapping(o)
		return
	}
	if err := o.head(apiVersion, kind); err != nil {
		r.fail(o, err)
		return
	}
	if r.list(o) {
		return
	}
	if o.apiVersion == "" || o.kind == "" {
		if isWorkloadKind(o.kind) {
			r.fail(o, errorAt(t.pos, "kind %s without an apiVersion", o.kind))
			return
		}
		o.skip = SkipForeign
	}
	r.visit(o)
}

// notMapping takes a scalar or a list in the place of an object.
func (r *objectReader) notMapping(o *object) {
	if o.val.Kind == yaml.SequenceNode {
		if items, ok := pairItems(o.val, o.pos); ok && anyObject(items) {
			r.items(o, items, "", "")
			return
		}
		// Playbooks, JSON arrays: other tools' files may well be lists.
		if !r.chunk.named && r.chunk.part == partDocument {
			o.skip = SkipForeign
			r.visit(o)
			return
		}
		r.fail(o, errorAt(o.pos, "is a list, not a Kubernetes object"))
		return
	}
	r.fail(o, errorAt(o.pos, "is a single value, not a Kubernetes object"))
}

// head reads apiVersion and kind.
func (o *object) head(apiVersion, kind string) error {
	o.apiVersion, o.kind = apiVersion, kind
	for _, f := range []struct {
		name string
		into *string
	}{{"apiVersion", &o.apiVersion}, {"kind", &o.kind}} {
		v, k := lookup(o.val, f.name, 0)
		v = deref(v)
		if v == nil {
			continue
		}
		if v.Kind == yaml.ScalarNode {
			switch s := resolve(v); s.kind {
			case kindString:
				*f.into = s.text
				continue
			case kindNull:
				continue
			default: // a number or a truth value
			}
		}
		other := map[string]string{"apiVersion": "kind", "kind": "apiVersion"}[f.name]
		if o, _ := lookup(o.val, other, 0); o != nil {
			return errorAt(k, "%s: want a string", f.name)
		}
	}
	return nil
}

// list hands out the items of a List, if the object is one.
func (r *objectReader) list(o *object) bool {
	if !isList(o.kind) {
		return false
	}
	if r.chunk.part == partHeader && len(o.sel.items) == 0 {
		// Its items went by already. What is left has to be sound all the same.
		r.conv.next()
		if err := r.conv.node(o.val); err != nil {
			r.fail(o, err)
		}
		return true
	}
	val, k := lookup(o.val, "items", 0)
	pos, _ := lookup(o.pos, "items", 0)
	val, pos = deref(val), deref(pos)
	items, ok := pairItems(val, pos)
	if !ok || o.kind != "List" && !allMappings(items) {
		if val != nil && o.kind == "List" && !isEmpty(val) {
			r.fail(o, errorAt(k, "items: want a list"))
			return true
		}
		return false
	}
	if _, err := r.conv.flatten(o.val); err != nil {
		r.fail(o, err)
		return true
	}
	if len(items) == 0 {
		o.skip = SkipNoPod
		r.visit(o)
		return true
	}
	r.items(o, items, o.apiVersion, itemKind(o.kind))
	return true
}

func (r *objectReader) items(o *object, items []tree, apiVersion, kind string) {
	if kind == "" {
		apiVersion = ""
	}
	for i, item := range items {
		if r.exploded {
			return
		}
		items := append(append([]int(nil), o.sel.items...), i)
		r.document(item, selector{o.sel.tree, items}, apiVersion, kind)
	}
}

// pairItems pairs the elements of a list with those of the nodes that give places.
func pairItems(val, pos *yaml.Node) ([]tree, bool) {
	if val == nil || pos == nil || val.Kind != yaml.SequenceNode || len(val.Content) != len(pos.Content) {
		return nil, false
	}
	items := make([]tree, len(val.Content))
	for i := range items {
		items[i] = tree{val.Content[i], pos.Content[i]}
	}
	return items, true
}

func allMappings(items []tree) bool {
	for _, i := range items {
		if deref(i.val).Kind != yaml.MappingNode {
			return false
		}
	}
	return true
}

func anyObject(items []tree) bool {
	for _, i := range items {
		apiVersion, _ := lookup(i.val, "apiVersion", 0)
		kind, _ := lookup(i.val, "kind", 0)
		if apiVersion != nil && kind != nil {
			return true
		}
	}
	return false
}

// find follows a selector again in a chunk that was parsed anew.
func (p *parsed) find(sel selector) (*yaml.Node, error) {
	if sel.tree >= len(p.trees) {
		return nil, errors.New("document is gone")
	}
	n := deref(p.trees[sel.tree].pos)
	for _, i := range sel.items {
		if n.Kind == yaml.MappingNode {
			v, _ := lookup(n, "items", 0)
			n = deref(v)
		}
		if n == nil || i >= len(n.Content) {
			return nil, errors.New("item is gone")
		}
		n = deref(n.Content[i])
	}
	return n, nil
}

// lookup finds the value of a key, and the key's own node, in a mapping: through
// merge keys and with the last one winning, as converter does.
func lookup(n *yaml.Node, key string, depth int) (value, keyNode *yaml.Node) {
	n = deref(n)
	if n == nil || n.Kind != yaml.MappingNode || depth > maxDepth {
		return nil, nil
	}
	for i := len(n.Content) - 2; i >= 0; i -= 2 {
		k := n.Content[i]
		if isMerge(k) {
			for _, source := range slices.Backward(mergeSources(n.Content[i+1])) {
				if v, k := lookup(source, key, depth+1); v != nil {
					return v, k
				}
			}
			continue
		}
		if deref(k).Kind == yaml.ScalarNode && deref(k).Value == key {
			return n.Content[i+1], k
		}
	}
	return nil, nil
}
