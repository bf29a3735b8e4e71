package remediate

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	content, err := yaml.YAMLToJSON([]byte("{apiVersion: v1, kind: Thing, metadata: {name: a}, " + text + "}"))
	u := &unstructured.Unstructured{}
	if err == nil {
		err = u.UnmarshalJSON(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// What was noted before a change brings the object back, and leaves alone what others
// have done since.
func TestCaptureAndRestore(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, before, config, after, want string }{
		{"a value", "spec: {a: 1}", "spec: {a: 2}", "spec: {a: 2}", "spec: {a: 1}"},
		{"a field", "spec: {a: 1}", "spec: {b: 2}", "spec: {a: 1, b: 2}", "spec: {a: 1}"},
		{"a map and its fields", "spec: {}", "spec: {m: {x: 1, v: {z: 2}}}", "spec: {m: {x: 1, v: {z: 2}}}", "spec: {}"},
		{"a map that others put into", "spec: {}", "spec: {m: {x: 1}}", "spec: {m: {x: 1, theirs: 3}}", "spec: {m: {theirs: 3}}"},
		{"a map that was empty", "spec: {m: {}}", "spec: {m: {x: 1}}", "spec: {m: {x: 1}}", "spec: {m: {}}"},
		{"a map in place of a value", "spec: {m: 1}", "spec: {m: {x: 1}}", "spec: {m: {x: 1}}", "spec: {m: 1}"},
		{"a value in place of a map", "spec: {m: {x: 1, v: 2}}", "spec: {m: 1}", "spec: {m: 1}", "spec: {m: {x: 1, v: 2}}"},
		{"a list", "spec: {l: [1, {a: b}]}", "spec: {l: [2]}", "spec: {l: [2]}", "spec: {l: [1, {a: b}]}"},
		{"null, false and nothing", "spec: {o: null, f: false, e: ''}", "spec: {o: 1, f: true, e: x}", "spec: {o: 1, f: true, e: x}", "spec: {o: null, f: false, e: ''}"},
		{"what others changed beside", "spec: {a: 1, b: 1}", "spec: {a: 2}", "spec: {a: 2, b: 3}", "spec: {a: 1, b: 3}"},
		{"what others changed of ours", "spec: {a: 1}", "spec: {a: 2}", "spec: {a: 3}", "spec: {a: 1}"},
		{"what others took away", "spec: {a: 1}", "spec: {a: 2}", "spec: {}", "spec: {a: 1}"},
		{"no labels before", "spec: {}", "metadata: {name: a, labels: {x: y}}", "metadata: {name: a, labels: {x: y}}, spec: {}", "spec: {}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			noted := capture(object(t, test.before).Object, configured(object(t, test.config)))
			got := restore(object(t, test.after), noted)
			if want := object(t, test.want); !reflect.DeepEqual(got, want) {
				t.Errorf("restored to %v, want %v, by %+v", got.Object, want.Object, noted)
			}
		})
	}
}

// What was noted first is what counts, field by field.
func TestAddBefore(t *testing.T) {
	t.Parallel()
	first := capture(object(t, "spec: {a: 1, m: {x: 1}}").Object, []fieldPath{{"spec", "a"}, {"spec", "m"}, {"spec", "o", "p"}})
	more := capture(object(t, "spec: {a: 2, b: 2, m: {x: 2}, o: {p: 2, q: 3}}").Object,
		[]fieldPath{{"spec", "a"}, {"spec", "b"}, {"spec", "m", "x"}, {"spec", "o", "p"}, {"spec", "o", "q"}})
	got := restore(object(t, "spec: {a: 9, b: 9, m: 9, o: {p: 9, q: 9}}"), addBefore(first, more))
	if want := object(t, "spec: {a: 1, b: 2, m: {x: 1}, o: {q: 3}}"); !reflect.DeepEqual(got, want) {
		t.Errorf("restored to %v, want %v", got.Object, want.Object)
	}
}

func TestTouchable(t *testing.T) {
	t.Parallel()
	namespace, policy := Ref{APIVersion: "v1", Kind: "Namespace", Name: "a"}, Ref{APIVersion: "kyverno.io/v1", Kind: "Policy", Namespace: "a", Name: "b"}
	for _, test := range []struct {
		ref  Ref
		path fieldPath
		want bool
	}{
		{namespace, fieldPath{"metadata", "labels"}, false},
		{namespace, fieldPath{"metadata", "labels", "pod-security.kubernetes.io/warn"}, true},
		{namespace, fieldPath{"metadata", "labels", "escape-scanner.github.io/set"}, true},
		{namespace, fieldPath{"metadata", "labels", "team"}, false},
		{namespace, fieldPath{"metadata", "labels", "pod-security.kubernetes.io/warn", "x"}, false},
		{namespace, fieldPath{"metadata"}, false},
		{namespace, fieldPath{"metadata", "annotations", "a"}, false},
		{namespace, fieldPath{"spec", "finalizers"}, false},
		{policy, fieldPath{"spec"}, true},
		{policy, fieldPath{"spec", "rules"}, true},
		{policy, fieldPath{"metadata", "annotations", "a"}, true},
		{policy, fieldPath{"metadata", "finalizers"}, false},
		{policy, fieldPath{"metadata", "ownerReferences"}, false},
		{policy, fieldPath{"metadata"}, false},
		{policy, fieldPath{"status"}, false},
		{policy, nil, false},
	} {
		if got := touchable(test.ref, test.path); got != test.want {
			t.Errorf("%s %s: %v", test.ref, test.path, got)
		}
	}
}
