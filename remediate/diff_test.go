package remediate

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	many := "spec: {a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9, j: 10, k: 11, l: 12"
	for _, test := range []struct {
		name          string
		before, after *unstructured.Unstructured
		want          string
	}{
		{"nothing", nil, nil, ""},
		{"alike", object(t, "spec: {a: 1}"), object(t, "spec: {a: 1}"), ""},
		{"made", nil, object(t, "spec: {a: 1}"), "@@ -0,0 +1,6 @@\n+apiVersion: v1\n+kind: Thing\n+metadata:\n+  name: a\n+spec:\n+  a: 1\n"},
		{"gone", object(t, "spec: {a: 1}"), nil, "@@ -1,6 +0,0 @@\n-apiVersion: v1\n-kind: Thing\n-metadata:\n-  name: a\n-spec:\n-  a: 1\n"},
		{"a value", object(t, many+"}"), object(t, strings.Replace(many, "f: 6", "f: 0", 1)+"}"),
			"@@ -8,7 +8,7 @@\n   c: 3\n   d: 4\n   e: 5\n-  f: 6\n+  f: 0\n   g: 7\n   h: 8\n   i: 9\n"},
		{"two places", object(t, many+"}"), object(t, strings.Replace(many, "a: 1,", "", 1)+", m: 13}"),
			"@@ -3,7 +3,6 @@\n metadata:\n   name: a\n spec:\n-  a: 1\n   b: 2\n   c: 3\n   d: 4\n@@ -15,3 +14,4 @@\n   j: 10\n   k: 11\n   l: 12\n+  m: 13\n"},
		{"what only the server writes", object(t, "status: {x: 1}"), object(t, "status: {x: 2}"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got strings.Builder
			for _, line := range Diff(test.before, test.after) {
				text, err := line.MarshalText()
				if err != nil {
					t.Fatal(err)
				}
				got.Write(append(text, '\n'))
			}
			if got.String() != test.want {
				t.Errorf("got\n%s\nwant\n%s", got.String(), test.want)
			}
		})
	}
}

func TestLineAsJSON(t *testing.T) {
	t.Parallel()
	lines := []Line{{'+', "  a: \"b\""}, {' ', ""}, {'@', "@ -1 +1 @@"}}
	text, err := json.Marshal(lines)
	if err != nil || string(text) != `["+  a: \"b\""," ","@@ -1 +1 @@"]` {
		t.Fatalf("%s: %v", text, err)
	}
	var again []Line
	if err := json.Unmarshal(text, &again); err != nil || len(again) != 3 || again[0] != lines[0] || again[2] != lines[2] {
		t.Errorf("%+v: %v", again, err)
	}
	for _, wrong := range []string{`[""]`, `["x"]`} {
		if err := json.Unmarshal([]byte(wrong), &again); err == nil {
			t.Errorf("%s was taken for lines", wrong)
		}
	}
}
