package report

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/escape-scanner/escape-scanner/scan"
)

// rulePages are the files of docs/rules as they should be.
func rulePages(t *testing.T) map[string][]byte {
	t.Helper()
	var index bytes.Buffer
	if err := RuleIndex(&index, scan.Rules()); err != nil {
		t.Fatal(err)
	}
	pages := map[string][]byte{"README.md": index.Bytes()}
	for _, r := range scan.Rules() {
		var page bytes.Buffer
		if err := RulePage(&page, r); err != nil {
			t.Fatal(err)
		}
		name := RulePageName(r)
		for other := range pages {
			if strings.EqualFold(other, name) {
				t.Fatalf("%s and %s are one file where case does not count", other, name)
			}
		}
		pages[name] = page.Bytes()
	}
	return pages
}

// docs/rules holds the page of every rule, as the table of rules says it, and
// nothing else.
func TestRulePages(t *testing.T) {
	dir := filepath.Join("..", "docs", "rules")
	pages := rulePages(t)
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, page := range pages {
			if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%v; \"make docs\" writes the pages", err)
	}
	for _, e := range entries {
		if pages[e.Name()] == nil {
			t.Errorf("docs/rules/%s: no rule has this page; \"make docs\" removes it", e.Name())
		}
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v; \"make docs\" writes it", err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("docs/rules/%s is not what the table of rules says; \"make docs\" writes it anew\n%s", name, firstDifference(got, want))
		}
	}
}

func TestRulePageEscapes(t *testing.T) {
	var page bytes.Buffer
	rule := scan.Rule{
		ID: "x", Category: scan.CategoryEscape, Title: "a <b> *c*", Description: "d `e`\nf",
		Steps: []scan.Step{{Kind: scan.StepFile, Name: "a|b\x1b[31m"}}, Severity: scan.SeverityHigh,
	}
	if err := RulePage(&page, rule); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`# a \<b> \*c\*`, "\n\nd \\`e\\`\n\nf\n", `| file | a\|b\\x1b[31m |`} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page has no %q:\n%s", want, &page)
		}
	}
}

// Rules of policies and of nodes have a table of their own, and headings that fit.
func TestRulePagesOfPoliciesAndNodes(t *testing.T) {
	rule := func(c scan.Category) scan.Rule {
		return scan.Rule{ID: "r-" + string(c), Category: c, Title: "T", Description: "D", Attack: "A", Remediation: "R", Severity: scan.SeverityHigh}
	}
	for c, wants := range map[scan.Category][]string{
		scan.CategoryPolicy: {"policies that do not bite", "What it leaves to an attacker", "How to make it bite"},
		scan.CategoryKernel: {"kernels of the nodes", "What it leaves to an attacker", "How to make the node enforce"},
		scan.CategoryEscape: {"escape path", "What an attacker does", "How to fix it", "Steps at run time"},
	} {
		var page bytes.Buffer
		if err := RulePage(&page, rule(c)); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			for kind, text := range map[string]string{"page": page.String(), "text": explain(t, rule(c), 0)} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: no %q in its %s:\n%s", c, want, kind, text)
				}
			}
		}
		if got := strings.Contains(page.String(), "Steps at run time"); got != (c == scan.CategoryEscape) {
			t.Errorf("%s: speaks of steps: %v", c, got)
		}
	}
	var index bytes.Buffer
	if err := RuleIndex(&index, []scan.Rule{rule(scan.CategoryException), rule(scan.CategoryKernel), rule(scan.CategoryPolicy), rule(scan.CategoryPSS), rule(scan.CategoryEscape)}); err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, id := range []string{"r-escape", "r-pss", "r-policy", "r-kernel", "r-exception"} {
		at := strings.Index(index.String(), "["+id+"]")
		if at <= last {
			t.Errorf("%s is at %d in the index", id, at)
		}
		last = at
	}
}

func explain(t *testing.T, r scan.Rule, width int) string {
	t.Helper()
	var out bytes.Buffer
	if err := Explain(&out, r, width); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestExplain(t *testing.T) {
	rule := scan.Rule{
		ID: "escape-x", Category: scan.CategoryEscape, Title: "A way out", Severity: scan.SeverityCritical, SecuritySeverity: 9.5,
		Description: "What it means, in a sentence that is longer than forty cells are wide.",
		Attack:      "Goes out.\nComes back.", Remediation: "Close it.",
		Steps: []scan.Step{{Kind: scan.StepCapability, Name: "SYS_ADMIN"}, {Kind: scan.StepBinary, Name: "nsenter"}},
		MITRE: []string{"T1552.005"}, KubeHound: "CE_NSENTER", CIS: []scan.CISRef{{Version: "1.11", ID: "5.2.2"}},
		CWE: []int{250}, HelpURL: "https://cwe.mitre.org/data/definitions/250.html",
	}
	const tail = `
What an attacker does
  Goes out.
  Comes back.

Steps at run time
  capability  SYS_ADMIN
  binary      nsenter

How to fix it
  Close it.

References
`
	piped := `escape-x: A way out
critical (9.5), escape path

What it means, in a sentence that is longer than forty cells are wide.
` + tail + `  MITRE ATT&CK T1552.005 https://attack.mitre.org/techniques/T1552/005/
  KubeHound CE_NSENTER https://kubehound.io/reference/attacks/CE_NSENTER/
  CIS Kubernetes Benchmark 1.11, 5.2.2
  CWE-250 https://cwe.mitre.org/data/definitions/250.html
`
	if got := explain(t, rule, 0); got != piped {
		t.Errorf("without a width:\n%s\nwant:\n%s", got, piped)
	}
	narrow := explain(t, rule, 40)
	if want := "What it means, in a sentence that is\nlonger than forty cells are wide.\n" + tail; !strings.Contains(narrow, want) {
		t.Errorf("40 wide:\n%s\nwant in it:\n%s", narrow, want)
	}
}

// Every rule has what a reader looks for, and no line is wider than asked.
func TestExplainEveryRule(t *testing.T) {
	for _, r := range scan.Rules() {
		t.Run(r.ID, func(t *testing.T) {
			for _, asked := range []int{1, 60, 100, 400} {
				text := explain(t, r, asked)
				for line := range strings.Lines(text) {
					if got, most := width(strings.TrimSuffix(line, "\n")), max(min(asked, 100), 20); got > most {
						t.Errorf("asked for %d: %d wide: %s", asked, got, line)
					}
				}
			}
			text := explain(t, r, 0)
			for _, want := range []string{r.ID, r.Title, r.Description, r.Attack, r.Remediation, string(r.Severity), r.HelpURL} {
				if want == "" || !strings.Contains(text, want) {
					t.Errorf("no %q in:\n%s", want, text)
				}
			}
			escape := r.Category == scan.CategoryEscape && !r.Aggravates
			if got := strings.Contains(text, "Steps at run time"); got != (escape || len(r.Steps) > 0) {
				t.Errorf("steps shown: %v", got)
			}
			if slices.Contains(r.MITRE, "T1611") && !strings.Contains(text, "https://attack.mitre.org/techniques/T1611/") {
				t.Error("no link to T1611")
			}
		})
	}
}
