package manifest

import (
	"errors"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/escape-scanner/escape-scanner/scan"
)

// Locate tells where a field of the pod stands in the file. Field is a path from
// the root of the pod, as in "spec.containers[0].securityContext.privileged";
// a key with dots stands in brackets: "metadata.annotations[example.com/a.b]".
//
// The place is that of the field's key, or of the element of a list. What came in
// through an alias or a merge key is found where it is written. If the field is
// not in the file, the place is that of the closest field above it, marked Nearest.
//
// Container and item find elements by name, for a field of a live pod: with a
// container the element of that name is meant whatever the index, and with an item
// likewise in spec.volumes and in lists of plain values. Both may be empty.
//
// Locate may be called concurrently.
func (d *Document) Locate(field, container, item string) *scan.Location {
	location, _ := d.locate(field, container, item)
	return location
}

// locate is Locate, and tells how many steps of the path are in the file.
func (d *Document) locate(field, container, item string) (*scan.Location, int) {
	live := d.live
	if live == nil {
		var err error
		if live, err = d.parseAgain(); err != nil {
			return &scan.Location{File: d.File, Line: d.Line, Column: 1, Field: join(d.TemplatePath, field), Nearest: true}, 0
		}
	}
	l := locator{root: live.root, container: container, item: item}
	if d.TemplatePath != "" {
		l.prefix = strings.Count(d.TemplatePath, ".") + 1
	}
	l.walk(parsePath(join(d.TemplatePath, field)))
	line, column := live.parsed.place(l.at)
	return &scan.Location{File: d.File, Line: line, Column: column, Field: l.path(), Nearest: l.depth < len(l.steps)}, l.depth
}

// parseAgain makes the nodes of the document once more.
func (d *Document) parseAgain() (*liveNodes, error) {
	if d.chunk == nil {
		return nil, errors.New("the text was not kept")
	}
	p, err := d.chunk.parse()
	if err != nil {
		return nil, err
	}
	root, err := p.find(d.sel)
	if err != nil {
		return nil, err
	}
	return &liveNodes{root: root, parsed: &p}, nil
}

// SplitPath takes the path of a field apart, into keys and the indexes of elements.
func SplitPath(path string) []string {
	steps := parsePath(path)
	keys := make([]string, len(steps))
	for i, s := range steps {
		keys[i] = s.key
	}
	return keys
}

// step is one part of a path: a key, or an element of a list.
type step struct {
	key string
	// index is -1 if the step cannot be an element of a list.
	index   int
	bracket bool
}

// parsePath takes a path apart.
func parsePath(path string) []step {
	var steps []step
	for path != "" {
		if path[0] == '[' {
			end := strings.IndexByte(path, ']')
			if end < 0 {
				end = len(path)
			}
			s := step{key: path[1:end], index: -1, bracket: true}
			if i, err := strconv.Atoi(s.key); err == nil && i >= 0 {
				s.index = i
			}
			steps = append(steps, s)
			path = path[min(end+1, len(path)):]
			continue
		}
		path = strings.TrimPrefix(path, ".")
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		if end > 0 {
			steps = append(steps, step{key: path[:end], index: -1})
		}
		path = path[end:]
	}
	return steps
}

// locator follows a path through nodes.
type locator struct {
	root *yaml.Node
	// prefix is how many steps stand before the pod.
	prefix          int
	container, item string

	// at is the node whose place is the answer.
	at    *yaml.Node
	steps []step
	// depth is how many of the steps were found.
	depth int
}

// walk follows the steps as far as they go.
func (l *locator) walk(steps []step) {
	l.at, l.steps = l.root, steps
	value := deref(l.root)
	for i := range steps {
		s := &steps[i]
		if value == nil {
			return
		}
		switch value.Kind {
		case yaml.MappingNode:
			v, k := lookup(value, s.key, 0)
			if v == nil {
				return
			}
			value, l.at = deref(v), k
		case yaml.SequenceNode:
			index := l.element(value, steps, i)
			if index < 0 || index >= len(value.Content) {
				return
			}
			s.index, s.key = index, strconv.Itoa(index)
			value = deref(value.Content[index])
			l.at = value
		default:
			return
		}
		l.depth++
	}
}

// element chooses the element of a list that step i means.
func (l *locator) element(list *yaml.Node, steps []step, i int) int {
	index := steps[i].index
	if i == l.prefix+2 && steps[l.prefix].key == "spec" {
		switch steps[i-1].key {
		case "containers", "initContainers", "ephemeralContainers":
			if l.container != "" {
				return named(list, l.container)
			}
			return index
		case "volumes":
			if l.item != "" {
				return named(list, l.item)
			}
			return index
		}
	}
	if l.item != "" {
		for j, n := range list.Content {
			if n = deref(n); n.Kind == yaml.ScalarNode && n.Value == l.item {
				return j
			}
		}
	}
	return index
}

// named is the index of the element with a name, -1 if there is none.
func named(list *yaml.Node, name string) int {
	for i, n := range list.Content {
		if v, _ := lookup(n, "name", 0); v != nil && deref(v).Value == name {
			return i
		}
	}
	return -1
}

// path is the path in the document, with the indexes that were found.
func (l *locator) path() string {
	var b strings.Builder
	for _, s := range l.steps {
		switch {
		case s.bracket:
			b.WriteString("[" + s.key + "]")
		case b.Len() > 0:
			b.WriteString("." + s.key)
		default:
			b.WriteString(s.key)
		}
	}
	return b.String()
}
