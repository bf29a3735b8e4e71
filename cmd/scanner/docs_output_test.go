package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// outputOf, on a line before a block, names the command whose output the block shows.
var outputOf = regexp.MustCompile(`^<!-- output: (.+) -->$`)

// What pages show of the program's output is what it prints, but for the spaces and what
// is left out at each "…". Lines that are indented go on from the one above.
func TestDocsOutput(t *testing.T) {
	t.Parallel()
	printed := map[string]string{}
	shown := 0
	for name, text := range pagesOfDocs(t) {
		for _, b := range parsePage(text).blocks {
			m := outputOf.FindStringSubmatch(b.before)
			if m == nil {
				continue
			}
			out, known := printed[m[1]]
			if !known {
				_, stdout, stderr := invoke(t.Context(), testDeps(t.TempDir()), strings.NewReader(""), strings.Fields(m[1])...)
				out = stdout + stderr
				printed[m[1]] = out
			}
			for _, line := range whole(b.text) {
				shown++
				if err := isIn(out, line); err != nil {
					t.Errorf("%s: %s does not print it: %v", name, m[1], err)
				}
			}
		}
	}
	if shown == 0 {
		t.Error("no page shows any output")
	}
}

// whole are the lines of a block with those that go on joined to them.
func whole(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "  ") && len(list) > 0:
			list[len(list)-1] += " " + line
		default:
			list = append(list, line)
		}
	}
	return list
}

// isIn looks for a line of out that has the parts of the line shown, in their order.
func isIn(out, shown string) error {
	spaced := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	parts := strings.Split(shown, "…")
search:
	for line := range strings.Lines(out) {
		rest := spaced(line)
		for _, part := range parts {
			_, after, ok := strings.Cut(rest, spaced(part))
			if !ok {
				continue search
			}
			rest = after
		}
		return nil
	}
	return fmt.Errorf("%q", spaced(shown))
}

func TestDocsOutputSees(t *testing.T) {
	t.Parallel()
	for shown, there := range map[string]bool{"a b": true, "a … d": true, "d … a": false, "a x": false, "b c\n": true} {
		if err := isIn("x\na  b   c d\n", shown); (err == nil) != there {
			t.Errorf("%q: %v", shown, err)
		}
	}
	if got := whole("one\n  two\n\nthree\n"); len(got) != 2 || got[0] != "one   two" {
		t.Errorf("lines %q", got)
	}
}
