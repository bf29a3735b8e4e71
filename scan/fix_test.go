package scan

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/escape-scanner/escape-scanner/internal/oracle"
)

func equalJSON(t testing.TB, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

// applyFixes makes the fixes as a person would who has only the finding in hand:
// by path and value, on the pod's JSON. Removals go last element first, and a
// volume left without a source gets the API server's default.
func applyFixes(t testing.TB, pod *corev1.Pod, findings []Finding) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	order := slices.Clone(findings)
	slices.SortStableFunc(order, func(a, b Finding) int {
		if a.Fix == nil || b.Fix == nil || a.Fix.Op == b.Fix.Op {
			return comparePaths(b.Field, a.Field)
		}
		if a.Fix.Op == FixSet {
			return -1
		}
		return 1
	})
	for _, f := range order {
		if f.Fix == nil {
			continue
		}
		var value any
		if f.Fix.Op == FixSet {
			if err := json.Unmarshal(f.Fix.Value, &value); err != nil {
				t.Fatalf("%s: %v", f.Field, err)
			}
		}
		doc = edited(t, doc, splitPath(f.Field), f.Fix.Op, value).(map[string]any)
	}
	raw, err = json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	fixed := &corev1.Pod{}
	if err := json.Unmarshal(raw, fixed); err != nil {
		t.Fatal(err)
	}
	oracle.DefaultVolumes(fixed)
	return fixed
}

// comparePaths orders list elements by number.
func comparePaths(a, b string) int {
	x, y := splitPath(a), splitPath(b)
	for i := range min(len(x), len(y)) {
		m, errM := strconv.Atoi(x[i])
		n, errN := strconv.Atoi(y[i])
		if errM == nil && errN == nil && m != n {
			return m - n
		}
		if c := strings.Compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return len(x) - len(y)
}

func splitPath(path string) []string {
	if rest, ok := strings.CutPrefix(path, "metadata.annotations["); ok {
		return []string{"metadata", "annotations", strings.TrimSuffix(rest, "]")}
	}
	var parts []string
	for part := range strings.SplitSeq(path, ".") {
		name, index, ok := strings.Cut(part, "[")
		parts = append(parts, name)
		if ok {
			parts = append(parts, strings.TrimSuffix(index, "]"))
		}
	}
	return parts
}

func edited(t testing.TB, node any, path []string, op FixOp, value any) any {
	t.Helper()
	switch n := node.(type) {
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i >= len(n) {
			t.Fatalf("no element %s in a list of %d", path[0], len(n))
		}
		if len(path) == 1 && op == FixRemove {
			return slices.Delete(n, i, i+1)
		}
		n[i] = edited(t, n[i], path[1:], op, value)
		return n
	case map[string]any:
		if len(path) == 1 {
			if op == FixRemove {
				if _, ok := n[path[0]]; !ok {
					t.Fatalf("%s is not there to be removed", path[0])
				}
				delete(n, path[0])
			} else {
				n[path[0]] = value
			}
			return n
		}
		if n[path[0]] == nil {
			n[path[0]] = map[string]any{}
		}
		n[path[0]] = edited(t, n[path[0]], path[1:], op, value)
		return n
	default:
		t.Fatalf("cannot go to %v in a %T", path, node)
		return nil
	}
}
