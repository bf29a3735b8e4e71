package charttest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the table of values in the chart's README anew")

// The README's table says what values.yaml says.
func TestReadmeHasTheValues(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(Chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	table.WriteString("| value | default | what |\n|---|---|---|\n")
	if err := writeValues(&table, "", document.Content[0]); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(Chart, "README.md")
	readme, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- values: written by make golden -->\n", "<!-- end of values -->"
	before, rest, ok := strings.Cut(string(readme), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the values", file)
	}
	want := before + begin + table.String() + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(readme) != want {
		t.Errorf(`%s does not have the values as they are: run "make golden"`, file)
	}
}

// writeValues writes a line for each value below a mapping. What has a comment that begins
// with "--" is told as a whole.
func writeValues(table *bytes.Buffer, path string, mapping *yaml.Node) error {
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name := path + key.Value
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && !strings.HasSuffix(name, ".resources") {
			if what := told(key); what != "" {
				fmt.Fprintf(table, "| **%s** | | %s |\n", name, what)
			}
			if err := writeValues(table, name+".", value); err != nil {
				return err
			}
			continue
		}
		shown, err := inline(value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", name, shown, told(key))
	}
	return nil
}

// told is the comment over a key, from its last paragraph on.
func told(key *yaml.Node) string {
	paragraphs := strings.Split(key.HeadComment, "\n\n")
	var words []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		words = append(words, strings.Fields(strings.TrimLeft(line, "# "))...)
	}
	text := strings.Join(words, " ")
	if _, after, ok := strings.Cut(text, "-- "); ok {
		text = after
	}
	return strings.ReplaceAll(text, "|", `\|`)
}

// inline is a value on one line.
func inline(value *yaml.Node) (string, error) {
	v := *value
	v.HeadComment, v.LineComment, v.FootComment = "", "", ""
	flow(&v)
	text, err := yaml.Marshal(&v)
	return strings.TrimSpace(string(text)), err
}

func flow(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		// What is quoted there has to be: off is no string in YAML.
		n.Style &= yaml.DoubleQuotedStyle
	} else {
		n.Style = yaml.FlowStyle
	}
	for _, below := range n.Content {
		flow(below)
	}
}
