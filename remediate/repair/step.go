package repair

import (
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/scan"
)

// step is one change that findings ask for.
type step struct {
	// base is where the pod stands in the object; field is the path from there.
	base  []string
	field string
	keys  []string
	// value is what the field is set to, nil to take it away. now is what it was, by
	// which an element of a list is known whatever its index has become.
	value, now any
	findings   []scan.Finding
}

// stepsFor are the changes that the findings ask for, each once.
func stepsFor(base string, findings []scan.Finding) []step {
	var steps []step
	index := map[string]int{}
	add := func(field string, value, now any, f scan.Finding) {
		key := field + "=" + string(jsonOf(value))
		if at, ok := index[key]; ok {
			steps[at].findings = append(steps[at].findings, f)
			return
		}
		index[key] = len(steps)
		steps = append(steps, step{
			base: manifest.SplitPath(base), field: field, keys: manifest.SplitPath(field),
			value: value, now: now, findings: []scan.Finding{f},
		})
	}
	for _, f := range findings {
		var value any
		if f.Fix.Op == scan.FixSet {
			v, err := decode(f.Fix.Value)
			if err != nil || v == nil {
				continue
			}
			value = v
		}
		now, err := decode(f.Now)
		if err != nil {
			now = nil
		}
		add(f.Field, value, now, f)
		// A profile that is none of a file of the node's has no path to it.
		if profile, ok := strings.CutSuffix(f.Field, "Profile.type"); ok && value != nil {
			add(profile+"Profile.localhostProfile", nil, nil, f)
		}
	}
	return steps
}

// aggravates tells whether nothing but what aggravates another finding asks for it.
func (s *step) aggravates() bool {
	return !slices.ContainsFunc(s.findings, func(f scan.Finding) bool { return f.Category != scan.CategoryEscape || f.Open })
}

func jsonOf(v any) []byte {
	// What was decoded from JSON can be encoded again.
	raw, _ := json.Marshal(v)
	return raw
}

// path is the whole path of the field, with the index that it has by now; ok is false
// when it is not there.
func (s *step) path(tree any) (keys []string, ok bool) {
	keys = slices.Concat(s.base, s.keys)
	last := len(keys) - 1
	parent, _ := lookup(tree, keys[:last])
	list, isList := parent.([]any)
	if !isList {
		_, ok = lookup(tree, keys)
		return keys, ok
	}
	i, err := strconv.Atoi(keys[last])
	if err != nil || i < 0 || i >= len(list) || !reflect.DeepEqual(list[i], s.now) {
		i = slices.IndexFunc(list, func(v any) bool { return reflect.DeepEqual(v, s.now) })
	}
	if i < 0 {
		return keys, false
	}
	keys[last] = strconv.Itoa(i)
	return keys, true
}

// done tells whether nothing is left to do.
func (s *step) done(tree any) bool {
	keys, ok := s.path(tree)
	if s.value == nil {
		return !ok
	}
	have, _ := lookup(tree, keys)
	return ok && reflect.DeepEqual(have, s.value)
}

// way is one way to make the change: in the text, and in the object.
type way struct {
	manifest.Change
	object func(tree any) any
}

// ways lists how the change can be made, the best first.
func (s *step) ways(tree any) []way {
	keys, _ := s.path(tree)
	if s.value != nil {
		w := way{
			Change: manifest.Change{Field: s.named(keys), Value: jsonOf(s.value)},
			object: func(tree any) any { return with(tree, keys, s.value) },
		}
		beside := w
		beside.Here = true
		return []way{w, beside}
	}
	if w, ok := s.emptyDir(tree, keys); ok {
		return []way{w}
	}
	var all []way
	for _, n := range s.emptied(tree, keys) {
		above := keys[:n]
		all = append(all, way{
			Change: manifest.Change{Field: s.named(above)},
			object: func(tree any) any { return with(tree, above, nil) },
		})
	}
	return all
}

// named is a path from the root of the pod as text.
func (s *step) named(keys []string) string {
	var b strings.Builder
	for i, key := range keys[len(s.base):] {
		_, err := strconv.Atoi(key)
		switch {
		case err == nil || strings.ContainsAny(key, ".["):
			b.WriteString("[" + key + "]")
		case i > 0:
			b.WriteString("." + key)
		default:
			b.WriteString(key)
		}
	}
	return b.String()
}

// emptyDir is the way to take away the source of a volume: what the API server makes
// of a volume without one is written out.
func (s *step) emptyDir(tree any, keys []string) (way, bool) {
	k := keys[len(s.base):]
	if len(k) != 4 || k[0] != "spec" || k[1] != "volumes" {
		return way{}, false
	}
	volume, _ := lookup(tree, keys[:len(keys)-1])
	entries, _ := volume.(map[string]any)
	for name := range entries {
		if name != "name" && name != k[3] {
			return way{}, false
		}
	}
	return way{
		Change: manifest.Change{Field: s.named(keys), Key: "emptyDir", Value: json.RawMessage("{}")},
		object: func(tree any) any {
			tree = with(tree, keys, nil)
			return with(tree, append(slices.Clone(keys[:len(keys)-1]), "emptyDir"), map[string]any{})
		},
	}, true
}

// emptied gives the lengths of the paths that may be taken away: what is left empty
// and says nothing goes as well, where it can.
func (s *step) emptied(tree any, keys []string) []int {
	lengths := []int{len(keys)}
	for n := len(keys) - 1; n > len(s.base); n-- {
		parent, _ := lookup(tree, keys[:n])
		if size(parent) != 1 || !s.saysNothing(tree, keys[:n]) {
			break
		}
		lengths = append(lengths, n)
	}
	slices.Reverse(lengths)
	return lengths
}

// saysNothing tells whether a mapping or list is as good as absent when it is empty.
func (s *step) saysNothing(tree any, keys []string) bool {
	switch keys[len(keys)-1] {
	case "add", "sysctls", "capabilities", "securityContext":
		return true
	case "seLinuxOptions", "windowsOptions":
		// Those of a container, empty or not, stand in the place of the pod's.
		_, ofPod := lookup(tree, slices.Concat(s.base, []string{"spec", "securityContext", keys[len(keys)-1]}))
		return !ofPod || len(keys) == len(s.base)+3
	}
	return false
}
