package demo_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
	"github.com/escape-scanner/escape-scanner/scan/kernel"
)

var update = flag.Bool("update", false, "write the generated parts of pages anew")

const (
	page       = "../../docs/verdicts.md"
	causesFrom = "<!-- causes: begin, from the table of rules; go test ./internal/demo -update writes it anew -->\n"
	causesTo   = "<!-- causes: end -->\n"
)

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// causes is the table of why policies do not bite, the gravest first.
func causes() string {
	rules := slices.DeleteFunc(slices.Clone(scan.Rules()), func(r scan.Rule) bool {
		return r.Category != scan.CategoryPolicy && r.Category != scan.CategoryKernel
	})
	slices.SortStableFunc(rules, func(a, b scan.Rule) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.ID, b.ID))
	})
	cell := strings.NewReplacer("|", `\|`, "\n", " ").Replace
	var b strings.Builder
	b.WriteString("| cause | severity | what is wrong | mend |\n|---|---|---|---|\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "| [%s](rules/%s.md) | %s | %s | %s |\n", r.ID, r.ID, r.Severity, cell(r.Title), cell(r.Remediation))
	}
	return b.String()
}

func TestCausesAreThoseOfTheTableOfRules(t *testing.T) {
	text := readPage(t, page)
	before, rest, ok := strings.Cut(text, causesFrom)
	got, after, ok2 := strings.Cut(rest, causesTo)
	if !ok || !ok2 {
		t.Fatalf("%s: the marks around the causes are missing", page)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+causesFrom+causes()+causesTo+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := causes(); got != want {
		t.Errorf("%s: the causes are not those of the table of rules; go test ./internal/demo -update writes them anew\ngot\n%s\nwant\n%s", page, got, want)
	}
}

// Every page that people read names rules that there are, all verdicts in their order,
// and all grades.
func TestPagesNameWhatThereIs(t *testing.T) {
	ids := map[string]bool{}
	for _, r := range scan.Rules() {
		ids[r.ID] = true
	}
	for _, name := range []string{page, "../../README.md"} {
		text := readPage(t, name)
		for _, id := range regexp.MustCompile("`((?:escape|policy|kernel)-[a-z-]+)`").FindAllStringSubmatch(text, -1) {
			if !ids[id[1]] && id[1] != "escape-scanner" {
				t.Errorf("%s: no rule is called %s", name, id[1])
			}
		}
		at := 0
		for _, v := range scan.Verdicts() {
			i := strings.Index(text[at:], fmt.Sprintf("| `%s` | ", v))
			if i < 0 {
				t.Errorf("%s: %s is not described, or out of order", name, v)
				continue
			}
			at += i
		}
		for _, g := range []kernel.Grade{kernel.Proven, kernel.Claimed, kernel.Hinted} {
			if !strings.Contains(text, "`"+string(g)+"`") {
				t.Errorf("%s: grade %s is not named", name, g)
			}
		}
	}
}

// Links between the pages lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range []string{page, "../../README.md"} {
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(readPage(t, name), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), link[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
