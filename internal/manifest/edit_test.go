package manifest_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// editors opens the documents of a text.
func editors(t *testing.T, text manifest.Text) []*manifest.Editor {
	t.Helper()
	var all []*manifest.Editor
	open := func(d *manifest.Document) *manifest.Editor {
		e, err := d.Edit()
		if err != nil {
			return nil
		}
		return e
	}
	err := manifest.Each(t.Context(), text.Inputs(), open, func(r manifest.Record[*manifest.Editor]) error {
		if r.Value != nil {
			all = append(all, r.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEdit(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n"
	const tail = "  containers: [{name: a, image: a}]\n"
	for name, test := range map[string]struct {
		spec, field, value, key string
		here                    bool
		want, fails             string
	}{
		"a value keeps its comment":         {spec: "  hostPID: true # x\n", field: "spec.hostPID", value: "false", want: "  hostPID: false # x\n"},
		"a value keeps its anchor":          {spec: "  hostPID: &x true\n", field: "spec.hostPID", value: "false", want: "  hostPID: &x false\n"},
		"a value keeps its quotes":          {spec: "  hostname: 'it''s'\n", field: "spec.hostname", value: `"a"`, want: "  hostname: 'a'\n"},
		"a word that would be a truth":      {spec: "  hostname: x\n", field: "spec.hostname", value: `"yes"`, want: "  hostname: \"yes\"\n"},
		"a word that would be a number":     {spec: "  hostname: x\n", field: "spec.hostname", value: `"0x10"`, want: "  hostname: \"0x10\"\n"},
		"a block scalar":                    {spec: "  hostname: |-\n    # x\n    y\n  # z\n", field: "spec.hostname", value: `"a"`, want: "  hostname: a\n  # z\n"},
		"a value over two lines":            {spec: "  hostname: a\n    b # x\n", field: "spec.hostname", value: `"a"`, want: "  hostname: a # x\n"},
		"a null":                            {spec: "  hostPID:\n", field: "spec.hostPID", value: "false", want: "  hostPID: false\n"},
		"a null with a comment":             {spec: "  hostPID: # x\n", field: "spec.hostPID", value: "false", want: "  hostPID: false # x\n"},
		"an alias":                          {spec: "  hostIPC: &x true\n  hostPID: *x\n", field: "spec.hostPID", value: "false", want: "  hostIPC: &x true\n  hostPID: false\n"},
		"a tag":                             {spec: "  hostname: !!str 5\n", field: "spec.hostname", value: `"a"`, want: "  hostname: !!str a\n"},
		"what is above a key goes with it":  {spec: "  # a\n\n  # b\n  hostPID: true # c\n    # d\n  # e\n", field: "spec.hostPID", want: "  # a\n\n  # e\n"},
		"a comment of another column stays": {spec: "    # a\n  hostPID: true\n", field: "spec.hostPID", want: "    # a\n"},
		"the end of a kept scalar stays":    {spec: "  hostname: |+\n    a\n    # b\n\n  hostPID: true\n", field: "spec.hostPID", want: "  hostname: |+\n    a\n    # b\n\n"},
		"the only entry":                    {spec: "  securityContext: # a\n    # b\n    runAsUser: 0 # c\n", field: "spec.securityContext.runAsUser", want: "  securityContext: {} # a\n"},
		"an item of a block":                {spec: "  tolerations:\n  # a\n  - key: a\n  # b\n  - key: b\n", field: "spec.tolerations[1]", want: "  tolerations:\n  # a\n  - key: a\n"},
		"the first key behind a dash":       {spec: "  tolerations:\n  - key: a\n    operator: Exists\n", field: "spec.tolerations[0].key", want: "  tolerations:\n  - operator: Exists\n"},
		"a comment behind the first key":    {spec: "  tolerations:\n  - key: a\n    # b\n    operator: Exists\n", field: "spec.tolerations[0].key", want: "  tolerations:\n  -\n    # b\n    operator: Exists\n"},
		"the first in brackets":             {spec: "  dnsConfig: {searches: [a, b], nameservers: [c]}\n", field: "spec.dnsConfig.searches[0]", want: "  dnsConfig: {searches: [b], nameservers: [c]}\n"},
		"the last in brackets":              {spec: "  dnsConfig: {searches: [a, b], nameservers: [c]}\n", field: "spec.dnsConfig.nameservers", want: "  dnsConfig: {searches: [a, b]}\n"},
		"the only one in brackets":          {spec: "  dnsConfig: {nameservers: [ c, ]}\n", field: "spec.dnsConfig.nameservers[0]", want: "  dnsConfig: {nameservers: []}\n"},
		"brackets in quotes":                {spec: "  dnsConfig: {searches: ['],', \"}\\\"\"], nameservers: [c]}\n", field: "spec.dnsConfig.searches", want: "  dnsConfig: {nameservers: [c]}\n"},
		"another name":                      {spec: "  # a\n  dnsConfig: # b\n    searches: [a]\n", field: "spec.dnsConfig", key: "securityContext", value: "{}", want: "  securityContext: {}\n"},
		"what is missing above":             {spec: "  hostPID: true\n", field: "spec.securityContext.seccompProfile.type", value: `"RuntimeDefault"`, want: "  hostPID: true\n  securityContext:\n    seccompProfile:\n      type: RuntimeDefault\n"},
		"beside an alias":                   {spec: "  securityContext: *x\n  dnsConfig: &y {}\n", field: "spec.securityContext.runAsUser", value: "1", fails: "unknown anchor"},
		"not there":                         {spec: "  hostPID: true\n", field: "spec.hostIPC", fails: "not written in the file"},
		"no such element":                   {spec: "  tolerations: []\n", field: "spec.tolerations[3].key", fails: "no element 3"},
		"through a scalar":                  {spec: "  hostname: a\n", field: "spec.hostname.b", value: "1", fails: "neither a mapping nor a list"},
		"a key that is none":                {spec: "  ? hostPID\n  : true\n", field: "spec.hostPID", value: "false", fails: "no plain one"},
		"an anchor in use": {spec: "  securityContext:\n    runAsUser: &x 5\n    runAsGroup: *x\n", field: "spec.securityContext.runAsUser",
			fails: "an anchor that is used elsewhere"},
		"through a merge key": {spec: "  securityContext: &x {runAsUser: 5}\n  dnsConfig: {<<: *x}\n", field: "spec.dnsConfig.runAsUser", fails: "merge key"},
		"of its own": {spec: "  dnsConfig: &x {runAsUser: 5}\n  securityContext: *x\n", field: "spec.securityContext.runAsUser", value: "6", here: true,
			want: "  dnsConfig: &x {runAsUser: 5}\n  securityContext: {<<: *x, runAsUser: 6}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := manifest.Change{Field: test.field, Key: test.key, Here: test.here}
			if test.value != "" {
				c.Value = json.RawMessage(test.value)
			}
			for _, eol := range []string{"\n", "\r\n"} {
				all := editors(t, manifest.Text{File: "x", Data: []byte(strings.ReplaceAll(head+test.spec+tail, "\n", eol))})
				if len(all) != 1 {
					if test.fails == "unknown anchor" {
						return
					}
					t.Fatal("no document")
				}
				e, err := all[0].Apply(c)
				if test.fails != "" {
					if err == nil || !strings.Contains(err.Error(), test.fails) {
						t.Fatalf("error %v, want %q", err, test.fails)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, want := string(e.Text()), strings.ReplaceAll(head+test.want+tail, "\n", eol); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			}
		})
	}
}

// FuzzEdit changes one field after another of any text, and checks that nothing but the
// field has changed, and that the edits make the new text of the old one.
func FuzzEdit(f *testing.F) {
	root := filepath.Join("..", "..", "testdata", "repair")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, choice := range []uint64{1, 77, 4242} {
			f.Add(data, choice)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, choice uint64) {
		for _, e := range editors(t, manifest.Text{File: "x", Data: data}) {
			original := string(e.Text())
			for range 4 {
				next, c := changeSome(t, e, &choice)
				if next == nil {
					continue
				}
				if got := applied(original, next.Edits()); got != string(next.Text()) {
					t.Fatalf("%+v: the edits %+v make\n%q\nand not\n%q", c, next.Edits(), got, next.Text())
				}
				e = next
			}
		}
	})
}

func applied(text string, edits []manifest.Edit) string {
	for _, e := range slices.Backward(edits) {
		text = text[:e.Start] + e.Text + text[e.End:]
	}
	return text
}

// changeSome makes some change, and checks the object.
func changeSome(t *testing.T, e *manifest.Editor, choice *uint64) (*manifest.Editor, manifest.Change) {
	draw := func(n int) int {
		*choice = *choice*6364136223846793005 + 1442695040888963407
		return int(*choice >> 33 % uint64(n))
	}
	var before any
	if err := json.Unmarshal(e.Object(), &before); err != nil {
		t.Fatal(err)
	}
	prefix := manifest.SplitPath(e.Document().TemplatePath)
	pod := at(before, prefix)
	paths := pathsOf(pod, nil)
	if len(paths) == 0 {
		return nil, manifest.Change{}
	}
	path := paths[draw(len(paths))]
	values := []string{"", "", "false", "7", `"RuntimeDefault"`, `["ALL","x y"]`, "{}", `"a: b"`}
	c := manifest.Change{Here: draw(4) == 0}
	if v := values[draw(len(values))]; v != "" {
		c.Value = json.RawMessage(v)
		if _, isMap := at(pod, path).(map[string]any); isMap && draw(2) == 0 {
			path = append(slices.Clone(path), "zNew", "zDeep")[:len(path)+1+draw(2)]
		}
	}
	c.Field = fieldOf(path)
	next, err := e.Apply(c)
	if err != nil {
		return nil, c
	}
	var after, value any
	if err := json.Unmarshal(next.Object(), &after); err != nil {
		t.Fatal(err)
	}
	if c.Value != nil {
		if err := json.Unmarshal(c.Value, &value); err != nil {
			t.Fatal(err)
		}
	}
	shared := strings.Contains(string(e.Text()), "*")
	if want := changed(before, slices.Concat(prefix, path), value); !shared && !reflect.DeepEqual(want, after) {
		t.Fatalf("%+v of\n%s\nmade\n%s", c, e.Text(), next.Text())
	}
	return next, c
}

// pathsOf lists the paths below a value that a field's name can tell.
func pathsOf(v any, path []string) [][]string {
	var all [][]string
	if len(path) > 0 {
		all = append(all, slices.Clone(path))
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if _, err := strconv.Atoi(key); err != nil && key != "" && !strings.ContainsAny(key, "[]") {
				all = append(all, pathsOf(v[key], append(slices.Clip(path), key))...)
			}
		}
	case []any:
		for i := range v {
			all = append(all, pathsOf(v[i], append(slices.Clip(path), fmt.Sprint(i)))...)
		}
	}
	return all
}

func fieldOf(path []string) string {
	var b strings.Builder
	for _, key := range path {
		_, err := strconv.Atoi(key)
		switch {
		case err == nil || strings.Contains(key, "."):
			b.WriteString("[" + key + "]")
		case b.Len() > 0:
			b.WriteString("." + key)
		default:
			b.WriteString(key)
		}
	}
	return b.String()
}

func at(v any, path []string) any {
	for _, key := range path {
		switch node := v.(type) {
		case map[string]any:
			v = node[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

// changed is a value with another at a path; nil takes away what is there.
func changed(v any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	if list, ok := v.([]any); ok {
		i, _ := strconv.Atoi(path[0])
		list = slices.Clone(list)
		if len(path) == 1 && value == nil {
			return slices.Delete(list, i, i+1)
		}
		list[i] = changed(list[i], path[1:], value)
		return list
	}
	node, _ := v.(map[string]any)
	node = maps.Clone(node)
	if node == nil {
		node = map[string]any{}
	}
	if len(path) == 1 && value == nil {
		delete(node, path[0])
		return node
	}
	node[path[0]] = changed(node[path[0]], path[1:], value)
	return node
}
