package report

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// docs/escape-paths.md is what the table of rules says.
func TestEscapePathsPage(t *testing.T) {
	file := filepath.Join("..", "docs", "escape-paths.md")
	var want bytes.Buffer
	if err := EscapePaths(&want, scan.Rules()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; \"make docs\" writes it", err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("docs/escape-paths.md is not what the table of rules says; \"make docs\" writes it anew\n%s", firstDifference(got, want.Bytes()))
	}
}

// Each path has its row, its section with all that the page promises, and no rule that
// is no path is among them.
func TestEscapePathsSections(t *testing.T) {
	t.Parallel()
	var page bytes.Buffer
	if err := EscapePaths(&page, scan.Rules()); err != nil {
		t.Fatal(err)
	}
	table, sections, _ := strings.Cut(page.String(), "\n## ")
	texts := map[string]string{}
	for section := range strings.SplitSeq(sections, "\n## ") {
		id, text, _ := strings.Cut(section, "\n")
		texts[id] = text
	}
	for _, r := range scan.Rules() {
		text, there := texts[r.ID]
		if path := r.Category == scan.CategoryEscape; there != path {
			t.Errorf("%s: is a path: %v, has a section: %v", r.ID, path, there)
			continue
		} else if !path {
			continue
		}
		if !strings.Contains(table, "| ["+r.ID+"](#"+r.ID+") | "+string(r.Severity)+" |") {
			t.Errorf("%s has no row", r.ID)
		}
		wants := []string{"(rules/" + r.ID + ".md)", "**Used so:** ", "**Fix:** ", "(https://attack.mitre.org/techniques/"}
		if !r.Aggravates {
			wants = append(wants, "**Admission:** `", "**Runtime:** ")
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q:\n%s", r.ID, want, text)
			}
		}
	}
}
