package manifest_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	yamlv2 "go.yaml.in/yaml/v2"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// FuzzEach checks that nothing panics and that nothing hides: what an ordinary
// parser finds in the whole text, Each finds as well or fails on.
func FuzzEach(f *testing.F) {
	item := "- apiVersion: v1\n  kind: Pod\n  spec: &s {containers: []}\n"
	for _, text := range []string{
		pod, pod + "---\n" + pod, "%YAML 1.1\n---\n" + pod + "...\n" + pod, deploymentText(1) + "---\n" + serviceText(2),
		"apiVersion: v1\nkind: List\nitems:\n" + item + item, "apiVersion: v1\nitems:\n" + item + "- apiVersion: v1\n  kind: Pod\n  spec: *s\nkind: List\n",
		`{"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Pod","spec":{}},{"apiVersion":"v1","kind":"Pod","spec":{}}],"kind":"List"}`,
		`{"apiVersion":"v1","kind":"PodList","items":[{"spec":{}}]}{"a":"\"}"} # x` + "\n---\n" + pod,
		"{apiVersion: v1, kind: Pod, spec: {containers: ['}']}}\n", "{\"a\": [\n---\n" + pod, "\"\n---\n" + pod, "a: \"\n- b: c\n\"\n",
		"\ufeff" + pod + "\ufeff---\n" + pod, strings.ReplaceAll(pod, "\n", "\r\n"), strings.ReplaceAll(pod+"---\n"+pod, "\n", "\r"),
		"items:\n- |\n  apiVersion: v1\n  kind: Pod\n- x\n", "a: |\n  ---\n  b\n", bomb(9, 9), "{{ if x }}\n" + pod + "{{ end }}\n",
		"x: 'a\n\nitems:\n- apiVersion: v1\n  kind: Pod\n'\n", "--- \"\nitems:\n- apiVersion: v1\n  kind: Pod\n\"\n", "  a: b\n" + pod, "[]\n" + pod,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		judged, failed := 0, 0
		err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: bytes.NewReader(text)},
			func(d *manifest.Document) bool { return d.Spec != nil && d.Meta != nil },
			func(r manifest.Record[bool]) error {
				is := 0
				if r.Document != nil && r.Value {
					judged++
					is++
				}
				if r.Failure != nil {
					failed++
					is++
				}
				if r.Skipped != "" {
					is++
				}
				if is != 1 {
					t.Errorf("not exactly one of judged, failed and skipped: %+v", r)
				}
				return nil
			})
		if err != nil {
			t.Fatal(err)
		}
		pods, sound := podsByV2(text)
		if failed == 0 && judged < pods {
			t.Errorf("%d pods in the text, %d judged, and no failure", pods, judged)
		}
		if failed == 0 && !sound {
			t.Error("no failure in a text that is not YAML")
		}
	})
}

// podsByV2 counts the pods of a text with the library of kubectl, Lists included,
// and tells whether all of it could be parsed.
func podsByV2(text []byte) (pods int, sound bool) {
	dec := yamlv2.NewDecoder(bytes.NewReader(text))
	for {
		var doc struct {
			APIVersion any `yaml:"apiVersion"`
			Kind       any `yaml:"kind"`
			Spec       any `yaml:"spec"`
			Items      any `yaml:"items"`
		}
		err := dec.Decode(&doc)
		var typed *yamlv2.TypeError
		switch {
		case errors.Is(err, io.EOF):
			return pods, true
		case errors.As(err, &typed):
			continue
		case err != nil:
			// Values of JSON one behind the other are fine, which YAML does not take,
			// and so are a line that is blank but for a tab, and the end of nothing.
			return pods, bytes.ContainsAny(text, "{[\t") || bytes.Contains(text, []byte("..."))
		}
		pods += countPods(map[any]any{"apiVersion": doc.APIVersion, "kind": doc.Kind, "spec": doc.Spec, "items": doc.Items})
	}
}

func countPods(v any) int {
	m, ok := v.(map[any]any)
	if !ok {
		return 0
	}
	switch m["kind"] {
	case "Pod":
		if spec, ok := m["spec"].(map[any]any); ok && spec != nil && m["apiVersion"] == "v1" {
			return 1
		}
	case "List":
		n := 0
		items, _ := m["items"].([]any)
		for _, item := range items {
			n += countPods(item)
		}
		return n
	}
	return 0
}
