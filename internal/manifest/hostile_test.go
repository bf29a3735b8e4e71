package manifest_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
)

// bomb is a document of nested aliases that would expand to width^depth values.
func bomb(width, depth int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Pod\na0: &a0 [lol]\n")
	for i := 1; i <= depth; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), width), ","))
	}
	return b.String()
}

func TestHostileDocumentsFailAndTheRestGoesOn(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want string
	}{
		"bomb of lists":       {bomb(9, 9), "4: invalid: line 4: aliases expand to more than 8 MiB"},
		"bomb of text":        {"apiVersion: v1\nkind: Pod\na: &a " + strings.Repeat("x", 1<<20) + "\nb: [" + strings.Repeat("*a,", 10_000) + "]\n", "3: invalid: line 3: aliases expand to more than 8 MiB"},
		"bomb of merges":      {"apiVersion: v1\nkind: Pod\na: &a {" + keys(1000) + "}\nb:\n" + strings.Repeat("- {<<: ["+strings.Repeat("*a,", 100)+"]}\n", 1000), "…"},
		"bomb of items":       {"apiVersion: v1\nkind: List\na: &a [" + strings.Repeat("x,", 1000) + "]\nb: &b [" + strings.Repeat("{apiVersion: v1, kind: List, items: *a},", 100) + "]\nc: &c {apiVersion: v1, kind: List, items: *b}\nitems: [" + strings.Repeat("*c,", 1000) + "]\n", "…"},
		"bomb with tags":      {bomb(9, 9) + "z: !!str 1\n", "4: invalid: line 4: aliases expand to more than 8 MiB"},
		"bomb of merge chain": {mergeChain(40), "…"},
		"deep flow":           {"a: " + strings.Repeat("[", 1_000_000), "1: invalid: line 1: is not valid YAML: …"},
		"deep block":          {strings.Repeat("- ", 20_000) + "a", "1: invalid: …"},
		"deep mapping":        {"apiVersion: v1\nkind: Pod\na: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000), "3: invalid: line 3: nested deeper than 1000 levels…"},
		"deep json":           {strings.Repeat(`{"a":`, 1_000_000), "1: invalid: line 1: nested deeper than 1000 levels"},
		"deep json lists":     {strings.Repeat("[", 1_000_000), "1: invalid: line 1: nested deeper than 1000 levels"},
		"many values":         {"a: [" + strings.Repeat("1,", 4<<20) + "]\n", "1: invalid: line 1: holds more than 1048576 values"},
		"binary":              {"\x7fELF\x02\x01\x01\x00\x00\xff\xfe\n\x00\x01", "1: invalid: line 1: contains a NUL byte…"},
		"binary with braces":  {"\x7fELF\x02{{\x00\x01", "1: invalid: line 1: contains a NUL byte: not a text file, or not UTF-8"},
		"latin1 with braces":  {"a: {{ caf\xe9 }}", "1: invalid: line 1: is not valid UTF-8"},
		"one long line":       {strings.Repeat("x", 50<<20), "1: too large: line 1: the document is larger than 33554432 bytes"},
		"long json":           {`{"a":"` + strings.Repeat("x", 50<<20) + `"}`, "1: too large: line 1: the document is larger than 33554432 bytes"},
		"many comments":       {strings.Repeat("# x\n", 500_000) + "a: [\n", "500003: invalid: …"},
		"many keys":           {"apiVersion: v1\nkind: Pod\n" + strings.ReplaceAll(keys(100_000), ", ", "\n") + "\nk7: x\n", "100003: invalid: line 100003: key \"k7\" stands twice in one mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			got := records(t, tc.in+"\n---\n"+pod)
			if len(got) < 2 || !strings.HasSuffix(got[len(got)-1], "-/Pod/p") {
				t.Fatalf("the pod behind it was not judged: %d records, the last %q", len(got), got[len(got)-1])
			}
			expect(t, []string{got[len(got)-2]}, []string{tc.want})
			if !strings.Contains(got[len(got)-2], "invalid") && !strings.Contains(got[len(got)-2], "too large") {
				t.Errorf("no failure: %s", got[len(got)-2])
			}
		})
	}
}

// keys is n entries of a mapping in flow style.
func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1, ", i)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// mergeChain is a mapping that merges one twice that merges one twice, and so on.
func mergeChain(n int) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Pod\na0: &a0 {x: 1}\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "a%d: &a%d {<<: [*a%d, *a%d]}\n", i, i, i-1, i-1)
	}
	return b.String()
}

// Every item refers to the one before it, which cannot be had without reading the
// List from its beginning. That is done only so often.
func TestAnchorsThroughoutAListCostNoMoreThanADocument(t *testing.T) {
	text := "kind: List\nitems:\n" + strings.Repeat("- &a {apiVersion: v1, kind: X}\n- *a\n", 300)
	got := recordsOf(t, manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text), Limit: 64 << 10})
	if len(got) != 600 {
		t.Fatalf("%d records", len(got))
	}
	expect(t, []string{got[0], got[1], got[599]}, []string{
		"3: skipped: no pod template", "3: skipped: no pod template",
		"602: invalid: line 602: refers to anchors in too much of the List before it",
	})
}

// A large document among small ones is passed by without being held.
func TestMemoryDoesNotGrowWithALargeDocument(t *testing.T) {
	line := []byte("  k: " + strings.Repeat("v", 1000) + "\n")
	lines := 0
	huge := readerFunc(func(p []byte) (int, error) {
		if lines == 200_000 {
			return 0, io.EOF
		}
		lines++
		return copy(p, line), nil
	})
	in := manifest.Inputs{
		Paths: []string{"-"}, Limit: 1 << 20,
		Stdin: io.MultiReader(strings.NewReader(pod+"---\na:\n"), huge, strings.NewReader("---\n"+pod)),
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got := recordsOf(t, in)
	runtime.ReadMemStats(&after)
	expect(t, got, []string{"1: -/Pod/p", "6: too large: line 6: the document is larger than 1048576 bytes", "200008: -/Pod/p"})
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 64<<20 {
		t.Errorf("%d MiB allocated for a document of 200 MiB", allocated>>20)
	}
}

func TestFilesOverTenMiBAreRead(t *testing.T) {
	item := "- apiVersion: v1\n  kind: Pod\n  metadata: {name: p}\n  spec: {containers: []}\n  x: " + strings.Repeat("y", 10_000) + "\n"
	jsonItem := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{},"x":"` + strings.Repeat("y", 10_000) + `"}`
	const n = 1100
	for name, text := range map[string]string{
		"documents":      strings.Repeat(pod+"x: "+strings.Repeat("y", 10_000)+"\n---\n", n),
		"list":           "apiVersion: v1\nitems:\n" + strings.Repeat(item, n) + "kind: List\n",
		"list in json":   `{"apiVersion":"v1","items":[` + strings.Repeat(jsonItem+",\n", n-1) + jsonItem + `],"kind":"List"}`,
		"json documents": strings.Repeat(jsonItem, n),
	} {
		t.Run(name, func(t *testing.T) {
			if len(text) < 10<<20 {
				t.Fatal("the text is too short for this test")
			}
			count := 0
			err := manifest.Each(t.Context(), manifest.Inputs{Paths: []string{"-"}, Stdin: strings.NewReader(text), Limit: 64 << 10},
				func(*manifest.Document) int { return 0 },
				func(r manifest.Record[int]) error {
					if r.Document == nil {
						t.Errorf("%d: %v", r.Line, r.Failure)
					}
					count++
					return nil
				})
			if err != nil || count != n {
				t.Errorf("%d records, error %v", count, err)
			}
		})
	}
}

func TestMemoryIsFlat(t *testing.T) {
	small, large := peakHeap(t, 100), peakHeap(t, 1000)
	if large > small+8<<20 {
		t.Errorf("%d MiB in use with 100 documents, %d MiB with 1000", small>>20, large>>20)
	}
}
