package repair_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/escape-scanner/escape-scanner/internal/manifest"
	"github.com/escape-scanner/escape-scanner/remediate/repair"
	"github.com/escape-scanner/escape-scanner/scan"
)

// checkLines checks that no line is changed or removed that no repair is on. Where the
// fields stand is asked of the parser, on its own.
func checkLines(t *testing.T, f *repair.File, text manifest.Text) {
	t.Helper()
	if !f.Changed() {
		return
	}
	regions := regionsOf(t, f, text)
	before := strings.SplitAfter(string(f.Before), "\n")
	line, kept := 0, strings.Builder{}
	for _, l := range f.Diff() {
		switch l.Op {
		case '@':
			var from int
			if _, err := fmt.Sscanf(l.Text, "@ -%d,", &from); err != nil {
				t.Fatal(err)
			}
			for ; line < from-1; line++ {
				kept.WriteString(before[line])
			}
		case ' ':
			if got := before[line]; strings.TrimSuffix(got, "\n") != strings.TrimSuffix(l.Text, "\n") {
				t.Errorf("line %d of the diff is %q, not %q", line+1, l.Text, got)
			}
			kept.WriteString(before[line])
			line++
		case '-':
			if !regions[line+1] {
				t.Errorf("line %d is changed, and no repair is on it: %s", line+1, l.Text)
			}
			line++
		case '+':
			kept.WriteString(l.Text)
		}
	}
	for ; line < len(before); line++ {
		kept.WriteString(before[line])
	}
	got := kept.String()
	if !bytes.HasSuffix(f.After, []byte("\n")) {
		got = strings.TrimSuffix(got, "\n")
	}
	if got != string(f.After) {
		t.Errorf("the diff makes another file:\n%s", got)
	}
}

// regionsOf are the lines that the repairs of a file may touch.
func regionsOf(t *testing.T, f *repair.File, text manifest.Text) map[int]bool {
	t.Helper()
	var all []*yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(f.Before))
	for {
		var n yaml.Node
		if err := dec.Decode(&n); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, flatten(&n)...)
	}
	lines := strings.Split(string(f.Before), "\n")
	after := text
	after.Data = f.After
	now := documents(t, after)
	regions := map[int]bool{}
	for i, d := range documents(t, text) {
		for _, finding := range f.Documents[i].Repaired {
			add := func(field string) { addRegion(regions, all, lines, d.Locate(field, "", ""), finding) }
			add(finding.Field)
			if profile, ok := strings.CutSuffix(finding.Field, "Profile.type"); ok {
				add(profile + "Profile.localhostProfile")
			}
			for above := parent(finding.Field); strings.Contains(above, "."); above = parent(above) {
				// What a removal leaves empty goes with it, or is empty then.
				l := now[i].Locate(above, "", "")
				if finding.Fix.Op == scan.FixRemove && (l.Nearest || strings.ContainsAny(strings.Split(string(f.After), "\n")[l.Line-1], "{[")) {
					add(above)
				}
				// What is shared is set beside the alias.
				if l := d.Locate(above, "", ""); !l.Nearest && strings.Contains(lines[l.Line-1], ": *") {
					regions[l.Line] = true
				}
			}
		}
	}
	return regions
}

// parent is the path above a field.
func parent(field string) string { return field[:max(strings.LastIndexAny(field, ".["), 0)] }

func documents(t *testing.T, text manifest.Text) []*manifest.Document {
	t.Helper()
	var all []*manifest.Document
	err := manifest.Each(t.Context(), text.Inputs(), func(*manifest.Document) int { return 0 }, func(rec manifest.Record[int]) error {
		if rec.Document != nil {
			all = append(all, rec.Document)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// flatten lists nodes in the order of the text.
func flatten(n *yaml.Node) []*yaml.Node {
	all := []*yaml.Node{n}
	for _, c := range n.Content {
		all = append(all, flatten(c)...)
	}
	return all
}

// addRegion adds the lines of a field: those of its key and value, the comments
// directly above it, and of what is not there yet the line it is put beside.
func addRegion(regions map[int]bool, all []*yaml.Node, lines []string, at *scan.Location, f scan.Finding) {
	first := -1
	for i, n := range all {
		if n.Line == at.Line && n.Column == at.Column && n.Kind != yaml.DocumentNode {
			first = i
			break
		}
	}
	if first < 0 {
		return
	}
	// The value of a key follows it; an element of a list is its own value.
	value := all[first]
	if value.Kind == yaml.ScalarNode && first+1 < len(all) && !strings.HasSuffix(at.Field, "]") {
		value = all[first+1]
	}
	end := first + 1
	for end < len(all) && all[end] != value && value != all[first] {
		end++
	}
	if value != all[first] {
		end += len(flatten(value))
	} else {
		end = first + len(flatten(value))
	}
	next := len(lines) + 1
	if end < len(all) {
		next = max(all[end].Line, at.Line+1)
	}
	if at.Nearest {
		regions[at.Line] = true
		if value.Style&yaml.FlowStyle != 0 && len(value.Content) > 0 {
			from := value.Content[len(value.Content)-min(2, len(value.Content))].Line
			for line := from; line < next; line++ {
				regions[line] = true
			}
		}
		return
	}
	for line := at.Line; line < next; line++ {
		regions[line] = true
	}
	for line := at.Line - 1; line > 0 && strings.HasPrefix(strings.TrimSpace(lines[line-1]), "#"); line-- {
		regions[line] = true
	}
	before := strings.TrimSpace(string([]rune(lines[at.Line-1])[:at.Column-1]))
	if f.Fix != nil && f.Fix.Op == scan.FixRemove && strings.HasPrefix(before, "-") && end < len(all) {
		regions[all[end].Line] = true
	}
	// Only in JSON does what stands before the last of all lose its comma.
	if strings.HasPrefix(strings.TrimSpace(lines[max(at.Line-2, 0)]), `"`) {
		regions[at.Line-1] = true
	}
}
