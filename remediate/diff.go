package remediate

import (
	"fmt"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// diffContext is how many equal lines stand around what differs.
const diffContext = 3

// Line is a line of a unified diff.
type Line struct {
	// Op is '+' for a line of the new object only, '-' for one of the old only, ' ' for
	// one of both, and '@' for a line that says where in the objects the next ones are.
	Op byte
	// Text has neither the Op nor the end of the line.
	Text string
}

// MarshalText writes the line as it stands in a diff.
func (l Line) MarshalText() ([]byte, error) { return []byte(string(rune(l.Op)) + l.Text), nil }

// UnmarshalText reads a line of a diff.
func (l *Line) UnmarshalText(text []byte) error {
	if len(text) == 0 || !strings.ContainsRune("+- @", rune(text[0])) {
		return fmt.Errorf("%q is no line of a diff", text)
	}
	l.Op, l.Text = text[0], string(text[1:])
	return nil
}

// Diff are the lines of a unified diff of two objects as YAML, without what only the
// server writes. Either may be nil. There are none when nothing differs.
func Diff(before, after *unstructured.Unstructured) []Line {
	a, b := yamlLines(before), yamlLines(after)
	var lines []Line
	for _, group := range difflib.NewMatcher(a, b).GetGroupedOpCodes(diffContext) {
		first, last := group[0], group[len(group)-1]
		lines = append(lines, Line{Op: '@', Text: fmt.Sprintf("@ -%s +%s @@",
			lineRange(first.I1, last.I2), lineRange(first.J1, last.J2))})
		for _, code := range group {
			if code.Tag == 'e' {
				lines = appendLines(lines, ' ', a[code.I1:code.I2])
				continue
			}
			lines = appendLines(lines, '-', a[code.I1:code.I2])
			lines = appendLines(lines, '+', b[code.J1:code.J2])
		}
	}
	return lines
}

func appendLines(lines []Line, op byte, texts []string) []Line {
	for _, text := range texts {
		lines = append(lines, Line{Op: op, Text: text})
	}
	return lines
}

// lineRange is how a unified diff counts lines: from 1, and an empty range stands
// after the line before it.
func lineRange(start, end int) string {
	switch end - start {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprint(start + 1)
	}
	return fmt.Sprintf("%d,%d", start+1, end-start)
}

func yamlLines(object *unstructured.Unstructured) []string {
	if object == nil {
		return nil
	}
	text, err := yaml.Marshal(clean(object).Object)
	if err != nil {
		// Only what came out of no JSON has no YAML.
		return []string{"# no YAML: " + err.Error()}
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
