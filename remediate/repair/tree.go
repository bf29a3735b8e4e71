package repair

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// decode reads JSON with numbers as they are written.
func decode(raw json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	err := dec.Decode(&v)
	return v, err
}

// lookup follows keys through decoded JSON. A null is as good as nothing.
func lookup(tree any, keys []string) (any, bool) {
	for _, key := range keys {
		switch node := tree.(type) {
		case map[string]any:
			tree = node[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(node) {
				return nil, false
			}
			tree = node[i]
		default:
			return nil, false
		}
	}
	return tree, tree != nil
}

// with is the tree with a value at the keys, which are made where they are missing;
// nil takes away what is there. The tree is not changed.
func with(tree any, keys []string, value any) any {
	if len(keys) == 0 {
		return value
	}
	if list, ok := tree.([]any); ok {
		i, err := strconv.Atoi(keys[0])
		if err != nil || i < 0 || i >= len(list) {
			return tree
		}
		list = slices.Clone(list)
		if list[i] = with(list[i], keys[1:], value); list[i] == nil {
			list = slices.Delete(list, i, i+1)
		}
		return list
	}
	node, _ := tree.(map[string]any)
	if node == nil && value == nil {
		return tree
	}
	changed := make(map[string]any, len(node)+1)
	maps.Copy(changed, node)
	if changed[keys[0]] = with(node[keys[0]], keys[1:], value); changed[keys[0]] == nil {
		delete(changed, keys[0])
	}
	return changed
}

// same tells whether two trees are equal, but for keys that are null.
func same(a, b any) bool { return reflect.DeepEqual(withoutNulls(a), withoutNulls(b)) }

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := make(map[string]any, len(v))
		for k, item := range v {
			if item != nil {
				kept[k] = withoutNulls(item)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, item := range v {
			kept[i] = withoutNulls(item)
		}
		return kept
	}
	return v
}

// size is how much is in a mapping or list.
func size(v any) int {
	switch v := v.(type) {
	case map[string]any:
		n := 0
		for _, item := range v {
			if item != nil {
				n++
			}
		}
		return n
	case []any:
		return len(v)
	}
	return -1
}
