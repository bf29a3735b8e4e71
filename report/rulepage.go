package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/escape-scanner/escape-scanner/scan"
)

// generatedNote begins every page, so that nobody mends a page by hand.
const generatedNote = "<!-- Code generated from the table of rules by \"make docs\". DO NOT EDIT. -->\n\n"

// RulePage writes the page of a rule in Markdown, the same bytes every time.
func RulePage(w io.Writer, r scan.Rule) error {
	var b bytes.Buffer
	b.WriteString(generatedNote)
	fmt.Fprintf(&b, "# %s\n", markdown(r.Title))
	fmt.Fprintf(&b, "\n| | |\n| --- | --- |\n")
	fmt.Fprintf(&b, "| ID | `%s` |\n", Clean(r.ID))
	fmt.Fprintf(&b, "| Severity | **%s** (%s) |\n", Clean(string(r.Severity)), securitySeverity(r))
	fmt.Fprintf(&b, "| Table | %s |\n", markdownCell(tableName(r)))
	paragraphs := func(heading, text string) {
		if text == "" {
			return
		}
		if heading != "" {
			fmt.Fprintf(&b, "\n## %s\n", heading)
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				fmt.Fprintf(&b, "\n%s\n", markdown(line))
			}
		}
	}
	paragraphs("", r.Description)
	if r.Aggravates {
		paragraphs("", aggravationNote)
	}
	paragraphs(attackHeading(r), r.Attack)
	if len(r.Steps) > 0 {
		b.WriteString("\n## Steps at run time\n\nWhat a policy at run time has to stop, every one of these, for the way to be guarded.\n")
		b.WriteString("\n| Kind | What |\n| --- | --- |\n")
		for _, s := range r.Steps {
			fmt.Fprintf(&b, "| %s | %s |\n", markdownCell(string(s.Kind)), markdownCell(s.Name))
		}
	} else if r.Category == scan.CategoryEscape && !r.Aggravates {
		paragraphs("Steps at run time", noStepsNote)
	}
	paragraphs(fixHeading(r), r.Remediation)
	// A page does not point to itself.
	links := slices.DeleteFunc(ruleLinks(r), func(l ruleLink) bool { return strings.HasSuffix(l.url, "/docs/rules/"+RulePageName(r)) })
	if len(links) > 0 {
		b.WriteString("\n## References\n\n")
		for _, l := range links {
			if l.url == "" {
				fmt.Fprintf(&b, "- %s\n", markdown(l.text))
			} else {
				fmt.Fprintf(&b, "- %s: <%s>\n", markdown(l.text), l.url)
			}
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// RuleIndex writes the page that lists the rules with links to their pages:
// escape paths first, the worst first within a table.
func RuleIndex(w io.Writer, rules []scan.Rule) error {
	rules = slices.SortedFunc(slices.Values(rules), func(a, b scan.Rule) int {
		return cmp.Or(
			cmp.Compare(tableOrder(a), tableOrder(b)),
			cmp.Compare(a.Level, b.Level),
			cmp.Compare(b.Severity.Rank(), a.Severity.Rank()),
			cmp.Compare(a.ID, b.ID),
		)
	})
	var b bytes.Buffer
	b.WriteString(generatedNote)
	fmt.Fprintf(&b, "# Rules\n\nRule set %s, %d rules. `escape-scanner rules explain ID` prints the same text.\n", scan.RuleSetVersion, len(rules))
	b.WriteString("\n| ID | Severity | Table | Title |\n| --- | --- | --- | --- |\n")
	for _, r := range rules {
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s | %s |\n", Clean(r.ID), RulePageName(r),
			markdownCell(string(r.Severity)), markdownCell(tableName(r)), markdownCell(r.Title))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// RulePageName is the file name of a rule's page.
func RulePageName(r scan.Rule) string { return r.ID + ".md" }

func tableOrder(r scan.Rule) int {
	switch r.Category {
	case scan.CategoryEscape:
		return 0
	case scan.CategoryPSS:
		return 1
	case scan.CategoryPolicy:
		return 2
	case scan.CategoryKernel:
		return 3
	case scan.CategoryException:
		return 4
	}
	return 5
}

// markdown is text that Markdown shows as it is.
func markdown(s string) string {
	return strings.NewReplacer(`\`, `\\`, "`", "\\`", "*", `\*`, "<", `\<`).Replace(Clean(s))
}

// markdownCell is text in the cell of a Markdown table.
func markdownCell(s string) string { return strings.ReplaceAll(markdown(s), "|", `\|`) }
