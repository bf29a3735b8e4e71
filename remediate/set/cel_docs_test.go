package set

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	psa "k8s.io/pod-security-admission/api"
)

// The page about CEL lists the controls as they are in the table.
func TestDocumentedControls(t *testing.T) {
	t.Parallel()
	const begin, end = "-update -->\n", "<!-- end -->"
	var b strings.Builder
	b.WriteString("| control | level | from | what a pod must do |\n|---|---|---|---|\n")
	for _, c := range controls() {
		var since []string
		for _, v := range c.versions {
			version := psa.MajorMinorVersion(1, v.since)
			since = append(since, version.String())
		}
		id := "`" + c.id + "`"
		for _, overridden := range c.overrides {
			id += " (for `" + overridden + "`)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", id, c.level, strings.Join(since, ", "), c.message)
	}
	file := filepath.Join("..", "..", "docs", "cel.md")
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the controls", file)
	}
	if table == b.String() {
		return
	}
	if flag.Lookup("update").Value.String() != "true" {
		t.Fatalf("%s lists other controls: run the test with -update", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
