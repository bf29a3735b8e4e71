package manifest

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// stray is the error that an object without a pod holds containers all the same: a custom
// kind may have pod templates anywhere, and several. It is nil where there are none. The
// object has been converted before, which bounds what its aliases expand to.
func (o *object) stray() error {
	group, _, grouped := strings.Cut(o.apiVersion, "/")
	if !grouped || describesPods(group) {
		return nil
	}
	path, key := containersIn(o.val, "")
	if key == nil {
		return nil
	}
	return errorAt(key, "%s: in a %s no pod template is looked for there, so what its containers may do is unknown; scan the pods that come of it", path, o.kind)
}

// describesPods tells whether the kinds of a group have no pods but may say what pods are to
// look like: those of Kubernetes itself, and policies.
func describesPods(group string) bool {
	return !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io") ||
		group == "kyverno.io" || strings.HasSuffix(group, ".kyverno.io") || strings.HasSuffix(group, ".gatekeeper.sh")
}

// containersIn finds the first containers below a node: their path, and the node of their
// key. Path is that of the node.
func containersIn(n *yaml.Node, path string) (string, *yaml.Node) {
	n = deref(n)
	if n == nil {
		return "", nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := path
			if !isMerge(key) {
				at = join(path, deref(key).Value)
			}
			if areContainers(deref(key).Value, value) {
				return at, key
			}
			if found, k := containersIn(value, at); k != nil {
				return found, k
			}
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if found, k := containersIn(item, fmt.Sprintf("%s[%d]", path, i)); k != nil {
				return found, k
			}
		}
	default: // a single value
	}
	return "", nil
}

// areContainers tells whether the value of a key is one or several containers: "containers"
// of a pod, which have names, or the "container" of a step in a workflow.
func areContainers(key string, value *yaml.Node) bool {
	value = deref(value)
	switch {
	case value == nil:
		return false
	case key == "container":
		return holdsText(value, "image")
	case key == "containers" && value.Kind == yaml.SequenceNode:
		return slices.ContainsFunc(value.Content, func(item *yaml.Node) bool {
			return holdsText(item, "name") && holdsText(item, "image")
		})
	}
	return false
}

// holdsText tells whether a mapping has a string under a key.
func holdsText(n *yaml.Node, key string) bool {
	v, _ := lookup(n, key, 0)
	v = deref(v)
	return v != nil && v.Kind == yaml.ScalarNode && resolve(v).kind == kindString
}
